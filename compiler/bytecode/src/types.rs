//! What the bytes of map entries and global variables mean: the types that BTF gives them.
//!
//! Given: the BTF of an object and its maps. Computed: for each map the types of key and value, for each section of global
//! variables its variables, and every type that these are made of.
//! Safe because: this is for showing data to people and to other compilers, and no program is read or judged by it. What BTF says is
//! followed with limits on depth and number, and kept only if its sizes and offsets agree with each other; where it makes no
//! sense, the type is missing, and that is no error.

use std::collections::{BTreeMap, BTreeSet};

use crate::btf::{Btf, Member, Reader, Scalar, Text, Type, TypeId};
use crate::elf::Elf;
use crate::{GlobalIndex, GlobalSection, Map, MapIndex, MapOrigin};

/// Most types that are kept.
const MAX_TYPES: usize = 1 << 16;

/// Most bytes of names that are kept: a small file can name one long text very often.
const MAX_TEXT: usize = 16 << 20;

/// How deep types are nested.
const MAX_DEPTH: u32 = 64;

/// A position in [`DataTypes::get`]'s table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TypeIndex(u32);

/// A type of data.
///
/// Sizes are in bytes. Every member lies within its structure, and every [`TypeIndex`] belongs to the same [`DataTypes`]. A type
/// never contains itself: what a pointer points to is not followed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DataType {
    /// An integer; `bool` and `char` are integers.
    Integer {
        /// As C has it, e.g. `unsigned int`.
        name: String,
        /// 1, 2, 4, 8 or 16.
        size: u32,
        /// Whether it has a sign.
        signed: bool,
        /// Whether it is a truth value.
        boolean: bool,
    },
    /// A floating point number.
    Float {
        /// As C has it.
        name: String,
        /// Its size.
        size: u32,
    },
    /// An address, of 8 bytes.
    Pointer,
    /// An array.
    Array {
        /// What it is made of.
        element: TypeIndex,
        /// How many.
        count: u32,
    },
    /// A structure, or a union, whose members share their bytes.
    Struct {
        /// Its tag; none if it has none.
        name: Option<String>,
        /// With what is behind the last member.
        size: u32,
        /// Whether it is a union.
        union: bool,
        /// In the order of their declaration.
        members: Vec<DataMember>,
    },
    /// An enumeration.
    Enumeration {
        /// Its tag; none if it has none.
        name: Option<String>,
        /// 1, 2, 4 or 8.
        size: u32,
        /// Whether values below zero are.
        signed: bool,
        /// Names and values, in the order of their declaration. Unsigned ones of 64 bits keep their bits.
        values: Vec<(String, i64)>,
    },
    /// Another name for a type.
    Alias {
        /// The name.
        name: String,
        /// The type.
        of: TypeIndex,
    },
}

/// A member of a structure or union.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DataMember {
    /// Its name; empty for a structure or union whose members count as the outer one's.
    pub name: String,
    /// Its type.
    pub of: TypeIndex,
    /// From the start of the structure, in bits; a multiple of 8 unless it is a bit field.
    pub bit_offset: u32,
    /// Bits of a bit field; none for a whole member.
    pub bit_width: Option<u8>,
}

/// The types of a map's entries. None where BTF gives only a size.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct EntryTypes {
    /// Of its keys; its size is the map's key size.
    pub key: Option<TypeIndex>,
    /// Of its values; its size is the map's value size.
    pub value: Option<TypeIndex>,
}

/// A global variable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Variable {
    /// Its name.
    pub name: String,
    /// From the start of its section, in bytes. It lies within the section.
    pub offset: u32,
    /// Its type.
    pub of: TypeIndex,
}

/// The types of a module's data.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DataTypes {
    types: Vec<DataType>,
    entries: BTreeMap<MapIndex, EntryTypes>,
    variables: BTreeMap<GlobalIndex, Vec<Variable>>,
}

impl DataTypes {
    /// A type.
    pub fn get(&self, index: TypeIndex) -> &DataType {
        &self.types[index.0 as usize]
    }

    /// The types of a map's entries.
    pub fn of_map(&self, map: MapIndex) -> EntryTypes {
        self.entries.get(&map).copied().unwrap_or_default()
    }

    /// The variables of a section, by offset; none where BTF does not name them.
    pub fn variables(&self, section: GlobalIndex) -> &[Variable] {
        self.variables.get(&section).map_or(&[], Vec::as_slice)
    }

    /// Size of a type, in bytes.
    pub fn size(&self, index: TypeIndex) -> u32 {
        match self.get(index) {
            DataType::Integer { size, .. }
            | DataType::Float { size, .. }
            | DataType::Struct { size, .. }
            | DataType::Enumeration { size, .. } => *size,
            DataType::Pointer => 8,
            // Checked when it was read.
            DataType::Array { element, count } => self.size(*element).saturating_mul(*count),
            DataType::Alias { of, .. } => self.size(*of),
        }
    }

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
                MapOrigin::Legacy => {}
            }
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
            _ => self.build(id, depth).map(|described| {
                self.types.types.push(described);
                TypeIndex(self.types.types.len() as u32 - 1)
            }),
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
                self.types.size(element).checked_mul(*count)?;
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
                if !whole || !matches!(size, 1 | 2 | 4 | 8 | 16) {
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
                if !matches!(size, 1 | 2 | 4 | 8) {
                    return None;
                }
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
            let bits = match member.bit_width {
                0 => u64::from(self.types.size(of)) * 8,
                width => u64::from(width),
            };
            let fits = u64::from(member.bit_offset) + bits <= u64::from(size) * 8;
            let whole = member.bit_width != 0 || member.bit_offset.is_multiple_of(8);
            if !fits || !whole || !member.name.is_empty() && !names.insert(member.name) {
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

#[cfg(test)]
mod tests;
