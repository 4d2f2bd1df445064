//! Unwind data from the prologue that was really emitted (x64 exception handling, "Unwind data for exception handling").
//!
//! Given: the decoded instructions of one function.
//! Computed: its `UNWIND_INFO`, and the bytes to change so that its epilogues have the documented form.
//! Safe because: nothing is guessed. The two forms below are all that Cranelift 0.135 emits for `windows_fastcall` and that
//! [`frame_x64`](crate::frame_x64) makes of it; any other instruction that touches `rsp` or `rbp`, any unsaved use of a
//! register that the caller keeps, any jump into a prologue or epilogue, and any call without the stack that it needs is an
//! error.
//!
//! | Cranelift's form | instructions | unwind operation |
//! |---|---|---|
//! | prologue | `push rbp` | `UWOP_PUSH_NONVOL rbp` |
//! | | `mov rbp, rsp` | none: `rbp` is a saved register here, not the frame register |
//! | | `sub rsp, N` (if N > 0) | `UWOP_ALLOC N` |
//! | | `mov [rsp+x], r` for each kept register used | `UWOP_SAVE_NONVOL r, x` |
//! | epilogue | `mov r, [rsp+x]`, the same ones | none: the saved copies are still there |
//! | | `add rsp, N` (if N > 0); `mov rsp, rbp`, or not; `pop rbp`; `ret` | none |
//!
//! | the other form | instructions | unwind operation |
//! |---|---|---|
//! | prologue | `push r` for each kept register used | `UWOP_PUSH_NONVOL r` |
//! | | `sub rsp, N` (if N > 0) | `UWOP_ALLOC N` |
//! | epilogue | `add rsp, N` (if N > 0); `pop r`, the same ones from the last to the first; `ret` | none |
//!
//! A function without any of these, and without calls, is a leaf: it has no unwind data.
//!
//! Windows recognises an epilogue by its instructions: `add rsp, N`, then pops, then `ret`. The `mov rsp, rbp` (which
//! changes nothing, `rsp` has that value already) breaks the form: at it, Windows would undo the `sub` a second time. So
//! it becomes a 3-byte `nop` in front of the `add`, unless [`shorten_x64`](crate::shorten_x64) has left it out.
//!
//! Cranelift's own Windows unwind info is not used: it scales offsets wrongly.

use std::ops::Range;

use bpf2sys_pe_emit::{UnwindCodeX64, UnwindInfo, UnwindOpX64};
use iced_x86::{Code, FlowControl, Instruction, InstructionInfoFactory, OpAccess, Register};

use crate::audit_x64::NONVOLATILE;

/// What a function does to the stack.
#[derive(Debug)]
pub(crate) struct FrameX64 {
    /// How to unwind.
    pub(crate) unwind: UnwindInfo,
    /// Bytes of stack of a call: return address, saved registers, and what `sub rsp` takes.
    pub(crate) bytes: u32,
    /// For each epilogue with `mov rsp, rbp`: the offsets of its `add rsp` (or of the `mov`, if there is none) and of its
    /// `pop rbp`.
    epilogues: Vec<(usize, usize)>,
}

const NOP3: [u8; 3] = [0x0F, 0x1F, 0x00];

/// What a callee may write above its return address.
pub(crate) const HOME_BYTES: u32 = 32;

impl FrameX64 {
    /// Replaces `add rsp, N; mov rsp, rbp` by `nop; add rsp, N`.
    pub(crate) fn make_epilogues_legal(&self, code: &mut [u8]) {
        for &(start, pop) in &self.epilogues {
            let add_length = pop - start - NOP3.len();
            code.copy_within(start..start + add_length, start + NOP3.len());
            code[start..start + NOP3.len()].copy_from_slice(&NOP3);
        }
    }
}

/// A register saved in the prologue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Save {
    pub(crate) register: Register,
    pub(crate) offset: u32,
}

/// How a function saves registers and takes stack.
#[derive(Debug)]
pub(crate) struct Shape {
    /// Instructions in the prologue.
    pub(crate) prologue: usize,
    /// Registers that are pushed, in that order; `rbp` alone in Cranelift's form.
    pub(crate) pushes: Vec<Register>,
    /// What `sub rsp` takes.
    pub(crate) allocated: u32,
    /// Registers stored to the stack, in that order: Cranelift's form.
    pub(crate) saves: Vec<Save>,
    /// The instructions of each epilogue, `ret` included.
    pub(crate) epilogues: Vec<Range<usize>>,
    /// Whether it calls something.
    pub(crate) calls: bool,
}

impl Shape {
    /// Whether it has Cranelift's form, with `rbp`.
    pub(crate) fn has_rbp(&self) -> bool {
        self.pushes.first() == Some(&Register::RBP)
    }

    /// Whether the instruction at this position saves or restores registers or the stack.
    pub(crate) fn has(&self, position: usize) -> bool {
        let behind = self.epilogues.partition_point(|epilogue| epilogue.start <= position);
        let last = behind.checked_sub(1).and_then(|last| self.epilogues.get(last));
        position < self.prologue || last.is_some_and(|epilogue| position + 1 < epilogue.end)
    }

    /// Whether the registers that are kept include this one.
    fn keeps(&self, register: Register) -> bool {
        self.saves.iter().any(|save| save.register == register)
            || register != Register::RBP && self.pushes.contains(&register)
    }
}

/// Describes a function, or says what in it has none of the known forms.
pub(crate) fn describe(code: &[Instruction]) -> Result<FrameX64, String> {
    let shape = shape(code)?;
    let bytes = 8 + 8 * shape.pushes.len() as u32 + shape.allocated;
    if shape.prologue == 0 {
        return Ok(FrameX64 {
            unwind: UnwindInfo::Leaf,
            bytes,
            epilogues: Vec::new(),
        });
    }
    let mut codes = Vec::new();
    let mut saves = shape.saves.iter();
    for instruction in &code[..shape.prologue] {
        let op = match instruction.code() {
            Code::Push_r64 => UnwindOpX64::PushNonvol(instruction.op0_register().number() as u8),
            Code::Sub_rm64_imm8 | Code::Sub_rm64_imm32 => UnwindOpX64::Alloc(shape.allocated),
            // mov rbp, rsp
            _ if instruction.op0_register() == Register::RBP => continue,
            _ => match saves.next() {
                Some(save) => UnwindOpX64::SaveNonvol {
                    register: save.register.number() as u8,
                    offset: save.offset,
                },
                None => return unknown("prologue", instruction),
            },
        };
        codes.push(unwind_code(instruction, op)?);
    }
    codes.reverse();
    let prologue_end = code[shape.prologue - 1].next_ip();
    let illegal = |epilogue: &Range<usize>| {
        let (pop, set) = (&code[epilogue.end - 2], &code[epilogue.end.checked_sub(3)?]);
        if !shape.has_rbp() || !is_move(set, Register::RSP, Register::RBP) || epilogue.len() < 3 {
            return None;
        }
        let adds = usize::from(shape.allocated != 0);
        let start = epilogue.end.checked_sub(3 + adds)?;
        Some((code[start].ip() as usize, pop.ip() as usize))
    };
    Ok(FrameX64 {
        unwind: UnwindInfo::X64 {
            prologue_size: u8::try_from(prologue_end)
                .map_err(|_| "the prologue is longer than 255 bytes".to_owned())?,
            codes,
        },
        bytes,
        epilogues: shape.epilogues.iter().filter_map(illegal).collect(),
    })
}

/// Finds how a function saves registers and takes stack, and checks that nothing else in it touches them.
pub(crate) fn shape(code: &[Instruction]) -> Result<Shape, String> {
    let mut rest = code;
    let mut shape = Shape {
        prologue: 0,
        pushes: Vec::new(),
        allocated: 0,
        saves: Vec::new(),
        epilogues: Vec::new(),
        calls: false,
    };
    if let [push, set_rbp, others @ ..] = rest
        && push.code() == Code::Push_r64
        && push.op0_register() == Register::RBP
    {
        if !is_move(set_rbp, Register::RBP, Register::RSP) {
            return unknown("prologue", set_rbp);
        }
        shape.pushes.push(Register::RBP);
        rest = others;
    } else {
        while let [push, others @ ..] = rest
            && push.code() == Code::Push_r64
        {
            let register = push.op0_register();
            let known = register != Register::RBP && NONVOLATILE.contains(&register);
            if !known || shape.pushes.contains(&register) {
                return unknown("prologue", push);
            }
            shape.pushes.push(register);
            rest = others;
        }
    }
    if let [first, others @ ..] = rest
        && let Some(bytes) = stack_adjustment(first, Code::Sub_rm64_imm8, Code::Sub_rm64_imm32)
    {
        if bytes == 0 || bytes % 8 != 0 {
            return unknown("stack allocation", first);
        }
        shape.allocated = bytes;
        rest = others;
    }
    while shape.has_rbp()
        && let [first, others @ ..] = rest
        && let Some(save) = stack_slot(first, Code::Mov_rm64_r64, first.op1_register())
        && !shape.saves.iter().any(|s| s.register == save.register)
    {
        if save.offset % 8 != 0 || u64::from(save.offset) + 8 > u64::from(shape.allocated) {
            return unknown("register save", first);
        }
        shape.saves.push(save);
        rest = others;
    }
    shape.prologue = code.len() - rest.len();
    check_body(code, &mut shape)?;
    // At the entry rsp is 8 off a multiple of 16, which is where a call must find it.
    let bytes = 8 + 8 * shape.pushes.len() as u32 + shape.allocated;
    if shape.calls && (!bytes.is_multiple_of(16) || shape.allocated < HOME_BYTES) {
        return Err("a call without the stack that it needs".to_owned());
    }
    Ok(shape)
}

/// Checks that a function needs no unwind data: it leaves the stack and all registers that its caller keeps as they are, and
/// goes on elsewhere at its end.
pub(crate) fn check_leaf(code: &[Instruction]) -> Result<(), String> {
    let mut factory = InstructionInfoFactory::new();
    let (last, body) = code.split_last().ok_or("the function is empty")?;
    for instruction in body {
        let changes = |used: &iced_x86::UsedRegister| {
            let full = used.register().full_register();
            let written = !matches!(used.access(), OpAccess::Read | OpAccess::CondRead | OpAccess::None);
            written && (full == Register::RSP || NONVOLATILE.contains(&full))
        };
        let goes_on = instruction.flow_control() == FlowControl::Next;
        if !goes_on || factory.info(instruction).used_registers().iter().any(changes) {
            return unknown("instruction of a leaf function", instruction);
        }
    }
    match last.flow_control() {
        FlowControl::Return | FlowControl::IndirectBranch => Ok(()),
        _ => unknown("end of a leaf function", last),
    }
}

/// Checks everything after the prologue, and finds the epilogues.
fn check_body(code: &[Instruction], shape: &mut Shape) -> Result<(), String> {
    let mut factory = InstructionInfoFactory::new();
    let prologue_end = code.get(shape.prologue).map_or(0, Instruction::ip);
    // Offsets that a jump may go to: every instruction but those of an epilogue after its first.
    let mut places = Vec::with_capacity(code.len() - shape.prologue);
    let mut jumps = Vec::new();
    let mut position = shape.prologue;
    while let Some(instruction) = code.get(position) {
        places.push(instruction.ip());
        if let Some(length) = epilogue(&code[position..], shape) {
            shape.epilogues.push(position..position + length);
            position += length;
            continue;
        }
        match instruction.flow_control() {
            FlowControl::Next => {}
            FlowControl::Call | FlowControl::IndirectCall => {
                shape.calls = true;
                position += 1;
                continue; // leaves rsp as it was
            }
            FlowControl::UnconditionalBranch | FlowControl::ConditionalBranch => {
                jumps.push(instruction.near_branch_target());
            }
            _ => return unknown("control flow", instruction),
        }
        for used in factory.info(instruction).used_registers() {
            let full = used.register().full_register();
            let written = !matches!(used.access(), OpAccess::Read | OpAccess::CondRead | OpAccess::None);
            let kept = NONVOLATILE.contains(&full) && !shape.keeps(full);
            if written && (full == Register::RSP || kept) {
                return unknown("change of a register that the caller keeps", instruction);
            }
        }
        position += 1;
    }
    match code[shape.prologue..].last().map(Instruction::flow_control) {
        Some(FlowControl::Return | FlowControl::UnconditionalBranch) => {}
        _ => return Err("execution runs past the end of the function".to_owned()),
    }
    if let Some(target) = jumps
        .iter()
        .find(|t| **t < prologue_end || places.binary_search(t).is_err())
    {
        return Err(format!(
            "a jump to {target:#x}, which is in a prologue, an epilogue or an instruction"
        ));
    }
    Ok(())
}

/// The number of instructions of the epilogue that starts at the first one.
fn epilogue(code: &[Instruction], shape: &Shape) -> Option<usize> {
    let mut length = 0;
    for save in &shape.saves {
        let restore = code.get(length)?;
        if stack_slot(restore, Code::Mov_r64_rm64, restore.op0_register())? != *save {
            return None;
        }
        length += 1;
    }
    if shape.allocated != 0 {
        let add = stack_adjustment(code.get(length)?, Code::Add_rm64_imm8, Code::Add_rm64_imm32)?;
        if add != shape.allocated {
            return None;
        }
        length += 1;
    }
    if shape.has_rbp() && is_move(code.get(length)?, Register::RSP, Register::RBP) {
        if code.get(length)?.len() != NOP3.len() {
            return None;
        }
        length += 1;
    }
    for register in shape.pushes.iter().rev() {
        let pop = code.get(length)?;
        if pop.code() != Code::Pop_r64 || pop.op0_register() != *register {
            return None;
        }
        length += 1;
    }
    (code.get(length)?.code() == Code::Retnq).then_some(length + 1)
}

/// Whether an instruction moves one 64-bit register to another.
pub(crate) fn is_move(instruction: &Instruction, to: Register, from: Register) -> bool {
    matches!(instruction.code(), Code::Mov_rm64_r64 | Code::Mov_r64_rm64)
        && instruction.op0_register() == to
        && instruction.op1_register() == from
}

/// N of `add rsp, N` or `sub rsp, N`.
fn stack_adjustment(instruction: &Instruction, imm8: Code, imm32: Code) -> Option<u32> {
    let known = [imm8, imm32].contains(&instruction.code()) && instruction.op0_register() == Register::RSP;
    known.then(|| u32::try_from(instruction.immediate(1).cast_signed()).ok())?
}

/// A move of a kept register to or from `[rsp + offset]`.
fn stack_slot(instruction: &Instruction, code: Code, register: Register) -> Option<Save> {
    let known = instruction.code() == code
        && NONVOLATILE.contains(&register)
        && register != Register::RBP
        && instruction.memory_base() == Register::RSP
        && instruction.memory_index() == Register::None
        && instruction.segment_prefix() == Register::None;
    let offset = u32::try_from(instruction.memory_displacement64()).ok()?;
    known.then_some(Save { register, offset })
}

fn unwind_code(instruction: &Instruction, op: UnwindOpX64) -> Result<UnwindCodeX64, String> {
    let offset = u8::try_from(instruction.next_ip()).map_err(|_| "the prologue is longer than 255 bytes".to_owned())?;
    Ok(UnwindCodeX64 { offset, op })
}

fn unknown<T>(what: &str, instruction: &Instruction) -> Result<T, String> {
    Err(format!("unknown {what} at {:#x}: {instruction}", instruction.ip()))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::{FrameX64, describe};
    use crate::audit_x64::decode;
    use bpf2sys_pe_emit::UnwindOpX64::{Alloc, PushNonvol, SaveNonvol};
    use bpf2sys_pe_emit::{UnwindCodeX64, UnwindInfo, UnwindOpX64};

    fn bytes(hex: &str) -> Vec<u8> {
        let digits: String = hex.chars().filter(char::is_ascii_hexdigit).collect();
        (0..digits.len())
            .step_by(2)
            .map(|i| u8::from_str_radix(&digits[i..i + 2], 16).unwrap())
            .collect()
    }

    fn described(code: &[u8]) -> Result<FrameX64, String> {
        describe(&decode(code, &BTreeSet::new())?.instructions)
    }

    const NO_FRAME: &str = "55 4889e5  31c0  4889ec 5d c3";
    const SMALL: &str = "55 4889e5 4883ec20  31c0  4883c420 4889ec 5d c3";
    const SAVES: &str = "55 4889e5 4881ec40020000 48899c2430020000 4c89a42438020000  31c0  \
                         488b9c2430020000 4c8ba42438020000 4881c440020000 4889ec 5d c3";
    /// `test ecx, ecx; jne +L; return; L: return`, with a frame of 0x20 bytes that saves rsi at 0x10.
    const TWO_RETURNS: &str = "55 4889e5 4883ec20 4889742410  85c9 750e  \
                               488b742410 4883c420 4889ec 5d c3  \
                               ffc0 488b742410 4883c420 4889ec 5d c3";

    const PUSHES: &str = "53 4154 4881ec88000000 31db e800000000 4881c488000000 415c 5b c3";
    /// `push rsi; push rdi; test ecx, ecx; jne +L; return; L: return`.
    const TWO_POPS: &str = "56 57 85c9 7503 5f 5e c3 31f6 5f 5e c3";
    const STACK: &str = "4883ec28 e800000000 85c0 7405 4883c428 c3 31c0 4883c428 c3";

    /// Code, the length of its prologue, bytes of stack, and unwind codes.
    type Case<'a> = (&'a str, u8, u32, &'a [(u8, UnwindOpX64)]);

    #[test]
    fn each_prologue_form_has_its_codes() {
        let cases: [Case<'_>; 7] = [
            (
                PUSHES,
                10,
                0xA0,
                &[(10, Alloc(0x88)), (3, PushNonvol(12)), (1, PushNonvol(3))],
            ),
            (TWO_POPS, 2, 24, &[(2, PushNonvol(7)), (1, PushNonvol(6))]),
            (STACK, 4, 0x30, &[(4, Alloc(0x28))]),
            (NO_FRAME, 4, 16, &[(1, PushNonvol(5))]),
            (SMALL, 8, 0x30, &[(8, Alloc(0x20)), (1, PushNonvol(5))]),
            (
                SAVES,
                27,
                0x250,
                &[
                    (
                        27,
                        SaveNonvol {
                            register: 12,
                            offset: 0x238,
                        },
                    ),
                    (
                        19,
                        SaveNonvol {
                            register: 3,
                            offset: 0x230,
                        },
                    ),
                    (11, Alloc(0x240)),
                    (1, PushNonvol(5)),
                ],
            ),
            (
                TWO_RETURNS,
                13,
                0x30,
                &[
                    (
                        13,
                        SaveNonvol {
                            register: 6,
                            offset: 0x10,
                        },
                    ),
                    (8, Alloc(0x20)),
                    (1, PushNonvol(5)),
                ],
            ),
        ];
        for (hex, prologue_size, frame, codes) in cases {
            let found = described(&bytes(hex)).unwrap();
            let codes = codes.iter().map(|(offset, op)| UnwindCodeX64 {
                offset: *offset,
                op: *op,
            });
            let expected = UnwindInfo::X64 {
                prologue_size,
                codes: codes.collect(),
            };
            assert_eq!((found.unwind, found.bytes), (expected, frame), "{hex}");
        }
    }

    #[test]
    fn a_function_without_a_frame_is_a_leaf() {
        for hex in ["c3", "31c0 c3", "488b4130 85c9 7503 31c0 c3 ffc0 c3", "4889c8 ebfb"] {
            let found = described(&bytes(hex)).unwrap();
            assert_eq!((found.unwind, found.bytes), (UnwindInfo::Leaf, 8), "{hex}");
        }
    }

    #[test]
    fn epilogues_get_the_form_that_windows_recognises() {
        let cases = [
            (NO_FRAME, "55 4889e5  31c0  0f1f00 5d c3"),
            (SMALL, "55 4889e5 4883ec20  31c0  0f1f00 4883c420 5d c3"),
            (
                TWO_RETURNS,
                "55 4889e5 4883ec20 4889742410  85c9 750e  488b742410 0f1f00 4883c420 5d c3  \
                 ffc0 488b742410 0f1f00 4883c420 5d c3",
            ),
        ];
        for (before, after) in cases {
            let mut code = bytes(before);
            described(&code).unwrap().make_epilogues_legal(&mut code);
            assert_eq!(code, bytes(after), "{before}");
        }
    }

    #[test]
    fn bytes_of_an_epilogue_inside_an_immediate_stay() {
        // mov rax, 0x90c35dec89489090: the immediate holds mov rsp, rbp; pop rbp; ret
        let hex = "55 4889e5  48b8 9090 4889ec5dc3 90  4889ec 5d c3";
        let mut code = bytes(hex);
        described(&code).unwrap().make_epilogues_legal(&mut code);
        assert_eq!(code, bytes("55 4889e5  48b8 9090 4889ec5dc3 90  0f1f00 5d c3"));
    }

    #[test]
    fn refuses_what_unwind_data_could_not_describe() {
        let cases = [
            ("a call without a frame", "e800000000 c3"),
            ("a kept register changed in a leaf", "31db c3"),
            ("rbp changed without its form", "53 4889e5 4889ec 5b c3"),
            ("rbp pushed behind another register", "53 55 31db 5d 5b c3"),
            ("a volatile register pushed", "51 59 c3"),
            ("a register pushed twice", "53 53 31db 5b 5b c3"),
            ("popped in the order of the pushes", "56 57 31f6 5e 5f c3"),
            ("another register popped", "56 31ff 5f c3"),
            ("a register that is not popped", "56 57 31f6 5f c3"),
            ("stack not released", "56 4883ec28 31f6 5e c3"),
            ("stack released behind the pop", "56 4883ec28 31f6 5e 4883c428 c3"),
            ("less stack released", "4883ec28 31c0 4883c420 c3"),
            (
                "saved by a store without rbp",
                "4883ec28 48895c2420 31db 488b5c2420 4883c428 c3",
            ),
            ("a call from an unaligned stack", "4883ec20 e800000000 4883c420 c3"),
            ("a call without home space", "4883ec18 e800000000 4883c418 c3"),
            (
                "a call without home space, with rbp",
                "55 4889e5 4883ec10 e800000000 4883c410 5d c3",
            ),
            ("a jump between pops", "56 57 eb01 5f 5e c3"),
            ("a jump to a push", "56 57 ebfd 5f 5e c3"),
            ("frame pointer elsewhere", "55 4889e3 4889ec 5d c3"),
            ("frame of odd size", "55 4889e5 4883ec1c  4883c41c 4889ec 5d c3"),
            (
                "stack pointer moved in the body",
                "55 4889e5  31c0 4883ec08 4883c408  4889ec 5d c3",
            ),
            ("push in the body", "55 4889e5  50 58  4889ec 5d c3"),
            ("kept register changed", "55 4889e5  bb01000000  4889ec 5d c3"),
            ("part of a kept register changed", "55 4889e5  b301  4889ec 5d c3"),
            (
                "saved above the frame",
                "55 4889e5 4883ec10 48895c2410  488b5c2410 4883c410 4889ec 5d c3",
            ),
            ("not restored", "55 4889e5 4883ec10 48895c2408  4883c410 4889ec 5d c3"),
            (
                "restored from elsewhere",
                "55 4889e5 4883ec10 48895c2408  488b1c24 4883c410 4889ec 5d c3",
            ),
            ("other size released", "55 4889e5 4883ec10  4883c408 4889ec 5d c3"),
            ("return without epilogue", "55 4889e5 4883ec10  c3"),
            ("jump into the epilogue", "55 4889e5 eb03  4889ec 5d c3"),
            ("jump into the prologue", "55 4889e5 ebfb  4889ec 5d c3"),
            ("indirect jump", "55 4889e5  ffe0"),
            ("runs past the end", "55 4889e5  31c0"),
        ];
        for (name, hex) in cases {
            assert!(described(&bytes(hex)).is_err(), "{name}");
        }
    }
}
