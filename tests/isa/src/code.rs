//! Instructions whose jumps go to labels until everything between is known.

use bpf2sys_bytecode::{Instruction, WordSize};

/// A place that jumps go to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Label(usize);

/// The instructions of a function that is being written.
#[derive(Clone, Debug, Default)]
pub struct Code {
    instructions: Vec<Instruction>,
    /// Positions of jumps, with where they go.
    jumps: Vec<(usize, Label)>,
    /// By label: the position of the instruction behind it, once it is placed.
    labels: Vec<Option<usize>>,
}

impl Code {
    /// Appends an instruction.
    pub fn push(&mut self, instruction: Instruction) {
        self.instructions.push(instruction);
    }

    /// Appends a jump, whose own offset does not count.
    pub fn jump(&mut self, jump: Instruction, to: Label) {
        self.jumps.push((self.instructions.len(), to));
        self.instructions.push(jump);
    }

    /// A label that has no place yet.
    pub fn label(&mut self) -> Label {
        self.labels.push(None);
        Label(self.labels.len() - 1)
    }

    /// Places a label before the next instruction.
    pub fn place(&mut self, label: Label) {
        self.labels[label.0] = Some(self.instructions.len());
    }

    /// The instructions with their jump offsets; every label that is jumped to was placed.
    pub fn finish(mut self) -> Vec<Instruction> {
        let slots: Vec<i32> = self
            .instructions
            .iter()
            .scan(0, |slot, instruction| {
                let own = *slot;
                *slot += instruction.slots() as i32;
                Some(own)
            })
            .collect();
        for (position, label) in self.jumps {
            let target = self.labels[label.0].expect("a label that is jumped to is placed");
            // Functions end in an exit, so no label is behind the last instruction.
            let distance = slots[target] - slots[position] - 1;
            match &mut self.instructions[position] {
                Instruction::Jump { offset, .. } => *offset = distance,
                Instruction::JumpIf { offset, .. } => {
                    *offset = i16::try_from(distance).expect("functions are short");
                }
                other => unreachable!("`{other}` is no jump"),
            }
        }
        self.instructions
    }
}

/// `goto` as one encoding or the other.
pub fn goto(size: WordSize) -> Instruction {
    Instruction::Jump { size, offset: 0 }
}
