//! The form of one JSON object per line. `docs/messages.md` describes it; its fields are never taken away or given another
//! meaning, and every field is always there: what is not known is `null` or an empty list.

use bpf2sys_authenticode::Time;
use serde::Serialize;

use super::human::{Palette, render};
use super::{Count, severity_name};
use crate::{Diagnostic, InstructionPlace, SafeProgram, SourcePlace};

/// A line.
#[derive(Debug, Serialize)]
#[serde(tag = "reason", rename_all = "kebab-case")]
pub(crate) enum Message<'a> {
    /// A problem.
    Diagnostic(Box<Problem<'a>>),
    /// An input was verified, and is safe.
    Verified(&'a Verified),
    /// An input was built.
    Built(&'a Built),
    /// An image was signed, or its signatures were removed.
    Signed(&'a Signed),
    /// The last line.
    Finished {
        /// The exit status.
        status: u8,
        /// How many problems of severity `error` were told.
        errors: usize,
        /// How many of severity `warning`.
        warnings: usize,
    },
}

/// An input that is safe.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Verified {
    /// The input as it was named.
    pub input: String,
    /// Its programs, in file order.
    pub programs: Vec<SafeProgram>,
}

/// An input that was built.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Built {
    /// The input as it was named.
    pub input: String,
    /// What was changed, if it was compiled for Linux.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rewritten: Option<String>,
    /// What was written.
    pub outputs: Vec<WrittenFile>,
}

/// A file that was written.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct WrittenFile {
    /// Its path.
    pub file: String,
    /// The machine it is for, as `--arch` takes it.
    pub machine: String,
    /// What it is, as `--emit` takes it.
    pub form: &'static str,
    /// Its size in bytes.
    pub size: usize,
    /// SHA-256 of its bytes, in hexadecimal.
    pub sha256: String,
    /// Whether it was written; not if it had these bytes already.
    pub written: bool,
}

/// An image that was signed, or whose signatures were removed.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Signed {
    /// The input as it was named.
    pub input: String,
    /// The path of the image that was written.
    pub file: String,
    /// Its size in bytes.
    pub size: usize,
    /// All signatures that it has now.
    pub signatures: Vec<MadeSignature>,
}

/// A signature of an image that was written.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct MadeSignature {
    /// Subject of the signer's certificate (RFC 4514).
    pub signer: String,
    /// Digest algorithm, as `--digest` takes it.
    pub digest: &'static str,
    /// The time of its timestamp; none without one.
    pub timestamp: Option<Time>,
}

/// A problem, as [`Diagnostic`] has it.
#[derive(Debug, Serialize)]
pub(crate) struct Problem<'a> {
    severity: &'static str,
    code: &'static str,
    title: &'static str,
    message: &'a str,
    input: Option<&'a str>,
    program: Option<&'a str>,
    place: Option<Place<'a>>,
    instruction: Option<Instruction<'a>>,
    registers: Vec<Register<'a>>,
    path: Vec<Step<'a>>,
    notes: &'a [String],
    help: Option<&'a str>,
    rendered: String,
}

#[derive(Debug, Serialize)]
struct Place<'a> {
    file: &'a str,
    line: u32,
    /// None if it is not known.
    column: Option<u32>,
    text: &'a str,
}

#[derive(Debug, Serialize)]
struct Instruction<'a> {
    function: &'a str,
    slot: u32,
    text: &'a str,
}

#[derive(Debug, Serialize)]
struct Register<'a> {
    register: &'a str,
    holds: &'a str,
}

#[derive(Debug, Serialize)]
struct Step<'a> {
    place: Option<Place<'a>>,
    instruction: Instruction<'a>,
    what: &'a str,
}

impl<'a> From<&'a SourcePlace> for Place<'a> {
    fn from(place: &'a SourcePlace) -> Self {
        Place {
            file: &place.file,
            line: place.line,
            column: (place.column > 0).then_some(place.column),
            text: &place.text,
        }
    }
}

impl<'a> From<&'a InstructionPlace> for Instruction<'a> {
    fn from(at: &'a InstructionPlace) -> Self {
        Instruction {
            function: &at.function,
            slot: at.slot,
            text: &at.text,
        }
    }
}

impl<'a> From<&'a Diagnostic> for Problem<'a> {
    fn from(diagnostic: &'a Diagnostic) -> Self {
        let code = diagnostic.code;
        Problem {
            severity: severity_name(diagnostic.severity),
            code: code.name(),
            title: code.title(),
            message: &diagnostic.message,
            input: diagnostic.file.as_deref(),
            program: diagnostic.program.as_deref(),
            place: diagnostic.place.as_ref().map(Place::from),
            instruction: diagnostic.instruction.as_ref().map(Instruction::from),
            registers: (diagnostic.registers.iter())
                .map(|known| Register {
                    register: &known.register,
                    holds: &known.holds,
                })
                .collect(),
            path: (diagnostic.path.iter())
                .map(|step| Step {
                    place: step.place.as_ref().map(Place::from),
                    instruction: (&step.instruction).into(),
                    what: &step.what,
                })
                .collect(),
            notes: &diagnostic.notes,
            help: diagnostic.help.as_deref(),
            rendered: render(diagnostic, &Palette::PLAIN),
        }
    }
}

impl Message<'_> {
    /// The line of a problem.
    pub(crate) fn problem(diagnostic: &Diagnostic) -> Message<'_> {
        Message::Diagnostic(Box::new(diagnostic.into()))
    }

    /// The last line of a run.
    pub(crate) fn finished(status: u8, count: &Count) -> Self {
        Message::Finished {
            status,
            errors: count.errors,
            warnings: count.warnings,
        }
    }

    /// The line, with its end.
    pub(crate) fn line(&self) -> Result<String, serde_json::Error> {
        serde_json::to_string(self).map(|text| text + "\n")
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::{Code, Known, PathStep};

    fn parsed(message: &Message<'_>) -> Value {
        let line = message.line().unwrap();
        assert_eq!(line.matches('\n').count(), 1);
        serde_json::from_str(&line).unwrap()
    }

    #[test]
    fn a_problem_with_nothing_has_every_field() {
        let diagnostic = Diagnostic::new(Code::BPF9001, "can't read");
        let expected = json!({
            "reason": "diagnostic", "severity": "error", "code": "BPF9001", "title": Code::BPF9001.title(),
            "message": "can't read", "input": null, "program": null, "place": null, "instruction": null,
            "registers": [], "path": [], "notes": [], "help": null,
            "rendered": "error[BPF9001]: can't read\n",
        });
        assert_eq!(parsed(&Message::problem(&diagnostic)), expected);
    }

    #[test]
    fn everything_of_a_problem_is_in_it_as_it_is() {
        let place = |column| SourcePlace {
            file: "f.c".into(),
            line: 12,
            column,
            text: "\t*p = \"\u{1b}\";".into(),
        };
        let at = InstructionPlace {
            function: "f".into(),
            slot: 3,
            text: "r0 = 1".into(),
        };
        let diagnostic = Diagnostic {
            file: Some("f.o".into()),
            program: Some("f".into()),
            place: Some(place(5)),
            instruction: Some(at.clone()),
            registers: vec![Known {
                register: "r1".into(),
                holds: "the packet".into(),
            }],
            path: vec![PathStep {
                place: Some(place(0)),
                instruction: at,
                what: "taken".into(),
            }],
            notes: vec!["so".into()],
            help: Some("do".into()),
            ..Diagnostic::new(Code::BPF2050, "odd")
        };
        let told = parsed(&Message::problem(&diagnostic));
        let at = json!({"function": "f", "slot": 3, "text": "r0 = 1"});
        let place = |column: Value| json!({"file": "f.c", "line": 12, "column": column, "text": "\t*p = \"\u{1b}\";"});
        for (field, expected) in [
            ("severity", json!("warning")),
            ("input", json!("f.o")),
            ("program", json!("f")),
            ("place", place(json!(5))),
            ("instruction", at.clone()),
            ("registers", json!([{"register": "r1", "holds": "the packet"}])),
            (
                "path",
                json!([{"place": place(json!(null)), "instruction": at, "what": "taken"}]),
            ),
            ("notes", json!(["so"])),
            ("help", json!("do")),
        ] {
            assert_eq!(told[field], expected, "{field}");
        }
    }

    #[test]
    fn results_and_the_end_are_lines_too() {
        let verified = Verified {
            input: "f.o".into(),
            programs: vec![SafeProgram {
                name: "f".into(),
                section: "xdp".into(),
                program_type: "xdp".into(),
            }],
        };
        assert_eq!(
            parsed(&Message::Verified(&verified)),
            json!({"reason": "verified", "input": "f.o",
                   "programs": [{"name": "f", "section": "xdp", "program_type": "xdp"}]})
        );
        assert_eq!(
            parsed(&Message::finished(4, &Count::default())),
            json!({"reason": "finished", "status": 4, "errors": 0, "warnings": 0})
        );
    }
}
