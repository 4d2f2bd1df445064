//! Signatures that can't be made or are wrong: `BPF7…`.

use bpf2sys_authenticode::load::LoadError;
use bpf2sys_authenticode::{KeyError, SignError};

use crate::{Code, Diagnostic, SigningError};

/// What to tell of a failure around signatures.
pub(super) fn diagnose(error: &SigningError) -> Diagnostic {
    Diagnostic {
        help: help(error),
        ..Diagnostic::new(code(error), error.to_string())
    }
}

fn help(error: &SigningError) -> Option<String> {
    let text = match error {
        SigningError::Sign(SignError::Signed) => {
            "`--append` adds a signature beside those that are there, `--replace` takes their place"
        }
        SigningError::Sign(SignError::Existing(_)) => "`--replace` signs it as if it were not signed",
        SigningError::KeyFile {
            source: LoadError::NoKey,
            ..
        } => "`--key` names the file with the key, `--cert` the one with its certificate",
        _ => return None,
    };
    Some(text.to_owned())
}

fn code(error: &SigningError) -> Code {
    match error {
        SigningError::KeyFile { source, .. } => match source {
            LoadError::Password(_) | LoadError::WrongPassword => Code::BPF7005,
            LoadError::Key(KeyError::Kind | KeyError::Size { .. }) => Code::BPF7007,
            _ => Code::BPF7004,
        },
        SigningError::Sign(error) => match error {
            SignError::File(_) => Code::BPF7001,
            SignError::Signed => Code::BPF7002,
            SignError::NotSigned => Code::BPF7003,
            SignError::OtherKey { .. } => Code::BPF7006,
            SignError::Key(_) => Code::BPF7007,
            SignError::Timestamp(_) => Code::BPF7008,
            SignError::Digest(_) | SignError::Text(_) => Code::BPF9005,
            _ => Code::BPF7010,
        },
        SigningError::Command(_) => Code::BPF7009,
    }
}
