//! Modules of the shape of known ones: what their tables tell the runtime is what bpf2c's tell it.
//!
//! `tests/fixtures/metadata/` has a program and the facts for each. Everything that tells a module from another is
//! compared; `compare` says how, and `exceptions` lists where we differ on purpose.

mod compare;
mod exceptions;
mod inspect;
mod lookups;

use std::path::{Path, PathBuf};
use std::process::Command;

use bpf2sys_pe_emit::Machine;
use bpf2sys_simulator::RunRequest;
use libtest_mimic::{Failed, Trial};
use serde_json::Value;

use crate::forms::{MACHINES, machine_name, needs_to_run};
use crate::support::{Need, judge, output, root, succeed, test, test_with, tool};

/// The known modules.
const MODULES: [&str; 23] = [
    "bindmonitor",
    "bindmonitor_ringbuf",
    "bindmonitor_tailcall",
    "btf_resolved",
    "callgraph_bpf2bpf",
    "cgroup_sock_addr",
    "custom_map_basic",
    "droppacket",
    "global_vars_and_map",
    "hash_of_map",
    "inner_map",
    "map",
    "map_in_map_btf",
    "map_in_map_legacy_id",
    "map_in_map_legacy_idx",
    "multi_prog_same_section",
    "multiple_programs",
    "printk",
    "sockops",
    "strings",
    "tail_call",
    "tail_call_map",
    "utility",
];

/// What a module is made into.
const FORMS: [&str; 2] = ["sys", "dll"];

pub fn trials() -> Vec<Trial> {
    let mut trials = inspect::trials();
    trials.push(test("metadata::every_fact_is_compared", every_fact));
    trials.push(test(
        "metadata::every_exception_is_about_a_known_module",
        exceptions::all_known,
    ));
    for module in MODULES {
        // While they are being written.
        if !fixture(module, "o").exists() {
            eprintln!("metadata::{module}: skipped: no object");
            trials.push(test(&format!("metadata::{module}"), || Ok(())).with_ignored_flag(true));
            continue;
        }
        for (machine, name) in MACHINES.map(|machine| (machine, machine_name(machine))) {
            trials.push(test(
                &format!("metadata::{module}_has_the_known_tables_on_{name}"),
                move || has_tables(module, machine),
            ));
            trials.push(test_with(
                &format!("metadata::{module}_loads_on_{name}"),
                needs_to_run(machine),
                move || loads(module, machine),
            ));
            trials.push(test_with(
                &format!("metadata::{module}_is_what_another_reader_expects_on_{name}"),
                &[Need::Judge],
                move || is_judged(module, machine),
            ));
        }
        trials.push(test(&format!("metadata::{module}_states_its_hashes"), move || {
            states_hashes(module)
        }));
    }
    trials
}

fn fixture(module: &str, extension: &str) -> PathBuf {
    root()
        .join("tests/fixtures/metadata")
        .join(module)
        .with_extension(extension)
}

fn facts(module: &str) -> Result<Value, Failed> {
    Ok(serde_json::from_slice(&std::fs::read(fixture(module, "json"))?)?)
}

/// Builds a module for a machine, in both forms; the files are in `folder`.
fn build(module: &str, machine: Machine, hash: &str, folder: &Path) -> Result<[PathBuf; 2], Failed> {
    succeed(
        tool()
            .args(["build", "--quiet", "--arch", machine_name(machine), "--hash", hash])
            .args(["--emit", &FORMS.join(","), "--out-dir"])
            .args([folder, &fixture(module, "o")]),
    )?;
    Ok(FORMS.map(|form| folder.join(module).with_extension(form)))
}

fn module_metadata(image: &Path) -> Result<Value, Failed> {
    let mut command = tool();
    command.args(["inspect", "--format", "module-metadata"]).arg(image);
    Ok(serde_json::from_str(&succeed(&mut command)?)?)
}

/// Both forms of the module have the tables that the facts tell of, the listing shows the look-ups that need no call,
/// and the object has the subprograms.
fn has_tables(module: &str, machine: Machine) -> Result<(), Failed> {
    let folder = tempfile::tempdir()?;
    let facts = facts(module)?;
    let mut differences = Vec::new();
    for image in build(module, machine, "none", folder.path())? {
        let metadata = module_metadata(&image)?;
        let found = compare::differences(&metadata, &facts);
        let form = image.extension().unwrap_or_default().to_string_lossy().into_owned();
        differences.extend(found.into_iter().map(|difference| (form.clone(), difference)));
    }
    let of_object = [
        compare::subprograms(module, &facts)?,
        lookups::differences(module, machine, &facts)?,
    ];
    differences.extend(
        of_object
            .concat()
            .into_iter()
            .map(|difference| ("o".to_owned(), difference)),
    );
    exceptions::report(module, &differences)
}

/// The simulator takes both forms, with and without hashes: it computes them from what its providers offer.
fn loads(module: &str, machine: Machine) -> Result<(), Failed> {
    for hash in ["none", "sha256"] {
        let folder = tempfile::tempdir()?;
        for image in build(module, machine, hash, folder.path())? {
            let request = RunRequest {
                image: std::fs::read(&image)?,
                ..RunRequest::default()
            };
            let report =
                bpf2sys_simulator::run(&request).map_err(|e| format!("{} with --hash {hash}: {e}", image.display()))?;
            if report.stated_version != "1.6.0" {
                return Err(format!("it states {}", report.stated_version).into());
            }
        }
    }
    Ok(())
}

/// With hashes, the tables are the same, and the hashes are those of the algorithm; SHA-256 is the default.
fn states_hashes(module: &str) -> Result<(), Failed> {
    let folder = tempfile::tempdir()?;
    let plain = without_hashes(&module_metadata(
        &build(module, Machine::X64, "none", folder.path())?[0],
    )?);
    let object = std::fs::read(fixture(module, "o"))?;
    for algorithm in bpf2sys::HashAlgorithm::ALL {
        let cng = algorithm.cng_name();
        let option = cng.to_lowercase();
        let folder = tempfile::tempdir()?;
        let metadata = module_metadata(&build(module, Machine::X64, &option, folder.path())?[0])?;
        let digest = algorithm.digest(&object);
        let hex = digest
            .iter()
            .fold(String::new(), |text, byte| text + &format!("{byte:02x}"));
        if metadata["elf_hash"] != hex.as_str() {
            return Err(format!("{cng}: the hash of the object is {}, not {hex}", metadata["elf_hash"]).into());
        }
        for program in metadata["programs"].as_array().ok_or("no programs")? {
            let hash = program["program_info_hash"].as_str().unwrap_or_default();
            if hash.len() != hex.len() || program["program_info_hash_type"] != cng {
                return Err(format!("{cng}: {program}").into());
            }
        }
        let rest = without_hashes(&metadata);
        if rest != plain {
            return Err(format!("{cng}: {rest}, without hashes {plain}").into());
        }
    }
    Ok(())
}

fn without_hashes(metadata: &Value) -> Value {
    let mut rest = metadata.clone();
    rest["elf_hash"] = Value::Null;
    for program in rest["programs"].as_array_mut().into_iter().flatten() {
        program["program_info_hash"] = Value::Null;
        program["program_info_hash_type"] = Value::Null;
    }
    rest
}

/// A reader of images that this project did not write finds what it expects, in the facts as they were before this
/// project took them over.
fn is_judged(module: &str, machine: Machine) -> Result<(), Failed> {
    let (script, expected) = judge().ok_or("the judge is gone")?;
    let folder = tempfile::tempdir()?;
    for image in build(module, machine, "none", folder.path())? {
        let mut command = Command::new("python3");
        command
            .arg(&script)
            .args(["--level", "contract", "--arch", machine_name(machine), "--expect"])
            .args([&expected.join(module).with_extension("json"), &image]);
        let out = output(&mut command)?;
        let (said, complained) = (
            String::from_utf8_lossy(&out.stdout),
            String::from_utf8_lossy(&out.stderr),
        );
        if !out.status.success() {
            return Err(format!("{}: {}\n{said}{complained}", image.display(), out.status).into());
        }
    }
    Ok(())
}

/// Every single fact of every module counts: changed, it is a difference.
fn every_fact() -> Result<(), Failed> {
    for module in MODULES {
        let known = facts(module)?;
        let same = compare::differences(&known, &known);
        if !same.is_empty() {
            return Err(format!("{module} differs from itself: {same:?}").into());
        }
        for pointer in compare::leaves(&known) {
            // Not in an image; `subprograms` and `lookups` compare them.
            if pointer.starts_with("/subprograms") || pointer.contains("/inlined_array_lookups") {
                continue;
            }
            let mut changed = known.clone();
            let leaf = changed.pointer_mut(&pointer).ok_or("a leaf is gone")?;
            *leaf = match &*leaf {
                Value::Number(number) if number.as_u64() == Some(0) => 1.into(),
                Value::Number(_) => 0.into(),
                Value::String(text) => format!("{text}0").into(),
                other => return Err(format!("{module}{pointer} is {other}").into()),
            };
            if compare::differences(&changed, &known).is_empty() {
                return Err(format!("{module}: a change of {pointer} goes unnoticed").into());
            }
        }
    }
    Ok(())
}
