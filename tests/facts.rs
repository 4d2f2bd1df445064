//! `verify --facts` on the examples: what is printed is what lies in `tests/fixtures/facts`, and `BLESS=1` rewrites it.

use std::fs;

use libtest_mimic::{Failed, Trial};

use crate::examples::EXAMPLES;
use crate::support::{root, succeed, test, tool};

pub fn trials() -> Vec<Trial> {
    EXAMPLES
        .into_iter()
        .map(|example| {
            test(&format!("facts::of_{example}_are_as_reviewed"), move || {
                as_reviewed(example)
            })
        })
        .collect()
}

fn as_reviewed(example: &str) -> Result<(), Failed> {
    let folder = root().join("examples").join(example);
    let object = format!("{example}.o");
    let printed = succeed(tool().current_dir(folder).args(["verify", "--facts", &object]))?;
    let path = root().join("tests/fixtures/facts").join(example).with_extension("txt");
    if std::env::var_os("BLESS").is_some_and(|value| value == "1") {
        fs::write(&path, &printed)?;
        return Ok(());
    }
    let reviewed = fs::read_to_string(&path)?;
    let lines = || printed.lines().zip(reviewed.lines());
    match lines().position(|(is, was)| is != was) {
        Some(line) => Err(format!(
            "{}: line {} is\n{}",
            path.display(),
            line + 1,
            printed.lines().nth(line).unwrap_or("")
        )
        .into()),
        None if printed != reviewed => Err(format!("{}: the lengths differ", path.display()).into()),
        None => Ok(()),
    }
}
