//! Which instructions are emitted, and how control passes between them.
//!
//! Given: a function and what was proven about its branches.
//! Computed: for each instruction where control goes next.
//! Safe because: only an edge that the proof calls dead is left out; everything that a remaining edge reaches is emitted.

use bpf2sys_bytecode::{Function, InsnIndex, Instruction};
use bpf2sys_verifier::{Branch, FunctionFacts};

use crate::error::InstructionProblem;

/// Where control goes after an instruction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Next<Place = InsnIndex> {
    /// To the caller.
    Return,
    /// Here, always.
    One(Place),
    /// Depends on the instruction's condition.
    Two {
        /// When it holds.
        taken: Place,
        /// When it does not.
        otherwise: Place,
    },
}

impl<Place: Copy + PartialEq> Next<Place> {
    /// The same with other names of places.
    pub(crate) fn map<Other>(self, mut name: impl FnMut(Place) -> Other) -> Next<Other> {
        match self {
            Next::Return => Next::Return,
            Next::One(to) => Next::One(name(to)),
            Next::Two { taken, otherwise } => Next::Two {
                taken: name(taken),
                otherwise: name(otherwise),
            },
        }
    }

    /// Where control may go, each place once.
    pub(crate) fn places(self) -> impl Iterator<Item = Place> + use<Place> {
        let (first, second) = match self {
            Next::Return => (None, None),
            Next::One(to) => (Some(to), None),
            Next::Two { taken, otherwise } => (Some(taken), (otherwise != taken).then_some(otherwise)),
        };
        first.into_iter().chain(second)
    }
}

/// The flow of one function.
#[derive(Debug)]
pub(crate) struct Flow {
    /// By instruction; `None` for one that no execution reaches.
    next: Vec<Option<Next>>,
}

impl Flow {
    /// Follows every edge that is not proven dead, from the first instruction on.
    pub(crate) fn of(function: &Function, facts: &FunctionFacts) -> Result<Flow, (InsnIndex, InstructionProblem)> {
        let count = function.instructions.len();
        let mut flow = Flow {
            next: vec![None; count],
        };
        let mut work = vec![InsnIndex(0)];
        while let Some(index) = work.pop() {
            let Some(insn) = function.instructions.get(index.index()) else {
                return Err((InsnIndex(index.0.saturating_sub(1)), InstructionProblem::FallsOffEnd));
            };
            if flow.next[index.index()].is_some() {
                continue;
            }
            let following = InsnIndex(index.0 + 1);
            let target = || {
                function
                    .jump_target(index)
                    .ok_or((index, InstructionProblem::JumpTarget))
            };
            let next = match insn.op {
                Instruction::Exit => Next::Return,
                Instruction::Jump { .. } => Next::One(target()?),
                Instruction::JumpIf { .. } => live_edges(facts, index, target()?, following),
                _ => Next::One(following),
            };
            flow.next[index.index()] = Some(next);
            work.extend(next.places());
        }
        Ok(flow)
    }

    /// Where control goes after `index`; `None` if no execution gets there.
    pub(crate) fn next(&self, index: InsnIndex) -> Option<Next> {
        self.next.get(index.index()).copied().flatten()
    }
}

/// The edges of the conditional jump at `index` that the proof does not exclude.
fn live_edges(facts: &FunctionFacts, index: InsnIndex, taken: InsnIndex, otherwise: InsnIndex) -> Next {
    let reachable = |i: InsnIndex| facts.instructions.get(i.index()).is_none_or(|f| f.reachable);
    let branch = facts.instructions.get(index.index()).map_or(Branch::Both, |f| f.branch);
    match (branch, reachable(taken), reachable(otherwise)) {
        (Branch::AlwaysTaken, ..) | (Branch::Both, true, false) => Next::One(taken),
        (Branch::NeverTaken, ..) | (Branch::Both, false, true) => Next::One(otherwise),
        (Branch::Both, ..) => Next::Two { taken, otherwise },
    }
}
