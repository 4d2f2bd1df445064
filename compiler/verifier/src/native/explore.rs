//! The walk through a function: which states come to which block.
//!
//! States of different paths stay apart as long as there are few of them where paths meet; more are joined. Blocks are
//! visited in the order of the [`Plan`], so that all paths that meet somewhere have come before any goes on.
//!
//! A loop is walked round by round, all paths of a round together. If no path comes back to its head any more, it has ended in
//! so many rounds. If one comes back as it was before, or there were too many rounds, the rounds from there on are taken
//! together ([`widen`](super::widen)), and a counter must prove that they end ([`termination`](super::termination)).

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::rc::Rc;

use bpf2sys_bytecode::{AluOp, Callee, FunctionIndex, InsnIndex, Instruction, Operand, Reg, WordSize};

use super::compare::Jump;
use super::facts::Facts;
use super::num;
use super::plan::{Plan, Stop, written};
use super::state::{Ids, Pinned, State};
use super::step::{Failure, Refusal, World, refusal, result};
use super::termination::{self, Passes};
use super::value::{Kind, NONE, Value, Why};
use super::widen::{self, Heads};
use crate::error::RejectionReason;
use crate::flow::Flow;
use crate::guard::Deadline;
use crate::prototype::prototype;
use crate::{Violation, WarningReason};

/// How much is looked at before states are joined.
#[derive(Clone, Copy, Debug)]
pub(super) struct Effort {
    /// States that stay apart where paths meet.
    pub states: usize,
    /// Rounds of a loop that are walked one by one.
    pub rounds: u32,
    /// How often the head of a loop is visited, in all, before its rounds are taken together at once.
    pub visits: u32,
    /// Instructions that are executed before states are joined wherever they meet.
    pub instructions: u64,
}

/// A decision on a path.
#[derive(Clone, Copy, Debug)]
pub(super) struct Decision {
    /// The one before; itself at the start.
    pub before: u32,
    pub function: FunctionIndex,
    pub instruction: u32,
    /// Of a conditional jump, whether it was taken; `None` of a call.
    pub taken: Option<bool>,
}

/// Decisions that are remembered, in 16 MiB. Paths with more are not told.
const MOST_DECISIONS: usize = 1 << 20;

/// The walk through a program and the functions that it calls.
pub(super) struct Explorer<'a> {
    pub world: &'a World<'a>,
    pub flow: &'a Flow,
    pub deadline: &'a Deadline,
    pub effort: Effort,
    pub plans: HashMap<FunctionIndex, Rc<Plan>>,
    pub ids: Ids,
    pub facts: Facts,
    pub decisions: Vec<Decision>,
    /// By call: what is wrong with it; `None` if some state found nothing wrong.
    pub warnings: BTreeMap<(FunctionIndex, u32), Option<WarningReason>>,
    pub program: FunctionIndex,
    pub passes: Passes,
    /// Instructions that were executed.
    pub executed: u64,
    /// Visits of the heads of loops.
    pub visits: HashMap<(FunctionIndex, u32), u32>,
    /// What calls of functions gave that get nothing of a caller's frame.
    pub known: HashMap<FunctionIndex, VecDeque<Known>>,
    pub pinned: Pinned,
}

/// What a call gave.
pub(super) struct Known {
    arguments: State,
    results: Vec<State>,
}

/// A state that waits for its block.
struct Waiting {
    state: State,
    /// When it came.
    number: u64,
}

/// The walk through one activation of a function.
struct Run {
    index: FunctionIndex,
    plan: Rc<Plan>,
    waiting: BTreeMap<u32, Vec<Waiting>>,
    came: u64,
    /// Loops that have begun, by their heads. Those that are behind may be forgotten.
    loops: HashMap<u32, Loop>,
    /// What held at the head of a loop in another loop when it was walked last, with all rounds together.
    invariants: HashMap<u32, Heads>,
    exits: Vec<State>,
}

/// An activation of a loop.
#[derive(Default)]
struct Loop {
    rounds: u32,
    /// States of the last rounds.
    recent: Vec<State>,
    /// A state of a round that is a power of two: a loop that comes back to the same state, if after many rounds, comes back to one of
    /// these.
    milestone: Vec<State>,
    together: Option<Together>,
}

/// A loop whose rounds are taken together.
struct Together {
    heads: Heads,
    /// States that came later belong to it.
    since: u64,
    /// The loops around it that measure.
    around: usize,
}

/// How many states of earlier rounds a new one is compared with.
const RECENT: usize = 8;
/// Of each function, the latest calls of which is known what they gave.
const MOST_KNOWN: usize = 16;

type Walked<T> = Result<T, Box<Failure>>;

impl Explorer<'_> {
    pub fn plan(&mut self, index: FunctionIndex) -> Rc<Plan> {
        let plan = self.plans.entry(index).or_insert_with(|| {
            Rc::new(Plan::new(
                self.world.module,
                self.world.platform,
                self.world.program_type,
                self.flow,
                index,
                self.deadline,
            ))
        });
        Rc::clone(plan)
    }

    /// All states with which a function ends that begins with one.
    pub fn function(&mut self, index: FunctionIndex, entry: State) -> Walked<Vec<State>> {
        let plan = self.plan(index);
        let mut run = Run {
            index,
            plan,
            waiting: BTreeMap::new(),
            came: 0,
            loops: HashMap::new(),
            invariants: HashMap::new(),
            exits: Vec::new(),
        };
        run.wait(0, entry);
        while let Some((position, waiting)) = run.waiting.pop_first() {
            self.deadline.check();
            let states = waiting.into_iter().map(|waiting| waiting.state).collect();
            match run.plan.at[position as usize] {
                Stop::Block(block) => {
                    let states = self.settle(states);
                    if run.plan.block(block).again.is_some() {
                        self.begin_loop(&mut run, block, states)?;
                    } else {
                        for state in states {
                            self.block(&mut run, block, state)?;
                        }
                    }
                }
                Stop::Again(head) => {
                    let states = self.settle(states);
                    self.go_round(&mut run, head, states)?;
                }
            }
        }
        let exits = std::mem::take(&mut run.exits);
        Ok(self.settle(exits))
    }

    /// Removes states that others cover, and joins those that are too many.
    fn settle(&mut self, mut states: Vec<State>) -> Vec<State> {
        if states.len() < 2 {
            return states;
        }
        let most = if self.executed > self.effort.instructions {
            1
        } else {
            self.effort.states
        };
        let mut kept: Vec<State> = Vec::with_capacity(states.len().min(most));
        for state in states.drain(..) {
            if kept.iter().any(|other| other.covers(&state, &self.pinned)) {
                continue;
            }
            kept.retain(|other| !state.covers(other, &self.pinned));
            kept.push(state);
            if kept.len() > 4 * most {
                kept = self.join_alike(kept);
            }
        }
        if kept.len() > most { self.join_alike(kept) } else { kept }
    }

    /// Joins states whose values are of the same kinds. If there are still too many, all of them.
    fn join_alike(&mut self, states: Vec<State>) -> Vec<State> {
        let groups = self.by_shape(states);
        let most = self.effort.states;
        let mut joined: Vec<State> = groups.into_iter().map(|(_, state)| state).collect();
        if joined.len() > 2 * most {
            let mut rest = joined.drain(..);
            let first = rest.next();
            let all = first.map(|first| rest.fold(first, |a, b| a.join(&b, &mut self.ids)));
            return all.into_iter().collect();
        }
        joined
    }

    /// One state for each shape.
    pub fn by_shape(&mut self, states: Vec<State>) -> Vec<(u64, State)> {
        let mut groups: Vec<(u64, State)> = Vec::new();
        for state in states {
            let shape = shape(&state);
            match groups.iter_mut().find(|(other, _)| *other == shape) {
                Some((_, group)) => *group = group.join(&state, &mut self.ids),
                None => groups.push((shape, state)),
            }
        }
        groups
    }

    /// States come to a loop from outside.
    fn begin_loop(&mut self, run: &mut Run, head: u32, states: Vec<State>) -> Walked<()> {
        let plan = Rc::clone(&run.plan);
        let block = plan.block(head);
        run.loops
            .retain(|other, _| plan.block(*other).again > Some(block.position));
        if block.within.is_none() {
            run.invariants.clear();
        }
        run.begin(head);
        if self.executed > self.effort.instructions {
            // With what it had become when a loop around it was walked before: so all walks together only go upwards, and those of
            // loops in loops do not multiply.
            let known = run.invariants.remove(&head);
            return self.take_together(run, head, states, known);
        }
        let visits = self.visits.entry((run.index, head)).or_default();
        *visits += states.len() as u32;
        if *visits > self.effort.visits {
            return self.take_together(run, head, states, None);
        }
        if let Some(this) = run.loops.get_mut(&head) {
            this.remember(&states);
        }
        for state in states {
            self.block(run, head, state)?;
        }
        Ok(())
    }

    /// All paths of a round have come back to the head.
    fn go_round(&mut self, run: &mut Run, head: u32, states: Vec<State>) -> Walked<()> {
        // There is none yet if the loop was entered elsewhere.
        let this = run.loops.entry(head).or_default();
        if this.together.is_some() {
            return self.go_on_together(run, head, states);
        }
        this.rounds += 1;
        let rounds = this.rounds;
        let seen = states.iter().any(|state| this.has_seen(state, &self.pinned));
        let visits = self.visits.entry((run.index, head)).or_default();
        *visits += states.len() as u32;
        let enough =
            rounds > self.effort.rounds || *visits > self.effort.visits || self.executed > self.effort.instructions;
        if seen || enough {
            return self.take_together(run, head, states, None);
        }
        this.remember(&states);
        run.begin_inner(head);
        self.passes.record(run.index, head, u64::from(rounds) + 1);
        for state in states {
            self.block(run, head, state)?;
        }
        Ok(())
    }

    /// From here on, the rounds of a loop are taken together.
    fn take_together(&mut self, run: &mut Run, head: u32, states: Vec<State>, known: Option<Heads>) -> Walked<()> {
        let groups = self.by_shape(states);
        let heads = match known {
            Some(known) => Heads::again(groups, &known, &mut self.ids),
            None => Heads::new(groups, &mut self.ids),
        };
        let since = run.came;
        self.walk_heads(run, head, heads, since)
    }

    fn walk_heads(&mut self, run: &mut Run, head: u32, heads: Heads, since: u64) -> Walked<()> {
        run.begin_inner(head);
        let states: Vec<State> = heads.states().cloned().collect();
        let around = self.pinned.loops();
        self.pinned.push(heads.identities());
        if let Some(this) = run.loops.get_mut(&head) {
            this.together = Some(Together { heads, since, around });
        }
        for state in states {
            self.block(run, head, state)?;
        }
        Ok(())
    }

    /// All paths of the rounds that are taken together have come back.
    fn go_on_together(&mut self, run: &mut Run, head: u32, states: Vec<State>) -> Walked<()> {
        let Some(this) = run.loops.get_mut(&head) else {
            return Ok(());
        };
        let Some(together) = this.together.take() else {
            return Ok(());
        };
        // Those of inner loops that nothing came back in are gone with it.
        self.pinned.truncate(together.around);
        if together.heads.cover(&states, &self.pinned) {
            let rounds = u64::from(this.rounds);
            if self.world.platform.verifier_options.check_for_termination {
                let more = match termination::rounds(&together.heads, &states) {
                    Ok(more) => more,
                    Err(missing) => {
                        let first = run.plan.block(head).instructions.start;
                        return Err(unbounded(run.index, first, states.into_iter().next(), missing));
                    }
                };
                self.passes
                    .record(run.index, head, more.saturating_add(rounds).saturating_add(1));
            }
            if run.plan.block(head).within.is_some() {
                run.invariants.insert(head, together.heads);
            }
            return Ok(());
        }
        // What the narrower rounds led to is covered by what the wider ones will, unless something has come there that was
        // never at the head.
        let since = together.since;
        if !run.plan.block(head).entered_elsewhere {
            let again = run.plan.block(head).again.unwrap_or(0);
            for (_, waiting) in run.waiting.range_mut(again..) {
                waiting.retain(|waiting| waiting.number < since);
            }
            run.waiting.retain(|_, waiting| !waiting.is_empty());
        }
        let groups = self.by_shape(states);
        let thresholds = run.plan.thresholds(self.world.module.function(run.index), head);
        let heads = widen::wider(
            together.heads,
            groups,
            &thresholds,
            (&mut self.ids, &self.pinned),
            self.effort.states,
        );
        self.walk_heads(run, head, heads, since)
    }

    /// Executes a block.
    fn block(&mut self, run: &mut Run, number: u32, mut state: State) -> Walked<()> {
        let plan = Rc::clone(&run.plan);
        let block = plan.block(number);
        let world = self.world;
        let function = world.module.function(run.index);
        let live = block.registers | 1 << Reg::R10.index();
        self.facts.enter(world, run.index, &plan, (number, live), &state);
        self.executed += u64::from(block.instructions.end - block.instructions.start);
        // A register before a shift by 32 bits, with the instruction behind the shift.
        let mut shifted: Option<(u32, Reg, Value)> = None;
        for i in block.instructions.clone() {
            let op = &function.instructions[i as usize].op;
            match *op {
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
                    return self.jump(run, number, i, jump, state);
                }
                Instruction::Jump { .. } => {
                    if let Some(target) = function.jump_target(InsnIndex(i)) {
                        let target = plan.block_of[target.index()];
                        self.arrive(run, number, target, state);
                    }
                    return Ok(());
                }
                Instruction::Exit => return self.exit(run, i, state),
                Instruction::Call(Callee::Local(callee)) => return self.call_local(run, number, i, callee, state),
                Instruction::Call(callee) => {
                    self.call(run, i, callee, &mut state)?;
                }
                _ => {
                    let before = is_shift(op, AluOp::Lsh).map(|register| (i + 1, register, *state.register(register)));
                    let kept = state.path;
                    if let Err(refusal) = world.step(op, &mut state, &mut self.ids) {
                        return Err(failure(run.index, i, refusal, state));
                    }
                    debug_assert_eq!(kept, state.path);
                    if let Some((at, register, value)) = shifted.take()
                        && at == i
                    {
                        unshift(op, register, &value, &mut state);
                    }
                    shifted = before;
                    if let Some(register) = written(op) {
                        self.facts.wrote(world, run.index, &plan, i, register, &state);
                    }
                }
            }
        }
        let next = block.instructions.end;
        let Some(next) = plan.block_of.get(next as usize) else {
            let refusal = Refusal {
                reason: RejectionReason::FallsOffEnd,
                registers: [None, None],
            };
            return Err(failure(run.index, next - 1, Box::new(refusal), state));
        };
        self.arrive(run, number, *next, state);
        Ok(())
    }

    fn jump(&mut self, run: &mut Run, number: u32, i: u32, jump: Jump, mut state: State) -> Walked<()> {
        let plan = Rc::clone(&run.plan);
        let function = self.world.module.function(run.index);
        let ways = match self.world.branch(jump, &mut state, &mut self.ids) {
            Ok(ways) => ways,
            Err(refusal) => return Err(failure(run.index, i, refusal, state)),
        };
        let [straight, taken] = ways;
        if let Some(mut state) = straight
            && let Some(next) = plan.block_of.get(i as usize + 1)
        {
            self.facts.edge(run.index, &plan, i, false);
            state.path = self.decide(run.index, i, Some(false), state.path);
            self.arrive(run, number, *next, state);
        }
        if let Some(mut state) = taken
            && let Some(target) = function.jump_target(InsnIndex(i))
        {
            self.facts.edge(run.index, &plan, i, true);
            state.path = self.decide(run.index, i, Some(true), state.path);
            self.arrive(run, number, plan.block_of[target.index()], state);
        }
        Ok(())
    }

    fn exit(&self, run: &mut Run, i: u32, mut state: State) -> Walked<()> {
        if state.depth() == 0 {
            // Nobody asks for anything else of it.
            return match result(&state) {
                Ok(()) => Ok(()),
                Err(refusal) => Err(failure(run.index, i, refusal, state)),
            };
        }
        state.tidy(&self.pinned);
        run.exits.push(state);
        Ok(())
    }

    fn decide(&mut self, function: FunctionIndex, instruction: u32, taken: Option<bool>, before: u32) -> u32 {
        if self.decisions.len() >= MOST_DECISIONS {
            return before;
        }
        self.decisions.push(Decision {
            before,
            function,
            instruction,
            taken,
        });
        (self.decisions.len() - 1) as u32
    }

    /// A state goes from one block to another.
    fn arrive(&mut self, run: &mut Run, from: u32, to: u32, mut state: State) {
        let block = run.plan.block(to);
        let live = block.registers | 1 << Reg::R10.index();
        self.facts.enter(self.world, run.index, &run.plan, (to, !live), &state);
        state.keep(live, &block.bytes);
        if block.is_join {
            state.tidy(&self.pinned);
        }
        let position = run.plan.position_of_edge(from, to);
        run.wait(position, state);
    }

    /// A call that leaves the module.
    fn call(&mut self, run: &Run, i: u32, callee: Callee, state: &mut State) -> Walked<()> {
        let world = self.world;
        let Some(called) = prototype(callee, world.module, world.platform, world.program_type) else {
            return Err(failure(run.index, i, refusal(Violation::UnusableHelper), state.clone()));
        };
        let before = state.clone();
        match world.call(&called, i, state) {
            Ok(called) => {
                self.facts.call(run.index, &run.plan, i, called.map);
                let known = self
                    .warnings
                    .entry((run.index, i))
                    .or_insert_with(|| called.warning.clone());
                if *known != called.warning {
                    *known = None;
                }
                Ok(())
            }
            Err(refusal) => Err(failure(run.index, i, refusal, before)),
        }
    }

    /// A call of a function of the module.
    fn call_local(&mut self, run: &mut Run, number: u32, i: u32, callee: FunctionIndex, state: State) -> Walked<()> {
        self.passes.call(run.index, number, callee);
        let path = self.decide(run.index, i, None, state.path);
        let mut inner = state;
        inner.enter_function();
        inner.path = path;
        let results = if let Some(results) = self.known_call(callee, &inner) {
            results
        } else {
            let keeps = self.forgets_caller(callee, &inner);
            let arguments = keeps.then(|| arguments(&inner));
            let results = self.function(callee, inner)?;
            if let Some(arguments) = arguments {
                let results = results.clone();
                let known = self.known.entry(callee).or_default();
                if known.len() == MOST_KNOWN {
                    known.pop_front();
                }
                known.push_back(Known { arguments, results });
            }
            results
        };
        let next = run.plan.block_of.get(i as usize + 1).copied();
        for mut state in results {
            state.leave_function(i);
            if let Some(next) = next {
                self.arrive(run, number, next, state);
            }
        }
        Ok(())
    }

    /// Whether what a function does depends on its arguments only, and it changes nothing but what it returns.
    fn forgets_caller(&self, callee: FunctionIndex, state: &State) -> bool {
        let module = self.world.module;
        let no_frames = state.registers[1..6]
            .iter()
            .all(|value| !matches!(value.kind, Kind::Stack(_)));
        let moves_packet = |index: FunctionIndex| {
            module.function(index).instructions.iter().any(|insn| match insn.op {
                Instruction::Call(callee @ (Callee::Helper(_) | Callee::Btf(_))) => {
                    let world = self.world;
                    prototype(callee, module, world.platform, world.program_type)
                        .is_none_or(|called| called.moves_packet)
                }
                _ => false,
            })
        };
        no_frames && !moves_packet(callee) && !module.reachable_from(callee).into_iter().any(moves_packet)
    }

    /// What a call gives, if one with the same arguments, or more, was made before.
    fn known_call(&self, callee: FunctionIndex, state: &State) -> Option<Vec<State>> {
        let known = self.known.get(&callee)?;
        if !self.forgets_caller(callee, state) {
            return None;
        }
        let own = arguments(state);
        // What the call gives has no names, so that none needs to mean the same.
        let pinned = Pinned::default();
        let known = known.iter().find(|known| known.arguments.covers(&own, &pinned))?;
        let results = known.results.iter().map(|result| {
            let mut after = state.clone();
            let mut value = *result.register(Reg::R0);
            // Its identities are those of another call; and it got no address in a frame, so one that it gives is in its own.
            (value.id, value.delta) = (NONE, 0);
            if matches!(value.kind, Kind::Stack(_)) {
                value = Value::nothing(Why::FrameGone);
            }
            after.set(Reg::R0, value);
            after
        });
        Some(results.collect())
    }
}

impl Run {
    /// A loop begins.
    fn begin(&mut self, head: u32) {
        self.loops.insert(head, Loop::default());
        self.begin_inner(head);
    }

    /// A loop goes round, so that the loops in it begin anew; also those that are not entered by their heads.
    fn begin_inner(&mut self, head: u32) {
        let plan = &self.plan;
        let outer = plan.block(head);
        let inside = outer.position + 1..outer.again.unwrap_or(0);
        self.loops
            .retain(|inner, _| !inside.contains(&plan.block(*inner).position));
    }

    fn wait(&mut self, position: u32, state: State) {
        let number = self.came;
        self.came += 1;
        self.waiting
            .entry(position)
            .or_default()
            .push(Waiting { state, number });
    }
}

impl Loop {
    fn remember(&mut self, states: &[State]) {
        if self.rounds.is_power_of_two() {
            self.milestone = states.to_vec();
        }
        self.recent.extend_from_slice(states);
        if self.recent.len() > RECENT {
            self.recent.drain(..self.recent.len() - RECENT);
        }
    }

    fn has_seen(&self, state: &State, pinned: &Pinned) -> bool {
        let earlier = self.recent.iter().rev().chain(&self.milestone);
        earlier.into_iter().any(|earlier| earlier.covers(state, pinned))
    }
}

/// A loop that is not proven to end, and what is missing for a proof.
#[expect(clippy::unnecessary_box_returns, reason = "it becomes an error, and those are boxed")]
pub(super) fn unbounded(
    function: FunctionIndex,
    instruction: u32,
    state: Option<State>,
    missing: String,
) -> Box<Failure> {
    let violation = Violation::Unbounded {
        limit: termination::LIMIT,
    };
    Box::new(Failure {
        function,
        instruction,
        refusal: Box::new(Refusal {
            reason: RejectionReason::Unsafe {
                violation: Box::new(violation),
                engine: missing,
            },
            registers: [None, None],
        }),
        state: state.map(Box::new),
    })
}

#[expect(clippy::unnecessary_box_returns, reason = "it becomes an error, and those are boxed")]
fn failure(function: FunctionIndex, instruction: u32, refusal: Box<Refusal>, state: State) -> Box<Failure> {
    Box::new(Failure {
        function,
        instruction,
        refusal,
        state: Some(Box::new(state)),
    })
}

/// The register, if an instruction shifts it by 32 bits.
fn is_shift(op: &Instruction, by: AluOp) -> Option<Reg> {
    match *op {
        Instruction::Alu {
            size: WordSize::W64,
            op,
            dst,
            src: Operand::Imm(32),
        } if op == by => Some(dst),
        _ => None,
    }
}

/// A shift to the left and one back are an extension of the low half.
fn unshift(op: &Instruction, register: Reg, before: &Value, state: &mut State) {
    if !before.is_number() {
        return;
    }
    let (num, same) = if is_shift(op, AluOp::Rsh) == Some(register) {
        (before.num.zero_extended(), before.num.is_short())
    } else if is_shift(op, AluOp::Arsh) == Some(register) {
        let num = num::sign_extended(WordSize::W64, bpf2sys_bytecode::Extension::S32, &before.num);
        (num, num == before.num)
    } else {
        return;
    };
    state.set(register, if same { *before } else { Value::number(num) });
}

/// What a function gets that gets nothing of a frame.
fn arguments(state: &State) -> State {
    let mut own = state.clone();
    own.frames.truncate(0);
    for r in [0, 6, 7, 8, 9, 10] {
        own.registers[r] = Value::nothing(Why::Stack(None));
    }
    own.forget_loose();
    own
}

/// A number for the kinds of all values: states with different ones are not joined.
fn shape(state: &State) -> u64 {
    let code = |value: &Value| match value.kind {
        Kind::Nothing(_) => (0, 0, false),
        Kind::Number => (1, 0, false),
        Kind::Context => (2, 0, false),
        Kind::Packet => (3, 0, false),
        Kind::Stack(frame) => (4, frame, false),
        Kind::MapValue(table) => (5, table.map.0, table.made),
        Kind::Map(table) => (6, table.map.0, table.made),
        Kind::Programs(table) => (7, table.map.0, table.made),
        Kind::Opaque(opaque) => (8, opaque as u32, false),
    };
    let mut hasher = DefaultHasher::new();
    for value in state.registers.iter() {
        code(value).hash(&mut hasher);
    }
    for active in &state.frames {
        for value in &active.saved {
            code(value).hash(&mut hasher);
        }
        for cell in active.memory.cells().iter().filter(|cell| cell.value.kind.is_pointer()) {
            (cell.start, code(&cell.value)).hash(&mut hasher);
        }
    }
    hasher.finish()
}
