//! Which registers an instruction's successors may still read.
//!
//! Given: a body without inlined calls.
//! Computed: for each node the registers whose value before it can reach a read.
//! Safe because: every edge is followed, and what the lowering of an instruction reads counts as read, needed or not.

use super::inherited::{RegisterSet, writes};
use crate::body::{Body, NodeIndex, Predecessors};

/// For each node the registers that are live before it.
pub(crate) fn live_before(body: &Body) -> Vec<RegisterSet> {
    let count = body.count() as usize;
    let before = Predecessors::of(body);
    let mut live = vec![RegisterSet::default(); count];
    // A register that becomes live at an instruction makes its predecessors wait again: at most ten times each.
    let mut waiting = vec![true; count];
    let mut work: Vec<NodeIndex> = body.nodes().collect();
    while let Some(index) = work.pop() {
        waiting[index.index()] = false;
        let after = body
            .successors(index)
            .fold(RegisterSet::default(), |all, to| all.union(live[to.index()]));
        let node = body.node(index);
        let now = after.without(writes(node.op)).union(node.reads);
        if now != live[index.index()] {
            live[index.index()] = now;
            for &predecessor in before.of_node(index) {
                if !std::mem::replace(&mut waiting[predecessor.index()], true) {
                    work.push(predecessor);
                }
            }
        }
    }
    live
}

#[cfg(test)]
mod tests {
    use bpf2sys_bytecode::{AluOp, Condition, Instruction, Operand, Reg, Width, WordSize};

    use super::live_before;
    use crate::testing::{EXIT, alu, body, helper, load, mov, mov_reg, r, store};

    fn jump_if(dst: u8, offset: i16) -> Instruction {
        Instruction::JumpIf {
            size: WordSize::W64,
            condition: Condition::Eq,
            dst: r(dst),
            src: Operand::Imm(0),
            offset,
        }
    }

    #[test]
    fn what_can_be_read_later_is_live() {
        let add = |dst, src| alu(AluOp::Add, dst, Operand::Reg(r(src)));
        let cases: [(&[Instruction], &[u8]); 9] = [
            (&[EXIT], &[0]),
            (&[mov(0, 1), EXIT], &[]),
            (&[mov_reg(0, 6), EXIT], &[6]),
            (&[add(0, 6), EXIT], &[0, 6]),
            (&[load(Width::W, 0, 7, 0), EXIT], &[7]),
            (&[store(Width::W, 10, -4, Operand::Reg(r(8))), EXIT], &[0, 8, 10]),
            // every argument register is passed
            (&[helper(5), EXIT], &[1, 2, 3, 4, 5]),
            // one way sets r7, the other reads it
            (&[mov(0, 0), jump_if(1, 1), mov(7, 1), add(0, 7), EXIT], &[1, 7]),
            // read in the next round of the loop
            (&[mov(0, 0), add(0, 9), mov(9, 2), jump_if(8, -3), EXIT], &[8, 9]),
        ];
        for (code, expected) in cases {
            let live = live_before(&body(code));
            let live: Vec<u8> = live[0].iter().map(Reg::number).collect();
            assert_eq!(live, expected, "{code:?}");
        }
    }
}
