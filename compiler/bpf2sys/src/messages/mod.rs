//! The forms in which problems are told. Each is made of [`Diagnostic`]s and nothing else; `docs/messages.md` describes them
//! for those who read them by machine.
//!
//! Text that came from a file is [`printable`] in every form for people and in every form of one line: it can neither drive
//! a terminal, nor show itself in another order than it has, nor begin a line of its own.

pub(crate) mod human;
pub(crate) mod json;
mod line;
pub(crate) mod sarif;
mod source;

pub(crate) use line::{msbuild, short};

use std::collections::BTreeSet;

use crate::{Diagnostic, Severity};

/// Text with everything that is not to be seen as such shown as escapes: control characters, and those that turn the
/// direction of writing or end a line. A tab is a space.
pub(crate) fn printable(text: &str) -> String {
    let mut result = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\t' => result.push(' '),
            c if c.is_control() || changes_layout(c) => result.extend(c.escape_unicode()),
            c => result.push(c),
        }
    }
    result
}

/// Whether a character has no place of its own but changes those of others: line and paragraph separators, and the marks,
/// embeddings, overrides and isolates of UAX #9.
fn changes_layout(c: char) -> bool {
    matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// What a severity is called, in all forms.
pub(crate) fn severity_name(severity: Severity) -> &'static str {
    match severity {
        Severity::Warning => "warning",
        Severity::Error => "error",
    }
}

/// How many problems were told.
#[derive(Clone, Debug, Default)]
pub(crate) struct Count {
    /// Programs that were not proven safe, with their files.
    rejected: BTreeSet<(Option<String>, String)>,
    /// Errors of programs.
    of_programs: usize,
    /// All errors.
    pub errors: usize,
    /// All warnings.
    pub warnings: usize,
}

impl Count {
    /// Counts another one.
    pub(crate) fn add(&mut self, diagnostic: &Diagnostic) {
        match diagnostic.severity {
            Severity::Warning => self.warnings += 1,
            Severity::Error => {
                self.errors += 1;
                if let (Some(program), true) = (&diagnostic.program, diagnostic.code.name().starts_with("BPF2")) {
                    self.rejected.insert((diagnostic.file.clone(), program.clone()));
                    self.of_programs += 1;
                }
            }
        }
    }

    /// All of them in words; none if there is at most one.
    pub(crate) fn summary(&self) -> Option<String> {
        if self.errors + self.warnings < 2 {
            return None;
        }
        let some = |count: usize, one: &str, several: &str| match count {
            0 => None,
            1 => Some(format!("1 {one}")),
            count => Some(format!("{count} {several}")),
        };
        let rejected = some(self.rejected.len(), "program rejected", "programs rejected");
        let other = self.errors - self.of_programs;
        let errors = match &rejected {
            Some(_) => some(other, "other error", "other errors"),
            None => some(other, "error", "errors"),
        };
        let parts = [rejected, errors, some(self.warnings, "warning", "warnings")];
        Some(parts.into_iter().flatten().collect::<Vec<_>>().join(", "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Code;

    #[test]
    fn control_characters_and_turned_text_are_shown_as_escapes() {
        assert_eq!(printable("a\tb\u{1b}[2J\r\n"), "a b\\u{1b}[2J\\u{d}\\u{a}");
        assert_eq!(
            printable("\u{202e}txt.\u{2066}\u{2028}"),
            "\\u{202e}txt.\\u{2066}\\u{2028}"
        );
        assert_eq!(printable("größer 数 `x`"), "größer 数 `x`");
    }

    #[test]
    fn problems_are_counted_by_what_they_mean() {
        let of = |code, program: Option<&str>| Diagnostic {
            program: program.map(str::to_owned),
            ..Diagnostic::new(code, "")
        };
        let summary = |diagnostics: &[Diagnostic]| {
            let mut count = Count::default();
            for diagnostic in diagnostics {
                count.add(diagnostic);
            }
            count.summary()
        };
        let rejected = |name| of(Code::BPF2001, Some(name));
        let warning = of(Code::BPF2050, Some("f"));
        let other = of(Code::BPF9001, None);
        assert_eq!(summary(&[]), None);
        assert_eq!(summary(std::slice::from_ref(&warning)), None);
        let said = |diagnostics: &[Diagnostic]| summary(diagnostics).unwrap();
        assert_eq!(
            said(&[rejected("f"), rejected("f"), rejected("g")]),
            "2 programs rejected"
        );
        assert_eq!(said(&[other.clone(), other.clone()]), "2 errors");
        assert_eq!(
            said(&[rejected("f"), other, warning.clone(), warning]),
            "1 program rejected, 1 other error, 2 warnings"
        );
    }
}
