//! Running an x86-64 image on an x86-64 host, in a process made for it.

mod cpu;
mod fault;
mod helpers;
mod invoke;
mod kernel;
mod mapping;
mod maps;
mod memory;
mod module;
mod nmr;
mod thunks;

use std::collections::BTreeMap;

use bpf2sys_platform::Platform;

use crate::error::SimulatorError;
use crate::hex_bytes::HexBytes;
use crate::image::Image;
use crate::kernel_tables::Tables;
use crate::loader_rules;
use crate::request::{
    HelperCalls, MapContents, MapEntryContents, MapPreset, Pin, PresetValue, RingRecord, RunReport, RunRequest,
};
use crate::rule::{Rule, Violation};
use crate::usermode::{self, UserModeView};
use kernel::Kernel;
use maps::{Map, Storage, kind};

/// Arrays of at most this many entries are reported in full.
const FULL_ARRAY: u32 = 256;

/// Loads the image, runs what is asked for, unloads it, and reports.
///
/// # Safety
/// To be called at most once in a process that has one thread and exists for nothing else: the image's code can write
/// to all of its memory.
pub unsafe fn execute(request: RunRequest) -> Result<RunReport, SimulatorError> {
    let bytes = request.image.clone();
    let image = Image::parse(&bytes)?;
    if image.machine != Image::X64 {
        return Err(SimulatorError::Unsupported(format!(
            "it is for {}, this host is x64",
            image.machine_name()
        )));
    }
    let view = usermode::read(&image).map_err(SimulatorError::UserMode)?;
    let violations = loader_rules::check(&image);
    if !violations.is_empty() {
        return Err(SimulatorError::Loader(violations));
    }
    let extra = request
        .platform_files
        .iter()
        .map(|(name, text)| (name.as_str(), text.as_str()));
    let files: Vec<(&str, &str)> = Platform::builtin_files().iter().copied().chain(extra).collect();
    let platform = Platform::from_toml(&files).map_err(|e| SimulatorError::Request(e.to_string()))?;
    let machine = &request.machine;
    if !(1..=64).contains(&machine.cpus) || machine.cpu >= machine.cpus {
        return Err(SimulatorError::Request(format!(
            "processor {} of {}",
            machine.cpu, machine.cpus
        )));
    }

    let mut memory = memory::Memory::default();
    let mut thunks = thunks::Thunks::default();
    let full = |_| kernel::no_memory("the kernel's code");
    let return_address = thunks.add(&mut memory, thunks::Target::Return).map_err(full)?;
    let mapped = mapping::map(&image, &mut memory, &mut thunks)?;
    let stack = nmr::make_stack(&mut memory, machine.stack_bytes)?;
    // SAFETY: promised by the caller: this thread is the only one, and it is done once.
    let cpu = unsafe { cpu::Cpu::new() }.map_err(|e| SimulatorError::Process(e.to_string()))?;
    let mut kernel = Kernel {
        memory,
        cpu,
        thunks,
        image: mapped,
        return_address,
        stack,
        activities: Vec::new(),
        nmr: nmr::Nmr::default(),
        platform,
        module: module::LoadedModule::default(),
        maps: maps::Maps::new(machine.cpus, machine.cpu),
        state: invoke::RunState {
            random: machine.random_seed,
            time: machine.boot_time,
            ..invoke::RunState::default()
        },
        functions: BTreeMap::new(),
        request,
    };
    let status = kernel.start_driver()?;
    if status != 0 {
        return Ok(RunReport {
            driver_entry_status: status,
            ..RunReport::default()
        });
    }
    let Some((tables, (major, minor, revision))) = kernel.nmr.tables.clone() else {
        // The provider was made to refuse: there is a driver, but no module.
        kernel.stop_driver()?;
        return Ok(RunReport::default());
    };
    kernel.load_module()?;
    compare_views(&kernel, &view, &tables)?;
    let presets = kernel.request.presets.clone();
    kernel.set_presets(&presets)?;
    let results = kernel.run_inputs()?;
    let mut report = kernel.report(results);
    report.stated_version = format!("{major}.{minor}.{revision}");
    kernel.stop_driver()?;
    Ok(report)
}

/// User mode pairs what it read from the file with what the kernel loaded, by position (native module contract §5.4).
fn compare_views(kernel: &Kernel, view: &UserModeView, tables: &Tables) -> Result<(), SimulatorError> {
    let differ = |detail: String| SimulatorError::UserMode(Violation::new(Rule::ViewsDiffer, detail));
    let kernel_programs: Vec<&str> = kernel.module.programs.iter().map(|p| p.name.as_str()).collect();
    let user_programs: Vec<&str> = view.programs.iter().map(|p| p.name.as_str()).collect();
    if kernel_programs != user_programs {
        return Err(differ(format!(
            "user mode sees programs {user_programs:?}, the kernel {kernel_programs:?}"
        )));
    }
    for (user, loaded) in view.programs.iter().zip(&kernel.module.programs) {
        let attach = loaded.attach_type.map(|g| bpf2sys_platform::Guid(g).to_string());
        if user.section != loaded.section
            || user.program_type != loaded.program_type.guid.to_string()
            || attach.as_ref() != Some(&user.attach_type)
        {
            return Err(differ(format!(
                "section, type or attach type of program {} differ",
                user.name
            )));
        }
    }
    let mut duplicates: Vec<&str> = user_programs.clone();
    duplicates.dedup();
    if duplicates.len() != user_programs.len() {
        return Err(differ("two programs have the same name".into()));
    }
    let same_maps = view.maps.len() == kernel.maps.list.len()
        && view
            .maps
            .iter()
            .zip(&kernel.maps.list)
            .zip(&tables.maps)
            .all(|((user, loaded), entry)| {
                let d = &entry.definition;
                user.name == loaded.name
                    && [
                        user.map_type,
                        user.key_size,
                        user.value_size,
                        user.max_entries,
                        user.pinning,
                        user.id,
                    ] == [d.map_type, d.key_size, d.value_size, d.max_entries, d.pinning, d.id]
                        .map(zerocopy::little_endian::U32::get)
            });
    if !same_maps {
        let user: Vec<&str> = view.maps.iter().map(|m| m.name.as_str()).collect();
        let kernel: Vec<&str> = kernel.maps.list.iter().map(|m| m.name.as_str()).collect();
        return Err(differ(format!(
            "user mode sees maps {user:?}, the kernel {kernel:?}, or their definitions differ"
        )));
    }
    Ok(())
}

impl Kernel {
    /// Sets map entries as user mode would.
    fn set_presets(&mut self, presets: &[MapPreset]) -> Result<(), SimulatorError> {
        for preset in presets {
            let bad = |detail: String| SimulatorError::Request(format!("map {}: {detail}", preset.map));
            let Some(index) = self.maps.list.iter().position(|m| m.name == preset.map) else {
                return Err(bad("there is no such map".into()));
            };
            let map = &self.maps.list[index];
            if preset.key.0.len() != map.key_size() {
                return Err(bad(format!(
                    "keys have {} bytes, {} are given",
                    map.key_size(),
                    preset.key.0.len()
                )));
            }
            match &preset.value {
                PresetValue::Name(name) => self.store_named(index, &preset.key.0, name)?,
                PresetValue::Bytes(bytes) => {
                    if bytes.0.len() != map.value_size() {
                        return Err(bad(format!(
                            "values have {} bytes, {} are given",
                            map.value_size(),
                            bytes.0.len()
                        )));
                    }
                    self.maps
                        .update(&mut self.memory, index, &preset.key.0, &bytes.0, 0, true)
                        .map_err(|code| bad(format!("the runtime answers with error {code}")))?;
                }
            }
        }
        self.maps.release_retired(&mut self.memory);
        Ok(())
    }

    fn report(&mut self, results: Vec<crate::request::InvocationResult>) -> RunReport {
        let mut maps = Vec::new();
        for map in &self.maps.list {
            maps.push(self.map_contents(map));
        }
        let helper_calls = self
            .state
            .calls
            .iter()
            .map(|(&(program, id), &calls)| HelperCalls {
                program: self.program_name(program).to_owned(),
                id,
                helper: self
                    .platform
                    .helper(&self.module.programs[program].program_type, id)
                    .map_or_else(String::new, |h| h.name.clone()),
                calls,
            })
            .collect();
        let pins = self
            .maps
            .list
            .iter()
            .filter_map(|m| {
                m.pin.clone().map(|path| Pin {
                    path,
                    map: m.name.clone(),
                })
            })
            .collect();
        RunReport {
            stated_version: String::new(),
            driver_entry_status: 0,
            results,
            maps,
            printed: std::mem::take(&mut self.state.printed),
            pins,
            helper_calls,
            max_stack_bytes: self.state.max_stack,
        }
    }

    fn map_contents(&self, map: &Map) -> MapContents {
        let hex = |list: Vec<Vec<u8>>| list.into_iter().map(HexBytes).collect::<Vec<_>>();
        let mut entries = Vec::new();
        let mut records = Vec::new();
        match &map.storage {
            Storage::Array { base, stride } => {
                for i in 0..map.definition.max_entries.get() {
                    let values = self.maps.values_at(&self.memory, map, base + stride * u64::from(i));
                    let zero = values.iter().all(|v| v.iter().all(|&b| b == 0));
                    if !zero || map.definition.max_entries.get() <= FULL_ARRAY {
                        entries.push(MapEntryContents {
                            key: HexBytes(i.to_le_bytes().to_vec()),
                            values: hex(values),
                            object: None,
                        });
                    }
                }
            }
            Storage::Hash(list) => {
                for (key, entry) in list {
                    let values = hex(self.maps.values_at(&self.memory, map, entry.value));
                    entries.push(MapEntryContents {
                        key: HexBytes(key.clone()),
                        values,
                        object: None,
                    });
                }
            }
            Storage::Objects(list) => {
                for (key, &object) in list {
                    // Arrays of objects are kept by big-endian index, which sorts as numbers do.
                    let index = <[u8; 4]>::try_from(key.as_slice()).map(u32::from_be_bytes);
                    let key = match index {
                        Ok(index) if map.kind() != kind::HASH_OF_MAPS => index.to_le_bytes().to_vec(),
                        _ => key.clone(),
                    };
                    let name = if map.kind() == kind::PROG_ARRAY {
                        self.program_name(object).to_owned()
                    } else {
                        self.maps.list.get(object).map_or_else(String::new, |m| m.name.clone())
                    };
                    entries.push(MapEntryContents {
                        key: HexBytes(key),
                        values: Vec::new(),
                        object: Some(name),
                    });
                }
            }
            Storage::Queue(list) => {
                let values: Vec<u64> = if map.kind() == kind::STACK {
                    list.iter().rev().copied().collect()
                } else {
                    list.iter().copied().collect()
                };
                for address in values {
                    let values = hex(self.maps.values_at(&self.memory, map, address));
                    entries.push(MapEntryContents {
                        values,
                        ..MapEntryContents::default()
                    });
                }
            }
            Storage::Rings(rings) => {
                for (cpu, ring) in rings.iter().enumerate() {
                    let cpu = (map.kind() == kind::PERF_EVENT_ARRAY).then_some(cpu as u32);
                    records.extend(ring.records.iter().map(|data| RingRecord {
                        cpu,
                        data: HexBytes(data.clone()),
                    }));
                }
            }
        }
        let type_name = self
            .platform
            .map_type(map.kind())
            .map_or_else(String::new, |t| t.name.clone());
        let [map_type, key_size, value_size, max_entries] = map.shape();
        MapContents {
            name: map.name.clone(),
            map_type,
            type_name,
            key_size,
            value_size,
            max_entries,
            entries,
            records,
        }
    }
}
