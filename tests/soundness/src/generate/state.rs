//! What the writer of a program believes about registers and stack. It guides, and proves nothing.

use bpf2sys_bytecode::Reg;

/// Memory that a register points to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Memory {
    /// First byte that may be used, from the register.
    pub(super) low: i32,
    /// Past the last.
    pub(super) high: i32,
    /// Whether it may be null.
    pub(super) nullable: bool,
    /// Whether it may be written.
    pub(super) writable: bool,
}

/// What a register holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Held {
    Nothing,
    Number,
    Context,
    Data,
    DataEnd,
    Meta,
    Memory(Memory),
    /// Maps made from the template with this index, or null.
    Inner(u32),
}

impl Held {
    pub(super) fn is_pointer(self) -> bool {
        !matches!(self, Held::Nothing | Held::Number)
    }
}

/// Words of the own frame that programs use.
pub(super) const WORDS: usize = 10;

/// A word of the stack.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Word {
    Empty,
    Number,
    Held(Held),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct State {
    pub(super) registers: [Held; 10],
    /// Word 0 is at `r10 - 8`.
    pub(super) stack: [Word; WORDS],
    /// Bytes behind the start of the packet that were checked.
    pub(super) checked: i32,
}

impl State {
    pub(super) fn new() -> State {
        State {
            registers: [Held::Nothing; 10],
            stack: [Word::Empty; WORDS],
            checked: 0,
        }
    }

    pub(super) fn held(&self, register: Reg) -> Held {
        self.registers.get(register.index()).copied().unwrap_or(Held::Nothing)
    }

    pub(super) fn set(&mut self, register: Reg, held: Held) {
        if let Some(place) = self.registers.get_mut(register.index()) {
            *place = held;
        }
    }

    /// After a call.
    pub(super) fn forget_arguments(&mut self) {
        self.registers[1..=5].fill(Held::Nothing);
    }

    /// After a helper that moves the packet.
    pub(super) fn forget_packet(&mut self) {
        self.checked = 0;
        for held in &mut self.registers {
            if matches!(held, Held::Data | Held::DataEnd | Held::Meta) {
                *held = Held::Nothing;
            }
        }
    }

    /// Where two paths meet.
    pub(super) fn meet(&mut self, other: &State) {
        for (held, there) in self.registers.iter_mut().zip(other.registers) {
            if *held != there {
                *held = Held::Nothing;
            }
        }
        for (word, there) in self.stack.iter_mut().zip(other.stack) {
            if *word != there {
                *word = Word::Empty;
            }
        }
        self.checked = self.checked.min(other.checked);
    }

    /// Whether the bytes `low..high` of the own frame, from `r10`, hold numbers.
    pub(super) fn readable(&self, low: i32, high: i32) -> bool {
        (low..high).all(|at| {
            usize::try_from((-at - 1) / 8)
                .ok()
                .and_then(|word| self.stack.get(word))
                .is_some_and(|word| *word == Word::Number)
        })
    }
}
