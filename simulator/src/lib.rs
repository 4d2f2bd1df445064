//! Loads a native eBPF image as Windows would, and runs it.
mod address_space;
pub mod describe;
pub mod directories;
pub mod image;
pub mod kernel_tables;
pub mod loader_rules;
mod rule;
pub mod tables;
pub mod usermode;

pub use rule::{Rule, Violation};
