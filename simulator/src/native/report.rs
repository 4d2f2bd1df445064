//! What is told after the last invocation.

use super::kernel::Kernel;
use super::maps::{Map, Storage, kind};
use crate::hex_bytes::HexBytes;
use crate::request::{HelperCalls, InvocationResult, MapContents, MapEntryContents, Pin, RingRecord, RunReport};

/// Arrays of at most this many entries are reported in full.
const FULL_ARRAY: u32 = 256;

impl Kernel {
    pub(super) fn report(&mut self, results: Vec<InvocationResult>) -> RunReport {
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
