//! Mapping an image as the kernel's loader does: away from its preferred base, relocated, imports bound, every section
//! with the protection of its flags and nothing else.

use super::memory::{Memory, OutOfMemory, PAGE, Region, Use};
use super::thunks::{Import, Target, Thunks};
use crate::directories::{base_relocations, imports};
use crate::error::SimulatorError;
use crate::image::{Image, Section, read_u64};

/// A section in memory.
#[derive(Clone, Debug)]
pub struct MappedSection {
    /// Name.
    pub name: String,
    /// First byte.
    pub start: u64,
    /// Bytes.
    pub length: u64,
    /// `IMAGE_SCN_*` flags.
    pub flags: u32,
}

impl MappedSection {
    /// Whether code runs in it.
    pub fn is_code(&self) -> bool {
        self.flags & Section::EXECUTE != 0
    }
}

/// An image in memory.
#[derive(Clone, Debug)]
pub struct MappedImage {
    /// Its machine, `IMAGE_FILE_MACHINE_*`.
    pub machine: u16,
    /// Where it starts.
    pub base: u64,
    /// Bytes.
    pub size: u64,
    /// Entry point.
    pub entry: u64,
    /// Sections in header order.
    pub sections: Vec<MappedSection>,
}

impl MappedImage {
    /// The section that holds `address`.
    pub fn section_at(&self, address: u64) -> Option<&MappedSection> {
        self.sections
            .iter()
            .find(|s| address >= s.start && address - s.start < s.length)
    }

    /// Whether `address` lies in code.
    pub fn is_code(&self, address: u64) -> bool {
        self.section_at(address).is_some_and(MappedSection::is_code)
    }
}

/// Largest image that is mapped. Native modules have kilobytes.
const MAX_IMAGE: usize = 256 << 20;

fn full(_: OutOfMemory) -> SimulatorError {
    SimulatorError::Process("no memory to map the image".into())
}

/// Maps `image`, which has passed the loader's rules.
pub fn map(image: &Image<'_>, memory: &mut Memory, thunks: &mut Thunks) -> Result<MappedImage, SimulatorError> {
    let size = (image.image_size as usize).next_multiple_of(PAGE);
    if size > MAX_IMAGE {
        return Err(SimulatorError::NotSimulated(format!(
            "an image of {size:#x} bytes in memory"
        )));
    }
    let mut reservation = memory.map_pages(size + 2 * PAGE).map_err(full)?;
    if reservation + PAGE as u64 == image.image_base {
        // The one place that would hide missing relocations.
        reservation = memory.map_pages(size + 2 * PAGE).map_err(full)?;
    }
    let base = reservation + PAGE as u64;
    memory
        .protect(base, size, libc::PROT_READ | libc::PROT_WRITE)
        .map_err(full)?;

    let mut copy = vec![0u8; size];
    let mut place = |at: u32, bytes: &[u8]| {
        if let Some(target) = copy.get_mut(at as usize..at as usize + bytes.len()) {
            target.copy_from_slice(bytes);
        }
    };
    place(0, image.bytes.get(..image.header_size as usize).unwrap_or_default());
    for section in &image.sections {
        let raw = image.raw_data(section).unwrap_or_default();
        // Raw data past the virtual size, up to the end of its last page, is mapped too.
        let room = (section.memory_size() as usize).next_multiple_of(PAGE).min(raw.len());
        place(section.rva.0, &raw[..room]);
    }
    let loader = |violation| SimulatorError::Loader(vec![violation]);
    let delta = base.wrapping_sub(image.image_base);
    for relocation in base_relocations(image).map_err(loader)? {
        let at = relocation.rva.0 as usize;
        if let Some(value) = read_u64(&copy, at) {
            copy[at..at + 8].copy_from_slice(&value.wrapping_add(delta).to_le_bytes());
        }
    }
    for import in imports(image).map_err(loader)? {
        let target = Import::named(&import.function)
            .ok_or_else(|| SimulatorError::NotSimulated(format!("import {}!{}", import.module, import.function)))?;
        let address = thunks.add(memory, Target::Import(target)).map_err(full)?;
        let at = import.slot.0 as usize;
        if let Some(slot) = copy.get_mut(at..at + 8) {
            slot.copy_from_slice(&address.to_le_bytes());
        }
    }
    // SAFETY: the `size` bytes at `base` were made writable above, and `copy` has exactly as many.
    unsafe { memory.write_while_mapping(base, &copy) };

    memory.protect(base, size, libc::PROT_NONE).map_err(full)?;
    let header_pages = (image.header_size as usize).next_multiple_of(PAGE);
    memory.protect(base, header_pages, libc::PROT_READ).map_err(full)?;
    let region = |start, length, label: String, allowed| Region {
        start,
        length,
        label,
        allowed,
    };
    memory.add(region(
        reservation,
        PAGE as u64,
        "the guard page before the image".into(),
        Use::None,
    ));
    memory.add(region(
        base,
        header_pages as u64,
        "the image's headers".into(),
        Use::KernelRead,
    ));
    memory.add(region(
        base + size as u64,
        PAGE as u64,
        "the guard page after the image".into(),
        Use::None,
    ));
    let mut sections = Vec::new();
    for section in &image.sections {
        let start = base + u64::from(section.rva.0);
        let length = (section.memory_size() as usize).next_multiple_of(PAGE);
        let mut protection = 0;
        for (flag, bit) in [
            (Section::READ, libc::PROT_READ),
            (Section::WRITE, libc::PROT_WRITE),
            (Section::EXECUTE, libc::PROT_EXEC),
        ] {
            if section.has(flag) {
                protection |= bit;
            }
        }
        memory.protect(start, length, protection).map_err(full)?;
        let allowed = match (section.has(Section::READ), section.has(Section::WRITE)) {
            (true, true) => Use::ReadWrite,
            (true, false) => Use::Read,
            _ => Use::None,
        };
        let name = section.display_name();
        memory.add(region(start, length as u64, format!("section {name}"), allowed));
        sections.push(MappedSection {
            name,
            start,
            length: length as u64,
            flags: section.flags,
        });
    }
    Ok(MappedImage {
        machine: image.machine,
        base,
        size: size as u64,
        entry: base + u64::from(image.entry.0),
        sections,
    })
}

/// Unmaps what the kernel discards after `DriverEntry`.
pub fn discard(image: &MappedImage, memory: &mut Memory) -> Result<(), SimulatorError> {
    for section in image.sections.iter().filter(|s| s.flags & Section::DISCARDABLE != 0) {
        memory
            .protect(section.start, section.length as usize, libc::PROT_NONE)
            .map_err(full)?;
        memory.relabel(
            section.start,
            format!("section {}, discarded after DriverEntry,", section.name),
            Use::None,
        );
    }
    Ok(())
}
