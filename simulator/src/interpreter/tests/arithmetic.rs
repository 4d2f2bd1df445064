//! RFC 9669 §4.1 and §4.2.

use bpf2sys_bytecode::{Extension, SwapKind, SwapWidth};

use super::*;

const MIN64: u64 = 0x8000_0000_0000_0000;
const MIN32: u64 = 0x8000_0000;
const ONES: u64 = u64::MAX;

/// Operation, `dst`, `src`, and `dst` afterwards as `ALU64` and as `ALU`.
const TWO_OPERANDS: &[(AluOp, u64, u64, u64, u64)] = &[
    (AluOp::Add, 1, 2, 3, 3),
    (AluOp::Add, ONES, 1, 0, 0),
    (AluOp::Add, 0xFFFF_FFFF, 1, 0x1_0000_0000, 0),
    (AluOp::Add, 5, ONES, 4, 4),
    (AluOp::Sub, 1, 2, ONES, 0xFFFF_FFFF),
    (AluOp::Sub, 0x1_0000_0000, 1, 0xFFFF_FFFF, 0xFFFF_FFFF),
    (AluOp::Sub, MIN64, 1, 0x7FFF_FFFF_FFFF_FFFF, 0xFFFF_FFFF),
    (AluOp::Mul, 3, ONES, 0xFFFF_FFFF_FFFF_FFFD, 0xFFFF_FFFD),
    (AluOp::Mul, 0x1_0000_0001, 0x1_0000_0001, 0x2_0000_0001, 1),
    (AluOp::Mul, 0x8000_0000, 2, 0x1_0000_0000, 0),
    (AluOp::Div, 7, 2, 3, 3),
    (AluOp::Div, ONES, 2, 0x7FFF_FFFF_FFFF_FFFF, 0x7FFF_FFFF),
    (AluOp::Div, MIN64, ONES, 0, 0),
    (AluOp::Div, MIN32, ONES, 0, 0),
    // The divisor's low half alone is what `ALU` divides by.
    (AluOp::Div, 0x1_0000_0009, 0x1_0000_0003, 1, 3),
    (AluOp::Div, 9, 0, 0, 0),
    (AluOp::Div, 9, 0x1_0000_0000, 0, 0),
    (AluOp::Sdiv, 7, ONES - 1, 0xFFFF_FFFF_FFFF_FFFD, 0xFFFF_FFFD), // 7 / -2 = -3
    (AluOp::Sdiv, ONES - 6, 2, 0xFFFF_FFFF_FFFF_FFFD, 0xFFFF_FFFD), // -7 / 2 = -3
    (AluOp::Sdiv, ONES - 6, ONES - 1, 3, 3),                        // -7 / -2 = 3
    (AluOp::Sdiv, MIN64, ONES, MIN64, 0),
    (AluOp::Sdiv, MIN32, ONES, 0xFFFF_FFFF_8000_0000, MIN32),
    (AluOp::Sdiv, MIN64, 0, 0, 0),
    (AluOp::Sdiv, ONES, 0, 0, 0),
    (AluOp::Or, 0x5_0000_0005, 0xA_0000_000A, 0xF_0000_000F, 0xF),
    (AluOp::Or, 0, ONES, ONES, 0xFFFF_FFFF),
    (
        AluOp::And,
        ONES,
        0xF0F0_F0F0_F0F0_F0F0,
        0xF0F0_F0F0_F0F0_F0F0,
        0xF0F0_F0F0,
    ),
    (AluOp::And, 0x1234_5678_9ABC_DEF0, 0xFF, 0xF0, 0xF0),
    (AluOp::Lsh, 1, 31, MIN32, MIN32),
    (AluOp::Lsh, 1, 32, 0x1_0000_0000, 1),
    (AluOp::Lsh, 1, 63, MIN64, MIN32),
    (AluOp::Lsh, 1, 64, 1, 1),
    (AluOp::Lsh, 1, 65, 2, 2),
    (AluOp::Lsh, 3, ONES, MIN64, MIN32),
    (AluOp::Rsh, ONES, 4, 0x0FFF_FFFF_FFFF_FFFF, 0x0FFF_FFFF),
    (AluOp::Rsh, MIN64, 63, 1, 0),
    (AluOp::Rsh, MIN32, 31, 1, 1),
    (AluOp::Rsh, 0x1_8000_0000, 32, 1, MIN32),
    (AluOp::Rsh, 0xF0, 68, 0xF, 0xF),
    (AluOp::Rsh, MIN64, ONES, 1, 0),
    (AluOp::Mod, 7, 4, 3, 3),
    (AluOp::Mod, ONES, 10, 5, 5), // 18446744073709551615 and 4294967295
    (AluOp::Mod, MIN64, ONES, MIN64, 0),
    (AluOp::Mod, 0x1_0000_0009, 0x1_0000_0004, 5, 1),
    (AluOp::Mod, 0x1234_5678_9ABC_DEF0, 0, 0x1234_5678_9ABC_DEF0, 0x9ABC_DEF0),
    (
        AluOp::Mod,
        0x1234_5678_9ABC_DEF0,
        0x1_0000_0000,
        0x9ABC_DEF0,
        0x9ABC_DEF0,
    ),
    (AluOp::Smod, 13, ONES - 2, 1, 1),                     // 13 % -3 = 1
    (AluOp::Smod, ONES - 12, 3, ONES, 0xFFFF_FFFF),        // -13 % 3 = -1
    (AluOp::Smod, ONES - 12, ONES - 2, ONES, 0xFFFF_FFFF), // -13 % -3 = -1
    (AluOp::Smod, MIN64, ONES, 0, 0),
    (AluOp::Smod, MIN32, ONES, 0, 0),
    (
        AluOp::Smod,
        0xFEDC_BA98_7654_3210,
        0,
        0xFEDC_BA98_7654_3210,
        0x7654_3210,
    ),
    (AluOp::Xor, ONES, 0xFF, 0xFFFF_FFFF_FFFF_FF00, 0xFFFF_FF00),
    (AluOp::Xor, ONES, ONES, 0, 0),
    (AluOp::Mov, 7, ONES, ONES, 0xFFFF_FFFF),
    (AluOp::Mov, 7, MIN64, MIN64, 0),
    (AluOp::Mov, ONES, 0xFFFF_FFFF_8000_0000, 0xFFFF_FFFF_8000_0000, MIN32),
    (AluOp::Arsh, MIN64, 63, ONES, 0),
    (AluOp::Arsh, MIN32, 31, 1, 0xFFFF_FFFF),
    (AluOp::Arsh, 0xFFFF_FFFF_0000_0010, 4, 0xFFFF_FFFF_F000_0001, 1),
    (AluOp::Arsh, 0x7FFF_FFFF_8000_0000, 32, 0x7FFF_FFFF, MIN32),
    (AluOp::Arsh, MIN32, 33, 0, 0xC000_0000),
    (AluOp::Arsh, ONES - 7, 66, ONES - 1, 0xFFFF_FFFE),
    (AluOp::Arsh, MIN64, ONES, ONES, 0),
];

#[test]
fn operations_with_two_operands() {
    for &(op, dst, src, wide, narrow) in TWO_OPERANDS {
        for (size, expected) in [(WordSize::W64, wide), (WordSize::W32, narrow)] {
            let code = [set(0, dst), set(1, src), alu(size, op, 0, reg(1)), EXIT];
            assert_eq!(result(&code), Ok(expected), "{op:?} {size:?} {dst:#x} {src:#x}");
            // An immediate is sign-extended to 64 bits; the low half is what `ALU` sees.
            let imm = src as i32;
            if i64::from(imm).cast_unsigned() == src {
                let code = [set(0, dst), alu(size, op, 0, Operand::Imm(imm)), EXIT];
                assert_eq!(
                    result(&code),
                    Ok(expected),
                    "{op:?} {size:?} {dst:#x} immediate {imm:#x}"
                );
            }
        }
    }
}

#[test]
fn every_operation_takes_its_own_register_as_source() {
    for (op, expected) in [
        (AluOp::Add, 0xFFFF_FFFE),
        (AluOp::Sub, 0),
        (AluOp::Mul, 1),
        (AluOp::Div, 1),
        (AluOp::Sdiv, 1),
        (AluOp::Or, 0xFFFF_FFFF),
        (AluOp::And, 0xFFFF_FFFF),
        (AluOp::Lsh, MIN32),
        (AluOp::Rsh, 1),
        (AluOp::Mod, 0),
        (AluOp::Smod, 0),
        (AluOp::Xor, 0),
        (AluOp::Mov, 0xFFFF_FFFF),
        (AluOp::Arsh, 0xFFFF_FFFF),
    ] {
        let code = [set(0, 0xFFFF_FFFF), alu(WordSize::W32, op, 0, reg(0)), EXIT];
        assert_eq!(result(&code), Ok(expected), "{op:?}");
    }
}

#[test]
fn an_operation_leaves_its_source_and_all_other_registers() {
    let mut code: Vec<_> = (0..10).map(|n| set(n, ONES - u64::from(n))).collect();
    code.push(alu(WordSize::W32, AluOp::Add, 3, reg(4)));
    code.extend((0..10).flat_map(|n| [store(Width::Dw, 10, -80 + 8 * i16::from(n), reg(n))]));
    code.push(EXIT);
    let mut world = world(&[]);
    run_in(&mut world, &[&code]).unwrap();
    let mut stored = [0; 80];
    World::read(&mut world, STACK_END - 80, &mut stored).unwrap();
    for (n, bytes) in (0u64..).zip(stored.chunks_exact(8)) {
        let expected = if n == 3 { 0xFFFF_FFF7 } else { ONES - n };
        assert_eq!(bytes, expected.to_le_bytes(), "r{n}");
    }
}

#[test]
fn negation() {
    for (value, wide, narrow) in [
        (0, 0, 0),
        (1, ONES, 0xFFFF_FFFF),
        (ONES, 1, 1),
        (MIN64, MIN64, 0),
        (MIN32, 0xFFFF_FFFF_8000_0000, MIN32),
        (0x1_0000_0000, 0xFFFF_FFFF_0000_0000, 0),
    ] {
        for (size, expected) in [(WordSize::W64, wide), (WordSize::W32, narrow)] {
            let code = [set(0, value), Instruction::Neg { size, dst: r(0) }, EXIT];
            assert_eq!(result(&code), Ok(expected), "{size:?} {value:#x}");
        }
    }
}

#[test]
fn sign_extending_moves() {
    for (from, value, wide, narrow) in [
        (Extension::S8, 0x7F, 0x7F, 0x7F),
        (Extension::S8, 0x80, 0xFFFF_FFFF_FFFF_FF80, 0xFFFF_FF80),
        (Extension::S8, 0xFFFF_FF01, 1, 1),
        (Extension::S16, 0x7FFF, 0x7FFF, 0x7FFF),
        (Extension::S16, 0x1_8000, 0xFFFF_FFFF_FFFF_8000, 0xFFFF_8000),
        (Extension::S16, ONES, ONES, 0xFFFF_FFFF),
    ] {
        for (size, expected) in [(WordSize::W64, wide), (WordSize::W32, narrow)] {
            assert_eq!(
                result(&movsx(size, from, value)),
                Ok(expected),
                "{from:?} {size:?} {value:#x}"
            );
        }
    }
    for (value, expected) in [
        (0x7FFF_FFFF, 0x7FFF_FFFF),
        (0x1_8000_0000, 0xFFFF_FFFF_8000_0000),
        (0xFFFF_FFFF_0000_0000, 0),
    ] {
        assert_eq!(
            result(&movsx(WordSize::W64, Extension::S32, value)),
            Ok(expected),
            "{value:#x}"
        );
    }
    // §4.1 defines `ALU` for 8 and 16 bits only.
    let undefined = result(&movsx(WordSize::W32, Extension::S32, 0)).unwrap_err();
    assert_eq!(undefined.problem, Problem::NoMeaning);
}

fn movsx(size: WordSize, from: Extension, value: u64) -> [Instruction; 4] {
    let movsx = Instruction::Movsx {
        size,
        from,
        dst: r(0),
        src: r(1),
    };
    [set(0, ONES), set(1, value), movsx, EXIT]
}

#[test]
fn byte_swaps() {
    const VALUE: u64 = 0x8182_8384_8586_8788;
    for (kind, width, expected) in [
        (SwapKind::ToLe, SwapWidth::W16, 0x8788),
        (SwapKind::ToLe, SwapWidth::W32, 0x8586_8788),
        (SwapKind::ToLe, SwapWidth::W64, VALUE),
        (SwapKind::ToBe, SwapWidth::W16, 0x8887),
        (SwapKind::ToBe, SwapWidth::W32, 0x8887_8685),
        (SwapKind::ToBe, SwapWidth::W64, 0x8887_8685_8483_8281),
        (SwapKind::Swap, SwapWidth::W16, 0x8887),
        (SwapKind::Swap, SwapWidth::W32, 0x8887_8685),
        (SwapKind::Swap, SwapWidth::W64, 0x8887_8685_8483_8281),
    ] {
        let swap = Instruction::ByteSwap { kind, width, dst: r(0) };
        assert_eq!(result(&[set(0, VALUE), swap, EXIT]), Ok(expected), "{kind:?} {width:?}");
    }
}
