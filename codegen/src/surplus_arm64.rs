//! ARM64: instructions that clear bits of a register that are clear.
//!
//! Given: a function's instructions.
//! Computed: which of them change nothing.
//! Safe because: how many bits of a register can be set is only known of what was written since the last place that a jump leads to, and
//! since the last call; an instruction is only taken for one that clears bits if its word is that of one of three.

use crate::instruction_arm64::{Insn, Opcode, Operand, Role, SizeCode};
use crate::rewrite_arm64::{Replacements, jumped_to};

/// Nothing is known.
const ALL: u32 = 64;

/// Drops them.
pub(crate) fn drop_surplus(decoded: &[Insn], replacements: &mut Replacements) {
    let jumped_to = jumped_to(decoded);
    let mut bits = [ALL; 32];
    for (position, insn) in decoded.iter().enumerate() {
        let role = insn.role();
        if jumped_to[position] || role == Some(Role::Call) || role.is_none() {
            bits = [ALL; 32];
        }
        let Some(role) = role else { continue };
        if let Some((to, from, kept)) = clears_above(insn)
            && to == from
            && to != 31
            && bits[usize::from(to)] <= kept
        {
            replacements.insert(position, Vec::new());
            continue;
        }
        let can_be_set = bits_of_result(insn, role, &bits);
        for register in insn.written(role).iter() {
            bits[usize::from(register)] = can_be_set;
        }
        if let Some(changed) = insn.address().filter(|address| address.writeback) {
            bits[usize::from(changed.base)] = ALL;
        }
    }
}

/// What `uxtb`, `uxth` and `mov` of 32 bits do: the register that they write, the one that they read, and how many lower bits of that stay.
fn clears_above(insn: &Insn) -> Option<(u16, u16, u32)> {
    let word = u32::from_le_bytes(insn.word);
    let register = |shift: u32| (word >> shift & 31) as u16;
    let (to, first, second) = (register(0), register(5), register(16));
    match word & !0x3FF {
        0x5300_1C00 => Some((to, first, 8)),
        0x5300_3C00 => Some((to, first, 16)),
        // orr to, zr, second
        _ if word & !(31 << 16 | 31) == 0x2A00_03E0 => Some((to, second, 32)),
        _ => None,
    }
}

/// How many lower bits of what an instruction writes can be set.
fn bits_of_result(insn: &Insn, role: Role, known: &[u32; 32]) -> u32 {
    use Opcode as O;
    let of = |operand: Operand| match operand {
        Operand::Register(_, 31) => 0,
        Operand::Register(size, number) | Operand::RegShift(_, 0, size, number) => {
            known[usize::from(number)].min(width(size))
        }
        _ => ALL,
    };
    let [to, first, second, _] = insn.op.operands;
    let (Operand::Register(size, _) | Operand::RegisterOrSP(size, _)) = to else {
        return ALL;
    };
    let most = match (role, insn.op.opcode) {
        (_, O::LDRB | O::LDURB) => 8,
        (_, O::LDRH | O::LDURH) => 16,
        // What is written in 32 bits has others clear.
        (Role::Load(1) | Role::Divide, _) => width(size),
        // 0 or 0 and 1.
        (_, O::CSINC) if of(first) == 0 && of(second) == 0 => 1,
        (_, O::CSEL | O::ORR | O::EOR) => of(first).max(of(second)).min(width(size)),
        (Role::Compute, _) => clears_above(insn).map_or(width(size), |(.., kept)| kept),
        _ => ALL,
    };
    most.min(ALL)
}

fn width(size: SizeCode) -> u32 {
    match size {
        SizeCode::W => 32,
        SizeCode::X => 64,
    }
}

#[cfg(test)]
mod tests {
    use super::drop_surplus;
    use crate::instruction_arm64::decode;
    use crate::rewrite_arm64::Replacements;

    #[test]
    fn only_what_changes_nothing_goes() {
        let (uxtb, uxth, mov) = (0x5300_1C00, 0x5300_3C00, 0x2A00_03E0); // of x0
        let cases: [(&str, &[u32], &[usize]); 16] = [
            ("cset x0, eq", &[0x9A9F_17E0, uxtb, uxth, mov], &[1, 2, 3]),
            ("csinc x0, x1, x1, ne", &[0x9A81_1420, mov], &[]),
            ("ldrb w0, [x1]", &[0x3940_0020, uxtb, mov], &[1, 2]),
            ("ldrh w0, [x1]", &[0x7940_0020, uxtb, uxth], &[2]),
            ("ldr w0, [x1]", &[0xB940_0020, uxth, mov], &[2]),
            ("ldr x0, [x1]", &[0xF940_0020, mov], &[]),
            ("ldrsh x0, [x1]", &[0x7980_0020, mov], &[]),
            ("ldrsb w0, [x1]", &[0x39C0_0020, uxtb, mov], &[2]),
            ("add w0, w1, w2", &[0x0B02_0020, mov, uxtb], &[1]),
            ("orr w0, w8, #0x20", &[0x321B_0100, mov, uxtb], &[1]),
            ("add x0, x1, x2", &[0x8B02_0020, mov], &[]),
            ("orr x0, x0, x0, lsl #1", &[0x9A9F_17E0, 0xAA00_0400, uxtb], &[]),
            ("uxtb w0, w1", &[0x5300_1C20, uxtb, uxth], &[1, 2]),
            ("mov w0, w1", &[0x2A01_03E0, mov], &[1]),
            ("a jump to it", &[0x9A9F_17E0, uxtb, 0x17FF_FFFF], &[]),
            ("a call before it", &[0x9A9F_17E0, 0xD63F_0060, uxtb], &[]),
        ];
        for (name, words, expected) in cases {
            let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
            let mut replacements = Replacements::new();
            drop_surplus(&decode(&bytes).unwrap(), &mut replacements);
            let dropped: Vec<usize> = replacements.into_keys().collect();
            assert_eq!(dropped, expected, "{name}");
        }
    }
}
