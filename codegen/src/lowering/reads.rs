//! Which registers of a body a node reads and writes, as the lowering does it.

use bpf2sys_bytecode::{Callee, Instruction, Reg};

use super::inherited::{RegisterSet, reads, writes};
use crate::body::{Node, Register};

/// A set of registers of a body.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Registers(u64);

impl Registers {
    fn of(set: RegisterSet, frame: u8) -> Registers {
        let registers = set.iter().filter_map(|register| Register::of(register, frame));
        Registers(registers.fold(0, |all, register| all | 1 << register.0))
    }

    /// Whether a register is in it.
    pub(crate) fn contains(self, register: Register) -> bool {
        self.0 & 1 << register.0 != 0
    }
}

/// The registers that a node reads: calls read all that they pass, also what a callee only may take over.
pub(crate) fn registers_read(node: &Node) -> Registers {
    let taken_over = RegisterSet::of([0, 6, 7, 8, 9].into_iter().filter_map(Reg::new));
    let mut read = reads(node.op, |_| taken_over);
    if matches!(node.op, Instruction::Call(_)) {
        read = read.union(RegisterSet::ARGUMENTS);
    }
    Registers::of(read, node.frame)
}

/// The registers that a node writes: calls forget what they passed.
pub(crate) fn registers_written(node: &Node) -> Registers {
    let mut written = writes(node.op);
    match node.op {
        Instruction::Call(Callee::Helper(_) | Callee::Local(_) | Callee::Btf(_)) => {
            written = written.union(RegisterSet::ARGUMENTS);
        }
        // The end of an inlined call does so, too.
        Instruction::Exit => written = RegisterSet::ARGUMENTS,
        // What an operation that fetches reads is written as well.
        Instruction::Atomic { src, .. } => written = written.union(RegisterSet::of([src])),
        _ => {}
    }
    Registers::of(written, node.frame)
}
