//! Unwind data from the prologue that was really emitted (x64 exception handling, "Unwind data for exception handling").
//!
//! Given: the decoded instructions of one function.
//! Computed: its `UNWIND_INFO`, and the bytes to change so that its epilogues have the documented form.
//! Safe because: nothing is guessed. The forms below are all that Cranelift 0.135 emits for `windows_fastcall`; any other
//! instruction that touches `rsp` or `rbp`, any unsaved use of a register that the caller keeps, and any jump into a
//! prologue or epilogue is an error.
//!
//! | part | instructions | unwind operation |
//! |---|---|---|
//! | prologue | `push rbp` | `UWOP_PUSH_NONVOL rbp` |
//! | | `mov rbp, rsp` | none: `rbp` is a saved register here, not the frame register |
//! | | `sub rsp, N` (if N > 0) | `UWOP_ALLOC N` |
//! | | `mov [rsp+x], r` for each kept register used | `UWOP_SAVE_NONVOL r, x` |
//! | epilogue | `mov r, [rsp+x]`, the same ones | none: the saved copies are still there |
//! | | `add rsp, N` (if N > 0); `mov rsp, rbp`; `pop rbp`; `ret` | none |
//!
//! Windows recognises an epilogue by its instructions: `add rsp, N`, then pops, then `ret`. The `mov rsp, rbp` (which
//! changes nothing, `rsp` has that value already) breaks the form: at it, Windows would undo the `sub` a second time. So
//! it becomes a 3-byte `nop` in front of the `add`.
//!
//! Cranelift's own Windows unwind info is not used: it scales offsets wrongly.

use bpf2sys_pe_emit::{UnwindCodeX64, UnwindInfo, UnwindOpX64};
use iced_x86::{Code, FlowControl, Instruction, InstructionInfoFactory, OpAccess, Register};

use crate::audit_x64::NONVOLATILE;

/// What a function does to the stack.
#[derive(Debug)]
pub(crate) struct FrameX64 {
    /// How to unwind.
    pub(crate) unwind: UnwindInfo,
    /// Bytes of stack of a call: return address, saved `rbp`, and what `sub rsp` takes.
    pub(crate) bytes: u32,
    /// For each epilogue: the offsets of its `add rsp` (or of `mov rsp, rbp`, if there is none) and of its `pop rbp`.
    epilogues: Vec<(usize, usize)>,
}

const NOP3: [u8; 3] = [0x0F, 0x1F, 0x00];

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
struct Save {
    register: Register,
    offset: u32,
}

/// Describes a function, or says what in it has none of the known forms.
pub(crate) fn describe(code: &[Instruction]) -> Result<FrameX64, String> {
    let [push, set_rbp, rest @ ..] = code else {
        return Err("the function has no prologue".to_owned());
    };
    if push.code() != Code::Push_r64 || push.op0_register() != Register::RBP {
        return unknown("prologue", push);
    }
    if !is_move(set_rbp, Register::RBP, Register::RSP) {
        return unknown("prologue", set_rbp);
    }
    let mut codes = vec![unwind_code(push, UnwindOpX64::PushNonvol(Register::RBP.number() as u8))?];
    let mut prologue_end = set_rbp.next_ip();
    let mut body = rest;
    let mut allocated = 0;
    if let [first, rest @ ..] = rest
        && let Some(bytes) = stack_adjustment(first, Code::Sub_rm64_imm8, Code::Sub_rm64_imm32)
    {
        allocated = bytes;
        if bytes == 0 || bytes % 8 != 0 {
            return unknown("stack allocation", first);
        }
        codes.push(unwind_code(first, UnwindOpX64::Alloc(bytes))?);
        prologue_end = first.next_ip();
        body = rest;
    }
    let mut saves: Vec<Save> = Vec::new();
    while let [first, rest @ ..] = body
        && let Some(save) = stack_slot(first, Code::Mov_rm64_r64, first.op1_register())
        && !saves.iter().any(|s| s.register == save.register)
    {
        if save.offset % 8 != 0 || u64::from(save.offset) + 8 > u64::from(allocated) {
            return unknown("register save", first);
        }
        codes.push(unwind_code(
            first,
            UnwindOpX64::SaveNonvol {
                register: save.register.number() as u8,
                offset: save.offset,
            },
        )?);
        prologue_end = first.next_ip();
        saves.push(save);
        body = rest;
    }
    let epilogues = check_body(body, prologue_end, allocated, &saves)?;
    codes.reverse();
    Ok(FrameX64 {
        unwind: UnwindInfo::X64 {
            prologue_size: u8::try_from(prologue_end).map_err(|_| "the prologue is longer than 255 bytes".to_owned())?,
            codes,
        },
        bytes: allocated + 16,
        epilogues,
    })
}

/// Checks everything after the prologue and finds the epilogues.
fn check_body(
    body: &[Instruction],
    prologue_end: u64,
    allocated: u32,
    saves: &[Save],
) -> Result<Vec<(usize, usize)>, String> {
    let mut factory = InstructionInfoFactory::new();
    let mut epilogues = Vec::new();
    // Offsets that a jump may go to: every instruction but those of an epilogue after its first.
    let mut places = Vec::with_capacity(body.len());
    let mut jumps = Vec::new();
    let mut position = 0;
    while let Some(instruction) = body.get(position) {
        places.push(instruction.ip());
        if let Some((epilogue, length)) = epilogue(&body[position..], allocated, saves) {
            epilogues.push(epilogue);
            position += length;
            continue;
        }
        match instruction.flow_control() {
            FlowControl::Next => {}
            FlowControl::Call | FlowControl::IndirectCall => {
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
            let kept = NONVOLATILE.contains(&full) && !saves.iter().any(|s| s.register == full);
            if written && (full == Register::RSP || kept) {
                return unknown("change of a register that the caller keeps", instruction);
            }
        }
        position += 1;
    }
    match body.last().map(Instruction::flow_control) {
        Some(FlowControl::Return | FlowControl::UnconditionalBranch) => {}
        _ => return Err("execution runs past the end of the function".to_owned()),
    }
    if let Some(target) = jumps.iter().find(|t| **t < prologue_end || places.binary_search(t).is_err()) {
        return Err(format!("a jump to {target:#x}, which is in a prologue, an epilogue or an instruction"));
    }
    Ok(epilogues)
}

/// The epilogue that starts at the first instruction, and its number of instructions.
fn epilogue(code: &[Instruction], allocated: u32, saves: &[Save]) -> Option<((usize, usize), usize)> {
    let mut length = 0;
    for save in saves {
        let restore = code.get(length)?;
        let slot = stack_slot(restore, Code::Mov_r64_rm64, restore.op0_register())?;
        if slot.register != save.register || slot.offset != save.offset {
            return None;
        }
        length += 1;
    }
    let start = code.get(length)?.ip();
    if allocated != 0 {
        let add = stack_adjustment(code.get(length)?, Code::Add_rm64_imm8, Code::Add_rm64_imm32)?;
        if add != allocated {
            return None;
        }
        length += 1;
    }
    let [restore_rsp, pop, ret, ..] = code.get(length..)? else {
        return None;
    };
    let legal = is_move(restore_rsp, Register::RSP, Register::RBP)
        && restore_rsp.len() == NOP3.len()
        && pop.code() == Code::Pop_r64
        && pop.op0_register() == Register::RBP
        && ret.code() == Code::Retnq;
    legal.then_some(((start as usize, pop.ip() as usize), length + 3))
}

fn is_move(instruction: &Instruction, to: Register, from: Register) -> bool {
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
    let offset =
        u8::try_from(instruction.next_ip()).map_err(|_| "the prologue is longer than 255 bytes".to_owned())?;
    Ok(UnwindCodeX64 { offset, op })
}

fn unknown<T>(what: &str, instruction: &Instruction) -> Result<T, String> {
    Err(format!("unknown {what} at {:#x}: {instruction}", instruction.ip()))
}
