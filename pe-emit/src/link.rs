//! From object to image, in two phases.
//!
//! First every range of memory and file is reserved, in file order; then the bytes are written in that order, from final
//! addresses. The headers are made last, when the checksum of everything behind them is known, and nothing is patched
//! once written. The same object gives the same bytes.

use object::pe::{
    IMAGE_DIRECTORY_ENTRY_BASERELOC, IMAGE_DIRECTORY_ENTRY_EXCEPTION, IMAGE_DIRECTORY_ENTRY_EXPORT,
    IMAGE_DIRECTORY_ENTRY_IAT, IMAGE_DIRECTORY_ENTRY_IMPORT,
};

use crate::base_relocations::BaseRelocations;
use crate::checksum::checksum;
use crate::error::{EntryProblem, LinkError};
use crate::exports::ExportTable;
use crate::functions::FunctionTable;
use crate::headers::{self, Directories};
use crate::image::Image;
use crate::image_kind::ImageKind;
use crate::imports::ImportTables;
use crate::layout::{Layout, Part};
use crate::native_object::NativeObject;
use crate::relocate;
use crate::sections::{self, Tables};
use crate::symbols::{self, Addresses};

/// Lays out and writes the image of a driver or DLL.
///
/// The object's sections come first, in their order, each with its exact size; `.rdata` alone grows, by import and export
/// tables and unwind records. `.pdata` and `.reloc` follow where needed, and an `.rdata` if the object has none.
///
/// # Errors
///
/// Every inconsistency of the object is an error that names its place; see [`LinkError`]. No object makes this panic.
pub fn link(object: &NativeObject) -> Result<Image, LinkError> {
    let kind = ImageKind::of(&object.purpose)?;
    sections::check(&object.sections)?;
    symbols::check(object)?;
    for section in &object.sections {
        relocate::check(object.machine, section)?;
    }
    let tables = Tables {
        imports: ImportTables::new(&object.imports)?,
        exports: ExportTable::new(object)?,
        functions: FunctionTable::new(object)?,
        base_relocations: BaseRelocations::new(&object.sections),
    };
    let layout = Layout::new(sections::plan(kind, &object.sections, &tables)?)?;
    write(object, kind, &tables, &layout).map(Image::new)
}

fn write(object: &NativeObject, kind: ImageKind, tables: &Tables<'_>, layout: &Layout) -> Result<Vec<u8>, LinkError> {
    let Tables {
        imports,
        exports,
        functions,
        base_relocations,
    } = tables;
    let mut directories = Directories::default();
    let imports_start = layout.find(Part::Imports).map(|part| part.rva);
    if let Some(start) = imports_start {
        directories.set(IMAGE_DIRECTORY_ENTRY_IMPORT, imports.import_directory(start));
        directories.set(IMAGE_DIRECTORY_ENTRY_IAT, imports.address_table_directory(start));
    }
    for (entry, part) in [
        (IMAGE_DIRECTORY_ENTRY_EXPORT, Part::Exports),
        (IMAGE_DIRECTORY_ENTRY_EXCEPTION, Part::FunctionTable),
        (IMAGE_DIRECTORY_ENTRY_BASERELOC, Part::BaseRelocations),
    ] {
        if let Some(part) = layout.find(part) {
            directories.set(entry, (part.rva, part.size));
        }
    }
    let addresses = Addresses::new(object, kind, layout, imports);

    let mut body = Vec::with_capacity(layout.file_size as usize);
    for section in &layout.sections {
        let start = body.len();
        for part in &section.parts {
            body.resize(start + (part.rva.0 - section.rva.0) as usize, 0);
            match part.part {
                Part::Contents(index) => {
                    let section = &object.sections[index.0 as usize];
                    body.append(&mut relocate::contents(section, part.rva, &addresses)?);
                }
                Part::Imports => body.append(&mut imports.write(part.rva)),
                Part::Exports => body.append(&mut exports.write(part.rva, &addresses)),
                Part::UnwindRecords => body.extend_from_slice(functions.records()),
                Part::FunctionTable => body.append(&mut functions.write(layout)),
                Part::BaseRelocations => body.append(&mut base_relocations.write(layout)),
            }
        }
        body.resize(start + section.raw_size as usize, 0);
    }

    let entry = object.purpose.entry().ok_or(LinkError::NotAnImage)?;
    let unknown = EntryProblem::UnknownSymbol { symbol: entry.0 };
    let entry = addresses.symbol(entry).ok_or(LinkError::Entry { problem: unknown })?;
    let headers = |check_sum| headers::write(kind, object.machine, layout, &directories, entry, check_sum);
    let mut out = headers(checksum(&[&headers(0), &body]));
    out.append(&mut body);
    Ok(out)
}

#[cfg(test)]
mod dll_tests;
#[cfg(test)]
mod random_tests;
#[cfg(test)]
mod refusal_tests;
#[cfg(test)]
mod tests;
