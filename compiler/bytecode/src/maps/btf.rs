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
use crate::{Map, MapDefinition, MapIndex, MapOrigin, Pinning};

/// How deep templates of maps of maps may be nested.
const MAX_NESTING: usize = 2;

/// What the type of a map says.
#[derive(Clone, Copy)]
struct Described {
    definition: MapDefinition,
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
            Ok(Type::Variable { name, of }) => types.insert(*name, *of),
            Ok(_) => return Err(section.place().error(not_a_variable(*id))),
            Err(problem) => return Err(section.place().error(problem)),
        };
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
        table
            .maps
            .push(map(name.to_owned(), described.definition, MapOrigin::Btf));
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
        table.maps.push(map(name, described.definition, MapOrigin::Anonymous));
    }
    Ok(())
}

fn map(name: String, definition: MapDefinition, origin: MapOrigin) -> Map {
    Map {
        name,
        definition,
        inner: None,
        origin,
        initial_values: Vec::new(),
    }
}

fn not_a_variable(id: TypeId) -> Problem {
    Problem::Type {
        id: id.0,
        problem: "not a variable",
    }
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
mod tests {
    use crate::testing::{DATA, EXIT, OBJECT, Object, PROGBITS, Types};
    use crate::{MapIndex, Module, Pinning, read};

    /// Reads an object whose `.maps` holds the map `m` of the type that `definition` adds.
    fn one_map(definition: impl FnOnce(&mut Types) -> u32) -> Result<Module, String> {
        let mut types = Types::new();
        let id = definition(&mut types);
        maps(types, &[("m", id, 64)])
    }

    /// Reads an object with these maps: name, type, size.
    fn maps(mut types: Types, maps: &[(&str, u32, u64)]) -> Result<Module, String> {
        let variables: Vec<u32> = maps.iter().map(|(name, id, _)| types.variable(name, *id)).collect();
        types.data_section(".maps", 0, &variables);
        let size: u64 = maps.iter().map(|(.., size)| size).sum();
        let mut object = Object::with_program(&EXIT);
        let section = object.section(".maps", PROGBITS, DATA, &vec![0; size as usize]);
        let mut offset = 0;
        for (name, _, size) in maps {
            object.symbol(name, OBJECT, section, offset, *size);
            offset += size;
        }
        object.section(".BTF", PROGBITS, 0, &types.build());
        read(&object.build(), "test.o").map_err(|e| e.to_string())
    }

    fn problem(definition: impl FnOnce(&mut Types) -> u32) -> String {
        let error = one_map(definition).map(|_| ()).unwrap_err();
        error
            .strip_prefix("section `.maps` at 0x0: `m`: ")
            .unwrap_or(&error)
            .to_owned()
    }

    #[test]
    fn names_and_qualifiers_change_nothing() {
        let module = one_map(|t| {
            let (map_type, entries) = (t.uint(1), t.uint(16));
            let entries = t.constant(entries);
            let map_type = t.typedef(map_type);
            let int = t.int(8);
            let int = t.typedef(int);
            let int = t.constant(int);
            let three = t.array(int, 3);
            let key = t.pointer(int);
            let key = t.constant(key);
            let value = t.pointer(three);
            let members = [
                ("type", map_type),
                ("max_entries", entries),
                ("key", key),
                ("value", value),
            ];
            let map = t.structure(&members);
            let map = t.constant(map);
            t.typedef(map)
        })
        .unwrap();
        let d = module.maps[0].definition;
        assert_eq!((d.map_type, d.key_size, d.value_size, d.max_entries), (1, 8, 24, 16));
        assert_eq!(d.pinning, Pinning::None);
    }

    #[test]
    fn sizes_may_be_stated_twice_if_they_agree() {
        let definition = |stated| {
            move |t: &mut Types| {
                let (map_type, size, int) = (t.uint(1), t.uint(stated), t.int(4));
                let key = t.pointer(int);
                t.structure(&[("type", map_type), ("key", key), ("key_size", size)])
            }
        };
        assert_eq!(one_map(definition(4)).unwrap().maps[0].definition.key_size, 4);
        assert_eq!(problem(definition(8)), "a size is stated, and a type of another size");
    }

    #[test]
    fn refuses_definitions_that_make_no_sense() {
        type Definition = fn(&mut Types) -> u32;
        let cases: [(Definition, &str); 11] = [
            (|t| t.int(4), "a map definition must be a structure"),
            (|t| t.structure(&[]), "the map has no `type`"),
            (
                |t| {
                    let int = t.int(4);
                    t.structure(&[("type", int)])
                },
                "BTF type 1: not a pointer",
            ),
            (
                |t| {
                    let int = t.int(4);
                    let pointer = t.pointer(int);
                    t.structure(&[("type", pointer)])
                },
                "BTF type 1: not an array whose length is a number (`__uint`)",
            ),
            (
                |t| {
                    let (map_type, pinning) = (t.uint(1), t.uint(2));
                    t.structure(&[("type", map_type), ("pinning", pinning)])
                },
                "`pinning` cannot be 2",
            ),
            (
                |t| {
                    let (map_type, int) = (t.uint(1), t.int(4));
                    let empty = t.array(int, 0);
                    let value = t.pointer(empty);
                    t.structure(&[("type", map_type), ("value", value)])
                },
                "the value's type is empty",
            ),
            (
                |t| {
                    let map_type = t.uint(1);
                    let nothing = t.pointer(0);
                    t.structure(&[("type", map_type), ("key", nothing)])
                },
                "BTF type 0: has no size",
            ),
            (
                |t| {
                    let (map_type, int) = (t.uint(7), t.int(4));
                    t.structure(&[("type", map_type), ("values", int)])
                },
                "`values` must be an array",
            ),
            (
                |t| {
                    let (map_type, int) = (t.uint(7), t.int(4));
                    let pointer = t.pointer(int);
                    let array = t.array(pointer, 0);
                    t.structure(&[("type", map_type), ("values", array)])
                },
                "`values` must point to maps or to programs",
            ),
            (|_| 77, "BTF type 77: no such type"),
            (|t| t.typedef(1), "BTF type 1: qualified without end"),
        ];
        for (definition, expected) in cases {
            assert_eq!(problem(definition), expected);
        }
    }

    /// A map of maps whose template has this type.
    fn outer(t: &mut Types, template: u32) -> u32 {
        let map_type = t.uint(7);
        let pointer = t.pointer(template);
        let values = t.array(pointer, 0);
        t.structure(&[("type", map_type), ("values", values)])
    }

    fn plain(t: &mut Types) -> u32 {
        let map_type = t.uint(2);
        t.structure(&[("type", map_type)])
    }

    #[test]
    fn templates_without_a_symbol_are_numbered_by_type() {
        let mut types = Types::new();
        let (late, early) = (plain(&mut types), plain(&mut types));
        let (a, b) = (outer(&mut types, early), outer(&mut types, late));
        let module = maps(types, &[("a", a, 16), ("b", b, 16)]).unwrap();
        let found: Vec<_> = module
            .maps
            .iter()
            .map(|m| (m.name.as_str(), m.inner.map(|i| i.0), m.definition.id))
            .collect();
        assert_eq!(
            found,
            [
                ("a", Some(3), a),
                ("b", Some(2), b),
                ("__anonymous_1", None, late),
                ("__anonymous_2", None, early)
            ]
        );
    }

    #[test]
    fn templates_nest_two_levels() {
        let mut types = Types::new();
        let innermost = plain(&mut types);
        let middle = outer(&mut types, innermost);
        let top = outer(&mut types, middle);
        let module = maps(types.clone(), &[("m", top, 16)]).unwrap();
        let inner: Vec<_> = module.maps.iter().map(|m| m.inner).collect();
        assert_eq!(inner, [Some(MapIndex(2)), None, Some(MapIndex(1))]);
        let above = outer(&mut types, top);
        assert_eq!(
            maps(types, &[("m", above, 16)]).map(|_| ()),
            Err("section `.maps`: maps of maps are nested more than two levels deep".to_owned())
        );
    }

    #[test]
    fn a_map_of_its_own_kind_of_maps_ends() {
        let mut types = Types::new();
        // The template's type is 5, which is the map itself.
        let map = outer(&mut types, 6);
        assert_eq!(map, 6);
        let module = maps(types, &[("m", map, 16)]).unwrap();
        assert_eq!(module.maps[0].inner, Some(MapIndex(0)));
    }

    #[test]
    fn symbols_and_descriptions_must_agree() {
        let mut types = Types::new();
        let map = plain(&mut types);
        let variable = types.variable("described", map);
        types.data_section(".maps", 0, &[variable]);
        let mut object = Object::with_program(&EXIT);
        let section = object.section(".maps", PROGBITS, DATA, &[0; 16]);
        object.section(".BTF", PROGBITS, 0, &types.build());
        let message = |object: &Object| read(&object.build(), "test.o").map(|_| ()).unwrap_err().to_string();
        assert_eq!(
            message(&object),
            "section `.maps`: the maps that BTF describes have no symbols"
        );
        let mut other = object.clone();
        other.symbol("other", OBJECT, section, 0, 16);
        assert_eq!(
            message(&other),
            "section `.maps` at 0x0: `other`: BTF does not describe this map"
        );
        object.symbol("described", OBJECT, section, 0, 16);
        assert!(read(&object.build(), "test.o").is_ok());
        object.symbol("described", OBJECT, section, 8, 8);
        assert_eq!(
            message(&object),
            "section `.maps` at 0x8: `described`: shares its place with another map"
        );
    }

    #[test]
    fn a_section_of_maps_holds_variables_and_has_content() {
        let mut types = Types::new();
        let int = types.int(4);
        types.data_section(".maps", 0, &[int]);
        let mut object = Object::with_program(&EXIT);
        let section = object.section(".maps", PROGBITS, DATA, &[0; 16]);
        object.section(".BTF", PROGBITS, 0, &types.build());
        let message = |object: &Object| read(&object.build(), "test.o").map(|_| ()).unwrap_err().to_string();
        assert_eq!(message(&object), "section `.maps`: BTF type 1: not a variable");
        let maps = &mut object.sections[usize::from(section) - 1];
        (maps.kind, maps.size) = (crate::testing::NOBITS, Some(1 << 40));
        assert_eq!(message(&object), "section `.maps`: map definitions without content");
    }
}
