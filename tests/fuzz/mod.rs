//! Inputs that fuzzing found, once more (`tests/fuzz/README.md`).

mod targets;

use std::panic::catch_unwind;

use libtest_mimic::{Failed, Trial};

use crate::support::test;
use targets::{TARGETS, Target};

pub fn trials() -> Vec<Trial> {
    TARGETS
        .iter()
        .map(|target| {
            test(&format!("fuzz::{}_takes_what_was_found", target.name), move || {
                replay(target)
            })
        })
        .collect()
}

/// Runs all inputs of a target: those it starts with, and those that were found.
fn replay(target: &'static Target) -> Result<(), Failed> {
    let (seeds, found) = ((target.seeds)(), target.corpus()?);
    if seeds.is_empty() || found.is_empty() {
        return Err(format!("{} seeds, {} inputs found", seeds.len(), found.len()).into());
    }
    for (kind, inputs) in [("seed", seeds), ("found", found)] {
        for (number, input) in inputs.iter().enumerate() {
            catch_unwind(|| (target.run)(input))
                .map_err(|_| format!("it panics on {kind}{number}, as `corpus unpack` names it"))?;
        }
    }
    Ok(())
}
