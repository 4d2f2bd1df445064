//! What the help and the README say of `build`.

use std::path::PathBuf;

use libtest_mimic::{Failed, Trial};

use super::example;
use crate::support::{Need, root, succeed, test, test_with, tool};

pub fn trials() -> Vec<Trial> {
    vec![
        test_with(
            "emit::examples_of_the_help_do_what_they_say",
            &[Need::Program("clang-19")],
            help_examples,
        ),
        test("emit::readme_shows_what_the_tool_prints", readme),
    ]
}

/// The least that a version resource needs.
const VERSION_INFO: &str = "company = 'C'\nproduct = 'P'\ndescription = 'D'\nfile-version = '1.0'\n";

/// Runs the examples of `build --help` and looks for the files that they say are written.
fn help_examples() -> Result<(), Failed> {
    let help = succeed(tool().args(["build", "--help"]))?;
    let (_, examples) = help.split_once("Examples:\n").ok_or("no examples")?;
    let mut promised = 0;
    for line in examples.lines().map(str::trim).take_while(|line| !line.is_empty()) {
        let folder = tempfile::tempdir()?;
        std::fs::create_dir(folder.path().join("drivers"))?;
        for input in ["udp_filter.o", "filter.o"] {
            std::fs::copy(example("udp_filter"), folder.path().join(input))?;
        }
        for source in ["udp_filter.bpf.c", "a.bpf.c"] {
            std::fs::copy(example("udp_filter").with_extension("c"), folder.path().join(source))?;
        }
        for (name, text) in [
            ("version.toml", VERSION_INFO),
            ("bpf2sys.toml", "inputs = ['udp_filter.o']\n"),
            ("inputs.txt", "udp_filter.o\nfilter.o\n"),
        ] {
            std::fs::write(folder.path().join(name), text)?;
        }
        if line.contains("signing.pfx") {
            succeed(tool().args(["cert", "new", "--key", "p256"]).current_dir(&folder))?;
        }
        let (command, comment) = line.split_once("   ").unwrap_or((line, ""));
        let words = command.split_whitespace().skip(1).flat_map(|word| match word {
            "*.o" => vec!["udp_filter.o", "filter.o"],
            word => vec![word],
        });
        succeed(tool().args(words).current_dir(&folder).env("BPF2SYS_CLANG", "clang-19"))?;
        let Some(names) = comment.trim().strip_prefix("writes ") else {
            continue;
        };
        let names = match names.split_once(['{', '}']) {
            Some((before, choices)) => {
                let (choices, after) = choices.split_once('}').ok_or("no end of the choices")?;
                choices
                    .split(',')
                    .map(|choice| format!("{before}{choice}{after}"))
                    .collect()
            }
            None => vec![names.to_owned()],
        };
        for name in names {
            assert!(folder.path().join(&name).is_file(), "`{command}` does not write {name}");
            promised += 1;
        }
    }
    assert!(promised >= 5, "{promised} files are promised:\n{examples}");
    Ok(())
}

/// Plays the sessions of the README: what a command prints holds the lines that follow it, `...` standing for any lines.
fn readme() -> Result<(), Failed> {
    let page = std::fs::read_to_string(root().join("README.md"))?;
    let mut commands = 0;
    for session in page.split("```console\n").skip(1) {
        let session = session.split("```").next().unwrap_or_default();
        for shown in session.split("$ ").skip(1) {
            let (command, shown) = shown.split_once('\n').ok_or("a command without output")?;
            let folder = tempfile::tempdir()?;
            let words = command
                .split_whitespace()
                .skip(1)
                .map(|word| match word.strip_prefix("examples/") {
                    Some(file) => root().join("examples").join(file),
                    None => PathBuf::from(word),
                });
            let printed = succeed(tool().args(words).current_dir(&folder))?;
            let mut rest = printed.as_str();
            for part in shown.split("...\n").filter(|part| !part.trim().is_empty()) {
                let (_, after) = rest
                    .split_once(part)
                    .ok_or_else(|| format!("`{command}` does not print\n{part}\nbut\n{printed}"))?;
                rest = after;
            }
            commands += 1;
        }
    }
    if commands == 0 {
        return Err("no session".into());
    }
    Ok(())
}
