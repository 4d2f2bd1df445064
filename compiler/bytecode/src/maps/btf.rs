//! Maps that BTF describes: structures in `.maps` whose members encode the definition in their types.
//!
//! `__uint(name, n)` is a pointer to an array of `n`, `__type(name, t)` a pointer to `t`, and `values` an array of
//! pointers to a map structure or to a function type. Members of other names are not examined, as in bpf2c.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};

use super::initial::{ValueKind, Values};
use super::{MapTable, named_symbols};
use crate::btf::{Btf, Member, Type, TypeId};
use crate::elf::{Elf, Section};
use crate::error::{Problem, ReadError};
use crate::{Map, MapDefinition, MapIndex, MapMark, MapOrigin, Pinning};

/// How deep templates of maps of maps may be nested.
const MAX_NESTING: usize = 2;

/// What the type of a map says.
#[derive(Clone, Copy)]
struct Described {
    definition: MapDefinition,
    flags: u32,
    inner: Option<TypeId>,
    /// Offset in bytes of the `values` member, and what its elements are.
    values: Option<(u32, ValueKind)>,
}

/// Reads the maps of `.maps`, then the templates that only their types contain.
pub(super) fn read(
    table: &mut MapTable,
    elf: &Elf<'_>,
    section: &Section<'_>,
    btf: &Btf<'_>,
    variables: &[TypeId],
) -> Result<(), ReadError> {
    if section.kind != object::elf::SHT_PROGBITS {
        return Err(section
            .place()
            .error(Problem::Malformed("map definitions without content")));
    }
    let mut types = BTreeMap::new();
    for id in variables {
        match btf.get(*id) {
            Ok(Type::Variable { name, of, is_extern }) => {
                // Of two objects, one may declare what the other defines.
                if !(*is_extern && types.contains_key(name)) {
                    types.insert(*name, *of);
                }
            }
            Ok(_) => return Err(section.place().error(not_a_variable(*id))),
            Err(problem) => return Err(section.place().error(problem)),
        }
    }
    // Type id of a map structure → first map of that type.
    let mut by_type = BTreeMap::new();
    let mut inner = Vec::new();
    // Many maps may share one large structure.
    let mut known: BTreeMap<TypeId, Described> = BTreeMap::new();
    let mut end = 0;
    for (offset, size, name) in named_symbols(elf, section) {
        let place = || section.place().at(offset).of_symbol(name);
        let of = types
            .get(name)
            .ok_or_else(|| place().error(Problem::Map("BTF does not describe this map")))?;
        let type_id = btf.resolve(*of).map_err(|p| place().error(p))?.0;
        let described = match known.entry(type_id) {
            Entry::Occupied(entry) => *entry.get(),
            Entry::Vacant(entry) => *entry.insert(describe(btf, type_id).map_err(|p| place().error(p))?),
        };
        let index = table.next_index();
        if offset < end || table.by_place.insert((section.index, offset), index).is_some() {
            return Err(place().error(Problem::Map("shares its place with another map")));
        }
        end = offset + size;
        by_type.entry(type_id).or_insert(index);
        inner.push((index, described.inner));
        if let Some((start, kind)) = described.values {
            let place = place();
            table
                .values
                .push(Values::new(index, kind, section.index, offset, size, start).map_err(|p| place.error(p))?);
        }
        table.maps.push(map(name.to_owned(), &described, MapOrigin::Btf));
    }
    if table.maps.is_empty() && !variables.is_empty() {
        return Err(section
            .place()
            .error(Problem::Map("the maps that BTF describes have no symbols")));
    }
    add_templates(table, btf, &mut by_type, &mut inner).map_err(|p| section.place().error(p))?;
    for (index, inner) in inner {
        if let (Some(type_id), Some(map)) = (inner, table.maps.get_mut(index.index())) {
            map.inner = by_type.get(&type_id).copied();
        }
    }
    Ok(())
}

/// Adds the templates that are no map of `.maps` themselves, `__anonymous_1` and up in order of type id.
fn add_templates(
    table: &mut MapTable,
    btf: &Btf<'_>,
    by_type: &mut BTreeMap<TypeId, MapIndex>,
    inner: &mut Vec<(MapIndex, Option<TypeId>)>,
) -> Result<(), Problem> {
    let mut templates = BTreeMap::new();
    let mut wanted: Vec<TypeId> = inner.iter().filter_map(|(_, inner)| *inner).collect();
    for level in 0.. {
        wanted.retain(|id| !by_type.contains_key(id) && !templates.contains_key(id));
        if wanted.is_empty() {
            break;
        }
        if level == MAX_NESTING {
            return Err(Problem::Map("maps of maps are nested more than two levels deep"));
        }
        let level: BTreeSet<TypeId> = wanted.drain(..).collect();
        for id in level {
            let described = describe(btf, id)?;
            wanted.extend(described.inner);
            templates.insert(id, described);
        }
    }
    for (number, (id, described)) in templates.into_iter().enumerate() {
        let index = table.next_index();
        by_type.insert(id, index);
        inner.push((index, described.inner));
        let name = format!("__anonymous_{}", number + 1);
        table.maps.push(map(name, &described, MapOrigin::Anonymous));
    }
    Ok(())
}

fn map(name: String, described: &Described, origin: MapOrigin) -> Map {
    Map {
        name,
        definition: described.definition,
        inner: None,
        origin,
        flags: described.flags,
        initial_values: Vec::new(),
    }
}

fn not_a_variable(id: TypeId) -> Problem {
    Problem::Type {
        id: id.0,
        problem: "not a variable",
    }
}

/// What a variable of `.maps` shows of its map.
pub(super) fn mark(btf: &Btf<'_>, variable: TypeId) -> Option<MapMark> {
    let Ok(Type::Variable { name, of, .. }) = btf.get(variable) else {
        return None;
    };
    let (_, Type::Struct { members, .. }) = btf.resolve(*of).ok()? else {
        return None;
    };
    let number = |name: &str| {
        let member = members.iter().find(|m| m.name == name)?;
        uint(btf, member.of).ok()
    };
    Some(MapMark {
        name: (*name).to_owned(),
        map_type: number("type")?,
        flags: number("map_flags"),
    })
}

/// Reads the definition that a map structure encodes.
fn describe(btf: &Btf<'_>, id: TypeId) -> Result<Described, Problem> {
    let (id, Type::Struct { members, .. }) = btf.resolve(id)? else {
        return Err(Problem::Map("a map definition must be a structure"));
    };
    let member = |name: &str| members.iter().find(|m| m.name == name);
    let number = |name: &'static str| member(name).map(|m| uint(btf, m.of)).transpose();
    let size = |of_type: &'static str, stated: &'static str, what| -> Result<u32, Problem> {
        let stated = number(stated)?;
        let Some(member) = member(of_type) else {
            return Ok(stated.unwrap_or(0));
        };
        let (target, _) = btf.pointee(member.of)?;
        match (btf.size(target)?, stated) {
            (0, _) => Err(Problem::Map(what)),
            (actual, Some(stated)) if actual != stated => {
                Err(Problem::Map("a size is stated, and a type of another size"))
            }
            (actual, _) => Ok(actual),
        }
    };
    let map_type = number("type")?.ok_or(Problem::Map("the map has no `type`"))?;
    let mut definition = MapDefinition {
        map_type,
        key_size: size("key", "key_size", "the key's type is empty")?,
        value_size: size("value", "value_size", "the value's type is empty")?,
        max_entries: number("max_entries")?.unwrap_or(0),
        pinning: pinning(number("pinning")?.unwrap_or(0))?,
        id: id.0,
        ..MapDefinition::default()
    };
    let mut inner = None;
    let mut values = None;
    if let Some(member) = member("values") {
        let kind = values_kind(btf, member)?;
        let kind = match kind {
            Some(template) => {
                inner = Some(template);
                definition.inner_id = template.0;
                ValueKind::Maps
            }
            None => ValueKind::Programs,
        };
        // What such maps hold are ids of four bytes (native module contract §4.3).
        definition.value_size = 4;
        values = Some((member.bit_offset / 8, kind));
    }
    Ok(Described {
        definition,
        // Rust's libraries have one in any object.
        flags: number("map_flags")?.unwrap_or(0),
        inner,
        values,
    })
}

/// The map structure that `values` points to, or `None` when it points to programs.
fn values_kind(btf: &Btf<'_>, member: &Member<'_>) -> Result<Option<TypeId>, Problem> {
    let (_, Type::Array { element, .. }) = btf.resolve(member.of)? else {
        return Err(Problem::Map("`values` must be an array"));
    };
    match btf.pointee(*element)? {
        (id, Type::Struct { .. }) => Ok(Some(id)),
        (_, Type::Signature) => Ok(None),
        _ => Err(Problem::Map("`values` must point to maps or to programs")),
    }
}

/// The number that `__uint` encodes.
fn uint(btf: &Btf<'_>, id: TypeId) -> Result<u32, Problem> {
    match btf.pointee(id)? {
        (_, Type::Array { count, .. }) => Ok(*count),
        (id, _) => Err(Problem::Type {
            id: id.0,
            problem: "not an array whose length is a number (`__uint`)",
        }),
    }
}

/// The pinning that a number stands for.
pub(super) fn pinning(value: u32) -> Result<Pinning, Problem> {
    match value {
        0 => Ok(Pinning::None),
        1 => Ok(Pinning::ByName),
        value => Err(Problem::MapField {
            field: "pinning",
            value,
        }),
    }
}

#[cfg(test)]
mod tests;
