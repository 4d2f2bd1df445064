//! Our verdicts against those of C++ PREVAIL on the corpus, under PREVAIL's own Linux platform.
//!
//! The judge of every engine: it asks [`bpf2sys_verifier::verify`] and nothing behind it. Each difference is listed
//! with its reason in `tests/parity/differences.toml`; one that is missing there fails, and one that no longer occurs. The
//! totals are in `tests/parity/README.md`, which this test keeps (`BLESS=1` rewrites them).

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::Path;

use libtest_mimic::{Failed, Trial};
use serde::Deserialize;

use crate::support::{self, Need, root, test_with};

mod corpus;
mod linux;
mod verdicts;

use corpus::{Objects, Theirs, recorded};
use verdicts::{agree, same_instruction, same_reason, verdict};

pub fn trials() -> Vec<Trial> {
    vec![test_with(
        "parity::verdicts_are_those_of_prevail_or_the_difference_has_a_reason",
        &[Need::Corpus("elf")],
        compare,
    )]
}

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
}

impl Difference {
    fn place(&self) -> (&str, &str, &str) {
        (&self.object, &self.section, &self.function)
    }
}

/// How many programs.
#[derive(Default)]
struct Totals {
    accepted: u32,
    refused: u32,
    differ: u32,
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
    for termination in [false, true] {
        let mut totals = Totals::default();
        for row in &rows {
            let (theirs, message) = row.theirs(termination);
            let ours = verdict(&mut objects, row, termination)?;
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
            totals.differ += 1;
            let is_this = |d: &&Difference| {
                let their_words = if theirs == Theirs::Pass { "pass" } else { message };
                d.place() == place && text.contains(&d.ours) && their_words.contains(&d.theirs)
            };
            if let Some(i) = listed.difference.iter().position(|d| is_this(&d)) {
                occurred.insert((i, termination));
            } else {
                let (object, section, function) = place;
                let theirs = if theirs == Theirs::Pass { "pass" } else { message };
                let _ = writeln!(
                    report,
                    "{object} `{section}` `{function}` (termination {termination}): PREVAIL {theirs}; we: {text}"
                );
            }
        }
        all.push(totals);
    }
    for (i, difference) in listed.difference.iter().enumerate() {
        if !listed.reasons.contains_key(&difference.reason) {
            let _ = writeln!(report, "{:?}: no reason `{}`", difference.place(), difference.reason);
        }
        for termination in [false, true] {
            if !occurred.contains(&(i, termination)) {
                let _ = writeln!(
                    report,
                    "{:?} (termination {termination}): listed, and does not occur",
                    difference.place()
                );
            }
        }
    }
    let totals = table(&all);
    println!("{totals}");
    if let Some(stale) = keep(&folder.join("README.md"), &totals)? {
        let _ = writeln!(report, "{stale}");
    }
    if report.is_empty() { Ok(()) } else { Err(report.into()) }
}

/// The totals as the README has them.
fn table(all: &[Totals]) -> String {
    let mut text = String::from(
        "| PREVAIL's run | programs | both accept | both refuse | same reason | same instruction | differ |\n\
         | --- | ---: | ---: | ---: | ---: | ---: | ---: |\n",
    );
    for (run, t) in ["loops may run for ever", "loops must end"].iter().zip(all) {
        let _ = writeln!(
            text,
            "| {run} | {} | {} | {} | {} of {} | {} of {} | {} |",
            t.accepted + t.refused + t.differ,
            t.accepted,
            t.refused,
            t.reason.0,
            t.reason.1,
            t.instruction.0,
            t.instruction.1,
            t.differ
        );
    }
    text
}

/// Compares the totals in the README, or writes them. What is wrong, if they are others.
fn keep(readme: &Path, totals: &str) -> Result<Option<String>, Failed> {
    let text = std::fs::read_to_string(readme)?;
    let start = text
        .find("<!-- totals")
        .and_then(|at| Some(at + text[at..].find('\n')? + 1));
    let end = text.find("<!-- end of totals");
    let (Some(start), Some(end)) = (start, end) else {
        return Err("tests/parity/README.md has no place for the totals".into());
    };
    if text[start..end] == *totals {
        return Ok(None);
    }
    if std::env::var_os("BLESS").is_some() {
        std::fs::write(readme, [&text[..start], totals, &text[end..]].concat())?;
        return Ok(None);
    }
    Ok(Some(
        "tests/parity/README.md has other totals; BLESS=1 writes these".to_owned(),
    ))
}
