//! Where every byte of an image goes.
//!
//! Given: the sections in order, each a list of parts that know their size and alignment.
//! Computed: the RVA and file range of every section and part, in one pass and in file order. Nothing is written here, and
//! the pass that writes changes nothing here: every part's bytes are made from final addresses.
//! A new table of the linker is one more [`Part`] in the list.

use object::pe::{IMAGE_SIZEOF_SECTION_HEADER, SectionFlags};

use crate::address::{FILE_ALIGNMENT, FileOffset, IMAGE_LIMIT, Rva, SECTION_ALIGNMENT, align_up};
use crate::error::LinkError;
use crate::headers;
use crate::native_object::SectionIndex;

/// A run of bytes that one piece of code writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    /// The data of one of the object's sections, always the first part of its section.
    Contents(SectionIndex),
    /// Import address table, lookup tables, descriptors and names.
    Imports,
    /// Export directory, its tables and names.
    Exports,
    /// The debug directory and its data.
    Debug,
    /// The unwind records that the function table points to: `.xdata` in other linkers.
    UnwindRecords,
    /// The function table of the exception directory.
    FunctionTable,
    /// The resources.
    Resources,
    /// The base relocation table.
    BaseRelocations,
}

/// What the layout knows of a part.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PartPlan {
    pub part: Part,
    /// A power of two up to [`SECTION_ALIGNMENT`].
    pub align: u32,
    pub size: usize,
}

/// A section to lay out. Has at least one part, and no part is empty.
#[derive(Clone, Debug)]
pub(crate) struct SectionPlan {
    pub name: [u8; 8],
    pub flags: SectionFlags,
    pub parts: Vec<PartPlan>,
}

/// A part with its place.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PlacedPart {
    pub part: Part,
    pub rva: Rva,
    pub file_offset: FileOffset,
    /// In bytes.
    pub size: u32,
}

/// A section with its place.
#[derive(Clone, Debug)]
pub(crate) struct PlacedSection {
    pub name: [u8; 8],
    pub flags: SectionFlags,
    pub rva: Rva,
    /// Exact size in memory, in bytes: up to the end of the last part.
    pub virtual_size: u32,
    pub file_offset: FileOffset,
    /// Size in the file: `virtual_size` rounded up to [`FILE_ALIGNMENT`].
    pub raw_size: u32,
    pub parts: Vec<PlacedPart>,
}

/// An image with every range reserved. Its first sections are the object's.
#[derive(Clone, Debug)]
pub(crate) struct Layout {
    /// Size of all headers in the file, a multiple of [`FILE_ALIGNMENT`].
    pub headers_size: u32,
    pub sections: Vec<PlacedSection>,
    /// Size in memory, a multiple of [`SECTION_ALIGNMENT`].
    pub image_size: u32,
    pub file_size: u32,
}

impl Layout {
    /// Reserves every range, in file order.
    pub(crate) fn new(plans: Vec<SectionPlan>) -> Result<Self, LinkError> {
        let headers = headers::FIXED_SIZE as u64 + (plans.len() * IMAGE_SIZEOF_SECTION_HEADER) as u64;
        let headers_size = align_up(headers, FILE_ALIGNMENT);
        let mut file_end = headers_size;
        let mut memory_end = align_up(headers_size, SECTION_ALIGNMENT);
        let mut sections = Vec::with_capacity(plans.len());
        for plan in plans {
            let (rva, file_offset) = (memory_end, file_end);
            let mut end = rva;
            let mut parts = Vec::with_capacity(plan.parts.len());
            for PartPlan { part, align, size } in plan.parts {
                let start = align_up(end, align);
                end = start + size as u64;
                parts.push(PlacedPart {
                    part,
                    rva: Rva(limited(start)?),
                    file_offset: FileOffset(limited(file_offset + (start - rva))?),
                    size: limited(size as u64)?,
                });
            }
            let virtual_size = end - rva;
            let raw_size = align_up(virtual_size, FILE_ALIGNMENT);
            memory_end = align_up(end, SECTION_ALIGNMENT);
            file_end = file_offset + raw_size;
            sections.push(PlacedSection {
                name: plan.name,
                flags: plan.flags,
                rva: Rva(limited(rva)?),
                virtual_size: limited(virtual_size)?,
                file_offset: FileOffset(limited(file_offset)?),
                raw_size: limited(raw_size)?,
                parts,
            });
        }
        Ok(Self {
            headers_size: limited(headers_size)?,
            sections,
            image_size: limited(memory_end)?,
            file_size: limited(file_end)?,
        })
    }

    /// Where one of the object's sections starts. The index is one of the object's.
    pub(crate) fn section(&self, index: SectionIndex) -> Rva {
        self.sections[index.0 as usize].rva
    }

    /// Where a part went; `None` if the image has no such part.
    pub(crate) fn find(&self, part: Part) -> Option<PlacedPart> {
        self.sections
            .iter()
            .flat_map(|section| &section.parts)
            .copied()
            .find(|placed| placed.part == part)
    }
}

fn limited(size: u64) -> Result<u32, LinkError> {
    u32::try_from(size)
        .ok()
        .filter(|size| *size <= IMAGE_LIMIT)
        .ok_or(LinkError::ImageTooLarge)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(sizes: &[(usize, u32)]) -> SectionPlan {
        let parts = sizes
            .iter()
            .map(|&(size, align)| PartPlan {
                part: Part::Imports,
                align,
                size,
            })
            .collect();
        SectionPlan {
            name: *b".test\0\0\0",
            flags: SectionFlags(0),
            parts,
        }
    }

    #[test]
    fn sections_follow_each_other_on_pages_and_in_the_file() {
        let layout = Layout::new(vec![plan(&[(0x1001, 1)]), plan(&[(1, 1)])]).unwrap();
        let places: Vec<_> = layout
            .sections
            .iter()
            .map(|s| (s.rva.0, s.virtual_size, s.file_offset.0, s.raw_size))
            .collect();
        assert_eq!(places, [(0x1000, 0x1001, 0x200, 0x1200), (0x3000, 1, 0x1400, 0x200)]);
        assert_eq!((layout.image_size, layout.file_size), (0x4000, 0x1600));
    }

    #[test]
    fn parts_are_aligned_and_the_last_one_ends_the_section() {
        let layout = Layout::new(vec![plan(&[(3, 1), (5, 8), (1, 4)])]).unwrap();
        let section = &layout.sections[0];
        let starts: Vec<_> = section.parts.iter().map(|part| part.rva.0).collect();
        assert_eq!(starts, [0x1000, 0x1008, 0x1010]);
        assert_eq!(section.virtual_size, 0x11);
    }

    #[test]
    fn the_first_section_starts_after_headers_of_more_than_a_page() {
        let layout = Layout::new(vec![plan(&[(1, 1)]); 96]).unwrap();
        assert!(layout.headers_size > 0x1000);
        assert_eq!(layout.sections[0].rva, Rva(0x2000));
        assert_eq!(layout.sections[0].file_offset.0, layout.headers_size);
    }

    #[test]
    fn rejects_an_image_of_more_than_2_gib() {
        let limit = IMAGE_LIMIT as usize - 0x1000;
        assert_eq!(Layout::new(vec![plan(&[(limit, 1)])]).unwrap().image_size, IMAGE_LIMIT);
        let too_large: [Vec<SectionPlan>; 4] = [
            vec![plan(&[(limit + 1, 1)])],
            vec![plan(&[(limit, 1)]), plan(&[(1, 1)])],
            vec![plan(&[(usize::MAX >> 8, 1)])],
            vec![plan(&[(limit, 1), (limit, 1), (limit, 1)])],
        ];
        for plans in too_large {
            assert_eq!(Layout::new(plans).unwrap_err(), LinkError::ImageTooLarge);
        }
    }
}
