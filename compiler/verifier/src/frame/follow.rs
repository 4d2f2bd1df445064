//! What one function does with addresses in stack frames.
//!
//! Given: a function, and what its callees do. Computed: who touches its frame, and what it does to others' frames.
//! Safe because: see [`frame`](super).

use std::collections::BTreeSet;

use bpf2sys_bytecode::{
    AtomicOp, Callee, Function, FunctionIndex, FunctionKind, Imm64, InsnIndex, Instruction, Operand, Reg,
};
use bpf2sys_platform::ProgramType;

use super::summary::{Reach, Summary};
use super::value::{Sources, State, Stored, Value, alu, is_spill};
use super::{RegisterObject, Subject, summary};
use crate::facts::{FRAME_BYTES, accessed};
use crate::prototype::{Memory, Prototype, prototype};
use crate::{AccessFact, FunctionFacts, Object, Region, StackAccess, StackEscape, Through};

/// A function to follow values in.
pub(super) struct Follow<'a> {
    pub subject: &'a Subject<'a>,
    pub function: FunctionIndex,
    /// The types of the programs that reach it.
    pub types: &'a [&'a ProgramType],
    /// What was found of its callees.
    pub callees: &'a [Option<Followed>],
    /// Where addresses are stored, as far as is known.
    pub stored: Stored,
}

/// What was found of a function.
#[derive(Clone, Debug, Default)]
pub(super) struct Followed {
    pub summary: Summary,
    pub touches: Touches,
    /// The callees that get an address through which they, or what they call, may touch frames below that of the address.
    pub reaches_below: Vec<FunctionIndex>,
    /// Where it stores addresses.
    pub stored: Stored,
    /// What its pointers to map values point into.
    pub objects: Vec<RegisterObject>,
}

/// Who touches the own frame, in order of instructions.
#[derive(Clone, Debug, Default)]
pub(super) struct Touches {
    pub accesses: Vec<StackAccess>,
    pub escapes: Vec<StackEscape>,
}

impl Follow<'_> {
    pub fn run(&self) -> Followed {
        let function = self.subject.module.function(self.function);
        let starts = starts(function);
        let states = self.states(function, &starts);
        let mut effects = Effects {
            follow: self,
            found: Followed::default(),
            at: InsnIndex(0),
        };
        let mut current: Option<State> = None;
        for (at, insn) in (0..).map(InsnIndex).zip(&function.instructions) {
            if starts[at.index()] {
                current.clone_from(&states[at.index()]);
            }
            let Some(state) = &mut current else { continue };
            effects.at = at;
            effects.instruction(&insn.op, state);
            effects.objects(state);
            self.step(at, &insn.op, state);
            if ends(&insn.op) {
                current = None;
            }
        }
        effects.found
    }

    /// What is known before each instruction that starts a block; `None` where no path leads, and for others.
    fn states(&self, function: &Function, starts: &[bool]) -> Vec<Option<State>> {
        let mut registers = [Value::Plain; Reg::COUNT];
        if function.kind == FunctionKind::Subprogram {
            registers = [Value::ANY; Reg::COUNT];
            for number in 0..5_u8 {
                registers[usize::from(number) + 1] = Value::Argument(number, 0);
            }
        }
        registers[Reg::R10.index()] = Value::Own(0);
        let mut before: Vec<Option<State>> = vec![None; function.instructions.len()];
        // Lower blocks first: loops apart, those that a block depends on.
        let mut work = BTreeSet::new();
        let entry = State {
            registers,
            spilled: Vec::new(),
        };
        flow_into(&mut before, &mut work, 0, entry);
        while let Some(first) = work.pop_first() {
            let Some(mut state) = before[first].clone() else {
                continue;
            };
            for (index, insn) in function.instructions.iter().enumerate().skip(first) {
                if starts[index] && index != first {
                    flow_into(&mut before, &mut work, index, state);
                    break;
                }
                let at = InsnIndex(index as u32);
                self.step(at, &insn.op, &mut state);
                if let Some(target) = function.jump_target(at) {
                    flow_into(&mut before, &mut work, target.index(), state.clone());
                }
                if ends(&insn.op) {
                    break;
                }
            }
        }
        before
    }

    /// What an instruction does to registers and to values in the own frame.
    fn step(&self, at: InsnIndex, op: &Instruction, state: &mut State) {
        if let Some((dst, value)) = alu(op, &state.registers) {
            state.registers[dst.index()] = value;
            return;
        }
        match *op {
            Instruction::LoadImm64 { dst, value } => {
                state.registers[dst.index()] = match value {
                    Imm64::Constant(value) => Value::Constant(value.cast_signed()),
                    Imm64::Global { section, .. } => Value::Object(Object::Global(section)),
                    Imm64::Map(_) | Imm64::Pseudo { .. } => Value::Plain,
                };
            }
            Instruction::Load { dst, .. } => state.registers[dst.index()] = self.loaded(op, state),
            Instruction::Store {
                width,
                base,
                offset,
                src,
            } => {
                let value = operand(src, state);
                match state.registers[base.index()] {
                    Value::Own(at) => state.spill(at.saturating_add(offset.into()), width.bytes(), value),
                    base if !base.sources().is_empty() => state.forget_objects(),
                    _ => {}
                }
            }
            Instruction::Atomic { op: atomic, src, .. } => {
                let loaded = self.loaded(op, state);
                state.forget_objects();
                // What it leaves in memory is a number, or what `src` was: see `Effects::stored`.
                match atomic {
                    AtomicOp::Cmpxchg => state.registers[Reg::R0.index()] = loaded,
                    AtomicOp::Xchg
                    | AtomicOp::Add { fetch: true }
                    | AtomicOp::Or { fetch: true }
                    | AtomicOp::And { fetch: true }
                    | AtomicOp::Xor { fetch: true } => state.registers[src.index()] = loaded,
                    AtomicOp::Add { .. } | AtomicOp::Or { .. } | AtomicOp::And { .. } | AtomicOp::Xor { .. } => {}
                }
            }
            Instruction::Call(callee) => {
                state.registers[Reg::R0.index()] = match callee {
                    Callee::Local(callee) => {
                        let summary = summary(self.callees, callee);
                        let passed = state.registers[1..6].iter();
                        let touches = |summary: &Summary| {
                            let mut reaches = passed.zip(summary.arguments);
                            summary.above
                                || reaches.any(|(value, reach)| reach != Reach::Nothing && !value.sources().is_empty())
                        };
                        if summary.is_none_or(touches) {
                            state.forget_objects();
                        }
                        let returns_address = summary.is_none_or(|callee| callee.returns_address);
                        if returns_address { Value::ANY } else { Value::Plain }
                    }
                    callee => self.found_value(at, callee).map_or(Value::Plain, Value::Object),
                };
                state.registers[1..6].fill(Value::Plain);
            }
            Instruction::CallX(_) | Instruction::LegacyPacket { .. } => {
                state.registers[0] = Value::Plain;
                state.registers[1..6].fill(Value::Plain);
            }
            _ => {}
        }
    }

    /// The map in whose value a pointer points that a callee outside of the module returns.
    fn found_value(&self, at: InsnIndex, callee: Callee) -> Option<Object> {
        let map = self.facts()?.instructions.get(at.index())?.map?;
        let subject = self.subject;
        let mut called = self
            .types
            .iter()
            .map(|program_type| prototype(callee, subject.module, subject.platform, program_type));
        let all = called.all(|called| called.is_some_and(|called| called.returns_map_value()));
        all.then_some(Object::Map(map))
    }

    fn facts(&self) -> Option<&FunctionFacts> {
        self.subject.facts.get(self.function.index())
    }

    /// What a load, or the load of an atomic operation, gives.
    fn loaded(&self, op: &Instruction, state: &State) -> Value {
        let Some((base, offset, 8)) = accessed(op) else {
            return Value::Plain;
        };
        let stored = self.stored;
        let (any, known) = match state.registers[base.index()] {
            Value::Own(at) => (stored.stack, state.spilled_at(at.saturating_add(offset.into()))),
            Value::Plain | Value::Constant(_) | Value::Object(_) => (stored.outside, Value::Plain),
            Value::Argument(..) | Value::Derived(_) => (stored.own || stored.stack || stored.outside, Value::Plain),
        };
        if any { Value::ANY } else { known }
    }
}

/// Whether execution never goes on behind an instruction.
fn ends(op: &Instruction) -> bool {
    matches!(op, Instruction::Jump { .. } | Instruction::Exit)
}

/// By instruction, whether it starts a block: execution comes to others only from the one before them.
fn starts(function: &Function) -> Vec<bool> {
    let mut starts = vec![false; function.instructions.len()];
    let count = function.instructions.len() as u32;
    let targets = (0..count).filter_map(|at| function.jump_target(InsnIndex(at)));
    for at in std::iter::once(InsnIndex(0)).chain(targets) {
        if let Some(start) = starts.get_mut(at.index()) {
            *start = true;
        }
    }
    starts
}

/// Lets what is known flow into the instruction at `index`.
fn flow_into(before: &mut [Option<State>], work: &mut BTreeSet<usize>, index: usize, state: State) {
    let changed = match before.get_mut(index) {
        None => false,
        Some(Some(known)) => known.join(&state),
        Some(nothing) => {
            *nothing = Some(state);
            true
        }
    };
    if changed {
        work.insert(index);
    }
}

fn operand(operand: Operand, state: &State) -> Value {
    match operand {
        Operand::Reg(register) => state.registers[register.index()],
        Operand::Imm(_) => Value::Plain,
    }
}

/// What the instructions of a function do to frames.
struct Effects<'a> {
    follow: &'a Follow<'a>,
    found: Followed,
    at: InsnIndex,
}

impl Effects<'_> {
    fn instruction(&mut self, op: &Instruction, state: &State) {
        if let Some((base, offset, width)) = accessed(op) {
            let writes = !matches!(op, Instruction::Load { .. });
            let base = state.registers[base.index()];
            let reach = Reach::bytes(offset.into(), width, writes);
            self.access(op, base, reach);
            let value = match *op {
                Instruction::Store { src, .. } => operand(src, state),
                Instruction::Atomic { src, .. } => state.registers[src.index()],
                _ => Value::Plain,
            };
            if width == 8 && !value.sources().is_empty() {
                self.stored(op, base, offset.into());
            }
        }
        match *op {
            Instruction::Call(Callee::Local(callee)) => self.call(callee, state),
            Instruction::Call(callee) => self.leave(callee, state),
            Instruction::Exit if !state.registers[Reg::R0.index()].sources().is_empty() => {
                self.found.summary.returns_address = true;
            }
            _ => {}
        }
    }

    fn objects(&mut self, state: &State) {
        for (value, register) in state.registers.into_iter().zip((0..).filter_map(Reg::new)) {
            if let Value::Object(object) = value {
                let at = self.at;
                self.found.objects.push(RegisterObject { at, register, object });
            }
        }
    }

    /// The access of a load, store or atomic operation.
    fn access(&mut self, op: &Instruction, base: Value, reach: Reach) {
        let Some((_, offset, width)) = accessed(op) else {
            return;
        };
        if let Value::Own(at) = base
            && let Some(start) = at.checked_add(offset.into())
            && start >= -FRAME_BYTES
            && start.saturating_add_unsigned(width) <= 0
        {
            self.found.touches.accesses.push(StackAccess {
                at: self.at,
                offset: start,
                width,
            });
            return;
        }
        // Where following does not tell, the engine may.
        let proven = self.follow.facts().and_then(|facts| facts.access(self.at, op));
        if let (
            Value::Derived(_),
            Some(AccessFact {
                region: Region::Stack,
                offset: Some((low, high)),
                ..
            }),
        ) = (base, proven)
        {
            let writes = !matches!(op, Instruction::Load { .. });
            self.escape((low, high.saturating_add_unsigned(width)), Through::Pointer, writes);
            return;
        }
        self.touch(base, reach, Through::Pointer);
    }

    /// An address in a frame is stored through this one.
    fn stored(&mut self, op: &Instruction, base: Value, offset: i32) {
        let known = match (op, base) {
            (Instruction::Store { .. }, Value::Own(at)) => is_spill(at.saturating_add(offset)),
            _ => false,
        };
        let outside = !matches!(base, Value::Own(_));
        self.found.stored = self.found.stored.join(Stored {
            own: known,
            stack: !known && !base.sources().is_empty(),
            outside,
        });
    }

    /// A call of a function of the module.
    fn call(&mut self, callee: FunctionIndex, state: &State) {
        let unknown = Summary {
            arguments: [Reach::Anything; 5],
            above: true,
            returns_address: true,
        };
        let summary = summary(self.follow.callees, callee).unwrap_or(&unknown).clone();
        if summary.above {
            self.anywhere(Sources::OWN, Through::Subprogram);
        }
        for (value, reach) in state.registers[1..6].iter().zip(summary.arguments) {
            if self.touch(*value, reach, Through::Subprogram) {
                self.found.reaches_below.push(callee);
            }
        }
    }

    /// A call that leaves the module.
    fn leave(&mut self, callee: Callee, state: &State) {
        let subject = self.follow.subject;
        for program_type in self.follow.types {
            let called = prototype(callee, subject.module, subject.platform, program_type);
            for (number, value) in (0..5_u8).zip(&state.registers[1..6]) {
                if value.sources().is_empty() {
                    continue;
                }
                let reach = match &called {
                    Some(called) => self.given(called, number, state),
                    None => Reach::Anything,
                };
                self.touch(*value, reach, Through::Callee);
            }
        }
    }

    /// What a callee accesses through its argument `r1` (0) to `r5` (4).
    fn given(&self, called: &Prototype<'_>, number: u8, state: &State) -> Reach {
        let module = self.follow.subject.module;
        let index = usize::from(number);
        let facts = self.follow.facts();
        let (memory, writes) = called.memory(index);
        let map = facts.and_then(|f| f.instructions.get(self.at.index())?.map);
        let bytes = match memory {
            Memory::None => return Reach::Nothing,
            Memory::Bytes(bytes) => Some(bytes),
            Memory::Key => Prototype::map_memory(map, module, |definition| definition.key_size),
            Memory::Value => Prototype::map_memory(map, module, |definition| definition.value_size),
            // The register behind the address has the size.
            Memory::Sized => match state.registers.get(index + 2) {
                Some(Value::Constant(size)) => u32::try_from(*size).ok(),
                _ => Reg::new(number + 2)
                    .and_then(|size| Some(facts?.register(self.at, size).range().unsigned.1))
                    .and_then(|size| u32::try_from(size).ok()),
            },
            Memory::Unknown => None,
        };
        match bytes {
            Some(0) => Reach::Nothing,
            Some(bytes) => Reach::bytes(0, bytes, writes),
            None => Reach::Anything,
        }
    }

    /// What is accessed through an address. Whether that may be below the frame that the address is in.
    fn touch(&mut self, address: Value, reach: Reach, by: Through) -> bool {
        if reach == Reach::Nothing {
            return false;
        }
        match address {
            Value::Plain | Value::Constant(_) | Value::Object(_) => false,
            Value::Own(at) => {
                let Reach::Bytes { start, end, writes } = reach.seen_from_below(at) else {
                    self.anywhere(Sources::OWN, by);
                    return true;
                };
                if end > 0 {
                    self.found.summary.above = true;
                }
                let bytes = (start.max(-FRAME_BYTES), end.min(0));
                if bytes.0 < bytes.1 {
                    self.escape(bytes, by, writes);
                }
                start < -FRAME_BYTES
            }
            // Whether it is below is known where the argument comes from.
            Value::Argument(number, at) => {
                let mine = &mut self.found.summary.arguments[usize::from(number)];
                *mine = mine.join(reach.seen_from_below(at));
                false
            }
            Value::Derived(sources) => {
                self.anywhere(sources, by);
                true
            }
        }
    }

    /// An access through something made from these, at an unknown distance.
    fn anywhere(&mut self, sources: Sources, by: Through) {
        if sources.contains(Sources::OWN.join(Sources::ANY)) {
            self.found.summary.above = true;
            self.escape((-FRAME_BYTES, 0), by, true);
        }
        for number in 0..5 {
            if sources.contains(Sources::argument(number)) {
                self.found.summary.arguments[usize::from(number)] = Reach::Anything;
            }
        }
    }

    fn escape(&mut self, bytes: (i32, i32), by: Through, writes: bool) {
        let escape = StackEscape {
            at: self.at,
            bytes,
            by,
            writes,
        };
        let known = self.found.touches.escapes.iter().rev().take_while(|e| e.at == self.at);
        if !known.into_iter().any(|known| *known == escape) {
            self.found.touches.escapes.push(escape);
        }
    }
}
