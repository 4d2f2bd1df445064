//! What the verification of a program took.

use std::time::{Duration, Instant};

use bpf2sys_bytecode::FunctionIndex;

/// A part of the work on one program. The names hold for any engine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// Checks that need no proof, and the control flow graph with what has to hold in it.
    Graph,
    /// The proof: what is known everywhere in the program, and whether it is enough.
    Proof,
    /// Rules of our own, on what the proof knows.
    Rules,
    /// Facts for the lowering.
    Facts,
    /// Of a rejected program: what was known, and how execution gets there.
    Explanation,
}

impl Stage {
    /// All of them, in the order in which they happen.
    pub const ALL: [Stage; 5] = [
        Stage::Graph,
        Stage::Proof,
        Stage::Rules,
        Stage::Facts,
        Stage::Explanation,
    ];

    /// Its name in tables.
    pub fn name(self) -> &'static str {
        match self {
            Stage::Graph => "graph",
            Stage::Proof => "proof",
            Stage::Rules => "rules",
            Stage::Facts => "facts",
            Stage::Explanation => "explanation",
        }
    }
}

/// What the verification of one program took, whatever the verdict. A stage that the program did not get to took no time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProgramCost {
    /// The program.
    pub program: FunctionIndex,
    /// Its 8-byte slots, with those of the functions that it reaches, each counted once.
    pub slots: u64,
    times: [Duration; Stage::ALL.len()],
}

impl ProgramCost {
    /// The time that a stage took.
    pub fn time(&self, stage: Stage) -> Duration {
        self.times[stage as usize]
    }

    /// The time that all stages took.
    pub fn total(&self) -> Duration {
        self.times.iter().sum()
    }
}

/// Takes the times. One that is off never asks for the time.
#[derive(Debug)]
pub(crate) struct Stopwatch {
    running: Option<(Stage, Instant)>,
    times: [Duration; Stage::ALL.len()],
}

impl Stopwatch {
    /// One that is on runs from now on, for [`Stage::Graph`].
    pub fn new(on: bool) -> Stopwatch {
        Stopwatch {
            running: on.then(|| (Stage::Graph, Instant::now())),
            times: [Duration::ZERO; Stage::ALL.len()],
        }
    }

    /// From now on the work is that of another stage.
    pub fn enter(&mut self, stage: Stage) {
        if let Some((last, since)) = self.running {
            let now = Instant::now();
            self.times[last as usize] += now - since;
            self.running = Some((stage, now));
        }
    }

    /// The work is done. Nothing, if it is off.
    pub fn stop(mut self, program: FunctionIndex, slots: u64) -> Option<ProgramCost> {
        let (last, since) = self.running?;
        self.times[last as usize] += since.elapsed();
        Some(ProgramCost {
            program,
            slots,
            times: self.times,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_stage_has_the_time_between_its_start_and_the_next() {
        let mut watch = Stopwatch::new(true);
        std::thread::sleep(Duration::from_millis(3));
        watch.enter(Stage::Proof);
        watch.enter(Stage::Facts);
        std::thread::sleep(Duration::from_millis(2));
        let cost = watch.stop(FunctionIndex(7), 5).expect("it is on");
        assert_eq!((cost.program, cost.slots), (FunctionIndex(7), 5));
        assert!(cost.time(Stage::Graph) >= Duration::from_millis(3), "{cost:?}");
        assert!(cost.time(Stage::Facts) >= Duration::from_millis(2), "{cost:?}");
        assert!(cost.time(Stage::Proof) < cost.time(Stage::Facts), "{cost:?}");
        assert_eq!(cost.time(Stage::Rules), Duration::ZERO);
        assert_eq!(cost.total(), Stage::ALL.iter().map(|s| cost.time(*s)).sum());
    }

    #[test]
    fn one_that_is_off_tells_nothing() {
        let mut watch = Stopwatch::new(false);
        watch.enter(Stage::Proof);
        assert_eq!(watch.stop(FunctionIndex(0), 1), None);
    }
}
