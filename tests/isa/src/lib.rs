//! Judges of the lowering that work on bare instructions: no ELF file, no verifier.
//!
//! A [`Case`] is a program with its memory; an [`Engine`] executes cases. Engines are the lowering on each machine and what
//! it is compared with.

mod engine;

pub use engine::{Case, Engine, Outcome};
