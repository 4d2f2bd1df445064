//! Which registers are needed after an instruction.
//!
//! Given: a function. Computed: for each instruction, the registers whose values something after it may read, as bits.
//! Safe because: calls are taken to read all argument registers.

use bpf2sys_bytecode::{Function, InsnIndex, Instruction, Operand, Reg};

const ARGUMENTS: u16 = 0b11_1110;
const CLOBBERED: u16 = 0b11_1111;

fn bit(register: Reg) -> u16 {
    1 << register.number()
}

/// The registers that an instruction reads, and those that it writes.
pub(crate) fn effect(op: &Instruction) -> (u16, u16) {
    let operand = |src: Operand| match src {
        Operand::Reg(src) => bit(src),
        Operand::Imm(_) => 0,
    };
    match *op {
        Instruction::Alu {
            op: bpf2sys_bytecode::AluOp::Mov,
            dst,
            src,
            ..
        } => (operand(src), bit(dst)),
        Instruction::Alu { dst, src, .. } => (bit(dst) | operand(src), bit(dst)),
        Instruction::Movsx { dst, src, .. } => (bit(src), bit(dst)),
        Instruction::Neg { dst, .. } | Instruction::ByteSwap { dst, .. } => (bit(dst), bit(dst)),
        Instruction::LoadImm64 { dst, .. } => (0, bit(dst)),
        Instruction::Load { dst, base, .. } => (bit(base), bit(dst)),
        Instruction::Store { base, src, .. } => (bit(base) | operand(src), 0),
        // Whatever it writes, something may still need what was there.
        Instruction::Atomic { base, src, .. } => (bit(base) | bit(src) | bit(Reg::R0), 0),
        Instruction::Jump { .. } => (0, 0),
        Instruction::JumpIf { dst, src, .. } => (bit(dst) | operand(src), 0),
        Instruction::Call(_) => (ARGUMENTS, CLOBBERED),
        Instruction::CallX(register) => (ARGUMENTS | bit(register), CLOBBERED),
        Instruction::LegacyPacket { .. } => (u16::MAX, 0),
        Instruction::Exit => (bit(Reg::R0), 0),
    }
}

/// The registers that are needed after each instruction.
pub(crate) fn live_after(function: &Function) -> Vec<u16> {
    let count = function.instructions.len();
    let mut before = vec![0u16; count + 1];
    let mut after = vec![0u16; count];
    loop {
        let mut changed = false;
        for index in (0..count).rev() {
            let op = &function.instructions[index].op;
            let mut live = match op {
                Instruction::Exit | Instruction::Jump { .. } => 0,
                _ => before[index + 1],
            };
            if let Some(target) = function.jump_target(InsnIndex(index as u32)) {
                live |= before[target.index()];
            }
            let (reads, writes) = effect(op);
            let needed = reads | live & !writes;
            changed |= needed != before[index] || live != after[index];
            (before[index], after[index]) = (needed, live);
        }
        if !changed {
            return after;
        }
    }
}

/// A register that nothing needs after an instruction, and that is none of these.
pub(crate) fn free(live: u16, not: &[Reg]) -> Option<Reg> {
    (0..10)
        .filter_map(Reg::new)
        .find(|r| live & bit(*r) == 0 && !not.contains(r))
}
