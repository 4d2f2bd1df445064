//! Turns an instruction back into its slots.

use crate::opcode::{self as op, ALU_OPS, ATOMICS, CONDITIONS, WIDTHS};
use crate::{
    AluOp, AtomicOp, BtfFunctionIndex, Callee, Condition, Extension, FunctionIndex, GlobalIndex, Imm64, Instruction,
    MapIndex, Operand, Reg, Slot, SwapKind, SwapWidth, Width, WordSize,
};

/// What an instruction refers to, which its encoding expresses by a number of the loader's choice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Reference {
    /// A map: the number is its file descriptor (`lddw` with `src` 1).
    Map(MapIndex),
    /// A global variable section: the number is the descriptor of the map behind it (`lddw` with `src` 2).
    Global(GlobalIndex),
    /// A function: the number is the distance in slots from the instruction after the call (`call` with `src` 1).
    Function(FunctionIndex),
    /// A BTF-resolved function: the number is its BTF type id (`call` with `src` 2).
    BtfFunction(BtfFunctionIndex),
}

/// The slots of one instruction.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Encoded {
    /// The first or only slot.
    pub first: Slot,
    /// The second slot of `lddw`.
    pub second: Option<Slot>,
}

impl IntoIterator for Encoded {
    type Item = Slot;
    type IntoIter = std::iter::Chain<std::iter::Once<Slot>, std::option::IntoIter<Slot>>;

    fn into_iter(self) -> Self::IntoIter {
        std::iter::once(self.first).chain(self.second)
    }
}

/// Encodes an instruction as RFC 9669 says; `number` gives the numbers for what it refers to.
pub fn encode(instruction: &Instruction, number: impl FnOnce(Reference) -> i32) -> Encoded {
    let mut second = None;
    let first = match *instruction {
        Instruction::Alu { size, op, dst, src } => {
            let (code, offset) = alu_code(op);
            with_operand(alu_class(size) | code, dst, src, offset)
        }
        Instruction::Movsx { size, from, dst, src } => {
            let offset = match from {
                Extension::S8 => 8,
                Extension::S16 => 16,
                Extension::S32 => 32,
            };
            with_operand(alu_class(size) | alu_code(AluOp::Mov).0, dst, Operand::Reg(src), offset)
        }
        Instruction::Neg { size, dst } => Slot {
            opcode: alu_class(size) | op::NEG,
            dst: dst.number(),
            ..Slot::default()
        },
        Instruction::ByteSwap { kind, width, dst } => Slot {
            opcode: op::END
                | match kind {
                    SwapKind::ToLe => op::ALU,
                    SwapKind::ToBe => op::ALU | op::X,
                    SwapKind::Swap => op::ALU64,
                },
            dst: dst.number(),
            imm: match width {
                SwapWidth::W16 => 16,
                SwapWidth::W32 => 32,
                SwapWidth::W64 => 64,
            },
            ..Slot::default()
        },
        Instruction::LoadImm64 { dst, value } => {
            let (src, imm, next_imm) = match value {
                Imm64::Constant(value) => (op::LDDW_CONSTANT, value as i32, (value >> 32) as i32),
                Imm64::Map(map) => (op::LDDW_MAP, number(Reference::Map(map)), 0),
                Imm64::Global { section, offset } => (
                    op::LDDW_MAP_VALUE,
                    number(Reference::Global(section)),
                    offset.cast_signed(),
                ),
                Imm64::Pseudo { src, imm, next_imm } => (src, imm, next_imm),
            };
            second = Some(Slot {
                imm: next_imm,
                ..Slot::default()
            });
            Slot {
                opcode: op::LDDW,
                dst: dst.number(),
                src,
                imm,
                ..Slot::default()
            }
        }
        Instruction::Load {
            width,
            signed,
            dst,
            base,
            offset,
        } => Slot {
            opcode: op::LDX | size_code(width) | if signed { op::MEMSX } else { op::MEM },
            dst: dst.number(),
            src: base.number(),
            offset,
            imm: 0,
        },
        Instruction::Store {
            width,
            base,
            offset,
            src,
        } => {
            let (class, src, imm) = match src {
                Operand::Reg(src) => (op::STX, src.number(), 0),
                Operand::Imm(imm) => (op::ST, 0, imm),
            };
            Slot {
                opcode: class | op::MEM | size_code(width),
                dst: base.number(),
                src,
                offset,
                imm,
            }
        }
        Instruction::Atomic {
            size,
            op,
            base,
            offset,
            src,
        } => Slot {
            opcode: op::STX
                | op::ATOMIC
                | size_code(match size {
                    WordSize::W32 => Width::W,
                    WordSize::W64 => Width::Dw,
                }),
            dst: base.number(),
            src: src.number(),
            offset,
            imm: atomic_code(op),
        },
        Instruction::Jump {
            size: WordSize::W64,
            offset,
        } => Slot {
            opcode: op::JMP | op::JA,
            offset: offset as i16,
            ..Slot::default()
        },
        Instruction::Jump {
            size: WordSize::W32,
            offset,
        } => Slot {
            opcode: op::JMP32 | op::JA,
            imm: offset,
            ..Slot::default()
        },
        Instruction::JumpIf {
            size,
            condition,
            dst,
            src,
            offset,
        } => {
            let class = match size {
                WordSize::W32 => op::JMP32,
                WordSize::W64 => op::JMP,
            };
            with_operand(class | condition_code(condition), dst, src, offset)
        }
        Instruction::Call(callee) => {
            let (src, imm) = match callee {
                Callee::Helper(id) => (op::CALL_HELPER, id),
                Callee::Local(function) => (op::CALL_LOCAL, number(Reference::Function(function))),
                Callee::Btf(function) => (op::CALL_BTF, number(Reference::BtfFunction(function))),
            };
            Slot {
                opcode: op::CALL_IMM,
                src,
                imm,
                ..Slot::default()
            }
        }
        Instruction::CallX(register) => Slot {
            opcode: op::CALL_IMM | op::X,
            dst: register.number(),
            ..Slot::default()
        },
        Instruction::LegacyPacket { width, index, offset } => Slot {
            opcode: op::LD | size_code(width) | if index.is_some() { op::IND } else { op::ABS },
            src: index.map_or(0, Reg::number),
            imm: offset,
            ..Slot::default()
        },
        Instruction::Exit => Slot {
            opcode: op::JMP | op::EXIT,
            ..Slot::default()
        },
    };
    Encoded { first, second }
}

fn with_operand(opcode: u8, dst: Reg, src: Operand, offset: i16) -> Slot {
    let (opcode, src, imm) = match src {
        Operand::Reg(src) => (opcode | op::X, src.number(), 0),
        Operand::Imm(imm) => (opcode, 0, imm),
    };
    Slot {
        opcode,
        dst: dst.number(),
        src,
        offset,
        imm,
    }
}

fn alu_class(size: WordSize) -> u8 {
    match size {
        WordSize::W32 => op::ALU,
        WordSize::W64 => op::ALU64,
    }
}

// The tables of `opcode` list every variant; the tests encode each.

fn alu_code(op: AluOp) -> (u8, i16) {
    ALU_OPS
        .iter()
        .find(|(.., o)| *o == op)
        .map_or((0, 0), |(code, offset, _)| (*code, *offset))
}

fn size_code(width: Width) -> u8 {
    WIDTHS.iter().find(|(_, w)| *w == width).map_or(0, |(code, _)| *code)
}

fn condition_code(condition: Condition) -> u8 {
    CONDITIONS
        .iter()
        .find(|(_, c)| *c == condition)
        .map_or(0, |(code, _)| *code)
}

fn atomic_code(op: AtomicOp) -> i32 {
    ATOMICS.iter().find(|(_, a)| *a == op).map_or(0, |(imm, _)| *imm)
}
