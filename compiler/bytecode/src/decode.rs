//! Turns the slots of one function into instructions.
//!
//! Given: slots, and what relocations say about some of them ([`References`]).
//! Computed: one [`Insn`] per instruction of RFC 9669.
//! Safe because: a slot is taken only if every field has a value that RFC 9669 defines; every jump lands on an
//! instruction of the same function and execution cannot run past its end.

mod malformed;

pub(crate) use malformed::hex;
pub use malformed::{DecodeError, Malformed};

use crate::opcode::{self as op, ALU_OPS, ATOMICS, CONDITIONS, WIDTHS};
use crate::{
    AtomicOp, Callee, Extension, Imm64, Insn, Instruction, Operand, Reg, Slot, SwapKind, SwapWidth, Width, WordSize,
};

/// What the slots of a function refer to, by slot of that function.
pub trait References {
    /// What the `lddw` at `slot` loads, if a relocation says so; else it loads what its fields say.
    fn imm64(&self, slot: u32) -> Option<Imm64>;

    /// The function, of this module or another one, that the `call` with `src` 1 at `slot` calls, its immediate being `imm`; `None` if no
    /// function begins there.
    fn call(&self, slot: u32, imm: i32) -> Option<Callee>;
}

/// No references: `lddw` loads what its fields say, and local calls are errors.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoReferences;

impl References for NoReferences {
    fn imm64(&self, _slot: u32) -> Option<Imm64> {
        None
    }

    fn call(&self, _slot: u32, _imm: i32) -> Option<Callee> {
        None
    }
}

/// Decodes the slots of one function. `line` is `None` in the result.
///
/// # Errors
/// The first slot that is no instruction, or that may not stand where it stands: see [`Malformed`].
pub fn decode(slots: &[Slot], references: &impl References) -> Result<Vec<Insn>, DecodeError> {
    let mut insns = Vec::with_capacity(slots.len());
    let mut rest = slots;
    while let [first, tail @ ..] = rest {
        // The index fits: checked on the first round for the whole function.
        let slot = (slots.len() - rest.len()) as u32;
        let fail = |reason| DecodeError {
            slot,
            bytes: first.to_bytes(),
            reason,
        };
        if slots.len() > crate::MAX_SLOTS {
            return Err(fail(Malformed::TooLong));
        }
        let op = instruction(slot, *first, tail.first().copied(), references).map_err(fail)?;
        insns.push(Insn { slot, op, line: None });
        rest = rest.get(op.slots() as usize..).unwrap_or_default();
    }
    check_flow(slots, &insns)?;
    Ok(insns)
}

/// Checks that control stays inside the function and between instructions.
fn check_flow(slots: &[Slot], insns: &[Insn]) -> Result<(), DecodeError> {
    for insn in insns {
        let fail = |reason| DecodeError {
            slot: insn.slot,
            bytes: slots[insn.slot as usize].to_bytes(),
            reason,
        };
        if let Some(offset) = insn.op.jump_offset() {
            let target = i64::from(insn.slot) + 1 + i64::from(offset);
            let slot = u32::try_from(target)
                .ok()
                .filter(|t| (*t as usize) < slots.len())
                .ok_or_else(|| fail(Malformed::JumpOut(target)))?;
            if insns.binary_search_by_key(&slot, |i| i.slot).is_err() {
                return Err(fail(Malformed::JumpIntoImm64(slot - 1)));
            }
        }
    }
    match insns.last() {
        Some(last) if !matches!(last.op, Instruction::Exit | Instruction::Jump { .. }) => Err(DecodeError {
            slot: last.slot,
            bytes: slots[last.slot as usize].to_bytes(),
            reason: Malformed::RunsPastEnd,
        }),
        _ => Ok(()),
    }
}

fn instruction(
    at: u32,
    slot: Slot,
    next: Option<Slot>,
    references: &impl References,
) -> Result<Instruction, Malformed> {
    match slot.opcode & 7 {
        op::LD => load_imm64_or_packet(at, slot, next, references),
        op::LDX => load(slot),
        op::ST => store_imm(slot),
        op::STX => store_reg_or_atomic(slot),
        op::ALU => alu(slot, WordSize::W32),
        op::ALU64 => alu(slot, WordSize::W64),
        op::JMP => jump(at, slot, WordSize::W64, references),
        _ => jump(at, slot, WordSize::W32, references),
    }
}

/// A register that is read.
fn reg(number: u8) -> Result<Reg, Malformed> {
    Reg::new(number).ok_or(Malformed::Register(number))
}

/// A register that is written.
fn written(number: u8) -> Result<Reg, Malformed> {
    match reg(number)? {
        Reg::R10 => Err(Malformed::WritesFramePointer),
        other => Ok(other),
    }
}

fn unused(field: &'static str, value: impl Into<i64>) -> Result<(), Malformed> {
    if value.into() == 0 {
        Ok(())
    } else {
        Err(Malformed::Reserved(field))
    }
}

fn width(opcode: u8) -> Width {
    let size = opcode & 0x18;
    WIDTHS
        .iter()
        .find(|(code, _)| *code == size)
        .map_or(Width::Dw, |(_, w)| *w)
}

/// The second operand that bit `X` selects; the field of the other form must be zero.
fn operand(slot: Slot) -> Result<Operand, Malformed> {
    if slot.opcode & op::X == 0 {
        unused("src", slot.src)?;
        Ok(Operand::Imm(slot.imm))
    } else {
        unused("imm", slot.imm)?;
        Ok(Operand::Reg(reg(slot.src)?))
    }
}

/// RFC 9669 §4.1 and §4.2.
fn alu(slot: Slot, size: WordSize) -> Result<Instruction, Malformed> {
    match slot.opcode & 0xf0 {
        op::NEG => {
            if slot.opcode & op::X != 0 {
                return Err(Malformed::Opcode(slot.opcode));
            }
            unused("src", slot.src)?;
            unused("offset", slot.offset)?;
            unused("imm", slot.imm)?;
            let dst = written(slot.dst)?;
            Ok(Instruction::Neg { size, dst })
        }
        op::END => byte_swap(slot, size),
        code => {
            let mut found = ALU_OPS.iter().filter(|(c, ..)| *c == code).peekable();
            if found.peek().is_none() {
                return Err(Malformed::Opcode(slot.opcode));
            }
            let dst = written(slot.dst)?;
            let src = operand(slot)?;
            if let Some((_, _, op)) = found.find(|(_, offset, _)| *offset == slot.offset) {
                return Ok(Instruction::Alu {
                    size,
                    op: *op,
                    dst,
                    src,
                });
            }
            let from = match (slot.offset, size) {
                (8, _) => Extension::S8,
                (16, _) => Extension::S16,
                (32, WordSize::W64) => Extension::S32,
                _ => return Err(Malformed::Variant(slot.offset)),
            };
            match (code, src) {
                (op::MOV, Operand::Reg(src)) => Ok(Instruction::Movsx { size, from, dst, src }),
                _ => Err(Malformed::Variant(slot.offset)),
            }
        }
    }
}

/// RFC 9669 §4.2.
fn byte_swap(slot: Slot, size: WordSize) -> Result<Instruction, Malformed> {
    let kind = match (size, slot.opcode & op::X) {
        (WordSize::W32, 0) => SwapKind::ToLe,
        (WordSize::W32, _) => SwapKind::ToBe,
        (WordSize::W64, 0) => SwapKind::Swap,
        (WordSize::W64, _) => return Err(Malformed::Opcode(slot.opcode)),
    };
    unused("src", slot.src)?;
    unused("offset", slot.offset)?;
    let width = match slot.imm {
        16 => SwapWidth::W16,
        32 => SwapWidth::W32,
        64 => SwapWidth::W64,
        other => return Err(Malformed::SwapWidth(other)),
    };
    let dst = written(slot.dst)?;
    Ok(Instruction::ByteSwap { kind, width, dst })
}

/// RFC 9669 §4.3.
fn jump(at: u32, slot: Slot, size: WordSize, references: &impl References) -> Result<Instruction, Malformed> {
    let code = slot.opcode & 0xf0;
    if let Some((_, condition)) = CONDITIONS.iter().find(|(c, _)| *c == code) {
        return Ok(Instruction::JumpIf {
            size,
            condition: *condition,
            dst: reg(slot.dst)?,
            src: operand(slot)?,
            offset: slot.offset,
        });
    }
    match (code, slot.opcode & op::X, size) {
        (op::JA, 0, _) => {
            unused("dst", slot.dst)?;
            unused("src", slot.src)?;
            let offset = if size == WordSize::W64 {
                unused("imm", slot.imm)?;
                i32::from(slot.offset)
            } else {
                unused("offset", slot.offset)?;
                slot.imm
            };
            Ok(Instruction::Jump { size, offset })
        }
        (op::CALL, 0, WordSize::W64) => {
            unused("dst", slot.dst)?;
            unused("offset", slot.offset)?;
            match slot.src {
                op::CALL_HELPER => Ok(Instruction::Call(Callee::Helper(slot.imm))),
                op::CALL_LOCAL => references
                    .call(at, slot.imm)
                    .map(Instruction::Call)
                    .ok_or(Malformed::LocalCall),
                op::CALL_BTF => Err(Malformed::BtfCall),
                other => Err(Malformed::CallKind(other)),
            }
        }
        (op::CALL, _, WordSize::W64) => {
            unused("src", slot.src)?;
            unused("offset", slot.offset)?;
            // clang puts the register in `dst` since version 19, in `imm` before.
            let number = match (slot.dst, slot.imm) {
                (dst, 0) => dst,
                (0, imm) => u8::try_from(imm).map_err(|_| Malformed::Reserved("imm"))?,
                _ => return Err(Malformed::Reserved("imm")),
            };
            Ok(Instruction::CallX(reg(number)?))
        }
        (op::EXIT, 0, WordSize::W64) => {
            unused("dst", slot.dst)?;
            unused("src", slot.src)?;
            unused("offset", slot.offset)?;
            unused("imm", slot.imm)?;
            Ok(Instruction::Exit)
        }
        _ => Err(Malformed::Opcode(slot.opcode)),
    }
}

/// RFC 9669 §5.4 and §5.5.
fn load_imm64_or_packet(
    at: u32,
    slot: Slot,
    next: Option<Slot>,
    references: &impl References,
) -> Result<Instruction, Malformed> {
    if slot.opcode == op::LDDW {
        return load_imm64(at, slot, next, references);
    }
    let width = match width(slot.opcode) {
        Width::Dw => return Err(Malformed::Opcode(slot.opcode)),
        width => width,
    };
    let index = match slot.opcode & 0xe0 {
        op::ABS => {
            unused("src", slot.src)?;
            None
        }
        op::IND => Some(reg(slot.src)?),
        _ => return Err(Malformed::Opcode(slot.opcode)),
    };
    unused("dst", slot.dst)?;
    unused("offset", slot.offset)?;
    Ok(Instruction::LegacyPacket {
        width,
        index,
        offset: slot.imm,
    })
}

/// RFC 9669 §5.4.
fn load_imm64(at: u32, slot: Slot, next: Option<Slot>, references: &impl References) -> Result<Instruction, Malformed> {
    let next = next.ok_or(Malformed::Truncated)?;
    if (Slot { imm: 0, ..next }) != Slot::default() {
        return Err(Malformed::SecondHalf);
    }
    unused("offset", slot.offset)?;
    let dst = written(slot.dst)?;
    if slot.src > op::LDDW_MAP_VALUE_BY_INDEX {
        return Err(Malformed::Imm64Kind(slot.src));
    }
    if let Some(value) = references.imm64(at) {
        return Ok(Instruction::LoadImm64 { dst, value });
    }
    let value = match slot.src {
        op::LDDW_CONSTANT => {
            Imm64::Constant(u64::from(slot.imm.cast_unsigned()) | (u64::from(next.imm.cast_unsigned()) << 32))
        }
        src => {
            if !matches!(src, op::LDDW_MAP_VALUE | op::LDDW_MAP_VALUE_BY_INDEX) {
                unused("second imm", next.imm)?;
            }
            Imm64::Pseudo {
                src,
                imm: slot.imm,
                next_imm: next.imm,
            }
        }
    };
    Ok(Instruction::LoadImm64 { dst, value })
}

/// RFC 9669 §5.1 and §5.2.
fn load(slot: Slot) -> Result<Instruction, Malformed> {
    let width = width(slot.opcode);
    let signed = match (slot.opcode & 0xe0, width) {
        (op::MEM, _) => false,
        (op::MEMSX, Width::B | Width::H | Width::W) => true,
        _ => return Err(Malformed::Opcode(slot.opcode)),
    };
    unused("imm", slot.imm)?;
    Ok(Instruction::Load {
        width,
        signed,
        dst: written(slot.dst)?,
        base: reg(slot.src)?,
        offset: slot.offset,
    })
}

/// RFC 9669 §5.1.
fn store_imm(slot: Slot) -> Result<Instruction, Malformed> {
    if slot.opcode & 0xe0 != op::MEM {
        return Err(Malformed::Opcode(slot.opcode));
    }
    unused("src", slot.src)?;
    Ok(Instruction::Store {
        width: width(slot.opcode),
        base: reg(slot.dst)?,
        offset: slot.offset,
        src: Operand::Imm(slot.imm),
    })
}

/// RFC 9669 §5.1 and §5.3.
fn store_reg_or_atomic(slot: Slot) -> Result<Instruction, Malformed> {
    let base = reg(slot.dst)?;
    match (slot.opcode & 0xe0, width(slot.opcode)) {
        (op::MEM, width) => {
            unused("imm", slot.imm)?;
            Ok(Instruction::Store {
                width,
                base,
                offset: slot.offset,
                src: Operand::Reg(reg(slot.src)?),
            })
        }
        (op::ATOMIC, Width::W | Width::Dw) => {
            let (_, op) = ATOMICS
                .iter()
                .find(|(imm, _)| *imm == slot.imm)
                .ok_or(Malformed::Atomic(slot.imm))?;
            let returns_in_src = match op {
                AtomicOp::Add { fetch }
                | AtomicOp::Or { fetch }
                | AtomicOp::And { fetch }
                | AtomicOp::Xor { fetch } => *fetch,
                AtomicOp::Xchg => true,
                AtomicOp::Cmpxchg => false,
            };
            Ok(Instruction::Atomic {
                size: if width(slot.opcode) == Width::W {
                    WordSize::W32
                } else {
                    WordSize::W64
                },
                op: *op,
                base,
                offset: slot.offset,
                src: if returns_in_src { written } else { reg }(slot.src)?,
            })
        }
        _ => Err(Malformed::Opcode(slot.opcode)),
    }
}

#[cfg(test)]
mod tests;
