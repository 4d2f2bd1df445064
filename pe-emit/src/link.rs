//! From object to image, in two phases.
//!
//! First every range of memory and file is reserved, in file order; then the bytes are written in that order, from final
//! addresses. The headers are made last, when the checksum of everything behind them is known. One thing is filled in
//! after it was written: the hash of the contents. The same object gives the same bytes.

use object::pe::{
    IMAGE_DIRECTORY_ENTRY_BASERELOC, IMAGE_DIRECTORY_ENTRY_DEBUG, IMAGE_DIRECTORY_ENTRY_EXCEPTION,
    IMAGE_DIRECTORY_ENTRY_EXPORT, IMAGE_DIRECTORY_ENTRY_IAT, IMAGE_DIRECTORY_ENTRY_IMPORT,
    IMAGE_DIRECTORY_ENTRY_LOAD_CONFIG, IMAGE_DIRECTORY_ENTRY_RESOURCE,
};
use sha2::{Digest, Sha256};

use crate::base_relocations::BaseRelocations;
use crate::checksum::checksum;
use crate::debug::{ContentHash, DebugDirectory};
use crate::error::{EntryProblem, LinkError};
use crate::exports::ExportTable;
use crate::functions::FunctionTable;
use crate::headers::{self, Directories, Fields};
use crate::image::Image;
use crate::image_kind::ImageKind;
use crate::image_options::ImageOptions;
use crate::imports::ImportTables;
use crate::layout::{Layout, Part};
use crate::load_config;
use crate::native_object::{Machine, NativeObject, SectionIndex, SymbolIndex};
use crate::relocate;
use crate::resources::Resources;
use crate::sections::{self, Tables};
use crate::symbols::{self, Addresses};

/// Lays out and writes the image of a driver or DLL, with the default [`ImageOptions`].
///
/// # Errors
///
/// See [`link_with`].
pub fn link(object: &NativeObject) -> Result<Image, LinkError> {
    link_with(object, &ImageOptions::default())
}

/// Lays out and writes the image of a driver or DLL.
///
/// The object's sections come first, in their order, each with its exact size; `.rdata` alone grows, by load configuration,
/// import and export tables, debug directory and unwind records. `.pdata`, `.rsrc` and `.reloc` follow where needed, and an
/// `.rdata` if the object has none.
///
/// # Errors
///
/// Every inconsistency of the object is an error that names its place; see [`LinkError`]. No object makes this panic.
pub fn link_with(object: &NativeObject, options: &ImageOptions) -> Result<Image, LinkError> {
    let kind = ImageKind::of(&object.purpose)?;
    sections::check(&object.sections)?;
    symbols::check(object)?;
    for section in &object.sections {
        relocate::check(object.machine, section)?;
    }
    let version = options.version_info.as_ref().map(|info| info.bytes(kind));
    let version = version
        .unwrap_or(Some(Vec::new()))
        .ok_or(LinkError::VersionInfoTooLarge)?;
    let (object, load_config) = load_config::add(object)?;
    let tables = Tables {
        imports: ImportTables::new(&object.imports)?,
        exports: ExportTable::new(&object)?,
        debug: DebugDirectory {
            shadow_stack: object.shadow_stack && object.machine == Machine::X64,
        },
        functions: FunctionTable::new(&object)?,
        resources: Resources::new(version),
        base_relocations: BaseRelocations::new(&object.sections),
    };
    let layout = Layout::new(sections::plan(kind, &object.sections, &tables)?)?;
    let linking = Linking {
        object: &object,
        kind,
        options,
        load_config,
        tables: &tables,
        layout: &layout,
    };
    let sections = (0..object.sections.len() as u32).map(|index| layout.section(SectionIndex(index)).0);
    Ok(Image::new(linking.write()?, sections.collect()))
}

/// An object whose places in the image are known.
struct Linking<'a> {
    object: &'a NativeObject,
    kind: ImageKind,
    options: &'a ImageOptions,
    /// The load configuration, if there is one.
    load_config: Option<SymbolIndex>,
    tables: &'a Tables<'a>,
    layout: &'a Layout,
}

impl Linking<'_> {
    fn write(&self) -> Result<Vec<u8>, LinkError> {
        let addresses = Addresses::new(self.object, self.kind, self.layout, &self.tables.imports);
        let entry = self.object.purpose.entry().ok_or(LinkError::NotAnImage)?;
        let unknown = EntryProblem::UnknownSymbol { symbol: entry.0 };
        let entry = addresses.symbol(entry).ok_or(LinkError::Entry { problem: unknown })?;
        let directories = self.directories(&addresses);
        let headers = |check_sum, hash: ContentHash| {
            let guard = self
                .object
                .load_config
                .as_ref()
                .is_some_and(|config| config.guard.is_some());
            let fields = Fields {
                entry,
                check_sum,
                time_date_stamp: hash.time_date_stamp(),
                guard,
                force_integrity: self.options.force_integrity,
            };
            headers::write(self.kind, self.object.machine, self.layout, &directories, fields)
        };

        let mut body = self.body(&addresses)?;
        let hash = Sha256::new()
            .chain_update(headers(0, ContentHash::NONE))
            .chain_update(&body)
            .finalize();
        let hash = ContentHash(hash.into());
        if let Some(part) = self.layout.find(Part::Debug) {
            let start = (part.file_offset.0 - self.layout.headers_size) as usize;
            let bytes = self.tables.debug.write((part.rva, part.file_offset), hash);
            body[start..start + bytes.len()].copy_from_slice(&bytes);
        }
        let mut out = headers(checksum(&[&headers(0, hash), &body]), hash);
        out.append(&mut body);
        Ok(out)
    }

    fn directories(&self, addresses: &Addresses) -> Directories {
        let (layout, imports) = (self.layout, &self.tables.imports);
        let mut directories = Directories::default();
        if let Some(part) = layout.find(Part::Imports) {
            directories.set(IMAGE_DIRECTORY_ENTRY_IMPORT, imports.import_directory(part.rva));
            directories.set(IMAGE_DIRECTORY_ENTRY_IAT, imports.address_table_directory(part.rva));
        }
        for (entry, part) in [
            (IMAGE_DIRECTORY_ENTRY_EXPORT, Part::Exports),
            (IMAGE_DIRECTORY_ENTRY_RESOURCE, Part::Resources),
            (IMAGE_DIRECTORY_ENTRY_EXCEPTION, Part::FunctionTable),
            (IMAGE_DIRECTORY_ENTRY_BASERELOC, Part::BaseRelocations),
        ] {
            if let Some(part) = layout.find(part) {
                directories.set(entry, (part.rva, part.size));
            }
        }
        if let Some(part) = layout.find(Part::Debug) {
            directories.set(
                IMAGE_DIRECTORY_ENTRY_DEBUG,
                (part.rva, self.tables.debug.directory_size()),
            );
        }
        if let Some(place) = self.load_config.and_then(|symbol| addresses.symbol(symbol)) {
            directories.set(IMAGE_DIRECTORY_ENTRY_LOAD_CONFIG, (place, load_config::SIZE));
        }
        directories
    }

    /// Everything behind the headers, the hash of the contents still open.
    fn body(&self, addresses: &Addresses) -> Result<Vec<u8>, LinkError> {
        let (layout, tables) = (self.layout, self.tables);
        let mut body = Vec::with_capacity(layout.file_size as usize);
        for section in &layout.sections {
            let start = body.len();
            for part in &section.parts {
                body.resize(start + (part.rva.0 - section.rva.0) as usize, 0);
                match part.part {
                    Part::Contents(index) => {
                        let section = &self.object.sections[index.0 as usize];
                        body.append(&mut relocate::contents(section, part.rva, addresses)?);
                    }
                    Part::Imports => body.append(&mut tables.imports.write(part.rva)),
                    Part::Exports => body.append(&mut tables.exports.write(part.rva, addresses)),
                    Part::Debug => {
                        body.append(&mut tables.debug.write((part.rva, part.file_offset), ContentHash::NONE));
                    }
                    Part::UnwindRecords => body.extend_from_slice(tables.functions.records()),
                    Part::FunctionTable => body.append(&mut tables.functions.write(layout)),
                    Part::Resources => body.append(&mut tables.resources.write(part.rva)),
                    Part::BaseRelocations => body.append(&mut tables.base_relocations.write(layout)),
                }
            }
            body.resize(start + section.raw_size as usize, 0);
        }
        Ok(body)
    }
}

#[cfg(test)]
mod dll_tests;
#[cfg(test)]
mod hardening_tests;
#[cfg(test)]
mod random_tests;
#[cfg(test)]
mod refusal_tests;
#[cfg(test)]
mod tests;
