//! `flow_log`: what it reports of connections, and what it remembers.

use libtest_mimic::{Failed, Trial};

use super::inputs::sock_ops;
use super::runner::{Report, Run, SIMULATED_PROCESS, expect, programs, read_u32, read_u64};
use crate::packets::{CLIENT4, CLIENT6, SERVER4, SERVER6, TCP, UDP};

pub fn trials() -> Vec<Trial> {
    [
        programs("flow_log_reports_connections_that_start", flow_starts),
        programs("flow_log_measures_connections_that_end", flow_ends),
    ]
    .into_iter()
    .flatten()
    .collect()
}

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
        ([8, 0, 0xd1, 0x07], 0, 250_000), // reported from 2001 ms on
        ([8, 0, 0xd0, 0x07], 1, 250_000), // from 2000 ms on
        ([0, 0, 0, 0], 1, 0),
        ([0xff, 0xff, 0, 0], 1, 0), // a weight of -1
    ] {
        let run = run_flow(DELETED).set("flow_lo.data", &[0; 4], &config);
        let report = run.set("flows", &SIMULATED_FLOW.to_le_bytes(), &flow(0)).report()?;
        expect("records", report.records("events")?.len(), records)?;
        expect("mean", read_u64(&report.values("totals", &[0; 4])?[0], 32)?, mean)?;
    }
    Ok(())
}
