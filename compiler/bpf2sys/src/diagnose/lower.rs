//! Modules that can't be lowered: `BPF3…`.

use bpf2sys_codegen::{FunctionProblem, LowerError};
use bpf2sys_pe_emit::Machine;

use super::{for_machine, source_place};
use crate::{Code, Diagnostic};

pub(super) fn lower(error: &LowerError, machine: Machine) -> Diagnostic {
    let diagnostic = |code| Diagnostic::new(code, error.to_string());
    // What depends on the machine says which one it was.
    let for_one_machine = |code| Diagnostic {
        notes: vec![for_machine(machine)],
        ..diagnostic(code)
    };
    match error {
        LowerError::Arm64Only { .. } => diagnostic(Code::BPF3001),
        LowerError::Instruction { place, .. } => Diagnostic {
            place: place.line.as_ref().and_then(source_place),
            ..diagnostic(Code::BPF3002)
        },
        LowerError::Function {
            problem: FunctionProblem::StackDepth { .. } | FunctionProblem::FrameTooLarge { .. },
            ..
        } => for_one_machine(Code::BPF3006),
        LowerError::Function { .. } => for_one_machine(Code::BPF3003),
        LowerError::RuntimeLevel(problem) => Diagnostic {
            place: problem.place.line.as_ref().and_then(source_place),
            help: Some(format!(
                "build with `--runtime {}`; older runtimes then do not load the module",
                problem.needed
            )),
            ..diagnostic(Code::BPF3005)
        },
        LowerError::Module(_) => diagnostic(Code::BPF3004),
        LowerError::Internal(_) => for_one_machine(Code::BPF3999),
    }
}
