//! Removes the checks that Cranelift puts before divisions.
//!
//! Given: a function's code and where Cranelift says that it traps.
//! Computed: the code without the traps of divisions.
//! Safe because: ARM64's `udiv` and `sdiv` do not trap; a divisor 0 gives the quotient 0. Cranelift's divisions do trap, so
//! it emits `cbz divisor, L` in front of each and `udf` at `L`. The IR never divides by 0 (`lowering::alu`), so the branch
//! is never taken. Only a branch to what Cranelift itself calls the trap of a division by zero is
//! removed; the audit refuses every trap that is left.

use std::collections::BTreeSet;

use cranelift_codegen::MachTrap;
use cranelift_codegen::ir::TrapCode;

use crate::instruction_arm64::{Insn, Opcode, Role};
use crate::rewrite_arm64::Replacements;

/// Removes the branches to division traps, and cuts those traps off that are at the end of the code.
pub(crate) fn remove_checks(code: &mut Vec<Insn>, traps: &[MachTrap]) -> Replacements {
    let mut division: BTreeSet<u32> = traps
        .iter()
        .filter(|trap| trap.code == TrapCode::INTEGER_DIVISION_BY_ZERO)
        .map(|trap| trap.offset)
        .collect();
    let is_check =
        |insn: &Insn| insn.op.opcode == Opcode::CBZ && insn.target().is_some_and(|target| division.contains(&target));
    let checks = code.iter().enumerate().filter(|(_, insn)| is_check(insn));
    let removed = checks.map(|(position, _)| (position, Vec::new())).collect();
    while let Some(last) = code.last()
        && last.role() == Some(Role::Trap)
        && division.remove(&last.offset)
    {
        code.pop();
    }
    removed
}

#[cfg(test)]
mod tests {
    use cranelift_codegen::MachTrap;
    use cranelift_codegen::ir::TrapCode;

    use super::remove_checks;
    use crate::instruction_arm64::decode;

    const DIVIDE: u32 = 0x9AC2_0820; // udiv x0, x1, x2
    const RET: u32 = 0xD65F_03C0;
    const UDF: u32 = 0;
    const CHECK: u32 = 0xB400_0062; // cbz x2, #12

    fn without_checks(words: &[u32], traps: &[(u32, TrapCode)]) -> Vec<u32> {
        let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
        let mut code = decode(&bytes).unwrap();
        let traps: Vec<MachTrap> = traps.iter().map(|&(offset, code)| MachTrap { offset, code }).collect();
        let removed = remove_checks(&mut code, &traps);
        let kept = code
            .iter()
            .enumerate()
            .filter(|(position, _)| !removed.contains_key(position));
        kept.map(|(_, insn)| u32::from_le_bytes(insn.word)).collect()
    }

    #[test]
    fn division_traps_go() {
        let trap = [(12, TrapCode::INTEGER_DIVISION_BY_ZERO)];
        assert_eq!(without_checks(&[CHECK, DIVIDE, RET, UDF], &trap), [DIVIDE, RET]);
    }

    #[test]
    fn other_traps_and_branches_stay() {
        let code = [CHECK, DIVIDE, RET, UDF];
        assert_eq!(without_checks(&code, &[]), code);
        assert_eq!(without_checks(&code, &[(12, TrapCode::INTEGER_OVERFLOW)]), code);
        let elsewhere = [0xB400_0042, DIVIDE, RET]; // cbz x2, #8
        let trap = [(12, TrapCode::INTEGER_DIVISION_BY_ZERO)];
        assert_eq!(without_checks(&elsewhere, &trap), elsewhere);
    }
}
