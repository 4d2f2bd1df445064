use bpf2sys_bytecode::{NoReferences, Reg, Slot, decode, encode};

use super::{Assembly, assemble_text};

/// The bytes of one instruction as hexadecimal digits.
fn bytes(text: &str) -> String {
    let assembly = assemble_text(text).unwrap();
    let digits: Vec<String> = assembly.bytes().iter().map(|b| format!("{b:02x}")).collect();
    digits.join("")
}

/// Every mnemonic, in every form of operands, with its encoding by RFC 9669.
const ENCODINGS: &[(&str, &str)] = &[
    // §4.1: class 7 (ALU64) and 4 (ALU), code, 8 for a register; offset 1 for the signed divisions.
    ("add %r1, 2", "0701000002000000"),
    ("add %r1, %r2", "0f21000000000000"),
    ("add32 %r1, 2", "0401000002000000"),
    ("add32 %r1, %r2", "0c21000000000000"),
    ("sub %r1, -2", "17010000feffffff"),
    ("sub %r1, %r2", "1f21000000000000"),
    ("sub32 %r1, 2", "1401000002000000"),
    ("sub32 %r1, %r2", "1c21000000000000"),
    ("mul %r3, 0x10", "2703000010000000"),
    ("mul %r3, %r4", "2f43000000000000"),
    ("mul32 %r3, 0x10", "2403000010000000"),
    ("mul32 %r3, %r4", "2c43000000000000"),
    ("div %r1, 2", "3701000002000000"),
    ("div %r1, %r2", "3f21000000000000"),
    ("div32 %r1, 2", "3401000002000000"),
    ("div32 %r1, %r2", "3c21000000000000"),
    ("sdiv %r1, 2", "3701010002000000"),
    ("sdiv %r1, %r2", "3f21010000000000"),
    ("sdiv32 %r1, 2", "3401010002000000"),
    ("sdiv32 %r1, %r2", "3c21010000000000"),
    ("or %r1, 2", "4701000002000000"),
    ("or %r1, %r2", "4f21000000000000"),
    ("or32 %r1, 2", "4401000002000000"),
    ("or32 %r1, %r2", "4c21000000000000"),
    ("and %r1, 2", "5701000002000000"),
    ("and %r1, %r2", "5f21000000000000"),
    ("and32 %r1, 0xffffffff", "54010000ffffffff"),
    ("and32 %r1, %r2", "5c21000000000000"),
    ("lsh %r1, 2", "6701000002000000"),
    ("lsh %r1, %r2", "6f21000000000000"),
    ("lsh32 %r1, 2", "6401000002000000"),
    ("lsh32 %r1, %r2", "6c21000000000000"),
    ("rsh %r1, 2", "7701000002000000"),
    ("rsh %r1, %r2", "7f21000000000000"),
    ("rsh32 %r1, 2", "7401000002000000"),
    ("rsh32 %r1, %r2", "7c21000000000000"),
    ("neg %r9", "8709000000000000"),
    ("neg32 %r9", "8409000000000000"),
    ("mod %r1, 2", "9701000002000000"),
    ("mod %r1, %r2", "9f21000000000000"),
    ("mod32 %r1, 2", "9401000002000000"),
    ("mod32 %r1, %r2", "9c21000000000000"),
    ("smod %r1, 2", "9701010002000000"),
    ("smod %r1, %r2", "9f21010000000000"),
    ("smod32 %r1, 2", "9401010002000000"),
    ("smod32 %r1, %r2", "9c21010000000000"),
    ("xor %r1, 2", "a701000002000000"),
    ("xor %r1, %r2", "af21000000000000"),
    ("xor32 %r1, 2", "a401000002000000"),
    ("xor32 %r1, %r2", "ac21000000000000"),
    ("mov %r1, 2", "b701000002000000"),
    ("mov %r1, %r10", "bfa1000000000000"),
    ("mov32 %r1, 2", "b401000002000000"),
    ("mov32 %r1, %r2", "bc21000000000000"),
    ("arsh %r1, 2", "c701000002000000"),
    ("arsh %r1, %r2", "cf21000000000000"),
    ("arsh32 %r1, 2", "c401000002000000"),
    ("arsh32 %r1, %r2", "cc21000000000000"),
    // §4.1, MOVSX: the offset is the width of the source.
    ("movsx832 %r1, %r2", "bc21080000000000"),
    ("movsx1632 %r1, %r2", "bc21100000000000"),
    ("movsx864 %r1, %r2", "bf21080000000000"),
    ("movsx1664 %r1, %r2", "bf21100000000000"),
    ("movsx3264 %r1, %r2", "bf21200000000000"),
    // §4.2
    ("le16 %r3", "d403000010000000"),
    ("le32 %r3", "d403000020000000"),
    ("le64 %r3", "d403000040000000"),
    ("be16 %r3", "dc03000010000000"),
    ("be32 %r3", "dc03000020000000"),
    ("be64 %r3", "dc03000040000000"),
    ("swap16 %r3", "d703000010000000"),
    ("swap32 %r3", "d703000020000000"),
    ("swap64 %r3", "d703000040000000"),
    ("bswap16 %r3", "d703000010000000"),
    ("bswap32 %r3", "d703000020000000"),
    ("bswap64 %r3", "d703000040000000"),
    // §4.3: class 5 (JMP) and 6 (JMP32); `ja32` has its distance in the immediate.
    ("ja +2", "0500020000000000"),
    ("ja32 -2", "06000000feffffff"),
    ("jeq %r1, 2, +3", "1501030002000000"),
    ("jeq %r1, %r2, +3", "1d21030000000000"),
    ("jeq32 %r1, 2, +3", "1601030002000000"),
    ("jeq32 %r1, %r2, +3", "1e21030000000000"),
    ("jgt %r1, 2, -3", "2501fdff02000000"),
    ("jgt %r1, %r2, +3", "2d21030000000000"),
    ("jgt32 %r1, 2, +3", "2601030002000000"),
    ("jgt32 %r1, %r2, +3", "2e21030000000000"),
    ("jge %r1, 2, +3", "3501030002000000"),
    ("jge %r1, %r2, +3", "3d21030000000000"),
    ("jge32 %r1, 2, +3", "3601030002000000"),
    ("jge32 %r1, %r2, +3", "3e21030000000000"),
    ("jset %r1, 2, +3", "4501030002000000"),
    ("jset %r1, %r2, +3", "4d21030000000000"),
    ("jset32 %r1, 2, +3", "4601030002000000"),
    ("jset32 %r1, %r2, +3", "4e21030000000000"),
    ("jne %r1, 2, +3", "5501030002000000"),
    ("jne %r1, %r2, +3", "5d21030000000000"),
    ("jne32 %r1, 2, +3", "5601030002000000"),
    ("jne32 %r1, %r2, +3", "5e21030000000000"),
    ("jsgt %r1, 2, +3", "6501030002000000"),
    ("jsgt %r1, %r2, +3", "6d21030000000000"),
    ("jsgt32 %r1, 2, +3", "6601030002000000"),
    ("jsgt32 %r1, %r2, +3", "6e21030000000000"),
    ("jsge %r1, 2, +3", "7501030002000000"),
    ("jsge %r1, %r2, +3", "7d21030000000000"),
    ("jsge32 %r1, 2, +3", "7601030002000000"),
    ("jsge32 %r1, %r2, +3", "7e21030000000000"),
    ("jlt %r1, 2, +3", "a501030002000000"),
    ("jlt %r1, %r2, +3", "ad21030000000000"),
    ("jlt32 %r1, 2, +3", "a601030002000000"),
    ("jlt32 %r1, %r2, +3", "ae21030000000000"),
    ("jle %r1, 2, +3", "b501030002000000"),
    ("jle %r1, %r2, +3", "bd21030000000000"),
    ("jle32 %r1, 2, +3", "b601030002000000"),
    ("jle32 %r1, %r2, +3", "be21030000000000"),
    ("jslt %r1, 2, +3", "c501030002000000"),
    ("jslt %r1, %r2, +3", "cd21030000000000"),
    ("jslt32 %r1, 2, +3", "c601030002000000"),
    ("jslt32 %r1, %r2, +3", "ce21030000000000"),
    ("jsle %r1, 2, +3", "d501030002000000"),
    ("jsle %r1, %r2, +3", "dd21030000000000"),
    ("jsle32 %r1, 2, +3", "d601030002000000"),
    ("jsle32 %r1, %r2, +3", "de21030000000000"),
    ("exit", "9500000000000000"),
    // §4.3.1
    ("call 5", "8500000005000000"),
    ("call helper 65536", "8500000000000100"),
    ("call local +2", "8510000002000000"),
    ("call runtime 7", "8520000007000000"),
    ("call %r2", "8d02000000000000"),
    ("call helper %r2", "8d02000000000000"),
    // §5.1
    ("ldxb %r1, [%r2]", "7121000000000000"),
    ("ldxh %r1, [%r2+1]", "6921010000000000"),
    ("ldxw %r1, [%r2-1]", "6121ffff00000000"),
    ("ldxdw %r1, [%r2+0x7fff]", "7921ff7f00000000"),
    ("stb [%r1+2], 3", "7201020003000000"),
    ("sth [%r1+2], 3", "6a01020003000000"),
    ("stw [%r1+2], 0xffffffff", "62010200ffffffff"),
    ("stdw [%r10-8], -1", "7a0af8ffffffffff"),
    ("stxb [%r1+2], %r3", "7331020000000000"),
    ("stxh [%r1+2], %r3", "6b31020000000000"),
    ("stxw [%r1+2], %r3", "6331020000000000"),
    ("stxdw [%r1-0x8000], %r3", "7b31008000000000"),
    // §5.2
    ("ldxsb %r1, [%r2+1]", "9121010000000000"),
    ("ldxsh %r1, [%r2+1]", "8921010000000000"),
    ("ldxsw %r1, [%r2+1]", "8121010000000000"),
    // §5.3: the immediate is the operation; 1 for FETCH.
    ("lock add [%r1+2], %r3", "db31020000000000"),
    ("lock add32 [%r1+2], %r3", "c331020000000000"),
    ("lock fetch add [%r1+2], %r3", "db31020001000000"),
    ("lock fetch add32 [%r1+2], %r3", "c331020001000000"),
    ("lock or [%r1+2], %r3", "db31020040000000"),
    ("lock or32 [%r1+2], %r3", "c331020040000000"),
    ("lock fetch or [%r1+2], %r3", "db31020041000000"),
    ("lock fetch or32 [%r1+2], %r3", "c331020041000000"),
    ("lock and [%r1+2], %r3", "db31020050000000"),
    ("lock and32 [%r1+2], %r3", "c331020050000000"),
    ("lock fetch and [%r1+2], %r3", "db31020051000000"),
    ("lock fetch and32 [%r1+2], %r3", "c331020051000000"),
    ("lock xor [%r1+2], %r3", "db310200a0000000"),
    ("lock xor32 [%r1+2], %r3", "c3310200a0000000"),
    ("lock fetch xor [%r1+2], %r3", "db310200a1000000"),
    ("lock fetch xor32 [%r1+2], %r3", "c3310200a1000000"),
    ("lock xchg [%r1+2], %r3", "db310200e1000000"),
    ("lock xchg32 [%r1+2], %r3", "c3310200e1000000"),
    ("lock cmpxchg [%r1+2], %r3", "db310200f1000000"),
    ("lock cmpxchg32 [%r1+2], %r3", "c3310200f1000000"),
    // §5.4
    ("lddw %r1, 0x1122334455667788", "18010000887766550000000044332211"),
    ("lddw %r1, -1", "18010000ffffffff00000000ffffffff"),
    ("lddw %r1, 18446744073709551615", "18010000ffffffff00000000ffffffff"),
];

#[test]
fn every_mnemonic_has_the_encoding_of_the_rfc() {
    for (text, expected) in ENCODINGS {
        assert_eq!(bytes(text), *expected, "{text}");
    }
}

/// The assembler and the product's decoder and encoder were written apart from each other; they agree.
#[test]
fn what_is_assembled_decodes_and_encodes_to_the_same_bytes() {
    for (text, _) in ENCODINGS {
        if text.starts_with("call local") || text.starts_with("call runtime") {
            continue; // there is no such function
        }
        // Something to jump to in both directions.
        let code = assemble_text(&format!(
            "mov %r0, 0\nmov %r0, 0\n{text}\n{}",
            "mov %r0, 0\n".repeat(3) + "exit"
        ))
        .unwrap();
        let insns = decode(&code.slots, &NoReferences).unwrap_or_else(|e| panic!("{text}: {e}"));
        let again: Vec<Slot> = insns.iter().flat_map(|insn| encode(&insn.op, |_| 0)).collect();
        assert_eq!(again, code.slots, "{text}");
    }
}

#[test]
fn labels_stand_for_distances() {
    let text = "back:\njeq %r1, 0, on # forward, over an lddw\nlddw %r0, 1\non:\nja32 on\nja back\ncall local fn\nexit\nfn:\nja exit\n";
    let Assembly { slots, labels, .. } = assemble_text(text).unwrap();
    let distances: Vec<(i16, i32)> = slots.iter().map(|s| (s.offset, s.imm)).collect();
    assert_eq!(
        distances,
        [(2, 0), (0, 1), (0, 0), (0, -1), (-5, 0), (0, 1), (0, 0), (-2, 0)]
    );
    let labels: Vec<(&str, u32)> = labels.iter().map(|(n, s)| (n.as_str(), *s)).collect();
    assert_eq!(labels, [("back", 0), ("exit", 6), ("fn", 7), ("on", 3)]);
}

#[test]
fn only_the_first_exit_is_a_label() {
    let code = assemble_text("ja exit\nexit\nexit\n").unwrap();
    assert_eq!(code.labels["exit"], 1);
}

#[test]
fn maps_and_globals_are_numbered_by_first_mention() {
    let text = "lddw %r1, map:a\nlddw %r2, map:b\nlddw %r3, map:a\nlddw %r4, global:.data+0x10\n";
    let code = assemble_text(text).unwrap();
    let loads: Vec<(u8, i32, i32)> = code.slots.chunks(2).map(|p| (p[0].src, p[0].imm, p[1].imm)).collect();
    assert_eq!(loads, [(1, 0, 0), (1, 1, 0), (1, 0, 0), (2, 0, 16)]);
    assert_eq!(
        (code.maps, code.globals),
        (vec!["a".into(), "b".into()], vec![".data".into()])
    );
}

#[test]
fn writes_registers_that_do_not_exist() {
    assert_eq!(bytes("mov %r11, %r15"), "bffb000000000000");
    assert_eq!(Reg::new(11), None);
}

#[test]
fn says_what_is_wrong_and_where() {
    for (text, message) in [
        ("\nfoo\n", "line 2: there is no instruction `foo`"),
        ("mov64 %r1, 1", "line 1: there is no instruction `mov64`"),
        ("ldxsdw %r1, [%r2]", "line 1: there is no instruction `ldxsdw`"),
        ("ja33 +1", "line 1: there is no instruction `ja33`"),
        ("le8 %r1", "line 1: there is no instruction `le8`"),
        ("mov %r1", "line 1: 2 operands are needed, there are 1"),
        ("exit 1", "line 1: 0 operands are needed, there are 1"),
        ("label: exit", "line 1: 0 operands are needed, there are 1"),
        ("call", "line 1: 1 operands are needed, there are 0"),
        ("mov r1, 1", "line 1: `r1` is no register"),
        ("mov %r16, 1", "line 1: `%r16` is no register"),
        ("mov %r01, 1", "line 1: `%r01` is no register"),
        ("mov %r1, 2147483648", "line 1: `2147483648` is no number of 32 bits"),
        ("mov %r1, 0x100000000", "line 1: `0x100000000` is no number of 32 bits"),
        ("mov %r1, --1", "line 1: `--1` is no number of 32 bits"),
        ("mov %r1, -", "line 1: `-` is no number of 32 bits"),
        (
            "lddw %r1, 18446744073709551616",
            "line 1: `18446744073709551616` is no number of 64 bits",
        ),
        ("ldxw %r1, %r2", "line 1: `%r2` is no address"),
        ("ldxw %r1, [%r2+0x10000]", "line 1: `+0x10000` is no number of 16 bits"),
        ("ldxw %r1, [%r2*4]", "line 1: `%r2*4` is no register"),
        ("stxw [%r1], 1", "line 1: `1` is no register"),
        ("lock nand [%r1], %r2", "line 1: there is no atomic operation `nand`"),
        ("lock fetch", "line 1: 3 operands are needed, there are 0"),
        ("call elsewhere 1", "line 1: there is no kind of call `elsewhere`"),
        ("exit\nja nowhere", "line 2: there is no label `nowhere`"),
        ("a:\na:", "line 2: there is a label `a` already"),
        ("exit\nexit:", "line 2: there is a label `exit` already"),
    ] {
        assert_eq!(assemble_text(text).unwrap_err().to_string(), message, "{text:?}");
    }
    let far = format!("ja end\n{}end:\n", "exit\n".repeat(0x8000));
    assert_eq!(
        assemble_text(&far).unwrap_err().to_string(),
        "line 1: `end` is too far away"
    );
    assert!(assemble_text(&far.replace("ja ", "ja32 ")).is_ok());
}
