//! Our verdicts beside those of the running Linux kernel.
//!
//! Each program of the corpus is loaded with `bpf(2)`, with its maps and global variables, as a program of the type that
//! PREVAIL takes it for. Where the native engine says something else than the kernel, `kernel.toml` has the reason. The record
//! is of one release: there it must be exact, and the README has the figures. Other releases judge otherwise, mostly more
//! leniently, and have other rules; there only a program may fail the test that the native engine accepts, and that the
//! kernel refuses for what could be the program's fault.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use bpf2sys_isa_tests::kernel::{Verdict, release, verdict as linux_verdict};
use bpf2sys_verifier::Verifier;
use libtest_mimic::Failed;
use prevail::linux::linux_platform::LinuxPlatform;
use prevail::platform::EbpfPlatform;
use serde::Deserialize;

use super::README;
use super::corpus::{Objects, Recorded, Theirs, recorded};
use super::verdicts::{Ours, verdict};
use crate::support::{self, root, written_page};

/// `kernel.toml`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Record {
    /// The release, as `uname -r` prints it.
    kernel: String,
    /// Why, by name.
    reasons: BTreeMap<String, String>,
    /// Parts of the messages by which kernels say that a rule of theirs is broken which has nothing to do with the safety of
    /// memory or with loops, with what they mean.
    rules: BTreeMap<String, String>,
    difference: Vec<Difference>,
    not_asked: Vec<NotAsked>,
}

/// A program of which the native engine says something else than the kernel.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Difference {
    object: String,
    section: String,
    function: String,
    /// `accepted`, or part of the kernel's message.
    linux: String,
    /// `accepted`, or part of what we say.
    ours: String,
    /// Which of the reasons.
    reason: String,
}

/// A program that this kernel has no verdict on.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct NotAsked {
    object: String,
    section: String,
    function: String,
    /// Part of the reason.
    why: String,
}

/// What everyone says of a program; loops must end.
struct Row<'a> {
    program: &'a Recorded,
    linux: Verdict,
    native: Ours,
    /// Whether they accept it: C++ PREVAIL, and our engine of that name.
    prevail: (bool, bool),
}

impl Row<'_> {
    fn is_at(&self, object: &str, section: &str, function: &str) -> bool {
        self.program.object == object && self.program.section == section && self.program.function == function
    }

    fn native_accepts(&self) -> bool {
        matches!(self.native, Ours::Accepted)
    }

    /// Whether one of the kernel and the native engine accepts it, and the other refuses it.
    fn differs(&self) -> bool {
        match self.linux {
            Verdict::Accepted => !self.native_accepts(),
            Verdict::Rejected(_) => self.native_accepts(),
            Verdict::NotAsked(_) => false,
        }
    }

    fn said_by_linux(&self) -> &str {
        match &self.linux {
            Verdict::Accepted => "accepted",
            Verdict::Rejected(message) | Verdict::NotAsked(message) => message,
        }
    }

    fn line(&self) -> String {
        let Recorded {
            object,
            section,
            function,
            ..
        } = self.program;
        let native = self.native.text();
        format!("{object} `{section}` `{function}`: {:?}; we: {native}", self.linux)
    }
}

pub fn compare() -> Result<(), Failed> {
    let record = std::fs::read_to_string(root().join("tests/parity/kernel.toml"))?;
    let record: Record = toml::from_str(&record)?;
    let corpus = support::corpus(".").ok_or("no corpus")?;
    let programs = recorded(&corpus)?;
    let mut objects = Objects::of(&corpus);
    let rows: Result<Vec<Row<'_>>, Failed> = programs.iter().map(|program| row(&mut objects, program)).collect();
    let rows = rows?;
    let release = release()?;
    let same_kernel = release == record.kernel;
    let report = if same_kernel {
        exact(&record, &rows)
    } else {
        safe(&record, &rows)
    };
    if !report.is_empty() {
        return Err(format!("Linux {release}, and the record is of {}:\n{report}", record.kernel).into());
    }
    if same_kernel {
        written_page(README, "linux", &page(&record, &rows))?;
    }
    Ok(())
}

/// The number that Linux has for the type of the programs of a section (`enum bpf_prog_type`).
fn program_type(section: &str) -> u32 {
    /// `BPF_PROG_TYPE_SOCKET_FILTER`
    const SOCKET_FILTER: u32 = 1;
    /// `BPF_PROG_TYPE_SCHED_CLS`
    const SCHED_CLS: u32 = 3;
    match LinuxPlatform::new()
        .get_program_type(section, "")
        .platform_specific_data as u32
    {
        // PREVAIL lets socket filters do what Linux lets traffic classifiers do: see the packet in place and change it. That
        // is the question that it has answered, and most samples whose section it does not know are classifiers.
        SOCKET_FILTER => SCHED_CLS,
        other => other,
    }
}

fn row<'a>(objects: &mut Objects<'_>, program: &'a Recorded) -> Result<Row<'a>, Failed> {
    let linux = match objects.program(program)? {
        Ok(module) => match module.programs().next() {
            Some((index, _)) => linux_verdict(&module, index, program_type(&program.section)),
            None => return Err(format!("{}: no program", program.object).into()),
        },
        Err(message) => Verdict::NotAsked(message),
    };
    let prevail = verdict(objects, program, Verifier::Prevail, true)?;
    Ok(Row {
        program,
        linux,
        native: verdict(objects, program, Verifier::Native, true)?,
        prevail: (
            program.theirs(true).0 == Theirs::Pass,
            matches!(prevail, Ours::Accepted),
        ),
    })
}

/// What is not as recorded, on the kernel that the record is of.
fn exact(record: &Record, rows: &[Row<'_>]) -> String {
    let mut report = String::new();
    let mut occurred = (BTreeSet::new(), BTreeSet::new());
    for row in rows {
        if row.differs() {
            match record.difference.iter().position(|listed| listed.is_about(row)) {
                Some(i) => drop(occurred.0.insert(i)),
                None => drop(writeln!(report, "not listed: {}", row.line())),
            }
        }
        if matches!(row.linux, Verdict::NotAsked(_)) {
            let is_listed = |listed: &NotAsked| {
                row.is_at(&listed.object, &listed.section, &listed.function)
                    && row.said_by_linux().contains(&listed.why)
            };
            match record.not_asked.iter().position(is_listed) {
                Some(i) => drop(occurred.1.insert(i)),
                None => drop(writeln!(report, "not listed: {}", row.line())),
            }
        }
    }
    for (i, listed) in record.difference.iter().enumerate() {
        if !record.reasons.contains_key(&listed.reason) {
            let _ = writeln!(
                report,
                "{} `{}`: no reason `{}`",
                listed.object, listed.function, listed.reason
            );
        }
        if !occurred.0.contains(&i) {
            let _ = writeln!(
                report,
                "{} `{}`: listed, and does not occur",
                listed.object, listed.function
            );
        }
    }
    for (i, listed) in record.not_asked.iter().enumerate() {
        if !occurred.1.contains(&i) {
            let _ = writeln!(
                report,
                "{} `{}`: listed as not asked, and it is",
                listed.object, listed.function
            );
        }
    }
    report
}

/// On another kernel: the programs that it refuses for what could be their fault, and that the native engine accepts.
fn safe(record: &Record, rows: &[Row<'_>]) -> String {
    let mut report = String::new();
    for row in rows {
        let Verdict::Rejected(message) = &row.linux else {
            continue;
        };
        let is_rule = record.rules.keys().any(|rule| message.contains(rule));
        if row.native_accepts() && !is_rule && !record.difference.iter().any(|listed| listed.is_about(row)) {
            let _ = writeln!(report, "{}", row.line());
        }
    }
    let not_asked = rows
        .iter()
        .filter(|row| matches!(row.linux, Verdict::NotAsked(_)))
        .count();
    if 2 * not_asked > rows.len() {
        let _ = writeln!(report, "{not_asked} of {} programs have no verdict", rows.len());
    }
    report
}

impl Difference {
    fn is_about(&self, row: &Row<'_>) -> bool {
        row.is_at(&self.object, &self.section, &self.function)
            && row.said_by_linux().contains(&self.linux)
            && row.native.text().contains(&self.ours)
    }
}

/// The figures.
fn page(record: &Record, rows: &[Row<'_>]) -> String {
    let said = |accepts: bool| if accepts { "accepts" } else { "refuses" };
    let mut verdicts: BTreeMap<[&str; 4], u32> = BTreeMap::new();
    for row in rows {
        let linux = match row.linux {
            Verdict::Accepted => "accepts",
            Verdict::Rejected(_) => "refuses",
            Verdict::NotAsked(_) => "was not asked",
        };
        let key = [
            linux,
            said(row.prevail.0),
            said(row.native_accepts()),
            said(row.prevail.1),
        ];
        *verdicts.entry(key).or_default() += 1;
    }
    let mut text = format!(
        "| Linux {} | C++ PREVAIL | native | our prevail | programs |\n| --- | --- | --- | --- | ---: |\n",
        record.kernel
    );
    for (said, programs) in verdicts {
        let _ = writeln!(text, "| {} | {programs} |", said.join(" | "));
    }
    text += "\n| Linux | native | programs | why |\n| --- | --- | ---: | --- |\n";
    let mut differences: BTreeMap<(&str, bool, &str), u32> = BTreeMap::new();
    for listed in &record.difference {
        let linux = listed.linux == "accepted";
        *differences.entry((said(!linux), linux, &listed.reason)).or_default() += 1;
    }
    for ((native, linux, reason), programs) in differences {
        let why = record.reasons[reason].trim();
        let _ = writeln!(text, "| {} | {native} | {programs} | {why} |", said(linux));
    }
    text
}
