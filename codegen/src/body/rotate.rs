//! Loops that are left at their end.
//!
//! Given: a body. Computed: the body with copies of the short tests at the head of loops, behind where the loops go back.
//! Safe because: a copy does what the head would have done next, and goes where that would have gone.
//!
//! A loop that is tested at its head takes two jumps in each round: one back, and one past the test. With the test at the end, too,
//! it takes one.

use bpf2sys_bytecode::{AluOp, Instruction, Operand};

use super::{Body, Node, NodeIndex};
use crate::lowering::Next;

/// Longest test that is copied, in nodes.
const LONGEST_TEST: usize = 4;

impl Body {
    /// Copies tests to the ends of loops.
    pub(crate) fn rotate(&mut self) {
        let mut nodes = self.nodes.clone();
        for index in self.nodes() {
            // What goes back, as far as the order of nodes tells.
            let Next::One(head) = self.node(index).next else {
                continue;
            };
            if head > index {
                continue;
            }
            let Some(test) = self.test_at(head) else { continue };
            // What lies in the test itself is no end of a loop around it.
            if test.contains(&index) {
                continue;
            }
            let first = nodes.len() as u32;
            nodes[index.index()].next = Next::One(NodeIndex(first));
            for (position, copied) in (1..).zip(&test) {
                let mut copy: Node = *self.node(*copied);
                if let Next::One(_) = copy.next {
                    copy.next = Next::One(NodeIndex(first + position));
                }
                nodes.push(copy);
            }
        }
        if nodes.len() > self.nodes.len() {
            *self = Body::new(nodes).arranged();
        }
    }

    /// The nodes of a short test: arithmetic, and then a conditional jump.
    fn test_at(&self, head: NodeIndex) -> Option<Vec<NodeIndex>> {
        let mut test = Vec::with_capacity(LONGEST_TEST);
        let mut at = head;
        while test.len() < LONGEST_TEST {
            test.push(at);
            let node = self.node(at);
            match (node.op, node.next) {
                (Instruction::JumpIf { .. }, Next::Two { .. }) => return Some(test),
                (op, Next::One(onward)) if is_cheap(op) && !test.contains(&onward) => at = onward,
                _ => return None,
            }
        }
        None
    }
}

fn is_cheap(op: Instruction) -> bool {
    match op {
        Instruction::Alu { op, src, .. } => {
            let divides = matches!(op, AluOp::Div | AluOp::Mod | AluOp::Sdiv | AluOp::Smod);
            !(divides && matches!(src, Operand::Reg(_)))
        }
        Instruction::Movsx { .. } | Instruction::Neg { .. } | Instruction::Jump { .. } => true,
        _ => false,
    }
}
