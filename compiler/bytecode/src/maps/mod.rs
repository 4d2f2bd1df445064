//! The module's map table and global variable sections, in the order of native module contract §7.
//!
//! Given: the sections of an object, its BTF, and which sections its code refers to.
//! Computed: every map with its definition, the sections behind maps of global variables, and what stands where, so
//! that relocations can be resolved.
//! Safe because: definitions are read with checked arithmetic, and their sizes together are bounded.

mod btf;
mod globals;
mod initial;
mod legacy;

use std::collections::{BTreeMap, BTreeSet};

use crate::btf::Btf;
use crate::elf::{Elf, Section, SectionIndex};
use crate::error::{Place, Problem, ReadError};
use crate::linux::{CONFIGURATION, Configuration};
use crate::{GlobalIndex, GlobalSection, Map, MapIndex, MapMark};

pub(crate) use initial::resolve as resolve_initial_values;

/// Most maps of a module: what a program refers to is a list of 16-bit indices (native module contract §1.1).
const MAX_MAPS: usize = 1 << 16;

/// What the numbers of map records mean.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Records {
    /// What they mean on Windows.
    Windows,
    /// What they mean on Linux.
    Linux,
}

/// The maps of an object and where they stand.
#[derive(Default)]
pub(crate) struct MapTable {
    pub(crate) maps: Vec<Map>,
    pub(crate) globals: Vec<GlobalSection>,
    /// The map that is defined at an offset of a map section.
    by_place: BTreeMap<(SectionIndex, u64), MapIndex>,
    sections: BTreeSet<SectionIndex>,
    by_section: BTreeMap<SectionIndex, GlobalIndex>,
    /// The section with values of the kernel's configuration, of an object for Linux.
    pub(crate) configuration: Option<GlobalIndex>,
    /// The `values` members of `.maps`, by offset.
    values: Vec<initial::Values>,
    /// Size of all `globals` together, in bytes.
    global_bytes: u64,
}

impl MapTable {
    /// Reads all maps. `module` is the object's base name, `referenced` the sections that code refers to.
    pub(crate) fn read(
        elf: &Elf<'_>,
        btf: Option<&Btf<'_>>,
        module: &str,
        referenced: &BTreeSet<SectionIndex>,
        records: Records,
    ) -> Result<MapTable, ReadError> {
        let mut table = MapTable::default();
        let descriptions = btf.map(Btf::data_sections).unwrap_or_default();
        for section in elf.sections.iter().filter(|s| s.size != 0 && !s.is_executable()) {
            let description = descriptions.get(section.name);
            match (btf, description) {
                (Some(btf), Some(description)) if section.name == ".maps" => {
                    table.sections.insert(section.index);
                    btf::read(&mut table, elf, section, btf, &description.variables)?;
                }
                _ if legacy::is_map_section(section.name) => {
                    table.sections.insert(section.index);
                    legacy::read(&mut table, elf, section, records)?;
                }
                _ if globals::is_global_section(section)
                    && (description.is_some_and(|d| !d.variables.is_empty())
                        || referenced.contains(&section.index)) =>
                {
                    globals::read(&mut table, elf, section, module, description)?;
                }
                _ => {}
            }
        }
        if table.maps.len() > MAX_MAPS {
            return Err(Place::file().error(Problem::TooMuch {
                what: "maps",
                limit: MAX_MAPS as u64,
            }));
        }
        legacy::resolve_inner_maps(&mut table, records)?;
        table.check_names()?;
        Ok(table)
    }

    /// Adds values of the kernel's configuration as a section of global variables.
    pub(crate) fn add_configuration(&mut self, module: &str, values: &Configuration) -> Result<(), ReadError> {
        if !values.data.is_empty() {
            self.configuration = Some(globals::add(self, module, CONFIGURATION, values.data.clone(), 0));
            self.check_names()?;
        }
        Ok(())
    }

    /// Whether maps are defined in the section.
    pub(crate) fn is_map_section(&self, section: SectionIndex) -> bool {
        self.sections.contains(&section)
    }

    /// The map whose definition starts at an offset of a section.
    pub(crate) fn map_at(&self, section: SectionIndex, offset: u64) -> Option<MapIndex> {
        self.by_place.get(&(section, offset)).copied()
    }

    /// The global variable section that a section of the object is.
    pub(crate) fn global(&self, section: SectionIndex) -> Option<(GlobalIndex, &GlobalSection)> {
        let index = *self.by_section.get(&section)?;
        Some((index, self.globals.get(index.index())?))
    }

    fn next_index(&self) -> MapIndex {
        MapIndex(self.maps.len() as u32)
    }

    fn check_names(&self) -> Result<(), ReadError> {
        let mut names = BTreeSet::new();
        match self.maps.iter().find(|m| !names.insert(m.name.as_str())) {
            Some(map) => Err(Place::symbol(&map.name).error(Problem::Duplicate("maps"))),
            None => Ok(()),
        }
    }
}

/// The maps that an object defines, as far as they can be told without a meaning.
pub(crate) fn marks(elf: &Elf<'_>, btf: Option<&Btf<'_>>) -> Vec<MapMark> {
    let descriptions = btf.map(Btf::data_sections).unwrap_or_default();
    let mut found = Vec::new();
    for section in elf.sections.iter().filter(|s| s.size != 0 && !s.is_executable()) {
        match (btf, descriptions.get(section.name)) {
            (Some(btf), Some(description)) if section.name == ".maps" => {
                found.extend(description.variables.iter().filter_map(|id| btf::mark(btf, *id)));
            }
            _ if legacy::is_map_section(section.name) => found.extend(legacy::marks(elf, section)),
            _ => {}
        }
    }
    found
}

/// The named symbols of a section: (offset, size, name), by offset and then by end.
fn named_symbols<'a>(elf: &Elf<'a>, section: &Section<'_>) -> Vec<(u64, u64, &'a str)> {
    let mut found: Vec<_> = elf
        .symbols_of(section.index)
        .filter(|s| !s.name.is_empty() && !matches!(s.kind, object::elf::STT_SECTION | object::elf::STT_FILE))
        .map(|s| (s.value, s.size, s.name))
        .collect();
    found.sort_by_key(|(value, size, _)| (*value, *size));
    found
}
