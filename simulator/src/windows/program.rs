//! One program with everything that it refers to: type, maps, globals, helpers, hash (native module contract §4.4 to
//! §4.8, in that order).

use std::collections::BTreeSet;

use bpf2sys_platform::{BtfFunction, Guid, HashAlgorithm, Helper, ProgramType};
use zerocopy::little_endian::U16;
use zerocopy::{FromZeros, IntoBytes};

use super::addresses::Addresses;
use super::kernel::Kernel;
use super::maps::{Storage, kind};
use super::memory::OutOfMemory;
use super::module::{LoadedProgram, MAX_NAME};
use crate::address_space::AddressSpace;
use crate::ebpf_result::EbpfResult;
use crate::error::SimulatorError;
use crate::failure::Sabotage;
use crate::kernel_tables::{Program, Tables};
use crate::request::SimulatedRuntime;
use crate::rule::Rule;
use crate::tables::{AddressData, MapData, RuntimeContext};

impl Kernel {
    pub(super) fn name(&self, address: u64, what: &str, shortest: usize) -> Result<String, SimulatorError> {
        let bytes = self
            .memory
            .read_string(address, MAX_NAME + 2, what)
            .map_err(|v| self.refuse(v))?;
        if bytes.len() < shortest || bytes.len() > MAX_NAME {
            let length = if bytes.len() > MAX_NAME {
                "more than 63".into()
            } else {
                bytes.len().to_string()
            };
            return Err(self.broken(Rule::NameLength, format!("{what} has {length} bytes")));
        }
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }

    fn read_guid(&self, address: u64, what: &str) -> Result<[u8; 16], SimulatorError> {
        let bytes = self.memory.read(address, 16).and_then(|b| <[u8; 16]>::try_from(b).ok());
        bytes.ok_or_else(|| self.broken(Rule::WildPointer, format!("{what} is {}", self.memory.place(address))))
    }

    pub(super) fn load_program(&mut self, program: &Program, tables: &Tables) -> Result<LoadedProgram, SimulatorError> {
        let index = self.module.programs.len() - self.module.loads[self.load].first_program;
        let entry = &program.entry;
        let name = self.name(entry.program_name.get(), &format!("the name of program {index}"), 1)?;
        let section = self.name(
            entry.section_name.get(),
            &format!("the section name of program {name}"),
            1,
        )?;
        let hash_type = match entry.hash_type.get() {
            0 => String::new(),
            address => self.name(address, &format!("the hash type of program {name}"), 0)?,
        };

        if self.request.sabotage == Sabotage::ProgramFails(index) {
            return Err(self.made_to_fail(format!("program {name}"), EbpfResult::NoMemory));
        }
        if self.request.sabotage == Sabotage::ExtensionMissing(index) {
            let what = format!("the extension of program {name}");
            return Err(self.made_to_fail(what, EbpfResult::ExtensionFailedToLoad));
        }
        if entry.program_type.get() == 0 {
            return Err(self.broken(Rule::ProgramType, format!("program {name} has none")));
        }
        let guid = Guid(self.read_guid(entry.program_type.get(), &format!("the type of program {name}"))?);
        if guid == Guid::ZERO {
            return Err(self.broken(
                Rule::ProgramType,
                format!("the type of program {name} is the zero GUID"),
            ));
        }
        let program_type = self
            .platform
            .program_types
            .iter()
            .find(|t| t.guid == guid && self.providers.has_program_type(t))
            .cloned()
            .ok_or_else(|| {
                self.broken(
                    Rule::ProgramType,
                    format!("no extension offers {guid}, the type of program {name}"),
                )
            })?;
        let attach_type = match entry.attach_type.get() {
            0 => None,
            address => Some(self.read_guid(address, &format!("the attach type of program {name}"))?),
        };

        self.system.programs.push(name.clone());
        self.system.handles += 1;

        // Runtimes before 1.4 know of no array_data, and modules of such versions count on a shorter stride.
        let long = self.request.runtime >= SimulatedRuntime::V1_4 && self.module.loads[self.load].version >= (1, 4, 0);
        let map_stride = if long {
            size_of::<MapData>()
        } else {
            size_of::<AddressData>()
        };
        let map_data = self.map_data(&name, &program_type, program, map_stride)?;
        let global_data = self.global_data(tables)?;
        let btf_functions = self.resolve_btf_functions(&name, program)?;
        let helpers = self.resolve_helpers(&name, &program_type, program)?;
        let info_hash = self.check_hash(&name, &program_type, program, &btf_functions, &hash_type)?;

        let function = entry.function.get();
        if !self.image.is_code(function) {
            let place = self.memory.place(function);
            return Err(self.broken(
                Rule::ProgramFunction,
                format!("the function of program {name} is {place}"),
            ));
        }
        let mut loaded = LoadedProgram {
            name,
            section,
            function,
            program_type,
            attach_type,
            helpers,
            btf_functions,
            addresses: Addresses::default(),
            info_hash,
            hash_is_right: true,
            runtime_context: 0,
            map_stride,
            load: self.load,
        };
        loaded.addresses = self.make_addresses(self.module.programs.len(), &loaded)?;
        let mut context: RuntimeContext = RuntimeContext::new_zeroed();
        context.helpers.set(loaded.addresses.helper_data);
        context.maps.set(map_data);
        context.global_sections.set(global_data);
        context.btf_functions.set(loaded.addresses.btf_data);
        let label = format!("the runtime context of program {}", loaded.name);
        // Before BTF-resolved functions, the structure ended where they are.
        let context = match self.request.runtime {
            SimulatedRuntime::V1_6 => context.as_bytes(),
            _ => &context.as_bytes()[..48],
        };
        loaded.runtime_context = self.allocate_table(context, &label)?;
        Ok(loaded)
    }

    /// A table that programs read, and that faults when they write it. Address 0 for an empty one.
    pub(super) fn allocate_table(&mut self, bytes: &[u8], label: &str) -> Result<u64, SimulatorError> {
        if bytes.is_empty() {
            return Ok(0);
        }
        let start = self.allocate_bytes(bytes, label)?;
        self.memory
            .seal(start)
            .map_err(|OutOfMemory| super::kernel::no_memory(label))?;
        Ok(start)
    }

    fn map_data(
        &mut self,
        name: &str,
        program_type: &ProgramType,
        program: &Program,
        stride: usize,
    ) -> Result<u64, SimulatorError> {
        let maps = self.module.loads[self.load].maps.clone();
        let mut data = vec![(0u64, 0u64); maps.len()];
        for i in 0..u64::from(program.entry.map_index_count.get()) {
            let address = program.entry.map_indices.get().wrapping_add(2 * i);
            let index: U16 = self
                .memory
                .read_as(address, &format!("the map indices of program {name}"))
                .map_err(|v| self.refuse(v))?;
            let index = usize::from(index.get());
            if index >= data.len() {
                return Err(self.broken(
                    Rule::MapIndex,
                    format!("program {name} refers to map {index} of {}", data.len()),
                ));
            }
            self.associate(maps[index], program_type, name)?;
            let map = &self.maps.list[maps[index]];
            let array = match map.storage {
                Storage::Array { base, .. } if map.kind() == kind::ARRAY => base,
                _ => 0,
            };
            data[index] = (map.address, array);
        }
        let mut bytes = Vec::new();
        for (address, array) in data {
            if stride == size_of::<MapData>() {
                let mut map: MapData = MapData::new_zeroed();
                map.address.set(address);
                map.array_data.set(array);
                bytes.extend_from_slice(map.as_bytes());
            } else {
                let mut map: AddressData = AddressData::new_zeroed();
                map.address.set(address);
                bytes.extend_from_slice(map.as_bytes());
            }
        }
        self.allocate_table(&bytes, &format!("map_data of program {name}"))
    }

    /// A program array belongs to the first program type that uses it or is put into it; an extension's map, to those of the
    /// extension.
    pub(super) fn associate(
        &mut self,
        map: usize,
        program_type: &ProgramType,
        program: &str,
    ) -> Result<(), SimulatorError> {
        if let Some(custom) = &self.maps.list[map].custom
            && custom.provider != program_type.provider
        {
            let name = &self.maps.list[map].name;
            return Err(self.broken(
                Rule::MapAssociation,
                format!(
                    "program {program} is {}, and the extension of map {name} takes only program types of its own",
                    program_type.name
                ),
            ));
        }
        if self.maps.list[map].kind() != kind::PROG_ARRAY {
            return Ok(());
        }
        let bound = *self.maps.list[map].program_type.get_or_insert(program_type.guid.0);
        if bound != program_type.guid.0 {
            let name = &self.maps.list[map].name;
            return Err(self.broken(
                Rule::ProgramArrayType,
                format!(
                    "program {program} is {}, program array {name} belongs to another type",
                    program_type.name
                ),
            ));
        }
        Ok(())
    }

    fn global_data(&mut self, tables: &Tables) -> Result<u64, SimulatorError> {
        let mut bytes = Vec::new();
        for (index, section) in tables.global_sections.iter().enumerate() {
            let name = self
                .memory
                .read_string(
                    section.name.get(),
                    MAX_NAME + 2,
                    &format!("the name of global section {index}"),
                )
                .map_err(|v| self.refuse(v))?;
            let name = String::from_utf8_lossy(&name).into_owned();
            let bad = |kernel: &Kernel, detail: String| {
                kernel.broken(Rule::GlobalSection, format!("global section {name}: {detail}"))
            };
            let Some(map) = self.map_named(self.load, &name) else {
                return Err(bad(self, "there is no map of that name".into()));
            };
            let map = &self.maps.list[map];
            let Storage::Array { base, .. } = map.storage else {
                return Err(bad(self, format!("its map has type {}, not ARRAY", map.kind())));
            };
            if map.kind() != kind::ARRAY {
                return Err(bad(self, format!("its map has type {}, not ARRAY", map.kind())));
            }
            let room = map.value_size() as u64 * u64::from(map.definition.max_entries.get());
            let size = section.size.get();
            if size > room {
                return Err(self.broken(
                    Rule::GlobalSectionSize,
                    format!("{size} bytes of global section {name} are copied into a map of {room}"),
                ));
            }
            let data = self.memory.read(section.initial_data.get(), size as usize);
            let Some(data) = data else {
                let place = self.memory.place(section.initial_data.get());
                return Err(self.broken(
                    Rule::WildPointer,
                    format!("{size} bytes of global section {name} are {place}"),
                ));
            };
            if !self.memory.write(base, &data) {
                return Err(bad(self, "its map has no memory".into()));
            }
            let mut resolved: AddressData = AddressData::new_zeroed();
            resolved.address.set(base);
            bytes.extend_from_slice(resolved.as_bytes());
        }
        self.allocate_table(&bytes, "global_variable_section_data")
    }

    /// Functions of other modules, by exact name, `None` for holes. Their providers must be there.
    fn resolve_btf_functions(
        &mut self,
        name: &str,
        program: &Program,
    ) -> Result<Vec<Option<BtfFunction>>, SimulatorError> {
        let mut resolved = Vec::new();
        for (slot, entry) in program.btf_functions.iter().enumerate() {
            let module = Guid(entry.module);
            if module == Guid::ZERO {
                resolved.push(None);
                continue;
            }
            if self.request.sabotage == Sabotage::BtfProviderMissing {
                let what = format!("the provider of BTF functions of program {name}");
                return Err(self.made_to_fail(what, EbpfResult::ExtensionFailedToLoad));
            }
            if !self.providers.has_btf_module(&self.platform, module) {
                return Err(self.broken(
                    Rule::BtfFunction,
                    format!("program {name} uses functions of module {module}, whose provider is not attached"),
                ));
            }
            let what = format!("BTF function {slot} of program {name}");
            let function = self.memory.read_string(entry.name.get(), 256, &what);
            let function = function.map_err(|v| self.refuse(v))?;
            let function = String::from_utf8_lossy(&function).into_owned();
            let found = self.platform.btf_function(module, &function).cloned();
            let missing = || {
                let detail = format!("module {module} has no function {function} for program {name}");
                self.broken(Rule::BtfFunction, detail)
            };
            resolved.push(Some(found.ok_or_else(missing)?));
        }
        Ok(resolved)
    }

    /// Helpers, `None` for holes.
    fn resolve_helpers(
        &mut self,
        name: &str,
        program_type: &ProgramType,
        program: &Program,
    ) -> Result<Vec<Option<Helper>>, SimulatorError> {
        let mut resolved = Vec::new();
        let mut seen = BTreeSet::new();
        for entry in &program.helpers {
            let id = entry.id.get();
            if id == 0 {
                resolved.push(None);
                continue;
            }
            if self.request.sabotage == Sabotage::HelperMissing(id) {
                let what = format!("helper {id} of program {name}");
                return Err(self.made_to_fail(what, EbpfResult::InvalidArgument));
            }
            let Some(helper) = self.platform.helper(program_type, id).cloned() else {
                return Err(self.broken(
                    Rule::HelperId,
                    format!(
                        "program {name} uses helper {id}, which program type {} does not have",
                        program_type.name
                    ),
                ));
            };
            let general = id <= self.platform.limits.max_general_helper_id;
            if general && !helper.default_implementation && !program_type.helper_overrides.contains(&id) {
                return Err(self.broken(
                    Rule::HelperId,
                    format!(
                        "nobody implements {} for program {name} of type {}",
                        helper.name, program_type.name
                    ),
                ));
            }
            if helper.description.address_published == Some(false) {
                return Err(self.broken(
                    Rule::HelperId,
                    format!(
                        "the provider of {} publishes no address of {}",
                        program_type.name, helper.name
                    ),
                ));
            }
            if !seen.insert(id) {
                return Err(self.broken(Rule::DuplicateHelper, format!("program {name} lists helper {id} twice")));
            }
            resolved.push(Some(helper));
        }
        Ok(resolved)
    }

    /// Checks the program information hash, if the module states one, and gives it.
    fn check_hash(
        &mut self,
        name: &str,
        program_type: &ProgramType,
        program: &Program,
        functions: &[Option<BtfFunction>],
        hash_type: &str,
    ) -> Result<Option<(HashAlgorithm, Vec<u8>)>, SimulatorError> {
        let length = program.entry.hash_length.get();
        if length == 0 {
            return Ok(None);
        }
        if self.request.sabotage == Sabotage::HelpersChanged {
            let what = format!("the hash of program {name}");
            return Err(self.made_to_fail(what, EbpfResult::InvalidArgument));
        }
        let bad = |detail: String| self.broken(Rule::ProgramInfoHash, format!("program {name}: {detail}"));
        let hash_type = if hash_type.is_empty() { "SHA256" } else { hash_type };
        let algorithm = HashAlgorithm::from_cng_name(hash_type)
            .ok_or_else(|| SimulatorError::NotSimulated(format!("the hash algorithm {hash_type} of program {name}")))?;
        let size = algorithm.digest(&[]).len();
        if length != size as u64 {
            return Err(bad(format!("it has {length} bytes, {algorithm} has {size}")));
        }
        let address = program.entry.hash.get();
        let stated = self.memory.read(address, size).ok_or_else(|| {
            self.broken(
                Rule::WildPointer,
                format!("the hash of program {name} is {}", self.memory.place(address)),
            )
        })?;
        let ids = program.helpers.iter().map(|h| h.id.get()).filter(|&id| id != 0);
        // In table order: the runtime does not sort.
        let functions = functions.iter().flatten().map(|f| (f.module, f.name.as_str()));
        let computed = self
            .platform
            .program_info_hash(algorithm, program_type, ids, functions)
            .map_err(|e| bad(e.to_string()))?;
        if stated != computed {
            let (stated, computed) = (crate::usermode::hex(&stated), crate::usermode::hex(&computed));
            return Err(bad(format!("it states {stated}, the runtime computes {computed}")));
        }
        Ok(Some((algorithm, stated)))
    }
}
