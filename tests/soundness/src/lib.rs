//! Judges of the verifier that do not know which engine gave the verdict.
//!
//! Given: a program that the verifier accepts. Computed: runs of it in the reference interpreter, in a world that knows every
//! region of memory; an access outside of them, a read of stack bytes that were never written, a run that does not end,
//! or a fact that does not hold is the verifier's mistake.

pub mod alone;
pub mod facts;
pub mod features;
pub mod generate;
pub mod judge;
pub mod mutants;
pub mod planted;
pub mod platforms;
pub mod regions;
pub mod shrink;
pub mod sweep;
pub mod world;
