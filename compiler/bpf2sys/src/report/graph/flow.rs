//! The control flow of a function: its blocks, and how executions go from one to another.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use bpf2sys_bytecode::{Function, InsnIndex, Instruction};
use bpf2sys_verifier::{Branch, FunctionFacts};

/// A function as blocks.
#[derive(Clone, Debug, Default)]
pub(super) struct Flow {
    /// By position; the first is the entry.
    pub blocks: Vec<Block>,
    /// From each block, in its order.
    pub edges: Vec<Edge>,
    /// Blocks that the function has beyond those.
    pub left_out: usize,
}

/// Instructions that are only executed one after the other.
#[derive(Clone, Debug)]
pub(super) struct Block {
    /// Its first instruction.
    pub first: InsnIndex,
    /// Its last one.
    pub last: InsnIndex,
    /// Whether any execution gets there.
    pub reachable: bool,
    /// Edges that lead to blocks which were left out.
    pub to_left_out: usize,
}

/// A way from a block to another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Edge {
    /// Position of the block it comes from.
    pub from: usize,
    /// Position of the block it leads to.
    pub to: usize,
    /// Which way it is.
    pub way: Way,
    /// Whether it is proven that no execution goes there.
    pub dead: bool,
}

/// Kinds of ways.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    /// A conditional jump is taken.
    Taken,
    /// A conditional jump is not taken.
    NotTaken,
    /// There is no other.
    Only,
}

impl Flow {
    /// The blocks of a function; of one that has more than `most`, those that are nearest to the entry.
    pub(super) fn of(function: &Function, facts: &FunctionFacts, most: usize) -> Flow {
        let starts = starts(function);
        let position: BTreeMap<InsnIndex, usize> = starts.iter().copied().zip(0..).collect();
        let ends = starts.iter().skip(1).map(|next| InsnIndex(next.0 - 1));
        let last = InsnIndex((function.instructions.len() as u32).saturating_sub(1));
        let mut flow = Flow::default();
        for (&first, last) in starts.iter().zip(ends.chain([last])) {
            let known = facts.instructions.get(first.index());
            flow.blocks.push(Block {
                first,
                last,
                reachable: known.is_none_or(|known| known.reachable),
                to_left_out: 0,
            });
            let from = flow.blocks.len() - 1;
            for (target, way) in ways(function, last) {
                // A way out of the function is none: the verifier has seen that no execution takes it.
                let Some(&to) = position.get(&target) else { continue };
                let dead = facts.instructions.get(last.index()).is_some_and(|known| {
                    !known.reachable
                        || match way {
                            Way::Taken => known.branch == Branch::NeverTaken,
                            Way::NotTaken => known.branch == Branch::AlwaysTaken,
                            Way::Only => false,
                        }
                });
                flow.edges.push(Edge { from, to, way, dead });
            }
        }
        flow.limit(most);
        flow
    }

    /// Leaves out all blocks but the `most` that are nearest to the entry.
    fn limit(&mut self, most: usize) {
        if self.blocks.len() <= most {
            return;
        }
        let mut next: Vec<Vec<usize>> = vec![Vec::new(); self.blocks.len()];
        for edge in &self.edges {
            next[edge.from].push(edge.to);
        }
        let mut kept = BTreeSet::new();
        let mut waiting = VecDeque::from([0]);
        while let Some(block) = waiting.pop_front() {
            if kept.len() < most && kept.insert(block) {
                waiting.extend(&next[block]);
            }
        }
        let positions: BTreeMap<usize, usize> = kept.iter().copied().zip(0..).collect();
        self.left_out = self.blocks.len() - kept.len();
        for edge in &self.edges {
            if !kept.contains(&edge.to) {
                self.blocks[edge.from].to_left_out += 1;
            }
        }
        self.edges.retain_mut(|edge| {
            let (Some(&from), Some(&to)) = (positions.get(&edge.from), positions.get(&edge.to)) else {
                return false;
            };
            (edge.from, edge.to) = (from, to);
            true
        });
        self.blocks = kept.into_iter().map(|block| self.blocks[block].clone()).collect();
    }
}

/// The first instructions of all blocks, ascending.
fn starts(function: &Function) -> BTreeSet<InsnIndex> {
    let count = function.instructions.len() as u32;
    let mut starts = BTreeSet::from([InsnIndex(0)]);
    for (index, insn) in (0..).map(InsnIndex).zip(&function.instructions) {
        if matches!(
            insn.op,
            Instruction::Jump { .. } | Instruction::JumpIf { .. } | Instruction::Exit
        ) {
            starts.extend(function.jump_target(index));
            starts.insert(InsnIndex(index.0 + 1));
        }
    }
    starts.retain(|start| start.0 < count);
    starts
}

/// Where the last instruction of a block leads.
fn ways(function: &Function, last: InsnIndex) -> Vec<(InsnIndex, Way)> {
    let next = InsnIndex(last.0 + 1);
    let target = function.jump_target(last);
    match function.instructions.get(last.index()).map(|insn| insn.op) {
        None | Some(Instruction::Exit) => Vec::new(),
        Some(Instruction::Jump { .. }) => target.map(|target| (target, Way::Only)).into_iter().collect(),
        Some(Instruction::JumpIf { .. }) => {
            let taken = target.map(|target| (target, Way::Taken));
            [(next, Way::NotTaken)].into_iter().chain(taken).collect()
        }
        Some(_) => vec![(next, Way::Only)],
    }
}

#[cfg(test)]
mod tests {
    use bpf2sys_bytecode::{AluOp, Condition, FunctionKind, Insn, Operand, Reg, WordSize};

    use super::*;

    fn function(ops: Vec<Instruction>) -> Function {
        Function {
            name: "main".to_owned(),
            section: "xdp".to_owned(),
            section_offset: 0,
            kind: FunctionKind::Program,
            instructions: Insn::sequence(ops),
        }
    }

    fn jump_if(offset: i16) -> Instruction {
        Instruction::JumpIf {
            size: WordSize::W64,
            condition: Condition::Eq,
            dst: Reg::R1,
            src: Operand::Imm(0),
            offset,
        }
    }

    const STEP: Instruction = Instruction::Alu {
        size: WordSize::W64,
        op: AluOp::Mov,
        dst: Reg::R0,
        src: Operand::Imm(1),
    };

    /// `if r1 == 0 goto end; back: r0 = 1; if r1 == 0 goto back; end: exit`
    fn looping() -> Function {
        function(vec![jump_if(2), STEP, jump_if(-2), Instruction::Exit])
    }

    fn edges(flow: &Flow) -> Vec<(usize, usize, Way)> {
        flow.edges.iter().map(|edge| (edge.from, edge.to, edge.way)).collect()
    }

    #[test]
    fn blocks_end_where_executions_part_or_meet() {
        let flow = Flow::of(&looping(), &FunctionFacts::default(), 10);
        let ranges: Vec<(u32, u32)> = flow.blocks.iter().map(|b| (b.first.0, b.last.0)).collect();
        assert_eq!(ranges, [(0, 0), (1, 2), (3, 3)]);
        assert_eq!(
            edges(&flow),
            [
                (0, 1, Way::NotTaken),
                (0, 2, Way::Taken),
                (1, 2, Way::NotTaken),
                (1, 1, Way::Taken)
            ]
        );
        assert_eq!(flow.left_out, 0);
    }

    #[test]
    fn what_is_left_out_is_what_is_farthest_and_is_told() {
        let jump = Instruction::Jump {
            size: WordSize::W64,
            offset: 0,
        };
        let mut steps = vec![jump; 20];
        steps.push(Instruction::Exit);
        let flow = Flow::of(&function(steps), &FunctionFacts::default(), 5);
        assert_eq!((flow.blocks.len(), flow.left_out), (5, 16));
        let to_left_out: Vec<usize> = flow.blocks.iter().map(|block| block.to_left_out).collect();
        assert_eq!(to_left_out, [0, 0, 0, 0, 1]);
        assert_eq!(flow.edges.len(), 4);
    }

    #[test]
    fn ways_that_are_never_taken_are_marked() {
        let function = looping();
        let mut facts = FunctionFacts {
            instructions: vec![bpf2sys_verifier::InsnFacts::default(); function.instructions.len()],
            ..FunctionFacts::default()
        };
        facts.instructions[0].branch = Branch::NeverTaken;
        let flow = Flow::of(&function, &facts, 10);
        let dead: Vec<bool> = flow.edges.iter().map(|edge| edge.dead).collect();
        assert_eq!(dead, [false, true, false, false]);
    }
}
