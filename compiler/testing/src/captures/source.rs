//! The bytes of a file, in order, with how many were read.
//!
//! Given a reader and how much is wanted; gives that much, or says at which byte the file ends. Nothing is kept, and no more is
//! allocated than the caller asked for: callers check lengths from the file first.

use std::io::{self, BufRead, BufReader, Cursor, Read};

use super::CaptureError;

/// Bytes at the start of a file that tell its format.
pub(super) const MAGIC: usize = 8;

/// A file that is read once, from its start.
pub(super) struct Source {
    reader: Box<dyn BufRead + Send>,
    offset: u64,
}

impl Source {
    /// The file, and its first bytes, which are read again.
    pub(super) fn new(mut reader: impl Read + Send + 'static) -> Result<(Source, Vec<u8>), CaptureError> {
        let mut magic = Vec::with_capacity(MAGIC);
        reader
            .by_ref()
            .take(MAGIC as u64)
            .read_to_end(&mut magic)
            .map_err(CaptureError::read)?;
        let whole = Cursor::new(magic.clone()).chain(BufReader::with_capacity(1 << 16, reader));
        let reader = Box::new(whole);
        Ok((Source { reader, offset: 0 }, magic))
    }

    /// Bytes that were read.
    pub(super) fn offset(&self) -> u64 {
        self.offset
    }

    /// The next bytes, or nothing where the file ends before them.
    pub(super) fn start<const N: usize>(&mut self, packet: u64) -> Result<Option<[u8; N]>, CaptureError> {
        let mut bytes = [0; N];
        match self.fill(&mut bytes)? {
            0 => Ok(None),
            read if read == N => Ok(Some(bytes)),
            _ => Err(self.truncated(packet)),
        }
    }

    /// The next bytes, which must be there.
    pub(super) fn array<const N: usize>(&mut self, packet: u64) -> Result<[u8; N], CaptureError> {
        self.start(packet)?.ok_or_else(|| self.truncated(packet))
    }

    /// The next `length` bytes, which must be there.
    pub(super) fn bytes(&mut self, length: usize, packet: u64) -> Result<Vec<u8>, CaptureError> {
        let mut bytes = vec![0; length];
        if self.fill(&mut bytes)? < length {
            return Err(self.truncated(packet));
        }
        Ok(bytes)
    }

    /// Reads through the next `length` bytes, which must be there.
    pub(super) fn skip(&mut self, length: u64, packet: u64) -> Result<(), CaptureError> {
        let skipped = io::copy(&mut self.reader.by_ref().take(length), &mut io::sink()).map_err(CaptureError::read)?;
        self.offset += skipped;
        if skipped < length {
            return Err(self.truncated(packet));
        }
        Ok(())
    }

    /// What is left of the file, but no more than `limit` bytes.
    pub(super) fn rest(&mut self, limit: u64) -> Result<Vec<u8>, CaptureError> {
        let mut bytes = Vec::new();
        let mut rest = self.reader.by_ref().take(limit);
        self.offset += rest.read_to_end(&mut bytes).map_err(CaptureError::read)? as u64;
        Ok(bytes)
    }

    /// The next line with its end, but no more than `limit` bytes of it; nothing at the end of the file.
    pub(super) fn line(&mut self, limit: u64) -> Result<Option<Vec<u8>>, CaptureError> {
        let mut line = Vec::new();
        let mut rest = self.reader.by_ref().take(limit);
        let read = rest.read_until(b'\n', &mut line).map_err(CaptureError::read)?;
        self.offset += read as u64;
        Ok((read > 0).then_some(line))
    }

    fn fill(&mut self, bytes: &mut [u8]) -> Result<usize, CaptureError> {
        let mut filled = 0;
        while filled < bytes.len() {
            match self.reader.read(&mut bytes[filled..]) {
                Ok(0) => break,
                Ok(read) => filled += read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(CaptureError::read(error)),
            }
        }
        self.offset += filled as u64;
        Ok(filled)
    }

    fn truncated(&self, packet: u64) -> CaptureError {
        CaptureError::Truncated {
            packet,
            offset: self.offset,
        }
    }
}

/// Which byte of a number comes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ByteOrder {
    Little,
    Big,
}

impl ByteOrder {
    /// The number at `at` of a header, which is as long as its layout says.
    pub(super) fn u16<const N: usize>(self, header: &[u8; N], at: usize) -> u16 {
        let bytes = [header[at], header[at + 1]];
        match self {
            ByteOrder::Little => u16::from_le_bytes(bytes),
            ByteOrder::Big => u16::from_be_bytes(bytes),
        }
    }

    /// The number at `at` of a header, which is as long as its layout says.
    pub(super) fn u32<const N: usize>(self, header: &[u8; N], at: usize) -> u32 {
        let bytes = [header[at], header[at + 1], header[at + 2], header[at + 3]];
        match self {
            ByteOrder::Little => u32::from_le_bytes(bytes),
            ByteOrder::Big => u32::from_be_bytes(bytes),
        }
    }

    /// A number of seconds, which may be negative.
    pub(super) fn i64(self, bytes: [u8; 8]) -> i64 {
        match self {
            ByteOrder::Little => i64::from_le_bytes(bytes),
            ByteOrder::Big => i64::from_be_bytes(bytes),
        }
    }
}
