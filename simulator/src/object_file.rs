//! What a COFF object file says about itself, for `inspect`.
//!
//! Given: the bytes of an object file. Computed: its machine, sections, and the names that it offers to and wants from others.

use goblin::pe::Coff;
use goblin::pe::symbol::IMAGE_SYM_CLASS_EXTERNAL;
use serde::Serialize;

use crate::image::{ImageError, is_object_file, machine_name};

/// A COFF object file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ObjectFileDescription {
    /// `x64`, `arm64`, or the machine number.
    pub machine: String,
    /// Bytes of the file.
    pub file_size: u64,
    /// Sections, in header order.
    pub sections: Vec<ObjectSection>,
    /// Names that others can refer to.
    pub defined: Vec<String>,
    /// Names that others must define.
    pub undefined: Vec<String>,
}

/// A section of an object file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ObjectSection {
    /// Name, at most eight bytes.
    pub name: String,
    /// Bytes.
    pub size: u32,
}

/// Describes the object file in `bytes`; `None` if it does not start as one.
pub fn describe(bytes: &[u8]) -> Option<Result<ObjectFileDescription, ImageError>> {
    is_object_file(bytes).then(|| read(bytes).map_err(|e| ImageError::NotObjectFile(e.to_string())))
}

fn read(bytes: &[u8]) -> Result<ObjectFileDescription, goblin::error::Error> {
    let coff = Coff::parse(bytes)?;
    let (mut defined, mut undefined) = (Vec::new(), Vec::new());
    if let (Some(symbols), Some(strings)) = (&coff.symbols, &coff.strings) {
        for (_, _, symbol) in symbols
            .iter()
            .filter(|(.., s)| s.storage_class == IMAGE_SYM_CLASS_EXTERNAL)
        {
            let list = if symbol.section_number == 0 {
                &mut undefined
            } else {
                &mut defined
            };
            list.push(symbol.name(strings)?.to_owned());
        }
    }
    let section = |section: &goblin::pe::section_table::SectionTable| {
        let length = section
            .name
            .iter()
            .position(|byte| *byte == 0)
            .unwrap_or(section.name.len());
        ObjectSection {
            name: String::from_utf8_lossy(&section.name[..length]).into_owned(),
            size: section.size_of_raw_data,
        }
    };
    Ok(ObjectFileDescription {
        machine: machine_name(coff.header.machine),
        file_size: bytes.len() as u64,
        sections: coff.sections.iter().map(section).collect(),
        defined,
        undefined,
    })
}
