//! Where every symbol of the object is in the laid out image.

use crate::address::Rva;
use crate::error::{EntryProblem, LinkError, SymbolProblem};
use crate::imports::ImportTables;
use crate::layout::{Layout, Part};
use crate::native_object::{Machine, NativeObject, SectionIndex, SectionKind, Symbol, SymbolIndex, SymbolPlace};
use crate::unwind_arm64;

/// The addresses that fields are computed from.
pub(crate) struct Addresses {
    /// For each symbol of the object.
    symbols: Vec<Rva>,
    /// Size of the image in memory.
    pub size: u32,
}

impl Addresses {
    /// Finds all symbols. The object has passed [`check`].
    pub(crate) fn new(object: &NativeObject, layout: &Layout, imports: &ImportTables<'_>) -> Self {
        let imports_start = layout.find(Part::Imports).map_or(Rva(0), |part| part.rva);
        let find = |symbol: &Symbol| match symbol.place {
            SymbolPlace::Section { section, offset } => layout.section(section).plus(offset),
            SymbolPlace::ImportSlot { index } => imports.slot(imports_start, index),
        };
        Self {
            symbols: object.symbols.iter().map(find).collect(),
            size: layout.image_size,
        }
    }

    /// Where a symbol is; `None` if there is no such symbol.
    pub(crate) fn symbol(&self, symbol: SymbolIndex) -> Option<Rva> {
        self.symbols.get(symbol.0 as usize).copied()
    }
}

/// Checks that every symbol names a place of the object, and that the entry point is an instruction: Windows calls it.
pub(crate) fn check(object: &NativeObject) -> Result<(), LinkError> {
    for symbol in &object.symbols {
        check_place(object, symbol.place).map_err(|problem| LinkError::Symbol {
            name: symbol.name.clone(),
            problem,
        })?;
    }
    check_entry(object).map_err(|problem| LinkError::Entry { problem })
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

fn check_entry(object: &NativeObject) -> Result<(), EntryProblem> {
    let symbol = object.symbols.get(object.entry.0 as usize);
    let symbol = symbol.ok_or(EntryProblem::UnknownSymbol { symbol: object.entry.0 })?;
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
