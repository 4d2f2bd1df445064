//! Changes that know what packets are made of: Ethernet with tags, IPv4 with options, IPv6 with extension headers, and ports.
//!
//! Random bytes almost never get behind the first of them.

use super::generate::{number, put};
use super::random::Random;

const ETHERNET: usize = 14;
const TYPES: [u16; 7] = [0x0800, 0x86dd, 0x0806, 0x8100, 0x88a8, 0x8847, 0x88cc];
const TAGS: [u16; 2] = [0x8100, 0x88a8];
const IPV4: u16 = 0x0800;
const IPV6: u16 = 0x86dd;
/// TCP, UDP, `ICMP`, `ICMPv6`; hop-by-hop, routing, fragment, authentication, destination options; nothing; others.
const PROTOCOLS: [u8; 13] = [6, 17, 17, 1, 58, 0, 43, 44, 51, 60, 59, 50, 132];
const EXTENSIONS: [u8; 5] = [0, 43, 44, 51, 60];

/// What is behind the Ethernet header and its tags.
struct Inner {
    /// Where the type is that says what follows.
    type_at: usize,
    ether_type: u16,
    /// Where it starts.
    start: usize,
}

fn word(packet: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes(packet.get(at..at + 2)?.try_into().ok()?))
}

fn inner(packet: &[u8]) -> Option<Inner> {
    let mut type_at = ETHERNET - 2;
    let mut ether_type = word(packet, type_at)?;
    while TAGS.contains(&ether_type) {
        type_at += 4;
        ether_type = word(packet, type_at)?;
    }
    Some(Inner {
        type_at,
        ether_type,
        start: type_at + 2,
    })
}

/// Changes a field of a header, or adds a header.
pub(super) fn change(packet: &mut Vec<u8>, random: &mut Random) {
    let Some(Inner {
        type_at,
        ether_type,
        start,
    }) = inner(packet)
    else {
        packet.resize(packet.len().max(ETHERNET), 0);
        let ether_type = random.pick(&TYPES).unwrap_or_default();
        return put(packet, ETHERNET - 2, &ether_type.to_be_bytes());
    };
    match random.below(10) {
        0 => {
            let ether_type = random.pick(&TYPES).unwrap_or_default();
            put(packet, type_at, &ether_type.to_be_bytes());
        }
        1 => {
            let tag = random.pick(&TAGS).unwrap_or_default().to_be_bytes();
            let id = random.byte();
            packet.splice(type_at..type_at, [tag[0], tag[1], 0, id]);
        }
        _ if ether_type == IPV4 => ipv4(packet, start, random),
        _ if ether_type == IPV6 => ipv6(packet, start, random),
        // What else there may be: a field of 16 bits.
        _ => {
            let at = start + 2 * random.below(16);
            let value = number(packet.len(), at, random);
            put(packet, at, &value.to_be_bytes());
        }
    }
}

fn ipv4(packet: &mut Vec<u8>, start: usize, random: &mut Random) {
    let words = packet.get(start).map_or(5, |byte| byte & 15);
    let payload = start + usize::from(words) * 4;
    match random.below(7) {
        0 => put(packet, start, &[0x40 | random.byte() & 15]),
        1 => {
            let length = number(packet.len(), start, random);
            put(packet, start + 2, &length.to_be_bytes());
        }
        2 => {
            let fragment = random.pick(&[0, 0x2000, 0x4000, 1, 0x2001, 0x1fff]).unwrap_or(0_u16);
            put(packet, start + 6, &fragment.to_be_bytes());
        }
        3 => put(packet, start + 9, &[random.pick(&PROTOCOLS).unwrap_or_default()]),
        4 if words < 15 && payload <= packet.len() => {
            put(packet, start, &[0x40 | (words + 1)]);
            let option = [random.byte(), random.byte(), 0, 0];
            packet.splice(payload..payload, option);
        }
        _ => transport(packet, payload, random),
    }
}

fn ipv6(packet: &mut Vec<u8>, start: usize, random: &mut Random) {
    let payload = start + 40;
    match random.below(7) {
        0 => {
            let length = number(packet.len(), payload, random);
            put(packet, start + 4, &length.to_be_bytes());
        }
        1 => put(packet, start + 6, &[random.pick(&PROTOCOLS).unwrap_or_default()]),
        2 => put(
            packet,
            start + 7,
            &[random.pick(&[0, 1, 64, 254, 255]).unwrap_or_default()],
        ),
        3 | 4 if payload <= packet.len() => {
            let next = packet[start + 6];
            put(packet, start + 6, &[random.pick(&EXTENSIONS).unwrap_or_default()]);
            let words = if random.percent(70) { 0 } else { random.byte() & 3 };
            let mut extension = vec![0; 8 + usize::from(words) * 8];
            extension[..2].copy_from_slice(&[next, words]);
            if random.percent(30) {
                extension[3] = random.byte();
            }
            packet.splice(payload..payload, extension);
        }
        _ => transport(packet, payload, random),
    }
}

/// Ports, a length, a type and code: 16-bit fields at the start of what is carried.
fn transport(packet: &mut [u8], at: usize, random: &mut Random) {
    let at = at + 2 * random.below(4);
    let value = match random.below(3) {
        0 => random
            .pick(&[53, 67, 80, 123, 443, 0x0800, 0x8600, 0x8900])
            .unwrap_or(0_u16),
        _ => number(packet.len(), at, random),
    };
    put(packet, at, &value.to_be_bytes());
}

/// A frame whose first headers make sense, with random bytes behind.
pub(super) fn frame(random: &mut Random) -> Vec<u8> {
    let mut packet = random.bytes(ETHERNET - 2);
    // Of one station.
    put(&mut packet, 0, &[2]);
    put(&mut packet, 6, &[2]);
    let ether_type = random.pick(&TYPES).unwrap_or_default();
    packet.extend(ether_type.to_be_bytes());
    let count = random.below(80);
    let payload = random.bytes(8 + count);
    let protocol = random.pick(&PROTOCOLS).unwrap_or_default();
    match ether_type {
        IPV4 => {
            let length = (20 + payload.len()) as u16;
            packet.extend([0x45, 0]);
            packet.extend(length.to_be_bytes());
            packet.extend([0, 0, 0, 0, 64, protocol, 0, 0]);
            packet.extend(random.bytes(8));
        }
        IPV6 => {
            packet.extend([0x60, 0, 0, 0]);
            packet.extend((payload.len() as u16).to_be_bytes());
            packet.extend([protocol, 255]);
            packet.extend(random.bytes(32));
        }
        _ => {}
    }
    packet.extend(payload);
    packet
}
