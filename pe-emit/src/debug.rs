//! The debug directory: entries of two types, neither about debugging.
//!
//! ```text
//! directory   one structure for each entry                                     (data directory 6)
//! REPRO       4 bytes, the length of the hash; the hash
//! EX_DLLCHARACTERISTICS   4 bytes of flags, x86-64 only
//! ```
//! (PE format, "Debug Type".) REPRO says that the time stamps of the image are no times: they are the first bytes of the hash,
//! which is the SHA-256 of the file with zeros in place of hash, time stamps and checksum. The other entry says that the code
//! keeps to shadow stacks.

use std::mem::size_of;

use object::pe::{DebugType, IMAGE_DEBUG_TYPE_EX_DLLCHARACTERISTICS, IMAGE_DEBUG_TYPE_REPRO, ImageDebugDirectory};
use object::pod::bytes_of;

use crate::address::{FileOffset, Rva};

/// All of it is made of 32-bit words.
pub(crate) const ALIGN: u32 = 4;
/// `IMAGE_DLLCHARACTERISTICS_EX_CET_COMPAT`, the one flag that is set.
const CET_COMPAT: u32 = 1;
const ENTRY: usize = size_of::<ImageDebugDirectory>();

/// What stands for the contents of an image.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ContentHash(pub [u8; 32]);

impl ContentHash {
    /// What stands there while the hash is made.
    pub(crate) const NONE: Self = Self([0; 32]);

    /// The number that stands where a time would.
    pub(crate) fn time_date_stamp(self) -> u32 {
        let [a, b, c, d, ..] = self.0;
        u32::from_le_bytes([a, b, c, d])
    }
}

/// The directory of an image.
#[derive(Clone, Copy, Debug)]
pub(crate) struct DebugDirectory {
    /// Whether the code keeps to shadow stacks.
    pub shadow_stack: bool,
}

impl DebugDirectory {
    fn entries(self) -> usize {
        1 + usize::from(self.shadow_stack)
    }

    /// Size of the entries, in bytes.
    pub(crate) fn directory_size(self) -> u32 {
        (self.entries() * ENTRY) as u32
    }

    /// Size of everything in bytes.
    pub(crate) fn size(self) -> usize {
        self.write((Rva(0), FileOffset(0)), ContentHash::NONE).len()
    }

    /// The bytes of everything at a place of memory and file.
    pub(crate) fn write(self, (rva, file_offset): (Rva, FileOffset), hash: ContentHash) -> Vec<u8> {
        let length = hash.0.len() as u32;
        let mut data = vec![(IMAGE_DEBUG_TYPE_REPRO, [&length.to_le_bytes()[..], &hash.0].concat())];
        if self.shadow_stack {
            data.push((
                IMAGE_DEBUG_TYPE_EX_DLLCHARACTERISTICS,
                CET_COMPAT.to_le_bytes().to_vec(),
            ));
        }
        let mut at = self.directory_size();
        let mut out = Vec::new();
        for (typ, bytes) in &data {
            let size = bytes.len() as u32;
            out.extend_from_slice(bytes_of(&entry(*typ, size, rva.plus(at), file_offset.0 + at, hash)));
            at += size;
        }
        out.extend(data.into_iter().flat_map(|(_, bytes)| bytes));
        out
    }
}

fn entry(typ: DebugType, size: u32, rva: Rva, file_offset: u32, hash: ContentHash) -> ImageDebugDirectory {
    ImageDebugDirectory {
        characteristics: 0.into(),
        time_date_stamp: hash.time_date_stamp().into(),
        major_version: 0.into(),
        minor_version: 0.into(),
        typ: typ.into(),
        size_of_data: size.into(),
        address_of_raw_data: rva.0.into(),
        pointer_to_raw_data: file_offset.into(),
    }
}
