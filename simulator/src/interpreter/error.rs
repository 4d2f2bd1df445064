//! Why an execution ended without a result.

use std::fmt;

use bpf2sys_bytecode::{Function, FunctionIndex, InsnIndex, Module, Reg, SourceLine};

/// An execution that could not go on.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{place}: {problem}")]
pub struct InterpretError<E> {
    /// The instruction.
    pub place: Place,
    /// What was wrong.
    pub problem: Problem<E>,
}

/// An instruction of a module.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Place {
    /// Name of the function.
    pub function: String,
    /// Number of 8-byte slots before it in the function, which is how disassemblers count.
    pub slot: u32,
    /// The instruction; empty if there is none, behind the function's end.
    pub text: String,
    /// The source line it came from.
    pub line: Option<SourceLine>,
}

impl Place {
    pub(super) fn of(module: &Module, function: FunctionIndex, index: InsnIndex) -> Place {
        let function = module.functions.get(function.index());
        let insn = function.and_then(|f| f.instructions.get(index.index()));
        Place {
            function: function.map_or_else(String::new, |f| f.name.clone()),
            slot: insn.map_or_else(|| function.map_or(0, Function::slots), |insn| insn.slot),
            text: insn.map_or_else(String::new, |insn| insn.op.to_string()),
            line: insn
                .and_then(|insn| insn.line)
                .and_then(|line| module.lines.get(line.index()))
                .cloned(),
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "function {}, instruction {}", self.function, self.slot)?;
        if !self.text.is_empty() {
            write!(f, ": `{}`", self.text)?;
        }
        match &self.line {
            Some(line) => write!(f, " ({}:{})", line.file, line.line),
            None => Ok(()),
        }
    }
}

/// What an access was for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// A load, or the load of an atomic operation.
    Read,
    /// A store, or the store of an atomic operation.
    Write,
}

impl fmt::Display for Access {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Access::Read => "reads",
            Access::Write => "writes",
        })
    }
}

/// What was wrong with an instruction.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Problem<E> {
    /// It reads a register that nothing has written.
    #[error("it reads {0}, which has no value here")]
    Unset(Reg),
    /// It writes `r10`, which is read-only.
    #[error("it writes r10, which is read-only")]
    FramePointer,
    /// It accesses memory that it may not.
    #[error("it {access} {length} bytes at {address:#x}: {near}")]
    Access {
        /// Load or store.
        access: Access,
        /// First byte.
        address: u64,
        /// Number of bytes.
        length: u32,
        /// What is there or near.
        near: String,
    },
    /// An atomic operation at an address that is no multiple of its width.
    #[error("it is atomic on {length} bytes at {address:#x}, which is not aligned")]
    Misaligned {
        /// First byte.
        address: u64,
        /// Number of bytes.
        length: u32,
    },
    /// A call with all frames in use.
    #[error("it calls with {0} functions active, which is the most there may be")]
    TooManyFrames(u32),
    /// An instruction of a conformance group that is not supported: `callx`, `packet`.
    #[error("it belongs to the conformance group {0}, which is not supported")]
    Group(&'static str),
    /// It has no meaning: a form of `lddw` or of `call` that Windows does not have, or one that cannot be encoded.
    #[error("it has no meaning here")]
    NoMeaning,
    /// It refers to a map, global variable section or function that is not there.
    #[error("it refers to a {0} that does not exist")]
    Missing(&'static str),
    /// Control passed the function's last instruction.
    #[error("control passed the end of the function")]
    FellOffEnd,
    /// It would be one more than the most steps.
    #[error("the program did not end within {0} instructions")]
    StepLimit(u64),
    /// A helper could not be run.
    #[error("{0}")]
    Helper(E),
}
