//! Map types whose number means something to generated tables or code (`ebpf_map_type_t` of eBPF for Windows).

/// `BPF_MAP_TYPE_ARRAY`: its values are one block of memory, indexed by a 32-bit key. The only type whose values the runtime
/// tells generated code the address of, and that can be behind global variables (native module contract §1.2, §4.5).
pub(crate) const ARRAY: u32 = 2;
