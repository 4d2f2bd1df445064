//! `bind_policy`, `connect_redirect` and `flow_log`: verdicts, what they change, and what they report.

use libtest_mimic::{Failed, Trial};

use super::inputs::{bind, connect, sock_ops};
use super::runner::{Report, Run, expect, read_u32, read_u64};
use crate::packets::{CLIENT4, CLIENT6, SERVER4, SERVER6, TCP, UDP, utf16};
use crate::support::test;

pub fn trials() -> Vec<Trial> {
    vec![
        test(
            "examples::bind_policy_gives_a_reserved_port_to_its_owner_only",
            reserved_port,
        ),
        test(
            "examples::bind_policy_limits_and_counts_the_ports_of_a_process",
            held_ports,
        ),
        test("examples::connect_redirect_redirects_by_rule", redirect),
        test(
            "examples::connect_redirect_passes_the_destination_with_one_byte_changed",
            redirect_one_byte,
        ),
        test(
            "examples::connect_redirect_follows_its_configuration",
            redirect_configuration,
        ),
        test("examples::flow_log_reports_connections_that_start", flow_starts),
        test("examples::flow_log_measures_connections_that_end", flow_ends),
    ]
}

// -- bind_policy ------------------------------------------------------------------------------------------------------

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
    const ASKED: u32 = 0;
    const GRANTED: u32 = 1;
    const RELEASED: u32 = 2;
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

// -- connect_redirect -------------------------------------------------------------------------------------------------

const REJECT: u64 = 0;
const PROCEED_SOFT: u64 = 1;

const PERMIT_RULE: u32 = 0;
const REDIRECT_RULE: u32 = 1;
const REJECT_RULE: u32 = 2;

/// Indices of `counters`.
const PERMITTED: usize = 0;
const REDIRECTED: usize = 1;
const REJECTED: usize = 2;
const FROM_PROXY: usize = 3;

/// The process that the simulator says programs run in.
const SIMULATED_PROCESS: u32 = 4242;

fn endpoint(address: &[u8], port: u16) -> Vec<u8> {
    let mut bytes = address.to_vec();
    bytes.resize(16, 0);
    [&bytes[..], &port.to_be_bytes(), &[0, 0]].concat()
}

fn rule(action: u32, address: &[u8], port: u16) -> Vec<u8> {
    [&action.to_le_bytes()[..], &endpoint(address, port)].concat()
}

/// The program, the map of its rules, a destination, and where the proxy listens: for both families.
fn families() -> [(&'static str, &'static str, &'static [u8], Vec<u8>); 2] {
    let mut loopback6 = vec![0; 16];
    loopback6[15] = 1;
    [
        ("connect_redirect4", "rules4", &SERVER4, vec![127, 0, 0, 1]),
        ("connect_redirect6", "rules6", &SERVER6, loopback6),
    ]
}

/// Expects a verdict, the remote address and port afterwards, and one count.
fn connected(report: &Report, verdict: u64, to: (&[u8], u16), counter: usize) -> Result<(), Failed> {
    expect("verdict", report.result(0)?, verdict)?;
    let context = report.bytes(0, "context")?;
    let address = context.get(24..24 + to.0.len()).ok_or("a short context")?;
    expect("address", address, to.0)?;
    expect(
        "port",
        context.get(40..42).ok_or("a short context")?,
        &to.1.to_be_bytes()[..],
    )?;
    let mut counts = vec![0; 4];
    counts[counter] = 1;
    expect("counters", report.counters("counters", 4)?, counts)
}

fn redirect() -> Result<(), Failed> {
    for (program, rules, server, proxy) in families() {
        let run = || Run::new("connect_redirect", program).context(connect(TCP, server, 443).bytes());
        let to_proxy = rule(REDIRECT_RULE, &proxy, 8080);
        for port in [443, 0] {
            let report = run().set(rules, &endpoint(server, port), &to_proxy).report()?;
            connected(&report, PROCEED_SOFT, (&proxy, 8080), REDIRECTED)?;
            // What the proxy is told: where the connection was going, its family, and whose it is.
            let family: u32 = if server.len() == 4 { 2 } else { 23 };
            let told = [
                endpoint(server, 443),
                family.to_le_bytes().to_vec(),
                u64::from(SIMULATED_PROCESS).to_le_bytes().to_vec(),
            ]
            .concat();
            expect("redirect context", report.bytes(0, "redirect_context")?, told)?;
        }
        // The rule for the port comes before the one for all ports.
        let both = run().set(rules, &endpoint(server, 0), &to_proxy);
        let report = both
            .set(rules, &endpoint(server, 443), &rule(REJECT_RULE, &proxy, 0))
            .report()?;
        connected(&report, REJECT, (server, 443), REJECTED)?;
        let report = run()
            .set(rules, &endpoint(server, 443), &rule(PERMIT_RULE, &proxy, 0))
            .report()?;
        connected(&report, PROCEED_SOFT, (server, 443), PERMITTED)?;
        // UDP is not looked at.
        let udp = Run::new("connect_redirect", program).context(connect(UDP, server, 443).bytes());
        let report = udp.set(rules, &endpoint(server, 443), &to_proxy).report()?;
        expect("UDP", report.result(0)?, PROCEED_SOFT)?;
        expect("UDP", report.counters("counters", 4)?, [0; 4])?;
    }
    Ok(())
}

fn redirect_one_byte() -> Result<(), Failed> {
    for (program, rules, server, proxy) in families() {
        let context = connect(TCP, server, 443);
        for changed in [24 + server.len() - 1, 41] {
            let mut bytes = context.bytes().to_vec();
            bytes[changed] ^= 1;
            let run = Run::new("connect_redirect", program).context(&bytes);
            let report = run
                .set(rules, &endpoint(server, 443), &rule(REDIRECT_RULE, &proxy, 8080))
                .report()?;
            expect("verdict", report.result(0)?, PROCEED_SOFT)?;
            expect("context", report.bytes(0, "context")?, bytes)?;
            expect("counters", report.counters("counters", 4)?[PERMITTED], 1)?;
        }
    }
    Ok(())
}

fn redirect_configuration() -> Result<(), Failed> {
    let config = |proxy: u32, block_unlisted: u32| [proxy.to_le_bytes(), block_unlisted.to_le_bytes()].concat();
    for (program, rules, server, proxy) in families() {
        let run = |config: &[u8]| {
            Run::new("connect_redirect", program)
                .context(connect(TCP, server, 443).bytes())
                .set("connect.bss", &[0; 4], config)
        };
        let to_proxy = rule(REDIRECT_RULE, &proxy, 8080);
        let report = run(&config(SIMULATED_PROCESS, 1))
            .set(rules, &endpoint(server, 443), &to_proxy)
            .report()?;
        connected(&report, PROCEED_SOFT, (server, 443), FROM_PROXY)?;
        let report = run(&config(SIMULATED_PROCESS + 1, 0))
            .set(rules, &endpoint(server, 443), &to_proxy)
            .report()?;
        connected(&report, PROCEED_SOFT, (&proxy, 8080), REDIRECTED)?;
        connected(&run(&config(0, 1)).report()?, REJECT, (server, 443), REJECTED)?;
        connected(&run(&config(0, 0)).report()?, PROCEED_SOFT, (server, 443), PERMITTED)?;
    }
    Ok(())
}

// -- flow_log ---------------------------------------------------------------------------------------------------------

const ESTABLISHED_OUT: u32 = 0;
const ESTABLISHED_IN: u32 = 1;
const DELETED: u32 = 2;

/// The flow id that the simulator gives.
const SIMULATED_FLOW: u64 = 7;
/// Nanoseconds since boot when the simulator starts a program.
const SIMULATED_TIME: u64 = 60_000_000_000;

fn run_flow(op: u32) -> Run {
    Run::new("flow_log", "flow_log").context(sock_ops(op, TCP, (&CLIENT4, 49152), (&SERVER4, 443)).bytes())
}

/// The only record in `events`.
fn flow_record(report: &Report) -> Result<Vec<u8>, Failed> {
    match <[Vec<u8>; 1]>::try_from(report.records("events")?) {
        Ok([record]) => Ok(record),
        Err(records) => Err(format!("there should be one record, not {records:x?}").into()),
    }
}

fn flow_starts() -> Result<(), Failed> {
    for (op, local, remote, direction, family) in [
        (ESTABLISHED_OUT, &CLIENT4[..], &SERVER4[..], 0, 2),
        (ESTABLISHED_IN, &SERVER4, &CLIENT4, 1, 2),
        (ESTABLISHED_OUT, &CLIENT6, &SERVER6, 0, 23),
        (ESTABLISHED_IN, &SERVER6, &CLIENT6, 1, 23),
    ] {
        let context = sock_ops(op, TCP, (local, 49152), (remote, 443));
        let report = Run::new("flow_log", "flow_log").context(context.bytes()).report()?;
        expect("result", report.result(0)?, 0)?;
        let record = flow_record(&report)?;
        let padded = |address: &[u8]| [address, &[0; 16]].concat()[..16].to_vec();
        let wanted = [
            SIMULATED_FLOW.to_le_bytes().to_vec(),
            u64::from(SIMULATED_PROCESS).to_le_bytes().to_vec(),
            0u64.to_le_bytes().to_vec(),
            padded(local),
            padded(remote),
            49152u16.to_le_bytes().to_vec(),
            443u16.to_le_bytes().to_vec(),
            vec![0, direction, family, TCP],
        ]
        .concat();
        expect("record", &record[8..], &wanted[..])?;
        // The flow is remembered, with the time in the record.
        let flows = report.values("flows", &SIMULATED_FLOW.to_le_bytes())?;
        let flow = flows.first().ok_or("the flow is not remembered")?;
        expect("start", &flow[..8], &record[..8])?;
        expect("direction", read_u32(flow, 8)?, u32::from(direction))?;
        expect("opened", read_u64(&report.values("totals", &[0; 4])?[0], 0)?, 1)?;
    }
    // UDP is not looked at; with a minimum, a start is counted only.
    let udp = sock_ops(ESTABLISHED_OUT, UDP, (&CLIENT4, 1), (&SERVER4, 2));
    let report = Run::new("flow_log", "flow_log").context(udp.bytes()).report()?;
    expect("UDP", report.records("events")?.len(), 0)?;
    expect("UDP", read_u64(&report.values("totals", &[0; 4])?[0], 0)?, 0)?;
    let report = run_flow(ESTABLISHED_OUT)
        .set("flow_lo.data", &[0; 4], &[8, 0, 1, 0])
        .report()?;
    expect("with a minimum", report.records("events")?.len(), 0)?;
    expect("with a minimum", read_u64(&report.values("totals", &[0; 4])?[0], 0)?, 1)
}

fn flow_ends() -> Result<(), Failed> {
    // A connection that started two seconds before.
    let flow = |direction: u32| {
        let started = SIMULATED_TIME - 2_000_000_000;
        [&started.to_le_bytes()[..], &direction.to_le_bytes(), &[0; 4]].concat()
    };
    let totals = |means: [i64; 2]| [&[0; 32][..], &means[0].to_le_bytes(), &means[1].to_le_bytes()].concat();
    for direction in [0u32, 1] {
        // Means below and above the lifetime: the difference is divided with its sign.
        for (mean_before, mean_after) in [(0, 250_000), (1_000_000, 1_125_000), (10_000_000, 9_000_000)] {
            let mut means = [77; 2];
            means[direction as usize] = mean_before;
            let run = run_flow(DELETED).set("totals", &[0; 4], &totals(means));
            let report = run
                .set("flows", &SIMULATED_FLOW.to_le_bytes(), &flow(direction))
                .report()?;
            expect("result", report.result(0)?, 0)?;
            let record = flow_record(&report)?;
            expect("lifetime in microseconds", read_u64(&record, 24)?, 2_000_000)?;
            expect("event and direction", &record[68..70], &[1, direction as u8][..])?;
            let totals = report.values("totals", &[0; 4])?;
            expect("closed", read_u64(&totals[0], 8)?, 1)?;
            expect("mean", read_u64(&totals[0], 32 + 8 * direction as usize)?, mean_after)?;
            expect("the other mean", read_u64(&totals[0], 40 - 8 * direction as usize)?, 77)?;
            expect(
                "the flow",
                report.values("flows", &SIMULATED_FLOW.to_le_bytes())?.len(),
                0,
            )?;
        }
    }
    // Never seen before; shorter than the minimum; without a mean.
    let report = run_flow(DELETED).report()?;
    expect("an unseen flow", &flow_record(&report)?[68..70], &[2, 0][..])?;
    expect(
        "an unseen flow",
        read_u64(&report.values("totals", &[0; 4])?[0], 16)?,
        1,
    )?;
    for (config, records, mean) in [
        ([8, 0, 0xd1, 0x07], 0, 250_000),
        ([8, 0, 0xd0, 0x07], 1, 250_000),
        ([0, 0, 0, 0], 1, 0),
    ] {
        let run = run_flow(DELETED).set("flow_lo.data", &[0; 4], &config);
        let report = run.set("flows", &SIMULATED_FLOW.to_le_bytes(), &flow(0)).report()?;
        expect("records", report.records("events")?.len(), records)?;
        expect("mean", read_u64(&report.values("totals", &[0; 4])?[0], 32)?, mean)?;
    }
    Ok(())
}
