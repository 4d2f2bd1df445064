//! The book: its commands print what it says, and it can be built, with every link leading somewhere.

use std::fs;
use std::path::Path;
use std::process::Command;

use libtest_mimic::{Failed, Trial};

use crate::support::{Need, output, root, succeed, test, test_with};

/// Chapters with commands.
const PLAYED: [&str; 8] = [
    "five-minutes",
    "loaded-driver",
    "testing",
    "production",
    "report",
    "build",
    "extensions",
    "porting",
];

pub fn trials() -> Vec<Trial> {
    let needs = [Need::Program("clang-19"), Need::Program("bash")];
    let mut trials: Vec<Trial> = PLAYED
        .iter()
        .filter(|chapter| {
            !["five-minutes", "testing"].contains(chapter) || cfg!(all(target_os = "linux", target_arch = "x86_64"))
        })
        .map(|chapter| test_with(&format!("book::{chapter}_is_as_it_says"), &needs, move || play(chapter)))
        .collect();
    trials.push(test("book::every_chapter_with_commands_is_played", all_are_played));
    trials.push(test("book::its_exit_statuses_are_those_of_the_tool", exit_statuses));
    trials.push(test_with(
        "book::it_can_be_built",
        &[Need::Program("mdbook"), Need::Program("python3")],
        build,
    ));
    trials
}

fn chapter(name: &str) -> Result<String, Failed> {
    Ok(fs::read_to_string(
        root().join("book/src").join(name).with_extension("md"),
    )?)
}

/// The commands of a chapter, each with what is shown of what it prints.
fn commands(text: &str) -> Vec<(String, String)> {
    let mut found: Vec<(String, String)> = Vec::new();
    for block in text.split("```console\n").skip(1) {
        for line in block.split("```").next().unwrap_or_default().split_inclusive('\n') {
            match (line.strip_prefix("$ "), found.last_mut()) {
                (Some(command), _) => found.push((command.trim_end().to_owned(), String::new())),
                (None, Some((_, shown))) => shown.push_str(line),
                (None, None) => {}
            }
        }
    }
    found
}

/// Runs the commands of a chapter one after the other, each from one folder.
fn play(name: &str) -> Result<(), Failed> {
    let folder = tempfile::tempdir()?;
    #[cfg(unix)]
    std::os::unix::fs::symlink(root(), folder.path().join("repository"))?;
    let tool = Path::new(env!("CARGO_BIN_EXE_bpf2sys"));
    let folders = std::env::var_os("PATH").unwrap_or_default();
    let folders = [tool.parent().unwrap_or(tool).to_owned()]
        .into_iter()
        .chain(std::env::split_paths(&folders));
    let path = std::env::join_paths(folders)?;
    for (command, shown) in commands(&chapter(name)?) {
        let out = output(
            Command::new("bash")
                .args(["-c", &format!("{{ {command}\n}} 2>&1")])
                .current_dir(&folder)
                .env("PATH", &path)
                .env("BPF2SYS_CLANG", "clang-19"),
        )?;
        let printed = String::from_utf8_lossy(&out.stdout);
        let is_error = shown.contains("error[");
        if out.status.success() == is_error || !is_shown(&printed, &shown) {
            return Err(format!("`{command}` ({}) prints\n{printed}and not\n{shown}", out.status).into());
        }
    }
    Ok(())
}

/// Whether a text is what is shown of it, where `...` stands for anything.
fn is_shown(text: &str, shown: &str) -> bool {
    let mut parts = shown.split("...");
    let Some(mut rest) = parts.next().and_then(|first| text.strip_prefix(first)) else {
        return false;
    };
    let parts: Vec<&str> = parts.collect();
    let Some((last, between)) = parts.split_last() else {
        return rest.is_empty();
    };
    for part in between {
        // `...` on a line of its own can be no line at all.
        let part = part.strip_prefix('\n').unwrap_or(part);
        match rest.split_once(part) {
            Some((_, after)) => rest = after,
            None => return false,
        }
    }
    rest.ends_with(last.strip_prefix('\n').unwrap_or(last))
}

fn all_are_played() -> Result<(), Failed> {
    for file in fs::read_dir(root().join("book/src"))? {
        let path = file?.path();
        let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let played = PLAYED.contains(&name.as_str());
        assert_eq!(!commands(&fs::read_to_string(&path)?).is_empty(), played, "{name}");
    }
    assert!(is_shown("a\nb\nc\n", "a\n...\nc\n") && is_shown("x: 12 bytes\n", "x: ...\n") && is_shown("", ""));
    assert!(!is_shown("a\nb\n", "a\n") && !is_shown("a\nb\n", "b\n...\n") && !is_shown("a\nb\n", "a\n...\nc\n"));
    Ok(())
}

fn exit_statuses() -> Result<(), Failed> {
    let help = succeed(crate::support::tool().arg("--help"))?;
    let (_, listed) = help.split_once("Exit status:\n").ok_or("no exit statuses")?;
    let page = chapter("exit-status")?;
    for line in listed.lines().take_while(|line| line.starts_with("  ")) {
        let (status, what) = line.trim().split_once("  ").ok_or("no status")?;
        assert!(page.contains(&format!("| {status} | {what}")), "the page lacks: {line}");
    }
    Ok(())
}

fn build() -> Result<(), Failed> {
    let folder = tempfile::tempdir()?;
    let out = folder.path().join("book");
    succeed(Command::new("python3").arg(root().join("book/build.py")).arg(&out))?;
    for page in [
        "index.html",
        "five-minutes.html",
        "catalogue.html",
        "codes/BPF2101.html",
    ] {
        assert!(out.join(page).is_file(), "no {page}");
    }
    let build = fs::read_to_string(out.join("build.html"))?;
    for included in ["bpf2sys_add_driver", "bpf2sys_build::Build", "inputs = "] {
        assert!(build.contains(included), "{included} is not included");
    }
    Ok(())
}
