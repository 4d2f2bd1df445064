//! What verification took, for people who wonder why it takes long.

use std::fmt;
use std::time::Duration;

use bpf2sys_verifier::{ProgramCost, Stage};

use crate::messages::printable;

/// What the verification of an object took. No two runs give the same, so it is part of no result.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Timings {
    /// The time it took to read the object.
    pub reading: Duration,
    /// Of each program that has a verdict, in file order.
    pub programs: Vec<ProgramTimes>,
}

/// What the verification of a program took.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProgramTimes {
    /// Name of the program.
    pub program: String,
    /// What it took.
    pub cost: ProgramCost,
}

impl fmt::Display for Timings {
    /// A table in milliseconds, the slowest program first.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ms = |time: Duration| time.as_secs_f64() * 1000.0;
        let mut slowest: Vec<&ProgramTimes> = self.programs.iter().collect();
        slowest.sort_by_key(|p| std::cmp::Reverse(p.cost.total()));
        let all: Duration = slowest.iter().map(|p| p.cost.total()).sum();
        let (count, plural) = (slowest.len(), if slowest.len() == 1 { "" } else { "s" });
        writeln!(
            f,
            "read in {:.1} ms; {count} program{plural} with a verdict in {:.1} ms of work",
            ms(self.reading),
            ms(all)
        )?;
        write!(f, "{:>10} {:>7}", "total/ms", "slots")?;
        for stage in Stage::ALL {
            write!(f, " {:>11}", stage.name())?;
        }
        writeln!(f, "  program")?;
        for program in slowest {
            write!(f, "{:>10.1} {:>7}", ms(program.cost.total()), program.cost.slots)?;
            for stage in Stage::ALL {
                write!(f, " {:>11.1}", ms(program.cost.time(stage)))?;
            }
            writeln!(f, "  {}", printable(&program.program))?;
        }
        Ok(())
    }
}
