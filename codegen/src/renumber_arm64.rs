//! Gives the saved registers of a function neighbouring numbers.
//!
//! Given: a function's instructions.
//! Computed: the same function with its saved registers, in their order, renamed to `x19`, `x20` and so on.
//! Why: Cranelift saves two registers with each `stp`, whichever they are, and its loops of load-exclusive and
//! store-exclusive use `x24` to `x28`. Unwind codes only have pairs of neighbours (ARM64 exception handling,
//! "Unwind codes"), and one code stands for one instruction, so `stp x19, x24` cannot be described.
//! Safe because: `x19` to `x28` are equal to each other in every way: no instruction and no convention sets one apart. So a
//! function that only uses those that it saves means the same after any renaming among them. Each renamed instruction is
//! decoded again and must be the old one with the new names, so no number that is not a register's can change.

use crate::instruction_arm64::{FP, Insn, Opcode, Operand, SP, decode_word, registers};

/// The registers that may be renamed.
const SAVABLE: std::ops::Range<u16> = 19..FP;

/// Renames the saved registers if the saves could not be described otherwise.
pub(crate) fn renumber(code: &mut [Insn]) -> Result<(), String> {
    let mut saved: Vec<u16> = Vec::new();
    let mut neighbours = true;
    for insn in code.iter() {
        match (insn.op.opcode, insn.op.operands) {
            (Opcode::STR, [Operand::Register(_, a), Operand::RegPreIndex(SP, _, true), ..]) if SAVABLE.contains(&a) => {
                saved.push(a);
            }
            (
                Opcode::STP,
                [
                    Operand::Register(_, a),
                    Operand::Register(_, b),
                    Operand::RegPreIndex(SP, _, true),
                    _,
                ],
            ) if SAVABLE.contains(&a) => {
                saved.extend([a, b]);
                neighbours &= b == a + 1;
            }
            _ => {}
        }
    }
    if neighbours {
        return Ok(());
    }
    saved.sort_unstable();
    for insn in code {
        rename(insn, &saved)?;
    }
    Ok(())
}

/// Renames the registers of one instruction.
fn rename(insn: &mut Insn, saved: &[u16]) -> Result<(), String> {
    let failed = |what: &str| Err(format!("{what} at {:#x}: {}", insn.offset, insn.op));
    let new = |old: u16| {
        saved
            .iter()
            .position(|register| *register == old)
            .map(|position| SAVABLE.start + position as u16)
    };
    let mut wanted = insn.op;
    for operand in &mut wanted.operands {
        for register in registers(operand).into_iter().flatten() {
            match new(*register) {
                Some(name) => *register = name,
                None if SAVABLE.contains(register) => return failed("a register that is not saved"),
                None => {}
            }
        }
    }
    if wanted == insn.op {
        return Ok(());
    }
    // Where instructions have register numbers, of 5 bits each. Which of them this one has is found by trying.
    let fields = [0, 5, 10, 16];
    let old = u32::from_le_bytes(insn.word);
    let found = (0_u32..1 << fields.len()).find_map(|choice| {
        let mut word = old;
        for (position, shift) in fields.into_iter().enumerate() {
            if choice & 1 << position != 0 {
                let name = new((old >> shift & 31) as u16)?;
                word = word & !(31 << shift) | u32::from(name) << shift;
            }
        }
        (decode_word(word.to_le_bytes()) == Some(wanted)).then_some(word)
    });
    match found {
        Some(word) => {
            insn.word = word.to_le_bytes();
            insn.op = wanted;
            Ok(())
        }
        None => failed("a register that cannot be renamed"),
    }
}
