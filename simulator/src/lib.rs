//! Loads a native eBPF image as Windows would, and runs it.
//!
//! Given: the bytes of a driver image. Computed: what user mode reads in the file ([`usermode`]), what the kernel's
//! loader thinks of it ([`loader_rules`]), a description of both ([`describe`]), and the outcome of
//! really loading and running it ([`run`]), with every check of the runtime performed. What Windows would crash on is
//! an error here.
//!
//! Running is safe for the caller because it happens in a child process that exists for one run. On Linux that process may ask the
//! host for nothing but memory once code of the image runs.
//!
//! x64 code runs on the host's processor, if that is one for it, its system is Linux, and nothing else is asked for
//! ([`ProcessorKind`]). All other code, of ARM64 images and on other hosts, runs in the Unicorn emulator, version 2, which is loaded from the
//! system when it is needed, or from the file that the environment variable `BPF2SYS_UNICORN` names;
//! [`emulator`] tells whether it is there, and [`is_emulated`] what needs it. The emulated processor sees the same memory at the same
//! addresses, and maps, helpers, registration and every check are the same code for both machines.
//!
//! What an emulated x64 processor has is that of the machine's first days and what the installed version knows beyond; code that
//! uses more, as AVX, is told so.
//!
//! An image that says that it takes part in Control Flow Guard is held to it: its pointers lead to functions of the simulated
//! kernel, every call of a helper must come through them, and the kernel calls only functions that the image's table has.
//!
//! A run can also make things around a module fail ([`Sabotage`]). `docs/failures.md` has what is answered then, and
//! `docs/strict-reading.md` what is said of modules that break one rule each.
//!
//! A run can count what its programs execute, instruction by instruction ([`Trace`]);
//! [`program_code`] tells which instructions they have.
//!
//! [`interpreter`] says what eBPF instructions mean, one by one. A run can use it instead of the image's code.

mod address_space;
mod child;
pub mod describe;
pub mod directories;
mod ebpf_result;
pub mod emulator_library;
mod error;
mod failure;
mod frames;
pub mod getters;
mod hex_bytes;
pub mod image;
pub mod interpreter;
pub mod kernel_tables;
pub mod load_config;
pub mod loader_rules;
pub mod map_definitions;
pub mod module_tables;
pub mod object_file;
pub mod program_code;
mod request;
pub mod resources;
mod rule;
pub mod tables;
mod trace;
pub mod usermode;
mod windows;

pub use address_space::{AddressSpace, FileSpace};
pub use child::{Progress, child_main_if_requested, is_emulated, run, run_each};
pub use ebpf_result::EbpfResult;
pub use emulator_library::emulator;
pub use error::{CodeLocation, Fault, InterpretedFault, InterpretedLine, SimulatorError, TimeOut};
pub use failure::{Life, Sabotage, SystemState};
pub use hex_bytes::HexBytes;
pub use request::{
    Answer, BtfCalls, Calls, ChainLink, HelperCalls, Input, InvocationResult, MachineChange, MapContents,
    MapEntryContents, MapPreset, Mishap, ObjectFile, Pin, PinnedMap, PresetValue, ProcessorKind, Provider,
    ProviderEvent, Reload, RingRecord, RunReport, RunRequest, SentRecord, SimulatedMachine, SimulatedRuntime, Tell,
};
pub use rule::{Rule, Violation};
pub use trace::{
    ExecutedInstruction, ExecutedSlot, InterpretedTrace, NativeBranch, NativeTrace, SlotBranch, Trace, TraceReport,
};

// Some tests are also compiled outside of this crate.
#[cfg(test)]
extern crate self as bpf2sys_simulator;
#[cfg(test)]
mod tests;
