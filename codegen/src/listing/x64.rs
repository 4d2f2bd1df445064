//! x86-64 instructions as text, in the syntax of NASM.

use std::collections::BTreeMap;
use std::fmt::Write;

use iced_x86::{
    Decoder, DecoderOptions, FlowControl, Formatter, Instruction, NasmFormatter, OpKind, SymbolResolver, SymbolResult,
};

use super::native::{Decoded, Names, OPERANDS, Text};

/// The instructions of a function.
pub(super) fn decode(code: &[u8]) -> Vec<Decoded<Instruction>> {
    let branch = |instruction: &Instruction| {
        let target = is_branch(instruction, 0).then(|| instruction.near_branch_target());
        target.and_then(|target| u32::try_from(target).ok())
    };
    Decoder::with_ip(64, code, 0, DecoderOptions::NONE)
        .into_iter()
        .map(|instruction| Decoded {
            offset: instruction.ip() as u32,
            size: instruction.len() as u32,
            branch: branch(&instruction),
            instruction,
        })
        .collect()
}

/// The texts of the instructions.
pub(super) fn text(decoded: &[Decoded<Instruction>], names: &Names) -> Vec<Text> {
    let mut places = Places::default();
    for instruction in decoded {
        let reference = names.reference(instruction.offset, instruction.size);
        let name = match (reference, instruction.branch) {
            (Some(reference), _) => Some(reference.name.as_str()),
            (None, Some(target)) => names.label(target),
            (None, None) => None,
        };
        if let Some(name) = name {
            places.0.insert(instruction.instruction.ip(), name.to_owned());
        }
    }
    let mut formatter = NasmFormatter::with_options(Some(Box::new(places)), None);
    let options = formatter.options_mut();
    options.set_hex_prefix("0x");
    options.set_hex_suffix("");
    options.set_uppercase_hex(false);
    options.set_show_branch_size(false);
    options.set_space_after_operand_separator(true);
    options.set_first_operand_char_index(OPERANDS as u32);
    decoded
        .iter()
        .map(|found| {
            let mut text = String::new();
            formatter.format(&found.instruction, &mut text);
            if let Some(value) = constant(found, names) {
                let _ = write!(text, " ; {value:#x}");
            }
            Text {
                text,
                returns: found.instruction.flow_control() == FlowControl::Return,
            }
        })
        .collect()
}

/// The constant that an instruction reads from memory.
fn constant(decoded: &Decoded<Instruction>, names: &Names) -> Option<u64> {
    let instruction = &decoded.instruction;
    let bytes = names.reference(decoded.offset, decoded.size)?.constant.as_deref()?;
    let size = instruction.memory_size().size();
    if size == 0 || !instruction.is_ip_rel_memory_operand() {
        return None;
    }
    let bytes = bytes.get(..size)?;
    Some(bytes.iter().rev().fold(0, |value, byte| value << 8 | u64::from(*byte)))
}

fn is_branch(instruction: &Instruction, operand: u32) -> bool {
    operand < instruction.op_count() && instruction.op_kind(operand) == OpKind::NearBranch64
}

/// By address of an instruction: the name of the place that it refers to.
#[derive(Default)]
struct Places(BTreeMap<u64, String>);

impl SymbolResolver for Places {
    fn symbol(
        &mut self,
        instruction: &Instruction,
        _operand: u32,
        instruction_operand: Option<u32>,
        address: u64,
        _address_size: u32,
    ) -> Option<SymbolResult<'_>> {
        let operand = instruction_operand?;
        let relative = instruction.is_ip_rel_memory_operand() && instruction.op_kind(operand) == OpKind::Memory;
        if !relative && !is_branch(instruction, operand) {
            return None;
        }
        let name = self.0.get(&instruction.ip())?;
        Some(SymbolResult::with_str(address, name))
    }
}
