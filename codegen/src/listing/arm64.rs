//! ARM64 instructions as text, in the syntax of Arm's assembler.

use bpf2sys_pe_emit::RelocationKind;
use yaxpeax_arch::{Decoder, U8Reader};
use yaxpeax_arm::armv8::a64::{InstDecoder, Instruction, Opcode, Operand};

use super::native::{Decoded, Names, OPERANDS, Reference, Text};

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
            let instruction = decoder
                .decode(&mut U8Reader::new(bytes))
                .map_err(|_| u32::from_le_bytes(*bytes));
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
    let text = instruction.to_string();
    if let Some(Reference { kind, name, .. }) = names.reference(word.offset, SIZE) {
        // The operand that the field is in is the last one, in all instructions that have such a field.
        let (operation, _) = text.rsplit_once([' ', ',']).unwrap_or((&text, ""));
        let low = if *kind == RelocationKind::Arm64PageOffset12 {
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
