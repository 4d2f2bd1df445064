//! What a caller can choose about lowering.

use bpf2sys_pe_emit::Machine;

/// Choices of the caller. `Default` is what the tool uses.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "each is a choice of its own")]
pub struct Options {
    /// Target machine.
    pub machine: Machine,
    /// Replace calls of `bpf_map_lookup_elem` on one proven ARRAY map by a compare and an address
    /// (native module contract §6.7).
    pub inline_array_lookup: bool,
    /// ARM64: atomic instructions of the Large System Extensions instead of load-exclusive/store-exclusive loops. The code
    /// then needs an ARMv8.1 processor.
    pub lse: bool,
    /// ARM64: sign return addresses with key B, as Windows does. The instructions do nothing on processors without
    /// pointer authentication.
    pub sign_return_address: bool,
    /// Keep the optimized Cranelift IR of each function as text ([`LoweredFunction::ir`](crate::LoweredFunction::ir)).
    pub keep_ir: bool,
}

impl Default for Options {
    fn default() -> Self {
        Options {
            machine: Machine::X64,
            inline_array_lookup: true,
            lse: false,
            sign_return_address: false,
            keep_ir: false,
        }
    }
}
