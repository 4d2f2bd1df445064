//! What is known of one problem: everything that any form of telling it is made of.

use serde::{Deserialize, Serialize};

use crate::Code;

/// How bad a problem is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Severity {
    /// The work is done all the same.
    Warning,
    /// There is no result.
    Error,
}

/// One problem. As text ([`Display`](std::fmt::Display)) it has the form for people, without colours.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Diagnostic {
    /// How bad it is.
    pub severity: Severity,
    /// Its kind.
    pub code: Code,
    /// What is wrong, one sentence without a full stop.
    pub message: String,
    /// The input file.
    pub file: Option<String>,
    /// Name of the program that it is about.
    pub program: Option<String>,
    /// The C source line.
    pub place: Option<SourcePlace>,
    /// The eBPF instruction.
    pub instruction: Option<InstructionPlace>,
    /// What was known of the registers that the instruction uses.
    pub registers: Vec<Known>,
    /// The decisions on the way to the instruction, first one first.
    pub path: Vec<PathStep>,
    /// More about it, one line each.
    pub notes: Vec<String>,
    /// What to do.
    pub help: Option<String>,
}

/// An eBPF instruction.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct InstructionPlace {
    /// Name of the function that holds it: the program itself, or a subprogram.
    pub function: String,
    /// Number of 8-byte slots before it in the function.
    pub slot: u32,
    /// Its disassembly.
    pub text: String,
}

/// What was known of a register.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Known {
    /// Name of the register, e.g. `r1`.
    pub register: String,
    /// What it holds.
    pub holds: String,
}

/// A decision on the way to an instruction.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PathStep {
    /// Its C source line.
    pub place: Option<SourcePlace>,
    /// The conditional jump or call.
    pub instruction: InstructionPlace,
    /// What happens there.
    pub what: String,
}

/// A place in a source file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SourcePlace {
    /// File name as the compiler was given it.
    pub file: String,
    /// Line, from 1.
    pub line: u32,
    /// Column in bytes, from 1; 0 if unknown.
    pub column: u32,
    /// Text of the line; may be empty.
    pub text: String,
}

impl Diagnostic {
    /// A problem with nothing but a message, as bad as its kind is.
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        Diagnostic {
            severity: code.severity(),
            code,
            message: message.into(),
            file: None,
            program: None,
            place: None,
            instruction: None,
            registers: Vec::new(),
            path: Vec::new(),
            notes: Vec::new(),
            help: None,
        }
    }

    /// The same, found in this input file.
    #[must_use]
    pub fn in_file(mut self, file: &str) -> Self {
        self.file.get_or_insert_with(|| file.to_owned());
        self
    }
}
