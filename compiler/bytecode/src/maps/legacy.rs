//! Maps that are records of a `maps` section: up to eight 32-bit numbers, `ebpf_map_definition_in_file_t` of native
//! module contract §1.1.
//!
//! Objects made for Linux have records of the same form whose numbers after the fourth mean other things (flags, inner
//! map, NUMA node); they are read as they stand.

use super::{MapTable, btf::pinning, named_symbols};
use crate::elf::{Elf, Section};
use crate::error::{Place, Problem, ReadError};
use crate::{Map, MapDefinition, MapIndex, MapOrigin};

/// Size in bytes of what is read of a record; the rest of a longer one is ignored.
const KNOWN: usize = size_of::<[u32; 8]>();
/// A record has at least type, key size, value size and capacity.
const SHORTEST: u64 = 16;

// Types whose records name an inner map (`ebpf_structs.h`, `ebpf_map_type_t`).
const HASH_OF_MAPS: u32 = 6;
const ARRAY_OF_MAPS: u32 = 7;

/// Whether a section holds map records unless BTF describes it.
pub(super) fn is_map_section(name: &str) -> bool {
    ["maps", ".maps"]
        .iter()
        .filter_map(|prefix| name.strip_prefix(prefix))
        .any(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// Reads the records of a section.
pub(super) fn read(table: &mut MapTable, elf: &Elf<'_>, section: &Section<'_>) -> Result<(), ReadError> {
    let fail = |what| section.place().error(Problem::Map(what));
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
                .error(Problem::Map("another map has the same place")));
        }
        let definition = definition(bytes).map_err(|p| place.clone().of_symbol(name).error(p))?;
        table.by_place.insert((section.index, offset), table.next_index());
        table.maps.push(Map {
            name: name.to_owned(),
            definition,
            inner: None,
            origin: MapOrigin::Legacy,
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

/// Finds the inner maps that legacy maps of maps name by index or id (native module contract §4.3). A map of maps that
/// names none is left without: verification refuses it where the type means a map of maps.
pub(super) fn resolve_inner_maps(table: &mut MapTable) -> Result<(), ReadError> {
    for outer in 0..table.maps.len() {
        let Map { origin, definition, .. } = &table.maps[outer];
        if *origin != MapOrigin::Legacy || !matches!(definition.map_type, HASH_OF_MAPS | ARRAY_OF_MAPS) {
            continue;
        }
        let fail = |what| Err(Place::symbol(&table.maps[outer].name).error(Problem::Map(what)));
        let by_index = definition.inner_map_idx as usize;
        let by_id = || {
            let maps = table.maps.iter().enumerate();
            maps.filter(|(i, m)| *i != outer && m.definition.id == definition.inner_id)
                .map(|(i, _)| i)
                .next()
        };
        let inner = match (by_index, definition.inner_id) {
            (0, 0) => continue,
            (0, _) => match by_id() {
                Some(inner) => inner,
                None => return fail("no map has the id that it names as inner map"),
            },
            (index, id) => {
                if index >= table.maps.len() {
                    return fail("there is no map of the index that it names as inner map");
                }
                if index == outer {
                    return fail("names itself as inner map");
                }
                if id != 0 && by_id() != Some(index) {
                    return fail("names two different inner maps, by index and by id");
                }
                index
            }
        };
        table.maps[outer].inner = Some(MapIndex(inner as u32));
    }
    Ok(())
}
