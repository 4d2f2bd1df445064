//! Each failure as diagnostics with their codes. A code, once given, keeps its meaning.
//!
//! `BPF1…` the object can't be read, `BPF2…` it is not proven safe, `BPF3…` it can't be made for Windows or be lowered, `BPF4…` it can't be laid
//! out as an image, `BPF5…` an image was refused or misbehaved, `BPF6…` a
//! platform description can't be used, `BPF7…` a signature is wrong or can't be made, `BPF8…` a C source can't be compiled,
//! `BPF9…` files and the command line.

mod compile;
mod lower;
mod platform;
mod porting;
mod provenance;
mod read;
mod signing;
mod simulate;
mod verify;
mod violation;

use bpf2sys_bytecode::SourceLine;
use bpf2sys_pe_emit::Machine;

use crate::{Code, Diagnostic, ErrorKind, LinuxError, SourcePlace};

pub(crate) use compile::refused;
pub(crate) use platform::left_out;
pub(crate) use porting::{degraded, taken_for_windows};
pub(crate) use simulate::code as code_of;
pub(crate) use verify::warning;

/// A note where a source line would be shown.
const NO_SOURCE_LINES: &str = "the object has no source lines; compile with `-g` to see them here";

/// What to tell about a failure.
pub(crate) fn diagnose(kind: &ErrorKind) -> Vec<Diagnostic> {
    let simple = |code| vec![Diagnostic::new(code, kind.to_string())];
    match kind {
        ErrorKind::Compile(error) => compile::diagnose(error),
        ErrorKind::Read(error) => vec![read::read(error)],
        ErrorKind::Verify(error) => verify::diagnose(error),
        ErrorKind::Linux(LinuxError::Read(error)) => vec![read::read(error)],
        ErrorKind::Linux(LinuxError::Set(_)) => simple(Code::BPF3106),
        ErrorKind::Porting(error) => porting::diagnose(error),
        ErrorKind::Rejected(diagnostics) => diagnostics.clone(),
        ErrorKind::DeniedWarnings(warnings) => warnings.iter().map(verify::denied).collect(),
        ErrorKind::Lower { machine, source } => vec![lower::lower(source, *machine)],
        ErrorKind::Link { machine, .. } => vec![Diagnostic {
            notes: vec![for_machine(*machine)],
            ..Diagnostic::new(Code::BPF4001, kind.to_string())
        }],
        ErrorKind::Simulate(error) => vec![simulate::diagnose(error)],
        ErrorKind::NoImage(_) => simple(Code::BPF5002),
        ErrorKind::Platform(error) => platform::diagnose(error),
        ErrorKind::NoProviderText { .. } => simple(Code::BPF6010),
        ErrorKind::Signing(error) => vec![signing::diagnose(error)],
        ErrorKind::Provenance(error) => vec![provenance::diagnose(error)],
        ErrorKind::NoTables(_) => simple(Code::BPF5013),
        ErrorKind::Packets { .. } => simple(Code::BPF5014),
        ErrorKind::Context { .. } => simple(Code::BPF5015),
        ErrorKind::MapContents { .. } => simple(Code::BPF5016),
        ErrorKind::DriversDiffer { .. } => simple(Code::BPF5021),
        ErrorKind::Lines { .. } => simple(Code::BPF5019),
        ErrorKind::TestFile { place, .. } => vec![Diagnostic {
            place: place.clone(),
            ..Diagnostic::new(Code::BPF5017, kind.to_string())
        }],
        ErrorKind::ReadFile { .. } => simple(Code::BPF9001),
        ErrorKind::InputTooLarge { .. } => simple(Code::BPF9002),
        ErrorKind::WriteFile { .. } => simple(Code::BPF9003),
        ErrorKind::UnknownFormat { .. } => simple(Code::BPF9004),
        ErrorKind::VersionInfo { .. } => simple(Code::BPF9007),
        ErrorKind::Project(error) => vec![Diagnostic {
            place: error.place.clone(),
            help: error.help.clone(),
            ..Diagnostic::new(Code::BPF9008, kind.to_string())
        }],
        ErrorKind::Usage(_) => simple(Code::BPF9005),
        ErrorKind::Internal(_) => simple(Code::BPF9999),
    }
}

/// Where a line is, if the compiler had a number for it.
fn source_place(line: &SourceLine) -> Option<SourcePlace> {
    (line.line > 0).then(|| SourcePlace {
        file: line.file.clone(),
        line: line.line,
        column: line.column,
        text: line.text.clone(),
    })
}

fn for_machine(machine: Machine) -> String {
    format!("in code for {machine}")
}
