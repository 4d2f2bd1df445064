//! Instructions of sequences, written short.

use bpf2sys_bytecode::{
    AluOp, Callee, Condition, Extension, Instruction, Operand, Reg, SwapKind, SwapWidth, Width, WordSize,
};

pub(crate) fn register(number: u8) -> Reg {
    Reg::new(number).unwrap_or(Reg::R0)
}

pub(crate) fn mov(dst: Reg, value: i32) -> Instruction {
    alu(AluOp::Mov, dst, Operand::Imm(value))
}

pub(crate) fn copy(dst: Reg, src: Reg) -> Instruction {
    alu(AluOp::Mov, dst, Operand::Reg(src))
}

pub(crate) fn alu(op: AluOp, dst: Reg, src: Operand) -> Instruction {
    let size = WordSize::W64;
    Instruction::Alu { size, op, dst, src }
}

pub(crate) fn alu32(op: AluOp, dst: Reg, src: Operand) -> Instruction {
    let size = WordSize::W32;
    Instruction::Alu { size, op, dst, src }
}

/// Sign-extends the lower 32 bits.
pub(crate) fn sign32(register: Reg) -> Instruction {
    Instruction::Movsx {
        size: WordSize::W64,
        from: Extension::S32,
        dst: register,
        src: register,
    }
}

/// Swaps the lower 16 bits and clears the others.
pub(crate) fn swap16(dst: Reg) -> Instruction {
    Instruction::ByteSwap {
        kind: SwapKind::ToBe,
        width: SwapWidth::W16,
        dst,
    }
}

pub(crate) fn load(width: Width, dst: Reg, base: Reg, offset: i16) -> Instruction {
    Instruction::Load {
        width,
        signed: false,
        dst,
        base,
        offset,
    }
}

pub(crate) fn store(width: Width, base: Reg, offset: i16, src: Operand) -> Instruction {
    Instruction::Store {
        width,
        base,
        offset,
        src,
    }
}

/// Skips as many slots unless the lower 32 bits of the register are `value`.
pub(crate) fn unless_equal(dst: Reg, value: i32, skip: i16) -> Instruction {
    jump(WordSize::W32, Condition::Ne, dst, Operand::Imm(value), skip)
}

pub(crate) fn jump(size: WordSize, condition: Condition, dst: Reg, src: Operand, offset: i16) -> Instruction {
    Instruction::JumpIf {
        size,
        condition,
        dst,
        src,
        offset,
    }
}

/// Skips as many slots.
pub(crate) fn skip(slots: i32) -> Instruction {
    Instruction::Jump {
        size: WordSize::W64,
        offset: slots,
    }
}

pub(crate) fn call(helper: u32) -> Instruction {
    Instruction::Call(Callee::Helper(helper.cast_signed()))
}

pub(crate) fn width(bytes: u32) -> Option<Width> {
    Some(match bytes {
        1 => Width::B,
        2 => Width::H,
        4 => Width::W,
        8 => Width::Dw,
        _ => return None,
    })
}
