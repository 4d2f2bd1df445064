//! Programs that are wrong in one place, each beside one that is right there: what the native engine has to know to tell
//! them apart is so rare that random programs seldom need it.

use std::sync::Arc;

use bpf2sys_bytecode::{
    AluOp, AtomicOp, Condition, Extension, FunctionIndex, Imm64, InsnIndex, Instruction, Map, MapIndex, Operand, Reg,
    SwapKind, SwapWidth, Width, WordSize,
};
use bpf2sys_platform::Platform;

use super::build::{EXIT, add, alu, copy, helper, load, load_map, local, map, module, reg, set, store};
use crate::{InsnFacts, Object, Options, RegisterFact, VerifiedModule, Verifier, VerifyError, verify};

pub(super) const R0: Reg = Reg::R0;
pub(super) const R1: Reg = Reg::R1;
pub(super) const R10: Reg = Reg::R10;
/// Gives a number of which nothing is known.
pub(super) const RANDOM: i32 = 6;

pub(super) fn put(width: Width, base: Reg, offset: i16, src: Reg) -> Instruction {
    Instruction::Store {
        width,
        base,
        offset,
        src: Operand::Reg(src),
    }
}

pub(super) fn narrow(width: Width, dst: Reg, base: Reg, offset: i16) -> Instruction {
    Instruction::Load {
        width,
        signed: false,
        dst,
        base,
        offset,
    }
}

pub(super) fn jump_if(condition: Condition, dst: Reg, src: Operand, offset: i16) -> Instruction {
    Instruction::JumpIf {
        size: WordSize::W64,
        condition,
        dst,
        src,
        offset,
    }
}

pub(super) fn is_accepted(functions: &[&[Instruction]]) -> bool {
    is_accepted_on(&Platform::builtin(), functions)
}

/// With a map of values, one of programs, and one of maps like the first.
pub(super) fn is_accepted_on(platform: &Platform, functions: &[&[Instruction]]) -> bool {
    verified(platform, functions).is_ok()
}

fn verified(platform: &Platform, functions: &[&[Instruction]]) -> Result<VerifiedModule, VerifyError> {
    let mut module = module("xdp", functions);
    let maps = Map {
        inner: Some(MapIndex(0)),
        ..map("maps", 7, 4, 4)
    };
    module
        .maps
        .extend([map("values", 2, 4, 8), map("programs", 3, 4, 4), maps]);
    let options = Options {
        verifier: Verifier::Native,
        ..Options::default()
    };
    verify(module, platform, &options)
}

/// The first program is accepted, the second one is not.
pub(super) fn differ(right: &[Instruction], wrong: &[Instruction]) {
    differ_on(&Platform::builtin(), right, wrong);
}

pub(super) fn differ_on(platform: &Platform, right: &[Instruction], wrong: &[Instruction]) {
    if let Err(error) = verified(platform, &[right]) {
        panic!("{error:?}: {right:?}");
    }
    assert!(!is_accepted_on(platform, &[wrong]), "{wrong:?}");
}

/// `r0` is a value of the map, or null.
pub(super) fn look_up() -> [Instruction; 5] {
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
pub(super) fn use_as_index(index: Reg, plus: i32) -> Vec<Instruction> {
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
pub(super) fn packet() -> [Instruction; 2] {
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
    let check = jump_if(Condition::Eq, R0, Operand::Imm(0), 2);
    let end = [set(R0, 0), EXIT];
    for moves in [add(R0, 4), alu(AluOp::Sub, R0, Operand::Imm(-4))] {
        let access = [moves, narrow(Width::W, R0, R0, 0)];
        let wrong = [&look_up()[..], &access, &end].concat();
        let right = [&look_up()[..], &[check], &access, &end].concat();
        differ(&right, &wrong);
    }
}

fn atomic(op: AtomicOp, src: Reg) -> Instruction {
    Instruction::Atomic {
        size: WordSize::W64,
        op,
        base: R10,
        offset: -8,
        src,
    }
}

#[test]
fn an_atomic_operation_leaves_what_it_makes() {
    // 5 is no 7, and stays.
    let exchange = [
        store(R10, -8, 5),
        set(R0, 7),
        set(reg(6), 3),
        atomic(AtomicOp::Cmpxchg, reg(6)),
        load(reg(7), R10, -8),
    ];
    can_hold(&exchange, Condition::Ne, reg(7), reg(6));
    let or = [
        store(R10, -8, 3),
        set(reg(6), 3),
        set(reg(8), 1),
        atomic(AtomicOp::Or { fetch: false }, reg(8)),
        load(reg(7), R10, -8),
    ];
    can_hold(&or, Condition::Eq, reg(7), reg(6));
    for op in [AtomicOp::Add { fetch: false }, AtomicOp::Cmpxchg] {
        let before = [set(reg(6), 3), set(R0, 0), atomic(op, reg(6)), load(R0, R10, -8), EXIT];
        differ(&[&[store(R10, -8, 5)][..], &before].concat(), &before);
    }
    let exchange = [
        store(R10, -8, 5),
        set(reg(6), 3),
        atomic(AtomicOp::Cmpxchg, reg(6)),
        EXIT,
    ];
    differ(&[&[set(R0, 0)][..], &exchange].concat(), &exchange);
}

#[test]
fn addresses_compare_as_signed_distances() {
    let before = [copy(reg(6), R10), add(reg(6), -8)];
    can_hold(&before, Condition::Lt, reg(6), R10);
    can_hold(&before, Condition::Le, reg(6), R10);
    can_hold(&before, Condition::Gt, R10, reg(6));
    can_hold(&before, Condition::Ge, R10, reg(6));
}

#[test]
fn what_is_compared_is_known_to_be_something() {
    let zero = jump_if(Condition::Eq, reg(6), Operand::Imm(0), 0);
    let near = [copy(reg(6), R10), add(reg(6), -8), zero, set(R0, 0), EXIT];
    let far = [
        helper(RANDOM),
        copy(reg(6), R10),
        alu(AluOp::Add, reg(6), Operand::Reg(R0)),
        zero,
        set(R0, 0),
        EXIT,
    ];
    differ(&near, &far);
    let never_set = [
        set(reg(6), 0),
        jump_if(Condition::Eq, reg(6), Operand::Reg(reg(7)), 0),
        set(R0, 0),
        EXIT,
    ];
    differ(&[&[set(reg(7), 0)][..], &never_set].concat(), &never_set);
    let [whole, half] = [WordSize::W64, WordSize::W32].map(|size| {
        let compare = Instruction::JumpIf {
            size,
            condition: Condition::Eq,
            dst: reg(6),
            src: Operand::Reg(R10),
            offset: 0,
        };
        [copy(reg(6), R10), compare, set(R0, 0), EXIT]
    });
    differ(&whole, &half);
}

/// A store past what a number may be, and one within.
fn index_or_more(
    before: &[Instruction],
    number: Reg,
    set_number: impl Fn(i32) -> Instruction,
) -> [Vec<Instruction>; 2] {
    [0, 1_000].map(|value| {
        let with: Vec<Instruction> = before
            .iter()
            .map(|op| if *op == set_number(-1) { set_number(value) } else { *op })
            .collect();
        [&with[..], &use_as_index(number, 0)].concat()
    })
}

#[test]
fn what_leads_past_a_loop_is_not_forgotten_with_its_rounds() {
    let (six, seven) = (reg(6), reg(7));
    let before = [
        set(six, -1),
        helper(RANDOM),
        jump_if(Condition::Eq, R0, Operand::Imm(0), 4),
        set(six, 0),
        set(seven, 0),
        add(seven, 1),
        jump_if(Condition::Lt, seven, Operand::Imm(1_000), -2),
    ];
    let [right, wrong] = index_or_more(&before, six, |value| set(six, value));
    differ(&right, &wrong);
}

#[test]
fn what_enters_a_loop_in_its_middle_and_leaves_it_is_not_forgotten_with_its_rounds() {
    let (six, seven) = (reg(6), reg(7));
    // So many instructions that the loop behind them is taken together at once.
    let many = vec![add(seven, 1); 4_000];
    let rounds = [add(reg(8), 1), jump_if(Condition::Lt, reg(8), Operand::Imm(60), -4_002)];
    let before = [
        &[set(seven, 0), set(reg(8), 0)][..],
        &many,
        &rounds,
        &[
            set(seven, 0),
            set(six, -1),
            helper(RANDOM),
            jump_if(Condition::Eq, R0, Operand::Imm(0), 2),
            set(six, 1),
            add(seven, 1),
            jump_if(Condition::Ne, six, Operand::Imm(1), 1),
            jump_if(Condition::Lt, seven, Operand::Imm(50), -3),
        ],
    ]
    .concat();
    let [right, wrong] = index_or_more(&before, six, |value| set(six, value));
    differ(&right, &wrong);
}

#[test]
fn a_number_without_its_high_half_is_another() {
    let shift = |size, op| Instruction::Alu {
        size,
        op,
        dst: reg(7),
        src: Operand::Imm(32),
    };
    let up = shift(WordSize::W64, AluOp::Lsh);
    for down in [AluOp::Rsh, AluOp::Arsh] {
        is_another_number(&[up, shift(WordSize::W64, down)]);
    }
    // A short shift by 32 is none, and leaves nothing of what a long one has moved up.
    let some = [
        helper(RANDOM),
        copy(reg(6), R0),
        alu(AluOp::And, reg(6), Operand::Imm(7)),
        alu(AluOp::Or, reg(6), Operand::Imm(8)),
        copy(reg(7), reg(6)),
    ];
    let short = [WordSize::W32, WordSize::W64].map(|size| shift(size, AluOp::Lsh));
    for (up, down) in [(short[1], WordSize::W32), (short[0], WordSize::W64)] {
        let before = [&some[..], &[up, shift(down, AluOp::Rsh)]].concat();
        can_hold(&before, Condition::Lt, reg(7), reg(6));
    }
}

#[test]
fn a_call_that_was_made_before_gives_something_else_now() {
    let callee = [helper(RANDOM), copy(reg(6), R0), copy(R0, reg(6)), EXIT];
    let accepted = [reg(7), reg(6)].map(|index| {
        let before = [
            set(R1, 0),
            local(1),
            copy(reg(6), R0),
            set(R1, 0),
            local(1),
            copy(reg(7), R0),
            jump_if(Condition::Lt, reg(7), Operand::Imm(8), 2),
            set(R0, 0),
            EXIT,
        ];
        let caller = [&before[..], &use_as_index(index, 0)].concat();
        is_accepted(&[&caller, &callee])
    });
    assert_eq!(accepted, [true, false]);
}

#[test]
fn a_call_that_was_made_before_writes_once_more() {
    let address = [copy(R1, R10), add(R1, -16)];
    let before = [
        &[store(R10, -16, 0)][..],
        &address,
        &[local(1), store(R10, -16, 0)],
        &address,
        &[local(1), load(reg(6), R10, -16)],
    ]
    .concat();
    let caller = [&before[..], &use_as_index(reg(6), 0)].concat();
    let accepted = [1, 1_000].map(|written| is_accepted(&[&caller, &[store(R1, 0, written), set(R0, 0), EXIT]]));
    assert_eq!(accepted, [true, false]);
}

/// Moves the start of the packet of the context in `r1`.
const ADJUST_HEAD: i32 = 65_536;

#[test]
fn a_call_that_was_made_before_moves_the_packet_once_more() {
    let moves = [set(reg(2), 4), helper(ADJUST_HEAD), set(R0, 0), EXIT];
    let stays = [set(R0, 0), EXIT];
    let asks_another = [local(2), set(R0, 0), EXIT];
    let caller = [
        copy(reg(6), R1),
        local(1),
        load(reg(7), reg(6), 0),
        load(reg(8), reg(6), 8),
        copy(R0, reg(7)),
        add(R0, 14),
        jump_if(Condition::Le, R0, Operand::Reg(reg(8)), 2),
        set(R0, 0),
        EXIT,
        copy(R1, reg(6)),
        local(1),
        narrow(Width::B, R0, reg(7), 0),
        EXIT,
    ];
    // As the tests of eBPF for Windows have it.
    let mut platform = Platform::builtin();
    for program_type in &mut platform.program_types {
        for helper in &mut Arc::make_mut(program_type).helpers {
            helper.reallocate_packet |= helper.id == ADJUST_HEAD.cast_unsigned();
        }
    }
    for (functions, accepted) in [
        (&[&caller[..], &stays][..], true),
        (&[&caller, &moves], false),
        (&[&caller, &asks_another, &stays], true),
        (&[&caller, &asks_another, &moves], false),
    ] {
        assert_eq!(is_accepted_on(&platform, functions), accepted, "{functions:?}");
    }
}

/// So far a jump goes past these.
fn slots(code: &[Instruction]) -> i16 {
    code.iter()
        .map(|op| {
            if matches!(op, Instruction::LoadImm64 { .. }) {
                2
            } else {
                1
            }
        })
        .sum()
}

/// Counts a register up from 0, and does something in each round.
fn count_to(counter: Reg, end: i32, inside: &[Instruction]) -> Vec<Instruction> {
    let back = -(slots(inside) + 2);
    [
        &[set(counter, 0)][..],
        inside,
        &[
            add(counter, 1),
            jump_if(Condition::Lt, counter, Operand::Imm(end), back),
        ],
    ]
    .concat()
}

#[test]
fn loops_in_loops_go_round_as_often_as_both_together() {
    let inner = count_to(reg(6), 60, &count_to(reg(7), 60, &[]));
    let callee = [&inner[..], &[set(R0, 0), EXIT]].concat();
    let accepted = [20, 60].map(|rounds| {
        let caller = [&count_to(reg(6), rounds, &[local(1)])[..], &[set(R0, 0), EXIT]].concat();
        is_accepted(&[&caller, &callee])
    });
    assert_eq!(accepted, [true, false]);
    // The last call of a function goes round less often than those before.
    let callee = [
        set(R0, 0),
        add(R0, 1),
        jump_if(Condition::Lt, R0, Operand::Reg(R1), -2),
        set(R0, 0),
        EXIT,
    ];
    let accepted = [50, 200].map(|rounds| {
        let caller = [
            &count_to(reg(6), rounds, &[set(R1, 1_000), local(1)])[..],
            &[set(R1, 10), local(1), set(R0, 0), EXIT],
        ];
        is_accepted(&[&caller.concat(), &callee])
    });
    assert_eq!(accepted, [true, false]);
}

#[test]
fn every_round_of_a_loop_moves_a_number_on() {
    let end = [set(R0, 0), EXIT];
    let with = |skips: bool, far: i32, step: i32| {
        let before = [
            set(reg(7), 0),
            helper(RANDOM),
            jump_if(Condition::Eq, R0, Operand::Imm(0), if skips { -2 } else { 1 }),
            add(reg(7), step),
            add(reg(7), 1),
            jump_if(Condition::Lt, reg(7), Operand::Imm(far), -5),
        ];
        [&before[..], &end].concat()
    };
    differ(&with(false, 1_000, 1), &with(true, 1_000, 1));
    // The smallest step counts.
    differ(&with(false, 90_000, 100), &with(false, 1_000_000, 100));
}

#[test]
fn what_goes_up_and_down_again_moves_nowhere() {
    let six = reg(6);
    let program = |leaves: bool| {
        [
            helper(RANDOM),
            copy(reg(8), R0),
            alu(AluOp::And, reg(8), Operand::Imm(0xFF)),
            set(six, 0),
            set(reg(9), 0),
            // The head: what is in r9 tells the ways apart.
            helper(RANDOM),
            jump_if(Condition::Eq, R0, Operand::Imm(0), 9),
            jump_if(Condition::Eq, six, Operand::Imm(1), 4),
            add(reg(8), 10),
            set(six, 1),
            copy(reg(9), R10),
            jump_if(Condition::Eq, six, Operand::Imm(1), if leaves { 4 } else { -7 }),
            add(reg(8), -10),
            set(six, 0),
            set(reg(9), 0),
            jump_if(Condition::Eq, six, Operand::Imm(0), -11),
            set(R0, 0),
            jump_if(Condition::Eq, six, Operand::Imm(0), 2),
            store(reg(9), -8, 0),
            narrow(Width::B, R0, reg(9), -8),
            EXIT,
        ]
    };
    differ(&program(true), &program(false));
}

#[test]
fn an_atomic_comparison_gives_what_was_there() {
    let [right, wrong] = [1, 1_000].map(|there| {
        let before = [
            store(R10, -8, there),
            set(R0, 5),
            set(reg(6), 0),
            atomic(AtomicOp::Cmpxchg, reg(6)),
        ];
        [&before[..], &use_as_index(R0, 0)].concat()
    });
    differ(&right, &wrong);
}

#[test]
fn functions_get_all_their_arguments() {
    let caller = [
        set(reg(5), 3),
        jump_if(Condition::Eq, R1, Operand::Imm(0), 0),
        local(1),
        EXIT,
    ];
    assert!(is_accepted(&[&caller, &[copy(R0, reg(5)), EXIT]]));
}

/// A tail call that may fail, with the context in `r6`.
fn tail_call() -> [Instruction; 4] {
    [copy(R1, reg(6)), load_map(reg(2), 1), set(reg(3), 0), helper(5)]
}

#[test]
fn tail_calls_are_counted_on_the_longest_way() {
    let platform = Platform::builtin();
    let most = platform.limits.max_tail_call_count as usize;
    let many = |count: usize| vec![tail_call(); count].concat();
    let end = [set(R0, 0), EXIT];
    let start = [copy(reg(6), R1)];
    let of = |parts: &[&[Instruction]]| [&start[..], &parts.concat(), &end].concat();
    differ(&of(&[&many(most)]), &of(&[&many(most + 1)]));
    // On one way two more, whichever comes first.
    let skip = |past| [jump_if(Condition::Eq, R0, Operand::Imm(0), past)];
    let either = |one: usize, other: usize| {
        let over = Instruction::Jump {
            size: WordSize::W64,
            offset: slots(&many(other)).into(),
        };
        [
            &[helper(RANDOM)][..],
            &skip(slots(&many(one)) + 1),
            &many(one),
            &[over],
            &many(other),
        ]
        .concat()
    };
    for (one, other) in [(2, 1), (1, 2)] {
        let way = either(one, other);
        differ(&of(&[&way, &many(most - 2)]), &of(&[&way, &many(most - 1)]));
    }
    // A loop counts as often as it has some.
    let rounds = count_to(reg(7), 3, &many(2));
    differ(&of(&[&rounds, &many(most - 2)]), &of(&[&rounds, &many(most - 1)]));
    // So does a function.
    let callee = of(&[&many(2)]);
    let call = [copy(R1, reg(6)), local(1)];
    let accepted = [most - 2, most - 1].map(|count| is_accepted(&[&of(&[&call, &many(count)]), &callee]));
    assert_eq!(accepted, [true, false]);
}

/// What is known before the last instruction but these of a program that is accepted, and of a register there.
fn before_last(code: &[Instruction], but: usize, register: Reg) -> (InsnFacts, RegisterFact) {
    let verified = verified(&Platform::builtin(), &[code]).unwrap();
    let facts = verified.facts(FunctionIndex(0));
    let at = InsnIndex((code.len() - 1 - but) as u32);
    (facts.instructions[at.index()].clone(), facts.register(at, register))
}

#[test]
fn facts_of_pointers_that_may_be_null_say_nothing_of_memory() {
    let end = [set(R0, 0), EXIT];
    let checked = [jump_if(Condition::Eq, R0, Operand::Imm(0), 1), set(reg(2), 0)];
    let may_be_null = [&look_up()[..], &checked, &end].concat();
    let (_, fact) = before_last(&may_be_null, 3, R0);
    assert_eq!((fact.non_null, fact.room, fact.offset), (false, 0, None));
    let (_, fact) = before_last(&may_be_null, 2, R0);
    assert_eq!((fact.non_null, fact.room, fact.offset), (true, 8, Some((0, 0))));
    // A pointer that has left its memory may be anything.
    let far = [
        copy(reg(6), R1),
        helper(RANDOM),
        alu(AluOp::Add, reg(6), Operand::Reg(R0)),
        set(R0, 0),
        EXIT,
    ];
    assert!(before_last(&far, 2, reg(6)).1.non_null);
    assert!(!before_last(&far, 1, reg(6)).1.non_null);
}

#[test]
fn facts_name_the_one_map_that_a_call_gets() {
    let key = [store(R10, -8, 0), copy(reg(2), R10), add(reg(2), -8)];
    let look = |choose: &[Instruction]| [&key[..], choose, &[helper(1), set(R0, 0), EXIT]].concat();
    let (facts, _) = before_last(&look(&[load_map(R1, 0)]), 2, R0);
    assert_eq!(facts.map, Some(MapIndex(0)));
    // One of two maps.
    let either = [
        copy(reg(6), R1),
        load_map(R1, 0),
        load(reg(7), reg(6), 24),
        jump_if(Condition::Eq, reg(7), Operand::Imm(0), 2),
        load_map(R1, 2),
    ];
    let either = either.map(|op| match op {
        Instruction::Load { dst, base, offset, .. } => narrow(Width::W, dst, base, offset),
        other => other,
    });
    let (facts, _) = before_last(&look(&either), 2, R0);
    assert_eq!(facts.map, None);
    // A map that came out of a map is not the one that it is made like, and neither are its values.
    let inner = [
        &key[..],
        &[
            load_map(R1, 2),
            helper(1),
            jump_if(Condition::Ne, R0, Operand::Imm(0), 2),
            set(R0, 0),
            EXIT,
        ],
        &key,
        &[
            copy(R1, R0),
            helper(1),
            jump_if(Condition::Ne, R0, Operand::Imm(0), 2),
            set(R0, 0),
            EXIT,
            set(reg(2), 0),
            set(R0, 0),
            EXIT,
        ],
    ]
    .concat();
    let (facts, fact) = before_last(&inner, 6, R1);
    assert_eq!((facts.map, fact.object), (None, None));
    assert_eq!(before_last(&inner, 2, R0).1.object, None);
    let plain = [&look_up()[..], &[set(reg(2), 0), set(R0, 0), EXIT]].concat();
    assert_eq!(before_last(&plain, 2, R0).1.object, Some(Object::Map(MapIndex(0))));
}
