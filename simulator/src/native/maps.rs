//! Maps: how they are created (native module contract §4.3) and what the runtime's operations do to them.
//!
//! Errors of operations are the runtime's result codes, which helpers return negated.

use std::collections::{BTreeMap, VecDeque};

use super::memory::{Memory, OutOfMemory, Use};
use crate::address_space::AddressSpace;
use crate::rule::{Rule, Violation};
use crate::tables::MapDefinition;

/// Map type numbers that the runtime treats in a way of their own.
#[allow(missing_docs)]
pub mod kind {
    pub const ARRAY: u32 = 2;
    pub const PROG_ARRAY: u32 = 3;
    pub const PERCPU_HASH: u32 = 4;
    pub const PERCPU_ARRAY: u32 = 5;
    pub const HASH_OF_MAPS: u32 = 6;
    pub const ARRAY_OF_MAPS: u32 = 7;
    pub const LRU_HASH: u32 = 8;
    pub const LPM_TRIE: u32 = 9;
    pub const QUEUE: u32 = 10;
    pub const LRU_PERCPU_HASH: u32 = 11;
    pub const STACK: u32 = 12;
    pub const RINGBUF: u32 = 13;
    pub const PERF_EVENT_ARRAY: u32 = 14;
    /// One past the last type that the runtime knows.
    pub const COUNT: u32 = 17;
}

/// `ebpf_result_t`.
#[allow(missing_docs)]
pub mod code {
    pub const INVALID_ARGUMENT: u32 = 6;
    pub const OBJECT_NOT_FOUND: u32 = 7;
    pub const NO_MEMORY: u32 = 12;
    pub const OPERATION_NOT_SUPPORTED: u32 = 18;
    pub const KEY_NOT_FOUND: u32 = 19;
    pub const KEY_ALREADY_EXISTS: u32 = 26;
    pub const NO_MORE_TAIL_CALLS: u32 = 27;
    pub const OUT_OF_SPACE: u32 = 29;
}

const NOEXIST: u64 = 1;
const EXIST: u64 = 2;

/// A value of a hash map.
#[derive(Clone, Copy, Debug)]
pub struct HashEntry {
    /// Its memory.
    pub value: u64,
    /// When it was last used, for LRU maps.
    pub used: u64,
}

/// What a map holds.
#[derive(Debug)]
pub enum Storage {
    /// Values side by side, `stride` bytes each; per-CPU values within.
    Array {
        /// First value.
        base: u64,
        /// Bytes from one to the next.
        stride: u64,
    },
    /// Values by key.
    Hash(BTreeMap<Vec<u8>, HashEntry>),
    /// Maps or programs by index or key, as indices of the module.
    Objects(BTreeMap<Vec<u8>, usize>),
    /// Values in order of insertion.
    Queue(VecDeque<u64>),
    /// Records, and the bytes they take, per ring: one, or one per CPU.
    Rings(Vec<Ring>),
}

/// One ring.
#[derive(Clone, Debug, Default)]
pub struct Ring {
    /// Records, oldest first.
    pub records: Vec<Vec<u8>>,
    /// Bytes taken, headers included.
    pub used: u64,
}

/// A map.
#[derive(Debug)]
pub struct Map {
    /// Name.
    pub name: String,
    /// Definition.
    pub definition: MapDefinition,
    /// The object's address, as programs see it.
    pub address: u64,
    /// Contents.
    pub storage: Storage,
    /// Template of inner maps: type, key size, value size, entries.
    pub template: Option<[u32; 4]>,
    /// Program type that a program array is bound to.
    pub program_type: Option<[u8; 16]>,
    /// Canonical pin path.
    pub pin: Option<String>,
}

/// All maps, and what they share.
#[derive(Debug, Default)]
pub struct Maps {
    /// In table order.
    pub list: Vec<Map>,
    /// Number of processors.
    pub cpus: u32,
    /// The processor that runs programs.
    pub cpu: u32,
    clock: u64,
    /// Values that were deleted or replaced while a program runs: it may still use them until it ends.
    retired: Vec<u64>,
}

/// Bytes from one per-CPU value to the next.
fn pad8(size: u32) -> u64 {
    u64::from(size).next_multiple_of(8)
}

impl Map {
    /// Map type number.
    pub fn kind(&self) -> u32 {
        self.definition.map_type.get()
    }

    /// Whether there is one value per processor.
    pub fn per_cpu(&self) -> bool {
        matches!(
            self.kind(),
            kind::PERCPU_HASH | kind::PERCPU_ARRAY | kind::LRU_PERCPU_HASH
        )
    }

    /// Type, key size, value size, entries.
    pub fn shape(&self) -> [u32; 4] {
        shape(&self.definition)
    }

    /// Bytes of a key.
    pub fn key_size(&self) -> usize {
        self.definition.key_size.get() as usize
    }

    /// Bytes of a value of one processor.
    pub fn value_size(&self) -> usize {
        self.definition.value_size.get() as usize
    }
}

fn shape(d: &MapDefinition) -> [u32; 4] {
    [
        d.map_type.get(),
        d.key_size.get(),
        d.value_size.get(),
        d.max_entries.get(),
    ]
}

/// The canonical pin path of a map name.
pub fn pin_path(name: &str) -> Option<String> {
    let path = format!(r"BPF:\{}", name.replace('/', r"\"));
    (!name.contains(':') && path.len() <= 255).then_some(path)
}

impl Maps {
    /// No maps yet.
    pub fn new(cpus: u32, cpu: u32) -> Maps {
        Maps {
            cpus,
            cpu,
            ..Maps::default()
        }
    }

    /// Checks of all definitions before the first is created, and the order in which templates allow creation.
    pub fn creation_order(
        definitions: &[MapDefinition],
        names: &[String],
    ) -> Result<Vec<(usize, Option<usize>)>, Violation> {
        let mut order: Vec<(usize, Option<usize>)> = Vec::new();
        let mut waiting: Vec<usize> = (0..definitions.len()).collect();
        while !waiting.is_empty() {
            let ready = waiting.iter().position(|&i| match template_of(definitions, i) {
                Template::NotNeeded => true,
                Template::Map(t) => order.iter().any(|&(done, _)| done == t),
                Template::Missing => false,
            });
            let Some(position) = ready else {
                let name = waiting.first().and_then(|&i| names.get(i)).map_or("", String::as_str);
                return Err(Violation::new(
                    Rule::InnerTemplate,
                    format!("map {name} has no inner template that can be created"),
                ));
            };
            let index = waiting.remove(position);
            let template = match template_of(definitions, index) {
                Template::Map(t) => Some(t),
                _ => None,
            };
            order.push((index, template));
        }
        Ok(order)
    }

    /// Checks a definition and makes the map's storage.
    pub fn create(
        &self,
        memory: &mut Memory,
        name: &str,
        definition: MapDefinition,
        template: Option<[u32; 4]>,
    ) -> Result<Map, Violation> {
        let [map_type, key_size, value_size, max_entries] = shape(&definition);
        let bad = |detail: String| Violation::new(Rule::MapDefinition, format!("map {name}: {detail}"));
        let pin = match definition.pinning.get() {
            0 => None,
            1 => Some(pin_path(name).ok_or_else(|| {
                Violation::new(
                    Rule::MapPinning,
                    format!("map {name}: the name does not make a pin path"),
                )
            })?),
            other => {
                return Err(Violation::new(
                    Rule::MapPinning,
                    format!("map {name}: pinning is {other}"),
                ));
            }
        };
        if map_type == 0 || map_type >= kind::COUNT {
            return Err(bad(format!("the runtime knows no map type {map_type}")));
        }
        if map_type > kind::PERF_EVENT_ARRAY {
            return Err(bad(format!("no provider of map type {map_type} is attached")));
        }
        if max_entries == 0 {
            return Err(bad("max_entries is 0".into()));
        }
        let rings = matches!(map_type, kind::RINGBUF | kind::PERF_EVENT_ARRAY);
        let keyless = matches!(map_type, kind::QUEUE | kind::STACK | kind::RINGBUF);
        if keyless && key_size != 0 {
            return Err(bad(format!("key size is {key_size}, this type has no keys")));
        }
        if key_size == 0 && !keyless && map_type != kind::PERF_EVENT_ARRAY {
            return Err(bad("key size is 0".into()));
        }
        if value_size == 0 && !rings {
            return Err(bad("value size is 0".into()));
        }
        let objects = matches!(map_type, kind::PROG_ARRAY | kind::HASH_OF_MAPS | kind::ARRAY_OF_MAPS);
        if objects && value_size != 4 {
            return Err(bad(format!("value size is {value_size}, objects need 4")));
        }
        if map_type == kind::LPM_TRIE && key_size < 4 {
            return Err(bad(format!("key size is {key_size}, a prefix length alone takes 4")));
        }
        if rings && !(max_entries.is_power_of_two() && max_entries.is_multiple_of(4096)) {
            return Err(bad(format!("{max_entries} bytes are no power of two of whole pages")));
        }
        let arrays = matches!(
            map_type,
            kind::ARRAY | kind::PERCPU_ARRAY | kind::PROG_ARRAY | kind::ARRAY_OF_MAPS
        );
        if arrays && key_size < 4 {
            return Err(bad(format!(
                "key size is {key_size}; the runtime reads 4 bytes of each key"
            )));
        }
        let full = |_: OutOfMemory| bad("there is no memory for it".into());
        let storage = match map_type {
            kind::ARRAY | kind::PERCPU_ARRAY => {
                let stride = if map_type == kind::ARRAY {
                    value_size.into()
                } else {
                    pad8(value_size) * u64::from(self.cpus)
                };
                let bytes = stride
                    .checked_mul(max_entries.into())
                    .filter(|&b| b <= 1 << 37)
                    .ok_or_else(|| bad("it is larger than 128 GiB".into()))?;
                let base = memory
                    .allocate(bytes as usize, 8, &format!("the values of map {name}"), Use::ReadWrite)
                    .map_err(full)?;
                Storage::Array { base, stride }
            }
            kind::QUEUE | kind::STACK => Storage::Queue(VecDeque::new()),
            kind::RINGBUF => Storage::Rings(vec![Ring::default()]),
            kind::PERF_EVENT_ARRAY => Storage::Rings(vec![Ring::default(); self.cpus as usize]),
            _ if objects => Storage::Objects(BTreeMap::new()),
            _ => Storage::Hash(BTreeMap::new()),
        };
        let address = memory
            .allocate(64, 16, &format!("the object of map {name}"), Use::Kernel)
            .map_err(full)?;
        Ok(Map {
            name: name.to_owned(),
            definition,
            address,
            storage,
            template,
            program_type: None,
            pin,
        })
    }

    /// The map whose object is at `address`.
    pub fn by_address(&self, address: u64) -> Option<usize> {
        self.list.iter().position(|m| m.address == address)
    }

    /// The key as the map stores it, from the bytes that a caller gave.
    fn stored_key(map: &Map, key: &[u8]) -> Result<Vec<u8>, u32> {
        if key.len() < map.key_size() {
            return Err(code::INVALID_ARGUMENT);
        }
        let mut key = key[..map.key_size()].to_vec();
        if map.kind() == kind::LPM_TRIE {
            // Only the prefix counts.
            let bits = prefix_length(&key);
            if u64::from(bits) > (key.len() as u64 - 4) * 8 {
                return Err(code::INVALID_ARGUMENT);
            }
            mask(&mut key, bits);
        }
        Ok(key)
    }

    fn array_index(map: &Map, key: &[u8]) -> Option<u32> {
        let index = u32::from_le_bytes(key.get(..4)?.try_into().ok()?);
        (index < map.definition.max_entries.get()).then_some(index)
    }

    /// Where the value of this processor is in a map's memory for one entry.
    fn of_this_cpu(&self, map: &Map, value: u64) -> u64 {
        if map.per_cpu() {
            value + pad8(map.definition.value_size.get()) * u64::from(self.cpu)
        } else {
            value
        }
    }

    fn touch(&mut self, index: usize, key: &[u8]) {
        self.clock += 1;
        let clock = self.clock;
        if let Storage::Hash(entries) = &mut self.list[index].storage
            && let Some(entry) = entries.get_mut(key)
        {
            entry.used = clock;
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
                let found = if map.kind() == kind::LPM_TRIE {
                    longest_prefix(entries, &stored)
                } else {
                    entries.get(&stored).map(|e| e.value)
                };
                let value = found.map_or(0, |value| self.of_this_cpu(map, value));
                self.touch(index, &stored);
                value
            }
            // Programs cannot look at programs.
            Storage::Objects(_) if map.kind() == kind::PROG_ARRAY => 0,
            Storage::Objects(objects) => Self::object_key(map, key)
                .and_then(|key| objects.get(&key))
                .map_or(0, |&inner| self.list[inner].address),
            Storage::Queue(_) => self.queue_end(index).unwrap_or(0),
            Storage::Rings(_) => 0,
        }
    }

    fn object_key(map: &Map, key: &[u8]) -> Option<Vec<u8>> {
        if map.kind() == kind::HASH_OF_MAPS {
            key.get(..map.key_size()).map(<[u8]>::to_vec)
        } else {
            Self::array_index(map, key).map(|i| i.to_be_bytes().to_vec())
        }
    }

    /// The value that would be taken out of a queue or stack next.
    pub fn queue_end(&self, index: usize) -> Option<u64> {
        let map = &self.list[index];
        let Storage::Queue(values) = &map.storage else {
            return None;
        };
        if map.kind() == kind::STACK {
            values.back().copied()
        } else {
            values.front().copied()
        }
    }

    /// Takes a value out of a queue or stack. Its memory stays until the program ends.
    pub fn pop(&mut self, index: usize) -> Option<u64> {
        let stack = self.list[index].kind() == kind::STACK;
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
        let room = map.definition.max_entries.get() as usize;
        let size = map.value_size();
        let Storage::Queue(values) = &mut map.storage else {
            return Err(code::OPERATION_NOT_SUPPORTED);
        };
        if values.len() >= room {
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

    /// Memory for one entry's value or values, zeroed.
    fn new_value(&self, memory: &mut Memory, index: usize) -> Result<u64, u32> {
        let map = &self.list[index];
        let size = if map.per_cpu() {
            pad8(map.definition.value_size.get()) * u64::from(self.cpus)
        } else {
            map.value_size() as u64
        };
        let label = format!("a value of map {}", map.name);
        memory
            .allocate_value(size as usize, &label)
            .map_err(|OutOfMemory| code::NO_MEMORY)
    }

    /// `bpf_map_update_elem`, and `all_cpus` for user mode's form of it.
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
        // Only LRU maps have a fixed size: of the others, max_entries just sets the number of buckets.
        let lru = matches!(map.kind(), kind::LRU_HASH | kind::LRU_PERCPU_HASH);
        if lru && existing.is_none() && entries.len() >= map.definition.max_entries.get() as usize {
            let oldest = entries.iter().min_by_key(|(_, e)| e.used).map(|(k, _)| k.clone());
            if let Some(oldest) = oldest {
                self.delete(memory, index, &oldest)?;
            }
        }
        let address = self.new_value(memory, index)?;
        self.write_value(memory, index, address, value, all_cpus)?;
        self.clock += 1;
        let entry = HashEntry {
            value: address,
            used: self.clock,
        };
        // A replaced value stays where it is for those who still hold its address.
        if let Storage::Hash(entries) = &mut self.list[index].storage
            && let Some(old) = entries.insert(key, entry)
        {
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
        let bytes = value.get(..map.value_size()).ok_or(code::INVALID_ARGUMENT)?;
        let places: Vec<u64> = if all_cpus && map.per_cpu() {
            (0..u64::from(self.cpus))
                .map(|cpu| address + pad8(map.definition.value_size.get()) * cpu)
                .collect()
        } else {
            vec![self.of_this_cpu(map, address)]
        };
        if places.iter().all(|&place| memory.write(place, bytes)) {
            Ok(())
        } else {
            Err(code::NO_MEMORY)
        }
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
                let Storage::Hash(entries) = &mut self.list[index].storage else {
                    return Err(code::INVALID_ARGUMENT);
                };
                let old = entries.remove(&key).ok_or(code::KEY_NOT_FOUND)?;
                self.retired.push(old.value);
                Ok(())
            }
            Storage::Objects(_) => {
                let hash = map.kind() == kind::HASH_OF_MAPS;
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
            Storage::Hash(_) if self.list[index].kind() != kind::LPM_TRIE => {
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

    /// The program in a slot of a program array.
    pub fn program_at(&self, index: usize, slot: u32) -> Option<usize> {
        let map = &self.list[index];
        match &map.storage {
            Storage::Objects(objects) if map.kind() == kind::PROG_ARRAY && map.key_size() == 4 => {
                objects.get(slot.to_be_bytes().as_slice()).copied()
            }
            _ => None,
        }
    }

    /// Appends a record to a ring. A record takes a header of 8 bytes, and padding to 8.
    pub fn output(&mut self, index: usize, ring: usize, data: &[u8]) -> Result<(), u32> {
        let capacity = u64::from(self.list[index].definition.max_entries.get());
        let perf = self.list[index].kind() == kind::PERF_EVENT_ARRAY;
        let Storage::Rings(rings) = &mut self.list[index].storage else {
            return Err(code::OPERATION_NOT_SUPPORTED);
        };
        let ring = rings.get_mut(ring).ok_or(code::INVALID_ARGUMENT)?;
        let size = (data.len() as u64 + 8).next_multiple_of(8);
        if data.is_empty() || size > capacity {
            return Err(code::INVALID_ARGUMENT);
        }
        if ring.used + size > capacity {
            return Err(if perf { code::OUT_OF_SPACE } else { code::NO_MEMORY });
        }
        ring.used += size;
        ring.records.push(data.to_vec());
        Ok(())
    }

    /// Frees what programs could still hold until now.
    pub fn release_retired(&mut self, memory: &mut Memory) {
        for value in self.retired.drain(..) {
            memory.free_value(value);
        }
    }

    /// The bytes of an entry's value, one per processor for per-CPU maps.
    pub fn values_at(&self, memory: &Memory, map: &Map, address: u64) -> Vec<Vec<u8>> {
        let step = pad8(map.definition.value_size.get());
        let count = if map.per_cpu() { u64::from(self.cpus) } else { 1 };
        (0..count)
            .map(|cpu| memory.read(address + step * cpu, map.value_size()).unwrap_or_default())
            .collect()
    }
}

enum Template {
    NotNeeded,
    Map(usize),
    Missing,
}

/// The inner template: by index if it is not 0, else by id.
fn template_of(definitions: &[MapDefinition], index: usize) -> Template {
    let definition = &definitions[index];
    if !matches!(definition.map_type.get(), kind::HASH_OF_MAPS | kind::ARRAY_OF_MAPS) {
        return Template::NotNeeded;
    }
    let by_index = definition.inner_map_idx.get() as usize;
    let id = definition.inner_id.get();
    let found = if by_index != 0 {
        (by_index < definitions.len()).then_some(by_index)
    } else if id != 0 {
        definitions
            .iter()
            .enumerate()
            .position(|(i, d)| i != index && d.id.get() == id)
    } else {
        None
    };
    found.map_or(Template::Missing, Template::Map)
}

fn prefix_length(key: &[u8]) -> u32 {
    key.get(..4)
        .and_then(|b| b.try_into().ok())
        .map_or(0, u32::from_le_bytes)
}

/// Clears what follows the prefix, and states its length.
fn mask(key: &mut [u8], bits: u32) {
    key[..4].copy_from_slice(&bits.to_le_bytes());
    for (i, byte) in key[4..].iter_mut().enumerate() {
        let kept = bits.saturating_sub(8 * i as u32).min(8);
        *byte &= !(0xFFu32 >> kept) as u8;
    }
}

fn longest_prefix(entries: &BTreeMap<Vec<u8>, HashEntry>, key: &[u8]) -> Option<u64> {
    let bits = prefix_length(key);
    (0..=bits).rev().find_map(|bits| {
        let mut shorter = key.to_vec();
        mask(&mut shorter, bits);
        entries.get(&shorter).map(|e| e.value)
    })
}
