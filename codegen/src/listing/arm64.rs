//! ARM64 instructions as text, in the syntax of Arm's assembler.

use bpf2sys_pe_emit::RelocationKind;
use yaxpeax_arch::{Decoder, U8Reader};
use yaxpeax_arm::armv8::a64::{InstDecoder, Instruction, Opcode, Operand, ShiftStyle, SizeCode};

use super::native::{Decoded, Names, OPERANDS, Reference, Text};
use crate::instruction_arm64::LANDING_PAD;

/// Bytes of an instruction.
const SIZE: u32 = 4;

/// A word of code: an instruction, unless it is none.
pub(super) type Word = Result<Instruction, u32>;

/// The words of a function. Bytes at the end that make no whole word are not in it; no function has such.
pub(super) fn decode(code: &[u8]) -> Vec<Decoded<Word>> {
    let decoder = InstDecoder::default();
    let words = code.as_chunks::<{ SIZE as usize }>().0;
    (0..)
        .step_by(SIZE as usize)
        .zip(words)
        .map(|(offset, bytes)| {
            let word = u32::from_le_bytes(*bytes);
            let instruction = decoder.decode(&mut U8Reader::new(bytes));
            let instruction = instruction.map(|i| with_extension(i, word)).map_err(|_| word);
            let distance = instruction.as_ref().ok().and_then(branch);
            Decoded {
                offset,
                size: SIZE,
                branch: distance.and_then(|distance| u32::try_from(i64::from(offset) + distance).ok()),
                instruction,
            }
        })
        .collect()
}

/// The instruction with `uxtw` as what it is. The decoder takes the extension of a word in an addition or subtraction
/// (Arm ARM, "ADD (extended register)", option 2) for a left shift, which it is in 32-bit ones with the stack pointer only.
fn with_extension(mut instruction: Instruction, word: u32) -> Instruction {
    const EXTENDED: u32 = 0x0B20_0000;
    const UXTW: u32 = 2 << 13;
    let [rd, rn] = [word & 31, word >> 5 & 31];
    let wide = word >> 31 != 0;
    if word & 0x1FE0_E000 == EXTENDED | UXTW
        && (wide || rd != 31 && rn != 31)
        && let Operand::RegShift(style, _, SizeCode::W, _) = &mut instruction.operands[2]
    {
        *style = ShiftStyle::UXTW;
    }
    instruction
}

/// How far an instruction branches.
fn branch(instruction: &Instruction) -> Option<i64> {
    if matches!(instruction.opcode, Opcode::ADR | Opcode::ADRP) {
        return None;
    }
    distance(instruction)
}

fn distance(instruction: &Instruction) -> Option<i64> {
    instruction.operands.iter().find_map(|operand| match operand {
        Operand::PCOffset(distance) => Some(*distance),
        _ => None,
    })
}

/// The texts of the instructions.
pub(super) fn text(decoded: &[Decoded<Word>], names: &Names) -> Vec<Text> {
    decoded
        .iter()
        .map(|word| match &word.instruction {
            Ok(instruction) => Text {
                text: columns(&with_names(word, instruction, names)),
                returns: matches!(instruction.opcode, Opcode::RET | Opcode::RETAA | Opcode::RETAB),
            },
            Err(bits) => Text {
                text: columns(&format!(".inst {bits:#010x}")),
                returns: false,
            },
        })
        .collect()
}

/// The text with labels and names in place of distances.
fn with_names(word: &Decoded<Word>, instruction: &Instruction, names: &Names) -> String {
    if *instruction == LANDING_PAD {
        return "bti c".to_owned(); // which the library calls a hint
    }
    let text = instruction.to_string();
    if let Some(Reference { kind, name, .. }) = names.reference(word.offset, SIZE) {
        // The operand that the field is in is the last one, in all instructions that have such a field.
        let (operation, _) = text.rsplit_once([' ', ',']).unwrap_or((&text, ""));
        let low = if matches!(
            *kind,
            RelocationKind::Arm64PageOffset12 | RelocationKind::Arm64LoadOffset12
        ) {
            ":lo12:"
        } else {
            ""
        };
        return format!("{operation} {low}{name}");
    }
    let label = word.branch.and_then(|target| names.label(target));
    match (label, distance(instruction)) {
        (Some(label), Some(distance)) => {
            let sign = if distance < 0 { '-' } else { '+' };
            text.replace(&format!("${sign}{:#x}", distance.unsigned_abs()), label)
        }
        _ => text,
    }
}

/// The text with its operands in their column.
fn columns(text: &str) -> String {
    match text.split_once(' ') {
        Some((mnemonic, operands)) => format!("{mnemonic:<OPERANDS$}{operands}"),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn extended_registers_say_how_they_are_extended() {
        // The words are what llvm-mc makes of the texts.
        let cases = [
            (0x8B2D_41C0_u32, "add     x0, x14, w13, uxtw"),
            (0x8B2D_49C0, "add     x0, x14, w13, uxtw #2"),
            (0xCB2D_C1C0, "sub     x0, x14, w13, sxtw"),
            (0xEB2D_41DF, "cmp     x14, w13, uxtw"),
            (0x8B2D_43FF, "add     sp, sp, w13, uxtw"),
            (0x8B2D_63FF, "add     sp, sp, x13"),
            (0x0B2D_41C0, "add     w0, w14, w13, uxtw"),
            (0x0B0D_01C0, "add     w0, w14, w13"),
            (0x8B0D_09C0, "add     x0, x14, x13, lsl #2"),
        ];
        let names = Names::default();
        for (word, expected) in cases {
            assert_eq!(
                text(&decode(&word.to_le_bytes()), &names)[0].text,
                expected,
                "{word:#x}"
            );
        }
    }
}
