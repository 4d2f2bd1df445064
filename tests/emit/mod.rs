//! `build --arch` and `--emit`: every form of every example for every machine, judged by readers that are not ours.

mod listing;
mod pages;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use libtest_mimic::{Failed, Trial};
use object::Object;

use crate::examples::EXAMPLES;
use crate::support::{output, root, succeed, test, tool};

const MACHINES: [&str; 2] = ["x64", "arm64"];
const FORMS: [&str; 5] = ["sys", "dll", "obj", "clif", "asm"];

pub fn trials() -> Vec<Trial> {
    let mut trials = vec![
        test("emit::every_form_is_what_it_says_for_every_machine", every_form),
        test("emit::one_call_gives_what_single_calls_give", one_call_or_several),
        test("emit::outputs_are_identical_from_other_folders", identical_outputs),
        test("emit::switches_of_arm64_change_its_code_alone", arm64_switches),
        test("emit::inspect_names_machine_and_kind_and_finds_no_problem", inspect),
        test("emit::what_is_named_twice_is_made_once", named_twice),
        test("emit::a_failure_leaves_no_output", failures_leave_nothing),
        test("emit::wrong_use_is_an_error_that_says_so", wrong_use),
        test("emit::text_goes_to_standard_output", standard_output),
    ];
    trials.extend(listing::trials());
    trials.extend(pages::trials());
    trials
}

fn example(name: &str) -> PathBuf {
    root().join("examples").join(name).join(name).with_extension("o")
}

fn files(folder: &Path) -> Result<Vec<String>, Failed> {
    let mut names = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        names.push(entry?.file_name().to_string_lossy().into_owned());
    }
    names.sort();
    Ok(names)
}

/// `build` into `folder`, of these forms for these machines.
fn build(input: &Path, folder: &Path, machines: &[&str], forms: &[&str]) -> Command {
    let mut command = tool();
    command.arg("build").arg(input).arg("--out-dir").arg(folder);
    command.args(machines.iter().flat_map(|machine| ["--arch", machine]));
    command.args(forms.iter().flat_map(|form| ["--emit", form]));
    command
}

/// All forms of an example for all machines.
struct Everything {
    folder: PathBuf,
    /// What `build` printed.
    told: String,
}

impl Everything {
    /// The example at `position`, built once for all tests.
    fn of(position: usize) -> Result<&'static Everything, Failed> {
        static BUILT: [OnceLock<Result<Everything, String>>; EXAMPLES.len()] = [const { OnceLock::new() }; _];
        let make = || {
            let name = EXAMPLES[position];
            let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("emit").join(name);
            let _ = std::fs::remove_dir_all(&folder); // of an earlier run
            let told = succeed(&mut build(&example(name), &folder, &MACHINES, &FORMS))
                .map_err(|e| e.message().unwrap_or_default().to_owned())?;
            Ok(Everything { folder, told })
        };
        Ok(BUILT[position].get_or_init(make).as_ref()?)
    }

    fn path(&self, name: &str, machine: &str, form: &str) -> PathBuf {
        self.folder.join(format!("{name}.{machine}.{form}"))
    }

    fn text(&self, name: &str, machine: &str, form: &str) -> Result<String, Failed> {
        Ok(std::fs::read_to_string(self.path(name, machine, form))?)
    }
}

fn every_form() -> Result<(), Failed> {
    for (position, name) in EXAMPLES.iter().enumerate() {
        let everything = Everything::of(position)?;
        let mut lines = everything.told.lines();
        for machine in MACHINES {
            for form in FORMS {
                let path = everything.path(name, machine, form);
                check_form(form, machine, &std::fs::read(&path)?)
                    .map_err(|e| format!("{}: {}", path.display(), e.message().unwrap_or_default()))?;
                let line = lines.next().unwrap_or_default();
                let start = format!("{}: {machine} ", path.display());
                assert!(line.starts_with(&start), "`{line}` does not start with `{start}`");
            }
        }
        assert_eq!(lines.next(), None);
        assert_eq!(files(&everything.folder)?.len(), MACHINES.len() * FORMS.len());
    }
    Ok(())
}

fn check_form(form: &str, machine: &str, bytes: &[u8]) -> Result<(), Failed> {
    let architecture = match machine {
        "x64" => object::Architecture::X86_64,
        _ => object::Architecture::Aarch64,
    };
    let fail = |what: String| Err(Failed::from(what));
    match form {
        "clif" | "asm" => {
            let text = std::str::from_utf8(bytes)?;
            let title = text.lines().next().unwrap_or_default();
            if !title.contains(&format!("compiled for {machine} ")) {
                return fail(format!("starts with `{title}`"));
            }
            // Control characters could drive a terminal.
            match text.chars().find(|c| c.is_control() && *c != '\n') {
                Some(c) => fail(format!("contains {c:?}")),
                None => Ok(()),
            }
        }
        "obj" => {
            let file = object::read::coff::CoffFile::<&[u8]>::parse(bytes)?;
            assert_eq!(file.architecture(), architecture);
            let defined = |name: &str| {
                use object::ObjectSymbol;
                file.symbols()
                    .any(|symbol| symbol.name() == Ok(name) && symbol.is_definition() && symbol.is_global())
            };
            assert!(defined("get_metadata_table"), "no `get_metadata_table`");
            Ok(())
        }
        _ => {
            let file = goblin::pe::PE::parse(bytes)?;
            assert_eq!(
                file.header.coff_header.machine,
                if machine == "x64" { 0x8664 } else { 0xAA64 }
            );
            let exports: Vec<&str> = file.exports.iter().filter_map(|export| export.name).collect();
            let expected: &[&str] = if form == "dll" { &["get_metadata_table"] } else { &[] };
            assert_eq!(exports, expected);
            Ok(())
        }
    }
}

/// Building for several machines names the outputs after them, and changes nothing else.
fn one_call_or_several() -> Result<(), Failed> {
    let (together, alone) = (tempfile::tempdir()?, tempfile::tempdir()?);
    let input = example("tail_dispatch");
    succeed(&mut build(&input, together.path(), &MACHINES, &FORMS))?;
    let mut expected = Vec::new();
    for machine in MACHINES {
        for form in FORMS {
            succeed(&mut build(&input, alone.path(), &[machine], &[form]))?;
            let single = std::fs::read(alone.path().join(format!("tail_dispatch.{form}")))?;
            let name = format!("tail_dispatch.{machine}.{form}");
            assert!(std::fs::read(together.path().join(&name))? == single, "{name} differs");
            expected.push(name);
        }
    }
    expected.sort();
    assert_eq!(files(together.path())?, expected);
    Ok(())
}

fn identical_outputs() -> Result<(), Failed> {
    let (one, other) = (tempfile::tempdir()?, tempfile::tempdir()?);
    let copy = other.path().join("udp_filter.o");
    std::fs::copy(example("udp_filter"), &copy)?;
    succeed(&mut build(&example("udp_filter"), one.path(), &MACHINES, &FORMS))?;
    succeed(build(Path::new("udp_filter.o"), Path::new("."), &MACHINES, &FORMS).current_dir(&other))?;
    std::fs::remove_file(copy)?;
    assert_eq!(files(one.path())?, files(other.path())?);
    for name in files(one.path())? {
        assert!(
            std::fs::read(one.path().join(&name))? == std::fs::read(other.path().join(&name))?,
            "{name} differs"
        );
    }
    Ok(())
}

fn arm64_switches() -> Result<(), Failed> {
    let folder = tempfile::tempdir()?;
    let plain = ["tail_dispatch.x64.asm", "tail_dispatch.arm64.asm"];
    let read = || -> Result<Vec<String>, Failed> {
        let texts = plain
            .iter()
            .map(|name| std::fs::read_to_string(folder.path().join(name)));
        Ok(texts.collect::<Result<_, _>>()?)
    };
    let input = example("tail_dispatch");
    succeed(&mut build(&input, folder.path(), &MACHINES, &["asm"]))?;
    let before = read()?;
    for (switch, instruction) in [("--lse", " ldaddal "), ("--sign-return-address", " pacibsp\n")] {
        succeed(build(&input, folder.path(), &MACHINES, &["asm"]).arg(switch))?;
        let after = read()?;
        assert!(after[0] == before[0], "{switch} changes code for x64");
        assert!(!before[1].contains(instruction), "{instruction} without {switch}");
        assert!(after[1].contains(instruction), "no {instruction} with {switch}");
    }
    Ok(())
}

fn inspect() -> Result<(), Failed> {
    let folder = tempfile::tempdir()?;
    for machine in MACHINES {
        for (form, kind) in [("sys", "driver"), ("dll", "DLL")] {
            // What `build` prints of a single image is what `inspect` prints.
            let built = succeed(&mut build(&example("flow_log"), folder.path(), &[machine], &[form]))?;
            let path = folder.path().join(format!("flow_log.{form}"));
            let told = succeed(tool().arg("inspect").arg(&path))?;
            assert_eq!(told, built);
            let title = format!("{}: {machine} {kind}, ", path.display());
            assert!(told.starts_with(&title), "{told}");
            assert!(!told.contains("problems:"), "{told}");
            assert_eq!(
                told.contains("\nexports: get_metadata_table\n"),
                form == "dll",
                "{told}"
            );
        }
    }
    Ok(())
}

fn named_twice() -> Result<(), Failed> {
    let folder = tempfile::tempdir()?;
    let forms = ["asm", "sys", "asm"];
    succeed(&mut build(&example("flow_log"), folder.path(), &["x64", "x64"], &forms))?;
    // One architecture, so the names do without it; and the same with commas.
    assert_eq!(files(folder.path())?, ["flow_log.asm", "flow_log.sys"]);
    succeed(&mut build(
        &example("flow_log"),
        folder.path(),
        &["x64,x64"],
        &["asm,clif"],
    ))?;
    assert_eq!(files(folder.path())?, ["flow_log.asm", "flow_log.clif", "flow_log.sys"]);
    Ok(())
}

fn failures_leave_nothing() -> Result<(), Failed> {
    let folder = tempfile::tempdir()?;
    for fixture in ["call_through_register", "legacy_packet_load"] {
        let input = root().join("tests/fixtures/rejected").join(fixture).with_extension("o");
        let out = output(&mut build(&input, folder.path(), &MACHINES, &FORMS))?;
        assert_eq!(out.status.code(), Some(4));
        // What is wrong with an object is told once, not for each output.
        assert_eq!(String::from_utf8_lossy(&out.stderr).matches("error[").count(), 1);
    }
    assert_eq!(files(folder.path())?, [""; 0]);
    // The last output cannot be written: its name is taken by a folder.
    std::fs::create_dir(folder.path().join("flow_log.asm"))?;
    let out = output(&mut build(&example("flow_log"), folder.path(), &["x64"], &FORMS))?;
    assert_eq!(out.status.code(), Some(1));
    let told = String::from_utf8_lossy(&out.stderr);
    assert!(told.contains("BPF9003") && told.contains("flow_log.asm"), "{told}");
    assert_eq!(files(folder.path())?, ["flow_log.asm"]);
    Ok(())
}

fn wrong_use() -> Result<(), Failed> {
    let folder = tempfile::tempdir()?;
    let cases: [(&[&str], &str); 8] = [
        (&["--emit", "sys,asm", "-o", "a"], "--out-dir"),
        (&["--emit", "sys,asm", "-o", "-"], "--out-dir"),
        (&["--arch", "x64,arm64", "-o", "a"], "--out-dir"),
        (&["--lse"], "`--lse`"),
        (&["--sign-return-address"], "`--sign-return-address`"),
        (&["--arch", "x64", "--lse"], "--arch arm64"),
        (&["--emit", "exe"], "possible values: sys, dll, obj, clif, asm"),
        (&["--arch", "x86"], "possible values: x64, arm64"),
    ];
    for (arguments, expected) in cases {
        let mut command = tool();
        command
            .arg("build")
            .arg(example("flow_log"))
            .args(arguments)
            .current_dir(&folder);
        let out = output(&mut command)?;
        let told = String::from_utf8_lossy(&out.stderr);
        assert_eq!(out.status.code(), Some(2), "{arguments:?}:\n{told}");
        assert!(
            told.contains(expected),
            "{arguments:?} does not say {expected:?}:\n{told}"
        );
    }
    assert_eq!(files(folder.path())?, [""; 0]);
    Ok(())
}

fn standard_output() -> Result<(), Failed> {
    let folder = tempfile::tempdir()?;
    for form in ["clif", "asm"] {
        succeed(&mut build(&example("bind_policy"), folder.path(), &["x64"], &[form]))?;
        let file = std::fs::read_to_string(folder.path().join(format!("bind_policy.{form}")))?;
        let arguments = ["--emit", form, "-o", "-"];
        let printed = succeed(tool().arg("build").arg(example("bind_policy")).args(arguments))?;
        assert_eq!(printed, file);
    }
    Ok(())
}
