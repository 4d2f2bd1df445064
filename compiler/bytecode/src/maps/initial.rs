//! Initial values: what the relocations of `.maps` put into the `values` members of maps.

use super::MapTable;
use crate::elf::{Elf, Home, Relocation, Section, SectionIndex};
use crate::error::{Problem, ReadError};
use crate::functions::FunctionTable;
use crate::{Function, FunctionKind, InitialValue, MapIndex};

/// Size in bytes of an element of `values`: a pointer.
const ELEMENT: u64 = 8;
/// Size in bytes of the keys that initial values can be stored under.
const KEY_SIZE: u32 = 4;
/// `BPF_MAP_TYPE_HASH_OF_MAPS`, whose keys may be any numbers.
const HASH_OF_MAPS: u32 = 6;
/// Most elements of one `values` member.
const MAX_ELEMENTS: u64 = 1 << 16;

// Relocation types of pointers in data: today's, and what it was before LLVM 13.
const ABS64: u32 = 2;
const OLD_ABS64: u32 = object::elf::R_BPF_64_64.0;

/// What the elements of a `values` member are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ValueKind {
    Maps,
    Programs,
}

/// A `values` member.
#[derive(Clone, Copy, Debug)]
pub(super) struct Values {
    map: MapIndex,
    kind: ValueKind,
    section: SectionIndex,
    /// Offset in bytes of the first element in the section.
    start: u64,
    count: u64,
}

impl Values {
    /// The member at `offset` of a structure that has `size` bytes and stands at `symbol` in `section`.
    pub(super) fn new(
        map: MapIndex,
        kind: ValueKind,
        section: SectionIndex,
        symbol: u64,
        size: u64,
        offset: u32,
    ) -> Result<Values, Problem> {
        let bytes = size.checked_sub(u64::from(offset)).ok_or(Problem::OutOfRange {
            what: "the `values` member",
            whole: "map definition",
        })?;
        let count = bytes / ELEMENT;
        if count > MAX_ELEMENTS {
            return Err(Problem::TooMuch {
                what: "initial values of a map",
                limit: MAX_ELEMENTS,
            });
        }
        Ok(Values {
            map,
            kind,
            section,
            start: symbol + u64::from(offset),
            count,
        })
    }
}

/// Fills in the initial values of all maps. `is_joined`: see [`Elf::is_joined`].
pub(crate) fn resolve(
    table: &mut MapTable,
    elf: &Elf<'_>,
    code: &FunctionTable<'_>,
    functions: &[Function],
    is_joined: bool,
) -> Result<(), ReadError> {
    let mut values = std::mem::take(&mut table.values);
    values.sort_by_key(|v| (v.section, v.start));
    for member in &values {
        if let Some(map) = table.maps.get_mut(member.map.index()) {
            map.initial_values = vec![None; member.count as usize];
        }
    }
    let sections: Vec<SectionIndex> = table.sections.iter().copied().collect();
    for section in sections.iter().filter_map(|s| elf.section(*s)) {
        for relocation in elf.relocations(section)? {
            if relocation.kind == object::elf::R_BPF_NONE.0 {
                continue;
            }
            let fail = |problem| {
                let place = section.place().at(relocation.offset);
                place.of_symbol(relocation.symbol.name).error(problem)
            };
            if is_joined && relocation.symbol.kind == object::elf::STT_SECTION {
                return Err(fail(Problem::JoinedUnits));
            }
            let (member, slot) = element(&values, section, &relocation)
                .ok_or_else(|| fail(Problem::Map("an address that is no element of a map's `values`")))?;
            let value = value(table, code, functions, section, &relocation, member.kind).map_err(fail)?;
            let Some(map) = table.maps.get_mut(member.map.index()) else {
                continue;
            };
            if map.definition.key_size != KEY_SIZE {
                return Err(fail(Problem::Map("initial values need a key of four bytes")));
            }
            // The position is the key (native module contract §4.9).
            if slot as u64 >= u64::from(map.definition.max_entries) && map.definition.map_type != HASH_OF_MAPS {
                return Err(fail(Problem::Map("an initial value behind the map's last entry")));
            }
            if let Some(entry) = map.initial_values.get_mut(slot) {
                *entry = Some(value);
            }
        }
    }
    Ok(())
}

/// The member and element that a relocation applies to.
fn element<'v>(
    values: &'v [Values],
    section: &Section<'_>,
    relocation: &Relocation<'_, '_>,
) -> Option<(&'v Values, usize)> {
    let after = values.partition_point(|v| (v.section, v.start) <= (section.index, relocation.offset));
    let member = values.get(after.checked_sub(1)?)?;
    let distance = relocation.offset - member.start;
    (member.section == section.index && distance.is_multiple_of(ELEMENT) && distance / ELEMENT < member.count)
        .then_some((member, (distance / ELEMENT) as usize))
}

fn value(
    table: &MapTable,
    code: &FunctionTable<'_>,
    functions: &[Function],
    section: &Section<'_>,
    relocation: &Relocation<'_, '_>,
    kind: ValueKind,
) -> Result<InitialValue, Problem> {
    if !matches!(relocation.kind, ABS64 | OLD_ABS64) {
        return Err(Problem::RelocationType {
            kind: relocation.kind,
            what: "an initial value of a map",
        });
    }
    let home = match relocation.symbol.home {
        Home::Section(home) => home,
        Home::Undefined => return Err(Problem::Unresolved),
        Home::Common | Home::Special => return Err(Problem::Reference("not a map or program of this object")),
    };
    let in_place = section
        .data
        .get(relocation.offset as usize..)
        .and_then(|rest| rest.first_chunk())
        .map_or(0, |bytes| u64::from_le_bytes(*bytes));
    let offset = relocation.symbol.value.wrapping_add(in_place);
    match kind {
        ValueKind::Maps => table
            .map_at(home, offset)
            .map(InitialValue::Map)
            .ok_or(Problem::Reference("an initial value that is no map")),
        ValueKind::Programs => code
            .at(home, offset)
            .filter(|f| {
                functions
                    .get(f.index())
                    .is_some_and(|f| f.kind == FunctionKind::Program)
            })
            .map(InitialValue::Program)
            .ok_or(Problem::Reference("an initial value that is no program")),
    }
}

#[cfg(test)]
mod tests {
    use crate::testing::{DATA, EXEC, EXIT, FUNCTION, OBJECT, Object, PROGBITS, Types};
    use crate::{FunctionIndex, InitialValue, MapIndex, read};

    const ABS64: u32 = 2;

    /// A map `array` of maps or programs with `elements` values behind 24 bytes of other members, and a map `inner`;
    /// sections: 1 `xdp` with `entry`, 2 `.text` with `sub`, 3 `.maps`; symbols in the order entry, sub, array, inner.
    fn object(holds_maps: bool, elements: u32) -> Object {
        object_of(holds_maps, elements, 4, 3)
    }

    fn object_of(holds_maps: bool, elements: u32, key_size: u32, max_entries: u32) -> Object {
        let mut types = Types::new();
        let (map_type, key_size, max_entries) = (types.uint(7), types.uint(key_size), types.uint(max_entries));
        let inner = types.structure(&[("type", map_type)]);
        let element = if holds_maps { inner } else { types.signature() };
        let pointer = types.pointer(element);
        let values = types.array(pointer, 0);
        let array = types.structure(&[
            ("type", map_type),
            ("key_size", key_size),
            ("max_entries", max_entries),
            ("values", values),
        ]);
        let variables = [types.variable("array", array), types.variable("inner", inner)];
        types.data_section(".maps", 0, &variables);
        let mut object = Object::with_program(&EXIT);
        let text = object.section(".text", PROGBITS, EXEC, &EXIT);
        object.symbol("sub", FUNCTION, text, 0, 8);
        let size = 24 + elements * 8;
        let maps = object.section(".maps", PROGBITS, DATA, &vec![0; size as usize + 8]);
        object.symbol("array", OBJECT, maps, 0, u64::from(size));
        object.symbol("inner", OBJECT, maps, u64::from(size), 8);
        object.section(".BTF", PROGBITS, 0, &types.build());
        object
    }

    fn values(object: &Object) -> Result<Vec<Option<InitialValue>>, String> {
        let module = read(&object.build(), "test.o").map_err(|e| e.to_string())?;
        Ok(module.maps[0].initial_values.clone())
    }

    #[test]
    fn values_are_where_relocations_put_them() {
        let mut maps = object(true, 3);
        maps.relocate(3, &[(40, ABS64, 4), (24, 1, 4), (32, 0, 99)]);
        assert!(values(&maps).is_err());
        let mut maps = object(true, 3);
        maps.relocate(3, &[(40, ABS64, 4), (24, 1, 4), (32, 0, 1)]);
        let inner = Some(InitialValue::Map(MapIndex(1)));
        assert_eq!(values(&maps), Ok(vec![inner, None, inner]));

        let mut programs = object(false, 2);
        programs.relocate(3, &[(32, ABS64, 1)]);
        let entry = Some(InitialValue::Program(FunctionIndex(0)));
        assert_eq!(values(&programs), Ok(vec![None, entry]));
        assert_eq!(values(&object(false, 0)), Ok(vec![]));
    }

    #[test]
    fn compiled_values_name_static_things_too() {
        let module = read(include_bytes!("../../tests/fixtures/values.o"), "values.o").unwrap();
        let name = |value: &Option<InitialValue>| match value {
            Some(InitialValue::Map(map)) => module.maps[map.index()].name.clone(),
            Some(InitialValue::Program(program)) => module.function(*program).name.clone(),
            None => String::new(),
        };
        let found: Vec<_> = module
            .maps
            .iter()
            .map(|m| {
                let values: Vec<_> = m.initial_values.iter().map(name).collect();
                (
                    m.name.as_str(),
                    values.join(","),
                    m.definition.value_size,
                    m.definition.id,
                )
            })
            .collect();
        // Templates that only another template contains are numbered with the others, by type.
        assert_eq!(
            found,
            [
                ("programs", ",first,,callee".to_owned(), 4, 16),
                ("shown", String::new(), 8, 25),
                ("hidden", String::new(), 8, 25),
                ("outer", "shown,,hidden".to_owned(), 4, 32),
                ("nested", String::new(), 4, 47),
                ("__anonymous_1", String::new(), 4, 35),
                ("__anonymous_2", String::new(), 8, 41),
            ]
        );
        let inner: Vec<_> = module
            .maps
            .iter()
            .map(|m| (m.inner.map(|i| i.0), m.definition.inner_id))
            .collect();
        let none = (None, 0);
        assert_eq!(
            inner,
            [none, none, none, (Some(1), 25), (Some(5), 35), (Some(6), 41), none]
        );
    }

    #[test]
    fn what_stands_in_place_is_added() {
        // By the section's symbol: the map's offset is in the eight bytes.
        let mut maps = object(true, 1);
        let section = maps.symbol("", 0x03, 3, 0, 0);
        maps.sections[2].data[24] = 32;
        maps.relocate(3, &[(24, ABS64, section)]);
        assert_eq!(values(&maps), Ok(vec![Some(InitialValue::Map(MapIndex(1)))]));
    }

    #[test]
    fn refuses_values_that_do_not_fit() {
        for (holds_maps, offset, kind, symbol, expected) in [
            (true, 24, ABS64, 1, "`entry`: an initial value that is no map"),
            (false, 24, ABS64, 4, "`inner`: an initial value that is no program"),
            (false, 24, ABS64, 2, "`sub`: an initial value that is no program"),
            (
                false,
                24,
                10,
                1,
                "`entry`: relocation type 10 cannot be applied to an initial value of a map",
            ),
            (
                false,
                0,
                ABS64,
                1,
                "`entry`: an address that is no element of a map's `values`",
            ),
            (
                false,
                12,
                ABS64,
                1,
                "`entry`: an address that is no element of a map's `values`",
            ),
            (
                false,
                16,
                ABS64,
                1,
                "`entry`: an address that is no element of a map's `values`",
            ),
        ] {
            let mut object = object(holds_maps, 1);
            object.relocate(3, &[(offset, kind, symbol)]);
            assert_eq!(
                values(&object),
                Err(format!("section `.maps` at {offset:#x}: {expected}"))
            );
        }
        let mut undefined = object(false, 1);
        let symbol = undefined.symbol("elsewhere", FUNCTION, 0, 0, 0);
        undefined.relocate(3, &[(24, ABS64, symbol)]);
        assert_eq!(
            values(&undefined),
            Err("section `.maps` at 0x18: `elsewhere`: the symbol is not defined in this object".into())
        );
        assert_eq!(
            values(&object(false, (1 << 16) + 1)),
            Err("section `.maps` at 0x0: `array`: more than 65536 initial values of a map".into())
        );
    }

    #[test]
    fn refuses_values_that_could_not_be_stored() {
        for (key_size, max_entries, expected) in [
            (8, 3, "initial values need a key of four bytes"),
            (4, 1, "an initial value behind the map's last entry"),
        ] {
            let mut object = object_of(true, 2, key_size, max_entries);
            object.relocate(3, &[(32, ABS64, 4)]);
            assert_eq!(
                values(&object),
                Err(format!("section `.maps` at 0x20: `inner`: {expected}"))
            );
        }
        // Without a value there is nothing to store.
        assert!(values(&object_of(true, 2, 8, 1)).is_ok());
    }
}
