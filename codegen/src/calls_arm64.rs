//! ARM64: calls of callees whose addresses were read, and what is put into place for them.
//!
//! Given: the instructions of a function, and which arguments each such call has that its callee does not read.
//! Computed: what stands in the places of calls of [`GUARDED_CALL`], and which instructions go.
//! Safe because: the check returns with `x0` to `x8` as they were, so that `x6` is still the callee's address, which was checked. An
//! instruction goes only if all it does is to set a register that nothing reads any more: between it and the call there is no jump, and no
//! instruction that stays and reads the register; the callee does not read it, and keeps none of those that can be among them.
//!
//! Cranelift's calls have as many arguments as their signature, each with a value; "any value" is none that it knows.

use std::collections::BTreeSet;

use bpf2sys_pe_emit::RelocationKind;

use crate::calls_x64::Unread;
use crate::compile::{Code, Reference, Target};
use crate::guard::{CHECK_POINTER, GUARDED_CALL};
use crate::instruction_arm64::{Insn, Opcode, Operand, Registers, Role, SIZE};
use crate::liveness_arm64::{read, sets_flags};
use crate::rewrite_arm64::{Replacements, jumped_to};

/// A guarded call. References complete the first two.
const CHECK_AND_CALL: [u32; 5] = [
    0x9000_0010, // adrp x16, guard_check_pointer
    0xF940_0210, // ldr x16, [x16, :lo12:guard_check_pointer]
    0xAA06_03EF, // mov x15, x6
    0xD63F_0200, // blr x16
    0xD63F_00C0, // blr x6
];
/// Registers that no callee reads, and none keeps.
const SCRATCH: std::ops::RangeInclusive<u16> = 7..=17;

/// Has every guarded call check the callee and call it.
pub(crate) fn check_and_call(code: &mut Code, replacements: &mut Replacements) {
    for reference in &mut code.references {
        if is_call_of(reference, GUARDED_CALL) {
            reference.kind = RelocationKind::Arm64Page21;
            reference.target = Target::Named(CHECK_POINTER.to_owned());
            reference.is_call = false;
            replacements.insert((reference.offset / SIZE) as usize, CHECK_AND_CALL.to_vec());
        }
    }
}

/// Completes the second instructions of guarded calls, once they are there.
pub(crate) fn refer_to_rest(code: &mut Code) {
    let rest = |first: &Reference| Reference {
        offset: first.offset + SIZE,
        kind: RelocationKind::Arm64LoadOffset12,
        ..first.clone()
    };
    let firsts = code.references.iter().filter(|reference| begins_check(reference));
    let rests: Vec<Reference> = firsts.map(rest).collect();
    code.references.extend(rests);
}

fn begins_check(reference: &Reference) -> bool {
    reference.kind == RelocationKind::Arm64Page21
        && matches!(&reference.target, Target::Named(named) if named == CHECK_POINTER)
}

fn is_call_of(reference: &Reference, name: &str) -> bool {
    reference.kind == RelocationKind::Arm64Branch26
        && matches!(&reference.target, Target::Named(named) if named == name)
}

/// Drops what is only computed for arguments that a callee does not read. `unread` says it of a call, by its offset.
pub(crate) fn drop_unread(
    decoded: &[Insn],
    code: &Code,
    unread: impl Fn(u32) -> Option<Unread>,
    replacements: &mut Replacements,
) {
    let relocated: BTreeSet<u32> = code.references.iter().map(|reference| reference.offset).collect();
    let guarded = code
        .references
        .iter()
        .filter(|reference| is_call_of(reference, GUARDED_CALL));
    let guarded: BTreeSet<u32> = guarded.map(|reference| reference.offset).collect();
    for (position, call) in decoded.iter().enumerate() {
        if call.op.opcode == Opcode::BLR || guarded.contains(&call.offset) {
            let unread = unread(call.offset).unwrap_or_default();
            let arguments = (1..=5).filter(|argument| unread.has(*argument));
            let mut dead: Registers = arguments
                .map(|argument| u16::from(argument) - 1)
                .chain(SCRATCH)
                .collect();
            if let Operand::Register(_, callee) = call.op.operands[0] {
                dead.remove(callee);
            }
            before(decoded, position, dead, &relocated, replacements);
        }
    }
}

/// Drops instructions before a call at which some registers are dead.
fn before(
    decoded: &[Insn],
    call: usize,
    mut dead: Registers,
    relocated: &BTreeSet<u32>,
    replacements: &mut Replacements,
) {
    for (position, insn) in decoded[..call].iter().enumerate().rev() {
        let Some(role) = insn.role() else { return };
        if matches!(
            role,
            Role::Jump
                | Role::Branch
                | Role::Call
                | Role::Return
                | Role::Trap
                | Role::LoadExclusive
                | Role::StoreExclusive
        ) {
            return;
        }
        let written = insn.written(role);
        if role == Role::Compute
            && !sets_flags(insn)
            && written.iter().next().is_some()
            && written.iter().all(|register| dead.contains(register))
            && !relocated.contains(&insn.offset)
        {
            replacements.insert(position, Vec::new());
            continue;
        }
        // What is written here is not read before, but for what this instruction itself reads.
        written.iter().for_each(|register| dead.insert(register));
        read(insn).iter().for_each(|register| dead.remove(register));
    }
}

/// Checks that no call by address is unguarded.
pub(crate) fn check_calls(decoded: &[Insn], references: &[Reference]) -> Result<(), String> {
    let jumped_to = jumped_to(decoded);
    let mut guarded = BTreeSet::new();
    let seconds: BTreeSet<u32> = (references.iter())
        .filter(|reference| reference.kind == RelocationKind::Arm64LoadOffset12)
        .filter(|reference| matches!(&reference.target, Target::Named(named) if named == CHECK_POINTER))
        .map(|reference| reference.offset)
        .collect();
    for first in references.iter().filter(|reference| begins_check(reference)) {
        let position = (first.offset / SIZE) as usize;
        let rest = position + 1..position + CHECK_AND_CALL.len();
        let words = decoded.get(position..rest.end).unwrap_or_default();
        let is_whole = words
            .iter()
            .map(|insn| u32::from_le_bytes(insn.word))
            .eq(CHECK_AND_CALL);
        if is_whole && seconds.contains(&(first.offset + SIZE)) && !jumped_to[rest.clone()].contains(&true) {
            guarded.extend(rest);
        }
    }
    for (position, call) in decoded.iter().enumerate() {
        if call.op.opcode == Opcode::BLR && !guarded.contains(&position) {
            return Err(format!("an unguarded call at {:#x}: {}", call.offset, call.op));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use bpf2sys_pe_emit::RelocationKind;

    use super::{CHECK_AND_CALL, check_and_call, check_calls, drop_unread, refer_to_rest};
    use crate::calls_x64::Unread;
    use crate::compile::{Code, Reference, Target};
    use crate::guard::GUARDED_CALL;
    use crate::instruction_arm64::{Insn, decode};
    use crate::rewrite_arm64::{Replacements, replace};

    const BL: u32 = 0x9400_0000;
    const RET: u32 = 0xD65F_03C0;

    /// Code with a guarded call at the instruction with this index.
    fn code(words: &[u32], call: u32) -> (Code, Vec<Insn>) {
        let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
        let decoded = decode(&bytes).unwrap();
        let reference = Reference {
            offset: 4 * call,
            kind: RelocationKind::Arm64Branch26,
            target: Target::Named(GUARDED_CALL.to_owned()),
            addend: 0,
            is_call: true,
        };
        let code = Code {
            references: vec![reference],
            ..Code::leaf(bytes)
        };
        (code, decoded)
    }

    #[test]
    fn a_call_is_checked_and_then_made() {
        let (mut code, decoded) = code(&[BL, RET], 0);
        assert!(check_calls(&decoded, &code.references).is_ok());
        let mut replacements = Replacements::new();
        check_and_call(&mut code, &mut replacements);
        let guarded = replace(&mut code, &decoded, replacements).unwrap();
        refer_to_rest(&mut code);
        let words: Vec<u32> = guarded.iter().map(|insn| u32::from_le_bytes(insn.word)).collect();
        assert_eq!(words, [CHECK_AND_CALL.as_slice(), &[RET]].concat());
        assert_eq!(check_calls(&guarded, &code.references), Ok(()));

        let refused = |words: &[u32], references: &[Reference]| {
            let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
            check_calls(&decode(&bytes).unwrap(), references).is_err()
        };
        // Another callee, none checked, a way to the call alone, a pointer to something else.
        for (position, word) in [(4, 0xD63F_00E0), (2, 0xAA07_03EF), (3, 0xD503_201F), (5, 0x17FF_FFFF)] {
            let mut other = words.clone();
            other[position] = word;
            assert!(refused(&other, &code.references), "{position}");
        }
        assert!(refused(&words, &[]) && refused(&words, &code.references[..1]));
    }

    /// Positions of the instructions before a call that go if the callee reads its first two arguments.
    fn dropped(words: &[u32]) -> Vec<usize> {
        let words: Vec<u32> = words.iter().copied().chain([BL, RET]).collect();
        let (code, decoded) = code(&words, words.len() as u32 - 2);
        let mut replacements = Replacements::new();
        drop_unread(&decoded, &code, |_| Some(Unread(0b11_1000)), &mut replacements);
        replacements.into_keys().collect()
    }

    #[test]
    fn the_address_of_a_callee_stays() {
        // mov x9, x1; mov x10, x1; blr x9
        let (code, decoded) = code(&[0xAA01_03E9, 0xAA01_03EA, 0xD63F_0120, RET], 3);
        let mut replacements = Replacements::new();
        drop_unread(&decoded, &code, |_| None, &mut replacements);
        assert_eq!(replacements.into_keys().collect::<Vec<_>>(), [1]);
    }

    #[test]
    fn only_what_nothing_reads_is_dropped() {
        let (zero_2, zero_4, copy_to_3) = (0xD280_0002, 0xD280_0004, 0xAA04_03E3); // mov x2, #0; mov x4, #0; mov x3, x4
        let cases: [(&str, &[u32], &[usize]); 8] = [
            (
                "unread arguments, and what they are made of",
                &[zero_2, zero_4, copy_to_3],
                &[0, 1, 2],
            ),
            ("an argument that is read", &[0xD280_0001], &[]), // mov x1, #0
            ("the callee", &[zero_4, 0xAA04_03E6], &[]),       // mov x6, x4
            ("an argument that is made of it", &[zero_4, 0xAA04_03E1], &[]), // mov x1, x4
            ("memory", &[zero_4, 0xF900_0024], &[]),           // str x4, [x1]
            ("flags", &[0xEB04_0084], &[]),                    // subs x4, x4, x4
            ("a part of a register that is read", &[0xD280_0001, 0xF2A0_0021], &[]), // mov x1, #0; movk x1, #1, lsl #16
            ("before a branch", &[zero_4, 0xB400_0040, copy_to_3], &[2]), // cbz x0, #8
        ];
        for (name, words, expected) in cases {
            assert_eq!(dropped(words), expected, "{name}");
        }
    }
}
