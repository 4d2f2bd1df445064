//! The runtime's operations by key.
//!
//! Errors are its result codes, which helpers return negated.

use super::{EXIST, HashEntry, Map, Maps, NOEXIST, Storage, code, kind, pad8, prefix};
use crate::windows::memory::{Memory, OutOfMemory};

impl Maps {
    /// The key as the map stores it, from the bytes that a caller gave.
    fn stored_key(map: &Map, key: &[u8]) -> Result<Vec<u8>, u32> {
        if key.len() < map.key_size() {
            return Err(code::INVALID_ARGUMENT);
        }
        let mut key = key[..map.key_size()].to_vec();
        if map.base() == kind::LPM_TRIE {
            // Only the prefix counts.
            let bits = prefix::length(&key);
            if u64::from(bits) > (key.len() as u64 - 4) * 8 {
                return Err(code::INVALID_ARGUMENT);
            }
            prefix::mask(&mut key, bits);
        }
        Ok(key)
    }

    fn array_index(map: &Map, key: &[u8]) -> Option<u32> {
        let index = u32::from_le_bytes(key.get(..4)?.try_into().ok()?);
        (index < map.definition.max_entries.get()).then_some(index)
    }

    fn object_key(map: &Map, key: &[u8]) -> Option<Vec<u8>> {
        if map.base() == kind::HASH_OF_MAPS {
            key.get(..map.key_size()).map(<[u8]>::to_vec)
        } else {
            Self::array_index(map, key).map(|i| i.to_be_bytes().to_vec())
        }
    }

    fn touch(&mut self, index: usize, key: &[u8]) {
        let Map { storage, history, .. } = &mut self.list[index];
        if let Storage::Hash(entries) = storage
            && let Some(entry) = entries.get_mut(key)
        {
            entry.history = history.used(entry.history);
        }
    }

    /// `bpf_map_lookup_elem`: address of the value, or of the inner map's object; 0 for none.
    pub fn lookup(&mut self, index: usize, key: &[u8]) -> u64 {
        let map = &self.list[index];
        match &map.storage {
            Storage::Array { base, stride } => match Self::array_index(map, key) {
                Some(i) => self.of_this_cpu(map, base + stride * u64::from(i)),
                None => 0,
            },
            Storage::Hash(entries) => {
                let Ok(stored) = Self::stored_key(map, key) else {
                    return 0;
                };
                let found = if map.base() == kind::LPM_TRIE {
                    prefix::longest(entries, &stored)
                } else {
                    entries.get(&stored).map(|e| e.value)
                };
                let value = found.map_or(0, |value| self.of_this_cpu(map, value));
                self.touch(index, &stored);
                value
            }
            // Programs cannot look at programs.
            Storage::Objects(_) if map.base() == kind::PROG_ARRAY => 0,
            Storage::Objects(objects) => Self::object_key(map, key)
                .and_then(|key| objects.get(&key))
                .map_or(0, |&inner| self.list[inner].address),
            Storage::Queue(_) => self.queue_end(index).unwrap_or(0),
            Storage::Rings(_) => 0,
        }
    }

    /// Memory for one entry's value or values, zeroed.
    pub(super) fn new_value(&self, memory: &mut Memory, index: usize) -> Result<u64, u32> {
        let map = &self.list[index];
        let size = if map.per_cpu() {
            pad8(map.definition.value_size.get()) * u64::from(self.cpus)
        } else {
            map.value_size() as u64
        };
        if !self.allocations.succeeds() {
            return Err(code::NO_MEMORY);
        }
        let label = format!("a value of map {}", map.name);
        memory
            .allocate_value(size as usize, &label)
            .map_err(|OutOfMemory| code::NO_MEMORY)
    }

    /// `bpf_map_update_elem`, and `all_cpus` for user mode's form of it: one value for all processors, or one for each, one behind the
    /// other.
    pub fn update(
        &mut self,
        memory: &mut Memory,
        index: usize,
        key: &[u8],
        value: &[u8],
        flags: u64,
        all_cpus: bool,
    ) -> Result<(), u32> {
        let map = &self.list[index];
        match &map.storage {
            Storage::Array { base, stride } => {
                let existing = Self::array_index(map, key);
                if flags == NOEXIST && !(map.per_cpu() && existing.is_some()) {
                    return Err(code::INVALID_ARGUMENT);
                }
                let address = existing
                    .map(|i| base + stride * u64::from(i))
                    .ok_or(code::INVALID_ARGUMENT)?;
                self.write_value(memory, index, address, value, all_cpus)
            }
            Storage::Hash(_) => self.update_hash(memory, index, key, value, flags, all_cpus),
            Storage::Queue(_) => self.push(memory, index, value, flags),
            Storage::Objects(_) | Storage::Rings(_) => Err(code::OPERATION_NOT_SUPPORTED),
        }
    }

    fn update_hash(
        &mut self,
        memory: &mut Memory,
        index: usize,
        key: &[u8],
        value: &[u8],
        flags: u64,
        all_cpus: bool,
    ) -> Result<(), u32> {
        let map = &self.list[index];
        let key = Self::stored_key(map, key)?;
        let Storage::Hash(entries) = &map.storage else {
            return Err(code::OPERATION_NOT_SUPPORTED);
        };
        let existing = entries.get(&key).map(|e| e.value);
        if let (true, Some(existing)) = (map.per_cpu(), existing) {
            // The runtime writes the value of this processor in place and does not look at the flags.
            self.touch(index, &key);
            return self.write_value(memory, index, existing, value, all_cpus);
        }
        match (flags, existing) {
            (0, _) | (NOEXIST, None) | (EXIST, Some(_)) => {}
            (NOEXIST, Some(_)) => return Err(code::KEY_ALREADY_EXISTS),
            (EXIST, None) => return Err(code::KEY_NOT_FOUND),
            _ => return Err(code::INVALID_ARGUMENT),
        }
        if map.is_full && existing.is_none() {
            return Err(code::NO_MEMORY);
        }
        // Only LRU maps have a fixed size: of the others, max_entries just sets the number of buckets.
        let full = entries.len() >= map.definition.max_entries.get() as usize;
        if map.keeps_history() && existing.is_none() && full {
            let dropped = map.history.dropped(entries.iter().map(|(key, e)| (key, e.history)));
            if let Some(dropped) = dropped.cloned() {
                self.delete(memory, index, &dropped)?;
            }
        }
        let address = self.new_value(memory, index)?;
        self.write_value(memory, index, address, value, all_cpus)?;
        let Map { storage, history, .. } = &mut self.list[index];
        let entry = HashEntry {
            value: address,
            history: history.inserted(),
        };
        // A replaced value stays where it is for those who still hold its address.
        if let Storage::Hash(entries) = storage
            && let Some(old) = entries.insert(key, entry)
        {
            history.removed(old.history);
            self.retired.push(old.value);
        }
        Ok(())
    }

    fn write_value(
        &self,
        memory: &mut Memory,
        index: usize,
        address: u64,
        value: &[u8],
        all_cpus: bool,
    ) -> Result<(), u32> {
        let map = &self.list[index];
        let size = map.value_size();
        let bytes = value.get(..size).ok_or(code::INVALID_ARGUMENT)?;
        let is_written = if all_cpus && map.per_cpu() {
            (0..self.cpus as usize).all(|cpu| {
                let own = value.get(size * cpu..size * (cpu + 1)).unwrap_or(bytes);
                memory.write(address + pad8(map.definition.value_size.get()) * cpu as u64, own)
            })
        } else {
            memory.write(self.of_this_cpu(map, address), bytes)
        };
        if is_written { Ok(()) } else { Err(code::NO_MEMORY) }
    }

    /// `bpf_map_delete_elem`.
    pub fn delete(&mut self, memory: &mut Memory, index: usize, key: &[u8]) -> Result<(), u32> {
        let map = &self.list[index];
        match &map.storage {
            Storage::Array { base, stride } => {
                let i = Self::array_index(map, key).ok_or(code::INVALID_ARGUMENT)?;
                if memory.fill(base + stride * u64::from(i), *stride as usize, 0) {
                    Ok(())
                } else {
                    Err(code::NO_MEMORY)
                }
            }
            Storage::Hash(_) => {
                let key = Self::stored_key(map, key)?;
                let Map { storage, history, .. } = &mut self.list[index];
                let Storage::Hash(entries) = storage else {
                    return Err(code::INVALID_ARGUMENT);
                };
                let old = entries.remove(&key).ok_or(code::KEY_NOT_FOUND)?;
                history.removed(old.history);
                self.retired.push(old.value);
                Ok(())
            }
            Storage::Objects(_) => {
                let hash = map.base() == kind::HASH_OF_MAPS;
                let key = Self::object_key(map, key).ok_or(code::OBJECT_NOT_FOUND)?;
                let Storage::Objects(objects) = &mut self.list[index].storage else {
                    return Err(code::INVALID_ARGUMENT);
                };
                match objects.remove(&key) {
                    None if hash => Err(code::OBJECT_NOT_FOUND),
                    _ => Ok(()),
                }
            }
            Storage::Queue(_) | Storage::Rings(_) => Err(code::OPERATION_NOT_SUPPORTED),
        }
    }

    /// `bpf_map_lookup_and_delete_elem`: address of the value, which stays valid until the program ends; 0 for none.
    pub fn lookup_and_delete(&mut self, memory: &mut Memory, index: usize, key: &[u8]) -> u64 {
        match &self.list[index].storage {
            Storage::Hash(_) if self.list[index].base() != kind::LPM_TRIE => {
                let value = self.lookup(index, key);
                if value != 0 && self.delete(memory, index, key).is_err() {
                    return 0;
                }
                value
            }
            Storage::Queue(_) => self.pop(index).unwrap_or(0),
            _ => 0,
        }
    }

    /// Stores a map or program, as user mode and the loader do.
    pub fn store_object(&mut self, index: usize, key: &[u8], object: usize) -> Result<(), u32> {
        let key = Self::object_key(&self.list[index], key).ok_or(code::INVALID_ARGUMENT)?;
        match &mut self.list[index].storage {
            Storage::Objects(objects) => {
                objects.insert(key, object);
                Ok(())
            }
            _ => Err(code::OPERATION_NOT_SUPPORTED),
        }
    }
}
