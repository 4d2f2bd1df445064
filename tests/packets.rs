//! Frames for tests, made from their parts, with every length and checksum right.
//!
//! Written from the protocols' documents, not from the headers that the example programs use: the two judge each other.

use libtest_mimic::{Failed, Trial};

use crate::support::test;

/// Stations that frames go between.
pub const CLIENT_MAC: [u8; 6] = [0x02, 0x00, 0x5e, 0x10, 0x00, 0x01];
pub const SERVER_MAC: [u8; 6] = [0x02, 0x00, 0x5e, 0x10, 0x00, 0x02];
pub const CLIENT4: [u8; 4] = [192, 0, 2, 1];
pub const SERVER4: [u8; 4] = [198, 51, 100, 7];
pub const CLIENT6: [u8; 16] = [0x20, 0x01, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1];
pub const SERVER6: [u8; 16] = [0x20, 0x01, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2];

pub const IPV4: u16 = 0x0800;
pub const ARP: u16 = 0x0806;
pub const VLAN: u16 = 0x8100;
pub const SERVICE_VLAN: u16 = 0x88a8;
pub const IPV6: u16 = 0x86dd;

pub const HOP_BY_HOP: u8 = 0;
pub const ICMP: u8 = 1;
pub const TCP: u8 = 6;
pub const UDP: u8 = 17;
pub const FRAGMENT: u8 = 44;
pub const AUTHENTICATION: u8 = 51;
pub const ICMPV6: u8 = 58;
pub const DESTINATION_OPTIONS: u8 = 60;

/// The Internet checksum (RFC 1071) of some bytes.
pub fn checksum(bytes: &[u8]) -> u16 {
    let mut sum: u32 = 0;
    for pair in bytes.chunks(2) {
        sum += u32::from(u16::from_be_bytes([pair[0], *pair.get(1).unwrap_or(&0)]));
    }
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

/// An Ethernet frame from the client to the server.
pub fn ethernet(ether_type: u16, payload: &[u8]) -> Vec<u8> {
    frame(SERVER_MAC, CLIENT_MAC, ether_type, payload)
}

/// An Ethernet frame.
pub fn frame(destination: [u8; 6], source: [u8; 6], ether_type: u16, payload: &[u8]) -> Vec<u8> {
    [&destination[..], &source, &ether_type.to_be_bytes(), payload].concat()
}

/// What follows a frame's type when that is a VLAN tag's (IEEE 802.1Q): the tag, and the type of what it carries.
pub fn vlan(id: u16, ether_type: u16, payload: &[u8]) -> Vec<u8> {
    [&id.to_be_bytes()[..], &ether_type.to_be_bytes(), payload].concat()
}

/// An IPv4 packet (RFC 791) whose fields can be changed before its checksum is made.
#[derive(Clone, Copy)]
pub struct Ipv4<'a> {
    pub source: [u8; 4],
    pub destination: [u8; 4],
    pub protocol: u8,
    pub time_to_live: u8,
    pub identification: u16,
    /// Flags and fragment offset.
    pub fragment: u16,
    /// A multiple of four bytes.
    pub options: &'a [u8],
    pub payload: &'a [u8],
}

impl Default for Ipv4<'_> {
    fn default() -> Self {
        Ipv4 {
            source: CLIENT4,
            destination: SERVER4,
            protocol: UDP,
            time_to_live: 64,
            identification: 0,
            fragment: 0,
            options: &[],
            payload: &[],
        }
    }
}

impl Ipv4<'_> {
    /// The packet's bytes.
    pub fn bytes(&self) -> Vec<u8> {
        let header_length = 20 + self.options.len();
        let total = (header_length + self.payload.len()) as u16;
        let mut header = vec![0x40 | (header_length / 4) as u8, 0];
        header.extend(total.to_be_bytes());
        header.extend(self.identification.to_be_bytes());
        header.extend(self.fragment.to_be_bytes());
        header.extend([self.time_to_live, self.protocol, 0, 0]);
        header.extend(self.source);
        header.extend(self.destination);
        header.extend(self.options);
        let sum = checksum(&header);
        header[10..12].copy_from_slice(&sum.to_be_bytes());
        [&header, self.payload].concat()
    }
}

/// An IPv6 packet (RFC 8200) from the client to the server.
pub fn ipv6(next_header: u8, hop_limit: u8, payload: &[u8]) -> Vec<u8> {
    let mut packet = vec![0x60, 0, 0, 0];
    packet.extend((payload.len() as u16).to_be_bytes());
    packet.extend([next_header, hop_limit]);
    packet.extend(CLIENT6);
    packet.extend(SERVER6);
    packet.extend(payload);
    packet
}

/// An IPv6 extension header of `units` times 8 bytes beyond its first 8, and what follows it.
pub fn extension(next_header: u8, units: u8, payload: &[u8]) -> Vec<u8> {
    let mut header = vec![0; 8 + 8 * usize::from(units)];
    header[0] = next_header;
    header[1] = units;
    [&header, payload].concat()
}

/// An IPv6 authentication header (RFC 4302) with 12 bytes of integrity check, and what follows it.
pub fn authentication(next_header: u8, payload: &[u8]) -> Vec<u8> {
    let mut header = vec![0xaa; 24];
    header[0] = next_header;
    header[1] = 4; // units of 4 bytes, minus 2
    [&header, payload].concat()
}

/// An IPv6 fragment header, and what follows it. `offset` is in units of 8 bytes.
pub fn fragment(next_header: u8, offset: u16, more: bool, payload: &[u8]) -> Vec<u8> {
    let mut header = vec![next_header, 0];
    header.extend((offset << 3 | u16::from(more)).to_be_bytes());
    header.extend([0, 0, 0, 9]);
    [&header, payload].concat()
}

/// What a checksum over an upper layer also covers: addresses, length and protocol (RFC 768, RFC 8200 §8.1).
fn pseudo_header(source: &[u8], destination: &[u8], protocol: u8, length: usize) -> Vec<u8> {
    [
        source,
        destination,
        &(length as u32).to_be_bytes(),
        &[0, 0, 0, protocol],
    ]
    .concat()
}

/// A UDP datagram (RFC 768) between two addresses of 4 or 16 bytes.
pub fn udp(source: &[u8], destination: &[u8], ports: (u16, u16), data: &[u8]) -> Vec<u8> {
    let length = 8 + data.len();
    let mut datagram = Vec::new();
    datagram.extend(ports.0.to_be_bytes());
    datagram.extend(ports.1.to_be_bytes());
    datagram.extend((length as u16).to_be_bytes());
    datagram.extend([0, 0]);
    datagram.extend(data);
    let sum = checksum(&[pseudo_header(source, destination, UDP, length), datagram.clone()].concat());
    let sum = if sum == 0 { 0xffff } else { sum };
    datagram[6..8].copy_from_slice(&sum.to_be_bytes());
    datagram
}

/// A UDP datagram over IPv4, in a frame.
pub fn udp4(ports: (u16, u16), data: &[u8]) -> Vec<u8> {
    let payload = udp(&CLIENT4, &SERVER4, ports, data);
    ethernet(
        IPV4,
        &Ipv4 {
            payload: &payload,
            ..Ipv4::default()
        }
        .bytes(),
    )
}

/// A UDP datagram over IPv6, in a frame.
pub fn udp6(ports: (u16, u16), data: &[u8]) -> Vec<u8> {
    ethernet(IPV6, &ipv6(UDP, 64, &udp(&CLIENT6, &SERVER6, ports, data)))
}

/// A TCP segment (RFC 9293) without options that opens a connection.
pub fn tcp_syn(source: &[u8], destination: &[u8], ports: (u16, u16)) -> Vec<u8> {
    let mut segment = Vec::new();
    segment.extend(ports.0.to_be_bytes());
    segment.extend(ports.1.to_be_bytes());
    segment.extend([0, 0, 0, 1, 0, 0, 0, 0, 0x50, 0x02, 0x20, 0, 0, 0, 0, 0]);
    let sum = checksum(&[pseudo_header(source, destination, TCP, segment.len()), segment.clone()].concat());
    segment[16..18].copy_from_slice(&sum.to_be_bytes());
    segment
}

/// An ICMP message (RFC 792).
pub fn icmp(kind: u8, code: u8, rest: [u8; 4], data: &[u8]) -> Vec<u8> {
    let mut message = [&[kind, code, 0, 0][..], &rest, data].concat();
    let sum = checksum(&message);
    message[2..4].copy_from_slice(&sum.to_be_bytes());
    message
}

/// An `ICMPv6` message (RFC 4443) from the client to the server.
pub fn icmpv6(kind: u8, code: u8, body: &[u8]) -> Vec<u8> {
    let mut message = [&[kind, code, 0, 0][..], body].concat();
    let sum = checksum(
        &[
            pseudo_header(&CLIENT6, &SERVER6, ICMPV6, message.len()),
            message.clone(),
        ]
        .concat(),
    );
    message[2..4].copy_from_slice(&sum.to_be_bytes());
    message
}

/// An ARP packet for IPv4 over Ethernet (RFC 826) from the client, about the server.
pub fn arp(operation: u16) -> Vec<u8> {
    let mut packet = vec![0, 1, 8, 0, 6, 4];
    packet.extend(operation.to_be_bytes());
    packet.extend(CLIENT_MAC);
    packet.extend(CLIENT4);
    packet.extend([0; 6]);
    packet.extend(SERVER4);
    packet
}

/// Text as UTF-16 in memory order, without terminator.
pub fn utf16(text: &str) -> Vec<u8> {
    text.encode_utf16().flat_map(u16::to_le_bytes).collect()
}

pub fn trials() -> Vec<Trial> {
    vec![test(
        "packets::checksums_are_those_of_published_packets",
        published_checksums,
    )]
}

/// An IPv4 header and a UDP datagram as they are printed in books, taken apart and built again.
fn published_checksums() -> Result<(), Failed> {
    let header = [
        0x45, 0x00, 0x00, 0x73, 0x00, 0x00, 0x40, 0x00, 0x40, 0x11, 0xb8, 0x61, 0xc0, 0xa8, 0x00, 0x01, 0xc0, 0xa8,
        0x00, 0xc7,
    ];
    let built = Ipv4 {
        source: [192, 168, 0, 1],
        destination: [192, 168, 0, 199],
        fragment: 0x4000,
        payload: &[0; 95],
        ..Ipv4::default()
    };
    if built.bytes()[..20] != header {
        return Err(format!("built {:x?}", &built.bytes()[..20]).into());
    }
    // A sum over bytes that hold their own checksum is zero, complemented.
    let datagram = udp(&CLIENT4, &SERVER4, (1234, 53), b"odd");
    let sum = checksum(&[pseudo_header(&CLIENT4, &SERVER4, UDP, datagram.len()), datagram].concat());
    if sum != 0 {
        return Err(format!("a datagram with its checksum sums to {sum:#x}").into());
    }
    Ok(())
}
