//! Where everything really is: abstract interpretation of a function's instructions.
//!
//! Given: code and the extent of a function.
//! Computed: for each instruction that control can reach in it, the state before it, on whichever way it is reached. The
//! unwind data is not looked at.
//! Assumed: a store through an address that is not a known place in the stack leaves the known values in the stack
//! alone (a program's computed stack pointers stay in the program's own stack area, as verified), and a called function
//! keeps the calling convention.

use std::collections::BTreeSet;
use std::collections::btree_map::{BTreeMap, Entry};

use yaxpeax_arch::{Decoder, U8Reader};
use yaxpeax_arm::armv8::a64::{InstDecoder, Instruction, Opcode, Operand, ShiftStyle, SizeCode};

use super::image::Image;
use super::state::{LR, Register, SP, State, Value};

/// What a walk over a function found.
pub struct Walk {
    /// The state before each instruction that can be reached, by address.
    pub states: BTreeMap<u32, State>,
    /// Addresses outside the function that it calls or jumps to.
    pub targets: BTreeSet<u32>,
}

/// Follows the function that starts at `begin` and lies before `end`.
pub fn walk(image: &Image, begin: u32, end: u32) -> Result<Walk, String> {
    let mut walk = Walk {
        states: BTreeMap::from([(begin, State::at_entry())]),
        targets: BTreeSet::new(),
    };
    let mut work = BTreeSet::from([begin]);
    while let Some(rva) = work.pop_first() {
        let instruction = decode(image, rva).filter(|_| rva < end);
        let instruction = instruction.ok_or_else(|| format!("{rva:#x}: control runs out of the code"))?;
        let failed = |error: String| format!("{rva:#x}: {instruction}: {error}");
        let mut state = walk.states[&rva].clone();
        // The processor checks the alignment of every access through sp.
        if state.top().is_none_or(|top| top % 16 != 0) {
            return Err(failed(format!("sp is {:?}", state.get(SP))));
        }
        let branch = instruction.operands.iter().find_map(|operand| match operand {
            Operand::PCOffset(distance) => Some((i64::from(rva) + distance) as u32),
            _ => None,
        });
        let mut successors = Vec::new();
        match (instruction.opcode, branch) {
            (Opcode::BL | Opcode::BLR, target) => {
                walk.targets.extend(target);
                (0..=17)
                    .chain([LR])
                    .for_each(|register| state.set(register, Value::Unknown));
                successors.push(rva + 4);
            }
            (Opcode::B, Some(target)) if (begin..end).contains(&target) => successors.push(target),
            (Opcode::Bcc(_) | Opcode::CBZ | Opcode::CBNZ | Opcode::TBZ | Opcode::TBNZ, Some(target))
                if (begin..end).contains(&target) =>
            {
                successors.extend([target, rva + 4]);
            }
            (Opcode::RET, _) => {
                state.is_callers().map_err(failed)?;
                if instruction.operands[0] != Operand::Register(SizeCode::X, LR) || state.get(LR) != Value::Return {
                    return Err(failed(format!("lr is {:?}", state.get(LR))));
                }
            }
            (Opcode::UDF | Opcode::BRK, _) => {} // control does not come back
            (Opcode::B | Opcode::Bcc(_) | Opcode::CBZ | Opcode::CBNZ | Opcode::TBZ | Opcode::TBNZ | Opcode::BR, _) => {
                return Err(failed("leaves the function".into()));
            }
            _ => {
                step(&mut state, &instruction).map_err(failed)?;
                successors.push(rva + 4);
            }
        }
        for successor in successors {
            let changed = match walk.states.entry(successor) {
                Entry::Vacant(entry) => {
                    entry.insert(state.clone());
                    true
                }
                Entry::Occupied(mut entry) => entry.get_mut().join(&state),
            };
            if changed {
                work.insert(successor);
            }
        }
    }
    Ok(walk)
}

/// The instruction at an address.
pub fn decode(image: &Image, rva: u32) -> Option<Instruction> {
    InstDecoder::default()
        .decode(&mut U8Reader::new(&image.word(rva)?))
        .ok()
}

/// An instruction that control runs through.
fn step(state: &mut State, instruction: &Instruction) -> Result<(), String> {
    use Operand::{ImmShift, Immediate, RegShift, Register, RegisterOrSP};
    const X: SizeCode = SizeCode::X;
    let operands = instruction.operands;
    match (instruction.opcode, operands) {
        (Opcode::PACIBSP, _) => {
            let value = match (state.get(LR), state.top()) {
                (Value::Return, Some(top)) => Value::Signed(top),
                _ => Value::Unknown,
            };
            state.set(LR, value);
        }
        (Opcode::AUTIBSP, _) => {
            let good = matches!((state.get(LR), state.top()), (Value::Signed(at), Some(top)) if at == top);
            state.set(LR, if good { Value::Return } else { Value::Unknown });
        }
        (Opcode::ADD | Opcode::SUB, [RegisterOrSP(X, to), RegisterOrSP(X, from), amount, _]) => {
            let amount = match amount {
                Immediate(bytes) => Value::Constant(bytes.into()),
                ImmShift(value, shift) => Value::Constant(i64::from(value) << shift),
                RegShift(ShiftStyle::LSL, 0, X, register) => state.get(register),
                _ => Value::Unknown,
            };
            let sign = if instruction.opcode == Opcode::ADD { 1 } else { -1 };
            let value = match (state.get(from), amount) {
                (Value::Stack(offset), Value::Constant(bytes)) => Value::Stack(offset + sign * bytes),
                (value, Value::Constant(0)) => value,
                _ => Value::Unknown,
            };
            state.set(to, value);
        }
        (
            Opcode::ORR,
            [
                Register(X, to),
                Register(X, 31),
                RegShift(ShiftStyle::LSL, 0, X, from),
                _,
            ],
        ) => {
            write(
                state,
                to,
                if from == 31 {
                    Value::Constant(0)
                } else {
                    state.get(from)
                },
            );
        }
        (Opcode::MOVZ, [Register(_, to), ImmShift(value, shift), ..]) => {
            write(state, to, Value::Constant(i64::from(value).wrapping_shl(shift.into())));
        }
        _ => access(state, instruction)?,
    }
    state.forget_below_stack();
    Ok(())
}

fn write(state: &mut State, register: Register, value: Value) {
    if register != 31 {
        state.set(register, value);
    }
}

/// Loads, stores, and whatever else: what an instruction may write is unknown afterwards.
fn access(state: &mut State, instruction: &Instruction) -> Result<(), String> {
    use Opcode as O;
    let registers: Vec<(SizeCode, Register)> = instruction
        .operands
        .iter()
        .filter_map(|operand| match operand {
            Operand::Register(size, register) => Some((*size, *register)),
            _ => None,
        })
        .collect();
    let bytes = |register: usize| match registers.get(register) {
        Some((SizeCode::W, _)) => 4,
        _ => 8,
    };
    let memory = instruction.operands.iter().find_map(|operand| match *operand {
        Operand::RegPreIndex(base, offset, writeback) => Some((base, offset, writeback)),
        Operand::RegPostIndex(base, _) => Some((base, 0, false)),
        _ => None,
    });
    let place = match memory {
        Some((base, offset, writeback)) => address(state, base, offset, writeback)?,
        None => None,
    };
    match instruction.opcode {
        O::STR | O::STUR => store(state, place, bytes(0), &registers[..1]),
        O::STRH | O::STURH => store(state, place, 2, &registers[..1]),
        O::STRB | O::STURB => store(state, place, 1, &registers[..1]),
        O::STP => store(state, place, bytes(0), &registers[..2]),
        O::LDR | O::LDUR if bytes(0) == 8 => load(state, place, &registers[..1]),
        O::LDP if bytes(0) == 8 => load(state, place, &registers[..2]),
        O::STLXR => {
            store(state, place, bytes(1), &[]);
            write(state, registers[0].1, Value::Unknown);
        }
        O::CCMP | O::CCMN | O::DMB(_) | O::HINT => {}
        opcode => {
            // Of the rest, only the instructions that read and write memory at once write a second operand.
            let atomic = matches!(
                opcode,
                O::CAS(_) | O::SWP(_) | O::LDADD(_) | O::LDCLR(_) | O::LDEOR(_) | O::LDSET(_)
            );
            if atomic {
                store(state, place, bytes(0), &[]);
            }
            let count = if atomic || opcode == O::LDP { 2 } else { 1 };
            for (position, operand) in instruction.operands.into_iter().enumerate().take(count) {
                match operand {
                    Operand::Register(_, register) => write(state, register, Value::Unknown),
                    Operand::RegisterOrSP(_, register) => state.set(register, Value::Unknown),
                    _ if position > 0 => {}
                    other => return Err(format!("the operand {other:?}")),
                }
            }
        }
    }
    if let Some((base, change)) = instruction.operands.iter().find_map(|operand| match *operand {
        Operand::RegPostIndex(base, change) => Some((base, change)),
        _ => None,
    }) {
        state.set(base, moved(state.get(base), change));
    }
    Ok(())
}

/// The place in the stack of a memory operand, if it is a known one. The base register is changed if `writeback` says so.
fn address(state: &mut State, base: Register, offset: i32, writeback: bool) -> Result<Option<i64>, String> {
    let place = moved(state.get(base), offset);
    if writeback {
        state.set(base, place);
    }
    let Value::Stack(place) = place else { return Ok(None) };
    // Below are 16 bytes that belong to others (ARM64 ABI conventions, "Red zone").
    if state.top().is_some_and(|top| place < top) {
        return Err("an access below sp".into());
    }
    Ok(Some(place))
}

fn moved(value: Value, bytes: i32) -> Value {
    match value {
        Value::Stack(offset) => Value::Stack(offset + i64::from(bytes)),
        _ => Value::Unknown,
    }
}

fn store(state: &mut State, place: Option<i64>, size: i64, registers: &[(SizeCode, Register)]) {
    let Some(place) = place else { return };
    if registers.is_empty() {
        state.store(place, size, Value::Unknown);
    }
    for ((_, register), place) in registers.iter().zip((place..).step_by(size as usize)) {
        let value = if *register == 31 {
            Value::Unknown
        } else {
            state.get(*register)
        };
        state.store(place, size, value);
    }
}

fn load(state: &mut State, place: Option<i64>, registers: &[(SizeCode, Register)]) {
    let Some(place) = place else {
        return registers
            .iter()
            .for_each(|(_, register)| write(state, *register, Value::Unknown));
    };
    let values: Vec<Value> = (place..)
        .step_by(8)
        .take(registers.len())
        .map(|place| state.load(place))
        .collect();
    for ((_, register), value) in registers.iter().zip(values) {
        write(state, *register, value);
    }
}
