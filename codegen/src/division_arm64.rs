//! Removes the checks that Cranelift puts before divisions.
//!
//! Given: a function's code and where Cranelift says that it traps.
//! Computed: the code without the traps of divisions.
//! Safe because: ARM64's `udiv` and `sdiv` do not trap; a divisor 0 gives the quotient 0. Cranelift's divisions do trap, so
//! it emits `cbz divisor, L` in front of each and `udf` at `L`. The IR never divides by 0 (`lowering::alu`), so the branch
//! is never taken and a `nop` does the same. Only a branch to what Cranelift itself calls the trap of a division by zero is
//! replaced; the audit refuses every trap that is left.

use std::collections::BTreeSet;

use cranelift_codegen::MachTrap;
use cranelift_codegen::ir::TrapCode;

use crate::instruction_arm64::{Insn, Opcode, Role};

/// Replaces the branches to division traps by `nop`, and cuts those traps off that are at the end of the code.
pub(crate) fn remove_checks(code: &mut Vec<Insn>, traps: &[MachTrap]) {
    let mut division: BTreeSet<u32> = traps
        .iter()
        .filter(|trap| trap.code == TrapCode::INTEGER_DIVISION_BY_ZERO)
        .map(|trap| trap.offset)
        .collect();
    for insn in code.iter_mut() {
        if insn.op.opcode == Opcode::CBZ && insn.target().is_some_and(|target| division.contains(&target)) {
            insn.remove();
        }
    }
    while let Some(last) = code.last()
        && last.role() == Some(Role::Trap)
        && division.remove(&last.offset)
    {
        code.pop();
    }
}
