//! Loads an image as Windows would, as far as its programs need that: sections and base relocations.
//!
//! Control Flow Guard stays as it is in the file: the pointer to the dispatch function leads to one in the image that only
//! jumps, which is where Windows has it lead to its own.

use bpf2sys_simulator::directories::base_relocations;
use bpf2sys_simulator::image::{Image, Section};

use super::Error;
use super::memory::{Access, Mapping};

/// Bytes of a program entry's fields that are read here (native module contract §1.1).
const ENTRY_SIZE: usize = 24;
const ENTRY_FUNCTION: usize = 32;
const ENTRY_NAME: usize = 56;
const ENTRY_HELPERS: usize = 80;
const ENTRY_HELPER_COUNT: usize = 88;
const HELPER_ENTRY_BYTES: u64 = 40;
const HELPER_ID: u64 = 24;

/// An image in memory.
pub struct Loaded {
    /// The image.
    pub memory: Mapping,
    /// Its programs.
    pub programs: Vec<LoadedProgram>,
}

impl Loaded {
    /// The program of this name.
    pub fn program(&self, name: &str) -> Result<&LoadedProgram, Error> {
        let named = self.programs.iter().find(|program| program.name == name);
        named.ok_or_else(|| format!("the image has no program {name}"))
    }
}

/// A program of it.
pub struct LoadedProgram {
    /// Name.
    pub name: String,
    /// Address.
    pub function: u64,
    /// Ids of its helpers, in the order of its table; 0 for holes.
    pub helpers: Vec<u32>,
}

/// Loads `file`.
pub fn load(file: &[u8]) -> Result<Loaded, Error> {
    let image = Image::parse(file).map_err(|e| e.to_string())?;
    let mut memory = Mapping::new(image.image_size as usize)?;
    let base = memory.address();
    let bytes = memory.bytes();
    for section in &image.sections {
        let raw = image.raw_data(section).ok_or("a section is cut")?;
        let raw = &raw[..raw.len().min(section.memory_size() as usize)];
        let start = section.rva.0 as usize;
        bytes[start..start + raw.len()].copy_from_slice(raw);
    }
    for relocation in base_relocations(&image).map_err(|e| e.detail)? {
        let at = relocation.rva.0 as usize;
        let value = long(bytes, at)?.wrapping_add(base).wrapping_sub(image.image_base);
        bytes[at..at + 8].copy_from_slice(&value.to_le_bytes());
    }
    let table = image.sections.iter().find(|s| s.name == b"programs");
    let table = table.ok_or("the image has no programs")?;
    let programs = programs(bytes, base, table)?;
    for section in &image.sections {
        let access = if section.has(Section::EXECUTE) {
            Access::Execute
        } else if section.has(Section::WRITE) {
            Access::Write
        } else {
            Access::Read
        };
        let start = section.rva.0 as usize;
        memory.protect(start..start + section.memory_size() as usize, access)?;
    }
    Ok(Loaded { memory, programs })
}

fn programs(bytes: &[u8], base: u64, table: &Section) -> Result<Vec<LoadedProgram>, Error> {
    let offset = |address: u64| address.wrapping_sub(base) as usize;
    let start = table.rva.0 as usize;
    let stride = long(bytes, start + ENTRY_SIZE)? as usize;
    let entries = (start..start + table.virtual_size as usize).step_by(stride.max(1));
    let program = |entry: usize| {
        let helpers = long(bytes, entry + ENTRY_HELPERS)?;
        let count = long(bytes, entry + ENTRY_HELPER_COUNT)? & 0xFFFF;
        let helpers: Result<Vec<u32>, Error> = (0..count)
            .map(|index| Ok(long(bytes, offset(helpers + index * HELPER_ENTRY_BYTES + HELPER_ID))? as u32))
            .collect();
        let name = bytes
            .get(offset(long(bytes, entry + ENTRY_NAME)?)..)
            .unwrap_or_default();
        let name = name.split(|&byte| byte == 0).next().unwrap_or_default();
        Ok(LoadedProgram {
            name: String::from_utf8_lossy(name).into_owned(),
            function: long(bytes, entry + ENTRY_FUNCTION)?,
            helpers: helpers?,
        })
    };
    entries.map(program).collect()
}

fn long(bytes: &[u8], at: usize) -> Result<u64, Error> {
    let field = bytes.get(at..).and_then(|rest| rest.first_chunk());
    Ok(u64::from_le_bytes(
        *field.ok_or("the image's tables lead outside of it")?,
    ))
}
