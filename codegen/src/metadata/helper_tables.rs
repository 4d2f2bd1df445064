//! Which helper is in which slot of a program's helper table (native module contract §7, "Helpers").
//!
//! A module without subprograms has a table per program, in order of first call. With subprograms, whose code is shared,
//! a helper needs the same slot in every program: then all tables have the same length, ascending by id, and a program
//! has a hole (id 0) for each helper that it does not reach.

use std::collections::{BTreeMap, BTreeSet};

use bpf2sys_bytecode::{Callee, FunctionIndex, FunctionKind, Instruction, Module};
use bpf2sys_platform::Platform;
use bpf2sys_verifier::{VerifiedModule, VerifiedProgram};

use crate::error::{InstructionProblem, LowerError};
use crate::lowering::instruction_error;

/// The helper tables of a module.
#[derive(Debug)]
pub(crate) struct HelperTables {
    /// By function: the slot of each helper id that its code may call.
    slots: Vec<BTreeMap<u32, u32>>,
    /// By program, in the order of [`VerifiedModule::programs`]: the ids, `None` for a hole.
    programs: Vec<Vec<Option<u32>>>,
}

impl HelperTables {
    /// Collects the helpers of every program.
    ///
    /// Calls in dead code count too, as they do in bpf2c's tables, unless the program type has no such helper: nothing
    /// will call it, and the runtime would refuse the module for it.
    pub(crate) fn of(verified: &VerifiedModule, platform: &Platform) -> Result<HelperTables, LowerError> {
        let module = verified.module();
        let shared = module.functions.iter().any(|f| f.kind == FunctionKind::Subprogram);
        let used: Vec<Vec<u32>> = verified
            .programs()
            .iter()
            .map(|program| called_by(verified, platform, program))
            .collect::<Result<_, _>>()?;
        let mut tables = HelperTables {
            slots: vec![BTreeMap::new(); module.functions.len()],
            programs: Vec::with_capacity(used.len()),
        };
        if shared {
            let all: BTreeSet<u32> = used.iter().flatten().copied().collect();
            let slots = number(all.iter().copied());
            tables.slots.fill(slots);
            for ids in used {
                let ids: BTreeSet<u32> = ids.into_iter().collect();
                tables
                    .programs
                    .push(all.iter().map(|id| ids.contains(id).then_some(*id)).collect());
            }
        } else {
            for (program, ids) in verified.programs().iter().zip(used) {
                tables.slots[program.function.index()] = number(ids.iter().copied());
                tables.programs.push(ids.into_iter().map(Some).collect());
            }
        }
        Ok(tables)
    }

    /// The slot of a helper in the table of every program that `function` can run in.
    pub(crate) fn slot(&self, function: FunctionIndex, id: i32) -> Option<u32> {
        let id = u32::try_from(id).ok()?;
        self.slots.get(function.index())?.get(&id).copied()
    }

    /// The table of the program at `position` of [`VerifiedModule::programs`]; `None` marks a hole.
    pub(crate) fn of_program(&self, position: usize) -> &[Option<u32>] {
        &self.programs[position]
    }
}

fn number(ids: impl Iterator<Item = u32>) -> BTreeMap<u32, u32> {
    ids.zip(0..).collect()
}

/// The helpers that a program and the subprograms it reaches call, each once, in order of first call.
fn called_by(
    verified: &VerifiedModule,
    platform: &Platform,
    program: &VerifiedProgram,
) -> Result<Vec<u32>, LowerError> {
    let module: &Module = verified.module();
    let mut seen = BTreeSet::new();
    let mut order = Vec::new();
    for &index in std::iter::once(&program.function).chain(&program.reachable) {
        let function = module.function(index);
        for (insn, position) in function.instructions.iter().zip(0_u32..) {
            let Instruction::Call(Callee::Helper(number)) = insn.op else {
                continue;
            };
            match u32::try_from(number) {
                Ok(id) if id != 0 && platform.helper(&program.program_type, id).is_some() => {
                    if seen.insert(id) {
                        order.push(id);
                    }
                }
                _ => {
                    let facts = verified.facts(index).instructions.get(position as usize);
                    if facts.is_none_or(|f| f.reachable) {
                        let index = bpf2sys_bytecode::InsnIndex(position);
                        return Err(instruction_error(
                            module,
                            function,
                            index,
                            InstructionProblem::UnknownHelper(number),
                        ));
                    }
                }
            }
        }
    }
    Ok(order)
}

#[cfg(test)]
mod tests {
    use bpf2sys_bytecode::{FunctionIndex, Instruction};
    use bpf2sys_platform::Platform;

    use super::HelperTables;
    use crate::testing::{EXIT, call, helper, module, mov, program, subprogram, trusted};

    fn tables(functions: Vec<bpf2sys_bytecode::Function>) -> HelperTables {
        HelperTables::of(&trusted(module(functions)), &Platform::builtin()).unwrap()
    }

    fn calling(ids: &[i32]) -> Vec<Instruction> {
        let mut code: Vec<Instruction> = ids.iter().map(|id| helper(*id)).collect();
        code.extend([mov(0, 0), EXIT]);
        code
    }

    /// As in bindmonitor of eBPF for Windows.
    #[test]
    fn without_subprograms_helpers_are_in_order_of_first_call() {
        let tables = tables(vec![
            program("a", "bind", &calling(&[19, 20, 21, 2, 1, 19, 22, 3, 1])),
            program("b", "bind", &calling(&[1])),
        ]);
        assert_eq!(tables.of_program(0), [19, 20, 21, 2, 1, 22, 3].map(Some));
        assert_eq!(tables.of_program(1), [Some(1)]);
        assert_eq!(tables.slot(FunctionIndex(0), 1), Some(4));
        assert_eq!(tables.slot(FunctionIndex(1), 1), Some(0));
        assert_eq!(tables.slot(FunctionIndex(1), 19), None);
    }

    /// As in `callgraph_bpf2bpf` of eBPF for Windows.
    #[test]
    fn with_subprograms_all_programs_have_the_same_slots() {
        let mut first = vec![call(3)];
        first.extend(calling(&[9]));
        let tables = tables(vec![
            program("p1", "bind", &first),
            program("p2", "bind", &calling(&[19])),
            program("p3", "bind", &[call(4), mov(0, 0), EXIT]),
            subprogram("s1", &calling(&[19])),
            subprogram("s2", &calling(&[2, 1, 19])),
        ]);
        assert_eq!(tables.of_program(0), [None, None, Some(9), Some(19)]);
        assert_eq!(tables.of_program(1), [None, None, None, Some(19)]);
        assert_eq!(tables.of_program(2), [Some(1), Some(2), None, Some(19)]);
        for function in 0..5 {
            assert_eq!(tables.slot(FunctionIndex(function), 19), Some(3));
        }
    }

    #[test]
    fn a_subprogram_without_helpers_still_makes_tables_equal() {
        let tables = tables(vec![
            program("p1", "bind", &calling(&[2, 1])),
            subprogram("s", &[mov(0, 0), EXIT]),
        ]);
        assert_eq!(tables.of_program(0), [Some(1), Some(2)]);
    }
}
