//! What one program is made of: drawn once, before its functions are written.

use super::writer::POOL_VALUES;
use crate::random::Random;

/// An argument of a function.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Argument {
    /// A number.
    Number,
    /// This number; only for helpers.
    Constant(i32),
    /// An 8-aligned address of that many bytes, all readable and writable.
    Memory(i32),
}

/// A kind of step that a function is written of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// A new number in a register.
    Fresh,
    /// An `ALU` or `ALU64` operation.
    Alu,
    /// A division or remainder whose operands are likely to be the odd ones.
    Divide,
    /// `MOVSX`
    Movsx,
    /// `NEG`
    Neg,
    /// A byte swap.
    ByteSwap,
    /// Loads, stores and atomic operations in one piece of memory.
    Memory,
    /// A compare-and-exchange that probably exchanges.
    Exchange,
    /// A pointer that goes through the stack.
    Spill,
    /// A conditional jump forward.
    JumpIf,
    /// A jump forward.
    Jump,
    /// A conditional exit.
    Leave,
    /// A loop.
    Loop,
    /// A call of a function.
    Call,
    /// A call of a helper.
    Helper,
    /// Something that makes the result depend on a register.
    Observe,
}

/// How likely each step is where nothing else is said.
const WEIGHTS: [(Step, usize); 16] = [
    (Step::Fresh, 8),
    (Step::Alu, 24),
    (Step::Divide, 6),
    (Step::Movsx, 4),
    (Step::Neg, 2),
    (Step::ByteSwap, 4),
    (Step::Memory, 18),
    (Step::Exchange, 3),
    (Step::Spill, 1),
    (Step::JumpIf, 10),
    (Step::Jump, 2),
    (Step::Leave, 1),
    (Step::Loop, 2),
    (Step::Call, 6),
    (Step::Helper, 2),
    (Step::Observe, 10),
];

/// What kind of program is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Taste {
    /// Only what the verifier of Linux takes: no immediate shift by the word size or more and no division by an immediate
    /// 0; in the stack only aligned accesses, at known places. And what it gets wrong (`compare_and_exchange`) is not
    /// relied on.
    pub linux: bool,
    /// That the program compares the length of its memory before it accesses it, as the verifier of Windows wants; and
    /// nothing else that it cannot follow.
    pub checked: bool,
    /// Calls of helpers.
    pub helpers: bool,
}

/// A drawn program.
#[derive(Clone, Debug)]
pub(super) struct Plan {
    pub(super) taste: Taste,
    /// By function: its arguments. A function calls later ones only.
    pub(super) signatures: Vec<Vec<Argument>>,
    /// By function: about how many steps it has.
    pub(super) lengths: Vec<usize>,
    /// Whether every function calls the next, so that the chain of calls is as long as the list of functions.
    pub(super) chain: bool,
    /// Some kinds of steps are left out or favored, another selection in each program: what is rare among many is then
    /// frequent in some ("swarm testing", Groce et al., 2012).
    pub(super) weights: Vec<(Step, usize)>,
    /// Bytes of the program's memory, without the constants.
    pub(super) memory: i32,
}

/// Functions that are active at once in the longest chains of calls: native module contract §6.2.
const MAX_FRAMES: usize = 8;

impl Plan {
    pub(super) fn draw(random: &mut Random, taste: Taste) -> Plan {
        let functions = random.weighted(&[(1, 10), (2, 4), (3, 3), (4, 2), (MAX_FRAMES, 1)]);
        let memory = 8 * random.between(1, 8);
        let signature = |random: &mut Random| -> Vec<Argument> {
            (0..random.below(6))
                .map(|_| match random.below(3) {
                    0 => Argument::Memory(8 * random.between(1, 3)),
                    _ => Argument::Number,
                })
                .collect()
        };
        let mut signatures = vec![vec![Argument::Memory(memory), Argument::Number]];
        signatures.extend((1..functions).map(|_| signature(random)));
        let lengths = (0..functions)
            .map(|function| match (function, functions) {
                (0, 1) => random.between(4, 26),
                (0, _) => random.between(3, 10),
                (_, 5..) => random.between(1, 5),
                _ => random.between(2, 7),
            } as usize)
            .collect();
        let weights = WEIGHTS
            .into_iter()
            .filter(|(step, _)| *step != Step::Helper || taste.helpers)
            .filter(|(step, _)| *step != Step::Loop || !taste.checked)
            .map(|(step, weight)| (step, weight * random.one_of(&[0, 1, 1, 1, 4])))
            .chain([(Step::Alu, 1)])
            .collect();
        Plan {
            taste,
            signatures,
            lengths,
            chain: functions > 4 || random.chance(1, 2),
            weights,
            memory,
        }
    }

    /// Bytes of memory when all constants are there.
    pub(super) fn memory_bytes(&self) -> i32 {
        self.memory + 8 * POOL_VALUES as i32
    }
}
