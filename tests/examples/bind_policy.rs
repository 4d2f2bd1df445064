//! `bind_policy`: who may bind what, and what it reports.

use libtest_mimic::{Failed, Trial};

use super::inputs::bind;
use super::runner::{Report, Run, expect, programs};
use crate::packets::{TCP, UDP, utf16};

pub fn trials() -> Vec<Trial> {
    [
        programs("bind_policy_gives_a_reserved_port_to_its_owner_only", reserved_port),
        programs("bind_policy_limits_and_counts_the_ports_of_a_process", held_ports),
    ]
    .into_iter()
    .flatten()
    .collect()
}

const ASKED: u32 = 0;
const GRANTED: u32 = 1;
const RELEASED: u32 = 2;

const BIND_PERMIT_SOFT: u64 = 0;
const BIND_DENY: u64 = 1;

/// A key of `reserved_ports`.
fn port_key(port: u16, protocol: u8) -> Vec<u8> {
    [&port.to_be_bytes()[..], &[protocol, 0]].concat()
}

/// A value of `reserved_ports`.
fn owner(name: &str) -> Vec<u8> {
    let mut bytes = utf16(name);
    bytes.resize(32, 0);
    bytes
}

/// Runs `bind_policy` for a process whose image has this file name.
fn run_bind(operation: u32, protocol: u8, port: u16, image: &str) -> Run {
    Run::new("bind_policy", "bind_policy")
        .context(bind(operation, protocol, port).bytes())
        .packet(&utf16(image))
        .set("reserved_ports", &port_key(443, TCP), &owner("nginx.exe"))
}

/// Expects one record in `audit` but for its time: process, port, protocol, verdict, ports held, name.
fn audit(report: &Report, port: u16, protocol: u8, verdict: u8, held: u32, name: &str) -> Result<(), Failed> {
    let [record] = &report.records("audit")?[..] else {
        return Err("there should be one record".into());
    };
    let wanted = [
        &1000u64.to_le_bytes()[..],
        &port.to_be_bytes(),
        &[protocol, verdict],
        &held.to_le_bytes(),
        &owner(name),
    ]
    .concat();
    expect("length of the record", record.len(), 8 + wanted.len())?;
    expect("record", &record[8..], &wanted[..])
}

fn reserved_port() -> Result<(), Failed> {
    for (image, port, protocol, verdict) in [
        ("nginx.exe", 443, TCP, BIND_PERMIT_SOFT),
        ("Nginx.EXE", 443, TCP, BIND_PERMIT_SOFT),
        ("nginy.exe", 443, TCP, BIND_DENY),
        ("nginx.exe2", 443, TCP, BIND_DENY),
        ("nginx.ex", 443, TCP, BIND_DENY),
        ("", 443, TCP, BIND_DENY),
        ("nginx.exe but longer than a rule", 443, TCP, BIND_DENY),
        ("other.exe", 443, UDP, BIND_PERMIT_SOFT),
        ("other.exe", 444, TCP, BIND_PERMIT_SOFT),
    ] {
        let report = run_bind(0, protocol, port, image).report()?;
        expect(&format!("{image:?} on {port}/{protocol}"), report.result(0)?, verdict)?;
        if verdict == BIND_DENY {
            let shown: String = image.to_ascii_lowercase().chars().take(16).collect();
            audit(&report, port, protocol, 1, 0, &shown)?;
        } else {
            expect("records", report.records("audit")?.len(), 0)?;
        }
    }
    // A rule without a name: nobody.
    let report = run_bind(0, TCP, 25, "")
        .set("reserved_ports", &port_key(25, TCP), &owner(""))
        .report()?;
    expect("a port for nobody", report.result(0)?, BIND_DENY)?;
    // Every name of up to 16 units fits a rule, and one more does not.
    let (fits, too_long) = ("sixteen-units.ex", "sixteen-units.exe");
    for (image, verdict) in [(fits, BIND_PERMIT_SOFT), (too_long, BIND_DENY)] {
        let report = run_bind(0, TCP, 25, image)
            .set("reserved_ports", &port_key(25, TCP), &owner(fits))
            .report()?;
        expect(image, report.result(0)?, verdict)?;
    }
    Ok(())
}

fn held_ports() -> Result<(), Failed> {
    let process = 1000u64.to_le_bytes();
    let held = |count: u32| count.to_le_bytes();
    let now = |report: &Report| report.values("ports_held", &process);
    let run = |operation, before: u32| {
        let run = run_bind(operation, UDP, 5000, "game.exe");
        if before == 0 {
            run
        } else {
            run.set("ports_held", &process, &held(before))
        }
    };
    // What happened, ports held before, verdict, what the record says, ports held after.
    for (operation, before, verdict, record, after) in [
        (ASKED, 63, BIND_PERMIT_SOFT, None, 63),
        (ASKED, 64, BIND_DENY, Some((2, 64)), 64),
        (GRANTED, 0, BIND_PERMIT_SOFT, Some((0, 1)), 1),
        (GRANTED, 5, BIND_PERMIT_SOFT, Some((0, 6)), 6),
        (RELEASED, 5, BIND_PERMIT_SOFT, Some((3, 4)), 4),
        (RELEASED, 1, BIND_PERMIT_SOFT, Some((3, 0)), 0),
        (RELEASED, 0, BIND_PERMIT_SOFT, Some((3, 0)), 0),
    ] {
        let report = run(operation, before).report()?;
        let name = format!("operation {operation} with {before} ports");
        expect(&name, report.result(0)?, verdict)?;
        expect(
            &name,
            now(&report)?,
            if after == 0 { vec![] } else { vec![held(after).to_vec()] },
        )?;
        match record {
            Some((verdict, held)) => audit(&report, 5000, UDP, verdict, held, "game.exe")?,
            None => expect(&name, report.records("audit")?.len(), 0)?,
        }
    }
    // No limit, and silence about what is permitted.
    let limits = [0u32.to_le_bytes(), 0u32.to_le_bytes()].concat();
    for operation in [ASKED, GRANTED] {
        let report = run(operation, 9999).set("bind_po.data", &[0; 4], &limits).report()?;
        expect("without a limit", report.result(0)?, BIND_PERMIT_SOFT)?;
        expect("without a limit", report.records("audit")?.len(), 0)?;
    }
    Ok(())
}
