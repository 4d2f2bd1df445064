//! Which maps a program needs (native module contract §4.4, §7 "`referenced_map_indices`").

use std::collections::BTreeSet;

use bpf2sys_bytecode::{Imm64, Instruction, MapIndex, Module};
use bpf2sys_verifier::VerifiedProgram;

/// The maps whose addresses a program or a subprogram it reaches loads, those behind global variables included, ascending.
/// The runtime fills in the addresses of these maps only. Maps that are only templates or initial values are not among
/// them.
pub(crate) fn referenced_maps(module: &Module, program: &VerifiedProgram) -> Vec<MapIndex> {
    let functions = std::iter::once(&program.function).chain(&program.reachable);
    let maps: BTreeSet<MapIndex> = functions
        .flat_map(|index| &module.function(*index).instructions)
        .filter_map(|insn| match insn.op {
            Instruction::LoadImm64 {
                value: Imm64::Map(map), ..
            } => Some(map),
            Instruction::LoadImm64 {
                value: Imm64::Global { section, .. },
                ..
            } => module.globals.get(section.index()).map(|global| global.map),
            _ => None,
        })
        .collect();
    maps.into_iter().collect()
}
