//! What is known of the machine between two instructions, as symbols instead of numbers.
//!
//! Offsets of the stack are relative to the stack pointer at the function's entry.

use std::collections::BTreeMap;

/// Number of a general register.
pub type Register = u16;
/// The frame pointer.
pub const FP: Register = 29;
/// The link register.
pub const LR: Register = 30;
/// The stack pointer.
pub const SP: Register = 31;

/// What a function must give back as it got it: `x19` to `x28` and the frame pointer, and `x18`, which it must not touch at
/// all (ARM64 ABI conventions, "Integer registers").
pub const PRESERVED: std::ops::RangeInclusive<Register> = 18..=FP;

/// A 64-bit value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Value {
    /// What this register held at the function's entry.
    Caller(Register),
    /// The address at this offset of the stack, in bytes.
    Stack(i64),
    /// The address that the function returns to.
    Return,
    /// The same, signed while the stack pointer was at this offset.
    Signed(i64),
    /// This number.
    Constant(i64),
    /// Anything.
    Unknown,
}

/// Registers and stack.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct State {
    registers: [Value; 32],
    /// The known 8-byte values in the stack, by offset.
    slots: BTreeMap<i64, Value>,
}

impl State {
    /// At the first instruction of a function.
    pub fn at_entry() -> Self {
        let mut registers = std::array::from_fn(|register| Value::Caller(register as Register));
        registers[usize::from(SP)] = Value::Stack(0);
        registers[usize::from(LR)] = Value::Return;
        Self {
            registers,
            slots: BTreeMap::new(),
        }
    }

    pub fn get(&self, register: Register) -> Value {
        self.registers[usize::from(register)]
    }

    pub fn set(&mut self, register: Register, value: Value) {
        self.registers[usize::from(register)] = value;
    }

    /// Forgets what is below the stack pointer: an interrupt may overwrite it.
    pub fn forget_below_stack(&mut self) {
        if let Some(top) = self.top() {
            self.slots.retain(|offset, _| *offset >= top);
        }
    }

    /// The offset that the stack pointer is at, if it is known.
    pub fn top(&self) -> Option<i64> {
        match self.get(SP) {
            Value::Stack(offset) => Some(offset),
            _ => None,
        }
    }

    pub fn load(&self, offset: i64) -> Value {
        self.slots.get(&offset).copied().unwrap_or(Value::Unknown)
    }

    /// Writes `size` bytes of which only a whole 8-byte value can be known.
    pub fn store(&mut self, offset: i64, size: i64, value: Value) {
        self.slots
            .retain(|slot, _| slot + 8 <= offset || *slot >= offset + size);
        if size == 8 && value != Value::Unknown {
            self.slots.insert(offset, value);
        }
    }

    /// Forgets what differs on two ways to the same instruction. Tells whether anything was forgotten.
    pub fn join(&mut self, other: &Self) -> bool {
        let before = self.clone();
        for (mine, theirs) in self.registers.iter_mut().zip(other.registers) {
            if *mine != theirs {
                *mine = Value::Unknown;
            }
        }
        self.slots
            .retain(|offset, value| other.slots.get(offset) == Some(value));
        *self != before
    }

    /// Checks that everything is as at the entry of the function, seen from the caller.
    pub fn is_callers(&self) -> Result<(), String> {
        if self.top() != Some(0) {
            return Err(format!("sp is {:?}", self.get(SP)));
        }
        match PRESERVED.into_iter().find(|r| self.get(*r) != Value::Caller(*r)) {
            Some(register) => Err(format!("x{register} is {:?}", self.get(register))),
            None => Ok(()),
        }
    }
}
