//! `run --compare`: drivers of one object do the same, whoever compiled them and how; others are told apart by what people would see.

use std::path::Path;
use std::process::Output;

use libtest_mimic::{Failed, Trial};
use serde_json::Value;

use crate::examples::EXAMPLES;
use crate::support::{Need, output, root, succeed, test, test_with, tool};

const CLANG: &str = "clang-19";

pub fn trials() -> Vec<Trial> {
    let clang = [Need::Program(CLANG)];
    let mut trials = Vec::new();
    for example in EXAMPLES {
        trials.push(test_with(
            &format!("compare::drivers_of_{example}_do_the_same"),
            &[Need::Emulator],
            move || the_same(example),
        ));
    }
    trials.extend([
        test_with("compare::results_and_packets", &clang, results_and_packets),
        test_with("compare::contexts_and_events", &clang, contexts_and_events),
        test_with("compare::maps_alone", &clang, maps_alone),
        test("compare::many_differences_are_counted", many),
        test("compare::an_error_is_about_its_driver", errors),
    ]);
    trials
}

/// Inputs of an example, as arguments.
fn inputs(example: &str) -> Vec<Vec<String>> {
    let file = |name: &str| root().join("examples").join(example).join(name).display().to_string();
    let words = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect();
    match example {
        "udp_filter" => vec![words(&["--packet", &file("traffic.pcapng")])],
        "tail_dispatch" => vec![words(&[
            "--program",
            "dispatch",
            "--packet",
            &file("../udp_filter/traffic.pcapng"),
        ])],
        "connect_redirect" => vec![
            words(&["--program", "connect_redirect4", "--context", &file("connect4.json")]),
            words(&["--program", "connect_redirect6", "--context", &file("connect6.json")]),
        ],
        "flow_log" => vec![words(&["--context", &file("established.json")])],
        "bind_policy" => vec![words(&["--context", &file("binds.json")])],
        _ => vec![words(&["--context", &file("starts.json")])],
    }
}

/// With and without optimizations, of a DLL, for the other processor, and interpreted.
fn the_same(example: &str) -> Result<(), Failed> {
    let folder = tempfile::tempdir()?;
    let object = root().join(format!("examples/{example}/{example}.o"));
    for (driver, options) in [
        ("first.sys", &[][..]),
        ("plain.sys", &["--optimize", "none", "--cfg", "off"]),
        ("library.dll", &["--emit", "dll"]),
        ("arm.sys", &["--arch", "arm64"]),
    ] {
        let mut command = tool();
        command
            .current_dir(&folder)
            .args(["build", "--quiet", "-o", driver])
            .arg(&object);
        succeed(command.args(options))?;
    }
    for inputs in inputs(example) {
        for other in ["plain.sys", "library.dll", "arm.sys"] {
            let mut command = tool();
            command
                .current_dir(&folder)
                .args(["run", "first.sys", "--compare", other, "--instructions"]);
            let said = succeed(command.args(&inputs))?;
            assert!(said.contains(" the same, 0 differ"), "{said}");
            assert!(said.contains("instructions of a run: "), "{said}");
        }
        let mut command = tool();
        command.current_dir(&folder).args(["run", "--interpret"]).arg(&object);
        let said = succeed(command.args(["--compare", "first.sys", "--json"]).args(&inputs))?;
        let told: Value = serde_json::from_str(&said)?;
        assert!(told["runs"].as_u64() > Some(0) && told["different_runs"] == 0, "{said}");
        assert_eq!(told["drivers"][1]["file"], "first.sys");
    }
    Ok(())
}

/// A folder with two drivers of an example: as it is, and with something else in its source.
fn two_drivers(example: &str, old: &str, new: &str) -> Result<tempfile::TempDir, Failed> {
    let folder = tempfile::tempdir()?;
    let source = std::fs::read_to_string(root().join(format!("examples/{example}/{example}.c")))?;
    assert_eq!(source.matches(old).count(), 1, "{old}");
    for (name, text) in [("first", source.clone()), ("other", source.replace(old, new))] {
        // Maps of variables are called after their objects.
        std::fs::create_dir(folder.path().join(name))?;
        let path = folder.path().join(name).join(format!("{example}.c"));
        std::fs::write(&path, text)?;
        let mut command = tool();
        command
            .current_dir(&folder)
            .args(["build", "--quiet", "--clang", CLANG, "--cflag=-mcpu=v4", "-I"]);
        command
            .arg(root().join("examples/include"))
            .arg(&path)
            .args(["--keep-object", "--out-dir", name]);
        succeed(&mut command)?;
        let driver = folder.path().join(name).join(format!("{example}.sys"));
        std::fs::rename(driver, folder.path().join(format!("{name}.sys")))?;
        std::fs::rename(path.with_extension("o"), folder.path().join(format!("{name}.o")))?;
    }
    Ok(folder)
}

fn compared(folder: &Path, options: &[&str]) -> Result<(i32, String, String), Failed> {
    let mut command = tool();
    command
        .current_dir(folder)
        .args(["run", "first.sys", "--compare", "other.sys"]);
    let Output { status, stdout, stderr } = output(command.args(options))?;
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    Ok((status.code().unwrap_or(-1), text(stdout), text(stderr)))
}

fn expect(folder: &Path, options: &[&str], parts: &[&str]) -> Result<(), Failed> {
    let (status, said, errors) = compared(folder, options)?;
    let missing = parts
        .iter()
        .find(|part| !said.contains(**part) && !errors.contains(**part));
    match (status, missing) {
        (6, None) if errors.contains("error[BPF5021]: the drivers differ: ") => Ok(()),
        (status, missing) => Err(format!("{status}: {missing:?} is missing in\n{said}\n{errors}").into()),
    }
}

fn results_and_packets() -> Result<(), Failed> {
    let example = |name: &str| root().join("examples").join(name).display().to_string();
    let folder = two_drivers("udp_filter", "    case COUNT_DROPPED_DESTINATION:\n", "")?;
    let packets = [example("udp_filter/dns.bin"), example("udp_filter/traffic.pcapng")];
    let options = [
        "--packet",
        &packets[0],
        "--packet",
        &packets[1],
        "--set-map",
        "blocked_ports:0035=03",
    ];
    expect(
        folder.path(),
        &options,
        &[
            "run 1: udp_filter\n  result: 2 (XDP_DROP) -> 1 (XDP_PASS)\nrun 3, packet 2: udp_filter\n",
            "\n6 runs: 3 the same, 3 differ\n",
        ],
    )?;
    let folder = two_drivers(
        "tail_dispatch",
        "ip->time_to_live = REPLY_TIME_TO_LIVE;",
        "ip->time_to_live = 9;",
    )?;
    let options = ["--program", "dispatch", "--packet", &example("tail_dispatch/echo.bin")];
    expect(folder.path(), &options, &["  packet: 40", " at 22 of ", " -> 09"])
}

fn contexts_and_events() -> Result<(), Failed> {
    let folder = two_drivers(
        "flow_log",
        ".remote_port = bpf_ntohs(context->remote_port)",
        ".remote_port = 7",
    )?;
    let context = root().join("examples/flow_log/established.json").display().to_string();
    expect(
        folder.path(),
        &["--context", &context],
        &["run 1: flow_log\n  sent: events: ", "1 run"],
    )?;
    let folder = two_drivers(
        "connect_redirect",
        "context->user_ip4 = rule->to.address[0];",
        "context->user_ip4 = 1;",
    )?;
    expect(
        folder.path(),
        &[
            "--program",
            "connect_redirect4",
            "--context",
            "{\"user_ip4\": \"198.51.100.7\", \"user_port\": 443, \"protocol\": \"TCP\"}",
            "--set-map",
            "rules4:c633640700000000000000000000000001bb0000=010000007f0000010000000000000000000000001f900000",
        ],
        &["  user_ip4: \"127.0.0.1\" -> \"1.0.0.0\"\n"],
    )
}

fn maps_alone() -> Result<(), Failed> {
    let folder = two_drivers(
        "udp_filter",
        "    COUNT_NOT_UDP,\n    COUNT_PASSED,",
        "    COUNT_PASSED,\n    COUNT_NOT_UDP,",
    )?;
    let traffic = root().join("examples/udp_filter/traffic.pcapng").display().to_string();
    let options = ["--packet", &traffic, "--types", "first.o"];
    expect(
        folder.path(),
        &options,
        &[
            "5 runs: 5 the same, 0 differ",
            "  counters[0]: 2 -> 3\n  counters[1]: 3 -> 2\n",
            "2 entries of maps",
        ],
    )
}

fn many() -> Result<(), Failed> {
    let folder = tempfile::tempdir()?;
    for (name, code) in [("first", "BPF1001"), ("other", "BPF5021")] {
        let object = root().join(format!("tests/fixtures/codes/{code}.o"));
        let mut command = tool();
        command
            .current_dir(&folder)
            .args(["build", "--quiet", "-o", &format!("{name}.sys")]);
        succeed(command.arg(object))?;
    }
    let runs = ["--packet", "hex:00", "--repeat", "3000"];
    expect(
        folder.path(),
        &runs,
        &[
            "run 20: pass_all",
            "2980 more runs differ",
            "3000 runs: 0 the same, 3000 differ",
        ],
    )?;
    let (_, said, _) = compared(folder.path(), &[&runs[..], &["--each"]].concat())?;
    assert_eq!(said.matches("\nrun ").count(), 3000);
    let (status, said, _) = compared(folder.path(), &[&runs[..], &["--json"]].concat())?;
    let told: Value = serde_json::from_str(&said)?;
    assert_eq!((status, &told["different_runs"]), (6, &3000.into()));
    assert_eq!(told["differences"].as_array().map(Vec::len), Some(20));
    assert_eq!(told["differences"][0]["what"][0][0], "result");
    Ok(())
}

/// One that does not load, one without the program, and input that cannot be read.
fn errors() -> Result<(), Failed> {
    let folder = tempfile::tempdir()?;
    let path = folder.path();
    for (name, example) in [("first", "udp_filter"), ("other", "flow_log")] {
        let object = root().join(format!("examples/{example}/{example}.o"));
        let mut command = tool();
        command
            .current_dir(path)
            .args(["build", "--quiet", "-o", &format!("{name}.sys")]);
        succeed(command.arg(object))?;
    }
    let fails = |options: &[&str], status: i32, parts: &[&str]| -> Result<(), Failed> {
        let (code, said, errors) = compared(path, options)?;
        let all = parts.iter().all(|part| errors.contains(part));
        if code == status && all {
            Ok(())
        } else {
            Err(format!("{code}: {said}{errors}").into())
        }
    };
    let packet = ["--packet", "hex:00"];
    fails(&packet, 6, &["no program", "= in: other.sys"])?;
    fails(&["--packet", "hex:0"], 3, &["BPF5014"])?;
    fails(
        &["--packet", "hex:00", "--write-pcap", "a.pcapng"],
        2,
        &["cannot be used with"],
    )?;
    let mut broken = std::fs::read(path.join("first.sys"))?;
    broken[1000] ^= 1;
    std::fs::write(path.join("other.sys"), &broken)?;
    fails(&packet, 6, &["checksum", "= in: other.sys"])?;
    std::fs::rename(path.join("first.sys"), path.join("good.sys"))?;
    std::fs::rename(path.join("other.sys"), path.join("first.sys"))?;
    std::fs::rename(path.join("good.sys"), path.join("other.sys"))?;
    fails(&packet, 6, &["checksum", "= in: first.sys"])
}
