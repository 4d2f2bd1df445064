//! The options that say how problems are told.

use std::ffi::{OsStr, OsString};

use clap::{ColorChoice, ValueEnum};

/// Options of all subcommands.
#[derive(Clone, Copy, Debug, clap::Args)]
pub(super) struct MessageOptions {
    /// How problems are told
    ///
    /// `json` and `sarif` are for machines: `build`, `verify` and `sign` then print nothing else to standard output. Subcommands
    /// whose standard output has other data print them to standard error, and so does `build -o -`. All other forms go to
    /// standard error.
    #[arg(long, global = true, value_name = "FORM", default_value = "human")]
    pub message_format: MessageFormat,

    /// When to use colours: `auto` is on terminals, unless `NO_COLOR` or `CLICOLOR_FORCE` in the environment says
    /// otherwise
    #[arg(long, global = true, value_name = "WHEN", default_value = "auto")]
    pub color: ColorChoice,
}

/// `--message-format`
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum MessageFormat {
    /// With source line, instruction, what was known, and help
    Human,
    /// One line each
    Short,
    /// One line each, as `MSBuild` and Visual Studio recognize them
    Msbuild,
    /// One JSON object per line, results too
    Json,
    /// A SARIF 2.1.0 log
    Sarif,
}

impl MessageFormat {
    /// Whether it is one document or stream that nothing else may be in.
    pub(super) fn is_exclusive(self) -> bool {
        matches!(self, MessageFormat::Json | MessageFormat::Sarif)
    }
}

/// What can be seen of a command line before it is parsed: enough to tell what is wrong with it in the form that it asks
/// for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Early<'a> {
    /// The options, or their defaults.
    pub options: MessageOptions,
    /// The first word that is no option: the subcommand, if there is one.
    pub subcommand: Option<&'a str>,
}

impl<'a> Early<'a> {
    /// Looks at the arguments behind the tool's name.
    pub(super) fn of(arguments: &'a [OsString]) -> Early<'a> {
        let mut early = Early {
            options: MessageOptions {
                message_format: MessageFormat::Human,
                color: ColorChoice::Auto,
            },
            subcommand: None,
        };
        let mut words = arguments.iter().map(OsString::as_os_str).filter_map(OsStr::to_str);
        while let Some(word) = words.next().filter(|word| *word != "--") {
            let (name, value) = match word.split_once('=') {
                Some((name, value)) => (name, Some(value)),
                None => (word, None),
            };
            match name {
                "--message-format" => {
                    let value = value.or_else(|| words.next()).unwrap_or_default();
                    if let Ok(form) = MessageFormat::from_str(value, false) {
                        early.options.message_format = form;
                    }
                }
                "--color" => {
                    let value = value.or_else(|| words.next()).unwrap_or_default();
                    if let Ok(color) = ColorChoice::from_str(value, false) {
                        early.options.color = color;
                    }
                }
                _ if !word.starts_with('-') => {
                    early.subcommand.get_or_insert(word);
                }
                _ => {}
            }
        }
        early
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn early(line: &str) -> (MessageFormat, ColorChoice, Option<String>) {
        let words: Vec<OsString> = line.split_whitespace().map(OsString::from).collect();
        let early = Early::of(&words);
        let options = early.options;
        (
            options.message_format,
            options.color,
            early.subcommand.map(str::to_owned),
        )
    }

    #[test]
    fn the_form_is_seen_wherever_it_is_given() {
        let expected = (MessageFormat::Json, ColorChoice::Auto, Some("verify".to_owned()));
        for line in [
            "verify --message-format json a.o",
            "--message-format=json verify --bad",
            "--message-format json verify",
            "verify --quiet a.o --message-format=json",
        ] {
            assert_eq!(early(line), expected, "{line}");
        }
    }

    #[test]
    fn what_is_not_understood_is_left_to_the_parser() {
        let human = |subcommand: Option<&str>| (MessageFormat::Human, ColorChoice::Auto, subcommand.map(str::to_owned));
        assert_eq!(early(""), human(None));
        assert_eq!(early("verify --message-format"), human(Some("verify")));
        assert_eq!(early("verify --message-format xml"), human(Some("verify")));
        assert_eq!(early("verify -- --message-format json"), human(Some("verify")));
    }
}
