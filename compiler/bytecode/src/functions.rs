//! Which functions there are, and which slots belong to which.
//!
//! Given: the executable sections and the FUNC symbols in them.
//! Computed: functions that tile each section, in order of section and offset.
//! Safe because: a function is refused whose symbol does not agree with where the next one begins, so no instruction
//! belongs to two functions or to none.

use std::collections::{BTreeMap, BTreeSet};

use object::elf;

use crate::elf::{Elf, Section, SectionIndex, Symbol};
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
        let mut table = FunctionTable {
            sections: Vec::new(),
            by_section: BTreeMap::new(),
        };
        let (mut total, mut first) = (0, 0);
        // BTF refers to these sections by name.
        let mut names = BTreeSet::new();
        for section in elf.sections.iter().filter(|s| s.is_executable() && s.size != 0) {
            let fail = |problem| section.place().error(problem);
            if !names.insert(section.name) {
                return Err(fail(Problem::Duplicate("sections with instructions")));
            }
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
            // Of several symbols at one place, the first of the symbol table stays first.
            let mut symbols: Vec<_> = elf
                .symbols_of(section.index)
                .filter(|s| s.kind == elf::STT_FUNC)
                .collect();
            if symbols.is_empty() && section.name == ".text" {
                // Clang before version 8 gives symbols no types. Of those, global ones of this section are functions; others are labels, too.
                symbols.extend(
                    elf.symbols_of(section.index)
                        .filter(|s| s.kind == elf::STT_NOTYPE && s.bind == elf::STB_GLOBAL),
                );
            }
            symbols.sort_by_key(|s| s.value);
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

/// Divides a section among the functions that its symbols name. Symbols at the same place are names of one function; the
/// first in the symbol table is the one it is known by. A section without symbols is one function, which has the
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

#[cfg(test)]
mod tests {
    use crate::testing::{CALL, EXEC, EXIT, FUNCTION, Object, PROGBITS, STATIC_FUNCTION};
    use crate::{FunctionKind, MAX_SLOTS, Module, ReadError, read};

    fn functions(object: &Object) -> Result<Module, ReadError> {
        read(&object.build(), "test.o")
    }

    fn message(object: &Object) -> String {
        functions(object).map(|_| ()).unwrap_err().to_string()
    }

    /// An object with section `xdp` of `slots` times `exit`.
    fn exits(slots: usize) -> Object {
        let mut object = Object::default();
        object.section("xdp", PROGBITS, EXEC, &EXIT.repeat(slots));
        object
    }

    #[test]
    fn several_functions_tile_a_section() {
        let mut object = exits(3);
        object.symbol("second", FUNCTION, 1, 8, 16);
        object.symbol("first", FUNCTION, 1, 0, 8);
        let module = functions(&object).unwrap();
        let found: Vec<_> = module
            .functions
            .iter()
            .map(|f| (f.name.as_str(), f.section_offset, f.instructions.len()))
            .collect();
        assert_eq!(found, [("first", 0, 1), ("second", 8, 2)]);
    }

    #[test]
    fn a_function_without_a_size_goes_to_the_next_one() {
        let mut object = exits(3);
        object.symbol("first", FUNCTION, 1, 0, 0);
        object.symbol("second", FUNCTION, 1, 16, 0);
        let module = functions(&object).unwrap();
        let found: Vec<_> = module.functions.iter().map(|f| f.instructions.len()).collect();
        assert_eq!(found, [2, 1]);
    }

    #[test]
    fn a_section_without_functions_is_one() {
        let module = functions(&exits(2)).unwrap();
        assert_eq!(module.functions.len(), 1);
        assert_eq!(module.functions[0].name, "xdp");
    }

    #[test]
    fn of_aliases_the_first_in_the_symbol_table_counts() {
        let mut object = exits(1);
        object.symbol("hidden", STATIC_FUNCTION, 1, 0, 8);
        object.symbol("visible", FUNCTION, 1, 0, 8);
        let module = functions(&object).unwrap();
        assert_eq!(module.functions.len(), 1);
        assert_eq!(module.functions[0].name, "hidden");
    }

    #[test]
    fn refuses_functions_that_do_not_tile() {
        type Symbols = &'static [(&'static str, u64, u64)];
        let cases: [(Symbols, &str); 6] = [
            (
                &[("late", 8, 16)],
                "section `xdp` at 0x8: `late`: instructions before it belong to no function",
            ),
            (
                &[("short", 0, 8)],
                "section `xdp` at 0x0: `short`: instructions after it belong to no function",
            ),
            (
                &[("short", 0, 8), ("late", 16, 8)],
                "section `xdp` at 0x10: `late`: instructions before it belong to no function",
            ),
            (
                &[("long", 0, 16), ("inside", 8, 16)],
                "section `xdp` at 0x0: `long`: overlaps the function after it",
            ),
            (
                &[("whole", 0, 24), ("empty", 24, 0)],
                "section `xdp` at 0x18: `empty`: an empty function",
            ),
            (
                &[("first", 0, 4), ("odd", 4, 20)],
                "section `xdp` at 0x4: `odd`: begins in the middle of an instruction",
            ),
        ];
        for (symbols, expected) in cases {
            let mut object = exits(3);
            for (name, value, size) in symbols {
                object.symbol(name, FUNCTION, 1, *value, *size);
            }
            assert_eq!(message(&object), expected);
        }
        let mut object = exits(1);
        object.symbol("", FUNCTION, 1, 0, 8);
        assert_eq!(
            message(&object),
            "section `xdp` at 0x0: a function symbol without a name"
        );
    }

    #[test]
    fn refuses_what_is_no_code() {
        let mut object = Object::default();
        object.section("xdp", PROGBITS, EXEC, &[0x95, 0, 0, 0]);
        assert_eq!(
            message(&object),
            "section `xdp`: its size is no whole number of instructions"
        );
        let mut object = Object::default();
        let section = object.nobits("xdp", 8);
        object.sections[usize::from(section) - 1].flags = EXEC;
        assert_eq!(message(&object), "section `xdp`: executable, but without instructions");
        let mut object = exits(1);
        object.section("xdp", PROGBITS, EXEC, &EXIT);
        assert_eq!(
            message(&object),
            "section `xdp`: two sections with instructions have this name"
        );
        assert_eq!(message(&Object::default()), "the object has no program");
        assert_eq!(
            message(&exits(MAX_SLOTS + 1)),
            "section `xdp`: more than 1000000 instructions"
        );
    }

    #[test]
    fn programs_and_subprograms_are_told_apart() {
        use FunctionKind::{Program as P, Subprogram as S};
        // Per function: section, static, which function it calls.
        type Row = (&'static str, bool, Option<u32>);
        let cases: [(&[Row], &[FunctionKind]); 8] = [
            // A lone function is a program, wherever it is.
            (&[(".text", false, None)], &[P]),
            (&[(".text", true, None)], &[P]),
            // .text beside another section is for subprograms, called or not.
            (&[(".text", false, None), ("xdp", false, Some(1))], &[S, P]),
            (&[(".text", false, None), ("xdp", false, None)], &[S, P]),
            // .text alone: what another function calls is a subprogram, itself does not count.
            (&[(".text", false, None), (".text", false, Some(1))], &[S, P]),
            (&[(".text", false, Some(1)), (".text", false, None)], &[P, P]),
            // Elsewhere a static function that is called is a subprogram, one that is not would get lost.
            (&[("xdp", false, Some(2)), ("xdp", true, None)], &[P, S]),
            (
                &[("xdp", false, Some(2)), ("xdp", false, None), ("xdp", true, None)],
                &[P, P, P],
            ),
        ];
        for (rows, expected) in cases {
            let mut object = Object::default();
            for (number, (name, is_static, callee)) in rows.iter().enumerate() {
                if object.sections.last().is_none_or(|last| last.name != *name) {
                    object.section(name, PROGBITS, EXEC, &[]);
                }
                let section = object.sections.len() as u16;
                let code = &mut object.sections.last_mut().unwrap().data;
                let start = code.len() as u64;
                code.extend(callee.map_or(&[][..], |_| &CALL));
                code.extend(EXIT);
                let size = code.len() as u64 - start;
                let info = if *is_static { STATIC_FUNCTION } else { FUNCTION };
                object.symbol(&format!("f{number}"), info, section, start, size);
                if let Some(callee) = callee {
                    object.relocate(section, &[(start, 10, *callee)]);
                }
            }
            let module = functions(&object).unwrap();
            let kinds: Vec<_> = module.functions.iter().map(|f| f.kind).collect();
            assert_eq!(kinds, expected, "{rows:?}");
        }
    }

    #[test]
    fn refuses_two_programs_of_one_name() {
        let mut object = exits(1);
        object.symbol("same", FUNCTION, 1, 0, 8);
        let bind = object.section("bind", PROGBITS, EXEC, &EXIT);
        object.symbol("same", STATIC_FUNCTION, bind, 0, 8);
        assert_eq!(
            message(&object),
            "section `bind` at 0x0: `same`: two programs have this name"
        );
    }
}
