//! What a person is told of a program that is rejected.
//!
//! The decisions on the way to the failure are followed once more, one path alone: so what is told of it is true of that
//! path, whatever states it was joined with. If that path alone does not fail, the states together did.

use bpf2sys_bytecode::{Callee, FunctionIndex, InsnIndex, Instruction, Operand, Reg};

use super::compare::Jump;
use super::explore::{Decision, Explorer};
use super::state::{Ids, State, Term};
use super::step::{Failure, Refusal, World, result, span};
use super::value::{Kind, PACKET_SIZE, Value, Why};
use crate::check::place;
use crate::error::{
    Explanation, KnownRegister, LeftOut, ListedInstruction, PathKind, PathStep, Rejection, RejectionPlace,
    RejectionReason,
};
use crate::prototype::prototype;
use crate::violation::Bytes;
use crate::words::{number, packet_end, packet_place, stack, times, within};
use crate::{RegisterFact, RegisterKind, Span, Violation};

/// How many steps of a path are told: so many from its start, and from its end.
const FIRST: usize = 4;
const LAST: usize = 8;
/// How many instructions are listed before and behind one without a source line.
const AROUND: usize = 3;

/// The rejection for a failure.
pub(super) fn rejection(explorer: &Explorer<'_>, failure: &Failure) -> Rejection {
    let world = explorer.world;
    let at = place(world.module, failure.function, InsnIndex(failure.instruction));
    let mut reason = failure.refusal.reason.clone();
    let mut explanation = Explanation {
        around: around(world, failure),
        ..Explanation::default()
    };
    if let Some(state) = &failure.state {
        let way = way(explorer, state.path);
        let replay = Replay::follow(explorer, &way, (failure.function, failure.instruction));
        let (known, refusal) = match &replay.end {
            Some((state, Some(refusal))) => {
                reason = refusal.reason.clone();
                (state, refusal)
            }
            _ => (&**state, &failure.refusal),
        };
        explanation.kind = match &replay.end {
            Some((_, Some(_))) => PathKind::Fails,
            Some((_, None)) if !state.joined => PathKind::Fails,
            _ => PathKind::Reaches,
        };
        explanation.registers = refusal
            .registers
            .into_iter()
            .flatten()
            .map(|register| KnownRegister {
                register,
                holds: holds(world, known.register(register), register, known),
            })
            .collect();
        for register in refusal.registers.into_iter().flatten() {
            name_call(world, failure.function, known.register(register).kind, &mut reason);
        }
        (explanation.path, explanation.left_out) = replay.steps(world);
        if is_endless(&reason) {
            tell_exits(explorer, failure, &mut explanation);
        }
    }
    Rejection {
        program: world.module.function(explorer.program).name.clone(),
        place: at,
        reason,
        explanation: Box::new(explanation),
        only_by: None,
    }
}

fn is_endless(reason: &RejectionReason) -> bool {
    matches!(reason, RejectionReason::Unsafe { violation, .. } if matches!(**violation, Violation::Unbounded { .. }))
}

/// Of a loop that is not proven to end: where it is left, and what is known there of the registers that decide it.
fn tell_exits(explorer: &Explorer<'_>, failure: &Failure, explanation: &mut Explanation) {
    let world = explorer.world;
    let Some(plan) = explorer.plans.get(&failure.function) else {
        return;
    };
    let function = world.module.function(failure.function);
    let exits = plan.exits(function, failure.instruction);
    let what = if exits.len() == 1 {
        "the loop is left here only"
    } else {
        "the loop can be left here"
    };
    // The path went round until it was given up; that tells nothing.
    let head = |step: &PathStep| step.place.instruction.0 == failure.instruction;
    explanation.path.retain(|step| !head(step));
    let mut registers: Vec<(Reg, RegisterFact)> = Vec::new();
    for exit in exits {
        if let Instruction::JumpIf { dst, src, .. } = function.instructions[exit as usize].op {
            let right = match src {
                Operand::Reg(register) => Some(register),
                Operand::Imm(_) => None,
            };
            for register in std::iter::once(dst).chain(right) {
                let block = plan.block_of[exit as usize];
                let known = explorer.facts.at_end(function, failure.function, plan, block, register);
                if !registers.iter().any(|(other, _)| *other == register) {
                    registers.push((register, known));
                }
            }
        }
        if let Some(place) = place(world.module, failure.function, InsnIndex(exit)) {
            explanation.path.push(PathStep {
                place: *place,
                what: what.to_owned(),
            });
        }
    }
    registers.sort_unstable_by_key(|(register, _)| *register);
    explanation.registers = registers
        .into_iter()
        .map(|(register, known)| KnownRegister {
            register,
            holds: format!("{}, where the loop is left", in_fact_words(&known)),
        })
        .collect();
}

fn in_fact_words(known: &RegisterFact) -> String {
    match known.kind {
        RegisterKind::Number => {
            let (signed, unsigned) = (known.range().signed, known.range().unsigned);
            let bounded = |low: Option<i64>, high: Option<i64>| Span { min: low, max: high };
            number(
                bounded(Some(signed.0), Some(signed.1)),
                bounded(i64::try_from(unsigned.0).ok(), i64::try_from(unsigned.1).ok()),
            )
        }
        RegisterKind::Unknown => "nothing that is known on every path".to_owned(),
        RegisterKind::Map => "a map".to_owned(),
        RegisterKind::MapOfPrograms => "a program array".to_owned(),
        RegisterKind::Context => "a pointer to the context".to_owned(),
        RegisterKind::Packet => "a pointer into the packet".to_owned(),
        RegisterKind::Stack => "a pointer into the stack".to_owned(),
        RegisterKind::MapValue => "a pointer to a map value".to_owned(),
    }
}

/// Says which call has destroyed a register.
fn name_call(world: &World<'_>, function: FunctionIndex, why: Kind, reason: &mut RejectionReason) {
    let RejectionReason::Unsafe { violation, .. } = reason else {
        return;
    };
    if let (Violation::Clobbered { call, .. }, Kind::Nothing(Why::Clobbered(_, at))) = (&mut **violation, why) {
        let insn = world.module.function(function).instructions.get(at as usize);
        // What a caller's call has destroyed may have been given as an argument.
        if insn.is_some_and(|insn| matches!(insn.op, Instruction::Call(_))) {
            *call = place(world.module, function, InsnIndex(at)).map(|place| place.text);
        }
    }
}

/// The instruction with some before and behind it, if it has no source line.
fn around(world: &World<'_>, failure: &Failure) -> Vec<ListedInstruction> {
    let function = world.module.function(failure.function);
    let at = failure.instruction as usize;
    if function.instructions.get(at).is_none_or(|insn| insn.line.is_some()) {
        return Vec::new();
    }
    let range = at.saturating_sub(AROUND)..(at + AROUND + 1).min(function.instructions.len());
    range
        .filter_map(|i| place(world.module, failure.function, InsnIndex(i as u32)))
        .map(|place| ListedInstruction {
            slot: place.slot,
            text: place.text,
        })
        .collect()
}

/// The decisions on the way to one.
fn way(explorer: &Explorer<'_>, last: u32) -> Vec<Decision> {
    let mut way = Vec::new();
    let mut next = last;
    while next != 0 {
        let decision = explorer.decisions[next as usize];
        way.push(decision);
        next = decision.before;
    }
    way.reverse();
    way
}

/// Something on a path that is worth telling.
#[derive(Clone, Debug)]
struct Event {
    function: FunctionIndex,
    instruction: u32,
    what: What,
}

#[derive(Clone, Debug)]
enum What {
    /// The head of a loop.
    Head,
    /// A call of a function of the module.
    Call(FunctionIndex),
    /// A conditional jump: whether it was taken, and what that told.
    Jump(bool, Option<String>),
}

/// One path, followed alone.
struct Replay {
    events: Vec<Event>,
    /// The state at the failure, and why it is refused there; `None` if the path does not get there alone.
    end: Option<(State, Option<Box<Refusal>>)>,
}

impl Replay {
    fn follow(explorer: &Explorer<'_>, way: &[Decision], end: (FunctionIndex, u32)) -> Replay {
        let mut replay = Replay {
            events: Vec::with_capacity(way.len()),
            end: None,
        };
        let mut left = way.iter();
        replay.end = replay.execute(explorer, &mut left, end);
        // Where the path is not followed alone, its decisions are told without what they told.
        replay
            .events
            .extend(left.map(|decision| decision.event(explorer.world)));
        replay
    }

    fn execute(
        &mut self,
        explorer: &Explorer<'_>,
        left: &mut std::slice::Iter<'_, Decision>,
        end: (FunctionIndex, u32),
    ) -> Option<(State, Option<Box<Refusal>>)> {
        let world = explorer.world;
        let mut state = explorer.entry();
        let mut ids = Ids::default();
        let mut callers: Vec<(FunctionIndex, u32)> = Vec::new();
        let (mut function, mut i) = (explorer.program, 0_u32);
        loop {
            let here = left.as_slice().is_empty() && (function, i) == end;
            let code = world.module.function(function);
            let op = code.instructions.get(i as usize)?.op;
            let event = |what| Event {
                function,
                instruction: i,
                what,
            };
            if explorer.plans.get(&function).is_some_and(|plan| plan.is_head(i)) {
                self.events.push(event(What::Head));
            }
            match op {
                Instruction::JumpIf {
                    size,
                    condition,
                    dst,
                    src,
                    ..
                } => {
                    let jump = Jump {
                        size,
                        condition,
                        dst,
                        src,
                    };
                    let before = state.clone();
                    let ways = match world.branch(jump, &mut state, &mut ids) {
                        Ok(ways) => ways,
                        Err(refusal) => return here.then_some((before, Some(refusal))),
                    };
                    let taken = left.as_slice().first()?.taken?;
                    let [straight, jumped] = ways;
                    let after = if taken { jumped } else { straight }?;
                    left.next();
                    self.events
                        .push(event(What::Jump(taken, learned(jump, &before, &after))));
                    state = after;
                    i = if taken {
                        code.jump_target(InsnIndex(i))?.0
                    } else {
                        i + 1
                    };
                }
                // A loop without decisions begins with a jump to itself.
                Instruction::Jump { .. } if here => return Some((state, None)),
                Instruction::Jump { .. } => i = code.jump_target(InsnIndex(i))?.0,
                Instruction::Exit if state.depth() == 0 => {
                    let refusal = result(&state).err();
                    return here.then_some((state, refusal));
                }
                Instruction::Exit => {
                    let (caller, call) = callers.pop()?;
                    state.leave_function(call);
                    (function, i) = (caller, call + 1);
                }
                Instruction::Call(Callee::Local(callee)) => {
                    left.next()?;
                    self.events.push(event(What::Call(callee)));
                    callers.push((function, i));
                    state.enter_function();
                    (function, i) = (callee, 0);
                }
                Instruction::Call(callee) => {
                    let called = prototype(callee, world.module, world.platform, world.program_type)?;
                    let before = state.clone();
                    match world.call(&called, i, &mut state) {
                        Ok(_) if here => return Some((before, None)),
                        Ok(_) => i += 1,
                        Err(refusal) => return here.then_some((before, Some(refusal))),
                    }
                }
                _ => {
                    let before = here.then(|| state.clone());
                    let result = world.step(&op, &mut state, &mut ids);
                    match (before, result) {
                        (Some(before), result) => return Some((before, result.err())),
                        (None, Ok(())) => i += 1,
                        (None, Err(_)) => return None,
                    }
                }
            }
        }
    }

    /// What is told of the path, with the middle of a long one left out.
    fn steps(&self, world: &World<'_>) -> (Vec<PathStep>, Option<LeftOut>) {
        let same = |a: &Event, b: &Event| (a.function, a.instruction) == (b.function, b.instruction);
        let is_head = |event: &Event| matches!(event.what, What::Head);
        let mut steps: Vec<(usize, usize)> = Vec::new();
        let mut next = 0;
        while let Some(event) = self.events.get(next) {
            if !is_head(event) {
                steps.push((next, 0));
                next += 1;
                continue;
            }
            // Of a loop, the last round is told.
            let again = |other: &&Event| is_head(other) && same(event, other);
            let last = self.events.iter().rposition(|other| again(&other)).unwrap_or(next);
            steps.push((last, self.events[next..=last].iter().filter(again).count() - 1));
            next = last + 1;
        }
        let told = FIRST + LAST;
        let mut left_out = None;
        if steps.len() > told + 1 {
            let count = steps.len() - told;
            steps.drain(FIRST..FIRST + count);
            left_out = Some(LeftOut { after: FIRST, count });
        }
        let steps = steps.into_iter().filter_map(|(index, rounds)| {
            let event = &self.events[index];
            let at = place(world.module, event.function, InsnIndex(event.instruction))?;
            let what = event.in_words(world, rounds, &at);
            Some(PathStep { place: *at, what })
        });
        (steps.collect(), left_out)
    }
}

impl Decision {
    fn event(&self, world: &World<'_>) -> Event {
        let op = world.module.function(self.function).instructions[self.instruction as usize].op;
        Event {
            function: self.function,
            instruction: self.instruction,
            what: match (self.taken, op) {
                (None, Instruction::Call(Callee::Local(callee))) => What::Call(callee),
                (taken, _) => What::Jump(taken == Some(true), None),
            },
        }
    }
}

impl Event {
    fn in_words(&self, world: &World<'_>, rounds: usize, at: &RejectionPlace) -> String {
        let (taken, learned) = match &self.what {
            What::Head if rounds == 0 => return "a loop begins".to_owned(),
            What::Head => return format!("the loop goes round {}", times(rounds)),
            What::Call(callee) => return format!("calls `{}`", world.module.function(*callee).name),
            What::Jump(taken, learned) => (*taken, learned),
        };
        let target = if taken {
            world
                .module
                .function(self.function)
                .jump_target(InsnIndex(self.instruction))
        } else {
            Some(InsnIndex(self.instruction + 1))
        };
        let line = |place: &RejectionPlace| place.line.as_ref().map(|line| (line.file.clone(), line.line));
        let to = target.and_then(|target| place(world.module, self.function, target));
        let on_to = match (line(at), to.as_deref().and_then(line)) {
            (Some(from), Some(to)) if from != to => format!(", on to line {}", to.1),
            _ => String::new(),
        };
        let learned = learned.as_ref().map_or(String::new(), |what| format!(": {what}"));
        format!("{}{on_to}{learned}", if taken { "taken" } else { "not taken" })
    }
}

/// What is known behind a decision that was not known before it.
fn learned(jump: Jump, before: &State, after: &State) -> Option<String> {
    let right = match jump.src {
        Operand::Reg(register) => Some(register),
        Operand::Imm(_) => None,
    };
    let registers = || std::iter::once(jump.dst).chain(right);
    if registers().any(|register| before.register(register).kind == Kind::Packet) {
        let least = |state: &State| state.packet_size.signed().0;
        return (least(after) > least(before))
            .then(|| format!("the packet has at least {}", Bytes(Span::exactly(least(after)))));
    }
    registers().find_map(|register| {
        let (old, new) = (before.register(register), after.register(register));
        match old.kind {
            Kind::Number if old.num != new.num => Some(format!("`{register}` is {}", in_words(new))),
            Kind::Number => None,
            _ if !old.nullable => None,
            _ if new.nullable => None,
            _ if new.is_number() => Some(format!("`{register}` is null")),
            _ => Some(format!("`{register}` is not null")),
        }
    })
}

fn in_words(value: &Value) -> String {
    let (low, high) = value.num.unsigned();
    let unsigned = Span {
        min: i64::try_from(low).ok(),
        max: i64::try_from(high).ok(),
    };
    number(span(&value.num), unsigned)
}

/// What a register holds.
fn holds(world: &World<'_>, value: &Value, register: Reg, state: &State) -> String {
    let null = if value.nullable { ", or null" } else { "" };
    match value.kind {
        Kind::Number => in_words(value),
        Kind::Nothing(why) => nothing(why).to_owned(),
        Kind::Context if value.num.constant() == Some(0) => "the context".to_owned(),
        Kind::Context => format!("a pointer to {}", within(span(&value.num), "the context")),
        Kind::Packet if value.id == PACKET_SIZE && value.delta == 0 => packet_end(state.packet_size.signed().0),
        Kind::Packet => {
            let behind = state.most(Term::of(value), Term::of(&state.packet_end()));
            let left = behind.and_then(i64::checked_neg).unwrap_or(0).max(0);
            packet_place(span(&value.num), left)
        }
        Kind::Stack(_) if register == Reg::R10 => "the top of the stack frame".to_owned(),
        Kind::Stack(frame) if frame as usize != state.depth() => {
            "a pointer into the stack frame of a caller".to_owned()
        }
        Kind::Stack(_) => stack(span(&value.num)),
        Kind::MapValue(table) => format!(
            "a pointer to {} ({}){null}",
            within(span(&value.num), &world.memory(table).to_string()),
            Bytes(Span::exactly(world.value_size(table.map)))
        ),
        Kind::Map(table) | Kind::Programs(table) => {
            let name = &world.module.maps[table.map.index()].name;
            if table.made {
                format!("a map like `{name}`, from a map of maps{null}")
            } else {
                format!("map `{name}`{null}")
            }
        }
        Kind::Opaque(_) => format!("{}{null}", super::step::public(value.kind.sort())),
    }
}

fn nothing(why: Why) -> &'static str {
    match why {
        Why::NeverWritten(_) => "nothing: it was never written",
        Why::Clobbered(..) => "nothing: a call destroyed it",
        Why::Stack(_) => "nothing known: it was read from stack memory that was not written as one value",
        Why::PartOfPointer => "nothing known: it was read from a part of a pointer field",
        Why::PacketMoved => "nothing: it pointed into the packet, and a helper may have moved that",
        Why::FrameGone => "nothing: it pointed into the frame of a function that has returned",
        Why::Mixed(..) => "nothing that is known on every path",
    }
}
