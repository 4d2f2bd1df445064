//! Comparisons of pointers: those that the engine gets wrong on Windows are refused, and no others.

use bpf2sys_bytecode::{Condition, Imm64, Instruction, Operand, Reg, WordSize};
use bpf2sys_platform::{Platform, ProgramType};
use std::sync::Arc;

use super::build::{EXIT, add, copy, helper, judge_on, load, load_map, map, module, reg, set, store};
use crate::{RejectionReason, Violation};

fn jump_if(condition: Condition, dst: u8, src: Operand, offset: i16) -> Instruction {
    Instruction::JumpIf {
        size: WordSize::W64,
        condition,
        dst: reg(dst),
        src,
        offset,
    }
}

fn constant(dst: u8, value: u64) -> Instruction {
    Instruction::LoadImm64 {
        dst: reg(dst),
        value: Imm64::Constant(value),
    }
}

/// The platform with `xdp` programs being privileged, or not.
fn platform(privileged: bool) -> Platform {
    let mut platform = Platform::builtin();
    for program_type in &mut platform.program_types {
        if program_type.name == "xdp" {
            *program_type = Arc::new(ProgramType {
                is_privileged: privileged,
                ..ProgramType::clone(program_type)
            });
        }
    }
    platform
}

/// Whether an `xdp` program is accepted; else it must be because of a comparison.
fn accepted(privileged: bool, code: &[Instruction]) -> bool {
    let mut module = module("xdp", &[code]);
    module.maps.push(map("values", 1, 4, 8));
    match judge_on(&platform(privileged), module) {
        Ok(_) => true,
        Err(RejectionReason::Unsafe { violation, .. })
            if matches!(
                *violation,
                Violation::UnrelatedPointers { .. } | Violation::PointerCompared { .. }
            ) =>
        {
            false
        }
        Err(other) => panic!("{other:?}"),
    }
}

#[test]
fn an_address_is_no_small_number() {
    // To the engine, the store past the context is dead code.
    let past = [store(Reg::R1, 512, 1), EXIT];
    for (value, condition) in [
        (0x7FFF_0000, Condition::Gt),
        (0x7FFF_0001, Condition::Ge),
        (0x7FFF_0001, Condition::Eq),
    ] {
        let compare = [
            set(Reg::R0, 0),
            constant(2, value),
            jump_if(condition, 1, Operand::Reg(reg(2)), 1),
            EXIT,
        ];
        for privileged in [false, true] {
            assert!(!accepted(privileged, &[&compare[..], &past].concat()), "{value:#x}");
        }
    }
}

#[test]
fn pointers_to_different_memory_are_not_compared_in_privileged_types() {
    // Both edges are dead to the engine, and everything behind them.
    for (a, b) in [(1, 10), (3, 1)] {
        let code = [
            load(reg(3), Reg::R1, 0),
            set(Reg::R0, 0),
            jump_if(Condition::Gt, a, Operand::Reg(reg(b)), 1),
            store(Reg::R1, 512, 1),
            store(Reg::R1, 512, 1),
            EXIT,
        ];
        assert!(!accepted(true, &code), "r{a} r{b}");
    }
    let with_constant = [
        set(Reg::R0, 0),
        jump_if(Condition::Gt, 1, Operand::Imm(0x7FFF_0000), 1),
        EXIT,
        store(Reg::R1, 512, 1),
        EXIT,
    ];
    assert!(!accepted(true, &with_constant));
}

#[test]
fn what_programs_compare_is_still_compared() {
    let packet = [
        load(reg(3), Reg::R1, 0),
        load(reg(4), Reg::R1, 8),
        set(Reg::R0, 0),
        copy(reg(5), reg(3)),
        add(reg(5), 8),
        jump_if(Condition::Gt, 5, Operand::Reg(reg(4)), 1),
        load(reg(0), reg(3), 0),
        EXIT,
    ];
    let look_up = [
        store(Reg::R10, -8, 0),
        copy(reg(2), Reg::R10),
        add(reg(2), -8),
        load_map(Reg::R1, 0),
        helper(1),
        copy(reg(7), Reg::R0),
        set(Reg::R0, 0),
    ];
    let null = [
        jump_if(Condition::Eq, 7, Operand::Imm(0), 1),
        load(reg(0), reg(7), 0),
        EXIT,
    ];
    let null_in_register = [set(reg(3), 0), jump_if(Condition::Ne, 7, Operand::Reg(reg(3)), 0), EXIT];
    for privileged in [false, true] {
        for code in [
            &packet[..],
            &[&look_up[..], &null].concat(),
            &[&look_up[..], &null_in_register].concat(),
        ] {
            assert!(accepted(privileged, code), "{privileged} {code:?}");
        }
    }
}

#[test]
fn what_holds_nothing_is_not_compared_in_privileged_types() {
    let nothing = |compared: u8, src: Operand| {
        let code = [
            set(Reg::R0, 0),
            set(reg(6), 0),
            jump_if(Condition::Eq, compared, src, 0),
            EXIT,
        ];
        match judge_on(&platform(true), module("xdp", &[&code])) {
            Ok(_) => None,
            Err(RejectionReason::Unsafe { violation, .. }) => match *violation {
                Violation::NothingKnown { register } | Violation::NeverWritten { register, .. } => Some(register),
                other => panic!("{other:?}"),
            },
            Err(other) => panic!("{other:?}"),
        }
    };
    assert_eq!(nothing(8, Operand::Imm(0)), Some(reg(8)));
    assert_eq!(nothing(8, Operand::Imm(5)), Some(reg(8)));
    assert_eq!(nothing(8, Operand::Reg(reg(6))), Some(reg(8)));
    assert_eq!(nothing(6, Operand::Reg(reg(8))), Some(reg(8)));
    assert_eq!(nothing(1, Operand::Imm(0)), None);
}

#[test]
fn what_holds_one_thing_or_another_is_compared_with_null_in_privileged_types() {
    let code = [
        load(reg(3), Reg::R1, 0),
        copy(reg(6), Reg::R1),
        set(Reg::R0, 0),
        jump_if(Condition::Eq, 3, Operand::Imm(0), 1),
        copy(reg(6), Reg::R10),
        jump_if(Condition::Eq, 6, Operand::Imm(0), 0),
        EXIT,
    ];
    assert!(accepted(true, &code));
}
