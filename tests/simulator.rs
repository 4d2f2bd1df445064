//! The simulator as the tool shows it: what it catches, and how it says so.

use std::fs;
use std::path::PathBuf;

use bpf2sys_simulator::{RunRequest, SimulatorError};
use libtest_mimic::{Failed, Trial};

use crate::support::{output, root, succeed, test, tool};

pub fn trials() -> Vec<Trial> {
    if !cfg!(all(target_os = "linux", target_arch = "x86_64")) {
        return Vec::new();
    }
    vec![
        test(
            "simulator::a_fault_names_program_and_memory",
            a_fault_names_program_and_memory,
        ),
        test("simulator::an_endless_loop_is_stopped", an_endless_loop_is_stopped),
        test(
            "simulator::a_changed_byte_anywhere_is_noticed",
            a_changed_byte_anywhere_is_noticed,
        ),
        test(
            "simulator::a_missing_emulator_is_asked_for_by_name",
            a_missing_emulator_is_asked_for_by_name,
        ),
    ]
}

/// A module that clang and lld made, whose program `misbehave` breaks the rule that its packet asks for.
fn fixture() -> PathBuf {
    root().join("simulator/testdata/module.image")
}

/// Runs `misbehave` and gives exit status and error output.
fn misbehave(what: u8, extra: &[&str]) -> Result<(Option<i32>, String), Failed> {
    let folder = tempfile::tempdir()?;
    let packet = folder.path().join("packet");
    fs::write(&packet, [what, 0])?;
    let mut command = tool();
    command
        .arg("run")
        .arg(fixture())
        .args(["--program", "misbehave", "--packet"])
        .arg(&packet)
        .args(extra);
    let out = output(&mut command)?;
    Ok((out.status.code(), String::from_utf8_lossy(&out.stderr).into_owned()))
}

fn a_fault_names_program_and_memory() -> Result<(), Failed> {
    let (status, text) = misbehave(1, &[])?;
    for part in [
        "program misbehave",
        "access violation (read)",
        "the guard page after the packet",
    ] {
        if !text.contains(part) {
            return Err(format!("no {part:?} in: {text}").into());
        }
    }
    if status != Some(6) {
        return Err(format!("exit status {status:?}").into());
    }
    Ok(())
}

fn an_endless_loop_is_stopped() -> Result<(), Failed> {
    let (status, text) = misbehave(3, &["--time-limit", "1"])?;
    if status != Some(6) || !text.contains("program misbehave running: not done after 1000 ms") {
        return Err(format!("exit status {status:?}: {text}").into());
    }
    Ok(())
}

fn a_changed_byte_anywhere_is_noticed() -> Result<(), Failed> {
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("bind_policy.sys");
    succeed(
        tool()
            .arg("build")
            .arg(root().join("examples/bind_policy/bind_policy.o"))
            .arg("-o")
            .arg(&path),
    )?;
    let image = fs::read(&path)?;
    let run = |image: Vec<u8>| {
        bpf2sys_simulator::run(&RunRequest {
            image,
            ..RunRequest::default()
        })
    };
    run(image.clone()).map_err(|e| e.to_string())?;
    for at in (0x80..image.len()).step_by(101) {
        let mut changed = image.clone();
        changed[at] ^= 0x10;
        match run(changed) {
            Err(SimulatorError::Crashed { .. } | SimulatorError::Process(_)) | Ok(_) => {
                return Err(format!("byte {at:#x} was changed and not complained about").into());
            }
            Err(_) => {}
        }
    }
    Ok(())
}

fn a_missing_emulator_is_asked_for_by_name() -> Result<(), Failed> {
    let image = root().join("simulator/testdata/module-arm64.image");
    let cases = [
        ("/nowhere/libunicorn.so.2", "BPF2SYS_UNICORN names no library"),
        // The C library is a library, and not that one.
        ("libc.so.6", "libc.so.6: this is not Unicorn"),
    ];
    for (library, expected) in cases {
        let out = output(tool().arg("run").arg(&image).env("BPF2SYS_UNICORN", library))?;
        let text = String::from_utf8_lossy(&out.stderr);
        if out.status.success() || !text.contains(expected) {
            return Err(format!("{library}: {}: {text}", out.status).into());
        }
    }
    // x64 images need none.
    succeed(tool().arg("run").arg(fixture()).env("BPF2SYS_UNICORN", "/nowhere"))?;
    Ok(())
}
