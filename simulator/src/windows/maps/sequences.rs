//! Queues, stacks and rings: maps without keys.

use super::{EXIST, Maps, Storage, code, kind};
use crate::hex_bytes::HexBytes;
use crate::request::{RingRecord, SentRecord};
use crate::windows::memory::Memory;

impl Maps {
    /// The value that would be taken out of a queue or stack next.
    pub fn queue_end(&self, index: usize) -> Option<u64> {
        let map = &self.list[index];
        let Storage::Queue(values) = &map.storage else {
            return None;
        };
        if map.base() == kind::STACK {
            values.back().copied()
        } else {
            values.front().copied()
        }
    }

    /// Takes a value out of a queue or stack. Its memory stays until the program ends.
    pub fn pop(&mut self, index: usize) -> Option<u64> {
        let stack = self.list[index].base() == kind::STACK;
        let Storage::Queue(values) = &mut self.list[index].storage else {
            return None;
        };
        let value = if stack { values.pop_back() } else { values.pop_front() }?;
        self.retired.push(value);
        Some(value)
    }

    /// Puts a value into a queue or stack.
    pub fn push(&mut self, memory: &mut Memory, index: usize, value: &[u8], flags: u64) -> Result<(), u32> {
        let address = self.new_value(memory, index)?;
        let map = &mut self.list[index];
        let is_full = map.is_full;
        let room = map.definition.max_entries.get() as usize;
        let size = map.value_size();
        let Storage::Queue(values) = &mut map.storage else {
            return Err(code::OPERATION_NOT_SUPPORTED);
        };
        if is_full || values.len() >= room {
            let oldest = if flags & EXIST != 0 { values.pop_front() } else { None };
            let Some(oldest) = oldest else {
                memory.free_value(address);
                return Err(code::OUT_OF_SPACE);
            };
            self.retired.push(oldest);
        }
        let Storage::Queue(values) = &mut self.list[index].storage else {
            return Err(code::OPERATION_NOT_SUPPORTED);
        };
        values.push_back(address);
        let written = memory.write(address, value.get(..size).unwrap_or_default());
        if written { Ok(()) } else { Err(code::NO_MEMORY) }
    }

    /// Takes out what rings hold, in the order of the maps, oldest first.
    pub fn take_records(&mut self) -> Vec<SentRecord> {
        let mut sent = Vec::new();
        for map in &mut self.list {
            let is_perf = map.base() == kind::PERF_EVENT_ARRAY;
            let Storage::Rings(rings) = &mut map.storage else {
                continue;
            };
            for (cpu, ring) in rings.iter_mut().enumerate().filter(|(_, ring)| ring.used > 0) {
                ring.used = 0;
                let cpu = is_perf.then_some(cpu as u32);
                sent.extend(ring.records.drain(..).map(|data| SentRecord {
                    map: map.name.clone(),
                    record: RingRecord {
                        cpu,
                        data: HexBytes(data),
                    },
                }));
            }
        }
        sent
    }

    /// Appends a record to a ring. A record takes a header of 8 bytes, and padding to 8.
    pub fn output(&mut self, index: usize, ring: usize, data: &[u8]) -> Result<(), u32> {
        let capacity = u64::from(self.list[index].definition.max_entries.get());
        let perf = self.list[index].base() == kind::PERF_EVENT_ARRAY;
        let is_full = self.list[index].is_full;
        let Storage::Rings(rings) = &mut self.list[index].storage else {
            return Err(code::OPERATION_NOT_SUPPORTED);
        };
        let ring = rings.get_mut(ring).ok_or(code::INVALID_ARGUMENT)?;
        let size = (data.len() as u64 + 8).next_multiple_of(8);
        if data.is_empty() || size > capacity {
            return Err(code::INVALID_ARGUMENT);
        }
        if is_full || ring.used + size > capacity {
            return Err(if perf { code::OUT_OF_SPACE } else { code::NO_MEMORY });
        }
        ring.used += size;
        ring.records.push(data.to_vec());
        Ok(())
    }
}
