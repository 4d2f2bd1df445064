//! The attribute certificate table: `WIN_CERTIFICATE` entries at the end of the file.

use crate::file::{FileError, PeFile};

/// `WIN_CERT_REVISION_2_0`
const REVISION: u16 = 0x0200;
/// `WIN_CERT_TYPE_PKCS_SIGNED_DATA`
const PKCS_SIGNED_DATA: u16 = 2;

/// Most entries that are read. Signing tools make one, and put further signatures into it.
const MAX_ENTRIES: usize = 16;

/// Length, revision and type of an entry.
const HEADER: usize = 8;

/// The signatures in a file's table, as the DER of their `ContentInfo`. Each is with the zeros behind it that round its
/// entry up.
pub(crate) fn signatures<'a>(file: &PeFile<'a>) -> Result<Vec<&'a [u8]>, FileError> {
    let mut rest = &file.bytes[file.table.clone()];
    let mut found = Vec::new();
    while !rest.is_empty() {
        if found.len() == MAX_ENTRIES {
            return Err(FileError::Table("there are more than 16 entries"));
        }
        let Some((header, _)) = rest.split_at_checked(HEADER) else {
            return Err(FileError::Table("an entry is cut off"));
        };
        let length = u32::from_le_bytes([header[0], header[1], header[2], header[3]]) as usize;
        let revision = u16::from_le_bytes([header[4], header[5]]);
        let kind = u16::from_le_bytes([header[6], header[7]]);
        if length < HEADER {
            return Err(FileError::Table("an entry is smaller than its header"));
        }
        let Some(entry) = rest.get(HEADER..length) else {
            return Err(FileError::Table("an entry reaches behind the table"));
        };
        if (revision, kind) != (REVISION, PKCS_SIGNED_DATA) {
            return Err(FileError::Table("an entry is no signature of revision 2"));
        }
        let Some((padding, behind)) = rest[length..].split_at_checked(length.next_multiple_of(8) - length) else {
            return Err(FileError::Table("the last entry does not end at a multiple of 8"));
        };
        if padding.iter().any(|byte| *byte != 0) {
            return Err(FileError::Table("the padding behind an entry is not zero"));
        }
        found.push(entry);
        rest = behind;
    }
    Ok(found)
}

/// The file with this signature as the only one, or without any: table, directory entry and `CheckSum`.
pub(crate) fn with_signature(file: &PeFile<'_>, signature: Option<&[u8]>) -> Result<Vec<u8>, FileError> {
    let mut bytes = file.bytes[..file.table.start].to_vec();
    let mut entry = [0u8; 8];
    if let Some(signature) = signature {
        bytes.resize(bytes.len().next_multiple_of(8), 0);
        let offset = u32::try_from(bytes.len()).map_err(|_| FileError::TooLarge)?;
        let length = (HEADER + signature.len()).next_multiple_of(8);
        let size = u32::try_from(length).map_err(|_| FileError::TooLarge)?;
        if u64::from(offset) + u64::from(size) > u64::from(u32::MAX) {
            return Err(FileError::TooLarge);
        }
        bytes.extend(size.to_le_bytes());
        bytes.extend(REVISION.to_le_bytes());
        bytes.extend(PKCS_SIGNED_DATA.to_le_bytes());
        bytes.extend(signature);
        bytes.resize(offset as usize + length, 0);
        entry[..4].copy_from_slice(&offset.to_le_bytes());
        entry[4..].copy_from_slice(&size.to_le_bytes());
    }
    bytes[file.directory..file.directory + 8].copy_from_slice(&entry);
    let checksum = PeFile::read(&bytes)?.computed_checksum();
    bytes[file.checksum..file.checksum + 4].copy_from_slice(&checksum.to_le_bytes());
    Ok(bytes)
}
