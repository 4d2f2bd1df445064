//! The `cargo-bpf2sys` executable, which cargo runs as `cargo bpf2sys`: it starts the `bpf2sys` that lies beside it, or that is on
//! the `PATH`, so that there is one copy of the compiler.

use std::path::PathBuf;
use std::process::{Command, ExitCode};

fn main() -> ExitCode {
    let name = format!("bpf2sys{}", std::env::consts::EXE_SUFFIX);
    let beside = std::env::current_exe()
        .map(|this| this.with_file_name(&name))
        .ok()
        .filter(|tool| tool.is_file());
    let tool = beside.unwrap_or_else(|| PathBuf::from(&name));
    let mut command = Command::new(&tool);
    command.arg("cargo").args(std::env::args_os().skip(1));
    let problem = match run(&mut command) {
        Ok(status) => return status,
        Err(problem) => problem,
    };
    eprintln!(
        "error: can't run {}, which cargo-bpf2sys starts: {problem}",
        tool.display()
    );
    ExitCode::FAILURE
}

/// Becomes the program: signals reach it, and its exit is this one's.
#[cfg(unix)]
fn run(command: &mut Command) -> std::io::Result<ExitCode> {
    use std::os::unix::process::CommandExt;

    Err(command.exec())
}

/// Runs the program; its exit is this one's.
#[cfg(not(unix))]
fn run(command: &mut Command) -> std::io::Result<ExitCode> {
    let status = command.status()?;
    let status = status.code().and_then(|code| u8::try_from(code).ok());
    Ok(status.map_or(ExitCode::FAILURE, ExitCode::from))
}
