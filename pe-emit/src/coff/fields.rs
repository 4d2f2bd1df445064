//! Fields that depend on addresses, as relocations: which type they have, and what stands in the field.
//!
//! A COFF relocation has no addend. A linker adds what stands in a field of data, and takes a 32-bit distance from the
//! field's end. Linkers agree less on what stands in ARM64 instructions (lld adds the immediate of `adrp` and `add` and
//! merges that of `bl`), so instructions hold 0 there, and what they refer to is always a symbol.

use object::pe::{
    IMAGE_REL_AMD64_ADDR32NB, IMAGE_REL_AMD64_ADDR64, IMAGE_REL_AMD64_REL32, IMAGE_REL_ARM64_ADDR32NB,
    IMAGE_REL_ARM64_ADDR64, IMAGE_REL_ARM64_BRANCH26, IMAGE_REL_ARM64_PAGEBASE_REL21, IMAGE_REL_ARM64_PAGEOFFSET_12A,
    IMAGE_REL_ARM64_PAGEOFFSET_12L, IMAGE_REL_ARM64_REL32, RelocationType,
};
use object::write::coff::Relocation;

use super::field_error;
use super::symbol_table::SymbolTable;
use crate::error::{LinkError, RelocationProblem};
use crate::functions::FunctionTable;
use crate::native_object::{
    Machine, NativeObject, Relocation as Field, RelocationKind, Section, SectionIndex, SymbolPlace,
};
use crate::relocate;

/// The contents of a section that has been checked, as the linker is to find them, and its relocations.
pub(super) fn contents(
    object: &NativeObject,
    section: &Section,
    symbols: &mut SymbolTable<'_>,
) -> Result<(Vec<u8>, Vec<Relocation>), LinkError> {
    let mut data = section.data.clone();
    let mut relocations = Vec::with_capacity(section.relocations.len());
    for field in &section.relocations {
        let bytes = data.get_mut(field.offset as usize..).unwrap_or_default();
        let symbol =
            fill(object, field, bytes, symbols).map_err(|problem| field_error(&section.name, field.offset, problem))?;
        relocations.push(Relocation {
            virtual_address: field.offset,
            symbol,
            typ: relocation_type(object.machine, field.kind),
        });
    }
    // Linkers expect them so.
    relocations.sort_by_key(|relocation| relocation.virtual_address);
    Ok((data, relocations))
}

/// The type of a field's relocation. Instructions have been checked to be of the machine.
fn relocation_type(machine: Machine, kind: RelocationKind) -> RelocationType {
    match (kind, machine) {
        (RelocationKind::Absolute64, Machine::X64) => IMAGE_REL_AMD64_ADDR64,
        (RelocationKind::Absolute64, Machine::Arm64) => IMAGE_REL_ARM64_ADDR64,
        (RelocationKind::ImageRelative32, Machine::X64) => IMAGE_REL_AMD64_ADDR32NB,
        (RelocationKind::ImageRelative32, Machine::Arm64) => IMAGE_REL_ARM64_ADDR32NB,
        (RelocationKind::Relative32, Machine::X64) => IMAGE_REL_AMD64_REL32,
        (RelocationKind::Relative32, Machine::Arm64) => IMAGE_REL_ARM64_REL32,
        (RelocationKind::Arm64Page21, _) => IMAGE_REL_ARM64_PAGEBASE_REL21,
        (RelocationKind::Arm64PageOffset12, _) => IMAGE_REL_ARM64_PAGEOFFSET_12A,
        (RelocationKind::Arm64LoadOffset12, _) => IMAGE_REL_ARM64_PAGEOFFSET_12L,
        (RelocationKind::Arm64Branch26, _) => IMAGE_REL_ARM64_BRANCH26,
    }
}

/// Writes what stands in a field, and gives the symbol of its relocation.
fn fill(
    object: &NativeObject,
    field: &Field,
    bytes: &mut [u8],
    symbols: &mut SymbolTable<'_>,
) -> Result<u32, RelocationProblem> {
    let &Field {
        kind, symbol, addend, ..
    } = field;
    let unknown = RelocationProblem::UnknownSymbol { symbol: symbol.0 };
    let index = symbols.symbol(symbol).ok_or(unknown.clone())?;
    match kind {
        RelocationKind::Absolute64 => {
            target(object, field)?;
            *relocate::field(bytes)? = addend.to_le_bytes();
            Ok(index)
        }
        RelocationKind::ImageRelative32 => {
            target(object, field)?;
            *relocate::field(bytes)? = relocate::signed(addend.into(), 32)?.to_le_bytes();
            Ok(index)
        }
        RelocationKind::Relative32 => {
            // Cranelift, and this crate, count from the start of the field.
            let from_end = i128::from(addend) + size_of::<u32>() as i128;
            *relocate::field(bytes)? = relocate::signed(from_end, 32)?.to_le_bytes();
            Ok(index)
        }
        RelocationKind::Arm64Page21
        | RelocationKind::Arm64PageOffset12
        | RelocationKind::Arm64LoadOffset12
        | RelocationKind::Arm64Branch26 => {
            relocate::clear_immediate(bytes, kind)?;
            if addend == 0 {
                return Ok(index);
            }
            let (section, offset) = target(object, field)?;
            Ok(symbols.label(section, offset))
        }
    }
}

/// What the symbol plus the addend is: a place in the symbol's section, because the linker moves each section on its own.
fn target(object: &NativeObject, field: &Field) -> Result<(SectionIndex, u32), RelocationProblem> {
    let unknown = RelocationProblem::UnknownSymbol { symbol: field.symbol.0 };
    let symbol = object.symbols.get(field.symbol.0 as usize).ok_or(unknown)?;
    let SymbolPlace::Section { section, offset } = symbol.place else {
        return Err(RelocationProblem::OutsideSection);
    };
    let size = object
        .sections
        .get(section.0 as usize)
        .map_or(0, |section| section.data.len());
    let place = i128::from(offset) + i128::from(field.addend);
    u32::try_from(place)
        .ok()
        .filter(|place| *place as usize <= size)
        .map(|place| (section, place))
        .ok_or(RelocationProblem::OutsideSection)
}

/// The contents of `.pdata` and its relocations. Fields are RVAs, to which the linker adds what stands there.
pub(super) fn function_table(
    object: &NativeObject,
    functions: &FunctionTable,
    symbols: &SymbolTable<'_>,
) -> (Vec<u8>, Vec<Relocation>) {
    let typ = match object.machine {
        Machine::X64 => IMAGE_REL_AMD64_ADDR32NB,
        Machine::Arm64 => IMAGE_REL_ARM64_ADDR32NB,
    };
    let records = SectionIndex(object.sections.len() as u32);
    let mut data = Vec::with_capacity(functions.size());
    let mut relocations = Vec::new();
    let mut field = |(symbol, bytes): (u32, u32)| {
        relocations.push(Relocation {
            virtual_address: data.len() as u32,
            symbol,
            typ,
        });
        data.extend_from_slice(&bytes.to_le_bytes());
    };
    for entry in functions.entries() {
        let (symbol, bytes) = symbols.near(entry.section, entry.offset);
        field((symbol, bytes));
        if object.machine == Machine::X64 {
            field((symbol, bytes.saturating_add(entry.size)));
        }
        field(symbols.near(records, entry.record));
    }
    (data, relocations)
}
