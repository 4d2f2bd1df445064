//! Objects for Linux of which no driver is made: `BPF31…`.

use std::collections::BTreeMap;

use bpf2sys_retarget::{Fate, System};

use super::{NO_SOURCE_LINES, source_place, verify};
use crate::{Code, Diagnostic, PortedUse, PortingError, Severity};

pub(super) fn diagnose(error: &PortingError) -> Vec<Diagnostic> {
    let helped = |code, help: &str| {
        vec![Diagnostic {
            help: Some(help.to_owned()),
            ..Diagnostic::new(code, error.to_string())
        }]
    };
    match error {
        PortingError::ForLinux { .. } => helped(
            Code::BPF3101,
            "`--from linux` rewrites it for Windows, and so does `retarget = true` in a project file; `bpf2sys port` tells what \
             becomes of it",
        ),
        PortingError::ForWindows { .. } => helped(
            Code::BPF3105,
            "there is nothing to rewrite: `bpf2sys build` makes a driver of it",
        ),
        PortingError::Undecided { .. } => helped(
            Code::BPF3102,
            "say it with `--from linux` or `--from windows`, with `from` in a project file, or for all such objects with the \
             environment variable `BPF2SYS_FROM`",
        ),
        PortingError::Blocked(uses) => gathered(uses, |first| {
            let advice = match &first.fate {
                Fate::Blocked { advice, .. } => advice.clone(),
                _ => None,
            };
            Diagnostic {
                help: advice,
                ..of_use(Code::BPF3103, first)
            }
        }),
        PortingError::Degraded(uses) => gathered(uses, |first| Diagnostic {
            severity: Severity::Error,
            help: Some("`--allow-degraded` accepts it: Linux could give that answer, too".to_owned()),
            ..of_use(Code::BPF3104, first)
        }),
        PortingError::Unsafe { system, source } => {
            let note = match system {
                System::Linux => "this is judged by the rules of Linux, for which the object was compiled",
                System::Windows => "this is judged by the rules of Windows, after the program was rewritten for it",
            };
            let mut diagnostics = verify::diagnose(source);
            for diagnostic in &mut diagnostics {
                diagnostic.notes.push(note.to_owned());
            }
            diagnostics
        }
    }
}

/// That an object is taken for one of Windows although its marks say that it is for Linux.
pub(crate) fn taken_for_windows(because: &str) -> Diagnostic {
    Diagnostic {
        severity: Severity::Warning,
        help: Some("`--from linux` judges it as what it is".to_owned()),
        ..Diagnostic::new(
            Code::BPF3101,
            format!("the object was compiled for Linux, and is judged by the rules of Windows: {because}"),
        )
    }
}

/// What a program lacks that got more on Linux, where that is accepted.
pub(crate) fn degraded(lacks: &PortedUse) -> Diagnostic {
    of_use(Code::BPF3104, lacks)
}

/// One diagnostic for each message: at its first place, with the lines of the others.
fn gathered(uses: &[PortedUse], first: impl Fn(&PortedUse) -> Diagnostic) -> Vec<Diagnostic> {
    let mut found: Vec<Diagnostic> = Vec::new();
    let mut known: BTreeMap<&str, usize> = BTreeMap::new();
    for one in uses {
        let Some(place) = known.get(one.message.as_str()) else {
            known.insert(&one.message, found.len());
            found.push(first(one));
            continue;
        };
        if let Some(line) = &one.line {
            let note = format!("also at {}:{}", line.file, line.line);
            let notes = &mut found[*place].notes;
            if notes.last() != Some(&note) {
                notes.push(note);
            }
        }
    }
    found
}

fn of_use(code: Code, of: &PortedUse) -> Diagnostic {
    let mut diagnostic = Diagnostic {
        program: of.function.clone(),
        place: of.line.as_ref().and_then(source_place),
        instruction: of.instruction.clone(),
        ..Diagnostic::new(code, of.message.clone())
    };
    if of.instruction.is_some() && of.line.is_none() {
        diagnostic.notes.push(NO_SOURCE_LINES.to_owned());
    }
    diagnostic
}
