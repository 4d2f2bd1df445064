//! DLLs of the tool: their programs do what they do in its drivers, and loaders and readers that are not this project's
//! find what they export.

use std::process::Command;

use bpf2sys_codegen::Skeleton;
use bpf2sys_pe_emit::{Machine, link};
use bpf2sys_simulator::{Input, RunRequest};
use libtest_mimic::{Failed, Trial};

use crate::examples::EXAMPLES;
use crate::forms::{MACHINES, expect_same, lowered, machine_name, needs_to_run};
use crate::support::{Need, output, test_with};
use crate::unwind::check_unwind;
use crate::wine;

const READER: &str = "llvm-readobj-19";

pub fn trials() -> Vec<Trial> {
    let mut trials = vec![test_with(
        "dll::wine_loads_it_and_runs_a_program",
        &wine::NEEDS,
        wine_loads,
    )];
    for (machine, name) in MACHINES.map(|machine| (machine, machine_name(machine))) {
        for example in EXAMPLES {
            trials.push(test_with(
                &format!("dll::{example}_does_what_the_driver_does_on_{name}"),
                needs_to_run(machine),
                move || does_the_same(example, machine),
            ));
            trials.push(test_with(
                &format!("dll::llvm_readobj_reads_{example}_for_{name}"),
                &[Need::Program(READER)],
                move || is_read(example, machine),
            ));
        }
    }
    trials
}

fn does_the_same(example: &str, machine: Machine) -> Result<(), Failed> {
    let driver = link(&lowered(example, machine, Skeleton::Driver)?)?;
    let dll = link(&lowered(example, machine, Skeleton::Dll)?)?;
    if machine == Machine::X64 {
        check_unwind(dll.bytes()).map_err(|errors| errors.join("\n"))?;
    }
    expect_same(example, "DLL", driver.bytes(), dll.bytes())
}

fn is_read(example: &str, machine: Machine) -> Result<(), Failed> {
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("module.dll");
    std::fs::write(&path, link(&lowered(example, machine, Skeleton::Dll)?)?.bytes())?;
    let mut command = Command::new(READER);
    command
        .args([
            "--file-headers",
            "--sections",
            "--coff-exports",
            "--coff-imports",
            "--coff-basereloc",
            "--unwind",
        ])
        .arg(&path);
    let out = output(&mut command)?;
    let complaints = String::from_utf8_lossy(&out.stderr);
    let text = String::from_utf8_lossy(&out.stdout);
    if !out.status.success() || !complaints.is_empty() {
        return Err(format!("{command:?}: {}\n{complaints}", out.status).into());
    }
    let lines: Vec<&str> = text.lines().map(str::trim).collect();
    for (count, wanted) in [
        (1, "Name: get_metadata_table"),
        (1, "Ordinal: 1"),
        (0, "Ordinal: 2"),
        (0, "Import {"),
        (1, "IMAGE_FILE_DLL (0x2000)"),
        (1, "Subsystem: IMAGE_SUBSYSTEM_WINDOWS_GUI (0x2)"),
        (1, "ImageBase: 0x180000000"),
    ] {
        let found = lines.iter().filter(|line| **line == wanted).count();
        if found != count {
            return Err(format!("`{wanted}` {found} times, not {count}:\n{text}").into());
        }
    }
    Ok(())
}

/// Loaded by name, found by its export, and run on nothing, a program gives what it gives in the simulator: also in a second
/// DLL that cannot have the same preferred base.
fn wine_loads() -> Result<(), Failed> {
    let folder = tempfile::tempdir()?;
    let paths = ["udp_filter.dll", "same.dll"].map(|name| folder.path().join(name));
    let dll = link(&lowered("udp_filter", Machine::X64, Skeleton::Dll)?)?;
    for path in &paths {
        std::fs::write(path, dll.bytes())?;
    }
    let out = wine::run(&wine::compile("load")?, &[&paths[0], &paths[1]])?;
    let text = String::from_utf8_lossy(&out.stdout);
    let request = RunRequest {
        image: dll.into_bytes(),
        inputs: vec![Input {
            program: "udp_filter".into(),
            ..Input::default()
        }],
        ..RunRequest::default()
    };
    let report = bpf2sys_simulator::run(&request)?;
    let expected = ["at its base", "elsewhere"].map(|place| {
        [
            format!(
                "{place}: table of 56 bytes, version {}, 1 programs, {} maps",
                report.stated_version,
                report.maps.len()
            ),
            format!("udp_filter returned {}", report.results[0].result),
            "ordinal 2 does not exist".to_owned(),
        ]
    });
    if out.status.success() && text.lines().eq(expected.as_flattened().iter().map(String::as_str)) {
        Ok(())
    } else {
        Err(format!("{}: {text}, expected {expected:?}", out.status).into())
    }
}
