//! Instructions that nobody needs.
//!
//! Given: a body. Computed: the body without the arithmetic whose results no other instruction needs: counters whose tests were proven,
//! and what a call passes to a helper that does not look at it.
//! Safe because: only instructions go that do nothing but set a register, where no instruction that stays reads what they set.

use bpf2sys_bytecode::{Imm64, Instruction, Reg};

use super::{Body, Node, NodeIndex, Predecessors, Register};
use crate::lowering::{Next, RegisterSet, Registers, registers_read, registers_written};

impl Body {
    /// Leaves out what nobody needs.
    pub(crate) fn leave_out_dead(&mut self) {
        let needed = self.needed_after();
        let is_dead: Vec<bool> = (self.nodes.iter().zip(needed))
            .map(|(node, needed)| is_dead(node, needed))
            .collect();
        if is_dead.contains(&true) {
            *self = self.without(&is_dead);
        }
    }

    /// Those of `r1` to `r5` whose values at entry some instruction needs.
    pub(crate) fn needed_at_entry(&self) -> RegisterSet {
        let needed = self.needed_before(NodeIndex(0), self.needed_after()[0]);
        let is_needed = |register: &Reg| Register::of(*register, 0).is_some_and(|register| needed.contains(register));
        RegisterSet::of(RegisterSet::ARGUMENTS.iter().filter(is_needed))
    }

    /// By node that goes two ways: the registers that are needed on either. Others have none.
    pub(crate) fn needed_both_ways(&self) -> Vec<Registers> {
        let needed = self.needed_after();
        let before = |to: NodeIndex| self.needed_before(to, needed[to.index()]);
        let both = self.nodes.iter().map(|node| match node.next {
            Next::Two { taken, otherwise } => before(taken).shared_with(before(otherwise)),
            _ => Registers::default(),
        });
        both.collect()
    }

    /// The registers that a node, or an instruction behind it, needs.
    fn needed_before(&self, index: NodeIndex, after: Registers) -> Registers {
        let node = self.node(index);
        let here = after.without(registers_written(node));
        if is_dead(node, after) {
            here
        } else {
            here.union(registers_read(node))
        }
    }

    /// By node: the registers that an instruction behind it needs. What is read only to set what nobody needs is not needed, so that a
    /// counter that only counts is not.
    fn needed_after(&self) -> Vec<Registers> {
        let before = Predecessors::of(self);
        let mut after = vec![Registers::default(); self.nodes.len()];
        // Each register becomes needed once at most behind each node.
        let mut work: Vec<NodeIndex> = self.nodes().collect();
        while let Some(index) = work.pop() {
            let here = self.needed_before(index, after[index.index()]);
            for from in before.of_node(index) {
                let known = &mut after[from.index()];
                let all = known.union(here);
                if all != *known {
                    *known = all;
                    work.push(*from);
                }
            }
        }
        after
    }

    /// The body without some nodes, none of which decides where control goes.
    fn without(&self, dropped: &[bool]) -> Body {
        let through = |mut to: NodeIndex| {
            // Each leads to another, and what was verified does not go in a circle of them; this stops all the same.
            for _ in 0..self.nodes.len() {
                match self.node(to).next {
                    Next::One(onward) if dropped[to.index()] => to = onward,
                    _ => break,
                }
            }
            to
        };
        let entry = through(NodeIndex(0));
        // The first is where it begins.
        let kept = self.nodes().filter(|index| !dropped[index.index()] && *index != entry);
        let order: Vec<NodeIndex> = [entry].into_iter().chain(kept).collect();
        self.in_order(&order, through)
    }
}

/// Whether a node does nothing but set a register that is not needed behind it. Loads are not among them: others can see them.
fn is_dead(node: &Node, needed: Registers) -> bool {
    let (Instruction::Alu { dst, .. }
    | Instruction::Movsx { dst, .. }
    | Instruction::Neg { dst, .. }
    | Instruction::ByteSwap { dst, .. }
    // What others refer to is looked for, needed or not.
    | Instruction::LoadImm64 { dst, value: Imm64::Constant(_) }) = node.op
    else {
        return false;
    };
    Register::of(dst, node.frame).is_some_and(|set| !needed.contains(set))
}
