//! Our verdicts against those of C++ PREVAIL and of Linux on the corpus, under PREVAIL's own Linux platform, and runs of the
//! programs that we accept.
//!
//! The judge of every engine: it asks [`bpf2sys_verifier::verify`] and nothing behind it. Each difference is listed
//! with its reason in `tests/parity/differences.toml` or `tests/parity/kernel.toml`; one that is missing there fails, and one
//! that no longer occurs. The totals are in `tests/parity/README.md`, which these tests keep (`BLESS=1` rewrites them).

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use bpf2sys_verifier::Verifier;
use libtest_mimic::{Failed, Trial};
use serde::Deserialize;

use crate::support::{self, Need, root, test, test_with, written_page};

mod corpus;
mod fixtures;
#[cfg(target_os = "linux")]
mod kernel;
mod linux;
mod runs;
mod verdicts;

use corpus::{Objects, Theirs, recorded};
use verdicts::{agree, same_instruction, same_reason, verdict};

pub fn trials() -> Vec<Trial> {
    vec![
        test_with(
            "parity::verdicts_are_those_of_prevail_or_the_difference_has_a_reason",
            &[Need::Corpus("elf")],
            compare,
        ),
        #[cfg(target_os = "linux")]
        test_with(
            "parity::verdicts_are_those_of_linux_or_the_difference_has_a_reason",
            &[Need::Corpus("elf"), Need::Bpf],
            kernel::compare,
        ),
        test_with(
            "parity::accepted_programs_of_the_corpus_do_nothing_wrong",
            &[Need::Corpus("elf")],
            runs::run_all,
        ),
        test_with(
            "parity::wrong_programs_of_the_corpus_are_found",
            &[Need::Corpus("elf")],
            runs::find_what_is_wrong,
        ),
        test(
            "parity::fixtures_that_only_native_accepts_are_listed_and_do_nothing_wrong",
            fixtures::run_all,
        ),
    ]
}

/// Keeps the figures of all these tests; `BLESS=1` rewrites them.
const README: &str = "tests/parity/README.md";

/// The engines, by the names that `--verifier` has for them, without and with the proof that loops end.
const RUNS: [(&str, Verifier, bool); 4] = [
    ("prevail", Verifier::Prevail, false),
    ("prevail", Verifier::Prevail, true),
    ("native", Verifier::Native, false),
    ("native", Verifier::Native, true),
];

/// `differences.toml`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Differences {
    /// Why, by name.
    reasons: BTreeMap<String, String>,
    #[serde(default)]
    difference: Vec<Difference>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Difference {
    object: String,
    section: String,
    function: String,
    /// Ours: `accepted`, or part of what we say.
    ours: String,
    /// Theirs: `pass`, or part of their message.
    theirs: String,
    /// Which of the reasons.
    reason: String,
    /// `native` or `prevail`, if only this engine of ours differs.
    #[serde(default)]
    engine: Option<String>,
    /// Whether loops must end, if it only differs then, or only otherwise.
    #[serde(default)]
    termination: Option<bool>,
}

impl Difference {
    /// Whether it is to be seen in a run.
    fn belongs(&self, engine: &str, termination: bool) -> bool {
        self.engine.as_deref().is_none_or(|own| own == engine) && self.termination.is_none_or(|own| own == termination)
    }

    fn place(&self) -> (&str, &str, &str) {
        (&self.object, &self.section, &self.function)
    }
}

/// How many programs.
#[derive(Default)]
struct Totals {
    accepted: u32,
    refused: u32,
    /// Only we accept them.
    gained: u32,
    /// Only PREVAIL accepts them.
    lost: u32,
    reason: (u32, u32),
    instruction: (u32, u32),
}

fn compare() -> Result<(), Failed> {
    let folder = root().join("tests/parity");
    let listed: Differences = toml::from_str(&std::fs::read_to_string(folder.join("differences.toml"))?)?;
    let corpus = support::corpus(".").ok_or("no corpus")?;
    let rows = recorded(&corpus)?;
    let mut objects = Objects::of(&corpus);
    let mut report = String::new();
    let mut occurred = BTreeSet::new();
    let mut all = Vec::new();
    for (engine, verifier, termination) in RUNS {
        let mut totals = Totals::default();
        for row in &rows {
            let (theirs, message) = row.theirs(termination);
            let ours = verdict(&mut objects, row, verifier, termination)?;
            let text = ours.text();
            let place = (row.object.as_str(), row.section.as_str(), row.function.as_str());
            if agree(&ours, theirs) {
                *(if theirs == Theirs::Pass {
                    &mut totals.accepted
                } else {
                    &mut totals.refused
                }) += 1;
                for (of, same) in [
                    (&mut totals.reason, same_reason(&ours, theirs, message)),
                    (
                        &mut totals.instruction,
                        same_instruction(&ours, theirs, message, &row.function),
                    ),
                ] {
                    of.0 += u32::from(same == Some(true));
                    of.1 += u32::from(same.is_some());
                }
                continue;
            }
            *(if theirs == Theirs::Pass {
                &mut totals.lost
            } else {
                &mut totals.gained
            }) += 1;
            let is_this = |d: &&Difference| {
                let their_words = if theirs == Theirs::Pass { "pass" } else { message };
                d.belongs(engine, termination)
                    && d.place() == place
                    && text.contains(&d.ours)
                    && their_words.contains(&d.theirs)
            };
            if let Some(i) = listed.difference.iter().position(|d| is_this(&d)) {
                occurred.insert((i, engine, termination));
            } else {
                let (object, section, function) = place;
                let theirs = if theirs == Theirs::Pass { "pass" } else { message };
                let _ = writeln!(
                    report,
                    "{object} `{section}` `{function}` ({engine}, termination {termination}): PREVAIL {theirs}; we: {text}"
                );
            }
        }
        all.push(totals);
    }
    for (i, difference) in listed.difference.iter().enumerate() {
        if !listed.reasons.contains_key(&difference.reason) {
            let _ = writeln!(report, "{:?}: no reason `{}`", difference.place(), difference.reason);
        }
        for (engine, _, termination) in RUNS {
            if difference.belongs(engine, termination) && !occurred.contains(&(i, engine, termination)) {
                let _ = writeln!(
                    report,
                    "{:?} ({engine}, termination {termination}): listed, and does not occur",
                    difference.place()
                );
            }
        }
    }
    let totals = table(&all);
    println!("{totals}");
    if !report.is_empty() {
        return Err(report.into());
    }
    written_page(README, "totals", &totals)
}

/// The totals as the README has them.
fn table(all: &[Totals]) -> String {
    let mut text = String::from(
        "| Engine | PREVAIL's run | programs | both accept | both refuse | same reason | same instruction | only we accept | only PREVAIL accepts |\n\
         | --- | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |\n",
    );
    for ((engine, _, termination), t) in RUNS.iter().zip(all) {
        let run = if *termination {
            "loops must end"
        } else {
            "loops may run for ever"
        };
        let _ = writeln!(
            text,
            "| {engine} | {run} | {} | {} | {} | {} of {} | {} of {} | {} | {} |",
            t.accepted + t.refused + t.gained + t.lost,
            t.accepted,
            t.refused,
            t.reason.0,
            t.reason.1,
            t.instruction.0,
            t.instruction.1,
            t.gained,
            t.lost
        );
    }
    text
}
