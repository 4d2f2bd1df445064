//! Numbers in texts.

use bpf2sys_bytecode::{AluOp, Condition, Instruction, Operand, Reg, Width};

use super::EINVAL;
use super::code::Code;
use crate::sequence::{alu, copy, load, mov, register, store};

/// `-ERANGE` of Linux.
const ERANGE: i32 = -34;
/// The bits of the flags that are the base.
const BASE: i32 = 0x1f;
/// Most characters behind the sign that are looked at.
const MOST: i32 = 63;

/// `bpf_strtol` (signed) or `bpf_strtoul`: memory, its size, flags, and where the number goes. Gives how many characters it took.
///
/// White space and a sign may come first. Base 0 is told by how the digits begin: `0x` and a digit is 16, `0` is 8, and anything else 10.
pub(super) fn read_number(signed: bool) -> Code {
    let (memory, size, base, result, at) = (Reg::R1, register(2), register(3), register(4), register(5));
    // `end`: how far it looks; `character`: at `at`, or 0 there; `digits`: where they begin.
    let (negative, value, end, character, digits) = (register(6), register(7), register(8), Reg::R0, register(9));
    let imm = Operand::Imm;
    let mut code = Code::default();
    // What it leaves where it fails.
    code.op(store(Width::Dw, result, 0, imm(0)))
        .jump_if(Condition::Eq, size, imm(0), "invalid")
        .jump_if(Condition::Gt, base, imm(BASE), "invalid")
        .jump_if(Condition::Eq, base, imm(0), "based")
        .jump_if(Condition::Eq, base, imm(8), "based")
        .jump_if(Condition::Eq, base, imm(10), "based")
        .jump_if(Condition::Ne, base, imm(16), "invalid")
        .label("based")
        .op(mov(at, 0))
        .op(mov(negative, 0))
        .label("space")
        .jump_if(Condition::Ge, at, Operand::Reg(size), "invalid");
    read(&mut code, memory, at, character);
    code.jump_if(Condition::Eq, character, imm(0x20), "more_space")
        .jump_if(Condition::Eq, character, imm(0xa0), "more_space")
        .jump_if(Condition::Lt, character, imm(0x09), "sign")
        .jump_if(Condition::Gt, character, imm(0x0d), "sign")
        .label("more_space")
        .op(alu(AluOp::Add, at, imm(1)))
        .jump("space")
        .label("sign")
        .jump_if(Condition::Ne, character, imm('-' as i32), "unsigned")
        .op(mov(negative, 1))
        .op(alu(AluOp::Add, at, imm(1)))
        .jump_if(Condition::Ge, at, Operand::Reg(size), "invalid")
        .label("unsigned")
        .op(copy(end, at))
        .op(alu(AluOp::Add, end, imm(MOST)))
        .jump_if(Condition::Le, end, Operand::Reg(size), "ends")
        .op(copy(end, size))
        .label("ends");
    prefix(&mut code, (memory, at, end), base, (character, digits, value));
    code.op(mov(value, 0))
        .op(copy(digits, at))
        .label("digit")
        .jump_if(Condition::Ge, at, Operand::Reg(end), "read");
    read(&mut code, memory, at, character);
    code.jump_if(Condition::Lt, character, imm('0' as i32), "read")
        .jump_if(Condition::Le, character, imm('9' as i32), "decimal")
        .op(alu(AluOp::Or, character, imm(0x20)))
        .jump_if(Condition::Lt, character, imm('a' as i32), "read")
        .jump_if(Condition::Gt, character, imm('f' as i32), "read")
        .op(alu(AluOp::Sub, character, imm('a' as i32 - '0' as i32 - 10)))
        .label("decimal")
        .op(alu(AluOp::Sub, character, imm('0' as i32)))
        .jump_if(Condition::Ge, character, Operand::Reg(base), "read");
    // Whether it still fits: value <= (2^64 - 1 - digit) / base. No register is free but that of the size, which is needed no more.
    let limit = size;
    code.op(mov(limit, -1))
        .op(alu(AluOp::Sub, limit, Operand::Reg(character)))
        .op(alu(AluOp::Div, limit, Operand::Reg(base)))
        .jump_if(Condition::Gt, value, Operand::Reg(limit), "overflow")
        .op(alu(AluOp::Mul, value, Operand::Reg(base)))
        .op(alu(AluOp::Add, value, Operand::Reg(character)))
        .op(alu(AluOp::Add, at, imm(1)))
        .jump("digit")
        .label("read")
        .jump_if(Condition::Eq, at, Operand::Reg(digits), "invalid");
    if signed {
        code.jump_if(Condition::Eq, negative, imm(0), "positive")
            .op(Instruction::Neg {
                size: bpf2sys_bytecode::WordSize::W64,
                dst: value,
            })
            .jump_if(Condition::Sgt, value, imm(0), "overflow")
            .jump("store")
            .label("positive")
            .jump_if(Condition::Slt, value, imm(0), "overflow")
            .label("store");
    } else {
        code.jump_if(Condition::Ne, negative, imm(0), "invalid");
    }
    code.op(store(Width::Dw, result, 0, Operand::Reg(value)))
        .op(copy(Reg::R0, at))
        .op(Instruction::Exit)
        .label("overflow")
        .op(mov(Reg::R0, ERANGE))
        .op(Instruction::Exit)
        .label("invalid")
        .op(mov(Reg::R0, EINVAL))
        .op(Instruction::Exit);
    code
}

/// The byte at an index of the memory.
fn read(code: &mut Code, memory: Reg, at: Reg, character: Reg) {
    code.op(copy(character, memory))
        .op(alu(AluOp::Add, character, Operand::Reg(at)))
        .op(load(Width::B, character, character, 0));
}

/// Finds the base, and skips the `0x` of 16.
fn prefix(code: &mut Code, (memory, at, end): (Reg, Reg, Reg), base: Reg, (character, is_hex, place): (Reg, Reg, Reg)) {
    let imm = Operand::Imm;
    // `is_hex`: it begins with `0x`; 2 if a digit of that base comes then.
    code.op(mov(is_hex, 0));
    read(code, memory, at, character);
    code.jump_if(Condition::Ne, character, imm('0' as i32), "begun")
        .op(mov(is_hex, 3))
        .op(copy(place, at))
        .op(alu(AluOp::Add, place, imm(1)))
        .jump_if(Condition::Ge, place, Operand::Reg(end), "begun");
    read(code, memory, place, character);
    code.op(alu(AluOp::Or, character, imm(0x20)))
        .jump_if(Condition::Ne, character, imm('x' as i32), "begun")
        .op(mov(is_hex, 1))
        .op(alu(AluOp::Add, place, imm(1)))
        .jump_if(Condition::Ge, place, Operand::Reg(end), "begun");
    read(code, memory, place, character);
    code.jump_if(Condition::Lt, character, imm('0' as i32), "begun")
        .jump_if(Condition::Le, character, imm('9' as i32), "hex")
        .op(alu(AluOp::Or, character, imm(0x20)))
        .jump_if(Condition::Lt, character, imm('a' as i32), "begun")
        .jump_if(Condition::Gt, character, imm('f' as i32), "begun")
        .label("hex")
        .op(mov(is_hex, 2))
        .label("begun")
        .jump_if(Condition::Ne, base, imm(0), "known")
        .op(mov(base, 10))
        .jump_if(Condition::Eq, is_hex, imm(0), "known")
        .op(mov(base, 8))
        .jump_if(Condition::Ne, is_hex, imm(2), "known")
        .op(mov(base, 16))
        .label("known")
        .jump_if(Condition::Ne, base, imm(16), "skipped")
        .jump_if(Condition::Eq, is_hex, imm(0), "skipped")
        .jump_if(Condition::Eq, is_hex, imm(3), "skipped")
        .op(alu(AluOp::Add, at, imm(2)))
        .label("skipped");
}
