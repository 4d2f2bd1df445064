//! What runs cost: instructions, or time.

use std::collections::BTreeMap;
use std::fmt::Write as _;

/// How many of the dearest inputs are told.
const DEAREST: usize = 5;

/// What costs are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Unit {
    /// The same whenever the same is run.
    #[default]
    Instructions,
    /// In nanoseconds. The machine has other things to do, too: of one input, the shortest time says most.
    Time,
}

/// A run of an input.
#[derive(Clone, Copy, Debug)]
struct Run {
    /// Which input it was.
    input: u64,
    cost: u64,
    /// From 1.
    number: u64,
    /// The number of the packet in its file.
    packet: Option<u64>,
}

/// What all runs cost.
#[derive(Default)]
pub(super) struct Cost {
    runs: u64,
    sum: u64,
    /// How many runs there were of each cost.
    counts: BTreeMap<u64, u64>,
    unit: Unit,
    /// The run that counts of the input that is run now.
    current: Option<Run>,
    /// Of other inputs, the dearest ones, the dearest first.
    dearest: Vec<Run>,
}

impl Cost {
    pub(super) fn new(unit: Unit) -> Cost {
        Cost {
            unit,
            ..Cost::default()
        }
    }

    /// Adds a run of an input, if its cost is known. Runs of one input follow each other.
    pub(super) fn add(&mut self, number: u64, (input, packet): (u64, Option<u64>), cost: Option<u64>) {
        let Some(cost) = cost else { return };
        self.runs += 1;
        self.sum += cost;
        *self.counts.entry(cost).or_default() += 1;
        let run = Run {
            input,
            cost,
            number,
            packet,
        };
        match &mut self.current {
            Some(known) if known.input == input => {
                let counts = match self.unit {
                    Unit::Instructions => cost > known.cost,
                    Unit::Time => cost < known.cost,
                };
                if counts {
                    *known = run;
                }
            }
            _ => {
                let last = self.current.replace(run);
                self.dearest = self.ranked(last);
            }
        }
    }

    /// The dearest inputs with another one.
    fn ranked(&self, with: Option<Run>) -> Vec<Run> {
        let mut all: Vec<Run> = self.dearest.iter().copied().chain(with).collect();
        // Of equal ones, those that came first: sorting keeps their order.
        all.sort_by_key(|run| std::cmp::Reverse(run.cost));
        all.truncate(DEAREST);
        all
    }

    /// The sum, if anything was added.
    pub(super) fn sum(&self) -> Option<u64> {
        (self.runs > 0).then_some(self.sum)
    }

    pub(super) fn mean(&self) -> f64 {
        self.sum as f64 / self.runs.max(1) as f64
    }

    /// What half of the runs cost at most.
    pub(super) fn median(&self) -> u64 {
        let mut left = self.runs.div_ceil(2);
        for (cost, count) in &self.counts {
            if left <= *count {
                return *cost;
            }
            left -= count;
        }
        0
    }

    /// The least and the most.
    pub(super) fn range(&self) -> (u64, u64) {
        let ends = self.counts.first_key_value().zip(self.counts.last_key_value());
        ends.map_or((0, 0), |((least, _), (most, _))| (*least, *most))
    }

    /// Tells people, if there is more to tell than of each run.
    pub(super) fn tell(&self, text: &mut String) {
        if self.runs < 2 {
            return;
        }
        let (what, unit) = match self.unit {
            Unit::Instructions => ("instructions", ""),
            Unit::Time => ("time", " ns"),
        };
        let (least, most) = self.range();
        let (mean, median) = (self.mean(), self.median());
        let _ = writeln!(
            text,
            "{what}: {least} to {most}{unit}, {mean:.1} in the mean, {median} in the median"
        );
        let dearest = self.ranked(self.current);
        let told = dearest.iter().map(|run| match run.packet {
            Some(packet) if packet != run.number => format!("run {} (packet {packet}) {}{unit}", run.number, run.cost),
            _ => format!("run {} {}{unit}", run.number, run.cost),
        });
        let _ = writeln!(text, "most {what}: {}", told.collect::<Vec<_>>().join(", "));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn means_medians_and_the_dearest_inputs() {
        let mut cost = Cost::default();
        for (run, value) in (1..).zip([7, 3, 9, 3, 9, 1, 8, 2]) {
            cost.add(run, (run, (run > 1).then_some(run - 1)), Some(value));
        }
        cost.add(9, (9, None), None);
        assert_eq!((cost.sum(), cost.median(), cost.range()), (Some(42), 3, (1, 9)));
        let mut text = String::new();
        cost.tell(&mut text);
        assert_eq!(
            text,
            "instructions: 1 to 9, 5.2 in the mean, 3 in the median\n\
             most instructions: run 3 (packet 2) 9, run 5 (packet 4) 9, run 7 (packet 6) 8, run 1 7, run 2 (packet 1) 3\n"
        );
    }

    #[test]
    fn of_an_input_that_is_repeated_one_run_counts() {
        for (unit, told) in [
            (Unit::Instructions, "most instructions: run 2 9, run 5 5\n"),
            (Unit::Time, "most time: run 4 4 ns, run 3 2 ns\n"),
        ] {
            let (mut cost, mut text) = (Cost::new(unit), String::new());
            for (run, value) in (1..).zip([3, 9, 2, 4, 5]) {
                cost.add(run, ((run - 1) / 3, None), Some(value));
            }
            cost.tell(&mut text);
            assert!(text.ends_with(told), "{text}");
        }
    }

    #[test]
    fn of_one_run_and_of_none_nothing_is_told() {
        let (mut cost, mut text) = (Cost::default(), String::new());
        cost.tell(&mut text);
        assert_eq!((cost.sum(), cost.median(), cost.range()), (None, 0, (0, 0)));
        cost.add(1, (1, None), Some(4));
        cost.tell(&mut text);
        assert_eq!((text.as_str(), cost.median()), ("", 4));
    }
}
