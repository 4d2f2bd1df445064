//! Writes to sections of constants through pointers that were in memory or in another function.

use bpf2sys_bytecode::{GlobalIndex, GlobalSection, Imm64, Instruction, MapIndex, MapOrigin, Operand, Reg, Width};

use bpf2sys_platform::Platform;

use super::build::{EXIT, add, copy, helper, judge_by, load, load_map, local, map, module, reg, set, store};
use crate::{RejectionReason, Verifier};

/// Bytes in `.rodata`.
const SIZE: usize = 20;

const CONSTANTS: Instruction = Instruction::LoadImm64 {
    dst: Reg::R1,
    value: Imm64::Global {
        section: GlobalIndex(0),
        offset: 0,
    },
};

fn put(base: Reg, offset: i16, src: Reg) -> Instruction {
    Instruction::Store {
        width: Width::Dw,
        base,
        offset,
        src: Operand::Reg(src),
    }
}

/// Whether these functions are refused for what they write; anything but that must be accepted. Map 1 is a hash table with
/// values of `value_size` bytes.
fn is_refused(functions: &[&[Instruction]], value_size: u32) -> bool {
    let mut module = module("bind", functions);
    let mut constants = map("m.rodata", 2, 4, SIZE as u32);
    constants.origin = MapOrigin::Global(GlobalIndex(0));
    module.maps.extend([constants, map("values", 1, 4, value_size)]);
    module.globals.push(GlobalSection {
        section: ".rodata".to_owned(),
        map: MapIndex(0),
        data: vec![0; SIZE],
        read_only: true,
    });
    // Ours follows such pointers and has no need of these rules.
    match judge_by(Verifier::Prevail, &Platform::builtin(), module) {
        Ok(_) => false,
        Err(RejectionReason::ReadOnlyWrite { section }) => section == ".rodata",
        Err(other) => panic!("{other:?}"),
    }
}

/// `r0` is a value of map 1.
fn look_up() -> Vec<Instruction> {
    let null = Instruction::JumpIf {
        size: bpf2sys_bytecode::WordSize::W64,
        condition: bpf2sys_bytecode::Condition::Ne,
        dst: Reg::R0,
        src: Operand::Imm(0),
        offset: 2,
    };
    let key = [store(Reg::R10, -8, 0), copy(reg(2), Reg::R10), add(reg(2), -8)];
    [
        &key[..],
        &[load_map(Reg::R1, 1), helper(1), null, set(Reg::R0, 0), EXIT],
    ]
    .concat()
}

#[test]
fn a_pointer_to_constants_is_known_by_its_size_when_it_comes_back() {
    let r6 = reg(6);
    let end = [set(Reg::R0, 0), EXIT];
    let spilled = [&[CONSTANTS, put(Reg::R10, -16, Reg::R1), load(r6, Reg::R10, -16)][..]].concat();
    let writes = [&spilled[..], &[add(r6, 4), store(r6, 0, 1)], &end].concat();
    assert!(is_refused(&[&writes], 8));
    let reads = [&spilled[..], &[load(r6, r6, 0)], &end].concat();
    assert!(!is_refused(&[&reads], 8));

    let passed = [&[CONSTANTS, local(1)][..], &end].concat();
    let callee = [&[store(Reg::R1, 0, 1)][..], &end].concat();
    assert!(is_refused(&[&passed, &callee], 8));
    // The callee finds the caller's registers.
    let kept = [&[CONSTANTS, copy(r6, Reg::R1), local(1)][..], &end].concat();
    let callee = [&[store(r6, 0, 1)][..], &end].concat();
    assert!(is_refused(&[&kept, &callee], 8));

    let asks = [&[local(1), store(Reg::R0, 0, 1)][..], &end].concat();
    let gives = [CONSTANTS, copy(Reg::R0, Reg::R1), EXIT];
    assert!(is_refused(&[&asks, &gives], 8));
}

#[test]
fn a_map_value_that_comes_back_is_not_taken_for_constants_of_another_size() {
    let r6 = reg(6);
    let after = [
        CONSTANTS,
        put(Reg::R10, -16, Reg::R1),
        put(Reg::R10, -24, Reg::R0),
        load(r6, Reg::R10, -24),
        store(r6, 0, 1),
        set(Reg::R0, 0),
        EXIT,
    ];
    let spills = [&look_up()[..], &after].concat();
    assert!(!is_refused(&[&spills], 24));
    // A size that both have is the price of not following what is in memory.
    assert!(is_refused(&[&spills], SIZE as u32));
    // Nobody else can get at constants that are nowhere but in registers.
    let alone: Vec<Instruction> = spills
        .into_iter()
        .filter(|op| *op != put(Reg::R10, -16, Reg::R1))
        .collect();
    assert!(!is_refused(&[&alone], SIZE as u32));
}
