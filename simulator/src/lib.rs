//! Loads a native eBPF image as Windows would, and runs it.
//!
//! Given: the bytes of a driver image. Computed: what user mode reads in the file ([`usermode`]), what the kernel's
//! loader thinks of it ([`loader_rules`]), a description of both ([`describe`]), and, on x86-64 Linux, the outcome of
//! really loading and running it ([`run`]), with every check of the runtime performed. What Windows would crash on is
//! an error here.
//!
//! [`interpreter`] says what eBPF instructions mean, one by one. A run can use it instead of the image's code.
//!
//! Running is safe for the caller because it happens in a child process that exists for one run.

mod address_space;
mod child;
pub mod describe;
pub mod directories;
mod error;
mod hex_bytes;
pub mod image;
pub mod interpreter;
pub mod kernel_tables;
pub mod loader_rules;
#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
mod native;
mod request;
mod rule;
pub mod tables;
pub mod usermode;

pub use address_space::{AddressSpace, FileSpace};
pub use child::{child_main_if_requested, run};
pub use error::{CodeLocation, Fault, InterpretedFault, InterpretedLine, SimulatorError, TimeOut};
pub use hex_bytes::HexBytes;
pub use request::{
    HelperCalls, Input, InvocationResult, MapContents, MapEntryContents, MapPreset, ObjectFile, Pin, PresetValue,
    RingRecord, RunReport, RunRequest, Sabotage, SimulatedMachine,
};
pub use rule::{Rule, Violation};

#[cfg(test)]
mod tests;
