//! Which functions of other Windows modules a program calls: its BTF-resolved functions (native module contract §4.7, §7).
//!
//! The runtime hashes them in the order of the table, and the hash that a module states counts them sorted by the module's
//! GUID and then by name (§4.8). [`Module::btf_functions`] is sorted so, and with it every table here.

use std::collections::BTreeSet;

use bpf2sys_bytecode::{BtfFunctionIndex, Callee};
use bpf2sys_platform::Platform;
use bpf2sys_verifier::{VerifiedModule, VerifiedProgram};

use super::slots::{Slots, calls_of, unreached_calls};
use crate::RuntimeLevel;
use crate::error::{Feature, InstructionProblem, LevelProblem, LowerError};
use crate::lowering::{instruction_error, place};

/// The tables of BTF-resolved functions of a module.
pub(crate) type BtfTables = Slots<BtfFunctionIndex>;

impl BtfTables {
    /// Collects the functions that every program calls. Calls in dead code count too, as they do in bpf2c's tables, unless
    /// nobody offers the function: nothing will call it, and the runtime would refuse the module for it.
    ///
    /// # Errors
    /// A call of a function that nobody offers, or any call if `level` has no such functions.
    pub(crate) fn of_module(
        verified: &VerifiedModule,
        platform: &Platform,
        level: RuntimeLevel,
    ) -> Result<BtfTables, LowerError> {
        let programs = verified.programs().iter();
        let used: Vec<Vec<BtfFunctionIndex>> = programs
            .map(|program| called_by(verified, platform, level, program))
            .collect::<Result<_, _>>()?;
        let unreached: Vec<BtfFunctionIndex> = unreached_calls(verified)
            .filter_map(|callee| match callee {
                Callee::Btf(function) if level.has_btf_functions() => Some(function),
                _ => None,
            })
            .collect();
        Ok(Slots::of(verified, used, &unreached))
    }
}

/// The functions that a program and the subprograms it reaches call, each once, ascending.
fn called_by(
    verified: &VerifiedModule,
    platform: &Platform,
    level: RuntimeLevel,
    program: &VerifiedProgram,
) -> Result<Vec<BtfFunctionIndex>, LowerError> {
    let module = verified.module();
    let mut called = BTreeSet::new();
    for call in calls_of(verified, program) {
        let Callee::Btf(callee) = call.callee else {
            continue;
        };
        let failed = |problem| instruction_error(module, call.function, call.index, problem);
        let Some(known) = module.btf_functions.get(callee.index()) else {
            return Err(failed(InstructionProblem::Reference));
        };
        let offered = platform.btf_function(known.module, &known.name).is_some();
        if call.reachable && !offered {
            return Err(failed(InstructionProblem::UnknownBtfFunction(Box::new(known.clone()))));
        }
        if call.reachable && !level.has_btf_functions() {
            let problem = LevelProblem {
                place: place(module, call.function, call.index),
                feature: Feature::BtfFunction(known.clone()),
                level,
                needed: RuntimeLevel::V1_6,
            };
            return Err(Box::new(problem).into());
        }
        if offered && level.has_btf_functions() {
            called.insert(callee);
        }
    }
    Ok(called.into_iter().collect())
}
