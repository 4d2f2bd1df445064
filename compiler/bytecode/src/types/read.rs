//! Reads types of data out of BTF.

use std::collections::{BTreeMap, BTreeSet};

use super::{DataMember, DataType, DataTypes, EntryTypes, MAX_DEPTH, MAX_TYPES, TypeIndex, Variable};
use crate::btf::{Btf, Member, Reader, Scalar, Text, Type, TypeId};
use crate::elf::Elf;
use crate::{GlobalSection, Map, MapIndex, MapOrigin};

/// Most bytes of names that are kept: a small file can name one long text very often.
const MAX_TEXT: usize = 16 << 20;

impl DataTypes {
    /// Reads the types of these maps and sections.
    pub(crate) fn read(elf: &Elf<'_>, btf: &Btf<'_>, maps: &[Map], globals: &[GlobalSection]) -> DataTypes {
        let mut reading = Reading {
            btf,
            known: BTreeMap::new(),
            text: MAX_TEXT,
            types: DataTypes::default(),
        };
        for (index, map) in (0..).map(MapIndex).zip(maps) {
            match map.origin {
                MapOrigin::Btf | MapOrigin::Anonymous => {
                    let entries = reading.entries(map);
                    reading.types.entries.insert(index, entries);
                }
                MapOrigin::Global(global) => {
                    if let Some(section) = globals.get(global.index()) {
                        let variables = reading.section(elf, section, TypeId(map.definition.id));
                        reading.types.variables.insert(global, variables);
                    }
                }
                MapOrigin::Legacy | MapOrigin::Record(_) => {}
            }
        }
        // What records are made of is named by no map.
        for id in btf.ids() {
            reading.if_named(id);
        }
        reading.types
    }
}

struct Reading<'a, 'b> {
    btf: &'a Btf<'b>,
    /// What is known of a type; none of one that can't be described, or is being described.
    known: BTreeMap<TypeId, Option<TypeIndex>>,
    /// Bytes of names that may still be kept.
    text: usize,
    types: DataTypes,
}

impl Reading<'_, '_> {
    /// The types of the members `key` and `value` of a map's structure.
    fn entries(&mut self, map: &Map) -> EntryTypes {
        let btf = self.btf;
        let Ok(Type::Struct { members, .. }) = btf.get(TypeId(map.definition.id)) else {
            return EntryTypes::default();
        };
        let mut of = |name: &str, size: u32| {
            let member = members.iter().find(|member| member.name == name)?;
            let (_, Type::Pointer(target)) = btf.resolve(member.of).ok()? else {
                return None;
            };
            let index = self.describe(*target, 0)?;
            (self.types.size(index) == size).then_some(index)
        };
        EntryTypes {
            key: of("key", map.definition.key_size),
            value: of("value", map.definition.value_size),
        }
    }

    /// The variables of a section. Compilers leave their offsets to the loader, so they are those of the symbols.
    fn section(&mut self, elf: &Elf<'_>, section: &GlobalSection, id: TypeId) -> Vec<Variable> {
        let Ok(Type::DataSection { variables, .. }) = self.btf.get(id) else {
            return Vec::new();
        };
        let Ok(Some(place)) = elf.section_by_name(&section.section) else {
            return Vec::new();
        };
        let symbols: BTreeMap<&str, u64> = elf
            .symbols_of(place.index)
            .map(|symbol| (symbol.name, symbol.value))
            .collect();
        let mut found = Vec::new();
        for variable in variables {
            let Ok(Type::Variable { name, of, .. }) = self.btf.get(*variable) else {
                continue;
            };
            let offset = symbols.get(name).and_then(|offset| u32::try_from(*offset).ok());
            if let (Some(offset), Some(of)) = (offset, self.describe(*of, 0))
                && u64::from(offset) + u64::from(self.types.size(of)) <= section.data.len() as u64
            {
                let name = (*name).to_owned();
                found.push(Variable { name, offset, of });
            }
        }
        found.sort_by_key(|variable| variable.offset);
        found
    }

    /// Adds a type if people can ask for it by name.
    fn if_named(&mut self, id: TypeId) {
        let name = match self.btf.get(id) {
            Ok(Type::Struct { name, .. } | Type::Alias { name: Some(name), .. }) => *name,
            Ok(Type::Scalar {
                name,
                kind: Scalar::Union(_) | Scalar::Enumeration { .. },
                ..
            }) => *name,
            _ => return,
        };
        if self.btf.name(name).is_ok_and(|name| !name.is_empty()) {
            self.describe(id, 0);
        }
    }

    /// Adds a type and all that it is made of. None if that can't be described.
    fn describe(&mut self, id: TypeId, depth: u32) -> Option<TypeIndex> {
        if let Some(known) = self.known.get(&id) {
            return *known;
        }
        if depth > MAX_DEPTH || self.known.len() >= MAX_TYPES {
            return None;
        }
        self.known.insert(id, None);
        // A qualifier is no type of its own.
        let found = match self.btf.get(id).ok()? {
            Type::Alias { name: None, of } => self.describe(*of, depth + 1),
            _ => self.build(id, depth).and_then(|described| self.types.add(described)),
        };
        self.known.insert(id, found);
        found
    }

    fn build(&mut self, id: TypeId, depth: u32) -> Option<DataType> {
        let btf = self.btf;
        Some(match btf.get(id).ok()? {
            Type::Scalar { size, name, kind } => self.scalar(*size, *name, kind, depth)?,
            Type::Pointer(_) => DataType::Pointer,
            Type::Array { element, count } => {
                let element = self.describe(*element, depth + 1)?;
                DataType::Array { element, count: *count }
            }
            Type::Struct { size, name, members } => self.structure(*size, *name, false, members, depth)?,
            Type::Alias { name: Some(name), of } => DataType::Alias {
                name: self.name(*name)?,
                of: self.describe(*of, depth + 1)?,
            },
            _ => return None,
        })
    }

    fn scalar(&mut self, size: u32, name: Text, kind: &Scalar<'_>, depth: u32) -> Option<DataType> {
        Some(match kind {
            Scalar::Integer(encoding) => {
                // Bits 24 to 27: signed, character, truth value. The low byte has the number of bits, which is smaller for bit fields
                // of old compilers.
                let whole = encoding & 0xff == size.checked_mul(8)? && encoding & 0xff_0000 == 0;
                if !whole {
                    return None;
                }
                DataType::Integer {
                    name: self.name(name)?,
                    size,
                    signed: encoding & (1 << 24) != 0,
                    boolean: encoding & (4 << 24) != 0,
                }
            }
            Scalar::Float => DataType::Float {
                name: self.name(name)?,
                size,
            },
            Scalar::Enumeration { signed, wide, values } => {
                let mut reader = Reader::new(values);
                let mut named = Vec::new();
                while let Some(offset) = reader.u32() {
                    let low = reader.u32()?;
                    let value = match (wide, signed) {
                        (true, _) => (u64::from(reader.u32()?) << 32 | u64::from(low)).cast_signed(),
                        (false, true) => i64::from(low.cast_signed()),
                        (false, false) => i64::from(low),
                    };
                    let object = name.object;
                    named.push((self.name(Text { object, offset })?, value));
                }
                DataType::Enumeration {
                    name: self.name(name),
                    size,
                    signed: *signed,
                    values: named,
                }
            }
            Scalar::Union(members) => self.structure(size, name, true, members, depth)?,
        })
    }

    fn structure(
        &mut self,
        size: u32,
        name: Text,
        union: bool,
        members: &[Member<'_>],
        depth: u32,
    ) -> Option<DataType> {
        let mut described = Vec::with_capacity(members.len());
        let mut names = BTreeSet::new();
        for member in members {
            let of = self.describe(member.of, depth + 1)?;
            if !member.name.is_empty() && !names.insert(member.name) {
                return None;
            }
            described.push(DataMember {
                name: self.keep(member.name)?,
                of,
                bit_offset: member.bit_offset,
                bit_width: (member.bit_width != 0).then_some(member.bit_width),
            });
        }
        Some(DataType::Struct {
            name: self.name(name),
            size,
            union,
            members: described,
        })
    }

    /// The name of a type, if it has one.
    fn name(&mut self, name: Text) -> Option<String> {
        self.keep(self.btf.name(name).ok().filter(|name| !name.is_empty())?)
    }

    fn keep(&mut self, name: &str) -> Option<String> {
        self.text = self.text.checked_sub(name.len())?;
        Some(name.to_owned())
    }
}
