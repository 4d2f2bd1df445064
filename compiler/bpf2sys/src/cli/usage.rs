//! What is wrong with a command line, as a problem like others.

use clap::error::ErrorKind;

use crate::{Code, Diagnostic};

/// The problem that the parser of command lines found. Its text has paragraphs: what is wrong, tips, the usage.
pub(super) fn diagnostic(error: &clap::Error) -> Diagnostic {
    if error.kind() == ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand {
        let message = "the command line does not say what to do";
        return Diagnostic {
            help: Some("`bpf2sys --help` lists the subcommands".to_owned()),
            ..Diagnostic::new(Code::BPF9005, message)
        };
    }
    let text = error.render().to_string();
    let mut paragraphs = text.trim_end().split("\n\n").map(one_line);
    let first = paragraphs.next().unwrap_or_default();
    let mut diagnostic = Diagnostic::new(Code::BPF9005, first.strip_prefix("error: ").unwrap_or(&first));
    for paragraph in paragraphs {
        if let Some(tip) = paragraph.strip_prefix("tip: ") {
            diagnostic.help.get_or_insert_with(|| tip.to_owned());
        } else if paragraph.starts_with("Usage: ") {
            diagnostic.notes.push(paragraph);
        }
    }
    diagnostic
}

/// The words of a paragraph, with one space between.
fn one_line(paragraph: &str) -> String {
    paragraph.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;
    use crate::cli::Arguments;

    fn told(line: &str) -> Diagnostic {
        let words = line.split_whitespace();
        diagnostic(&Arguments::command().try_get_matches_from(words).unwrap_err())
    }

    #[test]
    fn says_what_is_wrong_what_to_do_and_how_it_is_used() {
        let unknown = told("bpf2sys verify a.o --time-limits 3");
        assert_eq!(unknown.message, "unexpected argument '--time-limits' found");
        assert_eq!(unknown.help.unwrap(), "a similar argument exists: '--time-limit'");
        assert!(
            unknown.notes[0].starts_with("Usage: bpf2sys verify"),
            "{:?}",
            unknown.notes
        );
        let missing = told("bpf2sys verify");
        assert_eq!(
            missing.message,
            "the following required arguments were not provided: <INPUT>..."
        );
        assert!(told("bpf2sys").help.unwrap().contains("--help"));
    }
}
