//! Which packets are in a file, and how are they written with their verdicts?
//!
//! Given a file, [`Packets`] gives its packets one after the other, of pcap and pcapng files, of text with hexadecimal digits
//! ([`parse_hex`] for text that is at hand), and of any other file as one packet. [`CaptureWriter`] writes packets as a pcapng
//! file that says what became of each.
//!
//! No more than one packet is held at a time, and no length in a file is believed: packets have at most [`MAX_PACKET`] bytes,
//! and whatever else a file holds is read through. The formats are read here and not by a library: those that there are want a
//! buffer that holds the largest block whole, do not say where in the file something is wrong, and leave links, clocks and
//! sections to their caller, which is most of the work.

mod error;
mod hex;
mod layout;
mod link_type;
mod pcap;
mod pcapng;
mod source;
#[cfg(test)]
mod tests;
mod write;

use std::fs::File;
use std::io::Read;
use std::path::Path;

pub use error::CaptureError;
pub use hex::parse_hex;
pub use link_type::LinkType;
pub use write::{CaptureWriter, Fate, Written};

use hex::Dump;
use pcap::Pcap;
use pcapng::Pcapng;
use source::Source;

/// Bytes of the longest packet that is read or written; the most that tools for captures take, too.
pub const MAX_PACKET: u32 = 262_144;

/// A packet of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Packet {
    /// The bytes that were recorded.
    pub bytes: Vec<u8>,
    /// When, in nanoseconds since 1970; `None` where the file does not say, or not within the range.
    pub time_ns: Option<u64>,
    /// Bytes that it had on its link. More than [`Self::bytes`] has if the recording cut it short, never fewer.
    pub original_length: u32,
    /// Its number in the file, from 1.
    pub number: u64,
    /// What somebody wrote about it; several comments are joined with line ends.
    pub comment: Option<String>,
}

/// The packets of a file, in its order. After an error nothing comes.
pub struct Packets {
    source: Source,
    format: Format,
    name: String,
    accepted: Vec<LinkType>,
    link_type: Option<LinkType>,
    given: u64,
    cut_short: u64,
    ended: bool,
}

enum Format {
    Pcap(Pcap),
    Pcapng(Pcapng),
    Hex(Dump),
    Raw,
}

/// A packet and what it begins with.
struct Found {
    packet: Packet,
    link_type: LinkType,
}

impl Packets {
    /// Opens a file. Fails if it cannot be read or is of a format that is known and not read.
    pub fn open(path: &Path) -> Result<Packets, CaptureError> {
        let file = File::open(path).map_err(CaptureError::read)?;
        Packets::from_reader(file, &path.to_string_lossy())
    }

    /// Reads from anywhere; the end of `name` tells text from a packet. Fails as [`Self::open`] does.
    pub fn from_reader(reader: impl Read + Send + 'static, name: &str) -> Result<Packets, CaptureError> {
        let (mut source, magic) = Source::new(reader)?;
        let format = recognise(&magic, name, &mut source)?;
        let link_type = match &format {
            Format::Pcap(pcap) => Some(pcap.link_type()),
            Format::Pcapng(_) => None,
            Format::Hex(_) | Format::Raw => Some(LinkType::ETHERNET),
        };
        Ok(Packets {
            source,
            format,
            name: name.to_owned(),
            accepted: vec![LinkType::ETHERNET],
            link_type,
            given: 0,
            cut_short: 0,
            ended: false,
        })
    }

    /// Gives packets of this link type too, as they are in the file. Text and single packets are taken for Ethernet.
    #[must_use]
    pub fn accept(mut self, link_type: LinkType) -> Packets {
        self.accepted.push(link_type);
        self
    }

    /// The link type of the packet that was given or refused last; before the first, that of the file if it has one for all.
    pub fn link_type(&self) -> Option<LinkType> {
        self.link_type
    }

    /// How many of the packets that were given have fewer bytes than they had on their link.
    pub fn cut_short(&self) -> u64 {
        self.cut_short
    }

    /// Whether files of this format can have more packets than one.
    pub fn can_have_several(&self) -> bool {
        !matches!(self.format, Format::Raw)
    }

    /// The name that was given for the file.
    pub fn name(&self) -> &str {
        &self.name
    }

    fn read(&mut self) -> Result<Option<Packet>, CaptureError> {
        let number = self.given + 1;
        let found = match &mut self.format {
            Format::Pcap(pcap) => pcap.next(&mut self.source, number)?,
            Format::Pcapng(pcapng) => pcapng.next(&mut self.source, number)?,
            Format::Hex(dump) => dump.next(&mut self.source)?.map(|bytes| whole(bytes, number)),
            Format::Raw if self.given > 0 => None,
            Format::Raw => Some(raw(&mut self.source)?),
        };
        let Some(Found { packet, link_type }) = found else {
            return Ok(None);
        };
        self.link_type = Some(link_type);
        if !self.accepted.contains(&link_type) {
            return Err(CaptureError::NotEthernet {
                packet: number,
                link_type,
            });
        }
        self.given = number;
        self.cut_short += u64::from((packet.bytes.len() as u64) < u64::from(packet.original_length));
        Ok(Some(packet))
    }
}

impl Iterator for Packets {
    type Item = Result<Packet, CaptureError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.ended {
            return None;
        }
        let read = self.read().transpose();
        self.ended = !matches!(read, Some(Ok(_)));
        read
    }
}

/// Finds the format by the first bytes, and where they are of none, by the end of the name.
fn recognise(magic: &[u8], name: &str, source: &mut Source) -> Result<Format, CaptureError> {
    if let Some(pcap) = Pcap::open(magic, source)? {
        return Ok(Format::Pcap(pcap));
    }
    if magic.starts_with(&layout::SECTION.to_le_bytes()) {
        return Ok(Format::Pcapng(Pcapng::default()));
    }
    let compressed: [(&[u8], &str); 4] = [
        (&[0x1F, 0x8B, 8], "gzip"),
        (&[0x28, 0xB5, 0x2F, 0xFD], "zstd"),
        (&[0x04, 0x22, 0x4D, 0x18], "lz4"),
        (&[0xFD, b'7', b'z', b'X', b'Z', 0], "xz"),
    ];
    if let Some((_, tool)) = compressed.iter().find(|(start, _)| magic.starts_with(start)) {
        return Err(CaptureError::Compressed { tool });
    }
    let others: [(&[u8], &str); 3] = [
        (b"snoop\0\0\0", "a snoop capture"),
        (b"GMBU", "a capture of Network Monitor"),
        (b"RTSS", "a capture of Network Monitor"),
    ];
    if let Some((_, format)) = others.iter().find(|(start, _)| magic.starts_with(start)) {
        let what = format!("{format}: `editcap -F pcapng` converts it");
        return Err(CaptureError::Unsupported { what });
    }
    let extension = Path::new(name).extension().unwrap_or_default().to_ascii_lowercase();
    match extension.to_str().unwrap_or_default() {
        "hex" | "txt" => Ok(Format::Hex(Dump::default())),
        "etl" => Err(CaptureError::Unsupported {
            what: "a trace of Windows: `pktmon etl2pcap` converts it".to_owned(),
        }),
        "pcap" | "pcapng" | "cap" => Err(CaptureError::Unsupported {
            what: "the name is that of a capture, and the file begins as none: neither pcap nor pcapng".to_owned(),
        }),
        _ => Ok(Format::Raw),
    }
}

/// The whole file. An empty one is a packet without bytes, which programs can get.
fn raw(source: &mut Source) -> Result<Found, CaptureError> {
    let bytes = source.rest(u64::from(MAX_PACKET) + 1)?;
    if bytes.len() as u64 > u64::from(MAX_PACKET) {
        return Err(CaptureError::TooLong { packet: 1 });
    }
    Ok(whole(bytes, 1))
}

/// A packet of which nothing but the bytes is known.
fn whole(bytes: Vec<u8>, number: u64) -> Found {
    Found {
        packet: Packet {
            original_length: bytes.len() as u32,
            bytes,
            time_ns: None,
            number,
            comment: None,
        },
        link_type: LinkType::ETHERNET,
    }
}
