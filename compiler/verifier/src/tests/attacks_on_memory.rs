//! The same for memory: programs that use more of it than there is, or that hold what was never written, each beside one
//! that does not.

use bpf2sys_bytecode::{AluOp, Condition, Instruction, Operand, Reg, Width};
use bpf2sys_platform::{Platform, ProgramType};
use std::sync::Arc;

use super::attacks::{
    R0, R1, R10, RANDOM, differ, differ_on, is_accepted_on, jump_if, look_up, narrow, packet, put, use_as_index,
};
use super::build::{EXIT, add, alu, copy, helper, load, load_map, reg, set, store};

/// Fills memory in `r1`, of the size in `r2`, with the byte in `r3`.
const FILL: i32 = 24;
/// Copies to memory in `r1`, of the size in `r2`, as much as there is of a text in `r3`, of the size in `r4`.
const COPY_TEXT: i32 = 27;
/// Reads memory in `r1`, of the size in `r2`, which is not 0.
const PRINT: i32 = 12;
/// Reads memory in `r1` and in `r3`, of the sizes in `r2` and in `r4`, or nothing.
const SUM: i32 = 10;
/// Puts an element of the queue in `r1` where `r2` points to.
const POP: i32 = 17;
/// Two without arguments.
const PROCESSOR: i32 = 8;
const TIME: i32 = 9;

/// A number with these bits.
fn random(register: Reg, mask: i32) -> [Instruction; 3] {
    [
        helper(RANDOM),
        alu(AluOp::And, R0, Operand::Imm(mask)),
        copy(register, R0),
    ]
}

/// The address of a byte of the frame, less what a register holds if it is given.
fn address(register: Reg, offset: i32, less: Option<Reg>) -> Vec<Instruction> {
    let base = [copy(register, R10), add(register, offset)];
    let less = less.map(|less| alu(AluOp::Sub, register, Operand::Reg(less)));
    base.into_iter().chain(less).collect()
}

fn program(parts: &[&[Instruction]]) -> Vec<Instruction> {
    [&parts.concat()[..], &[set(R0, 0), EXIT]].concat()
}

/// The built-in platform with this change of a helper.
fn with_helper(id: i32, change: impl Fn(&mut bpf2sys_platform::Helper)) -> Platform {
    let mut platform = Platform::builtin();
    let of = |helper: &&mut bpf2sys_platform::Helper| helper.id == id.cast_unsigned();
    platform.helpers.iter_mut().filter(of).for_each(&change);
    for program_type in &mut platform.program_types {
        let helpers = &mut Arc::make_mut(program_type).helpers;
        helpers.iter_mut().filter(of).for_each(&change);
    }
    platform
}

fn with_type(change: impl Fn(&mut ProgramType)) -> Platform {
    let mut platform = Platform::builtin();
    for program_type in &mut platform.program_types {
        change(Arc::make_mut(program_type));
    }
    platform
}

#[test]
fn a_size_is_as_large_as_it_may_be() {
    // All of a value, or more.
    let [right, wrong] = [7, 15].map(|mask| {
        let size = random(reg(6), mask);
        let found = [copy(R1, R0), copy(reg(2), reg(6)), set(reg(3), 0), helper(FILL)];
        let null = jump_if(Condition::Eq, R0, Operand::Imm(0), 4);
        program(&[&size, &look_up(), &[null], &found])
    });
    differ(&right, &wrong);
    // Bytes behind the first are written, too, and read.
    let [right, wrong] = [reg(7), reg(6)].map(|index| {
        let before = [store(R10, -16, 0), store(R10, -24, 0), store(R10, -32, 0)];
        let fill = [copy(reg(2), R0), set(reg(3), 1), helper(FILL)];
        let after = [load(reg(6), R10, -16), load(reg(7), R10, -32)];
        let address = address(R1, -24, None);
        program(&[
            &before,
            &random(R0, 15),
            &address,
            &fill,
            &after,
            &use_as_index(index, 0),
        ])
    });
    differ(&right, &wrong);
    let [right, wrong] = [-16, -24].map(|written| {
        let before = [store(R10, -8, 0), store(R10, written, 0)];
        let print = [copy(reg(2), R0), add(reg(2), 1), helper(PRINT)];
        program(&[&before, &random(R0, 15), &address(R1, -16, None), &print])
    });
    differ(&right, &wrong);
}

#[test]
fn a_callee_that_may_fill_less_leaves_the_rest() {
    // A part that was never written.
    let fill = |before: &[Instruction], size: &[Instruction], address: &[Instruction]| {
        let rest = [
            set(reg(3), 0),
            helper(FILL),
            load(R0, R10, -16),
            load(R0, R10, -8),
            EXIT,
        ];
        [before, size, address, &rest].concat()
    };
    let written = [store(R10, -16, 0), store(R10, -8, 0)];
    let some = [&random(R0, 15)[..], &[copy(reg(2), R0), add(reg(2), 1)]].concat();
    let place = address(R1, -16, None);
    differ(&fill(&written, &some, &place), &fill(&[], &some, &place));
    assert!(super::attacks::is_accepted(&[&fill(&[], &[set(reg(2), 16)], &place)]));
    let half = [&random(R0, 8)[..], &[set(reg(2), 8)]].concat();
    let place = address(R1, -8, Some(R0));
    differ(&fill(&written, &half, &place), &fill(&[], &half, &place));
    // What it copies may be short, and the rest a pointer.
    let copies = |before: &[Instruction]| {
        let text = [set(reg(2), 8), set(reg(4), 8), helper(COPY_TEXT)];
        let places = [address(R1, -16, None), address(reg(3), -8, None)].concat();
        program(&[&[store(R10, -8, 0)], before, &places, &text])
    };
    differ(&copies(&[store(R10, -16, 0)]), &copies(&[]));
}

#[test]
fn a_callee_may_read_at_every_distance() {
    for there in [-8, -16] {
        let reads = |other: i16| {
            let before = [store(R10, there, 0), store(R10, other, 0)];
            let place = address(R1, -8, Some(R0));
            program(&[&before, &random(R0, 8), &place, &[set(reg(2), 8), helper(PRINT)]])
        };
        differ(&reads(-24 - there), &reads(-24));
    }
    let reads = |first: i16| {
        let before = [store(R10, -16, 0), store(R10, first, 0)];
        let place = address(reg(6), -8, Some(R0));
        let add_back = [load(R0, reg(6), 0), EXIT];
        [&before[..], &random(R0, 8), &place, &add_back].concat()
    };
    differ(&reads(-8), &reads(-24));
}

#[test]
fn null_has_no_size() {
    let sum = |null: i32, size: i32| {
        let arguments = [set(R1, null), set(reg(2), size), copy(reg(3), R10), add(reg(3), -8)];
        let rest = [set(reg(4), 4), set(reg(5), 0), helper(SUM)];
        program(&[&[store(R10, -8, 0)], &arguments, &rest])
    };
    differ(&sum(0, 0), &sum(0, 4));
    differ(&sum(0, 0), &sum(5, 0));
    let found = [copy(R1, R0), set(reg(2), 8), set(reg(3), 0), helper(FILL)];
    let null = [jump_if(Condition::Eq, R0, Operand::Imm(0), 4)];
    differ(&program(&[&look_up(), &null, &found]), &program(&[&look_up(), &found]));
}

#[test]
fn arguments_are_of_the_kind_that_is_needed() {
    let print = |place: &[Instruction]| program(&[&[store(R10, -8, 0)], place, &[set(reg(2), 8), helper(PRINT)]]);
    differ(&print(&address(R1, -8, None)), &print(&[]));
    // An argument that no prototype lists.
    let platform = with_helper(PROCESSOR, |helper| helper.reads_unlisted = vec![2]);
    let with = |value| program(&[&[value], &[helper(PROCESSOR)]]);
    differ_on(&platform, &with(set(reg(2), 0)), &with(copy(reg(2), R10)));
    // A socket, or null.
    let mut platform = with_helper(PROCESSOR, |helper| helper.return_type = 4);
    let taker = with_helper(TIME, |helper| helper.arguments = [19, 0, 0, 0, 0]);
    let of = |platform: &Platform| {
        platform
            .helpers
            .iter()
            .position(|helper| helper.id == TIME.cast_unsigned())
    };
    let at = of(&taker).unwrap();
    platform.helpers[at] = taker.helpers[at].clone();
    let take = [copy(R1, R0), helper(TIME)];
    let null = [jump_if(Condition::Eq, R0, Operand::Imm(0), 2)];
    let (right, wrong) = (
        program(&[&[helper(PROCESSOR)], &null, &take]),
        program(&[&[helper(PROCESSOR)], &take]),
    );
    differ_on(&platform, &right, &wrong);
}

#[test]
fn a_value_that_a_callee_writes_is_another() {
    // As an argument that is said to be written, or only known to be.
    for (class, writes) in [(31, vec![]), (8, vec![2])] {
        let platform = with_helper(POP, |helper| {
            helper.arguments[1] = class;
            helper.writes_readable.clone_from(&writes);
            helper.checks_map_type = false;
            helper.runtime_map_types = None;
        });
        let [right, wrong] = [reg(7), reg(6)].map(|index| {
            let before = [store(R10, -16, 0), store(R10, -24, 0), load_map(R1, 0)];
            let after = [helper(POP), load(reg(6), R10, -16), load(reg(7), R10, -24)];
            program(&[&before, &address(reg(2), -16, None), &after, &use_as_index(index, 0)])
        });
        differ_on(&platform, &right, &wrong);
    }
}

#[test]
fn an_access_lies_in_its_memory_at_every_distance() {
    let context = |less: i32| {
        let place = [copy(reg(6), R1)];
        let access = [add(reg(6), -less), alu(AluOp::Add, reg(6), Operand::Reg(R0))];
        program(&[&place, &random(R0, 7), &access, &[narrow(Width::B, R0, reg(6), 0)]])
    };
    differ(&context(0), &context(4));
    // A pointer, or another one, or half of one.
    let field = |make: &[Instruction]| {
        let start = [copy(reg(6), R1)];
        let check = [
            load(reg(3), reg(6), 8),
            load(reg(2), R1, 0),
            copy(reg(4), reg(2)),
            add(reg(4), 8),
            jump_if(Condition::Gt, reg(4), Operand::Reg(reg(3)), 1),
            load(reg(5), reg(2), 0),
        ];
        program(&[&start, make, &check])
    };
    let some = [
        &random(R0, 8)[..],
        &[copy(R1, reg(6)), alu(AluOp::Add, R1, Operand::Reg(R0))],
    ]
    .concat();
    differ(&field(&[]), &field(&some));
    let written = |offset| program(&[&[set(reg(2), 0), put(Width::W, R1, offset, reg(2))]]);
    differ(&written(24), &written(4));
}

#[test]
fn a_size_that_was_compared_with_the_end_is_one_from_where_it_was_added() {
    let [right, wrong] = [0, 14].map(|from| {
        let size = [add(R0, 1), copy(reg(7), R0)];
        let start = [
            copy(reg(4), reg(2)),
            alu(AluOp::Add, reg(4), Operand::Reg(reg(7))),
            jump_if(Condition::Gt, reg(4), Operand::Reg(reg(3)), 4),
            copy(R1, reg(2)),
            add(R1, from),
            copy(reg(2), reg(7)),
            helper(PRINT),
        ];
        let context = [copy(reg(6), R1)];
        let again = [copy(R1, reg(6))];
        program(&[&context, &random(R0, 63), &size, &again, &packet(), &start])
    });
    differ(&right, &wrong);
}

#[test]
fn metadata_begins_where_it_begins() {
    let platform = with_type(|program_type| program_type.context.data_meta_null = false);
    let [right, wrong] = [0, -1].map(|offset| {
        let code = [
            load(reg(2), R1, 16),
            load(reg(3), R1, 0),
            copy(reg(4), reg(2)),
            add(reg(4), 1),
            jump_if(Condition::Gt, reg(4), Operand::Reg(reg(3)), 1),
            narrow(Width::B, reg(5), reg(2), offset),
        ];
        is_accepted_on(&platform, &[&program(&[&code])])
    });
    assert_eq!((right, wrong), (true, false));
}

#[test]
fn a_pointer_that_is_stored_somewhere_is_no_number_anywhere_there() {
    let stores = |value: Reg| {
        let before = [set(reg(7), 0), store(R10, -8, 0), store(R10, -16, 0)];
        let place = address(reg(6), -8, Some(R0));
        let after = [put(Width::Dw, reg(6), 0, value), load(R0, R10, -8), EXIT];
        [&before[..], &random(R0, 8), &place, &after].concat()
    };
    differ(&stores(reg(7)), &stores(R10));
}
