//! From object to COFF object file, for another linker.
//!
//! The file has the object's sections with their names and exact contents, `.xdata` and `.pdata` with the unwind data, and
//! the symbols. Every address is left to the linker as a relocation; nothing else of a machine, a time or a place is in the
//! file, and the same object gives the same bytes. No section is a COMDAT, so linkers keep all of them whole, and what a
//! linker puts beside a section of the same name comes before or behind it, never inside.

mod fields;
mod symbol_table;

use object::pe::{
    FileFlags, IMAGE_FILE_MACHINE_AMD64, IMAGE_FILE_MACHINE_ARM64, IMAGE_SCN_CNT_CODE, IMAGE_SCN_CNT_INITIALIZED_DATA,
    IMAGE_SCN_LNK_NRELOC_OVFL, IMAGE_SCN_MEM_EXECUTE, IMAGE_SCN_MEM_READ, IMAGE_SCN_MEM_WRITE, SectionFlags,
};
use object::write::coff::{FileHeader, Name, Relocation, SectionHeader, Writer};

use crate::address::IMAGE_LIMIT;
use crate::error::{LinkError, RelocationProblem};
use crate::functions::{self, FunctionTable};
use crate::imports::ImportTables;
use crate::native_object::{Machine, NativeObject, SectionKind};
use crate::sections::{FUNCTION_TABLE, header_name};
use crate::symbols;
use crate::{relocate, sections};
use symbol_table::SymbolTable;

/// Section numbers above have special meanings (PE format, "Section Number Values").
const SECTIONS_MAX: usize = 0xFEFF;

/// Where unwind records are in an object file.
const UNWIND_RECORDS: &str = ".xdata";

/// The most relocations that a section header counts; with more, the first relocation has the count.
const RELOCATIONS_MAX: usize = 0xFFFF;

/// A section as it stands in the file.
struct Section {
    name: [u8; 8],
    flags: SectionFlags,
    data: Vec<u8>,
    relocations: Vec<Relocation>,
}

/// Writes an object file for another linker.
///
/// What the [`Purpose`](crate::Purpose) exports and its entry point are external symbols, every other symbol is static.
/// Slots of imports become undefined symbols `__imp_…`, which import libraries define.
///
/// # Errors
///
/// Every inconsistency of the object is an error that names its place; see [`LinkError`]. No object makes this panic.
pub fn coff(object: &NativeObject) -> Result<Vec<u8>, LinkError> {
    sections::check(&object.sections)?;
    symbols::check(object)?;
    ImportTables::new(&object.imports)?;
    let functions = FunctionTable::new(object)?;
    let generated: &[&str] = match functions.size() {
        0 => &[],
        _ => &[UNWIND_RECORDS, FUNCTION_TABLE],
    };
    let count = object.sections.len() + generated.len();
    if count > SECTIONS_MAX {
        return Err(LinkError::TooManySections {
            count,
            generated: generated.len(),
            limit: SECTIONS_MAX,
        });
    }
    let mut symbols = SymbolTable::new(object, generated)?;
    let mut sections = Vec::with_capacity(count);
    for section in &object.sections {
        relocate::check(object.machine, section)?;
        let (data, relocations) = fields::contents(object, section, &mut symbols)?;
        let kind = match section.kind {
            SectionKind::Code => IMAGE_SCN_CNT_CODE | IMAGE_SCN_MEM_EXECUTE,
            SectionKind::ReadOnlyData => IMAGE_SCN_CNT_INITIALIZED_DATA,
            SectionKind::Data => IMAGE_SCN_CNT_INITIALIZED_DATA | IMAGE_SCN_MEM_WRITE,
        };
        sections.push(new_section(&section.name, kind, section.align, data, relocations));
    }
    if let [records, table] = generated {
        let kind = IMAGE_SCN_CNT_INITIALIZED_DATA;
        let (data, relocations) = fields::function_table(object, &functions, &symbols);
        sections.push(new_section(
            records,
            kind,
            functions::ALIGN,
            functions.records().to_vec(),
            Vec::new(),
        ));
        sections.push(new_section(table, kind, functions::ALIGN, data, relocations));
    }
    write(object.machine, &sections, &symbols)
}

/// Not marked as not paged: linkers for drivers do that themselves, and others would take the section for a different
/// one of its name.
fn new_section(name: &str, kind: SectionFlags, align: u32, data: Vec<u8>, relocations: Vec<Relocation>) -> Section {
    let mut flags = (kind | IMAGE_SCN_MEM_READ).with_align(alignment(align));
    if relocations.len() > RELOCATIONS_MAX {
        flags = flags | IMAGE_SCN_LNK_NRELOC_OVFL;
    }
    Section {
        // The check of the sections has seen that it fits.
        name: header_name(name).unwrap_or_default(),
        flags,
        data,
        relocations,
    }
}

/// `IMAGE_SCN_ALIGN_*` of a power of two up to 4096: 1 for one byte, 2 for two, 3 for four.
fn alignment(align: u32) -> SectionFlags {
    const SHIFT: u32 = 20;
    SectionFlags((align.trailing_zeros() + 1) << SHIFT)
}

fn write(machine: Machine, sections: &[Section], symbols: &SymbolTable<'_>) -> Result<Vec<u8>, LinkError> {
    let mut out = Vec::new();
    let mut writer = Writer::new(&mut out);
    writer.reserve_file_header();
    writer.reserve_section_headers(sections.len() as u16);
    // Places in the file. They are wrong if the file is too large, which is found below.
    let places: Vec<(u32, u32)> = sections
        .iter()
        .map(|section| {
            let data = writer.reserve_section(section.data.len());
            (data, writer.reserve_relocations(section.relocations.len()))
        })
        .collect();
    let names = symbols.reserve(&mut writer);
    let too_large = |_| LinkError::ImageTooLarge;
    writer.reserve_symtab_strtab().map_err(too_large)?;
    if writer.reserved_len() > u64::from(IMAGE_LIMIT) {
        return Err(LinkError::ImageTooLarge);
    }

    let header = FileHeader {
        machine: match machine {
            Machine::X64 => IMAGE_FILE_MACHINE_AMD64,
            Machine::Arm64 => IMAGE_FILE_MACHINE_ARM64,
        },
        time_date_stamp: 0,
        characteristics: FileFlags(0),
    };
    writer.write_file_header(header).map_err(too_large)?;
    for (section, (data, relocations)) in sections.iter().zip(places) {
        writer.write_section_header(SectionHeader {
            name: Name::Short(section.name),
            size_of_raw_data: section.data.len() as u32,
            pointer_to_raw_data: data,
            pointer_to_relocations: relocations,
            number_of_relocations: section.relocations.len() as u32,
            characteristics: section.flags,
            ..SectionHeader::default()
        });
    }
    for section in sections {
        writer.write_section(&section.data);
        writer.write_relocations_count(section.relocations.len());
        for relocation in &section.relocations {
            writer.write_relocation(relocation.clone());
        }
    }
    symbols.write(&mut writer, &names, sections);
    writer.write_strtab();
    Ok(out)
}

/// The error for a field of a section.
fn field_error(section: &str, offset: u32, problem: RelocationProblem) -> LinkError {
    LinkError::Relocation {
        section: section.to_owned(),
        offset,
        problem,
    }
}

#[cfg(test)]
mod tests;
