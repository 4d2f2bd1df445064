//! Printing results to standard output, and work on several inputs at once.

use std::io::{self, ErrorKind as IoErrorKind, Write};
use std::mem;
use std::path::{Path, PathBuf};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::reporter::{Record, Reporter};
use super::work::in_order;
use crate::messages::printable;
use crate::{CompilerOutput, Diagnostic, Error, ErrorKind};

/// Prints lines to standard output. A reader that went away (`| head`) is no failure. Control characters that a file
/// brought in are shown as escapes.
pub(super) fn print(text: &str) -> Result<(), Error> {
    let lines = text.split_inclusive('\n').map(|line| match line.strip_suffix('\n') {
        Some(line) => printable(line) + "\n",
        None => printable(line),
    });
    print_bytes(lines.collect::<String>().as_bytes())
}

/// Writes bytes to standard output, as [`print`] does with text.
pub(super) fn print_bytes(bytes: &[u8]) -> Result<(), Error> {
    let mut out = io::stdout().lock();
    written(out.write_all(bytes).and_then(|()| out.flush()))
}

/// What became of writing to standard output. A reader that went away (`| head`) is no failure.
pub(super) fn written(result: io::Result<()>) -> Result<(), Error> {
    match result {
        Err(source) if source.kind() != IoErrorKind::BrokenPipe => Err(ErrorKind::WriteFile {
            path: PathBuf::from("standard output"),
            source,
        }
        .into()),
        _ => Ok(()),
    }
}

/// Prints a value as JSON, indented, with a line end.
pub(super) fn print_json(value: &impl serde::Serialize) -> Result<(), Error> {
    let text = serde_json::to_string_pretty(value).map_err(|e| ErrorKind::Internal(e.to_string()))?;
    print_bytes((text + "\n").as_bytes())
}

/// What came of an input.
#[derive(Debug, Default)]
pub(super) struct Done {
    /// The result, for people.
    pub text: String,
    /// The result, for machines.
    pub record: Option<Record>,
    /// Whether the result is not told.
    pub quiet: bool,
    /// What is no error.
    pub warnings: Vec<Diagnostic>,
    /// What the compiler of a C source said.
    pub said: CompilerOutput,
    /// Files that were read for it.
    pub reads: Vec<PathBuf>,
}

/// What came of all inputs.
#[derive(Debug)]
pub(super) struct Batch {
    /// The highest status that any of them gave.
    pub status: u8,
    /// What came of each; its status where that is an error.
    pub results: Vec<Result<Done, u8>>,
}

/// How inputs are worked on.
#[derive(Clone, Copy, Debug)]
pub(super) struct Work<'a> {
    /// What is done, for the progress line.
    pub verb: &'a str,
    /// How many are worked on at once; as many as there are processors if it is not given.
    pub jobs: Option<usize>,
}

/// Does `work` on every input (with its index), several at a time, and reports what came of each in the order of the
/// inputs, as soon as all before it are done.
pub(super) fn for_each_input(
    reporter: &mut Reporter,
    inputs: &[PathBuf],
    how: Work<'_>,
    work: impl Fn(usize, &Path) -> Result<Done, Error> + Sync,
) -> Result<Batch, Error> {
    let progress = progress(reporter, inputs.len() as u64, how.verb);
    let mut batch = Batch {
        status: 0,
        results: Vec::with_capacity(inputs.len()),
    };
    let one = |index: usize| {
        let result = work(index, &inputs[index]);
        progress.inc(1);
        result
    };
    in_order(inputs.len(), how.jobs, one, |_, result| {
        // What is printed goes above the progress line.
        progress.suspend(|| tell(reporter, inputs, result, &mut batch))
    })?;
    progress.finish_and_clear();
    Ok(batch)
}

/// Tells what came of the next input.
fn tell(
    reporter: &mut Reporter,
    inputs: &[PathBuf],
    result: Result<Done, Error>,
    batch: &mut Batch,
) -> Result<(), Error> {
    let input = &inputs[batch.results.len()];
    let result = match result {
        Ok(mut done) => {
            reporter.compiler_output(&done.said, input);
            reporter.tell(mem::take(&mut done.warnings), Some(input));
            if !done.quiet {
                reporter.result(input, &done.text, done.record.as_ref())?;
            }
            done.text = String::new();
            Ok(done)
        }
        Err(error) => Err(reporter.fail(&error, input)),
    };
    if let Err(status) = result {
        batch.status = batch.status.max(status);
    }
    batch.results.push(result);
    Ok(())
}

/// The line that tells how far work is of which nobody knows how much there is.
pub(super) fn endless_progress(reporter: &Reporter, verb: &str) -> ProgressBar {
    if !reporter.allows_progress() {
        return ProgressBar::hidden();
    }
    let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr_with_hz(5));
    if let Ok(style) = ProgressStyle::with_template("{spinner} {msg} {human_pos} {elapsed}") {
        bar.set_style(style);
    }
    bar.with_message(verb.to_owned())
}

/// A progress line on standard error; none where that is no terminal, or where a machine reads it. It shows up only when
/// work takes long enough for a person to wonder.
pub(super) fn progress(reporter: &Reporter, inputs: u64, verb: &str) -> ProgressBar {
    if !reporter.allows_progress() {
        return ProgressBar::hidden();
    }
    let bar = ProgressBar::with_draw_target(Some(inputs), ProgressDrawTarget::stderr_with_hz(5));
    if let Ok(style) = ProgressStyle::with_template("{spinner} {msg} {pos}/{len} {wide_bar} {elapsed}") {
        bar.set_style(style);
    }
    bar.set_message(verb.to_owned());
    if !bar.is_hidden() {
        bar.enable_steady_tick(Duration::from_millis(200));
    }
    bar
}
