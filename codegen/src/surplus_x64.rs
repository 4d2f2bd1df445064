//! x64: instructions that change nothing.
//!
//! Given: the instructions of a function.
//! Computed: which of them only clear the upper half of a register whose upper half is clear, or only set flags of a number that are
//! those of the instruction before, which made it.
//! Safe because: what is clear is followed on all ways through the function, and so is which flags are still read.
//!
//! Cranelift makes either from one instruction of its own, without a look at others.

use std::collections::BTreeSet;

use iced_x86::{
    Code as Op, FlowControl, Instruction, InstructionInfoFactory, Mnemonic, OpAccess, OpKind, Register, RflagsBits,
};

use crate::parts_x64::{Part, successors_of};

/// The flags that follow from a result.
const OF_RESULT: u32 = RflagsBits::ZF | RflagsBits::SF | RflagsBits::PF;

/// The positions of instructions that change nothing. `parts` are those of the code, as it is.
pub(crate) fn surplus(code: &[Instruction], parts: &[Part]) -> BTreeSet<usize> {
    let mut surplus = clears_again(code, parts);
    surplus.extend(tests_again(code, parts));
    surplus
}

/// `mov r, r` of 32 bits, where the upper half of r is clear on all ways that lead there.
fn clears_again(code: &[Instruction], parts: &[Part]) -> BTreeSet<usize> {
    let copies: BTreeSet<usize> = (code.iter().enumerate())
        .filter(|(_, instruction)| copies_to_itself(instruction))
        .map(|(position, _)| position)
        .collect();
    if copies.is_empty() {
        return copies;
    }
    let mut factory = InstructionInfoFactory::new();
    // By position: the registers whose upper halves are clear before it, by number, on the ways that were followed.
    let mut clear: Vec<Option<u16>> = vec![None; code.len()];
    let mut work = vec![(0, 0)];
    while let Some((position, before)) = work.pop() {
        let known = clear[position].map_or(before, |known| known & before);
        if clear[position] == Some(known) {
            continue;
        }
        clear[position] = Some(known);
        let behind = clear_behind(&code[position], known, &mut factory);
        work.extend(successors_of(parts, position, &code[position]).map(|to| (to, behind)));
    }
    let is_clear = |position: &usize| {
        let bit = bit(code[*position].op0_register());
        clear[*position].is_some_and(|known| known & bit != 0)
    };
    copies.into_iter().filter(is_clear).collect()
}

fn copies_to_itself(instruction: &Instruction) -> bool {
    matches!(instruction.code(), Op::Mov_rm32_r32 | Op::Mov_r32_rm32)
        && instruction.op0_kind() == OpKind::Register
        && instruction.op1_kind() == OpKind::Register
        && instruction.op0_register() == instruction.op1_register()
}

/// What stands for a register in a set of them.
fn bit(register: Register) -> u16 {
    if register.is_gpr() {
        1 << register.full_register().number()
    } else {
        0
    }
}

/// The registers whose upper halves are clear behind an instruction.
fn clear_behind(instruction: &Instruction, clear: u16, factory: &mut InstructionInfoFactory) -> u16 {
    if instruction.flow_control() == FlowControl::IndirectCall || instruction.flow_control() == FlowControl::Call {
        return 0;
    }
    let info = factory.info(instruction);
    let writes = |access: OpAccess| {
        !matches!(
            access,
            OpAccess::None | OpAccess::Read | OpAccess::CondRead | OpAccess::NoMemAccess
        )
    };
    let written = info.used_registers().iter().filter(|used| writes(used.access()));
    let mut behind = written.fold(clear, |clear, used| clear & !bit(used.register()));
    let set = instruction.op0_register();
    if instruction.op_count() == 0 || instruction.op0_kind() != OpKind::Register || !writes(info.op0_access()) {
        return behind;
    }
    let of_source = || instruction.op1_kind() == OpKind::Register && clear & bit(instruction.op1_register()) != 0;
    let is_clear = if set.is_gpr32() {
        // A conditional move clears the upper half if it does not move, too.
        true
    } else if set.is_gpr64() {
        match instruction.mnemonic() {
            Mnemonic::Mov => of_source(),
            Mnemonic::Movzx => true,
            Mnemonic::Xor => instruction.op1_kind() == OpKind::Register && instruction.op1_register() == set,
            _ => false,
        }
    } else {
        // A part of the lower half.
        clear & bit(set) != 0
    };
    if is_clear {
        behind |= bit(set);
    }
    behind
}

/// `test r, r` behind an instruction that made r and left flags, where nobody reads flags that are not the same.
fn tests_again(code: &[Instruction], parts: &[Part]) -> BTreeSet<usize> {
    let targets: BTreeSet<usize> = parts.iter().filter_map(Part::target).collect();
    let found: Vec<usize> = (1..code.len())
        .filter(|position| !targets.contains(position) && leaves_flags_of(&code[position - 1], &code[*position]))
        .collect();
    if found.is_empty() {
        return BTreeSet::new();
    }
    let read = flags_read_behind(code, parts);
    found
        .into_iter()
        .filter(|position| read[*position] & !OF_RESULT == 0)
        .collect()
}

/// Whether an instruction is a test of a register for which the one before has left the flags.
fn leaves_flags_of(before: &Instruction, test: &Instruction) -> bool {
    let register = test.op0_register();
    test.mnemonic() == Mnemonic::Test
        && test.op0_kind() == OpKind::Register
        && test.op1_kind() == OpKind::Register
        && test.op1_register() == register
        && before.op0_kind() == OpKind::Register
        && before.op0_register() == register
        && match before.mnemonic() {
            Mnemonic::Add | Mnemonic::Sub | Mnemonic::And | Mnemonic::Or | Mnemonic::Xor | Mnemonic::Neg => true,
            // A count of 0 leaves the flags as they were.
            Mnemonic::Shl | Mnemonic::Shr | Mnemonic::Sar => {
                before.op1_kind() == OpKind::Immediate8 && before.immediate8() & 31 != 0
            }
            _ => false,
        }
}

/// By position: the flags that are read behind it before they are set.
fn flags_read_behind(code: &[Instruction], parts: &[Part]) -> Vec<u32> {
    let mut read_behind = vec![0; code.len()];
    let mut is_settled = false;
    while !is_settled {
        is_settled = true;
        for position in (0..code.len()).rev() {
            let behind = successors_of(parts, position, &code[position]).fold(0, |all, to| {
                let next = &code[to];
                all | next.rflags_read() | read_behind[to] & !next.rflags_modified()
            });
            is_settled &= behind == read_behind[position];
            read_behind[position] = behind;
        }
    }
    read_behind
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use crate::audit_x64::decode;
    use crate::rewrite_x64::tests::{bytes, code};

    use super::{Part, surplus};

    /// The positions that are found in some code, which ends in `ret`.
    fn found(text: &str) -> Vec<usize> {
        let assembled = code(bytes(&[text, "c3"].concat()), &[], &[]);
        let decoded = decode(&assembled.bytes, &BTreeSet::new()).unwrap();
        let code = &decoded.instructions;
        let parts = Part::all(&assembled, code).unwrap();
        surplus(code, &parts).into_iter().collect()
    }

    #[test]
    fn what_is_clear_is_not_cleared_again() {
        let cases: [(&str, &str, &[usize]); 13] = [
            ("mov eax, 1; mov eax, eax", "b801000000 89c0", &[1]),
            ("mov al, cl; mov eax, eax", "88c8 89c0", &[]),
            ("mov eax, eax", "89c0", &[]),
            ("mov rax, [rcx]; mov eax, eax", "488b01 89c0", &[]),
            ("mov eax, [rcx]; mov rdx, rax; mov edx, edx", "8b01 4889c2 89d2", &[2]),
            ("mov eax, 1; add rax, rcx; mov eax, eax", "b801000000 4801c8 89c0", &[]),
            ("mov eax, 1; mov al, cl; mov eax, eax", "b801000000 88c8 89c0", &[2]),
            ("mov eax, 1; mov ecx, eax; mov eax, eax", "b801000000 89c1 89c0", &[2]),
            ("cmovb eax, ecx; mov eax, eax", "0f42c1 89c0", &[1]),
            ("mov eax, 1; cdqe; mov eax, eax", "b801000000 4898 89c0", &[]),
            ("mov eax, 1; call rcx; mov eax, eax", "b801000000 ffd1 89c0", &[]),
            // The way around keeps what was there before.
            (
                "test cl, cl; je +2; mov eax, ecx; mov eax, eax",
                "84c9 7402 89c8 89c0",
                &[],
            ),
            // Both ways, and round the loop.
            (
                "mov eax, 1; mov eax, eax; shr eax, 1; jne -4 (to mov)",
                "b801000000 89c0 d1e8 75fa",
                &[1],
            ),
        ];
        for (name, text, expected) in cases {
            assert_eq!(found(text), expected, "{name}");
        }
    }

    #[test]
    fn what_left_the_flags_of_its_result_needs_no_test() {
        let cases: [(&str, &str, &[usize]); 9] = [
            ("add eax, -1; test eax, eax; je +0", "83c0ff 85c0 7400", &[1]),
            ("add rax, -1; test eax, eax; je +0", "4883c0ff 85c0 7400", &[]),
            ("add eax, -1; test ecx, ecx; je +0", "83c0ff 85c9 7400", &[]),
            ("add eax, -1; test eax, eax; jl +0", "83c0ff 85c0 7c00", &[]),
            ("add eax, -1; test eax, eax; setb cl", "83c0ff 85c0 0f92c1", &[]),
            ("shr eax, 4; test eax, eax; js +0", "c1e804 85c0 7800", &[1]),
            ("shr eax, cl; test eax, eax; je +0", "d3e8 85c0 7400", &[]),
            ("lea eax, [rcx+1]; test eax, eax; je +0", "8d4101 85c0 7400", &[]),
            // A jump leads between.
            (
                "jmp +3; add eax, -1; test eax, eax; je -5",
                "eb03 83c0ff 85c0 74fc",
                &[],
            ),
        ];
        for (name, text, expected) in cases {
            assert_eq!(found(text), expected, "{name}");
        }
    }
}
