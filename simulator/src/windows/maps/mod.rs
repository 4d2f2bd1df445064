//! Maps: what they are and what they hold. How they come to be is in `create`, what the runtime's operations do to them
//! in `operations` (by key) and `sequences` (queues, stacks and rings).

use std::collections::{BTreeMap, VecDeque};

mod create;
mod lru;
mod operations;
mod prefix;
mod sequences;

pub use create::NotCreated;

use super::memory::Memory;
use super::mishaps::Allocations;
use crate::address_space::AddressSpace;
pub use crate::map_definitions::{kind, pin_path};
use crate::tables::MapDefinition;

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

/// `BPF_NOEXIST`: the entry must not exist.
const NOEXIST: u64 = 1;
/// `BPF_EXIST`: the entry must exist; for queues, make room.
const EXIST: u64 = 2;

/// A value of a hash map.
#[derive(Clone, Copy, Debug)]
pub struct HashEntry {
    /// Its memory.
    pub value: u64,
    /// Its place among the keys of an LRU map.
    pub history: lru::Place,
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
    /// Which keys of an LRU map were used lately.
    pub history: lru::History,
    /// What an extension has to do with it, if its type is a custom one.
    pub custom: Option<Custom>,
    /// Whether there is no room for more on purpose.
    pub is_full: bool,
}

/// A map of a type that an extension implements.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Custom {
    /// The runtime's own map type that holds the values.
    pub base: u32,
    /// The provider, whose program types alone may use the map.
    pub provider: String,
    /// Whether general helpers refuse the map, because it holds other bytes than a program's values.
    pub closed_to_helpers: bool,
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
    /// Values that were deleted or replaced while a program runs: it may still use them until it ends.
    retired: Vec<u64>,
    /// Memory for values.
    pub allocations: Allocations,
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

    /// The number of the type that holds the values: of custom types, the one that they are made of.
    pub fn base(&self) -> u32 {
        self.custom.as_ref().map_or(self.kind(), |custom| custom.base)
    }

    /// Whether it drops what was not used lately when it is full.
    pub fn keeps_history(&self) -> bool {
        matches!(self.base(), kind::LRU_HASH | kind::LRU_PERCPU_HASH)
    }

    /// Whether there can be no room for something new: arrays have all their entries, and LRU maps drop one.
    pub fn can_be_full(&self) -> bool {
        match self.storage {
            Storage::Hash(_) => !self.keeps_history(),
            Storage::Queue(_) | Storage::Rings(_) => true,
            Storage::Array { .. } | Storage::Objects(_) => false,
        }
    }

    /// Whether there is one value per processor.
    pub fn per_cpu(&self) -> bool {
        matches!(
            self.base(),
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

/// Type, key size, value size, entries.
pub fn shape(d: &MapDefinition) -> [u32; 4] {
    [
        d.map_type.get(),
        d.key_size.get(),
        d.value_size.get(),
        d.max_entries.get(),
    ]
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

    /// The map whose object is at `address`.
    pub fn by_address(&self, address: u64) -> Option<usize> {
        self.list.iter().position(|m| m.address == address)
    }

    /// Where the value of this processor is in a map's memory for one entry.
    fn of_this_cpu(&self, map: &Map, value: u64) -> u64 {
        if map.per_cpu() {
            value + pad8(map.definition.value_size.get()) * u64::from(self.cpu)
        } else {
            value
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
