//! The pages of the examples: every command on them is run, and prints what the page says.
//!
//! A page shows a session in a block that starts with ```` ```console ````: lines with `$ ` are commands, each followed
//! by what it prints. `BLESS=1` writes what the tool prints into the pages.

use std::path::Path;

use libtest_mimic::{Failed, Trial};

use super::EXAMPLES;
use crate::support::{output, root, test, tool};

pub fn trials() -> Vec<Trial> {
    EXAMPLES
        .iter()
        .map(|example| {
            test(
                &format!("examples::page_of_{example}_shows_what_the_tool_prints"),
                || check(example),
            )
        })
        .collect()
}

fn check(example: &str) -> Result<(), Failed> {
    let folder = root().join("examples").join(example);
    let work = tempfile::tempdir()?;
    for file in std::fs::read_dir(&folder)? {
        let file = file?;
        std::fs::copy(file.path(), work.path().join(file.file_name()))?;
    }
    let page_path = folder.join("README.md");
    let page = std::fs::read_to_string(&page_path)?;
    let played = play(&page, work.path())?;
    if std::env::var_os("BLESS").is_some() {
        std::fs::write(&page_path, &played)?;
    } else if page != played {
        return Err(format!("the page should say\n{played}").into());
    }
    Ok(())
}

/// The page with what its commands print, when they run in `folder`.
fn play(page: &str, folder: &Path) -> Result<String, Failed> {
    let mut played = String::new();
    let mut in_session = false;
    let mut commands = 0;
    let mut lines = page.lines().peekable();
    while let Some(line) = lines.next() {
        if line == "```" {
            in_session = false;
        }
        let Some(command) = line.strip_prefix("$ ").filter(|_| in_session) else {
            // Inside a session, anything else is what an earlier run printed.
            if !in_session {
                played += line;
                played.push('\n');
            }
            in_session |= line == "```console";
            continue;
        };
        played += line;
        played.push('\n');
        let mut command = command.to_owned();
        while command.ends_with('\\') {
            command.pop();
            let more = lines.next().ok_or("a command that does not end")?;
            played += more;
            played.push('\n');
            command += more;
        }
        played += &run(&command, folder)?;
        commands += 1;
    }
    if commands == 0 {
        Err("a page without a command".into())
    } else {
        Ok(played)
    }
}

/// What a command of the tool prints, on both outputs.
fn run(command: &str, folder: &Path) -> Result<String, Failed> {
    let mut words = command.split_whitespace();
    if words.next() != Some("bpf2sys") {
        return Err(format!("`{command}` is not a command of the tool").into());
    }
    let out = output(tool().args(words).current_dir(folder))?;
    if !out.status.success() {
        return Err(format!("`{command}`: {}\n{}", out.status, String::from_utf8_lossy(&out.stderr)).into());
    }
    Ok(String::from_utf8([out.stdout, out.stderr].concat())?)
}
