//! A function with instructions replaced by sequences.
//!
//! Given: a function, and for some of its instructions what stands in their place. Computed: the new function, with all jumps going where
//! they went: to what stands in the place of their targets.
//! Safe because: jumps themselves are never replaced, and those inside of a sequence do not leave it.

use std::collections::BTreeMap;

use bpf2sys_bytecode::{Function, Insn, InsnIndex, Instruction, WordSize};

/// What stands in the place of instructions.
#[derive(Debug, Default)]
pub(crate) struct Edits {
    /// Before the first instruction; jumps to that do not run it again.
    pub(crate) prologue: Vec<Instruction>,
    /// By the index of the instruction.
    pub(crate) sequences: BTreeMap<usize, Vec<Instruction>>,
}

/// A conditional jump goes too far for its 16 bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TooFar;

impl Edits {
    /// The function with its replacements.
    pub(crate) fn apply(&self, function: &Function) -> Result<Vec<Insn>, TooFar> {
        let length = |ops: &[Instruction]| ops.iter().map(Instruction::slots).sum::<u32>();
        let mut starts = Vec::with_capacity(function.instructions.len() + 1);
        let mut slot = length(&self.prologue);
        for (index, insn) in function.instructions.iter().enumerate() {
            starts.push(slot);
            slot += self.sequences.get(&index).map_or(insn.op.slots(), |ops| length(ops));
        }
        let first_line = function.instructions.first().and_then(|insn| insn.line);
        let mut result = Vec::new();
        let mut push = |op: Instruction, line, slot: &mut u32| {
            result.push(Insn { slot: *slot, op, line });
            *slot += op.slots();
        };
        let mut slot = 0;
        for op in &self.prologue {
            push(*op, first_line, &mut slot);
        }
        for (index, insn) in function.instructions.iter().enumerate() {
            if let Some(ops) = self.sequences.get(&index) {
                for op in ops {
                    push(*op, insn.line, &mut slot);
                }
                continue;
            }
            let mut op = insn.op;
            if let Some(target) = function.jump_target(InsnIndex(index as u32)) {
                let far = i64::from(starts[target.index()]) - i64::from(slot) - 1;
                match &mut op {
                    Instruction::Jump { size, offset } => {
                        *offset = i32::try_from(far).map_err(|_| TooFar)?;
                        if i16::try_from(far).is_err() {
                            *size = WordSize::W32;
                        }
                    }
                    Instruction::JumpIf { offset, .. } => *offset = i16::try_from(far).map_err(|_| TooFar)?,
                    _ => {}
                }
            }
            push(op, insn.line, &mut slot);
        }
        Ok(result)
    }
}
