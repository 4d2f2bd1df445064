//! The native eBPF module in an image: its tables, as user mode finds them in sections and as the runtime gets them from
//! the module's functions, read as far as they can be.
//!
//! Reading judges nothing. What is missing is empty here, and the rules on it say so.

pub(crate) mod elements;
pub(crate) mod file;
pub(crate) mod globals;
pub(crate) mod helpers;
pub(crate) mod maps;
pub(crate) mod metadata;
pub(crate) mod programs;
pub(crate) mod runtime;
pub(crate) mod user_programs;
pub(crate) mod user_tables;
pub(crate) mod values;
pub(crate) mod views;

mod kernel;
mod user;

use std::collections::BTreeMap;

use bpf2sys_simulator::getters::{self, GetterError, Returned};
use bpf2sys_simulator::image::Image;
use bpf2sys_simulator::tables::{
    BtfEntry, GlobalSection, Header, HelperEntry, InitialValues, MapEntry, MetadataTable, ProgramEntry,
};

use crate::rule::Verdict;
use crate::subject::Subject;

pub(crate) use kernel::{Text, read_text};
pub(crate) use user::UserTable;

/// Longest name of a map, program or section, without the NUL (native module contract §4.3, §4.4).
pub(crate) const MAX_NAME: usize = 63;

/// What was read of a module.
#[derive(Debug, Default)]
pub(crate) struct Module {
    /// Section `maps` as user mode reads it.
    pub(crate) user_maps: Option<UserTable<MapEntry>>,
    /// Section `programs` as user mode reads it.
    pub(crate) user_programs: Option<UserTable<ProgramEntry>>,
    /// The table of the module's functions.
    pub(crate) metadata: Option<MetadataTable>,
    /// What they return, or why that is not known.
    pub(crate) returned: Option<Result<Returned, GetterError>>,
    /// Maps: what the functions return, or the section's if that is not known.
    pub(crate) maps: Vec<Map>,
    /// Programs, likewise.
    pub(crate) programs: Vec<Program>,
    /// Initial values of maps.
    pub(crate) values: Vec<Values>,
    /// Sections of global variables.
    pub(crate) globals: Vec<Global>,
    /// Maps by name, the first of each.
    map_index: BTreeMap<String, usize>,
    /// Programs by name, the first of each.
    program_index: BTreeMap<String, usize>,
    /// Tables that lead where nothing is.
    pub(crate) unreadable: Vec<String>,
    /// Arrays with a pointer and no count, or the other way round.
    pub(crate) odd_arrays: Vec<String>,
    /// The headers of all elements, by structure.
    pub(crate) headers: Vec<Element>,
    /// Addresses of all pointers of the tables that are not NULL, with what they are.
    pub(crate) pointers: Vec<(u64, String)>,
}

/// A structure that has a header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Structure {
    Program,
    Map,
    Helper,
    BtfFunction,
    Values,
    Global,
}

/// The header of an element of a table.
#[derive(Clone, Debug)]
pub(crate) struct Element {
    pub(crate) structure: Structure,
    pub(crate) what: String,
    pub(crate) header: Header,
}

/// A map.
#[derive(Clone, Debug)]
pub(crate) struct Map {
    pub(crate) entry: MapEntry,
    pub(crate) name: Text,
}

/// A program.
#[derive(Clone, Debug)]
pub(crate) struct Program {
    pub(crate) entry: ProgramEntry,
    pub(crate) name: Text,
    pub(crate) section: Text,
    pub(crate) hash_type: Text,
    pub(crate) type_guid: Option<[u8; 16]>,
    pub(crate) map_indices: Vec<u16>,
    pub(crate) helpers: Vec<HelperEntry>,
    pub(crate) btf_functions: Vec<(BtfEntry, Text)>,
    /// The bytes of the stated hash; empty without one.
    pub(crate) hash: Vec<u8>,
}

/// Initial values of a map.
#[derive(Clone, Debug)]
pub(crate) struct Values {
    pub(crate) entry: InitialValues,
    pub(crate) name: Text,
    /// By index; `None` for an empty slot.
    pub(crate) slots: Vec<Option<Text>>,
}

/// A section of global variables.
#[derive(Clone, Debug)]
pub(crate) struct Global {
    pub(crate) entry: GlobalSection,
    pub(crate) name: Text,
}

impl Module {
    /// Reads the module of an image.
    pub(crate) fn read(s: &Subject<'_>) -> Module {
        let mut module = Module {
            user_maps: user::maps(s.image),
            user_programs: user::programs(s.image),
            metadata: metadata(s.image),
            ..Module::default()
        };
        module.returned = module.metadata.map(|table| getters::follow_functions(s.image, table));
        if let Some(known) = module.known().copied() {
            let tables = (module.user_maps.as_mut(), module.user_programs.as_mut());
            if let Some(table) = tables.0 {
                table.compare(s.image, known.maps.pointer);
            }
            if let Some(table) = tables.1 {
                table.compare(s.image, known.programs.pointer);
            }
        }
        kernel::read(s, &mut module);
        for (index, map) in module.maps.iter().enumerate() {
            module.map_index.entry(map.name.shown()).or_insert(index);
        }
        for (index, program) in module.programs.iter().enumerate() {
            module.program_index.entry(program.name.shown()).or_insert(index);
        }
        module
    }

    /// What the functions return, if it is known.
    pub(crate) fn known(&self) -> Option<&Returned> {
        self.returned.as_ref()?.as_ref().ok()
    }

    /// The index of the map with this name.
    pub(crate) fn map_named(&self, name: &str) -> Option<usize> {
        self.map_index.get(name).copied()
    }

    /// The program with this name.
    pub(crate) fn program_named(&self, name: &str) -> Option<&Program> {
        self.programs.get(*self.program_index.get(name)?)
    }
}

/// The metadata table, also one of a size that the runtime would not take.
fn metadata(image: &Image<'_>) -> Option<MetadataTable> {
    let right = getters::metadata_table(image);
    let any = right.or_else(|_| getters::metadata_table_of_size(image, |size| size < 0x1000 && size.is_multiple_of(8)));
    any.ok()
}

/// Judges the module.
pub(crate) fn of(s: &Subject<'_>, judge: impl Fn(&Module) -> Verdict) -> Verdict {
    match &s.module {
        Some(module) => judge(module),
        None => Verdict::none("there is no module"),
    }
}
