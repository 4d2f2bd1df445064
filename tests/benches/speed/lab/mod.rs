//! Programs of our own C, compiled by everything they are compared with, and run on one memory.
//!
//! A [`Workload`] is one C file and its input. [`Bench`] is a workload made ready: its [`World`] holds everything that its code can
//! read and write, and each [`Engine`] is machine code of it from another compiler. All engines call the same helpers, at the
//! same addresses, with the x64 calling convention of Windows.

// Machine code is loaded, called and stepped through, here and nowhere else in the tests.
#![allow(unsafe_code)]

mod arm64;
mod bench;
mod bpf2c;
mod compile;
mod elf;
pub mod engine;
mod flat;
mod headers;
mod helpers;
mod inputs;
mod kernel;
mod maps;
mod memory;
mod ours;
mod pe;
mod rbpf_jit;
mod runtime;
pub mod stepping;
mod workload;
mod world;

pub use bench::{Bench, name};
pub use workload::{WORKLOADS, Workload};

/// What goes wrong, for people.
pub type Error = String;
