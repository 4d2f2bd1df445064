//! The forms of messages, as those who read them get them: terminals, build systems, pipelines.

mod denied;
mod explain;
mod human;
mod json;
mod msbuild;
mod sarif;

use std::path::PathBuf;
use std::process::{Command, Output};

use libtest_mimic::{Failed, Trial};

use crate::support::{output, root, tool};

pub fn trials() -> Vec<Trial> {
    [
        denied::trials(),
        explain::trials(),
        human::trials(),
        json::trials(),
        msbuild::trials(),
        sarif::trials(),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// Where objects that are refused are, with names that the tests use.
fn rejected() -> PathBuf {
    root().join("tests/fixtures/rejected")
}

/// Where the objects of the catalogue's examples are.
fn examples_of_codes() -> PathBuf {
    root().join("tests/fixtures/codes")
}

/// The names of the objects in a folder, in order.
fn objects(folder: &PathBuf) -> Result<Vec<String>, Failed> {
    let mut names = Vec::new();
    for file in std::fs::read_dir(folder)? {
        let name = file?.file_name().to_string_lossy().into_owned();
        if std::path::Path::new(&name).extension().is_some_and(|e| e == "o") {
            names.push(name);
        }
    }
    names.sort();
    Ok(names)
}

/// The tool, without what the environment says of colours and providers.
fn plain_tool() -> Command {
    let mut command = tool();
    for name in ["NO_COLOR", "CLICOLOR", "CLICOLOR_FORCE", "BPF2SYS_PLATFORM"] {
        command.env_remove(name);
    }
    command
}

/// Exit status, standard output and standard error.
fn told(command: &mut Command) -> Result<(i32, String, String), Failed> {
    let Output { status, stdout, stderr } = output(command)?;
    let status = status.code().ok_or("ended by a signal")?;
    Ok((status, String::from_utf8(stdout)?, String::from_utf8(stderr)?))
}

/// Fails unless two things are equal.
fn equal<T: PartialEq + std::fmt::Debug>(found: &T, expected: &T, of: &str) -> Result<(), Failed> {
    if found == expected {
        return Ok(());
    }
    Err(format!("{of}: {found:?}, not {expected:?}").into())
}
