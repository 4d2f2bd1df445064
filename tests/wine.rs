//! Programs for Windows, compiled by mingw and run by Wine (`tests/wine/README.md`).

pub mod drivers;
pub mod host;

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::{Mutex, MutexGuard, PoisonError};

use libtest_mimic::Failed;

use crate::support::{Need, output, root, succeed};

/// What this needs.
pub const NEEDS: [Need; 2] = [Need::Program("wine"), Need::Program(COMPILER)];
const COMPILER: &str = "x86_64-w64-mingw32-gcc";

fn folder() -> &'static Path {
    Path::new(env!("CARGO_TARGET_TMPDIR"))
}

/// Compiles a program of `tests/wine`.
pub fn compile(name: &str) -> Result<PathBuf, Failed> {
    compile_as(name, "exe", &[])
}

/// Compiles a source of `tests/wine` to a file of another kind; the arguments come behind the source.
fn compile_as(name: &str, extension: &str, arguments: &[&str]) -> Result<PathBuf, Failed> {
    let source = root().join("tests/wine").join(name).with_extension("c");
    let path = folder().join(name).with_extension(extension);
    succeed(
        Command::new(COMPILER)
            .args(["-O1", "-Wall", "-Werror", "-o"])
            .arg(&path)
            .arg(source)
            .args(arguments),
    )?;
    Ok(path)
}

/// Runs a program in a prefix of the tests' own, one at a time: two at once cannot make it.
pub fn run(program: &Path, arguments: &[&Path]) -> Result<Output, Failed> {
    let _alone = alone();
    output(wine("wine").arg(program).args(arguments))
}

/// Nothing else of these tests runs in the prefix as long as this is held.
pub fn alone() -> MutexGuard<'static, ()> {
    static WINE: Mutex<()> = Mutex::new(());
    WINE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A command of Wine's, for that prefix.
pub fn wine(command: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new(command);
    command.env("WINEPREFIX", prefix()).env("WINEDEBUG", "-all");
    command
}

fn prefix() -> PathBuf {
    folder().join("wine")
}
