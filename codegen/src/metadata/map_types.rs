//! Map types whose number means something to generated tables or code (`ebpf_map_type_t` of eBPF for Windows; native module
//! contract §4.3).

use std::ops::Range;

/// Numbers that the runtime knows, 0 (unspecified) aside.
pub(crate) const MAP_TYPES: Range<u32> = 1..17;
/// `BPF_MAP_TYPE_ARRAY`: its values are one block of memory, indexed by a 32-bit key.
pub(crate) const ARRAY: u32 = 2;
/// `BPF_MAP_TYPE_PROG_ARRAY`
pub(crate) const PROGRAM_ARRAY: u32 = 3;
/// `BPF_MAP_TYPE_HASH_OF_MAPS` and `BPF_MAP_TYPE_ARRAY_OF_MAPS`
pub(crate) const MAPS_OF_MAPS: [u32; 2] = [6, 7];
/// Types whose definition must state a value size of 4 whatever they hold.
pub(crate) const NARROW_VALUE: [u32; 3] = [PROGRAM_ARRAY, 6, 7];
/// Types that may have no key: queue, stack, ring buffer, perf event array.
pub(crate) const NO_KEY: [u32; 4] = [10, 12, 13, 14];
/// Types that may have no value: ring buffer, perf event array.
pub(crate) const EMPTY_VALUE: [u32; 2] = [13, 14];
