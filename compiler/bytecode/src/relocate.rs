//! Resolves what the relocations of a code section refer to.

use std::collections::BTreeMap;

use object::elf::{R_BPF_64_32, R_BPF_64_64, R_BPF_NONE, STT_SECTION};

use crate::decode::References;
use crate::elf::{Elf, Home, Relocation, SectionIndex};
use crate::error::{Problem, ReadError};
use crate::externs::Externs;
use crate::functions::{CodeSection, FunctionTable};
use crate::maps::MapTable;
use crate::{Callee, FunctionIndex, GlobalIndex, Imm64, Slot, opcode};

/// What the instructions of a section refer to, by slot of the section.
#[derive(Default)]
pub(crate) struct Resolved {
    constants: BTreeMap<u32, Imm64>,
    calls: BTreeMap<u32, Callee>,
    /// What nothing is known of.
    pub(crate) unresolved: BTreeMap<u32, Unknown>,
}

/// A reference that nothing is known of.
pub(crate) struct Unknown {
    /// Why.
    pub(crate) reason: String,
    /// It is the address of this function.
    pub(crate) address_of: Option<FunctionIndex>,
}

/// A reference of an object for Linux to what is not known. Verification refuses it where it is reached.
const UNKNOWN: Imm64 = Imm64::Pseudo {
    src: opcode::LDDW_CODE,
    imm: 0,
    next_imm: 0,
};

impl Resolved {
    /// Resolves the relocations of a section. `is_joined`: see [`Elf::is_joined`].
    pub(crate) fn read(
        elf: &Elf<'_>,
        table: &FunctionTable<'_>,
        maps: &MapTable,
        externs: &Externs<'_>,
        code: &CodeSection<'_>,
        is_joined: bool,
    ) -> Result<Resolved, ReadError> {
        let mut resolved = Resolved::default();
        for relocation in elf.relocations(&code.section)? {
            let fail = |problem| {
                let place = code.section.place().at(relocation.offset);
                place.of_symbol(relocation.symbol.name).error(problem)
            };
            if relocation.kind == R_BPF_NONE.0 {
                continue;
            }
            if !relocation.offset.is_multiple_of(Slot::SIZE as u64) {
                return Err(fail(Problem::Malformed("a relocation inside an instruction")));
            }
            if is_joined && relocation.symbol.kind == STT_SECTION {
                return Err(fail(Problem::JoinedUnits));
            }
            // The offset is inside the section, whose length in slots fits.
            let slot = (relocation.offset / Slot::SIZE as u64) as u32;
            let mut slots = code.slots.iter().skip(slot as usize).copied();
            let (first, second) = (slots.next().unwrap_or_default(), slots.next());
            match (relocation.kind, first.opcode) {
                (kind, opcode::LDDW) if kind == R_BPF_64_64.0 && first.src <= opcode::LDDW_MAP_VALUE => {
                    let second = second.unwrap_or_default();
                    let addend = i64::from(second.imm) << 32 | i64::from(first.imm.cast_unsigned());
                    let value = match of_kernel(table, maps, externs, &relocation, addend) {
                        Some(Ok(value)) => value,
                        Some(Err(unknown)) => {
                            resolved.unresolved.insert(slot, unknown);
                            UNKNOWN
                        }
                        None => constant(elf, table, maps, externs, &relocation, addend).map_err(fail)?,
                    };
                    resolved.constants.insert(slot, value);
                }
                (kind, opcode::CALL_IMM) if kind == R_BPF_64_32.0 && first.src == opcode::CALL_LOCAL => {
                    let callee = callee(table, externs, &relocation, first).map_err(fail)?;
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

fn defined(relocation: &Relocation<'_, '_>, externs: &Externs<'_>) -> Result<SectionIndex, Problem> {
    match relocation.symbol.home {
        Home::Section(section) => Ok(section),
        Home::Undefined => Err(externs.no_address(relocation.symbol.name)),
        Home::Common => Err(Problem::Unsupported(
            "a variable without a place in a section; compile with `-fno-common`",
        )),
        Home::Special => Err(Problem::Reference("refers to a symbol that is in no section")),
    }
}

/// What a `lddw` of an object for Linux loads that refers to the kernel or to code, or why nothing. None for anything else.
fn of_kernel(
    table: &FunctionTable<'_>,
    maps: &MapTable,
    externs: &Externs<'_>,
    relocation: &Relocation<'_, '_>,
    addend: i64,
) -> Option<Result<Imm64, Unknown>> {
    match relocation.symbol.home {
        Home::Undefined => Some(match externs.of_kernel(relocation.symbol)? {
            Err(reason) => Err(Unknown {
                reason,
                address_of: None,
            }),
            Ok(place) => Ok(match place {
                Some(place) => {
                    // The section of the configuration is there if anything is in it.
                    let (section, offset) = (maps.configuration.unwrap_or(GlobalIndex(0)), i64::from(place) + addend);
                    let size = maps.globals.get(section.index()).map_or(0, |global| global.data.len());
                    match u32::try_from(offset) {
                        Ok(offset) if offset as usize <= size => Imm64::Global { section, offset },
                        _ => UNKNOWN,
                    }
                }
                None => Imm64::Constant(addend.cast_unsigned()),
            }),
        }),
        Home::Section(home) if externs.is_for_linux() && table.code(home).is_some() => {
            let offset = relocation.symbol.value.checked_add_signed(addend);
            Some(Err(Unknown {
                reason: "the address of a function is taken".to_owned(),
                address_of: offset.and_then(|offset| table.at(home, offset)),
            }))
        }
        _ => None,
    }
}

/// What a `lddw` loads: symbol plus what its two immediates hold.
fn constant(
    elf: &Elf<'_>,
    table: &FunctionTable<'_>,
    maps: &MapTable,
    externs: &Externs<'_>,
    relocation: &Relocation<'_, '_>,
    addend: i64,
) -> Result<Imm64, Problem> {
    let home = defined(relocation, externs)?;
    let offset = relocation
        .symbol
        .value
        .checked_add_signed(addend)
        .ok_or(Problem::Reference("refers to a place before the section"))?;
    if maps.is_map_section(home) {
        return maps
            .map_at(home, offset)
            .map(Imm64::Map)
            .ok_or(Problem::Reference("refers to a place where no map begins"));
    }
    if let Some((index, global)) = maps.global(home) {
        let offset = u32::try_from(offset)
            .ok()
            .filter(|offset| *offset as usize <= global.data.len())
            .ok_or(Problem::Reference("refers to a place outside of the global variables"))?;
        return Ok(Imm64::Global { section: index, offset });
    }
    if table.code(home).is_some() {
        return Err(Problem::Unsupported(
            "the address of a function is taken, which is not done yet",
        ));
    }
    Err(Problem::NotData(elf.section(home).map_or("", |s| s.name).to_owned()))
}

/// The function that a call calls: symbol plus immediate, which counts slots from the next instruction.
fn callee(
    table: &FunctionTable<'_>,
    externs: &Externs<'_>,
    relocation: &Relocation<'_, '_>,
    call: Slot,
) -> Result<Callee, Problem> {
    let distance = (i64::from(call.imm) + 1) * Slot::SIZE as i64;
    if relocation.symbol.home == Home::Undefined {
        return match externs.index(relocation.symbol.name) {
            Some(function) if distance == 0 => Ok(Callee::Btf(function)),
            Some(_) => Err(Problem::Reference(
                "calls a place inside of a function of another module",
            )),
            None => Err(Problem::UndefinedFunction),
        };
    }
    let section = defined(relocation, externs)?;
    relocation
        .symbol
        .value
        .checked_add_signed(distance)
        .and_then(|offset| table.at(section, offset))
        .map(Callee::Local)
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

    fn call(&self, slot: u32, imm: i32) -> Option<Callee> {
        let slot = self.start + slot;
        if let Some(callee) = self.resolved.calls.get(&slot) {
            return Some(*callee);
        }
        // Calls inside a section need no relocation.
        self.code
            .at_slot(u32::try_from(i64::from(slot) + 1 + i64::from(imm)).ok()?)
            .map(Callee::Local)
    }
}

#[cfg(test)]
mod tests {
    use crate::testing::{CALL, DATA, EXEC, EXIT, FUNCTION, IMM64, OBJECT, Object, PROGBITS};
    use crate::{Imm64, Instruction, read};

    const ABS64: u32 = 1;
    const CALL32: u32 = 10;
    /// `STB_LOCAL`, `STT_SECTION`.
    const SECTION: u8 = 0x03;

    /// A program of `lddw` and `exit` whose `lddw` refers to symbol 2, at an addend.
    fn loading(addend: i64) -> Object {
        let mut first = IMM64;
        first[4..8].copy_from_slice(&(addend as i32).to_le_bytes());
        first[12..16].copy_from_slice(&((addend >> 32) as i32).to_le_bytes());
        let mut object = Object::with_program(&[&first[..], &EXIT].concat());
        object.relocate(1, &[(0, ABS64, 2)]);
        object
    }

    fn loaded(object: &Object) -> Result<Instruction, String> {
        let module = read(&object.build(), "test.o").map_err(|e| e.to_string())?;
        Ok(module.functions[0].instructions[0].op)
    }

    fn constant(object: &Object) -> Result<Imm64, String> {
        match loaded(object)? {
            Instruction::LoadImm64 { value, .. } => Ok(value),
            other => Err(other.to_string()),
        }
    }

    #[test]
    fn a_constant_is_symbol_plus_addend() {
        // By a symbol of the variable, and by the section's own.
        for (value, addend, offset) in [(8, 0, 8), (8, 4, 12), (0, 12, 12), (8, -8, 0), (16, 0, 16)] {
            let mut object = loading(addend);
            let data = object.section(".data", PROGBITS, DATA, &[7; 16]);
            object.symbol("variable", OBJECT, data, value, 0);
            let Ok(Imm64::Global { section, offset: found }) = constant(&object) else {
                panic!("{:?}", constant(&object));
            };
            assert_eq!((section.0, found), (0, offset), "{value} + {addend}");
        }
    }

    #[test]
    fn a_map_is_found_by_its_sections_symbol_too() {
        // As compilers refer to static maps.
        for (addend, expected) in [(0, Ok(0)), (16, Ok(1)), (8, Err(())), (32, Err(()))] {
            let mut object = loading(addend);
            let maps = object.section("maps", PROGBITS, DATA, &[1, 0, 0, 0].repeat(8));
            object.symbol("", SECTION, maps, 0, 0);
            object.symbol("first", OBJECT, maps, 0, 16);
            object.symbol("second", OBJECT, maps, 16, 16);
            match (constant(&object), expected) {
                (Ok(Imm64::Map(map)), Ok(index)) => assert_eq!(map.0, index),
                (Err(error), Err(())) => {
                    assert_eq!(error, "section `xdp` at 0x0: refers to a place where no map begins");
                }
                (found, _) => panic!("{addend}: {found:?}"),
            }
        }
    }

    #[test]
    fn refuses_constants_that_lead_nowhere() {
        for (value, addend, expected) in [
            (8, 9, "refers to a place outside of the global variables"),
            (
                8,
                i64::from(u32::MAX),
                "refers to a place outside of the global variables",
            ),
            (8, -9, "refers to a place before the section"),
        ] {
            let mut object = loading(addend);
            let data = object.section(".data", PROGBITS, DATA, &[7; 16]);
            object.symbol("variable", OBJECT, data, value, 0);
            assert_eq!(
                constant(&object),
                Err(format!("section `xdp` at 0x0: `variable`: {expected}"))
            );
        }
        let mut object = loading(0);
        let other = object.section("license", PROGBITS, DATA, b"GPL\0");
        object.symbol("text", OBJECT, other, 0, 4);
        assert_eq!(
            constant(&object),
            Err(
                "section `xdp` at 0x0: `text`: refers to section `license`, which holds neither maps nor global variables".into()
            )
        );
        let mut object = loading(0);
        object.symbol("extern", OBJECT, 0, 0, 0);
        assert_eq!(
            constant(&object),
            Err("section `xdp` at 0x0: `extern`: the symbol is not defined in this object".into())
        );
        let mut object = loading(0);
        object.symbol("absolute", OBJECT, 0xfff1, 0, 0);
        assert_eq!(
            constant(&object),
            Err("section `xdp` at 0x0: `absolute`: refers to a symbol that is in no section".into())
        );
    }

    #[test]
    fn a_call_goes_to_symbol_plus_distance() {
        // The callee by its own symbol, and by a symbol eight bytes before it.
        for (value, imm) in [(8, -1), (0, 0)] {
            let mut call = CALL;
            call[4..].copy_from_slice(&i32::to_le_bytes(imm));
            let mut object = Object::with_program(&[call, EXIT].concat());
            let text = object.section(".text", PROGBITS, EXEC, &[EXIT, EXIT].concat());
            object.symbol("first", FUNCTION, text, 0, 8);
            object.symbol("second", FUNCTION, text, 8, 8);
            let place = object.symbol("place", OBJECT, text, value, 0);
            object.relocate(1, &[(0, CALL32, place)]);
            assert_eq!(loaded(&object).map(|i| i.to_string()), Ok("call function 2".to_owned()));
        }
    }

    #[test]
    fn refuses_calls_of_what_is_no_function() {
        for (section, value, expected) in [
            (1, 8, "calls a place where no function begins"),
            (1, 4, "calls a place where no function begins"),
            (2, 0, "calls a place where no function begins"),
        ] {
            let mut object = Object::with_program(&[CALL, EXIT].concat());
            object.section(".data", PROGBITS, DATA, &[0; 8]);
            let symbol = object.symbol("callee", OBJECT, section, value, 0);
            object.relocate(1, &[(0, CALL32, symbol)]);
            assert_eq!(
                loaded(&object),
                Err(format!("section `xdp` at 0x0: `callee`: {expected}"))
            );
        }
    }

    #[test]
    fn refuses_relocations_that_do_not_fit_the_instruction() {
        let mut at_exit = Object::with_program(&EXIT);
        at_exit.relocate(1, &[(0, ABS64, 1)]);
        let mut in_second_half = Object::with_program(&[&IMM64[..], &EXIT].concat());
        in_second_half.relocate(1, &[(8, ABS64, 1)]);
        let mut unknown = Object::with_program(&[&IMM64[..], &EXIT].concat());
        unknown.relocate(1, &[(0, 3, 1)]);
        let mut helper = CALL;
        helper[1] = 0;
        let mut helper = Object::with_program(&[helper, EXIT].concat());
        helper.relocate(1, &[(0, CALL32, 1)]);
        let mut by_index = IMM64;
        by_index[1] = 0x51;
        let mut by_index = Object::with_program(&[&by_index[..], &EXIT].concat());
        by_index.relocate(1, &[(0, ABS64, 1)]);
        for (object, offset, kind) in [
            (at_exit, 0, ABS64),
            (in_second_half, 8, ABS64),
            (unknown, 0, 3),
            (helper, 0, CALL32),
            (by_index, 0, ABS64),
        ] {
            assert_eq!(
                loaded(&object),
                Err(format!(
                    "section `xdp` at {offset:#x}: `entry`: relocation type {kind} cannot be applied to this instruction"
                ))
            );
        }
        let mut odd = Object::with_program(&EXIT);
        odd.relocate(1, &[(4, ABS64, 1)]);
        assert_eq!(
            loaded(&odd),
            Err("section `xdp` at 0x4: `entry`: a relocation inside an instruction".into())
        );
    }

    #[test]
    fn a_relocation_of_type_none_does_nothing() {
        let mut object = Object::with_program(&EXIT);
        object.relocate(1, &[(4, 0, 1)]);
        assert_eq!(loaded(&object), Ok(Instruction::Exit));
    }
}
