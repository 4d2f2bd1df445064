//! Printing results to standard output, and work on several inputs at once.

use std::io::{self, ErrorKind as IoErrorKind, Write};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::reporter::{Record, Reporter};
use crate::messages::printable;
use crate::{Diagnostic, Error, ErrorKind};

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
    /// What is no error.
    pub warnings: Vec<Diagnostic>,
}

/// Does `work` on every input (with its index), several at a time, and reports what came of each in the order of the
/// inputs. The status is the highest of all.
pub(super) fn for_each_input(
    reporter: &mut Reporter,
    inputs: &[PathBuf],
    verb: &str,
    work: impl Fn(usize, &Path) -> Result<Done, Error> + Sync,
) -> Result<u8, Error> {
    let next = AtomicUsize::new(0);
    let progress = progress(reporter, inputs.len(), verb);
    let results: Vec<Mutex<Option<Result<Done, Error>>>> = inputs.iter().map(|_| Mutex::new(None)).collect();
    // Asking for the number of processors reads several files: not worth it for one input.
    let workers = match inputs.len() {
        1 => 1,
        count => thread::available_parallelism().map_or(1, usize::from).min(count),
    };
    let worker = || {
        loop {
            let index = next.fetch_add(1, Ordering::Relaxed);
            let Some(input) = inputs.get(index) else { break };
            let result = work(index, input);
            progress.inc(1);
            if let Ok(mut slot) = results[index].lock() {
                *slot = Some(result);
            }
        }
    };
    if workers <= 1 {
        worker();
    } else {
        thread::scope(|scope| {
            for _ in 0..workers {
                scope.spawn(worker);
            }
        });
    }
    progress.finish_and_clear();
    let mut status = 0;
    for (input, result) in inputs.iter().zip(results) {
        match result.into_inner().ok().flatten() {
            Some(Ok(done)) => {
                reporter.tell(done.warnings, Some(input));
                reporter.result(input, &done.text, done.record.as_ref())?;
            }
            Some(Err(error)) => status = status.max(reporter.fail(&error, input)),
            None => return Err(ErrorKind::Internal(format!("`{}` was not worked on", input.display())).into()),
        }
    }
    Ok(status)
}

/// A progress line on standard error; none where that is no terminal, or where a machine reads it. It shows up only when
/// work takes long enough for a person to wonder.
fn progress(reporter: &Reporter, inputs: usize, verb: &str) -> ProgressBar {
    if !reporter.allows_progress() {
        return ProgressBar::hidden();
    }
    let bar = ProgressBar::with_draw_target(Some(inputs as u64), ProgressDrawTarget::stderr_with_hz(5));
    if let Ok(style) = ProgressStyle::with_template("{spinner} {msg} {pos}/{len} {wide_bar} {elapsed}") {
        bar.set_style(style);
    }
    bar.set_message(verb.to_owned());
    if !bar.is_hidden() {
        bar.enable_steady_tick(Duration::from_millis(200));
    }
    bar
}
