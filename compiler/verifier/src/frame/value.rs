//! What a value has to do with the stack.

use bpf2sys_bytecode::{AluOp, Instruction, Operand, Reg, WordSize};

use crate::Object;
use crate::facts::FRAME_BYTES;

/// A value in a register or in the own frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Value {
    /// No address in a stack frame, nor anything made from one.
    Plain,
    /// This number.
    Constant(i64),
    /// A pointer into a value of this map or into this section, or null.
    Object(Object),
    /// The function's own `r10` plus this many bytes.
    Own(i32),
    /// What `r1` (0) to `r5` (4) was when the function was called, plus this many bytes.
    Argument(u8, i32),
    /// Anything that can be made from these, or a plain value.
    Derived(Sources),
}

/// What addresses are made from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Sources(u8);

impl Sources {
    /// The own `r10`.
    pub const OWN: Sources = Sources(1 << 5);
    /// Any address in any frame.
    pub const ANY: Sources = Sources(1 << 6);

    /// `r1` (0) to `r5` (4) as they were passed.
    pub fn argument(number: u8) -> Sources {
        Sources(1 << number)
    }

    pub fn join(self, other: Sources) -> Sources {
        Sources(self.0 | other.0)
    }

    pub fn contains(self, other: Sources) -> bool {
        self.0 & other.0 != 0
    }

    pub fn is_empty(self) -> bool {
        self.0 == 0
    }
}

impl Value {
    /// Any address in any frame, or none.
    pub const ANY: Value = Value::Derived(Sources::ANY);

    /// What addresses it can have been made from.
    pub fn sources(self) -> Sources {
        match self {
            Value::Plain | Value::Constant(_) | Value::Object(_) => Sources::default(),
            Value::Own(_) => Sources::OWN,
            Value::Argument(number, _) => Sources::argument(number),
            Value::Derived(sources) => sources,
        }
    }

    pub fn from(sources: Sources) -> Value {
        if sources.is_empty() {
            Value::Plain
        } else {
            Value::Derived(sources)
        }
    }

    /// One or the other.
    pub fn join(self, other: Value) -> Value {
        if self == other {
            return self;
        }
        Value::from(self.sources().join(other.sources()))
    }

    fn plus(self, bytes: i64) -> Value {
        let moved = |at: i32| i32::try_from(i64::from(at).checked_add(bytes)?).ok();
        match self {
            Value::Plain => Value::Plain,
            Value::Constant(value) => value.checked_add(bytes).map_or(Value::Plain, Value::Constant),
            Value::Own(at) => moved(at).map_or(Value::from(Sources::OWN), Value::Own),
            Value::Argument(number, at) => {
                moved(at).map_or(Value::from(Sources::argument(number)), |at| Value::Argument(number, at))
            }
            Value::Derived(_) | Value::Object(_) => self,
        }
    }
}

/// What an arithmetic instruction leaves in its `dst`.
pub(super) fn alu(op: &Instruction, registers: &[Value; Reg::COUNT]) -> Option<(Reg, Value)> {
    let of = |register: Reg| registers[register.index()];
    match *op {
        Instruction::Alu { size, op, dst, src } => {
            let src = match src {
                Operand::Reg(src) => of(src),
                Operand::Imm(imm) => Value::Constant(imm.into()),
            };
            let result = match (size, op, of(dst), src) {
                (WordSize::W64, AluOp::Mov, _, src) => src,
                (WordSize::W32, AluOp::Mov, _, Value::Constant(value)) => Value::Constant((value as u32).into()),
                (_, AluOp::Mov, _, src) => Value::from(src.sources()),
                (WordSize::W64, AluOp::Add, a, Value::Constant(value)) => a.plus(value),
                (WordSize::W64, AluOp::Add, Value::Constant(value), b) => b.plus(value),
                (WordSize::W64, AluOp::Sub, a, Value::Constant(value)) => match value.checked_neg() {
                    Some(value) => a.plus(value),
                    None => Value::from(a.sources()),
                },
                // The other operand is a number: pointers are not added, and the difference of two is none.
                (WordSize::W64, AluOp::Add | AluOp::Sub, object @ Value::Object(_), Value::Plain)
                | (WordSize::W64, AluOp::Add, Value::Plain, object @ Value::Object(_)) => object,
                (_, _, a, b) => Value::from(a.sources().join(b.sources())),
            };
            Some((dst, result))
        }
        Instruction::Movsx { dst, src, .. } => Some((dst, Value::from(of(src).sources()))),
        Instruction::Neg { dst, .. } | Instruction::ByteSwap { dst, .. } => Some((dst, Value::from(of(dst).sources()))),
        _ => None,
    }
}

/// Where addresses in stack frames have been stored, in all functions together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Stored {
    /// At known places of the own frame, where the function that did it knows about it.
    pub own: bool,
    /// In the stack, elsewhere.
    pub stack: bool,
    /// Outside of the stack.
    pub outside: bool,
}

impl Stored {
    pub fn join(self, other: Stored) -> Stored {
        Stored {
            own: self.own || other.own,
            stack: self.stack || other.stack,
            outside: self.outside || other.outside,
        }
    }
}

/// Whether values at this place of the own frame are followed: where compilers put them, so that there are few.
pub(super) fn is_spill(at: i32) -> bool {
    (-FRAME_BYTES..0).contains(&at) && at % 8 == 0
}

/// Registers and own frame at one point.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct State {
    pub registers: [Value; Reg::COUNT],
    /// The 8-byte values in the own frame that are not plain, by the first byte; ascending.
    pub spilled: Vec<(i32, Value)>,
}

impl State {
    /// Adds what is so on another way to the same point. Whether that is new.
    pub fn join(&mut self, other: &State) -> bool {
        let mut changed = false;
        let mut merge = |mine: &mut Value, theirs: Value| {
            let joined = mine.join(theirs);
            changed |= joined != *mine;
            *mine = joined;
        };
        for (mine, theirs) in self.registers.iter_mut().zip(other.registers) {
            merge(mine, theirs);
        }
        for (at, mine) in &mut self.spilled {
            merge(mine, other.spilled_at(*at));
        }
        for (at, theirs) in &other.spilled {
            if let Err(place) = self.spilled.binary_search_by_key(at, |(at, _)| *at) {
                self.spilled.insert(place, (*at, Value::Plain.join(*theirs)));
                changed = true;
            }
        }
        changed
    }

    /// The 8-byte value at a place of the own frame.
    pub fn spilled_at(&self, at: i32) -> Value {
        match self.spilled.binary_search_by_key(&at, |(at, _)| *at) {
            Ok(index) => self.spilled[index].1,
            Err(_) => Value::Plain,
        }
    }

    /// Something else may have put other pointers to map values into the own frame. (Other addresses in frames are a matter of
    /// [`Stored`].)
    pub fn forget_objects(&mut self) {
        self.spilled.retain(|(_, value)| !matches!(value, Value::Object(_)));
    }

    /// Puts a value into the own frame.
    pub fn spill(&mut self, at: i32, width: u32, value: Value) {
        let end = at.saturating_add_unsigned(width);
        self.spilled
            .retain(|(other, _)| other.saturating_add(8) <= at || end <= *other);
        if width == 8 && is_spill(at) && !matches!(value, Value::Plain | Value::Constant(_)) {
            let place = self.spilled.partition_point(|(other, _)| *other < at);
            self.spilled.insert(place, (at, value));
        }
    }
}
