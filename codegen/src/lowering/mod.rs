//! eBPF functions as Cranelift IR.
//!
//! Given: a verified module and, per function, the slots of the helpers it calls.
//! Computed: one Cranelift function per program and per subprogram that a program can reach.
//! Safe because: the instructions are the values that were verified; every instruction has one translation, which follows
//! RFC 9669 and the native module contract §6; memory that others can see is accessed as written (see [`memory`]).

mod alu;
mod call;
mod flow;
mod function;
mod inherited;
mod memory;
mod registers;
#[cfg(test)]
mod tests;

pub(crate) use call::TAIL_CALL;
pub(crate) use flow::Flow;
pub(crate) use function::{FUNCTION_NAMESPACE, STACK_BYTES, Unit, instruction_error, lower_function};
pub(crate) use inherited::{RegisterSet, inherited};
