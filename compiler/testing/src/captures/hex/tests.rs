use super::super::tests::all;
use super::*;

const BYTES: &[u8] = b"\x45\x00\x00\x34 #|ab\x00\x01cdefghi*";

fn error(text: &str) -> String {
    parse_hex(text).unwrap_err().to_string()
}

#[test]
fn digits_may_be_spaced_and_commented_in_any_way() {
    let packets = parse_hex("# two packets\n4500 00\t34 # the header\r\n# not a gap\nABcd\n \n\n0 1\n").unwrap();
    assert_eq!(packets, [b"\x45\x00\x00\x34\xab\xcd".to_vec(), vec![1]]);
    assert_eq!(parse_hex("# nothing\n\n").unwrap(), Vec::<Vec<u8>>::new());
    assert_eq!(parse_hex("4500003445000034").unwrap()[0].len(), 8);
}

#[test]
fn dumps_of_known_tools_are_read_without_their_characters() {
    let tcpdump = "\t0x0000:  4500 0034 2023 7c61 6200 0163 6465 6667  E..4.#|ab..cdefg\n\t0x0010:  6869 2a                                  hi*\n";
    let xxd = "00000000: 4500 0034 2023 7c61 6200 0163 6465 6667  E..4 #|ab..cdefg\n00000010: 6869 2a                                  hi*\n";
    let hexdump = "00000000  45 00 00 34 20 23 7c 61  62 00 01 63 64 65 66 67  |E..4 #|ab..cdefg|\n00000010  68 69 2a                                          |hi*|\n00000013\n";
    let tshark = "0000  45 00 00 34 20 23 7c 61 62 00 01 63 64 65 66 67   E..4 #|ab..cdefg\n0010  68 69 2a                                          hi*\n";
    let od = "000000 45 00 00 34 20 23 7c 61 62 00 01 63 64 65 66 67\n000010 68 69 2a\n000013\n";
    for dump in [tcpdump, xxd, hexdump, tshark, od] {
        assert_eq!(parse_hex(dump).unwrap(), [BYTES], "{dump}");
        assert_eq!(parse_hex(&dump.repeat(2)).unwrap(), [BYTES, BYTES], "{dump}");
        assert_eq!(
            parse_hex(&format!("{dump}\n00ff 1122\n")).unwrap(),
            [BYTES, &[0, 255, 0x11, 0x22]],
            "{dump}"
        );
    }
}

#[test]
fn an_offset_that_does_not_fit_is_an_error_with_its_line() {
    assert_eq!(
        error("0000: 0011\n0004: 22"),
        "line 2: offset 0x4, and 0x2 bytes of the packet come before it"
    );
    assert_eq!(
        error("00000010  45 00"),
        "line 1: offset 0x10, and 0x0 bytes of the packet come before it"
    );
    assert_eq!(
        error("0000  45 00\n0003"),
        "line 2: offset 0x3, and 0x2 bytes of the packet come before it"
    );
    assert_eq!(
        error("0000: 0011\n22"),
        "line 2: a line without an offset in a packet that has them"
    );
    assert_eq!(
        error("00000000  00 00\n*\n00000020"),
        "line 2: lines were left out here; `hexdump -C -v` writes all"
    );
}

#[test]
fn rows_of_pairs_that_look_like_offsets_are_bytes() {
    assert_eq!(parse_hex("4500 00 34").unwrap(), [b"\x45\x00\x00\x34"]);
    assert_eq!(parse_hex("11\n0000 22").unwrap(), [b"\x11\x00\x00\x22"]);
    assert_eq!(parse_hex("45000034  40060000").unwrap()[0].len(), 8);
}

#[test]
fn what_is_no_dump_is_an_error_with_its_line() {
    assert_eq!(error("00\n123"), "line 2: an odd number of digits");
    assert_eq!(error("00\n0x11"), "line 2: `x` is no hexadecimal digit");
    assert_eq!(error("12:00:01.5 IP 192.0.2.1"), "line 1: `:` is no hexadecimal digit");
    assert_eq!(error("zz: 00"), "line 1: `zz:` is no offset");
    assert_eq!(error("\u{1b}[31m"), "line 1: `\\u{1b}` is no hexadecimal digit");
    assert_eq!(
        all(b"\xff\xfe4\x005\x00", "x.hex").1.unwrap(),
        "line 1: text in UTF-16; UTF-8 is read"
    );
    assert_eq!(parse_hex("\u{FEFF}45").unwrap(), [[0x45]]);
}

#[test]
fn no_line_and_no_packet_is_too_long() {
    let row = "00".repeat(1000) + "\n";
    assert_eq!(parse_hex(&row.repeat(262)).unwrap()[0].len(), 262_000);
    assert_eq!(
        error(&row.repeat(263)),
        "line 263: the packet gets longer than 262144 bytes"
    );
    assert_eq!(error(&" ".repeat(1 << 21)), "line 1: longer than 1048576 bytes");
}

#[test]
fn packets_before_a_line_that_is_wrong_are_given() {
    let (packets, error) = all(b"0011\n\n22\n\nzz", "x.TXT");
    assert_eq!(packets.iter().map(|packet| packet.number).collect::<Vec<_>>(), [1, 2]);
    assert_eq!((packets[0].original_length, packets[0].time_ns), (2, None));
    assert_eq!(error.unwrap(), "line 5: `z` is no hexadecimal digit");
}
