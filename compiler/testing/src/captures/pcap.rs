//! Classic pcap files (`draft-ietf-opsawg-pcap`).
//!
//! Given the bytes of a file whose first four are one of the format's; gives one packet for each record. The four say the byte
//! order, and whether the fraction of a second counts micro- or nanoseconds. The limit that the header gives for the length of
//! packets is not looked at, as writers exceed it: [`MAX_PACKET`] is what bounds a record.

use super::source::{ByteOrder, Source};
use super::{CaptureError, Found, LinkType, MAX_PACKET, Packet};

/// Fractions of a second are microseconds.
const MICROSECONDS: u32 = 0xA1B2_C3D4;
/// Fractions of a second are nanoseconds.
const NANOSECONDS: u32 = 0xA1B2_3C4D;
/// Records have eight more bytes that only Linux wrote, long ago.
const MODIFIED: u32 = 0xA1B2_CD34;
/// The only version since 1998. Up to 2.3 the two lengths of a record were exchanged, in some files.
const VERSION: (u16, u16) = (2, 4);

/// What the file header says of the records.
pub(super) struct Pcap {
    order: ByteOrder,
    /// Nanoseconds in a unit of the fraction.
    unit: u64,
    link_type: LinkType,
}

/// The byte order of a file that begins as one of this format.
fn order(magic: &[u8]) -> Option<ByteOrder> {
    let magic: &[u8; 4] = magic.first_chunk()?;
    [ByteOrder::Little, ByteOrder::Big]
        .into_iter()
        .find(|order| matches!(order.u32(magic, 0), MICROSECONDS | NANOSECONDS | MODIFIED))
}

impl Pcap {
    /// Reads the file header, if the file begins as one of this format.
    pub(super) fn open(magic: &[u8], source: &mut Source) -> Result<Option<Pcap>, CaptureError> {
        let Some(order) = order(magic) else {
            return Ok(None);
        };
        let header: [u8; 24] = source.array(1)?;
        let unit = match order.u32(&header, 0) {
            MODIFIED => {
                return Err(CaptureError::Unsupported {
                    what: "a pcap file in the form with magic number 0xa1b2cd34: `editcap -F pcap` converts it"
                        .to_owned(),
                });
            }
            NANOSECONDS => 1,
            _ => 1000,
        };
        let version = (order.u16(&header, 4), order.u16(&header, 6));
        if version != VERSION {
            let what = format!("a pcap file of version {}.{}: 2.4 is read", version.0, version.1);
            return Err(CaptureError::Unsupported { what });
        }
        Ok(Some(Pcap {
            order,
            unit,
            // The upper half says whether check sequences follow the frames.
            link_type: LinkType(order.u32(&header, 20) as u16),
        }))
    }

    /// What all packets of the file begin with.
    pub(super) fn link_type(&self) -> LinkType {
        self.link_type
    }

    /// The next record.
    pub(super) fn next(&mut self, source: &mut Source, number: u64) -> Result<Option<Found>, CaptureError> {
        let Some(header) = source.start::<16>(number)? else {
            return Ok(None);
        };
        let [seconds, fraction, captured, original] = [0, 4, 8, 12].map(|at| self.order.u32(&header, at));
        if captured > MAX_PACKET {
            return Err(CaptureError::TooLong { packet: number });
        }
        Ok(Some(Found {
            packet: Packet {
                bytes: source.bytes(captured as usize, number)?,
                time_ns: Some(u64::from(seconds) * 1_000_000_000 + u64::from(fraction) * self.unit),
                original_length: original.max(captured),
                number,
                comment: None,
            },
            link_type: self.link_type,
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{all, packets};
    use super::*;

    fn u16(big: bool, value: u16) -> [u8; 2] {
        if big { value.to_be_bytes() } else { value.to_le_bytes() }
    }

    fn u32(big: bool, value: u32) -> [u8; 4] {
        if big { value.to_be_bytes() } else { value.to_le_bytes() }
    }

    fn file(big: bool, magic: u32, version: u16, link_type: u32, records: &[([u32; 4], &[u8])]) -> Vec<u8> {
        let mut file = u32(big, magic).to_vec();
        file.extend([u16(big, 2), u16(big, version)].concat());
        file.extend([0, 0, 65535, link_type].map(|v| u32(big, v)).concat());
        for (header, bytes) in records {
            file.extend(header.map(|v| u32(big, v)).concat());
            file.extend(*bytes);
        }
        file
    }

    #[test]
    fn both_byte_orders_and_both_resolutions_give_the_same_packets() {
        for big in [false, true] {
            for (magic, fraction) in [(MICROSECONDS, 5), (NANOSECONDS, 5000)] {
                let file = file(
                    big,
                    magic,
                    4,
                    1,
                    &[([7, fraction, 3, 3], b"abc"), ([8, 0, 2, 60], b"de")],
                );
                let mut packets = packets(&file, "x");
                assert_eq!(packets.link_type(), Some(LinkType::ETHERNET));
                let first = packets.next().unwrap().unwrap();
                assert_eq!((first.bytes.as_slice(), first.number), (b"abc".as_slice(), 1));
                assert_eq!((first.time_ns, first.original_length), (Some(7_000_005_000), 3));
                assert_eq!(packets.cut_short(), 0);
                let second = packets.next().unwrap().unwrap();
                assert_eq!(
                    (second.bytes.as_slice(), second.original_length),
                    (b"de".as_slice(), 60)
                );
                assert_eq!(packets.cut_short(), 1);
                assert!(packets.next().is_none());
            }
        }
    }

    #[test]
    fn a_packet_that_claims_four_gigabytes_is_refused_by_its_number() {
        let file = file(
            false,
            MICROSECONDS,
            4,
            1,
            &[([0, 0, 1, 1], b"a"), ([0, 0, u32::MAX, u32::MAX], b"b")],
        );
        let (packets, error) = all(&file, "x");
        assert_eq!(packets.len(), 1);
        assert_eq!(
            error.unwrap(),
            "packet 2 has more than 262144 bytes, which is the limit"
        );
    }

    #[test]
    fn packets_before_the_end_of_a_cut_file_are_given() {
        let file = file(false, MICROSECONDS, 4, 1, &[([0, 0, 1, 1], b"a"), ([0, 0, 4, 4], b"b")]);
        let (packets, error) = all(&file, "x");
        assert_eq!(packets.len(), 1);
        assert_eq!(
            error.unwrap(),
            "the file ends at byte 58, in packet 2 or the headers before it"
        );
    }

    #[test]
    fn other_forms_and_versions_are_named() {
        let (_, error) = all(&file(false, MODIFIED, 4, 1, &[]), "x");
        assert!(error.unwrap().contains("0xa1b2cd34"));
        let (_, error) = all(&file(true, NANOSECONDS, 2, 1, &[]), "x");
        assert_eq!(error.unwrap(), "a pcap file of version 2.2: 2.4 is read");
    }

    #[test]
    fn link_types_other_than_ethernet_are_refused_unless_accepted() {
        let file = file(false, MICROSECONDS, 4, 101, &[([0, 0, 1, 1], b"E")]);
        let (_, error) = all(&file, "x");
        assert!(
            error
                .unwrap()
                .starts_with("packet 1 is of link type 101 (raw IP), and programs get Ethernet frames")
        );
        let mut packets = packets(&file, "x").accept(LinkType(101));
        assert_eq!(packets.link_type(), Some(LinkType(101)));
        assert_eq!(packets.next().unwrap().unwrap().bytes, b"E");
    }
}
