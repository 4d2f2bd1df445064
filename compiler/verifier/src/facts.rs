//! What was proven about each instruction.
//!
//! A fact holds for every execution of every program that reaches the instruction: for a subprogram the facts of all
//! its call sites are joined. "Nothing known" is always a correct fact, and is what `Default` gives.

use bpf2sys_bytecode::{MapIndex, Reg};

/// Facts of one function, one entry per instruction.
#[derive(Clone, Debug, Default)]
pub struct FunctionFacts {
    /// Facts by [`InsnIndex`](bpf2sys_bytecode::InsnIndex).
    pub instructions: Vec<InsnFacts>,
    /// Signed range of `r0` where the function exits. A tail call that succeeds ends the program without an exit of the
    /// function.
    pub returns: Interval,
}

/// Facts at one instruction, before it executes.
#[derive(Clone, Debug)]
pub struct InsnFacts {
    /// Whether any execution gets here. When false, the other facts mean nothing.
    pub reachable: bool,
    /// `r0` to `r10`.
    pub registers: [RegisterFact; Reg::COUNT],
    /// For a call whose first map argument is proven to be exactly one map: that map, whose run-time object is the one
    /// that the module's table names (never one that a lookup in a map of maps gave).
    pub map: Option<MapIndex>,
    /// For a conditional jump: which edges any execution takes.
    pub branch: Branch,
}

impl Default for InsnFacts {
    fn default() -> Self {
        InsnFacts {
            reachable: true,
            registers: [RegisterFact::default(); Reg::COUNT],
            map: None,
            branch: Branch::Both,
        }
    }
}

/// Which edges of a conditional jump executions take.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Branch {
    /// Nothing is known.
    #[default]
    Both,
    /// Always taken: the fall-through edge is dead.
    AlwaysTaken,
    /// Never taken: the jump edge is dead.
    NeverTaken,
}

/// What is known of a register.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RegisterFact {
    /// What it holds.
    pub kind: RegisterKind,
    /// Its value as a signed 64-bit number; meaningful for numbers.
    pub signed: Interval,
    /// Its value as an unsigned 64-bit number; meaningful for numbers.
    pub unsigned: Option<(u64, u64)>,
    /// For addresses in the function's own stack frame: the offset in bytes from the function's own `r10`, -512 to 0, if
    /// it is one known value. Pointers into the frame of a caller have none.
    pub stack_offset: Option<i32>,
}

/// What a register holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RegisterKind {
    /// Nothing is known.
    #[default]
    Unknown,
    /// A number.
    Number,
    /// A map; null when it came from a lookup in a map of maps whose result was not compared with null yet.
    Map,
    /// A map of programs.
    MapOfPrograms,
    /// A pointer into the context.
    Context,
    /// A pointer into the packet.
    Packet,
    /// A pointer into the stack.
    Stack,
    /// A pointer into a map value or a global variable; null when it came from a lookup whose result was not compared
    /// with null yet.
    MapValue,
}

/// A range of signed 64-bit numbers, both ends included. `Default` is the full range.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Interval {
    /// Smallest value.
    pub min: i64,
    /// Largest value.
    pub max: i64,
}

impl Interval {
    /// The range of all numbers.
    pub const FULL: Interval = Interval {
        min: i64::MIN,
        max: i64::MAX,
    };

    /// The smallest range that contains both.
    #[must_use]
    pub fn join(self, other: Interval) -> Interval {
        Interval {
            min: self.min.min(other.min),
            max: self.max.max(other.max),
        }
    }
}

impl Default for Interval {
    fn default() -> Self {
        Interval::FULL
    }
}
