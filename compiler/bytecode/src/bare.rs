//! Makes a [`Module`] of instructions that come without an object file, as tests of the instruction set have them.

use std::collections::BTreeSet;

use crate::decode::{References, decode};
use crate::error::{Place, Problem, ReadError};
use crate::{
    Callee, DataTypes, Function, FunctionIndex, FunctionKind, HashAlgorithm, Imm64, MAX_SLOTS, Module, Slot, opcode,
};

/// Reads encoded instructions as one program called `name` in a section called `name`, without maps. Wherever a local
/// call goes, a subprogram begins; subprograms are called `name` with their slot's number behind it.
///
/// # Errors
/// The first thing that is wrong with the instructions, with its offset in bytes.
pub fn read_instructions(code: &[u8], name: &str) -> Result<Module, ReadError> {
    let fail = |problem| Place::section(name).error(problem);
    if name.is_empty() || name.contains('\0') {
        return Err(Place::file().error(Problem::Name("the program needs a name")));
    }
    let slots = Slot::all_from_bytes(code)
        .ok_or_else(|| fail(Problem::Malformed("the size is no whole number of instructions")))?;
    if slots.is_empty() {
        return Err(fail(Problem::NoPrograms));
    }
    if slots.len() > MAX_SLOTS {
        return Err(fail(Problem::TooMuch {
            what: "instructions",
            limit: MAX_SLOTS as u64,
        }));
    }
    let starts = function_starts(&slots);
    let mut functions = Vec::with_capacity(starts.len());
    for (index, start) in starts.iter().enumerate() {
        let end = starts.get(index + 1).map_or(slots.len(), |next| *next as usize);
        let own = slots.get(*start as usize..end).unwrap_or_default();
        let offset = |slot: u32| u64::from(start + slot) * Slot::SIZE as u64;
        let references = Starts {
            starts: &starts,
            own: *start,
        };
        let instructions = decode(own, &references).map_err(|e| {
            Place::section(name).at(offset(e.slot)).error(Problem::Instruction {
                bytes: e.bytes,
                reason: e.reason,
            })
        })?;
        functions.push(Function {
            name: if index == 0 {
                name.to_owned()
            } else {
                format!("{name}{start}")
            },
            section: name.to_owned(),
            section_offset: offset(0),
            kind: if index == 0 {
                FunctionKind::Program
            } else {
                FunctionKind::Subprogram
            },
            instructions,
        });
    }
    Ok(Module {
        name: name.to_owned(),
        hash: Some(HashAlgorithm::Sha256.of(code)),
        functions,
        maps: Vec::new(),
        globals: Vec::new(),
        btf_functions: Vec::new(),
        types: DataTypes::default(),
        lines: Vec::new(),
        unresolved: Vec::new(),
    })
}

/// The first slot, and those that local calls go to, ascending.
fn function_starts(slots: &[Slot]) -> Vec<u32> {
    let mut starts = BTreeSet::from([0]);
    let mut second_half = false;
    for (position, slot) in slots.iter().enumerate() {
        if second_half {
            second_half = false;
            continue;
        }
        second_half = slot.opcode == opcode::LDDW;
        if slot.opcode == opcode::CALL_IMM && slot.src == opcode::CALL_LOCAL {
            let target = position as i64 + 1 + i64::from(slot.imm);
            starts.extend(u32::try_from(target).ok().filter(|t| (*t as usize) < slots.len()));
        }
    }
    starts.into_iter().collect()
}

/// Local calls of bare instructions: the functions begin at known slots.
struct Starts<'s> {
    starts: &'s [u32],
    /// Where the function itself begins.
    own: u32,
}

impl References for Starts<'_> {
    fn imm64(&self, _slot: u32) -> Option<Imm64> {
        None
    }

    fn call(&self, slot: u32, imm: i32) -> Option<Callee> {
        let target = i64::from(self.own) + i64::from(slot) + 1 + i64::from(imm);
        let position = self.starts.binary_search(&u32::try_from(target).ok()?).ok()?;
        Some(Callee::Local(FunctionIndex(position as u32)))
    }
}

#[cfg(test)]
mod tests {
    use super::read_instructions;
    use crate::{Callee, FunctionIndex, FunctionKind, Instruction};

    const CALL_FORWARD: [u8; 8] = [0x85, 0x10, 0, 0, 1, 0, 0, 0];
    const EXIT: [u8; 8] = [0x95, 0, 0, 0, 0, 0, 0, 0];

    #[test]
    fn a_subprogram_begins_where_a_local_call_goes() {
        let module = read_instructions(&[CALL_FORWARD, EXIT, EXIT].concat(), "bare").unwrap();
        let kinds: Vec<_> = module.functions.iter().map(|f| (f.name.as_str(), f.kind)).collect();
        assert_eq!(
            kinds,
            [("bare", FunctionKind::Program), ("bare2", FunctionKind::Subprogram)]
        );
        let call = Instruction::Call(Callee::Local(FunctionIndex(1)));
        assert_eq!(module.functions[0].instructions[0].op, call);
    }

    #[test]
    fn refuses_what_is_no_program() {
        for (code, name, message) in [
            (&[][..], "bare", "section `bare`: the object has no program"),
            (
                &EXIT[..7],
                "bare",
                "section `bare`: the size is no whole number of instructions",
            ),
            (&EXIT[..], "", "the program needs a name"),
            (
                &CALL_FORWARD[..],
                "bare",
                "section `bare` at 0x0: instruction 85 10 00 00 01 00 00 00: no function begins where this calls",
            ),
        ] {
            let error = read_instructions(code, name).unwrap_err();
            assert_eq!(error.to_string(), message);
        }
    }
}
