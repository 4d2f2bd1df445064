//! Loading what an attached module has shown: maps, then programs (`program`), then initial values (native module
//! contract §4.2, §4.3 and §4.9).

use std::collections::BTreeSet;
use std::sync::Arc;

use bpf2sys_platform::{BtfFunction, HashAlgorithm, Helper, ProgramType};

use super::addresses::Addresses;
use super::kernel::Kernel;
use super::maps::{self, Custom, NotCreated, kind};
use crate::address_space::AddressSpace;
use crate::ebpf_result::EbpfResult;
use crate::error::SimulatorError;
use crate::failure::Sabotage;
use crate::kernel_tables::Tables;
use crate::map_definitions::creation_order;
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
    /// Whether that hash is the one of the prototypes that providers have now.
    pub hash_is_right: bool,
    /// What it gets as second argument.
    pub runtime_context: u64,
    /// Bytes from one element of its `map_data` to the next.
    pub map_stride: usize,
    /// The load that it belongs to.
    pub load: usize,
}

/// The module, as often as it is loaded. Each load adds programs and maps behind those of the loads before.
#[derive(Clone, Debug, Default)]
pub struct LoadedModule {
    /// Programs of all loads, each in table order.
    pub programs: Vec<LoadedProgram>,
    /// The loads.
    pub loads: Vec<Load>,
}

/// One load.
#[derive(Clone, Debug, Default)]
pub struct Load {
    /// Version that the module states.
    pub version: (u32, u32, u32),
    /// Its first program.
    pub first_program: usize,
    /// Its maps in table order, as indices of all maps.
    pub maps: Vec<usize>,
    /// Those of them that were pinned before, and are not its own.
    pub reused: Vec<usize>,
}

/// Longest name of a map, program or section, without the NUL.
pub const MAX_NAME: usize = 63;

impl Kernel {
    /// The name of a program, also while it is being loaded.
    pub fn program_name(&self, index: usize) -> &str {
        self.module.programs.get(index).map_or("?", |p| p.name.as_str())
    }

    /// The program of a load with this name.
    pub fn program_named(&self, load: usize, name: &str) -> Option<usize> {
        let mut programs = self.module.programs.iter();
        programs.position(|p| p.load == load && p.name == name)
    }

    /// The map of a load with this name.
    pub fn map_named(&self, load: usize, name: &str) -> Option<usize> {
        let maps = &self.module.loads.get(load)?.maps;
        maps.iter().copied().find(|&map| self.maps.list[map].name == name)
    }

    /// Loads everything that the module showed when it attached.
    pub fn load_module(&mut self) -> Result<(), SimulatorError> {
        let Some((tables, version)) = self.nmr.tables.clone() else {
            return Ok(());
        };
        let mut load = Load {
            version,
            first_program: self.module.programs.len(),
            ..Load::default()
        };
        self.create_maps(&tables, &mut load)?;
        self.module.loads.push(load);
        for program in &tables.programs {
            let loaded = self.load_program(program, &tables)?;
            self.functions.insert(loaded.function, loaded.name.clone());
            self.module.programs.push(loaded);
            if let Some(module) = self.attached_module() {
                module.references += 1;
            }
        }
        self.set_initial_values(&tables)
    }

    fn create_maps(&mut self, tables: &Tables, load: &mut Load) -> Result<(), SimulatorError> {
        let definitions: Vec<MapDefinition> = tables.maps.iter().map(|m| m.definition).collect();
        let mut names = Vec::new();
        for (index, map) in tables.maps.iter().enumerate() {
            names.push(self.name(map.name.get(), &format!("the name of map {index}"), 0)?);
        }
        let order = creation_order(&definitions, &names).map_err(|v| self.refuse(v))?;
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
            if let Some(pinned) = self.pinned_already(&names[index], &definitions[index], shape)? {
                self.system.handles += 1;
                load.reused.push(pinned);
                created[index] = Some(pinned);
                continue;
            }
            let custom = self.custom(&names[index], &definitions[index])?;
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
            self.maps.list.push(map);
            created[index] = Some(self.maps.list.len() - 1);
        }
        load.maps = created.into_iter().flatten().collect();
        Ok(())
    }

    /// The map that is pinned already where this one is to be, which then is the one that the module gets.
    fn pinned_already(
        &self,
        name: &str,
        definition: &MapDefinition,
        template: Option<[u32; 4]>,
    ) -> Result<Option<usize>, SimulatorError> {
        if definition.pinning.get() != 1 {
            return Ok(None);
        }
        let path = maps::pin_path(name);
        let found = self.maps.list.iter().position(|m| m.pin.is_some() && m.pin == path);
        let Some(index) = found else { return Ok(None) };
        let pinned = &self.maps.list[index];
        if (pinned.shape(), pinned.template) != (maps::shape(definition), template) {
            return Err(self.broken(
                Rule::PinnedMap,
                format!(
                    "map {name} has type, key size, value size and entries {:?}, the map pinned to {} {:?}{}",
                    maps::shape(definition),
                    path.unwrap_or_default(),
                    pinned.shape(),
                    if pinned.template == template {
                        ""
                    } else {
                        " and another inner template"
                    }
                ),
            ));
        }
        Ok(Some(index))
    }

    /// What the extension says that implements a map type; `None` for the runtime's own types.
    pub(super) fn custom(&self, name: &str, definition: &MapDefinition) -> Result<Option<Custom>, SimulatorError> {
        let map_type = definition.map_type.get();
        let known = self.platform.map_type(map_type);
        let Some((known, custom)) = known.and_then(|t| Some((t, t.custom.as_ref()?))) else {
            return Ok(None);
        };
        let there = self.providers.has_map_type(&self.platform, map_type);
        let (Some(provider), Some(base), true) = (&custom.provider, custom.base_map_type, there) else {
            let detail = format!("map {name}: no provider of map type {map_type} is attached");
            return Err(self.broken(Rule::MapProvider, detail));
        };
        // The extension checks sizes itself.
        let sizes = bpf2sys_bytecode::MapDefinition {
            map_type,
            key_size: definition.key_size.get(),
            value_size: definition.value_size.get(),
            max_entries: definition.max_entries.get(),
            ..bpf2sys_bytecode::MapDefinition::default()
        };
        known
            .check(&sizes, &self.platform.limits)
            .map_err(|e| self.broken(Rule::MapDefinition, format!("map {name}: {e}")))?;
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
            let Some(map) = self.map_named(self.load, &name) else {
                return Err(self.broken(Rule::InitialValue, format!("there is no map {name}")));
            };
            if self.module.loads[self.load].reused.contains(&map) {
                continue;
            }
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
                let Some(index) = self.program_named(self.load, object) else {
                    return Err(bad(self, format!("there is no program {object}")));
                };
                let program_type = self.module.programs[index].program_type.clone();
                self.associate(map, &program_type, object)?;
                index
            }
            kind::ARRAY_OF_MAPS | kind::HASH_OF_MAPS => {
                let Some(index) = self.map_named(self.load, object) else {
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
