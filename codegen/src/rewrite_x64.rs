//! Changes to the instructions of an x86-64 function that Cranelift has made.
//!
//! Given: the code of a function, what refers to places in it, and its decoded instructions.
//! Computed: the instructions with the [`Changes`] that are wanted, and the references and origins moved with them.
//! Safe because: the result is decoded again, and each instruction of it must have the bytes, the operands or the target of
//! the one that it stands for ([`Rewritten::check`]); the rules of a driver and the unwind data are made of that second
//! reading. An instruction with a field that a relocation fills in keeps its bytes. A function with anything that moving
//! could break keeps all of them.

use bpf2sys_pe_emit::RelocationKind;
use iced_x86::{Code as Op, FlowControl, Instruction, OpKind, Register};

use crate::audit_x64::{Decoded, is_guarded_call};
use crate::compile::{Code, Reference, Target};
use crate::guard;
use crate::shorten_x64::{is_same, is_surplus, shorter};
use crate::unwind_x64::is_move;

/// What to change.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Changes {
    /// Instructions become as short as they can be ([`shorten_x64`](crate::shorten_x64)).
    pub(crate) shorten: bool,
    /// Calls through registers become calls through the pointer of Control Flow Guard, which take the address in `rax`
    /// ([`guard`]). That is free at a call: it has no argument, and the result afterwards.
    pub(crate) guard: bool,
}

/// Changes what can be; nothing, if the function has something that must stay where it is.
pub(crate) fn rewrite(code: &mut Code, decoded: &Decoded, changes: Changes) -> Option<Rewritten> {
    let mut parts = parts(code, &decoded.instructions, changes)?;
    let places = relax(&mut parts, changes);
    let bytes = emit(&parts, &places, &code.bytes);
    let rewritten = Rewritten {
        before: std::mem::replace(&mut code.bytes, bytes),
        parts,
        places,
    };
    rewritten.move_references(code);
    rewritten.move_origins(code);
    rewritten.name_pointers(code);
    Some(rewritten)
}

/// What became of an instruction.
#[derive(Clone, Copy, Debug)]
enum Form {
    /// The same bytes.
    Kept,
    /// A shorter one.
    Shorter(Encoding),
    /// A jump to the instruction at this position; `near` is its length with a distance of 32 bits.
    Jump { target: usize, near: u32, short: bool },
    /// `mov rax, r` where it was `call r`, and a call through the pointer of Control Flow Guard.
    Guarded(Encoding),
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
const NEAR_JUMP: u32 = 5;
const NEAR_CONDITIONAL_JUMP: u32 = 6;

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
            Form::Jump { near, .. } => near,
            Form::Kept => self.length.into(),
            Form::Shorter(encoding) | Form::Guarded(encoding) => encoding.as_slice().len() as u32,
            Form::Removed => 0,
        }
    }
}

/// Takes the function apart. `None` if something in it must stay where it is.
fn parts(code: &Code, instructions: &[Instruction], changes: Changes) -> Option<Vec<Part>> {
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
        match instruction.flow_control() {
            FlowControl::Next if is_relocated => {}
            _ if !is_relocated && instruction.is_ip_rel_memory_operand() => return None,
            FlowControl::Next => {
                if changes.shorten {
                    part.form = shortened(&instructions[position..], part.bytes(&code.bytes));
                }
            }
            FlowControl::Call if !is_relocated => return None,
            FlowControl::IndirectCall => {
                if changes.guard
                    && let Some(guarded) = guarded(instruction)
                {
                    part.form = Form::Guarded(guarded);
                }
            }
            FlowControl::Call | FlowControl::Return => {}
            FlowControl::UnconditionalBranch | FlowControl::ConditionalBranch => {
                let near = near_length(instruction).filter(|_| !is_relocated)?;
                let target = position_of(instructions, instruction.near_branch_target())?;
                part.form = if changes.shorten && target == position + 1 {
                    Form::Removed
                } else {
                    let short = false;
                    Form::Jump { target, near, short }
                };
            }
            _ => return None,
        }
        parts.push(part);
    }
    Some(parts)
}

/// What becomes of the first instruction, which has these bytes.
fn shortened(code: &[Instruction], bytes: &[u8]) -> Form {
    if is_surplus(code) {
        return Form::Removed;
    }
    shorter(bytes).map_or(Form::Kept, Form::Shorter)
}

/// What a call through a register becomes.
fn guarded(call: &Instruction) -> Option<Encoding> {
    const CALL: [u8; 6] = [0xFF, 0x15, 0, 0, 0, 0];
    let number = call.op0_register().number() as u8;
    // Longer is one with a prefix, which processors read differently.
    let length = if number < 8 { 2 } else { 3 };
    if call.code() != Op::Call_rm64 || call.op0_kind() != OpKind::Register || call.len() != length {
        return None;
    }
    if call.op0_register() == Register::RAX {
        return Some(Encoding::new(&[], 0, &[&CALL]));
    }
    let load = [0x89, 0xC0 | (number & 7) << 3];
    Some(Encoding::new(&[], 8 | number >> 3 << 2, &[&load, &CALL]))
}

/// The length of a jump with a distance of 32 bits, if it has one of the forms that [`emit`] knows.
fn near_length(instruction: &Instruction) -> Option<u32> {
    let near = match instruction.code() {
        Op::Jmp_rel8_64 | Op::Jmp_rel32_64 => NEAR_JUMP,
        code if code.is_jcc_short_or_near() => NEAR_CONDITIONAL_JUMP,
        _ => return None,
    };
    [SHORT_JUMP, near].contains(&(instruction.len() as u32)).then_some(near)
}

fn position_of(instructions: &[Instruction], offset: u64) -> Option<usize> {
    instructions.binary_search_by_key(&offset, Instruction::ip).ok()
}

/// Gives jumps the short form where their targets are near, until no more are, and tells where each instruction begins then,
/// and the code ends. A jump that is short stays so: what lies between it and its target only ever gets shorter. Without
/// shortening, only jumps that were short before are.
fn relax(parts: &mut [Part], changes: Changes) -> Vec<u32> {
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
            let may_be_short = changes.shorten || u32::from(part.length) == SHORT_JUMP;
            let Form::Jump {
                target,
                short: short @ false,
                ..
            } = &mut part.form
            else {
                continue;
            };
            let end = if *target > position {
                places[position + 1]
            } else {
                places[position] + SHORT_JUMP
            };
            if may_be_short && i8::try_from(i64::from(places[*target]) - i64::from(end)).is_ok() {
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
            Form::Shorter(encoding) | Form::Guarded(encoding) => code.extend_from_slice(encoding.as_slice()),
            Form::Jump { target, near, short } => {
                let distance = places[target].wrapping_sub(places[position + 1]);
                let condition = (near == NEAR_CONDITIONAL_JUMP).then(|| match bytes {
                    [0x0F, opcode, ..] | [opcode, ..] => opcode & 0xF,
                    [] => 0,
                });
                match (condition, short) {
                    (None, true) => code.push(0xEB),
                    (None, false) => code.push(0xE9),
                    (Some(condition), true) => code.push(0x70 | condition),
                    (Some(condition), false) => code.extend([0x0F, 0x80 | condition]),
                }
                let distance = distance.to_le_bytes();
                code.extend_from_slice(if short { &distance[..1] } else { &distance });
            }
            Form::Removed => {}
        }
    }
    code
}

/// What was done to a function.
#[derive(Debug)]
pub(crate) struct Rewritten {
    /// Its bytes before.
    before: Vec<u8>,
    parts: Vec<Part>,
    /// Where each instruction begins now, and the code ends.
    places: Vec<u32>,
}

impl Rewritten {
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

    /// Guarded calls refer to the pointer, by the last four bytes.
    fn name_pointers(&self, code: &mut Code) {
        for (part, end) in self.parts.iter().zip(&self.places[1..]) {
            if matches!(part.form, Form::Guarded(_)) {
                code.references.push(Reference {
                    offset: end - 4,
                    kind: RelocationKind::Relative32,
                    target: Target::Named(guard::DISPATCH_POINTER.to_owned()),
                    addend: -4,
                    is_call: false,
                });
            }
        }
    }

    /// Checks that the code, decoded again, has the same meaning, instruction by instruction. `references` are those of
    /// the new code.
    pub(crate) fn check(
        &self,
        code: &[u8],
        references: &[Reference],
        before: &Decoded,
        after: &Decoded,
    ) -> Result<(), String> {
        let mut rest = after.instructions.as_slice();
        let places = self.places.windows(2).map(|place| place[0] as usize..place[1] as usize);
        for ((part, place), before) in self.parts.iter().zip(places).zip(&before.instructions) {
            let (made, others) = rest.split_at(rest.partition_point(|after| after.ip() < place.end as u64));
            rest = others;
            let length: usize = made.iter().map(Instruction::len).sum();
            let is_there = made.first().is_none_or(|first| first.ip() == place.start as u64) && length == place.len();
            let same = match (part.form, made) {
                (Form::Removed, []) => true,
                (Form::Kept, [_]) => part.bytes(&self.before) == &code[place],
                (Form::Shorter(_), [after]) => is_same(before, after),
                (Form::Guarded(_), [load @ .., call]) => {
                    let address = before.op0_register();
                    let is_loaded = match load {
                        [] => address == Register::RAX,
                        [load] => address != Register::RAX && is_move(load, Register::RAX, address),
                        _ => false,
                    };
                    before.code() == Op::Call_rm64 && is_loaded && is_guarded_call(call, references)
                }
                (Form::Jump { target, .. }, [after]) => {
                    after.condition_code() == before.condition_code()
                        && (after.is_jcc_short_or_near() || after.is_jmp_short_or_near())
                        && after.near_branch_target() == u64::from(self.places[target])
                        && before.near_branch_target() == u64::from(self.parts[target].start)
                }
                _ => false,
            };
            if !is_there || !same {
                return Err(format!("{before} at {:#x} became something else", before.ip()));
            }
        }
        rest.first().map_or(Ok(()), |more| Err(format!("{more} was added")))
    }
}

/// The bytes of an instruction, or of two.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Encoding {
    bytes: [u8; 15],
    length: u8,
}

impl Encoding {
    /// From its parts; the REX prefix from its four low bits, and left out if there are none.
    pub(crate) fn new(prefixes: &[u8], rex: u8, rest: &[&[u8]]) -> Encoding {
        let mut encoding = Encoding::default();
        encoding.push(prefixes);
        if rex != 0 {
            encoding.push(&[0x40 | rex]);
        }
        for bytes in rest {
            encoding.push(bytes);
        }
        encoding
    }

    /// Too long is cut off, and no second reading takes that.
    fn push(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            if let Some(place) = self.bytes.get_mut(usize::from(self.length)) {
                *place = byte;
                self.length += 1;
            }
        }
    }

    pub(crate) fn as_slice(&self) -> &[u8] {
        &self.bytes[..usize::from(self.length)]
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::collections::BTreeSet;

    use bpf2sys_pe_emit::{RelocationKind, UnwindInfo};

    use super::{Changes, rewrite};
    use crate::audit_x64::{check, check_calls, decode};
    use crate::compile::{Code, Reference, Target};
    use crate::unwind_x64;

    pub(crate) fn bytes(hex: &str) -> Vec<u8> {
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

    const SHORTEN: Changes = Changes {
        shorten: true,
        guard: false,
    };

    /// Shortens, and checks the result.
    fn shortened(code: &mut Code) -> bool {
        rewritten(code, SHORTEN)
    }

    /// Changes, and checks the result.
    fn rewritten(code: &mut Code, changes: Changes) -> bool {
        let relocated = |code: &Code| -> BTreeSet<u32> { code.references.iter().map(|r| r.offset).collect() };
        let before = decode(&code.bytes, &relocated(code)).unwrap();
        let Some(rewritten) = rewrite(code, &before, changes) else {
            return false;
        };
        let after = decode(&code.bytes, &relocated(code)).unwrap();
        rewritten.check(&code.bytes, &code.references, &before, &after).unwrap();
        check(&after.instructions).unwrap();
        if changes.guard {
            check_calls(&after.instructions, &code.references).unwrap();
        }
        true
    }

    pub(crate) fn becomes(before: &[u8], after: &[u8], name: &str) {
        let mut code = code(before.to_vec(), &[], &[]);
        assert!(shortened(&mut code), "{name}");
        assert_eq!(code.bytes, after, "{name}");
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
        let shortened = rewrite(&mut code, &decoded, SHORTEN).unwrap();
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
            assert!(
                shortened.check(&bytes(wrong), &[], &decoded, &after).is_err(),
                "{wrong}"
            );
        }
    }

    const GUARD: Changes = Changes {
        shorten: false,
        guard: true,
    };
    const BOTH: Changes = Changes {
        shorten: true,
        guard: true,
    };

    #[test]
    fn calls_through_registers_become_guarded() {
        let cases = [
            ("rax", "ffd0", ""),
            ("rcx", "ffd1", "4889c8"),
            ("rbx", "ffd3", "4889d8"),
            ("rdi", "ffd7", "4889f8"),
            ("r8", "41ffd0", "4c89c0"),
            ("r10", "41ffd2", "4c89d0"),
            ("r15", "41ffd7", "4c89f8"),
        ];
        for (name, before, load) in cases {
            for changes in [GUARD, BOTH] {
                let mut code = code(bytes(&[before, "c3"].concat()), &[], &[]);
                assert!(rewritten(&mut code, changes), "{name}");
                assert_eq!(code.bytes, bytes(&[load, "ff1500000000 c3"].concat()), "{name}");
                let [pointer] = code.references.as_slice() else {
                    panic!("{name}: {:?}", code.references)
                };
                assert_eq!(pointer.offset as usize, code.bytes.len() - 5, "{name}");
                assert_eq!(
                    pointer.target,
                    Target::Named("guard_dispatch_pointer".to_owned()),
                    "{name}"
                );
                assert_eq!((pointer.addend, pointer.is_call), (-4, false), "{name}");
            }
        }
    }

    #[test]
    fn what_lies_around_a_guarded_call_moves() {
        // je L; add rcx, 1; M: call r10; lea rdx, [map]; L: jmp M; ret
        let before = bytes("0f8411000000 4881c101000000 41ffd2 488d1500000000 e9f1ffffff c3");
        let origins = [(0, Some(1)), (13, Some(2)), (16, Some(3)), (23, Some(4)), (28, None)];
        let mut code = code(before, &[19], &origins);
        assert!(rewritten(&mut code, GUARD));
        let after = bytes("0f8417000000 4881c101000000 4c89d0 ff1500000000 488d1500000000 e9ebffffff c3");
        assert_eq!(code.bytes, after);
        let fields: Vec<u32> = code.references.iter().map(|r| r.offset).collect();
        assert_eq!(fields, [25, 18]);
        let moved = [(0, Some(1)), (13, Some(2)), (22, Some(3)), (29, Some(4)), (34, None)];
        assert_eq!(code.origins, moved);
    }

    #[test]
    fn a_short_jump_over_calls_gets_long_where_it_must() {
        let jump = |opcode: &[u8], distance: usize| [opcode, &(distance as u32).to_le_bytes()].concat();
        for (short, long) in [(0x74, &[0x0F, 0x84][..]), (0xEB, &[0xE9])] {
            for (calls, stays) in [(14, true), (15, false)] {
                let before = [vec![short, 2 * calls], bytes("ffd1").repeat(calls.into()), bytes("c3")].concat();
                let distance = 9 * usize::from(calls);
                let first = if stays {
                    vec![short, distance as u8]
                } else {
                    jump(long, distance)
                };
                let call = bytes("4889c8 ff1500000000");
                let after = [first, call.repeat(calls.into()), bytes("c3")].concat();
                let mut code = code(before, &[], &[]);
                assert!(rewritten(&mut code, GUARD));
                assert_eq!(code.bytes, after, "{calls}");
            }
        }
    }

    #[test]
    fn without_shortening_nothing_but_calls_changes() {
        let before = bytes("e900000000 4881c101000000 0f8400000000 eb00 c3");
        let mut code = code(before.clone(), &[], &[]);
        assert!(rewritten(&mut code, GUARD));
        assert_eq!(code.bytes, before);
    }

    #[test]
    fn no_other_call_by_address_is_taken() {
        let cases: [(&str, &str, &[u32]); 5] = [
            ("through memory", "ff5008 c3", &[]),
            ("through another pointer", "ff1500000000 c3", &[2]),
            ("with an operand-size prefix", "66ffd0 c3", &[]),
            ("a jump", "ffe0", &[]),
            ("where nothing can move", "ffd0 0f0b c3", &[]),
        ];
        for (name, hex, fields) in cases {
            let mut code = code(bytes(hex), fields, &[]);
            let decoded = |code: &Code| {
                let relocated = code.references.iter().map(|r| r.offset).collect();
                decode(&code.bytes, &relocated).unwrap()
            };
            let before = decoded(&code);
            rewrite(&mut code, &before, BOTH);
            assert!(
                check_calls(&decoded(&code).instructions, &code.references).is_err(),
                "{name}"
            );
        }
    }

    #[test]
    fn the_second_reading_finds_a_guarded_call_of_something_else() {
        let before = bytes("ffd1 ffd0 c3");
        let decoded = decode(&before, &BTreeSet::new()).unwrap();
        let mut code = code(before, &[], &[]);
        let rewritten = rewrite(&mut code, &decoded, GUARD).unwrap();
        assert_eq!(code.bytes, bytes("4889c8 ff1500000000 ff1500000000 c3"));
        for (what, wrong) in [
            ("another register", "4889d0 ff1500000000 ff1500000000 c3"),
            ("the other way round", "4889c1 ff1500000000 ff1500000000 c3"),
            ("32 bits", "89c890 ff1500000000 ff1500000000 c3"),
            ("no load", "0f1f00 ff1500000000 ff1500000000 c3"),
            ("a jump", "4889c8 ff2500000000 ff1500000000 c3"),
            ("a call through memory", "4889c8 ff9000000000 ff1500000000 c3"),
        ] {
            let fields = BTreeSet::from([5, 11]);
            let after = decode(&bytes(wrong), &fields).unwrap();
            let found = rewritten.check(&bytes(wrong), &code.references, &decoded, &after);
            assert!(found.is_err(), "{what}");
        }
        let after = decode(&code.bytes, &BTreeSet::from([5, 11])).unwrap();
        assert!(rewritten.check(&code.bytes, &[], &decoded, &after).is_err(), "no name");
    }
}
