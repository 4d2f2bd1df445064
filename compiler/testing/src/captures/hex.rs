//! Packets as hexadecimal text.
//!
//! Given lines of pairs of hexadecimal digits; gives the packets that they spell. White space is ignored, `#` begins a comment,
//! and an empty line ends a packet. Lines may begin with the offset of their first byte, as `tcpdump -xx`, `xxd`, `hexdump -C`,
//! `tshark -x` and `od -Ax -tx1` write them, and then end with a column of characters, which is ignored. An offset of 0 begins
//! a packet; any other must be the number of bytes so far, so that a line that is missing or from elsewhere is found. Nothing else
//! is passed over: the line of text that tcpdump puts before each packet is an error, as a mistyped row would be.

use std::io::Cursor;

use super::source::Source;
use super::{CaptureError, MAX_PACKET};

/// Bytes of the longest line: a packet of the greatest length in it, with blanks between the bytes.
const MAX_LINE: u64 = 1 << 20;

/// The packets of text: pairs of hexadecimal digits, `#` before a comment, an empty line between packets; or a dump with offsets,
/// as `xxd` and others write it. Fails at the first line that is neither.
pub fn parse_hex(text: &str) -> Result<Vec<Vec<u8>>, CaptureError> {
    let (mut source, _) = Source::new(Cursor::new(text.to_owned()))?;
    let mut dump = Dump::default();
    let mut packets = Vec::new();
    while let Some(packet) = dump.next(&mut source)? {
        packets.push(packet);
    }
    Ok(packets)
}

/// A dump that is being read.
#[derive(Default)]
pub(super) struct Dump {
    /// Lines that were read.
    line: u64,
    /// What there is of the packet.
    packet: Vec<u8>,
    /// Whether its lines begin with offsets.
    offsets: bool,
}

/// What a line is.
#[derive(Debug, PartialEq, Eq)]
enum Line {
    Empty,
    Comment,
    Bytes { offset: Option<u64>, bytes: Vec<u8> },
}

impl Dump {
    /// The next packet, which has at least one byte.
    pub(super) fn next(&mut self, source: &mut Source) -> Result<Option<Vec<u8>>, CaptureError> {
        while let Some(line) = source.line(MAX_LINE + 1)? {
            self.line += 1;
            if line.len() as u64 > MAX_LINE {
                return Err(self.error(format!("longer than {MAX_LINE} bytes")));
            }
            let line = self.parse(&line).map_err(|what| self.error(what))?;
            let finished = match line {
                Line::Comment => None,
                Line::Empty => self.take(),
                Line::Bytes { offset, bytes } => {
                    let finished = if offset == Some(0) { self.take() } else { None };
                    self.add(offset, &bytes).map_err(|what| self.error(what))?;
                    finished
                }
            };
            if finished.is_some() {
                return Ok(finished);
            }
        }
        Ok(self.take())
    }

    fn error(&self, what: String) -> CaptureError {
        CaptureError::Hex { line: self.line, what }
    }

    /// The packet so far, unless it has no bytes.
    fn take(&mut self) -> Option<Vec<u8>> {
        self.offsets = false;
        Some(std::mem::take(&mut self.packet)).filter(|packet| !packet.is_empty())
    }

    fn add(&mut self, offset: Option<u64>, bytes: &[u8]) -> Result<(), String> {
        let length = self.packet.len();
        match offset {
            Some(offset) if offset != length as u64 => {
                return Err(format!(
                    "offset {offset:#x}, and {length:#x} bytes of the packet come before it"
                ));
            }
            None if self.offsets => return Err("a line without an offset in a packet that has them".to_owned()),
            _ => {}
        }
        if length + bytes.len() > MAX_PACKET as usize {
            return Err(format!("the packet gets longer than {MAX_PACKET} bytes"));
        }
        self.offsets |= offset.is_some();
        self.packet.extend(bytes);
        Ok(())
    }

    fn parse(&self, line: &[u8]) -> Result<Line, String> {
        if self.line == 1 && (line.starts_with(&[0xFF, 0xFE]) || line.starts_with(&[0xFE, 0xFF])) {
            return Err("text in UTF-16; UTF-8 is read".to_owned());
        }
        let text = String::from_utf8_lossy(line);
        let text = text.trim_start_matches('\u{FEFF}').trim();
        if text.is_empty() {
            return Ok(Line::Empty);
        }
        if text.starts_with('#') {
            return Ok(Line::Comment);
        }
        if text == "*" {
            return Err("lines were left out here; `hexdump -C -v` writes all".to_owned());
        }
        let (first, rest) = text.split_at(text.find(char::is_whitespace).unwrap_or(text.len()));
        if let Some(offset) = first.strip_suffix(':') {
            let offset = number(offset.strip_prefix("0x").unwrap_or(offset));
            let offset = offset.ok_or_else(|| format!("`{}` is no offset", shown(first)))?;
            return bytes(Some(offset), column(rest, 2));
        }
        match number(first).filter(|_| (4..=8).contains(&first.len())) {
            Some(offset) if self.is_offset(offset, rest) => bytes(Some(offset), column(rest, 3)),
            _ => bytes(None, without_comment(text)),
        }
    }

    /// Whether four to eight digits at the start of a line, without a colon, are an offset. They are where lines have offsets,
    /// and else if pairs follow, and it cannot be a row of pairs itself: two blanks follow, or it is where one begins.
    fn is_offset(&self, offset: u64, rest: &str) -> bool {
        let mut pairs = column(rest, 3).split_whitespace().peekable();
        let set_off = rest.len() - rest.trim_start().len() >= 2 || (offset == 0 && self.packet.is_empty());
        self.offsets || (set_off && pairs.peek().is_some() && pairs.all(|pair| pair.len() == 2))
    }
}

/// What follows an offset up to the column of characters: that begins with a bar or behind `gap` blanks.
fn column(rest: &str, gap: usize) -> &str {
    let rest = rest.trim_start();
    let blanks = |at: &usize| {
        rest.as_bytes()[*at..]
            .iter()
            .take(gap)
            .filter(|byte| byte.is_ascii_whitespace())
            .count()
    };
    let end = (0..rest.len()).find(|at| rest.as_bytes()[*at] == b'|' || blanks(at) == gap);
    without_comment(rest.get(..end.unwrap_or(rest.len())).unwrap_or_default())
}

fn without_comment(text: &str) -> &str {
    text.split_once('#').map_or(text, |(before, _)| before)
}

fn number(digits: &str) -> Option<u64> {
    let all_digits = digits.bytes().all(|digit| digit.is_ascii_hexdigit());
    u64::from_str_radix(digits, 16).ok().filter(|_| all_digits)
}

fn bytes(offset: Option<u64>, text: &str) -> Result<Line, String> {
    let digits = text.chars().filter(|c| !c.is_whitespace());
    let digits: Vec<u8> = digits
        .map(|c| c.to_digit(16).map(|digit| digit as u8).ok_or(c))
        .collect::<Result<_, _>>()
        .map_err(|c| format!("`{}` is no hexadecimal digit", shown(&c.to_string())))?;
    if !digits.len().is_multiple_of(2) {
        return Err("an odd number of digits".to_owned());
    }
    let bytes = digits.chunks_exact(2).map(|pair| pair[0] << 4 | pair[1]).collect();
    Ok(Line::Bytes { offset, bytes })
}

/// Text of a file as it may be shown: no control characters, and not much.
fn shown(text: &str) -> String {
    text.chars().take(20).flat_map(char::escape_debug).collect()
}

#[cfg(test)]
mod tests;
