//! Which shorter encoding of x86-64 code has the same meaning.
//!
//! Given: an instruction, as bytes.
//! Computed: the same one in fewer bytes, or that it can be left out.
//! Safe because: nothing is known here but encodings, and [`rewrite_x64`](crate::rewrite_x64), which puts them into the code,
//! compares what it has decoded again ([`is_same`]).
//!
//! Cranelift 0.135 leaves these; jumps become shorter where they are put together:
//!
//! | instruction | becomes | why nothing changes |
//! |---|---|---|
//! | jump within the function, 32-bit distance | 8-bit distance | |
//! | jump to the next instruction | nothing | |
//! | `add`, `or`, `adc`, `sbb`, `and`, `sub`, `xor`, `cmp`, `imul` with an immediate of 16 or 32 bits | one of 8 bits, sign-extended; else, for `eax`, the form that names no register | |
//! | `and r64, i`, `test r64, i` with i from 0 to 2³¹ − 1 | `r32` | the upper half of the result is 0, and so is bit 31, the sign |
//! | `test r32, i` with i from 0 to 127 | `r8` | the result is the same, and so is its sign, 0 |
//! | `xor r64, r64` with itself; `movzx r64, x` | `r32` | the upper half is 0 |
//! | `mov r64, i` with i from 0 to 2³² − 1 | `mov r32, i` | the upper half is 0 |
//! | `mov r64, i` with another i that is a sign-extended one of 32 bits | that | |
//! | `mov rsp, rbp` in an epilogue | nothing | `rsp` has that value; [`unwind_x64`](crate::unwind_x64) proves it of what remains |
//!
//! 64-bit registers become 32-bit ones only where that saves the prefix. Accesses of memory keep their width.

use iced_x86::{Code as Op, Instruction, Mnemonic, OpKind, Register};

use crate::parts_x64::Encoding;
use crate::unwind_x64::is_move;

/// `mov rsp, rbp` in front of `pop rbp; ret`.
pub(crate) fn is_surplus(code: &[Instruction]) -> bool {
    let [restore, pop, ret, ..] = code else {
        return false;
    };
    is_move(restore, Register::RSP, Register::RBP)
        && pop.code() == Op::Pop_r64
        && pop.op0_register() == Register::RBP
        && ret.code() == Op::Retnq
}

const REX: u8 = 0x40;
const W: u8 = 8;
const R: u8 = 4;
const B: u8 = 1;
const OPERAND_SIZE: u8 = 0x66;

/// The shortest encoding of an instruction that has no relocated field and no distance, if it is another one.
pub(crate) fn shorter(bytes: &[u8]) -> Option<Encoding> {
    let is_prefix = |byte: &u8| matches!(*byte, OPERAND_SIZE | 0x67 | 0xF0 | 0xF2 | 0xF3 | 0x64 | 0x65);
    let (prefixes, rest) = bytes.split_at(bytes.iter().take_while(|byte| is_prefix(byte)).count());
    let (rex, rest) = match rest {
        [rex @ 0x40..0x50, rest @ ..] => (*rex & 0xF, rest),
        _ => (0, rest),
    };
    let found = match rest {
        [0x81 | 0x69, ..] => shorter_immediate(prefixes, rex, rest),
        _ if !prefixes.is_empty() => None,
        // with an immediate, op eax or op al
        [0x05 | 0x0D | 0x15 | 0x1D | 0x25 | 0x2D | 0x35 | 0x3D, immediate @ ..] if rex & !W == 0 => {
            let general = [&[0x81, 0xC0 | (rest[0] & 0x38)], immediate].concat();
            shorter_immediate(prefixes, rex, &general)
        }
        // and r, i8
        [0x83, modrm @ 0xE0..=0xE7, immediate] if *immediate < 0x80 => {
            Some(Encoding::new(prefixes, rex & !W, &[&[0x83, *modrm, *immediate]]))
        }
        // xor r, r
        [0x31 | 0x33, modrm @ 0xC0..=0xFF] if (modrm >> 3 & 7) == (modrm & 7) && (rex & R != 0) == (rex & B != 0) => {
            Some(Encoding::new(prefixes, rex & !W, &[rest]))
        }
        // movzx r, r/m8: without REX registers 4 to 7 are others
        [0x0F, 0xB6, modrm @ 0xC0..=0xFF, ..] if rex & !W == 0 && modrm & 7 >= 4 => None,
        [0x0F, 0xB6 | 0xB7, ..] => Some(Encoding::new(prefixes, rex & !W, &[rest])),
        [0xC7, modrm @ 0xC0..=0xC7, immediate @ ..] if rex & W == 0 || is_unsigned(immediate) => {
            Some(Encoding::new(prefixes, rex & !W, &[&[0xB8 | modrm & 7], immediate]))
        }
        [opcode @ 0xB8..=0xBF, immediate @ ..] if rex & W != 0 => {
            let (low, high) = immediate.split_at_checked(4)?;
            match (high, is_unsigned(low)) {
                ([0, 0, 0, 0], _) => Some(Encoding::new(prefixes, rex & !W, &[&[*opcode], low])),
                ([0xFF, 0xFF, 0xFF, 0xFF], false) => {
                    Some(Encoding::new(prefixes, rex, &[&[0xC7, 0xC0 | opcode & 7], low]))
                }
                _ => None,
            }
        }
        [0xF7, modrm @ 0xC0..=0xC7, immediate @ ..] => Some(shorter_test(rex, *modrm, immediate)),
        [0xA9, immediate @ ..] if rex & !W == 0 => Some(shorter_test(rex, 0xC0, immediate)),
        _ => None,
    };
    found.filter(|encoding| encoding.as_slice().len() < bytes.len())
}

/// Whether an immediate of 32 bits is the same sign-extended and zero-extended.
fn is_unsigned(immediate: &[u8]) -> bool {
    immediate.last().is_some_and(|byte| *byte < 0x80)
}

/// Arithmetic with an immediate of 16 or 32 bits, which is sign-extended; or `imul`.
fn shorter_immediate(prefixes: &[u8], rex: u8, rest: &[u8]) -> Option<Encoding> {
    let immediate_size = if rex & W == 0 && prefixes.contains(&OPERAND_SIZE) {
        2
    } else {
        4
    };
    let (front, immediate) = rest.split_at_checked(rest.len().checked_sub(immediate_size)?)?;
    let [opcode, operands @ ..] = front else {
        return None;
    };
    let [low, high @ ..] = immediate else {
        return None;
    };
    let is_and_of_register = prefixes.is_empty() && *opcode == 0x81 && matches!(operands, [0xE0..=0xE7]);
    let rex = if is_and_of_register && is_unsigned(immediate) {
        rex & !W
    } else {
        rex
    };
    let extension = if *low < 0x80 { 0 } else { 0xFF };
    Some(match operands {
        _ if high.iter().all(|byte| *byte == extension) => {
            Encoding::new(prefixes, rex, &[&[*opcode | 2], operands, &[*low]])
        }
        [modrm @ (0xC0 | 0xC8 | 0xD0 | 0xD8 | 0xE0 | 0xE8 | 0xF0 | 0xF8)] if *opcode == 0x81 && rex & B == 0 => {
            Encoding::new(prefixes, rex, &[&[0x05 | modrm & 0x38], immediate])
        }
        _ => Encoding::new(prefixes, rex, &[front, immediate]),
    })
}

/// `test` of a register of 32 or 64 bits.
fn shorter_test(rex: u8, modrm: u8, immediate: &[u8]) -> Encoding {
    let is_first = modrm == 0xC0 && rex & B == 0;
    match immediate {
        [low @ 0..0x80, 0, 0, 0] if is_first => Encoding::new(&[], 0, &[&[0xA8, *low]]),
        [low @ 0..0x80, 0, 0, 0] => {
            // Without REX registers 4 to 7 are others.
            let needs_rex = rex & B == 0 && modrm & 7 >= 4;
            let prefix: &[u8] = if needs_rex { &[REX] } else { &[] };
            Encoding::new(prefix, rex & B, &[&[0xF6, modrm, *low]])
        }
        _ => {
            let rex = if is_unsigned(immediate) { rex & !W } else { rex };
            if is_first {
                Encoding::new(&[], rex, &[&[0xA9], immediate])
            } else {
                Encoding::new(&[], rex, &[&[0xF7, modrm], immediate])
            }
        }
    }
}

/// Whether two instructions that are no jumps do the same. For pairs that [`shorter`] makes; of others it may say no.
pub(crate) fn is_same(before: &Instruction, after: &Instruction) -> bool {
    let bits = |i: &Instruction| match i.op0_kind() {
        OpKind::Register => 8 * i.op0_register().size() as u32,
        _ => 8 * i.memory_size().size() as u32,
    };
    let (was, is) = (bits(before), bits(after));
    let operand = |index| match (before.op_kind(index), after.op_kind(index)) {
        (OpKind::Register, OpKind::Register) => {
            let (was, is) = (before.op_register(index), after.op_register(index));
            let is_high = matches!(is, Register::AH | Register::CH | Register::DH | Register::BH);
            was == is || was.full_register() == is.full_register() && !is_high
        }
        (OpKind::Memory, OpKind::Memory) => is_same_memory(before, after),
        (was_kind, is_kind) if is_immediate(was_kind) && is_immediate(is_kind) => {
            masked(before.immediate(index), was) == masked(after.immediate(index), is)
        }
        _ => false,
    };
    let immediate = before
        .op_count()
        .checked_sub(1)
        .filter(|last| is_immediate(before.op_kind(*last)));
    let immediate = immediate.map(|last| masked(before.immediate(last), was));
    let at_most = |most: u64| immediate.is_some_and(|value| value <= most);
    let may_narrow = match (before.mnemonic(), was, is) {
        (_, was, is) if was == is => before.op0_register() == after.op0_register(),
        (Mnemonic::Xor, 64, 32) => before.op0_register() == before.op1_register(),
        (Mnemonic::Movzx, 64, 32) => before.op1_register() == after.op1_register(),
        (Mnemonic::Mov, 64, 32) => at_most(u32::MAX.into()),
        (Mnemonic::And | Mnemonic::Test, 64, 32) => at_most(i32::MAX as u64),
        (Mnemonic::Test, 64 | 32, 8) => at_most(i8::MAX as u64),
        _ => false,
    };
    before.mnemonic() == after.mnemonic()
        && before.op_count() == after.op_count()
        && (0..before.op_count()).all(operand)
        && may_narrow
        && before.has_lock_prefix() == after.has_lock_prefix()
}

fn is_same_memory(before: &Instruction, after: &Instruction) -> bool {
    before.memory_base() == after.memory_base()
        && before.memory_index() == after.memory_index()
        && before.memory_index_scale() == after.memory_index_scale()
        && before.memory_displacement64() == after.memory_displacement64()
        && before.memory_size() == after.memory_size()
        && before.memory_segment() == after.memory_segment()
}

fn is_immediate(kind: OpKind) -> bool {
    matches!(
        kind,
        OpKind::Immediate8
            | OpKind::Immediate16
            | OpKind::Immediate32
            | OpKind::Immediate64
            | OpKind::Immediate8to16
            | OpKind::Immediate8to32
            | OpKind::Immediate8to64
            | OpKind::Immediate32to64
    )
}

fn masked(value: u64, bits: u32) -> u64 {
    value & (u64::MAX >> 64_u32.saturating_sub(bits).min(63))
}

#[cfg(test)]
mod tests {
    use super::shorter;
    use crate::rewrite_x64::tests::{becomes, bytes};

    #[test]
    fn each_instruction_has_its_shortest_form() {
        let cases = [
            ("add rcx, 1", "4881c101000000", "4883c101"),
            ("add rcx, 127", "4881c17f000000", "4883c17f"),
            ("add rcx, 128 stays", "4881c180000000", "4881c180000000"),
            ("add rcx, -128", "4881c180ffffff", "4883c180"),
            ("add rcx, -129 stays", "4881c17fffffff", "4881c17fffffff"),
            ("add ecx, -1", "81c1ffffffff", "83c1ff"),
            ("cmp r8d, 8", "4181f808000000", "4183f808"),
            ("cmp cx, -1", "6681f9ffff", "6683f9ff"),
            ("cmp cx, 255 stays", "6681f9ff00", "6681f9ff00"),
            ("add eax, 5", "0505000000", "83c005"),
            ("or rax, 5", "480d05000000", "4883c805"),
            ("sub eax, 1000", "81e8e8030000", "2de8030000"),
            ("sub r8d, 1000 stays", "4181e8e8030000", "4181e8e8030000"),
            ("sub rax, 1000", "4881e8e8030000", "482de8030000"),
            ("lock add qword [rcx+8], 1", "f04881410801000000", "f04883410801"),
            ("add qword [rcx+8], 1000 stays", "48814108e8030000", "48814108e8030000"),
            ("and qword [rcx], 1 keeps its width", "48812101000000", "48832101"),
            ("imul r13, r13, 100", "4d69ed64000000", "4d6bed64"),
            ("imul eax, [rcx+300], -1", "69812c010000ffffffff", "6b812c010000ff"),
            ("and rcx, 0xffff", "4881e1ffff0000", "81e1ffff0000"),
            ("and rax, 0xffff", "4881e0ffff0000", "25ffff0000"),
            ("and rcx, 0x3c", "4881e13c000000", "83e13c"),
            ("and rcx, 0x3c of 8 bits", "4883e13c", "83e13c"),
            ("and rcx, -2 keeps its width", "4881e1feffffff", "4883e1fe"),
            ("and rcx, -2 of 8 bits stays", "4883e1fe", "4883e1fe"),
            ("or rcx, 0x3c keeps its width", "4881c93c000000", "4883c93c"),
            ("and rcx, -2^31 keeps its width", "4881e100000080", "4881e100000080"),
            ("and r9, 0xffff stays", "4981e1ffff0000", "4981e1ffff0000"),
            ("xor rax, rax", "4833c0", "33c0"),
            ("xor rsi, rsi, the other way round", "4831f6", "31f6"),
            ("xor r11, r11", "4d33db", "4d33db"),
            ("xor rax, r8 stays", "4933c0", "4933c0"),
            ("xor rax, rcx stays", "4833c1", "4833c1"),
            ("movzx rax, word [rcx]", "480fb701", "0fb701"),
            ("movzx rax, byte [rcx+rdx+4]", "480fb6441104", "0fb6441104"),
            ("movzx rax, ax", "480fb7c0", "0fb7c0"),
            ("movzx rax, bl", "480fb6c3", "0fb6c3"),
            ("movzx rax, sil is not dh", "480fb6c6", "480fb6c6"),
            ("movzx rsp's byte", "480fb6c4", "480fb6c4"),
            ("movzx rdi, dil", "480fb6ff", "480fb6ff"),
            ("movzx rcx, byte [rsi] is no register", "480fb60e", "0fb60e"),
            ("movzx r8, word [rax] stays", "4c0fb700", "4c0fb700"),
            ("mov rax, 5", "48c7c005000000", "b805000000"),
            ("mov r9, 5", "49c7c105000000", "41b905000000"),
            ("mov r9, -8 stays", "49c7c1f8ffffff", "49c7c1f8ffffff"),
            ("mov ecx, -8", "c7c1f8ffffff", "b9f8ffffff"),
            ("mov qword [rdx], 0 stays", "48c70200000000", "48c70200000000"),
            ("mov rax, 2^32 - 1", "48b8ffffffff00000000", "b8ffffffff"),
            ("mov r15, 1", "49bf0100000000000000", "41bf01000000"),
            ("mov rax, 2^32 stays", "48b80000000001000000", "48b80000000001000000"),
            ("mov rax, -2^31", "48b800000080ffffffff", "48c7c000000080"),
            (
                "mov rax, -2^31 - 1 stays",
                "48b8ffffff7fffffffff",
                "48b8ffffff7fffffffff",
            ),
            ("test ecx, 1", "f7c101000000", "f6c101"),
            ("test ecx, 127", "f7c17f000000", "f6c17f"),
            (
                "test ecx, 128 has another sign in 8 bits",
                "f7c180000000",
                "f7c180000000",
            ),
            ("test eax, 1", "f7c001000000", "a801"),
            ("test eax, 1, the short form", "a901000000", "a801"),
            ("test rax, 1000", "48f7c0e8030000", "a9e8030000"),
            ("test edi, 1 needs a prefix", "f7c701000000", "40f6c701"),
            ("test rdi, 1", "48f7c701000000", "40f6c701"),
            ("test r8d, 1", "41f7c001000000", "41f6c001"),
            ("test rcx, 255", "48f7c1ff000000", "f7c1ff000000"),
            ("test rcx, -1 keeps its width", "48f7c1ffffffff", "48f7c1ffffffff"),
            ("test dword [rcx], 1 keeps its width", "f70101000000", "f70101000000"),
            ("neg rcx is no test", "48f7d9", "48f7d9"),
            ("mov rax, rcx", "4889c8", "4889c8"),
            ("mov [rsp+0x80], r13", "4c89ac2480000000", "4c89ac2480000000"),
        ];
        for (name, before, after) in cases {
            let end = "c3";
            becomes(&bytes(&[before, end].concat()), &bytes(&[after, end].concat()), name);
        }
    }

    /// Everything that [`shorter`] makes of some millions of encodings is what the decoder says that it was.
    #[test]
    fn whatever_is_made_of_an_encoding_means_the_same() {
        let opcodes = [
            0x05, 0x0D, 0x15, 0x1D, 0x25, 0x2D, 0x31, 0x33, 0x35, 0x3D, 0x69, 0x81, 0x83, 0xA9, 0xB8, 0xBC, 0xBF, 0xC7,
            0xF7,
        ];
        let immediates: [i64; 16] = [
            0,
            1,
            127,
            128,
            255,
            256,
            0x7FFF,
            0x8000,
            0xFFFF,
            i32::MAX.into(),
            i64::from(i32::MAX) + 1,
            u32::MAX.into(),
            -1,
            -128,
            -129,
            i32::MIN.into(),
        ];
        let mut made = 0;
        let mut judge = |candidate: &[u8]| {
            let mut decoder = iced_x86::Decoder::new(64, candidate, 0);
            let before = decoder.decode();
            if before.is_invalid() || before.is_ip_rel_memory_operand() {
                return;
            }
            let before_bytes = &candidate[..before.len()];
            let Some(encoding) = shorter(before_bytes) else {
                return;
            };
            let mut decoder = iced_x86::Decoder::new(64, encoding.as_slice(), 0);
            let after = decoder.decode();
            assert_eq!(after.len(), encoding.as_slice().len(), "{before} {before_bytes:x?}");
            assert!(after.len() < before.len(), "{before}");
            assert!(super::is_same(&before, &after), "{before}: {after} {before_bytes:x?}");
            made += 1;
        };
        for prefix in [&[][..], &[0x66], &[0xF0]] {
            for rex in [None].into_iter().chain((0x40..0x50_u8).map(Some)) {
                let front = [prefix, rex.as_slice()].concat();
                for modrm in 0..=0xFF_u8 {
                    for escaped in [0xB6, 0xB7] {
                        judge(&[&front[..], &[0x0F, escaped, modrm, 0x24, 8, 0, 0, 0]].concat());
                    }
                    for opcode in opcodes {
                        for immediate in immediates {
                            let immediate = immediate.to_le_bytes();
                            // With the address in between that the operand has, and with none.
                            judge(&[&front[..], &[opcode], &immediate].concat());
                            judge(&[&front[..], &[opcode, modrm], &immediate].concat());
                            judge(&[&front[..], &[opcode, modrm, 0x24], &immediate].concat());
                            judge(&[&front[..], &[opcode, modrm, 8], &immediate].concat());
                            judge(&[&front[..], &[opcode, modrm, 0x24, 8], &immediate].concat());
                        }
                    }
                }
            }
        }
        assert!(made > 10_000, "{made}");
    }
}
