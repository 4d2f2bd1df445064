//! What is told after the last invocation.

use super::kernel::Kernel;
use super::maps::{Map, Storage, kind};
use crate::address_space::AddressSpace;
use crate::hex_bytes::HexBytes;
use crate::request::{BtfCalls, HelperCalls, MapContents, MapEntryContents, Pin, RingRecord, RunReport};

/// Arrays of at most this many entries are reported in full.
const FULL_ARRAY: u32 = 256;
/// Most entries of an array that are reported.
const MAX_ENTRIES: usize = 65_536;
/// Bytes of an array that are looked at together.
const BLOCK: u64 = 1 << 16;

impl Kernel {
    /// What is in the maps, in table order.
    pub(super) fn all_contents(&self) -> Vec<MapContents> {
        let mut maps = Vec::new();
        for (number, load) in self.module.loads.iter().enumerate() {
            for &map in &load.maps {
                maps.push(MapContents {
                    load: number as u32,
                    ..self.map_contents(&self.maps.list[map])
                });
            }
        }
        maps
    }

    pub(super) fn report(&mut self) -> RunReport {
        let helper_calls = self
            .state
            .calls
            .iter()
            .map(|(&(program, id), &calls)| HelperCalls {
                program: self.program_name(program).to_owned(),
                load: self.module.programs[program].load as u32,
                id,
                helper: self
                    .platform
                    .helper(&self.module.programs[program].program_type, id)
                    .map_or_else(String::new, |h| h.name.clone()),
                calls,
            })
            .collect();
        let btf_calls = self.state.btf_calls.iter().filter_map(|(&(program, slot), &calls)| {
            let loaded = self.module.programs.get(program)?;
            let function = loaded.btf_functions.get(slot)?.as_ref()?;
            Some(BtfCalls {
                program: loaded.name.clone(),
                load: loaded.load as u32,
                module: function.module.to_string(),
                function: function.name.clone(),
                calls,
            })
        });
        let btf_calls = btf_calls.collect();
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
            maps: self.all_contents(),
            pins,
            helper_calls,
            btf_calls,
            max_stack_bytes: self.state.max_stack,
            trace: self.trace(),
            ..RunReport::default()
        }
    }

    /// Entries of an array, and how many that are not zero were left out. Blocks of zeros are skipped at once: large
    /// arrays are mostly untouched.
    fn array_entries(&self, map: &Map, base: u64, stride: u64, entries: &mut Vec<MapEntryContents>) -> u64 {
        let count = map.definition.max_entries.get();
        let per_block = (BLOCK / stride).max(1) as u32;
        let zeros = vec![0; (u64::from(per_block) * stride) as usize];
        let mut omitted = 0;
        for first in (0..count).step_by(per_block as usize) {
            let last = first.saturating_add(per_block).min(count);
            let length = (u64::from(last - first) * stride) as usize;
            let block = self
                .memory
                .read(base + stride * u64::from(first), length)
                .unwrap_or_default();
            if count > FULL_ARRAY && block == zeros[..block.len()] {
                continue;
            }
            for i in first..last {
                let values = self.maps.values_at(&self.memory, map, base + stride * u64::from(i));
                let zero = values.iter().all(|v| v.iter().all(|&b| b == 0));
                if zero && count > FULL_ARRAY {
                    continue;
                }
                if entries.len() >= MAX_ENTRIES {
                    omitted += 1;
                    continue;
                }
                entries.push(MapEntryContents {
                    key: HexBytes(i.to_le_bytes().to_vec()),
                    values: values.into_iter().map(HexBytes).collect(),
                    object: None,
                });
            }
        }
        omitted
    }

    fn map_contents(&self, map: &Map) -> MapContents {
        let hex = |list: Vec<Vec<u8>>| list.into_iter().map(HexBytes).collect::<Vec<_>>();
        let mut entries = Vec::new();
        let mut records = Vec::new();
        let mut omitted = 0;
        match &map.storage {
            Storage::Array { base, stride } => omitted = self.array_entries(map, *base, *stride, &mut entries),
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
            inner: map.template,
            entries,
            omitted,
            records,
            load: 0,
        }
    }
}
