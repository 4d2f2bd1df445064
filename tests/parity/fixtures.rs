//! Runs of the programs of our fixtures and examples that the native engine accepts, on the Windows platform.
//!
//! `fixtures.toml` lists those that the engine `prevail` refuses, with the argument why they are safe; they are run with most
//! inputs. The programs of `tests/fixtures/exactness` are not among them: `exactness.rs` does the same with those, and
//! `compiler/verifier/docs/exactness.md` is their list.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bpf2sys::{Code, Error};
use bpf2sys_bytecode::Module;
use bpf2sys_soundness_tests::alone::alone;
use bpf2sys_soundness_tests::judge::{Judge, Verdict};
use bpf2sys_soundness_tests::platforms::platform;
use bpf2sys_verifier::{Options, Verifier, verify};
use libtest_mimic::Failed;
use serde::Deserialize;

use super::README;
use super::runs::{INPUTS, table};
use crate::support::{root, written_page};

/// Instructions of the largest module whose programs are looked at. Larger ones are there for limits and for speed.
const MOST_INSTRUCTIONS: usize = 500;

/// Bytes of the largest values of maps that are made up for each run. Some fixtures have values of gigabytes.
const LARGEST_VALUE: u32 = 1 << 20;

/// How long PREVAIL may take. What takes longer gets no verdict, and is no program that it refuses.
const TIME_LIMIT: Duration = Duration::from_secs(2);

/// `fixtures.toml`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Listed {
    /// Why, by name.
    reasons: BTreeMap<String, String>,
    difference: Vec<Difference>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Difference {
    /// From the repository's root.
    object: String,
    section: String,
    /// The code with which PREVAIL refuses it.
    prevail: String,
    /// Which of the reasons.
    reason: String,
}

pub fn run_all() -> Result<(), Failed> {
    let listed = fs::read_to_string(root().join("tests/parity/fixtures.toml"))?;
    let listed: Listed = toml::from_str(&listed)?;
    let mut objects = Vec::new();
    for folder in ["tests/fixtures", "examples"] {
        collect(&root().join(folder), &mut objects)?;
    }
    objects.sort();
    let mut report = String::new();
    let mut occurred = vec![false; listed.difference.len()];
    let mut programs = [0; 2];
    for path in objects {
        let object = path.strip_prefix(root())?.to_string_lossy().replace('\\', "/");
        // Some objects are there to be refused.
        let Ok(module) = bpf2sys_bytecode::read(&fs::read(&path)?, "fixture") else {
            continue;
        };
        let instructions: usize = module.functions.iter().map(|f| f.instructions.len()).sum();
        let has_huge_values = module.maps.iter().any(|map| map.definition.value_size > LARGEST_VALUE);
        if instructions > MOST_INSTRUCTIONS || has_huge_values {
            continue;
        }
        for (index, program) in module.programs() {
            let place = format!("{object} `{}`", program.section);
            let module = alone(&module, index);
            let judge = |inputs| Judge {
                verifier: Verifier::Native,
                inputs,
                ..Judge::default()
            };
            if judge(0).verified(module.clone()).is_err() {
                continue;
            }
            let code = prevail(module.clone());
            let refused = code.filter(|code| *code != Code::BPF2015);
            let is_this = |d: &Difference| {
                d.object == object
                    && d.section == program.section
                    && refused.is_some_and(|code| code.name() == d.prevail)
            };
            let this = listed.difference.iter().position(is_this);
            if let Some(i) = this {
                occurred[i] = true;
            } else if let Some(code) = refused {
                let _ = writeln!(
                    report,
                    "{place}: only native accepts it (PREVAIL: {}), and it is not listed",
                    code.name()
                );
            }
            let which = usize::from(this.is_some());
            if let Verdict::Hole(hole) = judge(INPUTS[which]).judge(&module, 1).verdict {
                let _ = writeln!(report, "{place} is accepted, and {hole}");
            }
            programs[which] += 1;
        }
    }
    for (listed_one, occurred) in listed.difference.iter().zip(occurred) {
        let Difference {
            object,
            section,
            reason,
            ..
        } = listed_one;
        if !listed.reasons.contains_key(reason) {
            let _ = writeln!(report, "{object} `{section}`: no reason `{reason}`");
        }
        if !occurred {
            let _ = writeln!(report, "{object} `{section}`: listed, and does not occur");
        }
    }
    if !report.is_empty() {
        return Err(report.into());
    }
    let table = table(programs, "PREVAIL accepts them, or has no verdict in time");
    written_page(README, "fixtures", &table)
}

/// The objects in a folder and those below it.
fn collect(folder: &Path, objects: &mut Vec<PathBuf>) -> Result<(), Failed> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            if !path.ends_with("exactness") {
                collect(&path, objects)?;
            }
        } else if path.extension().is_some_and(|extension| extension == "o") {
            objects.push(path);
        }
    }
    Ok(())
}

/// The code with which PREVAIL refuses the one program of a module.
fn prevail(module: Module) -> Option<Code> {
    let options = Options {
        verifier: Verifier::Prevail,
        time_limit: TIME_LIMIT,
        explanation_steps: 0,
        ..Options::default()
    };
    let error = Error::from(verify(module, platform(), &options).err()?);
    error.diagnostics().first().map(|diagnostic| diagnostic.code)
}
