//! Makes a 32-bit compare-and-exchange compare 32 bits.
//!
//! Given: a function's instructions.
//! Computed: the same with the comparison of each 32-bit load-exclusive loop in 32 bits.
//! Why: Cranelift 0.135 loads 32 bits there and compares 64, although the upper half of the register with the expected value
//! may hold anything.
//! Safe because: only `cmp` of the value that the instruction before has loaded is changed, to what the loop means. The
//! audit refuses a loop that computes with another size than it loads.

use crate::instruction_arm64::{Insn, Opcode, Operand, ShiftStyle, SizeCode, decode_word};

/// Bit 31 of a comparison: 64 bits instead of 32.
const WIDE: u32 = 1 << 31;

/// Corrects every such loop.
pub(crate) fn compare_what_was_loaded(code: &mut [Insn]) {
    let mut previous = None;
    for insn in code {
        let loaded = match previous.replace(insn.op) {
            Some(load) if load.opcode == Opcode::LDAXR => load.operands[0],
            _ => continue,
        };
        let (Operand::Register(SizeCode::W, loaded), Opcode::SUBS) = (loaded, insn.op.opcode) else {
            continue;
        };
        let [
            Operand::Register(SizeCode::X, 31),
            Operand::Register(SizeCode::X, compared),
            second,
            _,
        ] = insn.op.operands
        else {
            continue;
        };
        if compared == loaded && matches!(second, Operand::RegShift(ShiftStyle::LSL, 0, SizeCode::X, _)) {
            let word = (u32::from_le_bytes(insn.word) & !WIDE).to_le_bytes();
            if let Some(op) = decode_word(word) {
                (insn.word, insn.op) = (word, op);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::compare_what_was_loaded;
    use crate::instruction_arm64::decode;

    fn corrected(words: [u32; 2]) -> [u32; 2] {
        let mut code = decode(words.map(u32::to_le_bytes).as_flattened()).unwrap();
        compare_what_was_loaded(&mut code);
        [0, 1].map(|position: usize| u32::from_le_bytes(code[position].word))
    }

    #[test]
    fn a_32_bit_loop_compares_32_bits() {
        // ldaxr w27, [x25]; cmp x27, x26 becomes cmp w27, w26
        assert_eq!(corrected([0x885F_FF3B, 0xEB1A_037F]), [0x885F_FF3B, 0x6B1A_037F]);
    }

    #[test]
    fn other_comparisons_stay() {
        let cases = [
            [0xC85F_FF3B, 0xEB1A_037F], // ldaxr x27, [x25]; cmp x27, x26
            [0x885F_FF3B, 0xEB1A_033F], // ldaxr w27, [x25]; cmp x25, x26
            [0x885F_FF3B, 0x8B1A_037C], // ldaxr w27, [x25]; add x28, x27, x26
            [0xB940_033B, 0xEB1A_037F], // ldr w27, [x25]; cmp x27, x26
        ];
        for code in cases {
            assert_eq!(corrected(code), code);
        }
    }
}
