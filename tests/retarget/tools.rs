//! The command line on objects for Linux: what it refuses, what it tells, what it builds.

use std::fs;
use std::process::Command;

use bpf2sys_simulator::{HexBytes, Input, RunRequest};
use libtest_mimic::Failed;
use serde_json::Value;

use crate::support::{output, root, succeed, tool};

fn fixture(code: &str) -> std::path::PathBuf {
    root().join(format!("tests/fixtures/codes/{code}.o"))
}

/// `port` tells of each object how far it comes, why, and where.
pub fn ported() -> Result<(), Failed> {
    for (code, level, kind, line) in [
        ("BPF3101", "exact", None, 0),
        ("BPF3103", "blocked", Some("helper"), 16),
        ("BPF3104", "degraded", Some("field"), 13),
    ] {
        let json = succeed(tool().args(["port", "--json"]).arg(fixture(code)))?;
        let json: Value = serde_json::from_str(&json)?;
        let program = &json["programs"][0];
        if program["level"] != level || json[level] != 1 {
            return Err(format!("{code}: {program:#}").into());
        }
        let Some(kind) = kind else { continue };
        let uses = program["uses"].as_array().ok_or("no uses")?;
        let place = uses.iter().find(|u| u["kind"] == kind && u["level"] == level);
        let place = place.map(|u| &u["places"][0]["line"]);
        if place != Some(&line.into()) {
            return Err(format!("{code}: {place:?} in {program:#}").into());
        }
    }
    let text = succeed(tool().arg("port").arg(fixture("BPF3103")))?;
    for part in [
        "program forward (section xdp, type xdp): blocked",
        "because: helper bpf_redirect has no counterpart",
        "BPF3103.c:16",
        "1 program: 0 exact, 0 degraded, 1 blocked",
    ] {
        if !text.contains(part) {
            return Err(format!("no `{part}` in\n{text}").into());
        }
    }
    Ok(())
}

/// Nothing is built of an object for Linux unless that is said, nor of one that gets less unless that is.
pub fn built() -> Result<(), Failed> {
    let folder = tempfile::tempdir()?;
    let image = folder.path().join("a.sys");
    for (code, words, status) in [
        ("BPF3101", &[][..], 5),
        ("BPF3103", &["--from", "linux"], 5),
        ("BPF3104", &["--retarget"], 5),
        ("BPF3101", &["--from", "linux"], 0),
        ("BPF3101", &["--retarget"], 0),
        ("BPF3104", &["--retarget", "--allow-degraded"], 0),
    ] {
        let _ = fs::remove_file(&image);
        let out = output(tool().arg("build").args(words).arg(fixture(code)).arg("-o").arg(&image))?;
        let told = String::from_utf8_lossy(&out.stdout).into_owned() + &String::from_utf8_lossy(&out.stderr);
        let is_told = match (status, code) {
            (0, "BPF3104") => told.contains("warning[BPF3104]") && told.contains("1 of them with less than on Linux"),
            (0, _) => told.contains("rewritten for Windows: 2 accesses to the context"),
            _ => told.contains(&format!("error[{code}]")),
        };
        if out.status.code() != Some(status) || image.exists() != (status == 0) || !is_told {
            return Err(format!("{code} {words:?}: {}\n{told}", out.status).into());
        }
    }
    // In a project.
    fs::copy(fixture("BPF3101"), folder.path().join("a.o"))?;
    let project = folder.path().join("bpf2sys.toml");
    fs::write(&project, "inputs = [\"a.o\"]\nretarget = true\n")?;
    succeed(tool().arg("build").current_dir(folder.path()))?;
    Ok(())
}

/// What a loader would do to an object is done: offsets, questions, values.
pub fn relocated() -> Result<(), Failed> {
    let folder = tempfile::tempdir()?;
    let (object, image) = (folder.path().join("relocated.o"), folder.path().join("a.sys"));
    let mut clang = Command::new("clang-19");
    clang.args(["-g", "-O2", "-target", "bpf", "-Wall", "-Werror", "-c", "-o"]);
    succeed(clang.arg(&object).arg(root().join("tests/retarget/relocated.c")))?;
    let build = |words: &[&str]| {
        output(
            tool()
                .args(["build", "--from", "linux"])
                .args(words)
                .arg(&object)
                .arg("-o")
                .arg(&image),
        )
    };
    let out = build(&[])?;
    let told = String::from_utf8_lossy(&out.stderr).into_owned();
    if out.status.success() || !told.contains("`--config LINUX_KERNEL_VERSION=VALUE` gives it one") {
        return Err(told.into());
    }
    let out = build(&["--config", "LINUX_KERNEL_VERSION=6.6", "--set", "limit=77"])?;
    if !out.status.success() {
        return Err(String::from_utf8_lossy(&out.stderr).into_owned().into());
    }
    let mut context = vec![0; 64];
    context[4..8].copy_from_slice(&2u32.to_le_bytes());
    context[44..48].copy_from_slice(&0x3500u32.to_le_bytes());
    context[48] = 6;
    let report = bpf2sys_simulator::run(&RunRequest {
        image: fs::read(&image)?,
        inputs: vec![Input {
            program: "relocated".into(),
            context: HexBytes(context),
            ..Input::default()
        }],
        ..RunRequest::default()
    })?;
    let map = report.maps.iter().find(|m| m.name == "results").ok_or("no map")?;
    let seen: Vec<u32> = (map.entries.iter().flat_map(|e| &e.values).flat_map(|v| v.0.chunks(4)))
        .map(|word| u32::from_le_bytes(word.try_into().unwrap_or_default()))
        .collect();
    let expected = [0x3500 << 16, 0x06_0600, 0, 77, 1, 0, 224];
    if seen != expected {
        return Err(format!("{seen:x?}, not {expected:x?}").into());
    }
    Ok(())
}
