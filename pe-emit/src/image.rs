//! The output of the linker.

use crate::native_object::FunctionRange;

/// A PE image, complete: its checksum is that of its bytes.
#[derive(Clone, PartialEq, Eq)]
pub struct Image {
    bytes: Vec<u8>,
    /// RVA of each section of the object.
    sections: Vec<u32>,
}

impl Image {
    pub(crate) fn new(bytes: Vec<u8>, sections: Vec<u32>) -> Self {
        Self { bytes, sections }
    }

    /// RVA of a function of the object; `None` if the range is not one of it.
    pub fn rva(&self, function: &FunctionRange) -> Option<u32> {
        self.sections
            .get(function.section.0 as usize)?
            .checked_add(function.offset)
    }

    /// The file's contents.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The file's contents, given away.
    pub fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }
}

impl std::fmt::Debug for Image {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Image({} bytes)", self.bytes.len())
    }
}
