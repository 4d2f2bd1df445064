//! Whole files: what public tools wrote, what is no capture, and files with something missing or changed.

use std::io::Cursor;

use super::*;

const MICROSECONDS: &[u8] = include_bytes!("testdata/microseconds.pcap");
const NANOSECONDS: &[u8] = include_bytes!("testdata/nanoseconds.pcap");
const COMMENTS: &[u8] = include_bytes!("testdata/comments.pcapng");
const DUMP: &str = include_str!("testdata/packets.txt");
/// 2024-01-02 03:04:05 UTC.
const SECOND: u64 = 1_704_164_645_000_000_000;

pub(super) fn packets(file: &[u8], name: &str) -> Packets {
    Packets::from_reader(Cursor::new(file.to_vec()), name).unwrap()
}

/// The packets up to the end or an error.
pub(super) fn all(file: &[u8], name: &str) -> (Vec<Packet>, Option<String>) {
    let mut given = Vec::new();
    match Packets::from_reader(Cursor::new(file.to_vec()), name) {
        Err(error) => return (given, Some(error.to_string())),
        Ok(packets) => {
            for packet in packets {
                match packet {
                    Ok(packet) => given.push(packet),
                    Err(error) => return (given, Some(error.to_string())),
                }
            }
        }
    }
    (given, None)
}

#[test]
fn captures_of_public_tools_have_the_packets_that_went_into_them() {
    let dumped = parse_hex(DUMP).unwrap();
    assert_eq!(dumped.iter().map(Vec::len).collect::<Vec<_>>(), [54, 46, 42]);
    for (file, behind) in [(MICROSECONDS, 0), (NANOSECONDS, 789)] {
        let (packets, error) = all(file, "x.pcap");
        assert_eq!(error, None);
        for (packet, (number, bytes)) in packets.iter().zip((1..).zip(&dumped)) {
            let expected = Packet {
                bytes: bytes.clone(),
                time_ns: Some(SECOND + 590_000_000 + number * 10_000_000 + behind),
                original_length: bytes.len() as u32,
                number,
                comment: None,
            };
            assert_eq!(*packet, expected);
        }
        assert_eq!(packets.len(), 3);
    }
}

#[test]
fn a_pcapng_file_of_a_public_tool_has_comments_and_what_was_cut() {
    let mut packets = packets(COMMENTS, "x.pcapng");
    let given: Vec<Packet> = packets.by_ref().map(Result::unwrap).collect();
    let comments: Vec<Option<&str>> = given.iter().map(|packet| packet.comment.as_deref()).collect();
    assert_eq!(comments, [Some("the first"), None, Some("who has 192.0.2.2?")]);
    let lengths: Vec<_> = given
        .iter()
        .map(|packet| (packet.bytes.len(), packet.original_length))
        .collect();
    assert_eq!(lengths, [(50, 54), (46, 46), (42, 42)]);
    assert_eq!(given[2].time_ns, Some(SECOND + 620_000_789));
    assert_eq!(
        (packets.cut_short(), packets.link_type()),
        (1, Some(LinkType::ETHERNET))
    );
    assert!(packets.next().is_none());
}

#[test]
fn every_prefix_of_a_capture_gives_its_first_packets_and_says_where_it_ends() {
    for file in [MICROSECONDS, NANOSECONDS, COMMENTS] {
        let (whole, _) = all(file, "x.pcap");
        for end in 4..file.len() {
            let (given, error) = all(&file[..end], "x.pcap");
            assert_eq!(given, whole[..given.len()]);
            let expected = format!(
                "the file ends at byte {end}, in packet {} or the headers before it",
                given.len() + 1
            );
            assert!(error.is_none_or(|error| error == expected), "{end}");
        }
    }
}

#[test]
fn every_change_of_a_byte_gives_packets_or_an_error() {
    for (file, name) in [(MICROSECONDS, "x"), (COMMENTS, "x"), (DUMP.as_bytes(), "x.txt")] {
        for at in 0..file.len() {
            for change in 1..=255 {
                let mut changed = file.to_vec();
                changed[at] ^= change;
                let (given, error) = all(&changed, name);
                assert!(
                    given.len() <= 4 && (!given.is_empty() || error.is_some()),
                    "{at} {change}"
                );
            }
        }
    }
}

#[test]
fn after_an_error_nothing_comes() {
    let mut packets = packets(b"0011\nzz\n2233", "x.hex");
    assert!(packets.next().is_some_and(|packet| packet.is_err()));
    assert!(packets.next().is_none());
}

#[test]
fn any_other_file_is_one_packet() {
    let (packets, error) = all(b"\x02\0\0\0", "frame.bin");
    assert_eq!(error, None);
    assert_eq!(packets, [whole(b"\x02\0\0\0".to_vec(), 1).packet]);
    assert_eq!(all(b"", "frame.bin").0, [whole(Vec::new(), 1).packet]);
    assert_eq!(all(&vec![2; 262_144], "frame").0.len(), 1);
    let (_, error) = all(&vec![2; 300_000], "frame");
    assert_eq!(
        error.unwrap(),
        "packet 1 has more than 262144 bytes, which is the limit"
    );
}

#[test]
fn what_is_known_and_not_read_is_named_with_what_converts_it() {
    for (start, name, expected) in [
        (
            b"\x1f\x8b\x08\0".as_slice(),
            "x.pcap.gz",
            "the file is compressed: `gzip -d` decompresses it",
        ),
        (b"\xfd7zXZ\0", "x", "the file is compressed: `xz -d` decompresses it"),
        (
            b"snoop\0\0\0\0\0\0\x02",
            "x",
            "a snoop capture: `editcap -F pcapng` converts it",
        ),
        (
            b"\0\0\x04\0",
            "trace.ETL",
            "a trace of Windows: `pktmon etl2pcap` converts it",
        ),
    ] {
        assert_eq!(all(start, name).1.unwrap(), expected);
    }
    let (_, error) = all(b"nothing", "x.pcap");
    assert!(error.unwrap().starts_with("the name is that of a capture"));
}

#[test]
fn a_file_that_is_not_there_is_not_opened() {
    let error = Packets::open(Path::new("no/such/file")).err().unwrap().to_string();
    assert!(error.starts_with("cannot read: "), "{error}");
}
