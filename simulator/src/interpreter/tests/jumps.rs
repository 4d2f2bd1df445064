//! RFC 9669 §4.3.

use bpf2sys_bytecode::Condition;

use super::*;

/// `dst`, `src`, and the names of the conditions that hold for `JMP` and for `JMP32`.
const OPERANDS: &[(u64, u64, &str, &str)] = &[
    (5, 5, "Eq Ge Set Sge Le Sle", "Eq Ge Set Sge Le Sle"),
    (0, 0, "Eq Ge Sge Le Sle", "Eq Ge Sge Le Sle"),
    (6, 1, "Gt Ge Ne Sgt Sge", "Gt Ge Ne Sgt Sge"),
    (1, 6, "Ne Lt Le Slt Sle", "Ne Lt Le Slt Sle"),
    // -1 and 1: the sign decides.
    (u64::MAX, 1, "Gt Ge Set Ne Slt Sle", "Gt Ge Set Ne Slt Sle"),
    (1, u64::MAX, "Set Ne Sgt Sge Lt Le", "Set Ne Sgt Sge Lt Le"),
    // Only the upper halves differ.
    (0x1_0000_0005, 5, "Gt Ge Set Ne Sgt Sge", "Eq Ge Set Sge Le Sle"),
    (5, 0x8000_0000_0000_0005, "Set Ne Sgt Sge Lt Le", "Eq Ge Set Sge Le Sle"),
    // The sign of the low half is a sign for `JMP32` only.
    (0x8000_0000, 0x7FFF_FFFF, "Gt Ge Ne Sgt Sge", "Gt Ge Ne Slt Sle"),
    (0x8000_0000_0000_0000, 0, "Gt Ge Ne Slt Sle", "Eq Ge Sge Le Sle"),
    // A common bit in the upper half only.
    (0x1_0000_0001, 0x1_0000_0002, "Set Ne Lt Le Slt Sle", "Ne Lt Le Slt Sle"),
];

fn jump_if(size: WordSize, condition: Condition, src: Operand, offset: i16) -> Instruction {
    Instruction::JumpIf {
        size,
        condition,
        dst: r(1),
        src,
        offset,
    }
}

#[test]
fn conditions() {
    for &(dst, src, wide, narrow) in OPERANDS {
        for condition in Condition::ALL {
            for (size, holding) in [(WordSize::W64, wide), (WordSize::W32, narrow)] {
                let expected = holding.split(' ').any(|name| name == format!("{condition:?}"));
                let jump = |src| jump_if(size, condition, src, 2);
                let ending = [mov(0, Operand::Imm(0)), EXIT, mov(0, Operand::Imm(1)), EXIT];
                let code = [&[set(1, dst), set(2, src), jump(reg(2))][..], &ending].concat();
                let what = format!("{condition:?} {size:?} {dst:#x} {src:#x}");
                assert_eq!(result(&code), Ok(u64::from(expected)), "{what}");
                let imm = src as i32;
                if i64::from(imm).cast_unsigned() == src {
                    let code = [&[set(1, dst), jump(Operand::Imm(imm))][..], &ending].concat();
                    assert_eq!(result(&code), Ok(u64::from(expected)), "{what} immediate");
                }
            }
        }
    }
}

#[test]
fn distances_count_slots_from_the_next_instruction() {
    for size in SIZES {
        let jump = |offset| Instruction::Jump { size, offset };
        // Over an `lddw` of two slots, and back.
        let code = [
            jump(3),                 // 0
            set(0, 7),               // 1, 2
            EXIT,                    // 3
            mov(0, Operand::Imm(1)), // 4
            jump(-5),                // 5
        ];
        assert_eq!(result(&code), Ok(7), "{size:?}");
        assert_eq!(result(&[mov(0, Operand::Imm(3)), jump(0), EXIT]), Ok(3), "{size:?}");
    }
    let back = [
        set(1, 3),
        mov(0, Operand::Imm(0)),
        alu(WordSize::W64, AluOp::Add, 0, reg(1)),
        alu(WordSize::W64, AluOp::Sub, 1, Operand::Imm(1)),
        jump_if(WordSize::W64, Condition::Ne, Operand::Imm(0), -3),
        EXIT,
    ];
    assert_eq!(result(&back), Ok(3 + 2 + 1));
}

#[test]
fn a_jump_of_32_bits_reaches_farther_than_16() {
    let mut code = vec![Instruction::Jump {
        size: WordSize::W32,
        offset: 40_001,
    }];
    code.resize(40_001, mov(0, Operand::Imm(1)));
    code.extend([EXIT, mov(0, Operand::Imm(2)), EXIT]);
    assert_eq!(result(&code), Ok(2));
}

#[test]
fn a_jump_out_of_the_function_is_an_error() {
    let jump = |offset| Instruction::Jump {
        size: WordSize::W64,
        offset,
    };
    for code in [
        [jump(2), EXIT],
        [jump(-2), EXIT],
        [jump(i32::MAX), EXIT],
        [jump(i32::MIN), EXIT],
    ] {
        assert_eq!(problem(&[&code]), Problem::Missing("jump target"));
    }
    let inside_lddw = [jump(1), set(0, 1), EXIT];
    assert_eq!(problem(&[&inside_lddw]), Problem::Missing("jump target"));
    assert_eq!(problem(&[&[mov(0, Operand::Imm(0))]]), Problem::FellOffEnd);
    assert_eq!(problem(&[&[]]), Problem::FellOffEnd);
}
