//! Where problems and results go, in the form that `--message-format` asks for.
//!
//! The forms for people and those of one line go to standard error, while results go to standard output. `json` and
//! `sarif` are one stream or document: where standard output has nothing else to carry they go there, with the results in
//! them; else to standard error.

use std::io::{self, ErrorKind as IoErrorKind, Write};
use std::path::{Path, PathBuf};

use anstream::{AutoStream, ColorChoice};
use anstyle::Style;

use super::messages::{MessageFormat, MessageOptions};
use super::output;
use crate::messages::human::{self, Palette};
use crate::messages::json::{Built, Message, Signed, Verified};
use crate::messages::{Count, msbuild, sarif, short};
use crate::{CompileError, CompilerOutput, Diagnostic, Error, ErrorKind};

/// A standard stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stream {
    /// Standard output.
    Output,
    /// Standard error.
    Error,
}

/// What came of an input that nothing is wrong with.
#[derive(Clone, Debug)]
pub(super) enum Record {
    /// It was verified.
    Verified(Verified),
    /// It was built.
    Built(Built),
    /// It was signed, or its signatures were removed.
    Signed(Signed),
}

/// Tells problems and results of one run of the tool.
#[derive(Debug)]
pub(super) struct Reporter {
    form: MessageFormat,
    color: ColorChoice,
    /// Where `json` and `sarif` go.
    stream: Stream,
    count: Count,
    /// For a log that is written at the end: what was told, and of which inputs.
    told: Vec<Diagnostic>,
    inputs: Vec<String>,
    /// Why the stream did not take everything.
    failure: Option<io::Error>,
}

impl Reporter {
    /// One that has told nothing. `stream` is where forms go that must be alone there.
    pub(super) fn new(options: MessageOptions, stream: Stream) -> Reporter {
        Reporter {
            form: options.message_format,
            color: match options.color {
                clap::ColorChoice::Auto => ColorChoice::Auto,
                clap::ColorChoice::Always => ColorChoice::Always,
                clap::ColorChoice::Never => ColorChoice::Never,
            },
            stream,
            count: Count::default(),
            told: Vec::new(),
            inputs: Vec::new(),
            failure: None,
        }
    }

    /// One that keeps what it is told of, and prints nothing unless it is ended.
    pub(super) fn silent() -> Reporter {
        let options = MessageOptions {
            message_format: MessageFormat::Sarif,
            color: clap::ColorChoice::Never,
        };
        Reporter::new(options, Stream::Error)
    }

    /// What it was told of.
    pub(super) fn into_told(self) -> Vec<Diagnostic> {
        self.told
    }

    /// Whether a line on standard error that changes while work is done disturbs nobody.
    pub(super) fn allows_progress(&self) -> bool {
        self.is_for_people()
    }

    /// Tells an error about one input, and gives its exit status.
    pub(super) fn fail(&mut self, error: &Error, input: &Path) -> u8 {
        self.report(error, Some(input));
        error.exit_status()
    }

    /// Tells an error.
    pub(super) fn report(&mut self, error: &Error, input: Option<&Path>) {
        if let ErrorKind::Compile(refused @ CompileError::Refused { output, .. }) = error.kind()
            && self.is_for_people()
        {
            to_stderr(&output.to_string(), ColorChoice::AlwaysAnsi);
            return self.tell(vec![crate::diagnose::refused(refused)], input);
        }
        self.tell(error.diagnostics(), input);
    }

    /// Tells what the compiler of a C source said although it made an object: to people, as it said it.
    pub(super) fn compiler_output(&mut self, output: &CompilerOutput, input: &Path) {
        if self.is_for_people() {
            to_stderr(&output.to_string(), ColorChoice::AlwaysAnsi);
        } else {
            self.tell(output.diagnostics(), Some(input));
        }
    }

    /// Whether problems are told in a form that only people read.
    fn is_for_people(&self) -> bool {
        matches!(self.form, MessageFormat::Human | MessageFormat::Short)
    }

    /// Whether problems are told in colours.
    pub(super) fn has_colors(&self) -> bool {
        self.form == MessageFormat::Human && self.palette(&io::stderr()).1 != ColorChoice::Never
    }

    /// Tells problems, found in this input if they do not say where.
    pub(super) fn tell(&mut self, diagnostics: Vec<Diagnostic>, input: Option<&Path>) {
        self.inputs.extend(input.map(|path| path.display().to_string()));
        for diagnostic in diagnostics {
            let diagnostic = match input {
                Some(path) => diagnostic.in_file(&path.display().to_string()),
                None => diagnostic,
            };
            self.count.add(&diagnostic);
            match self.form {
                MessageFormat::Human => {
                    let (palette, choice) = self.palette(&io::stderr());
                    to_stderr(&human::render(&diagnostic, &palette), choice);
                }
                MessageFormat::Short => to_stderr(&short(&diagnostic), ColorChoice::Never),
                MessageFormat::Msbuild => to_stderr(&msbuild(&diagnostic), ColorChoice::Never),
                MessageFormat::Json => self.line(&Message::problem(&diagnostic)),
                MessageFormat::Sarif => self.told.push(diagnostic),
            }
        }
    }

    /// Tells what came of an input: `text` is for people.
    pub(super) fn result(&mut self, input: &Path, text: &str, record: Option<&Record>) -> Result<(), Error> {
        match (self.form, record) {
            (MessageFormat::Json, Some(Record::Verified(verified))) => self.line(&Message::Verified(verified)),
            (MessageFormat::Json, Some(Record::Built(built))) => self.line(&Message::Built(built)),
            (MessageFormat::Json, Some(Record::Signed(signed))) => self.line(&Message::Signed(signed)),
            _ => {}
        }
        self.inputs.push(input.display().to_string());
        if self.form.is_exclusive() {
            Ok(())
        } else {
            output::print(text)
        }
    }

    /// Prints a line about all inputs, for people.
    pub(super) fn note(&self, text: &str) -> Result<(), Error> {
        if self.form.is_exclusive() {
            return Ok(());
        }
        output::print(text)
    }

    /// Ends the run: what is told last. Gives the exit status.
    pub(super) fn finish(mut self, status: u8) -> u8 {
        match self.form {
            MessageFormat::Human => {
                let (palette, choice) = self.palette(&io::stderr());
                if let Some(summary) = human::summary(&self.count, &palette) {
                    to_stderr(&summary, choice);
                }
            }
            MessageFormat::Short | MessageFormat::Msbuild => {}
            MessageFormat::Json => self.line(&Message::finished(status, &self.count)),
            MessageFormat::Sarif => match sarif::log(&self.told, &self.inputs, status) {
                Ok(log) => self.write(&log),
                Err(error) => self.failure = Some(error.into()),
            },
        }
        let Some(source) = self.failure else { return status };
        let error = Error::from(ErrorKind::WriteFile {
            path: PathBuf::from("standard output"),
            source,
        });
        for diagnostic in error.diagnostics() {
            to_stderr(&diagnostic.to_string(), ColorChoice::Never);
        }
        error.exit_status()
    }

    /// The style of headings on standard output.
    pub(super) fn heading_on_stdout(&self) -> Style {
        self.palette(&io::stdout()).0.heading()
    }

    /// Prints text with styles to standard output. A reader that went away is no failure.
    pub(super) fn print_styled(&self, text: &str) -> Result<(), Error> {
        let (_, choice) = self.palette(&io::stdout());
        let mut out = AutoStream::new(io::stdout().lock(), choice);
        output::written(out.write_all(text.as_bytes()).and_then(|()| out.flush()))
    }

    /// The colours for a stream, and how they get there.
    fn palette<S: anstream::stream::RawStream>(&self, stream: &S) -> (Palette, ColorChoice) {
        let choice = match self.color {
            ColorChoice::Auto => AutoStream::choice(stream),
            choice => choice,
        };
        match choice {
            ColorChoice::Never => (Palette::PLAIN, choice),
            _ => (Palette::COLOR, choice),
        }
    }

    fn line(&mut self, message: &Message<'_>) {
        match message.line() {
            Ok(line) => self.write(&line),
            Err(error) => self.failure = Some(error.into()),
        }
    }

    /// Writes to the stream of the exclusive forms.
    fn write(&mut self, text: &str) {
        match self.stream {
            Stream::Error => to_stderr(text, ColorChoice::AlwaysAnsi),
            Stream::Output => {
                let mut out = io::stdout().lock();
                match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
                    Err(source) if source.kind() != IoErrorKind::BrokenPipe => self.failure = Some(source),
                    _ => {}
                }
            }
        }
    }
}

/// Writes to standard error. If that is gone there is nobody to tell.
fn to_stderr(text: &str, choice: ColorChoice) {
    let mut out = AutoStream::new(io::stderr().lock(), choice);
    let _ = out.write_all(text.as_bytes());
}
