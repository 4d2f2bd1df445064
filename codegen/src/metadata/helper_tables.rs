//! Which helpers a program calls (native module contract §7, "Helpers").
//!
//! A table of a program of its own is in order of first call; one that all programs share is ascending by id.

use std::collections::BTreeSet;

use bpf2sys_bytecode::Callee;
use bpf2sys_platform::Platform;
use bpf2sys_verifier::{VerifiedModule, VerifiedProgram};

use super::slots::{Slots, calls_of, unreached_calls};
use crate::error::{InstructionProblem, LowerError};
use crate::lowering::instruction_error;

/// The helper tables of a module.
pub(crate) type HelperTables = Slots<u32>;

impl HelperTables {
    /// Collects the helpers of every program.
    ///
    /// Calls in dead code count too, as they do in bpf2c's tables, unless the program type has no such helper or nobody
    /// implements it: nothing will call it, and the runtime would refuse the module for it.
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
    let mut seen = BTreeSet::new();
    let mut order = Vec::new();
    for call in calls_of(verified, program) {
        let Callee::Helper(number) = call.callee else {
            continue;
        };
        let id = u32::try_from(number).ok().filter(|id| *id != 0);
        let helper = id.and_then(|id| platform.helper(&program.program_type, id));
        if helper.is_none() && call.reachable {
            let problem = InstructionProblem::UnknownHelper(number);
            return Err(instruction_error(verified.module(), call.function, call.index, problem));
        }
        let listed = helper.filter(|helper| call.reachable || program.program_type.implements(helper));
        order.extend(listed.map(|helper| helper.id).filter(|id| seen.insert(*id)));
    }
    Ok(order)
}

#[cfg(test)]
mod tests {
    use bpf2sys_bytecode::{FunctionIndex, Instruction};
    use bpf2sys_platform::Platform;

    use super::HelperTables;
    use crate::testing::{EXIT, call, helper, module, mov, program, subprogram, trusted, verified};

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

    #[test]
    fn helpers_that_only_dead_code_calls_are_listed_if_the_runtime_has_them() {
        let mut platform = Platform::builtin();
        let unimplemented = platform.helpers.iter_mut().find(|h| h.id == 12).unwrap();
        unimplemented.default_implementation = false;
        let code = [mov(0, 1), EXIT, helper(9), helper(12), helper(8), mov(0, 1), EXIT];
        let verified = verified(module(vec![program("p", "xdp", &code)]));
        let tables = HelperTables::of_module(&verified, &platform).unwrap();
        assert_eq!(tables.of_program(0), [Some(9), Some(8)]);
    }

    #[test]
    fn a_subprogram_that_no_program_reaches_has_slots_that_are_holes() {
        let tables = tables(vec![
            program("p1", "bind", &calling(&[9])),
            subprogram("unreached", &calling(&[2, 0, -1])),
        ]);
        assert_eq!(tables.of_program(0), [None, Some(9)]);
        assert_eq!(tables.slot(FunctionIndex(0), 9), Some(1));
    }

    /// The id is `bpf_xdp_adjust_head` in one of the programs, and `bpf_sock_ops_get_flow_id` in the other.
    #[test]
    fn programs_of_two_types_share_the_slot_of_an_id_that_means_a_helper_of_each() {
        let module = module(vec![
            program("a", "xdp", &[call(2), mov(0, 1), EXIT]),
            program("b", "sockops", &[call(2), mov(0, 0), EXIT]),
            subprogram("sub", &[mov(2, 0), helper(65536), mov(0, 0), EXIT]),
        ]);
        let verified = verified(module);
        let platform = Platform::builtin();
        let tables = HelperTables::of_module(&verified, &platform).unwrap();
        assert_eq!(tables.of_program(0), [Some(65536)]);
        assert_eq!(tables.of_program(1), [Some(65536)]);
        let names = verified
            .programs()
            .iter()
            .map(|p| platform.helper(&p.program_type, 65536).unwrap().name.as_str());
        assert_eq!(
            names.collect::<Vec<_>>(),
            ["bpf_xdp_adjust_head", "bpf_sock_ops_get_flow_id"]
        );
        // A program of a type without the id is not verified with that subprogram.
        let mut third = verified.module().clone();
        third.functions.push(program("c", "bind", &[call(2), mov(0, 0), EXIT]));
        assert!(bpf2sys_verifier::verify(third, &platform, &bpf2sys_verifier::Options::default()).is_err());
    }
}
