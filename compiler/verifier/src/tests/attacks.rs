//! Programs that are wrong in one place, each beside one that is right there: what the native engine has to know to tell
//! them apart is so rare that random programs seldom need it.

use bpf2sys_bytecode::{
    AluOp, Condition, Extension, Imm64, Instruction, Operand, Reg, SwapKind, SwapWidth, Width, WordSize,
};
use bpf2sys_platform::Platform;

use super::build::{EXIT, add, alu, copy, helper, load, load_map, local, map, module, reg, set, store};
use crate::{Options, Verifier, verify};

const R0: Reg = Reg::R0;
const R1: Reg = Reg::R1;
const R10: Reg = Reg::R10;
/// Gives a number of which nothing is known.
const RANDOM: i32 = 6;

fn put(width: Width, base: Reg, offset: i16, src: Reg) -> Instruction {
    Instruction::Store {
        width,
        base,
        offset,
        src: Operand::Reg(src),
    }
}

fn narrow(width: Width, dst: Reg, base: Reg, offset: i16) -> Instruction {
    Instruction::Load {
        width,
        signed: false,
        dst,
        base,
        offset,
    }
}

fn jump_if(condition: Condition, dst: Reg, src: Operand, offset: i16) -> Instruction {
    Instruction::JumpIf {
        size: WordSize::W64,
        condition,
        dst,
        src,
        offset,
    }
}

fn is_accepted(functions: &[&[Instruction]]) -> bool {
    let mut module = module("xdp", functions);
    module.maps.push(map("values", 2, 4, 8));
    let options = Options {
        verifier: Verifier::Native,
        ..Options::default()
    };
    verify(module, &Platform::builtin(), &options).is_ok()
}

/// The first program is accepted, the second one is not.
fn differ(right: &[Instruction], wrong: &[Instruction]) {
    assert!(is_accepted(&[right]), "{right:?}");
    assert!(!is_accepted(&[wrong]), "{wrong:?}");
}

/// `r0` is a value of the map, or null.
fn look_up() -> [Instruction; 5] {
    [
        store(R10, -8, 0),
        copy(reg(2), R10),
        add(reg(2), -8),
        load_map(R1, 0),
        helper(1),
    ]
}

#[test]
fn the_low_part_of_a_number_is_another_number() {
    for width in [Width::B, Width::H, Width::W] {
        let [right, wrong] = [reg(7), reg(6)].map(|index| {
            [
                store(R10, -8, 0),
                helper(RANDOM),
                copy(reg(6), R0),
                put(width, R10, -16, reg(6)),
                narrow(width, reg(7), R10, -16),
                jump_if(Condition::Ge, reg(7), Operand::Imm(8), 4),
                copy(R1, R10),
                add(R1, -8),
                alu(AluOp::Add, R1, Operand::Reg(index)),
                narrow(Width::B, R0, R1, 0),
                set(R0, 0),
                EXIT,
            ]
        });
        differ(&right, &wrong);
    }
}

#[test]
fn what_a_part_of_a_number_can_be_ends_with_its_width() {
    let with = |width| {
        [
            store(R10, -8, 0),
            helper(RANDOM),
            put(Width::Dw, R10, -16, R0),
            narrow(width, reg(7), R10, -16),
            alu(AluOp::Rsh, reg(7), Operand::Imm(5)),
            copy(R1, R10),
            add(R1, -8),
            alu(AluOp::Add, R1, Operand::Reg(reg(7))),
            narrow(Width::B, R0, R1, 0),
            EXIT,
        ]
    };
    differ(&with(Width::B), &with(Width::H));
}

#[test]
fn nothing_that_is_stored_leaves_nothing() {
    let with = |src| [store(R10, -8, 0), put(Width::Dw, R10, -8, src), load(R0, R10, -8), EXIT];
    differ(
        &[set(reg(6), 1), with(reg(6))[0], with(reg(6))[1], with(reg(6))[2], EXIT],
        &with(reg(6)),
    );
}

/// On one way both are copies of one pointer, on the other they are two, whichever way comes first.
#[test]
fn copies_on_one_way_are_no_copies_on_the_other() {
    for condition in [Condition::Eq, Condition::Ne] {
        let program = |looked_up: Reg| {
            let first = [&look_up()[..], &[copy(reg(6), R0), copy(reg(7), R0)]].concat();
            let random = [helper(RANDOM), jump_if(condition, R0, Operand::Imm(0), 6)];
            let second = [&look_up()[..], &[copy(reg(7), R0)]].concat();
            let end = [
                jump_if(Condition::Eq, reg(6), Operand::Imm(0), 1),
                load(R0, looked_up, 0),
                set(R0, 0),
                EXIT,
            ];
            [&first[..], &random, &second, &end].concat()
        };
        differ(&program(reg(6)), &program(reg(7)));
    }
}

/// A byte of the frame's last 8, at the distance in a register.
fn use_as_index(index: Reg, plus: i32) -> Vec<Instruction> {
    vec![
        store(R10, -8, 0),
        copy(R1, R10),
        add(R1, plus - 8),
        alu(AluOp::Add, R1, Operand::Reg(index)),
        narrow(Width::B, R0, R1, 0),
        set(R0, 0),
        EXIT,
    ]
}

/// `r6` is any number, and these make `r7` of it. If that is less than 8, it is an index, but `r6` need not be one.
fn is_another_number(make: &[Instruction]) {
    let [right, wrong] = [reg(7), reg(6)].map(|index| {
        let start = [helper(RANDOM), copy(reg(6), R0), copy(reg(7), R0)];
        let check = [jump_if(Condition::Lt, reg(7), Operand::Imm(8), 2), set(R0, 0), EXIT];
        [&start[..], make, &check, &use_as_index(index, 0)].concat()
    });
    differ(&right, &wrong);
}

/// Behind these the comparison can hold, so what follows then must be right.
fn can_hold(before: &[Instruction], condition: Condition, a: Reg, b: Reg) {
    let [right, wrong] = [-8, 8].map(|offset| {
        let end = [
            store(R10, -8, 0),
            jump_if(condition, a, Operand::Reg(b), 2),
            set(R0, 0),
            EXIT,
            load(R0, R10, offset),
            EXIT,
        ];
        [before, &end].concat()
    });
    differ(&right, &wrong);
}

#[test]
fn a_number_that_was_changed_is_another() {
    let seven = reg(7);
    is_another_number(&[Instruction::ByteSwap {
        kind: SwapKind::Swap,
        width: SwapWidth::W64,
        dst: seven,
    }]);
    let size = WordSize::W64;
    is_another_number(&[Instruction::Neg { size, dst: seven }]);
    for size in [WordSize::W32, WordSize::W64] {
        for from in [Extension::S8, Extension::S16] {
            let src = reg(6);
            is_another_number(&[Instruction::Movsx {
                size,
                from,
                dst: seven,
                src,
            }]);
        }
    }
}

#[test]
fn a_number_less_a_constant_is_known_by_it() {
    let before = [
        helper(RANDOM),
        alu(AluOp::Rsh, R0, Operand::Imm(1)),
        copy(reg(6), R0),
        copy(reg(7), R0),
        alu(AluOp::Sub, reg(7), Operand::Imm(4)),
        jump_if(Condition::Lt, reg(7), Operand::Imm(4), 2),
        set(R0, 0),
        EXIT,
    ];
    let [right, wrong] = [0, 4].map(|plus| [&before[..], &use_as_index(reg(6), plus)].concat());
    differ(&right, &wrong);
}

#[test]
fn a_difference_is_less_than_what_something_is_taken_from() {
    let before = [
        helper(RANDOM),
        copy(reg(6), R0),
        alu(AluOp::And, reg(6), Operand::Imm(0xFFFF)),
        helper(RANDOM),
        copy(reg(7), R0),
        alu(AluOp::And, reg(7), Operand::Imm(7)),
        copy(reg(8), reg(6)),
        alu(AluOp::Sub, reg(8), Operand::Reg(reg(7))),
    ];
    can_hold(&before, Condition::Slt, reg(8), reg(6));
}

#[test]
fn a_difference_can_overflow() {
    // Something that is not positive is taken from what is not negative, however large.
    let before = [
        helper(RANDOM),
        copy(reg(7), R0),
        alu(AluOp::And, reg(7), Operand::Imm(7)),
        Instruction::Neg {
            size: WordSize::W64,
            dst: reg(7),
        },
        helper(RANDOM),
        copy(reg(6), R0),
        alu(AluOp::Rsh, reg(6), Operand::Imm(1)),
        copy(reg(8), reg(6)),
        alu(AluOp::Sub, reg(8), Operand::Reg(reg(7))),
    ];
    can_hold(&before, Condition::Slt, reg(8), reg(6));
}

#[test]
fn a_short_division_is_by_the_low_half() {
    let before = [
        helper(RANDOM),
        copy(reg(6), R0),
        alu(AluOp::And, reg(6), Operand::Imm(0xFFFF)),
        alu(AluOp::Or, reg(6), Operand::Imm(1)),
        helper(RANDOM),
        alu(AluOp::And, R0, Operand::Imm(1)),
        Instruction::LoadImm64 {
            dst: reg(7),
            value: Imm64::Constant(1 << 32),
        },
        alu(AluOp::Or, reg(7), Operand::Reg(R0)),
        copy(reg(8), reg(6)),
        Instruction::Alu {
            size: WordSize::W32,
            op: AluOp::Div,
            dst: reg(8),
            src: Operand::Reg(reg(7)),
        },
    ];
    can_hold(&before, Condition::Ge, reg(8), reg(6));
}

#[test]
fn addresses_of_two_frames_do_not_compare_as_their_distances() {
    let caller = [copy(R1, R10), add(R1, -8), local(1), set(R0, 0), EXIT];
    let [right, wrong] = [-8, 8].map(|offset| {
        let callee = [
            store(R10, -8, 0),
            set(R0, 0),
            jump_if(Condition::Gt, R1, Operand::Reg(R10), 1),
            EXIT,
            load(R0, R10, offset),
            EXIT,
        ];
        is_accepted(&[&caller, &callee])
    });
    assert!(right && !wrong);
}

/// `r6` is 1 to 65,535, and `r8` becomes what an operation with `r7` makes of it.
fn with_operand(op: AluOp, make: &[Instruction]) -> Vec<Instruction> {
    let first = [
        helper(RANDOM),
        copy(reg(6), R0),
        alu(AluOp::And, reg(6), Operand::Imm(0xFFFF)),
        alu(AluOp::Or, reg(6), Operand::Imm(1)),
    ];
    let last = [copy(reg(8), reg(6)), alu(op, reg(8), Operand::Reg(reg(7)))];
    [&first[..], make, &last].concat()
}

#[test]
fn results_that_are_no_less_than_their_operands_are_not_said_to_be() {
    let random = |mask| {
        [
            helper(RANDOM),
            copy(reg(7), R0),
            alu(AluOp::And, reg(7), Operand::Imm(mask)),
        ]
    };
    let remainder = with_operand(AluOp::Mod, &random(7));
    can_hold(&remainder, Condition::Ge, reg(8), reg(7));
    let one_or_two = [&random(1)[..], &[add(reg(7), 1)]].concat();
    let quotient = with_operand(AluOp::Div, &one_or_two);
    can_hold(&quotient, Condition::Ge, reg(8), reg(6));
    // Only the low bits of a count are used.
    let shifted = with_operand(AluOp::Rsh, &[set(reg(7), 64)]);
    can_hold(&shifted, Condition::Ge, reg(8), reg(6));
    let size = WordSize::W64;
    let negative = [Instruction::Neg { size, dst: reg(6) }, helper(RANDOM), copy(reg(7), R0)];
    let conjunction = with_operand(AluOp::And, &negative);
    can_hold(&conjunction, Condition::Sgt, reg(8), reg(6));
}

/// `r2` is the start of the packet, and `r3` its end.
fn packet() -> [Instruction; 2] {
    [load(reg(2), R1, 0), load(reg(3), R1, 8)]
}

#[test]
fn what_is_left_of_a_packet_is_not_its_size() {
    let left = [
        copy(reg(4), reg(2)),
        add(reg(4), 14),
        copy(reg(5), reg(3)),
        alu(AluOp::Sub, reg(5), Operand::Reg(reg(4))),
        jump_if(Condition::Sle, reg(5), Operand::Imm(2), 2),
        set(R0, 0),
        EXIT,
        copy(reg(4), reg(2)),
        add(reg(4), 10),
    ];
    can_hold(&[&packet()[..], &left].concat(), Condition::Le, reg(4), reg(3));
}

#[test]
fn a_place_in_the_packet_is_as_far_before_its_end_as_it_likes() {
    let before = [
        copy(reg(4), reg(2)),
        add(reg(4), 8),
        jump_if(Condition::Le, reg(4), Operand::Reg(reg(3)), 2),
        set(R0, 0),
        EXIT,
        copy(reg(5), reg(4)),
        alu(AluOp::Sub, reg(5), Operand::Reg(reg(3))),
        set(reg(6), 0),
    ];
    can_hold(&[&packet()[..], &before].concat(), Condition::Ne, reg(5), reg(6));
}

#[test]
fn addresses_of_two_things_have_no_distance() {
    let with = |other: Reg| {
        [
            copy(reg(6), R10),
            alu(AluOp::Sub, reg(6), Operand::Reg(other)),
            set(R0, 0),
            EXIT,
        ]
    };
    differ(&with(R10), &with(R1));
    // Of two frames it is not that of the distances.
    let caller = [copy(R1, R10), add(R1, -8), local(1), set(R0, 0), EXIT];
    let [right, wrong] = [-8, 8].map(|offset| {
        let callee = [
            store(R10, -8, 0),
            set(R0, 0),
            copy(reg(2), R10),
            alu(AluOp::Sub, reg(2), Operand::Reg(R1)),
            jump_if(Condition::Slt, reg(2), Operand::Imm(0), 1),
            EXIT,
            load(R0, R10, offset),
            EXIT,
        ];
        is_accepted(&[&caller, &callee])
    });
    assert!(right && !wrong);
}

#[test]
fn a_pointer_that_may_be_null_stays_where_it_is() {
    let check = jump_if(Condition::Eq, R0, Operand::Imm(0), 1);
    let back = alu(AluOp::Sub, R0, Operand::Imm(4));
    let end = [set(R0, 0), EXIT];
    let right = [
        &look_up()[..],
        &[
            jump_if(Condition::Eq, R0, Operand::Imm(0), 2),
            back,
            narrow(Width::W, R0, R0, 4),
        ],
        &end,
    ];
    let wrong = [&look_up()[..], &[back, check, narrow(Width::W, R0, R0, 4)], &end];
    differ(&right.concat(), &wrong.concat());
}
