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
use crate::{Span, Violation};

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
        let replay = Replay::follow(world, explorer.entry(), &way, (failure.function, failure.instruction));
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
        (explanation.path, explanation.left_out) = replay.steps(world, &way);
    }
    Rejection {
        program: world.module.function(explorer.program).name.clone(),
        place: at,
        reason,
        explanation: Box::new(explanation),
        only_by: None,
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

/// One path, followed alone.
struct Replay {
    /// By decision, what it told; as far as the path could be followed.
    learned: Vec<Option<String>>,
    /// The state at the failure, and why it is refused there; `None` if the path does not get there alone.
    end: Option<(State, Option<Box<Refusal>>)>,
}

impl Replay {
    fn follow(world: &World<'_>, entry: State, way: &[Decision], end: (FunctionIndex, u32)) -> Replay {
        let mut replay = Replay {
            learned: Vec::with_capacity(way.len()),
            end: None,
        };
        replay.end = replay.execute(world, entry, way, end);
        replay
    }

    fn execute(
        &mut self,
        world: &World<'_>,
        mut state: State,
        way: &[Decision],
        end: (FunctionIndex, u32),
    ) -> Option<(State, Option<Box<Refusal>>)> {
        let mut ids = Ids::default();
        let first = way.first().map_or(end.0, |decision| decision.function);
        let mut callers: Vec<(FunctionIndex, u32)> = Vec::new();
        let (mut index, mut i) = (first, 0_u32);
        let mut left = way.iter();
        loop {
            let here = left.as_slice().is_empty() && (index, i) == end;
            let function = world.module.function(index);
            let op = function.instructions.get(i as usize)?.op;
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
                    let ways = match world.branch(jump, state, &mut ids) {
                        Ok(ways) => ways,
                        Err(refusal) => return here.then_some((before, Some(refusal))),
                    };
                    let decision = left.next()?;
                    let taken = decision.taken?;
                    let [straight, jumped] = ways;
                    let after = if taken { jumped } else { straight }?;
                    self.learned.push(learned(jump, &before, &after));
                    state = after;
                    i = if taken {
                        function.jump_target(InsnIndex(i))?.0
                    } else {
                        i + 1
                    };
                }
                Instruction::Jump { .. } => i = function.jump_target(InsnIndex(i))?.0,
                Instruction::Exit if state.depth() == 0 => {
                    let refusal = result(&state).err();
                    return here.then_some((state, refusal));
                }
                Instruction::Exit => {
                    let (caller, call) = callers.pop()?;
                    state.leave_function(call);
                    (index, i) = (caller, call + 1);
                }
                Instruction::Call(Callee::Local(callee)) => {
                    left.next()?;
                    self.learned.push(None);
                    callers.push((index, i));
                    state.enter_function();
                    (index, i) = (callee, 0);
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

    /// The decisions in words, with the middle of a long way left out.
    fn steps(&self, world: &World<'_>, way: &[Decision]) -> (Vec<PathStep>, Option<LeftOut>) {
        let same = |a: &Decision, b: &Decision| (a.function, a.instruction) == (b.function, b.instruction);
        let mut steps: Vec<(usize, usize)> = Vec::new();
        let mut next = 0;
        while let Some(decision) = way.get(next) {
            // Of a loop, the last round is told.
            let last = way.iter().rposition(|other| same(decision, other)).unwrap_or(next);
            let rounds = way[next..=last].iter().filter(|other| same(decision, other)).count() - 1;
            steps.push((last, rounds));
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
            let decision = &way[index];
            let at = place(world.module, decision.function, InsnIndex(decision.instruction))?;
            let what = if rounds > 0 {
                format!("the loop goes round {}", times(rounds))
            } else {
                self.in_words(world, decision, index, &at)
            };
            Some(PathStep { place: *at, what })
        });
        (steps.collect(), left_out)
    }

    fn in_words(&self, world: &World<'_>, decision: &Decision, index: usize, at: &RejectionPlace) -> String {
        let function = world.module.function(decision.function);
        let op = function.instructions[decision.instruction as usize].op;
        let Some(taken) = decision.taken else {
            return match op {
                Instruction::Call(Callee::Local(callee)) => format!("calls `{}`", world.module.function(callee).name),
                _ => "calls a function".to_owned(),
            };
        };
        let target = if taken {
            function.jump_target(InsnIndex(decision.instruction))
        } else {
            Some(InsnIndex(decision.instruction + 1))
        };
        let line = |place: &RejectionPlace| place.line.as_ref().map(|line| (line.file.clone(), line.line));
        let to = target.and_then(|target| place(world.module, decision.function, target));
        let on_to = match (line(at), to.as_deref().and_then(line)) {
            (Some(from), Some(to)) if from != to => format!(", on to line {}", to.1),
            _ => String::new(),
        };
        let learned = self.learned.get(index).and_then(Option::as_ref);
        let learned = learned.map_or(String::new(), |what| format!(": {what}"));
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
                format!("the map `{name}`{null}")
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
