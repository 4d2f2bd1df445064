//! What is defined at a place of a function, whichever way control came there.

use bpf2sys_bytecode::Reg;

/// A set of registers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Registers(u16);

impl Registers {
    pub(super) fn of(numbers: impl IntoIterator<Item = u8>) -> Registers {
        Registers(numbers.into_iter().fold(0, |set, number| set | 1 << number))
    }

    pub(super) fn insert(&mut self, register: Reg) {
        self.0 |= 1 << register.number();
    }

    pub(super) fn remove(&mut self, register: Reg) {
        self.0 &= !(1 << register.number());
    }

    pub(super) fn has(self, register: Reg) -> bool {
        self.0 & 1 << register.number() != 0
    }

    pub(super) fn without(self, others: Registers) -> Registers {
        Registers(self.0 & !others.0)
    }

    pub(super) fn and(self, others: Registers) -> Registers {
        Registers(self.0 & others.0)
    }

    pub(super) fn list(self) -> Vec<Reg> {
        (0..Reg::COUNT as u8)
            .filter(|n| self.0 & 1 << n != 0)
            .filter_map(Reg::new)
            .collect()
    }
}

/// Bytes of a function's stack.
pub(super) const STACK: i32 = 512;

/// What may be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct State {
    /// Registers that hold numbers.
    pub(super) numbers: Registers,
    /// Bytes of the function's own stack that hold numbers: bit `n` of all is the byte at `r10 - 512 + n`.
    stack: [u64; STACK as usize / 64],
}

impl State {
    pub(super) fn new() -> State {
        State {
            numbers: Registers::default(),
            stack: [0; STACK as usize / 64],
        }
    }

    /// What may be read where control can come from both.
    pub(super) fn meet(&mut self, other: &State) {
        self.numbers = self.numbers.and(other.numbers);
        for (own, other) in self.stack.iter_mut().zip(other.stack) {
            *own &= other;
        }
    }

    /// Whether all `bytes` at `r10 + from` hold numbers.
    pub(super) fn stack_readable(&self, from: i32, bytes: i32) -> bool {
        (from..from + bytes).all(|at| {
            let bit = (at + STACK) as usize;
            self.stack[bit / 64] & 1 << (bit % 64) != 0
        })
    }

    pub(super) fn stack_written(&mut self, from: i32, bytes: i32) {
        for at in from..from + bytes {
            let bit = (at + STACK) as usize;
            self.stack[bit / 64] |= 1 << (bit % 64);
        }
    }
}
