//! ARM64: shifts and rotations by constants as parts of the instructions that use them, and what nothing uses.
//!
//! Given: a function's instructions.
//! Computed: what stands in the places of shifts and of the instructions that use them.
//! Why: Cranelift 0.135 gives instructions a shift to the left, and no other.
//! Safe because: between the two, which are in one straight piece, neither the shifted register nor the result changes; nothing reads the
//! result but the instruction that gets the shift; both compute in the same width. An instruction goes only if all it does is to set
//! registers that nothing reads again.

use std::collections::BTreeSet;

use crate::compile::Code;
use crate::instruction_arm64::{FP, Insn, LR, Registers, Role, SP};
use crate::liveness_arm64::{live_behind, read, sets_flags};
use crate::rewrite_arm64::{Replacements, jumped_to};

/// How far a shift may be from where it is used.
const NEAR: usize = 16;

/// Joins shifts with what uses them, and drops what nothing uses.
pub(crate) fn join(decoded: &[Insn], code: &Code) -> Replacements {
    let relocated: BTreeSet<u32> = code.references.iter().map(|reference| reference.offset).collect();
    let live = live_behind(decoded);
    let jumped_to = jumped_to(decoded);
    let mut replacements = Replacements::new();
    for (position, insn) in decoded.iter().enumerate() {
        if insn.role() != Some(Role::Compute) || sets_flags(insn) || relocated.contains(&insn.offset) {
            continue;
        }
        let written = insn.written(Role::Compute);
        // What holds the stack together is read by who walks it.
        let needed = |register| live[position].contains(register) || [FP, LR, SP].contains(&register);
        if written.iter().next().is_some() && !written.iter().any(needed) {
            replacements.insert(position, Vec::new());
            continue;
        }
        if replacements.contains_key(&position) {
            continue;
        }
        if let Some(shift) = Shift::of(insn)
            && let Some((user, word)) = user(decoded, position, shift, &live, &jumped_to)
            && !replacements.contains_key(&user)
            && !relocated.contains(&decoded[user].offset)
        {
            replacements.insert(position, Vec::new());
            replacements.insert(user, vec![word]);
        }
    }
    replacements
}

/// A shift or rotation of one register into another one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Shift {
    /// Bit 31 of the word: 64 bits.
    wide: u32,
    /// As in instructions with shifted registers: 0 left, 1 right, 2 right with the sign, 3 a rotation.
    kind: u32,
    amount: u32,
    from: u32,
    to: u32,
}

const WIDE: u32 = 1 << 31;
const ROTATION: u32 = 3;

fn field(word: u32, shift: u32, bits: u32) -> u32 {
    word >> shift & ((1 << bits) - 1)
}

impl Shift {
    fn of(insn: &Insn) -> Option<Shift> {
        let word = u32::from_le_bytes(insn.word);
        let wide = word & WIDE;
        let last = if wide == 0 { 31 } else { 63 };
        let (to, from) = (field(word, 0, 5), field(word, 5, 5));
        let (first, second) = (field(word, 16, 6), field(word, 10, 6));
        // Bit 22 is 1 where all 64 bits are meant.
        let (kind, amount) = match word & 0x7F80_0000 {
            // ubfm
            0x5300_0000 if second == last => (1, first),
            0x5300_0000 if second + 1 == first => (0, last + 1 - first),
            // sbfm
            0x1300_0000 if second == last => (2, first),
            // extr
            0x1380_0000 if field(word, 16, 5) == from && field(word, 21, 1) == 0 => (ROTATION, second),
            _ => return None,
        };
        (to != 31 && from != 31).then_some(Shift {
            wide,
            kind,
            amount,
            from,
            to,
        })
    }

    /// A word with the shift as part of it, if it can be.
    fn joined(self, word: u32) -> Option<u32> {
        // Logical instructions, and sums and differences, of registers: bits 21 of sums are clear, too, unless they extend.
        let is_logical = field(word, 24, 5) == 0b01010;
        let is_sum = field(word, 24, 5) == 0b01011 && field(word, 21, 1) == 0;
        let fits = is_logical || is_sum && self.kind != ROTATION;
        let is_plain = field(word, 22, 2) == 0 && field(word, 10, 6) == 0;
        if !fits || !is_plain || word & WIDE != self.wide {
            return None;
        }
        let (first, second) = (field(word, 5, 5), field(word, 16, 5));
        // Bit 21 of logical instructions inverts the second operand; bit 30 of sums makes them differences.
        let commutes = if is_logical {
            field(word, 21, 1) == 0
        } else {
            field(word, 30, 1) == 0
        };
        let other = match (first == self.to, second == self.to) {
            (false, true) => first,
            (true, false) if commutes => second,
            _ => return None,
        };
        let without = word & !(3 << 22 | 31 << 16 | 63 << 10 | 31 << 5);
        Some(without | self.kind << 22 | self.from << 16 | self.amount << 10 | other << 5)
    }
}

/// The only instruction that reads the result of a shift, and what it is with the shift.
fn user(
    decoded: &[Insn],
    position: usize,
    shift: Shift,
    live: &[Registers],
    jumped_to: &[bool],
) -> Option<(usize, u32)> {
    let (to, from) = (shift.to as u16, shift.from as u16);
    for (next, insn) in decoded.iter().enumerate().skip(position + 1).take(NEAR) {
        let role = insn.role().filter(|_| !jumped_to[next])?;
        let written = insn.written(role);
        if read(insn).contains(to) {
            let is_last = written.contains(to) || !live[next].contains(to);
            let word = (role == Role::Compute).then(|| shift.joined(u32::from_le_bytes(insn.word)))??;
            return is_last.then_some((next, word));
        }
        let goes_on = matches!(
            role,
            Role::Compute | Role::Compare | Role::Divide | Role::PageAddress | Role::Load(_) | Role::Store
        );
        if !goes_on || written.contains(to) || written.contains(from) {
            return None;
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::join;
    use crate::compile::Code;
    use crate::instruction_arm64::decode;

    /// The code afterwards, as text.
    fn joined(words: &[u32]) -> Vec<String> {
        const RET: u32 = 0xD65F_03C0;
        let words: Vec<u32> = words.iter().copied().chain([RET]).collect();
        let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
        let mut code = Code::leaf(bytes.clone());
        let decoded = decode(&bytes).unwrap();
        let replacements = join(&decoded, &code);
        let changed = crate::rewrite_arm64::replace(&mut code, &decoded, replacements).unwrap();
        let kept = &changed[..changed.len() - 1];
        kept.iter().map(|insn| insn.op.to_string()).collect()
    }

    const LSR: u32 = 0xD347_FC29; // lsr x9, x1, #7
    const USE: u32 = 0xCA00_0120; // eor x0, x9, x0

    #[test]
    fn shifts_become_parts() {
        for (words, expected) in [
            ([LSR, USE], "eor x0, x0, x1, lsr #7"),
            ([LSR, 0xCA09_0000], "eor x0, x0, x1, lsr #7"),
            ([0x9347_FC29, USE], "eor x0, x0, x1, asr #7"),         // asr
            ([0xD379_E029, USE], "eor x0, x0, x1, lsl #7"),         // lsl
            ([0x93C1_1C29, USE], "eor x0, x0, x1, ror #7"),         // ror
            ([0x5307_7C29, 0x4A00_0120], "eor w0, w0, w1, lsr #7"), // 32 bits
            ([LSR, 0xCB09_0000], "sub x0, x0, x1, lsr #7"),
            ([LSR, 0x8B00_0120], "add x0, x0, x1, lsr #7"),
            ([LSR, 0xEB09_001F], "cmp x0, x1, lsr #7"),
        ] {
            assert_eq!(joined(&words), [expected]);
        }
    }

    #[test]
    fn others_stay() {
        for (name, words) in [
            ("read again", [LSR, USE, 0xCA09_0000].as_slice()),  // eor x0, x0, x9
            ("another width", &[LSR, 0x4A00_0120]),              // eor w0, w9, w0
            ("a difference the other way", &[LSR, 0xCB00_0120]), // sub x0, x9, x0
            ("inverted", &[LSR, 0xCA20_0120]),                   // eon x0, x9, x0
            ("a sum and a rotation", &[0x93C1_1C29, 0x8B00_0120]),
            ("shifted already", &[LSR, 0xCA00_0520]), // eor x0, x9, x0, lsl #1
            ("both operands", &[LSR, 0xCA09_0120]),   // eor x0, x9, x9
            ("the source changes", &[LSR, 0x9100_0421, USE]), // add x1, x1, #1
            ("extended", &[LSR, 0x8B29_4000]),        // add x0, x0, w9, uxtw
            ("memory", &[LSR, 0xF900_0009]),          // str x9, [x0]
            ("a way in between", &[LSR, USE, 0xB5FF_FFE0]), // cbnz x0, #-4
            ("a way to its use", &[LSR, 0xB400_0020, USE]), // cbz x0, #4
            ("two registers", &[0x93C2_1C29, USE]),   // extr x9, x1, x2, #7
        ] {
            assert_eq!(joined(words).len(), words.len(), "{name}: {:?}", joined(words));
        }
    }

    #[test]
    fn what_nothing_reads_goes() {
        let zero = 0xD280_0009; // mov x9, #0
        assert_eq!(joined(&[zero]).len(), 0);
        assert_eq!(joined(&[zero, 0xAA09_03E0]).len(), 2); // mov x0, x9
        assert_eq!(joined(&[zero, zero, 0xAA09_03E0]).len(), 2);
        assert_eq!(joined(&[0xD280_0014]).len(), 1); // mov x20, #0
        assert_eq!(joined(&[0xEB01_001F]).len(), 1); // cmp x0, x1
        assert_eq!(joined(&[0x9100_03FD, 0xA8C1_7BFD]).len(), 2); // mov x29, sp; ldp x29, x30, [sp], #16
    }
}
