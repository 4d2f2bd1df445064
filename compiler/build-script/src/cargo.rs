//! What cargo is told: which files the script read, and what is wrong.

use std::path::Path;

use bpf2sys::{BuildReport, Diagnostic, Severity};

/// The environment that a build depends on.
const VARIABLES: [&str; 3] = ["BPF2SYS_CLANG", "BPF2SYS_FROM", "BPF2SYS_PLATFORM"];

/// Tells of a build that ran: what it read, and its warnings. Errors are the caller's.
pub(crate) fn tell_of(report: &BuildReport) {
    for path in &report.reads {
        // A line is all that cargo reads, and such a name is no line.
        if !path.to_string_lossy().contains('\n') {
            println!("cargo::rerun-if-changed={}", path.display());
        }
    }
    for variable in VARIABLES {
        println!("cargo::rerun-if-env-changed={variable}");
    }
    report.warnings.iter().for_each(tell);
    for input in &report.inputs {
        for warning in input.result.iter().flat_map(|module| &module.warnings) {
            tell(&in_file(warning.clone(), &input.input));
        }
    }
}

fn in_file(diagnostic: Diagnostic, path: &Path) -> Diagnostic {
    diagnostic.in_file(&path.display().to_string())
}

/// Tells of a problem. Cargo shows each line as a message of its own, so there is one, with the place before it as compilers have it, and
/// the whole text behind it.
pub(crate) fn tell(diagnostic: &Diagnostic) {
    print!("{}", lines(diagnostic));
}

fn lines(diagnostic: &Diagnostic) -> String {
    let kind = match diagnostic.severity {
        Severity::Warning => "warning",
        Severity::Error => "error",
    };
    let text = diagnostic.to_string();
    text.lines().map(|line| format!("cargo::{kind}={line}\n")).collect()
}

#[cfg(test)]
mod tests {
    use bpf2sys::Code;

    use super::*;

    #[test]
    fn every_line_is_one_that_cargo_shows() {
        let told = lines(&Diagnostic {
            notes: vec!["first".to_owned(), "second".to_owned()],
            ..Diagnostic::new(Code::BPF9001, "no such\nfile")
        });
        assert!(told.lines().all(|line| line.starts_with("cargo::error=")), "{told}");
        assert!(told.contains("BPF9001") && told.contains("second"), "{told}");
    }
}
