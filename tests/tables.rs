//! What the tables of a module ask of the runtime: levels, hashes, functions of other modules, tail calls out of
//! subprograms, and modules that are refused because the runtime would refuse them, or crash.

use std::path::{Path, PathBuf};
use std::process::Command;

use libtest_mimic::{Failed, Trial};
use serde_json::{Value, json};

use crate::examples::EXAMPLES;
use crate::support::{Need, output, root, succeed, test, test_with, tool};

/// Exit status of what cannot be compiled.
const NOT_COMPILED: i32 = 5;

/// `--runtime`, the version that the module states, and the size of its program entries.
const LEVELS: [(&str, [u32; 3], u64); 3] = [
    ("0.21", [1, 3, 0], 144),
    ("1.4", [1, 4, 0], 144),
    ("1.6", [1, 6, 0], 160),
];

/// Names of the files in `tests/fixtures/tables` that must be refused, without `.c` and `.o`, and the whole message.
const REFUSED: [(&str, &str); 9] = [
    (
        "array_too_large",
        "map `huge`: map type `array`: its values take 1152921504606846976 bytes; the runtime allocates at most 137438953472",
    ),
    (
        "inner_map_of_other_shape",
        "initial value 1 of map `outer`: map `longer` differs from the inner map `fitting` in type, key size, value size or \
         `max_entries`",
    ),
    (
        "inner_maps_in_a_circle",
        "map `first`: its inner map, and the inner map of that, and so on, lead back to a map of the same kind; none can be \
         created",
    ),
    (
        "pinned_with_colon",
        "map `c:drive`: it is pinned by its name, which must have no `:` and make a path of at most 255 bytes",
    ),
    (
        "prefix_too_short",
        "map `routes`: map type `lpm_trie`: its key size is 2; this type needs at least 4",
    ),
    (
        "queue_with_keys",
        "map `queue`: map type `queue`: its key size is 4; this type needs 0",
    ),
    (
        "ring_of_odd_size",
        "map `events`: map type `ringbuf`: its `max_entries` is 6000; this type needs a power of two",
    ),
    (
        "two_types_in_one_array",
        "map `mixed`: program `deny` of type `bind` cannot share it with program `drop` of type `xdp`; all programs that use \
         a program array or are in it must be of one type",
    ),
    (
        "unknown_map_type",
        "map `odd`: there is no map type 4711; there are 1 hash, 2 array, 3 prog_array, 4 percpu_hash, 5 percpu_array, \
         6 hash_of_maps, 7 array_of_maps, 8 lru_hash, 9 lpm_trie, 10 queue, 11 lru_percpu_hash, 12 stack, 13 ringbuf, \
         14 perf_event_array, 15 sample_hash_map, 16 xskmap",
    ),
];

/// Refused before it is compiled.
const LONG_NAME: (&str, &str) = (
    "long_map_name",
    "the name of map `a_map_with_a_name_that_is_one_byte_longer_than_names_of_maps_may_be` has 67 bytes; the runtime takes 1 to \
     63",
);

/// The others.
const TAIL_CALL: &str = "tail_call_in_subprogram";
const OTHER_MODULE: &str = "other_module";

pub fn trials() -> Vec<Trial> {
    let mut trials: Vec<Trial> = REFUSED
        .iter()
        .map(|(fixture, message)| {
            test(&format!("tables::{fixture}_is_refused"), || {
                refused(fixture, NOT_COMPILED, "BPF3004", message)
            })
        })
        .collect();
    trials.push(test("tables::long_map_name_is_refused", || {
        let (fixture, message) = LONG_NAME;
        refused(fixture, 4, "BPF2036", message)
    }));
    trials.push(test("tables::every_fixture_is_tested", every_fixture));
    trials.push(test("tables::every_level_makes_sound_images", sound_levels));
    trials.push(test("tables::functions_of_other_modules_need_level_1_6", needs_level));
    trials.push(test("tables::inspect_lists_functions_of_other_modules", inspected));
    trials.push(test("tables::hashes_are_stated_and_hold", hashes));
    trials.push(test("tables::help_tells_what_an_older_runtime_does", help));
    for (machine, needs) in [("x64", &[][..]), ("arm64", &[Need::Emulator])] {
        let on = |name: &str, body: fn(&str) -> Result<(), Failed>| {
            test_with(&format!("tables::{name}_{machine}"), needs, move || body(machine))
        };
        trials.push(on("programs_of_every_level_do_the_same", levels_run_alike));
        trials.push(on("a_tail_call_in_a_subprogram_ends_the_program", tail_call));
        trials.push(on("functions_of_other_modules_are_called", other_module));
    }
    trials
}

fn fixture(name: &str) -> PathBuf {
    root().join("tests/fixtures/tables").join(name).with_extension("o")
}

fn example(name: &str) -> PathBuf {
    root().join("examples").join(name).join(name).with_extension("o")
}

fn refused(name: &str, status: i32, code: &str, message: &str) -> Result<(), Failed> {
    let folder = tempfile::tempdir()?;
    let out = output(
        tool()
            .arg("build")
            .arg(fixture(name))
            .arg("--out-dir")
            .arg(folder.path()),
    )?;
    let told = String::from_utf8_lossy(&out.stderr);
    if out.status.code() != Some(status) {
        return Err(format!("{}, not status {status}:\n{told}", out.status).into());
    }
    let wanted = format!("error[{code}]: {message}");
    if told.lines().next() != Some(wanted.as_str()) {
        return Err(format!("`{wanted}` is not the first line of\n{told}").into());
    }
    match std::fs::read_dir(folder.path())?.next() {
        None => Ok(()),
        Some(left) => Err(format!("left behind: {left:?}").into()),
    }
}

fn every_fixture() -> Result<(), Failed> {
    let known = |name: &str| {
        name == TAIL_CALL
            || name == OTHER_MODULE
            || name == LONG_NAME.0
            || REFUSED.iter().any(|(known, _)| name == *known)
    };
    for file in std::fs::read_dir(root().join("tests/fixtures/tables"))? {
        let path = file?.path();
        let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        if path.extension().is_some_and(|e| e == "c") && !known(&name) {
            return Err(format!("nothing tests {}", path.display()).into());
        }
    }
    Ok(())
}

/// An image of `object`, in `folder`.
fn build(object: &Path, folder: &Path, arguments: &[&str]) -> Result<PathBuf, Failed> {
    let form = if arguments.contains(&"dll") { "dll" } else { "sys" };
    let path = folder.join(format!("module.{form}"));
    succeed(
        tool()
            .arg("build")
            .arg(object)
            .args(arguments)
            .arg("-q")
            .arg("-o")
            .arg(&path),
    )?;
    Ok(path)
}

fn metadata(image: &Path) -> Result<Value, Failed> {
    let text = succeed(tool().arg("inspect").arg(image).args(["--format", "module-metadata"]))?;
    serde_json::from_str(&text).map_err(|e| format!("{e} in {text}").into())
}

/// Runs an image, or an object by the interpreter.
fn run(mut command: Command, packet: &[u8]) -> Result<Value, Failed> {
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("packet");
    std::fs::write(&path, packet)?;
    let text = succeed(command.arg("--packet").arg(path).arg("--json"))?;
    serde_json::from_str(&text).map_err(|e| format!("{e} in {text}").into())
}

fn driver(image: &Path) -> Command {
    let mut command = tool();
    command.arg("run").arg(image);
    command
}

fn interpreter(object: &Path) -> Command {
    let mut command = tool();
    command.args(["run", "--interpret"]).arg(object);
    command
}

fn same(what: &str, found: &Value, expected: &Value) -> Result<(), Failed> {
    if found == expected {
        Ok(())
    } else {
        Err(format!("{what}: found {found}, not {expected}").into())
    }
}

/// The level is in the tables, whatever is around them, and everything else in them is as it is by default.
fn sound_levels() -> Result<(), Failed> {
    let folder = tempfile::tempdir()?;
    for example_name in EXAMPLES {
        let object = example(example_name);
        for (machine, form) in [("x64", "sys"), ("x64", "dll"), ("arm64", "sys"), ("arm64", "dll")] {
            let usual = metadata(&build(&object, folder.path(), &["--arch", machine, "--emit", form])?)?;
            for (level, version, entry) in LEVELS {
                let arguments = ["--runtime", level, "--arch", machine, "--emit", form];
                let image = build(&object, folder.path(), &arguments)?;
                let mut found = metadata(&image)?;
                let what = format!("{example_name} {arguments:?}");
                same(&what, &found["version"], &json!(version))?;
                found["version"] = usual["version"].clone();
                same(&what, &found, &usual)?;
                let programs = usual["programs"].as_array().map_or(0, Vec::len) as u64;
                same(&what, &table_bytes(&image, "programs")?, &json!(programs * entry))?;
            }
        }
    }
    Ok(())
}

/// Size of a section in bytes, by another reader.
fn table_bytes(image: &Path, name: &str) -> Result<Value, Failed> {
    use object::{Object, ObjectSection};
    let bytes = std::fs::read(image)?;
    let file = object::File::parse(&*bytes)?;
    let section = file
        .section_by_name(name)
        .ok_or_else(|| format!("no section `{name}`"))?;
    Ok(json!(section.size()))
}

/// The report of a run, without what a level may change: its version, the stack, and lookups that become calls.
fn comparable(mut report: Value) -> Value {
    for field in ["stated_version", "max_stack_bytes", "helper_calls", "values"] {
        report[field] = Value::Null;
    }
    report
}

fn levels_run_alike(machine: &str) -> Result<(), Failed> {
    let folder = tempfile::tempdir()?;
    // Frames that each program reads more than a header of.
    let echo = std::fs::read(root().join("examples/tail_dispatch/echo.bin"))?;
    let dns = std::fs::read(root().join("examples/udp_filter/dns.bin"))?;
    let cases = [
        (example("tail_dispatch"), "dispatch", &echo),
        (example("udp_filter"), "udp_filter", &dns),
        (fixture(TAIL_CALL), "entry", &vec![0]),
    ];
    for (object, program, packet) in cases {
        let expected = run(interpreter(&object).tap(&["--program", program]), packet)?;
        for (level, version, _) in LEVELS {
            let image = build(&object, folder.path(), &["--runtime", level, "--arch", machine])?;
            let found = run(driver(&image).tap(&["--program", program]), packet)?;
            let [major, minor, revision] = version;
            same(
                "version",
                &found["stated_version"],
                &json!(format!("{major}.{minor}.{revision}")),
            )?;
            let what = format!("{program} for {level}");
            same(&what, &comparable(found), &comparable(expected.clone()))?;
        }
    }
    Ok(())
}

/// A command with more arguments.
trait Tap {
    fn tap(self, arguments: &[&str]) -> Self;
}

impl Tap for Command {
    fn tap(mut self, arguments: &[&str]) -> Command {
        self.args(arguments);
        self
    }
}

fn tail_call(machine: &str) -> Result<(), Failed> {
    // By slot: result, programs that were called, and how often each place was passed: start, after the tail call, after
    // the function that made it, after its caller, in the next program.
    let cases = [
        (0_u8, 7, json!(["next"]), [1, 0, 0, 0, 1]),
        (1, 102, json!([]), [1, 1, 1, 1, 0]), // an empty slot
        (2, 102, json!([]), [1, 1, 1, 1, 0]), // none
    ];
    let folder = tempfile::tempdir()?;
    let image = build(&fixture(TAIL_CALL), folder.path(), &["--arch", machine])?;
    for (slot, result, called, passed) in cases {
        for command in [driver(&image), interpreter(&fixture(TAIL_CALL))] {
            let report = run(command.tap(&["--program", "entry"]), &[slot])?;
            let what = format!("slot {slot}");
            same(&what, &report["results"][0]["result"], &json!(result))?;
            same(&what, &report["results"][0]["tail_calls"], &called)?;
            let maps = report["maps"].as_array().ok_or("no maps")?;
            let marks = maps.iter().find(|map| map["name"] == "marks").ok_or("no `marks`")?;
            for (place, count) in passed.into_iter().enumerate() {
                let value = &marks["entries"][place]["values"][0];
                same(
                    &format!("{what}, place {place}"),
                    value,
                    &json!(format!("{count:02}00000000000000")),
                )?;
            }
        }
    }
    Ok(())
}

fn other_module(machine: &str) -> Result<(), Failed> {
    let folder = tempfile::tempdir()?;
    for form in ["sys", "dll"] {
        let image = build(
            &fixture(OTHER_MODULE),
            folder.path(),
            &["--arch", machine, "--emit", form],
        )?;
        let expected = json!([{
            "index": 0,
            "name": "sample_ebpf_extension_btf_lookup",
            "module_guid": {
                "guid": "8f6c1f83-ce4c-4b58-8b91-654a29e23b7c",
                "bytes": "831f6c8f4cce584b8b91654a29e23b7c",
            },
        }]);
        same(
            form,
            &metadata(&image)?["programs"][0]["btf_resolved_functions"],
            &expected,
        )?;
        let report = run(driver(&image), &[0; 8])?;
        // Once from the program and once from its subprogram.
        same(form, &report["btf_calls"][0]["calls"], &json!(2))?;
        let interpreted = run(interpreter(&fixture(OTHER_MODULE)), &[0; 8])?;
        same(form, &comparable(report), &comparable(interpreted))?;
    }
    Ok(())
}

fn needs_level() -> Result<(), Failed> {
    let object = fixture(OTHER_MODULE);
    for level in ["0.21", "1.4"] {
        for form in ["sys", "dll", "obj", "clif", "asm"] {
            let folder = tempfile::tempdir()?;
            let mut command = tool();
            command.args(["build", "--runtime", level, "--emit", form]).arg(&object);
            let out = output(command.arg("--out-dir").arg(folder.path()))?;
            let told = String::from_utf8_lossy(&out.stderr).into_owned();
            let wanted = [
                format!(
                    "error[BPF3005]: function `ask`, instruction 6: calls `sample_ebpf_extension_btf_lookup` of another \
                     module (BTF-resolved function), which runtime {level} does not have; 1.6 is needed\n"
                ),
                "--> tests/fixtures/tables/other_module.c:".to_owned(),
                "help: build with `--runtime 1.6`".to_owned(),
            ];
            if out.status.code() != Some(NOT_COMPILED) || wanted.iter().any(|text| !told.contains(text)) {
                return Err(format!("{level} {form}: {}\n{told}", out.status).into());
            }
            if std::fs::read_dir(folder.path())?.next().is_some() {
                return Err(format!("{level} {form}: something was written").into());
            }
        }
    }
    Ok(())
}

/// Each algorithm is stated, with its digest of the object, and the runtime computes the same hash of the helpers.
/// Of an object as of the driver that it becomes: the program has what its subprograms call, too.
fn inspected() -> Result<(), Failed> {
    const FUNCTION: &str = "sample_ebpf_extension_btf_lookup of 8f6c1f83-ce4c-4b58-8b91-654a29e23b7c";
    let folder = tempfile::tempdir()?;
    let object = root().join("tests/fixtures/metadata/btf_resolved.o");
    let driver = build(&object, folder.path(), &[])?;
    let text = |file: &Path| succeed(tool().arg("inspect").arg(file));
    for file in [&object, &driver] {
        let text = text(file)?;
        if !text.contains(&format!("BTF-resolved functions {FUNCTION}\n")) {
            return Err(text.into());
        }
    }
    let json = succeed(tool().arg("inspect").arg("--json").arg(&object))?;
    let json: Value = serde_json::from_str(&json)?;
    same(
        "functions of the program",
        &json["programs"][0]["btf_functions"],
        &json!([FUNCTION]),
    )
}

fn hashes() -> Result<(), Failed> {
    use bpf2sys_bytecode::HashAlgorithm;
    let algorithms = [
        ("sha256", Some(HashAlgorithm::Sha256)),
        ("sha384", Some(HashAlgorithm::Sha384)),
        ("sha512", Some(HashAlgorithm::Sha512)),
        ("none", None),
    ];
    let folder = tempfile::tempdir()?;
    for object in [example("udp_filter"), fixture(TAIL_CALL), fixture(OTHER_MODULE)] {
        let bytes = std::fs::read(&object)?;
        for (option, algorithm) in algorithms {
            for form in ["sys", "dll"] {
                let image = build(&object, folder.path(), &["--hash", option, "--emit", form])?;
                let what = format!("{} {option} {form}", object.display());
                let stated = metadata(&image)?;
                let expected = algorithm.map(|a| a.of(&bytes).to_string());
                same(&what, &stated["elf_hash"], &json!(expected))?;
                for program in stated["programs"].as_array().ok_or("no programs")? {
                    let name = algorithm.map(HashAlgorithm::cng_name);
                    same(&what, &program["program_info_hash_type"], &json!(name))?;
                    let digits = program["program_info_hash"].as_str().map(str::len);
                    same(
                        &what,
                        &json!(digits),
                        &json!(algorithm.map(|a| 2 * a.digest(&[]).len())),
                    )?;
                }
                if (table_bytes(&image, "hash").is_ok()) != algorithm.is_some() {
                    return Err(format!("{what}: a section `hash`, or none").into());
                }
                // Refused if the hash of the helpers is another than the runtime's.
                succeed(&mut driver(&image))?;
            }
        }
    }
    Ok(())
}

fn help() -> Result<(), Failed> {
    let text = succeed(tool().args(["build", "--help"]))?;
    let text: Vec<&str> = text.split_whitespace().collect();
    let text = text.join(" ");
    let warning = "A runtime older than 1.4 takes a module of level 1.4 and gives it the wrong memory for maps";
    if text.contains(warning) {
        Ok(())
    } else {
        Err(format!("`{warning}` is not in\n{text}").into())
    }
}
