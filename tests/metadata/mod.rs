//! Modules of the shape of known ones: what their tables tell the runtime is what bpf2c's tell it.
//!
//! `tests/fixtures/metadata/` has a program and the facts for each. Everything that tells a module from another is
//! compared; `compare` says how, and `exceptions` lists where we differ on purpose.

mod builds;
mod compare;
mod exceptions;
mod inspect;
mod lookups;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use bpf2sys::HashAlgorithm;
use bpf2sys_pe_emit::Machine;
use bpf2sys_simulator::RunRequest;
use libtest_mimic::{Failed, Trial};
use serde_json::Value;

use self::builds::Builds;
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

pub fn trials() -> Vec<Trial> {
    let mut trials = inspect::trials();
    trials.push(test("metadata::every_fact_is_compared", every_fact));
    trials.push(test(
        "metadata::every_exception_is_about_a_known_module",
        exceptions::all_known,
    ));
    for module in MODULES {
        let builds = Arc::new(Builds::new(module));
        for (machine, name) in MACHINES.map(|machine| (machine, machine_name(machine))) {
            let of = builds.clone();
            trials.push(test(
                &format!("metadata::{module}_has_the_known_tables_on_{name}"),
                move || has_tables(&of, machine),
            ));
            let of = builds.clone();
            trials.push(test_with(
                &format!("metadata::{module}_loads_on_{name}"),
                needs_to_run(machine),
                move || loads(&of, machine),
            ));
            let of = builds.clone();
            trials.push(test_with(
                &format!("metadata::{module}_is_what_another_reader_expects_on_{name}"),
                &[Need::Judge],
                move || is_judged(&of, machine),
            ));
        }
        trials.push(test(&format!("metadata::{module}_states_its_hashes"), move || {
            states_hashes(&builds)
        }));
    }
    trials.push(test("metadata::every_algorithm_gives_its_hashes", every_algorithm));
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

fn module_metadata(image: &Path) -> Result<Value, Failed> {
    let mut command = tool();
    command.args(["inspect", "--format", "module-metadata"]).arg(image);
    Ok(serde_json::from_str(&succeed(&mut command)?)?)
}

/// Both forms of the module have the tables that the facts tell of, the listing shows the look-ups that need no call,
/// and the object has the subprograms.
fn has_tables(builds: &Builds, machine: Machine) -> Result<(), Failed> {
    let facts = facts(builds.module)?;
    let mut differences = Vec::new();
    for image in builds.plain(machine)? {
        let form = image.extension().unwrap_or_default().to_string_lossy().into_owned();
        let found = compare::differences(&module_metadata(&image)?, &facts);
        differences.extend(found.into_iter().map(|difference| (form.clone(), difference)));
    }
    let mut of_object = compare::subprograms(builds.module, &facts)?;
    of_object.extend(lookups::differences(builds.module, &builds.listing(machine)?, &facts)?);
    differences.extend(of_object.into_iter().map(|difference| ("code".to_owned(), difference)));
    exceptions::report(builds.module, &differences)
}

/// The simulator takes both forms, with and without hashes: it computes them from what its providers offer.
fn loads(builds: &Builds, machine: Machine) -> Result<(), Failed> {
    for image in builds.plain(machine)?.iter().chain(&builds.hashed(machine)?) {
        let request = RunRequest {
            image: std::fs::read(image)?,
            ..RunRequest::default()
        };
        let report = bpf2sys_simulator::run(&request).map_err(|e| format!("{}: {e}", image.display()))?;
        if report.stated_version != "1.6.0" {
            return Err(format!("it states {}", report.stated_version).into());
        }
    }
    Ok(())
}

/// With hashes, the tables are the same; without, there are none.
fn states_hashes(builds: &Builds) -> Result<(), Failed> {
    for (plain, hashed) in builds.plain(Machine::X64)?.iter().zip(&builds.hashed(Machine::X64)?) {
        let plain = module_metadata(plain)?;
        if plain != without_hashes(&plain) {
            return Err(format!("hashes where there should be none: {plain}").into());
        }
        let hashed = module_metadata(hashed)?;
        hashes(builds.module, HashAlgorithm::Sha256, &hashed)?;
        if without_hashes(&hashed) != plain {
            return Err(format!("{hashed}, without hashes {plain}").into());
        }
    }
    Ok(())
}

fn every_algorithm() -> Result<(), Failed> {
    for algorithm in HashAlgorithm::ALL {
        let folder = builds::build("droppacket", &algorithm.cng_name().to_lowercase())?;
        for machine in MACHINES {
            let image = folder.path().join(format!("droppacket.{}.sys", machine_name(machine)));
            hashes("droppacket", algorithm, &module_metadata(&image)?)?;
        }
    }
    Ok(())
}

/// The hash of the object is right, and each program has one of that algorithm.
fn hashes(module: &str, algorithm: HashAlgorithm, metadata: &Value) -> Result<(), Failed> {
    let digest = algorithm.digest(&std::fs::read(fixture(module, "o"))?);
    let digest = digest
        .iter()
        .fold(String::new(), |text, byte| text + &format!("{byte:02x}"));
    if metadata["elf_hash"] != digest.as_str() {
        return Err(format!("the hash of the object is {}, not {digest}", metadata["elf_hash"]).into());
    }
    for program in metadata["programs"].as_array().ok_or("no programs")? {
        let hash = program["program_info_hash"].as_str().unwrap_or_default();
        if hash.len() != digest.len() || program["program_info_hash_type"] != algorithm.cng_name() {
            return Err(format!("{}: {program}", algorithm.cng_name()).into());
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
fn is_judged(builds: &Builds, machine: Machine) -> Result<(), Failed> {
    let (script, expected) = judge().ok_or("the judge is gone")?;
    let expected = expected.join(builds.module).with_extension("json");
    for image in builds.plain(machine)? {
        let mut command = Command::new("python3");
        command
            .arg(&script)
            .args(["--level", "contract", "--arch", machine_name(machine), "--expect"])
            .args([&expected, &image]);
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
