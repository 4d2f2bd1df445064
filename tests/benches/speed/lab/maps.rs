//! Maps for programs to work on: as fast as a map can simply be, because what is measured is the code that calls them.
//!
//! A map is known by an address whose first eight bytes are the address of its [`State`]. The state begins with its own.

use bpf2sys_bytecode::MapDefinition;

use super::Error;
use super::world::World;

const HASH: u32 = 1;
const ARRAY: u32 = 2;
const PROG_ARRAY: u32 = 3;
const PERCPU_ARRAY: u32 = 5;
const LRU_HASH: u32 = 8;
const RING: u32 = 13;

/// What a slot of a hash table holds in its first eight bytes.
const EMPTY: u64 = 0;
const TAKEN: u64 = 1;
const DELETED: u64 = 2;

/// A map, in the memory of its world.
#[repr(C)]
pub struct State {
    me: u64,
    kind: u32,
    key_size: u32,
    value_size: u32,
    max_entries: u32,
    /// The values of an array, the slots of a hash table, the bytes of a ring.
    data: u64,
    /// Hash tables: slots, a power of two, less one. Rings: bytes less one.
    mask: u64,
    /// Hash tables: bytes of a slot.
    stride: u64,
    /// Hash tables: entries. Rings: bytes ever written.
    count: u64,
}

/// Makes a map as it is defined, without entries.
pub fn create(world: &mut World, definition: &MapDefinition) -> Result<u64, Error> {
    let (key_size, value_size, max_entries) = (definition.key_size, definition.value_size, definition.max_entries);
    let padded = |size: u32| u64::from(size).next_multiple_of(8);
    let (slots, stride) = match definition.map_type {
        ARRAY | PERCPU_ARRAY | PROG_ARRAY => (u64::from(max_entries), u64::from(value_size)),
        HASH | LRU_HASH => (
            (2 * u64::from(max_entries)).next_power_of_two(),
            8 + padded(key_size) + padded(value_size),
        ),
        RING => (u64::from(max_entries), 1),
        other => return Err(format!("maps of type {other} are not made here")),
    };
    let data = world.allocate((slots * stride) as usize, 64);
    let me = world.allocate(size_of::<State>(), 64);
    let mut bytes = Vec::new();
    bytes.extend(me.to_le_bytes());
    for word in [definition.map_type, key_size, value_size, max_entries] {
        bytes.extend(word.to_le_bytes());
    }
    for word in [data, slots.wrapping_sub(1), stride, 0] {
        bytes.extend(word.to_le_bytes());
    }
    world.write(me, &bytes);
    Ok(me)
}

/// The state of the map with this address.
fn state(map: u64) -> &'static mut State {
    // SAFETY: the address comes from the runtime's tables or a loaded object, where `create`'s was written: it leads to a
    // state in a world that outlives the call, and one thread at a time works on a world.
    unsafe { &mut **(map as *const *mut State) }
}

/// Where the values of an array are.
pub fn values(map: u64) -> u64 {
    state(map).data
}

fn bytes<'a>(address: u64, length: u32) -> &'a [u8] {
    // SAFETY: verified programs pass memory that a helper may read in this length; it is only read during the call.
    unsafe { std::slice::from_raw_parts(address as *const u8, length as usize) }
}

fn copy(to: u64, from: u64, length: u32) {
    // SAFETY: `to` is a value of a map, `from` is memory that the verified program may read in this length. They may be the
    // same memory, so this copies as if through a buffer.
    unsafe { std::ptr::copy(from as *const u8, to as *mut u8, length as usize) }
}

fn word(address: u64) -> u64 {
    // SAFETY: the address is that of a slot of a hash table, which begins with eight bytes.
    unsafe { *(address as *const u64) }
}

fn set_word(address: u64, value: u64) {
    // SAFETY: as in `word`.
    unsafe { *(address as *mut u64) = value }
}

/// FNV-1a with a last step that brings what the upper bits know to the lower ones.
fn hash(key: &[u8]) -> u64 {
    let sum = key.iter().fold(0xCBF2_9CE4_8422_2325_u64, |sum, &byte| {
        (sum ^ u64::from(byte)).wrapping_mul(0x0100_0000_01B3)
    });
    sum ^ sum >> 32
}

impl State {
    /// With one processor, both kinds are the same.
    fn is_array(&self) -> bool {
        matches!(self.kind, ARRAY | PERCPU_ARRAY)
    }

    /// The slot with this key, or else the first free one that it may get.
    fn slot(&self, key: u64) -> Result<u64, u64> {
        let key = bytes(key, self.key_size);
        let mut index = hash(key) & self.mask;
        let mut free = None;
        loop {
            let slot = self.data + index * self.stride;
            match word(slot) {
                EMPTY => return Err(free.unwrap_or(slot)),
                TAKEN if bytes(slot + 8, self.key_size) == key => return Ok(slot),
                TAKEN => {}
                _ => free = free.or(Some(slot)),
            }
            index = (index + 1) & self.mask;
        }
    }

    fn value_of(&self, slot: u64) -> u64 {
        slot + 8 + u64::from(self.key_size).next_multiple_of(8)
    }
}

/// `bpf_map_lookup_elem`.
pub fn lookup(map: u64, key: u64) -> u64 {
    let map = state(map);
    if map.is_array() {
        let index = u32::from_le_bytes(bytes(key, 4).try_into().unwrap_or_default());
        if index < map.max_entries {
            map.data + u64::from(index) * map.stride
        } else {
            0
        }
    } else {
        map.slot(key).map_or(0, |slot| map.value_of(slot))
    }
}

/// `bpf_map_update_elem` with `BPF_ANY`.
pub fn update(address: u64, key: u64, value: u64) -> u64 {
    let map = state(address);
    if map.is_array() {
        let to = lookup(address, key);
        if to == 0 {
            return -7_i64 as u64;
        }
        copy(to, value, map.value_size);
        return 0;
    }
    let slot = match map.slot(key) {
        Ok(slot) => slot,
        Err(_) if map.count >= u64::from(map.max_entries) => return -28_i64 as u64,
        Err(slot) => {
            map.count += 1;
            set_word(slot, TAKEN);
            copy(slot + 8, key, map.key_size);
            slot
        }
    };
    copy(map.value_of(slot), value, map.value_size);
    0
}

/// `bpf_map_delete_elem`.
pub fn delete(map: u64, key: u64) -> u64 {
    let map = state(map);
    match map.slot(key) {
        Ok(slot) => {
            // Where nothing follows, nothing is to be found behind it.
            let next = map.data + (((slot - map.data) / map.stride + 1) & map.mask) * map.stride;
            set_word(slot, if word(next) == EMPTY { EMPTY } else { DELETED });
            map.count -= 1;
            0
        }
        Err(_) => -7_i64 as u64,
    }
}

/// `bpf_ringbuf_output`, to a reader who is always fast enough.
pub fn output(map: u64, data: u64, size: u64) -> u64 {
    let map = state(map);
    let at = map.count & map.mask;
    // A record that would not fit before the end goes to the start.
    let at = if at + size > map.mask { 0 } else { at };
    copy(map.data + at, data, size as u32);
    map.count += size.next_multiple_of(8);
    0
}
