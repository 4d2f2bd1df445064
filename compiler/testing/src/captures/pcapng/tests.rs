use super::super::layout::{COMMENT, OFFSET, RESOLUTION};
use super::super::tests::{all, packets};
use super::*;

/// Blocks of one byte order.
#[derive(Clone, Copy)]
struct Blocks {
    big: bool,
}

const LITTLE: Blocks = Blocks { big: false };
const BIG: Blocks = Blocks { big: true };

impl Blocks {
    fn u16(self, value: u16) -> Vec<u8> {
        if self.big {
            value.to_be_bytes()
        } else {
            value.to_le_bytes()
        }
        .to_vec()
    }

    fn u32(self, value: u32) -> Vec<u8> {
        if self.big {
            value.to_be_bytes()
        } else {
            value.to_le_bytes()
        }
        .to_vec()
    }

    fn block(self, kind: u32, body: &[Vec<u8>]) -> Vec<u8> {
        let body = body.concat();
        let length = self.u32(body.len() as u32 + 12);
        [self.u32(kind), length.clone(), body, length].concat()
    }

    fn section(self) -> Vec<u8> {
        let length = vec![0xFF; 8];
        self.block(SECTION, &[self.u32(BYTE_ORDER_MAGIC), self.u16(1), self.u16(0), length])
    }

    fn interface(self, link_type: u16, kept: u32, options: &[Vec<u8>]) -> Vec<u8> {
        let fields = [self.u16(link_type), self.u16(0), self.u32(kept)].concat();
        self.block(INTERFACE, &[fields, options.concat()])
    }

    fn option(self, number: u16, value: &[u8]) -> Vec<u8> {
        let option = [self.u16(number), self.u16(value.len() as u16), value.to_vec()].concat();
        padded(&option)
    }

    fn enhanced(self, interface: u32, time: u64, original: u32, bytes: &[u8], options: &[Vec<u8>]) -> Vec<u8> {
        let fields = [
            interface,
            (time >> 32) as u32,
            time as u32,
            bytes.len() as u32,
            original,
        ];
        let fields = fields.map(|field| self.u32(field)).concat();
        self.block(ENHANCED_PACKET, &[fields, padded(bytes), options.concat()])
    }
}

fn padded(bytes: &[u8]) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes
}

fn error(file: &[Vec<u8>]) -> String {
    all(&file.concat(), "x").1.unwrap()
}

#[test]
fn sections_of_both_byte_orders_follow_each_other_with_interfaces_of_their_own() {
    let section = |blocks: Blocks| {
        [
            blocks.section(),
            blocks.interface(1, 0, &[]),
            blocks.interface(
                1,
                0,
                &[blocks.option(RESOLUTION, &[9]), blocks.option(END_OF_OPTIONS, &[])],
            ),
            blocks.enhanced(0, 5, 3, b"abc", &[]),
            blocks.enhanced(
                1,
                1 << 32,
                9,
                b"defgh",
                &[blocks.option(COMMENT, b"one"), blocks.option(COMMENT, b"two")],
            ),
        ]
        .concat()
    };
    let file = [
        section(LITTLE),
        section(BIG),
        BIG.section(),
        BIG.enhanced(0, 0, 0, b"", &[]),
    ]
    .concat();
    let (packets, error) = all(&file, "x");
    let found: Vec<_> = packets
        .iter()
        .map(|p| (p.bytes.as_slice(), p.time_ns, p.original_length))
        .collect();
    let (first, second) = (
        (b"abc".as_slice(), Some(5000), 3),
        (b"defgh".as_slice(), Some(1 << 32), 9),
    );
    assert_eq!(found, [first, second, first, second]);
    assert_eq!(packets[3].number, 4);
    assert_eq!(packets[3].comment.as_deref(), Some("one\ntwo"));
    let expected = format!(
        "byte {}, at packet 5: a packet of an interface that was not described",
        file.len() - 32
    );
    assert_eq!(error.unwrap(), expected);
}

#[test]
fn times_count_what_their_interface_says() {
    let time = |resolution: u8, offset: i64, units: u64| {
        Interface {
            link_type: LinkType::ETHERNET,
            kept: 0,
            resolution,
            offset,
        }
        .nanoseconds(units)
    };
    assert_eq!(time(0, 0, 3), Some(3_000_000_000));
    assert_eq!(time(3, 2, 3), Some(2_003_000_000));
    assert_eq!(time(12, 0, 3_999), Some(3));
    assert_eq!(time(0x8A, 0, 512), Some(500_000_000));
    assert_eq!(time(6, -1, 1_500_000), Some(500_000_000));
    assert_eq!(time(6, -2, 1_500_000), None);
    assert_eq!(time(0, i64::MAX, u64::MAX), None);
    assert_eq!(time(127, 0, u64::MAX), Some(0));
    assert_eq!(time(0xFF, i64::MIN, u64::MAX), None);
    for blocks in [LITTLE, BIG] {
        let seconds = if blocks.big {
            7i64.to_be_bytes()
        } else {
            7i64.to_le_bytes()
        };
        let interface = blocks.interface(1, 0, &[blocks.option(OFFSET, &seconds)]);
        let file = [blocks.section(), interface, blocks.enhanced(0, 1, 1, b"a", &[])].concat();
        assert_eq!(all(&file, "x").0[0].time_ns, Some(7_000_001_000));
    }
}

#[test]
fn simple_and_obsolete_packet_blocks_are_packets_and_other_blocks_are_not() {
    let b = BIG;
    let obsolete = [
        b.u16(1),
        b.u16(77),
        b.u32(0),
        b.u32(4),
        b.u32(1),
        b.u32(1),
        padded(b"o"),
        b.option(COMMENT, b"c"),
    ];
    let file = [
        b.section(),
        b.interface(1, 5, &[]),
        b.interface(1, 0, &[]),
        b.block(SIMPLE_PACKET, &[b.u32(60), padded(b"first")]),
        b.block(SIMPLE_PACKET, &[b.u32(2), padded(b"ab")]),
        b.block(0x0BAD, &[vec![0; 100_000]]),
        b.block(99, &[]),
        b.block(PACKET, &obsolete),
    ];
    let (packets, error) = all(&file.concat(), "x");
    assert_eq!(error, None);
    let found: Vec<_> = packets
        .iter()
        .map(|p| (p.bytes.as_slice(), p.time_ns, p.original_length))
        .collect();
    assert_eq!(
        found,
        [(b"first".as_slice(), None, 60), (b"ab", None, 2), (b"o", Some(4000), 1)]
    );
    assert_eq!(packets[2].comment.as_deref(), Some("c"));
}

#[test]
fn a_packet_of_an_interface_that_is_not_ethernet_is_refused_when_it_comes() {
    let file = [
        LITTLE.section(),
        LITTLE.interface(1, 0, &[]),
        LITTLE.interface(113, 0, &[]),
        LITTLE.enhanced(0, 0, 1, b"a", &[]),
        LITTLE.enhanced(1, 0, 1, b"b", &[]),
        LITTLE.enhanced(0, 0, 1, b"c", &[]),
    ];
    let expected = "packet 2 is of link type 113 (Linux cooked), and programs get Ethernet frames: record on one Ethernet \
                    interface instead of `any`";
    assert_eq!(error(&file), expected);
    let mut packets = packets(&file.concat(), "x").accept(LinkType(113));
    assert_eq!(packets.nth(1).unwrap().unwrap().bytes, b"b");
    assert_eq!(packets.link_type(), Some(LinkType(113)));
    assert_eq!(packets.count(), 1);
}

#[test]
fn lengths_that_do_not_fit_are_errors_with_their_place() {
    let start = [LITTLE.section(), LITTLE.interface(1, 0, &[])].concat();
    let raw = |words: &[u32]| words.iter().flat_map(|word| word.to_le_bytes()).collect::<Vec<u8>>();
    for (block, expected) in [
        (
            raw(&[99, 0, 0]),
            "byte 48, at packet 1: the length of a block is less than 12, or no multiple of 4",
        ),
        (
            raw(&[99, 14, 0, 0]),
            "byte 48, at packet 1: the length of a block is less than 12, or no multiple of 4",
        ),
        (
            raw(&[99, 12, 16]),
            "byte 48, at packet 1: the two lengths of a block differ",
        ),
        (
            raw(&[6, 12, 12]),
            "byte 48, at packet 1: a block is too short for its fields",
        ),
        (
            raw(&[6, 32, 0, 0, 0, 4, 4, 32]),
            "byte 48, at packet 1: a block is too short for its fields",
        ),
        (
            raw(&[6, 32, 0, 0, 0, u32::MAX, 4, 32]),
            "packet 1 has more than 262144 bytes, which is the limit",
        ),
        (
            raw(&[6, 36, 0, 0, 0, 0, 0, 0xFFFF_0001, 36]),
            "byte 48, at packet 1: a block is too short for its fields",
        ),
        (
            raw(&[99, 0xFFFF_FFFC, 0]),
            "the file ends at byte 60, in packet 1 or the headers before it",
        ),
        (
            raw(&[SECTION, 28, 7, 1, 0, 0, 28]),
            "byte 48, at packet 1: a section header without its byte-order magic",
        ),
        (
            raw(&[SECTION, 28, BYTE_ORDER_MAGIC, 2, 0, 0, 28]),
            "a pcapng section of version 2.0: 1.0 is read",
        ),
    ] {
        assert_eq!(error(&[start.clone(), block]), expected);
    }
}

#[test]
fn more_interfaces_than_can_be_counted_are_refused() {
    let mut file = LITTLE.section();
    file.extend(LITTLE.interface(1, 0, &[]).repeat(MAX_INTERFACES + 1));
    assert!(error(&[file]).ends_with("a section has more than 65,536 interfaces"));
}
