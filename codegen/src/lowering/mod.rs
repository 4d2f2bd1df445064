//! eBPF functions as Cranelift IR.
//!
//! Given: a verified module and, per function, the slots of the helpers it calls.
//! Computed: one Cranelift function per program and per subprogram that a program can reach, several for a long one.
//! Safe because: the instructions are the values that were verified; every instruction has one translation, which follows
//! RFC 9669 and the native module contract §6; memory that others can see is accessed as written (see [`memory`]).

mod alu;
mod call;
mod dispatch;
mod flow;
mod function;
mod inherited;
mod liveness;
mod maps;
mod memory;
mod pieces;
mod pins;
mod reads;
mod registers;
#[cfg(test)]
mod tests;

pub(crate) use call::TAIL_CALL;
pub(crate) use flow::{Flow, Next};
pub(crate) use function::{
    ARRAY_KEY_BYTES, Ir, Native, Part, Parts, STACK_BYTES, Unit, instruction_error, lower_part, place,
};
pub(crate) use inherited::{RegisterSet, inherited, reads};
pub(crate) use pieces::{DEEP_LOOPS, needs_cutting};
pub(crate) use reads::{Registers, registers_read, registers_written};
