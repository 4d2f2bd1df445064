//! What a caller can choose about lowering.

use std::fmt;

use bpf2sys_pe_emit::Machine;

use crate::Optimizations;

/// What is put around the programs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Skeleton {
    /// A driver that attaches to the runtime (native module contract §2).
    #[default]
    Driver,
    /// A DLL that exports `get_metadata_table` (native module contract §3).
    Dll,
    /// Nothing but the function `get_metadata_table`, for another linker and a driver or DLL of somebody else.
    Object,
}

/// The oldest runtime that the module must load in. Each level also loads in all later runtimes (native module contract §1.3).
///
/// An older runtime than the level need not refuse the module. One of 1.4 on a runtime from before 1.4 is taken, finds
/// `map_data` elements of another size than it expects, and takes other memory for maps: nothing that a module can state
/// prevents that. A module of level 1.6 is refused there, for the size of its program entries.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RuntimeLevel {
    /// 0.21: `map_data` elements without array data, so no array lookup in place; no BTF-resolved functions.
    V0_21,
    /// 1.4: `map_data` elements with array data; no BTF-resolved functions.
    V1_4,
    /// 1.6, what bpf2c of that version writes: program entries with BTF-resolved functions. Runtimes of 1.5 take them too.
    #[default]
    V1_6,
}

impl RuntimeLevel {
    /// The version of bpf2c that the module states: major, minor, revision. The runtime goes by it when it allocates
    /// `map_data`. 1.3.0 is the last one that gives elements without array data.
    pub fn stated_version(self) -> [u32; 3] {
        match self {
            RuntimeLevel::V0_21 => [1, 3, 0],
            RuntimeLevel::V1_4 => [1, 4, 0],
            RuntimeLevel::V1_6 => [1, 6, 0],
        }
    }

    /// Whether `map_data` elements carry the address of an array's values.
    pub fn has_array_data(self) -> bool {
        self >= RuntimeLevel::V1_4
    }

    /// Whether programs can call functions of other Windows modules.
    pub fn has_btf_functions(self) -> bool {
        self >= RuntimeLevel::V1_6
    }
}

/// As the command line names it.
impl fmt::Display for RuntimeLevel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            RuntimeLevel::V0_21 => "0.21",
            RuntimeLevel::V1_4 => "1.4",
            RuntimeLevel::V1_6 => "1.6",
        })
    }
}

/// Choices of the caller. `Default` is what the tool uses.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(clippy::struct_excessive_bools)] // switches that have nothing to do with each other
pub struct Options {
    /// Target machine.
    pub machine: Machine,
    /// What is put around the programs.
    pub skeleton: Skeleton,
    /// Which tables the module has, and which version it states.
    pub runtime: RuntimeLevel,
    /// Which optimizations are made.
    pub optimizations: Optimizations,
    /// ARM64: atomic instructions of the Large System Extensions instead of load-exclusive/store-exclusive loops. The code
    /// then needs an ARMv8.1 processor.
    pub lse: bool,
    /// ARM64: sign return addresses with key B, as Windows does. The instructions do nothing on processors without
    /// pointer authentication.
    pub sign_return_address: bool,
    /// Have Windows check every call of a helper (Control Flow Guard). Not in a [`Skeleton::Object`]: what it is linked with
    /// decides about the image.
    pub control_flow_guard: bool,
    /// Most work of a native function, in simple instructions; an eBPF function with more becomes several. The command line
    /// has no switch for it: it changes no result, only how much code is optimized together. It exists so that tests can
    /// have ordinary functions cut like very long ones. Less than the most expensive instruction counts as that one.
    pub most_work: u32,
    /// Keep the optimized Cranelift IR of each function as text ([`LoweredFunction::ir`](crate::LoweredFunction::ir)).
    pub keep_ir: bool,
}

impl Options {
    /// The usual [`most_work`](Options::most_work). A compromise: time per instruction grows slowly up to here, and what
    /// crosses from one native function to the next costs some tens of cycles.
    pub const MOST_WORK: u32 = 8192;

    /// Whether calls go through the pointers of Control Flow Guard.
    pub(crate) fn guards_calls(&self) -> bool {
        self.control_flow_guard && self.skeleton != Skeleton::Object
    }
}

impl Default for Options {
    fn default() -> Self {
        Options {
            machine: Machine::X64,
            skeleton: Skeleton::default(),
            runtime: RuntimeLevel::default(),
            optimizations: Optimizations::default(),
            lse: false,
            sign_return_address: false,
            control_flow_guard: true,
            most_work: Options::MOST_WORK,
            keep_ir: false,
        }
    }
}
