//! What the functions of a metadata table return, found in the file alone, for either machine.
//!
//! Given: an image. Computed: where its metadata table is, and what each function of it stores through its arguments.
//! Such a function stores a few constants and addresses, so following its instructions at the preferred base tells what they
//! are, on any host and without running anything. Only straight code is followed; a function that branches on
//! a value, calls another, or uses an instruction that these functions have no need for is reported as not followed.
//!
//! Safe on any file: nothing is executed, at most `MAX_INSTRUCTIONS` are looked at, and each touches at most 16 bytes.

mod arm64;
mod x64;

use std::collections::BTreeMap;

use crate::address_space::{AddressSpace, FileSpace};
use crate::directories::{BaseRelocation, base_relocations, exports};
use crate::image::{Image, Rva, Section};
use crate::kernel_tables::Array;
use crate::tables::{MetadataTable, Version};

/// Most instructions of one function.
const MAX_INSTRUCTIONS: usize = 256;
/// Where the function's arguments point, and its stack. No image has these addresses.
const ARGUMENTS: [u64; 2] = [0xFFFF_A100_0000_0000, 0xFFFF_A200_0000_0000];
const STACK: u64 = 0xFFFF_A300_0000_0000;
/// Where it returns to.
const RETURN: u64 = 0xFFFF_A400_0000_0000;

/// Why it is not known what a function returns.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum GetterError {
    /// The image has no metadata table, or more than one.
    #[error("{0} metadata tables are found in the image, not one")]
    Tables(usize),
    /// There are no instructions for it.
    #[error("`{getter}` runs into {rva}, where no code is")]
    NoCode {
        /// The function.
        getter: &'static str,
        /// Where.
        rva: Rva,
    },
    /// An instruction that is not followed.
    #[error("`{getter}` has an instruction at {rva} that says nothing without being run")]
    NotFollowed {
        /// The function.
        getter: &'static str,
        /// Where.
        rva: Rva,
    },
    /// It does not end.
    #[error("`{0}` does not return within {MAX_INSTRUCTIONS} instructions")]
    TooLong(&'static str),
    /// It returns without a value for one of its results.
    #[error("`{0}` does not store all of its results")]
    NotStored(&'static str),
}

/// What a module's functions return.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Returned {
    /// The metadata table.
    pub table: MetadataTable,
    /// Programs.
    pub programs: Array,
    /// Maps.
    pub maps: Array,
    /// Digest of the ELF file.
    pub hash: Array,
    /// Version.
    pub version: Version,
    /// Initial values of maps.
    pub initial_values: Array,
    /// Global variable sections.
    pub global_sections: Array,
}

/// Finds the metadata table of an image and follows its functions.
pub fn follow(image: &Image<'_>) -> Result<Returned, GetterError> {
    follow_functions(image, metadata_table(image)?)
}

/// Follows the functions of a metadata table.
pub fn follow_functions(image: &Image<'_>, table: MetadataTable) -> Result<Returned, GetterError> {
    let array = |getter, function: zerocopy::little_endian::U64| -> Result<Array, GetterError> {
        let memory = Machine::run(image, getter, function.get())?;
        let word = |at| memory.stored(at, 8).ok_or(GetterError::NotStored(getter));
        Ok(Array {
            pointer: word(ARGUMENTS[0])?,
            count: word(ARGUMENTS[1])?,
        })
    };
    let version = {
        let memory = Machine::run(image, "version", table.version.get())?;
        let word = |at| {
            let value = memory.stored(ARGUMENTS[0] + at, 4);
            value
                .map(|v| (v as u32).into())
                .ok_or(GetterError::NotStored("version"))
        };
        Version {
            major: word(0)?,
            minor: word(4)?,
            revision: word(8)?,
        }
    };
    Ok(Returned {
        table,
        programs: array("programs", table.programs)?,
        maps: array("maps", table.maps)?,
        hash: array("hash", table.hash)?,
        version,
        initial_values: array("map_initial_values", table.initial_values)?,
        global_sections: array("global_variable_sections", table.global_sections)?,
    })
}

/// The metadata table: what a DLL's export returns; in a driver, the one place with the size of such a table before six
/// relocated pointers to code.
pub fn metadata_table(image: &Image<'_>) -> Result<MetadataTable, GetterError> {
    metadata_table_of_size(image, |size| size == size_of::<MetadataTable>() as u64)
}

/// The same with a size that the runtime may not take: the one place where a number of this kind is before six relocated
/// pointers to code.
pub fn metadata_table_of_size(
    image: &Image<'_>,
    size_fits: impl Fn(u64) -> bool,
) -> Result<MetadataTable, GetterError> {
    const GETTER: &str = "get_metadata_table";
    let space = FileSpace(image);
    let read = |address: u64| space.read_as::<MetadataTable>(address, "the metadata table").ok();
    let exported = exports(image)
        .unwrap_or_default()
        .into_iter()
        .find(|e| e.name == GETTER);
    if let Some(export) = exported {
        let memory = Machine::run(image, GETTER, image.image_base.wrapping_add(export.rva.0.into()))?;
        let result = memory.register(0).map_err(|Unknown| GetterError::NotStored(GETTER))?; // rax, x0
        return read(result).ok_or(GetterError::Tables(0));
    }
    let mut pointers: Vec<u32> = base_relocations(image)
        .unwrap_or_default()
        .into_iter()
        .filter(|r| r.kind == BaseRelocation::DIR64)
        .map(|r| r.rva.0)
        .collect();
    pointers.sort_unstable();
    pointers.dedup();
    let is_code = |address: u64| {
        let section = image.rva_of(address).and_then(|rva| image.section_at(rva));
        section.is_some_and(|s| s.has(Section::EXECUTE))
    };
    let found: Vec<MetadataTable> = pointers
        .windows(6)
        .filter(|six| six.iter().zip(0..).all(|(at, i)| *at == six[0].wrapping_add(8 * i)))
        .filter_map(|six| read(image.image_base.wrapping_add(six[0].checked_sub(8)?.into())))
        .filter(|t| size_fits(t.size.get()))
        .filter(|t| {
            let functions = [
                t.programs,
                t.maps,
                t.hash,
                t.version,
                t.initial_values,
                t.global_sections,
            ];
            functions.iter().all(|f| is_code(f.get()))
        })
        .collect();
    match found[..] {
        [table] => Ok(table),
        _ => Err(GetterError::Tables(found.len())),
    }
}

/// A processor that knows every value it computes with.
struct Machine<'i, 'a> {
    image: &'i Image<'a>,
    /// General registers; `None` until something is put there. On ARM64, number 31 is the stack pointer.
    registers: [Option<u64>; 32],
    /// Bytes that the function has written, its stack included.
    written: BTreeMap<u64, u8>,
    /// Address of the instruction.
    pc: u64,
}

/// An instruction that is not followed.
struct Unknown;

impl<'i, 'a> Machine<'i, 'a> {
    /// Follows the function at `address` to its end.
    fn run(image: &'i Image<'a>, getter: &'static str, address: u64) -> Result<Self, GetterError> {
        let mut machine = Machine {
            image,
            registers: [None; 32],
            written: BTreeMap::new(),
            pc: address,
        };
        let arm64 = image.machine == Image::ARM64;
        if arm64 {
            arm64::enter(&mut machine);
        } else {
            x64::enter(&mut machine);
        }
        for _ in 0..MAX_INSTRUCTIONS {
            if machine.pc == RETURN {
                return Ok(machine);
            }
            let rva = image.rva_of(machine.pc).unwrap_or(Rva(u32::MAX));
            let code = machine.code().ok_or(GetterError::NoCode { getter, rva })?;
            let step = if arm64 { arm64::step } else { x64::step };
            step(&mut machine, code).map_err(|Unknown| GetterError::NotFollowed { getter, rva })?;
        }
        Err(GetterError::TooLong(getter))
    }

    /// The bytes of the instruction, and up to 14 more.
    fn code(&self) -> Option<&'a [u8]> {
        let rva = self.image.rva_of(self.pc)?;
        let section = self.image.section_at(rva).filter(|s| s.has(Section::EXECUTE))?;
        let rest = self.image.raw_data(section)?.get((rva.0 - section.rva.0) as usize..)?;
        Some(&rest[..rest.len().min(15)])
            .filter(|code| code.len() >= if self.image.machine == Image::ARM64 { 4 } else { 1 })
    }

    /// The little-endian number in `size` bytes of memory.
    fn load(&self, address: u64, size: u64) -> Result<u64, Unknown> {
        let mut value = 0;
        for i in (0..size).rev() {
            let at = address.wrapping_add(i);
            let byte = match self.written.get(&at) {
                Some(byte) => *byte,
                None => *FileSpace(self.image)
                    .read(at, 1)
                    .ok_or(Unknown)?
                    .first()
                    .ok_or(Unknown)?,
            };
            value = value << 8 | u64::from(byte);
        }
        Ok(value)
    }

    fn store(&mut self, address: u64, size: u64, value: u64) {
        for (i, byte) in (0..size).zip(value.to_le_bytes()) {
            self.written.insert(address.wrapping_add(i), byte);
        }
    }

    /// The number in `size` bytes, if the function wrote all of them.
    fn stored(&self, address: u64, size: u64) -> Option<u64> {
        let mut bytes = (0..size).rev().map(|i| self.written.get(&(address + i)));
        bytes.try_fold(0, |value, byte| Some(value << 8 | u64::from(*byte?)))
    }

    fn register(&self, number: usize) -> Result<u64, Unknown> {
        self.registers.get(number).copied().flatten().ok_or(Unknown)
    }

    fn set_register(&mut self, number: usize, value: u64) -> Result<(), Unknown> {
        *self.registers.get_mut(number).ok_or(Unknown)? = Some(value);
        Ok(())
    }
}
