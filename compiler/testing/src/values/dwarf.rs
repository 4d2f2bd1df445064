//! Types that only DWARF has.
//!
//! BTF has the types of maps, functions and global variables. A structure that is filled in a function and sent from there is in none of
//! them, but in the DWARF that a compiler writes with `-g`. Given: an object. Computed: its structures, unions, enumerations and other names
//! that are not known yet.
//!
//! Safe because: this is for showing data, as BTF is; what makes no sense is left out ([`DataTypes::add`]). In an object, positions of one section in
//! another stand in place, from the start of that section, so that nothing needs to be relocated.

use std::collections::{BTreeMap, BTreeSet};

use bpf2sys_bytecode::{DataMember, DataType, DataTypes, TypeIndex};
use gimli::constants as c;
use gimli::{AttributeValue, DebuggingInformationEntry, Dwarf, EndianSlice, LittleEndian, Unit, UnitOffset};
use object::read::elf::ElfFile64;
use object::{Object, ObjectSection};

type Bytes<'a> = EndianSlice<'a, LittleEndian>;
type Entry<'a> = DebuggingInformationEntry<Bytes<'a>>;

/// How deep types are nested.
const MAX_DEPTH: u32 = 64;
/// Most entries of DWARF that are looked at.
const MAX_ENTRIES: usize = 1 << 20;

/// Adds types of an object's DWARF to those that are known. Where that can't be read, there are fewer.
pub(super) fn add(types: &mut DataTypes, object: &[u8]) {
    // Whatever is wrong with it, what was read before is right.
    let _ = try_add(types, object);
}

fn try_add(types: &mut DataTypes, object: &[u8]) -> Option<()> {
    let file = ElfFile64::<object::LittleEndian>::parse(object).ok()?;
    let load = |id: gimli::SectionId| -> Result<Bytes<'_>, gimli::Error> {
        let section = file.section_by_name(id.name());
        let data = section.and_then(|section| section.data().ok()).unwrap_or_default();
        Ok(EndianSlice::new(data, LittleEndian))
    };
    let dwarf = Dwarf::load(load).ok()?;
    let known: BTreeSet<String> = types.names().map(|(_, name)| name).collect();
    let mut left = MAX_ENTRIES;
    let mut units = dwarf.units();
    while let Some(header) = units.next().ok()? {
        let unit = dwarf.unit(header).ok()?;
        let mut reading = Reading {
            dwarf: &dwarf,
            unit: &unit,
            types,
            done: BTreeMap::new(),
        };
        let mut entries = unit.entries();
        while let Some(entry) = entries.next_dfs().ok()? {
            left = left.checked_sub(1)?;
            let keyword = match entry.tag() {
                c::DW_TAG_structure_type => "struct ",
                c::DW_TAG_union_type => "union ",
                c::DW_TAG_enumeration_type => "enum ",
                c::DW_TAG_typedef => "",
                _ => continue,
            };
            let name = reading.name(entry);
            if name.is_some_and(|name| !known.contains(&format!("{keyword}{name}"))) {
                reading.resolve(entry.offset(), 0);
            }
        }
    }
    Some(())
}

/// Reading the types of a unit.
struct Reading<'a, 'd> {
    dwarf: &'a Dwarf<Bytes<'d>>,
    unit: &'a Unit<Bytes<'d>>,
    types: &'a mut DataTypes,
    /// By place of the entry; none for what makes no sense, and for what is being read.
    done: BTreeMap<UnitOffset, Option<TypeIndex>>,
}

impl<'d> Reading<'_, 'd> {
    fn name(&self, entry: &Entry<'d>) -> Option<String> {
        let name = self
            .dwarf
            .attr_string(self.unit, entry.attr_value(c::DW_AT_name)?)
            .ok()?;
        Some(name.to_string_lossy().into_owned()).filter(|name| !name.is_empty())
    }

    /// The type at a place.
    fn resolve(&mut self, offset: UnitOffset, depth: u32) -> Option<TypeIndex> {
        if let Some(known) = self.done.get(&offset) {
            return *known;
        }
        if depth > MAX_DEPTH {
            return None;
        }
        // A type that contains itself makes no sense.
        self.done.insert(offset, None);
        let found = self.read(offset, depth + 1);
        self.done.insert(offset, found);
        found
    }

    fn read(&mut self, offset: UnitOffset, depth: u32) -> Option<TypeIndex> {
        let entry = self.unit.entry(offset).ok()?;
        let name = self.name(&entry);
        let read = match entry.tag() {
            c::DW_TAG_base_type => base(&entry, name?)?,
            c::DW_TAG_pointer_type => DataType::Pointer,
            c::DW_TAG_const_type | c::DW_TAG_volatile_type | c::DW_TAG_restrict_type | c::DW_TAG_atomic_type => {
                return self.resolve(of(&entry)?, depth);
            }
            c::DW_TAG_typedef => DataType::Alias {
                of: self.resolve(of(&entry)?, depth)?,
                name: name?,
            },
            c::DW_TAG_array_type => {
                let element = self.resolve(of(&entry)?, depth)?;
                return self.array(offset, element);
            }
            c::DW_TAG_structure_type | c::DW_TAG_union_type => DataType::Struct {
                size: number(&entry, c::DW_AT_byte_size)?,
                union: entry.tag() == c::DW_TAG_union_type,
                members: self.members(offset, depth)?,
                name,
            },
            c::DW_TAG_enumeration_type => {
                let values = self.values(offset)?;
                DataType::Enumeration {
                    size: number(&entry, c::DW_AT_byte_size)?,
                    signed: values.iter().any(|(_, value)| *value < 0),
                    values,
                    name,
                }
            }
            _ => return None,
        };
        self.types.add(read)
    }

    /// What is directly below an entry.
    fn below(&self, offset: UnitOffset) -> Option<Vec<Entry<'d>>> {
        let mut tree = self.unit.entries_tree(Some(offset)).ok()?;
        let mut children = tree.root().ok()?.children();
        let mut entries = Vec::new();
        while let Some(child) = children.next().ok()? {
            entries.push(child.entry().clone());
        }
        Some(entries)
    }

    fn members(&mut self, offset: UnitOffset, depth: u32) -> Option<Vec<DataMember>> {
        let mut members = Vec::new();
        for entry in self.below(offset)? {
            if entry.tag() != c::DW_TAG_member {
                continue;
            }
            let start = 8 * number(&entry, c::DW_AT_data_member_location).unwrap_or(0);
            members.push(DataMember {
                name: self.name(&entry).unwrap_or_default(),
                of: self.resolve(of(&entry)?, depth)?,
                bit_offset: number(&entry, c::DW_AT_data_bit_offset).unwrap_or(start),
                bit_width: match number(&entry, c::DW_AT_bit_size) {
                    Some(width) => Some(u8::try_from(width).ok()?),
                    None => None,
                },
            });
        }
        Some(members)
    }

    fn values(&self, offset: UnitOffset) -> Option<Vec<(String, i64)>> {
        let below = self.below(offset)?;
        let values = below.iter().filter(|entry| entry.tag() == c::DW_TAG_enumerator);
        values
            .map(|entry| {
                let value = entry.attr_value(c::DW_AT_const_value)?;
                let value = value
                    .sdata_value()
                    .or_else(|| value.udata_value().map(u64::cast_signed))?;
                Some((self.name(entry)?, value))
            })
            .collect()
    }

    /// An array, whose sizes are below it, the outermost first.
    fn array(&mut self, offset: UnitOffset, element: TypeIndex) -> Option<TypeIndex> {
        let below = self.below(offset)?;
        let ranges = below.iter().filter(|entry| entry.tag() == c::DW_TAG_subrange_type);
        let counts: Vec<u32> = ranges
            .map(|range| {
                let last = || number(range, c::DW_AT_upper_bound)?.checked_add(1);
                // An array without a size, at the end of a structure.
                number(range, c::DW_AT_count).or_else(last).unwrap_or(0)
            })
            .collect();
        let mut of = element;
        for count in counts.into_iter().rev() {
            of = self.types.add(DataType::Array { element: of, count })?;
        }
        Some(of)
    }
}

/// The type that an entry refers to.
fn of(entry: &Entry<'_>) -> Option<UnitOffset> {
    match entry.attr_value(c::DW_AT_type)? {
        AttributeValue::UnitRef(offset) => Some(offset),
        _ => None,
    }
}

fn number(entry: &Entry<'_>, name: gimli::DwAt) -> Option<u32> {
    u32::try_from(entry.attr_value(name)?.udata_value()?).ok()
}

fn base(entry: &Entry<'_>, name: String) -> Option<DataType> {
    let size = number(entry, c::DW_AT_byte_size)?;
    let AttributeValue::Encoding(encoding) = entry.attr_value(c::DW_AT_encoding)? else {
        return None;
    };
    Some(match encoding {
        c::DW_ATE_float => DataType::Float { name, size },
        _ => DataType::Integer {
            name,
            size,
            signed: matches!(encoding, c::DW_ATE_signed | c::DW_ATE_signed_char),
            boolean: encoding == c::DW_ATE_boolean,
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const EXAMPLES: [&str; 6] = [
        "bind_policy",
        "connect_redirect",
        "flow_log",
        "process_guard",
        "tail_dispatch",
        "udp_filter",
    ];

    fn object(name: &str) -> Vec<u8> {
        std::fs::read(format!("../../examples/{name}/{name}.o")).unwrap()
    }

    /// What is known of a type, written out.
    fn written(types: &DataTypes, index: TypeIndex) -> String {
        match types.get(index) {
            DataType::Array { element, count } => format!("{}[{count}]", written(types, *element)),
            DataType::Alias { name, of } => format!("{name} = {}", written(types, *of)),
            DataType::Struct {
                name,
                size,
                union,
                members,
            } => {
                let members = members.iter().map(|member| {
                    let of = written(types, member.of);
                    format!("{} at {} {:?}: {of}", member.name, member.bit_offset, member.bit_width)
                });
                format!("{union} {name:?} {size} {{{}}}", members.collect::<Vec<_>>().join("; "))
            }
            other => format!("{other:?}"),
        }
    }

    #[test]
    fn of_types_that_both_have_dwarf_says_what_btf_says() {
        let mut compared = 0;
        for name in EXAMPLES {
            let object = object(name);
            let module = bpf2sys_bytecode::read(&object, name).unwrap();
            let mut dwarf = DataTypes::default();
            add(&mut dwarf, &object);
            for (index, name) in module.types.names() {
                // Maps are described by structures that no data has.
                let Some(found) = dwarf.named(&name) else { continue };
                assert_eq!(written(&dwarf, found), written(&module.types, index), "{name}");
                compared += 1;
            }
        }
        assert!(compared > 35, "{compared}");
    }

    #[test]
    fn types_of_local_variables_are_found() {
        for (name, record) in [
            ("flow_log", "flow_record"),
            ("bind_policy", "audit_record"),
            ("process_guard", "guard_record"),
        ] {
            let object = object(name);
            let module = bpf2sys_bytecode::read(&object, name).unwrap();
            let record = format!("struct {record}");
            assert!(module.types.named(&record).is_none());
            let mut types = module.types.clone();
            add(&mut types, &object);
            assert!(types.named(&record).is_some(), "{record}");
            // What BTF has stays as it is, and nothing is there twice.
            let names: Vec<String> = types.names().map(|(_, name)| name).collect();
            for (index, name) in module.types.names() {
                assert_eq!(types.named(&name), module.types.named(&name), "{name}");
                assert!(types.names().any(|(other, _)| other == index));
            }
            let distinct: BTreeSet<&String> = names.iter().collect();
            assert!(
                names.len() - distinct.len() <= module.types.names().count(),
                "{names:?}"
            );
        }
    }

    #[test]
    fn damaged_debug_information_gives_fewer_types_and_ends() {
        let object = object("flow_log");
        for step in 0..400 {
            let mut damaged = object.clone();
            for at in (step * 7..damaged.len()).step_by(211 + step) {
                damaged[at] = damaged[at].wrapping_add((step % 255) as u8 + 1);
            }
            add(&mut DataTypes::default(), &damaged);
            add(&mut DataTypes::default(), &object[..object.len() * step / 400]);
        }
    }
}
