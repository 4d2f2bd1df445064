//! Functions that are put together from instructions.

use std::collections::BTreeMap;

use bpf2sys_bytecode::{Condition, Insn, Instruction, LineIndex, Operand, Reg, WordSize};

/// The code of a function, with places that jumps can name.
#[derive(Debug, Default)]
pub(crate) struct Code {
    ops: Vec<Instruction>,
    /// Slots of the instructions before the next one.
    slots: u32,
    labels: BTreeMap<&'static str, u32>,
    /// Which instructions jump, from which slot, and where to.
    jumps: Vec<(usize, u32, &'static str)>,
}

impl Code {
    pub(crate) fn op(&mut self, op: Instruction) -> &mut Code {
        self.slots += op.slots();
        self.ops.push(op);
        self
    }

    /// Names the place of the next instruction.
    pub(crate) fn label(&mut self, name: &'static str) -> &mut Code {
        self.labels.insert(name, self.slots);
        self
    }

    /// A jump to a name on a condition about all 64 bits.
    pub(crate) fn jump_if(&mut self, condition: Condition, dst: Reg, src: Operand, to: &'static str) -> &mut Code {
        self.jumps.push((self.ops.len(), self.slots, to));
        self.op(Instruction::JumpIf {
            size: WordSize::W64,
            condition,
            dst,
            src,
            offset: 0,
        })
    }

    /// A jump to a name.
    pub(crate) fn jump(&mut self, to: &'static str) -> &mut Code {
        self.jumps.push((self.ops.len(), self.slots, to));
        self.op(Instruction::Jump {
            size: WordSize::W64,
            offset: 0,
        })
    }

    /// The instructions, all of one line.
    pub(crate) fn finish(self, line: Option<LineIndex>) -> Vec<Insn> {
        let mut ops = self.ops;
        for (index, slot, to) in self.jumps {
            // Names are those of this crate, and functions far shorter than a jump can reach.
            let far = self.labels[to].cast_signed() - slot.cast_signed() - 1;
            match &mut ops[index] {
                Instruction::Jump { offset, .. } => *offset = far,
                Instruction::JumpIf { offset, .. } => *offset = far as i16,
                _ => {}
            }
        }
        let mut insns = Insn::sequence(ops);
        for insn in &mut insns {
            insn.line = line;
        }
        insns
    }
}
