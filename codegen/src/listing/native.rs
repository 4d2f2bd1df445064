//! One function's native code as text.
//!
//! Given: an object and one of its functions.
//! Computed: its instructions with their bytes and text: references by the names of what they refer to, taken from the
//! object's relocations, and branches by labels.
//! Safe because: it only reads. What is no instruction is shown as such, so that nothing is hidden.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

use bpf2sys_pe_emit::{
    FunctionRange, Machine, NativeObject, Relocation, RelocationKind, Section, SectionKind, SymbolPlace,
};

use super::{arm64, escape, hex, x64};

/// An instruction of a function's native code.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NativeInstruction {
    /// First byte, from the start of the function.
    pub offset: u32,
    /// Its bytes, as they are in the object: relocations are not applied.
    pub bytes: Vec<u8>,
    /// The label it has, if a branch of the function goes to it: `.L1`, `.L2` and so on by offset.
    pub label: Option<String>,
    /// Mnemonic and operands, in the syntax of NASM (x86-64) or of Arm's assembler.
    pub text: String,
    /// Whether it returns from the function.
    pub returns: bool,
}

impl NativeInstruction {
    /// Its bytes in hexadecimal: in their order for x86-64, as one number for ARM64, as everybody writes its instructions.
    pub fn digits(&self, machine: Machine) -> String {
        match machine {
            Machine::X64 => hex(&self.bytes),
            Machine::Arm64 => hex(&self.bytes.iter().rev().copied().collect::<Vec<u8>>()),
        }
    }
}

/// An instruction before it is text.
pub(super) struct Decoded<I> {
    pub(super) offset: u32,
    pub(super) size: u32,
    pub(super) instruction: I,
    /// Where it branches to, from the start of the function, when no relocation says so.
    pub(super) branch: Option<u32>,
}

/// Column of the first operand.
pub(super) const OPERANDS: usize = 8;

/// The text of an instruction.
pub(super) struct Text {
    pub(super) text: String,
    pub(super) returns: bool,
}

/// What an instruction refers to.
pub(super) struct Reference {
    /// How the field is computed.
    pub(super) kind: RelocationKind,
    /// Name of the place, with a distance if it is not the place of a symbol.
    pub(super) name: String,
    /// The bytes at the place, up to the end of their section, if they are constants.
    pub(super) constant: Option<Vec<u8>>,
}

/// What instructions refer to, while they become text.
#[derive(Default)]
pub(super) struct Names {
    /// By offset in the function: the label.
    labels: BTreeMap<u32, String>,
    /// By offset of the field in the function.
    references: BTreeMap<u32, Reference>,
}

impl Names {
    /// The label at an offset in the function.
    pub(super) fn label(&self, offset: u32) -> Option<&str> {
        self.labels.get(&offset).map(String::as_str)
    }

    /// The reference of the instruction with these bytes.
    pub(super) fn reference(&self, offset: u32, size: u32) -> Option<&Reference> {
        let mut inside = self.references.range(offset..offset + size);
        inside.next().map(|(_, reference)| reference)
    }
}

/// The instructions of a function of `object`, in order. None if the range is not in the object.
pub fn native_code(object: &NativeObject, range: &FunctionRange) -> Vec<NativeInstruction> {
    let Some((section, code)) = code(object, range) else {
        return Vec::new();
    };
    match object.machine {
        Machine::X64 => text(object, range, section, code, &x64::decode(code), x64::text),
        Machine::Arm64 => text(object, range, section, code, &arm64::decode(code), arm64::text),
    }
}

/// The instructions of a function as lines, without offsets and bytes: an instruction keeps its line when others around it
/// change.
pub fn native_text(object: &NativeObject, range: &FunctionRange) -> String {
    let mut text = String::new();
    for instruction in native_code(object, range) {
        if let Some(label) = instruction.label {
            let _ = writeln!(text, "{label}:");
        }
        let _ = writeln!(text, "    {}", instruction.text);
    }
    text
}

/// The name of a function of an object: that of the symbol at its first byte.
pub(super) fn function_name<'a>(object: &'a NativeObject, range: &FunctionRange) -> &'a str {
    let place = SymbolPlace::Section {
        section: range.section,
        offset: range.offset,
    };
    // The symbol of the section itself is an earlier one.
    let symbol = object.symbols.iter().rfind(|symbol| symbol.place == place);
    symbol.map_or("", |symbol| &symbol.name)
}

fn code<'a>(object: &'a NativeObject, range: &FunctionRange) -> Option<(&'a Section, &'a [u8])> {
    let section = object.sections.get(range.section.0 as usize)?;
    let start = range.offset as usize;
    let code = section.data.get(start..start.checked_add(range.size as usize)?)?;
    Some((section, code))
}

fn text<I>(
    object: &NativeObject,
    range: &FunctionRange,
    section: &Section,
    code: &[u8],
    decoded: &[Decoded<I>],
    text: fn(&[Decoded<I>], &Names) -> Vec<Text>,
) -> Vec<NativeInstruction> {
    let end_of = |field: u32| {
        let next = decoded.partition_point(|instruction| instruction.offset <= field);
        let instruction = next.checked_sub(1).and_then(|index| decoded.get(index));
        instruction.map_or(field, |found| found.offset + found.size)
    };
    let references: BTreeMap<u32, Reference> = section
        .relocations
        .iter()
        .filter(|relocation| (range.offset..range.offset + range.size).contains(&relocation.offset))
        .map(|relocation| {
            let field = relocation.offset - range.offset;
            (field, reference(object, relocation, end_of(field) - field))
        })
        .collect();
    let starts: BTreeSet<u32> = decoded.iter().map(|instruction| instruction.offset).collect();
    let targets: BTreeSet<u32> = decoded
        .iter()
        .filter(|found| {
            references
                .range(found.offset..found.offset + found.size)
                .next()
                .is_none()
        })
        .filter_map(|instruction| instruction.branch)
        .filter(|target| starts.contains(target))
        .collect();
    let names = Names {
        labels: targets
            .into_iter()
            .zip((1..).map(|number| format!(".L{number}")))
            .collect(),
        references,
    };
    decoded
        .iter()
        .zip(text(decoded, &names))
        .map(|(found, Text { text, returns })| NativeInstruction {
            offset: found.offset,
            bytes: code[found.offset as usize..][..found.size as usize].to_vec(),
            label: names.label(found.offset).map(str::to_owned),
            text,
            returns,
        })
        .collect()
}

/// What a relocation refers to; `to_end` are the bytes from the field to the end of its instruction, from which distances
/// on x86-64 count.
fn reference(object: &NativeObject, relocation: &Relocation, to_end: u32) -> Reference {
    let symbol = object.symbols.get(relocation.symbol.0 as usize);
    let distance = match relocation.kind {
        RelocationKind::Relative32 if object.machine == Machine::X64 => relocation.addend + i64::from(to_end),
        _ => relocation.addend,
    };
    let name = escape(symbol.map_or("", |symbol| &symbol.name));
    let sign = if distance < 0 { '-' } else { '+' };
    Reference {
        kind: relocation.kind,
        name: match distance {
            0 => name,
            _ => format!("{name}{sign}{:#x}", distance.unsigned_abs()),
        },
        constant: symbol.and_then(|symbol| constant(object, symbol.place, distance)),
    }
}

/// The bytes from `distance` behind a place, if they are constants without relocations.
fn constant(object: &NativeObject, place: SymbolPlace, distance: i64) -> Option<Vec<u8>> {
    let SymbolPlace::Section { section, offset } = place else {
        return None;
    };
    let section = object.sections.get(section.0 as usize)?;
    if section.kind != SectionKind::ReadOnlyData {
        return None;
    }
    let start = u32::try_from(i64::from(offset) + distance).ok()?;
    let next = section.relocations.iter().map(|relocation| relocation.offset);
    let end = next.filter(|field| *field >= start).min();
    let end = end.map_or(section.data.len(), |field| field as usize);
    let bytes = section.data.get(start as usize..end)?;
    Some(bytes[..bytes.len().min(8)].to_vec())
}
