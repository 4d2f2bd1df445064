//! Where every symbol of the object is in the laid out image.

use std::collections::BTreeSet;

use crate::address::Rva;
use crate::error::{EntryProblem, ExportProblem, LinkError, SymbolProblem};
use crate::image_kind::ImageKind;
use crate::imports::{ImportTables, is_name};
use crate::layout::{Layout, Part};
use crate::native_object::{Machine, NativeObject, SectionIndex, SectionKind, Symbol, SymbolIndex, SymbolPlace};
use crate::unwind_arm64;

/// The addresses that fields are computed from.
pub(crate) struct Addresses {
    /// For each symbol of the object.
    symbols: Vec<Rva>,
    /// The image's preferred base.
    base: u64,
    /// Size of the image in memory.
    pub size: u32,
}

impl Addresses {
    /// Finds all symbols. The object has passed [`check`].
    pub(crate) fn new(object: &NativeObject, kind: ImageKind, layout: &Layout, imports: &ImportTables<'_>) -> Self {
        let imports_start = layout.find(Part::Imports).map_or(Rva(0), |part| part.rva);
        let find = |symbol: &Symbol| match symbol.place {
            SymbolPlace::Section { section, offset } => layout.section(section).plus(offset),
            SymbolPlace::ImportSlot { index } => imports.slot(imports_start, index),
        };
        Self {
            symbols: object.symbols.iter().map(find).collect(),
            base: kind.base(),
            size: layout.image_size,
        }
    }

    /// The virtual address of a place at the preferred base.
    pub(crate) fn virtual_address(&self, place: Rva) -> u64 {
        self.base + u64::from(place.0)
    }

    /// Where a symbol is; `None` if there is no such symbol.
    pub(crate) fn symbol(&self, symbol: SymbolIndex) -> Option<Rva> {
        self.symbols.get(symbol.0 as usize).copied()
    }
}

/// Checks that every symbol names a place of the object, that the entry point is an instruction, because Windows calls it,
/// and that what is exported is there and has a name of its own.
pub(crate) fn check(object: &NativeObject) -> Result<(), LinkError> {
    for symbol in &object.symbols {
        check_place(object, symbol.place).map_err(|problem| LinkError::Symbol {
            name: symbol.name.clone(),
            problem,
        })?;
    }
    if let Some(entry) = object.purpose.entry() {
        check_entry(object, entry).map_err(|problem| LinkError::Entry { problem })?;
    }
    let mut names = BTreeSet::new();
    for (index, export) in object.purpose.exports().iter().enumerate() {
        check_export(object, *export, &mut names).map_err(|problem| LinkError::Export { index, problem })?;
    }
    Ok(())
}

fn check_export<'a>(
    object: &'a NativeObject,
    export: SymbolIndex,
    names: &mut BTreeSet<&'a str>,
) -> Result<(), ExportProblem> {
    let symbol = object.symbols.get(export.0 as usize);
    let symbol = symbol.ok_or(ExportProblem::UnknownSymbol { symbol: export.0 })?;
    let name = || symbol.name.clone();
    let exists = match symbol.place {
        SymbolPlace::Section { section, offset } => object
            .sections
            .get(section.0 as usize)
            .is_some_and(|section| (offset as usize) < section.data.len()),
        SymbolPlace::ImportSlot { .. } => false,
    };
    if !exists {
        return Err(ExportProblem::Nothing { name: name() });
    }
    if !is_name(&symbol.name) {
        return Err(ExportProblem::Name { name: name() });
    }
    if !names.insert(&symbol.name) {
        return Err(ExportProblem::Duplicate { name: name() });
    }
    Ok(())
}

fn check_place(object: &NativeObject, place: SymbolPlace) -> Result<(), SymbolProblem> {
    match place {
        SymbolPlace::Section {
            section: SectionIndex(section),
            offset,
        } => {
            let data = &object
                .sections
                .get(section as usize)
                .ok_or(SymbolProblem::UnknownSection { section })?
                .data;
            if u64::from(offset) > data.len() as u64 {
                return Err(SymbolProblem::OutOfSection {
                    section,
                    offset,
                    size: data.len(),
                });
            }
            Ok(())
        }
        SymbolPlace::ImportSlot { index } if index as usize >= object.imports.len() => {
            Err(SymbolProblem::UnknownImport { index })
        }
        SymbolPlace::ImportSlot { .. } => Ok(()),
    }
}

fn check_entry(object: &NativeObject, entry: SymbolIndex) -> Result<(), EntryProblem> {
    let symbol = object.symbols.get(entry.0 as usize);
    let symbol = symbol.ok_or(EntryProblem::UnknownSymbol { symbol: entry.0 })?;
    let not_code = || EntryProblem::NotCode {
        name: symbol.name.clone(),
    };
    let SymbolPlace::Section { section, offset } = symbol.place else {
        return Err(not_code());
    };
    object
        .sections
        .get(section.0 as usize)
        .filter(|section| section.kind == SectionKind::Code && (offset as usize) < section.data.len())
        .ok_or_else(not_code)?;
    if object.machine == Machine::Arm64 && !offset.is_multiple_of(unwind_arm64::INSTRUCTION) {
        return Err(EntryProblem::Unaligned {
            name: symbol.name.clone(),
        });
    }
    Ok(())
}
