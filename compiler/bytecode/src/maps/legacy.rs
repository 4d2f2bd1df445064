//! Maps that are records of a `maps` section: up to eight 32-bit numbers, `ebpf_map_definition_in_file_t` of native
//! module contract §1.1.
//!
//! Objects made for Linux have records of similar forms whose numbers after the fourth mean other things (flags, inner
//! map, NUMA node). They are read so if the object is taken for one; otherwise as they stand.

use std::collections::BTreeMap;

use super::{MapTable, Records, btf::pinning, named_symbols};
use crate::elf::{Elf, Section};
use crate::error::{Place, Problem, ReadError};
use crate::{Map, MapDefinition, MapIndex, MapMark, MapOrigin};

/// Size in bytes of what is read of a record; the rest of a longer one is ignored.
const KNOWN: usize = size_of::<[u32; 8]>();
/// A record has at least type, key size, value size and capacity.
const SHORTEST: u64 = 16;

// Types whose records name an inner map (`ebpf_structs.h`, `ebpf_map_type_t`).
const HASH_OF_MAPS: u32 = 6;
const ARRAY_OF_MAPS: u32 = 7;
// The same on Linux.
const LINUX_MAPS_OF_MAPS: [u32; 2] = [12, 13];

fn is_map_of_maps(map_type: u32, records: Records) -> bool {
    match records {
        Records::Windows => matches!(map_type, HASH_OF_MAPS | ARRAY_OF_MAPS),
        Records::Linux => LINUX_MAPS_OF_MAPS.contains(&map_type),
    }
}

/// Whether a section holds map records unless BTF describes it.
pub(super) fn is_map_section(name: &str) -> bool {
    ["maps", ".maps"]
        .iter()
        .filter_map(|prefix| name.strip_prefix(prefix))
        .any(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// What the records of a section show of their maps.
pub(super) fn marks(elf: &Elf<'_>, section: &Section<'_>) -> Vec<MapMark> {
    let symbols = named_symbols(elf, section);
    let mark = |&(offset, _, name): &(u64, u64, &str)| {
        let record = section.data.get(usize::try_from(offset).ok()?..)?;
        Some(MapMark {
            name: name.to_owned(),
            map_type: u32::from_le_bytes(*record.first_chunk()?),
            flags: None,
        })
    };
    symbols.iter().filter_map(mark).collect()
}

/// Reads the records of a section.
pub(super) fn read(
    table: &mut MapTable,
    elf: &Elf<'_>,
    section: &Section<'_>,
    records: Records,
) -> Result<(), ReadError> {
    let fail = |what| section.place().error(Problem::Map(what));
    if section.name.starts_with(".maps") && section.data.iter().all(|b| *b == 0) {
        // BTF-defined maps are all zeros themselves.
        return Err(fail("there is no BTF that describes the maps; compile with -g"));
    }
    if !elf.relocations(section)?.is_empty() {
        return Err(fail("a map record cannot hold an address"));
    }
    let symbols = named_symbols(elf, section);
    let record = record_size(&symbols, section.size).ok_or_else(|| fail("the size of its records cannot be told"))?;
    if record < SHORTEST || !record.is_multiple_of(4) || !section.size.is_multiple_of(record) {
        return Err(fail("its size is no whole number of map records"));
    }
    let mut symbols = symbols.into_iter().peekable();
    for (number, bytes) in section.data.chunks_exact(record as usize).enumerate() {
        let offset = number as u64 * record;
        let place = section.place().at(offset);
        let name = match symbols.next() {
            Some((value, _, name)) if value == offset => name,
            Some((_, _, name)) => {
                return Err(place
                    .of_symbol(name)
                    .error(Problem::Map("the symbol is not at the start of a record")));
            }
            None => return Err(place.error(Problem::Map("a map record without a symbol"))),
        };
        if symbols.next_if(|(value, ..)| *value == offset).is_some() {
            return Err(place
                .of_symbol(name)
                .error(Problem::Map("shares its place with another map")));
        }
        let (definition, flags) = match records {
            Records::Windows => definition(bytes).map(|definition| (definition, 0)),
            Records::Linux => linux_definition(bytes),
        }
        .map_err(|p| place.clone().of_symbol(name).error(p))?;
        table.by_place.insert((section.index, offset), table.next_index());
        table.maps.push(Map {
            name: name.to_owned(),
            definition,
            inner: None,
            origin: MapOrigin::Legacy,
            flags,
            initial_values: Vec::new(),
        });
    }
    match symbols.next() {
        Some((offset, _, name)) => Err(section
            .place()
            .at(offset)
            .of_symbol(name)
            .error(Problem::Map("the symbol is not at the start of a record"))),
        None => Ok(()),
    }
}

/// The smallest size that a symbol states; where none does, the section in equal parts.
fn record_size(symbols: &[(u64, u64, &str)], section_size: u64) -> Option<u64> {
    let stated = symbols.iter().map(|(_, size, _)| *size).filter(|size| *size != 0).min();
    stated.or_else(|| section_size.checked_div(symbols.len() as u64))
}

fn definition(record: &[u8]) -> Result<MapDefinition, Problem> {
    let mut fields = [0u8; KNOWN];
    let known = record.len().min(KNOWN);
    fields[..known].copy_from_slice(&record[..known]);
    let mut fields = fields.as_chunks::<4>().0.iter().copied().map(u32::from_le_bytes);
    let mut next = || fields.next().unwrap_or(0);
    Ok(MapDefinition {
        map_type: next(),
        key_size: next(),
        value_size: next(),
        max_entries: next(),
        inner_map_idx: next(),
        pinning: pinning(next())?,
        id: next(),
        inner_id: next(),
    })
}

/// What a record of Linux says, and its flags. Loaders have known two forms: that of the kernel's samples, up to seven numbers (after the
/// four: flags, index of the inner map, NUMA node), and that of iproute2, nine (flags, id, pinning, id and index of the inner map).
fn linux_definition(record: &[u8]) -> Result<(MapDefinition, u32), Problem> {
    const IPROUTE2: usize = size_of::<[u32; 9]>();
    let number = |index: usize| {
        let bytes = record.get(index * 4..).and_then(<[u8]>::first_chunk);
        bytes.map_or(0, |bytes| u32::from_le_bytes(*bytes))
    };
    let [map_type, key_size, value_size, max_entries, flags] = [0, 1, 2, 3, 4].map(number);
    let mut definition = MapDefinition {
        map_type,
        key_size,
        value_size,
        max_entries,
        ..MapDefinition::default()
    };
    if record.len() >= IPROUTE2 {
        // Pinned for an object or for all of them: here, the same.
        definition.pinning = pinning(number(6).min(1))?;
        (definition.id, definition.inner_id, definition.inner_map_idx) = (number(5), number(7), number(8));
    } else {
        definition.inner_map_idx = number(5);
    }
    Ok((definition, flags))
}

/// Finds the inner maps that legacy maps of maps name by index or id (native module contract §4.3). A map of maps that
/// names none is left without: verification refuses it where the type means a map of maps.
pub(super) fn resolve_inner_maps(table: &mut MapTable, records: Records) -> Result<(), ReadError> {
    // The first two maps of each id: a map is not its own template.
    let mut by_id: BTreeMap<u32, (usize, Option<usize>)> = BTreeMap::new();
    for (index, map) in table.maps.iter().enumerate() {
        by_id
            .entry(map.definition.id)
            .and_modify(|(_, second)| *second = second.or(Some(index)))
            .or_insert((index, None));
    }
    let count = table.maps.len();
    for (outer, map) in table.maps.iter_mut().enumerate() {
        let definition = &map.definition;
        if map.origin != MapOrigin::Legacy || !is_map_of_maps(definition.map_type, records) {
            continue;
        }
        let fail = |what| Err(Place::symbol(&map.name).error(Problem::Map(what)));
        let by_id = match by_id.get(&definition.inner_id) {
            Some((first, second)) if *first == outer => *second,
            found => found.map(|(first, _)| *first),
        };
        let inner = match (definition.inner_map_idx as usize, definition.inner_id, by_id) {
            (0, 0, _) => continue,
            (0, _, Some(index)) => index,
            (0, _, None) => return fail("no map has the id that it names as inner map"),
            (index, ..) if index >= count => return fail("there is no map of the index that it names as inner map"),
            (index, ..) if index == outer => return fail("names itself as inner map"),
            (index, id, by_id) if id != 0 && by_id != Some(index) => {
                return fail("names two different inner maps, by index and by id");
            }
            (index, ..) => index,
        };
        map.inner = Some(MapIndex(inner as u32));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use crate::testing::NoKernel;
    use crate::testing::{DATA, EXIT, OBJECT, Object, PROGBITS};
    use crate::{MapDefinition, MapIndex, Module, Pinning, ReadError, read, read_linux};

    fn bytes(records: &[&[u32]]) -> Vec<u8> {
        records
            .iter()
            .flat_map(|r| r.iter())
            .flat_map(|f| f.to_le_bytes())
            .collect()
    }

    fn maps(object: &Object) -> Result<Module, ReadError> {
        read(&object.build(), "test.o")
    }

    /// Maps `m0` and up, one per record, whose symbols state `size`.
    fn object(records: &[&[u32]], size: u64) -> Object {
        let mut object = Object::with_program(&EXIT);
        let section = object.section("maps", PROGBITS, DATA, &bytes(records));
        let mut offset = 0;
        for (number, record) in records.iter().enumerate() {
            object.symbol(&format!("m{number}"), OBJECT, section, offset, size);
            offset += record.len() as u64 * 4;
        }
        object
    }

    fn message(object: &Object) -> String {
        maps(object).map(|_| ()).unwrap_err().to_string()
    }

    #[test]
    fn records_of_each_size_are_read() {
        for size in [4, 5, 7, 8, 10] {
            let record: Vec<u32> = [1, 4, 8, 16, 0, 1, 30, 31, 99, 99][..size].to_vec();
            let expected = MapDefinition {
                map_type: 1,
                key_size: 4,
                value_size: 8,
                max_entries: 16,
                inner_map_idx: 0,
                pinning: if size > 5 { Pinning::ByName } else { Pinning::None },
                id: if size > 6 { 30 } else { 0 },
                inner_id: if size > 7 { 31 } else { 0 },
            };
            // With sizes, and as old compilers leave them.
            for stated in [size as u64 * 4, 0] {
                let module = maps(&object(&[&record, &record], stated)).unwrap();
                let names: Vec<_> = module.maps.iter().map(|m| m.name.as_str()).collect();
                assert_eq!(names, ["m0", "m1"]);
                assert!(module.maps.iter().all(|m| m.definition == expected), "{size}");
            }
        }
    }

    #[test]
    fn records_of_linux_have_flags_and_inner_maps_at_other_places() {
        let linux =
            |records: &[&[u32]], size| read_linux(&object(records, size).build(), "test.o", None, &NoKernel).unwrap();
        // Type, sizes and capacity; flags, index of the inner map, NUMA node.
        let module = linux(&[&[1, 4, 8, 16, 3, 0, 9], &[12, 4, 4, 1, 0, 0, 0]], 28);
        let definition = MapDefinition {
            map_type: 1,
            key_size: 4,
            value_size: 8,
            max_entries: 16,
            ..MapDefinition::default()
        };
        assert_eq!((module.maps[0].definition, module.maps[0].flags), (definition, 3));
        let module = linux(&[&[13, 4, 4, 1, 0, 1, 0], &[1, 4, 4, 1, 1, 0, 0]], 28);
        assert_eq!(module.maps[0].inner, Some(MapIndex(1)));
        // iproute2's: flags, id, pinning, id and index of the inner map.
        let record = [1, 4, 8, 16, 1, 7, 2, 0, 0];
        let module = linux(&[&record], 36);
        let expected = MapDefinition {
            pinning: Pinning::ByName,
            id: 7,
            ..definition
        };
        assert_eq!((module.maps[0].definition, module.maps[0].flags), (expected, 1));
        // The same bytes mean other things on Windows.
        let module = maps(&object(&[&[1, 4, 8, 16, 3, 0, 9, 0]], 32)).unwrap();
        assert_eq!((module.maps[0].definition.inner_map_idx, module.maps[0].flags), (3, 0));
    }

    #[test]
    fn maps_of_several_sections_count_on() {
        let mut object = object(&[&[1, 4, 4, 1], &[2, 4, 4, 1]], 16);
        let more = object.section("maps/more", PROGBITS, DATA, &bytes(&[&[3, 4, 4, 1]]));
        object.symbol("third", OBJECT, more, 0, 16);
        let module = maps(&object).unwrap();
        let types: Vec<_> = module.maps.iter().map(|m| m.definition.map_type).collect();
        assert_eq!(types, [1, 2, 3]);
    }

    #[test]
    fn inner_maps_are_named_by_index_or_id() {
        const PLAIN: &[u32] = &[1, 4, 4, 1, 0, 0, 10, 0];
        const OTHER: &[u32] = &[2, 4, 4, 1, 0, 0, 11, 0];
        for (outer, inner) in [
            ([7, 4, 4, 1, 1, 0, 0, 0], Some(1)),
            ([6, 4, 4, 1, 0, 0, 0, 11], Some(2)),
            ([6, 4, 4, 1, 2, 0, 0, 11], Some(2)),
            // Neither: left to verification.
            ([6, 4, 4, 1, 0, 0, 0, 0], None),
            // Its own id does not make it its own inner map.
            ([6, 4, 4, 1, 0, 0, 11, 11], Some(2)),
            // Other types ignore both.
            ([1, 4, 4, 1, 77, 0, 0, 78], None),
        ] {
            let module = maps(&object(&[&outer, PLAIN, OTHER], 32)).unwrap();
            assert_eq!(module.maps[0].inner, inner.map(MapIndex), "{outer:?}");
        }
        for (outer, expected) in [
            (
                [7, 4, 4, 1, 3, 0, 0, 0],
                "there is no map of the index that it names as inner map",
            ),
            (
                [7, 4, 4, 1, 0, 0, 0, 12],
                "no map has the id that it names as inner map",
            ),
            (
                [7, 4, 4, 1, 1, 0, 0, 11],
                "names two different inner maps, by index and by id",
            ),
        ] {
            let error = message(&object(&[&outer, PLAIN, OTHER], 32));
            assert_eq!(error, format!("`m0`: {expected}"));
        }
        let error = message(&object(&[PLAIN, &[7, 4, 4, 1, 1, 0, 0, 0]], 32));
        assert_eq!(error, "`m1`: names itself as inner map");
    }

    #[test]
    fn refuses_records_that_cannot_be_told_apart() {
        let plain: &[u32] = &[1, 4, 4, 1];
        assert_eq!(
            message(&object(&[plain, &[1, 4, 4, 1, 0]], 16)),
            "section `maps`: its size is no whole number of map records"
        );
        assert_eq!(
            message(&object(&[&[1, 4]], 8)),
            "section `maps`: its size is no whole number of map records"
        );
        let mut unnamed = Object::with_program(&EXIT);
        unnamed.section("maps", PROGBITS, DATA, &bytes(&[plain]));
        assert_eq!(
            message(&unnamed),
            "section `maps`: the size of its records cannot be told"
        );
        let mut missing = object(&[plain], 16);
        missing.sections[1].data = bytes(&[plain, plain]);
        assert_eq!(
            message(&missing),
            "section `maps` at 0x10: a map record without a symbol"
        );
        let mut twice = object(&[plain], 16);
        twice.symbol("again", OBJECT, 2, 0, 16);
        assert_eq!(
            message(&twice),
            "section `maps` at 0x0: `m0`: shares its place with another map"
        );
        let mut inside = object(&[plain, plain], 16);
        inside.symbol("inside", OBJECT, 2, 20, 0);
        assert_eq!(
            message(&inside),
            "section `maps` at 0x14: `inside`: the symbol is not at the start of a record"
        );
    }

    #[test]
    fn maps_that_lost_their_btf_are_not_taken_for_records() {
        let mut object = Object::with_program(&EXIT);
        let section = object.section(".maps", PROGBITS, DATA, &[0; 32]);
        object.symbol("m", OBJECT, section, 0, 32);
        assert_eq!(
            message(&object),
            "section `.maps`: there is no BTF that describes the maps; compile with -g"
        );
        object.sections[1].data[0] = 1;
        assert_eq!(maps(&object).unwrap().maps[0].definition.map_type, 1);
    }

    #[test]
    fn refuses_definitions_that_cannot_be() {
        assert_eq!(
            message(&object(&[&[1, 4, 4, 1, 0, 2]], 24)),
            "section `maps` at 0x0: `m0`: `pinning` cannot be 2"
        );
        let mut same = object(&[&[1, 4, 4, 1]], 16);
        let more = same.section("maps/more", PROGBITS, DATA, &bytes(&[&[1, 4, 4, 1]]));
        same.symbol("m0", OBJECT, more, 0, 16);
        assert_eq!(message(&same), "`m0`: two maps have this name");
        let mut address = object(&[&[1, 4, 4, 1]], 16);
        address.relocate(2, &[(0, 1, 1)]);
        assert_eq!(message(&address), "section `maps`: a map record cannot hold an address");
    }
}
