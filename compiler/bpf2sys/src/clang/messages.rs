//! What clang says: as it is for people, and as problems for machines.

use std::fmt;
use std::path::Path;

use crate::{Code, Diagnostic, Severity, SourcePlace};

/// What a compiler printed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CompilerOutput(String);

impl fmt::Display for CompilerOutput {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl CompilerOutput {
    /// What was printed, where `headers` was the folder of the platform's headers for this run: it has the name there that it has
    /// in objects.
    pub(super) fn new(bytes: &[u8], headers: &Path) -> CompilerOutput {
        let text = String::from_utf8_lossy(bytes);
        CompilerOutput(text.replace(&*headers.to_string_lossy(), super::HEADERS))
    }

    /// Whether it said nothing.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Its errors and warnings, each with the notes that follow it. Only text without colours has them.
    pub fn diagnostics(&self) -> Vec<Diagnostic> {
        let mut found: Vec<Diagnostic> = Vec::new();
        let mut lines = self.0.lines().peekable();
        while let Some(line) = lines.next() {
            let Some(message) = Message::of(line) else { continue };
            let text = lines.peek().and_then(|shown| source_text(shown, message.line));
            let severity = match message.kind {
                Kind::Error => Severity::Error,
                Kind::Warning => Severity::Warning,
                Kind::Note => {
                    if let Some(last) = found.last_mut() {
                        last.notes.push(message.as_note());
                    }
                    continue;
                }
            };
            let code = match severity {
                Severity::Error => Code::BPF8003,
                Severity::Warning => Code::BPF8004,
            };
            found.push(Diagnostic {
                place: message.place(text),
                ..Diagnostic::new(code, message.text)
            });
        }
        found
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Error,
    Warning,
    Note,
}

/// What stands before the text of a message.
const KINDS: [(&str, Kind); 5] = [
    ("fatal error: ", Kind::Error),
    ("error: ", Kind::Error),
    ("warning: ", Kind::Warning),
    ("note: ", Kind::Note),
    ("remark: ", Kind::Note),
];

/// A line `file:line:column: error: text`; without a place, the compiler's name may stand in its stead.
#[derive(Debug)]
struct Message<'a> {
    file: &'a str,
    line: u32,
    column: u32,
    kind: Kind,
    text: &'a str,
}

impl<'a> Message<'a> {
    fn of(line: &'a str) -> Option<Message<'a>> {
        // The first one: the text can quote another. Of two that begin at one place, the longer one.
        let (at, word, kind) = KINDS
            .iter()
            .filter_map(|(word, kind)| Some((line.find(word)?, *word, *kind)))
            .min_by_key(|(at, word, _)| (*at, std::cmp::Reverse(word.len())))?;
        let text = &line[at + word.len()..];
        let origin = &line[..at];
        let (file, line, column) = match origin.strip_suffix(": ") {
            Some(origin) => place(origin),
            None if origin.is_empty() => ("", 0, 0),
            None => return None,
        };
        Some(Message {
            file,
            line,
            column,
            kind,
            text,
        })
    }

    fn place(&self, text: Option<&str>) -> Option<SourcePlace> {
        (self.line > 0).then(|| SourcePlace {
            file: self.file.to_owned(),
            line: self.line,
            column: self.column,
            text: text.unwrap_or_default().to_owned(),
        })
    }

    fn as_note(&self) -> String {
        if self.line == 0 {
            return self.text.to_owned();
        }
        format!("{}:{}:{}: {}", self.file, self.line, self.column, self.text)
    }
}

/// `file:line:column` or `file:line`; the file may have colons itself. Line 0 if it is none of these.
fn place(origin: &str) -> (&str, u32, u32) {
    let number = |text: &str| text.parse::<u32>().ok();
    let split = |text: &'_ str| {
        let (before, last) = text.rsplit_once(':')?;
        Some((before.len(), number(last)?))
    };
    match split(origin) {
        Some((end, last)) => match split(&origin[..end]) {
            Some((file, line)) => (&origin[..file], line, last),
            None => (&origin[..end], last, 0),
        },
        None => (origin, 0, 0),
    }
}

/// The text of a source line as clang shows it below a message: ` 12 |   text`.
fn source_text(shown: &str, line: u32) -> Option<&str> {
    let (number, text) = shown.split_once('|')?;
    (number.trim().parse() == Ok(line)).then(|| text.strip_prefix(' ').unwrap_or(text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn problems_have_their_places_and_notes() {
        let output = CompilerOutput::new(
            b"In file included from a.c:1:\n\
            sub/b.h:3:5: warning: unused variable 'x' [-Wunused-variable]\n    3 | int x;\n      |     ^\n\
            C:\\src\\a.c:7:12: fatal error: 'no.h' file not found\n    7 | #include \"no.h\"\n      |          ^~~~~~\n\
            a.c:9: error: says 'error: x'\n\
            /headers/a.h:2:1: note: declared here\n    2 | int f;\n\
            1 warning and 2 errors generated.\n\
            clang: error: no such file or directory: 'x.c'\n\
            error: unknown target CPU 'v9'\n",
            Path::new("/headers"),
        );
        let found = output.diagnostics();
        let told: Vec<String> = found
            .iter()
            .map(|d| {
                let place = d.place.as_ref();
                let place = place.map(|p| format!("{}|{}|{}|{}", p.file, p.line, p.column, p.text));
                format!("{} {} {:?}", d.code, d.message, place.unwrap_or_default())
            })
            .collect();
        assert_eq!(
            told,
            [
                "BPF8004 unused variable 'x' [-Wunused-variable] \"sub/b.h|3|5|int x;\"",
                "BPF8003 'no.h' file not found \"C:\\\\src\\\\a.c|7|12|#include \\\"no.h\\\"\"",
                "BPF8003 says 'error: x' \"a.c|9|0|\"",
                "BPF8003 no such file or directory: 'x.c' \"\"",
                "BPF8003 unknown target CPU 'v9' \"\"",
            ]
        );
        assert_eq!(found[2].notes, ["bpf2sys/a.h:2:1: declared here"]);
    }

    #[test]
    fn what_is_no_message_is_none() {
        for text in [
            "",
            "1 error generated.\n",
            "  12 | // a note: of ours\n",
            "note: alone\n",
        ] {
            assert_eq!(
                CompilerOutput::new(text.as_bytes(), Path::new("/headers")).diagnostics(),
                [],
                "{text}"
            );
        }
    }
}
