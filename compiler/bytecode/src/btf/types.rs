//! The type table of `.BTF` (Linux documentation, "BPF Type Format", §2).

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use super::{MAGIC, Reader, next_object, part};
use crate::error::{Place, Problem, ReadError};

/// Number of a type: 1 for the first of the file, 0 for `void`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct TypeId(pub(crate) u32);

/// Where a text stands: in the strings of one of the objects that a linker put together, at an offset.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Text {
    /// Counted from 0; there is only one where no linker put several together.
    pub(crate) object: u32,
    /// In bytes.
    pub(crate) offset: u32,
}

/// A type, as far as the reader needs it.
#[derive(Clone, Debug)]
pub(crate) enum Type<'a> {
    /// A type with a size in bytes whose parts no program is read by: integer, float, enumeration, union.
    Scalar { size: u32, name: Text, kind: Scalar<'a> },
    /// A pointer.
    Pointer(TypeId),
    /// An array.
    Array { element: TypeId, count: u32 },
    /// A structure.
    Struct {
        size: u32,
        name: Text,
        members: Vec<Member<'a>>,
    },
    /// Another name for a type (`typedef`), or a qualifier of one, which has none.
    Alias { name: Option<Text>, of: TypeId },
    /// The type of a function.
    Signature,
    /// A function.
    Function { name: &'a str },
    /// A variable.
    Variable {
        name: &'a str,
        of: TypeId,
        /// Whether this only declares it.
        is_extern: bool,
    },
    /// What a section holds: variables.
    DataSection {
        name: &'a str,
        size: u32,
        /// In `.ksyms` functions too.
        variables: Vec<TypeId>,
    },
    /// A note on a declaration (`btf_decl_tag`).
    Tag { text: Text, of: TypeId },
    /// Anything else that has no size: forward declarations, tags of members and parameters.
    Other,
}

/// What a scalar is.
#[derive(Clone, Debug)]
pub(crate) enum Scalar<'a> {
    /// An integer, with its encoding: the word that follows it.
    Integer(u32),
    Float,
    /// An enumeration: its values as they are in the section, three words each if it is of 64 bits and else two.
    Enumeration {
        signed: bool,
        wide: bool,
        values: &'a [u8],
    },
    Union(Vec<Member<'a>>),
}

/// A member of a structure or union.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Member<'a> {
    pub(crate) name: &'a str,
    pub(crate) of: TypeId,
    /// From the structure's start, in bits.
    pub(crate) bit_offset: u32,
    /// Of a bit field; 0 of others.
    pub(crate) bit_width: u8,
}

/// What BTF says about a section.
#[derive(Clone, Debug)]
pub(crate) struct DataSection {
    pub(crate) id: TypeId,
    /// In bytes; 0 where the compiler left it to the loader.
    pub(crate) size: u32,
    pub(crate) variables: Vec<TypeId>,
}

/// The types of an object.
pub(crate) struct Btf<'a> {
    types: Vec<Type<'a>>,
    /// One, or as many as a linker put together.
    objects: Vec<ObjectTypes<'a>>,
}

/// What belongs to the types of one object.
struct ObjectTypes<'a> {
    /// How many types the objects before it have.
    before: u32,
    strings: &'a [u8],
    /// Where the strings end, ascending: finding one end costs the same for a short string and for a hostile one.
    ends: Vec<usize>,
}

/// What a tag states as its component when it is on no member or parameter: -1.
const WHOLE: u32 = u32::MAX;

/// The linkage of a variable that is only declared.
const EXTERN: u32 = 2;

/// Longest name that is read, in bytes.
const MAX_NAME: usize = 4096;

/// How many qualifiers, pointers and array dimensions a type is followed through.
const MAX_DEPTH: u32 = 32;

impl<'a> Btf<'a> {
    /// Reads a `.BTF` section.
    pub(crate) fn parse(bytes: &'a [u8]) -> Result<Btf<'a>, ReadError> {
        let mut btf = Btf {
            types: vec![Type::Other],
            objects: Vec::new(),
        };
        let mut rest = Some(bytes);
        while let Some(section) = rest {
            let [table, strings, behind] = split(section).map_err(|what| place().error(Problem::Malformed(what)))?;
            let ends = strings.iter().enumerate().filter(|(_, b)| **b == 0).map(|(i, _)| i);
            btf.objects.push(ObjectTypes {
                // Type 0 is `void` for all.
                before: btf.types.len() as u32 - 1,
                strings,
                ends: ends.collect(),
            });
            btf.add(table)?;
            rest = next_object(behind);
        }
        Ok(btf)
    }

    /// Adds the types of the last object.
    fn add(&mut self, table: &'a [u8]) -> Result<(), ReadError> {
        let mut reader = Reader::new(table);
        while !reader.is_empty() {
            let offset = (table.len() - reader.remaining()) as u64;
            let entry = self
                .entry(&mut reader)
                .map_err(|problem| place().at(offset).error(problem))?;
            self.types.push(entry);
        }
        Ok(())
    }

    /// How many objects a linker put together that left their types apart.
    pub(crate) fn objects(&self) -> usize {
        self.objects.len()
    }

    /// The type that an id means in one of the objects.
    pub(crate) fn id_in(&self, object: u32, id: u32) -> TypeId {
        let before = self.objects.get(object as usize).map_or(0, |o| o.before);
        // An id that no table can have leads nowhere, and stays so.
        TypeId(if id == 0 { 0 } else { id.saturating_add(before) })
    }

    /// The text at a place, in whatever encoding the source had.
    pub(crate) fn text(&self, text: Text) -> Result<&'a [u8], Problem> {
        let start = text.offset as usize;
        let object = self.objects.get(text.object as usize);
        object
            .and_then(|o| {
                let end = o.ends.get(o.ends.partition_point(|end| *end < start))?;
                o.strings.get(start..*end)
            })
            .ok_or(Problem::Name("a name lies outside of the BTF string table"))
    }

    /// The name at a place.
    pub(crate) fn name(&self, text: Text) -> Result<&'a str, Problem> {
        let text = self.text(text)?;
        if text.len() > MAX_NAME {
            return Err(Problem::Name("a BTF name is longer than 4096 bytes"));
        }
        std::str::from_utf8(text).map_err(|_| Problem::Name("a BTF name is no UTF-8"))
    }

    /// Reads a type of the last object.
    fn entry(&self, reader: &mut Reader<'a>) -> Result<Type<'a>, Problem> {
        const SHORT: Problem = Problem::Malformed("ends in the middle of a type");
        let mut next = || reader.u32().ok_or(SHORT);
        let (name, info, size_or_type) = (next()?, next()?, next()?);
        let count = info & 0xffff;
        let kind = (info >> 24) & 0x1f;
        let has_flag = info >> 31 == 1;
        let object = self.objects.len() as u32 - 1;
        let text = |offset| Text { object, offset };
        let name_at = |offset| self.name(text(offset));
        let type_id = |id| self.id_in(object, id);
        let referred = type_id(size_or_type);
        // The kinds in the order of their numbers; the bytes that follow the common part are as documented for each.
        Ok(match kind {
            1 => Type::Scalar {
                size: size_or_type,
                name: text(name),
                kind: Scalar::Integer(next()?),
            },
            2 => Type::Pointer(referred),
            3 => {
                let (element, _index, count) = (type_id(next()?), next()?, next()?);
                Type::Array { element, count }
            }
            4 | 5 => {
                let members = (0..count)
                    .map(|_| {
                        let (name, of, bit_offset) = (next()?, type_id(next()?), next()?);
                        let name = name_at(name)?;
                        // With the kind flag the upper byte is the width of a bit field.
                        let (bit_offset, bit_width) = if has_flag {
                            (bit_offset & 0xff_ffff, (bit_offset >> 24) as u8)
                        } else {
                            (bit_offset, 0)
                        };
                        Ok(Member {
                            name,
                            of,
                            bit_offset,
                            bit_width,
                        })
                    })
                    .collect::<Result<_, Problem>>()?;
                let (size, name) = (size_or_type, text(name));
                if kind == 4 {
                    Type::Struct { size, name, members }
                } else {
                    let kind = Scalar::Union(members);
                    Type::Scalar { size, name, kind }
                }
            }
            6 | 19 => {
                let wide = kind == 19;
                let each = if wide { 12 } else { 8 };
                Type::Scalar {
                    size: size_or_type,
                    name: text(name),
                    kind: Scalar::Enumeration {
                        signed: has_flag,
                        wide,
                        values: reader.bytes(count as usize * each).ok_or(SHORT)?,
                    },
                }
            }
            7 => Type::Other,
            12 => Type::Function { name: name_at(name)? },
            8..=11 | 18 => Type::Alias {
                name: (kind == 8).then(|| text(name)),
                of: referred,
            },
            13 => {
                reader.bytes(count as usize * 8).ok_or(SHORT)?;
                Type::Signature
            }
            14 => Type::Variable {
                is_extern: next()? == EXTERN,
                name: name_at(name)?,
                of: referred,
            },
            15 => {
                let variables = (0..count)
                    .map(|_| {
                        let (variable, _offset, _size) = (type_id(next()?), next()?, next()?);
                        Ok(variable)
                    })
                    .collect::<Result<_, Problem>>()?;
                Type::DataSection {
                    name: name_at(name)?,
                    size: size_or_type,
                    variables,
                }
            }
            16 => Type::Scalar {
                size: size_or_type,
                name: text(name),
                kind: Scalar::Float,
            },
            17 => match next()? {
                WHOLE => Type::Tag {
                    text: text(name),
                    of: referred,
                },
                _ => Type::Other,
            },
            _ => {
                let id = self.types.len() as u32;
                return Err(Problem::TypeKind { id, kind });
            }
        })
    }

    /// The ids of all types, `void` aside.
    pub(crate) fn ids(&self) -> impl Iterator<Item = TypeId> + use<> {
        (1..self.types.len() as u32).map(TypeId)
    }

    pub(crate) fn get(&self, id: TypeId) -> Result<&Type<'a>, Problem> {
        self.types.get(id.0 as usize).ok_or(Problem::Type {
            id: id.0,
            problem: "no such type",
        })
    }

    /// The type behind names and qualifiers.
    pub(crate) fn resolve(&self, id: TypeId) -> Result<(TypeId, &Type<'a>), Problem> {
        let mut current = id;
        for _ in 0..MAX_DEPTH {
            match self.get(current)? {
                Type::Alias { of, .. } => current = *of,
                other => return Ok((current, other)),
            }
        }
        Err(Problem::Type {
            id: id.0,
            problem: "qualified without end",
        })
    }

    /// What a pointer points to, behind names and qualifiers of both.
    pub(crate) fn pointee(&self, id: TypeId) -> Result<(TypeId, &Type<'a>), Problem> {
        match self.resolve(id)? {
            (_, Type::Pointer(target)) => self.resolve(*target),
            (id, _) => Err(Problem::Type {
                id: id.0,
                problem: "not a pointer",
            }),
        }
    }

    /// Size in bytes of a value of the type.
    pub(crate) fn size(&self, id: TypeId) -> Result<u32, Problem> {
        let fail = |id: TypeId, problem| Problem::Type { id: id.0, problem };
        let mut factor: u32 = 1;
        let mut current = id;
        for _ in 0..MAX_DEPTH {
            let (resolved, entry) = self.resolve(current)?;
            let size = match entry {
                Type::Scalar { size, .. } | Type::Struct { size, .. } => *size,
                Type::Pointer(_) => 8,
                Type::Array { element, count } => {
                    factor = factor.checked_mul(*count).ok_or(fail(resolved, "larger than 4 GiB"))?;
                    current = *element;
                    continue;
                }
                _ => return Err(fail(resolved, "has no size")),
            };
            return size.checked_mul(factor).ok_or(fail(id, "larger than 4 GiB"));
        }
        Err(fail(id, "nested without end"))
    }

    /// All types with their ids, `void` included.
    pub(crate) fn types(&self) -> impl Iterator<Item = (TypeId, &Type<'a>)> {
        self.types
            .iter()
            .enumerate()
            .map(|(id, entry)| (TypeId(id as u32), entry))
    }

    /// The descriptions of sections by name. Where several have one name, the id is the first one's, and the size is left out.
    pub(crate) fn data_sections(&self) -> BTreeMap<&'a str, DataSection> {
        let mut all: BTreeMap<_, DataSection> = BTreeMap::new();
        for (id, entry) in self.types() {
            if let Type::DataSection { name, size, variables } = entry {
                match all.entry(*name) {
                    Entry::Vacant(vacant) => {
                        vacant.insert(DataSection {
                            id,
                            size: *size,
                            variables: variables.clone(),
                        });
                    }
                    Entry::Occupied(mut occupied) => {
                        let section = occupied.get_mut();
                        section.size = 0;
                        section.variables.extend(variables);
                    }
                }
            }
        }
        all
    }
}

fn place() -> Place {
    Place::section(".BTF")
}

/// Splits the section into its type table, its string table, and what is behind them.
fn split(bytes: &[u8]) -> Result<[&[u8]; 3], &'static str> {
    const SHORT: &str = "shorter than its header";
    let mut reader = Reader::new(bytes);
    if reader.u16().ok_or(SHORT)? != MAGIC {
        return Err("does not start as BTF does");
    }
    if (reader.u8().ok_or(SHORT)?, reader.u8().ok_or(SHORT)?) != (1, 0) {
        return Err("unknown BTF version or flags");
    }
    let mut next = || reader.u32().ok_or(SHORT);
    let header_length = next()?;
    let (type_offset, type_length) = (next()?, next()?);
    let (string_offset, string_length) = (next()?, next()?);
    if header_length < 24 {
        return Err("its header is too short");
    }
    let body = bytes.get(header_length as usize..).ok_or(SHORT)?;
    let types = part(body, type_offset, type_length).ok_or("the type table lies outside of the section")?;
    let strings = part(body, string_offset, string_length).ok_or("the string table lies outside of the section")?;
    let end = (type_offset as usize + types.len()).max(string_offset as usize + strings.len());
    match (strings.first(), strings.last()) {
        (Some(0), Some(0)) => Ok([types, strings, &body[end..]]),
        _ => Err("the string table does not start and end with a zero"),
    }
}

#[cfg(test)]
mod tests;
