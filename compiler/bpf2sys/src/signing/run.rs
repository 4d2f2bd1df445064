//! Running a command that signs, within limits.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use super::CommandError;

/// How much of what a command prints is shown, in bytes from its end.
const SHOWN: u64 = 2000;

/// Runs a program until it ends; gives the end of what it printed. It is no shell, gets no input, and is stopped when its time is
/// over. What it prints goes to a file in `folder`, so that it never waits for a reader.
pub(super) fn run(program: &str, arguments: &[String], folder: &Path, limit: Duration) -> Result<String, CommandError> {
    let mut printed = File::options()
        .create_new(true)
        .read(true)
        .append(true)
        .open(folder.join("printed"))?;
    let mut command = Command::new(program);
    command
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(printed.try_clone()?)
        .stderr(printed.try_clone()?);
    let mut child = command.spawn().map_err(|error| CommandError::Start {
        program: program.to_owned(),
        reason: reason(&error, cfg!(windows)),
    })?;
    let end = Instant::now() + limit;
    let mut pause = Duration::from_millis(1);
    let status = loop {
        match child.try_wait()? {
            Some(status) => break Some(status),
            None if Instant::now() >= end => {
                // It may have ended by itself in between, which is no failure of stopping it.
                let _ = child.kill();
                child.wait()?;
                break None;
            }
            None => {
                thread::sleep(pause);
                pause = (pause * 2).min(Duration::from_millis(50));
            }
        }
    };
    let output = last_part(&mut printed)?;
    let program = program.to_owned();
    match status {
        Some(status) if status.success() => Ok(output),
        Some(status) => Err(CommandError::Failed {
            program,
            status: status.to_string(),
            output,
        }),
        None => Err(CommandError::TimeOut { program, limit, output }),
    }
}

/// Why a program was not started.
fn reason(error: &io::Error, windows: bool) -> String {
    match error.kind() {
        // A shell there finds them without, and so people write them.
        io::ErrorKind::NotFound if windows => {
            format!("{error}; if it is a batch file, write its `.cmd` or `.bat`, too")
        }
        _ => error.to_string(),
    }
}

/// The end of what was printed, in one line.
fn last_part(printed: &mut File) -> Result<String, CommandError> {
    let length = printed.seek(SeekFrom::End(0))?;
    printed.seek(SeekFrom::Start(length.saturating_sub(SHOWN)))?;
    let mut bytes = Vec::new();
    printed.take(SHOWN).read_to_end(&mut bytes)?;
    let text = String::from_utf8_lossy(&bytes);
    let lines: Vec<&str> = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    Ok(lines.join(" / "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn where_batch_files_are_a_missing_program_may_be_one() {
        let (missing, denied) = (io::ErrorKind::NotFound.into(), io::ErrorKind::PermissionDenied.into());
        assert!(reason(&missing, true).ends_with("`.cmd` or `.bat`, too"));
        assert!(!reason(&missing, false).contains(".cmd"));
        assert!(!reason(&denied, true).contains(".cmd"));
    }
}
