//! Changes one instruction a little, whatever it was.

use bpf2sys_bytecode::{AluOp, Condition, Instruction, Module, Operand, Reg, Width, WordSize};
use bpf2sys_isa_tests::Random;

/// Changes an instruction of a random function. Places and lengths stay.
pub(super) fn mutate(random: &mut Random, module: &mut Module) {
    let function = random.below(module.functions.len());
    let instructions = &mut module.functions[function].instructions;
    for _ in 0..20 {
        let at = random.below(instructions.len());
        if let Some(changed) = changed(random, instructions[at].op) {
            instructions[at].op = changed;
            return;
        }
    }
}

fn changed(random: &mut Random, op: Instruction) -> Option<Instruction> {
    let by = random.one_of(&[-8, -4, -1, 1, 1, 2, 4, 8]);
    let other = |random: &mut Random, register: Reg| {
        let number = random.below(10) as u8;
        Reg::new(number).filter(|r| *r != register)
    };
    let operand = |random: &mut Random, src: Operand| match src {
        Operand::Imm(imm) => Some(Operand::Imm(imm.wrapping_add(by))),
        Operand::Reg(register) => other(random, register).map(Operand::Reg),
    };
    Some(match op {
        Instruction::Alu { size, op, dst, src } => match random.below(4) {
            0 => Instruction::Alu {
                size: if size == WordSize::W64 {
                    WordSize::W32
                } else {
                    WordSize::W64
                },
                op,
                dst,
                src,
            },
            1 if op != AluOp::Mov => Instruction::Alu {
                size,
                op: random.one_of(&AluOp::ALL),
                dst,
                src,
            },
            _ => Instruction::Alu {
                size,
                op,
                dst,
                src: operand(random, src)?,
            },
        },
        Instruction::Load {
            width,
            signed,
            dst,
            base,
            offset,
        } => match random.below(4) {
            0 => Instruction::Load {
                width: random.one_of(&[Width::B, Width::H, Width::W, Width::Dw]),
                signed: false,
                dst,
                base,
                offset,
            },
            1 => Instruction::Load {
                width,
                signed,
                dst,
                base: other(random, base)?,
                offset,
            },
            _ => Instruction::Load {
                width,
                signed,
                dst,
                base,
                offset: offset.wrapping_add(by as i16),
            },
        },
        Instruction::Store {
            width,
            base,
            offset,
            src,
        } => match random.below(4) {
            0 => Instruction::Store {
                width: random.one_of(&[Width::B, Width::H, Width::W, Width::Dw]),
                base,
                offset,
                src,
            },
            1 => Instruction::Store {
                width,
                base,
                offset,
                src: operand(random, src)?,
            },
            _ => Instruction::Store {
                width,
                base,
                offset: offset.wrapping_add(by as i16),
                src,
            },
        },
        Instruction::JumpIf {
            size,
            condition,
            dst,
            src,
            offset,
        } => match random.below(4) {
            0 => Instruction::JumpIf {
                size: if size == WordSize::W64 {
                    WordSize::W32
                } else {
                    WordSize::W64
                },
                condition,
                dst,
                src,
                offset,
            },
            1 => Instruction::JumpIf {
                size,
                condition: random.one_of(&Condition::ALL),
                dst,
                src,
                offset,
            },
            // Never taken.
            2 => Instruction::JumpIf {
                size: WordSize::W64,
                condition,
                dst,
                src,
                offset: 0,
            },
            _ => Instruction::JumpIf {
                size,
                condition,
                dst,
                src: operand(random, src)?,
                offset,
            },
        },
        Instruction::Atomic {
            size,
            op,
            base,
            offset,
            src,
        } => Instruction::Atomic {
            size,
            op,
            base,
            offset: offset.wrapping_add(by as i16),
            src,
        },
        _ => return None,
    })
}
