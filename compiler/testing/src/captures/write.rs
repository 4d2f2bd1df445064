//! Packets with what became of them, as a pcapng file.
//!
//! Given packets, their fates and a comment each; writes one section with an interface for every [`Fate`], always all and in the
//! same order, so that a fate has the same number and name in every file: Wireshark's `frame.interface_name == "dropped"` finds
//! its packets. A packet is an enhanced packet block with the comment, the direction, and the verdict as Linux numbers it. The
//! bytes depend on nothing but the packets: numbers are little-endian, and a packet without a time is one microsecond after the
//! one before it, the first at 0.

use std::io::Write;

use super::layout::{
    BYTE_ORDER_MAGIC, COMMENT, END_OF_OPTIONS, ENHANCED_PACKET, FLAGS, INTERFACE, INTERFACE_NAME, MAJOR, RESOLUTION,
    SECTION, VERDICT, WRITER,
};
use super::{CaptureError, LinkType, MAX_PACKET};

/// `if_tsresol` of all interfaces.
const NANOSECONDS: u8 = 9;
/// Between packets without a time.
const STEP_NS: u64 = 1000;
/// Length of a section that is not given.
const UNKNOWN_LENGTH: u64 = u64::MAX;
/// In `epb_flags`: the packet was received.
const INBOUND: u32 = 1;
/// In `epb_flags`: the packet was sent.
const OUTBOUND: u32 = 2;
/// In `epb_verdict`: what follows is an `xdp_action` of Linux, in eight bytes.
const LINUX_XDP: u8 = 2;

/// What became of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Fate {
    /// It went on to the system.
    Passed,
    /// It ended there.
    Dropped,
    /// It went back out of the interface that it came in by.
    SentBack,
    /// It went out of another interface, or to another processor or socket.
    Redirected,
    /// Nothing of these: the program failed, or returned what means nothing.
    Other,
}

/// `None` is a return value of which no more is known, or none at all.
impl From<Option<bpf2sys_platform::Fate>> for Fate {
    fn from(fate: Option<bpf2sys_platform::Fate>) -> Fate {
        use bpf2sys_platform::Fate as Known;
        match fate {
            Some(Known::Passed) => Fate::Passed,
            Some(Known::Dropped) => Fate::Dropped,
            Some(Known::SentBack) => Fate::SentBack,
            Some(Known::Redirected) => Fate::Redirected,
            None => Fate::Other,
        }
    }
}

impl Fate {
    /// All, in the order of their interfaces in a file.
    pub const ALL: [Fate; 5] = [
        Fate::Passed,
        Fate::Dropped,
        Fate::SentBack,
        Fate::Redirected,
        Fate::Other,
    ];

    /// Its name, which is that of its interface.
    pub fn name(self) -> &'static str {
        match self {
            Fate::Passed => "passed",
            Fate::Dropped => "dropped",
            Fate::SentBack => "sent back",
            Fate::Redirected => "redirected",
            Fate::Other => "other",
        }
    }

    /// Its `xdp_action` (Linux, `include/uapi/linux/bpf.h`); what is none of them is handled as 0, `XDP_ABORTED`.
    pub fn linux_action(self) -> u64 {
        match self {
            Fate::Other => 0,
            Fate::Dropped => 1,
            Fate::Passed => 2,
            Fate::SentBack => 3,
            Fate::Redirected => 4,
        }
    }

    fn interface(self) -> u32 {
        match self {
            Fate::Passed => 0,
            Fate::Dropped => 1,
            Fate::SentBack => 2,
            Fate::Redirected => 3,
            Fate::Other => 4,
        }
    }

    fn direction(self) -> u32 {
        match self {
            Fate::Passed | Fate::Dropped | Fate::Other => INBOUND,
            Fate::SentBack | Fate::Redirected => OUTBOUND,
        }
    }
}

/// A packet to write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Written<'a> {
    /// Its bytes, at most [`MAX_PACKET`].
    pub bytes: &'a [u8],
    /// Bytes that it had before it was cut short. Fewer than it has here count as that many.
    pub original_length: u32,
    /// When, in nanoseconds since 1970. `None`: one microsecond after the packet before it, or 0.
    pub time_ns: Option<u64>,
    /// What became of it.
    pub fate: Fate,
    /// What the program returned, `None` if it did not come to that: then the file says no verdict either. The number itself
    /// is not written, since systems number verdicts differently, but [`Fate::linux_action`].
    pub verdict: Option<u64>,
    /// Text for a reader, of which at most 65,535 bytes are written; may be empty.
    pub comment: &'a str,
}

/// A pcapng file that is being written.
pub struct CaptureWriter<W: Write> {
    output: W,
    written: u64,
    last_ns: Option<u64>,
}

impl<W: Write> CaptureWriter<W> {
    /// Begins a file. Give it a buffered writer: it writes a packet at a time.
    pub fn new(output: W) -> Result<CaptureWriter<W>, CaptureError> {
        let mut writer = CaptureWriter {
            output,
            written: 0,
            last_ns: None,
        };
        let mut section = Block::new(SECTION);
        section.bytes(&BYTE_ORDER_MAGIC.to_le_bytes());
        section.bytes(&[MAJOR.to_le_bytes(), 0u16.to_le_bytes()].concat());
        section.bytes(&UNKNOWN_LENGTH.to_le_bytes());
        section.option(WRITER, b"bpf2sys");
        writer.block(section)?;
        for fate in Fate::ALL {
            let mut interface = Block::new(INTERFACE);
            interface.bytes(&u32::from(LinkType::ETHERNET.0).to_le_bytes());
            interface.bytes(&MAX_PACKET.to_le_bytes());
            interface.option(INTERFACE_NAME, fate.name().as_bytes());
            interface.option(RESOLUTION, &[NANOSECONDS]);
            writer.block(interface)?;
        }
        Ok(writer)
    }

    /// Writes a packet. Fails if it is too long, or the output does not take it.
    pub fn write(&mut self, packet: &Written<'_>) -> Result<(), CaptureError> {
        self.written += 1;
        let length = packet.bytes.len() as u64;
        let captured = u32::try_from(length).ok().filter(|captured| *captured <= MAX_PACKET);
        let captured = captured.ok_or(CaptureError::TooLong { packet: self.written })?;
        let after_last = self.last_ns.map_or(0, |last| last.saturating_add(STEP_NS));
        let time = packet.time_ns.unwrap_or(after_last);
        self.last_ns = Some(time);

        let mut block = Block::new(ENHANCED_PACKET);
        let original = packet.original_length.max(captured);
        for field in [
            packet.fate.interface(),
            (time >> 32) as u32,
            time as u32,
            captured,
            original,
        ] {
            block.bytes(&field.to_le_bytes());
        }
        block.padded(packet.bytes);
        if !packet.comment.is_empty() {
            block.option(COMMENT, fitting(packet.comment).as_bytes());
        }
        block.option(FLAGS, &packet.fate.direction().to_le_bytes());
        if packet.verdict.is_some() {
            let action = packet.fate.linux_action().to_le_bytes();
            block.option(VERDICT, &[&[LINUX_XDP], action.as_slice()].concat());
        }
        self.block(block)
    }

    /// Ends the file; gives the output back. Without it, what a buffer could not write goes unnoticed.
    pub fn finish(mut self) -> Result<W, CaptureError> {
        self.output.flush().map_err(CaptureError::write)?;
        Ok(self.output)
    }

    fn block(&mut self, block: Block) -> Result<(), CaptureError> {
        self.output.write_all(&block.finish()).map_err(CaptureError::write)
    }
}

/// As much of a text as an option holds.
fn fitting(text: &str) -> &str {
    &text[..text.floor_char_boundary(u16::MAX.into())]
}

/// A block without its two lengths, the last part of which are options.
struct Block {
    kind: u32,
    body: Vec<u8>,
}

impl Block {
    fn new(kind: u32) -> Block {
        Block { kind, body: Vec::new() }
    }

    fn bytes(&mut self, bytes: &[u8]) {
        self.body.extend(bytes);
    }

    fn padded(&mut self, bytes: &[u8]) {
        self.bytes(bytes);
        self.body.resize(self.body.len().next_multiple_of(4), 0);
    }

    /// An option of at most 65,535 bytes.
    fn option(&mut self, number: u16, value: &[u8]) {
        self.bytes(&number.to_le_bytes());
        self.bytes(&(value.len() as u16).to_le_bytes());
        self.padded(value);
    }

    /// The block with its lengths and the end of its options.
    fn finish(mut self) -> Vec<u8> {
        self.option(END_OF_OPTIONS, &[]);
        let length = (self.body.len() as u32 + 12).to_le_bytes();
        [self.kind.to_le_bytes().as_slice(), &length, &self.body, &length].concat()
    }
}

#[cfg(test)]
mod tests;
