//! What is told to a person about one problem, and how it is printed.

use std::fmt;

/// One problem, ready to print.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diagnostic {
    /// Stable code, e.g. `BPF2001`.
    pub code: &'static str,
    /// What is wrong, one sentence without a full stop.
    pub message: String,
    /// The input file.
    pub file: Option<String>,
    /// The C source line.
    pub place: Option<SourcePlace>,
    /// More about it, one line each.
    pub notes: Vec<String>,
    /// What to do.
    pub help: Option<String>,
}

/// A place in a source file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SourcePlace {
    /// File name as the compiler was given it.
    pub file: String,
    /// Line, from 1.
    pub line: u32,
    /// Column, from 1; 0 if unknown.
    pub column: u32,
    /// Text of the line; may be empty.
    pub text: String,
}

impl Diagnostic {
    /// A problem with nothing but a message.
    pub fn new(code: &'static str, message: impl Into<String>) -> Self {
        Diagnostic {
            code,
            message: message.into(),
            file: None,
            place: None,
            notes: Vec::new(),
            help: None,
        }
    }

    /// The same, found in this input file.
    #[must_use]
    pub fn in_file(mut self, file: &str) -> Self {
        self.file.get_or_insert_with(|| file.to_owned());
        self
    }
}

/// Text from a file, with control characters shown as escapes so that it cannot drive the terminal.
pub(crate) fn printable(text: &str) -> String {
    text.chars()
        .flat_map(|c| {
            let keep = if c == '\t' {
                Some(' ')
            } else {
                (!c.is_control()).then_some(c)
            };
            keep.map_or_else(|| c.escape_unicode().to_string(), String::from)
                .chars()
                .collect::<Vec<_>>()
        })
        .collect()
}

impl fmt::Display for Diagnostic {
    /// Prints in the form of rustc: the message, the place with its source line and a caret, notes, help.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "error[{}]: {}", self.code, printable(&self.message))?;
        let number = self.place.as_ref().map_or_else(String::new, |p| p.line.to_string());
        let margin = " ".repeat(number.len());
        if let Some(place) = &self.place {
            write!(f, "{margin}--> {}:{}", printable(&place.file), place.line)?;
            if place.column > 0 {
                write!(f, ":{}", place.column)?;
            }
            writeln!(f)?;
            if !place.text.is_empty() {
                writeln!(f, "{margin} |")?;
                writeln!(f, "{number} | {}", printable(&place.text))?;
                let before = (place.column as usize)
                    .saturating_sub(1)
                    .min(place.text.chars().count());
                let caret = if place.column > 0 {
                    format!(" {}^", " ".repeat(before))
                } else {
                    String::new()
                };
                writeln!(f, "{margin} |{caret}")?;
            }
        }
        if let Some(file) = &self.file {
            writeln!(f, "{margin} = in: {}", printable(file))?;
        }
        for note in &self.notes {
            writeln!(f, "{margin} = note: {}", printable(note))?;
        }
        if let Some(help) = &self.help {
            writeln!(f, "{margin} = help: {}", printable(help))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prints_the_source_line_with_a_caret_under_the_column() {
        let diagnostic = Diagnostic {
            code: "BPF2001",
            message: "program `f` is rejected".into(),
            file: Some("f.o".into()),
            place: Some(SourcePlace {
                file: "f.c".into(),
                line: 12,
                column: 5,
                text: "\treturn *p;".into(),
            }),
            notes: vec!["instruction 3: r0 = *(u8 *)(r1 + 0x0)".into()],
            help: Some("compare it with data_end first".into()),
        };
        let expected = "error[BPF2001]: program `f` is rejected
  --> f.c:12:5
   |
12 |  return *p;
   |     ^
   = in: f.o
   = note: instruction 3: r0 = *(u8 *)(r1 + 0x0)
   = help: compare it with data_end first
";
        assert_eq!(diagnostic.to_string(), expected);
    }

    #[test]
    fn control_characters_of_a_file_do_not_reach_the_terminal() {
        let text = Diagnostic::new("BPF1001", "section `\u{1b}[2J`").to_string();
        assert_eq!(text, "error[BPF1001]: section `\\u{1b}[2J`\n");
    }
}
