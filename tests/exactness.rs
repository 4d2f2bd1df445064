//! How exact the engines are: safe programs that they accept or refuse, and beside each kind of them programs that are unsafe
//! by one change.
//!
//! The programs are in `tests/fixtures/exactness`. Their sources say of each whether it is safe (`SAFE`, and `REFUSED` if the
//! native engine does not see that), or which code it must get (`UNSAFE`), and why. The native engine must agree, within a second for each; what it accepts is run in the checking
//! world. What both engines say is the table in `compiler/verifier/docs/exactness.md` (BLESS=1).

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use bpf2sys::{Code, Error};
use bpf2sys_bytecode::{FunctionIndex, Module};
use bpf2sys_soundness_tests::alone::alone;
use bpf2sys_soundness_tests::judge::{Judge, Verdict};
use bpf2sys_soundness_tests::platforms::platform;
use bpf2sys_verifier::{Options, Verifier, verify};
use libtest_mimic::{Failed, Trial};

use crate::support::{root, test, written_page};

/// The sources, without `.c`, and what their part of the table is called.
const SOURCES: [(&str, &str); 7] = [
    ("loops", "Loops"),
    ("numbers", "Numbers"),
    ("pointers", "Pointers"),
    ("packets", "Packets"),
    ("moves", "Packets that are moved"),
    ("attacks", "What a careless engine forgets"),
    ("endless", "Programs that are not known to end"),
];

/// How long the native engine may take for a program, as it is shipped. Without optimization it takes some times as long.
const TIME_LIMIT: Duration = Duration::from_secs(if cfg!(debug_assertions) { 20 } else { 1 });

/// How long PREVAIL may take. Where it has a verdict, it comes in a small part of that.
const PREVAIL_TIME_LIMIT: Duration = Duration::from_mins(1);

/// Programs for which PREVAIL has no verdict within that time. It is not asked.
const NO_VERDICT: [&str; 3] = ["counts_down", "two_counters_meet", "counter_goes_away"];

/// Inputs of each program that is run.
const INPUTS: u64 = 16;

pub fn trials() -> Vec<Trial> {
    let mut trials: Vec<Trial> = SOURCES
        .into_iter()
        .map(|(source, _)| {
            test(&format!("exactness::native_is_right_about_{source}"), move || {
                is_right(source)
            })
        })
        .collect();
    trials.push(test("exactness::table_is_what_the_engines_say", table));
    trials
}

fn folder() -> PathBuf {
    root().join("tests/fixtures/exactness")
}

/// A program, as its source announces it.
struct Announced {
    name: String,
    /// Why it is safe, or what is wrong with it.
    about: String,
    is_safe: bool,
    /// The code that the native engine must give it.
    code: Option<String>,
}

/// The programs of a source: the comment above each, and its macro.
fn announced(source: &str) -> Result<Vec<Announced>, Failed> {
    let mut found = Vec::new();
    let mut about: Vec<&str> = Vec::new();
    let text = fs::read_to_string(folder().join(source).with_extension("c"))?;
    for line in text.lines() {
        if let Some(comment) = line.strip_prefix("//") {
            about.push(comment.trim());
            continue;
        }
        if let Some((head, _)) = line.split_once(')')
            && let Some((kind, arguments)) = head.split_once('(')
            && let Some(is_safe) = match kind {
                "SAFE" | "SAFE_ASM" | "REFUSED" => Some(true),
                "UNSAFE" | "UNSAFE_ASM" => Some(false),
                _ => None,
            }
        {
            let mut arguments = arguments.split(", ").map(str::to_owned);
            found.push(Announced {
                name: arguments.next().unwrap_or_default(),
                about: about.join(" "),
                is_safe,
                code: arguments.next(),
            });
        }
        about.clear();
    }
    match found.iter().find(|program| program.about.is_empty()) {
        Some(program) => Err(format!("nothing is said about `{}`", program.name).into()),
        None => Ok(found),
    }
}

/// The module of a source with this program as the only one, and as its first function.
fn only(module: &Module, name: &str) -> Result<Module, Failed> {
    let at = module.functions.iter().position(|function| function.name == name);
    let at = at.ok_or_else(|| format!("no program `{name}`"))?;
    Ok(alone(module, FunctionIndex(u32::try_from(at)?)))
}

fn module(source: &str) -> Result<Module, Failed> {
    let path = folder().join(source).with_extension("o");
    Ok(bpf2sys_bytecode::read(&fs::read(path)?, source)?)
}

/// What an engine says of the one program of a module: the code of its rejection, or none.
fn said(module: Module, verifier: Verifier, time_limit: Duration) -> Option<Code> {
    let options = Options {
        verifier,
        time_limit,
        explanation_steps: 0,
        ..Options::default()
    };
    let error = Error::from(verify(module, platform(), &options).err()?);
    error.diagnostics().first().map(|diagnostic| diagnostic.code)
}

/// The native engine says of each program what its source says, and what it accepts does nothing wrong.
fn is_right(source: &str) -> Result<(), Failed> {
    let module = module(source)?;
    let judge = Judge {
        verifier: Verifier::Native,
        inputs: INPUTS,
        ..Judge::default()
    };
    let mut wrong = Vec::new();
    for program in announced(source)? {
        let name = &program.name;
        let only = only(&module, name)?;
        let code = said(only.clone(), Verifier::Native, TIME_LIMIT);
        if code.map(|code| code.name().to_owned()) != program.code {
            wrong.push(format!("`{name}`: {code:?}, not {:?}", program.code));
        }
        if code.is_none()
            && let Verdict::Hole(hole) = judge.judge(&only, 1).verdict
        {
            wrong.push(format!("`{name}` is accepted, and {hole}"));
        }
    }
    if wrong.is_empty() {
        return Ok(());
    }
    Err(wrong.join("\n").into())
}

/// A verdict in the table.
fn cell(code: Option<Code>) -> String {
    match code {
        None => "accepted".to_owned(),
        Some(Code::BPF2015) => "no verdict".to_owned(),
        Some(code) => code.name().to_owned(),
    }
}

fn table() -> Result<(), Failed> {
    let mut sections = String::new();
    let (mut safe, mut not_safe) = (Counts::default(), Counts::default());
    for (source, title) in SOURCES {
        let module = module(source)?;
        sections += &format!("\n## {title}\n\n| Program | | PREVAIL | Native |\n|---|---|---|---|\n");
        for program in announced(source)? {
            let only = only(&module, &program.name)?;
            let prevail = if NO_VERDICT.contains(&program.name.as_str()) {
                Some(Code::BPF2015)
            } else {
                said(only.clone(), Verifier::Prevail, PREVAIL_TIME_LIMIT)
            };
            let native = said(only, Verifier::Native, TIME_LIMIT);
            let (counts, kind) = if program.is_safe {
                (&mut safe, "safe")
            } else {
                (&mut not_safe, "**unsafe**")
            };
            counts.programs += 1;
            counts.prevail += usize::from(prevail.is_none());
            counts.native += usize::from(native.is_none());
            sections += &format!(
                "| `{}` | {kind}: {} | {} | {} |\n",
                program.name,
                program.about.replace('|', "\\|"),
                cell(prevail),
                cell(native)
            );
        }
    }
    let row = |name: &str, counts: &Counts| {
        let Counts {
            programs,
            prevail,
            native,
        } = counts;
        format!("| {name} | {programs} | {prevail} | {native} |\n")
    };
    let counts = format!(
        "| Programs | | accepted by PREVAIL | accepted by the native engine |\n|---|---|---|---|\n{}{}",
        row("safe", &safe),
        row("unsafe", &not_safe)
    );
    written_page("compiler/verifier/docs/exactness.md", "table", &(counts + &sections))
}

/// How many programs there are of a kind, and who accepts them.
#[derive(Default)]
struct Counts {
    programs: usize,
    prevail: usize,
    native: usize,
}
