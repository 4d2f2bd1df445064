//! pcapng files (`draft-ietf-opsawg-pcapng`).
//!
//! Given the bytes of a file that begins with a section header; gives one packet for each enhanced, simple or obsolete packet
//! block. A section sets the byte order and forgets the interfaces of the one before. An interface has the link type of its
//! packets and what their times count. All other blocks are read through.

use super::layout::{
    BYTE_ORDER_MAGIC, COMMENT, END_OF_OPTIONS, ENHANCED_PACKET, INTERFACE, MAJOR, OFFSET, PACKET, RESOLUTION, SECTION,
    SIMPLE_PACKET,
};
use super::source::{ByteOrder, Source};
use super::{CaptureError, Found, LinkType, MAX_PACKET, Packet};

/// Interfaces of a section: what the obsolete packet block can count.
const MAX_INTERFACES: usize = 1 << 16;
/// Type and length before what is in a block, and the length again behind it.
const FRAME: u32 = 12;
/// `if_tsresol` of an interface that does not have it: microseconds.
const MICROSECONDS: u8 = 6;
/// In `if_tsresol`: the rest is an exponent of 2 and not of 10.
const BINARY: u8 = 0x80;

/// What was read that later blocks refer to.
#[derive(Default)]
pub(super) struct Pcapng {
    /// `None` before the first section header.
    order: Option<ByteOrder>,
    interfaces: Vec<Interface>,
}

struct Interface {
    link_type: LinkType,
    /// Bytes that are kept of a packet; 0 for all.
    kept: u32,
    resolution: u8,
    /// Seconds to add to times.
    offset: i64,
}

/// A packet block, up to its data.
struct Head {
    interface: u32,
    time: Option<u64>,
    captured: u32,
    original: u32,
}

impl Pcapng {
    /// The packet of the next block that has one.
    pub(super) fn next(&mut self, source: &mut Source, number: u64) -> Result<Option<Found>, CaptureError> {
        loop {
            let at = source.offset();
            let Some(start) = source.start::<8>(number)? else {
                return Ok(None);
            };
            let Some(order) = self.order.filter(|order| order.u32(&start, 0) != SECTION) else {
                self.section(source, start, at, number)?;
                continue;
            };
            let mut block = Block::new(source, order, order.u32(&start, 4), at, number)?;
            match order.u32(&start, 0) {
                INTERFACE => {
                    let interface = block.interface()?;
                    if self.interfaces.len() == MAX_INTERFACES {
                        return Err(block.malformed("a section has more than 65,536 interfaces"));
                    }
                    self.interfaces.push(interface);
                }
                kind @ (PACKET | SIMPLE_PACKET | ENHANCED_PACKET) => return self.packet(block, kind).map(Some),
                _ => block.end()?,
            }
        }
    }

    /// A section header, of which type and length were read. The length is known when the byte order is.
    fn section(&mut self, source: &mut Source, start: [u8; 8], at: u64, number: u64) -> Result<(), CaptureError> {
        let magic: [u8; 4] = source.array(number)?;
        let order = [ByteOrder::Little, ByteOrder::Big]
            .into_iter()
            .find(|order| order.u32(&magic, 0) == BYTE_ORDER_MAGIC);
        let Some(order) = order else {
            return Err(CaptureError::Malformed {
                packet: number,
                offset: at,
                what: "a section header without its byte-order magic",
            });
        };
        let mut block = Block::new(source, order, order.u32(&start, 4), at, number)?;
        block.take(4)?;
        // Of the length of the section nothing is needed: it only allows to skip it.
        let versions: [u8; 12] = block.array()?;
        let (major, minor) = (order.u16(&versions, 0), order.u16(&versions, 2));
        if major != MAJOR {
            let what = format!("a pcapng section of version {major}.{minor}: 1.0 is read");
            return Err(CaptureError::Unsupported { what });
        }
        block.end()?;
        self.order = Some(order);
        self.interfaces.clear();
        Ok(())
    }

    /// What a simple packet block says: how much of the packet there is follows from its interface, which is the first.
    fn simple(&self, block: &mut Block<'_>) -> Result<Head, CaptureError> {
        let original = block.order.u32(&block.array::<4>()?, 0);
        let kept = self.interfaces.first().map_or(0, |interface| interface.kept);
        Ok(Head {
            interface: 0,
            time: None,
            captured: if kept == 0 { original } else { original.min(kept) },
            original,
        })
    }

    fn packet(&self, mut block: Block<'_>, kind: u32) -> Result<Found, CaptureError> {
        let head = if kind == SIMPLE_PACKET {
            self.simple(&mut block)?
        } else {
            block.head(kind)?
        };
        let Some(interface) = self.interfaces.get(head.interface as usize) else {
            return Err(block.malformed("a packet of an interface that was not described"));
        };
        let bytes = block.data(head.captured)?;
        let comment = if kind == SIMPLE_PACKET { None } else { block.comment()? };
        let number = block.packet;
        block.end()?;
        Ok(Found {
            packet: Packet {
                bytes,
                time_ns: head.time.and_then(|time| interface.nanoseconds(time)),
                original_length: head.original.max(head.captured),
                number,
                comment,
            },
            link_type: interface.link_type,
        })
    }
}

impl Interface {
    /// A time in nanoseconds since 1970, unless it is before, or after 2554.
    fn nanoseconds(&self, units: u64) -> Option<u64> {
        let exponent = u32::from(self.resolution & !BINARY);
        let nanoseconds = u128::from(units) * 1_000_000_000;
        let nanoseconds = if self.resolution & BINARY != 0 {
            nanoseconds >> exponent
        } else {
            // What 128 bits cannot hold divides to nothing.
            10u128.checked_pow(exponent).map_or(0, |unit| nanoseconds / unit)
        };
        let since_1970 = i128::try_from(nanoseconds).ok()? + i128::from(self.offset) * 1_000_000_000;
        u64::try_from(since_1970).ok()
    }
}

/// A block that is being read.
struct Block<'a> {
    source: &'a mut Source,
    order: ByteOrder,
    length: u32,
    /// Bytes up to its second length.
    left: u64,
    /// Where it begins.
    at: u64,
    /// Number of the packet that is to come.
    packet: u64,
}

impl Block<'_> {
    /// A block of which type and length were read.
    fn new(
        source: &mut Source,
        order: ByteOrder,
        length: u32,
        at: u64,
        packet: u64,
    ) -> Result<Block<'_>, CaptureError> {
        let mut block = Block {
            source,
            order,
            length,
            left: 0,
            at,
            packet,
        };
        match length.checked_sub(FRAME) {
            Some(left) if length.is_multiple_of(4) => block.left = left.into(),
            _ => return Err(block.malformed("the length of a block is less than 12, or no multiple of 4")),
        }
        Ok(block)
    }

    fn malformed(&self, what: &'static str) -> CaptureError {
        CaptureError::Malformed {
            packet: self.packet,
            offset: self.at,
            what,
        }
    }

    /// Counts bytes that are read from the block next.
    fn take(&mut self, length: u64) -> Result<(), CaptureError> {
        self.left =
            (self.left.checked_sub(length)).ok_or_else(|| self.malformed("a block is too short for its fields"))?;
        Ok(())
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], CaptureError> {
        self.take(N as u64)?;
        self.source.array(self.packet)
    }

    /// Bytes, and what fills them up to a multiple of four.
    fn padded(&mut self, length: u32) -> Result<Vec<u8>, CaptureError> {
        let padded = u64::from(length).next_multiple_of(4);
        self.take(padded)?;
        let bytes = self.source.bytes(length as usize, self.packet)?;
        self.source.skip(padded - u64::from(length), self.packet)?;
        Ok(bytes)
    }

    /// What an enhanced or obsolete packet block says before the bytes.
    fn head(&mut self, kind: u32) -> Result<Head, CaptureError> {
        let fields: [u8; 20] = self.array()?;
        let [interface, high, low, captured, original] = [0, 4, 8, 12, 16].map(|at| self.order.u32(&fields, at));
        Ok(Head {
            // The obsolete block has a count of lost packets in the other half.
            interface: if kind == PACKET {
                self.order.u16(&fields, 0).into()
            } else {
                interface
            },
            time: Some(u64::from(high) << 32 | u64::from(low)),
            captured,
            original,
        })
    }

    /// The bytes of a packet.
    fn data(&mut self, length: u32) -> Result<Vec<u8>, CaptureError> {
        if length > MAX_PACKET {
            return Err(CaptureError::TooLong { packet: self.packet });
        }
        self.padded(length)
    }

    /// The next option: its number and value.
    fn option(&mut self) -> Result<Option<(u16, Vec<u8>)>, CaptureError> {
        if self.left == 0 {
            return Ok(None);
        }
        let header: [u8; 4] = self.array()?;
        match self.order.u16(&header, 0) {
            END_OF_OPTIONS => Ok(None),
            number => Ok(Some((number, self.padded(self.order.u16(&header, 2).into())?))),
        }
    }

    fn interface(&mut self) -> Result<Interface, CaptureError> {
        let fields: [u8; 8] = self.array()?;
        let mut interface = Interface {
            link_type: LinkType(self.order.u16(&fields, 0)),
            kept: self.order.u32(&fields, 4),
            resolution: MICROSECONDS,
            offset: 0,
        };
        while let Some((number, value)) = self.option()? {
            match (number, value.as_slice()) {
                (RESOLUTION, &[resolution]) => interface.resolution = resolution,
                (OFFSET, value) => {
                    let value = value.try_into();
                    let value = value.map_err(|_| self.malformed("an offset of times that has not 8 bytes"))?;
                    interface.offset = self.order.i64(value);
                }
                (RESOLUTION, _) => return Err(self.malformed("a resolution of times that has not 1 byte")),
                _ => {}
            }
        }
        self.finish()?;
        Ok(interface)
    }

    /// The comments of a packet. What exceeds the limit of a packet is left out.
    fn comment(&mut self) -> Result<Option<String>, CaptureError> {
        let mut comments: Option<String> = None;
        while let Some((number, value)) = self.option()? {
            if number != COMMENT {
                continue;
            }
            let text = String::from_utf8_lossy(&value);
            match &mut comments {
                None => comments = Some(text.into_owned()),
                Some(all) if all.len() + text.len() < MAX_PACKET as usize => *all += &format!("\n{text}"),
                Some(_) => {}
            }
        }
        Ok(comments)
    }

    /// Reads through the rest of the block.
    fn end(mut self) -> Result<(), CaptureError> {
        self.finish()
    }

    fn finish(&mut self) -> Result<(), CaptureError> {
        self.source.skip(self.left, self.packet)?;
        self.left = 0;
        let again: [u8; 4] = self.source.array(self.packet)?;
        if self.order.u32(&again, 0) != self.length {
            return Err(self.malformed("the two lengths of a block differ"));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
