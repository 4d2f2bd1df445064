//! Prints instructions in the syntax of LLVM's disassembler.
//!
//! Where that syntax depends on the target CPU, this is the form of the assembler's input: 32-bit operations name
//! `w` registers, loads and stores name `r` registers. Numbers are hexadecimal, except ids of helpers and functions.

use std::fmt::{self, Display, Formatter};

use crate::{
    AluOp, AtomicOp, Callee, Condition, Extension, Imm64, Instruction, Operand, Reg, SwapKind, SwapWidth, Width,
    WordSize,
};

impl Display for Reg {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "r{}", self.number())
    }
}

/// A number with its sign, hexadecimal: `0x5`, `-0x5`.
struct Hex(i64);

impl Display for Hex {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let sign = if self.0 < 0 { "-" } else { "" };
        write!(f, "{sign}{:#x}", self.0.unsigned_abs())
    }
}

/// A jump distance, always with its sign: `+0x5`.
struct Distance(i64);

impl Display for Distance {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let sign = if self.0 < 0 { '-' } else { '+' };
        write!(f, "{sign}{:#x}", self.0.unsigned_abs())
    }
}

/// An address: `r1 - 0x4`.
struct Address(Reg, i16);

impl Display for Address {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let sign = if self.1 < 0 { '-' } else { '+' };
        write!(f, "{} {sign} {:#x}", self.0, self.1.unsigned_abs())
    }
}

/// A register under the name of the operation's size.
struct Sized(WordSize, Reg);

impl Display for Sized {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let letter = match self.0 {
            WordSize::W32 => 'w',
            WordSize::W64 => 'r',
        };
        write!(f, "{letter}{}", self.1.number())
    }
}

struct SizedOperand(WordSize, Operand);

impl Display for SizedOperand {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self.1 {
            Operand::Reg(reg) => Sized(self.0, reg).fmt(f),
            Operand::Imm(imm) => Hex(i64::from(imm)).fmt(f),
        }
    }
}

fn bits(width: Width) -> u32 {
    width.bytes() * 8
}

impl Display for Instruction {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match *self {
            Instruction::Alu { size, op, dst, src } => {
                let op = alu_symbol(op);
                write!(f, "{} {op}= {}", Sized(size, dst), SizedOperand(size, src))
            }
            Instruction::Movsx { size, from, dst, src } => {
                let from = match from {
                    Extension::S8 => 8,
                    Extension::S16 => 16,
                    Extension::S32 => 32,
                };
                write!(f, "{} = (s{from}){}", Sized(size, dst), Sized(size, src))
            }
            Instruction::Neg { size, dst } => write!(f, "{0} = -{0}", Sized(size, dst)),
            Instruction::ByteSwap { kind, width, dst } => {
                let kind = match kind {
                    SwapKind::ToLe => "le",
                    SwapKind::ToBe => "be",
                    SwapKind::Swap => "bswap",
                };
                let width = match width {
                    SwapWidth::W16 => 16,
                    SwapWidth::W32 => 32,
                    SwapWidth::W64 => 64,
                };
                write!(f, "{dst} = {kind}{width} {dst}")
            }
            Instruction::LoadImm64 { dst, value } => match value {
                Imm64::Constant(value) => write!(f, "{dst} = {} ll", Hex(value.cast_signed())),
                Imm64::Map(map) => write!(f, "{dst} = map {} ll", map.0),
                Imm64::Global { section, offset } => write!(f, "{dst} = global {} + {offset:#x} ll", section.0),
                Imm64::Pseudo { src, imm, next_imm } => {
                    write!(
                        f,
                        "{dst} = pseudo {src}, {}, {} ll",
                        Hex(i64::from(imm)),
                        Hex(i64::from(next_imm))
                    )
                }
            },
            Instruction::Load {
                width,
                signed,
                dst,
                base,
                offset,
            } => {
                let sign = if signed { 's' } else { 'u' };
                write!(f, "{dst} = *({sign}{} *)({})", bits(width), Address(base, offset))
            }
            Instruction::Store {
                width,
                base,
                offset,
                src,
            } => {
                let src = SizedOperand(WordSize::W64, src);
                write!(f, "*(u{} *)({}) = {src}", bits(width), Address(base, offset))
            }
            Instruction::Atomic {
                size,
                op,
                base,
                offset,
                src,
            } => atomic(f, size, op, &Address(base, offset), &Sized(size, src)),
            Instruction::Jump { size, offset } => {
                let name = match size {
                    WordSize::W32 => "gotol",
                    WordSize::W64 => "goto",
                };
                write!(f, "{name} {}", Distance(i64::from(offset)))
            }
            Instruction::JumpIf {
                size,
                condition,
                dst,
                src,
                offset,
            } => write!(
                f,
                "if {} {} {} goto {}",
                Sized(size, dst),
                condition_symbol(condition),
                SizedOperand(size, src),
                Distance(i64::from(offset))
            ),
            Instruction::Call(Callee::Helper(id)) => write!(f, "call {id}"),
            Instruction::Call(Callee::Local(function)) => write!(f, "call function {}", function.0),
            Instruction::Call(Callee::Btf(function)) => write!(f, "call btf function {}", function.0),
            Instruction::CallX(reg) => write!(f, "callx {reg}"),
            Instruction::LegacyPacket { width, index, offset } => {
                write!(f, "r0 = *(u{} *)skb[", bits(width))?;
                match (index, offset) {
                    (Some(index), 0) => write!(f, "{index}]"),
                    (Some(index), _) => write!(f, "{index} + {}]", Hex(i64::from(offset))),
                    (None, _) => write!(f, "{}]", Hex(i64::from(offset))),
                }
            }
            Instruction::Exit => f.write_str("exit"),
        }
    }
}

fn atomic(f: &mut Formatter<'_>, size: WordSize, op: AtomicOp, address: &Address, src: &Sized) -> fmt::Result {
    let (bits, exchange) = match size {
        WordSize::W32 => (32, "32_32"),
        WordSize::W64 => (64, "_64"),
    };
    let (symbol, name, fetch) = match op {
        AtomicOp::Add { fetch } => ("+=", "add", fetch),
        AtomicOp::Or { fetch } => ("|=", "or", fetch),
        AtomicOp::And { fetch } => ("&=", "and", fetch),
        AtomicOp::Xor { fetch } => ("^=", "xor", fetch),
        AtomicOp::Xchg => return write!(f, "{src} = xchg{exchange}({address}, {src})"),
        AtomicOp::Cmpxchg => {
            let r0 = Sized(size, Reg::R0);
            return write!(f, "{r0} = cmpxchg{exchange}({address}, {r0}, {src})");
        }
    };
    if fetch {
        write!(f, "{src} = atomic_fetch_{name}((u{bits} *)({address}), {src})")
    } else {
        write!(f, "lock *(u{bits} *)({address}) {symbol} {src}")
    }
}

fn alu_symbol(op: AluOp) -> &'static str {
    match op {
        AluOp::Add => "+",
        AluOp::Sub => "-",
        AluOp::Mul => "*",
        AluOp::Div => "/",
        AluOp::Sdiv => "s/",
        AluOp::Or => "|",
        AluOp::And => "&",
        AluOp::Lsh => "<<",
        AluOp::Rsh => ">>",
        AluOp::Mod => "%",
        AluOp::Smod => "s%",
        AluOp::Xor => "^",
        AluOp::Mov => "",
        AluOp::Arsh => "s>>",
    }
}

fn condition_symbol(condition: Condition) -> &'static str {
    match condition {
        Condition::Eq => "==",
        Condition::Gt => ">",
        Condition::Ge => ">=",
        Condition::Set => "&",
        Condition::Ne => "!=",
        Condition::Sgt => "s>",
        Condition::Sge => "s>=",
        Condition::Lt => "<",
        Condition::Le => "<=",
        Condition::Slt => "s<",
        Condition::Sle => "s<=",
    }
}
