//! `bpf2sys explain`: the catalogue of codes.

use std::fmt::Write;

use super::Outcome;
use super::reporter::Reporter;
use crate::{Code, ErrorKind, UnknownCode};

/// Tell at length what a code means, with an example and what to do.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  bpf2sys explain BPF2001
  bpf2sys explain 2001
  bpf2sys explain --list                           all codes, with a line for each")]
pub(super) struct Arguments {
    /// The code, as in `error[BPF2001]`; case and `BPF` do not matter
    #[arg(value_name = "CODE", required_unless_present = "list")]
    code: Option<String>,

    /// List all codes
    #[arg(long, conflicts_with = "code")]
    list: bool,
}

pub(super) fn run(arguments: &Arguments, reporter: &Reporter) -> Outcome {
    let text = match &arguments.code {
        Some(text) => {
            let code: Code = (text.parse()).map_err(|unknown| ErrorKind::Usage(no_code(text, &unknown)))?;
            code.plain_page(reporter.heading_on_stdout())
        }
        None => list(),
    };
    reporter.print_styled(&text).map(|()| 0)
}

fn no_code(text: &str, unknown: &UnknownCode) -> String {
    let near: Vec<&str> = unknown.near.iter().map(|code| code.name()).collect();
    match near.as_slice() {
        [] => format!("`{text}` is no code; `bpf2sys explain --list` lists all"),
        near => format!("`{text}` is no code; near it are {}", near.join(", ")),
    }
}

/// A line for each code, under the name of its family.
fn list() -> String {
    let mut text = String::new();
    let mut family = "";
    for code in Code::ALL {
        if code.family() != family {
            if !family.is_empty() {
                text.push('\n');
            }
            family = code.family();
            let _ = writeln!(text, "{family}:");
        }
        let _ = writeln!(text, "  {code}  {}", code.title());
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_is_listed_once() {
        let list = list();
        for code in Code::ALL {
            assert_eq!(list.matches(code.name()).count(), 1, "{code}");
        }
        assert_eq!(list.matches("Programs that break a rule:").count(), 1);
    }
}
