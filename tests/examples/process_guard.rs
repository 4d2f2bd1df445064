//! `process_guard`: which processes it lets start, and what it reports.

use libtest_mimic::{Failed, Trial};

use super::inputs::process;
use super::runner::{Report, Run, expect, programs, read_u32};
use crate::packets::utf16;

const SUCCESS: u64 = 0;
const ACCESS_DENIED: u64 = 0xc000_0022;

const SEED: u64 = 0x9e37_79b9_7f4a_7c15;

/// The file name of the image that the simulator says a process has.
const SIMULATED_IMAGE: &str = "notepad.exe";

pub fn trials() -> Vec<Trial> {
    [
        programs("process_guard_denies_by_argument", by_argument),
        programs("process_guard_denies_by_image_name", by_image),
        programs("process_guard_follows_its_configuration", configuration),
        programs("process_guard_reports_the_end_of_what_it_let_start", end),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// The hash of a name, as README.md of the example defines it.
fn hash(seed: u64, name: &str) -> u64 {
    name.to_ascii_lowercase()
        .encode_utf16()
        .fold(seed, |hash, unit| (hash ^ u64::from(unit)).wrapping_mul(0x0100_0193))
}

fn run(command_line: &str) -> Run {
    Run::new("process_guard", "process_guard")
        .context(process(0, 0).bytes())
        .packet(&utf16(command_line))
}

fn deny(run: Run, list: &str, name: &str) -> Run {
    run.set(list, &hash(SEED, name).to_le_bytes(), &[1, 0, 0, 0, 0, 0, 0, 0])
}

/// Expects one record: process, parent, hash, time, reason, exit code.
fn reported(report: &Report, hash: u64, time: u64, reason: u32, exit_code: u32) -> Result<(), Failed> {
    let wanted = [
        &5000u64.to_le_bytes()[..],
        &4000u64.to_le_bytes(),
        &hash.to_le_bytes(),
        &time.to_le_bytes(),
        &reason.to_le_bytes(),
        &exit_code.to_le_bytes(),
    ]
    .concat();
    expect("records", report.records("reports")?, vec![wanted])
}

fn by_argument() -> Result<(), Failed> {
    let long = |spaces: usize| format!("powershell{}-enc", " ".repeat(spaces));
    for (command_line, verdict) in [
        ("powershell.exe -enc ZABpAHIA", ACCESS_DENIED),
        ("powershell.exe -enb ZABpAHIA", SUCCESS),
        ("powershell.exe -Enc ZABpAHIA", ACCESS_DENIED),
        ("powershell.exe -encoding utf8", SUCCESS),
        ("powershell.exe x-enc", SUCCESS),
        ("powershell.exe \"-enc\"", ACCESS_DENIED),
        ("powershell.exe\t-enc\tZABpAHIA", ACCESS_DENIED),
        ("powershell.exe -enc", ACCESS_DENIED),
        ("-enc", ACCESS_DENIED),
        ("", SUCCESS),
        // The last argument that ends within the 128 units that are read, and the first that does not.
        (&long(128 - 14), ACCESS_DENIED),
        (&long(128 - 13), SUCCESS),
    ] {
        let report = deny(run(command_line), "denied_arguments", "-enc").report()?;
        expect(command_line, report.result(0)?, verdict)?;
        if verdict == ACCESS_DENIED {
            reported(&report, hash(SEED, "-enc"), 133_500_000_000_000_000, 2, 0)?;
        } else {
            expect(command_line, report.records("reports")?.len(), 0)?;
        }
        let entry = report.values("denied_arguments", &hash(SEED, "-enc").to_le_bytes())?;
        expect("hits", read_u32(&entry[0], 4)?, u32::from(verdict == ACCESS_DENIED))?;
    }
    Ok(())
}

fn by_image() -> Result<(), Failed> {
    let report = deny(run("anything"), "denied_images", SIMULATED_IMAGE).report()?;
    expect("the image's name", report.result(0)?, ACCESS_DENIED)?;
    reported(&report, hash(SEED, SIMULATED_IMAGE), 133_500_000_000_000_000, 1, 0)?;
    for name in ["notepad.exf", "otepad.exe", "System32"] {
        let report = deny(run("notepad.exe"), "denied_images", name).report()?;
        expect(name, report.result(0)?, SUCCESS)?;
    }
    // An entry that is switched off.
    let off = run("anything").set("denied_images", &hash(SEED, SIMULATED_IMAGE).to_le_bytes(), &[0; 8]);
    expect("an entry that is off", off.report()?.result(0)?, SUCCESS)
}

fn configuration() -> Result<(), Failed> {
    let config = |seed: u64, monitor_only: u32, exempt_parent: u32| {
        [
            &seed.to_le_bytes()[..],
            &monitor_only.to_le_bytes(),
            &exempt_parent.to_le_bytes(),
        ]
        .concat()
    };
    for (name, config, verdict) in [
        ("as it comes", config(SEED, 0, 0), ACCESS_DENIED),
        ("monitoring", config(SEED, 1, 0), SUCCESS),
        ("an exempt parent", config(SEED, 0, 4000), SUCCESS),
        ("another exempt parent", config(SEED, 0, 4001), ACCESS_DENIED),
    ] {
        let report = deny(run("a -enc"), "denied_arguments", "-enc")
            .set("process.data", &[0; 4], &config)
            .report()?;
        expect(name, report.result(0)?, verdict)?;
        reported(&report, hash(SEED, "-enc"), 133_500_000_000_000_000, 2, 0)?;
        let watched = report.values("watched", &5000u64.to_le_bytes())?.len();
        expect(name, watched, usize::from(verdict == SUCCESS))?;
    }
    // Another seed makes other hashes: the list does not match any more.
    let report = deny(run("a -enc"), "denied_arguments", "-enc")
        .set("process.data", &[0; 4], &config(1, 0, 0))
        .report()?;
    expect("another seed", report.result(0)?, SUCCESS)
}

fn end() -> Result<(), Failed> {
    let ended = || {
        Run::new("process_guard", "process_guard")
            .context(process(1, 3).bytes())
            .packet(&utf16("a"))
    };
    expect("never watched", ended().report()?.records("reports")?.len(), 0)?;
    let report = ended()
        .set("watched", &5000u64.to_le_bytes(), &99u64.to_le_bytes())
        .report()?;
    expect("result", report.result(0)?, SUCCESS)?;
    reported(&report, 99, 133_500_000_010_000_000, 3, 3)?;
    expect(
        "still watched",
        report.values("watched", &5000u64.to_le_bytes())?.len(),
        0,
    )
}
