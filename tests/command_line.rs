//! The command line's promises: exit statuses, nothing lost, nothing half-written, the same bytes everywhere.

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use libtest_mimic::{Failed, Trial};

use crate::support::{Need, corpus, output, root, succeed, test, test_with, tool};

pub fn trials() -> Vec<Trial> {
    vec![
        test(
            "command_line::help_states_every_exit_status",
            help_states_every_exit_status,
        ),
        test(
            "command_line::every_subcommand_has_examples",
            every_subcommand_has_examples,
        ),
        test(
            "command_line::driver_is_named_after_its_object",
            driver_is_named_after_its_object,
        ),
        test(
            "command_line::standard_output_gets_the_same_driver",
            standard_output_gets_the_same_driver,
        ),
        test(
            "command_line::builds_are_identical_from_other_folders",
            builds_are_identical_from_other_folders,
        ),
        test_with(
            "command_line::builds_are_identical_at_another_time",
            &[Need::Program("faketime")],
            builds_are_identical_at_another_time,
        ),
        test(
            "command_line::several_inputs_are_built_and_one_bad_does_not_stop_them",
            one_bad_of_several,
        ),
        test("command_line::wrong_use_is_status_2_and_writes_nothing", wrong_use),
        test("command_line::bad_inputs_are_status_1_or_3", bad_inputs),
        test(
            "command_line::failed_build_keeps_the_old_driver",
            failed_build_keeps_the_old_driver,
        ),
        test_with(
            "command_line::full_disk_is_an_error",
            &[Need::File("/dev/full")],
            full_disk_is_an_error,
        ),
        test(
            "command_line::time_limit_is_an_error_that_says_so",
            time_limit_is_an_error,
        ),
        test("command_line::closed_pipe_is_no_error", closed_pipe_is_no_error),
        test("command_line::broken_images_are_status_6", broken_images_are_status_6),
        test("command_line::run_asks_which_program", run_asks_which_program),
        test("command_line::mutated_objects_never_panic", mutated_objects_never_panic),
        test_with(
            "command_line::malformed_objects_never_panic",
            &[Need::Corpus("malformed")],
            malformed_objects_never_panic,
        ),
    ]
}

fn example(name: &str) -> PathBuf {
    root().join("examples").join(name).join(name).with_extension("o")
}

fn rejected(name: &str) -> PathBuf {
    root().join("tests/fixtures/rejected").join(name).with_extension("o")
}

/// Checks the exit status, and that standard error holds all of `fragments`.
fn expect(command: &mut Command, status: i32, fragments: &[&str]) -> Result<Output, Failed> {
    let out = output(command)?;
    let text = String::from_utf8_lossy(&out.stderr);
    if out.status.code() != Some(status) {
        return Err(format!("{command:?}: {}, not {status}:\n{text}", out.status).into());
    }
    match fragments.iter().find(|f| !text.contains(**f)) {
        Some(missing) => Err(format!("{command:?}: does not say {missing:?}:\n{text}").into()),
        None => Ok(out),
    }
}

fn files(folder: &Path) -> Result<Vec<String>, Failed> {
    let mut names = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        names.push(entry?.file_name().to_string_lossy().into_owned());
    }
    names.sort();
    Ok(names)
}

fn help_states_every_exit_status() -> Result<(), Failed> {
    let help = succeed(tool().arg("--help"))?;
    for status in 0..=6 {
        if !help
            .lines()
            .any(|line| line.trim_start().starts_with(&format!("{status}  ")))
        {
            return Err(format!("no line for status {status}:\n{help}").into());
        }
    }
    Ok(())
}

fn every_subcommand_has_examples() -> Result<(), Failed> {
    for command in [
        "init",
        "completions",
        "man",
        "build",
        "verify",
        "inspect",
        "check",
        "run",
        "sign",
        "signature",
        "report",
        "cert",
        "cert new",
        "explain",
        "package",
        "attest",
        "attest show",
        "attest verify",
        "platform",
        "platform header",
        "platform import",
        "platform list",
        "platform schema",
        "platform show",
    ] {
        let help = succeed(tool().args(command.split(' ')).arg("--help"))?;
        if !help.contains("Examples:\n") || !help.contains(&format!("bpf2sys {command} ")) {
            return Err(format!("no examples for {command}:\n{help}").into());
        }
    }
    Ok(())
}

fn driver_is_named_after_its_object() -> Result<(), Failed> {
    let folder = tempfile::tempdir()?;
    succeed(tool().arg("build").arg(example("flow_log")).current_dir(&folder))?;
    assert_eq!(files(folder.path())?, ["flow_log.sys"]);
    succeed(
        tool()
            .arg("build")
            .arg(example("flow_log"))
            .args(["--out-dir", "a/b"])
            .current_dir(&folder),
    )?;
    assert_eq!(files(&folder.path().join("a/b"))?, ["flow_log.sys"]);
    Ok(())
}

fn build_to(folder: &Path, object: &Path) -> Result<Vec<u8>, Failed> {
    let target = folder.join("out.sys");
    succeed(
        tool()
            .arg("build")
            .arg(object)
            .arg("-o")
            .arg(&target)
            .current_dir(folder),
    )?;
    Ok(std::fs::read(target)?)
}

fn standard_output_gets_the_same_driver() -> Result<(), Failed> {
    let folder = tempfile::tempdir()?;
    let file = build_to(folder.path(), &example("flow_log"))?;
    let piped = output(tool().arg("build").arg(example("flow_log")).args(["-o", "-"]))?;
    assert!(
        piped.status.success() && piped.stdout == file,
        "standard output differs from the file"
    );
    Ok(())
}

fn builds_are_identical_from_other_folders() -> Result<(), Failed> {
    for name in ["udp_filter", "tail_dispatch"] {
        let (one, other) = (tempfile::tempdir()?, tempfile::tempdir()?);
        let copy = other.path().join(name).with_extension("o");
        std::fs::copy(example(name), &copy)?;
        let relative = PathBuf::from(copy.file_name().unwrap_or_default());
        let (a, b) = (
            build_to(one.path(), &example(name))?,
            build_to(other.path(), &relative)?,
        );
        assert!(a == b, "{name}: two builds differ");
    }
    Ok(())
}

fn builds_are_identical_at_another_time() -> Result<(), Failed> {
    let build = |time: &str| -> Result<Vec<u8>, Failed> {
        let mut command = Command::new("faketime");
        command
            .args(["-f", time])
            .arg(env!("CARGO_BIN_EXE_bpf2sys"))
            .arg("build");
        let out = output(command.arg(example("bind_policy")).args(["-o", "-"]))?;
        assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
        Ok(out.stdout)
    };
    // The tool and the trick are worth nothing if the clock is not really another one.
    let year = succeed(Command::new("faketime").args(["-f", "@2001-02-03 04:05:06", "date", "+%Y"]))?;
    assert_eq!(year.trim(), "2001");
    assert!(
        build("@2001-02-03 04:05:06")? == build("@2037-08-09 10:11:12")?,
        "two builds differ"
    );
    Ok(())
}

fn one_bad_of_several() -> Result<(), Failed> {
    let folder = tempfile::tempdir()?;
    let inputs = [
        example("flow_log"),
        rejected("null_map_value"),
        example("bind_policy"),
        root().join("README.md"),
    ];
    let out = expect(
        tool().arg("build").args(&inputs).arg("--out-dir").arg(folder.path()),
        4,
        &["BPF2111", "null_map_value.o", "BPF1001", "README.md"],
    )?;
    assert_eq!(files(folder.path())?, ["bind_policy.sys", "flow_log.sys"]);
    let text = String::from_utf8_lossy(&out.stdout);
    let (first, second) = (text.find("flow_log.sys"), text.find("bind_policy.sys"));
    assert!(
        first.is_some() && first < second,
        "results are not in the order of the inputs:\n{text}"
    );
    Ok(())
}

fn wrong_use() -> Result<(), Failed> {
    let folder = tempfile::tempdir()?;
    let object = folder.path().join("a.o");
    std::fs::copy(example("flow_log"), &object)?;
    let in_folder = || {
        let mut command = tool();
        command.current_dir(&folder);
        command
    };
    expect(&mut in_folder(), 2, &["Usage"])?;
    expect(in_folder().arg("frobnicate"), 2, &["frobnicate"])?;
    expect(in_folder().arg("build"), 2, &["no input", "bpf2sys init"])?;
    expect(
        in_folder().args(["build", "a.o", "a.o"]),
        2,
        &["BPF9005", "two outputs", "a.sys"],
    )?;
    expect(
        in_folder().args(["build", "a.o", "b.o", "-o", "c.sys"]),
        2,
        &["--out-dir"],
    )?;
    expect(in_folder().args(["build", "a.o", "-o", "./a.o"]), 2, &["overwritten"])?;
    expect(in_folder().args(["build", "a.o", "-o", ""]), 2, &[])?;
    expect(
        in_folder().args(["verify", "a.o", "--time-limit", "0"]),
        2,
        &["time-limit"],
    )?;
    assert_eq!(files(folder.path())?, ["a.o"]);
    assert!(
        std::fs::read(&object)? == std::fs::read(example("flow_log"))?,
        "the input was changed"
    );
    Ok(())
}

fn bad_inputs() -> Result<(), Failed> {
    let folder = tempfile::tempdir()?;
    let text = folder.path().join("text");
    std::fs::write(&text, "no object")?;
    let empty = folder.path().join("empty.o");
    std::fs::write(&empty, "")?;
    let driver = folder.path().join("driver.sys");
    succeed(tool().arg("build").arg(example("flow_log")).arg("-o").arg(&driver))?;
    for command in ["build", "verify", "inspect"] {
        expect(
            tool().arg(command).arg("/no/such/file.o").current_dir(&folder),
            1,
            &["BPF9001", "/no/such/file.o"],
        )?;
        expect(
            tool().arg(command).arg(folder.path()).current_dir(&folder),
            1,
            &["BPF9001"],
        )?;
    }
    for input in [&text, &empty, &driver] {
        expect(
            tool().arg("build").arg(input).current_dir(&folder),
            if input == &driver { 2 } else { 3 },
            &[],
        )?;
        expect(tool().arg("verify").arg(input), 3, &["BPF1001"])?;
    }
    expect(tool().arg("inspect").arg(&text), 3, &["BPF9004"])?;
    // A program in a section that names no program type.
    expect(
        tool().arg("verify").arg(rejected("unknown_section")),
        4,
        &["BPF2011", "--type"],
    )?;
    expect(
        tool()
            .arg("verify")
            .arg(example("flow_log"))
            .args(["--type", "nonsense"]),
        4,
        &["BPF2012", "nonsense", "known prefixes: bind, cgroup/bind4, "],
    )?;
    expect(
        tool().arg("verify").arg(example("flow_log")).args(["--type", "sockop"]),
        4,
        &["BPF2012", "`sockop` (did you mean `sockops`?)"],
    )?;
    Ok(())
}

fn failed_build_keeps_the_old_driver() -> Result<(), Failed> {
    let folder = tempfile::tempdir()?;
    let target = folder.path().join("a.sys");
    std::fs::write(&target, "precious")?;
    expect(
        tool()
            .arg("build")
            .arg(rejected("unbounded_loop"))
            .arg("-o")
            .arg(&target),
        4,
        &["BPF2170"],
    )?;
    assert_eq!(std::fs::read(&target)?, b"precious");
    assert_eq!(files(folder.path())?, ["a.sys"]);
    Ok(())
}

fn full_disk_is_an_error() -> Result<(), Failed> {
    expect(
        tool().arg("build").arg(example("flow_log")).args(["-o", "/dev/full"]),
        1,
        &["BPF9003", "/dev/full"],
    )?;
    expect(
        tool()
            .arg("build")
            .arg(example("flow_log"))
            .args(["-o", "no/such/a.sys"]),
        1,
        &["BPF9003", "folder does not exist"],
    )?;
    expect(
        tool()
            .arg("inspect")
            .arg(example("flow_log"))
            .stdout(std::fs::File::create("/dev/full")?),
        1,
        &["BPF9003"],
    )?;
    Ok(())
}

fn time_limit_is_an_error() -> Result<(), Failed> {
    let object = root().join("tests/fixtures/bench/steps_5000.o");
    expect(
        tool()
            .args(["verify", "--verifier", "prevail", "--time-limit", "1"])
            .arg(object),
        4,
        &["BPF2015", "--time-limit"],
    )?;
    Ok(())
}

fn closed_pipe_is_no_error() -> Result<(), Failed> {
    let mut child = tool()
        .arg("inspect")
        .arg("--disassemble")
        .arg(root().join("tests/fixtures/bench/steps_5000.o"))
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    drop(child.stdout.take());
    let out = child.wait_with_output()?;
    assert!(
        out.status.success() && out.stderr.is_empty(),
        "{}: {}",
        out.status,
        String::from_utf8_lossy(&out.stderr)
    );
    Ok(())
}

fn broken_images_are_status_6() -> Result<(), Failed> {
    let folder = tempfile::tempdir()?;
    let image = build_to(folder.path(), &example("flow_log"))?;
    let broken = folder.path().join("broken.sys");
    let mut flipped = image.clone();
    flipped[image.len() / 2] ^= 1;
    for (bytes, what) in [
        (flipped.as_slice(), "checksum"),
        (&image[..image.len() - 512], ""),
        (&image[..64], ""),
    ] {
        std::fs::write(&broken, bytes)?;
        let out = expect(tool().arg("run").arg(&broken), 6, &["BPF50"])?;
        let text = String::from_utf8_lossy(&out.stderr).to_lowercase();
        assert!(text.contains(what), "does not speak of the {what}:\n{text}");
    }
    Ok(())
}

fn run_asks_which_program() -> Result<(), Failed> {
    let folder = tempfile::tempdir()?;
    build_to(folder.path(), &example("tail_dispatch"))?;
    let run = || {
        let mut command = tool();
        command.args(["run", "out.sys"]).current_dir(&folder);
        command
    };
    std::fs::write(folder.path().join("packet"), [0; 64])?;
    expect(
        run().args(["--packet", "packet"]),
        2,
        &["--program", "dispatch", "stage_arp"],
    )?;
    expect(
        run().args(["--packet", "packet", "--program", "nobody"]),
        6,
        &["BPF5008", "nobody"],
    )?;
    expect(
        run().args(["--packet", "none", "--program", "dispatch"]),
        1,
        &["BPF9001"],
    )?;
    expect(run().args(["--set-map", "counters"]), 2, &["--set-map"])?;
    expect(run().args(["--set-map", "nomap:00=00"]), 6, &["BPF5008", "nomap"])?;
    succeed(&mut run())?;
    Ok(())
}

/// Builds must end with a result or an error for every damaged object; `build` runs in this process, where a panic is
/// seen.
fn mutated_objects_never_panic() -> Result<(), Failed> {
    let object = std::fs::read(rejected("null_map_value"))?;
    let good = std::fs::read(root().join("tests/fixtures/bench/steps_50.o"))?;
    let options = bpf2sys::BuildOptions {
        time_limit: Some(std::time::Duration::from_secs(20)),
        ..Default::default()
    };
    // A linear congruential generator: the same damage in every run.
    let mut state = 1u64;
    let mut next = |bound: usize| {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as usize % bound
    };
    for round in 0..400 {
        let mut bytes = if round % 2 == 0 { object.clone() } else { good.clone() };
        for _ in 0..=next(4) {
            let place = next(bytes.len());
            bytes[place] = if next(3) == 0 {
                0xFF
            } else {
                bytes[place] ^ (1 << next(8))
            };
        }
        if next(8) == 0 {
            bytes.truncate(next(bytes.len()));
        }
        let outcome = std::panic::catch_unwind(|| bpf2sys::build(&bytes, "mutated.o", &options).is_ok());
        assert!(outcome.is_ok(), "round {round} panicked");
    }
    Ok(())
}

fn malformed_objects_never_panic() -> Result<(), Failed> {
    let folder = tempfile::tempdir()?;
    let Some(corpus) = corpus("malformed") else {
        return Err("the corpus went away".into());
    };
    for entry in std::fs::read_dir(corpus)? {
        let path = entry?.path();
        let target = folder.path().join("out.sys");
        let out = output(tool().arg("build").arg(&path).arg("-o").arg(&target))?;
        let text = String::from_utf8_lossy(&out.stderr);
        match out.status.code() {
            // One of them is well-formed by RFC 9669: only the tool that it was made for did not know its atomics.
            Some(0) => std::fs::remove_file(&target)?,
            Some(3..=5) => assert!(
                text.starts_with("error[BPF") && !text.contains("BPF9999"),
                "{}: {text}",
                path.display()
            ),
            _ => return Err(format!("{}: {}:\n{text}", path.display(), out.status).into()),
        }
    }
    assert_eq!(files(folder.path())?, [""; 0]);
    Ok(())
}
