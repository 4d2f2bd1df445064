//! What the bytes of map entries and global variables mean: the types that BTF gives them.
//!
//! Given: the BTF of an object and its maps. Computed: for each map the types of key and value, for each section of global
//! variables its variables, every other type that has a name, and every type that these are made of.
//! Safe because: this is for showing data to people and to other compilers, and no program is read or judged by it. What BTF says is
//! followed with limits on depth and number, and kept only if its sizes and offsets agree with each other; where it makes no
//! sense, the type is missing, and that is no error.

mod read;

use std::collections::BTreeMap;

use crate::{GlobalIndex, MapIndex};

/// Most types that are kept.
const MAX_TYPES: usize = 1 << 16;

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
    /// How deep each is nested.
    depths: Vec<u32>,
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

    /// A type by its name in C: `struct event`, `union address`, `enum verdict`, or the name of a `typedef`. A name alone is that of
    /// a `typedef` if there is one, and else a tag. Of several with one name, the first.
    pub fn named(&self, name: &str) -> Option<TypeIndex> {
        let name = name.trim();
        let written = match name.split_once(char::is_whitespace) {
            Some((keyword @ ("struct" | "union" | "enum"), tag)) => format!("{keyword} {}", tag.trim_start()),
            _ => name.to_owned(),
        };
        let exact = self.names().find(|(_, known)| *known == written);
        let tagged = |known: &str| known.split_once(' ').is_some_and(|(_, tag)| tag == written);
        let found = exact.or_else(|| self.names().find(|(_, known)| tagged(known)));
        found.map(|(index, _)| index)
    }

    /// Types that [`DataTypes::named`] finds, with their names: tags behind their keywords.
    pub fn names(&self) -> impl Iterator<Item = (TypeIndex, String)> {
        let types = (0..).map(TypeIndex).zip(&self.types);
        types.filter_map(|(index, known)| {
            let name = match known {
                DataType::Alias { name, .. } => name.clone(),
                DataType::Struct { name, union, .. } => {
                    format!("{} {}", if *union { "union" } else { "struct" }, name.as_ref()?)
                }
                DataType::Enumeration { name, .. } => format!("enum {}", name.as_ref()?),
                _ => return None,
            };
            Some((index, name))
        })
    }

    /// Adds a type whose parts are there already. None if it makes no sense: a size that no such type has, a member outside of its
    /// structure, more than 64 levels or 65,536 types.
    pub fn add(&mut self, added: DataType) -> Option<TypeIndex> {
        let depth_of = |of: TypeIndex| self.depths.get(of.0 as usize).copied();
        let depth = match &added {
            DataType::Integer { size, .. } => matches!(size, 1 | 2 | 4 | 8 | 16).then_some(0)?,
            DataType::Enumeration { size, .. } => matches!(size, 1 | 2 | 4 | 8).then_some(0)?,
            DataType::Float { .. } | DataType::Pointer => 0,
            DataType::Alias { of, .. } => depth_of(*of)? + 1,
            DataType::Array { element, count } => {
                let depth = depth_of(*element)? + 1;
                self.size(*element).checked_mul(*count)?;
                depth
            }
            DataType::Struct { size, members, .. } => {
                let mut deepest = 0;
                for member in members {
                    deepest = deepest.max(depth_of(member.of)? + 1);
                    self.holds(*size, member).then_some(())?;
                }
                deepest
            }
        };
        if depth > MAX_DEPTH || self.types.len() >= MAX_TYPES {
            return None;
        }
        self.types.push(added);
        self.depths.push(depth);
        Some(TypeIndex(self.types.len() as u32 - 1))
    }

    /// Whether a member lies within a structure of that size, on whole bytes or as a bit field that its type can be.
    fn holds(&self, size: u32, member: &DataMember) -> bool {
        let own = u64::from(self.size(member.of)) * 8;
        let (bits, sensible) = match member.bit_width {
            None => (own, member.bit_offset.is_multiple_of(8)),
            Some(width) => {
                let behind = self.get(self.resolve(member.of));
                let number = matches!(behind, DataType::Integer { .. } | DataType::Enumeration { .. });
                (u64::from(width), width != 0 && number && u64::from(width) <= own)
            }
        };
        sensible && u64::from(member.bit_offset) + bits <= u64::from(size) * 8
    }

    /// The type behind other names for it.
    pub fn resolve(&self, index: TypeIndex) -> TypeIndex {
        let mut index = index;
        while let DataType::Alias { of, .. } = self.get(index) {
            index = *of;
        }
        index
    }

    /// Size of a type, in bytes.
    pub fn size(&self, index: TypeIndex) -> u32 {
        match self.get(index) {
            DataType::Integer { size, .. }
            | DataType::Float { size, .. }
            | DataType::Struct { size, .. }
            | DataType::Enumeration { size, .. } => *size,
            DataType::Pointer => 8,
            // Checked when it was added.
            DataType::Array { element, count } => self.size(*element).saturating_mul(*count),
            DataType::Alias { of, .. } => self.size(*of),
        }
    }
}

#[cfg(test)]
mod tests;
