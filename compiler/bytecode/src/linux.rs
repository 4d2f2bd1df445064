//! What a loader of Linux does to an object before the kernel sees it: CO-RE relocations, values of the kernel's configuration.
//!
//! Given: an object, and what is known of the kernel that it is to be as in. Computed: its instructions with the offsets, sizes and answers that
//! they have in that kernel, and a section of global variables with the values of its configuration.
//! Safe because: what is not known is left as it is and noted with its place ([`Module::unresolved`](crate::Module)), so that
//! whoever makes something of the module can refuse it.

use std::collections::BTreeMap;

use crate::btf::{Btf, CoreRecord, Member, Scalar, Text, Type, TypeId, core_records};
use crate::elf::Elf;
use crate::error::{Place, Problem, ReadError};
use crate::functions::FunctionTable;
use crate::{FunctionIndex, Slot};

/// What is known of the kernel that an object was compiled for.
pub trait Kernel {
    /// How a structure or union of it is known.
    fn structure(&self, name: &str) -> Structure;

    /// Where a member of a structure that is [`Structure::Known`] lies: its offset and its size in bytes. None if it has none of that
    /// name.
    fn member(&self, structure: &str, member: &str) -> Option<(u32, u32)>;

    /// Whether an enumeration has a value of this name; none if that is not known. A value that it has is the one that the object states.
    fn has_enumerator(&self, enumeration: &str, name: &str) -> Option<bool>;

    /// The value of a name of the kernel's configuration (`LINUX_KERNEL_VERSION`, `CONFIG_HZ`), as text.
    fn configuration(&self, name: &str) -> Option<&str>;
}

/// How a structure of the kernel is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Structure {
    /// By its members; it has this size in bytes.
    Known(u32),
    /// It is the same everywhere, as headers of packets are.
    Fixed,
    /// Not at all.
    Unknown,
}

/// Something that an object refers to and that nothing is known of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unresolved {
    /// The function.
    pub function: FunctionIndex,
    /// The slot of the instruction that refers to it.
    pub slot: u32,
    /// What it is, one sentence without a full stop.
    pub reason: String,
    /// The function whose address it is, if it is one.
    pub address_of: Option<FunctionIndex>,
}

/// Applies the CO-RE relocations of an object to its code. Gives what could not be, by section and slot in that.
pub(crate) fn relocate(
    elf: &Elf<'_>,
    btf: &Btf<'_>,
    code: &mut FunctionTable<'_>,
    kernel: &dyn Kernel,
) -> Result<Vec<Unresolved>, ReadError> {
    let Some(section) = elf.section_by_name(".BTF.ext")? else {
        return Ok(Vec::new());
    };
    let fail = |problem| Place::section(".BTF.ext").error(problem);
    let mut unresolved = Vec::new();
    let mut sections: BTreeMap<&str, _> = code.sections.iter_mut().map(|code| (code.section.name, code)).collect();
    for record in core_records(section.data, btf).map_err(fail)? {
        let Some(code) = sections.get_mut(record.section) else {
            continue;
        };
        let slot = record.offset / Slot::SIZE as u32;
        // Functions tile their section.
        let position = code.functions.partition_point(|f| f.end <= slot);
        let found = code.functions.get(position);
        let Some(extent) = found.filter(|_| record.offset.is_multiple_of(Slot::SIZE as u32)) else {
            return Err(fail(Problem::Malformed("a CO-RE relocation is at no instruction")));
        };
        let (start, index) = (extent.start, code.first + position as u32);
        let resolved = value(btf, &record, kernel).map_err(fail)?;
        let patched = resolved.and_then(|value| match value {
            Some(value) => patch(&mut code.slots, slot as usize, value),
            None => Ok(()),
        });
        if let Err(reason) = patched {
            unresolved.push(Unresolved {
                function: FunctionIndex(index),
                slot: slot - start,
                reason,
                address_of: None,
            });
        }
    }
    Ok(unresolved)
}

/// Puts a value where the instruction at a slot has one.
fn patch(slots: &mut [Slot], slot: usize, value: u64) -> Result<(), String> {
    const LDDW: u8 = crate::opcode::LDDW;
    let too_large = || format!("the kernel's number {value} does not fit in the instruction");
    let next = slot + 1;
    let [Some(first), second] = [slots.get(slot).copied(), slots.get(next).copied()] else {
        return Err("it is behind the code".to_owned());
    };
    match (first.opcode, first.opcode & 7) {
        (LDDW, _) if second.is_some() => {
            slots[slot].imm = value as u32 as i32;
            slots[next].imm = (value >> 32) as u32 as i32;
        }
        (_, 1..=3) => slots[slot].offset = i16::try_from(value).map_err(|_| too_large())?,
        (_, 4 | 7) => slots[slot].imm = i32::try_from(value).map_err(|_| too_large())?,
        _ => return Err("a CO-RE relocation is at an instruction that has no number".to_owned()),
    }
    Ok(())
}

/// The kinds of CO-RE relocations (`enum bpf_core_relo_kind`).
mod kind {
    pub(super) const BYTE_OFFSET: u32 = 0;
    pub(super) const BYTE_SIZE: u32 = 1;
    pub(super) const FIELD_EXISTS: u32 = 2;
    pub(super) const TYPE_ID_LOCAL: u32 = 6;
    pub(super) const TYPE_ID_TARGET: u32 = 7;
    pub(super) const TYPE_EXISTS: u32 = 8;
    pub(super) const TYPE_SIZE: u32 = 9;
    pub(super) const ENUMERATOR_EXISTS: u32 = 10;
    pub(super) const ENUMERATOR_VALUE: u32 = 11;
    pub(super) const TYPE_MATCHES: u32 = 12;
}

/// What a relocation stands for: a number, the one that is there (none), or why it is not known.
type Answer = Result<Option<u64>, String>;

fn value(btf: &Btf<'_>, record: &CoreRecord<'_>, kernel: &dyn Kernel) -> Result<Answer, Problem> {
    let malformed = Problem::Malformed("a CO-RE relocation names a part that its type does not have");
    let path: Option<Vec<u32>> = record.path.split(':').map(|part| part.parse().ok()).collect();
    let path = path.filter(|path| !path.is_empty()).ok_or(malformed)?;
    let (id, entry) = btf.resolve(record.of)?;
    let tag = match entry {
        Type::Struct { name, .. } | Type::Scalar { name, .. } => btf.name(*name)?,
        _ => "",
    };
    // `struct task_struct___old` is another idea of `struct task_struct`.
    let name = tag.split("___").next().unwrap_or_default();
    if let Type::Scalar {
        kind: Scalar::Enumeration { wide, values, .. },
        ..
    } = entry
    {
        return enumerator(btf, record, (name, *wide, values), path[0], kernel);
    }
    let unknown = || Err(format!("struct {name} of the Linux kernel is not known here"));
    Ok(match (record.kind, kernel.structure(name)) {
        (kind::TYPE_ID_LOCAL, _) => Ok(None),
        (kind::TYPE_ID_TARGET, _) => Err(format!("number of type {name} in the Linux kernel: there is none here")),
        (_, Structure::Fixed) => Ok(None),
        (kind::FIELD_EXISTS | kind::TYPE_EXISTS | kind::TYPE_MATCHES, Structure::Unknown) => Ok(Some(0)),
        (_, Structure::Unknown) => unknown(),
        (kind::TYPE_EXISTS | kind::TYPE_MATCHES, Structure::Known(_)) => Ok(Some(1)),
        (kind::TYPE_SIZE, Structure::Known(size)) => Ok(Some(u64::from(size))),
        (kind, Structure::Known(_)) => {
            let Some(part) = member(btf, id, &path)? else {
                // The structure as a whole: the first of an array of them begins where it begins.
                return Ok(if path == [0] { Ok(None) } else { unknown() });
            };
            let there = kernel.member(name, part.name);
            match (kind, there) {
                (kind::FIELD_EXISTS, there) => Ok(Some(u64::from(there.is_some()))),
                (_, None) => Err(format!("struct {name} of Linux has no member {}", part.name)),
                (kind::BYTE_OFFSET, Some((offset, _))) => Ok(Some(u64::from(offset) + u64::from(part.inside))),
                (kind::BYTE_SIZE, Some((_, size))) if part.is_whole => Ok(Some(u64::from(size))),
                // Signs and shifts are those of the same type.
                (_, Some(_)) => Ok(None),
            }
        }
    })
}

fn enumerator(
    btf: &Btf<'_>,
    record: &CoreRecord<'_>,
    (enumeration, wide, values): (&str, bool, &[u8]),
    index: u32,
    kernel: &dyn Kernel,
) -> Result<Answer, Problem> {
    let each = if wide { 12 } else { 8 };
    let words = values
        .chunks_exact(each)
        .nth(index as usize)
        .and_then(|value| value.first_chunk::<4>());
    let offset = words.ok_or(Problem::Malformed(
        "a CO-RE relocation names a value that its type does not have",
    ))?;
    let name = btf.name(Text {
        object: 0,
        offset: u32::from_le_bytes(*offset),
    })?;
    let name = name.split("___").next().unwrap_or_default();
    Ok(match (record.kind, kernel.has_enumerator(enumeration, name)) {
        (kind::ENUMERATOR_EXISTS, known) => Ok(Some(u64::from(known == Some(true)))),
        (kind::ENUMERATOR_VALUE, Some(true)) => Ok(None),
        _ => Err(format!(
            "value {name} of enum {enumeration} of the Linux kernel is not known here"
        )),
    })
}

/// The part of a structure that a path names.
struct Part<'a> {
    /// The first member on the way that has a name.
    name: &'a str,
    /// How far behind that member's start, in bytes.
    inside: u32,
    /// Whether it is that member as a whole.
    is_whole: bool,
}

/// Follows a path from a structure on; none if it names no member.
fn member<'a>(btf: &Btf<'a>, root: TypeId, path: &[u32]) -> Result<Option<Part<'a>>, Problem> {
    let malformed = || Problem::Malformed("a CO-RE relocation names a part that its type does not have");
    let (Some(0), steps) = (path.first(), path.get(1..).unwrap_or_default()) else {
        return Ok(None);
    };
    let mut current = root;
    let mut part: Option<Part<'a>> = None;
    for step in steps {
        let (_, entry) = btf.resolve(current)?;
        let members: &[Member<'a>] = match entry {
            Type::Struct { members, .. } => members,
            Type::Scalar {
                kind: Scalar::Union(members),
                ..
            } => members,
            Type::Array { element, .. } => {
                let part = part.as_mut().ok_or_else(malformed)?;
                let distance = btf.size(*element)?.checked_mul(*step).ok_or_else(malformed)?;
                part.inside = part.inside.checked_add(distance).ok_or_else(malformed)?;
                part.is_whole = false;
                current = *element;
                continue;
            }
            _ => return Err(malformed()),
        };
        let member = members.get(*step as usize).ok_or_else(malformed)?;
        match &mut part {
            Some(part) => {
                part.inside = part.inside.checked_add(member.bit_offset / 8).ok_or_else(malformed)?;
                part.is_whole = false;
            }
            // Members without a name are parts of what is around them.
            None if member.name.is_empty() => {}
            None => {
                part = Some(Part {
                    name: member.name,
                    inside: 0,
                    is_whole: true,
                });
            }
        }
        current = member.of;
    }
    Ok(part)
}

/// Names of the configuration that an object refers to, as a section of global variables.
#[derive(Debug, Default)]
pub(crate) struct Configuration {
    /// The section's bytes; none if there are no such names.
    pub(crate) data: Vec<u8>,
    /// Where each value lies; those without a value say what is wrong.
    pub(crate) places: BTreeMap<String, Result<u32, String>>,
}

/// Most bytes of all values of the configuration.
const MOST_CONFIGURATION: usize = 1 << 16;

/// The section in which BTF lists names of the configuration.
pub(crate) const CONFIGURATION: &str = ".kconfig";

impl Configuration {
    /// Reads the names that BTF lists, with their values.
    pub(crate) fn read(elf: &Elf<'_>, btf: &Btf<'_>, kernel: &dyn Kernel) -> Result<Configuration, ReadError> {
        let mut configuration = Configuration::default();
        let sections = btf.data_sections();
        let Some(section) = sections.get(CONFIGURATION) else {
            return Ok(configuration);
        };
        let fail = |problem| Place::section(CONFIGURATION).error(problem);
        let weak = elf.weak_symbols();
        for id in &section.variables {
            let Type::Variable { name, of, .. } = btf.get(*id).map_err(fail)? else {
                continue;
            };
            let size = btf.size(*of).map_err(fail)?;
            if size == 0 || size as usize + configuration.data.len() > MOST_CONFIGURATION {
                return Err(fail(Problem::Malformed(
                    "names of the kernel's configuration take more than 64 KiB",
                )));
            }
            let (_, entry) = btf.resolve(*of).map_err(fail)?;
            let encoded = match kernel.configuration(name) {
                Some(text) => encoded(entry, size, name, text),
                None if weak.contains(name) => Ok(vec![0; size as usize]),
                None => Err(format!(
                    "{name} of the kernel's configuration has no value: `--config {name}=VALUE` gives it one"
                )),
            };
            let data = &mut configuration.data;
            let alignment = size.next_power_of_two().min(8) as usize;
            data.resize(data.len().next_multiple_of(alignment), 0);
            let place = data.len() as u32;
            let known = encoded.map(|bytes| {
                data.extend(bytes);
                place
            });
            configuration.places.insert((*name).to_owned(), known);
        }
        Ok(configuration)
    }
}

/// A value of the configuration as a variable has it.
fn encoded(entry: &Type<'_>, size: u32, name: &str, text: &str) -> Result<Vec<u8>, String> {
    let wrong = || Err(format!("`{text}` is no value of {name}"));
    let text = text.trim();
    if let Type::Array { .. } = entry {
        let text = text
            .strip_prefix('"')
            .and_then(|text| text.strip_suffix('"'))
            .unwrap_or(text);
        let mut bytes = text.as_bytes().to_vec();
        // It ends with a zero, and what does not fit is cut off, as libbpf does it.
        bytes.truncate(size as usize - 1);
        bytes.resize(size as usize, 0);
        return Ok(bytes);
    }
    let is_character =
        matches!(entry, Type::Scalar { size: 1, kind: Scalar::Integer(encoding), .. } if encoding >> 24 & 4 == 0);
    let number = match text {
        "y" | "n" | "m" if is_character => Some(i128::from(text.as_bytes()[0])),
        "n" => Some(0),
        "y" => Some(1),
        "m" => Some(2),
        _ => number(text),
    };
    let bits = size * 8;
    match number {
        Some(number) if bits <= 64 && (-(1i128 << (bits - 1))..1i128 << bits).contains(&number) => {
            Ok((number as u64).to_le_bytes()[..size as usize].to_vec())
        }
        _ => wrong(),
    }
}

/// A number, decimal or hexadecimal, or a version of the kernel.
pub(crate) fn number(text: &str) -> Option<i128> {
    let (sign, digits) = match text.strip_prefix('-') {
        Some(digits) => (-1, digits),
        None => (1, text),
    };
    let parsed = match digits.strip_prefix("0x").or_else(|| digits.strip_prefix("0X")) {
        Some(hex) => u64::from_str_radix(hex, 16).ok(),
        None => digits.parse().ok(),
    };
    if let Some(number) = parsed {
        return Some(sign * i128::from(number));
    }
    // `KERNEL_VERSION(a, b, c)`, in which `c` is at most 255.
    let parts: Option<Vec<u32>> = text.split('.').map(|part| part.parse().ok()).collect();
    match parts?[..] {
        [major @ 0..=255, minor @ 0..=255] => Some(i128::from(major << 16 | minor << 8)),
        [major @ 0..=255, minor @ 0..=255, patch] => Some(i128::from(major << 16 | minor << 8 | patch.min(255))),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::number;

    #[test]
    fn numbers_and_versions() {
        for (text, expected) in [
            ("12", Some(12)),
            ("-1", Some(-1)),
            ("0xffffffffffffffff", Some(i128::from(u64::MAX))),
            ("6.6", Some(0x06_0600)),
            ("6.6.300", Some(0x06_06ff)),
            ("6.300", None),
            ("6.6.6.6", None),
            ("", None),
            ("y", None),
        ] {
            assert_eq!(number(text), expected, "{text}");
        }
    }
}
