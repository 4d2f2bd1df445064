//! The memory that programs work on: contexts, packets, maps, clock.
//!
//! All of it lies in one mapping, so that every engine starts from the same bytes ([`World::reset`]), and everything an engine
//! has changed can be compared with what another one has ([`World::state`]).

use std::sync::atomic::{AtomicU64, Ordering};

use bpf2sys_bytecode::Module;

use super::Error;
use super::maps;
use super::memory::Mapping;

/// Bytes before a context, which belong to the runtime (native module contract §6.1).
const CONTEXT_HEADER: usize = 64;
/// More than any workload takes.
const ARENA_BYTES: usize = 4 << 20;

/// Where the [`Header`] of the world is that helpers work on.
static CURRENT: AtomicU64 = AtomicU64::new(0);

/// What helpers know besides maps. It lies at the start of the memory.
#[repr(C)]
pub struct Header {
    /// Nanoseconds; each look at the clock takes some.
    pub clock: u64,
    /// State of the random numbers.
    pub random: u64,
    /// What `bpf_process_get_image_path` gives: address and bytes.
    pub path: (u64, u64),
}

/// The memory of one workload.
pub struct World {
    arena: Mapping,
    used: usize,
    /// What it holds before a run.
    initial: Vec<u8>,
    /// Addresses of the contexts to run programs with.
    pub contexts: Vec<u64>,
    /// The packets behind the contexts, as they are at first.
    pub packets: Vec<Vec<u8>>,
    /// Addresses of the maps, by module map index.
    pub maps: Vec<u64>,
    /// What was put into maps.
    pub entries: Vec<Entry>,
    names: Vec<String>,
}

/// An entry of a map.
pub struct Entry {
    /// The map's index.
    pub map: usize,
    /// Its key.
    pub key: Vec<u8>,
    /// Its value.
    pub value: Vec<u8>,
}

impl World {
    /// The maps of `module`, and what `fill` adds to that.
    pub fn new(module: &Module, fill: fn(&mut World)) -> Result<World, Error> {
        let mut world = World {
            arena: Mapping::new(ARENA_BYTES)?,
            used: 0,
            initial: Vec::new(),
            contexts: Vec::new(),
            packets: Vec::new(),
            maps: Vec::new(),
            entries: Vec::new(),
            names: Vec::new(),
        };
        let header = world.allocate(size_of::<Header>(), 64);
        world.write(header, &1_000_000_000_u64.to_le_bytes());
        world.write(header + 8, &0x9E37_79B9_7F4A_7C15_u64.to_le_bytes());
        for map in &module.maps {
            let address = maps::create(&mut world, &map.definition)?;
            world.maps.push(address);
            world.names.push(map.name.clone());
        }
        for global in &module.globals {
            let address = maps::values(world.maps[global.map.index()]);
            world.write(address, &global.data);
        }
        fill(&mut world);
        world.initial = world.arena.view()[..world.used].to_vec();
        Ok(world)
    }

    /// `length` zero bytes.
    pub fn allocate(&mut self, length: usize, align: usize) -> u64 {
        let start = self.used.next_multiple_of(align);
        assert!(
            start + length <= ARENA_BYTES,
            "a workload takes more memory than there is"
        );
        self.used = start + length;
        self.arena.address() + start as u64
    }

    /// Writes bytes that `allocate` gave.
    pub fn write(&mut self, address: u64, bytes: &[u8]) {
        let start = (address - self.arena.address()) as usize;
        self.arena.bytes()[start..start + bytes.len()].copy_from_slice(bytes);
    }

    /// Copies bytes to new memory.
    pub fn place(&mut self, bytes: &[u8]) -> u64 {
        let address = self.allocate(bytes.len(), 64);
        self.write(address, bytes);
        address
    }

    /// One more context, with these bytes.
    pub fn context(&mut self, bytes: &[u8]) {
        let start = self.allocate(CONTEXT_HEADER + bytes.len(), 64) + CONTEXT_HEADER as u64;
        self.write(start, bytes);
        self.contexts.push(start);
    }

    /// Writes what lies in the eight bytes before the last context.
    pub fn before_context(&mut self, word: u64) {
        if let Some(&context) = self.contexts.last() {
            self.write(context - 8, &word.to_le_bytes());
        }
    }

    /// One more frame that an interface has received: `xdp_md_t`.
    pub fn frame(&mut self, packet: &[u8]) {
        let start = self.place(packet);
        let fields = [start, start + packet.len() as u64, 0, 1];
        let bytes: Vec<u8> = fields.iter().flat_map(|field| field.to_le_bytes()).collect();
        self.context(&bytes);
        self.packets.push(packet.to_vec());
    }

    /// Puts an entry into a map.
    pub fn insert(&mut self, map: &str, key: &[u8], value: &[u8]) {
        let index = self.names.iter().position(|name| name == map);
        let map = index.unwrap_or_else(|| panic!("no map {map}"));
        assert_eq!(
            maps::update(self.maps[map], key.as_ptr() as u64, value.as_ptr() as u64),
            0
        );
        self.entries.push(Entry {
            map,
            key: key.to_vec(),
            value: value.to_vec(),
        });
    }

    /// What `bpf_process_get_image_path` is to give.
    pub fn image_path(&mut self, path: &[u8]) {
        let address = self.place(path);
        let at = self.arena.address() + std::mem::offset_of!(Header, path) as u64;
        self.write(at, &address.to_le_bytes());
        self.write(at + 8, &(path.len() as u64).to_le_bytes());
    }

    /// Puts everything back to where it was before the first run, and has helpers work on this world.
    pub fn reset(&mut self) {
        let length = self.initial.len();
        self.arena.bytes()[..length].copy_from_slice(&self.initial);
        CURRENT.store(self.arena.address(), Ordering::Relaxed);
    }

    /// Everything that a program may have changed.
    pub fn state(&self) -> &[u8] {
        &self.arena.view()[..self.used]
    }

    /// What native C is shown in its variables for maps: the map, and the values of an array.
    pub fn variables(&self) -> Vec<(String, [u64; 2])> {
        let words = self.maps.iter().map(|&map| [map, maps::values(map)]);
        self.names.iter().cloned().zip(words).collect()
    }

    /// First address and bytes of the memory.
    pub fn extent(&self) -> (u64, usize) {
        (self.arena.address(), self.arena.length())
    }
}

/// The header of the world that was reset last.
pub fn header() -> *mut Header {
    CURRENT.load(Ordering::Relaxed) as *mut Header
}
