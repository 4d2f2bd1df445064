//! Images that are refused or misbehave in a simulated run: `BPF5…`.

use bpf2sys_bytecode::SourceLine;
use bpf2sys_simulator::{InterpretedFault, Rule, SimulatorError};

use super::{NO_SOURCE_LINES, source_place};
use crate::diagnostic::InstructionPlace;
use crate::{Code, Diagnostic};

/// What to tell of a run that failed.
pub(super) fn diagnose(error: &SimulatorError) -> Diagnostic {
    match error {
        SimulatorError::Interpreted(fault) => interpreted(fault),
        SimulatorError::NoStandIn { helper, .. } => Diagnostic {
            help: Some(format!("say what it gives: `--answer {helper}=0`, or another number")),
            ..Diagnostic::new(code(error), error.to_string())
        },
        SimulatorError::Kernel { violation, .. } if violation.rule == Rule::ProgramType => Diagnostic {
            help: Some("`--platform FILE` adds an extension's program types".into()),
            ..Diagnostic::new(code(error), error.to_string())
        },
        error => Diagnostic::new(code(error), error.to_string()),
    }
}

fn interpreted(fault: &InterpretedFault) -> Diagnostic {
    let mut notes = Vec::new();
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
        instruction: Some(InstructionPlace {
            function: fault.function.clone(),
            slot: fault.slot,
            text: fault.text.clone(),
        }),
        notes,
        ..Diagnostic::new(Code::BPF5012, format!("{}: {}", fault.during, fault.problem))
    }
}

/// The code of a run that failed.
pub(crate) fn code(error: &SimulatorError) -> Code {
    match error {
        SimulatorError::Unsupported(_) => Code::BPF5001,
        SimulatorError::Image(_) => Code::BPF5002,
        SimulatorError::UserMode(_) => Code::BPF5003,
        SimulatorError::Loader(_) => Code::BPF5004,
        SimulatorError::Kernel { .. } => Code::BPF5005,
        SimulatorError::Fault(_) => Code::BPF5006,
        SimulatorError::TimeOut(_) => Code::BPF5007,
        SimulatorError::Request(_) => Code::BPF5008,
        SimulatorError::NotSimulated(_) | SimulatorError::NoStandIn { .. } => Code::BPF5009,
        SimulatorError::Crashed { .. } => Code::BPF5010,
        SimulatorError::Process(_) => Code::BPF5011,
        SimulatorError::Interpreted(_) => Code::BPF5012,
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
