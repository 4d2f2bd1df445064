//! `tail_dispatch`: which stage a frame reaches, and what the stages do.

use libtest_mimic::{Failed, Trial};

use super::runner::{Run, expect, programs};
use crate::packets::{
    ARP, CLIENT_MAC, CLIENT4, CLIENT6, DESTINATION_OPTIONS, FRAGMENT, ICMP, ICMPV6, IPV4, IPV6, Ipv4, SERVER_MAC,
    SERVER4, SERVER6, UDP, VLAN, arp, ethernet, extension, fragment, frame, icmp, icmpv6, ipv6, udp, udp4, vlan,
};

const XDP_PASS: u64 = 1;
const XDP_DROP: u64 = 2;
const XDP_TX: u64 = 3;

/// Indices of `counters`.
const NO_STAGE: usize = 0;
const MALFORMED: usize = 1;
const PASSED: usize = 2;
const ARP_LIMITED: usize = 3;
const ECHO_ANSWERED: usize = 4;
const ECHO_FRAGMENT: usize = 5;
const ROGUE_ROUTER: usize = 6;
const COUNTERS: u32 = 7;

const ECHO_REPLY: u8 = 0;
const ECHO_REQUEST: u8 = 8;
const ROUTER_ADVERTISEMENT: u8 = 134;
const REDIRECT: u8 = 137;

pub fn trials() -> Vec<Trial> {
    [
        programs("tail_dispatch_answers_echo_requests_with_right_checksums", echo),
        programs("tail_dispatch_leaves_other_ipv4_alone", ipv4),
        programs(
            "tail_dispatch_drops_advertisements_of_unknown_routers",
            router_advertisements,
        ),
        programs("tail_dispatch_limits_arp_requests_of_one_sender", arp_requests),
        programs("tail_dispatch_passes_what_has_no_stage", no_stage),
        programs("tail_dispatch_drops_headers_that_are_cut_short", cut_short),
    ]
    .into_iter()
    .flatten()
    .collect()
}

fn run(frame: &[u8]) -> Run {
    Run::new("tail_dispatch", "dispatch").packet(frame)
}

/// Runs one frame, and expects a verdict, the stage that gave it, and one count.
fn check(name: &str, run: &Run, stages: &[&str], verdict: u64, counter: usize) -> Result<(), Failed> {
    let report = run.report()?;
    expect(&format!("{name}: verdict"), report.result(0)?, verdict)?;
    expect(&format!("{name}: stages"), report.tail_calls(0)?, stages)?;
    let mut counts = vec![0; COUNTERS as usize];
    counts[counter] = 1;
    expect(
        &format!("{name}: counters"),
        report.counters("counters", COUNTERS)?,
        counts,
    )
}

/// An ICMP message with some data, in a frame.
fn message(kind: u8, code: u8, length: usize, packet: Ipv4) -> Vec<u8> {
    let data: Vec<u8> = (0..length).map(|i| (i * 7) as u8).collect();
    let payload = icmp(kind, code, [0x12, 0x34, 0, 1], &data);
    ethernet(
        IPV4,
        &Ipv4 {
            protocol: ICMP,
            payload: &payload,
            ..packet
        }
        .bytes(),
    )
}

fn echo() -> Result<(), Failed> {
    let mut requests = Run::new("tail_dispatch", "dispatch");
    let mut replies = Vec::new();
    // Times to live and lengths that carry through the sums in different ways.
    for (time_to_live, length) in [(1, 0), (63, 1), (64, 2), (65, 31), (128, 32), (255, 1000)] {
        for identification in [0, 1, 0x7fff, 0xb3c2, 0xffff] {
            let request = Ipv4 {
                time_to_live,
                identification,
                ..Ipv4::default()
            };
            requests = requests.packet(&message(ECHO_REQUEST, 0, length, request));
            let reply = Ipv4 {
                source: SERVER4,
                destination: CLIENT4,
                identification,
                ..Ipv4::default()
            };
            let mut frame = message(ECHO_REPLY, 0, length, reply);
            frame[..6].copy_from_slice(&CLIENT_MAC);
            frame[6..12].copy_from_slice(&SERVER_MAC);
            replies.push(frame);
        }
    }
    let report = requests.report()?;
    for (index, reply) in replies.iter().enumerate() {
        expect("verdict", report.result(index)?, XDP_TX)?;
        expect("stages", report.tail_calls(index)?, ["stage_ipv4"])?;
        expect("reply", &report.bytes(index, "packet")?, reply)?;
    }
    expect(
        "answered",
        report.counters("counters", COUNTERS)?[ECHO_ANSWERED],
        replies.len() as u64,
    )
}

fn ipv4() -> Result<(), Failed> {
    let mut broadcast = message(ECHO_REQUEST, 0, 8, Ipv4::default());
    broadcast[..6].fill(0xff);
    let mut one_byte_changed = message(ECHO_REQUEST, 0, 8, Ipv4::default());
    one_byte_changed[34] = 13; // a timestamp request
    for (name, frame, verdict, counter) in [
        ("a timestamp request", one_byte_changed, XDP_PASS, PASSED),
        (
            "an echo reply",
            message(ECHO_REPLY, 0, 8, Ipv4::default()),
            XDP_PASS,
            PASSED,
        ),
        (
            "an echo request with a code",
            message(ECHO_REQUEST, 1, 8, Ipv4::default()),
            XDP_PASS,
            PASSED,
        ),
        ("a broadcast echo request", broadcast, XDP_PASS, PASSED),
        (
            "a fragment",
            message(
                ECHO_REQUEST,
                0,
                8,
                Ipv4 {
                    fragment: 0x2000,
                    ..Ipv4::default()
                },
            ),
            XDP_DROP,
            ECHO_FRAGMENT,
        ),
        ("UDP", udp4((1, 2), b""), XDP_PASS, PASSED),
    ] {
        let run = run(&frame);
        check(name, &run, &["stage_ipv4"], verdict, counter)?;
        expect(name, run.report()?.bytes(0, "packet")?, frame)?;
    }
    Ok(())
}

fn router_advertisements() -> Result<(), Failed> {
    let advertisement = icmpv6(ROUTER_ADVERTISEMENT, 0, &[64, 0, 7, 8, 0, 0, 0, 0, 0, 0, 0, 0]);
    let plain = ethernet(IPV6, &ipv6(ICMPV6, 255, &advertisement));
    let mut one_byte_changed = plain.clone();
    one_byte_changed[54] = 135; // a neighbour solicitation
    let hidden = |count: usize| {
        let (next, payload) = (0..count).fold((ICMPV6, advertisement.clone()), |(next, inner), _| {
            (DESTINATION_OPTIONS, extension(next, 0, &inner))
        });
        ethernet(IPV6, &ipv6(next, 255, &payload))
    };
    let fragmented = |offset| {
        ethernet(
            IPV6,
            &ipv6(FRAGMENT, 255, &fragment(ICMPV6, offset, true, &advertisement)),
        )
    };
    for (name, frame, verdict, counter) in [
        ("an advertisement", plain.clone(), XDP_DROP, ROGUE_ROUTER),
        ("a solicitation", one_byte_changed, XDP_PASS, PASSED),
        (
            "a redirect",
            ethernet(IPV6, &ipv6(ICMPV6, 255, &icmpv6(REDIRECT, 0, &[0; 36]))),
            XDP_DROP,
            ROGUE_ROUTER,
        ),
        (
            "one that was forwarded",
            ethernet(IPV6, &ipv6(ICMPV6, 254, &advertisement)),
            XDP_PASS,
            PASSED,
        ),
        ("one behind a header", hidden(1), XDP_DROP, ROGUE_ROUTER),
        ("one behind four headers", hidden(4), XDP_DROP, ROGUE_ROUTER),
        ("something behind five headers", hidden(5), XDP_DROP, ROGUE_ROUTER),
        ("the first fragment of one", fragmented(0), XDP_DROP, ROGUE_ROUTER),
        ("a later fragment of one", fragmented(1), XDP_PASS, PASSED),
        (
            "UDP",
            ethernet(IPV6, &ipv6(UDP, 255, &udp(&CLIENT6, &SERVER6, (1, 2), b""))),
            XDP_PASS,
            PASSED,
        ),
    ] {
        check(name, &run(&frame), &["stage_ipv6"], verdict, counter)?;
    }
    check(
        "a router's",
        &run(&plain).set("routers", &CLIENT_MAC, &[1]),
        &["stage_ipv6"],
        XDP_PASS,
        PASSED,
    )
}

fn arp_requests() -> Result<(), Failed> {
    let request = ethernet(ARP, &arp(1));
    let neighbour = frame(SERVER_MAC, [2, 0, 0, 0, 0, 9], ARP, &arp(1));
    let mut run = Run::new("tail_dispatch", "dispatch");
    for _ in 0..12 {
        run = run.packet(&request);
    }
    run = run.packet(&neighbour).packet(&ethernet(ARP, &arp(2)));
    let report = run.report()?;
    let wanted = [vec![XDP_PASS; 10], vec![XDP_DROP; 2], vec![XDP_PASS; 2]].concat();
    expect("verdicts", report.results()?, wanted)?;
    expect("stages", report.tail_calls(0)?, ["stage_arp"])?;
    let counts = report.counters("counters", COUNTERS)?;
    expect("counters", (counts[PASSED], counts[ARP_LIMITED]), (12, 2))
}

fn no_stage() -> Result<(), Failed> {
    let tagged = ethernet(VLAN, &vlan(7, IPV4, &Ipv4::default().bytes()));
    check("a VLAN tag", &run(&tagged), &[], XDP_PASS, NO_STAGE)?;
    check(
        "an unknown type",
        &run(&ethernet(0x88cc, &[0; 46])),
        &[],
        XDP_PASS,
        NO_STAGE,
    )
}

fn cut_short() -> Result<(), Failed> {
    let solicitation = ethernet(IPV6, &ipv6(ICMPV6, 255, &icmpv6(135, 0, &[0; 20])));
    for (frame, stage, headers) in [
        (ethernet(ARP, &arp(2)), "stage_arp", 14 + 28),
        (message(ECHO_REPLY, 0, 8, Ipv4::default()), "stage_ipv4", 14 + 20 + 8),
        (solicitation, "stage_ipv6", 14 + 40 + 8),
    ] {
        let mut run = Run::new("tail_dispatch", "dispatch");
        for length in 0..=frame.len() {
            run = run.packet(&frame[..length]);
        }
        let report = run.report()?;
        for length in 0..=frame.len() {
            let name = format!("{stage}: {length} bytes");
            expect(
                &name,
                report.result(length)?,
                if length < headers { XDP_DROP } else { XDP_PASS },
            )?;
            let stages = if length < 14 { vec![] } else { vec![stage] };
            expect(&name, report.tail_calls(length)?, stages)?;
        }
        expect(stage, report.counters("counters", COUNTERS)?[MALFORMED], headers as u64)?;
    }
    Ok(())
}
