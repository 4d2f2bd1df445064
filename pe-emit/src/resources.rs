//! The resource section, which holds one resource: the version information.
//!
//! ```text
//! directory of types       VERSION
//! directory of names       1
//! directory of languages   US English
//! data entry, data
//! ```
//! (PE format, "The .rsrc Section".)

use std::mem::size_of;

use object::LittleEndian as LE;
use object::endian::{U16, U32};
use object::pe::{
    IMAGE_RESOURCE_DATA_IS_DIRECTORY, ImageResourceDataEntry, ImageResourceDirectory, ImageResourceDirectoryEntry,
    RT_VERSION,
};
use object::pod::bytes_of;

use crate::address::Rva;
use crate::version_info::LANGUAGE;

/// Data of resources is made of 32-bit words.
pub(crate) const ALIGN: u32 = 4;

/// Size of a directory with one entry.
const DIRECTORY: usize = size_of::<ImageResourceDirectory>() + size_of::<ImageResourceDirectoryEntry>();
const DATA: usize = 3 * DIRECTORY + size_of::<ImageResourceDataEntry>();

/// The name, a number, that Windows looks for.
const VERSION_NAME: u32 = 1;

/// The resources of an image.
pub(crate) struct Resources {
    version: Vec<u8>,
}

impl Resources {
    /// With this version information; none if that is empty.
    pub(crate) fn new(version: Vec<u8>) -> Self {
        Self { version }
    }

    /// Size of everything in bytes.
    pub(crate) fn size(&self) -> usize {
        if self.version.is_empty() {
            0
        } else {
            DATA + self.version.len()
        }
    }

    /// The bytes of everything at `start`.
    pub(crate) fn write(&self, start: Rva) -> Vec<u8> {
        let mut out = Vec::with_capacity(self.size());
        let levels = [u32::from(RT_VERSION), VERSION_NAME, u32::from(LANGUAGE)];
        for (level, id) in levels.into_iter().enumerate() {
            let next = ((level + 1) * DIRECTORY) as u32;
            let is_last = level + 1 == levels.len();
            out.extend_from_slice(bytes_of(&directory()));
            out.extend_from_slice(bytes_of(&ImageResourceDirectoryEntry {
                name_or_id: U32::<LE>::from(id),
                offset_to_data_or_directory: if is_last {
                    next.into()
                } else {
                    (next | IMAGE_RESOURCE_DATA_IS_DIRECTORY).into()
                },
            }));
        }
        out.extend_from_slice(bytes_of(&ImageResourceDataEntry {
            offset_to_data: start.plus(DATA as u32).0.into(),
            size: (self.version.len() as u32).into(),
            code_page: 0.into(),
            reserved: 0.into(),
        }));
        out.extend_from_slice(&self.version);
        out
    }
}

fn directory() -> ImageResourceDirectory {
    ImageResourceDirectory {
        characteristics: 0.into(),
        time_date_stamp: 0.into(),
        major_version: 0.into(),
        minor_version: 0.into(),
        number_of_named_entries: U16::from(0),
        number_of_id_entries: 1.into(),
    }
}
