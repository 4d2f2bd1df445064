//! C sources that can't be compiled: `BPF8…`.

use crate::{Code, CompileError, Diagnostic, Severity};

/// How to get a compiler that makes eBPF.
const INSTALL: &str = "install LLVM's clang (Debian and Ubuntu: `apt-get install clang`; macOS: `brew install llvm`; Windows: `winget install \
                       LLVM.LLVM`), or name one with `--clang` or `BPF2SYS_CLANG`";

/// What to tell: if the compiler refused the source, each of its errors and warnings.
pub(super) fn diagnose(error: &CompileError) -> Vec<Diagnostic> {
    match error {
        CompileError::NotFound { .. } => vec![advised(Code::BPF8001, error)],
        CompileError::NoTarget { .. } | CompileError::Run { .. } => vec![advised(Code::BPF8002, error)],
        CompileError::Refused { output, .. } => {
            let mut told = output.diagnostics();
            if told.iter().all(|diagnostic| diagnostic.severity != Severity::Error) {
                told.push(Diagnostic {
                    notes: output.to_string().lines().map(str::to_owned).collect(),
                    ..refused(error)
                });
            }
            told
        }
    }
}

/// The one thing to tell of a source that was refused where the compiler's own words are told, too.
pub(crate) fn refused(error: &CompileError) -> Diagnostic {
    Diagnostic::new(Code::BPF8003, error.to_string())
}

fn advised(code: Code, error: &CompileError) -> Diagnostic {
    Diagnostic {
        help: Some(INSTALL.to_owned()),
        ..Diagnostic::new(code, error.to_string())
    }
}
