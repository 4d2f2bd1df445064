//! Each failure as diagnostics with their codes. A code, once given, keeps its meaning.
//!
//! `BPF1…` the object can't be read, `BPF2…` it is not proven safe, `BPF3…` it can't be lowered, `BPF4…` it can't be laid
//! out as an image, `BPF5…` an image was refused or misbehaved, `BPF9…` files and the command line.

use bpf2sys_bytecode::{Problem, ReadError, SourceLine};
use bpf2sys_codegen::LowerError;
use bpf2sys_pe_emit::Machine;
use bpf2sys_simulator::{InterpretedFault, SimulatorError};
use bpf2sys_verifier::{HelperName, MissingFunction, MissingHelper, Rejection, RejectionReason, VerifyError};

use crate::{Diagnostic, ErrorKind, SourcePlace};

/// A note where a source line would be shown.
const NO_SOURCE_LINES: &str = "the object has no source lines; compile with `-g` to see them here";

/// What to tell about a failure.
pub(crate) fn diagnose(kind: &ErrorKind) -> Vec<Diagnostic> {
    let simple = |code| vec![Diagnostic::new(code, kind.to_string())];
    match kind {
        ErrorKind::Read(error) => vec![read(error)],
        ErrorKind::Verify(VerifyError::Rejected(rejections)) => rejections.iter().map(rejection).collect(),
        ErrorKind::Verify(error) => vec![verify(error)],
        ErrorKind::Lower { machine, source } => vec![lower(source, *machine)],
        ErrorKind::Link { machine, .. } => vec![Diagnostic {
            notes: vec![for_machine(*machine)],
            ..Diagnostic::new("BPF4001", kind.to_string())
        }],
        ErrorKind::Simulate(SimulatorError::Interpreted(fault)) => vec![interpreted(fault)],
        ErrorKind::Simulate(error) => vec![Diagnostic::new(simulate_code(error), error.to_string())],
        ErrorKind::NoTables(_) => simple("BPF5013"),
        ErrorKind::ReadFile { .. } => simple("BPF9001"),
        ErrorKind::InputTooLarge { .. } => simple("BPF9002"),
        ErrorKind::WriteFile { .. } => simple("BPF9003"),
        ErrorKind::UnknownFormat { .. } => simple("BPF9004"),
        ErrorKind::Usage(_) => simple("BPF9005"),
        ErrorKind::Internal(_) => simple("BPF9999"),
    }
}

fn read(error: &ReadError) -> Diagnostic {
    let (code, help) = match &error.problem {
        Problem::NotAnObject(_) => (
            "BPF1001",
            Some("compile the program with `clang -target bpf -g -O2 -c`"),
        ),
        Problem::OutOfRange { .. } => ("BPF1002", None),
        Problem::Overlap(_) => ("BPF1003", None),
        Problem::Malformed(_) => ("BPF1004", None),
        Problem::Name(_) => ("BPF1005", None),
        Problem::Duplicate(_) => ("BPF1006", None),
        Problem::TooMuch { .. } => ("BPF1007", None),
        Problem::Instruction { .. } => ("BPF1008", None),
        Problem::NoPrograms => (
            "BPF1009",
            Some("put each program in a section that names its type, e.g. `SEC(\"xdp\")`"),
        ),
        Problem::Function(_) => ("BPF1010", None),
        Problem::RelocationType { .. } => ("BPF1011", None),
        Problem::Reference(_) => ("BPF1012", None),
        Problem::NotData(_) => (
            "BPF1012",
            Some(
                "global variables are in `.rodata`, `.data`, `.bss` and sections with a suffix to such a name, e.g. `SEC(\".data.config\")`",
            ),
        ),
        Problem::Unresolved => (
            "BPF1013",
            Some("define it in this object, or link the object that does to this one with `bpftool gen object`"),
        ),
        Problem::UndefinedFunction => (
            "BPF1013",
            Some(
                "define it in this object, or declare it `static __inline`; if another Windows module has it, declare it in section \
                 `.ksyms` with __attribute__((btf_decl_tag(\"module_id:{GUID}\"))) and compile with `-g`",
            ),
        ),
        Problem::TypeKind { .. } | Problem::Type { .. } => ("BPF1014", None),
        Problem::Map(_) | Problem::MapField { .. } => ("BPF1015", None),
        Problem::Unsupported(_) => ("BPF1016", None),
        Problem::JoinedUnits => (
            "BPF1018",
            Some("compile each source with `-g` and link the objects with `bpftool gen object`"),
        ),
        Problem::NoModule | Problem::TwoModules(..) | Problem::NotAModule(_) => (
            "BPF1017",
            Some(
                "tag the function's declaration once with the module that has it: \
                 __attribute__((btf_decl_tag(\"module_id:{01234567-89ab-cdef-0123-456789abcdef}\")))",
            ),
        ),
    };
    Diagnostic {
        help: help.map(str::to_owned),
        ..Diagnostic::new(code, error.to_string())
    }
}

fn verify(error: &VerifyError) -> Diagnostic {
    let (code, help) = match error {
        VerifyError::NoProgram => ("BPF2010", None),
        VerifyError::UnknownSection { .. } => (
            "BPF2011",
            Some("`--type SECTION` verifies every program as that section's"),
        ),
        VerifyError::UnknownProgramType { .. } => ("BPF2012", None),
        VerifyError::UnusableMap { .. } => ("BPF2013", None),
        VerifyError::UnknownConformanceGroup { .. } => ("BPF2014", None),
        VerifyError::TimeLimit { .. } => (
            "BPF2015",
            Some("`--time-limit SECONDS` gives it longer; smaller programs and loops with fewer rounds take less"),
        ),
        VerifyError::EngineFailed { .. } => (
            "BPF2016",
            Some("this is a defect of the verification engine; please report it with the object"),
        ),
        VerifyError::NoThread(_) => ("BPF2017", None),
        VerifyError::Rejected(_) => ("BPF2001", None),
    };
    Diagnostic {
        help: help.map(str::to_owned),
        ..Diagnostic::new(code, error.to_string())
    }
}

fn rejection(rejection: &Rejection) -> Diagnostic {
    let code = match &rejection.reason {
        RejectionReason::Unsafe { .. } => "BPF2001",
        RejectionReason::UnsupportedInstruction { .. } => "BPF2002",
        RejectionReason::UnknownHelper(_) => "BPF2003",
        RejectionReason::Recursion { .. } => "BPF2004",
        RejectionReason::TooManyFrames { .. } => "BPF2005",
        RejectionReason::TooLarge { .. } => "BPF2006",
        RejectionReason::FallsOffEnd => "BPF2007",
        RejectionReason::UnknownWrite { .. } => "BPF2020",
        RejectionReason::NullArithmetic => "BPF2021",
        RejectionReason::HalfPointerCompared => "BPF2022",
        RejectionReason::ImpossibleNumber => "BPF2023",
        RejectionReason::ReadOnlyWrite { .. } => "BPF2024",
        RejectionReason::NullMetadata { .. } => "BPF2025",
        RejectionReason::NotImplemented(_) => "BPF2026",
        RejectionReason::UnknownFunction(_) | RejectionReason::NoSuchFunction(_) => "BPF2027",
        RejectionReason::FunctionFlags { .. } => "BPF2028",
    };
    let mut notes = Vec::new();
    let what = match &rejection.reason {
        RejectionReason::Unsafe { explanation, engine } => {
            notes.push(format!("the verifier says: {engine}"));
            (*explanation).to_owned()
        }
        other => other.to_string(),
    };
    let mut place = None;
    if let Some(found) = &rejection.place {
        let function = if found.function == rejection.program {
            String::new()
        } else {
            format!(" of function `{}`", found.function)
        };
        notes.insert(0, format!("at instruction {}{function}: {}", found.slot, found.text));
        place = found.line.as_ref().and_then(source_place);
        if found.line.is_none() {
            notes.push(NO_SOURCE_LINES.to_owned());
        }
    }
    Diagnostic {
        place,
        notes,
        help: rejection_help(&rejection.reason),
        ..Diagnostic::new(code, format!("program `{}` is rejected: {what}", rejection.program))
    }
}

/// What can be done about a rejection.
fn rejection_help(reason: &RejectionReason) -> Option<String> {
    match reason {
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

/// Where a line is, if the compiler had a number for it.
fn source_place(line: &SourceLine) -> Option<SourcePlace> {
    (line.line > 0).then(|| SourcePlace {
        file: line.file.clone(),
        line: line.line,
        column: line.column,
        text: line.text.clone(),
    })
}

fn lower(error: &LowerError, machine: Machine) -> Diagnostic {
    let diagnostic = |code| Diagnostic::new(code, error.to_string());
    // What depends on the machine says which one it was.
    let for_one_machine = |code| Diagnostic {
        notes: vec![for_machine(machine)],
        ..diagnostic(code)
    };
    match error {
        LowerError::Arm64Only { .. } => diagnostic("BPF3001"),
        LowerError::Instruction { place, .. } => Diagnostic {
            place: place.line.as_ref().and_then(source_place),
            ..diagnostic("BPF3002")
        },
        LowerError::Function { .. } => for_one_machine("BPF3003"),
        LowerError::RuntimeLevel(problem) => Diagnostic {
            place: problem.place.line.as_ref().and_then(source_place),
            help: Some(format!(
                "build with `--runtime {}`; older runtimes then do not load the module",
                problem.needed
            )),
            ..diagnostic("BPF3005")
        },
        LowerError::Module(_) => diagnostic("BPF3004"),
        LowerError::Internal(_) => for_one_machine("BPF3999"),
    }
}

fn interpreted(fault: &InterpretedFault) -> Diagnostic {
    let mut notes = vec![format!(
        "at instruction {} of function `{}`: {}",
        fault.slot, fault.function, fault.text
    )];
    if fault.line.is_none() {
        notes.push(NO_SOURCE_LINES.to_owned());
    }
    let line = fault.line.as_ref().map(|line| SourceLine {
        file: line.file.clone(),
        line: line.line,
        column: line.column,
        text: line.text.clone(),
    });
    Diagnostic {
        place: line.as_ref().and_then(source_place),
        notes,
        ..Diagnostic::new("BPF5012", format!("{}: {}", fault.during, fault.problem))
    }
}

fn for_machine(machine: Machine) -> String {
    format!("in code for {machine}")
}

fn simulate_code(error: &SimulatorError) -> &'static str {
    match error {
        SimulatorError::Unsupported(_) => "BPF5001",
        SimulatorError::Image(_) => "BPF5002",
        SimulatorError::UserMode(_) => "BPF5003",
        SimulatorError::Loader(_) => "BPF5004",
        SimulatorError::Kernel { .. } => "BPF5005",
        SimulatorError::Fault(_) => "BPF5006",
        SimulatorError::TimeOut(_) => "BPF5007",
        SimulatorError::Request(_) => "BPF5008",
        SimulatorError::NotSimulated(_) => "BPF5009",
        SimulatorError::Crashed { .. } => "BPF5010",
        SimulatorError::Process(_) => "BPF5011",
        SimulatorError::Interpreted(_) => "BPF5012",
    }
}

#[cfg(test)]
mod tests {
    use bpf2sys_simulator::{InterpretedFault, InterpretedLine, SimulatorError};

    use crate::Error;

    #[test]
    fn an_interpreted_fault_shows_the_source_line_and_the_instruction() {
        let fault = |line| {
            Error::from(SimulatorError::Interpreted(Box::new(InterpretedFault {
                during: "program f running".into(),
                function: "g".into(),
                slot: 3,
                text: "r0 = *(u8 *)(r1 + 0x0)".into(),
                line,
                problem: "it reads 1 bytes at NULL".into(),
            })))
        };
        let known = fault(Some(InterpretedLine {
            file: "f.c".into(),
            line: 12,
            column: 5,
            text: "    return *p;".into(),
        }));
        let expected = "error[BPF5012]: program f running: it reads 1 bytes at NULL
  --> f.c:12:5
   |
12 |     return *p;
   |     ^
   = note: at instruction 3 of function `g`: r0 = *(u8 *)(r1 + 0x0)
";
        assert_eq!(known.diagnostics()[0].to_string(), expected);
        assert_eq!(known.exit_status(), 6);
        let unknown = fault(None).diagnostics()[0].to_string();
        assert!(unknown.contains("compile with `-g`"), "{unknown}");
    }
}
