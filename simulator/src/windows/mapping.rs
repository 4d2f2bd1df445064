//! Mapping an image as the kernel's loader does: away from its preferred base, relocated, imports bound, every section
//! with the protection of its flags and nothing else.

use std::collections::BTreeSet;

use super::host::Protection;
use super::memory::{Memory, OutOfMemory, PAGE, Region, Use};
use super::thunks::{Import, Target, Thunks};
use crate::directories::{base_relocations, imports};
use crate::error::SimulatorError;
use crate::image::{Image, Rva, Section, read_u64};
use crate::load_config::{LoadConfig, read_all};

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
    flags: u32,
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
    /// If it takes part in Control Flow Guard: the functions of it that may be called by their addresses.
    pub guarded: Option<BTreeSet<u64>>,
    /// Bytes of the headers, in whole pages.
    header_length: usize,
    /// What the loader puts there: relocated, with the imports bound.
    contents: Vec<u8>,
}

impl MappedImage {
    /// The section that holds `address`.
    pub fn section_at(&self, address: u64) -> Option<&MappedSection> {
        self.sections
            .iter()
            .find(|s| address >= s.start && address - s.start < s.length)
    }

    /// What the loader puts there.
    pub fn contents(&self) -> &[u8] {
        &self.contents
    }

    /// Whether `address` lies in code.
    pub fn is_code(&self, address: u64) -> bool {
        self.section_at(address).is_some_and(MappedSection::is_code)
    }
}

/// What every image finds as its security cookie.
const COOKIE: u64 = 0x0000_C00C_1E5E_ED01;

/// Largest image that is mapped. Native modules have kilobytes.
const MAX_IMAGE: usize = 256 << 20;

fn full(_: OutOfMemory) -> SimulatorError {
    SimulatorError::Process("no memory to map the image".into())
}

/// Finds a place for `image`, which has passed the loader's rules, and says what [`fill`] puts there.
pub fn place(image: &Image<'_>, memory: &mut Memory, thunks: &mut Thunks) -> Result<MappedImage, SimulatorError> {
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
    for (start, label) in [
        (reservation, "the guard page before the image"),
        (base + size as u64, "the guard page after the image"),
    ] {
        memory.add(Region {
            start,
            length: PAGE as u64,
            label: label.into(),
            allowed: Use::None,
        });
    }
    let sections = image.sections.iter().map(|section| MappedSection {
        name: section.display_name(),
        start: base + u64::from(section.rva.0),
        length: (section.memory_size() as usize).next_multiple_of(PAGE) as u64,
        flags: section.flags,
    });
    let config = read_all(image).map_err(|violation| SimulatorError::Loader(vec![violation]))?;
    let (config, functions) = config.unwrap_or_default();
    let functions = || functions.iter().map(|rva| base + u64::from(rva.0)).collect();
    Ok(MappedImage {
        guarded: config.is_instrumented().then(functions),
        machine: image.machine,
        base,
        size: size as u64,
        entry: base + u64::from(image.entry.0),
        sections: sections.collect(),
        header_length: (image.header_size as usize).next_multiple_of(PAGE),
        contents: contents(image, &config, base, size, memory, thunks)?,
    })
}

/// The bytes of an image at `base`.
fn contents(
    image: &Image<'_>,
    config: &LoadConfig,
    base: u64,
    size: usize,
    memory: &mut Memory,
    thunks: &mut Thunks,
) -> Result<Vec<u8>, SimulatorError> {
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
    for (pointer, target) in [
        (config.guard_check, Target::GuardCheck),
        (config.guard_dispatch, Target::GuardDispatch),
    ] {
        if let Some(at) = image.rva_of(pointer).filter(|_| config.is_instrumented()) {
            let address = thunks.add(memory, target).map_err(full)?;
            put(&mut copy, at, address);
        }
    }
    if let Some(at) = image.rva_of(config.security_cookie) {
        put(&mut copy, at, COOKIE);
    }
    Ok(copy)
}

fn put(contents: &mut [u8], at: Rva, value: u64) {
    let at = at.0 as usize;
    if let Some(field) = contents.get_mut(at..at + 8) {
        field.copy_from_slice(&value.to_le_bytes());
    }
}

/// Maps the image at its place, as if for the first time.
pub fn fill(image: &MappedImage, memory: &mut Memory) -> Result<(), SimulatorError> {
    let (base, size) = (image.base, image.size as usize);
    memory
        .protect(base, size, Protection::READ | Protection::WRITE)
        .map_err(full)?;
    // SAFETY: the `size` bytes at `base` were made writable above, and `contents` has exactly as many.
    unsafe { memory.write_while_mapping(base, &image.contents) };
    memory.protect(base, size, Protection::NONE).map_err(full)?;
    memory
        .protect(base, image.header_length, Protection::READ)
        .map_err(full)?;
    memory.add(Region {
        start: base,
        length: image.header_length as u64,
        label: "the image's headers".into(),
        allowed: Use::KernelRead,
    });
    for section in &image.sections {
        let has = |flag| section.flags & flag != 0;
        let mut protection = Protection::NONE;
        for (flag, bit) in [
            (Section::READ, Protection::READ),
            (Section::WRITE, Protection::WRITE),
            (Section::EXECUTE, Protection::EXECUTE),
        ] {
            if has(flag) {
                protection |= bit;
            }
        }
        memory
            .protect(section.start, section.length as usize, protection)
            .map_err(full)?;
        let allowed = match (has(Section::READ), has(Section::WRITE)) {
            (true, true) => Use::ReadWrite,
            (true, false) => Use::Read,
            _ => Use::None,
        };
        memory.add(Region {
            start: section.start,
            length: section.length,
            label: format!("section {}", section.name),
            allowed,
        });
    }
    Ok(())
}

/// Takes the image out of memory. Its place stays its own.
pub fn unload(image: &MappedImage, memory: &mut Memory) -> Result<(), SimulatorError> {
    memory
        .protect(image.base, image.size as usize, Protection::NONE)
        .map_err(full)?;
    memory.relabel(image.base, "the unloaded image's headers".into(), Use::None);
    for section in &image.sections {
        let label = format!("section {} of the unloaded image", section.name);
        memory.relabel(section.start, label, Use::None);
    }
    Ok(())
}

/// Unmaps what the kernel discards after `DriverEntry`.
pub fn discard(image: &MappedImage, memory: &mut Memory) -> Result<(), SimulatorError> {
    for section in image.sections.iter().filter(|s| s.flags & Section::DISCARDABLE != 0) {
        memory
            .protect(section.start, section.length as usize, Protection::NONE)
            .map_err(full)?;
        memory.relabel(
            section.start,
            format!("section {}, discarded after DriverEntry,", section.name),
            Use::None,
        );
    }
    Ok(())
}
