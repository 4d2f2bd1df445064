//! The two address spaces of an image, as types, and the arithmetic that is safe in them.

/// Sections start on pages: memory integrity protects whole pages.
pub(crate) const SECTION_ALIGNMENT: u32 = 0x1000;

/// Raw data of sections starts on these boundaries in the file.
pub(crate) const FILE_ALIGNMENT: u32 = 0x200;

/// The largest image that is written, in bytes, in memory and in the file. `S - P` of any two places then fits the
/// 32-bit fields of x86-64.
pub(crate) const IMAGE_LIMIT: u32 = 0x7FFF_F000;

/// An address relative to the start of the image in memory, in bytes. Below [`IMAGE_LIMIT`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Rva(pub u32);

impl Rva {
    /// The place `bytes` further on. Both are parts of one laid out image, so the sum is below [`IMAGE_LIMIT`].
    pub(crate) fn plus(self, bytes: u32) -> Self {
        Self(self.0.saturating_add(bytes))
    }
}

/// A position in the file, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct FileOffset(pub u32);

/// `value` rounded up to a power of two. In 64 bits, where sizes of parts cannot overflow.
pub(crate) fn align_up(value: u64, alignment: u32) -> u64 {
    let mask = u64::from(alignment) - 1;
    (value + mask) & !mask
}
