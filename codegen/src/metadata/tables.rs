//! Fills the metadata tables.
//!
//! Given: the module, with its code placed.
//! Computed: sections `maps`, `programs` and `hash`, and what they point to in `.rdata` and `.data`.
//! Safe because: names, counts and sizes were checked ([`check_module`](super::check_module)), and the layout rules of the
//! native module contract §0 and §5 are kept: programs sorted by name, tables alone in their sections, names in `.rdata`,
//! GUIDs in `.data`.

use std::collections::BTreeMap;
use std::mem::offset_of;

use bpf2sys_bytecode::{BtfFunction, BtfFunctionIndex, InitialValue, Map, ObjectHash};
use bpf2sys_pe_emit::SectionIndex;
use bpf2sys_platform::{Guid, Platform};
use bpf2sys_verifier::{VerifiedModule, VerifiedProgram};
use zerocopy::IntoBytes;
use zerocopy::little_endian::{U16, U32, U64};

use super::layout::{
    BtfFunctionEntry, BtfFunctionList, GlobalSection, HelperEntry, List, MapDefinition, MapEntry, MapInitialValues,
    MetadataTable, Pointer, ProgramEntry, Version,
};
use super::map_references::referenced_maps;
use super::value_checks::with_initial_values;
use super::{BtfTables, HelperTables};
use crate::RuntimeLevel;
use crate::compile::Target;
use crate::error::{LowerError, ModuleProblem};
use crate::lowering::Native;
use crate::object::{Address, ObjectWriter, Spot};

/// Where the tables go, and what they say.
pub(crate) struct Tables<'a> {
    /// The module.
    pub(crate) verified: &'a VerifiedModule,
    /// Its platform.
    pub(crate) platform: &'a Platform,
    /// Helper slots.
    pub(crate) helpers: &'a HelperTables,
    /// Slots of BTF-resolved functions
    pub(crate) btf_functions: &'a BtfTables,
    /// What the runtime must have
    pub(crate) runtime: RuntimeLevel,
    /// PE section name of each program.
    pub(crate) program_sections: &'a [String],
    /// `.rdata`
    pub(crate) constants: SectionIndex,
    /// `maps`; `None` without maps
    pub(crate) maps: Option<SectionIndex>,
    /// `programs`; `None` without programs
    pub(crate) programs: Option<SectionIndex>,
    /// `.data`, where GUIDs must be; `None` without programs and without variables of a driver
    pub(crate) variables: Option<SectionIndex>,
    /// `hash`; `None` if the module is to state no hashes
    pub(crate) hash: Option<SectionIndex>,
}

/// Adds all tables, and the names by which the skeleton's getters find them.
pub(crate) fn build(tables: &Tables<'_>, object: &mut ObjectWriter) -> Result<(), LowerError> {
    let map_list = tables.maps(object);
    let program_list = tables.programs(object)?;
    let initial_value_list = tables.initial_values(object);
    let global_section_list = tables.globals(object);
    let hash = tables.verified.module().hash.as_ref().zip(tables.hash);
    let hash = hash.map(|(hash, section)| (object.bytes(section, 1, &hash.digest), hash.digest.len()));
    tables.list(object, "map_list", map_list);
    tables.list(object, "program_list", program_list);
    tables.list(object, "initial_value_list", initial_value_list);
    tables.list(object, "global_section_list", global_section_list);
    tables.list(object, "hash_list", hash);
    let [major, minor, revision] = tables.runtime.stated_version().map(U32::new);
    let version = Version { major, minor, revision };
    let version = object.structure(tables.constants, &version);
    object.define("module_version", version);
    tables.metadata_table(object)
}

/// The first element of an array, and how many there are; `None` when empty.
type Array = Option<(Spot, usize)>;

/// The GUIDs that program entries point to, each once.
struct Guids {
    section: SectionIndex,
    spots: BTreeMap<Guid, Spot>,
}

impl Guids {
    fn spot(&mut self, object: &mut ObjectWriter, guid: Guid) -> Spot {
        let place = || object.bytes(self.section, 8, &guid.0);
        *self.spots.entry(guid).or_insert_with(place)
    }
}

impl Tables<'_> {
    fn maps(&self, object: &mut ObjectWriter) -> Array {
        let section = self.maps?;
        let module = self.verified.module();
        let spots: Vec<Spot> = module
            .maps
            .iter()
            .map(|map| {
                let spot = object.structure(section, &map_entry(map));
                self.point_to_string(object, spot.field(offset_of!(MapEntry, name)), &map.name);
                spot
            })
            .collect();
        array(&spots)
    }

    fn programs(&self, object: &mut ObjectWriter) -> Result<Array, LowerError> {
        let (Some(section), Some(variables)) = (self.programs, self.variables) else {
            return Ok(None);
        };
        let module = self.verified.module();
        let mut order: Vec<usize> = (0..self.verified.programs().len()).collect();
        let name = |position: &usize| {
            let function = self.verified.programs()[*position].function;
            module.function(function).name.as_bytes()
        };
        order.sort_by(|a, b| name(a).cmp(name(b)));
        let mut guids = Guids {
            section: variables,
            spots: BTreeMap::new(),
        };
        let mut spots = Vec::with_capacity(order.len());
        for position in order {
            spots.push(self.program(object, section, position, &mut guids)?);
        }
        Ok(array(&spots))
    }

    fn program(
        &self,
        object: &mut ObjectWriter,
        section: SectionIndex,
        position: usize,
        guids: &mut Guids,
    ) -> Result<Spot, LowerError> {
        let program = &self.verified.programs()[position];
        let function = self.verified.module().function(program.function);
        let maps = referenced_maps(self.verified.module(), program);
        let maps: Vec<U16> = maps
            .iter()
            .map(|map| Ok(U16::new(narrow("maps of a module", map.index())?)))
            .collect::<Result<_, ModuleProblem>>()?;
        let helpers = self.helpers.of_program(position);
        let btf_functions = self.btf_functions.of_program(position);
        let with_btf = self.runtime.has_btf_functions();
        let module_hash = &self.verified.module().hash;
        let hash = self.program_info_hash(program, helpers, btf_functions)?;
        let entry = ProgramEntry {
            marker: U64::ZERO,
            header: if with_btf {
                ProgramEntry::HEADER_WITH_BTF
            } else {
                ProgramEntry::HEADER
            },
            function: Pointer::default(),
            pe_section_name: Pointer::default(),
            section_name: Pointer::default(),
            program_name: Pointer::default(),
            referenced_map_indices: Pointer::default(),
            referenced_map_count: U16::new(narrow("maps of a program", maps.len())?),
            padding0: [0; 6],
            helpers: Pointer::default(),
            helper_count: U16::new(narrow("helpers of a program", helpers.len())?),
            padding1: [0; 6],
            bpf_instruction_count: U64::new(u64::from(function.slots())),
            program_type: Pointer::default(),
            expected_attach_type: Pointer::default(),
            program_info_hash: Pointer::default(),
            program_info_hash_length: U64::new(hash.len() as u64),
            program_info_hash_type: Pointer::default(),
        };
        let spot = object.structure(section, &entry);
        if with_btf {
            self.btf_function_list(object, section, btf_functions)?;
        }
        let code = object.address_of(&Target::Function(Native::whole(program.function)))?;
        object.point(spot.field(offset_of!(ProgramEntry, function)), code);
        for (field, text) in [
            (
                offset_of!(ProgramEntry, pe_section_name),
                self.program_sections[position].as_str(),
            ),
            (offset_of!(ProgramEntry, section_name), &function.section),
            (offset_of!(ProgramEntry, program_name), &function.name),
        ] {
            self.point_to_string(object, spot.field(field), text);
        }
        if !maps.is_empty() {
            let indices = object.bytes(self.constants, 2, maps.as_bytes());
            object.point(
                spot.field(offset_of!(ProgramEntry, referenced_map_indices)),
                object.address(indices),
            );
        }
        if let Some((first, _)) = self.helper_table(object, helpers) {
            object.point(spot.field(offset_of!(ProgramEntry, helpers)), object.address(first));
        }
        for (field, guid) in [
            (offset_of!(ProgramEntry, program_type), program.program_type.guid),
            (offset_of!(ProgramEntry, expected_attach_type), program.attach_type),
        ] {
            let place = guids.spot(object, guid);
            object.point(spot.field(field), object.address(place));
        }
        if let Some(ObjectHash { algorithm, .. }) = module_hash {
            let hash = object.bytes(self.constants, 8, &hash);
            object.point(
                spot.field(offset_of!(ProgramEntry, program_info_hash)),
                object.address(hash),
            );
            self.point_to_string(
                object,
                spot.field(offset_of!(ProgramEntry, program_info_hash_type)),
                algorithm.cng_name(),
            );
        }
        Ok(spot)
    }

    /// The hash of what the program calls; empty if the module is to state no hashes.
    fn program_info_hash(
        &self,
        program: &VerifiedProgram,
        helpers: &[Option<u32>],
        btf_functions: &[Option<BtfFunctionIndex>],
    ) -> Result<Vec<u8>, LowerError> {
        let module = self.verified.module();
        let Some(ObjectHash { algorithm, .. }) = module.hash else {
            return Ok(Vec::new());
        };
        let helpers = helpers.iter().flatten().copied();
        let btf_functions = btf_functions.iter().flatten().map(|index| {
            let function = &module.btf_functions[index.index()];
            (function.module, function.name.as_str())
        });
        self.platform
            .program_info_hash(algorithm, &program.program_type, helpers, btf_functions)
            .map_err(|e| LowerError::Internal(e.to_string()))
    }

    /// The fields behind a program entry, which must be the last structure of `section`, and the table they point to.
    fn btf_function_list(
        &self,
        object: &mut ObjectWriter,
        section: SectionIndex,
        functions: &[Option<BtfFunctionIndex>],
    ) -> Result<(), LowerError> {
        let list = BtfFunctionList {
            first: Pointer::default(),
            count: U16::new(narrow(
                "functions of other modules that a program calls",
                functions.len(),
            )?),
            padding: [0; 6],
        };
        let list = object.structure(section, &list);
        if let Some((first, _)) = self.btf_function_table(object, functions) {
            object.point(list.field(offset_of!(BtfFunctionList, first)), object.address(first));
        }
        Ok(())
    }

    fn btf_function_table(&self, object: &mut ObjectWriter, functions: &[Option<BtfFunctionIndex>]) -> Array {
        let all = &self.verified.module().btf_functions;
        let functions: Vec<Option<&BtfFunction>> = functions.iter().map(|f| f.map(|f| &all[f.index()])).collect();
        let name = |function: Option<&BtfFunction>| function.map_or(String::new(), |f| f.name.clone());
        // Names first: they are strings of the same section, and the table must be contiguous.
        let names: Vec<Spot> = functions
            .iter()
            .map(|function| object.string(self.constants, &name(*function)))
            .collect();
        let spots: Vec<Spot> = functions
            .iter()
            .zip(names)
            .map(|(function, name)| {
                let entry = BtfFunctionEntry {
                    header: BtfFunctionEntry::HEADER,
                    name: Pointer::default(),
                    module: function.map_or(Guid::ZERO, |f| f.module).0,
                };
                let spot = object.structure(self.constants, &entry);
                object.point(spot.field(offset_of!(BtfFunctionEntry, name)), object.address(name));
                spot
            })
            .collect();
        array(&spots)
    }

    fn helper_table(&self, object: &mut ObjectWriter, helpers: &[Option<u32>]) -> Array {
        // Names first: they are strings of the same section, and the table must be contiguous.
        let names: Vec<Spot> = helpers
            .iter()
            .map(|id| {
                let name = id.map_or_else(String::new, |id| format!("helper_id_{id}"));
                object.string(self.constants, &name)
            })
            .collect();
        let spots: Vec<Spot> = helpers
            .iter()
            .zip(names)
            .map(|(id, name)| {
                let entry = HelperEntry {
                    header: HelperEntry::HEADER,
                    helper_id: U32::new(id.unwrap_or(0)),
                    padding: [0; 4],
                    name: Pointer::default(),
                };
                let spot = object.structure(self.constants, &entry);
                object.point(spot.field(offset_of!(HelperEntry, name)), object.address(name));
                spot
            })
            .collect();
        array(&spots)
    }

    /// Maps with initial values, by name.
    fn initial_values(&self, object: &mut ObjectWriter) -> Array {
        let module = self.verified.module();
        let maps: Vec<&Map> = with_initial_values(module)
            .into_iter()
            .map(|index| &module.maps[index.index()])
            .collect();
        let values: Vec<Spot> = maps.iter().map(|map| self.slots(object, map)).collect();
        for map in &maps {
            object.string(self.constants, &map.name);
        }
        let spots: Vec<Spot> = maps
            .iter()
            .zip(values)
            .map(|(map, values)| {
                let entry = MapInitialValues {
                    header: MapInitialValues::HEADER,
                    map_name: Pointer::default(),
                    count: U64::new(map.initial_values.len() as u64),
                    values: Pointer::default(),
                };
                let spot = object.structure(self.constants, &entry);
                self.point_to_string(object, spot.field(offset_of!(MapInitialValues, map_name)), &map.name);
                object.point(spot.field(offset_of!(MapInitialValues, values)), object.address(values));
                spot
            })
            .collect();
        array(&spots)
    }

    /// The array of names that a map's slots hold at load; null for an empty slot.
    fn slots(&self, object: &mut ObjectWriter, map: &Map) -> Spot {
        let module = self.verified.module();
        let slots = object.bytes(self.constants, 8, &vec![0; 8 * map.initial_values.len()]);
        for (slot, value) in map.initial_values.iter().enumerate() {
            let name = match value {
                None => continue,
                Some(InitialValue::Map(index)) => &module.maps[index.index()].name,
                Some(InitialValue::Program(index)) => &module.function(*index).name,
            };
            self.point_to_string(object, slots.field(8 * slot), name);
        }
        slots
    }

    fn globals(&self, object: &mut ObjectWriter) -> Array {
        let module = self.verified.module();
        let data: Vec<Spot> = module
            .globals
            .iter()
            .map(|global| {
                object.string(self.constants, &module.maps[global.map.index()].name);
                object.bytes(self.constants, 16, &global.data)
            })
            .collect();
        let spots: Vec<Spot> = module
            .globals
            .iter()
            .zip(data)
            .map(|(global, data)| {
                let entry = GlobalSection {
                    header: GlobalSection::HEADER,
                    map_name: Pointer::default(),
                    size: U64::new(global.data.len() as u64),
                    initial_data: Pointer::default(),
                };
                let spot = object.structure(self.constants, &entry);
                let name = &module.maps[global.map.index()].name;
                self.point_to_string(object, spot.field(offset_of!(GlobalSection, map_name)), name);
                object.point(
                    spot.field(offset_of!(GlobalSection, initial_data)),
                    object.address(data),
                );
                spot
            })
            .collect();
        array(&spots)
    }

    /// The pair that a getter hands out.
    fn list(&self, object: &mut ObjectWriter, name: &str, array: Array) {
        let list = List {
            first: Pointer::default(),
            count: U64::new(array.map_or(0, |(_, count)| count as u64)),
        };
        let spot = object.structure(self.constants, &list);
        if let Some((first, _)) = array {
            object.point(spot.field(offset_of!(List, first)), object.address(first));
        }
        object.define(name, spot);
    }

    fn metadata_table(&self, object: &mut ObjectWriter) -> Result<(), LowerError> {
        let table = MetadataTable {
            size: U64::new(size_of::<MetadataTable>() as u64),
            programs: Pointer::default(),
            maps: Pointer::default(),
            hash: Pointer::default(),
            version: Pointer::default(),
            map_initial_values: Pointer::default(),
            global_variable_sections: Pointer::default(),
        };
        let spot = object.structure(self.constants, &table);
        for (field, getter) in [
            (offset_of!(MetadataTable, programs), "get_programs"),
            (offset_of!(MetadataTable, maps), "get_maps"),
            (offset_of!(MetadataTable, hash), "get_hash"),
            (offset_of!(MetadataTable, version), "get_version"),
            (offset_of!(MetadataTable, map_initial_values), "get_map_initial_values"),
            (
                offset_of!(MetadataTable, global_variable_sections),
                "get_global_variable_sections",
            ),
        ] {
            let getter: Address = object.address_of(&Target::Named(getter.to_owned()))?;
            object.point(spot.field(field), getter);
        }
        object.define("metadata_table", spot);
        Ok(())
    }

    fn point_to_string(&self, object: &mut ObjectWriter, field: Spot, text: &str) {
        let text = object.string(self.constants, text);
        object.point(field, object.address(text));
    }
}

fn map_entry(map: &Map) -> MapEntry {
    let d = &map.definition;
    MapEntry {
        marker: [U64::ZERO; 2],
        header: MapEntry::HEADER,
        definition: MapDefinition {
            map_type: U32::new(d.map_type),
            key_size: U32::new(d.key_size),
            value_size: U32::new(d.value_size),
            max_entries: U32::new(d.max_entries),
            inner_map_idx: U32::new(d.inner_map_idx),
            pinning: U32::new(d.pinning as u32),
            id: U32::new(d.id),
            inner_id: U32::new(d.inner_id),
        },
        name: Pointer::default(),
    }
}

/// Structures appended one after the other, as an array.
fn array(spots: &[Spot]) -> Array {
    spots.first().map(|first| (*first, spots.len()))
}

/// A count or index in the 16 bits that the table has for it.
fn narrow(what: &'static str, count: usize) -> Result<u16, ModuleProblem> {
    u16::try_from(count).map_err(|_| ModuleProblem::TooMany {
        what,
        count,
        limit: usize::from(u16::MAX),
    })
}

#[cfg(test)]
mod tests;
