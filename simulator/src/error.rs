//! Why a run gave no report.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::image::ImageError;
use crate::rule::Violation;

/// Why a run gave no report.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
pub enum SimulatorError {
    /// This host or build cannot run the image.
    #[error("cannot run this image here: {0}")]
    Unsupported(String),
    /// The file is no image.
    #[error(transparent)]
    Image(#[from] ImageError),
    /// User-mode eBPF would refuse or misread the file.
    #[error("user mode: {0}")]
    UserMode(Violation),
    /// The kernel's loader would not map the file.
    #[error("the loader: {}", join(.0))]
    Loader(Vec<Violation>),
    /// The driver or a program broke a rule while it was loaded, run or unloaded.
    #[error("{}: {violation}", .during)]
    Kernel {
        /// What was going on.
        during: String,
        /// The rule.
        violation: Violation,
    },
    /// Native code faulted.
    #[error("{0}")]
    Fault(Box<Fault>),
    /// An interpreted program did what it may not.
    #[error("{0}")]
    Interpreted(Box<InterpretedFault>),
    /// Native code did not end in time.
    #[error("{0}")]
    TimeOut(Box<TimeOut>),
    /// The request names something that the module does not have, or that does not fit.
    #[error("{0}")]
    Request(String),
    /// Something that the runtime offers and the simulator does not.
    #[error("not simulated: {0}")]
    NotSimulated(String),
    /// A helper is called of which nobody has said what it does.
    #[error("not simulated: helper `{helper}` (id {id}), and the request does not say what it gives")]
    NoStandIn {
        /// Its name.
        helper: String,
        /// Its id.
        id: u32,
    },
    /// The child process ended without an answer.
    #[error("the simulator's process ended without an answer ({status}){}", shown(.stderr))]
    Crashed {
        /// How it ended.
        status: String,
        /// What it wrote to its error output.
        stderr: String,
    },
    /// The child process could not be run.
    #[error("{0}")]
    Process(String),
}

fn join(violations: &[Violation]) -> String {
    violations
        .iter()
        .map(ToString::to_string)
        .collect::<Vec<_>>()
        .join("\n            ")
}

fn shown(stderr: &str) -> String {
    if stderr.is_empty() {
        String::new()
    } else {
        format!(":\n{stderr}")
    }
}

/// A fault in native code.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fault {
    /// What the processor reported, e.g. `access violation (read)`.
    pub kind: String,
    /// What was going on, e.g. `program "count" running`.
    pub during: String,
    /// Where the instruction is.
    pub location: CodeLocation,
    /// What the address that was accessed belongs to, if the fault has one.
    pub accessed: Option<String>,
}

/// An instruction at which an interpreted program could not go on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct InterpretedFault {
    /// What was going on, e.g. `program count running`.
    pub during: String,
    /// The function, which may be a subprogram.
    pub function: String,
    /// Number of 8-byte slots before the instruction in it, which is how disassemblers count.
    pub slot: u32,
    /// The eBPF instruction.
    pub text: String,
    /// The source line that it came from, if the object says.
    pub line: Option<InterpretedLine>,
    /// What was wrong with it.
    pub problem: String,
}

/// A source line of an object.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct InterpretedLine {
    /// File name as the compiler was given it.
    pub file: String,
    /// Line, from 1; 0 if unknown.
    pub line: u32,
    /// Column, from 1; 0 if unknown.
    pub column: u32,
    /// Text of the line; may be empty.
    pub text: String,
}

impl fmt::Display for InterpretedFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}: function {}, instruction {}: `{}`",
            self.during, self.function, self.slot, self.text
        )?;
        if let Some(line) = &self.line {
            write!(f, " ({}:{})", line.file, line.line)?;
        }
        write!(f, ": {}", self.problem)
    }
}

/// A place in the image's code.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CodeLocation {
    /// Section, `None` outside of the image.
    pub section: Option<String>,
    /// RVA, `None` outside of the image.
    pub rva: Option<u32>,
    /// The program whose code it most likely is: the one that starts last before it in its section.
    pub program: Option<String>,
    /// Bytes from that program's first instruction.
    pub program_offset: Option<u32>,
    /// The native instruction.
    pub instruction: Option<String>,
    /// What lies there if it is not the image.
    pub outside: Option<String>,
}

impl fmt::Display for CodeLocation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.section, self.rva) {
            (Some(section), Some(rva)) => {
                match (&self.program, self.program_offset) {
                    (Some(program), Some(offset)) => write!(f, "program {program}+{offset:#x}")?,
                    _ => f.write_str("code of no program")?,
                }
                write!(f, " (section {section}, RVA {rva:#x})")?;
            }
            _ => write!(f, "{}", self.outside.as_deref().unwrap_or("outside the image"))?,
        }
        match &self.instruction {
            Some(instruction) => write!(f, ": `{instruction}`"),
            None => Ok(()),
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {} at {}", self.during, self.kind, self.location)?;
        match &self.accessed {
            Some(accessed) => write!(f, " accesses {accessed}"),
            None => Ok(()),
        }
    }
}

/// Native code that did not end.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TimeOut {
    /// The limit.
    pub limit_ms: u64,
    /// What was going on; `None` if the process did not even say that.
    pub during: Option<String>,
    /// Where the code was when it was stopped. Depends on the machine's speed.
    pub location: Option<CodeLocation>,
}

impl fmt::Display for TimeOut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.during {
            Some(during) => write!(f, "{during}: not done after {} ms", self.limit_ms)?,
            None => write!(f, "not done after {} ms", self.limit_ms)?,
        }
        match &self.location {
            Some(location) => write!(f, ", stopped at {location}"),
            None => Ok(()),
        }
    }
}
