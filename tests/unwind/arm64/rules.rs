//! Virtual unwinding: from the machine's state in a function to its caller's, by the image's tables alone.
//!
//! Follows the procedure that Windows documents (ARM64 exception handling, "Unwinding procedure" and "Unwind codes").
//! Nothing here knows how the function got where it is; that is the tracker's.

use super::image::{Function, Image};
use super::state::{FP, LR, Register, SP, State, Value};

const END: u8 = 0xE4;
const END_C: u8 = 0xE5;

/// The caller's program counter and state, if the function is interrupted before the instruction at `rva`.
pub fn unwind(image: &Image, rva: u32, state: &State) -> Result<(Value, State), String> {
    let mut state = state.clone();
    // A function without entry is a leaf: it has moved nothing.
    if let Some(function) = image.function(rva) {
        for code in pending(function, rva - function.begin)? {
            undo(&mut state, &code)?;
        }
    }
    let pc = state.get(LR);
    Ok((pc, state))
}

/// The codes of what is to be undone at an offset: every code stands for an instruction of four bytes.
fn pending(function: &Function, offset: u32) -> Result<Vec<Vec<u8>>, String> {
    let done = (offset / 4) as usize;
    let mut codes = sequence(&function.codes, 0)?;
    // In the prologue its last instructions, whose codes come first, are still to come. Without prologue the codes
    // start with `end_c`, and what follows was done elsewhere.
    let prologue = codes
        .iter()
        .position(|code| [END, END_C].contains(&code[0]))
        .unwrap_or(0);
    if done < prologue {
        codes.drain(..prologue - done);
        return Ok(codes);
    }
    for (start, first) in &function.epilogues {
        let codes = sequence(&function.codes, *first)?;
        let executed = (offset.wrapping_sub(*start) / 4) as usize;
        if offset >= *start && executed < codes.len() {
            return Ok(codes[executed..].to_vec());
        }
    }
    Ok(codes)
}

/// The codes from a position to the next `end`, that included.
fn sequence(codes: &[u8], first: usize) -> Result<Vec<Vec<u8>>, String> {
    let mut out: Vec<Vec<u8>> = Vec::new();
    let mut at = first;
    while out.last().is_none_or(|code| code[0] != END) {
        let first = *codes.get(at).ok_or("the codes have no end")?;
        let length = match first {
            0x00..=0xBF | 0xE1 | 0xE3 | END | END_C | 0xFC => 1,
            0xC0..=0xDE | 0xE2 => 2,
            0xE0 => 4,
            _ => return Err(format!("the code {first:#x}")),
        };
        out.push(codes.get(at..at + length).ok_or("a code is cut off")?.to_vec());
        at += length;
    }
    Ok(out)
}

/// Undoes one instruction.
fn undo(state: &mut State, code: &[u8]) -> Result<(), String> {
    let bits = code.iter().fold(0_i64, |bits, byte| bits << 8 | i64::from(*byte));
    // The offset, or size, in units of 8 bytes, and the register as a number from x19 on.
    let (slot, size) = (8 * (bits & 0x3F), 8 * (bits & 0x3F) + 8);
    let (slot_short, size_short) = (8 * (bits & 0x1F), 8 * (bits & 0x1F) + 8);
    let register = |shift: i64, mask: i64| (19 + (bits >> shift & mask)) as Register;
    match code[0] {
        0x00..=0x1F => allocated(state, 16 * (bits & 0x1F)),  // alloc_s
        0x20..=0x3F => pushed(state, &[19, 20], slot_short),  // save_r19r20_x
        0x40..=0x7F => saved(state, &[FP, LR], slot),         // save_fplr
        0x80..=0xBF => pushed(state, &[FP, LR], size),        // save_fplr_x
        0xC0..=0xC7 => allocated(state, 16 * (bits & 0x7FF)), // alloc_m
        0xC8..=0xCB => saved(state, &[register(6, 15), register(6, 15) + 1], slot), // save_regp
        0xCC..=0xCF => pushed(state, &[register(6, 15), register(6, 15) + 1], size), // save_regp_x
        0xD0..=0xD3 => saved(state, &[register(6, 15)], slot), // save_reg
        0xD4..=0xD5 => pushed(state, &[register(5, 15)], size_short), // save_reg_x
        0xD6..=0xD7 => saved(state, &[19 + 2 * (register(6, 7) - 19), LR], slot), // save_lrpair
        0xE0 => allocated(state, 16 * (bits & 0xFF_FFFF)),    // alloc_l
        0xE1 => frame(state, 0),                              // set_fp
        0xE2 => frame(state, 8 * (bits & 0xFF)),              // add_fp
        0xE3 | END | END_C => Ok(()),                         // nop
        0xFC => authenticated(state),                         // pac_sign_lr
        other => Err(format!("the code {other:#x}")),
    }
}

fn top(state: &State) -> Result<i64, String> {
    state.top().ok_or_else(|| "sp is unknown".to_owned())
}

/// `sub sp, sp, bytes`
fn allocated(state: &mut State, bytes: i64) -> Result<(), String> {
    let top = top(state)?;
    state.set(SP, Value::Stack(top + bytes));
    Ok(())
}

/// Registers stored from `sp + offset` on.
fn saved(state: &mut State, registers: &[Register], offset: i64) -> Result<(), String> {
    let top = top(state)?;
    for (register, slot) in registers.iter().zip((top + offset..).step_by(8)) {
        if *register > LR {
            return Err(format!("a save of register {register}"));
        }
        state.set(*register, state.load(slot));
    }
    Ok(())
}

/// Registers stored where `sp` points after it went down by `bytes`.
fn pushed(state: &mut State, registers: &[Register], bytes: i64) -> Result<(), String> {
    saved(state, registers, 0)?;
    allocated(state, bytes)
}

/// `add fp, sp, offset`
fn frame(state: &mut State, offset: i64) -> Result<(), String> {
    match state.get(FP) {
        Value::Stack(frame) => {
            state.set(SP, Value::Stack(frame - offset));
            Ok(())
        }
        other => Err(format!("sp is taken from fp, which is {other:?}")),
    }
}

/// `pacibsp`: the signature depends on the stack pointer.
fn authenticated(state: &mut State) -> Result<(), String> {
    let top = top(state)?;
    if state.get(LR) != Value::Signed(top) {
        return Err(format!(
            "lr is taken for signed at sp {top:+}, and is {:?}",
            state.get(LR)
        ));
    }
    state.set(LR, Value::Return);
    Ok(())
}
