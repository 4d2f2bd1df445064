//! Tests of drivers, as files that people keep beside their programs.
//!
//! Given: the text of a test file, and the driver that it is about. Computed: which tests pass, what is otherwise in those that fail, and
//! inputs that break a property, made small.
//! Safe because: drivers run as [`bpf2sys_simulator`] runs them, in a process of their own; whatever an input does to one, it does to that
//! process. Every test has its own load of the driver, and nothing random or of this machine is in what is told.
//!
//! `docs/test-files.md` is the page for people.

mod driver;
mod file;
pub mod fuzz;
mod golden;
mod inputs;
mod judge;
mod junit;
mod parse;
mod run;
#[cfg(test)]
pub(crate) mod tests;

pub use driver::{Driver, Parts};
pub use file::{Arch, Suite, Test};
pub use golden::{Golden, bless};
pub use junit::{XmlCase, XmlResult, XmlSuite, junit};
pub use parse::{SuiteError, line, parse};
pub use run::{How, Outcome, Verdict, run};
