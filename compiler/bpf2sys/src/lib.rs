//! From an eBPF object file to a Windows driver: the pipeline as a library, and the command line over it.
//!
//! ```no_run
//! let object = std::fs::read("udp_filter.o")?;
//! let built = bpf2sys::build(&object, "udp_filter.o", &bpf2sys::BuildOptions::default())?;
//! for output in &built.outputs {
//!     std::fs::write("udp_filter.sys", &output.bytes)?; // by default there is one
//! }
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod cache;
mod catalogue;
mod clang;
pub mod cli;
mod codes;
mod diagnose;
mod diagnostic;
mod error;
mod facts;
mod files;
mod hash;
mod line_tables;
mod messages;
mod origin;
mod package;
mod pipeline;
mod porting;
mod project;
mod provenance;
mod providers;
mod report;
mod signing;
mod timings;
mod verdict;
mod version_info;

pub use bpf2sys_bytecode::HashAlgorithm;
pub use bpf2sys_codegen::{Optimization, Optimizations, RuntimeLevel, UnknownOptimization};
pub use bpf2sys_pe_emit::{ImageOptions, Machine, Version, VersionInfo};
pub use bpf2sys_retarget::{LinuxError, Settings, System};
pub use cache::VerdictCache;
pub use clang::{CompileError, Compiled, Compiler, CompilerOptions, CompilerOutput, is_source};
pub use cli::{BuildReport, BuiltFile, BuiltInput, BuiltModule, run_build};
pub use codes::{Code, UnknownCode};
pub use diagnostic::{Diagnostic, InstructionPlace, Known, PathStep, Severity, SourcePlace};
pub use error::{Error, ErrorKind};
pub use pipeline::{BuildOptions, Built, Form, Output, Proven, build, prove, verify, verify_timed, warnings};
pub use porting::{Ported, PortedUse, PortingError};
pub use project::ProjectError;
pub use provenance::{Difference, ProvenanceError};
pub use providers::{ProviderText, Providers};
pub use signing::{CommandError, SigningError};
pub use timings::{ProgramTimes, Timings};
pub use verdict::{SafeProgram, Verdict};
