//! What programs do with the answer of a helper.
//!
//! Given: a function and a call in it. Computed: whether more of the answer matters than whether it is negative, or zero.
//! Safe because: whatever is not known to look at that alone counts as more.

use std::collections::BTreeSet;

use bpf2sys_bytecode::{AluOp, Condition, Function, InsnIndex, Instruction, Operand, Reg, WordSize};

use crate::liveness::effect;

/// Most steps that are followed.
const STEPS: usize = 4096;

/// Whether the function looks at more of what the call at `index` leaves in `r0` than its sign.
pub(crate) fn is_number_used(function: &Function, index: usize) -> bool {
    let mut seen = BTreeSet::new();
    let mut work = vec![(index + 1, 1u16 << Reg::R0.number())];
    while let Some((at, held)) = work.pop() {
        if held == 0 || !seen.insert((at, held)) {
            continue;
        }
        let Some(insn) = function.instructions.get(at) else {
            continue;
        };
        if seen.len() > STEPS {
            return true;
        }
        let (reads, writes) = effect(&insn.op);
        let mut held = held;
        match insn.op {
            Instruction::Alu {
                op: AluOp::Mov,
                size: WordSize::W64,
                dst,
                src: Operand::Reg(src),
            } if held >> src.number() & 1 == 1 => held |= 1 << dst.number(),
            Instruction::JumpIf {
                condition,
                dst,
                src: Operand::Imm(value),
                ..
            } if held >> dst.number() & 1 == 1 => {
                let of_sign = match condition {
                    Condition::Eq | Condition::Ne | Condition::Slt | Condition::Sge => value == 0,
                    Condition::Sgt | Condition::Sle => value == 0 || value == -1,
                    _ => false,
                };
                if !of_sign {
                    return true;
                }
            }
            // Calls are taken to read all arguments; those that hold the answer are too many.
            _ if reads & held != 0 => return true,
            _ => held &= !writes,
        }
        if let Some(target) = function.jump_target(InsnIndex(at as u32)) {
            work.push((target.index(), held));
        }
        if !matches!(insn.op, Instruction::Jump { .. } | Instruction::Exit) {
            work.push((at + 1, held));
        }
    }
    false
}
