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
fn a_definition_counts_more_than_a_declaration() {
    // Of two objects that a linker put together, in either order.
    for declared_first in [false, true] {
        let mut types = Types::new();
        let (map, int) = (plain(&mut types), types.int(4));
        let mut variables = [types.variable("m", map), types.extern_variable("m", int)];
        if declared_first {
            variables.reverse();
        }
        types.data_section(".maps", 0, &variables);
        let mut object = Object::with_program(&EXIT);
        let section = object.section(".maps", PROGBITS, DATA, &[0; 16]);
        object.symbol("m", OBJECT, section, 0, 16);
        object.section(".BTF", PROGBITS, 0, &types.build());
        assert_eq!(read(&object.build(), "test.o").unwrap().maps[0].definition.map_type, 2);
    }
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
