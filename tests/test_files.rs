//! `bpf2sys test`, as somebody uses it who keeps tests beside programs: what passes, what fails and how that is told, results for build
//! servers, golden files, and inputs that are found.

use std::fs;
use std::path::Path;
use std::process::Command;

use libtest_mimic::{Failed, Trial};
use tempfile::TempDir;

use crate::support::{output, root, succeed, test, tool};

pub fn trials() -> Vec<Trial> {
    if !cfg!(all(target_os = "linux", target_arch = "x86_64")) {
        return Vec::new(); // images run there only
    }
    vec![
        test("test_files::the_examples_pass", the_examples_pass),
        test("test_files::what_fails_is_told_and_the_others_run", what_fails_is_told),
        test(
            "test_files::errors_of_files_have_their_place_and_status",
            errors_of_files,
        ),
        test(
            "test_files::a_driver_that_is_not_safe_fails_its_tests",
            a_driver_that_is_not_safe,
        ),
        test("test_files::names_are_listed_and_filtered", names),
        test("test_files::golden_files_are_written_when_that_is_wanted", golden_files),
        test(
            "test_files::inputs_that_break_a_property_are_found_and_made_small",
            inputs_are_found,
        ),
        test("test_files::runs_are_equal_whatever_runs_beside_them", runs_are_equal),
        test("test_files::an_image_without_its_object_is_tested_on_bytes", an_image),
        test("test_files::steps_set_maps_and_providers_come_and_go", steps),
    ]
}

/// A folder with `filter.o`, whose program `pass_all` drops empty packets, and a test file.
fn folder(tests: &str) -> Result<TempDir, Failed> {
    let folder = tempfile::tempdir()?;
    fs::copy(
        root().join("tests/fixtures/codes/BPF1001.o"),
        folder.path().join("filter.o"),
    )?;
    fs::write(
        folder.path().join("filter.test.toml"),
        format!("object = \"filter.o\"\n{tests}"),
    )?;
    Ok(folder)
}

fn run(folder: &Path, arguments: &[&str]) -> Command {
    let mut command = tool();
    command.current_dir(folder).arg("test").args(arguments);
    command
}

/// Runs the tool; gives what it prints, on both streams.
fn told(folder: &Path, arguments: &[&str], status: i32) -> Result<String, Failed> {
    let mut command = run(folder, arguments);
    let out = output(&mut command)?;
    let told = String::from_utf8_lossy(&out.stdout).into_owned() + &String::from_utf8_lossy(&out.stderr);
    if out.status.code() != Some(status) {
        return Err(format!("{command:?}: {}, not {status}:\n{told}", out.status).into());
    }
    Ok(told)
}

fn says(told: &str, all: &[&str]) -> Result<(), Failed> {
    match all.iter().find(|text| !told.contains(**text)) {
        Some(missing) => Err(format!("does not say {missing:?}:\n{told}").into()),
        None => Ok(()),
    }
}

fn the_examples_pass() -> Result<(), Failed> {
    let told = told(&root(), &["examples", "--fuzz", "3000"], 0)?;
    says(
        &told,
        &[
            "running 39 tests\n",
            "test result: ok. 39 passed; 0 failed; 0 filtered out; finished in ",
        ],
    )?;
    for name in [
        "bind_policy",
        "connect_redirect",
        "flow_log",
        "process_guard",
        "tail_dispatch",
        "udp_filter",
    ] {
        let text = fs::read_to_string(root().join(format!("examples/{name}/{name}.test.toml")))?;
        assert!(text.contains("[[property]]"), "{name}");
    }
    Ok(())
}

const TWO: &str = "
[[test]]
name = \"packets go on\"
packet = \"hex:00\"
expect.result = \"XDP_PASS\"

[[test]]
name = \"packets <stop>\"
packet = [\"hex:00\", \"hex:01\"]
expect.result = \"XDP_DROP\"
";

fn what_fails_is_told() -> Result<(), Failed> {
    let folder = folder(TWO)?;
    let lines = told(folder.path(), &["--junit", "results.xml"], 6)?;
    says(
        &lines,
        &[
            "running 2 tests\ntest filter: packets go on ... ok\ntest filter: packets <stop> ... FAILED\n",
            "---- filter: packets <stop> ----\nrun 1: result: expected XDP_DROP, found XDP_PASS\nrun 2: result: expected",
            "test result: FAILED. 1 passed; 1 failed; 0 filtered out",
            "error[BPF5018]: 1 of 2 tests failed",
        ],
    )?;
    let xml = fs::read_to_string(folder.path().join("results.xml"))?;
    says(
        &xml,
        &[
            "<testsuites name=\"bpf2sys\" tests=\"2\" failures=\"1\" errors=\"0\" skipped=\"0\" time=\"0\">",
            "<testcase classname=\"filter\" name=\"packets go on\" file=\"filter.test.toml\" line=\"3\" time=\"0\"/>",
            "name=\"packets &lt;stop&gt;\"",
            "<failure message=\"run 1: result: expected XDP_DROP, found XDP_PASS\">",
        ],
    )?;
    // One problem for each test that fails, with its place, where machines read them.
    let short = told(folder.path(), &["--quiet", "--message-format", "short"], 6)?;
    says(&short, &["filter.test.toml:8:1", "BPF5018", "packets <stop>"])?;
    assert!(!short.contains("running"), "{short}");
    let json = output(&mut run(folder.path(), &["--json"]))?;
    let json: serde_json::Value = serde_json::from_slice(&json.stdout)?;
    assert_eq!(json["counts"]["failed"], 1);
    assert_eq!(json["tests"][1]["outcome"], "failed");
    assert_eq!(json["tests"][1]["line"], 8);
    Ok(())
}

fn errors_of_files() -> Result<(), Failed> {
    let folder = folder("[[test]]\nname = \"n\"\npackets = \"hex:00\"\n")?;
    let lines = told(folder.path(), &[], 3)?;
    says(
        &lines,
        &["error[BPF5017]", "filter.test.toml:4:1", "unknown field `packets`"],
    )?;
    // The other files are tested all the same.
    fs::write(
        folder.path().join("other.test.toml"),
        format!("object = \"filter.o\"\n{TWO}"),
    )?;
    says(
        &told(folder.path(), &["--filter", "go on"], 3)?,
        &["other: packets go on ... ok"],
    )?;
    fs::write(
        folder.path().join("other.test.toml"),
        "object = \"filter.o\"\n[[test]]\nname = \"n\"\nprogram = \"x\"\npacket = \"hex:\"\n",
    )?;
    let lines = told(folder.path(), &["other.test.toml"], 6)?;
    says(&lines, &["there is no program \"x\"; there are pass_all"])?;
    says(&told(folder.path(), &["nothing.test.toml"], 1)?, &["BPF9001"])?;
    let empty = tempfile::tempdir()?;
    says(
        &told(empty.path(), &[], 2)?,
        &["there are no test files (`*.test.toml`)"],
    )
}

fn a_driver_that_is_not_safe() -> Result<(), Failed> {
    let folder = folder(TWO)?;
    fs::copy(
        root().join("tests/fixtures/codes/BPF2105.o"),
        folder.path().join("filter.o"),
    )?;
    let lines = told(folder.path(), &["--junit", "results.xml"], 4)?;
    says(
        &lines,
        &["error[BPF2105]", "test filter: packets go on ... FAILED", "2 failed"],
    )?;
    says(
        &fs::read_to_string(folder.path().join("results.xml"))?,
        &["errors=\"2\""],
    )
}

fn names() -> Result<(), Failed> {
    let folder = folder(&TWO.replacen('\n', "arch = [\"arm64\", \"x64\"]\n", 1))?;
    // Neither hidden folders nor what is built.
    for below in [".hidden", "target", "below"] {
        fs::create_dir(folder.path().join(below))?;
        fs::copy(
            folder.path().join("filter.test.toml"),
            folder.path().join(below).join("again.test.toml"),
        )?;
    }
    let list = told(folder.path(), &["--list", "--filter", "go on"], 0)?;
    let expected =
        ["again", "again (arm64)", "filter", "filter (arm64)"].map(|name| format!("{name}: packets go on\n"));
    assert_eq!(list, expected.concat());
    let lines = told(
        folder.path(),
        &["filter.test.toml", "--filter", "filter: packets go"],
        0,
    )?;
    says(&lines, &["1 passed; 0 failed; 3 filtered out"])
}

fn golden_files() -> Result<(), Failed> {
    let test = "[[test]]\nname = \"all\"\npacket = \"hex:00\"\ngolden = \"filter.golden.json\"\n";
    let folder = folder(test)?;
    let path = folder.path().join("filter.golden.json");
    says(
        &told(folder.path(), &[], 6)?,
        &["there is no filter.golden.json: `--bless` writes it"],
    )?;
    assert!(!path.exists());
    says(&told(folder.path(), &["--bless"], 0)?, &["wrote filter.golden.json"])?;
    told(folder.path(), &[], 0)?;
    let text = fs::read_to_string(&path)?;
    fs::write(&path, text.replace("XDP_PASS", "XDP_DROP"))?;
    says(
        &told(folder.path(), &[], 6)?,
        &["results[0].result: expected \"XDP_DROP\", found \"XDP_PASS\""],
    )?;
    told(folder.path(), &["--bless"], 0)?;
    assert_eq!(fs::read_to_string(&path)?, text);
    Ok(())
}

fn inputs_are_found() -> Result<(), Failed> {
    let folder = folder(
        "[[test]]\nname = \"n\"\npacket = \"hex:0000000000000000000000000806000000000000\"\n\
         [[property]]\nname = \"IPv4 stops\"\nwhen = [{ at = 12, bytes = \"0800\" }]\nexpect.result = \"XDP_DROP\"\n",
    )?;
    let lines = told(folder.path(), &["--fuzz", "1000"], 6)?;
    let packet = "packet = \"hex:0000000000000000000000000800\"\n";
    says(
        &lines,
        &[
            "test filter: n ... ok\ntest filter: fuzz pass_all (1000 inputs, seed 1) ... FAILED\n",
            "property \"IPv4 stops\": result: expected XDP_DROP, found XDP_PASS\n",
            packet,
        ],
    )?;
    // What is told can be pasted.
    let (_, snippet) = lines.split_once("as a test:\n\n").ok_or("no test")?;
    let (snippet, _) = snippet.split_once("\n\n").ok_or("no end")?;
    let path = folder.path().join("filter.test.toml");
    let text = fs::read_to_string(&path)?;
    fs::write(&path, format!("{text}{snippet}\n"))?;
    says(
        &told(folder.path(), &["--filter", "found by"], 6)?,
        &["IPv4 stops", "1 failed"],
    )
}

fn runs_are_equal() -> Result<(), Failed> {
    let arguments = ["examples/tail_dispatch", "--fuzz", "5000", "--json"];
    let one = succeed(run(&root(), &arguments).args(["--jobs", "1"]))?;
    let two = succeed(run(&root(), &arguments).args(["--jobs", "4"]))?;
    assert_eq!(one, two);
    let other = succeed(run(&root(), &arguments).args(["--seed", "2"]))?;
    let results = |text: &str| -> Result<serde_json::Value, Failed> {
        let json: serde_json::Value = serde_json::from_str(text)?;
        let fuzzed = json["tests"]
            .as_array()
            .into_iter()
            .flatten()
            .find(|test| test["inputs"] == 5000);
        Ok(fuzzed.ok_or("no property run")?["results"].clone())
    };
    let (one, other) = (results(&one)?, results(&other)?);
    assert_ne!(one, other);
    for name in ["XDP_PASS", "XDP_DROP", "XDP_TX"] {
        assert!(one[name].as_u64() > Some(20), "{one}");
    }
    Ok(())
}

fn an_image() -> Result<(), Failed> {
    let folder = tempfile::tempdir()?;
    let example = root().join("examples/udp_filter");
    succeed(
        tool()
            .arg("build")
            .arg(example.join("udp_filter.o"))
            .arg("-o")
            .arg(folder.path().join("f.sys")),
    )?;
    fs::copy(example.join("udp_filter.o"), folder.path().join("udp_filter.o"))?;
    fs::copy(example.join("dns.bin"), folder.path().join("dns.bin"))?;
    let test = "[[test]]\nname = \"n\"\npacket = \"dns.bin\"\nexpect.maps.counters = { 1 = 1 }\n";
    let typed = "maps.\".data\".config = { monitor_only = 1 }\n";
    let write = |text: &str| fs::write(folder.path().join("f.test.toml"), text);
    write(&format!("image = \"f.sys\"\n{test}"))?;
    told(folder.path(), &[], 0)?;
    write(&format!("image = \"f.sys\"\n{test}{typed}"))?;
    says(&told(folder.path(), &[], 6)?, &["there is no such map"])?;
    write(&format!("image = \"f.sys\"\ntypes = \"udp_filter.o\"\n{test}{typed}"))?;
    told(folder.path(), &[], 0)?;
    Ok(())
}

fn steps() -> Result<(), Failed> {
    let folder = folder(
        "[[test]]\nname = \"n\"\n\
         [[test.step]]\npacket = \"hex:00\"\nexpect.result = \"XDP_PASS\"\n\
         [[test.step]]\npacket = \"hex:00\"\ndetach = [\"xdp\"]\nexpect.result = \"not run\"\n\
         [[test.step]]\nname = \"it is back\"\npacket = \"hex:00\"\nattach = [\"xdp\"]\nexpect.result = \"XDP_DROP\"\n",
    )?;
    let lines = told(folder.path(), &[], 6)?;
    says(
        &lines,
        &["----\nstep 3 (it is back): run 3: result: expected XDP_DROP, found XDP_PASS\n\ntest result"],
    )?;
    let path = folder.path().join("filter.test.toml");
    fs::write(
        &path,
        "object = \"filter.o\"\n[[test]]\nname = \"n\"\npacket = \"hex:00\"\nabsent = [\"xdp\"]\nexpect.error = \"program-type\"\n",
    )?;
    told(folder.path(), &[], 0)?;
    fs::write(
        &path,
        "object = \"filter.o\"\n[[test]]\nname = \"n\"\npacket = \"hex:00\"\nexpect.error = \"BPF5006\"\n",
    )?;
    says(&told(folder.path(), &[], 6)?, &["error: expected BPF5006, found none"])
}
