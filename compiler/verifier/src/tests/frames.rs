//! Who touches which bytes of a stack frame, on programs written for it.

use bpf2sys_bytecode::{AluOp, InsnIndex, Instruction, MapIndex, Module, Operand, Reg, Width};

use super::build::{EXIT, add, alu, copy, helper, judge, load, load_map, local, map, module, reg, set, store};
use crate::{FrameFacts, Object, StackEscape, StackSlot, Through, VerifiedModule};

const R10: Reg = Reg::R10;

fn with_map(functions: &[&[Instruction]]) -> VerifiedModule {
    let mut module: Module = module("xdp", functions);
    module.maps = vec![map("values", 2, 4, 8)];
    judge(module).unwrap()
}

fn frame(verified: &VerifiedModule, function: u32) -> Option<&FrameFacts> {
    verified
        .facts(bpf2sys_bytecode::FunctionIndex(function))
        .frame
        .as_deref()
}

fn slot(offset: i32, size: u32, private: bool, whole: bool) -> StackSlot {
    StackSlot {
        offset,
        size,
        private,
        whole,
        initialized: true,
    }
}

fn escape(at: u32, bytes: (i32, i32), by: Through, writes: bool) -> StackEscape {
    StackEscape {
        at: InsnIndex(at),
        bytes,
        by,
        writes,
    }
}

fn narrow(base: Reg, offset: i16, width: Width) -> Instruction {
    Instruction::Store {
        width,
        base,
        offset,
        src: Operand::Imm(0),
    }
}

#[test]
fn a_key_escapes_to_its_call_and_nothing_else_does() {
    let verified = with_map(&[&[
        store(R10, -16, 5),
        narrow(R10, -4, Width::W),
        copy(reg(2), R10),
        add(reg(2), -4),
        load_map(reg(1), 0),
        helper(1),
        load(reg(0), R10, -16),
        EXIT,
    ]]);
    let frame = frame(&verified, 0).unwrap();
    assert_eq!(frame.slots, [slot(-16, 8, true, true), slot(-4, 4, false, true)]);
    assert_eq!(frame.escapes, [escape(5, (-4, 0), Through::Callee, false)]);
    assert_eq!((frame.accesses.len(), frame.lowest()), (3, -16));
}

#[test]
fn accesses_of_different_widths_share_a_slot() {
    let verified = with_map(&[&[
        narrow(R10, -8, Width::W),
        narrow(R10, -4, Width::W),
        load(reg(0), R10, -8),
        EXIT,
    ]]);
    assert_eq!(frame(&verified, 0).unwrap().slots, [slot(-8, 8, true, false)]);
}

#[test]
fn an_address_that_is_spilled_and_comes_back_is_still_known() {
    let spill = Instruction::Store {
        width: Width::Dw,
        base: R10,
        offset: -24,
        src: Operand::Reg(reg(6)),
    };
    let verified = with_map(&[&[
        copy(reg(6), R10),
        add(reg(6), -8),
        spill,
        store(reg(6), 0, 1),
        load(reg(7), R10, -24),
        load(reg(0), reg(7), 0),
        EXIT,
    ]]);
    let frame = frame(&verified, 0).unwrap();
    assert_eq!(frame.slots, [slot(-24, 8, true, true), slot(-8, 8, true, true)]);
    assert!(frame.escapes.is_empty());
}

#[test]
fn a_function_touches_of_its_callers_frame_what_it_gets_the_address_of() {
    let caller = [
        store(R10, -8, 1),
        store(R10, -16, 1),
        copy(reg(1), R10),
        add(reg(1), -16),
        local(1),
        load(reg(0), R10, -8),
        EXIT,
    ];
    let verified = with_map(&[&caller, &[store(reg(1), 0, 7), set(Reg::R0, 0), EXIT]]);
    let found = frame(&verified, 0).unwrap();
    assert_eq!(found.slots, [slot(-16, 8, false, true), slot(-8, 8, true, true)]);
    assert_eq!(found.escapes, [escape(4, (-16, -8), Through::Subprogram, true)]);
    assert_eq!(frame(&verified, 1), Some(&FrameFacts::default()));
}

#[test]
fn an_access_at_an_unknown_distance_may_be_wherever_the_engine_lets_it() {
    let verified = with_map(&[&[
        helper(6),
        copy(reg(6), Reg::R0),
        alu(AluOp::And, reg(6), Operand::Imm(8)),
        store(R10, -8, 1),
        store(R10, -16, 1),
        store(R10, -24, 1),
        copy(reg(7), R10),
        add(reg(7), -16),
        alu(AluOp::Add, reg(7), Operand::Reg(reg(6))),
        load(reg(0), reg(7), 0),
        store(reg(7), 0, 2),
        EXIT,
    ]]);
    let frame = frame(&verified, 0).unwrap();
    assert_eq!(
        frame.escapes,
        [
            escape(9, (-16, 0), Through::Pointer, false),
            escape(10, (-16, 0), Through::Pointer, true)
        ]
    );
    assert_eq!(
        frame.slots.iter().map(|slot| slot.private).collect::<Vec<_>>(),
        [true, false, false]
    );
}

#[test]
fn what_a_function_may_reach_below_the_address_that_it_gets_is_not_known() {
    // The callee gets an address at a distance that it does not know, and may come down into its own frame.
    let caller = [
        helper(6),
        copy(reg(6), Reg::R0),
        alu(AluOp::And, reg(6), Operand::Imm(8)),
        store(R10, -8, 1),
        store(R10, -16, 1),
        copy(reg(1), R10),
        add(reg(1), -16),
        alu(AluOp::Add, reg(1), Operand::Reg(reg(6))),
        local(1),
        EXIT,
    ];
    let verified = with_map(&[&caller, &[store(R10, -8, 1), load(Reg::R0, reg(1), 0), EXIT]]);
    assert_eq!(frame(&verified, 1), None);
    assert_eq!(
        frame(&verified, 0).unwrap().escapes,
        [escape(8, (-512, 0), Through::Subprogram, true)]
    );
}

#[test]
fn a_pointer_to_a_map_value_is_known_until_something_else_may_have_been_put_there() {
    let spill = Instruction::Store {
        width: Width::Dw,
        base: R10,
        offset: -16,
        src: Operand::Reg(Reg::R0),
    };
    let null = Instruction::JumpIf {
        size: bpf2sys_bytecode::WordSize::W64,
        condition: bpf2sys_bytecode::Condition::Eq,
        dst: reg(7),
        src: Operand::Imm(0),
        offset: 1,
    };
    let verified = with_map(&[&[
        narrow(R10, -4, Width::W),
        copy(reg(2), R10),
        add(reg(2), -4),
        load_map(reg(1), 0),
        helper(1),
        spill,
        load(reg(7), R10, -16),
        null,
        load(reg(8), reg(7), 0),
        set(Reg::R0, 0),
        EXIT,
    ]]);
    let facts = verified.facts(bpf2sys_bytecode::FunctionIndex(0));
    let (before, behind) = (
        facts.register(InsnIndex(7), reg(7)),
        facts.register(InsnIndex(8), reg(7)),
    );
    let values = Some(Object::Map(MapIndex(0)));
    assert_eq!((before.object, before.non_null), (values, false));
    assert_eq!(
        (behind.object, behind.non_null, behind.offset, behind.room),
        (values, true, Some((0, 0)), 8)
    );
}
