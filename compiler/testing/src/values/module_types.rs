//! The types of a module's maps, by the maps' names.
//!
//! An image has no BTF: its types are those of the object that it was built from, whose maps have the same names.

use std::collections::BTreeMap;

use bpf2sys_bytecode::{DataTypes, EntryTypes, MapIndex, MapOrigin, Module, TypeIndex, Variable};
use bpf2sys_simulator::map_definitions::kind;

use super::dwarf;
use super::error::{Near, near};

/// The types of a module's maps.
#[derive(Clone, Debug, Default)]
pub struct ModuleTypes {
    types: DataTypes,
    maps: BTreeMap<String, MapTypes>,
}

/// The types of a map.
#[derive(Clone, Debug, Default)]
pub struct MapTypes {
    /// Of its keys and values.
    pub entries: EntryTypes,
    /// Of the records that programs send by it.
    pub record: Option<TypeIndex>,
    /// The global variables that it holds, if it is the memory behind some.
    pub section: Option<Section>,
}

/// Global variables.
#[derive(Clone, Debug)]
pub struct Section {
    /// Name of the section, e.g. `.bss`.
    pub name: String,
    /// By offset; each name once.
    pub variables: Vec<Variable>,
    /// The bytes at first.
    pub initial: Vec<u8>,
}

/// Why records get no type.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RecordTypeError {
    /// There is no such map.
    #[error("there is no map `{name}`{}", Near(near))]
    Map {
        /// The name.
        name: String,
        /// Those that look like it.
        near: Vec<String>,
    },
    /// The map is neither a ring buffer nor a perf event array.
    #[error("the map `{name}` holds no records")]
    NoRecords {
        /// Its name.
        name: String,
    },
    /// The object has no such type. Compilers write types down that maps, functions and global variables use; for one that no other has, a
    /// variable that nothing uses does: `const struct event *unused;`.
    #[error("the object's BTF and debug information have no type `{name}`{}", Near(near))]
    Type {
        /// The name.
        name: String,
        /// Those that look like it.
        near: Vec<String>,
    },
}

/// Whether maps of a type hold records.
pub(super) fn holds_records(map_type: u32) -> bool {
    matches!(map_type, kind::RINGBUF | kind::PERF_EVENT_ARRAY)
}

impl ModuleTypes {
    /// Types that come from elsewhere, by the names of maps.
    pub fn new(types: DataTypes, maps: BTreeMap<String, MapTypes>) -> ModuleTypes {
        ModuleTypes { types, maps }
    }

    /// The types that an object states. Records of a ring buffer have its value type, if it has one.
    pub fn from_module(module: &Module) -> ModuleTypes {
        let types = module.types.clone();
        let mut maps = BTreeMap::new();
        for (index, map) in (0..).map(MapIndex).zip(&module.maps) {
            let entries = types.of_map(index);
            let is_ring = map.definition.map_type == kind::RINGBUF;
            let section = match map.origin {
                MapOrigin::Global(global) => module.globals.get(global.index()).map(|section| {
                    let mut variables = types.variables(global).to_vec();
                    let mut names = std::collections::BTreeSet::new();
                    variables.retain(|variable| names.insert(variable.name.clone()));
                    Section {
                        name: section.section.clone(),
                        variables,
                        initial: section.data.clone(),
                    }
                }),
                _ => None,
            };
            let found = MapTypes {
                entries,
                record: entries.value.filter(|_| is_ring),
                section,
            };
            maps.insert(map.name.clone(), found);
        }
        ModuleTypes { types, maps }
    }

    /// The same, and of the object's debug information the types that BTF does not have: those of local variables.
    pub fn from_object(module: &Module, object: &[u8]) -> ModuleTypes {
        let mut known = ModuleTypes::from_module(module);
        dwarf::add(&mut known.types, object);
        known
    }

    /// All types.
    pub fn types(&self) -> &DataTypes {
        &self.types
    }

    /// The types of a map.
    pub fn of_map(&self, name: &str) -> Option<&MapTypes> {
        self.maps.get(name)
    }

    /// The name of the map that holds the variables of a section.
    pub fn map_of_section(&self, section: &str) -> Option<&str> {
        let holds = |map: &MapTypes| map.section.as_ref().is_some_and(|known| known.name == section);
        self.maps
            .iter()
            .find(|(_, map)| holds(map))
            .map(|(name, _)| name.as_str())
    }

    /// Says of which type the records of a map are, by the type's name as in C: `struct event`.
    ///
    /// # Errors
    /// There is no such map or type, or the map holds no records.
    pub fn set_record_type(&mut self, maps: &[super::MapShape], map: &str, of: &str) -> Result<(), RecordTypeError> {
        let name = map.to_owned();
        let Some(shape) = maps.iter().find(|shape| shape.name == map) else {
            let near = near(map, maps.iter().map(|shape| shape.name.as_str()));
            return Err(RecordTypeError::Map { name, near });
        };
        if !holds_records(shape.map_type) {
            return Err(RecordTypeError::NoRecords { name });
        }
        let Some(found) = self.types.named(of) else {
            let known: Vec<String> = self.types.names().map(|(_, name)| name).collect();
            let near = near(of, known.iter().map(String::as_str));
            let name = of.to_owned();
            return Err(RecordTypeError::Type { name, near });
        };
        self.maps.entry(name).or_default().record = Some(found);
        Ok(())
    }
}
