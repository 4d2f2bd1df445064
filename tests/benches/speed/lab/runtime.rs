//! What the runtime shows a program (native module contract §1.2).

use bpf2sys_bytecode::{MapOrigin, Module};

use super::Error;
use super::maps;
use super::memory::Mapping;
use super::world::World;

/// Words of a resolved helper: header, address, whether it is the tail call.
const HELPER_WORDS: usize = 5;
/// Words of a map: header, address, values of an array.
const MAP_WORDS: usize = 5;
/// Words of a section of global variables: header, address.
const GLOBAL_WORDS: usize = 4;
/// Words of a header, which stay 0.
const HEADER_WORDS: usize = 3;
/// Words of the context: header, helpers, maps, global sections, BTF-resolved functions.
const CONTEXT_WORDS: usize = 7;

/// The second argument of a program, with everything behind it.
pub struct Runtime(Mapping);

impl Runtime {
    /// The tables for a program that has these helpers, by their addresses.
    pub fn new(world: &World, module: &Module, helpers: &[u64]) -> Result<Runtime, Error> {
        let at = |words: usize| (8 * words) as u64;
        let maps_at = CONTEXT_WORDS + HELPER_WORDS * helpers.len();
        let globals_at = maps_at + MAP_WORDS * module.maps.len();
        let length = globals_at + GLOBAL_WORDS * module.globals.len();
        let mut memory = Mapping::new(8 * length)?;
        let base = memory.address();
        let mut words = vec![0_u64; length];
        words[HEADER_WORDS..HEADER_WORDS + 3].copy_from_slice(&[
            base + at(CONTEXT_WORDS),
            base + at(maps_at),
            base + at(globals_at),
        ]);
        for (index, &address) in helpers.iter().enumerate() {
            words[CONTEXT_WORDS + HELPER_WORDS * index + HEADER_WORDS] = address;
        }
        for (index, (&map, definition)) in world.maps.iter().zip(&module.maps).enumerate() {
            let element = maps_at + MAP_WORDS * index + HEADER_WORDS;
            words[element] = map;
            words[element + 1] = maps::values(map);
            debug_assert!(!matches!(definition.origin, MapOrigin::Anonymous));
        }
        for (index, global) in module.globals.iter().enumerate() {
            words[globals_at + GLOBAL_WORDS * index + HEADER_WORDS] = maps::values(world.maps[global.map.index()]);
        }
        let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
        memory.bytes()[..bytes.len()].copy_from_slice(&bytes);
        Ok(Runtime(memory))
    }

    /// The address of the context.
    pub fn address(&self) -> u64 {
        self.0.address()
    }

    /// First address and bytes of all of it.
    pub fn extent(&self) -> (u64, usize) {
        (self.0.address(), self.0.length())
    }
}
