//! Resolves what the relocations of a code section refer to.

use std::collections::BTreeMap;

use object::elf::{R_BPF_64_32, R_BPF_64_64, R_BPF_NONE};

use crate::decode::References;
use crate::elf::{Elf, Home, Relocation, SectionIndex};
use crate::error::{Problem, ReadError};
use crate::functions::{CodeSection, FunctionTable};
use crate::maps::MapTable;
use crate::{FunctionIndex, Imm64, Slot, opcode};

/// What the instructions of a section refer to, by slot of the section.
#[derive(Default)]
pub(crate) struct Resolved {
    constants: BTreeMap<u32, Imm64>,
    calls: BTreeMap<u32, FunctionIndex>,
}

impl Resolved {
    /// Resolves the relocations of a section.
    pub(crate) fn read(
        elf: &Elf<'_>,
        table: &FunctionTable<'_>,
        maps: &MapTable,
        code: &CodeSection<'_>,
    ) -> Result<Resolved, ReadError> {
        let mut resolved = Resolved::default();
        for relocation in elf.relocations(&code.section)? {
            let place = || {
                let place = code.section.place().at(relocation.offset);
                if relocation.symbol.name.is_empty() {
                    place
                } else {
                    place.of_symbol(relocation.symbol.name)
                }
            };
            let fail = |problem| place().error(problem);
            if relocation.kind == R_BPF_NONE.0 {
                continue;
            }
            if !relocation.offset.is_multiple_of(Slot::SIZE as u64) {
                return Err(fail(Problem::Malformed("a relocation inside an instruction")));
            }
            // The offset is inside the section, whose length in slots fits.
            let slot = (relocation.offset / Slot::SIZE as u64) as u32;
            let mut slots = code.slots.iter().skip(slot as usize).copied();
            let (first, second) = (slots.next().unwrap_or_default(), slots.next());
            match (relocation.kind, first.opcode) {
                (kind, opcode::LDDW) if kind == R_BPF_64_64.0 => {
                    let second = second.unwrap_or_default();
                    let value = constant(table, maps, &relocation, first, second).map_err(fail)?;
                    resolved.constants.insert(slot, value);
                }
                (kind, opcode::CALL_IMM) if kind == R_BPF_64_32.0 && first.src == opcode::CALL_LOCAL => {
                    let callee = callee(table, &relocation, first).map_err(fail)?;
                    resolved.calls.insert(slot, callee);
                }
                (kind, _) => {
                    return Err(fail(Problem::RelocationType {
                        kind,
                        what: "this instruction",
                    }));
                }
            }
        }
        Ok(resolved)
    }
}

fn defined(relocation: &Relocation<'_, '_>) -> Result<SectionIndex, Problem> {
    match relocation.symbol.home {
        Home::Section(section) => Ok(section),
        Home::Undefined => Err(Problem::Unresolved),
        Home::Special => Err(Problem::Reference("refers to a symbol that is in no section")),
    }
}

/// What a `lddw` loads: symbol plus what its two immediates hold.
fn constant(
    table: &FunctionTable<'_>,
    maps: &MapTable,
    relocation: &Relocation<'_, '_>,
    first: Slot,
    second: Slot,
) -> Result<Imm64, Problem> {
    let section = defined(relocation)?;
    let addend = i64::from(second.imm) << 32 | i64::from(first.imm.cast_unsigned());
    let offset = relocation
        .symbol
        .value
        .checked_add_signed(addend)
        .ok_or(Problem::Reference("refers to a place before the section"))?;
    if maps.is_map_section(section) {
        return maps
            .map_at(section, offset)
            .map(Imm64::Map)
            .ok_or(Problem::Reference("refers to a place where no map begins"));
    }
    if let Some((index, global)) = maps.global(section) {
        let offset = u32::try_from(offset)
            .ok()
            .filter(|offset| *offset as usize <= global.data.len())
            .ok_or(Problem::Reference("refers to a place outside of the global variables"))?;
        return Ok(Imm64::Global { section: index, offset });
    }
    if table.code(section).is_some() {
        return Err(Problem::Unsupported(
            "the address of a function is taken, which is not done yet",
        ));
    }
    Err(Problem::Reference(
        "refers to a section that holds neither maps nor global variables",
    ))
}

/// The function that a local call calls: symbol plus immediate, which counts slots from the next instruction.
fn callee(table: &FunctionTable<'_>, relocation: &Relocation<'_, '_>, call: Slot) -> Result<FunctionIndex, Problem> {
    let section = defined(relocation)?;
    let distance = (i64::from(call.imm) + 1) * Slot::SIZE as i64;
    relocation
        .symbol
        .value
        .checked_add_signed(distance)
        .and_then(|offset| table.at(section, offset))
        .ok_or(Problem::Reference("calls a place where no function begins"))
}

/// The references of one function.
pub(crate) struct FunctionReferences<'r> {
    pub(crate) code: &'r CodeSection<'r>,
    pub(crate) resolved: &'r Resolved,
    /// First slot of the function in the section.
    pub(crate) start: u32,
}

impl References for FunctionReferences<'_> {
    fn imm64(&self, slot: u32) -> Option<Imm64> {
        self.resolved.constants.get(&(self.start + slot)).copied()
    }

    fn local_call(&self, slot: u32, imm: i32) -> Option<FunctionIndex> {
        let slot = self.start + slot;
        if let Some(callee) = self.resolved.calls.get(&slot) {
            return Some(*callee);
        }
        // Calls inside a section need no relocation.
        self.code
            .at_slot(u32::try_from(i64::from(slot) + 1 + i64::from(imm)).ok()?)
    }
}
