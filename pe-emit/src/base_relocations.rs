//! The base relocation table: which 8-byte fields hold virtual addresses, so that Windows can move the image.
//!
//! One block for each page that has such fields, pages ascending; a block is a header and a 16-bit entry for each field,
//! padded to 4 bytes (PE format, "The .reloc Section"). No empty block ends the table: its directory entry has its size,
//! and readers refuse a block of less than 8 bytes (native module contract §5.1).

use std::collections::{BTreeMap, BTreeSet};
use std::mem::size_of;

use object::endian::{LittleEndian, U16};
use object::pe::{IMAGE_REL_BASED_ABSOLUTE, IMAGE_REL_BASED_DIR64, ImageBaseRelocation};
use object::pod::bytes_of;

use crate::address::{Rva, SECTION_ALIGNMENT};
use crate::layout::Layout;
use crate::native_object::{RelocationKind, Section, SectionIndex};

/// Blocks are made of 32-bit words.
pub(crate) const ALIGN: u32 = 4;
const ENTRY: usize = size_of::<u16>();
const PAGE: u32 = SECTION_ALIGNMENT;
/// The type of an entry is in its upper 4 bits, the offset in the page below.
const TYPE_SHIFT: u16 = 12;

/// All fields to relocate. Sections start on pages, so the blocks are known before the addresses are.
#[derive(Default)]
pub(crate) struct BaseRelocations {
    /// For each page, as section and number of the page in it: the offsets of its fields in the page.
    pages: BTreeMap<(SectionIndex, u32), BTreeSet<u16>>,
}

impl BaseRelocations {
    /// Collects the fields of all sections.
    pub(crate) fn new(sections: &[Section]) -> Self {
        let mut table = Self::default();
        for (index, section) in sections.iter().enumerate() {
            for field in section
                .relocations
                .iter()
                .filter(|field| field.kind == RelocationKind::Absolute64)
            {
                table.add(SectionIndex(index as u32), field.offset);
            }
        }
        table
    }

    fn add(&mut self, section: SectionIndex, offset: u32) {
        self.pages
            .entry((section, offset / PAGE))
            .or_default()
            .insert((offset % PAGE) as u16);
    }

    /// Size of the table in bytes.
    pub(crate) fn size(&self) -> usize {
        self.pages.values().map(block_size).sum()
    }

    /// The bytes of the table.
    pub(crate) fn write(&self, layout: &Layout) -> Vec<u8> {
        self.blocks(|section| layout.section(section))
    }

    fn blocks(&self, section: impl Fn(SectionIndex) -> Rva) -> Vec<u8> {
        let mut out = Vec::with_capacity(self.size());
        for ((index, page), offsets) in &self.pages {
            let start = out.len();
            out.extend_from_slice(bytes_of(&ImageBaseRelocation {
                virtual_address: section(*index).plus(page * PAGE).0.into(),
                size_of_block: (block_size(offsets) as u32).into(),
            }));
            for offset in offsets {
                out.extend_from_slice(bytes_of(&entry(IMAGE_REL_BASED_DIR64.0, *offset)));
            }
            while out.len() - start < block_size(offsets) {
                out.extend_from_slice(bytes_of(&entry(IMAGE_REL_BASED_ABSOLUTE.0, 0)));
            }
        }
        out
    }
}

fn entry(kind: u16, offset: u16) -> U16<LittleEndian> {
    (kind << TYPE_SHIFT | offset).into()
}

fn block_size(offsets: &BTreeSet<u16>) -> usize {
    (size_of::<ImageBaseRelocation>() + offsets.len() * ENTRY).next_multiple_of(ALIGN as usize)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_are_sorted_padded_and_not_terminated() {
        let mut table = BaseRelocations::default();
        for (section, offset) in [(1, 0x1008), (0, 0x10), (1, 0xFF8), (0, 0x8), (0, 0x0)] {
            table.add(SectionIndex(section), offset);
        }
        let bytes = table.blocks(|section| Rva(0x1000 + section.0 * 0x4000));
        assert_eq!(bytes.len(), table.size());
        let words: Vec<u16> = bytes
            .as_chunks()
            .0
            .iter()
            .map(|word| u16::from_le_bytes(*word))
            .collect();
        #[rustfmt::skip]
        assert_eq!(
            words,
            [
                0x1000, 0, 16, 0, 0xA000, 0xA008, 0xA010, 0,
                0x5000, 0, 12, 0, 0xAFF8, 0,
                0x6000, 0, 12, 0, 0xA008, 0,
            ]
        );
    }
}
