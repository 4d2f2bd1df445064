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
        for register in registers(operand).into_iter().flatten().flatten() {
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

#[cfg(test)]
mod tests {
    use super::renumber;
    use crate::instruction_arm64::decode;

    fn renumbered(words: &[u32]) -> Result<Vec<u32>, String> {
        let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
        let mut code = decode(&bytes).unwrap();
        renumber(&mut code)?;
        // What is said of the code and the code itself must be the same.
        let bytes: Vec<u8> = code.iter().flat_map(|insn| insn.word).collect();
        for (insn, decoded) in code.iter().zip(decode(&bytes).unwrap()) {
            assert_eq!(insn.op, decoded.op);
        }
        Ok(code.iter().map(|insn| u32::from_le_bytes(insn.word)).collect())
    }

    #[test]
    fn saved_registers_become_neighbours() {
        let code = [
            (0xA9BF_63F3, 0xA9BF_53F3), // stp x19, x24, [sp, #-16]!: x24 becomes x20
            (0xAA01_03F8, 0xAA01_03F4), // mov x24, x1
            (0xF873_6B18, 0xF873_6A94), // ldr x24, [x24, x19]
            (0xD280_0313, 0xD280_0313), // mov x19, #24: no register
            (0xD280_0318, 0xD280_0314), // mov x24, #24
            (0x8B18_6300, 0x8B14_6280), // add x0, x24, x24, lsl #24: the shift stays
            (0xAA00_03F3, 0xAA00_03F3), // mov x19, x0
            (0xA8C1_63F3, 0xA8C1_53F3), // ldp x19, x24, [sp], #16
            (0xD65F_03C0, 0xD65F_03C0), // ret
        ];
        let (before, after): (Vec<u32>, Vec<u32>) = code.into_iter().unzip();
        assert_eq!(renumbered(&before), Ok(after));
    }

    #[test]
    fn names_keep_their_order() {
        // stp x27, x28; stp x21, x26; str x22, all [sp, #-16]!; mov x1, x22: x21, x22, x26, x27, x28 become x19 to x23
        let before = [0xA9BF_73FB, 0xA9BF_6BF5, 0xF81F_0FF6, 0xAA16_03E1];
        // stp x22, x23; stp x19, x21; str x20; mov x1, x20
        assert_eq!(
            renumbered(&before),
            Ok(vec![0xA9BF_5FF6, 0xA9BF_57F3, 0xF81F_0FF4, 0xAA14_03E1])
        );
    }

    #[test]
    fn code_that_can_be_described_stays() {
        // stp x27, x28, [sp, #-16]!; mov x24, x1
        let code = [0xA9BF_73FB, 0xAA01_03F8];
        assert_eq!(renumbered(&code), Ok(code.to_vec()));
    }

    #[test]
    fn refuses_registers_that_nobody_saved() {
        // stp x19, x24, [sp, #-16]!; mov x1, x22
        assert!(renumbered(&[0xA9BF_63F3, 0xAA16_03E1]).is_err());
    }
}
