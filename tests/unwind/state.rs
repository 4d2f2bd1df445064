//! What is known of the machine between two instructions, as symbols instead of numbers.
//!
//! Numbers are relative to the function's entry: offset 0 of the stack is where its return address is.

use std::collections::BTreeMap;

/// Hardware number of a general-purpose register.
pub type Register = usize;
pub const RSP: Register = 4;
pub const RBP: Register = 5;
pub const NAMES: [&str; 16] = [
    "rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi", "r8", "r9", "r10", "r11", "r12", "r13", "r14", "r15",
];
/// What a function must give back as it got it, rsp apart (x64 calling convention, "Caller/callee saved registers").
pub const PRESERVED: [Register; 8] = [3, RBP, 6, 7, 12, 13, 14, 15];
/// What a call leaves undefined.
pub const VOLATILE: [Register; 7] = [0, 1, 2, 8, 9, 10, 11];

/// A 64-bit value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Value {
    /// What this register held at the function's entry.
    Caller(Register),
    /// The address at this offset of the stack, in bytes.
    Stack(i64),
    /// The address that the function returns to.
    Return,
    /// Anything.
    Unknown,
}

fn hex(offset: i64) -> String {
    let sign = if offset < 0 { '-' } else { '+' };
    format!("{sign}{:x}", offset.unsigned_abs())
}

/// Registers and stack.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct State {
    registers: [Value; 16],
    /// The known 8-byte values in the stack, by offset. None is below rsp: an interrupt may overwrite what is there.
    slots: BTreeMap<i64, Value>,
}

impl State {
    /// At the first instruction of a function.
    pub fn at_entry() -> Self {
        let mut registers = std::array::from_fn(Value::Caller);
        registers[RSP] = Value::Stack(0);
        Self {
            registers,
            slots: BTreeMap::from([(0, Value::Return)]),
        }
    }

    pub fn get(&self, register: Register) -> Value {
        self.registers[register]
    }

    pub fn set(&mut self, register: Register, value: Value) {
        self.registers[register] = value;
        if let (RSP, Value::Stack(top)) = (register, value) {
            self.slots.retain(|offset, _| *offset >= top);
        }
    }

    /// The offset that rsp points to, if it is known.
    pub fn top(&self) -> Option<i64> {
        match self.registers[RSP] {
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
        let alive = self.top().is_some_and(|top| offset >= top);
        if size == 8 && value != Value::Unknown && alive {
            self.slots.insert(offset, value);
        }
    }

    /// The state as one line of text, in the form that `tests/wine/unwind.c` reads.
    pub fn line(&self) -> String {
        let text = |value: &Value| match value {
            Value::Caller(register) => format!("c{register}"),
            Value::Stack(offset) => format!("s{}", hex(*offset)),
            Value::Return => "r".to_owned(),
            Value::Unknown => "u".to_owned(),
        };
        let registers = self.registers.iter().map(text);
        let slots = self
            .slots
            .iter()
            .flat_map(|(offset, value)| [hex(*offset), text(value)]);
        registers.chain(slots).collect::<Vec<_>>().join(" ")
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
}
