//! What was proven about each instruction.
//!
//! A fact holds for every execution of every program that reaches the instruction: for a subprogram the facts of all
//! its call sites are joined. "Nothing known" is always a correct fact, and is what `Default` gives.
//!
//! Facts do not depend on the engine that proved them. Some are stored, and the others follow from them by arithmetic and are
//! computed when asked for:
//!
//! | fact | where |
//! |---|---|
//! | what is reached, which edges are taken, the map of a call, the size of the packet | [`InsnFacts`] |
//! | what registers hold: kind, range, null or not, offset, map | [`RegisterFact`], by [`FunctionFacts::register`] |
//! | 32-bit ranges, known bits | [`Range64`], by [`RegisterFact::range`] |
//! | what a branch taken or not tells | [`FunctionFacts::edge`] |
//! | where an access goes, and what lies around it | [`FunctionFacts::access`] |
//! | divisors, shift counts, overflow | [`FunctionFacts::arithmetic`] |
//! | the value that a function returns | [`FunctionFacts::returns`] |
//! | who touches the stack frame | [`FrameFacts`] |
//!
//! An address is a number of 64 bits to the machine, and facts about numbers are only made of numbers: what is known of a
//! pointer is what it points into, how far into it, and whether it is null.

mod access;
mod arithmetic;
mod edge;
mod frame;
mod interval;
mod pool;
mod register;

use bpf2sys_bytecode::{InsnIndex, Instruction, MapIndex, Reg};

pub(crate) use access::accessed;
pub use access::{AccessFact, Region};
pub use arithmetic::ArithmeticFacts;
pub use edge::EdgeFacts;
pub use frame::{FrameFacts, StackAccess, StackEscape, StackSlot, Through};
pub use interval::{Interval, KnownBits, Range32, Range64};
pub(crate) use pool::PoolBuilder;
pub use pool::{FactPool, RegisterRow};
pub use register::{Object, RegisterFact, RegisterKind};

/// Bytes in the stack frame of a function.
pub(crate) const FRAME_BYTES: i32 = 512;

/// Facts of one function, one entry per instruction.
#[derive(Clone, Debug, Default)]
pub struct FunctionFacts {
    /// Facts by [`InsnIndex`].
    pub instructions: Vec<InsnFacts>,
    /// Signed range of `r0` where the function exits. A tail call that succeeds ends the program without an exit of the
    /// function.
    pub returns: Interval,
    /// Who touches the function's own stack frame; `None` if nothing is known of it.
    pub frame: Option<Box<FrameFacts>>,
    /// What the rows of `instructions` name.
    pub pool: FactPool,
}

/// Facts at one instruction, before it executes.
#[derive(Clone, Debug)]
pub struct InsnFacts {
    /// Whether any execution gets here. When false, the other facts mean nothing.
    pub reachable: bool,
    /// For a conditional jump: which edges any execution takes.
    pub branch: Branch,
    /// For a call whose first map argument is proven to be exactly one map: that map, whose run-time object is the one
    /// that the module's table names (never one that a lookup in a map of maps gave).
    pub map: Option<MapIndex>,
    /// The packet has at least that many bytes, from `data` to `data_end` of the context; 0 is always true.
    pub packet_bytes: u32,
    /// `r0` to `r10`: see [`FunctionFacts::register`].
    pub registers: RegisterRow,
}

impl Default for InsnFacts {
    fn default() -> Self {
        InsnFacts {
            reachable: true,
            branch: Branch::Both,
            map: None,
            packet_bytes: 0,
            registers: RegisterRow::default(),
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

impl FunctionFacts {
    /// What is known of a register before the instruction at `index`.
    pub fn register(&self, index: InsnIndex, register: Reg) -> RegisterFact {
        let row = self.instructions.get(index.index()).map(|facts| facts.registers);
        self.pool.fact(row.unwrap_or_default(), register)
    }

    /// What is known of `r0` to `r10` before the instruction at `index`.
    pub fn registers(&self, index: InsnIndex) -> [RegisterFact; Reg::COUNT] {
        let row = self.instructions.get(index.index()).map(|facts| facts.registers);
        self.pool.facts(row.unwrap_or_default())
    }

    /// Says something else of a register: for tests of what uses facts. The pool is then this function's own.
    pub fn replace(&mut self, index: InsnIndex, register: Reg, fact: RegisterFact) {
        let mut pool = PoolBuilder::resume(&self.pool);
        if let Some(insn) = self.instructions.get_mut(index.index()) {
            insn.registers = pool.with(insn.registers, register, &fact);
        }
        self.pool = pool.finish();
    }

    /// What is known behind the conditional jump at `index`, which is `jump`, of the registers that it compares, on the edge that
    /// is taken or on the one that is not. `None` if no execution takes that edge, and for other instructions.
    ///
    /// It is never less than what is known before the jump; what the target has as its own facts may be less, where other
    /// edges lead there too.
    pub fn edge(&self, index: InsnIndex, jump: &Instruction, taken: bool) -> Option<EdgeFacts> {
        let dead = match self
            .instructions
            .get(index.index())
            .map(|facts| (facts.reachable, facts.branch))
        {
            Some((false, _)) => true,
            Some((_, Branch::AlwaysTaken)) => !taken,
            Some((_, Branch::NeverTaken)) => taken,
            _ => false,
        };
        if dead {
            return None;
        }
        edge::behind(jump, taken, |register| self.register(index, register))
    }

    /// Where the load, store or atomic operation at `index`, which is `op`, goes. `None` if that is not known, and for other
    /// instructions.
    pub fn access(&self, index: InsnIndex, op: &Instruction) -> Option<AccessFact> {
        access::of(op, |register| self.register(index, register))
    }

    /// What is known of the operands and the result of the arithmetic instruction at `index`, which is `op`.
    pub fn arithmetic(&self, index: InsnIndex, op: &Instruction) -> ArithmeticFacts {
        arithmetic::of(op, |register| self.register(index, register))
    }
}
