//! Judges of the lowering that work on bare instructions: no ELF file, no verifier.
//!
//! A [`Case`] is a program with its memory; an [`Engine`] executes cases. Engines are the lowering on each machine and what
//! it is compared with.

mod assembler;
mod case_file;
mod embed;
mod engine;
mod hex;
mod image_engine;
mod interpreter_engine;
mod provider;
mod refused;

pub use assembler::{Assembly, AssemblyError, AssemblyProblem, assemble, assemble_text};
pub use case_file::{CaseFile, CaseFileError};
pub use embed::Placement;
pub use engine::{Case, Engine, Outcome};
pub use hex::{HexError, parse_hex};
pub use image_engine::ImageEngine;
pub use interpreter_engine::InterpreterEngine;
