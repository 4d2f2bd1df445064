//! `udp_filter`: which frames it drops, and how it counts them.

use libtest_mimic::{Failed, Trial};

use super::runner::{Run, expect, programs};
use crate::packets::{
    ARP, AUTHENTICATION, CLIENT4, CLIENT6, DESTINATION_OPTIONS, FRAGMENT, HOP_BY_HOP, IPV4, IPV6, Ipv4, SERVER4,
    SERVER6, SERVICE_VLAN, TCP, UDP, VLAN, arp, authentication, ethernet, extension, fragment, ipv6, tcp_syn, udp,
    udp4, udp6, vlan,
};

const XDP_PASS: u64 = 1;
const XDP_DROP: u64 = 2;

/// Indices of `counters`.
const NOT_UDP: usize = 0;
const PASSED: usize = 1;
const DROPPED_DESTINATION: usize = 2;
const DROPPED_SOURCE: usize = 3;
const FRAGMENTED: usize = 4;
const MALFORMED: usize = 5;
const TOO_MANY_EXTENSIONS: usize = 6;
const COUNTERS: u32 = 7;

const DESTINATION: u8 = 1;
const SOURCE: u8 = 2;

pub fn trials() -> Vec<Trial> {
    [
        programs("udp_filter_drops_by_port_behind_every_header_it_reads", by_port),
        programs("udp_filter_follows_its_configuration", configuration),
        programs("udp_filter_drops_every_frame_that_is_cut_short", cut_short),
        programs("udp_filter_passes_the_datagram_with_one_byte_changed", one_byte),
    ]
    .into_iter()
    .flatten()
    .collect()
}

fn run(frame: &[u8]) -> Run {
    Run::new("udp_filter", "udp_filter").packet(frame)
}

/// Runs one frame with port 53 blocked, and expects a verdict and one count.
fn check(name: &str, run: &Run, verdict: u64, counter: usize) -> Result<(), Failed> {
    let report = run.report()?;
    expect(&format!("{name}: verdict"), report.result(0)?, verdict)?;
    let mut counts = vec![0; COUNTERS as usize];
    counts[counter] = 1;
    expect(
        &format!("{name}: counters"),
        report.counters("counters", COUNTERS)?,
        counts,
    )
}

fn by_port() -> Result<(), Failed> {
    let query = udp(&CLIENT4, &SERVER4, (49152, 53), b"?");
    let query6 = udp(&CLIENT6, &SERVER6, (49152, 53), b"?");
    let query_ip = Ipv4 {
        payload: &query,
        ..Ipv4::default()
    }
    .bytes();
    let ip6 = |next, payload: &[u8]| ethernet(IPV6, &ipv6(next, 64, payload));
    let options = |count: u8, payload: &[u8]| {
        (0..count).fold((UDP, payload.to_vec()), |(next, inner), _| {
            (DESTINATION_OPTIONS, extension(next, 1, &inner))
        })
    };
    let (six, six_extensions) = options(6, &query6);
    let (seven, seven_extensions) = options(7, &query6);
    let ipv4 = |packet: Ipv4| ethernet(IPV4, &packet.bytes());

    let frames: [(&str, Vec<u8>, u64, usize); 20] = [
        ("IPv4", ethernet(IPV4, &query_ip), XDP_DROP, DROPPED_DESTINATION),
        ("another port", udp4((49152, 54), b"?"), XDP_PASS, PASSED),
        ("53 as source", udp4((53, 49152), b"!"), XDP_PASS, PASSED),
        (
            "IPv4 options",
            ipv4(Ipv4 {
                options: &[1; 40],
                payload: &query,
                ..Ipv4::default()
            }),
            XDP_DROP,
            DROPPED_DESTINATION,
        ),
        (
            "VLAN",
            ethernet(VLAN, &vlan(7, IPV4, &query_ip)),
            XDP_DROP,
            DROPPED_DESTINATION,
        ),
        (
            "two VLAN tags",
            ethernet(SERVICE_VLAN, &vlan(8, VLAN, &vlan(7, IPV4, &query_ip))),
            XDP_DROP,
            DROPPED_DESTINATION,
        ),
        (
            "three VLAN tags",
            ethernet(VLAN, &vlan(9, VLAN, &vlan(8, VLAN, &vlan(7, IPV4, &query_ip)))),
            XDP_PASS,
            NOT_UDP,
        ),
        ("IPv6", ip6(UDP, &query6), XDP_DROP, DROPPED_DESTINATION),
        ("IPv6, another port", udp6((49152, 54), b"?"), XDP_PASS, PASSED),
        (
            "IPv6 hop-by-hop options",
            ip6(HOP_BY_HOP, &extension(UDP, 0, &query6)),
            XDP_DROP,
            DROPPED_DESTINATION,
        ),
        (
            "IPv6 long options",
            ip6(DESTINATION_OPTIONS, &extension(UDP, 255, &query6)),
            XDP_DROP,
            DROPPED_DESTINATION,
        ),
        (
            "IPv6 authentication",
            ip6(AUTHENTICATION, &authentication(UDP, &query6)),
            XDP_DROP,
            DROPPED_DESTINATION,
        ),
        (
            "IPv6, six extensions",
            ip6(six, &six_extensions),
            XDP_DROP,
            DROPPED_DESTINATION,
        ),
        (
            "IPv6, seven extensions",
            ip6(seven, &seven_extensions),
            XDP_PASS,
            TOO_MANY_EXTENSIONS,
        ),
        (
            "first fragment, IPv4",
            ipv4(Ipv4 {
                fragment: 0x2000,
                payload: &query,
                ..Ipv4::default()
            }),
            XDP_DROP,
            DROPPED_DESTINATION,
        ),
        (
            "later fragment, IPv4",
            ipv4(Ipv4 {
                fragment: 1,
                payload: &query,
                ..Ipv4::default()
            }),
            XDP_PASS,
            FRAGMENTED,
        ),
        (
            "first fragment, IPv6",
            ip6(FRAGMENT, &fragment(UDP, 0, true, &query6)),
            XDP_DROP,
            DROPPED_DESTINATION,
        ),
        (
            "later fragment, IPv6",
            ip6(FRAGMENT, &fragment(UDP, 1, false, &query6)),
            XDP_PASS,
            FRAGMENTED,
        ),
        (
            "TCP",
            ipv4(Ipv4 {
                protocol: TCP,
                payload: &tcp_syn(&CLIENT4, &SERVER4, (49152, 53)),
                ..Ipv4::default()
            }),
            XDP_PASS,
            NOT_UDP,
        ),
        ("ARP", ethernet(ARP, &arp(1)), XDP_PASS, NOT_UDP),
    ];
    for (name, frame, verdict, counter) in frames {
        check(
            name,
            &run(&frame).set("blocked_ports", &53u16.to_be_bytes(), &[DESTINATION]),
            verdict,
            counter,
        )?;
    }

    let answer = run(&udp4((53, 49152), b"!"));
    check(
        "53 blocked as source",
        &answer.set("blocked_ports", &53u16.to_be_bytes(), &[SOURCE]),
        XDP_DROP,
        DROPPED_SOURCE,
    )?;
    let question = run(&udp4((49152, 53), b"?"));
    check(
        "source only",
        &question.set("blocked_ports", &53u16.to_be_bytes(), &[SOURCE]),
        XDP_PASS,
        PASSED,
    )
}

fn configuration() -> Result<(), Failed> {
    let config = |monitor_only: u32, drop_fragments: u32, drop_malformed: u32| {
        [
            monitor_only.to_le_bytes(),
            drop_fragments.to_le_bytes(),
            drop_malformed.to_le_bytes(),
        ]
        .concat()
    };
    let query = udp4((49152, 53), b"?");
    let later = ethernet(
        IPV4,
        &Ipv4 {
            fragment: 1,
            payload: &[0; 16],
            ..Ipv4::default()
        }
        .bytes(),
    );
    let mut contradicts_itself = query.clone();
    contradicts_itself[14] = 0x44; // a header length of 16 bytes
    let mut too_short = query.clone();
    too_short[14 + 20 + 5] = 7; // a UDP length below that of its header
    for (name, frame, config, verdict, counter) in [
        ("dropping", &query, config(0, 0, 1), XDP_DROP, DROPPED_DESTINATION),
        ("monitoring", &query, config(1, 0, 1), XDP_PASS, DROPPED_DESTINATION),
        ("passing fragments", &later, config(0, 0, 1), XDP_PASS, FRAGMENTED),
        ("dropping fragments", &later, config(0, 1, 1), XDP_DROP, FRAGMENTED),
        ("monitoring fragments", &later, config(1, 1, 1), XDP_PASS, FRAGMENTED),
        (
            "dropping a wrong IPv4 header",
            &contradicts_itself,
            config(0, 0, 1),
            XDP_DROP,
            MALFORMED,
        ),
        (
            "passing a wrong IPv4 header",
            &contradicts_itself,
            config(0, 0, 0),
            XDP_PASS,
            MALFORMED,
        ),
        (
            "dropping a wrong UDP length",
            &too_short,
            config(0, 0, 1),
            XDP_DROP,
            MALFORMED,
        ),
    ] {
        let run = run(frame)
            .set("blocked_ports", &53u16.to_be_bytes(), &[DESTINATION])
            .set("udp_fil.data", &[0; 4], &config);
        check(name, &run, verdict, counter)?;
    }
    Ok(())
}

fn cut_short() -> Result<(), Failed> {
    for (name, frame, headers) in [
        ("IPv4", udp4((49152, 54), b"?"), 14 + 20 + 8),
        ("IPv6", udp6((49152, 54), b"?"), 14 + 40 + 8),
    ] {
        let mut run = Run::new("udp_filter", "udp_filter");
        for length in 0..=frame.len() {
            run = run.packet(&frame[..length]);
        }
        let report = run.report()?;
        let wanted: Vec<u64> = (0..=frame.len())
            .map(|length| if length < headers { XDP_DROP } else { XDP_PASS })
            .collect();
        expect(name, report.results()?, wanted)?;
        let counts = report.counters("counters", COUNTERS)?;
        expect(name, counts[MALFORMED], headers as u64)?;
        expect(name, counts[PASSED], (frame.len() + 1 - headers) as u64)?;
    }
    Ok(())
}

fn one_byte() -> Result<(), Failed> {
    let frame = udp4((49152, 53), b"?");
    let mut changed = frame.clone();
    changed[14 + 20 + 3] ^= 1; // the lower byte of the destination port
    let report = run(&frame)
        .packet(&changed)
        .set("blocked_ports", &53u16.to_be_bytes(), &[DESTINATION])
        .report()?;
    expect("verdicts", report.results()?, [XDP_DROP, XDP_PASS])?;
    expect("name", report.result_name(0)?, Some("XDP_DROP"))?;
    expect("name", report.result_name(1)?, Some("XDP_PASS"))?;
    expect("the frame afterwards", report.bytes(0, "packet")?, frame)
}
