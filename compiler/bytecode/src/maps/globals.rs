//! Sections of global variables, each behind an array map of one entry.

use object::elf;

use super::MapTable;
use crate::btf::TypeId;
use crate::elf::{Elf, Section};
use crate::error::{Problem, ReadError};
use crate::{GlobalIndex, GlobalSection, Map, MapDefinition, MapOrigin};

/// Largest section (native module contract §7).
const MAX_SECTION: u64 = 1 << 20;
/// Largest size of all sections together. `.bss` sections take no bytes in the file, so it does not bound them.
const MAX_TOTAL: u64 = 16 << 20;
/// `BPF_MAP_TYPE_ARRAY`.
const ARRAY: u32 = 2;
/// How many characters of the object's name begin the map's name (native module contract §7).
const PREFIX: usize = 7;

/// Whether a section holds global variables, by its name and type.
pub(super) fn is_global_section(section: &Section<'_>) -> bool {
    matches!(section.kind, elf::SHT_PROGBITS | elf::SHT_NOBITS)
        && [".rodata", ".data", ".bss"]
            .iter()
            .filter_map(|prefix| section.name.strip_prefix(prefix))
            .any(|rest| rest.is_empty() || rest.starts_with('.'))
}

/// Adds a section and its map. `description` is the type id and size that BTF gives.
pub(super) fn read(
    table: &mut MapTable,
    elf: &Elf<'_>,
    section: &Section<'_>,
    module: &str,
    description: Option<(TypeId, u32)>,
) -> Result<(), ReadError> {
    let fail = |problem| section.place().error(problem);
    let too_much = |what, limit| fail(Problem::TooMuch { what, limit });
    if section.size > MAX_SECTION {
        return Err(too_much("bytes in a section of global variables", MAX_SECTION));
    }
    let total: u64 = table.globals.iter().map(|g| g.data.len() as u64).sum();
    if total + section.size > MAX_TOTAL {
        return Err(too_much("bytes of global variables", MAX_TOTAL));
    }
    // Compilers leave the size in BTF to the loader, as zero.
    if description.is_some_and(|(_, size)| size != 0 && u64::from(size) != section.size) {
        return Err(fail(Problem::Malformed("BTF gives another size for this section")));
    }
    if let Some(relocation) = elf.relocations(section)?.iter().find(|r| r.kind != elf::R_BPF_NONE.0) {
        return Err(section
            .place()
            .at(relocation.offset)
            .of_symbol(relocation.symbol.name)
            .error(Problem::Unsupported("a global variable is initialised with an address")));
    }
    let size = section.size as usize;
    let mut data = section.data.to_vec();
    data.resize(size, 0);
    let (global, map) = (GlobalIndex(table.globals.len() as u32), table.next_index());
    table.by_section.insert(section.index, global);
    table.maps.push(Map {
        name: module.chars().take(PREFIX).chain(section.name.chars()).collect(),
        definition: MapDefinition {
            map_type: ARRAY,
            key_size: 4,
            value_size: size as u32,
            max_entries: 1,
            id: description.map_or(0, |(id, _)| id.0),
            ..MapDefinition::default()
        },
        inner: None,
        origin: MapOrigin::Global(global),
        initial_values: Vec::new(),
    });
    table.globals.push(GlobalSection {
        section: section.name.to_owned(),
        map,
        data,
        read_only: section.name.starts_with(".rodata"),
    });
    Ok(())
}
