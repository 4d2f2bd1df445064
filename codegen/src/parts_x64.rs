//! An x86-64 function taken apart into its instructions, and put together again.
//!
//! Given: the code of a function and its decoded instructions. Computed: a [`Part`] for each, whose [`Form`] says what becomes of it; and of parts in
//! any order the code, with jumps as short as they can be, and with references and origins moved.
//! Safe because: nothing here decides what becomes of an instruction. Who does proves it of the code that comes out, decoded again.

use iced_x86::{Code as Op, Encoder, FlowControl, Instruction};

use crate::compile::{Code, Reference};

/// Where processors fetch code of loops at best.
pub(crate) const LOOP_ALIGNMENT: u32 = 32;
const SHORT_JUMP: u32 = 2;
const NEAR_JUMP: u32 = 5;
const NEAR_CONDITIONAL_JUMP: u32 = 6;

/// What became of an instruction.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Form {
    /// The same bytes.
    Kept,
    /// A shorter one.
    Shorter(Encoding),
    /// A jump to the part at this position, on this condition.
    Jump {
        target: usize,
        condition: Option<u8>,
        short: bool,
    },
    /// `mov rax, r` where it was `call r`, and a call through the pointer of Control Flow Guard.
    Guarded(Encoding),
    /// The load of the address for the guarded call that follows, into `rax`.
    LoadsRax(Encoding),
    /// A part of another prologue or epilogue.
    Frame(Encoding),
    /// The same with an argument on the stack, which is found from `rsp`.
    Argument(Encoding),
    /// The same with the address in the frame that was made at this position.
    Folded { address: usize, new: Encoding },
    /// The same with other registers.
    Renamed(Encoding),
    /// That many bytes of nothing before the head of a loop.
    Padding(u8),
    /// It is left out.
    Removed,
}

impl Form {
    /// The bytes of one that has new ones.
    fn encoding(self) -> Option<Encoding> {
        match self {
            Form::Shorter(new)
            | Form::Guarded(new)
            | Form::LoadsRax(new)
            | Form::Frame(new)
            | Form::Argument(new)
            | Form::Folded { new, .. }
            | Form::Renamed(new) => Some(new),
            Form::Kept | Form::Jump { .. } | Form::Padding(_) | Form::Removed => None,
        }
    }
}

/// An instruction of the function.
#[derive(Debug)]
pub(crate) struct Part {
    /// Its position before.
    pub(crate) source: usize,
    /// Its offset before.
    pub(crate) start: u32,
    /// Its length before.
    pub(crate) length: u8,
    /// Whether a relocation fills in a field of it.
    pub(crate) is_relocated: bool,
    pub(crate) form: Form,
}

impl Part {
    /// Takes the function apart. `None` if something in it must stay where it is.
    pub(crate) fn all(code: &Code, instructions: &[Instruction]) -> Option<Vec<Part>> {
        let mut fields: Vec<u32> = code.references.iter().map(|reference| reference.offset).collect();
        fields.sort_unstable();
        let mut fields = fields.into_iter().peekable();
        let mut parts = Vec::with_capacity(instructions.len());
        for (source, instruction) in instructions.iter().enumerate() {
            let mut part = Part {
                source,
                start: instruction.ip() as u32,
                length: instruction.len() as u8,
                is_relocated: false,
                form: Form::Kept,
            };
            while fields.next_if(|field| *field < part.end()).is_some() {
                part.is_relocated = true;
            }
            match instruction.flow_control() {
                _ if !part.is_relocated && instruction.is_ip_rel_memory_operand() => return None,
                FlowControl::Call if !part.is_relocated => return None,
                FlowControl::Next | FlowControl::IndirectCall | FlowControl::Call | FlowControl::Return => {}
                FlowControl::UnconditionalBranch | FlowControl::ConditionalBranch
                    if !part.is_relocated && is_known(instruction) =>
                {
                    part.form = Form::Jump {
                        target: position_of(instructions, instruction.near_branch_target())?,
                        condition: condition(instruction, part.bytes(&code.bytes)),
                        short: false,
                    };
                }
                _ => return None,
            }
            parts.push(part);
        }
        Some(parts)
    }

    /// A jump that comes. It has the origin of what was at this offset.
    pub(crate) fn added(origin: u32) -> Part {
        Part {
            source: 0,
            start: origin,
            length: 0,
            is_relocated: false,
            form: Form::Removed,
        }
    }

    /// Where it jumps to.
    pub(crate) fn target(&self) -> Option<usize> {
        match self.form {
            Form::Jump { target, .. } => Some(target),
            _ => None,
        }
    }

    fn end(&self) -> u32 {
        self.start + u32::from(self.length)
    }

    /// Its bytes in the code before.
    pub(crate) fn bytes<'a>(&self, code: &'a [u8]) -> &'a [u8] {
        &code[self.start as usize..self.end() as usize]
    }

    /// Its length now.
    fn size(&self) -> u32 {
        match self.form {
            Form::Jump { short: true, .. } => SHORT_JUMP,
            Form::Jump { condition: None, .. } => NEAR_JUMP,
            Form::Jump { .. } => NEAR_CONDITIONAL_JUMP,
            Form::Kept => self.length.into(),
            Form::Padding(bytes) => bytes.into(),
            Form::Removed => 0,
            form => form.encoding().map_or(0, |new| new.as_slice().len() as u32),
        }
    }
}

/// The instructions that may follow one.
pub(crate) fn successors_of(parts: &[Part], position: usize, instruction: &Instruction) -> impl Iterator<Item = usize> {
    let (next, target) = match parts[position].form {
        Form::Jump { target, condition, .. } => (condition.is_some(), Some(target)),
        _ => (instruction.flow_control() != FlowControl::Return, None),
    };
    let next = (next && position + 1 < parts.len()).then_some(position + 1);
    next.into_iter().chain(target)
}

/// Whether a jump has one of the forms that [`Rewritten::assemble`] knows.
fn is_known(jump: &Instruction) -> bool {
    let length = match jump.code() {
        Op::Jmp_rel8_64 | Op::Jmp_rel32_64 => NEAR_JUMP,
        code if code.is_jcc_short_or_near() => NEAR_CONDITIONAL_JUMP,
        _ => return false,
    };
    [SHORT_JUMP, length].contains(&(jump.len() as u32))
}

/// The condition of a jump of such a form.
fn condition(jump: &Instruction, bytes: &[u8]) -> Option<u8> {
    let is_conditional = jump.code().is_jcc_short_or_near();
    match bytes {
        [0x0F, opcode, ..] | [opcode, ..] if is_conditional => Some(opcode & 0xF),
        _ => None,
    }
}

fn position_of(instructions: &[Instruction], offset: u64) -> Option<usize> {
    instructions.binary_search_by_key(&offset, Instruction::ip).ok()
}

/// Gives jumps the short form where their targets are near, until no more are, and tells where each instruction begins then,
/// and the code ends. Without shortening, only jumps that were short before are.
///
/// A jump that is short stays so, since what lies between it and its target only ever gets shorter; but padding can get longer. If a jump
/// does not reach its target then, there is no padding.
fn relax(parts: &mut [Part], shorten: bool) -> Vec<u32> {
    let places = relaxed(parts, shorten, LOOP_ALIGNMENT);
    let is_far = |(position, part): (usize, &Part)| match part.form {
        Form::Jump {
            target, short: true, ..
        } => i8::try_from(i64::from(places[target]) - i64::from(places[position + 1])).is_err(),
        _ => false,
    };
    if !parts.iter().enumerate().any(is_far) {
        return places;
    }
    for part in &mut *parts {
        if let Form::Jump { short, .. } = &mut part.form {
            *short = false;
        }
    }
    relaxed(parts, shorten, 1)
}

fn relaxed(parts: &mut [Part], shorten: bool, alignment: u32) -> Vec<u32> {
    let mut places = Vec::with_capacity(parts.len() + 1);
    loop {
        places.clear();
        let mut place = 0_u32;
        for part in &mut *parts {
            places.push(place);
            if let Form::Padding(bytes) = &mut part.form {
                *bytes = (place.next_multiple_of(alignment) - place) as u8;
            }
            place += part.size();
        }
        places.push(place);
        let mut changed = false;
        for (position, part) in parts.iter_mut().enumerate() {
            let may_be_short = shorten || u32::from(part.length) == SHORT_JUMP;
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

/// That many bytes of instructions that do nothing.
fn nothing(bytes: usize) -> Vec<u8> {
    const LONGEST: usize = 8;
    const ALL: [&[u8]; LONGEST] = [
        &[0x90],
        &[0x66, 0x90],
        &[0x0F, 0x1F, 0x00],
        &[0x0F, 0x1F, 0x40, 0x00],
        &[0x0F, 0x1F, 0x44, 0x00, 0x00],
        &[0x66, 0x0F, 0x1F, 0x44, 0x00, 0x00],
        &[0x0F, 0x1F, 0x80, 0x00, 0x00, 0x00, 0x00],
        &[0x0F, 0x1F, 0x84, 0x00, 0x00, 0x00, 0x00, 0x00],
    ];
    let mut nothing = Vec::with_capacity(bytes);
    while let Some(rest) = (bytes - nothing.len()).checked_sub(1) {
        nothing.extend_from_slice(ALL[rest.min(LONGEST - 1)]);
    }
    nothing
}

fn emit(parts: &[Part], places: &[u32], before: &[u8]) -> Vec<u8> {
    let mut code = Vec::with_capacity(before.len());
    for (position, part) in parts.iter().enumerate() {
        match part.form {
            Form::Kept => code.extend_from_slice(part.bytes(before)),
            Form::Jump {
                target,
                condition,
                short,
            } => {
                let distance = places[target].wrapping_sub(places[position + 1]);
                match (condition, short) {
                    (None, true) => code.push(0xEB),
                    (None, false) => code.push(0xE9),
                    (Some(condition), true) => code.push(0x70 | condition),
                    (Some(condition), false) => code.extend([0x0F, 0x80 | condition]),
                }
                let distance = distance.to_le_bytes();
                code.extend_from_slice(if short { &distance[..1] } else { &distance });
            }
            Form::Padding(bytes) => code.extend(nothing(bytes.into())),
            form => code.extend(form.encoding().iter().flat_map(Encoding::as_slice)),
        }
    }
    code
}

/// What was done to a function.
#[derive(Debug)]
pub(crate) struct Rewritten {
    /// Its bytes before.
    pub(crate) before: Vec<u8>,
    /// What it is made of, in the order of now.
    pub(crate) parts: Vec<Part>,
    /// Where each part begins now, and the code ends.
    pub(crate) places: Vec<u32>,
    pub(crate) has_frame: bool,
}

impl Rewritten {
    /// Puts code together from parts, in their order, of which the targets of jumps are positions. References and origins
    /// move with them.
    pub(crate) fn assemble(mut parts: Vec<Part>, code: &mut Code, shorten: bool) -> Rewritten {
        let places = relax(&mut parts, shorten);
        let bytes = emit(&parts, &places, &code.bytes);
        let rewritten = Rewritten {
            before: std::mem::replace(&mut code.bytes, bytes),
            parts,
            places,
            has_frame: false,
        };
        rewritten.move_references(code);
        rewritten.move_origins(code);
        rewritten
    }

    /// What lies behind a field in an instruction keeps its length, whatever becomes of what lies before.
    fn move_references(&self, code: &mut Code) {
        // What came has no fields.
        let had_bytes = self.parts.iter().enumerate().filter(|(_, part)| part.length > 0);
        let mut order: Vec<(u32, usize)> = had_bytes.map(|(position, part)| (part.start, position)).collect();
        order.sort_unstable();
        code.references.retain_mut(|reference| {
            let behind = order.partition_point(|(start, _)| *start <= reference.offset);
            let Some((_, position)) = behind.checked_sub(1).and_then(|last| order.get(last)) else {
                return false;
            };
            let part = &self.parts[*position];
            let from_end = part.end().checked_sub(reference.offset);
            let moved = from_end.and_then(|from_end| self.places[position + 1].checked_sub(from_end));
            // Of an instruction that is left out, nothing is to be filled in.
            match moved {
                Some(offset) if part.size() > 0 => {
                    reference.offset = offset;
                    true
                }
                _ => false,
            }
        });
    }

    /// Each part keeps its origin; of those that are left out, nothing is left.
    fn move_origins(&self, code: &mut Code) {
        let mut moved: Vec<(u32, Option<u32>)> = Vec::with_capacity(code.origins.len());
        for (part, place) in self.parts.iter().zip(&self.places) {
            let behind = code.origins.partition_point(|(offset, _)| *offset <= part.start);
            let Some((_, origin)) = behind.checked_sub(1).and_then(|last| code.origins.get(last)) else {
                continue;
            };
            if part.size() > 0 && moved.last().is_none_or(|(_, last)| last != origin) {
                moved.push((*place, *origin));
            }
        }
        code.origins = moved;
    }

    /// Where a part begins now.
    pub(crate) fn place(&self, position: usize) -> Option<u32> {
        self.places.get(position).copied()
    }

    /// Each part with the instruction that it was, and those that it is. An error if something is added, or lies elsewhere.
    pub(crate) fn pairs<'a>(
        &'a self,
        before: &'a [Instruction],
        after: &'a [Instruction],
    ) -> Result<Vec<Pair<'a>>, String> {
        let mut rest = after;
        let mut pairs = Vec::with_capacity(self.parts.len());
        for (position, part) in self.parts.iter().enumerate() {
            let before = before.get(part.source).ok_or("there was less code before")?;
            let (start, end) = (self.places[position], self.places[position + 1]);
            let (made, others) = rest.split_at(rest.partition_point(|after| after.ip() < u64::from(end)));
            let first = after.len() - rest.len();
            rest = others;
            let length: usize = made.iter().map(Instruction::len).sum();
            let is_there = made.first().is_none_or(|first| first.ip() == u64::from(start));
            if !is_there || length != (end - start) as usize {
                return Err(became_something_else(before));
            }
            pairs.push(Pair {
                part,
                before,
                made,
                first,
            });
        }
        match rest.first() {
            Some(more) => Err(format!("{more} was added")),
            None => Ok(pairs),
        }
    }
}

/// A part of the new code.
pub(crate) struct Pair<'a> {
    pub(crate) part: &'a Part,
    /// What it was.
    pub(crate) before: &'a Instruction,
    /// What it is, decoded again.
    pub(crate) made: &'a [Instruction],
    /// The position of that.
    pub(crate) first: usize,
}

/// References by the places of their fields.
#[derive(Default)]
pub(crate) struct Places<'a>(Vec<&'a Reference>);

impl<'a> Places<'a> {
    pub(crate) fn of(references: &'a [Reference]) -> Places<'a> {
        let mut places: Vec<&Reference> = references.iter().collect();
        places.sort_by_key(|reference| reference.offset);
        Places(places)
    }

    /// The references in an instruction, and how far their fields are from its end.
    fn inside(&self, instruction: &Instruction) -> impl Iterator<Item = (u32, &'a Reference)> {
        let (start, end) = (instruction.ip() as u32, instruction.next_ip() as u32);
        let first = self.0.partition_point(|reference| reference.offset < start);
        let inside = self.0[first..]
            .iter()
            .take_while(move |reference| reference.offset < end);
        inside.map(move |reference| (end - reference.offset, *reference))
    }
}

/// Whether two instructions have fields for the same things, at the same distance from their ends.
pub(crate) fn is_relocated_alike(
    (before, was): (&Instruction, &Places<'_>),
    (after, is): (&Instruction, &Places<'_>),
) -> bool {
    let mut made = is.inside(after);
    let is_same = |(distance, one): (u32, &Reference)| {
        made.next().is_some_and(|(new, other)| {
            new == distance && one.kind == other.kind && one.target == other.target && one.addend == other.addend
        })
    };
    was.inside(before).all(is_same) && made.next().is_none()
}

pub(crate) fn became_something_else(before: &Instruction) -> String {
    format!("{before} at {:#x} became something else", before.ip())
}

/// The bytes of an instruction, or of some.
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

    /// An instruction that is no jump, in as few bytes as it can have with its operands and their sizes. One that finds
    /// its operand from its own place finds it from its old end.
    pub(crate) fn of(instruction: &Instruction) -> Option<Encoding> {
        let encode = |length: u64| {
            let mut encoder = Encoder::new(64);
            let place = instruction.next_ip().wrapping_sub(length);
            let length = encoder.encode(instruction, place).ok()?;
            Some((length as u64, encoder.take_buffer()))
        };
        let (length, mut bytes) = encode(instruction.len() as u64)?;
        if instruction.is_ip_rel_memory_operand() {
            // Again, with the place that its length asks for.
            bytes = encode(length)?.1;
        }
        Some(Encoding::new(&[], 0, &[&bytes]))
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

/// Gives the displacement in an instruction's memory operand, if it has one with a base, the size that encoding needs: what two
/// instructions that are the same agree about.
pub(crate) fn with_least_displacement(instruction: &Instruction) -> Instruction {
    let mut least = *instruction;
    if least.memory_base().is_gpr64() {
        let low = least.memory_base().number() & 7;
        let is_none = least.memory_displacement64() == 0 && low != 5;
        let is_byte = i8::try_from(least.memory_displacement64().cast_signed()).is_ok();
        least.set_memory_displ_size(if is_none {
            0
        } else if is_byte {
            1
        } else {
            8
        });
    }
    least
}
