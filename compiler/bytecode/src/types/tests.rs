use super::*;
use crate::{Module, read};

/// A type as C would have it, as far as it is known.
fn shown(types: &DataTypes, index: TypeIndex) -> String {
    match types.get(index) {
        DataType::Integer { name, .. } | DataType::Float { name, .. } => name.clone(),
        DataType::Pointer => "*".to_owned(),
        DataType::Array { element, count } => format!("{}[{count}]", shown(types, *element)),
        DataType::Alias { name, of } => format!("{name}={}", shown(types, *of)),
        DataType::Enumeration { name, values, .. } => format!("enum {name:?} {values:?}"),
        DataType::Struct {
            name,
            size,
            union,
            members,
        } => {
            let members: Vec<String> = members
                .iter()
                .map(|m| {
                    let width = m.bit_width.map(|width| format!(":{width}")).unwrap_or_default();
                    format!("{} {}@{}{width}", shown(types, m.of), m.name, m.bit_offset)
                })
                .collect();
            let kind = if *union { "union" } else { "struct" };
            format!(
                "{kind} {}({size}) {{{}}}",
                name.as_deref().unwrap_or("-"),
                members.join(", ")
            )
        }
    }
}

fn of_map(module: &Module, name: &str) -> [Option<String>; 2] {
    let index = module.maps.iter().position(|map| map.name == name).unwrap();
    let entries = module.types.of_map(MapIndex(index as u32));
    [entries.key, entries.value].map(|of| of.map(|of| shown(&module.types, of)))
}

fn example(bytes: &[u8], name: &str) -> Module {
    read(bytes, name).unwrap()
}

#[test]
fn entries_of_maps_have_the_types_of_the_source() {
    let module = example(include_bytes!("../../tests/fixtures/types/types.o"), "types.o");
    let text = |text: &str| Some(text.to_owned());
    assert_eq!(
        of_map(&module, "records"),
        [
            text(
                "struct key(8) {uint32_t=unsigned int address@0, uint16_t=unsigned short port@32, unsigned char[2] rest@48}"
            ),
            text(
                "struct record(48) {uint64_t=unsigned long count@0, enum Some(\"kind\") [(\"KIND_NONE\", 0), (\"KIND_LAST\", \
                 4294967295)] kind@64, enum Some(\"level\") [(\"LOW\", -1), (\"HIGH\", 1)] level@96, unsigned int few@128:3, \
                 unsigned int many@131:29, union -(8) {unsigned char[8] bytes@0, uint64_t=unsigned long whole@0} @192, \
                 * next@256, _Bool set@320, char letter@328, short negative@336}"
            ),
        ]
    );
    assert_eq!(of_map(&module, "sizes"), [None, None]);
    assert_eq!(
        of_map(&module, "big"),
        [
            text("uint32_t=unsigned int"),
            text("enum Some(\"wide\") [(\"WIDE\", 1099511627776)]")
        ]
    );
}

#[test]
fn variables_have_the_offsets_of_their_symbols() {
    let module = example(include_bytes!("../../tests/fixtures/types/types.o"), "types.o");
    let variables: Vec<(String, u32, String, String)> = module
        .globals
        .iter()
        .enumerate()
        .flat_map(|(index, section)| {
            let variables = module.types.variables(GlobalIndex(index as u32)).iter();
            variables.map(|v| {
                (
                    section.section.clone(),
                    v.offset,
                    v.name.clone(),
                    shown(&module.types, v.of),
                )
            })
        })
        .collect();
    let found: Vec<(&str, u32, &str, &str)> = variables
        .iter()
        .map(|(section, offset, name, of)| (section.as_str(), *offset, name.as_str(), of.as_str()))
        .collect();
    assert_eq!(
        found,
        [
            (".data", 0, "first", "uint32_t=unsigned int"),
            (".data", 8, "second", "uint64_t=unsigned long[2]"),
            (".rodata", 0, "fixed", "uint16_t=unsigned short"),
        ]
    );
}

#[test]
fn objects_without_types_have_none() {
    let module = crate::read_instructions(&[0x95, 0, 0, 0, 0, 0, 0, 0], "xdp").unwrap();
    assert_eq!(module.types, DataTypes::default());
}

#[test]
fn types_that_no_map_has_are_found_by_name() {
    let module = example(include_bytes!("../../tests/fixtures/types/types.o"), "types.o");
    let found = |name: &str| module.types.named(name).map(|of| shown(&module.types, of));
    assert!(found("struct record").is_some_and(|text| text.starts_with("struct record(48) {")));
    assert_eq!(found(" struct \t record "), found("record"));
    assert_eq!(found("uint16_t").as_deref(), Some("uint16_t=unsigned short"));
    assert_eq!(found("wide"), found("enum wide"));
    for name in ["union record", "struct wide", "struct", "", "unsigned int"] {
        assert_eq!(found(name), None, "{name}");
    }
    // No map, and no variable: the context of a program.
    assert!(found("xdp_md_t").is_some_and(|text| text.contains("xdp_md")));
}

/// An integer of that many bytes.
fn integer(types: &mut DataTypes, size: u32) -> Option<TypeIndex> {
    types.add(DataType::Integer {
        name: "int".to_owned(),
        size,
        signed: false,
        boolean: false,
    })
}

#[test]
fn types_that_make_no_sense_are_not_added() {
    let mut types = DataTypes::default();
    let number = integer(&mut types, 4).unwrap();
    assert_eq!(integer(&mut types, 3), None);
    let mut of = |size, bit_offset, bit_width| {
        let name = "member".to_owned();
        let members = vec![DataMember {
            name,
            of: number,
            bit_offset,
            bit_width,
        }];
        types.add(DataType::Struct {
            name: None,
            size,
            union: false,
            members,
        })
    };
    assert!(of(4, 0, None).is_some() && of(4, 29, Some(3)).is_some());
    for (size, offset, width) in [
        (4, 1, None),
        (4, 8, None),
        (4, 30, Some(3)),
        (8, 0, Some(33)),
        (4, 0, Some(0)),
    ] {
        assert_eq!(of(size, offset, width), None, "{size} {offset} {width:?}");
    }
    let (element, count) = (number, 1 << 30);
    assert_eq!(types.add(DataType::Array { element, count }), None);
    let mut of = number;
    for _ in 0..MAX_DEPTH {
        let name = "again".to_owned();
        of = types.add(DataType::Alias { name, of }).unwrap();
    }
    let name = "too deep".to_owned();
    assert_eq!(types.add(DataType::Alias { name, of }), None);
}
