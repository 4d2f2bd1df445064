//! `connect_redirect`: where connections go, and what the proxy is told.

use libtest_mimic::{Failed, Trial};

use super::inputs::connect;
use super::runner::{Report, Run, SIMULATED_PROCESS, expect, programs};
use crate::packets::{SERVER4, SERVER6, TCP, UDP};

pub fn trials() -> Vec<Trial> {
    [
        programs("connect_redirect_redirects_by_rule", redirect),
        programs(
            "connect_redirect_passes_the_destination_with_one_byte_changed",
            redirect_one_byte,
        ),
        programs("connect_redirect_follows_its_configuration", redirect_configuration),
    ]
    .into_iter()
    .flatten()
    .collect()
}

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
