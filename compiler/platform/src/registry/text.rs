//! Lines of a text that Windows tools write: UTF-16 with a byte order mark, or 8 bits per character.
//!
//! Given: bytes. Computed: lines, one at a time, each decoded only when it is asked for, so that a large file takes no
//! more memory than its bytes. 8-bit text is taken for UTF-8, of which ASCII is a part: which code page a machine
//! had is written nowhere, so other bytes have no meaning.

/// What text starts with that is UTF-16 with the low byte first.
const UTF16_LE: [u8; 2] = [0xFF, 0xFE];
/// The same in UTF-8.
const UTF8: [u8; 3] = [0xEF, 0xBB, 0xBF];

/// How characters are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Encoding {
    Utf16,
    Narrow,
}

/// Lines of a text.
#[derive(Clone, Debug)]
pub(super) struct Lines<'a> {
    rest: &'a [u8],
    encoding: Encoding,
    number: u32,
}

/// A line without its end.
#[derive(Clone, Copy, Debug)]
pub(super) struct Line<'a> {
    bytes: &'a [u8],
    encoding: Encoding,
    /// From 1.
    pub number: u32,
}

impl<'a> Lines<'a> {
    pub fn new(bytes: &'a [u8]) -> Lines<'a> {
        let (rest, encoding) = if let Some(rest) = bytes.strip_prefix(&UTF16_LE) {
            (rest, Encoding::Utf16)
        } else if matches!(bytes, [first, 0, ..] if first.is_ascii()) {
            // UTF-16 whose mark was lost: no 8-bit text has a NUL in its second place.
            (bytes, Encoding::Utf16)
        } else {
            (bytes.strip_prefix(&UTF8).unwrap_or(bytes), Encoding::Narrow)
        };
        Lines {
            rest,
            encoding,
            number: 0,
        }
    }

    pub fn encoding(&self) -> Encoding {
        self.encoding
    }

    /// Whether what is left is half a character only.
    pub fn is_cut_short(&self) -> bool {
        self.encoding == Encoding::Utf16 && self.rest.len() % 2 == 1
    }
}

impl<'a> Iterator for Lines<'a> {
    type Item = Line<'a>;

    fn next(&mut self) -> Option<Line<'a>> {
        if self.rest.is_empty() {
            return None;
        }
        self.number = self.number.saturating_add(1);
        let (end, width) = match self.encoding {
            Encoding::Narrow => (self.rest.iter().position(|&b| b == b'\n'), 1),
            Encoding::Utf16 => {
                let units = self.rest.as_chunks::<2>().0;
                (units.iter().position(|u| *u == *b"\n\0").map(|at| at * 2), 2)
            }
        };
        let (line, rest) = match end {
            Some(end) => (&self.rest[..end], &self.rest[end + width..]),
            None => (self.rest, &[][..]),
        };
        self.rest = rest;
        let carriage_return: &[u8] = match self.encoding {
            Encoding::Narrow => b"\r",
            Encoding::Utf16 => b"\r\0",
        };
        Some(Line {
            bytes: line.strip_suffix(carriage_return).unwrap_or(line),
            encoding: self.encoding,
            number: self.number,
        })
    }
}

impl Line<'_> {
    /// Bytes that it takes in the file.
    pub fn length(&self) -> usize {
        self.bytes.len()
    }

    /// The line's text; `None` if its bytes are none.
    pub fn text(&self) -> Option<String> {
        match self.encoding {
            Encoding::Narrow => str::from_utf8(self.bytes).ok().map(str::to_owned),
            Encoding::Utf16 => match self.bytes.as_chunks::<2>() {
                (units, []) => {
                    let units = units.iter().map(|u| u16::from_le_bytes(*u));
                    char::decode_utf16(units).collect::<Result<String, _>>().ok()
                }
                _ => None,
            },
        }
    }

    /// The line's text, with a mark for everything that is none.
    pub fn lossy(&self) -> String {
        match self.encoding {
            Encoding::Narrow => String::from_utf8_lossy(self.bytes).into_owned(),
            Encoding::Utf16 => {
                let units = self.bytes.as_chunks::<2>().0.iter().map(|u| u16::from_le_bytes(*u));
                let characters = char::decode_utf16(units);
                characters.map(|c| c.unwrap_or(char::REPLACEMENT_CHARACTER)).collect()
            }
        }
    }
}
