//! Judges of the lowering that work on bare instructions: no ELF file, no verifier.
//!
//! A [`Case`] is a program with its memory; an [`Engine`] executes cases. Engines are the lowering on each machine and what
//! it is compared with.

mod assembler;
mod case_file;
pub mod code;
pub mod differential;
pub mod editing;
mod embed;
mod engine;
mod generate;
mod helpers;
mod hex;
mod image_engine;
mod interpreter_engine;
#[cfg(target_os = "linux")]
pub mod kernel;
mod module;
mod provider;
mod random;
mod refused;
mod strict_interpreter;
mod verified_engine;

pub use assembler::{Assembly, AssemblyError, AssemblyProblem, assemble, assemble_text};
pub use case_file::{CaseFile, CaseFileError};
pub use embed::Placement;
pub use engine::{Case, Engine, Outcome};
pub use generate::{Taste, generate};
pub use hex::{HexError, parse_hex};
pub use image_engine::ImageEngine;
pub use interpreter_engine::InterpreterEngine;
#[cfg(target_os = "linux")]
pub use kernel::Kernel;
pub use module::ModuleError;
pub use random::Random;
pub use strict_interpreter::StrictInterpreter;
pub use verified_engine::VerifiedEngine;
