//! ARM64: which registers are read again.
//!
//! Given: a function's instructions. Computed: for each, the registers whose values are read behind it, on some way.
//! Safe because: what an instruction is not known to leave alone, it reads; what a callee may read, a call does; and a function gives
//! back all registers that may hold results, and those that its caller keeps.

use crate::instruction_arm64::{Insn, NONVOLATILE, Opcode, Registers, Role, SIZE, registers};

/// `x0` to `x7`: arguments and results. The check of Control Flow Guard leaves `x8` alone, too, and reads `x15`.
const ARGUMENTS: Registers = Registers::through(8).and(Registers::one(15));
/// `x0` to `x17`: what a callee may change.
const VOLATILE: Registers = Registers::through(17);

/// For each instruction, the registers that are read behind it.
pub(crate) fn live_behind(code: &[Insn]) -> Vec<Registers> {
    // Before each instruction, and nothing behind the last one.
    let mut before = vec![Registers::default(); code.len() + 1];
    let mut behind = vec![Registers::default(); code.len()];
    let effects: Vec<Effect> = code.iter().map(Effect::of).collect();
    loop {
        let mut changed = false;
        for (position, effect) in effects.iter().enumerate().rev() {
            let mut live = effect.at_end;
            if effect.goes_on {
                live = live.and(before[position + 1]);
            }
            if let Some(target) = effect.target {
                live = live.and(before.get(target).copied().unwrap_or_default());
            }
            behind[position] = live;
            let new = live.without(effect.written).and(effect.read);
            changed |= new != before[position];
            before[position] = new;
        }
        if !changed {
            return behind;
        }
    }
}

/// What an instruction does to registers, and where control goes behind it.
struct Effect {
    read: Registers,
    written: Registers,
    goes_on: bool,
    target: Option<usize>,
    /// What is read after it has left the function.
    at_end: Registers,
}

impl Effect {
    fn of(insn: &Insn) -> Effect {
        let role = insn.role();
        let mut effect = Effect {
            read: read(insn),
            written: role.map_or_else(Registers::default, |role| insn.written(role)),
            goes_on: !matches!(role, Some(Role::Jump | Role::Return | Role::Trap)),
            target: None,
            at_end: Registers::default(),
        };
        match role {
            Some(Role::Jump | Role::Branch) => effect.target = insn.target().map(|target| (target / SIZE) as usize),
            Some(Role::Return) => effect.at_end = ARGUMENTS.and(NONVOLATILE),
            Some(Role::Call) => {
                effect.read = effect.read.and(ARGUMENTS);
                effect.written = effect.written.and(VOLATILE);
            }
            _ => {}
        }
        effect
    }
}

/// The registers that an instruction may read.
pub(crate) fn read(insn: &Insn) -> Registers {
    // Where the first operand is only written; parts of it stay otherwise.
    let writes_first = match insn.role() {
        Some(Role::Compute) => !matches!(insn.op.opcode, Opcode::MOVK | Opcode::BFM),
        Some(Role::Divide | Role::PageAddress | Role::Load(1)) => true,
        _ => false,
    };
    let mut operands = insn.op.operands;
    let mut read = Registers::default();
    for operand in operands.iter_mut().skip(usize::from(writes_first)) {
        for register in registers(operand).into_iter().flatten().flatten() {
            read.insert(*register);
        }
    }
    read
}

/// Whether an instruction writes the flags.
pub(crate) fn sets_flags(insn: &Insn) -> bool {
    use Opcode as O;
    matches!(insn.op.opcode, O::ADDS | O::SUBS | O::ANDS | O::BICS)
}

#[cfg(test)]
mod tests {
    use super::live_behind;
    use crate::instruction_arm64::decode;

    /// Of which instructions' results the register is read again.
    fn read_again(words: &[u32], register: u16) -> Vec<usize> {
        let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
        let live = live_behind(&decode(&bytes).unwrap());
        (0..words.len()).filter(|at| live[*at].contains(register)).collect()
    }

    #[test]
    fn a_register_lives_until_its_last_reader_on_any_way() {
        const RET: u32 = 0xD65F_03C0;
        const CALL: u32 = 0xD63F_0060; // blr x3
        let cases: [(&str, &[u32], u16, &[usize]); 7] = [
            // mov x9, #0; add x0, x9, x9
            ("straight", &[0xD280_0009, 0x8B09_0120, RET], 9, &[0]),
            // cbz x0, #8; mov x9, #0; add x0, x9, x9
            (
                "a branch around it",
                &[0xB400_0040, 0xD280_0009, 0x8B09_0120, RET],
                9,
                &[0, 1],
            ),
            // add x0, x9, x9; cbz x0, #-4
            ("a loop", &[0x8B09_0120, 0xB4FF_FFE0, RET], 9, &[0, 1]),
            ("a result", &[0xD280_0001, RET], 1, &[0, 1]),
            ("what the caller keeps", &[RET], 20, &[0]),
            // mov x9, #0; add x0, x9, x9 behind a call
            ("a callee changes it", &[0xD280_0009, CALL, 0x8B09_0120, RET], 9, &[1]),
            // mov x9, #0; movk x9, #1, lsl #16; add x0, x9, x9
            ("parts of it", &[0xD280_0009, 0xF2A0_0029, 0x8B09_0120, RET], 9, &[0, 1]),
        ];
        for (name, words, register, expected) in cases {
            assert_eq!(read_again(words, register), expected, "{name}");
        }
    }
}
