//! The few fields of a PE file that a signature is about, read defensively (PE format, "Optional Header", "The Attribute
//! Certificate Table").

use std::cell::OnceCell;
use std::ops::Range;

use crate::digest::DigestAlgorithm;

/// Why a file can't be signed or verified.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FileError {
    /// It does not begin as a PE image does.
    #[error("it is no PE image")]
    NotPe,
    /// It ends inside of its headers, or of a section.
    #[error("the image is cut off")]
    Truncated,
    /// It has too few data directories for a certificate table.
    #[error("the image has no directory entry for a certificate table")]
    NoDirectory,
    /// A field of the headers is impossible.
    #[error("the headers are impossible: {0}")]
    Headers(&'static str),
    /// The certificate table is not the last thing in the file, is misaligned, or overlaps the headers.
    #[error(
        "the certificate table ({size} bytes at {offset:#x}) is not at the end of the file, at a multiple of 8, behind the headers"
    )]
    TablePlace {
        /// Where it begins, as the directory entry says.
        offset: u32,
        /// Its size in bytes, as the directory entry says.
        size: u32,
    },
    /// The certificate table is larger than any needs to be.
    #[error("the certificate table has {0} bytes, more than the 16 MiB that are read")]
    TableTooLarge(u32),
    /// An entry of the certificate table is malformed.
    #[error("the certificate table is malformed: {0}")]
    Table(&'static str),
    /// The signed file would be larger than the format can express.
    #[error("the image is too large")]
    TooLarge,
}

/// Largest certificate table that is read, in bytes.
const MAX_TABLE: u32 = 16 << 20;

/// Data directory of the certificate table.
const CERTIFICATE_TABLE: usize = 4;

/// Raw data of a section in the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RawData {
    pub offset: u32,
    pub size: u32,
}

/// A PE file, PE32 or PE32+.
#[derive(Clone, Debug)]
pub(crate) struct PeFile<'a> {
    pub bytes: &'a [u8],
    /// Offset of the `CheckSum` field, 4 bytes.
    pub checksum: usize,
    /// Offset of the directory entry of the certificate table, 8 bytes.
    pub directory: usize,
    pub size_of_headers: u32,
    pub section_alignment: u32,
    /// Raw data of all sections that have some, in the order of the section headers.
    pub sections: Vec<RawData>,
    /// Where the certificate table is; at the end of the file, if there is none.
    pub table: Range<usize>,
    /// Digests by algorithm, as far as they were asked for: each of many signatures states one.
    digests: [OnceCell<Vec<u8>>; 4],
    /// Tables of page hashes, likewise.
    pub page_tables: [OnceCell<Result<Vec<u8>, FileError>>; 4],
}

impl<'a> PeFile<'a> {
    pub(crate) fn read(bytes: &'a [u8]) -> Result<PeFile<'a>, FileError> {
        if bytes.get(..2) != Some(b"MZ") {
            return Err(FileError::NotPe);
        }
        let header = word32(bytes, 0x3C)? as usize;
        if at(bytes, header, 4)? != b"PE\0\0" {
            return Err(FileError::NotPe);
        }
        if !header.is_multiple_of(4) {
            return Err(FileError::Headers("e_lfanew"));
        }
        let section_count = usize::from(word16(bytes, header + 6)?);
        let optional_size = usize::from(word16(bytes, header + 20)?);
        let optional = header + 24;
        let directories = match word16(bytes, optional)? {
            0x10B => 96,
            0x20B => 112,
            _ => return Err(FileError::Headers("the magic number of the optional header")),
        };
        let count = word32(bytes, optional + directories - 4)? as usize;
        let directory = optional + directories + CERTIFICATE_TABLE * 8;
        if count <= CERTIFICATE_TABLE || directories + (CERTIFICATE_TABLE + 1) * 8 > optional_size {
            return Err(FileError::NoDirectory);
        }
        let size_of_headers = word32(bytes, optional + 60)?;
        let section_headers = optional + optional_size;
        let headers_end = section_headers + 40 * section_count;
        at(bytes, 0, size_of_headers as usize)?;
        if headers_end > size_of_headers as usize {
            return Err(FileError::Headers("SizeOfHeaders"));
        }
        let mut sections = Vec::with_capacity(section_count);
        for index in 0..section_count {
            let section = section_headers + 40 * index;
            let (size, offset) = (word32(bytes, section + 16)?, word32(bytes, section + 20)?);
            if size > 0 {
                at(bytes, offset as usize, size as usize)?;
                sections.push(RawData { offset, size });
            }
        }
        let table = table(bytes, directory, size_of_headers)?;
        if sections
            .iter()
            .any(|s| s.offset as usize + s.size as usize > table.start)
        {
            return Err(FileError::Headers("a section reaches into the certificate table"));
        }
        Ok(PeFile {
            bytes,
            checksum: optional + 64,
            directory,
            size_of_headers,
            section_alignment: word32(bytes, optional + 32)?,
            sections,
            table,
            digests: Default::default(),
            page_tables: Default::default(),
        })
    }

    /// The pieces of the file that a signature covers: all but the `CheckSum` field, the directory entry of the
    /// certificate table, and the table itself; padded with zeros to a multiple of 8 bytes, as it is before a table is
    /// added.
    pub(crate) fn covered(&self) -> [&'a [u8]; 4] {
        let padding = self.table.start.next_multiple_of(8) - self.table.start;
        [
            &self.bytes[..self.checksum],
            &self.bytes[self.checksum + 4..self.directory],
            &self.bytes[self.directory + 8..self.table.start],
            &[0; 8][..padding],
        ]
    }

    /// The Authenticode digest of the image.
    pub(crate) fn digest(&self, algorithm: DigestAlgorithm) -> Vec<u8> {
        let known = &self.digests[algorithm as usize];
        known.get_or_init(|| algorithm.digest(&self.covered())).clone()
    }

    /// What the `CheckSum` field holds.
    pub(crate) fn stated_checksum(&self) -> u32 {
        word32(self.bytes, self.checksum).unwrap_or_default()
    }

    /// What the `CheckSum` field should hold: the sum of all 16-bit words but its own with end-around carry, plus the
    /// length of the file (PE format, `CheckSum`).
    pub(crate) fn computed_checksum(&self) -> u32 {
        let sum = |bytes: &[u8]| -> u64 {
            let (words, last) = bytes.as_chunks::<2>();
            let words: u64 = words.iter().map(|word| u64::from(u16::from_le_bytes(*word))).sum();
            words + last.iter().map(|byte| u64::from(*byte)).sum::<u64>()
        };
        let mut total = sum(&self.bytes[..self.checksum]) + sum(&self.bytes[self.checksum + 4..]);
        while total > 0xFFFF {
            total = (total & 0xFFFF) + (total >> 16);
        }
        (total + self.bytes.len() as u64) as u32
    }
}

/// Where the certificate table is.
fn table(bytes: &[u8], directory: usize, size_of_headers: u32) -> Result<Range<usize>, FileError> {
    let (offset, size) = (word32(bytes, directory)?, word32(bytes, directory + 4)?);
    if (offset, size) == (0, 0) {
        return Ok(bytes.len()..bytes.len());
    }
    let end = u64::from(offset) + u64::from(size);
    if size == 0 || offset % 8 != 0 || offset < size_of_headers || end != bytes.len() as u64 {
        return Err(FileError::TablePlace { offset, size });
    }
    if size > MAX_TABLE {
        return Err(FileError::TableTooLarge(size));
    }
    Ok(offset as usize..bytes.len())
}

fn at(bytes: &[u8], offset: usize, length: usize) -> Result<&[u8], FileError> {
    let end = offset.checked_add(length).ok_or(FileError::Truncated)?;
    bytes.get(offset..end).ok_or(FileError::Truncated)
}

fn word16(bytes: &[u8], offset: usize) -> Result<u16, FileError> {
    let field = at(bytes, offset, 2)?;
    Ok(u16::from_le_bytes([field[0], field[1]]))
}

fn word32(bytes: &[u8], offset: usize) -> Result<u32, FileError> {
    let field = at(bytes, offset, 4)?;
    Ok(u32::from_le_bytes([field[0], field[1], field[2], field[3]]))
}
