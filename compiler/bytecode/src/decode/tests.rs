use super::{Malformed, NoReferences, References, decode};
use crate::{Callee, FunctionIndex, Imm64, Instruction, Reference, Slot, encode};

const EXIT: &str = "95 00 00 00 00 00 00 00";

fn slots(hex: &str) -> Vec<Slot> {
    let bytes: Vec<u8> = hex
        .split_whitespace()
        .map(|b| u8::from_str_radix(b, 16).unwrap())
        .collect();
    Slot::all_from_bytes(&bytes).unwrap()
}

/// Every instruction: its bytes, and how it prints.
const INSTRUCTIONS: &[(&str, &str)] = &[
    ("07 01 00 00 05 00 00 00", "r1 += 0x5"),
    ("04 01 00 00 fd ff ff ff", "w1 += -0x3"),
    ("0f 21 00 00 00 00 00 00", "r1 += r2"),
    ("1c 21 00 00 00 00 00 00", "w1 -= w2"),
    ("27 01 00 00 ff ff ff 7f", "r1 *= 0x7fffffff"),
    ("3f 21 00 00 00 00 00 00", "r1 /= r2"),
    ("34 01 01 00 02 00 00 00", "w1 s/= 0x2"),
    ("4f 21 00 00 00 00 00 00", "r1 |= r2"),
    ("57 01 00 00 00 00 00 80", "r1 &= -0x80000000"),
    ("67 01 00 00 03 00 00 00", "r1 <<= 0x3"),
    ("7c 21 00 00 00 00 00 00", "w1 >>= w2"),
    ("97 01 00 00 07 00 00 00", "r1 %= 0x7"),
    ("9c 21 01 00 00 00 00 00", "w1 s%= w2"),
    ("a7 01 00 00 ff ff ff ff", "r1 ^= -0x1"),
    ("b7 01 00 00 05 00 00 00", "r1 = 0x5"),
    ("bc a9 00 00 00 00 00 00", "w9 = w10"),
    ("c4 01 00 00 1f 00 00 00", "w1 s>>= 0x1f"),
    ("bf 21 08 00 00 00 00 00", "r1 = (s8)r2"),
    ("bc 21 10 00 00 00 00 00", "w1 = (s16)w2"),
    ("bf 21 20 00 00 00 00 00", "r1 = (s32)r2"),
    ("87 01 00 00 00 00 00 00", "r1 = -r1"),
    ("84 01 00 00 00 00 00 00", "w1 = -w1"),
    ("dc 01 00 00 10 00 00 00", "r1 = be16 r1"),
    ("d4 01 00 00 20 00 00 00", "r1 = le32 r1"),
    ("d7 01 00 00 40 00 00 00", "r1 = bswap64 r1"),
    (
        "18 01 00 00 f0 de bc 9a 00 00 00 00 78 56 34 12",
        "r1 = 0x123456789abcdef0 ll",
    ),
    ("18 01 00 00 ff ff ff ff 00 00 00 00 ff ff ff ff", "r1 = -0x1 ll"),
    (
        "18 11 00 00 07 00 00 00 00 00 00 00 00 00 00 00",
        "r1 = pseudo 1, 0x7, 0x0 ll",
    ),
    (
        "18 21 00 00 07 00 00 00 00 00 00 00 09 00 00 00",
        "r1 = pseudo 2, 0x7, 0x9 ll",
    ),
    (
        "18 31 00 00 07 00 00 00 00 00 00 00 00 00 00 00",
        "r1 = pseudo 3, 0x7, 0x0 ll",
    ),
    (
        "18 41 00 00 ff ff ff ff 00 00 00 00 00 00 00 00",
        "r1 = pseudo 4, -0x1, 0x0 ll",
    ),
    (
        "18 51 00 00 07 00 00 00 00 00 00 00 00 00 00 00",
        "r1 = pseudo 5, 0x7, 0x0 ll",
    ),
    (
        "18 61 00 00 07 00 00 00 00 00 00 00 09 00 00 00",
        "r1 = pseudo 6, 0x7, 0x9 ll",
    ),
    ("71 21 04 00 00 00 00 00", "r1 = *(u8 *)(r2 + 0x4)"),
    ("69 21 fc ff 00 00 00 00", "r1 = *(u16 *)(r2 - 0x4)"),
    ("61 21 00 00 00 00 00 00", "r1 = *(u32 *)(r2 + 0x0)"),
    ("79 a1 00 80 00 00 00 00", "r1 = *(u64 *)(r10 - 0x8000)"),
    ("91 21 04 00 00 00 00 00", "r1 = *(s8 *)(r2 + 0x4)"),
    ("89 21 04 00 00 00 00 00", "r1 = *(s16 *)(r2 + 0x4)"),
    ("81 21 ff 7f 00 00 00 00", "r1 = *(s32 *)(r2 + 0x7fff)"),
    ("73 3a ff ff 00 00 00 00", "*(u8 *)(r10 - 0x1) = r3"),
    ("7b aa f8 ff 00 00 00 00", "*(u64 *)(r10 - 0x8) = r10"),
    ("6a 0a fe ff fd ff ff ff", "*(u16 *)(r10 - 0x2) = -0x3"),
    ("62 01 00 00 03 00 00 00", "*(u32 *)(r1 + 0x0) = 0x3"),
    ("c3 21 00 00 00 00 00 00", "lock *(u32 *)(r1 + 0x0) += w2"),
    ("db a1 00 00 00 00 00 00", "lock *(u64 *)(r1 + 0x0) += r10"),
    ("db 21 00 00 40 00 00 00", "lock *(u64 *)(r1 + 0x0) |= r2"),
    ("c3 21 00 00 50 00 00 00", "lock *(u32 *)(r1 + 0x0) &= w2"),
    ("db 21 00 00 a0 00 00 00", "lock *(u64 *)(r1 + 0x0) ^= r2"),
    (
        "db 21 08 00 01 00 00 00",
        "r2 = atomic_fetch_add((u64 *)(r1 + 0x8), r2)",
    ),
    ("c3 21 f8 ff 41 00 00 00", "w2 = atomic_fetch_or((u32 *)(r1 - 0x8), w2)"),
    (
        "db 21 08 00 51 00 00 00",
        "r2 = atomic_fetch_and((u64 *)(r1 + 0x8), r2)",
    ),
    (
        "c3 21 08 00 a1 00 00 00",
        "w2 = atomic_fetch_xor((u32 *)(r1 + 0x8), w2)",
    ),
    ("db 21 00 00 e1 00 00 00", "r2 = xchg_64(r1 + 0x0, r2)"),
    ("c3 21 08 00 e1 00 00 00", "w2 = xchg32_32(r1 + 0x8, w2)"),
    ("db 21 00 00 f1 00 00 00", "r0 = cmpxchg_64(r1 + 0x0, r0, r2)"),
    ("c3 21 08 00 f1 00 00 00", "w0 = cmpxchg32_32(r1 + 0x8, w0, w2)"),
    ("05 00 00 00 00 00 00 00", "goto +0x0"),
    ("06 00 00 00 ff ff ff ff", "gotol -0x1"),
    ("1d a1 00 00 00 00 00 00", "if r1 == r10 goto +0x0"),
    ("26 01 00 00 05 00 00 00", "if w1 > 0x5 goto +0x0"),
    ("35 01 ff ff fb ff ff ff", "if r1 >= -0x5 goto -0x1"),
    ("4e 21 00 00 00 00 00 00", "if w1 & w2 goto +0x0"),
    ("5d 21 00 00 00 00 00 00", "if r1 != r2 goto +0x0"),
    ("65 01 00 00 05 00 00 00", "if r1 s> 0x5 goto +0x0"),
    ("7e 21 00 00 00 00 00 00", "if w1 s>= w2 goto +0x0"),
    ("a5 01 00 00 05 00 00 00", "if r1 < 0x5 goto +0x0"),
    ("b6 01 00 00 07 00 00 00", "if w1 <= 0x7 goto +0x0"),
    ("cd 21 00 00 00 00 00 00", "if r1 s< r2 goto +0x0"),
    ("d5 01 00 00 07 00 00 00", "if r1 s<= 0x7 goto +0x0"),
    ("85 00 00 00 19 00 00 00", "call 25"),
    ("85 10 00 00 07 00 00 00", "call function 7"),
    ("8d 03 00 00 00 00 00 00", "callx r3"),
    ("30 00 00 00 17 00 00 00", "r0 = *(u8 *)skb[0x17]"),
    ("48 30 00 00 00 00 00 00", "r0 = *(u16 *)skb[r3]"),
    ("40 30 00 00 04 00 00 00", "r0 = *(u32 *)skb[r3 + 0x4]"),
    ("20 00 00 00 fc ff ff ff", "r0 = *(u32 *)skb[-0x4]"),
    (EXIT, "exit"),
];

/// Takes the number in a local call for the function's.
struct CallsByNumber;

impl References for CallsByNumber {
    fn imm64(&self, _slot: u32) -> Option<Imm64> {
        None
    }

    fn call(&self, _slot: u32, imm: i32) -> Option<Callee> {
        Some(Callee::Local(FunctionIndex(imm.cast_unsigned())))
    }
}

fn number(reference: Reference) -> i32 {
    match reference {
        Reference::Function(function) => function.0.cast_signed(),
        Reference::Map(_) | Reference::Global(_) | Reference::BtfFunction(_) => unreachable!("nothing is relocated"),
    }
}

#[test]
fn each_instruction_prints_and_encodes_back() {
    for (hex, text) in INSTRUCTIONS {
        let code = slots(&format!("{hex} {EXIT}"));
        let insns = decode(&code, &CallsByNumber).unwrap_or_else(|e| panic!("{hex}: {e}"));
        let [insn, exit] = insns.as_slice() else {
            panic!("{hex}: {insns:?}")
        };
        assert_eq!(exit.op, Instruction::Exit);
        assert_eq!(insn.op.to_string(), *text);
        let encoded: Vec<Slot> = encode(&insn.op, number).into_iter().collect();
        assert_eq!(encoded, slots(hex), "{text}");
    }
}

/// Every opcode with every register pair and telling values of the other fields: what decodes encodes to the same
/// bytes, but for the old form of `callx`.
#[test]
fn whatever_decodes_encodes_to_the_same_bytes() {
    let second_half = Slot {
        imm: 0x1234_5678,
        ..Slot::default()
    };
    let exit = slots(EXIT);
    let mut valid = 0;
    for opcode in 0..=u8::MAX {
        for registers in 0..=u8::MAX {
            for (offset, imm) in [
                (0, 0),
                (1, 0),
                (8, 0),
                (16, 0),
                (32, 0),
                (-1, 0),
                (0, 1),
                (0, 16),
                (1, 32),
                (0, 64),
            ]
            .into_iter()
            .chain([0x40, 0x41, 0x50, 0x51, 0xa0, 0xa1, 0xe0, 0xe1, 0xf0, 0xf1, -1, i32::MIN].map(|i| (0, i)))
            {
                let first = Slot {
                    opcode,
                    dst: registers & 0xf,
                    src: registers >> 4,
                    offset,
                    imm,
                };
                let is_wide = opcode == 0x18;
                let mut code = vec![first];
                code.extend(is_wide.then_some(second_half));
                code.extend(&exit);
                let Ok(insns) = decode(&code, &CallsByNumber) else {
                    continue;
                };
                valid += 1;
                let encoded = encode(&insns[0].op, number);
                if let (Instruction::CallX(_), 1..) = (insns[0].op, imm) {
                    continue;
                }
                assert_eq!(encoded.first, first);
                assert_eq!(encoded.second, is_wide.then_some(second_half));
            }
        }
    }
    assert!(valid > 30_000, "only {valid} encodings are valid");
}

#[test]
fn refuses_what_rfc_9669_does_not_define() {
    use Malformed as M;
    for (hex, expected) in [
        // Opcodes that are not assigned.
        ("00 00 00 00 00 00 00 00", M::Opcode(0x00)),
        ("38 00 00 00 00 00 00 00", M::Opcode(0x38)),
        ("99 21 00 00 00 00 00 00", M::Opcode(0x99)),
        ("82 21 00 00 00 00 00 00", M::Opcode(0x82)),
        ("d3 21 00 00 00 00 00 00", M::Opcode(0xd3)),
        ("e7 01 00 00 00 00 00 00", M::Opcode(0xe7)),
        ("8f 01 00 00 00 00 00 00", M::Opcode(0x8f)),
        ("df 01 00 00 10 00 00 00", M::Opcode(0xdf)),
        ("0d 00 00 00 00 00 00 00", M::Opcode(0x0d)),
        ("86 00 00 00 01 00 00 00", M::Opcode(0x86)),
        ("96 00 00 00 00 00 00 00", M::Opcode(0x96)),
        ("9d 00 00 00 00 00 00 00", M::Opcode(0x9d)),
        ("e5 00 00 00 00 00 00 00", M::Opcode(0xe5)),
        // Fields that must be zero.
        ("07 21 00 00 05 00 00 00", M::Reserved("src")),
        ("0f 21 00 00 05 00 00 00", M::Reserved("imm")),
        ("87 21 00 00 00 00 00 00", M::Reserved("src")),
        ("87 01 00 00 01 00 00 00", M::Reserved("imm")),
        ("d7 01 01 00 10 00 00 00", M::Reserved("offset")),
        ("61 21 00 00 01 00 00 00", M::Reserved("imm")),
        ("62 21 00 00 01 00 00 00", M::Reserved("src")),
        ("63 21 00 00 01 00 00 00", M::Reserved("imm")),
        ("05 01 00 00 00 00 00 00", M::Reserved("dst")),
        ("05 00 00 00 01 00 00 00", M::Reserved("imm")),
        ("06 00 01 00 00 00 00 00", M::Reserved("offset")),
        ("1d 21 00 00 01 00 00 00", M::Reserved("imm")),
        ("85 01 00 00 01 00 00 00", M::Reserved("dst")),
        ("85 00 01 00 01 00 00 00", M::Reserved("offset")),
        ("8d 01 00 00 01 00 00 00", M::Reserved("imm")),
        ("95 00 00 00 01 00 00 00", M::Reserved("imm")),
        ("18 01 01 00 00 00 00 00 00 00 00 00 00 00 00 00", M::Reserved("offset")),
        (
            "18 11 00 00 00 00 00 00 00 00 00 00 01 00 00 00",
            M::Reserved("second imm"),
        ),
        ("20 01 00 00 00 00 00 00", M::Reserved("dst")),
        ("20 10 00 00 00 00 00 00", M::Reserved("src")),
        // Registers.
        ("bf b1 00 00 00 00 00 00", M::Register(11)),
        ("bf 1f 00 00 00 00 00 00", M::Register(15)),
        ("8d 00 00 00 0b 00 00 00", M::Register(11)),
        ("b7 0a 00 00 00 00 00 00", M::WritesFramePointer),
        ("79 1a 00 00 00 00 00 00", M::WritesFramePointer),
        ("db a1 00 00 01 00 00 00", M::WritesFramePointer),
        ("db a1 00 00 e1 00 00 00", M::WritesFramePointer),
        ("18 0a 00 00 00 00 00 00 00 00 00 00 00 00 00 00", M::WritesFramePointer),
        // Variants.
        ("07 01 01 00 05 00 00 00", M::Variant(1)),
        ("37 01 02 00 05 00 00 00", M::Variant(2)),
        ("b7 01 08 00 05 00 00 00", M::Variant(8)),
        ("bc 21 20 00 00 00 00 00", M::Variant(32)),
        ("bf 21 18 00 00 00 00 00", M::Variant(24)),
        ("dc 01 00 00 08 00 00 00", M::SwapWidth(8)),
        ("db 21 00 00 e0 00 00 00", M::Atomic(0xe0)),
        ("db 21 00 00 f0 00 00 00", M::Atomic(0xf0)),
        ("db 21 00 00 02 00 00 00", M::Atomic(2)),
        ("85 30 00 00 01 00 00 00", M::CallKind(3)),
        ("18 71 00 00 00 00 00 00 00 00 00 00 00 00 00 00", M::Imm64Kind(7)),
        ("18 01 00 00 00 00 00 00 00 00 01 00 00 00 00 00", M::SecondHalf),
        ("18 01 00 00 00 00 00 00 95 00 00 00 00 00 00 00", M::SecondHalf),
    ] {
        let code = slots(&format!("{hex} {EXIT}"));
        let error = decode(&code, &NoReferences).map(|_| hex).unwrap_err();
        assert_eq!(error.reason, expected, "{hex}");
        assert_eq!(error.slot, 0, "{hex}");
    }
}

#[test]
fn refuses_control_that_leaves_the_function() {
    use Malformed as M;
    const IMM64: &str = "18 01 00 00 00 00 00 00 00 00 00 00 00 00 00 00";
    for (code, slot, expected) in [
        (format!("05 00 01 00 00 00 00 00 {EXIT}"), 0, M::JumpOut(2)),
        (format!("15 01 fe ff 00 00 00 00 {EXIT}"), 0, M::JumpOut(-1)),
        (format!("06 00 00 00 ff ff ff 7f {EXIT}"), 0, M::JumpOut(0x8000_0000)),
        (
            format!("05 00 01 00 00 00 00 00 {IMM64} {EXIT}"),
            0,
            M::JumpIntoImm64(1),
        ),
        (IMM64.to_owned(), 0, M::RunsPastEnd),
        ("15 01 ff ff 00 00 00 00".to_owned(), 0, M::RunsPastEnd),
        ("85 00 00 00 01 00 00 00".to_owned(), 0, M::RunsPastEnd),
        (format!("{EXIT} 18 01 00 00 00 00 00 00"), 1, M::Truncated),
        (format!("{EXIT} 85 10 00 00 00 00 00 00 {EXIT}"), 1, M::LocalCall),
    ] {
        let error = decode(&slots(&code), &NoReferences).map(|_| &code).unwrap_err();
        assert_eq!((error.slot, error.reason), (slot, expected), "{code}");
    }
}

#[test]
fn an_error_shows_the_eight_bytes() {
    let error = decode(&slots(&format!("{EXIT} e7 01 00 00 2a 00 00 00 {EXIT}")), &NoReferences).unwrap_err();
    assert_eq!(
        error.to_string(),
        "instruction 1 (e7 01 00 00 2a 00 00 00): unknown opcode 0xe7"
    );
}

#[test]
fn old_callx_has_its_register_in_the_immediate() {
    let insns = decode(&slots(&format!("8d 00 00 00 03 00 00 00 {EXIT}")), &NoReferences).unwrap();
    assert_eq!(insns[0].op.to_string(), "callx r3");
}

#[test]
fn slots_and_instructions_are_counted_apart() {
    let code = slots(&format!("18 01 00 00 01 00 00 00 00 00 00 00 00 00 00 00 {EXIT}"));
    let insns = decode(&code, &NoReferences).unwrap();
    assert_eq!(insns.iter().map(|i| i.slot).collect::<Vec<_>>(), [0, 2]);
}

#[test]
fn a_local_call_is_what_the_references_say() {
    let insns = decode(&slots(&format!("85 10 00 00 07 00 00 00 {EXIT}")), &CallsByNumber).unwrap();
    assert_eq!(insns[0].op, Instruction::Call(Callee::Local(FunctionIndex(7))));
}

#[test]
fn refuses_a_function_of_more_than_a_million_slots() {
    let code = vec![slots(EXIT)[0]; crate::MAX_SLOTS + 1];
    assert_eq!(decode(&code, &NoReferences).unwrap_err().reason, Malformed::TooLong);
    assert!(decode(&code[1..], &NoReferences).is_ok());
}
