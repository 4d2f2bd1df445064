//! Which shorter encoding of x86-64 code has the same meaning.
//!
//! Given: the code of a function, what refers to places in it, and its decoded instructions.
//! Computed: the same instructions in fewer bytes, and the references and origins moved with them.
//! Safe because: nothing is known here but encodings. The result is decoded again, and each instruction of it must have the
//! bytes, the operands or the target of the one that it stands for ([`Shortened::check`]); the rules of a driver and
//! the unwind data are made of that second reading. An instruction with a field that a relocation fills in keeps its
//! bytes. A function with anything that moving could break keeps all of them.
//!
//! Cranelift 0.135 leaves these:
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

use iced_x86::{Code as Op, FlowControl, Instruction, Mnemonic, OpKind, Register};

use crate::audit_x64::Decoded;
use crate::compile::Code;
use crate::unwind_x64::is_move;

/// Shortens what can be; nothing, if the function has something that must stay where it is.
pub(crate) fn shorten(code: &mut Code, decoded: &Decoded) -> Option<Shortened> {
    let mut parts = parts(code, &decoded.instructions)?;
    let places = relax(&mut parts);
    let bytes = emit(&parts, &places, &code.bytes);
    let shortened = Shortened {
        before: std::mem::replace(&mut code.bytes, bytes),
        parts,
        places,
    };
    shortened.move_references(code);
    shortened.move_origins(code);
    Some(shortened)
}

/// What became of an instruction.
#[derive(Clone, Copy, Debug)]
enum Form {
    /// The same bytes.
    Kept,
    /// Others.
    Other(Encoding),
    /// A jump to the instruction at this position.
    Jump { target: usize, short: bool },
    /// It is left out.
    Removed,
}

/// An instruction of the function.
#[derive(Debug)]
struct Part {
    /// Its offset before.
    start: u32,
    /// Its length before.
    length: u8,
    form: Form,
}

const SHORT_JUMP: u32 = 2;

impl Part {
    fn end(&self) -> u32 {
        self.start + u32::from(self.length)
    }

    fn bytes<'a>(&self, code: &'a [u8]) -> &'a [u8] {
        &code[self.start as usize..self.end() as usize]
    }

    /// Its length now.
    fn size(&self) -> u32 {
        match self.form {
            Form::Jump { short: true, .. } => SHORT_JUMP,
            Form::Kept | Form::Jump { short: false, .. } => self.length.into(),
            Form::Other(encoding) => encoding.as_slice().len() as u32,
            Form::Removed => 0,
        }
    }
}

/// Takes the function apart. `None` if something in it must stay where it is.
fn parts(code: &Code, instructions: &[Instruction]) -> Option<Vec<Part>> {
    let mut fields: Vec<u32> = code.references.iter().map(|reference| reference.offset).collect();
    fields.sort_unstable();
    let mut fields = fields.into_iter().peekable();
    let mut parts = Vec::with_capacity(instructions.len());
    for (position, instruction) in instructions.iter().enumerate() {
        let mut part = Part {
            start: instruction.ip() as u32,
            length: instruction.len() as u8,
            form: Form::Kept,
        };
        let mut is_relocated = false;
        while fields.next_if(|field| *field < part.end()).is_some() {
            is_relocated = true;
        }
        let rest = &instructions[position..];
        match instruction.flow_control() {
            FlowControl::Next if is_relocated => {}
            _ if !is_relocated && instruction.is_ip_rel_memory_operand() => return None,
            FlowControl::Next if is_surplus(rest) => part.form = Form::Removed,
            FlowControl::Next => {
                if let Some(shorter) = shorter(part.bytes(&code.bytes)) {
                    part.form = Form::Other(shorter);
                }
            }
            FlowControl::Call if !is_relocated => return None,
            FlowControl::Call | FlowControl::IndirectCall | FlowControl::Return => {}
            FlowControl::UnconditionalBranch | FlowControl::ConditionalBranch => {
                if is_relocated || !has_distance(instruction) {
                    return None;
                }
                let target = position_of(instructions, instruction.near_branch_target())?;
                part.form = if target == position + 1 {
                    Form::Removed
                } else {
                    let short = instruction.len() as u32 == SHORT_JUMP;
                    Form::Jump { target, short }
                };
            }
            _ => return None,
        }
        parts.push(part);
    }
    Some(parts)
}

/// Whether it is a jump of one of the forms that [`emit`] knows.
fn has_distance(instruction: &Instruction) -> bool {
    let near = match instruction.code() {
        Op::Jmp_rel8_64 | Op::Jmp_rel32_64 => 5,
        code if code.is_jcc_short_or_near() => 6,
        _ => return false,
    };
    [SHORT_JUMP as usize, near].contains(&instruction.len())
}

fn position_of(instructions: &[Instruction], offset: u64) -> Option<usize> {
    instructions.binary_search_by_key(&offset, Instruction::ip).ok()
}

/// `mov rsp, rbp` in front of `pop rbp; ret`.
fn is_surplus(code: &[Instruction]) -> bool {
    let [restore, pop, ret, ..] = code else {
        return false;
    };
    is_move(restore, Register::RSP, Register::RBP)
        && pop.code() == Op::Pop_r64
        && pop.op0_register() == Register::RBP
        && ret.code() == Op::Retnq
}

/// Gives jumps the short form where their targets are near, until no more are, and tells where each instruction begins then,
/// and the code ends. A jump that is short stays so: what lies between it and its target only ever gets shorter.
fn relax(parts: &mut [Part]) -> Vec<u32> {
    let mut places = Vec::with_capacity(parts.len() + 1);
    loop {
        places.clear();
        let mut place = 0;
        for part in &*parts {
            places.push(place);
            place += part.size();
        }
        places.push(place);
        let mut changed = false;
        for (position, part) in parts.iter_mut().enumerate() {
            let Form::Jump {
                target,
                short: short @ false,
            } = &mut part.form
            else {
                continue;
            };
            let end = if *target > position {
                places[position + 1]
            } else {
                places[position] + SHORT_JUMP
            };
            if i8::try_from(i64::from(places[*target]) - i64::from(end)).is_ok() {
                *short = true;
                changed = true;
            }
        }
        if !changed {
            return places;
        }
    }
}

fn emit(parts: &[Part], places: &[u32], before: &[u8]) -> Vec<u8> {
    let mut code = Vec::with_capacity(before.len());
    for (position, part) in parts.iter().enumerate() {
        let bytes = part.bytes(before);
        match part.form {
            Form::Kept => code.extend_from_slice(bytes),
            Form::Other(encoding) => code.extend_from_slice(encoding.as_slice()),
            Form::Jump { target, short } => {
                let distance = places[target].wrapping_sub(places[position + 1]);
                match (short, bytes) {
                    (true, [0x0F, near, ..]) => code.extend([near - 0x10, distance as u8]),
                    (true, [0xE9 | 0xEB, ..]) => code.extend([0xEB, distance as u8]),
                    (true, _) => code.extend([bytes[0], distance as u8]),
                    (false, _) => {
                        code.extend_from_slice(&bytes[..bytes.len() - 4]);
                        code.extend(distance.to_le_bytes());
                    }
                }
            }
            Form::Removed => {}
        }
    }
    code
}

/// What was done to a function.
#[derive(Debug)]
pub(crate) struct Shortened {
    /// Its bytes before.
    before: Vec<u8>,
    parts: Vec<Part>,
    /// Where each instruction begins now, and the code ends.
    places: Vec<u32>,
}

impl Shortened {
    /// References are in instructions that keep their bytes.
    fn move_references(&self, code: &mut Code) {
        for reference in &mut code.references {
            let behind = self.parts.partition_point(|part| part.start <= reference.offset);
            let position = behind.saturating_sub(1);
            reference.offset = reference.offset - self.parts[position].start + self.places[position];
        }
    }

    /// The last one that begins at a place holds there; of those before it nothing is left.
    fn move_origins(&self, code: &mut Code) {
        let mut position = 0;
        let mut moved: Vec<(u32, Option<u32>)> = Vec::with_capacity(code.origins.len());
        for &(offset, origin) in &code.origins {
            while self.parts.get(position).is_some_and(|part| part.start < offset) {
                position += 1;
            }
            let place = self.places[position];
            moved.pop_if(|(last, _)| *last == place);
            moved.push((place, origin));
        }
        code.origins = moved;
    }

    /// Checks that the code, decoded again, has the same meaning, instruction by instruction.
    pub(crate) fn check(&self, code: &[u8], before: &Decoded, after: &Decoded) -> Result<(), String> {
        let mut found = after.instructions.iter();
        for ((part, place), before) in self.parts.iter().zip(&self.places).zip(&before.instructions) {
            if matches!(part.form, Form::Removed) {
                continue;
            }
            let same = |after: &Instruction| match part.form {
                Form::Kept | Form::Removed => part.bytes(&self.before) == &code[*place as usize..][..after.len()],
                Form::Other(_) => is_same(before, after),
                Form::Jump { target, .. } => {
                    after.condition_code() == before.condition_code()
                        && (after.is_jcc_short_or_near() || after.is_jmp_short_or_near())
                        && after.near_branch_target() == u64::from(self.places[target])
                        && before.near_branch_target() == u64::from(self.parts[target].start)
                }
            };
            match found.next() {
                Some(after) if after.ip() == u64::from(*place) && same(after) => {}
                _ => return Err(format!("{before} at {:#x} became something else", before.ip())),
            }
        }
        found.next().map_or(Ok(()), |more| Err(format!("{more} was added")))
    }
}

/// An instruction's bytes.
#[derive(Clone, Copy, Debug, Default)]
struct Encoding {
    bytes: [u8; 15],
    length: u8,
}

impl Encoding {
    /// From its parts; the REX prefix from its four low bits, and left out if there are none.
    fn new(prefixes: &[u8], rex: u8, rest: &[&[u8]]) -> Encoding {
        let mut encoding = Encoding::default();
        encoding.push(prefixes);
        if rex != 0 {
            encoding.push(&[REX | rex]);
        }
        for bytes in rest {
            encoding.push(bytes);
        }
        encoding
    }

    /// Too long is no instruction, which the second reading would not take.
    fn push(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            if let Some(place) = self.bytes.get_mut(usize::from(self.length)) {
                *place = byte;
                self.length += 1;
            }
        }
    }

    fn as_slice(&self) -> &[u8] {
        &self.bytes[..usize::from(self.length)]
    }
}

const REX: u8 = 0x40;
const W: u8 = 8;
const R: u8 = 4;
const B: u8 = 1;
const OPERAND_SIZE: u8 = 0x66;

/// The shortest encoding of an instruction that has no relocated field and no distance, if it is another one.
fn shorter(bytes: &[u8]) -> Option<Encoding> {
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
fn is_same(before: &Instruction, after: &Instruction) -> bool {
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
    use std::collections::BTreeSet;

    use bpf2sys_pe_emit::{RelocationKind, UnwindInfo};

    use super::{shorten, shorter};
    use crate::audit_x64::{check, decode};
    use crate::compile::{Code, Reference, Target};
    use crate::unwind_x64;

    fn bytes(hex: &str) -> Vec<u8> {
        let digits: String = hex.chars().filter(char::is_ascii_hexdigit).collect();
        (0..digits.len())
            .step_by(2)
            .map(|i| u8::from_str_radix(&digits[i..i + 2], 16).unwrap())
            .collect()
    }

    fn code(bytes: Vec<u8>, fields: &[u32], origins: &[(u32, Option<u32>)]) -> Code {
        let reference = |&offset| Reference {
            offset,
            kind: RelocationKind::Relative32,
            target: Target::Constants,
            addend: -4,
            is_call: false,
        };
        Code {
            bytes,
            constants: Vec::new(),
            references: fields.iter().map(reference).collect(),
            unwind: UnwindInfo::Leaf,
            frame_bytes: 0,
            origins: origins.to_vec(),
            ir: None,
        }
    }

    /// Shortens, and checks the result.
    fn shortened(code: &mut Code) -> bool {
        let relocated = |code: &Code| -> BTreeSet<u32> { code.references.iter().map(|r| r.offset).collect() };
        let before = decode(&code.bytes, &relocated(code)).unwrap();
        let Some(shortened) = shorten(code, &before) else {
            return false;
        };
        let after = decode(&code.bytes, &relocated(code)).unwrap();
        shortened.check(&code.bytes, &before, &after).unwrap();
        check(&after.instructions).unwrap();
        true
    }

    fn becomes(before: &[u8], after: &[u8], name: &str) {
        let mut code = code(before.to_vec(), &[], &[]);
        assert!(shortened(&mut code), "{name}");
        assert_eq!(code.bytes, after, "{name}");
    }

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

    const NOP: u8 = 0x90;

    /// A jump over `between` bytes, in the long form; then a return.
    fn forward(jump: &str, between: usize) -> Vec<u8> {
        let distance = (between as u32).to_le_bytes();
        [bytes(jump), distance.to_vec(), vec![NOP; between], bytes("c3")].concat()
    }

    #[test]
    fn jumps_forward_are_short_up_to_127_bytes() {
        for (long, short) in [("0f84", 0x74), ("0f8f", 0x7F), ("e9", 0xEB)] {
            for between in [1, 126, 127] {
                let expected = [vec![short, between as u8], vec![NOP; between], bytes("c3")].concat();
                becomes(&forward(long, between), &expected, long);
            }
            let far = forward(long, 128);
            becomes(&far, &far, long);
        }
    }

    #[test]
    fn jumps_backward_are_short_up_to_128_bytes() {
        let backward = |between: usize, jump: &[u8]| [vec![NOP; between], jump.to_vec(), bytes("c3")].concat();
        for between in [0, 1, 125, 126] {
            let long = [&[0x0F, 0x85][..], &(-(between as i32) - 6).to_le_bytes()].concat();
            let short = [0x75, (-(between as i32) - 2) as u8];
            becomes(
                &backward(between, &long),
                &backward(between, &short),
                &between.to_string(),
            );
        }
        let far = backward(127, &[&[0x0F, 0x85][..], &(-133_i32).to_le_bytes()].concat());
        becomes(&far, &far, "far");
    }

    #[test]
    fn a_jump_that_gets_short_can_make_another_short() {
        // je L1 over 122 bytes, a jne L2 of 6, and nothing more: 128 bytes, 124 when the jne is short
        let before = [bytes("0f8480000000"), vec![NOP; 122], bytes("0f8501000000 90 90 c3")].concat();
        let after = [bytes("747c"), vec![NOP; 122], bytes("7501 90 90 c3")].concat();
        becomes(&before, &after, "chain");
    }

    #[test]
    fn a_chain_of_jumps_is_shortened_from_its_end() {
        // Each jump goes behind the next one: 122 bytes and 6 in between; only the last one is near at first.
        let links = 20;
        let mut before = Vec::new();
        let mut after = Vec::new();
        for link in 0..links {
            let is_last = link == links - 1;
            before.extend(bytes(if is_last { "0f847a000000" } else { "0f8480000000" }));
            after.extend(bytes(if is_last { "747a" } else { "747c" }));
            for code in [&mut before, &mut after] {
                code.extend([NOP; 122]);
            }
        }
        for code in [&mut before, &mut after] {
            code.push(0xC3);
        }
        becomes(&before, &after, "chain");
    }

    #[test]
    fn jumps_count_what_lies_between_in_its_new_length() {
        // jmp L; 18 times add rcx, 1, of 7 bytes and then of 4; two nops; L: ret. And back the same way.
        let (long, short) = (bytes("4881c101000000").repeat(19), bytes("4883c101").repeat(19));
        let before = [bytes("0f8485000000"), long.clone(), bytes("c3")].concat();
        becomes(
            &before,
            &[bytes("744c"), short.clone(), bytes("c3")].concat(),
            "forward",
        );
        let back = |length: usize, jump: usize| (-((length + jump) as i32)).to_le_bytes();
        let before = [long.clone(), bytes("e9"), back(long.len(), 5).to_vec()].concat();
        let after = [short.clone(), vec![0xEB, back(short.len(), 2)[0]]].concat();
        becomes(&before, &after, "backward");
    }

    #[test]
    fn jumps_to_the_next_instruction_vanish() {
        becomes(&bytes("e900000000 c3"), &bytes("c3"), "jmp");
        becomes(&bytes("0f8400000000 c3"), &bytes("c3"), "je");
        becomes(&bytes("eb00 e900000000 c3"), &bytes("c3"), "two");
        // je to a jump that vanishes
        becomes(
            &bytes("0f8401000000 90 e900000000 90 c3"),
            &bytes("7401 90 90 c3"),
            "its target",
        );
    }

    #[test]
    fn fields_and_origins_move_and_relocated_instructions_keep_their_bytes() {
        // je L; call f; cmp qword [constant], 5 in 32 bits; lea rax, [map]; L: add rcx, 1; ret
        let before = bytes("0f8417000000 e800000000 48813d0000000005000000 488d0500000000 4881c101000000 c3");
        let after = bytes("7417 e800000000 48813d0000000005000000 488d0500000000 4883c101 c3");
        let origins = [
            (0, None),
            (6, Some(1)),
            (11, Some(2)),
            (22, Some(3)),
            (29, Some(4)),
            (36, Some(5)),
        ];
        let mut code = code(before, &[25, 7, 14], &origins);
        assert!(shortened(&mut code));
        assert_eq!(code.bytes, after);
        let fields: Vec<u32> = code.references.iter().map(|r| r.offset).collect();
        assert_eq!(fields, [21, 3, 10]);
        let moved = [
            (0, None),
            (2, Some(1)),
            (7, Some(2)),
            (18, Some(3)),
            (25, Some(4)),
            (29, Some(5)),
        ];
        assert_eq!(code.origins, moved);
    }

    #[test]
    fn origins_of_what_vanishes_are_those_of_what_follows() {
        let mut code = code(
            bytes("90 e900000000 c3"),
            &[],
            &[(0, Some(1)), (1, Some(2)), (6, Some(3))],
        );
        assert!(shortened(&mut code));
        assert_eq!(code.origins, [(0, Some(1)), (1, Some(3))]);
    }

    #[test]
    fn epilogues_are_legal_without_a_nop() {
        let cases = [
            ("no frame", "55 4889e5 31c0 4889ec 5d c3", "55 4889e5 31c0 5d c3"),
            (
                "small frame",
                "55 4889e5 4883ec20 31c0 4883c420 4889ec 5d c3",
                "55 4889e5 4883ec20 31c0 4883c420 5d c3",
            ),
            (
                "saved register, two returns, a jump to an epilogue",
                "55 4889e5 4883ec20 4889742410 85c9 0f8414000000 7502 ffc0 488b742410 4883c420 4889ec 5d c3 \
                 ffc0 488b742410 4883c420 4889ec 5d c3",
                "55 4889e5 4883ec20 4889742410 85c9 7411 7502 ffc0 488b742410 4883c420 5d c3 \
                 ffc0 488b742410 4883c420 5d c3",
            ),
        ];
        for (name, before, after) in cases {
            let before = bytes(before);
            becomes(&before, &bytes(after), name);
            let frames = [before, bytes(after)].map(|code| {
                let frame = unwind_x64::describe(&decode(&code, &BTreeSet::new()).unwrap().instructions).unwrap();
                (frame.unwind, frame.bytes)
            });
            assert_eq!(frames[0], frames[1], "{name}");
        }
    }

    #[test]
    fn functions_with_what_must_not_move_stay() {
        let cases = [
            ("indirect jump", "4881c101000000 ffe0"),
            ("jump into an instruction", "eb01 4881c101000000 c3"),
            ("jump out of the function", "4881c101000000 e910000000"),
            ("call without a name", "4881c101000000 e800000000 c3"),
            ("jrcxz", "4881c101000000 e300 c3"),
            ("trap", "4881c101000000 0f0b c3"),
        ];
        for (name, hex) in cases {
            let mut code = code(bytes(hex), &[], &[]);
            assert!(!shortened(&mut code), "{name}");
            assert_eq!(code.bytes, bytes(hex), "{name}");
        }
    }

    #[test]
    fn the_second_reading_finds_what_became_something_else() {
        let before = bytes("4881c101000000 0f8402000000 9090 c3");
        let decoded = decode(&before, &BTreeSet::new()).unwrap();
        let mut code = code(before, &[], &[]);
        let shortened = shorten(&mut code, &decoded).unwrap();
        assert_eq!(code.bytes, bytes("4883c101 7402 9090 c3"));
        for wrong in [
            "4883c102 7402 9090 c3", // another immediate
            "4883c001 7402 9090 c3", // another register
            "83c10190 7402 9090 c3", // another width
            "4883e901 7402 9090 c3", // another operation
            "4883c101 7401 9090 c3", // another target
            "4883c101 7502 9090 c3", // another condition
            "4883c101 7402 9091 c3", // another byte
            "4883c101 7402 9090 90 c3",
            "4883c101 7402 90 c3",
        ] {
            let after = decode(&bytes(wrong), &BTreeSet::new()).unwrap();
            assert!(shortened.check(&bytes(wrong), &decoded, &after).is_err(), "{wrong}");
        }
    }
}
