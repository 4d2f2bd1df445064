//! Runs of the programs of the corpus that the native engine accepts, in the world that lets nothing pass.
//!
//! The world is that of [`bpf2sys_soundness_tests`], on PREVAIL's Linux platform: contexts, packets, helpers and maps as that
//! platform describes them to the engine. What C++ PREVAIL refuses is run with most inputs, and gets to the instruction that
//! PREVAIL says is wrong, else the runs would say nothing.

use std::fmt::Write as _;

use bpf2sys_bytecode::{Condition, Function, FunctionIndex, InsnIndex, Instruction, Module, Operand, WordSize};
use bpf2sys_soundness_tests::alone::alone;
use bpf2sys_soundness_tests::judge::{Judge, Verdict};
use bpf2sys_verifier::Verifier;
use libtest_mimic::Failed;

use super::corpus::{Objects, Recorded, Theirs, recorded};
use super::{README, linux};
use crate::support::{self, written_page};

/// Inputs of each program that PREVAIL accepts, too, or is not asked about; and of each that only the native engine accepts.
pub const INPUTS: [u64; 2] = [64, 1000];

/// Each input is run at two places.
const LAYOUTS: u64 = 2;

pub fn run_all() -> Result<(), Failed> {
    let corpus = support::corpus(".").ok_or("no corpus")?;
    let mut objects = Objects::of(&corpus);
    let mut report = String::new();
    let mut programs = [0; 2];
    for row in &recorded(&corpus)? {
        let Some(module) = program(&mut objects, row)? else {
            continue;
        };
        let (theirs, message) = row.theirs(true);
        let only_ours = theirs != Theirs::Pass;
        let inputs = INPUTS[usize::from(only_ours)];
        let (place, verdict) = (place(row), judge(row, inputs).judge(&module, 1).verdict);
        match verdict {
            Verdict::Rejected(_) => continue,
            Verdict::Hole(hole) => drop(writeln!(report, "{place} is accepted, and {hole}")),
            Verdict::Harmless { reached, .. } if only_ours => {
                let at = blamed(&module, message).ok_or_else(|| format!("{place}: where is `{message}`?"))?;
                if !reached.contains(&(FunctionIndex(0), at)) {
                    let _ = writeln!(report, "{place}: no run gets to where PREVAIL says `{message}`");
                }
            }
            Verdict::Harmless { .. } => {}
        }
        programs[usize::from(only_ours)] += 1;
    }
    if !report.is_empty() {
        return Err(report.into());
    }
    written_page(README, "runs", &table(programs, "PREVAIL accepts them"))
}

/// The figures of both kinds of programs, the first of which is described.
pub fn table(programs: [u64; 2], first: &str) -> String {
    let row = |index: usize, about: &str| {
        let (programs, inputs) = (programs[index], INPUTS[index]);
        let runs = programs * inputs * LAYOUTS;
        format!("| {about} | {programs} | {inputs} | {runs} |\n")
    };
    format!(
        "| Programs that the native engine accepts | programs | inputs of each | runs |\n| --- | ---: | ---: | ---: |\n{}{}",
        row(0, first),
        row(1, "PREVAIL refuses them"),
    )
}

/// The instruction that PREVAIL's message begins with: its slot, in the program itself.
fn blamed(module: &Module, message: &str) -> Option<InsnIndex> {
    let slot: u32 = message.split([':', ' ']).next()?.parse().ok()?;
    let instructions = &module.functions[0].instructions;
    let index = instructions.iter().position(|insn| insn.slot == slot)?;
    Some(InsnIndex(index as u32))
}

/// The one program, as its module's first function; `None` if the object is not read.
fn program(objects: &mut Objects<'_>, row: &Recorded) -> Result<Option<Module>, Failed> {
    let Ok(module) = objects.program(row)? else {
        return Ok(None);
    };
    let index = module.programs().next().map(|(index, _)| index);
    Ok(index.map(|index| alone(&module, index)))
}

fn judge(row: &Recorded, inputs: u64) -> Judge {
    let platform = linux::platform(std::iter::once(row.section.as_str()), true);
    Judge {
        verifier: Verifier::Native,
        told: platform.clone(),
        true_platform: platform,
        inputs,
        ..Judge::default()
    }
}

fn place(row: &Recorded) -> String {
    format!("{} `{}` `{}`", row.object, row.section, row.function)
}

/// What runs instead of instructions that were verified, in a program: what a run of it then does.
struct Planted {
    object: &'static str,
    change: fn(&Function, InsnIndex, Instruction) -> Option<Instruction>,
    kind: &'static str,
}

/// Mistakes made on purpose, each in a program that PREVAIL refuses and the native engine accepts.
const PLANTED: [Planted; 3] = [
    // The test that the packet is long enough is left out: it lies where its 32-bit fields say, and ends where they say.
    Planted {
        object: "build/dependent_read.o",
        change: |_, _, op| {
            matches!(
                op,
                Instruction::JumpIf {
                    src: Operand::Reg(_),
                    ..
                }
            )
            .then_some(GO_ON)
        },
        kind: "access",
    },
    // The buffer goes to a helper also where no helper has filled it before.
    Planted {
        object: "build/correlated_branch2.o",
        change: |_, _, op| {
            matches!(
                op,
                Instruction::JumpIf {
                    condition: Condition::Ne,
                    src: Operand::Imm(0),
                    ..
                }
            )
            .then_some(GO_ON)
        },
        kind: "argument",
    },
    // The loop over the array's 40 bytes does not stop there.
    Planted {
        object: "build/loop.o",
        change: |_, _, op| match op {
            Instruction::JumpIf {
                size,
                condition,
                dst,
                src: Operand::Imm(40),
                offset,
            } => Some(Instruction::JumpIf {
                size,
                condition,
                dst,
                src: Operand::Imm(41),
                offset,
            }),
            _ => None,
        },
        kind: "access",
    },
];

/// A jump to the next instruction.
const GO_ON: Instruction = Instruction::Jump {
    size: WordSize::W64,
    offset: 0,
};

pub fn find_what_is_wrong() -> Result<(), Failed> {
    let corpus = support::corpus(".").ok_or("no corpus")?;
    let mut objects = Objects::of(&corpus);
    let rows = recorded(&corpus)?;
    let mut report = String::new();
    for planted in PLANTED {
        let row = rows
            .iter()
            .find(|row| row.object == planted.object)
            .ok_or("no such object")?;
        let module = program(&mut objects, row)?.ok_or("not read")?;
        let judge = Judge {
            runs: Some(planted.change),
            // It is the misbehaviour that must be seen.
            facts: false,
            ..judge(row, INPUTS[1])
        };
        match judge.judge(&module, 1).verdict {
            Verdict::Hole(hole) if hole.kind == planted.kind => {}
            other => drop(writeln!(report, "{}: no {}, but {other:?}", place(row), planted.kind)),
        }
    }
    if report.is_empty() { Ok(()) } else { Err(report.into()) }
}
