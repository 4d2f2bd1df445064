//! Which functions there are, and which slots belong to which.
//!
//! Given: the executable sections and the FUNC symbols in them.
//! Computed: functions that tile each section, in order of section and offset.
//! Safe because: a function is refused whose symbol does not agree with where the next one begins, so no instruction
//! belongs to two functions or to none.

use std::collections::BTreeMap;

use object::elf;

use crate::elf::{Elf, Home, Section, SectionIndex, Symbol};
use crate::error::{Problem, ReadError};
use crate::{FunctionIndex, MAX_SLOTS, Slot};

/// A function before its instructions are decoded.
#[derive(Clone, Debug)]
pub(crate) struct Extent {
    pub(crate) name: String,
    /// First slot in the section.
    pub(crate) start: u32,
    /// Slot after the last one.
    pub(crate) end: u32,
    /// Whether all its symbols are local to the object (`static` in C).
    pub(crate) is_static: bool,
}

/// A section with instructions.
pub(crate) struct CodeSection<'a> {
    pub(crate) section: Section<'a>,
    pub(crate) slots: Vec<Slot>,
    /// Index of the section's first function.
    pub(crate) first: u32,
    pub(crate) functions: Vec<Extent>,
}

/// All functions of an object.
pub(crate) struct FunctionTable<'a> {
    pub(crate) sections: Vec<CodeSection<'a>>,
    by_section: BTreeMap<SectionIndex, usize>,
}

impl<'a> FunctionTable<'a> {
    /// Finds the functions of an object.
    pub(crate) fn read(elf: &Elf<'a>) -> Result<FunctionTable<'a>, ReadError> {
        let mut symbols = function_symbols(elf);
        let mut table = FunctionTable {
            sections: Vec::new(),
            by_section: BTreeMap::new(),
        };
        let (mut total, mut first) = (0, 0);
        for section in elf.sections.iter().filter(|s| s.is_executable() && s.size != 0) {
            let fail = |problem| section.place().error(problem);
            if section.kind != elf::SHT_PROGBITS {
                return Err(fail(Problem::Malformed("executable, but without instructions")));
            }
            let slots = Slot::all_from_bytes(section.data)
                .ok_or_else(|| fail(Problem::Malformed("its size is no whole number of instructions")))?;
            total += slots.len();
            if total > MAX_SLOTS {
                return Err(fail(Problem::TooMuch {
                    what: "instructions",
                    limit: MAX_SLOTS as u64,
                }));
            }
            let symbols = symbols.remove(&section.index).unwrap_or_default();
            let functions = tile(section, &symbols)?;
            table.by_section.insert(section.index, table.sections.len());
            let count = functions.len() as u32;
            table.sections.push(CodeSection {
                section: *section,
                slots,
                first,
                functions,
            });
            first += count;
        }
        Ok(table)
    }

    /// The section of this index, if it has instructions.
    pub(crate) fn code(&self, section: SectionIndex) -> Option<&CodeSection<'a>> {
        self.sections.get(*self.by_section.get(&section)?)
    }

    /// The function that begins at an offset in bytes of a section.
    pub(crate) fn at(&self, section: SectionIndex, offset: u64) -> Option<FunctionIndex> {
        let code = self.code(section)?;
        if !offset.is_multiple_of(Slot::SIZE as u64) {
            return None;
        }
        code.at_slot(u32::try_from(offset / Slot::SIZE as u64).ok()?)
    }
}

impl CodeSection<'_> {
    /// The function that begins at a slot of the section.
    pub(crate) fn at_slot(&self, slot: u32) -> Option<FunctionIndex> {
        let position = self.functions.binary_search_by_key(&slot, |f| f.start).ok()?;
        Some(FunctionIndex(self.first + position as u32))
    }
}

/// The FUNC symbols of each section by offset; of several at one place, in order of the symbol table.
fn function_symbols<'e, 'a>(elf: &'e Elf<'a>) -> BTreeMap<SectionIndex, Vec<&'e Symbol<'a>>> {
    let mut all: BTreeMap<SectionIndex, Vec<&Symbol<'_>>> = BTreeMap::new();
    for symbol in elf.symbols.iter().filter(|s| s.kind == elf::STT_FUNC) {
        if let Home::Section(section) = symbol.home {
            all.entry(section).or_default().push(symbol);
        }
    }
    for symbols in all.values_mut() {
        symbols.sort_by_key(|s| s.value);
    }
    all
}

/// Divides a section among the functions that its symbols name. Symbols at the same place are names of one function; the
/// first in the symbol table is the one it is known by. A section without FUNC symbols is one function, which has the
/// section's name (objects of old compilers).
fn tile(section: &Section<'_>, symbols: &[&Symbol<'_>]) -> Result<Vec<Extent>, ReadError> {
    let slot = |offset: u64| (offset / Slot::SIZE as u64) as u32;
    if symbols.is_empty() {
        return Ok(vec![Extent {
            name: section.name.to_owned(),
            start: 0,
            end: slot(section.size),
            is_static: false,
        }]);
    }
    let mut functions = Vec::new();
    let mut covered = 0;
    let mut rest = symbols;
    while let Some((first, _)) = rest.split_first() {
        let aliases = rest.partition_point(|s| s.value == first.value);
        let (names, later) = rest.split_at(aliases);
        rest = later;
        let fail = |what| {
            let place = section.place().at(first.value).of_symbol(first.name);
            Err(place.error(Problem::Function(what)))
        };
        if names.iter().any(|s| s.name.is_empty()) {
            return fail("a function symbol without a name");
        }
        if !first.value.is_multiple_of(Slot::SIZE as u64) {
            return fail("begins in the middle of an instruction");
        }
        if first.value > covered {
            return fail("instructions before it belong to no function");
        }
        let end = later.first().map_or(section.size, |s| s.value);
        if first.value == end {
            return fail("an empty function");
        }
        // Symbols of hand-written assembly may have no size.
        let size = names.iter().map(|s| s.size).max().unwrap_or(0);
        if size > end - first.value {
            return fail("overlaps the function after it");
        }
        covered = if size == 0 { end } else { first.value + size };
        if later.is_empty() && covered < end {
            return fail("instructions after it belong to no function");
        }
        functions.push(Extent {
            name: first.name.to_owned(),
            start: slot(first.value),
            end: slot(end),
            is_static: names.iter().all(|s| s.bind == elf::STB_LOCAL),
        });
    }
    Ok(functions)
}
