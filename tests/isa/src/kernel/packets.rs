//! Packets through a program on Linux itself, as the program was compiled for it (`BPF_PROG_TEST_RUN`).

use std::collections::BTreeMap;
use std::os::fd::AsFd;

use bpf2sys_bytecode::{FunctionIndex, Module};

use super::syscalls;
use super::verdict::{Verdict, loaded};

/// `BPF_PROG_TYPE_XDP`.
const XDP: u32 = 6;

/// What became of packets.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ran {
    /// For each packet, what the program returned, and the packet afterwards.
    pub results: Vec<(u32, Vec<u8>)>,
    /// Entries of the maps that the program uses, by name and key, afterwards. Of a map with values for each processor, all of them
    /// one behind the other, each of a multiple of 8 bytes.
    pub maps: BTreeMap<String, BTreeMap<Vec<u8>, Vec<u8>>>,
}

/// Runs a program of type XDP on packets, one after another. Maps are empty at first.
///
/// # Errors
/// Why the kernel does not load it.
pub fn run_packets(module: &Module, program: FunctionIndex, packets: &[Vec<u8>]) -> Result<Ran, Verdict> {
    let (maps, program) = loaded(module, program, XDP)?;
    let failed = |what: &str, error: &std::io::Error| Verdict::NotAsked(format!("{what}: {error}"));
    let mut ran = Ran::default();
    for packet in packets {
        let result = syscalls::run_packet(&program, packet).map_err(|e| failed("a packet", &e))?;
        ran.results.push(result);
    }
    let processors = processors().map_err(|e| failed("the number of processors", &e))?;
    for (map, descriptor) in maps.created() {
        let definition = &map.definition;
        // PERCPU_HASH, PERCPU_ARRAY, LRU_PERCPU_HASH.
        let value_size = match definition.map_type {
            5 | 6 | 10 => definition.value_size.next_multiple_of(8) * processors,
            1 | 2 | 9 | 11 => definition.value_size,
            _ => continue,
        };
        let sizes = (definition.key_size as usize, value_size as usize);
        let entries =
            syscalls::entries(descriptor.as_fd(), sizes).map_err(|e| failed(&format!("map {}", map.name), &e))?;
        ran.maps.insert(map.name.clone(), entries);
    }
    Ok(ran)
}

/// How many processors there may be.
fn processors() -> std::io::Result<u32> {
    let text = std::fs::read_to_string("/sys/devices/system/cpu/possible")?;
    let last = text.trim().rsplit(['-', ',']).next().unwrap_or_default();
    last.parse::<u32>().map(|last| last + 1).map_err(std::io::Error::other)
}
