//! What the verifier accepts is harmless: random programs that it accepts run in a world that lets nothing pass
//! (`bpf2sys-soundness` runs more of them), and holes that are made on purpose are found.

use bpf2sys_soundness_tests::features::Feature;
use bpf2sys_soundness_tests::judge::Judge;
use bpf2sys_soundness_tests::planted::PLANTS;
use bpf2sys_soundness_tests::sweep::{Report, Request, sweep};
use bpf2sys_verifier::Verifier;
use libtest_mimic::{Failed, Trial};

use crate::support::test;

/// The environment variable with the number of programs.
const PROGRAMS: &str = "BPF2SYS_SOUNDNESS_PROGRAMS";

/// How many programs there are where it is not set: a run takes seconds then, and the whole of 100,000 takes minutes.
const FEW: u64 = 2_000;

/// How many programs it may take to find a hole that is made on purpose.
const MOST: u64 = 12_000;

/// Of the accepted programs, so many in a thousand must at least do this when they run.
const SHARES: [(Feature, u64); 20] = [
    (Feature::Packet, 100),
    (Feature::MapValue, 80),
    (Feature::PerCpu, 6),
    (Feature::ContextLoad, 250),
    (Feature::ContextStore, 70),
    (Feature::Stack, 400),
    (Feature::Global, 120),
    (Feature::Helper, 350),
    (Feature::BtfFunction, 3),
    (Feature::Subprogram, 25),
    (Feature::MapOfMaps, 30),
    (Feature::Queue, 8),
    (Feature::TailCall, 15),
    (Feature::Again, 50),
    (Feature::Atomic, 50),
    (Feature::ByteSwap, 40),
    (Feature::Alu32, 100),
    (Feature::Jmp32, 120),
    (Feature::Spill, 60),
    (Feature::VariableAddress, 120),
];

pub fn trials() -> Vec<Trial> {
    vec![
        test("accepted::random_programs_are_harmless", || {
            harmless(Verifier::Native, programs()?)
        }),
        // PREVAIL takes twenty times as long, and has not changed since it was judged by all of them.
        test("accepted::random_programs_that_prevail_accepts_are_harmless", || {
            harmless(Verifier::Prevail, FEW.max(programs()? / 10))
        }),
        test("accepted::holes_made_on_purpose_are_found", || {
            let mut missed = Vec::new();
            for plant in &PLANTS {
                // Ours knows better.
                let verifier = if plant.name == "a frame has 520 bytes" {
                    Verifier::Prevail
                } else {
                    Verifier::Native
                };
                match plant.find(verifier, 1, MOST) {
                    Some((programs, hole)) => println!("{programs:6}  {}: {}", plant.name, hole.kind),
                    None => missed.push(plant.name),
                }
            }
            if missed.is_empty() {
                Ok(())
            } else {
                Err(format!("within {MOST} programs, these are not found: {}", missed.join(", ")).into())
            }
        }),
    ]
}

/// How many programs are judged.
fn programs() -> Result<u64, Failed> {
    match std::env::var(PROGRAMS) {
        Ok(number) => number.parse().map_err(|e| format!("{PROGRAMS}={number}: {e}").into()),
        Err(_) => Ok(FEW),
    }
}

fn harmless(verifier: Verifier, count: u64) -> Result<(), Failed> {
    let judge = Judge {
        verifier,
        ..Judge::default()
    };
    let report = sweep(&judge, request(count), &|_| {});
    if !report.holes.is_empty() {
        let found: Vec<String> = report.holes.iter().map(ToString::to_string).collect();
        return Err(found.join("\n\n").into());
    }
    worth_running(&report)
}

fn request(count: u64) -> Request {
    Request {
        seed: 1,
        first: 0,
        count,
        threads: std::thread::available_parallelism().map_or(1, std::num::NonZero::get),
    }
}

/// That many programs are accepted, many are not, and the accepted ones do something.
fn worth_running(report: &Report) -> Result<(), Failed> {
    let share = |part: u64| 1000 * part / report.accepted.max(1);
    let accepted = 1000 * report.accepted / report.programs.max(1);
    if !(350..=700).contains(&accepted) {
        return Err(format!("of 1000 programs, {accepted} are accepted").into());
    }
    for (section, (all, accepted)) in &report.sections {
        if *accepted * 4 < *all {
            return Err(format!("{section}: {accepted} of {all} programs are accepted").into());
        }
    }
    let rare: Vec<String> = SHARES
        .iter()
        .map(|(feature, least)| {
            (
                feature,
                *least,
                share(report.features.get(feature).copied().unwrap_or(0)),
            )
        })
        .filter(|(_, least, found)| found < least)
        .map(|(feature, least, found)| format!("{feature:?}: {found} of 1000, and {least} are wanted"))
        .collect();
    if rare.is_empty() {
        Ok(())
    } else {
        Err(rare.join("\n").into())
    }
}
