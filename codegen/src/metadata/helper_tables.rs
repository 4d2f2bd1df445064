//! Which helpers a program calls (native module contract §7, "Helpers").
//!
//! A table of a program of its own is in order of first call; one that all programs share is ascending by id.

use std::collections::BTreeSet;

use bpf2sys_bytecode::{Callee, Instruction, Module};
use bpf2sys_platform::Platform;
use bpf2sys_verifier::{VerifiedModule, VerifiedProgram};

use super::slots::{Slots, unreached_calls};
use crate::error::{InstructionProblem, LowerError};
use crate::lowering::instruction_error;

/// The helper tables of a module.
pub(crate) type HelperTables = Slots<u32>;

impl HelperTables {
    /// Collects the helpers of every program.
    ///
    /// Calls in dead code count too, as they do in bpf2c's tables, unless the program type has no such helper: nothing
    /// will call it, and the runtime would refuse the module for it.
    pub(crate) fn of_module(verified: &VerifiedModule, platform: &Platform) -> Result<HelperTables, LowerError> {
        let programs = verified.programs().iter();
        let used: Vec<Vec<u32>> = programs
            .map(|program| called_by(verified, platform, program))
            .collect::<Result<_, _>>()?;
        let unreached: Vec<u32> = unreached_calls(verified)
            .filter_map(|callee| match callee {
                Callee::Helper(number) => u32::try_from(number).ok().filter(|id| *id != 0),
                _ => None,
            })
            .collect();
        Ok(Slots::of(verified, used, &unreached))
    }
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
        HelperTables::of_module(&trusted(module(functions)), &Platform::builtin()).unwrap()
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
