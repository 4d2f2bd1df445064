//! Coverage: which lines ran, judged by the interpreter, by lcov's own tools, and for code that another compiler made.

use std::path::{Path, PathBuf};
use std::process::Command;

use bpf2sys::{BuildOptions, Form, Machine};
use bpf2sys_lines::{LineTable, code_hash};
use bpf2sys_simulator::image::Image;
use bpf2sys_simulator::program_code::program_code;
use bpf2sys_simulator::{ObjectFile, RunReport, RunRequest, Trace, usermode};
use bpf2sys_testing::coverage::Coverage;
use libtest_mimic::{Failed, Trial};

use crate::examples::EXAMPLES;
use crate::interpret::{inputs, samples};
use crate::support::{Need, output, root, succeed, test, test_with, tool};

const CLANG: &str = "clang-19";
const LINKER: &str = "lld-link-19";
const DLLTOOL: &str = "llvm-dlltool-19";
const OBJCOPY: &str = "llvm-objcopy-19";

pub fn trials() -> Vec<Trial> {
    let mut trials = Vec::new();
    for example in EXAMPLES {
        trials.push(test(
            &format!("coverage::lines_of_{example}_are_those_that_the_interpreter_runs"),
            move || same_lines(Machine::X64, example),
        ));
        trials.push(test_with(
            &format!("coverage::lines_of_{example}_for_arm64_are_those_that_the_interpreter_runs"),
            &[Need::Emulator],
            move || same_lines(Machine::Arm64, example),
        ));
    }
    trials.extend([
        test_with(
            "coverage::tools_of_lcov_read_it",
            &[Need::Program("lcov"), Need::Program("genhtml")],
            tools_of_lcov_read_it,
        ),
        test("coverage::lines_are_found_beside_the_driver", found_beside),
        test("coverage::options_of_the_build_are_found_out", options_are_found_out),
        test_with(
            "coverage::lines_of_others_are_refused",
            &[Need::Program(OBJCOPY)],
            lines_of_others,
        ),
        test_with(
            "coverage::a_driver_of_clang_has_those_of_its_program_database",
            &[Need::Program(CLANG), Need::Program(LINKER), Need::Program(DLLTOOL)],
            of_a_program_database,
        ),
        test("coverage::tests_add_up", tests_add_up),
    ]);
    trials
}

/// How many lines of an example may have other counts than the interpreter's, of a hundred: where the compiler made one piece of
/// code for several, only the code around it tells.
const OTHER_COUNTS: usize = 12;

fn same_lines(machine: Machine, example: &str) -> Result<(), Failed> {
    let object = ObjectFile {
        name: format!("{example}.o"),
        bytes: std::fs::read(object_path(example))?,
    };
    let (native, interpreted) = both(machine, object, &samples(example)?)?;
    let (mut lines, mut other, mut ran, mut missed) = (0, 0, 0, 0);
    for (name, file) in &interpreted.files {
        let found = native.files.get(name).ok_or_else(|| format!("nothing of {name}"))?;
        if !found.lines.keys().eq(file.lines.keys()) {
            return Err(format!("{name}: {:?}, {:?}", found.lines, file.lines).into());
        }
        for ((line, found), expected) in found.lines.iter().zip(file.lines.values()) {
            lines += 1;
            other += usize::from(found != expected);
            ran += usize::from(*found > 0);
            missed += usize::from(*found == 0);
            if (*found > 0) != (*expected > 0) {
                return Err(format!("{name}:{line}: ran {found} times, and not {expected}").into());
            }
        }
        for (name, expected) in &file.functions {
            // One that was inlined twice into one straight piece of code is seen once.
            let found = found.functions.get(name).copied().unwrap_or_default();
            let is_once = found.count > 0 && found.count < expected.count && name == "update_checksum";
            if found != *expected && !is_once {
                return Err(format!("{name}: {found:?}, {expected:?}").into());
            }
        }
    }
    // The inputs are some that run much, and not all.
    assert!(ran > lines / 2 && missed > 0, "{ran} of {lines}");
    assert!(other * 100 <= lines * OTHER_COUNTS, "{other} of {lines} counts");
    let (ways, expected) = (native.branch_share(), interpreted.branch_share());
    assert!(ways.of * 10 >= expected.of * 8 && ways.of * 8 <= expected.of * 10);
    assert!(ways.hit * 10 >= expected.hit * 7 && ways.hit * 7 <= expected.hit * 10);
    Ok(())
}

fn object_path(example: &str) -> PathBuf {
    root().join(format!("examples/{example}/{example}.o"))
}

/// What ran by the code of a driver and by the interpreter.
fn both(machine: Machine, object: ObjectFile, samples: &[Vec<u8>]) -> Result<(Coverage, Coverage), Failed> {
    let options = BuildOptions {
        machines: vec![machine],
        forms: vec![Form::Sys, Form::Lines],
        ..BuildOptions::default()
    };
    let built = bpf2sys::build(&object.bytes, &object.name, &options).map_err(|e| e.to_string())?;
    let [image, lines] = built.outputs.as_slice() else {
        return Err("a driver and its line table".into());
    };
    let request = RunRequest {
        image: image.bytes.clone(),
        inputs: inputs(&built.verified, samples)?,
        time_limit_ms: 60_000,
        trace: Trace::Instructions,
        ..RunRequest::default()
    };
    let native = traced(&request)?;
    let interpreted = traced(&RunRequest {
        interpret: Some(object),
        ..request
    })?;
    let parsed = Image::parse(&image.bytes)?;
    let table = LineTable::from_json(&lines.bytes, &code_hash(&image.bytes)?)?;
    let view = usermode::read(&parsed).map_err(|e| e.to_string())?;
    let code = program_code(&parsed, &view);
    let traces = (native.trace.unwrap_or_default(), interpreted.trace.unwrap_or_default());
    Ok((
        Coverage::of_native(&table, &code, &traces.0.native),
        Coverage::of_interpreted(built.verified.module(), &traces.1.interpreted),
    ))
}

fn traced(request: &RunRequest) -> Result<RunReport, Failed> {
    bpf2sys_simulator::run(request).map_err(|e| e.to_string().into())
}

/// A folder with the driver of the filter example, built with these options and signed by nobody.
fn built(options: &[&str]) -> Result<tempfile::TempDir, Failed> {
    let folder = tempfile::tempdir()?;
    let driver = folder.path().join("udp_filter.sys");
    let mut command = tool();
    command.args(["build", "--quiet"]).arg(object_path("udp_filter"));
    succeed(command.args(options).arg("-o").arg(driver))?;
    Ok(folder)
}

/// Runs the filter on the packets of the example, and gives what is said and what is counted.
fn run(folder: &Path, options: &[&str]) -> Result<(String, String), Failed> {
    let packets = root().join("examples/udp_filter/traffic.pcapng");
    let mut command = tool();
    command.current_dir(folder).args(["run", "udp_filter.sys", "--packet"]);
    let said = succeed(command.arg(packets).args(["--coverage", "ran.info"]).args(options))?;
    Ok((said, std::fs::read_to_string(folder.join("ran.info"))?))
}

/// The numbers of the lines that a summary of lcov has for something.
fn rate(summary: &str, what: &str) -> Result<String, Failed> {
    let line = summary.lines().find(|line| line.trim_start().starts_with(what));
    let rate = line.and_then(|line| Some(line.split_once('(')?.1.split_once(')')?.0));
    rate.map(str::to_owned).ok_or_else(|| summary.into())
}

fn tools_of_lcov_read_it() -> Result<(), Failed> {
    let folder = built(&[])?;
    std::fs::copy(object_path("udp_filter"), folder.path().join("udp_filter.o"))?;
    let (_, text) = run(folder.path(), &[])?;
    let coverage = Coverage::from_lcov(&text)?;
    let tracefile = folder.path().join("ran.info");
    let mut command = Command::new("lcov");
    command.args(["--rc", "lcov_branch_coverage=1", "--rc", "branch_coverage=1"]);
    // What old versions do not know they only warn of.
    let out = output(command.arg("--summary").arg(&tracefile))?;
    let summary = String::from_utf8_lossy(&out.stdout).into_owned() + &String::from_utf8_lossy(&out.stderr);
    for (what, share) in [
        ("lines", coverage.line_share()),
        ("functions", coverage.function_share()),
        ("branches", coverage.branch_share()),
    ] {
        let found = rate(&summary, what)?;
        assert!(
            found.starts_with(&format!("{} of {} ", share.hit, share.of)),
            "{summary}"
        );
    }
    let page = folder.path().join("page");
    // Sources are named as they are from the root of the project.
    let mut command = Command::new("genhtml");
    command
        .current_dir(root())
        .args(["--branch-coverage", "-q", "-o"])
        .arg(&page);
    succeed(command.arg(&tracefile))?;
    assert!(page.join("index.html").is_file());
    Ok(())
}

fn found_beside() -> Result<(), Failed> {
    let folder = built(&[])?;
    let (path, object) = (folder.path(), object_path("udp_filter"));
    let named = run(path, &["--lines", &object.to_string_lossy()])?;
    assert!(named.0.contains("lines that did not run: "), "{}", named.0);
    let expect_same = |text: &str| -> Result<(), Failed> { if text == named.1 { Ok(()) } else { Err(text.into()) } };
    // Nothing is there: the driver does not say where it came from.
    let mut command = tool();
    command
        .current_dir(path)
        .args(["run", "udp_filter.sys", "--packet", "hex:00", "--coverage", "a.info"]);
    let out = output(&mut command)?;
    let said = String::from_utf8_lossy(&out.stderr);
    assert_eq!(out.status.code(), Some(3), "{said}");
    assert!(said.contains("BPF5019") && !path.join("a.info").exists(), "{said}");
    // The object beside it, whose hash it states.
    std::fs::copy(&object, path.join("udp_filter.o"))?;
    expect_same(&run(path, &[])?.1)?;
    // The line table, which needs no object; also of a signed driver.
    std::fs::remove_file(path.join("udp_filter.o"))?;
    let build = |what: &[&str]| succeed(tool().current_dir(path).args(what));
    build(&["build", "--quiet", &object.to_string_lossy(), "--emit", "lines"])?;
    expect_same(&run(path, &[])?.1)?;
    build(&["cert", "new", "--quiet"])?;
    build(&["sign", "udp_filter.sys", "--pfx", "signing.pfx", "--quiet"])?;
    expect_same(&run(path, &[])?.1)?;
    Ok(())
}

fn options_are_found_out() -> Result<(), Failed> {
    let object = object_path("udp_filter");
    let lines = ["--lines", &object.to_string_lossy()];
    let (_, expected) = run(built(&[])?.path(), &lines)?;
    let lines_of = |text: &str| -> Vec<String> {
        let lines = text
            .lines()
            .filter(|line| line.starts_with("DA:") && line.ends_with(",0"));
        lines.map(str::to_owned).collect()
    };
    // A part of the names of maps comes from the object's name then, whatever it is called now.
    let folder = built(&[])?;
    std::fs::copy(&object, folder.path().join("renamed.o"))?;
    let (_, found) = run(folder.path(), &["--lines", "renamed.o"])?;
    assert_eq!(lines_of(&found), lines_of(&expected));
    for options in [
        &["--optimize", "none"][..],
        &["--runtime", "0.21", "--cfg", "off"],
        &["--runtime", "1.4", "--hash", "sha512"],
        &["--hash", "none", "--force-integrity"],
    ] {
        let (_, found) = run(built(options)?.path(), &lines)?;
        assert_eq!(lines_of(&found), lines_of(&expected), "{options:?}");
    }
    Ok(())
}

fn lines_of_others() -> Result<(), Failed> {
    let folder = built(&[])?;
    let path = folder.path();
    let mut command = Command::new(OBJCOPY);
    command.args(["--remove-section=.BTF.ext", "--remove-section=.rel.BTF.ext"]);
    succeed(command.arg(object_path("udp_filter")).arg(path.join("stripped.o")))?;
    succeed(tool().current_dir(path).args(["build", "--quiet", "stripped.o"]))?;
    std::fs::write(path.join("garbage"), "lines")?;
    std::fs::write(path.join("empty.json"), "{}")?;
    let other = object_path("flow_log");
    succeed(
        tool()
            .current_dir(path)
            .args(["build", "--quiet", "--emit", "lines"])
            .arg(&other),
    )?;
    for (driver, lines, part) in [
        (
            "udp_filter.sys",
            other.to_string_lossy().as_ref(),
            "does not give the code",
        ),
        ("udp_filter.sys", "flow_log.lines.json", "it belongs to another image"),
        ("udp_filter.sys", "garbage", "it is no line table"),
        ("udp_filter.sys", "empty.json", "missing field"),
        ("stripped.sys", "stripped.o", "compile the source with `-g`"),
    ] {
        let mut command = tool();
        command.current_dir(path).args(["run", driver, "--packet", "hex:00"]);
        let out = output(command.args(["--coverage", "a.info", "--lines", lines]))?;
        let said = String::from_utf8_lossy(&out.stderr);
        assert!(out.status.code() == Some(3) && said.contains(part), "{lines}: {said}");
        assert!(!path.join("a.info").exists());
    }
    Ok(())
}

/// The module that the simulator is tested with, compiled here as somebody would who works with Microsoft's tools.
fn of_a_program_database() -> Result<(), Failed> {
    let folder = tempfile::tempdir()?;
    let path = folder.path();
    let in_folder = |program: &str| {
        let mut command = Command::new(program);
        command.current_dir(path);
        command
    };
    let mut libraries = Vec::new();
    for (name, functions) in [
        ("ntoskrnl.exe", "RtlQueryRegistryValues"),
        (
            "NETIO.SYS",
            "NmrRegisterClient\nNmrDeregisterClient\nNmrWaitForClientDeregisterComplete\nNmrClientAttachProvider",
        ),
    ] {
        std::fs::write(path.join("a.def"), format!("LIBRARY {name}\nEXPORTS\n{functions}\n"))?;
        let library = format!("{name}.lib");
        succeed(in_folder(DLLTOOL).args(["-m", "i386:x86-64", "-d", "a.def", "-l", &library]))?;
        libraries.push(library);
    }
    let source = root().join("simulator/testdata/module.c");
    let mut command = in_folder(CLANG);
    command.args([
        "--target=x86_64-pc-windows-msvc",
        "-g",
        "-gcodeview",
        "-O1",
        "-mno-red-zone",
    ]);
    command.args([
        "-mno-implicit-float",
        "-ffreestanding",
        "-fno-builtin",
        "-fshort-wchar",
        "-fno-jump-tables",
    ]);
    succeed(command.args(["-funwind-tables", "-c", "-o", "module.obj"]).arg(&source))?;
    let mut command = in_folder(LINKER);
    command.args([
        "/nologo",
        "/driver",
        "/release",
        "/subsystem:native,10.00",
        "/entry:DriverEntry",
    ]);
    command.args([
        "/nodefaultlib",
        "/debug",
        "/pdb:module.pdb",
        "/dynamicbase",
        "/highentropyva",
        "/nxcompat",
    ]);
    command.args(["/base:0x140000000", "/out:module.sys", "module.obj"]);
    succeed(command.args(&libraries))?;
    let count = |pdb: &[&str]| -> Result<Coverage, Failed> {
        let mut command = tool();
        command
            .current_dir(path)
            .args(["run", "module.sys", "--program", "count", "--packet", "hex:45"]);
        succeed(command.args(["--repeat", "7", "--coverage", "ran.info"]).args(pdb))?;
        Ok(Coverage::from_lcov(&std::fs::read_to_string(path.join("ran.info"))?)?)
    };
    let found = count(&[])?;
    let [(name, file)] = found.files.iter().collect::<Vec<_>>()[..] else {
        return Err(format!("{found:?}").into());
    };
    assert!(name.ends_with("module.c"), "{name}");
    let text = std::fs::read_to_string(&source)?;
    // What ran is the function and nothing else.
    let start = text
        .lines()
        .position(|line| line.contains(" count("))
        .ok_or("no function")? as u32
        + 1;
    let ran: Vec<(u32, u64)> = (file.lines.iter().map(|(line, count)| (*line, *count)))
        .filter(|(_, count)| *count > 0)
        .collect();
    let near = |(line, count): &(u32, u64)| (start..start + 10).contains(line) && *count == 7;
    assert!(!ran.is_empty() && ran.iter().all(near), "{start}: {ran:?}");
    assert_eq!(file.functions.get("count").map(|function| function.count), Some(7));
    // The database of another link.
    succeed(
        in_folder(LINKER)
            .args([
                "/nologo",
                "/dll",
                "/noentry",
                "/debug",
                "/pdb:other.pdb",
                "/out:other.dll",
            ])
            .arg("module.obj")
            .args(&libraries),
    )?;
    let mut command = tool();
    command
        .current_dir(path)
        .args(["run", "module.sys", "--program", "count", "--packet", "hex:45"]);
    let out = output(command.args(["--coverage", "b.info", "--lines", "other.pdb"]))?;
    let said = String::from_utf8_lossy(&out.stderr);
    assert!(said.contains("the image names another program database"), "{said}");
    // Damaged ones are refused, or give something: nobody reads of a panic.
    let database = std::fs::read(path.join("module.pdb"))?;
    for step in 0..24 {
        let mut damaged = database.clone();
        for at in (step * 37..damaged.len()).step_by(997) {
            damaged[at] ^= 0x55;
        }
        std::fs::write(path.join("damaged.pdb"), damaged)?;
        let mut command = tool();
        command
            .current_dir(path)
            .args(["run", "module.sys", "--program", "count", "--packet", "hex:45"]);
        let out = output(command.args(["--coverage", "c.info", "--lines", "damaged.pdb"]))?;
        let said = String::from_utf8_lossy(&out.stderr);
        assert!(
            matches!(out.status.code(), Some(0 | 3)) && !said.contains("panicked"),
            "{said}"
        );
    }
    Ok(())
}

/// The tests of an example run what their inputs run one by one.
fn tests_add_up() -> Result<(), Failed> {
    let folder = tempfile::tempdir()?;
    let tracefile = folder.path().join("all.info");
    let of = |options: &[&str]| -> Result<(String, Coverage), Failed> {
        let mut command = tool();
        command
            .current_dir(root())
            .args(["test", "examples/udp_filter", "--coverage"])
            .arg(&tracefile);
        let said = succeed(command.args(options))?;
        Ok((said, Coverage::from_lcov(&std::fs::read_to_string(&tracefile)?)?))
    };
    let (said, all) = of(&[])?;
    assert!(
        said.contains("coverage of examples/udp_filter/udp_filter.c: lines "),
        "{said}"
    );
    let tests = succeed(
        tool()
            .current_dir(root())
            .args(["test", "--list", "examples/udp_filter"]),
    )?;
    let mut sum = Coverage::default();
    for name in tests.lines() {
        sum.add(of(&["--filter", name])?.1);
    }
    for (name, file) in &all.files {
        assert_eq!(sum.files.get(name).map(|file| &file.lines), Some(&file.lines), "{name}");
    }
    Ok(())
}
