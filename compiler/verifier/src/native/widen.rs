//! Rounds of a loop that are taken together.
//!
//! The head of the loop gets one state for all rounds, or a few with values of different kinds, and the loop is walked again until
//! what comes back is covered. What changes from round to round is widened, so that this ends.

use super::num::Num;
use super::state::{Ids, Pinned, Place, State, Term};
use super::value::{FIRST, Id, NONE};

/// The states at the head of a loop, for all rounds that are taken together.
pub(super) struct Heads {
    list: Vec<Head>,
    /// How often the loop was walked with them.
    rounds: u32,
}

/// The state for one combination of kinds.
pub(super) struct Head {
    shape: u64,
    pub state: State,
    /// What may count the rounds.
    pub measures: Vec<Measure>,
}

/// A number at the head of a loop, or a distance.
#[derive(Clone, Copy, Debug)]
pub(super) struct Measure {
    pub place: Place,
    pub id: Id,
    pub delta: i64,
}

/// Walks before ranges are widened.
const PATIENCE: u32 = 3;
/// After so many walks a number that still changes may be anything, and after twice as many nothing relates to anything.
const MOST_ROUNDS: u32 = 24;

impl Heads {
    /// Those of the first walk, one for each combination of kinds.
    pub fn new(groups: Vec<(u64, State)>, ids: &mut Ids) -> Heads {
        Heads {
            list: groups
                .into_iter()
                .map(|(shape, state)| Head::new(shape, state, ids))
                .collect(),
            rounds: 0,
        }
    }

    /// Those of the first walk of a loop that was walked before, from other states: what changed then is as wide from the start. The
    /// names are those of the states, by which loops around this one measure.
    pub fn again(mut groups: Vec<(u64, State)>, before: &Heads, ids: &mut Ids) -> Heads {
        for (shape, state) in &mut groups {
            let Some(old) = before.list.iter().find(|head| head.shape == *shape) else {
                continue;
            };
            state.replace_numbers(|place, num| match old.state.value_at(place) {
                Some(value) if !value.kind.is_nothing() => num.join(&value.num),
                _ => *num,
            });
        }
        Heads {
            rounds: PATIENCE,
            ..Heads::new(groups, ids)
        }
    }

    pub fn states(&self) -> impl Iterator<Item = &State> {
        self.list.iter().map(|head| &head.state)
    }

    pub fn list(&self) -> &[Head] {
        &self.list
    }

    /// The names of what may count.
    pub fn identities(&self) -> Vec<Id> {
        self.list
            .iter()
            .flat_map(|head| &head.measures)
            .map(|measure| measure.id)
            .collect()
    }

    /// Whether every state is covered by one of these.
    pub fn cover(&self, states: &[State], pinned: &Pinned) -> bool {
        states
            .iter()
            .all(|state| self.list.iter().any(|head| head.state.covers(state, pinned)))
    }
}

impl Head {
    fn new(shape: u64, mut state: State, ids: &mut Ids) -> Head {
        state.identify_all(ids);
        let measures = state
            .places()
            .filter(|(_, value)| value.id >= FIRST && value.num.constant().is_none())
            .map(|(place, value)| Measure {
                place,
                id: value.id,
                delta: value.delta,
            })
            .collect();
        Head { shape, state, measures }
    }
}

/// The heads for the next walk: those of the last one, with what came back, one state for each combination of kinds. The first
/// walks join only; if there are more than `most` combinations, all become one.
pub(super) fn wider(
    old: Heads,
    groups: Vec<(u64, State)>,
    thresholds: &[i64],
    (ids, pinned): (&mut Ids, &Pinned),
    most: usize,
) -> Heads {
    let rounds = old.rounds + 1;
    let mut list: Vec<(u64, State)> = old.list.into_iter().map(|head| (head.shape, head.state)).collect();
    for (shape, state) in groups {
        match list.iter_mut().find(|(other, _)| *other == shape) {
            Some((_, head)) if head.covers(&state, pinned) => {}
            Some((_, head)) => {
                let joined = head.join(&state, ids);
                *head = if rounds < PATIENCE {
                    joined
                } else {
                    widened(head, joined, &state, thresholds, rounds)
                };
            }
            None => list.push((shape, state)),
        }
    }
    if list.len() > most {
        let mut states = std::mem::take(&mut list).into_iter();
        if let Some((shape, first)) = states.next() {
            let all = states.fold(first, |all, (_, state)| all.join(&state, ids));
            list.push((shape, all));
        }
    }
    let mut heads = Heads::new(list, ids);
    heads.rounds = rounds;
    heads
}

/// A state that covers the old one and the new one, so much wider than the old one that few more steps follow.
fn widened(old: &State, mut joined: State, new: &State, thresholds: &[i64], rounds: u32) -> State {
    // Counters are often compared with numbers that do not change.
    let mut ends: Vec<i64> = thresholds.to_vec();
    for (place, value) in new.places() {
        let Some(before) = old.value_at(place).map(|before| before.num.signed()) else {
            continue;
        };
        let (low, high) = value.num.signed();
        for end in [(low == before.0).then_some(low), (high == before.1).then_some(high)]
            .into_iter()
            .flatten()
        {
            ends.extend([end.saturating_sub(1), end, end.saturating_add(1)]);
        }
    }
    ends.sort_unstable();
    ends.dedup();
    let widen = |now: &Num, before: Option<&Num>| match before {
        Some(before) if before == now => *now,
        _ if rounds > MOST_ROUNDS => Num::ANY,
        Some(before) => now.widened(before, &ends),
        None => *now,
    };
    joined.replace_numbers(|place, num| widen(num, old.value_at(place).map(|value| &value.num)));
    let (low, high) = joined.packet_size.unsigned();
    if joined.packet_size != old.packet_size {
        joined.packet_size = Num::within(if old.packet_size.unsigned().0 > low { 0 } else { low }..=high);
    }
    // A relation that has become weaker would become weaker still.
    let stable: Vec<_> = joined
        .relations
        .iter()
        .filter(|relation| {
            let before = |id: Id| {
                if id < FIRST {
                    return Some(Term::identity(id));
                }
                let (place, value) = joined.places().find(|(_, value)| value.id == id && value.id != NONE)?;
                let delta = value.delta.checked_neg()?;
                old.value_at(place).and_then(|value| Term::moved(value, delta))
            };
            match (before(relation.a), before(relation.b)) {
                (Some(a), Some(b)) => {
                    rounds <= 2 * MOST_ROUNDS && old.most(a, b).is_some_and(|most| most >= relation.most)
                }
                _ => false,
            }
        })
        .copied()
        .collect();
    joined.relations = std::rc::Rc::new(stable);
    joined
}

#[cfg(test)]
mod tests {
    use bpf2sys_bytecode::Reg;

    use super::super::state::tests::{named, state};
    use super::*;

    #[test]
    fn heads_cover_all_states_that_come_back() {
        let ids = &mut Ids::default();
        let with = |high: i64| state(&[(6, named(NONE, 0, 0..=high))]);
        let heads = Heads::new(vec![(1, with(3))], ids);
        let pinned = Pinned::default();
        assert!(heads.cover(&[], &pinned) && heads.cover(&[with(2), with(3)], &pinned));
        assert!(!heads.cover(&[with(2), with(7)], &pinned));
        assert!(!heads.cover(&[with(7), with(2)], &pinned));
    }

    #[test]
    fn heads_for_the_next_walk_cover_those_before_and_what_came_back() {
        let pinned = Pinned::default();
        for walks in 1..30 {
            let ids = &mut Ids::default();
            let with = |round: i64| State {
                packet_size: Num::between(50 - round..=100 + round),
                ..state(&[(6, named(NONE, 0, -round..=round)), (7, named(NONE, 0, 0..=3))])
            };
            let mut heads = Heads::new(vec![(1, with(0))], ids);
            for round in 1..=walks {
                heads = wider(
                    heads,
                    vec![(1, with(round))],
                    &[i64::MIN, 0, 9, i64::MAX],
                    (ids, &pinned),
                    8,
                );
                assert!(heads.cover(&[with(round - 1), with(round)], &pinned), "{walks} {round}");
            }
            let other = heads.list()[0].state.register(Reg::R0);
            assert!(other.kind.is_nothing());
        }
    }
}
