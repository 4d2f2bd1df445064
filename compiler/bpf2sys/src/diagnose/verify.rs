//! Programs that are not proven safe: `BPF2…`.

use bpf2sys_verifier::{
    self as verifier, Explanation, HelperName, KnownRegister, LeftOut, MissingFunction, MissingHelper, PathKind,
    Rejection, RejectionPlace, RejectionReason, Verifier, VerifyError, Warning, WarningReason,
};

use super::{NO_SOURCE_LINES, source_place, violation};
use crate::diagnostic::{InstructionPlace, Known, PathStep};
use crate::{Code, Diagnostic, Severity};

/// What to tell of a module that has no verdict, or is rejected.
pub(super) fn diagnose(error: &VerifyError) -> Vec<Diagnostic> {
    match error {
        VerifyError::Rejected(rejections) => rejections.iter().map(rejection).collect(),
        error => vec![verify(error)],
    }
}

/// What to tell of a warning.
pub(crate) fn warning(warning: &Warning) -> Diagnostic {
    let code = match &warning.reason {
        WarningReason::NeverSucceeds { .. } => Code::BPF2050,
        WarningReason::AlwaysFails { .. } => Code::BPF2051,
        WarningReason::TailCallChain { .. } => Code::BPF2052,
    };
    let diagnostic = Diagnostic {
        program: Some(warning.program.clone()),
        ..Diagnostic::new(code, format!("program `{}`: {}", warning.program, warning.reason))
    };
    match &warning.place {
        Some(place) => at(diagnostic, place),
        None => diagnostic,
    }
}

/// What to tell of a warning where there must be none.
pub(super) fn denied(denied: &Warning) -> Diagnostic {
    let mut diagnostic = warning(denied);
    diagnostic.severity = Severity::Error;
    let note = "`--deny-warnings` makes an error of this warning";
    diagnostic.notes.push(note.to_owned());
    diagnostic
}

/// The same, at an instruction.
fn at(diagnostic: Diagnostic, place: &RejectionPlace) -> Diagnostic {
    let mut notes = diagnostic.notes;
    if place.line.is_none() {
        notes.push(NO_SOURCE_LINES.to_owned());
    }
    Diagnostic {
        place: place.line.as_ref().and_then(source_place),
        instruction: Some(InstructionPlace {
            function: place.function.clone(),
            slot: place.slot,
            text: place.text.clone(),
        }),
        notes,
        ..diagnostic
    }
}

fn verify(error: &VerifyError) -> Diagnostic {
    let (code, help) = match error {
        VerifyError::NoProgram => (Code::BPF2010, None),
        VerifyError::UnknownSection { .. } => (
            Code::BPF2011,
            Some(
                "`--type SECTION` verifies every program as that section's; `--platform FILE` adds an extension's program types",
            ),
        ),
        VerifyError::UnknownProgramType { .. } => (Code::BPF2012, None),
        VerifyError::UnusableMap { .. } => (Code::BPF2013, None),
        VerifyError::UnknownConformanceGroup { .. } => (Code::BPF2014, None),
        VerifyError::MapName { .. } => (Code::BPF2036, None),
        VerifyError::TimeLimit { .. } => (
            Code::BPF2015,
            Some("`--time-limit SECONDS` gives it longer; smaller programs and loops with fewer rounds take less"),
        ),
        VerifyError::EngineFailed { .. } => (
            Code::BPF2016,
            Some("this is a defect of the verification engine; please report it with the object"),
        ),
        VerifyError::NoThread(_) => (Code::BPF2017, None),
        VerifyError::MemoryLimit { .. } => (
            Code::BPF2018,
            Some("`--memory-limit MIB` gives it more; so do fewer inputs at a time, and smaller programs need less"),
        ),
        VerifyError::Rejected(_) => (Code::BPF2001, None),
    };
    Diagnostic {
        help: help.map(str::to_owned),
        ..Diagnostic::new(code, error.to_string())
    }
}

fn rejection(rejection: &Rejection) -> Diagnostic {
    let code = match &rejection.reason {
        RejectionReason::Unsafe { violation, .. } => violation::code(violation),
        RejectionReason::UnsupportedInstruction { .. } => Code::BPF2002,
        RejectionReason::UnknownHelper(_) => Code::BPF2003,
        RejectionReason::Recursion { .. } => Code::BPF2004,
        RejectionReason::TooManyFrames { .. } => Code::BPF2005,
        RejectionReason::TooLarge { .. } => Code::BPF2006,
        RejectionReason::FallsOffEnd => Code::BPF2007,
        RejectionReason::UnknownWrite { .. } => Code::BPF2020,
        RejectionReason::NullArithmetic => Code::BPF2021,
        RejectionReason::HalfPointerCompared => Code::BPF2022,
        RejectionReason::ImpossibleNumber => Code::BPF2023,
        RejectionReason::ReadOnlyWrite { .. } => Code::BPF2024,
        RejectionReason::NullMetadata { .. } => Code::BPF2025,
        RejectionReason::NotImplemented(_) => Code::BPF2026,
        RejectionReason::UnknownFunction(_) | RejectionReason::NoSuchFunction(_) => Code::BPF2027,
        RejectionReason::FunctionFlags { .. } => Code::BPF2028,
        RejectionReason::MapMistaken(_) => Code::BPF2029,
        RejectionReason::NoAddress { .. } => Code::BPF2030,
        RejectionReason::PointerExchanged => Code::BPF2032,
        RejectionReason::BufferUnwritten { .. } => Code::BPF2033,
        RejectionReason::UnlistedArgument { .. } => Code::BPF2034,
        RejectionReason::NameLength { .. } => Code::BPF2035,
    };
    let mut notes = explained(rejection);
    let what = match &rejection.reason {
        RejectionReason::Unsafe { violation, engine } => {
            if !engine.is_empty() {
                notes.push(format!("the verifier says: {engine}"));
            }
            violation.to_string()
        }
        other => other.to_string(),
    };
    if let Some(engine) = rejection.only_by {
        let (rejects, accepts) = match engine {
            Verifier::Prevail => ("prevail", "native"),
            Verifier::Native | Verifier::Both => ("native", "prevail"),
        };
        notes.push(format!(
            "the engines disagree: `--verifier {rejects}` rejects the program, `--verifier {accepts}` accepts it"
        ));
    }
    let diagnostic = Diagnostic {
        program: Some(rejection.program.clone()),
        registers: rejection.explanation.registers.iter().map(known).collect(),
        path: rejection.explanation.path.iter().map(path_step).collect(),
        notes,
        help: rejection_help(&rejection.reason),
        ..Diagnostic::new(code, format!("program `{}` is rejected: {what}", rejection.program))
    };
    match &rejection.place {
        Some(place) => at(diagnostic, place),
        None => diagnostic,
    }
}

/// What has to be said of the path that is shown, and the code around an instruction without a source line.
fn explained(rejection: &Rejection) -> Vec<String> {
    let Explanation {
        path,
        kind,
        left_out,
        around,
        ..
    } = &*rejection.explanation;
    let mut notes = Vec::new();
    let shown = if path.is_empty() {
        ""
    } else {
        ": what is shown is common to all"
    };
    match kind {
        PathKind::Fails | PathKind::Reaches => {}
        PathKind::Common => notes.push(format!(
            "every single path to this instruction was proven safe, but not all of them together{shown}"
        )),
        PathKind::Unfinished => notes.push(format!(
            "of the many paths to this instruction, none that fails was found in the time that is spent on it{shown}"
        )),
    }
    if let Some(LeftOut { after, count }) = left_out {
        notes.push(format!(
            "{count} steps of the path, behind the first {after}, are left out"
        ));
    }
    let here = rejection.place.as_ref().map(|place| place.slot);
    notes.extend(around.iter().map(|listed| {
        let arrow = if Some(listed.slot) == here { "->" } else { "  " };
        format!("{arrow} {:>4}: {}", listed.slot, listed.text)
    }));
    notes
}

fn known(register: &KnownRegister) -> Known {
    Known {
        register: register.register.to_string(),
        holds: register.holds.clone(),
    }
}

fn path_step(step: &verifier::PathStep) -> PathStep {
    PathStep {
        place: step.place.line.as_ref().and_then(source_place),
        instruction: InstructionPlace {
            function: step.place.function.clone(),
            slot: step.place.slot,
            text: step.place.text.clone(),
        },
        what: step.what.clone(),
    }
}

/// What can be done about a rejection.
fn rejection_help(reason: &RejectionReason) -> Option<String> {
    match reason {
        RejectionReason::Unsafe { violation, .. } => violation::help(violation),
        RejectionReason::UnsupportedInstruction { group, .. } => match group {
            Some("packet") => {
                Some("read through the context's data pointer, after comparing it with the end of the data".to_owned())
            }
            Some("callx") => {
                Some("call a function of this object by its name, or another program by a tail call".to_owned())
            }
            _ => None,
        },
        RejectionReason::UnknownHelper(missing) => Some(helper_help(missing)),
        RejectionReason::NotImplemented(missing) if missing.implemented_for.is_empty() => {
            Some("no provider implements it, so no module that calls it can be loaded".to_owned())
        }
        RejectionReason::NotImplemented(missing) => Some(format!(
            "only programs of these types can call it: {}",
            missing.implemented_for.join(", ")
        )),
        RejectionReason::UnknownFunction(missing) => function_help(missing),
        RejectionReason::FunctionFlags { .. } => {
            Some("the verifier of eBPF for Windows refuses such functions, too".to_owned())
        }
        RejectionReason::MapMistaken(mistaken) => {
            Some(format!("give it a map of type `{}`", mistaken.needed.join("` or `")))
        }
        RejectionReason::NoAddress { .. } => Some("no program that calls it can be loaded; do without it".to_owned()),
        RejectionReason::PointerExchanged => Some(
            "only numbers can be expected and exchanged; keep what you compare in a map or on the stack".to_owned(),
        ),
        RejectionReason::BufferUnwritten { .. } => {
            Some("initialise the buffer first, e.g. with `= {0}`, or let the helper write into a map value".to_owned())
        }
        RejectionReason::UnlistedArgument { .. } => {
            Some("declare the helper with the arguments that it reads, and pass it numbers".to_owned())
        }
        _ => None,
    }
}

fn helper_help(missing: &MissingHelper) -> String {
    let named = |h: &HelperName| format!("`{}` ({})", h.name, h.id);
    if let Some(same) = &missing.same_name {
        let name = named(same);
        return format!(
            "on Windows it is {name}; compile with the headers of eBPF for Windows, not with those of Linux"
        );
    }
    let nearest: Vec<String> = missing.nearest.iter().map(named).collect();
    match nearest.as_slice() {
        [] => format!("`{}` has no helpers of its own", missing.program_type),
        [..] => format!(
            "the nearest that `{}` has: {}",
            missing.program_type,
            nearest.join(", ")
        ),
    }
}

fn function_help(missing: &MissingFunction) -> Option<String> {
    let list = |names: &[String]| format!("`{}`", names.join("`, `"));
    if !missing.offered.is_empty() {
        return Some(format!("the module offers {}", list(&missing.offered)));
    }
    let elsewhere: Vec<String> = missing
        .elsewhere
        .iter()
        .map(|(m, name)| format!("`{name}` of module {m}"))
        .collect();
    if !elsewhere.is_empty() {
        return Some(format!("did you mean {}?", elsewhere.join(" or ")));
    }
    let modules: Vec<String> = missing.modules.iter().map(ToString::to_string).collect();
    (!modules.is_empty()).then(|| format!("modules that are known to offer functions: {}", modules.join(", ")))
}
