//! Everything that can go wrong, with its code and its exit status.

use std::io;
use std::path::PathBuf;

use bpf2sys_authenticode::SignError;
use bpf2sys_bytecode::ReadError;
use bpf2sys_codegen::LowerError;
use bpf2sys_pe_emit::{LinkError, Machine};
use bpf2sys_platform::PlatformError;
use bpf2sys_simulator::SimulatorError;
use bpf2sys_simulator::image::ImageError;
use bpf2sys_testing::captures::CaptureError;
use bpf2sys_verifier::{VerifyError, Warning};

use crate::{
    CompileError, Diagnostic, LinuxError, PortingError, ProjectError, ProvenanceError, SigningError, SourcePlace,
};

/// A failure of the tool. [`Error::diagnostics`] gives what to tell the user.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
pub struct Error(Box<ErrorKind>);

/// What failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The command line makes no sense.
    #[error("{0}")]
    Usage(String),
    /// An input file can't be read.
    #[error("can't read `{}`: {source}", path.display())]
    ReadFile {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// An input file is larger than any input should be.
    #[error("`{}` is larger than {} MiB, the most that is read", path.display(), limit >> 20)]
    InputTooLarge {
        /// The file.
        path: PathBuf,
        /// The limit in bytes.
        limit: u64,
    },
    /// An output file can't be written.
    #[error("can't write `{}`: {source}", path.display())]
    WriteFile {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The file for the version resource can't be used.
    #[error("the version information in `{}` can't be used: {problem}", path.display())]
    VersionInfo {
        /// The file.
        path: PathBuf,
        /// What is wrong with it, with the line.
        problem: String,
    },
    /// The project file can't be used.
    #[error(transparent)]
    Project(#[from] ProjectError),
    /// A file is neither an image nor an object.
    #[error("`{}` is no PE image, no COFF object and no ELF object", path.display())]
    UnknownFormat {
        /// The file.
        path: PathBuf,
    },
    /// A file that should be an image is none.
    #[error(transparent)]
    NoImage(#[from] ImageError),
    /// A platform description can't be used.
    #[error(transparent)]
    Platform(#[from] PlatformError),
    /// A file that should describe providers is neither TOML nor a registry export.
    #[error("`{name}` is no text: neither a provider file (TOML) nor a registry export")]
    NoProviderText {
        /// The file's name.
        name: String,
    },
    /// There is no object of a C source.
    #[error(transparent)]
    Compile(#[from] CompileError),
    /// The object file is not valid.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// A program is not proven safe.
    #[error(transparent)]
    Verify(#[from] VerifyError),
    /// A program is not proven safe, as these diagnostics say: what [`VerdictCache`](crate::VerdictCache) knows of a
    /// rejection.
    #[error("{}", messages(.0))]
    Rejected(Vec<Diagnostic>),
    /// Programs are proven safe, but there are warnings, which were not to be.
    #[error("there are warnings, and `--deny-warnings` makes errors of them")]
    DeniedWarnings(Vec<Warning>),
    /// An object can't be read as one for Linux.
    #[error(transparent)]
    Linux(#[from] LinuxError),
    /// An object was compiled for Linux, or for nobody knows what, and no driver is made of it.
    #[error(transparent)]
    Porting(#[from] PortingError),
    /// The module can't be lowered to native code.
    #[error("{source}")]
    Lower {
        /// For which machine.
        machine: Machine,
        /// Why.
        source: LowerError,
    },
    /// The native code can't be laid out as an image or object file.
    #[error("{source}")]
    Link {
        /// For which machine.
        machine: Machine,
        /// Why.
        source: LinkError,
    },
    /// The image was refused, or its program misbehaved.
    #[error(transparent)]
    Simulate(#[from] SimulatorError),
    /// A file of packets can't be read, or a packet can't be written.
    #[error("`{name}`: {source}")]
    Packets {
        /// The file, or the argument.
        name: String,
        /// Why.
        source: CaptureError,
    },
    /// A context is none of its program type.
    #[error("`{name}`: {message}")]
    Context {
        /// The file, or the option.
        name: String,
        /// Why.
        message: String,
    },
    /// A file with contents of maps can't be used.
    #[error("`{name}`: {message}")]
    MapContents {
        /// The file.
        name: String,
        /// Why.
        message: String,
    },
    /// Two drivers do not do the same.
    #[error("the drivers differ: {}", differences(*runs, *maps))]
    DriversDiffer {
        /// Runs that differ.
        runs: u64,
        /// Entries of maps that differ after the last run.
        maps: usize,
    },
    /// It is not known which lines of source an image's code came from.
    #[error("`{}`: {message}", path.display())]
    Lines {
        /// The image, or the file that was to tell.
        path: PathBuf,
        /// Why.
        message: String,
    },
    /// A test file is none.
    #[error("`{}` is no test file: {message}", path.display())]
    TestFile {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        message: String,
        /// Where.
        place: Option<SourcePlace>,
    },
    /// An image does not have the tables of a native module, or they can't be read.
    #[error("the tables of a native module can't be read: {0}")]
    NoTables(String),
    /// An image can't be signed, or a signature is wrong.
    #[error(transparent)]
    Signing(#[from] SigningError),
    /// Nothing can be stated about an image, or a statement is wrong.
    #[error(transparent)]
    Provenance(#[from] ProvenanceError),
    /// A defect of this tool.
    #[error("internal error: {0}")]
    Internal(String),
}

fn differences(runs: u64, maps: usize) -> String {
    let several = |count: u64, one: &str, many: &str| match count {
        0 => None,
        1 => Some(format!("1 {one}")),
        count => Some(format!("{count} {many}")),
    };
    let runs = several(runs, "run", "runs");
    let maps = several(maps as u64, "entry of a map", "entries of maps");
    let all: Vec<String> = [runs, maps].into_iter().flatten().collect();
    all.join(" and ")
}

fn messages(diagnostics: &[Diagnostic]) -> String {
    let messages: Vec<&str> = diagnostics.iter().map(|d| d.message.as_str()).collect();
    messages.join("\n")
}

impl<T: Into<ErrorKind>> From<T> for Error {
    fn from(kind: T) -> Self {
        Error(Box::new(kind.into()))
    }
}

impl Error {
    /// What failed.
    pub fn kind(&self) -> &ErrorKind {
        &self.0
    }

    /// The exit status of the command line for this failure; `--help` lists them.
    pub fn exit_status(&self) -> u8 {
        match &*self.0 {
            ErrorKind::Usage(_) => 2,
            ErrorKind::ReadFile { .. }
            | ErrorKind::InputTooLarge { .. }
            | ErrorKind::WriteFile { .. }
            | ErrorKind::Compile(
                CompileError::NotFound { .. } | CompileError::NoTarget { .. } | CompileError::Run { .. },
            )
            | ErrorKind::Internal(_) => 1,
            ErrorKind::UnknownFormat { .. }
            | ErrorKind::NoImage(_)
            | ErrorKind::Platform(_)
            | ErrorKind::NoProviderText { .. }
            | ErrorKind::VersionInfo { .. }
            | ErrorKind::Project(_)
            | ErrorKind::Packets { .. }
            | ErrorKind::Context { .. }
            | ErrorKind::MapContents { .. }
            | ErrorKind::Lines { .. }
            | ErrorKind::TestFile { .. }
            | ErrorKind::Compile(CompileError::Refused { .. })
            | ErrorKind::Linux(_)
            | ErrorKind::Read(_) => 3,
            ErrorKind::Verify(_) | ErrorKind::Rejected(_) | ErrorKind::DeniedWarnings(_) => 4,
            ErrorKind::Porting(PortingError::Unsafe { .. }) => 4,
            ErrorKind::Porting(_) | ErrorKind::Lower { .. } | ErrorKind::Link { .. } => 5,
            ErrorKind::Simulate(_) | ErrorKind::NoTables(_) | ErrorKind::DriversDiffer { .. } => 6,
            ErrorKind::Signing(SigningError::Sign(SignError::File(_))) => 3,
            ErrorKind::Provenance(ProvenanceError::Package(_)) => 3,
            ErrorKind::Signing(_) | ErrorKind::Provenance(_) => 7,
        }
    }

    /// What to print: one diagnostic per problem.
    pub fn diagnostics(&self) -> Vec<Diagnostic> {
        crate::diagnose::diagnose(&self.0)
    }
}
