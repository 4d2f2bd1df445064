//! The forms of one line for a problem.

use std::borrow::Cow;
use std::fmt::Write;

use super::{human, printable, severity_name};
use crate::{Diagnostic, SourcePlace};

/// `file:line:column: error[CODE]: message`, as `cargo --message-format short` has it.
pub(crate) fn short(diagnostic: &Diagnostic) -> String {
    let place = match (&diagnostic.place, &diagnostic.file) {
        (Some(place), _) => human::at(place) + ": ",
        (None, Some(file)) => printable(file) + ": ",
        (None, None) => String::new(),
    };
    let (severity, code) = (severity_name(diagnostic.severity), diagnostic.code);
    format!("{place}{severity}[{code}]: {}\n", printable(&diagnostic.message))
}

/// `file(line,column): error CODE: text`: the form of which `MSBuild` and Visual Studio make entries of their error list
/// (`MSBuild` documentation, "Format for diagnostic messages"). Where no file is known, the tool is the origin.
///
/// The list shows nothing but this line, so the text says what to do, too.
pub(crate) fn msbuild(diagnostic: &Diagnostic) -> String {
    let (origin, before) = origin(diagnostic);
    let (severity, code) = (severity_name(diagnostic.severity), diagnostic.code);
    let mut text = before + &printable(&diagnostic.message);
    // Writing to a string does not fail.
    if let Some(at) = &diagnostic.instruction {
        let _ = write!(
            text,
            " (instruction {} of `{}`: {})",
            at.slot,
            printable(&at.function),
            printable(&at.text)
        );
    }
    if let Some(help) = &diagnostic.help {
        let _ = write!(text, "; {}", printable(help));
    }
    format!("{origin}: {severity} {code}: {text}\n")
}

/// The origin of a problem, and what the text must begin with because the origin can't say it: a colon ends an origin,
/// but for the one of a drive.
fn origin(diagnostic: &Diagnostic) -> (String, String) {
    let place = |place: &SourcePlace| {
        let file = printable(&place.file);
        match place.column {
            0 => format!("{file}({})", place.line),
            column => format!("{file}({},{column})", place.line),
        }
    };
    let known: Option<Cow<'_, str>> = match (&diagnostic.place, &diagnostic.file) {
        (Some(at), _) => Some(place(at).into()),
        (None, Some(file)) => Some(printable(file).into()),
        (None, None) => None,
    };
    match known {
        None => ("bpf2sys ".to_owned(), String::new()),
        Some(known) if can_be_origin(&known) => (known.into_owned(), String::new()),
        Some(known) => ("bpf2sys ".to_owned(), format!("{known}: ")),
    }
}

fn can_be_origin(text: &str) -> bool {
    let without_drive = match text.as_bytes() {
        [letter, b':', ..] if letter.is_ascii_alphabetic() => &text[2..],
        _ => text,
    };
    !text.trim().is_empty() && !without_drive.contains(':')
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Code, InstructionPlace};

    fn diagnostic(file: &str) -> Diagnostic {
        Diagnostic {
            file: Some("dir/f.o".into()),
            place: Some(SourcePlace {
                file: file.into(),
                line: 12,
                column: 5,
                text: "return *p;".into(),
            }),
            instruction: Some(InstructionPlace {
                function: "f".into(),
                slot: 3,
                text: "r0 = *(u8 *)(r1 + 0x0)".into(),
            }),
            help: Some("compare\nfirst".into()),
            ..Diagnostic::new(Code::BPF2001, "no: error\nat all")
        }
    }

    #[test]
    fn the_short_form_is_one_line() {
        let mut problem = diagnostic("f.c");
        assert_eq!(short(&problem), "f.c:12:5: error[BPF2001]: no: error\\u{a}at all\n");
        problem.place.as_mut().unwrap().column = 0;
        assert_eq!(short(&problem), "f.c:12: error[BPF2001]: no: error\\u{a}at all\n");
        problem.place = None;
        assert_eq!(short(&problem), "dir/f.o: error[BPF2001]: no: error\\u{a}at all\n");
        assert_eq!(short(&Diagnostic::new(Code::BPF2050, "odd")), "warning[BPF2050]: odd\n");
    }

    #[test]
    fn the_msbuild_form_is_one_line_with_everything_that_a_list_can_show() {
        let text = "no: error\\u{a}at all (instruction 3 of `f`: r0 = *(u8 *)(r1 + 0x0)); compare\\u{a}first\n";
        let mut problem = diagnostic("C:\\a b\\f.c");
        assert_eq!(msbuild(&problem), format!("C:\\a b\\f.c(12,5): error BPF2001: {text}"));
        problem.place.as_mut().unwrap().column = 0;
        assert_eq!(msbuild(&problem), format!("C:\\a b\\f.c(12): error BPF2001: {text}"));
        problem.place = None;
        assert_eq!(msbuild(&problem), format!("dir/f.o: error BPF2001: {text}"));
        assert_eq!(
            msbuild(&Diagnostic::new(Code::BPF2050, "odd")),
            "bpf2sys : warning BPF2050: odd\n"
        );
    }

    #[test]
    fn a_file_name_that_would_break_the_msbuild_form_moves_into_the_text() {
        let told = msbuild(&diagnostic("a:b:c.c"));
        assert!(
            told.starts_with("bpf2sys : error BPF2001: a:b:c.c(12,5): no: error"),
            "{told}"
        );
    }
}
