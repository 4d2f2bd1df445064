//! The proof that lowering takes.

use std::sync::Arc;

use bpf2sys_bytecode::{FunctionIndex, Module};
use bpf2sys_platform::{Guid, ProgramType};

use crate::{FunctionFacts, Interval, Warning};

/// A module all of whose programs are proven safe, with the facts of the proof.
#[derive(Clone, Debug)]
pub struct VerifiedModule {
    module: Module,
    programs: Vec<VerifiedProgram>,
    facts: Vec<FunctionFacts>,
    warnings: Vec<Warning>,
    proven: bool,
}

/// A proven program.
#[derive(Clone, Debug)]
pub struct VerifiedProgram {
    /// Which function of the module it is.
    pub function: FunctionIndex,
    /// The program type it was verified for.
    pub program_type: Arc<ProgramType>,
    /// Expected attach type.
    pub attach_type: Guid,
    /// Subprograms that calls from it can reach, ascending.
    pub reachable: Vec<FunctionIndex>,
    /// Signed range of `r0` at the program's own exits. A program that a tail call replaced, in it or in a subprogram, has left
    /// by none of them; the runtime does not look at what it returns then (native module contract §6.3).
    pub returns: Interval,
}

impl VerifiedModule {
    /// Only after every program was proven.
    pub(crate) fn new(
        module: Module,
        programs: Vec<VerifiedProgram>,
        facts: Vec<FunctionFacts>,
        warnings: Vec<Warning>,
    ) -> VerifiedModule {
        VerifiedModule {
            module,
            programs,
            facts,
            warnings,
            proven: true,
        }
    }

    /// Whether it was verified, and not taken as verified for tests, which pass helpers what they like.
    pub fn is_proven(&self) -> bool {
        self.proven
    }

    /// The module.
    pub fn module(&self) -> &Module {
        &self.module
    }

    /// Its programs, in file order.
    pub fn programs(&self) -> &[VerifiedProgram] {
        &self.programs
    }

    /// What its author should know although it is safe, in file order.
    pub fn warnings(&self) -> &[Warning] {
        &self.warnings
    }

    /// What was proven about a function's instructions.
    pub fn facts(&self, function: FunctionIndex) -> &FunctionFacts {
        &self.facts[function.index()]
    }

    /// Takes a module as verified although nothing was proven: for tests of lowering and of the instruction set, whose
    /// programs no verifier would type. Facts are "nothing known". The command line cannot reach it.
    pub fn assume_verified_for_instruction_tests(
        module: Module,
        program_type: &Arc<ProgramType>,
        attach_type: Guid,
    ) -> VerifiedModule {
        let facts = module
            .functions
            .iter()
            .map(|f| FunctionFacts {
                instructions: vec![crate::InsnFacts::default(); f.instructions.len()],
                ..Default::default()
            })
            .collect();
        let programs = module
            .programs()
            .map(|(function, _)| VerifiedProgram {
                function,
                program_type: Arc::clone(program_type),
                attach_type,
                reachable: module.reachable_from(function),
                returns: Interval::FULL,
            })
            .collect();
        VerifiedModule {
            module,
            programs,
            facts,
            warnings: Vec::new(),
            proven: false,
        }
    }
}
