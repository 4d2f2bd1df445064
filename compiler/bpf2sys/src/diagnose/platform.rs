//! What is wrong with a description of providers.

use bpf2sys_platform::registry::{RegistryError, RegistryProblem};
use bpf2sys_platform::{Conflict, PlatformError};

use crate::{Code, Diagnostic, Severity, SourcePlace};

/// What to tell about a description that can't be used.
pub(super) fn diagnose(error: &PlatformError) -> Vec<Diagnostic> {
    match error {
        PlatformError::Syntax { .. } | PlatformError::Inconsistent { .. } | PlatformError::MissingTable { .. } => {
            vec![Diagnostic::new(Code::BPF6001, error.to_string())]
        }
        PlatformError::Conflicts(conflicts) => conflicts.iter().map(conflict).collect(),
        PlatformError::TooLarge { .. } => vec![Diagnostic::new(Code::BPF6019, error.to_string())],
        PlatformError::Registry(error) => vec![registry(error)],
        PlatformError::NoRegistry => vec![Diagnostic {
            help: Some(
                "on the Windows machine, `reg export HKLM\\Software\\eBPF\\Providers providers.reg` writes a file that \
                 `--platform providers.reg` takes on any host"
                    .into(),
            ),
            ..Diagnostic::new(Code::BPF6020, "`--platform registry` reads the registry of a Windows machine, and this is none")
        }],
    }
}

fn conflict(conflict: &Conflict) -> Diagnostic {
    let Conflict {
        file,
        what,
        other_file,
        other_provider,
        differences,
    } = conflict;
    let notes = differences
        .iter()
        .map(|d| format!("{}: {} there, {} here", d.what, d.before, d.now));
    Diagnostic {
        file: Some(file.clone()),
        notes: notes.collect(),
        help: Some(format!(
            "if this description is the right one, say so in its file by `replaces = [\"{other_provider}\"]` in `[provider]`; \
             `bpf2sys platform import` makes such a file of a registry"
        )),
        ..Diagnostic::new(
            Code::BPF6002,
            format!("{what} is not what provider `{other_provider}` (`{other_file}`) says"),
        )
    }
}

/// What to tell about something that was left out.
pub(crate) fn left_out(error: &RegistryError) -> Diagnostic {
    let mut diagnostic = registry(error);
    diagnostic.severity = Severity::Warning;
    let consequence = match error.problem {
        RegistryProblem::NoProgramType(_) => {
            "programs in sections of this name can only be verified if another description has the program type"
        }
        _ => "it is left out, and programs that use it are refused",
    };
    diagnostic.notes.insert(0, consequence.into());
    diagnostic
}

fn registry(error: &RegistryError) -> Diagnostic {
    let (place, problem) = (&error.place, &error.problem);
    let key = place.key.rsplit('\\').next().unwrap_or_default();
    let mut message = match &place.value {
        Some(value) if matches!(problem, RegistryProblem::Missing(_)) => format!("`{key}`: value `{value}` is missing"),
        Some(value) => format!("`{key}`: value `{value}`: {problem}"),
        None if key.is_empty() => problem.to_string(),
        None => format!("`{key}`: {problem}"),
    };
    if matches!(problem, RegistryProblem::HelperCount { .. }) {
        message = format!("`{key}`: {problem}");
    }
    let mut notes = Vec::new();
    if !place.key.is_empty() {
        notes.push(format!("key `{}`", place.key));
    }
    let (code, help) = advice(problem, &place.key, &mut notes);
    Diagnostic {
        place: (place.line > 0).then(|| SourcePlace {
            file: place.file.clone(),
            line: place.line,
            column: 0,
            text: String::new(),
        }),
        file: (place.line == 0).then(|| place.file.clone()),
        notes,
        help,
        ..Diagnostic::new(code, message)
    }
}

/// The code of a problem, and what to do about it.
fn advice(problem: &RegistryProblem, key: &str, notes: &mut Vec<String>) -> (Code, Option<String>) {
    let written_again = || {
        // A program type, section or general helper goes as a whole; functions of a module go one by one.
        let entry = match key.match_indices('\\').nth(5) {
            Some((end, _)) if !key.contains("\\Functions\\") => &key[..end],
            _ => key,
        };
        Some(format!(
            "if programs need it, let its provider write it again, and export again; to go without it, add the line \
             `[-{entry}]` at the end of the export"
        ))
    };
    match problem {
        RegistryProblem::Syntax(_) => (
            Code::BPF6011,
            Some("export it again: `reg export HKLM\\Software\\eBPF\\Providers providers.reg`".into()),
        ),
        RegistryProblem::NoStore { .. } => (
            Code::BPF6012,
            Some(
                "on a machine with eBPF for Windows, `reg export HKLM\\Software\\eBPF\\Providers providers.reg` \
                 writes what is needed"
                    .into(),
            ),
        ),
        RegistryProblem::Missing(_) => (Code::BPF6013, written_again()),
        RegistryProblem::Mistyped { .. } => (Code::BPF6014, written_again()),
        RegistryProblem::HelperCount { stated, found } => {
            if (*stated as usize) < *found {
                notes.push(
                    "providers write their helpers and never delete the keys of helpers that an earlier version had; \
                     eBPF for Windows does not use such an entry either"
                        .into(),
                );
                (
                    Code::BPF6015,
                    Some(format!(
                        "delete the keys of helpers that the provider no longer has: by `[-{key}\\Helpers\\NAME]` at the \
                         end of the export, or on the machine, where the provider then writes them again"
                    )),
                )
            } else {
                notes.push("helpers that the provider has written are not there: the export may be cut short".into());
                (Code::BPF6015, written_again())
            }
        }
        RegistryProblem::NoGuid => (Code::BPF6016, written_again()),
        RegistryProblem::Version(_) => (
            Code::BPF6017,
            Some("a newer eBPF for Windows has written it; a newer bpf2sys may know it".into()),
        ),
        RegistryProblem::Unusable(_) => (Code::BPF6018, None),
        RegistryProblem::TooMany { .. } => (
            Code::BPF6019,
            Some("export `Software\\eBPF\\Providers` only, of a machine that works".into()),
        ),
        RegistryProblem::NoProgramType(_) => (Code::BPF6022, None),
        RegistryProblem::Unreadable(_) => (Code::BPF6021, None),
    }
}
