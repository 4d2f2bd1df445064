//! Initial values: what the relocations of `.maps` put into the `values` members of maps.

use super::MapTable;
use crate::elf::{Elf, Home, Relocation, Section, SectionIndex};
use crate::error::{Problem, ReadError};
use crate::functions::FunctionTable;
use crate::{Function, FunctionKind, InitialValue, MapIndex};

/// Size in bytes of an element of `values`: a pointer.
const ELEMENT: u64 = 8;
/// Most elements of one `values` member.
const MAX_ELEMENTS: u64 = 1 << 16;

// Relocation types of pointers in data: today's, and what it was before LLVM 13.
const ABS64: u32 = 2;
const OLD_ABS64: u32 = object::elf::R_BPF_64_64.0;

/// What the elements of a `values` member are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ValueKind {
    Maps,
    Programs,
}

/// A `values` member.
#[derive(Clone, Copy, Debug)]
pub(super) struct Values {
    map: MapIndex,
    kind: ValueKind,
    section: SectionIndex,
    /// Offset in bytes of the first element in the section.
    start: u64,
    count: u64,
}

impl Values {
    /// The member at `offset` of a structure that has `size` bytes and stands at `symbol` in `section`.
    pub(super) fn new(
        map: MapIndex,
        kind: ValueKind,
        section: SectionIndex,
        symbol: u64,
        size: u64,
        offset: u32,
    ) -> Result<Values, Problem> {
        let bytes = size.checked_sub(u64::from(offset)).ok_or(Problem::OutOfRange {
            what: "the `values` member",
            whole: "map definition",
        })?;
        let count = bytes / ELEMENT;
        if count > MAX_ELEMENTS {
            return Err(Problem::TooMuch {
                what: "initial values of a map",
                limit: MAX_ELEMENTS,
            });
        }
        Ok(Values {
            map,
            kind,
            section,
            start: symbol + u64::from(offset),
            count,
        })
    }
}

/// Fills in the initial values of all maps.
pub(crate) fn resolve(
    table: &mut MapTable,
    elf: &Elf<'_>,
    code: &FunctionTable<'_>,
    functions: &[Function],
) -> Result<(), ReadError> {
    let mut values = std::mem::take(&mut table.values);
    values.sort_by_key(|v| v.start);
    for member in &values {
        if let Some(map) = table.maps.get_mut(member.map.index()) {
            map.initial_values = vec![None; member.count as usize];
        }
    }
    let sections: Vec<SectionIndex> = table.sections.iter().copied().collect();
    for section in sections.iter().filter_map(|s| elf.section(*s)) {
        for relocation in elf.relocations(section)? {
            if relocation.kind == object::elf::R_BPF_NONE.0 {
                continue;
            }
            let fail = |problem| {
                let place = section.place().at(relocation.offset);
                place.of_symbol(relocation.symbol.name).error(problem)
            };
            let (member, slot) = element(&values, section, &relocation)
                .ok_or_else(|| fail(Problem::Map("an address that is no element of a map's `values`")))?;
            let value = value(table, code, functions, section, &relocation, member.kind).map_err(fail)?;
            let map = table.maps.get_mut(member.map.index());
            if let Some(entry) = map.and_then(|m| m.initial_values.get_mut(slot)) {
                *entry = Some(value);
            }
        }
    }
    Ok(())
}

/// The member and element that a relocation applies to.
fn element<'v>(
    values: &'v [Values],
    section: &Section<'_>,
    relocation: &Relocation<'_, '_>,
) -> Option<(&'v Values, usize)> {
    let after = values.partition_point(|v| v.start <= relocation.offset);
    let member = values.get(after.checked_sub(1)?)?;
    let distance = relocation.offset - member.start;
    (member.section == section.index && distance.is_multiple_of(ELEMENT) && distance / ELEMENT < member.count)
        .then_some((member, (distance / ELEMENT) as usize))
}

fn value(
    table: &MapTable,
    code: &FunctionTable<'_>,
    functions: &[Function],
    section: &Section<'_>,
    relocation: &Relocation<'_, '_>,
    kind: ValueKind,
) -> Result<InitialValue, Problem> {
    if !matches!(relocation.kind, ABS64 | OLD_ABS64) {
        return Err(Problem::RelocationType {
            kind: relocation.kind,
            what: "an initial value of a map",
        });
    }
    let home = match relocation.symbol.home {
        Home::Section(home) => home,
        Home::Undefined => return Err(Problem::Unresolved),
        Home::Special => return Err(Problem::Reference("not a map or program of this object")),
    };
    let in_place = section
        .data
        .get(relocation.offset as usize..)
        .and_then(|rest| rest.first_chunk())
        .map_or(0, |bytes| u64::from_le_bytes(*bytes));
    let offset = relocation.symbol.value.wrapping_add(in_place);
    match kind {
        ValueKind::Maps => table
            .map_at(home, offset)
            .map(InitialValue::Map)
            .ok_or(Problem::Reference("an initial value that is no map")),
        ValueKind::Programs => code
            .at(home, offset)
            .filter(|f| {
                functions
                    .get(f.index())
                    .is_some_and(|f| f.kind == FunctionKind::Program)
            })
            .map(InitialValue::Program)
            .ok_or(Problem::Reference("an initial value that is no program")),
    }
}
