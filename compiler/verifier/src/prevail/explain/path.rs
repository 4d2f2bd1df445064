//! One path on which a check fails.
//!
//! Given: the graph, the states that the analysis ended with, and the point of the failure. Computed: a path from the
//! entry to it, on which the check fails when nothing but this path is executed.
//!
//! The shortest path is tried first. If it does not fail, the search goes backward. At each place where edges meet it takes
//! the first edge whose state, carried along the path found so far, still makes the check fail. The states of the analysis
//! cover all executions, so an edge that does not lead to the failure by them is on no path that fails, and where none does
//! no single path fails: then it is only the join of states that the engine could not prove safe. Edges nearer to the entry
//! come first, so a loop is gone round as seldom as possible. A path that has reached the entry is executed once more from
//! there, which is what decides.
//!
//! The search gives up after a fixed number of executed instructions, so that what it finds depends on nothing but the
//! program; and earlier where the time limit is near, because a rejection is worth more than how it comes about.

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Instant;

use prevail::cfg::graph::Cfg;
use prevail::cfg::label::Label;
use prevail::crab::ebpf_domain::{DomainContext, EbpfDomain, ebpf_domain_transform};
use prevail::crab::var_registry::VariableRegistry;
use prevail::ir::syntax::Instruction;
use prevail::result::AnalysisResult;

use crate::prevail::meaning::Meaning;

/// What the search found.
pub(super) enum Found {
    /// A path that fails, from the entry to the point, both included, and the state before the point.
    Path(Vec<Label>, Box<EbpfDomain>),
    /// No single path fails.
    OnlyTogether,
    /// The search was given up.
    GivenUp,
}

/// What a search works on.
pub(super) struct Search<'s> {
    pub meaning: &'s Meaning<'s>,
    pub result: &'s AnalysisResult,
    pub context: &'s DomainContext<'s>,
    pub names: &'s mut VariableRegistry,
    pub effort: Effort,
}

/// What a search may take.
#[derive(Clone, Copy)]
pub(in crate::prevail) struct Allowance {
    /// Instructions that it may execute.
    pub steps: usize,
    /// When it ends at the latest.
    pub until: Option<Instant>,
}

/// What is left of an [`Allowance`].
pub(super) struct Effort(Cell<Allowance>);

/// The search may take no more.
pub(super) struct NothingLeft;

impl Effort {
    pub fn new(allowance: Allowance) -> Effort {
        Effort(Cell::new(allowance))
    }

    /// One more instruction.
    pub fn spend(&self) -> Result<(), NothingLeft> {
        let Allowance { steps, until } = self.0.get();
        let late = until.is_some_and(|until| Instant::now() >= until);
        let steps = steps.checked_sub(1).filter(|_| !late).ok_or(NothingLeft)?;
        self.0.set(Allowance { steps, until });
        Ok(())
    }
}

impl Search<'_> {
    /// Searches for a path to `point` on which `fails` says so of the state there.
    pub fn find(&mut self, point: &Label, fails: &mut Fails<'_>) -> Found {
        let depths = depths(self.meaning.cfg());
        let shortest = self.shortest(point, fails, &depths);
        match shortest
            .and_then(|found| found.map_or_else(|| self.search(point, fails, &depths), |found| Ok(Some(found))))
        {
            Ok(Some((path, state))) => Found::Path(path, Box::new(state)),
            Ok(None) => Found::OnlyTogether,
            Err(NothingLeft) => Found::GivenUp,
        }
    }

    /// The shortest path, if it fails. Most failures are of this kind, and it takes one execution to see.
    fn shortest(
        &mut self,
        point: &Label,
        fails: &mut Fails<'_>,
        depths: &BTreeMap<Label, usize>,
    ) -> Result<Option<(Vec<Label>, EbpfDomain)>, NothingLeft> {
        let entry = self.meaning.cfg().entry_label();
        let mut path = vec![point.clone()];
        let mut last = point.clone();
        while last != entry {
            let Some(before) = self.edges(&last, depths).pop() else {
                return Ok(None);
            };
            if depths.get(&before) >= depths.get(&last) {
                return Ok(None);
            }
            path.push(before.clone());
            last = before;
        }
        path.reverse();
        let Some(start) = self.result.invariants.get(&entry).map(|states| states.pre.clone()) else {
            return Ok(None);
        };
        let state = self.execute(start, path.iter(), fails)?;
        Ok(state.map(|state| (path, state)))
    }

    fn search(
        &mut self,
        point: &Label,
        fails: &mut Fails<'_>,
        depths: &BTreeMap<Label, usize>,
    ) -> Result<Option<(Vec<Label>, EbpfDomain)>, NothingLeft> {
        let entry = self.meaning.cfg().entry_label();
        // The path so far, backward, and the edges into each of its labels that are still to be tried, best last.
        let mut path = vec![point.clone()];
        let mut open = vec![self.edges(point, depths)];
        while let Some(edges) = open.last_mut() {
            let Some(before) = edges.pop() else {
                open.pop();
                path.pop();
                continue;
            };
            let alone = edges.is_empty() && self.edges(&path[path.len() - 1], depths).len() == 1;
            let start = self.result.invariants.get(&before).map(|states| states.post.clone());
            let Some(start) = start else { continue };
            if before == entry {
                if let Some(state) = self.execute(start, path.iter().rev(), fails)? {
                    path.push(before);
                    path.reverse();
                    return Ok(Some((path, state)));
                }
            } else if alone || self.execute(start, path.iter().rev(), fails)?.is_some() {
                open.push(self.edges(&before, depths));
                path.push(before);
            }
        }
        Ok(None)
    }

    /// Where a label is reached from, nearest to the entry last.
    fn edges(&self, label: &Label, depths: &BTreeMap<Label, usize>) -> Vec<Label> {
        let reached = |from: &&Label| {
            let states = self.result.invariants.get(*from);
            states.is_some_and(|states| !states.post.is_bottom())
        };
        let mut edges: Vec<Label> = self
            .meaning
            .cfg()
            .parents_of(label)
            .iter()
            .filter(reached)
            .cloned()
            .collect();
        edges.sort_by_key(|from| std::cmp::Reverse((depths.get(from).copied(), from.clone())));
        edges
    }

    /// The state before the last label of a path that starts with `state`, if the check fails there.
    fn execute<'l>(
        &mut self,
        mut state: EbpfDomain,
        path: impl ExactSizeIterator<Item = &'l Label>,
        fails: &mut Fails<'_>,
    ) -> Result<Option<EbpfDomain>, NothingLeft> {
        let mut left = path.len();
        for label in path {
            left -= 1;
            if left == 0 {
                return Ok(fails(&state, self.names).then_some(state));
            }
            self.effort.spend()?;
            let instruction = self.meaning.instruction_at(label);
            if ebpf_domain_transform(&mut state, instruction, self.context, self.names).is_err() || state.is_bottom() {
                break;
            }
        }
        Ok(None)
    }
}

/// Whether the check fails in a state.
pub(super) type Fails<'f> = dyn FnMut(&EbpfDomain, &mut VariableRegistry) -> bool + 'f;

/// How many edges each label is from the entry, on the shortest way.
fn depths(cfg: &Cfg) -> BTreeMap<Label, usize> {
    let mut depths = BTreeMap::from([(cfg.entry_label(), 0)]);
    let mut next = VecDeque::from([cfg.entry_label()]);
    while let Some(label) = next.pop_front() {
        let depth = depths.get(&label).map_or(0, |depth| depth + 1);
        for child in cfg.children_of(&label) {
            if !depths.contains_key(child) {
                depths.insert(child.clone(), depth);
                next.push_back(child.clone());
            }
        }
    }
    depths
}

/// How many labels are visited to see which are on every path.
const VISITS: usize = 400_000;

/// The jumps, calls and loops that are on every path from the entry to `point`, in order; `point` is last.
pub(super) fn on_every_path(meaning: &Meaning<'_>, result: &AnalysisResult, point: &Label) -> Vec<Label> {
    let cfg = meaning.cfg();
    let entry = cfg.entry_label();
    let reached = |label: &Label| {
        let states = result.invariants.get(label);
        states.is_some_and(|states| !states.pre.is_bottom())
    };
    // Each label, with the one it is first reached from, on paths without one label.
    let walk = |without: Option<&Label>| {
        let mut from: BTreeMap<Label, Label> = BTreeMap::new();
        let mut next = VecDeque::from([entry.clone()]);
        while let Some(label) = next.pop_front() {
            for child in cfg.children_of(&label) {
                if Some(child) != without && *child != entry && reached(child) && !from.contains_key(child) {
                    from.insert(child.clone(), label.clone());
                    next.push_back(child.clone());
                }
            }
        }
        from
    };
    let from = walk(None);
    let mut path = vec![point.clone()];
    while let Some(before) = path.last().and_then(|label| from.get(label)) {
        path.push(before.clone());
    }
    path.reverse();
    path.retain(|label| {
        let instruction = meaning.instruction_at(label);
        let told = matches!(
            instruction,
            Instruction::Assume(_) | Instruction::CallLocal(_) | Instruction::IncrementLoopCounter(_)
        );
        told || label == point
    });
    // To ask of one label takes a walk over the graph: of a long path in a large one, only the end is asked.
    let excess = path.len().saturating_sub(VISITS / cfg.size().max(1));
    path.drain(..excess.min(path.len() - 1));
    path.retain(|label| label == point || !walk(Some(label)).contains_key(point));
    path
}

/// The edges out of the loop that counts its rounds at `counter`, in the order of the code.
pub(super) fn exits(cfg: &Cfg, counter: &Label) -> Vec<Label> {
    let walk = |next: &dyn Fn(&Label) -> Vec<Label>| {
        let mut seen = BTreeSet::from([counter.clone()]);
        let mut todo = vec![counter.clone()];
        while let Some(label) = todo.pop() {
            for other in next(&label) {
                if seen.insert(other.clone()) {
                    todo.push(other);
                }
            }
        }
        seen
    };
    let behind = walk(&|label| cfg.children_of(label).iter().cloned().collect());
    let before = walk(&|label| cfg.parents_of(label).iter().cloned().collect());
    let inside: BTreeSet<&Label> = behind.intersection(&before).collect();
    let leaves = |label: &&Label| !inside.contains(label) && cfg.parents_of(label).iter().any(|p| inside.contains(p));
    behind.iter().filter(leaves).cloned().collect()
}
