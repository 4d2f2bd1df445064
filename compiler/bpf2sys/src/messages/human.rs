//! The form for people: as rustc shows problems, with the source line and a caret, what was known, the way there, help.
//!
//! Nothing is wrapped: a terminal does that, and a pipe must not.

use std::fmt::{self, Write};

use anstyle::{AnsiColor, Style};

use super::{Count, printable, severity_name, source};
use crate::{Diagnostic, InstructionPlace, PathStep, Severity, SourcePlace};

/// The styles of the parts of a message.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Palette {
    error: Style,
    warning: Style,
    /// The message, and the words before notes and help.
    strong: Style,
    /// Line numbers, and the marks beside the text.
    frame: Style,
}

impl Palette {
    /// No styles at all.
    pub(crate) const PLAIN: Palette = Palette {
        error: Style::new(),
        warning: Style::new(),
        strong: Style::new(),
        frame: Style::new(),
    };

    /// The colours of rustc.
    pub(crate) const COLOR: Palette = Palette {
        error: AnsiColor::BrightRed.on_default().bold(),
        warning: AnsiColor::BrightYellow.on_default().bold(),
        strong: Style::new().bold(),
        // Blue can hardly be read on the background of a Windows console.
        frame: if cfg!(windows) {
            AnsiColor::BrightCyan.on_default().bold()
        } else {
            AnsiColor::BrightBlue.on_default().bold()
        },
    };

    /// A heading.
    pub(crate) fn heading(&self) -> Style {
        self.strong
    }

    fn of(&self, severity: Severity) -> Style {
        match severity {
            Severity::Warning => self.warning,
            Severity::Error => self.error,
        }
    }
}

/// The problem as people read it; several lines, each with its end.
pub(crate) fn render(diagnostic: &Diagnostic, palette: &Palette) -> String {
    let numbers = diagnostic
        .place
        .iter()
        .chain(diagnostic.path.iter().filter_map(|step| step.place.as_ref()));
    let writer = Writer {
        diagnostic,
        palette,
        gutter: numbers.map(|place| place.line.to_string().len()).max().unwrap_or(0),
        text: String::new(),
    };
    writer.all()
}

/// The line that sums up several problems.
pub(crate) fn summary(count: &Count, palette: &Palette) -> Option<String> {
    let severity = if count.errors > 0 {
        Severity::Error
    } else {
        Severity::Warning
    };
    let style = palette.of(severity);
    let said = count.summary()?;
    Some(format!("{style}{}{style:#}: {said}\n", severity_name(severity)))
}

struct Writer<'a> {
    diagnostic: &'a Diagnostic,
    palette: &'a Palette,
    /// Width of the column of line numbers.
    gutter: usize,
    text: String,
}

impl Writer<'_> {
    fn all(mut self) -> String {
        let diagnostic = self.diagnostic;
        self.title();
        if let Some(place) = &diagnostic.place {
            self.arrow("-->", place);
            if !place.text.is_empty() {
                self.framed("|", format_args!(""));
                self.source_line(place);
                self.caret(place, self.palette.of(diagnostic.severity), "");
            }
        }
        if let Some(file) = &diagnostic.file {
            self.framed("=", format_args!("in: {}", printable(file)));
        }
        if let Some(at) = &diagnostic.instruction {
            let text = printable(&at.text);
            self.label("note", &format!("at {}: {text}", self.instruction(at, "function ")));
        }
        self.registers();
        self.path();
        for note in &diagnostic.notes {
            self.label("note", &printable(note));
        }
        if let Some(help) = &diagnostic.help {
            self.label("help", &printable(help));
        }
        self.text
    }

    fn title(&mut self) {
        let (code, message) = (self.diagnostic.code, printable(&self.diagnostic.message));
        let (style, strong) = (self.palette.of(self.diagnostic.severity), self.palette.strong);
        let severity = severity_name(self.diagnostic.severity);
        self.line(format_args!(
            "{style}{severity}[{code}]{style:#}{strong}: {message}{strong:#}"
        ));
    }

    /// `--> file:line:column`.
    fn arrow(&mut self, arrow: &str, place: &SourcePlace) {
        let (frame, gutter) = (self.palette.frame, self.gutter);
        let at = at(place);
        self.line(format_args!("{:gutter$}{frame}{arrow}{frame:#} {at}", ""));
    }

    /// A line beside the frame.
    fn framed(&mut self, mark: &str, text: fmt::Arguments<'_>) {
        let (frame, gutter) = (self.palette.frame, self.gutter);
        let text = text.to_string();
        let space = if text.is_empty() { "" } else { " " };
        self.line(format_args!("{:gutter$} {frame}{mark}{frame:#}{space}{text}", ""));
    }

    /// `= note: text`.
    fn label(&mut self, label: &str, text: &str) {
        let strong = self.palette.strong;
        self.framed("=", format_args!("{strong}{label}{strong:#}: {text}"));
    }

    fn source_line(&mut self, place: &SourcePlace) {
        let (frame, gutter) = (self.palette.frame, self.gutter);
        let shown = source::shown(&place.text);
        self.line(format_args!("{frame}{:>gutter$} |{frame:#} {shown}", place.line));
    }

    /// A caret under the column, and words after it.
    fn caret(&mut self, place: &SourcePlace, style: Style, words: &str) {
        let space = if words.is_empty() { "" } else { " " };
        match source::cells_before(place) {
            Some(cells) => self.framed("|", format_args!("{:cells$}{style}^{space}{words}{style:#}", "")),
            None => self.framed("|", format_args!("{words}")),
        }
    }

    /// The registers, one in a line, what they hold in a column.
    fn registers(&mut self) {
        let registers = &self.diagnostic.registers;
        let width = registers.iter().map(|known| known.register.len()).max().unwrap_or(0);
        let mut words = "known:";
        for known in registers {
            let (name, holds) = (printable(&known.register), printable(&known.holds));
            let mark = if words.is_empty() { " " } else { "=" };
            self.framed(mark, format_args!("{words:6} {name:width$}  {holds}"));
            words = "";
        }
    }

    /// The steps of the path, each under its source line; a line that is left out is the one above.
    fn path(&mut self) {
        let diagnostic = self.diagnostic;
        let mut above: Option<&SourcePlace> = None;
        if !diagnostic.path.is_empty() {
            self.label("note", "the way there:");
        }
        for step in &diagnostic.path {
            if let Some(place) = &step.place {
                if above.is_none_or(|above| above.file != place.file) {
                    self.arrow(":::", place);
                }
                if above.is_none_or(|above| (&above.file, above.line) != (&place.file, place.line)) {
                    self.source_line(place);
                }
                let words = format!("{}: {}", self.instruction(&step.instruction, ""), printable(&step.what));
                self.caret(place, self.palette.frame, &words);
            } else {
                self.step_without_place(step);
            }
            above = step.place.as_ref();
        }
    }

    fn step_without_place(&mut self, step: &PathStep) {
        let (text, what) = (printable(&step.instruction.text), printable(&step.what));
        let at = self.instruction(&step.instruction, "");
        self.framed("|", format_args!("{at}: {text}: {what}"));
    }

    /// `instruction 3`, and of which function if that is not the program.
    fn instruction(&self, at: &InstructionPlace, kind: &str) -> String {
        match &self.diagnostic.program {
            Some(program) if *program == at.function => format!("instruction {}", at.slot),
            _ => format!("instruction {} of {kind}`{}`", at.slot, printable(&at.function)),
        }
    }

    fn line(&mut self, text: fmt::Arguments<'_>) {
        // Writing to a string does not fail.
        let _ = writeln!(self.text, "{text}");
    }
}

/// `file:line:column`, as far as they are known.
pub(super) fn at(place: &SourcePlace) -> String {
    let file = printable(&place.file);
    match place.column {
        0 => format!("{file}:{}", place.line),
        column => format!("{file}:{}:{column}", place.line),
    }
}

impl fmt::Display for Diagnostic {
    /// As people read it, without colours.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&render(self, &Palette::PLAIN))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Code, Known};

    fn place(line: u32, column: u32, text: &str) -> SourcePlace {
        SourcePlace {
            file: "f.c".into(),
            line,
            column,
            text: text.into(),
        }
    }

    fn instruction(function: &str, slot: u32, text: &str) -> InstructionPlace {
        InstructionPlace {
            function: function.into(),
            slot,
            text: text.into(),
        }
    }

    /// A problem with everything that one can have.
    fn full() -> Diagnostic {
        let step = |place: Option<SourcePlace>, slot, function: &str, text: &str, what: &str| PathStep {
            place,
            instruction: instruction(function, slot, text),
            what: what.into(),
        };
        let known = |register: &str, holds: &str| Known {
            register: register.into(),
            holds: holds.into(),
        };
        let mut elsewhere = place(3, 9, "if (x)");
        elsewhere.file = "g.h".into();
        Diagnostic {
            file: Some("f.o".into()),
            program: Some("f".into()),
            place: Some(place(112, 9, "\treturn *p;")),
            instruction: Some(instruction("f", 9, "r0 = *(u8 *)(r1 + 0x0)")),
            registers: vec![known("r1", "the packet"), known("r10", "the stack")],
            path: vec![
                step(Some(place(8, 5, "    if (a && b)")), 1, "f", "", "not taken"),
                step(
                    Some(place(8, 14, "    if (a && b)")),
                    2,
                    "f",
                    "",
                    "taken, on to line 30",
                ),
                step(Some(place(30, 0, "    g(x);")), 4, "f", "", "calls `g`"),
                step(Some(elsewhere), 0, "g", "", "taken"),
                step(None, 5, "f", "if r1 == 0x0 goto +0x2", "taken"),
            ],
            notes: vec!["it is so".into()],
            help: Some("compare it first".into()),
            ..Diagnostic::new(Code::BPF2001, "program `f` is rejected")
        }
    }

    #[test]
    fn shows_source_line_instruction_registers_way_and_help() {
        let expected = "error[BPF2001]: program `f` is rejected
   --> f.c:112:9
    |
112 |     return *p;
    |            ^
    = in: f.o
    = note: at instruction 9: r0 = *(u8 *)(r1 + 0x0)
    = known: r1   the packet
             r10  the stack
    = note: the way there:
   ::: f.c:8:5
  8 |     if (a && b)
    |     ^ instruction 1: not taken
    |              ^ instruction 2: taken, on to line 30
 30 |     g(x);
    | instruction 4: calls `g`
   ::: g.h:3:9
  3 | if (x)
    |       ^ instruction 0 of `g`: taken
    | instruction 5: if r1 == 0x0 goto +0x2: taken
    = note: it is so
    = help: compare it first
";
        assert_eq!(full().to_string(), expected);
    }

    #[test]
    fn without_its_text_only_the_place_of_a_line_is_shown() {
        let mut diagnostic = full();
        diagnostic.place = Some(place(112, 9, ""));
        diagnostic.path.clear();
        let text = diagnostic.to_string();
        assert!(
            text.starts_with("error[BPF2001]: program `f` is rejected\n   --> f.c:112:9\n    = in: f.o\n"),
            "{text}"
        );
    }

    #[test]
    fn colours_change_nothing_but_colours() {
        let colored = render(&full(), &Palette::COLOR);
        assert!(colored.contains('\u{1b}'));
        assert_eq!(anstream::adapter::strip_str(&colored).to_string(), full().to_string());
    }

    #[test]
    fn nothing_of_a_file_drives_the_terminal() {
        let evil = "a\u{1b}[2J\u{202e}\n";
        let mut diagnostic = full();
        diagnostic.message = evil.into();
        diagnostic.file = Some(evil.into());
        diagnostic.program = None;
        diagnostic.notes = vec![evil.into()];
        diagnostic.help = Some(evil.into());
        for place in [&mut diagnostic.place, &mut diagnostic.path[0].place]
            .into_iter()
            .flatten()
        {
            place.file = evil.into();
            place.text = evil.into();
        }
        for at in [
            diagnostic.instruction.as_mut().unwrap(),
            &mut diagnostic.path[4].instruction,
        ] {
            at.function = evil.into();
            at.text = evil.into();
        }
        diagnostic.registers[0].holds = evil.into();
        diagnostic.path[0].what = evil.into();
        let lines = full().to_string().lines().count();
        let text = diagnostic.to_string();
        assert!(!text.contains(['\u{1b}', '\u{202e}']), "{text}");
        // The first step is in another file than the second one now, which is one more place and one more source line.
        assert_eq!(text.lines().count(), lines + 2, "{text}");
    }
}
