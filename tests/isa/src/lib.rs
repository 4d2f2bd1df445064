//! Judges of the lowering that work on bare instructions: no ELF file, no verifier.
//!
//! A [`Case`] is a program with its memory; an [`Engine`] executes cases. Engines are the lowering on each machine and what
//! it is compared with.

mod engine;
mod generate;
mod helpers;
#[cfg(target_os = "linux")]
mod kernel;
mod random;

pub use engine::{Case, Engine, Outcome};
pub use generate::{Taste, generate};
#[cfg(target_os = "linux")]
pub use kernel::Kernel;
