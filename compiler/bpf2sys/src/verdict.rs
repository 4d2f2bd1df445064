//! What a verdict says, without the proof.

use bpf2sys_verifier::VerifiedModule;
use serde::{Deserialize, Serialize};

use crate::Diagnostic;

/// A module is safe.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verdict {
    /// Its programs, in file order; at least one.
    pub programs: Vec<SafeProgram>,
    /// What its author should know all the same.
    pub warnings: Vec<Diagnostic>,
}

/// A program that is proven safe.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SafeProgram {
    /// Its name.
    pub name: String,
    /// Its section.
    pub section: String,
    /// Name of the program type that it was verified for.
    pub program_type: String,
}

impl Verdict {
    /// That on a verified module.
    pub fn of(verified: &VerifiedModule, warnings: Vec<Diagnostic>) -> Verdict {
        let programs = verified.programs().iter().map(|program| {
            let function = verified.module().function(program.function);
            SafeProgram {
                name: function.name.clone(),
                section: function.section.clone(),
                program_type: program.program_type.name.clone(),
            }
        });
        Verdict {
            programs: programs.collect(),
            warnings,
        }
    }
}
