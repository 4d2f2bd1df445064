//! Loading what an attached module has shown: maps, then programs (`program`), then initial values (native module
//! contract §4.2, §4.3 and §4.9).

use std::collections::BTreeSet;
use std::sync::Arc;

use bpf2sys_platform::{BtfFunction, HashAlgorithm, Helper, ProgramType};

use super::addresses::Addresses;
use super::kernel::Kernel;
use super::maps::{Custom, Maps, NotCreated, kind};
use crate::address_space::AddressSpace;
use crate::ebpf_result::EbpfResult;
use crate::error::SimulatorError;
use crate::failure::Sabotage;
use crate::kernel_tables::Tables;
use crate::rule::Rule;
use crate::tables::MapDefinition;

/// A loaded program.
#[derive(Clone, Debug)]
pub struct LoadedProgram {
    /// Name.
    pub name: String,
    /// ELF section name.
    pub section: String,
    /// Its code.
    pub function: u64,
    /// Its type.
    pub program_type: Arc<ProgramType>,
    /// Attach type GUID, if the table has one.
    pub attach_type: Option<[u8; 16]>,
    /// Resolved helpers, `None` for holes.
    pub helpers: Vec<Option<Helper>>,
    /// Resolved BTF functions, `None` for holes.
    pub btf_functions: Vec<Option<BtfFunction>>,
    /// Its tables of helpers and BTF functions.
    pub addresses: Addresses,
    /// The program information hash that the module states, if any.
    pub info_hash: Option<(HashAlgorithm, Vec<u8>)>,
    /// What it gets as second argument.
    pub runtime_context: u64,
}

/// A loaded module.
#[derive(Clone, Debug, Default)]
pub struct LoadedModule {
    /// Version that it states.
    pub version: (u32, u32, u32),
    /// Programs, in table order.
    pub programs: Vec<LoadedProgram>,
}

/// Longest name of a map, program or section, without the NUL.
pub const MAX_NAME: usize = 63;

impl Kernel {
    /// The name of a program, also while it is being loaded.
    pub fn program_name(&self, index: usize) -> &str {
        self.module.programs.get(index).map_or("?", |p| p.name.as_str())
    }

    /// Loads everything that the module showed when it attached.
    pub fn load_module(&mut self) -> Result<(), SimulatorError> {
        let Some((tables, version)) = self.nmr.tables.clone() else {
            return Ok(());
        };
        self.module.version = version;
        self.create_maps(&tables)?;
        for (index, program) in tables.programs.iter().enumerate() {
            let loaded = self.load_program(index, program, &tables)?;
            self.functions.insert(loaded.function, loaded.name.clone());
            self.module.programs.push(loaded);
            if let Some(module) = self.attached_module() {
                module.references += 1;
            }
        }
        self.set_initial_values(&tables)
    }

    fn create_maps(&mut self, tables: &Tables) -> Result<(), SimulatorError> {
        let definitions: Vec<MapDefinition> = tables.maps.iter().map(|m| m.definition).collect();
        let mut names = Vec::new();
        for (index, map) in tables.maps.iter().enumerate() {
            names.push(self.name(map.name.get(), &format!("the name of map {index}"), 0)?);
        }
        let order = Maps::creation_order(&definitions, &names).map_err(|v| self.refuse(v))?;
        let mut created: Vec<_> = definitions.iter().map(|_| None).collect();
        let mut pins = BTreeSet::new();
        for (index, template) in order {
            let shape = template.map(|t| {
                let d = &definitions[t];
                [
                    d.map_type.get(),
                    d.key_size.get(),
                    d.value_size.get(),
                    d.max_entries.get(),
                ]
            });
            if self.request.sabotage == Sabotage::MapFails(self.system.maps.len()) {
                return Err(self.made_to_fail(format!("map {}", names[index]), EbpfResult::NoMemory));
            }
            if self.request.sabotage == Sabotage::PinTaken && definitions[index].pinning.get() == 1 {
                return Err(self.made_to_fail(format!("the pin of map {}", names[index]), EbpfResult::InvalidArgument));
            }
            let custom = self.custom(&names[index], definitions[index].map_type.get())?;
            let map = self
                .maps
                .create(&mut self.memory, &names[index], definitions[index], shape, custom)
                .map_err(|e| match e {
                    NotCreated::Refused(violation) => self.refuse(violation),
                    NotCreated::NoMemory => SimulatorError::NotSimulated(format!("map {} of this size", names[index])),
                })?;
            if let Some(pin) = &map.pin
                && !pins.insert(pin.clone())
            {
                return Err(self.broken(Rule::MapPinning, format!("two maps are pinned to {pin}")));
            }
            self.system.maps.push(map.name.clone());
            self.system.handles += 1;
            self.system.pins.extend(map.pin.clone());
            created[index] = Some(map);
        }
        self.maps.list = created.into_iter().flatten().collect();
        Ok(())
    }

    /// What the extension says that implements a map type; `None` for the runtime's own types.
    fn custom(&self, name: &str, map_type: u32) -> Result<Option<Custom>, SimulatorError> {
        let Some(custom) = self.platform.map_type(map_type).and_then(|t| t.custom.as_ref()) else {
            return Ok(None);
        };
        let there = self.providers.has_map_type(&self.platform, map_type);
        let (Some(provider), Some(base), true) = (&custom.provider, custom.base_map_type, there) else {
            let detail = format!("map {name}: no provider of map type {map_type} is attached");
            return Err(self.broken(Rule::MapProvider, detail));
        };
        Ok(Some(Custom {
            base,
            provider: provider.clone(),
            closed_to_helpers: custom.updates_original_value,
        }))
    }

    fn set_initial_values(&mut self, tables: &Tables) -> Result<(), SimulatorError> {
        for (index, list) in tables.initial_values.iter().enumerate() {
            let name = self
                .memory
                .read_string(
                    list.name.get(),
                    MAX_NAME + 2,
                    &format!("the map name of initial values {index}"),
                )
                .map_err(|v| self.refuse(v))?;
            let name = String::from_utf8_lossy(&name).into_owned();
            let Some(map) = self.maps.list.iter().position(|m| m.name == name) else {
                return Err(self.broken(Rule::InitialValue, format!("there is no map {name}")));
            };
            for slot in 0..list.count.get() {
                let address = list.values.get().wrapping_add(slot.wrapping_mul(8));
                let Some(value) = self.memory.read_u64(address) else {
                    let place = self.memory.place(address);
                    return Err(self.broken(Rule::WildPointer, format!("value {slot} of map {name} is {place}")));
                };
                if value == 0 {
                    continue;
                }
                let object = self
                    .memory
                    .read_string(value, MAX_NAME + 2, &format!("value {slot} of map {name}"))
                    .map_err(|v| self.refuse(v))?;
                let object = String::from_utf8_lossy(&object).into_owned();
                let key = u32::try_from(slot).unwrap_or(u32::MAX).to_le_bytes();
                if self.maps.list[map].key_size() != 4 {
                    let size = self.maps.list[map].key_size();
                    return Err(self.broken(
                        Rule::InitialValue,
                        format!("keys of map {name} have {size} bytes, not 4"),
                    ));
                }
                self.store_named(map, &key, &object)?;
            }
        }
        Ok(())
    }

    /// Puts the map or program called `object` into a map that holds such.
    pub fn store_named(&mut self, map: usize, key: &[u8], object: &str) -> Result<(), SimulatorError> {
        let name = self.maps.list[map].name.clone();
        let bad = |kernel: &Kernel, detail: String| kernel.broken(Rule::InitialValue, format!("map {name}: {detail}"));
        let index = match self.maps.list[map].kind() {
            kind::PROG_ARRAY => {
                let Some(index) = self.module.programs.iter().position(|p| p.name == object) else {
                    return Err(bad(self, format!("there is no program {object}")));
                };
                let program_type = self.module.programs[index].program_type.clone();
                self.associate(map, &program_type, object)?;
                index
            }
            kind::ARRAY_OF_MAPS | kind::HASH_OF_MAPS => {
                let Some(index) = self.maps.list.iter().position(|m| m.name == object) else {
                    return Err(self.broken(Rule::InitialMap, format!("map {name}: there is no map {object}")));
                };
                if self.maps.list[map].template != Some(self.maps.list[index].shape()) {
                    return Err(bad(self, format!("map {object} differs from the inner template")));
                }
                index
            }
            other => return Err(bad(self, format!("it has type {other}, which has no initial values"))),
        };
        self.maps
            .store_object(map, key, index)
            .map_err(|e| bad(self, format!("the runtime answers {e} to key {key:?}")))
    }
}
