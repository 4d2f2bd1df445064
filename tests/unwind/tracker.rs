//! Where everything really is: abstract interpretation of a function's instructions.
//!
//! Given: code and the extent of a function.
//! Computed: for each instruction that control can reach in it, the state before it, on whichever way it is reached. The
//! unwind data is not looked at.
//! Assumed: a store through an address that is not a known place in the stack leaves the known values in the stack
//! alone (a program's computed stack pointers stay in the program's own stack area, as verified), and a called function
//! keeps the calling convention.

use std::collections::btree_map::{BTreeMap, Entry};
use std::collections::{BTreeSet, HashMap};

use iced_x86::{Code, Decoder, DecoderOptions, FlowControl, Instruction, InstructionInfoFactory, OpAccess, UsedMemory};

use super::image::Image;
use super::state::{NAMES, PRESERVED, RBP, RSP, State, VOLATILE, Value};

/// What a walk over a function found.
pub struct Walk {
    /// The state before each instruction that can be reached, by address.
    pub states: BTreeMap<u32, State>,
    /// The end of each of them.
    pub ends: HashMap<u32, u32>,
    /// Addresses outside the function that it calls or jumps to.
    pub targets: BTreeSet<u32>,
}

/// Follows the function that starts at `begin` and lies before `end`.
pub fn walk(image: &Image, begin: u32, end: u32) -> Result<Walk, String> {
    let mut walk = Walk {
        states: BTreeMap::from([(begin, State::at_entry())]),
        ends: HashMap::new(),
        targets: BTreeSet::new(),
    };
    let mut factory = InstructionInfoFactory::new();
    let mut work = BTreeSet::from([begin]);
    while let Some(rva) = work.pop_first() {
        let instruction = decode(image, rva, end)?;
        let mut state = walk.states[&rva].clone();
        if state.top().is_none() {
            return Err(format!("{rva:#x}: rsp is unknown, or not the same on all ways to here"));
        }
        let next = rva + instruction.len() as u32;
        walk.ends.insert(rva, next);
        let branch = instruction.near_branch_target() as u32;
        let inside = (begin..end).contains(&branch);
        let mut successors = Vec::new();
        match instruction.flow_control() {
            FlowControl::Next => {
                step(&mut state, &instruction, &mut factory);
                successors.push(next);
            }
            FlowControl::Call | FlowControl::IndirectCall => {
                if instruction.is_call_near() {
                    walk.targets.insert(branch);
                }
                // At the entry rsp is 8 off a multiple of 16, which is where a call must find it.
                if state.top().is_some_and(|top| (top + 8) % 16 != 0) {
                    return Err(format!("{rva:#x}: a call with an unaligned stack"));
                }
                call(&mut state);
                successors.push(next);
            }
            FlowControl::ConditionalBranch if inside => successors.extend([next, branch]),
            FlowControl::UnconditionalBranch if inside => successors.push(branch),
            FlowControl::ConditionalBranch | FlowControl::UnconditionalBranch => {
                as_entered(&state).map_err(|error| format!("{rva:#x}: jumps out of the function {error}"))?;
                walk.targets.insert(branch);
                if instruction.flow_control() == FlowControl::ConditionalBranch {
                    successors.push(next);
                }
            }
            FlowControl::Return | FlowControl::IndirectBranch => {
                as_entered(&state).map_err(|error| format!("{rva:#x}: leaves the function {error}"))?;
            }
            // `ud2`, `int3`, `int 29h`: control does not come back.
            FlowControl::Exception | FlowControl::Interrupt => {}
            FlowControl::XbeginXabortXend => return Err(format!("{rva:#x}: a transaction")),
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
    let mut covered = begin;
    for rva in walk.states.keys() {
        if *rva < covered {
            return Err(format!("{rva:#x}: control enters an instruction in its middle"));
        }
        covered = walk.ends[rva];
    }
    Ok(walk)
}

fn decode(image: &Image, rva: u32, end: u32) -> Result<Instruction, String> {
    let code = end
        .checked_sub(rva)
        .and_then(|length| image.code_at(rva)?.get(..length as usize));
    let code = code.filter(|code| !code.is_empty());
    let code = code.ok_or_else(|| format!("{rva:#x}: control runs out of the function"))?;
    let instruction = Decoder::with_ip(64, code, u64::from(rva), DecoderOptions::NONE).decode();
    if instruction.is_invalid() {
        Err(format!("{rva:#x}: not an instruction"))
    } else {
        Ok(instruction)
    }
}

/// Checks that a function gives back what it must: rsp at its return address, preserved registers as they came.
fn as_entered(state: &State) -> Result<(), String> {
    if state.top() != Some(0) {
        return Err(format!("with rsp at {:?}", state.get(RSP)));
    }
    match PRESERVED
        .iter()
        .find(|register| state.get(**register) != Value::Caller(**register))
    {
        Some(register) => Err(format!("with {} changed", NAMES[*register])),
        None => Ok(()),
    }
}

/// A call that has returned.
fn call(state: &mut State) {
    for register in VOLATILE {
        state.set(register, Value::Unknown);
    }
    // The callee owns the 32 bytes above its return address.
    if let Some(top) = state.top() {
        state.store(top, 32, Value::Unknown);
    }
}

/// An instruction that control runs through.
fn step(state: &mut State, instruction: &Instruction, factory: &mut InstructionInfoFactory) {
    let op0 = instruction.op0_register();
    let op1 = instruction.op1_register();
    let memory = || place(state, instruction);
    match instruction.code() {
        Code::Push_r64 => {
            let value = state.get(op0.number());
            push(state, value);
        }
        Code::Pop_r64 => {
            let value = pop(state);
            state.set(op0.number(), value);
        }
        Code::Leaveq => {
            state.set(RSP, state.get(RBP));
            let value = pop(state);
            state.set(RBP, value);
        }
        Code::Mov_r64_rm64 | Code::Mov_rm64_r64 if op0.is_gpr64() && op1.is_gpr64() => {
            state.set(op0.number(), state.get(op1.number()));
        }
        Code::Mov_r64_rm64 => {
            let value = memory().map_or(Value::Unknown, |offset| state.load(offset));
            state.set(op0.number(), value);
        }
        Code::Mov_rm64_r64 => {
            if let Some(offset) = memory() {
                state.store(offset, 8, state.get(op1.number()));
            }
        }
        Code::Lea_r64_m => {
            let value = memory().map_or(Value::Unknown, Value::Stack);
            state.set(op0.number(), value);
        }
        Code::Add_rm64_imm8 | Code::Add_rm64_imm32 if op0.is_gpr64() => {
            add(state, op0.number(), instruction.immediate(1) as i64);
        }
        Code::Sub_rm64_imm8 | Code::Sub_rm64_imm32 if op0.is_gpr64() => {
            add(state, op0.number(), (instruction.immediate(1) as i64).wrapping_neg());
        }
        _ => forget_written(state, instruction, factory),
    }
}

fn push(state: &mut State, value: Value) {
    let top = state.top().map(|top| top - 8);
    state.set(RSP, top.map_or(Value::Unknown, Value::Stack));
    if let Some(top) = top {
        state.store(top, 8, value);
    }
}

fn pop(state: &mut State) -> Value {
    let top = state.top();
    let value = top.map_or(Value::Unknown, |top| state.load(top));
    state.set(RSP, top.map_or(Value::Unknown, |top| Value::Stack(top + 8)));
    value
}

fn add(state: &mut State, register: usize, bytes: i64) {
    let value = match state.get(register) {
        Value::Stack(offset) => Value::Stack(offset.wrapping_add(bytes)),
        _ => Value::Unknown,
    };
    state.set(register, value);
}

/// The place in the stack that the instruction's memory operand is, if it is a known one.
fn place(state: &State, instruction: &Instruction) -> Option<i64> {
    let base = instruction.memory_base();
    if !base.is_gpr64() || instruction.memory_index() != iced_x86::Register::None {
        return None;
    }
    match state.get(base.number()) {
        Value::Stack(offset) => Some(offset.wrapping_add(instruction.memory_displacement64() as i64)),
        _ => None,
    }
}

/// Whatever else an instruction does: what it may write is unknown afterwards.
fn forget_written(state: &mut State, instruction: &Instruction, factory: &mut InstructionInfoFactory) {
    let writes = |access| {
        matches!(
            access,
            OpAccess::Write | OpAccess::CondWrite | OpAccess::ReadWrite | OpAccess::ReadCondWrite
        )
    };
    let info = factory.info(instruction);
    for memory in info.used_memory().iter().filter(|memory| writes(memory.access())) {
        if let Some(offset) = written_place(state, memory) {
            // A size of 0 is one that is only known when it runs.
            let size = match memory.memory_size().size() as i64 {
                0 => i64::MAX - offset.max(0),
                size => size,
            };
            state.store(offset, size, Value::Unknown);
        }
    }
    for register in info
        .used_registers()
        .iter()
        .filter(|register| writes(register.access()))
    {
        let register = register.register().full_register();
        if register.is_gpr64() {
            state.set(register.number(), Value::Unknown);
        }
    }
}

fn written_place(state: &State, memory: &UsedMemory) -> Option<i64> {
    if !memory.base().is_gpr64() || memory.index() != iced_x86::Register::None {
        return None;
    }
    match state.get(memory.base().number()) {
        Value::Stack(offset) => Some(offset.wrapping_add(memory.displacement() as i64)),
        _ => None,
    }
}
