//! ARM64 unwind codes from the prologue and the epilogues that were really emitted (ARM64 exception handling, "Unwind
//! codes").
//!
//! Given: the instructions of one function.
//! Computed: its unwind codes, one for each instruction of the prologue and of each epilogue.
//! Safe because: nothing is guessed. The forms below are all that Cranelift 0.135 emits; any other instruction that changes
//! `sp` or `fp`, any unsaved use of a register that the caller keeps, any access below `sp` (16 bytes there belong to
//! others), and any jump into a prologue or epilogue is an error. All epilogues of a function are the same instructions. A function
//! without a frame calls nothing and leaves the stack alone.
//!
//! | prologue | epilogue | code |
//! |---|---|---|
//! | `bti c` | | `nop` |
//! | `pacibsp` | `autibsp` | `pac_sign_lr` |
//! | `stp fp, lr, [sp, #-16]!` | `ldp fp, lr, [sp], #16` | `save_fplr_x` |
//! | `mov fp, sp` | | `set_fp` |
//! | `str r, [sp, #-16]!` | `ldr r, [sp], #16` | `save_reg_x` |
//! | `stp r, r+1, [sp, #-16]!` | `ldp r, r+1, [sp], #16` | `save_regp_x` |
//! | `mov x16, #N` | the same | `nop` |
//! | `sub sp, sp, #N`, `sub sp, sp, x16` | `add` | `alloc_s`, `alloc_m` or `alloc_l` |
//! | | `ret` | `end` |
//!
//! The epilogue undoes the prologue in reverse, so that its codes are the prologue's without `set_fp`, except that the
//! constant still comes before its use.

use bpf2sys_pe_emit::UnwindInfo;

use crate::instruction_arm64::{
    FP, Insn, Instruction, LANDING_PAD, LR, NONVOLATILE, Opcode, Operand, RET, Registers, Role, SP, ShiftStyle,
    SizeCode, instruction, registers,
};

/// What a function does to the stack.
#[derive(Debug)]
pub(crate) struct FrameArm64 {
    /// How to unwind.
    pub(crate) unwind: UnwindInfo,
    /// Bytes of stack of a call.
    pub(crate) bytes: u32,
}

/// Bytes that each save takes: the stack pointer stays a multiple of 16.
const SAVE_BYTES: i32 = 16;
/// The scratch register of Cranelift's prologues, `x16`.
const SCRATCH: u16 = 16;
/// `x19`, the first register that codes can name.
const FIRST_SAVED: u16 = 19;

const END: u8 = 0xE4;

/// An instruction of the prologue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    /// Lets calls by address come here.
    LandingPad,
    /// Signs the return address.
    Sign,
    /// Saves `fp` and `lr`.
    SaveFrame,
    /// Sets `fp`.
    SetFrame,
    /// Saves a register.
    Save(u16),
    /// Saves a register and the next one.
    SavePair(u16),
    /// Puts a constant, or a part of one, into the scratch register.
    Constant,
    /// Takes this many bytes.
    Allocate(u32),
}

impl Step {
    /// Its unwind code.
    fn code(self) -> Vec<u8> {
        match self {
            Step::Sign => vec![0xFC],
            // 10zzzzzz: save_fplr_x, (z + 1) * 8 bytes
            Step::SaveFrame => vec![0x81],
            Step::SetFrame => vec![0xE1],
            // 1101010x xxxzzzzz: save_reg_x of x(19 + x), (z + 1) * 8 bytes
            Step::Save(register) => (0xD401 | (register - FIRST_SAVED) << 5).to_be_bytes().to_vec(),
            // 110011xx xxzzzzzz: save_regp_x of x(19 + x), (z + 1) * 8 bytes
            Step::SavePair(register) => (0xCC01 | (register - FIRST_SAVED) << 6).to_be_bytes().to_vec(),
            Step::LandingPad | Step::Constant => vec![0xE3],
            // 000xxxxx: alloc_s; 11000xxx xxxxxxxx: alloc_m; 11100000 and 24 bits: alloc_l. All count 16 bytes.
            Step::Allocate(bytes) => match bytes / 16 {
                units @ 0..0x20 => vec![units as u8],
                units @ 0x20..0x800 => (0xC000 | units as u16).to_be_bytes().to_vec(),
                units => (0xE000_0000 | units).to_be_bytes().to_vec(),
            },
        }
    }
}

impl Step {
    /// The registers that it saves, of those that the body may change.
    fn saved(self) -> impl Iterator<Item = u16> {
        let (first, count) = match self {
            Step::Save(register) => (register, 1),
            Step::SavePair(register) => (register, 2),
            _ => (0, 0),
        };
        first..first + count
    }

    /// The bytes of stack that it takes.
    fn bytes(self) -> u32 {
        match self {
            Step::SaveFrame | Step::Save(_) | Step::SavePair(_) => SAVE_BYTES.cast_unsigned(),
            Step::Allocate(bytes) => bytes,
            Step::LandingPad | Step::Sign | Step::SetFrame | Step::Constant => 0,
        }
    }
}

/// Describes a function, or says what in it has none of the known forms.
pub(crate) fn describe(code: &[Insn]) -> Result<FrameArm64, String> {
    if has_no_frame(code) {
        return describe_frameless(code);
    }
    let prologue = prologue(code)?;
    let epilogue = epilogue(&prologue);
    let body = code.get(prologue.len()..).unwrap_or_default();
    let saved = prologue.iter().flat_map(|(step, _)| step.saved()).collect();
    let epilogues = check_body(body, &epilogue, saved)?;

    let mut codes: Vec<u8> = prologue.iter().rev().flat_map(|(step, _)| step.code()).collect();
    codes.push(END);
    let mut epilogue_codes: Vec<u8> = epilogue.iter().flat_map(|(step, _)| step.code()).collect();
    epilogue_codes.push(END);
    // An epilogue may use the end of the prologue's codes.
    if !codes.ends_with(&epilogue_codes) {
        codes.extend_from_slice(&epilogue_codes);
    }
    let first = codes.len() - epilogue_codes.len();
    let first = u16::try_from(first).map_err(|_| "too many unwind codes".to_owned())?;
    let bytes = prologue.iter().map(|(step, _)| step.bytes()).sum();
    Ok(FrameArm64 {
        unwind: UnwindInfo::Arm64 {
            codes,
            epilogs: epilogues.into_iter().map(|offset| (offset, first)).collect(),
        },
        bytes,
    })
}

/// A function behind its landing pad, if it has one.
fn behind_pad(code: &[Insn]) -> &[Insn] {
    match code {
        [pad, body @ ..] if pad.op == LANDING_PAD => body,
        body => body,
    }
}

/// Whether a function begins without a frame.
fn has_no_frame(code: &[Insn]) -> bool {
    let first = behind_pad(code).first();
    first.is_some_and(|first| first.op != SAVE_FRAME && first.op.opcode != Opcode::PACIBSP)
}

/// A function that calls nothing and has nothing on the stack: what the caller keeps is where it was all the time, and Windows takes
/// a function without unwind data for that (ARM64 exception handling, ".pdata records").
fn describe_frameless(code: &[Insn]) -> Result<FrameArm64, String> {
    let body = behind_pad(code);
    check_body(body, &Steps::new(), Registers::default())?;
    let takes_frame = |insn: &&Insn| insn.role() == Some(Role::Call) || insn.address().is_some_and(|a| a.base == SP);
    if let Some(insn) = body.iter().find(takes_frame) {
        return Err(unknown("need of a frame", insn));
    }
    Ok(FrameArm64 {
        unwind: UnwindInfo::Leaf,
        bytes: 0,
    })
}

/// Whether it is a function that returns at once and changes nothing.
pub(crate) fn is_leaf(code: &[Insn]) -> bool {
    matches!(code, [pad, ret] if pad.op == LANDING_PAD && ret.op == RET)
}

/// The instructions that set up and take down a frame which nothing needs, by position: a function that calls nothing, saves nothing
/// else and has nothing on the stack.
pub(crate) fn unneeded_frame(code: &[Insn]) -> Vec<usize> {
    let pop = pop_pair(FP, LR);
    let [save, set, body @ ..] = code else {
        return Vec::new();
    };
    if save.op != SAVE_FRAME || set.op != SET_FRAME {
        return Vec::new();
    }
    let pops = body.iter().enumerate().filter(|(_, insn)| insn.op == pop);
    let pops: Vec<usize> = pops.map(|(position, _)| position + 2).collect();
    let uses_frame = |insn: &Insn| {
        let mut operands = insn.op.operands;
        let mut registers = operands.iter_mut().filter_map(registers).flatten().flatten();
        // The number of the stack pointer is that of the zero register, too.
        let names = |operand: &Operand| matches!(operand, Operand::RegisterOrSP(_, SP));
        registers.any(|register| [FP, LR].contains(register))
            || insn.op.operands.iter().any(names)
            || insn.address().is_some_and(|address| address.base == SP)
    };
    let needs = |(position, insn): (usize, &Insn)| {
        insn.role() == Some(Role::Call) || insn.op != pop && insn.op != RET && uses_frame(insn) || {
            // A frame is taken down right before its function returns.
            insn.op == pop && code.get(position + 3).is_none_or(|next| next.op != RET)
        }
    };
    if body.iter().enumerate().any(needs) {
        return Vec::new();
    }
    [0, 1].into_iter().chain(pops).collect()
}

type Steps = Vec<(Step, Instruction)>;

/// The steps of the prologue.
fn prologue(code: &[Insn]) -> Result<Steps, String> {
    let none = || "the function has no prologue".to_owned();
    let ops: Vec<Instruction> = code.iter().take(PROLOGUE_MAX).map(|insn| insn.op).collect();
    let mut rest = ops.as_slice();
    let mut steps = Steps::new();
    if let [first, after @ ..] = rest
        && *first == LANDING_PAD
    {
        steps.push((Step::LandingPad, *first));
        rest = after;
    }
    if let [first, after @ ..] = rest
        && first.opcode == Opcode::PACIBSP
    {
        steps.push((Step::Sign, *first));
        rest = after;
    }
    for (step, form) in [(Step::SaveFrame, SAVE_FRAME), (Step::SetFrame, SET_FRAME)] {
        let (first, after) = rest.split_first().ok_or_else(none)?;
        if *first != form {
            return Err(none());
        }
        steps.push((step, *first));
        rest = after;
    }
    let mut saved = Registers::default();
    while let [first, after @ ..] = rest
        && let Some(step) = save(first)
        && !step.saved().any(|register| saved.contains(register))
    {
        step.saved().for_each(|register| saved.insert(register));
        steps.push((step, *first));
        rest = after;
    }
    steps.extend(allocation(rest));
    Ok(steps)
}

/// More instructions than any prologue has: a landing pad, the frame, ten registers, an allocation in two parts.
const PROLOGUE_MAX: usize = 17;

const fn register(number: u16) -> Operand {
    Operand::Register(SizeCode::X, number)
}

const STACK_POINTER: Operand = Operand::RegisterOrSP(SizeCode::X, SP);
/// `[sp, #-16]!`
const PUSH: Operand = Operand::RegPreIndex(SP, -SAVE_BYTES, true);
/// `[sp], #16`
const POP: Operand = Operand::RegPostIndex(SP, SAVE_BYTES);
const SAVE_FRAME: Instruction = instruction(Opcode::STP, [register(FP), register(LR), PUSH, Operand::Nothing]);
const SET_FRAME: Instruction = instruction(
    Opcode::ADD,
    [
        Operand::RegisterOrSP(SizeCode::X, FP),
        STACK_POINTER,
        Operand::Immediate(0),
        Operand::Nothing,
    ],
);

/// The save of one or two registers that the caller keeps.
fn save(op: &Instruction) -> Option<Step> {
    let savable = FIRST_SAVED..FP;
    match (op.opcode, op.operands) {
        (Opcode::STR, [Operand::Register(SizeCode::X, a), PUSH, ..]) if savable.contains(&a) => Some(Step::Save(a)),
        (
            Opcode::STP,
            [
                Operand::Register(SizeCode::X, a),
                Operand::Register(SizeCode::X, b),
                PUSH,
                _,
            ],
        ) if savable.contains(&a) && savable.contains(&b) && b == a + 1 => Some(Step::SavePair(a)),
        _ => None,
    }
}

/// The steps that take stack, if the code starts with some.
fn allocation(code: &[Instruction]) -> Steps {
    let amount = |op: &Instruction| match (op.opcode, op.operands) {
        (Opcode::SUB, [STACK_POINTER, STACK_POINTER, amount, _]) => Some(amount),
        _ => None,
    };
    let step = |bytes: u32| Step::Allocate(bytes);
    match code {
        [sub, ..] if let Some(Operand::Immediate(bytes)) = amount(sub) => vec![(step(bytes), *sub)],
        [sub, ..] if let Some(Operand::ImmShift(pages, 12)) = amount(sub) => vec![(step(u32::from(pages) << 12), *sub)],
        [mov, sub, ..]
            if let (Opcode::MOVZ, [Operand::Register(_, SCRATCH), Operand::ImmShift(bytes, 0), ..]) =
                (mov.opcode, mov.operands)
                && let Some(Operand::RegShift(ShiftStyle::LSL, 0, SizeCode::X, SCRATCH)) = amount(sub) =>
        {
            vec![(Step::Constant, *mov), (step(bytes.into()), *sub)]
        }
        _ => Steps::new(),
    }
}

/// The steps that every epilogue takes before its `ret`: those of the prologue undone, last first; a constant still comes
/// before its use.
fn epilogue(prologue: &Steps) -> Steps {
    let takes_stack = |(step, _): &(Step, Instruction)| matches!(step, Step::Constant | Step::Allocate(_));
    let (allocation, saves): (Steps, Steps) = prologue.iter().partition(|step| takes_stack(step));
    let undone = |(step, op): &(Step, Instruction)| {
        let operands = op.operands;
        let op = match step {
            Step::LandingPad | Step::SetFrame => return None,
            Step::Constant => *op,
            Step::Allocate(_) => instruction(Opcode::ADD, operands),
            Step::Save(a) => instruction(Opcode::LDR, [register(*a), POP, Operand::Nothing, Operand::Nothing]),
            Step::SavePair(a) => pop_pair(*a, a + 1),
            Step::SaveFrame => pop_pair(FP, LR),
            Step::Sign => instruction(Opcode::AUTIBSP, operands),
        };
        Some((*step, op))
    };
    allocation.iter().chain(saves.iter().rev()).filter_map(undone).collect()
}

/// `ldp a, b, [sp], #16`
fn pop_pair(a: u16, b: u16) -> Instruction {
    instruction(Opcode::LDP, [register(a), register(b), POP, Operand::Nothing])
}

/// Checks everything after the prologue and gives the offsets of the epilogues.
fn check_body(body: &[Insn], epilogue: &Steps, saved: Registers) -> Result<Vec<u32>, String> {
    let returns: Vec<Instruction> = epilogue.iter().map(|(_, op)| *op).chain([RET]).collect();
    let mut epilogues = Vec::new();
    // Offsets that a jump may go to: every instruction but those of an epilogue after its first.
    let mut places = Vec::with_capacity(body.len());
    let mut jumps = Vec::new();
    let mut rest = body;
    let mut open = true; // whether execution runs past the last instruction
    while let [insn, after @ ..] = rest {
        places.push(insn.offset);
        if rest.len() >= returns.len() && rest.iter().zip(&returns).all(|(insn, op)| insn.op == *op) {
            epilogues.push(insn.offset);
            rest = &rest[returns.len()..];
            open = false;
            continue;
        }
        let role = insn.role().ok_or_else(|| unknown("instruction", insn))?;
        match role {
            Role::Jump | Role::Branch => {
                jumps.push(insn.target().ok_or_else(|| unknown("jump", insn))?);
            }
            Role::Return | Role::PointerAuthentication | Role::LandingPad => return Err(unknown("epilogue", insn)),
            _ => {}
        }
        open = !matches!(role, Role::Jump | Role::Trap);
        let kept = |register: &u16| {
            let lost = NONVOLATILE.contains(*register) && !saved.contains(*register);
            let link = *register == LR && role != Role::Call;
            lost || link || [SP, FP].contains(register)
        };
        if insn.written(role).iter().any(|register| kept(&register)) {
            return Err(unknown("change of a register that the caller keeps", insn));
        }
        if insn
            .address()
            .is_some_and(|address| address.base == SP && address.offset < 0)
        {
            return Err(unknown("access below the stack pointer", insn));
        }
        rest = after;
    }
    if open {
        return Err("execution runs past the end of the function".to_owned());
    }
    if let Some(target) = jumps.iter().find(|target| places.binary_search(target).is_err()) {
        return Err(format!(
            "a jump to {target:#x}, which is in a prologue, an epilogue or no instruction"
        ));
    }
    Ok(epilogues)
}

fn unknown(what: &str, insn: &Insn) -> String {
    format!("unknown {what} at {:#x}: {}", insn.offset, insn.op)
}

#[cfg(test)]
mod tests;
