//! Programs for Windows, compiled by mingw and run by Wine (`tests/wine/README.md`).

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::{Mutex, PoisonError};

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
    let source = root().join("tests/wine").join(name).with_extension("c");
    let path = folder().join(name).with_extension("exe");
    succeed(
        Command::new(COMPILER)
            .args(["-O1", "-Wall", "-Werror", "-o"])
            .arg(&path)
            .arg(source),
    )?;
    Ok(path)
}

/// Runs a program in a prefix of the tests' own, one at a time: two at once cannot make it.
pub fn run(program: &Path, arguments: &[&Path]) -> Result<Output, Failed> {
    static WINE: Mutex<()> = Mutex::new(());
    let _alone = WINE.lock().unwrap_or_else(PoisonError::into_inner);
    output(
        Command::new("wine")
            .env("WINEPREFIX", folder().join("wine"))
            .env("WINEDEBUG", "-all")
            .arg(program)
            .args(arguments),
    )
}
