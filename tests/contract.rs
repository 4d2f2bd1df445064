//! One part of the native module contract at a time, from the object to the running program: fixtures of
//! `tests/fixtures/contract`, built for both machines, run by driver and interpreter, which must agree.

use libtest_mimic::{Failed, Trial};

use crate::examples::runner::{Report, Run, expect, programs_of, read_u32, read_u64};
use crate::support::{output, root, succeed, test, tool};

pub fn trials() -> Vec<Trial> {
    let mut trials = vec![
        test("contract::helpers_and_maps_are_charged_to_who_reaches_them", charged),
        test("contract::no_program_has_an_unknown_type", lone_program_needs_a_type),
        test("contract::hashes_are_of_the_algorithm_asked_for", hashes_stated),
    ];
    let running: [(&str, fn() -> Result<(), Failed>); 13] = [
        ("variables_start_with_their_bytes", variables_start),
        ("variables_keep_what_is_written", variables_persist),
        ("a_variable_can_be_set_before_the_first_run", variables_set),
        ("initial_maps_are_found_at_their_slots", initial_maps),
        ("a_map_without_a_template_of_its_name_is_filled_later", unnamed_template),
        ("tail_calls_go_through_initial_slots", initial_programs),
        ("subprograms_have_frames_of_their_own", frames),
        ("eight_frames_are_enough_for_a_chain_of_calls", longest_chain),
        ("a_tail_call_from_a_subprogram_ends_the_program", departure),
        ("a_lone_program_in_text_runs_as_its_type", lone_program),
        ("program_types_share_a_pinned_map", program_types),
        ("each_map_type_behaves_as_its_type", map_types),
        ("levels_and_hashes_change_no_result", same_results),
    ];
    for (name, body) in running {
        trials.extend(programs_of("contract", name, body));
    }
    trials
}

fn fixture(name: &str) -> String {
    format!("tests/fixtures/contract/{name}.o")
}

/// The context of a program of type `sample`: its two numbers.
fn sample(number: u32, small: u16) -> Vec<u8> {
    [&[0; 16][..], &number.to_le_bytes(), &small.to_le_bytes(), &[0; 10]].concat()
}

/// Will run a program of type `sample`.
fn sample_run(object: &str, program: &'static str, number: u32, small: u16) -> Run {
    Run::of_object(fixture(object), program).context(&sample(number, small))
}

const FIRST: [u8; 4] = [0; 4];

/// The value of a map's only entry, which is that of a section of variables.
fn variables(report: &Report, section: &str) -> Result<Vec<u8>, Failed> {
    let mut values = report.values(&format!("variabl{section}"), &FIRST)?;
    match (values.pop(), values.pop()) {
        (Some(value), None) => Ok(value),
        _ => Err(format!("no single value of `{section}`").into()),
    }
}

fn variables_start() -> Result<(), Failed> {
    let report = sample_run("variables", "idle", 1, 2).report()?;
    let numbers = |values: &[u32]| values.iter().flat_map(|v| v.to_le_bytes()).collect::<Vec<u8>>();
    expect(".rodata", variables(&report, ".rodata")?, numbers(&[3]))?;
    expect(
        ".rodata.table",
        variables(&report, ".rodata.table")?,
        [10, 0, 20, 0, 30, 0, 40, 0],
    )?;
    expect(".data", variables(&report, ".data")?, numbers(&[100, 7]))?;
    expect(
        ".data.tuning",
        variables(&report, ".data.tuning")?,
        numbers(&[0x5566_7788, 0x1122_3344, 9, 0]),
    )?;
    expect(".bss", variables(&report, ".bss")?, [0; 8])?;
    expect(".bss.seen", variables(&report, ".bss.seen")?, [0; 5])
}

fn variables_persist() -> Result<(), Failed> {
    let report = sample_run("variables", "account", 1, 2).repeat(3).report()?;
    expect("results", report.results()?, [103_006, 106_005, 109_004])?;
    let data = variables(&report, ".data")?;
    expect("level", read_u32(&data, 0)?, 109)?;
    expect("floor_level", read_u32(&data, 4)?, 4)?;
    let tuning = variables(&report, ".data.tuning")?;
    expect("tuning[0]", read_u64(&tuning, 0)?, 0x1122_3344_5566_7788)?;
    expect("tuning[1]", read_u64(&tuning, 8)?, 9 + 3 * 20)?;
    expect("runs", read_u64(&variables(&report, ".bss")?, 0)?, 3)?;
    expect("seen", variables(&report, ".bss.seen")?, [0, 0, 3, 0, 0xee])?;
    expect("step", read_u32(&variables(&report, ".rodata")?, 0)?, 3)
}

fn variables_set() -> Result<(), Failed> {
    let report = sample_run("variables", "account", 1, 2)
        .set("variabl.rodata", &FIRST, &[40, 0, 0, 0])
        .report()?;
    expect("result", report.result(0)?, 140_006)
}

/// The second entries of `left` and `right`.
fn tables(report: &Report) -> Result<[u64; 2], Failed> {
    let second = |map| -> Result<u64, Failed> {
        let values = report.values(map, &1u32.to_le_bytes())?;
        read_u64(values.first().ok_or("no value")?, 0)
    };
    Ok([second("left")?, second("right")?])
}

fn initial_maps() -> Result<(), Failed> {
    // Number asked for, where it is found (bits), and what was added to `left` and `right`.
    for (key, found, added) in [
        (0, 0, [0, 0]),
        (1, 1, [0, 1]),
        (2, 2, [10, 0]),
        (3, 1, [1, 0]),
        (4, 0, [0, 0]),
    ] {
        let report = sample_run("presets", "find", key, 0).report()?;
        expect(&format!("found at {key}"), report.result(0)?, found)?;
        expect(&format!("added at {key}"), tables(&report)?, added)?;
    }
    Ok(())
}

fn unnamed_template() -> Result<(), Failed> {
    let report = sample_run("presets", "find", 9, 0)
        .refer("unnamed", &9u64.to_le_bytes(), "right")
        .report()?;
    expect("found", report.result(0)?, 4)?;
    expect("added", tables(&report)?, [0, 100])
}

fn initial_programs() -> Result<(), Failed> {
    // EBPF_INVALID_ARGUMENT, as the runtime gives it for an empty slot and for one that there isn't.
    const FAILED: u64 = -6i32 as u32 as u64;
    for (slot, result, way) in [
        (0, FAILED, &[][..]),
        (2, 211, &["second"]),
        (4, 211, &["third", "second"]),
        (5, FAILED, &[]),
    ] {
        let report = sample_run("presets", "first", slot, 11).report()?;
        expect(&format!("result of {slot}"), report.result(0)?, result)?;
        expect(&format!("way of {slot}"), report.tail_calls(0)?, way)?;
    }
    Ok(())
}

fn frames() -> Result<(), Failed> {
    // 32 times the seed in the middle frame, 4 * seed + 60 of the deep one, 40 of the program's own.
    for seed in [0u32, 2, 1000] {
        let report = sample_run("subprograms", "computes", seed, 0).report()?;
        let wanted = 32 * seed + 4 * seed + 60 + 40;
        expect("sum", report.result(0)?, u64::from(wanted))?;
    }
    Ok(())
}

fn longest_chain() -> Result<(), Failed> {
    let report = sample_run("subprograms", "chains", 100, 0).report()?;
    expect("sum", report.result(0)?, 7 * 100 + 21)
}

fn departure() -> Result<(), Failed> {
    let marks = |report: &Report| -> Result<[u32; 2], Failed> {
        let mark = |index: u32| read_u32(&report.values("marks", &index.to_le_bytes())?[0], 0);
        Ok([mark(0)?, mark(1)?])
    };
    let gone = sample_run("subprograms", "departs", 1, 5).report()?;
    expect("result", gone.result(0)?, 78)?;
    expect("way", gone.tail_calls(0)?, ["target"])?;
    expect("marks", marks(&gone)?, [1, 0])?;
    expect(
        "visits",
        read_u64(&gone.values("visits", &5u32.to_le_bytes())?[0], 0)?,
        1,
    )?;
    let stayed = sample_run("subprograms", "departs", 0, 5).report()?;
    expect("result", stayed.result(0)?, u64::from((-1006i32).cast_unsigned()))?;
    expect("marks", marks(&stayed)?, [1, 1])
}

fn lone_program() -> Result<(), Failed> {
    let report = sample_run("alone", "alone", 30, 12).section("sample_ext").report()?;
    expect("result", report.result(0)?, 42)
}

fn program_types() -> Result<(), Failed> {
    let number = |at: usize, value: u8, size: usize| {
        let mut context = vec![0; size];
        context[at] = value;
        context
    };
    // Program, context, packet, result, and what it adds.
    for (program, context, packet, result, added) in [
        ("frames", None, Some(vec![0; 60]), 1, 60),
        ("binds", Some(number(16, 21, 56)), None, 1, 21),
        ("connects", Some(number(44, 17, 64)), None, 1, 17),
        ("flows", Some(number(0, 2, 48)), None, 0, 3),
        ("processes", Some(number(16, 9, 144)), None, 0, 9),
        ("samples", Some(sample(44, 0)), None, 6, 44),
    ] {
        let mut run = Run::of_object(fixture("kinds"), program).set("total", &FIRST, &1000u64.to_le_bytes());
        if let Some(context) = context {
            run = run.context(&context);
        }
        if let Some(packet) = packet {
            run = run.packet(&packet);
        }
        let report = run.report()?;
        expect(program, report.result(0)?, result)?;
        expect(program, read_u64(&report.values("total", &FIRST)?[0], 0)?, 1000 + added)?;
    }
    Ok(())
}

fn map_types() -> Result<(), Failed> {
    // Program, second number of the context, result.
    for (program, small, result) in [
        // `max_entries` is no limit of hash tables in this runtime, but of arrays: no entries 2 and 3.
        ("hashes", 1, 0b111),
        ("arrays", 1, 0b001),
        ("percpu_hashes", 1, 0b111),
        ("percpu_arrays", 1, 0b001),
        // The oldest entry makes room.
        ("lru_hashes", 1, 0b110),
        ("lru_percpu_hashes", 1, 0b110),
        ("prefixes", 0, 1),
        ("prefixes", 1, 2),
        ("prefixes", 2, 1),
        // The fourth push fails, and the fourth pop.
        ("queues", 0, 1_123_9),
        ("stacks", 0, 1_321_9),
        ("rings", 0, 0),
        ("perf", 0, 0),
    ] {
        let report = sample_run("every_map", program, 0x0403_0201, small).report()?;
        expect(program, report.result(0)?, result)?;
        if program == "rings" {
            expect(program, report.records("ring")?, [[1, 2, 3, 4]])?;
        }
        if program == "perf" {
            expect(program, report.records("events")?, [[1, 2, 3, 4]])?;
        }
    }
    Ok(())
}

fn same_results() -> Result<(), Failed> {
    for (option, value, version) in [
        ("--runtime", "0.21", "1.3.0"),
        ("--runtime", "1.4", "1.4.0"),
        ("--runtime", "1.6", "1.6.0"),
        ("--hash", "none", "1.6.0"),
        ("--hash", "sha384", "1.6.0"),
        ("--hash", "sha512", "1.6.0"),
    ] {
        for (object, program, number, small, result) in [
            ("every_map", "arrays", 0, 1, 1),
            ("variables", "account", 1, 2, 103_006),
            ("presets", "first", 4, 11, 211),
            ("subprograms", "computes", 2, 0, 172),
        ] {
            let what = format!("{program} with {option} {value}");
            let run = sample_run(object, program, number, small).build_option(option, value);
            let report = run.report()?;
            expect(&what, report.result(0)?, result)?;
            expect(&what, report.stated_version(), Some(version))?;
        }
    }
    Ok(())
}

/// What the tool says of an object, or of what it builds of it.
fn inspect(object: &str, build: &[&str]) -> Result<serde_json::Value, Failed> {
    let folder = tempfile::tempdir()?;
    let image = folder.path().join("image.sys");
    succeed(
        tool()
            .arg("build")
            .args(build)
            .arg(root().join(fixture(object)))
            .arg("-o")
            .arg(&image),
    )?;
    let text = succeed(tool().args(["inspect", "--json"]).arg(&image))?;
    Ok(serde_json::from_str(&text)?)
}

fn charged() -> Result<(), Failed> {
    let report = inspect("subprograms", &[])?;
    let programs = report["uses"].as_array().ok_or("no programs")?;
    let found: Vec<_> = programs
        .iter()
        .map(|program| {
            let list = |name: &str| program[name].as_array().cloned().unwrap_or_default();
            let helpers: Vec<_> = list("helpers").iter().filter_map(|h| h["id"].as_u64()).collect();
            let maps: Vec<_> = list("maps").iter().map(|m| m.as_str().map(str::to_owned)).collect();
            (program["program"].as_str().unwrap_or_default(), helpers, maps)
        })
        .collect();
    let maps = |names: &[&str]| names.iter().map(|n| Some((*n).to_owned())).collect::<Vec<_>>();
    // One table for all, of the helpers that any of them calls; 0 is a hole.
    expect(
        "programs",
        found,
        vec![
            ("chains", vec![0, 0, 0], vec![]),
            ("computes", vec![0, 0, 0], vec![]),
            ("counts", vec![1, 2, 0], maps(&["visits"])),
            ("departs", vec![1, 0, 5], maps(&["marks", "targets"])),
            ("target", vec![1, 2, 0], maps(&["visits"])),
        ],
    )
}

fn lone_program_needs_a_type() -> Result<(), Failed> {
    let out = output(tool().arg("verify").arg(root().join(fixture("alone"))))?;
    let text = String::from_utf8_lossy(&out.stderr).into_owned();
    if out.status.success() || !text.contains("`.text`") || !text.contains("--type") {
        return Err(format!("{}: {text}", out.status).into());
    }
    Ok(())
}

fn hashes_stated() -> Result<(), Failed> {
    for (algorithm, digits) in [
        ("sha256", Some(64)),
        ("sha384", Some(96)),
        ("sha512", Some(128)),
        ("none", None),
    ] {
        let report = inspect("every_map", &["--hash", algorithm])?;
        let object = report["module"]["elf_hash"].as_str().map(str::len);
        expect(algorithm, object, digits)?;
    }
    Ok(())
}
