//! `build --arch` and `--emit`: every form of every example for every machine, judged by readers that are not ours.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use libtest_mimic::{Failed, Trial};
use object::Object;

use crate::examples::EXAMPLES;
use crate::support::{Need, output, root, succeed, test, test_with, tool};

const OBJDUMP: &str = "llvm-objdump-19";
const MACHINES: [&str; 2] = ["x64", "arm64"];
const FORMS: [&str; 5] = ["sys", "dll", "obj", "clif", "asm"];

pub fn trials() -> Vec<Trial> {
    let mut trials = vec![
        test("emit::every_form_is_what_it_says_for_every_machine", every_form),
        test("emit::one_call_gives_what_single_calls_give", one_call_or_several),
        test("emit::outputs_are_identical_from_other_folders", identical_outputs),
        test("emit::what_is_named_twice_is_made_once", named_twice),
        test("emit::a_failure_leaves_no_output", failures_leave_nothing),
        test("emit::wrong_use_is_an_error_that_says_so", wrong_use),
        test("emit::text_goes_to_standard_output", standard_output),
        test("emit::examples_of_the_help_do_what_they_say", help_examples),
        test("emit::readme_shows_what_the_tool_prints", readme),
    ];
    for example in EXAMPLES {
        trials.push(test(
            &format!("emit::ir_of_{example}_is_read_back_by_cranelift"),
            move || ir_is_read_back(example),
        ));
        trials.push(test(
            &format!("emit::listing_of_{example}_has_every_instruction_of_the_object"),
            move || every_instruction(example),
        ));
        trials.push(test_with(
            &format!("emit::listing_of_{example}_has_the_boundaries_of_{OBJDUMP}"),
            &[Need::Program(OBJDUMP)],
            move || same_boundaries(example),
        ));
    }
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

/// One text form of an example, as standard output gets it.
fn text(name: &str, machine: &str, form: &str) -> Result<String, Failed> {
    let arguments = ["--arch", machine, "--emit", form, "-o", "-"];
    succeed(tool().arg("build").arg(example(name)).args(arguments))
}

fn every_form() -> Result<(), Failed> {
    for machine in MACHINES {
        for name in EXAMPLES {
            let folder = tempfile::tempdir()?;
            let told = succeed(&mut build(&example(name), folder.path(), &[machine], &FORMS))?;
            let expected: Vec<String> = ["asm", "clif", "dll", "obj", "sys"]
                .iter()
                .map(|form| format!("{name}.{form}"))
                .collect();
            assert_eq!(files(folder.path())?, expected);
            assert_eq!(told.lines().count(), FORMS.len(), "a line for each output:\n{told}");
            for form in FORMS {
                let path = folder.path().join(format!("{name}.{form}"));
                let bytes = std::fs::read(&path)?;
                check_form(form, machine, &bytes)
                    .map_err(|e| format!("{name}.{form} for {machine}: {}", e.message().unwrap_or("")))?;
                let line = format!("{}: {machine} ", path.display());
                assert!(told.contains(&line), "no `{line}` in\n{told}");
            }
        }
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

/// File names that builds for several machines give, and what single builds of the same name would be.
fn one_call_or_several() -> Result<(), Failed> {
    let (together, alone) = (tempfile::tempdir()?, tempfile::tempdir()?);
    let input = example("tail_dispatch");
    succeed(&mut build(&input, together.path(), &MACHINES, &FORMS))?;
    let mut expected = Vec::new();
    for machine in MACHINES {
        for form in FORMS {
            succeed(&mut build(&input, alone.path(), &[machine], &[form]))?;
            let single = std::fs::read(alone.path().join(format!("tail_dispatch.{form}")))?;
            let name = match MACHINES.len() {
                1 => format!("tail_dispatch.{form}"),
                _ => format!("tail_dispatch.{machine}.{form}"),
            };
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
        assert_eq!(text("bind_policy", "x64", form)?, file);
    }
    Ok(())
}

/// Runs the examples of `build --help` and looks for the files that they say are written.
fn help_examples() -> Result<(), Failed> {
    let help = succeed(tool().args(["build", "--help"]))?;
    let (_, examples) = help.split_once("Examples:\n").ok_or("no examples")?;
    let mut promised = 0;
    for line in examples.lines().map(str::trim).take_while(|line| !line.is_empty()) {
        let folder = tempfile::tempdir()?;
        std::fs::create_dir(folder.path().join("drivers"))?;
        for input in ["udp_filter.o", "filter.o"] {
            std::fs::copy(example("udp_filter"), folder.path().join(input))?;
        }
        let (command, comment) = line.split_once("   ").unwrap_or((line, ""));
        let words = command.split_whitespace().skip(1).flat_map(|word| match word {
            "*.o" => vec!["udp_filter.o", "filter.o"],
            word => vec![word],
        });
        succeed(tool().args(words).current_dir(&folder))?;
        let Some(names) = comment.trim().strip_prefix("writes ") else {
            continue;
        };
        let names = match names.split_once(['{', '}']) {
            Some((before, choices)) => {
                let (choices, after) = choices.split_once('}').ok_or("no end of the choices")?;
                choices
                    .split(',')
                    .map(|choice| format!("{before}{choice}{after}"))
                    .collect()
            }
            None => vec![names.to_owned()],
        };
        for name in names {
            assert!(folder.path().join(&name).is_file(), "`{command}` does not write {name}");
            promised += 1;
        }
    }
    assert!(promised >= 5, "{promised} files are promised:\n{examples}");
    Ok(())
}

fn ir_is_read_back(name: &str) -> Result<(), Failed> {
    for machine in MACHINES {
        let text = text(name, machine, "clif")?;
        let functions = cranelift_reader::parse_functions(&text).map_err(|e| format!("{machine}: {e}"))?;
        let headings = listing(&text_of_asm(name, machine)?);
        let of_module = headings.values().filter(|function| function.of_module).count();
        assert_eq!(functions.len(), of_module);
    }
    Ok(())
}

fn text_of_asm(name: &str, machine: &str) -> Result<String, Failed> {
    text(name, machine, "asm")
}

/// A function of a listing.
#[derive(Default)]
struct Listed {
    /// Whether it is a program or subprogram.
    of_module: bool,
    /// Bytes of code, as the heading states.
    size: usize,
    /// Native instructions: offset and bytes.
    native: Vec<(usize, String)>,
    /// The slots of the eBPF instructions.
    slots: Vec<usize>,
}

/// The functions of a listing, by name.
fn listing(text: &str) -> BTreeMap<String, Listed> {
    let mut functions: BTreeMap<String, Listed> = BTreeMap::new();
    let mut current = String::new();
    for line in text.lines() {
        if line.is_empty() || line.starts_with(';') {
            continue;
        }
        let size = line
            .split_once(" bytes of ")
            .and_then(|(before, _)| before.rsplit(' ').next());
        if let Some((name, what)) = line.split_once(": ")
            && let Some(size) = size
            && !line.starts_with(' ')
        {
            current = name.to_owned();
            let function = functions.entry(current.clone()).or_default();
            function.size = size.parse().unwrap_or(0);
            function.of_module = what.starts_with("program") || what.starts_with("subprogram");
            continue;
        }
        let function = functions.entry(current.clone()).or_default();
        let start = if function.of_module { 48 } else { 2 };
        let (left, right) = line.split_at_checked(start).unwrap_or((line, ""));
        if let Some(slot) = left.split_whitespace().next().and_then(|slot| slot.parse().ok()) {
            function.slots.push(slot);
        }
        let mut words = right.split_whitespace();
        if let (Some(offset), Some(bytes)) = (words.next(), words.next())
            && let Ok(offset) = usize::from_str_radix(offset, 16)
        {
            function.native.push((offset, bytes.to_owned()));
        }
    }
    functions
}

/// Every eBPF instruction is in the listing once (or again in parentheses), and the native code has no gaps.
fn every_instruction(name: &str) -> Result<(), Failed> {
    let object = std::fs::read(example(name))?;
    let module = bpf2sys_bytecode::read(&object, name)?;
    for machine in MACHINES {
        let functions = listing(&text_of_asm(name, machine)?);
        assert!(functions.contains_key("DriverEntry"), "no skeleton");
        for (name, listed) in &functions {
            let mut end = 0;
            for (offset, bytes) in &listed.native {
                assert_eq!(*offset, end, "{name} for {machine}");
                end += bytes.len() / 2;
            }
            assert_eq!(end, listed.size, "{name} for {machine}");
        }
        for function in &module.functions {
            let listed = functions
                .get(&function.name)
                .ok_or_else(|| format!("no {}", function.name))?;
            let mut slots = listed.slots.clone();
            slots.sort_unstable();
            let expected: Vec<usize> = function.instructions.iter().map(|insn| insn.slot as usize).collect();
            assert_eq!(slots, expected, "{} for {machine}", function.name);
        }
    }
    Ok(())
}

/// Another disassembler, reading the object file, finds instructions at the same offsets of each function.
fn same_boundaries(name: &str) -> Result<(), Failed> {
    let folder = tempfile::tempdir()?;
    for machine in MACHINES {
        succeed(&mut build(&example(name), folder.path(), &[machine], &["obj", "asm"]))?;
        let read = |form: &str| folder.path().join(format!("{name}.{form}"));
        let ours = listing(&std::fs::read_to_string(read("asm"))?);
        // By name, because they call what is at the start of a section by the section's name.
        let names: Vec<&str> = ours.keys().map(String::as_str).collect();
        let mut command = Command::new(OBJDUMP);
        command.arg(format!("--disassemble-symbols={}", names.join(",")));
        let theirs = objdump(&succeed(command.arg("--no-show-raw-insn").arg(read("obj")))?);
        let mut compared = 0;
        for (function, listed) in &ours {
            let Some(theirs) = theirs.get(function) else {
                // The object file has another skeleton.
                assert!(!listed.of_module, "{OBJDUMP} does not see {function}");
                continue;
            };
            let ours: Vec<usize> = listed.native.iter().map(|(offset, _)| *offset).collect();
            // Behind the function they show padding.
            let theirs: Vec<usize> = theirs.iter().copied().filter(|offset| *offset < listed.size).collect();
            assert_eq!(ours, theirs, "{function} for {machine}");
            compared += 1;
        }
        assert!(compared > 0, "nothing to compare");
    }
    Ok(())
}

/// By function: the offsets of the instructions that `llvm-objdump` shows.
fn objdump(text: &str) -> BTreeMap<String, Vec<usize>> {
    let mut functions: BTreeMap<String, Vec<usize>> = BTreeMap::new();
    let (mut current, mut start) = (String::new(), 0);
    let mut after_prefix = false;
    for line in text.lines() {
        if let Some((address, name)) = line.strip_suffix(">:").and_then(|line| line.split_once(" <")) {
            current = name.to_owned();
            start = usize::from_str_radix(address, 16).unwrap_or(0);
        } else if let Some((address, instruction)) = line.trim_start().split_once(':')
            && let Ok(address) = usize::from_str_radix(address, 16)
        {
            // The prefix `lock` has a line of its own.
            if !after_prefix {
                functions.entry(current.clone()).or_default().push(address - start);
            }
            after_prefix = instruction.trim() == "lock";
        }
    }
    functions
}

/// Plays the sessions of the README: what a command prints holds the lines that follow it, `...` standing for any lines.
fn readme() -> Result<(), Failed> {
    let page = std::fs::read_to_string(root().join("README.md"))?;
    let mut commands = 0;
    for session in page.split("```console\n").skip(1) {
        let session = session.split("```").next().unwrap_or_default();
        for shown in session.split("$ ").skip(1) {
            let (command, shown) = shown.split_once('\n').ok_or("a command without output")?;
            let folder = tempfile::tempdir()?;
            let words = command
                .split_whitespace()
                .skip(1)
                .map(|word| match word.strip_prefix("examples/") {
                    Some(file) => root().join("examples").join(file),
                    None => PathBuf::from(word),
                });
            let printed = succeed(tool().args(words).current_dir(&folder))?;
            let mut rest = printed.as_str();
            for part in shown.split("...\n").filter(|part| !part.trim().is_empty()) {
                let (_, after) = rest
                    .split_once(part)
                    .ok_or_else(|| format!("`{command}` does not print\n{part}\nbut\n{printed}"))?;
                rest = after;
            }
            commands += 1;
        }
    }
    if commands == 0 {
        return Err("no session".into());
    }
    Ok(())
}
