//! Virtual unwinding: from the machine's state in a function to its caller's, by the image's tables alone.
//!
//! Follows the procedure that Windows documents (x64 exception handling, "Unwind procedure"). Nothing here knows how the
//! function got where it is; that is the tracker's.

use iced_x86::{Code, Decoder, DecoderOptions, Instruction, Mnemonic, OpKind};

use super::image::{Function, Image, OperationKind};
use super::state::{RSP, State, Value};

/// The caller's rip and state, if the function is interrupted before the instruction at `rva`.
pub fn unwind(image: &Image, rva: u32, state: &State) -> Result<(Value, State), &'static str> {
    let mut state = state.clone();
    // A function without entry is a leaf: it has moved nothing.
    if let Some(function) = image.function(rva) {
        let offset = rva - function.begin;
        let in_prologue = offset < function.prologue_size;
        match epilogue(image, function, rva).filter(|_| !in_prologue) {
            // The rest of an epilogue is executed.
            Some(epilogue) => epilogue.into_iter().try_for_each(|step| finish(&mut state, step))?,
            // What the prologue has done so far is undone; in the body that is all of it.
            None => {
                for operation in &function.operations {
                    if !in_prologue || operation.offset <= offset {
                        undo(&mut state, operation.kind)?;
                    }
                }
            }
        }
    }
    let rip = pop(&mut state)?;
    Ok((rip, state))
}

fn pop(state: &mut State) -> Result<Value, &'static str> {
    let top = state.top().ok_or("rsp is unknown")?;
    let value = state.load(top);
    state.set(RSP, Value::Stack(top + 8));
    Ok(value)
}

fn undo(state: &mut State, kind: OperationKind) -> Result<(), &'static str> {
    let top = state.top().ok_or("rsp is unknown")?;
    match kind {
        OperationKind::Push(register) => {
            let value = pop(state)?;
            state.set(register, value);
        }
        OperationKind::Alloc(bytes) => state.set(RSP, Value::Stack(top + bytes)),
        OperationKind::Save { register, offset } => state.set(register, state.load(top + offset)),
    }
    Ok(())
}

/// An instruction of an epilogue.
#[derive(Clone, Copy)]
enum Step {
    Free(i64),
    /// `lea rsp, [register + offset]`
    Reset(usize, i64),
    Pop(usize),
}

fn finish(state: &mut State, step: Step) -> Result<(), &'static str> {
    match step {
        Step::Free(bytes) => {
            let top = state.top().ok_or("rsp is unknown")?;
            state.set(RSP, Value::Stack(top + bytes));
        }
        Step::Reset(register, offset) => match state.get(register) {
            Value::Stack(base) => state.set(RSP, Value::Stack(base + offset)),
            _ => return Err("rsp is set from a register that is no stack address"),
        },
        Step::Pop(register) => {
            let value = pop(state)?;
            state.set(register, value);
        }
    }
    Ok(())
}

/// The instructions from `rva` to the end of an epilogue, if that is what they are: at most one that frees the frame,
/// any number of pops, and a return or a jump out of the function (x64 exception handling, "Epilog code").
fn epilogue(image: &Image, function: &Function, rva: u32) -> Option<Vec<Step>> {
    let code = image.code_at(rva)?.get(..(function.end - rva) as usize)?;
    let mut decoder = Decoder::with_ip(64, code, u64::from(rva), DecoderOptions::NONE);
    let mut steps = Vec::new();
    while decoder.can_decode() {
        let instruction = decoder.decode();
        if let Some(step) = frees_frame(&instruction) {
            if !steps.is_empty() {
                return None;
            }
            steps.push(step);
        } else if matches!(instruction.code(), Code::Pop_r64) {
            steps.push(Step::Pop(instruction.op0_register().number()));
        } else {
            return ends(function, &instruction).then_some(steps);
        }
    }
    None
}

fn frees_frame(instruction: &Instruction) -> Option<Step> {
    if instruction.op0_kind() != OpKind::Register || instruction.op0_register() != iced_x86::Register::RSP {
        return None;
    }
    match instruction.code() {
        Code::Add_rm64_imm8 | Code::Add_rm64_imm32 => Some(Step::Free(instruction.immediate(1) as i64)),
        Code::Lea_r64_m
            if instruction.memory_index() == iced_x86::Register::None && instruction.memory_base().is_gpr64() =>
        {
            let base = instruction.memory_base();
            Some(Step::Reset(base.number(), instruction.memory_displacement64() as i64))
        }
        _ => None,
    }
}

fn ends(function: &Function, instruction: &Instruction) -> bool {
    match instruction.mnemonic() {
        Mnemonic::Ret => true,
        Mnemonic::Jmp if instruction.op0_kind() == OpKind::NearBranch64 => {
            // A jump to the function's own start is a call of itself.
            let target = instruction.near_branch_target();
            !(u64::from(function.begin) + 1..u64::from(function.end)).contains(&target)
        }
        // Only memory operands of mod 00: without displacement, or relative to rip.
        Mnemonic::Jmp if instruction.op0_kind() == OpKind::Memory => {
            instruction.is_ip_rel_memory_operand() || instruction.memory_displ_size() == 0
        }
        _ => false,
    }
}
