//! Results of arithmetic, byte swaps and comparisons, as RFC 9669 §4 defines them, on plain integers.

#![allow(clippy::match_same_arms)] // one line for each line of the RFC's tables, in their order

use bpf2sys_bytecode::{AluOp, Condition, Extension, SwapKind, SwapWidth};

/// `ALU64` (§4.1): 64-bit operands. Overflow wraps; shift counts are masked with 63.
pub(super) fn alu64(op: AluOp, dst: u64, src: u64) -> u64 {
    match op {
        AluOp::Add => dst.wrapping_add(src),
        AluOp::Sub => dst.wrapping_sub(src),
        AluOp::Mul => dst.wrapping_mul(src),
        AluOp::Div if src == 0 => 0,
        AluOp::Div => dst / src,
        AluOp::Sdiv if src == 0 => 0,
        AluOp::Sdiv => dst.cast_signed().wrapping_div(src.cast_signed()).cast_unsigned(),
        AluOp::Or => dst | src,
        AluOp::And => dst & src,
        AluOp::Lsh => dst << (src & 0x3F),
        AluOp::Rsh => dst >> (src & 0x3F),
        AluOp::Mod if src == 0 => dst,
        AluOp::Mod => dst % src,
        AluOp::Smod if src == 0 => dst,
        AluOp::Smod => dst.cast_signed().wrapping_rem(src.cast_signed()).cast_unsigned(),
        AluOp::Xor => dst ^ src,
        AluOp::Mov => src,
        AluOp::Arsh => (dst.cast_signed() >> (src & 0x3F)).cast_unsigned(),
    }
}

/// `ALU` (§4.1): 32-bit operands. The caller zeroes the upper half of the register, also after a modulo by zero.
pub(super) fn alu32(op: AluOp, dst: u32, src: u32) -> u32 {
    match op {
        AluOp::Add => dst.wrapping_add(src),
        AluOp::Sub => dst.wrapping_sub(src),
        AluOp::Mul => dst.wrapping_mul(src),
        AluOp::Div if src == 0 => 0,
        AluOp::Div => dst / src,
        AluOp::Sdiv if src == 0 => 0,
        AluOp::Sdiv => dst.cast_signed().wrapping_div(src.cast_signed()).cast_unsigned(),
        AluOp::Or => dst | src,
        AluOp::And => dst & src,
        AluOp::Lsh => dst << (src & 0x1F),
        AluOp::Rsh => dst >> (src & 0x1F),
        AluOp::Mod if src == 0 => dst,
        AluOp::Mod => dst % src,
        AluOp::Smod if src == 0 => dst,
        AluOp::Smod => dst.cast_signed().wrapping_rem(src.cast_signed()).cast_unsigned(),
        AluOp::Xor => dst ^ src,
        AluOp::Mov => src,
        AluOp::Arsh => (dst.cast_signed() >> (src & 0x1F)).cast_unsigned(),
    }
}

/// `MOVSX` (§4.1): the low bits, sign-extended to 64. `ALU` takes the low half of that.
pub(super) fn sign_extend(from: Extension, src: u64) -> u64 {
    match from {
        Extension::S8 => i64::from(src as u8 as i8).cast_unsigned(),
        Extension::S16 => i64::from(src as u16 as i16).cast_unsigned(),
        Extension::S32 => i64::from(src as u32 as i32).cast_unsigned(),
    }
}

/// `END` (§4.2). The host of an eBPF program is little-endian here, as Windows is, whatever machine interprets it.
pub(super) fn byte_swap(kind: SwapKind, width: SwapWidth, dst: u64) -> u64 {
    match (kind, width) {
        (SwapKind::ToLe, SwapWidth::W16) => u64::from(dst as u16),
        (SwapKind::ToLe, SwapWidth::W32) => u64::from(dst as u32),
        (SwapKind::ToLe, SwapWidth::W64) => dst,
        (SwapKind::ToBe | SwapKind::Swap, SwapWidth::W16) => u64::from((dst as u16).swap_bytes()),
        (SwapKind::ToBe | SwapKind::Swap, SwapWidth::W32) => u64::from((dst as u32).swap_bytes()),
        (SwapKind::ToBe | SwapKind::Swap, SwapWidth::W64) => dst.swap_bytes(),
    }
}

/// Conditions of `JMP` (§4.3): 64-bit operands.
pub fn holds64(condition: Condition, dst: u64, src: u64) -> bool {
    match condition {
        Condition::Eq => dst == src,
        Condition::Gt => dst > src,
        Condition::Ge => dst >= src,
        Condition::Set => dst & src != 0,
        Condition::Ne => dst != src,
        Condition::Sgt => dst.cast_signed() > src.cast_signed(),
        Condition::Sge => dst.cast_signed() >= src.cast_signed(),
        Condition::Lt => dst < src,
        Condition::Le => dst <= src,
        Condition::Slt => dst.cast_signed() < src.cast_signed(),
        Condition::Sle => dst.cast_signed() <= src.cast_signed(),
    }
}

/// Conditions of `JMP32` (§4.3): 32-bit operands.
pub fn holds32(condition: Condition, dst: u32, src: u32) -> bool {
    match condition {
        Condition::Eq => dst == src,
        Condition::Gt => dst > src,
        Condition::Ge => dst >= src,
        Condition::Set => dst & src != 0,
        Condition::Ne => dst != src,
        Condition::Sgt => dst.cast_signed() > src.cast_signed(),
        Condition::Sge => dst.cast_signed() >= src.cast_signed(),
        Condition::Lt => dst < src,
        Condition::Le => dst <= src,
        Condition::Slt => dst.cast_signed() < src.cast_signed(),
        Condition::Sle => dst.cast_signed() <= src.cast_signed(),
    }
}
