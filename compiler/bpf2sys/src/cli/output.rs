//! Printing: results to standard output, problems to standard error, and work on several inputs at once.

use std::io::{self, ErrorKind as IoErrorKind, Write};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::diagnostic::printable;
use crate::{Error, ErrorKind};

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
    match out.write_all(bytes).and_then(|()| out.flush()) {
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

/// Prints what an error says to standard error.
pub(super) fn report(error: &Error, input: Option<&Path>) {
    let mut text = String::new();
    for diagnostic in error.diagnostics() {
        let diagnostic = match input {
            Some(path) => diagnostic.in_file(&path.display().to_string()),
            None => diagnostic,
        };
        text += &diagnostic.to_string();
    }
    // If standard error is gone there is nobody to tell.
    let _ = io::stderr().lock().write_all(text.as_bytes());
}

/// Reports an error about one input, and gives its exit status.
pub(super) fn fail(error: &Error, input: &Path) -> u8 {
    report(error, Some(input));
    error.exit_status()
}

/// Does `work` on every input (with its index), several at a time, and gives what each printed or how it failed in the order of the
/// inputs: results go to standard output, errors to standard error. The status is the highest of all.
pub(super) fn for_each_input(
    inputs: &[PathBuf],
    verb: &str,
    work: impl Fn(usize, &Path) -> Result<String, Error> + Sync,
) -> Result<u8, Error> {
    let next = AtomicUsize::new(0);
    let progress = progress(inputs.len(), verb);
    let results: Vec<Mutex<Option<Result<String, Error>>>> = inputs.iter().map(|_| Mutex::new(None)).collect();
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
            Some(Ok(text)) => print(&text)?,
            Some(Err(error)) => status = status.max(fail(&error, input)),
            None => return Err(ErrorKind::Internal(format!("`{}` was not worked on", input.display())).into()),
        }
    }
    Ok(status)
}

/// A progress line on standard error; none where that is no terminal. It shows up only when work takes long enough for
/// a person to wonder.
fn progress(inputs: usize, verb: &str) -> ProgressBar {
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
