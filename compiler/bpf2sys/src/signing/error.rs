//! Why an image was not signed.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use bpf2sys_authenticode::SignError;
use bpf2sys_authenticode::load::LoadError;

/// A failure around signatures.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SigningError {
    /// A file of keys or certificates can't be used.
    #[error("`{}` can't be used: {source}", path.display())]
    KeyFile {
        /// The file.
        path: PathBuf,
        /// Why.
        source: LoadError,
    },
    /// The image can't be signed.
    #[error(transparent)]
    Sign(#[from] SignError),
    /// The command that was to sign did not.
    #[error("`--signer-command`: {0}")]
    Command(#[from] CommandError),
}

/// Why a command did not sign.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CommandError {
    /// It can't be started.
    #[error("`{program}` can't be started: {reason}")]
    Start {
        /// The program.
        program: String,
        /// Why.
        reason: String,
    },
    /// It ended with a status that is not 0.
    #[error("`{program}` failed ({status}){}", told(output))]
    Failed {
        /// The program.
        program: String,
        /// Its status.
        status: String,
        /// The end of what it printed.
        output: String,
    },
    /// It did not end.
    #[error("`{program}` did not end within {} seconds, and was stopped{}", limit.as_secs(), told(output))]
    TimeOut {
        /// The program.
        program: String,
        /// How long it could take.
        limit: Duration,
        /// The end of what it printed.
        output: String,
    },
    /// It succeeded, and there is no signature.
    #[error("`{program}` ended well, but wrote no signature{}", told(output))]
    NoSignature {
        /// The program.
        program: String,
        /// The end of what it printed.
        output: String,
    },
    /// What it needs can't be written, or what it made can't be read.
    #[error("a temporary file can't be used: {0}")]
    File(String),
}

impl From<io::Error> for CommandError {
    fn from(error: io::Error) -> CommandError {
        CommandError::File(error.to_string())
    }
}

fn told(output: &str) -> String {
    if output.is_empty() {
        String::new()
    } else {
        format!("; it says: {output}")
    }
}
