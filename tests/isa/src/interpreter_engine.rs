//! The reference interpreter as an engine.

use bpf2sys_bytecode::FunctionIndex;
use bpf2sys_simulator::interpreter::{
    Entry, FlatWorld, HelperResult, NewRegion, Options, Permission, Undefined, interpret,
};

use crate::{Case, Engine, Outcome, provider, refused};

/// Where the memory and the stack are. Programs cannot tell.
const MEMORY: u64 = 0x1_0000_0000;
const STACK: u64 = 0x2_0000_0000;

/// Most instructions that a program may execute.
const MAX_STEPS: u64 = 100_000_000;

/// The reference interpreter of the simulator.
#[derive(Clone, Copy, Debug)]
pub struct InterpreterEngine {
    options: Options,
}

impl Default for InterpreterEngine {
    /// Registers that nothing has set are what they are in compiled code.
    fn default() -> Self {
        InterpreterEngine::new(Undefined::AsCompiled)
    }
}

impl InterpreterEngine {
    /// An engine for which registers that nothing has set are this.
    pub fn new(undefined: Undefined) -> InterpreterEngine {
        InterpreterEngine {
            options: Options {
                undefined,
                max_steps: MAX_STEPS,
            },
        }
    }

    fn run_one(&self, case: &Case) -> Result<Outcome, String> {
        refused::check_groups(&case.module)?;
        let mut world = FlatWorld::default();
        let memory = NewRegion {
            name: "memory".to_owned(),
            base: MEMORY,
            bytes: case.memory.clone(),
            permission: Permission::ReadWrite,
        };
        world.add(memory).map_err(|e| e.to_string())?;
        let stack_end = world.add_stack(STACK).map_err(|e| e.to_string())?;
        world.add_helper(provider::UNWIND.cast_signed(), |[r1, ..]| match r1 {
            0 => HelperResult::Ends(0),
            _ => HelperResult::Returned(r1),
        });
        let entry = Entry::new(FunctionIndex(0), &[MEMORY, case.memory.len() as u64], stack_end);
        let outcome = interpret(&case.module, &entry, &mut world, self.options).map_err(|e| e.to_string())?;
        Ok(Outcome {
            r0: outcome.r0,
            memory: world.bytes(MEMORY).unwrap_or_default().to_vec(),
        })
    }
}

impl Engine for InterpreterEngine {
    fn name(&self) -> &'static str {
        "interpreter"
    }

    fn run(&mut self, cases: &[Case]) -> Vec<Result<Outcome, String>> {
        cases.iter().map(|case| self.run_one(case)).collect()
    }
}
