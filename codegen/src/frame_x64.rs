//! Frames of x86-64 functions as compilers for Windows make them.
//!
//! Given: the decoded instructions of a function in the form of Cranelift, which saves all registers by stores, and `rbp` always.
//! Computed: its prologue and epilogues with pushes and pops of those registers alone that the function changes, and its other
//! instructions with arguments on the stack found from `rsp`.
//! Safe because: [`unwind_x64`](crate::unwind_x64) knows both forms, and proves of either that all it describes is so: what is saved
//! is restored, in each epilogue, and nothing else moves `rsp`. [`check`] judges the second reading by that.
//!
//! | | Cranelift | here |
//! |---|---|---|
//! | prologue | `push rbp; mov rbp, rsp; sub rsp, N; mov [rsp+x], r …` | `push r …; sub rsp, M` |
//! | epilogue | `mov r, [rsp+x] …; add rsp, N; mov rsp, rbp; pop rbp` | `add rsp, M; pop r …` |
//! | argument | `[rbp+d]` | `[rsp+d+s]` |
//!
//! Cranelift has saved registers at the top of the frame. M is what lies below, if anything uses it, and 8 more where `rsp` would not be
//! a multiple of 16 then. So everything else keeps its place above `rsp`, and has to lie in M. A function with nothing there, which calls
//! nothing, has no `sub`, and without registers to save nothing at all.

use iced_x86::{Code as Op, Instruction, InstructionInfoFactory, OpAccess, OpKind, Register};

use crate::parts_x64::{Encoding, Form, Pair, became_something_else, with_least_displacement};
use crate::unwind_x64::{HOME_BYTES, Shape, shape};

/// `[rbp]` and `[rbp+8]` are the saved `rbp` and the return address; arguments lie above.
const FIRST_ARGUMENT: u64 = 16;

/// The frame that a function is to have.
pub(crate) struct Frame {
    /// The one that it has.
    shape: Shape,
    pushes: Vec<Register>,
    allocated: u32,
}

impl Frame {
    /// The better frame, if the function can have it.
    pub(crate) fn plan(code: &[Instruction]) -> Option<Frame> {
        let shape = shape(code).ok().filter(Shape::has_rbp)?;
        let saves = shape.saves.iter();
        let low = low(code, &shape);
        let changed = changed(code, &shape);
        let pushes: Vec<Register> = saves
            .map(|save| save.register)
            .filter(|register| changed.contains(register))
            .collect();
        let mut allocated = low;
        let is_aligned = (8 + 8 * pushes.len() as u32 + allocated).is_multiple_of(16);
        if allocated > 0 && !is_aligned {
            allocated += 8;
        }
        let frame = Frame {
            shape,
            pushes,
            allocated,
        };
        let body = code
            .iter()
            .enumerate()
            .filter(|(position, _)| !frame.shape.has(*position));
        let fits = body
            .clone()
            .all(|(_, instruction)| stays_below(instruction, low) && frame.without_rbp(instruction).is_some());
        let has_home = !frame.shape.calls || low >= HOME_BYTES;
        (fits && has_home).then_some(frame)
    }

    /// What becomes of an instruction; `None` if this says nothing of it.
    pub(crate) fn form(&self, position: usize, instruction: &Instruction) -> Option<Form> {
        if !self.shape.has(position) {
            let is_argument = instruction.memory_base() == Register::RBP;
            let new = self.without_rbp(instruction).filter(|_| is_argument)?;
            return Encoding::of(&new).map(Form::Argument);
        }
        let is_entry = position < self.shape.prologue;
        let encoding = match instruction.code() {
            Op::Push_r64 => Encoding::new(&[], 0, &[&all(&self.pushes, 0x50)]),
            Op::Pop_r64 => {
                let reverse: Vec<Register> = self.pushes.iter().rev().copied().collect();
                Encoding::new(&[], 0, &[&all(&reverse, 0x58)])
            }
            _ if instruction.op0_register() == Register::RSP && instruction.op1_kind() != OpKind::Register => {
                self.adjustment(if is_entry { 0xEC } else { 0xC4 })
            }
            _ => Encoding::default(),
        };
        Some(Form::Frame(encoding))
    }

    /// `sub rsp, M` or `add rsp, M`; nothing for 0.
    fn adjustment(&self, operation: u8) -> Encoding {
        match u8::try_from(self.allocated) {
            Ok(0) => Encoding::default(),
            Ok(bytes @ 1..0x80) => Encoding::new(&[], 8, &[&[0x83, operation, bytes]]),
            _ => Encoding::new(&[], 8, &[&[0x81, operation], &self.allocated.to_le_bytes()]),
        }
    }

    /// Bytes from `rsp` to the return address.
    fn above(&self) -> u32 {
        self.allocated + 8 * self.pushes.len() as u32
    }

    fn without_rbp(&self, instruction: &Instruction) -> Option<Instruction> {
        without_rbp(instruction, self.above())
    }
}

/// `push` or `pop` of each.
fn all(registers: &[Register], opcode: u8) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(2 * registers.len());
    for register in registers {
        let number = register.number() as u8;
        bytes.extend((number >= 8).then_some(0x41));
        bytes.push(opcode | number & 7);
    }
    bytes
}

/// How much of Cranelift's frame lies below the saved registers; nothing, if nothing uses it.
fn low(code: &[Instruction], shape: &Shape) -> u32 {
    let mut body = code.iter().enumerate().filter(|(position, _)| !shape.has(*position));
    if !shape.calls && body.all(|(_, instruction)| !names_stack(instruction)) {
        return 0;
    }
    let offsets = shape.saves.iter().map(|save| save.offset);
    offsets.min().unwrap_or(shape.allocated)
}

fn names_stack(instruction: &Instruction) -> bool {
    names(instruction, Register::RSP) || instruction.memory_base().full_register() == Register::RSP
}

/// The registers that something between the prologue and the epilogues changes.
fn changed(code: &[Instruction], shape: &Shape) -> Vec<Register> {
    let mut factory = InstructionInfoFactory::new();
    let mut changed = Vec::new();
    for (_, instruction) in code.iter().enumerate().filter(|(position, _)| !shape.has(*position)) {
        for used in factory.info(instruction).used_registers() {
            if !matches!(used.access(), OpAccess::Read | OpAccess::CondRead | OpAccess::None) {
                changed.push(used.register().full_register());
            }
        }
    }
    changed
}

/// The same instruction, with an argument of the function found from `rsp`, which lies `above` bytes below the return address.
/// `None` if it uses `rbp` in another way.
fn without_rbp(instruction: &Instruction, above: u32) -> Option<Instruction> {
    let mut new = *instruction;
    if new.memory_base() == Register::RBP {
        let distance = new.memory_displacement64();
        if new.memory_index() != Register::None || !(FIRST_ARGUMENT..i32::MAX as u64 / 2).contains(&distance) {
            return None;
        }
        new.set_memory_base(Register::RSP);
        // rbp points to what was pushed below the return address.
        new.set_memory_displacement64(distance - 8 + u64::from(above));
    }
    let is_used = names(&new, Register::RBP)
        || [new.memory_base(), new.memory_index()]
            .map(Register::full_register)
            .contains(&Register::RBP);
    (!is_used).then(|| with_least_displacement(&new))
}

/// Whether an operand is this register, or a part of it.
fn names(instruction: &Instruction, register: Register) -> bool {
    let is_register = |index: &u32| instruction.op_kind(*index) == OpKind::Register;
    let mut operands = (0..instruction.op_count()).filter(is_register);
    operands.any(|index| instruction.op_register(index).full_register() == register)
}

/// Whether an instruction uses `rsp` for nothing but memory below `low`. An address may be that of the end: it is that of an
/// empty stack.
fn stays_below(instruction: &Instruction, low: u32) -> bool {
    if names(instruction, Register::RSP) {
        return false;
    }
    if instruction.memory_base().full_register() != Register::RSP {
        return true;
    }
    let size = match instruction.code() {
        Op::Lea_r64_m => 0,
        _ => instruction.memory_size().size() as u64,
    };
    instruction.memory_displacement64().saturating_add(size) <= u64::from(low)
}

/// Checks that the function with another frame, decoded again, does the same: the frame holds what the function uses of it, and
/// all else is as it was, but for arguments. `pairs` are its instructions; of those that are no argument and no part of
/// a frame, nothing is said.
pub(crate) fn check(before: &[Instruction], after: &[Instruction], pairs: &[Pair<'_>]) -> Result<(), String> {
    let (was, is) = (shape(before)?, shape(after)?);
    let saves = was.saves.iter();
    let low = low(before, &was);
    let above = is.allocated + 8 * is.pushes.len() as u32;
    let are_saved = is
        .pushes
        .iter()
        .all(|push| saves.clone().any(|save| save.register == *push));
    if !was.has_rbp() || is.has_rbp() || !are_saved || low > is.allocated || was.epilogues.len() != is.epilogues.len() {
        return Err("the frame became another one".to_owned());
    }
    for pair in pairs {
        let is_frame = matches!(pair.part.form, Form::Frame(_));
        let mut made = pair.first..pair.first + pair.made.len();
        let same = match pair.made {
            _ if is_frame != was.has(pair.part.source) || made.any(|position| is.has(position) != is_frame) => false,
            _ if is_frame => true,
            [after] if matches!(pair.part.form, Form::Argument(_)) => {
                let moved = without_rbp(pair.before, above);
                moved.is_some_and(|moved| moved == with_least_displacement(after))
            }
            made => made.iter().all(|after| {
                stays_below(after, low) && without_rbp(after, above) == Some(with_least_displacement(after))
            }),
        };
        if !same {
            return Err(became_something_else(pair.before));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use crate::audit_x64::decode;
    use crate::rewrite_x64::tests::{bytes, code, rewritten};
    use crate::rewrite_x64::{Changes, rewrite};
    use crate::unwind_x64::describe;

    const FRAMES: Changes<'static> = Changes {
        shorten: false,
        guard: false,
        frames: true,
        align: false,
        unread: None,
    };

    /// What becomes of code, with the fields that relocations fill in at these offsets; and how much stack it takes then.
    fn framed(before: &str, fields: &[u32]) -> (Vec<u8>, u32) {
        let mut code = code(bytes(before), fields, &[]);
        assert!(rewritten(&mut code, FRAMES), "{before}");
        let relocated = code.references.iter().map(|reference| reference.offset).collect();
        let frame = describe(&decode(&code.bytes, &relocated).unwrap().instructions).unwrap();
        (code.bytes, frame.bytes)
    }

    #[test]
    fn only_what_is_needed_is_saved_and_reserved() {
        let cases = [
            ("nothing", "55 4889e5 31c0 4889ec 5d c3", "31c0 c3", 8),
            (
                "stack that nothing uses",
                "55 4889e5 4883ec20 31c0 4883c420 4889ec 5d c3",
                "31c0 c3",
                8,
            ),
            (
                "stack",
                "55 4889e5 4883ec20 48890c24 4883c420 4889ec 5d c3",
                "4883ec28 48890c24 4883c428 c3",
                0x30,
            ),
            (
                "two registers, one of them in vain, and two returns",
                "55 4889e5 4883ec10 48893424 48897c2408 85c9 7514 31f6 488b3424 488b7c2408 4883c410 4889ec 5d c3 \
                 31c0 488b3424 488b7c2408 4883c410 4889ec 5d c3",
                "56 85c9 7504 31f6 5e c3 31c0 5e c3",
                16,
            ),
            (
                "two registers",
                "55 4889e5 4883ec10 48893424 4c89642408 31f6 4531e4 488b3424 4c8b642408 4883c410 4889ec 5d c3",
                "56 4154 31f6 4531e4 415c 5e c3",
                24,
            ),
            (
                "registers above stack: three words and the return address are aligned with 8 more",
                "55 4889e5 4883ec30 4889742420 48897c2428 48890c24 31f6 31ff 488b742420 488b7c2428 4883c430 5d c3",
                "56 57 4883ec28 48890c24 31f6 31ff 4883c428 5f 5e c3",
                0x40,
            ),
            (
                "an argument on the stack",
                "55 4889e5 4883ec10 48893424 488b7538 488b3424 4883c410 4889ec 5d c3",
                "56 488b742438 5e c3",
                16,
            ),
            (
                "far arguments, and stack",
                "55 4889e5 4883ec20 48890c24 488b4578 ff4530 4883c420 4889ec 5d c3",
                "4883ec28 48890c24 488b842498000000 ff442450 4883c428 c3",
                0x30,
            ),
        ];
        for (name, before, after, stack) in cases {
            assert_eq!(framed(before, &[]), (bytes(after), stack), "{name}");
        }
    }

    #[test]
    fn calls_keep_the_stack_aligned_and_their_home_space() {
        let call = "e800000000";
        let cases = [
            (
                "no register",
                format!("55 4889e5 4883ec20 {call} 4883c420 4889ec 5d c3"),
                8,
                format!("4883ec28 {call} 4883c428 c3"),
            ),
            (
                "one register",
                format!("55 4889e5 4883ec30 4889742420 {call} 31f6 488b742420 4883c430 4889ec 5d c3"),
                13,
                format!("56 4883ec20 {call} 31f6 4883c420 5e c3"),
            ),
            (
                "much stack",
                format!("55 4889e5 4881ec00010000 {call} 4881c400010000 4889ec 5d c3"),
                11,
                format!("4881ec08010000 {call} 4881c408010000 c3"),
            ),
        ];
        for (name, before, call, after) in cases {
            let (code, stack) = framed(&before, &[call + 1]);
            assert_eq!(code, bytes(&after), "{name}");
            assert_eq!(stack % 16, 0, "{name}");
        }
    }

    #[test]
    fn an_address_of_the_end_of_the_stack_is_one_in_it() {
        let (code, _) = framed(
            "55 4889e5 4883ec30 4889742420 488d742420 8b4efc 488b742420 4883c430 5d c3",
            &[],
        );
        assert_eq!(code, bytes("56 4883ec20 488d742420 8b4efc 4883c420 5e c3"));
    }

    #[test]
    fn what_uses_the_frame_in_another_way_keeps_it() {
        let cases = [
            ("reads rbp", "4889e8"),
            ("an address from rbp", "488d4528 488d2c28"),
            ("an indexed argument", "488b44cd30"),
            ("the saved rbp", "488b4500"),
            ("the return address", "488b4508"),
            ("reads rsp", "4889e0"),
            ("what is saved", "488b442420"),
            ("what lies around it", "8b44241e"),
            ("an address above the stack", "488d442421"),
            ("below the stack", "488b4424f8"),
        ];
        for (name, instruction) in cases {
            let hex = format!("55 4889e5 4883ec30 4889742420 {instruction} 31f6 488b742420 4883c430 5d c3");
            let before = bytes(&hex);
            let mut code = code(before.clone(), &[], &[]);
            let decoded = decode(&before, &BTreeSet::new()).unwrap();
            rewrite(&mut code, &decoded, FRAMES);
            assert_eq!(code.bytes, before, "{name}");
        }
    }

    #[test]
    fn the_second_reading_finds_another_frame() {
        let before = bytes("55 4889e5 4883ec20 4889742410 488b7538 48893424 488b742410 4883c420 5d c3");
        let decoded = decode(&before, &BTreeSet::new()).unwrap();
        let mut code = code(before, &[], &[]);
        let rewritten = rewrite(&mut code, &decoded, FRAMES).unwrap();
        assert_eq!(code.bytes, bytes("56 4883ec10 488b742448 48893424 4883c410 5e c3"));
        for (what, wrong) in [
            ("another register", "57 4883ec10 488b742448 48893424 4883c410 5f c3"),
            ("less stack", "56 4883ec08 488b742448 48893424 4883c408 5e c3"),
            ("not as much released", "56 4883ec10 488b742448 48893424 4883c408 5e c3"),
            ("another argument", "56 4883ec10 488b742440 48893424 4883c410 5e c3"),
            (
                "an argument in another register",
                "56 4883ec10 488b7c2448 48893424 4883c410 5e c3",
            ),
            ("another place", "56 4883ec10 488b742448 48897424 08 4883c410 5e c3"),
            ("no frame", "90 0f1f4000 488b742448 48893424 0f1f4000 90 c3"),
        ] {
            let Ok(after) = decode(&bytes(wrong), &BTreeSet::new()) else {
                continue;
            };
            let found = rewritten.check(&bytes(wrong), &[], &decoded, &after);
            assert!(found.is_err(), "{what}");
        }
    }
}
