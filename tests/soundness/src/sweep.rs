//! Many programs, on all processors.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::{self, Display, Formatter};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bpf2sys_bytecode::Module;

use crate::features::Feature;
use crate::generate::generate;
use crate::judge::{Hole, Judge, Judged, Verdict};
use crate::shrink::shrink;

/// Holes after which a sweep ends early.
const ENOUGH: usize = 5;

/// Which programs to judge.
#[derive(Clone, Copy, Debug)]
pub struct Request {
    /// Seed of all programs.
    pub seed: u64,
    /// Number of the first program.
    pub first: u64,
    /// How many.
    pub count: u64,
    /// Threads.
    pub threads: usize,
}

/// What a sweep found.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// Programs that were judged.
    pub programs: u64,
    /// Their instructions.
    pub instructions: u64,
    /// Those that were accepted.
    pub accepted: u64,
    /// Of those without an intended mistake: all, and the accepted ones.
    pub intact: (u64, u64),
    /// Instructions that were executed.
    pub steps: u64,
    /// How many of the accepted programs did what.
    pub features: BTreeMap<Feature, u64>,
    /// By section: all programs, and the accepted ones.
    pub sections: BTreeMap<String, (u64, u64)>,
    /// Why programs were rejected: how many, and the first.
    pub rejected: BTreeMap<String, (u64, u64)>,
    /// Time in the verifier, over all threads.
    pub verifying: Duration,
    /// Time in runs, over all threads.
    pub running: Duration,
    /// The programs that took most time.
    pub slowest: Vec<(Duration, u64)>,
    /// What was found, by number of the program: one of each kind, shrunk.
    pub holes: Vec<Found>,
}

/// A program that was accepted and misbehaves.
#[derive(Clone, Debug)]
pub struct Found {
    /// Seed of the sweep.
    pub seed: u64,
    /// Number of the program.
    pub index: u64,
    /// The program.
    pub module: Module,
    /// What it does.
    pub hole: Hole,
}

impl Display for Found {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "program {} of seed {} is accepted, {}",
            self.index, self.seed, self.hole
        )?;
        writeln!(f, "  section {}", self.module.functions[0].section)?;
        for (i, map) in self.module.maps.iter().enumerate() {
            let d = map.definition;
            writeln!(
                f,
                "  map {i}: type {}, key {}, value {}, entries {}, inner {:?}",
                d.map_type, d.key_size, d.value_size, d.max_entries, map.inner
            )?;
        }
        for (position, function) in self.module.functions.iter().enumerate() {
            writeln!(f, "  function {position}:")?;
            for insn in &function.instructions {
                writeln!(f, "  {:4}  {}", insn.slot, insn.op)?;
            }
        }
        write!(
            f,
            "  again: bpf2sys-soundness --seed {} --first {} --count 1",
            self.seed, self.index
        )
    }
}

/// Judges the programs; `progress` is told now and then how many are done.
pub fn sweep(judge: &Judge, request: Request, progress: &(dyn Fn(u64) + Sync)) -> Report {
    let (next, end) = (
        AtomicU64::new(request.first),
        request.first.saturating_add(request.count),
    );
    let report = Mutex::new(Report::default());
    let lock = || report.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    std::thread::scope(|scope| {
        for _ in 0..request.threads.max(1) {
            scope.spawn(|| {
                loop {
                    let index = next.fetch_add(1, Ordering::Relaxed);
                    if index >= end || lock().holes.len() >= ENOUGH {
                        return;
                    }
                    let generated = generate(request.seed, index);
                    let judged = judge.judge(&generated.module, inputs_of(request.seed, index));
                    let mut report = lock();
                    report.add(request.seed, index, generated.module, generated.mistakes, judged);
                    if report.programs.is_multiple_of(100) {
                        progress(report.programs);
                    }
                }
            });
        }
    });
    let mut report = report.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
    report.holes.sort_by_key(|found| found.index);
    // The first of each kind is enough to read.
    let mut kinds = BTreeSet::new();
    report.holes.retain(|found| kinds.insert(found.hole.kind));
    for found in &mut report.holes {
        let seed = inputs_of(found.seed, found.index);
        (found.module, found.hole) = shrink(judge, found.module.clone(), found.hole.clone(), seed);
    }
    report
}

/// The seed of a program's inputs.
pub fn inputs_of(seed: u64, index: u64) -> u64 {
    seed.rotate_left(32) ^ index
}

impl Report {
    fn add(&mut self, seed: u64, index: u64, module: Module, mistakes: u32, judged: Judged) {
        let Judged {
            verdict,
            verifying,
            running,
        } = judged;
        self.verifying += verifying;
        self.running += running;
        self.slowest.push((verifying + running, index));
        self.slowest.sort_by(|a, b| b.cmp(a));
        self.slowest.truncate(8);
        self.programs += 1;
        self.instructions += module
            .functions
            .iter()
            .map(|f| f.instructions.len() as u64)
            .sum::<u64>();
        let accepted = !matches!(verdict, Verdict::Rejected(_));
        let section = self.sections.entry(module.functions[0].section.clone()).or_default();
        section.0 += 1;
        section.1 += u64::from(accepted);
        self.accepted += u64::from(accepted);
        if mistakes == 0 {
            self.intact.0 += 1;
            self.intact.1 += u64::from(accepted);
        }
        match verdict {
            Verdict::Rejected(reason) => {
                let entry = self.rejected.entry(without_numbers(&reason)).or_insert((0, index));
                *entry = (entry.0 + 1, entry.1.min(index));
            }
            Verdict::Harmless { seen, steps, .. } => {
                self.steps += steps;
                for feature in seen {
                    *self.features.entry(feature).or_default() += 1;
                }
            }
            Verdict::Hole(hole) => self.holes.push(Found {
                seed,
                index,
                module,
                hole,
            }),
        }
    }
}

/// A reason with `#` for its numbers, to count those that differ in nothing else.
fn without_numbers(reason: &str) -> String {
    let mut text = String::with_capacity(reason.len());
    for c in reason.chars() {
        let c = if c.is_ascii_digit() { '#' } else { c };
        if c != '#' || !text.ends_with('#') {
            text.push(c);
        }
    }
    text
}
