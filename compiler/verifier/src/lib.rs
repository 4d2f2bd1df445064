//! Proves the programs of a [`Module`](bpf2sys_bytecode::Module) safe and keeps what was proven.
//!
//! Given: a module, and the platform whose program types, helpers and maps its programs use.
//! Computed: a [`VerifiedModule`], the same module with facts per instruction; or, for each rejected program, the reason
//! at its instruction and source line.
//! Safe because: PREVAIL is the judge, with the options that eBPF for Windows uses, and only this crate makes a
//! `VerifiedModule`. No type of the verifier library appears here, so another engine can take its place.

mod check;
mod engine;
mod error;
mod explain;
mod facts;
mod flow;
mod guard;
mod knowledge;
mod missing;
mod nearest;
mod prototype;
mod verified;
mod verify;

#[cfg(test)]
mod tests;

pub use error::{Rejection, RejectionPlace, RejectionReason, VerifyError};
pub use facts::{Branch, FunctionFacts, InsnFacts, Interval, RegisterFact, RegisterKind};
pub use missing::{HelperName, MissingFunction, MissingHelper, NotImplemented};
pub use verified::{VerifiedModule, VerifiedProgram};
pub use verify::{Options, verify};
