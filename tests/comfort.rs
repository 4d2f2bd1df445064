//! What makes the tool comfortable: completions, manual pages, versions.

use std::fs;
use std::process::Command;

use libtest_mimic::{Failed, Trial};

use crate::support::{Need, output, succeed, test, test_with, tool};

pub fn trials() -> Vec<Trial> {
    let mut trials = vec![
        test("comfort::the_version_names_what_decides", version),
        test_with(
            "comfort::manual_pages_are_sound",
            &[Need::Program("mandoc")],
            manual_pages,
        ),
        test_with("comfort::bash_completes", &[Need::Program("bash")], bash),
    ];
    for shell in ["bash", "zsh", "fish"] {
        trials.push(test_with(
            &format!("comfort::{shell}_reads_its_completions"),
            &[Need::Program(shell)],
            move || read_by(shell),
        ));
    }
    trials
}

fn version() -> Result<(), Failed> {
    let lock = fs::read_to_string(crate::support::root().join("Cargo.lock"))?;
    let long = succeed(tool().arg("--version"))?;
    for (name, package) in [("Cranelift", "cranelift-codegen"), ("PREVAIL", "prevail")] {
        let entry = format!("name = \"{package}\"\nversion = \"");
        let version = lock.split(&entry).nth(1).and_then(|rest| rest.split('"').next());
        let line = format!("{name} {}", version.ok_or("not in Cargo.lock")?);
        assert!(long.lines().any(|said| said == line), "no {line:?}:\n{long}");
    }
    let short = succeed(tool().arg("-V"))?;
    assert_eq!(short.lines().count(), 1);
    assert!(long.starts_with(short.trim_end()), "{long}");
    Ok(())
}

fn manual_pages() -> Result<(), Failed> {
    let folder = tempfile::tempdir()?;
    succeed(tool().args(["man", "--out-dir"]).arg(folder.path()))?;
    let mut pages = 0;
    for file in fs::read_dir(&folder)? {
        let path = file?.path();
        let lint = output(Command::new("mandoc").args(["-T", "lint", "-W", "error"]).arg(&path))?;
        assert!(lint.status.success(), "{}", String::from_utf8_lossy(&lint.stdout));
        let shown = succeed(
            Command::new("mandoc")
                .args(["-T", "ascii", "-O", "width=200"])
                .arg(&path),
        )?;
        // Mandoc prints bold letters twice, with a step back between.
        let shown: String = shown
            .split('\u{8}')
            .map(|part| &part[..part.len().saturating_sub(1)])
            .collect();
        let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        assert!(shown.contains(&format!("{name}(1)")), "{name}: {shown}");
        pages += 1;
    }
    // One for each subcommand, and for the tool.
    let help = succeed(tool().arg("--help"))?;
    let listed = help.lines().skip_while(|line| *line != "Commands:").skip(1);
    let commands = listed
        .take_while(|line| !line.is_empty())
        .filter(|line| !line.trim().starts_with("help "))
        .count();
    assert!(pages > commands, "{pages} pages for {commands} commands");
    let build = fs::read_to_string(folder.path().join("bpf2sys-build.1"))?;
    assert!(build.contains("bpf2sys build udp_filter.o"), "no examples");
    Ok(())
}

fn script(shell: &str) -> Result<(tempfile::TempDir, std::path::PathBuf), Failed> {
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("_bpf2sys");
    fs::write(&file, succeed(tool().args(["completions", shell]))?)?;
    Ok((folder, file))
}

fn read_by(shell: &str) -> Result<(), Failed> {
    let (_folder, file) = script(shell)?;
    succeed(Command::new(shell).arg("-n").arg(file))?;
    Ok(())
}

/// Asks bash itself what it would complete.
fn bash() -> Result<(), Failed> {
    let (_folder, file) = script("bash")?;
    let completed = |words: &str, current: usize| {
        let asked = format!(
            "source '{}'; COMP_WORDS=({words}); COMP_CWORD={current}; _bpf2sys bpf2sys \"${{COMP_WORDS[{current}]}}\" \"${{COMP_WORDS[{current}-1]}}\"; echo \"${{COMPREPLY[*]}}\"",
            file.display()
        );
        succeed(Command::new("bash").args(["--norc", "-c", &asked]))
    };
    assert_eq!(completed("bpf2sys ver", 1)?.trim(), "verify");
    assert_eq!(completed("bpf2sys build --runtime ''", 3)?.trim(), "1.6 1.4 0.21");
    assert_eq!(completed("bpf2sys build --keep", 2)?.trim(), "--keep-object");
    Ok(())
}
