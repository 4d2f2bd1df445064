//! What a caller can choose about lowering.

use bpf2sys_pe_emit::Machine;

/// Choices of the caller. `Default` is what the tool uses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// Target machine.
    pub machine: Machine,
    /// Replace calls of `bpf_map_lookup_elem` on one proven ARRAY map by a compare and an address
    /// (native module contract §6.7).
    pub inline_array_lookup: bool,
}

impl Default for Options {
    fn default() -> Self {
        Options {
            machine: Machine::X64,
            inline_array_lookup: true,
        }
    }
}
