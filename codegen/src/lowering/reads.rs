//! Which registers of a body a node reads and writes, as the lowering does it.

use bpf2sys_bytecode::{Callee, Instruction};

use super::inherited::{RegisterSet, writes};
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

    /// Both together.
    pub(crate) fn union(self, other: Registers) -> Registers {
        Registers(self.0 | other.0)
    }

    /// Those that are in either.
    pub(crate) fn shared_with(self, other: Registers) -> Registers {
        Registers(self.0 & other.0)
    }

    /// The registers, ascending.
    pub(crate) fn iter(self) -> impl Iterator<Item = Register> {
        (0..Register::MOST as u8)
            .map(Register)
            .filter(move |register| self.contains(*register))
    }

    /// Those that are not in another.
    pub(crate) fn without(self, other: Registers) -> Registers {
        Registers(self.0 & !other.0)
    }
}

/// The registers that a node reads.
pub(crate) fn registers_read(node: &Node) -> Registers {
    Registers::of(node.reads, node.frame)
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
