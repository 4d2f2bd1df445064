//! Proves the programs of a [`Module`](bpf2sys_bytecode::Module) safe and keeps what was proven.
//!
//! Given: a module, and the platform whose program types, helpers and maps its programs use.
//! Computed: a [`VerifiedModule`], the same module with facts per instruction; or, for each rejected program, the reason
//! at its instruction and source line.
//! Safe because: only this crate makes a `VerifiedModule`, of programs that an engine proves safe under the rules and options
//! that eBPF for Windows has. There are two engines: `native`, our own, and PREVAIL, which judges it in tests and for those who
//! ask for a second opinion. No type of either appears here.

mod check;
mod cost;
mod error;
mod facts;
mod flow;
mod frame;
mod groups;
mod guard;
mod knowledge;
mod map_type;
mod missing;
mod native;
mod nearest;
mod permits;
mod prevail;
mod proof;
mod prototype;
mod rules;
mod tail_calls;
mod verified;
mod verify;
mod violation;
mod warning;
mod words;

#[cfg(test)]
mod tests;

pub use cost::{ProgramCost, Stage};
pub use error::{
    Explanation, KnownRegister, LeftOut, ListedInstruction, MapMistaken, PathKind, PathStep, Rejection, RejectionPlace,
    RejectionReason, VerifyError,
};
pub use facts::{
    AccessFact, ArithmeticFacts, Branch, EdgeFacts, FactPool, FrameFacts, FunctionFacts, InsnFacts, Interval,
    KnownBits, Object, Range32, Range64, Region, RegisterFact, RegisterKind, RegisterRow, StackAccess, StackEscape,
    StackSlot, Through,
};
pub use missing::{HelperName, MissingFunction, MissingHelper, NotImplemented};
pub use verified::{VerifiedModule, VerifiedProgram};
pub use verify::{Options, Verifier, verify, verify_observed};
pub use violation::{Access, Accessor, Argument, Kind, Memory, Role, Span, Violation};
pub use warning::{Warning, WarningReason};
