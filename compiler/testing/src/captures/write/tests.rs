use std::io;

use super::super::tests::all;
use super::*;

const PACKET: Written<'_> = Written {
    bytes: b"abcde",
    original_length: 0,
    time_ns: None,
    fate: Fate::Dropped,
    verdict: Some(7),
    comment: "why",
};

fn written(packets: &[Written<'_>]) -> Vec<u8> {
    let mut writer = CaptureWriter::new(Vec::new()).unwrap();
    for packet in packets {
        writer.write(packet).unwrap();
    }
    writer.finish().unwrap()
}

#[test]
fn a_packet_block_has_the_comment_the_direction_and_the_verdict_of_linux() {
    let file = written(&[Written {
        original_length: 9,
        time_ns: Some(0x1_0000_0002),
        ..PACKET
    }]);
    let empty = written(&[]).len();
    #[rustfmt::skip]
    let expected: &[&[u8]] = &[
        &[6, 0, 0, 0, 76, 0, 0, 0],
        &[1, 0, 0, 0, 1, 0, 0, 0, 2, 0, 0, 0, 5, 0, 0, 0, 9, 0, 0, 0],
        b"abcde\0\0\0",
        &[1, 0, 3, 0], b"why\0",
        &[2, 0, 4, 0, 1, 0, 0, 0],
        &[7, 0, 9, 0, 2, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
        &[0, 0, 0, 0],
        &[76, 0, 0, 0],
    ];
    assert_eq!(file[empty..], expected.concat());
}

#[test]
fn fates_that_platforms_tell_have_interfaces_of_the_same_names() {
    use bpf2sys_platform::Fate as Known;
    for fate in [Known::Passed, Known::Dropped, Known::SentBack, Known::Redirected] {
        assert_eq!(Fate::from(Some(fate)).name(), fate.name().replace('_', " "));
    }
    assert_eq!(Fate::from(None), Fate::Other);
}

#[test]
fn a_file_begins_with_a_section_and_an_interface_for_every_fate() {
    let file = written(&[]);
    #[rustfmt::skip]
    let expected: &[&[u8]] = &[
        &[10, 13, 13, 10, 44, 0, 0, 0, 0x4D, 0x3C, 0x2B, 0x1A, 1, 0, 0, 0], &[255; 8],
        &[4, 0, 7, 0], b"bpf2sys\0", &[0; 4], &[44, 0, 0, 0],
        &[1, 0, 0, 0, 44, 0, 0, 0, 1, 0, 0, 0, 0, 0, 4, 0],
        &[2, 0, 6, 0], b"passed\0\0", &[9, 0, 1, 0, 9, 0, 0, 0], &[0; 4], &[44, 0, 0, 0],
    ];
    assert!(file.starts_with(&expected.concat()));
    let names = Fate::ALL.map(|fate| {
        file.windows(fate.name().len())
            .position(|at| at == fate.name().as_bytes())
            .unwrap()
    });
    assert!(names.is_sorted());
    assert_eq!(Fate::ALL.map(Fate::interface), [0, 1, 2, 3, 4]);
    assert_eq!(Fate::ALL.map(Fate::linux_action), [2, 1, 3, 4, 0]);
    assert_eq!(Fate::ALL.map(Fate::direction), [1, 1, 2, 2, 1]);
}

#[test]
fn what_is_written_is_read_again() {
    let fates = Fate::ALL.map(|fate| Written {
        fate,
        comment: fate.name(),
        ..PACKET
    });
    let (packets, error) = all(&written(&fates), "x.pcapng");
    assert_eq!(error, None);
    for (packet, (number, fate)) in packets.iter().zip((1..).zip(Fate::ALL)) {
        assert_eq!(
            (packet.bytes.as_slice(), packet.original_length),
            (b"abcde".as_slice(), 5)
        );
        assert_eq!((packet.number, packet.time_ns), (number, Some((number - 1) * 1000)));
        assert_eq!(packet.comment.as_deref(), Some(fate.name()));
    }
    assert_eq!(packets.len(), 5);
}

#[test]
fn packets_without_a_time_come_one_microsecond_after_the_one_before() {
    let timed = |time_ns| Written { time_ns, ..PACKET };
    let file = written(&[timed(Some(50)), timed(None), timed(Some(u64::MAX)), timed(None)]);
    let times: Vec<_> = all(&file, "x").0.iter().map(|packet| packet.time_ns).collect();
    assert_eq!(times, [Some(50), Some(1050), Some(u64::MAX), Some(u64::MAX)]);
}

#[test]
fn without_a_result_there_is_no_verdict_and_long_comments_end_with_a_character() {
    let comment = "ä".repeat(40_000);
    let file = written(&[Written {
        verdict: None,
        comment: &comment,
        ..PACKET
    }]);
    assert!(!file.windows(6).any(|bytes| bytes == [7, 0, 9, 0, 2, 1]));
    assert_eq!(all(&file, "x").0[0].comment.as_deref(), Some(&comment[..65_534]));
}

/// An output that takes nothing.
struct Full;

impl Write for Full {
    fn write(&mut self, _: &[u8]) -> io::Result<usize> {
        Err(io::ErrorKind::StorageFull.into())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn packets_that_are_too_long_and_outputs_that_fail_are_errors() {
    let mut writer = CaptureWriter::new(Vec::new()).unwrap();
    let bytes = vec![0; MAX_PACKET as usize + 1];
    let error = writer
        .write(&Written {
            bytes: &bytes,
            ..PACKET
        })
        .unwrap_err();
    assert_eq!(
        error.to_string(),
        "packet 1 has more than 262144 bytes, which is the limit"
    );
    let error = CaptureWriter::new(Full).err().unwrap();
    assert!(error.to_string().starts_with("cannot write: "));
    let buffered = CaptureWriter::new(io::BufWriter::new(Full)).unwrap();
    assert!(
        buffered
            .finish()
            .err()
            .unwrap()
            .to_string()
            .starts_with("cannot write: ")
    );
}
