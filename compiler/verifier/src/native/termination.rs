//! Why loops end.
//!
//! Given: the states at the head of a loop for all its rounds, and those that come back to it. Computed: a bound of the
//! number of rounds.
//! Safe because: each round moves some number towards an end that it never passes. What comes back has the names of the
//! numbers at the head, and so it is known by how much each has moved.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::rc::Rc;

use bpf2sys_bytecode::FunctionIndex;

use super::plan::Plan;
use super::state::State;
use super::widen::{Head, Heads, Measure};

/// How often execution may come back to the head of one loop in a run of the program. (PREVAIL's limit, which eBPF for Windows
/// has.)
pub(super) const LIMIT: u64 = 100_000;

/// Directions in which a number can move.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Direction {
    Up,
    Down,
}

/// How often the states can come back, one after the other.
///
/// Some number never moves back, and some rounds move it on: there can only be as many of these as there are numbers between
/// its ends. Between two of them there are only other rounds, for which the same is asked again.
///
/// # Errors
/// What is missing for a proof, in words.
pub(super) fn rounds(heads: &Heads, states: &[State]) -> Result<u64, String> {
    let mut left: Vec<&State> = states.iter().collect();
    let mut rounds: u64 = 1;
    let first = heads.list().first();
    while !left.is_empty() {
        let candidates = first.iter().flat_map(|head| &head.measures);
        let best = candidates
            .flat_map(|measure| [Direction::Up, Direction::Down].map(|direction| (measure, direction)))
            .filter_map(|(measure, direction)| moved(heads, measure, direction, &left))
            .min_by_key(|(steps, rest)| (rest.len(), *steps));
        let Some((steps, rest)) = best else {
            let which = if left.len() == states.len() {
                "each round"
            } else {
                "some rounds"
            };
            return Err(format!("in {which} of the loop no number moves on towards an end"));
        };
        rounds = rounds.saturating_mul(steps.saturating_add(1));
        left = rest;
    }
    if rounds - 1 > LIMIT {
        return Err("what counts the rounds of the loop has no end that is near enough".to_owned());
    }
    // The first number is not one that came back.
    Ok(rounds - 1)
}

/// If all states have a number where it was at the head or further on: how often it can move, and the states in which it may not
/// have moved. `None` if it moved in none.
fn moved<'s>(
    heads: &Heads,
    measure: &Measure,
    direction: Direction,
    states: &[&'s State],
) -> Option<(u64, Vec<&'s State>)> {
    if !tells_heads_apart(heads, measure) {
        return None;
    }
    let mut rest = Vec::new();
    let mut least = i64::MAX;
    for state in states {
        let step = step(heads, measure, direction, state)?;
        if step < 0 {
            return None;
        }
        if step == 0 {
            rest.push(*state);
        } else {
            least = least.min(step);
        }
    }
    if rest.len() == states.len() {
        return None;
    }
    // What comes back has a number between these ends, and each time another one.
    let ranges = states
        .iter()
        .map(|state| Some(state.value_at(measure.place)?.num.signed()));
    let (mut low, mut high) = (i64::MAX, i64::MIN);
    for range in ranges {
        let range = range?;
        (low, high) = (low.min(range.0), high.max(range.1));
    }
    let span = high.abs_diff(low);
    Some(((span / least.unsigned_abs()).saturating_add(1), rest))
}

/// How far a number has moved at least, in a state that came back.
fn step(heads: &Heads, measure: &Measure, direction: Direction, state: &State) -> Option<i64> {
    let value = state.value_at(measure.place)?;
    // From which head the state has come is known by the names that it has: no other head has given them. Where several
    // have the same, the worst counts.
    let mut worst: Option<i64> = None;
    for head in heads.list() {
        let own = same(head, measure)?;
        let back = match direction {
            Direction::Up => state.most_to_name(own.id, own.delta, value),
            Direction::Down => state.most_by_name(value, own.id, own.delta),
        };
        if let Some(back) = back {
            let step = back.checked_neg()?;
            worst = Some(worst.map_or(step, |worst| worst.min(step)));
        }
    }
    worst
}

/// Whether a name that a head gives the number means nothing at the other heads, or the same number. Otherwise what comes back
/// from one head could seem to have moved from where another one had it.
fn tells_heads_apart(heads: &Heads, measure: &Measure) -> bool {
    let list = heads.list();
    let own = |head| same(head, measure).map(|own| own.id);
    list.iter().all(|head| {
        own(head).is_some_and(|id| {
            list.iter()
                .all(|other| own(other) == Some(id) || !other.state.mentions(id))
        })
    })
}

/// The same number at another head.
fn same<'h>(head: &'h Head, measure: &Measure) -> Option<&'h Measure> {
    head.measures.iter().find(|own| own.place == measure.place)
}

/// How often loops go round.
#[derive(Default)]
pub(super) struct Passes {
    /// The most that one activation of a loop takes.
    loops: BTreeMap<(u32, u32), u64>,
    /// Calls, by caller and block.
    calls: BTreeSet<(u32, u32, u32)>,
}

impl Passes {
    /// An activation of the loop of this head comes to the head so often.
    pub fn record(&mut self, function: FunctionIndex, head: u32, passes: u64) {
        let most = self.loops.entry((function.0, head)).or_default();
        *most = (*most).max(passes);
    }

    /// A function is called in a block.
    pub fn call(&mut self, function: FunctionIndex, block: u32, callee: FunctionIndex) {
        self.calls.insert((function.0, block, callee.0));
    }

    /// The first loop whose head can be passed too often, with all loops around it.
    pub fn too_many(
        &self,
        program: FunctionIndex,
        plans: &HashMap<FunctionIndex, Rc<Plan>>,
    ) -> Option<(FunctionIndex, u32)> {
        // Calls do not nest deeper than frames, and never in a circle.
        let mut work = vec![(program, 1_u64)];
        let mut seen: BTreeSet<(u32, u64)> = BTreeSet::new();
        while let Some((function, times)) = work.pop() {
            if !seen.insert((function.0, times)) {
                continue;
            }
            let Some(plan) = plans.get(&function) else { continue };
            let heads = self.loops.range((function.0, 0)..=(function.0, u32::MAX));
            for head in heads.map(|((_, head), _)| *head) {
                if times.saturating_mul(self.around(function, plan, Some(head))) > LIMIT + 1 {
                    return Some((function, head));
                }
            }
            let first = (function.0, 0, 0);
            let last = (function.0, u32::MAX, u32::MAX);
            for (_, block, callee) in self.calls.range(first..=last) {
                let block = *block;
                let inner = if plan.block(block).again.is_some() {
                    Some(block)
                } else {
                    plan.block(block).within
                };
                work.push((
                    FunctionIndex(*callee),
                    times.saturating_mul(self.around(function, plan, inner)),
                ));
            }
        }
        None
    }

    /// How often the head of a loop is passed in an activation of its function.
    fn around(&self, function: FunctionIndex, plan: &Plan, mut head: Option<u32>) -> u64 {
        let mut times: u64 = 1;
        while let Some(inner) = head {
            times = times.saturating_mul(self.loops.get(&(function.0, inner)).copied().unwrap_or(1));
            head = plan.block(inner).within;
        }
        times
    }
}
