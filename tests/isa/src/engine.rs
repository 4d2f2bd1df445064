//! What every engine takes and gives.

use bpf2sys_bytecode::Module;

/// A program to execute.
#[derive(Clone, Debug)]
pub struct Case {
    /// The code, as [`read_instructions`](bpf2sys_bytecode::read_instructions) gives it: the first function is where
    /// execution starts, with `r1` = address of the memory, `r2` = its length in bytes, and `r10` = end of its stack.
    pub module: Module,
    /// The memory.
    pub memory: Vec<u8>,
}

/// How an execution ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// `r0` at the exit, all 64 bits.
    pub r0: u64,
    /// The memory afterwards.
    pub memory: Vec<u8>,
}

/// Something that executes programs.
pub trait Engine {
    /// Name, for messages.
    fn name(&self) -> &str;

    /// Whether this error only means that the engine does not take the program: then it is no judge of it.
    fn refused(&self, _error: &str) -> bool {
        false
    }

    /// Executes each case, and gives one outcome for each, in order; an error says what went wrong, e.g. an access
    /// outside of the program's memory. Many cases in one call are faster than one at a time.
    fn run(&mut self, cases: &[Case]) -> Vec<Result<Outcome, String>>;
}
