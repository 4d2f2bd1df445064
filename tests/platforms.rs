//! Providers that nobody here knows, as a Windows machine's registry describes them: from the export to a program that runs.
//!
//! `tests/fixtures/platforms` has the exports, the program, and how both were made.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use libtest_mimic::{Failed, Trial};
use tempfile::TempDir;

use crate::support::{Need, output, root, succeed, test, test_with, tool};

/// Where the environment's list of descriptions is.
const VARIABLE: &str = "BPF2SYS_PLATFORM";

pub fn trials() -> Vec<Trial> {
    let mut trials = vec![
        test("platforms::an_unknown_provider_is_verified_by_its_export", is_verified),
        test("platforms::without_its_export_it_is_unknown", is_unknown_without),
        test(
            "platforms::the_imported_file_gives_the_same_driver",
            imported_gives_the_same,
        ),
        test("platforms::descriptions_come_from_the_environment_too", environment),
        test("platforms::import_leaves_out_what_is_built_in", import_leaves_out),
        test("platforms::a_whole_machine_joins_the_built_in_providers", whole_machine),
        test("platforms::contradictions_are_told_one_by_one", contradictions),
        test("platforms::a_file_can_replace_a_built_in_provider", replaces),
        test("platforms::a_longer_helper_list_is_joined", longer_list),
        test("platforms::content_tells_what_a_file_is", content_tells),
        test("platforms::what_is_broken_is_left_out_with_a_warning", left_out),
    ];
    if !cfg!(windows) {
        trials.push(test(
            "platforms::another_host_has_no_registry",
            another_host_has_no_registry,
        ));
    }
    if cfg!(all(target_os = "linux", target_arch = "x86_64")) {
        trials.push(test("platforms::an_unknown_provider_runs", || runs("x64")));
        trials.push(test_with(
            "platforms::arm64::an_unknown_provider_runs",
            &[Need::Emulator],
            || runs("arm64"),
        ));
    }
    trials
}

fn fixture(name: &str) -> PathBuf {
    root().join("tests/fixtures/platforms").join(name)
}

/// The tool with arguments, without descriptions from the environment of the test.
fn call(arguments: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Command {
    let mut tool = tool();
    tool.args(arguments).env_remove(VARIABLE);
    tool
}

/// What a call that fails with a status says.
fn fails(command: &mut Command, status: i32, expected: &[&str]) -> Result<String, Failed> {
    let out = output(command)?;
    let said = String::from_utf8_lossy(&out.stderr).into_owned();
    if out.status.code() != Some(status) {
        return Err(format!("{command:?}: {}, not {status}\n{said}", out.status).into());
    }
    contains(&said, expected)?;
    Ok(said)
}

fn contains(text: &str, expected: &[&str]) -> Result<(), Failed> {
    for part in expected {
        if !text.contains(part) {
            return Err(format!("no `{part}` in:\n{text}").into());
        }
    }
    Ok(())
}

fn same<T: PartialEq + std::fmt::Debug>(what: &str, found: &T, expected: &T) -> Result<(), Failed> {
    if found == expected {
        return Ok(());
    }
    Err(format!("{what}: {found:?}, not {expected:?}").into())
}

/// Calls the tool with words, of which those with braces are paths: `{name}` in the folder, `{:name}` a fixture.
fn words(folder: &Path, line: &str) -> Vec<PathBuf> {
    let word = |word: &str| match word.strip_prefix('{').and_then(|w| w.strip_suffix('}')) {
        Some(name) => name.strip_prefix(':').map_or_else(|| folder.join(name), fixture),
        None => PathBuf::from(word),
    };
    line.split_whitespace().map(word).collect()
}

fn is_verified() -> Result<(), Failed> {
    for export in ["file_guard.reg", "file_guard_ansi.reg"] {
        let said = succeed(&mut call(words(
            Path::new(""),
            &format!("verify --platform {{:{export}}} {{:file_guard.o}}"),
        )))?;
        contains(
            &said,
            &[
                "program `guard_open` (section `file_guard/open`, type file_guard) is safe",
                "program `guard_rename` (section `file_guard/rename`, type file_guard) is safe",
                "program `guard_score` (section `file_guard/score`, type file_guard) is safe",
            ],
        )?;
    }
    let said = succeed(&mut call(words(
        Path::new(""),
        "inspect --platform {:file_guard.reg} {:file_guard.o}",
    )))?;
    contains(&said, &["type file_guard", "file_guard_get_owner"])
}

fn is_unknown_without() -> Result<(), Failed> {
    let folder = TempDir::new()?;
    let at = |line: &str| call(words(folder.path(), line));
    for step in ["verify {:file_guard.o}", "build -o {x.sys} {:file_guard.o}"] {
        fails(&mut at(step), 4, &["BPF2011", "file_guard/open", "--platform FILE"])?;
    }
    if !cfg!(all(target_os = "linux", target_arch = "x86_64")) {
        return Ok(());
    }
    fails(
        &mut at("run --interpret {:file_guard.o}"),
        4,
        &["BPF2011", "--platform FILE"],
    )?;
    succeed(&mut at("build --platform {:file_guard.reg} -o {x.sys} {:file_guard.o}"))?;
    let unknown = ["BPF5005", "b3a1c0de-5d1e-4f0a-9c53-2f6f1c9d7e10", "--platform FILE"];
    fails(&mut at("run {x.sys}"), 6, &unknown)?;
    succeed(&mut at("run --platform {:file_guard.reg} {x.sys}"))?;
    // Answers are of functions that somebody offers.
    fails(
        &mut at("run {x.sys} --answer file_guard_volume=1"),
        2,
        &["BPF9005", "no provider that is known has", "--platform"],
    )?;
    fails(
        &mut at("run --platform {:file_guard.reg} {x.sys} --program guard_rename --answer file_guard_volume=1"),
        6,
        &["BPF5009", "file_guard_report", "--answer file_guard_report=0"],
    )?;
    // Nobody can say an address of a value.
    fails(
        &mut at(
            "run --platform {:file_guard.reg} {x.sys} --program guard_open --packet {:file_guard.c} \
             --answer file_guard_get_owner=0 --answer file_guard_hash=1 --answer file_guard_find_rule=4096",
        ),
        6,
        &["BPF5008", "only null (0) can be said"],
    )?;
    Ok(())
}

/// What programs see and give, by the driver and by the interpreter.
fn runs(machine: &str) -> Result<(), Failed> {
    let folder = TempDir::new()?;
    let path = folder.path();
    succeed(&mut call(words(
        path,
        &format!("build --platform {{:file_guard.reg}} --arch {machine} -o {{x.sys}} {{:file_guard.o}}"),
    )))?;
    fs::write(path.join("path"), br"\Users\me\secret.txt")?;
    fs::write(path.join("relative"), b"secret.txt")?;
    let mut context = vec![0u8; 32];
    context[24..28].copy_from_slice(&11u32.to_le_bytes());
    fs::write(path.join("context"), &context)?;
    // The owner that the first helper writes comes to the second one, and the rule's hits are counted.
    let open = "--program guard_open --packet {path} --answer file_guard_get_owner=0:2a \
                --answer file_guard_hash=0x1234 --answer file_guard_find_rule=0 --answer file_guard_report=0";
    let rule = "--set-map rules:3412000000000000=0100000005000000";
    for (arguments, result, map) in [
        (format!("{open} {rule}"), 1, "3412000000000000: 0100000006000000"),
        (format!("{open} --answer file_guard_volume=1"), 0, ""),
        (format!("{open} --answer file_guard_volume=3"), 1, ""),
        ("--program guard_open --answer file_guard_get_owner=-1".into(), 1, ""),
        ("--program guard_open --answer file_guard_get_owner=1".into(), 0, ""),
        (
            "--program guard_rename --packet {path} --answer file_guard_report=0 --answer file_guard_resize_path=0"
                .into(),
            1,
            "",
        ),
        (
            "--program guard_rename --packet {relative} --answer file_guard_report=0 --answer file_guard_resize_path=0"
                .into(),
            0,
            "",
        ),
        // A function of a Windows module gives 0 if nobody says otherwise.
        ("--program guard_score --context {context}".into(), 0, ""),
        (
            "--program guard_score --context {context} --answer file_guard_score=11".into(),
            1,
            "",
        ),
    ] {
        let run = |image: &str| {
            let line = format!("run --json --platform {{:file_guard.reg}} {image} {arguments}");
            succeed(&mut call(words(path, &line)))
        };
        let told = run("{x.sys}")?;
        let report: serde_json::Value = serde_json::from_str(&told)?;
        same(&arguments, &report["results"][0]["result"], &result.into())?;
        if !map.is_empty() {
            let entry = &report["maps"][0]["entries"][0];
            let found = format!(
                "{}: {}",
                entry["key"].as_str().unwrap_or(""),
                entry["values"][0].as_str().unwrap_or("")
            );
            same(&arguments, &found.as_str(), &map)?;
        }
        if machine == "x64" {
            let interpreted: serde_json::Value = serde_json::from_str(&run("--interpret {:file_guard.o}")?)?;
            for part in ["results", "maps", "helper_calls", "btf_calls"] {
                same(&arguments, &interpreted[part], &report[part])?;
            }
        }
    }
    Ok(())
}

fn imported_gives_the_same() -> Result<(), Failed> {
    let folder = TempDir::new()?;
    let at = |line: &str| succeed(&mut call(words(folder.path(), line)));
    at("platform import {:file_guard.reg} -o {theirs.toml}")?;
    let toml = fs::read_to_string(folder.path().join("theirs.toml"))?;
    same("standard output", &at("platform import {:file_guard.reg}")?, &toml)?;
    same("standard output", &at("platform import {:file_guard.reg} -o -")?, &toml)?;
    for part in [
        "# ProgramData\\{b3a1c0de-5d1e-4f0a-9c53-2f6f1c9d7e10}",
        "# SectionData\\file_guard/rename",
        "# Helpers\\file_guard_resize_path",
        "# BtfResolvedFunctions\\{b3a1c0de-5d1e-4f0a-9c53-2f6f1c9d7e20}\\Functions\\file_guard_score",
        "implicit_context",
        "reallocate_packet = true",
    ] {
        contains(&toml, &[part])?;
    }
    if toml.contains(&*folder.path().to_string_lossy()) || toml.contains("fixtures") {
        return Err(format!("a path of this machine is in it:\n{toml}").into());
    }
    at("build --platform {:file_guard.reg} -o {of_reg.sys} {:file_guard.o}")?;
    at("build --platform {theirs.toml} -o {of_toml.sys} {:file_guard.o}")?;
    let built = |name: &str| fs::read(folder.path().join(name));
    // The program information hash is part of it.
    same(
        "the drivers are the same",
        &(built("of_reg.sys")? == built("of_toml.sys")?),
        &true,
    )
}

fn environment() -> Result<(), Failed> {
    let folder = TempDir::new()?;
    let listed = std::env::join_paths([
        PathBuf::new(),
        fixture("file_guard.reg"),
        fixture("file_guard_ansi.reg"),
    ])?;
    let verify = || call(words(folder.path(), "verify {:file_guard.o}"));
    succeed(verify().env(VARIABLE, &listed))?;
    // Both add up, and a description may be given twice.
    let mut both = call(words(
        folder.path(),
        "verify --platform {:file_guard.reg} {:file_guard.o}",
    ));
    succeed(both.env(VARIABLE, &listed))?;
    fails(
        verify().env(VARIABLE, "/no/such/file.toml"),
        1,
        &["BPF9001", "/no/such/file.toml"],
    )?;
    // The environment's come first: a file of the command line can replace them, and not the other way round.
    let theirs = "schema = 1\n[provider]\nid = \"theirs\"\n";
    fs::write(folder.path().join("first.toml"), theirs)?;
    fs::write(
        folder.path().join("second.toml"),
        theirs.replace("\"theirs\"", "\"ours\"\nreplaces = [\"theirs\"]"),
    )?;
    let (first, second) = (folder.path().join("first.toml"), folder.path().join("second.toml"));
    let object = root().join("examples/udp_filter/udp_filter.o");
    let verify = |option: &Path, listed: &Path| {
        let mut tool = call([
            OsStr::new("verify"),
            OsStr::new("--platform"),
            option.as_os_str(),
            object.as_os_str(),
        ]);
        tool.env(VARIABLE, listed);
        tool
    };
    succeed(&mut verify(&second, &first))?;
    fails(
        &mut verify(&first, &second),
        3,
        &["BPF6001", "no file before this one has a provider `theirs`"],
    )?;
    Ok(())
}

/// The export of a machine with the sample extension, as it is built in, and an unknown one.
fn machine() -> Result<String, Failed> {
    let export = |words: &[u8]| -> Result<String, Failed> {
        Ok(
            char::decode_utf16(words[2..].as_chunks::<2>().0.iter().map(|u| u16::from_le_bytes(*u)))
                .collect::<Result<String, _>>()?,
        )
    };
    let theirs = export(&fs::read(fixture("file_guard.reg"))?)?;
    let sample = export(&fs::read(fixture("sample.reg"))?)?;
    let (_, keys) = sample.split_once("\r\n\r\n").ok_or("the export has no keys")?;
    Ok(theirs + keys)
}

fn import_leaves_out() -> Result<(), Failed> {
    let folder = TempDir::new()?;
    fs::write(folder.path().join("machine.reg"), machine()?)?;
    let import = |options: &str| {
        let out = output(&mut call(words(
            folder.path(),
            &format!("platform import {{machine.reg}} {options}"),
        )))?;
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Ok::<_, Failed>((out.status.code(), text(&out.stdout), text(&out.stderr)))
    };
    let (status, toml, said) = import("")?;
    same("status", &status, &Some(0))?;
    contains(&said, &["1 of 2 program types", "1 of 2 functions", "--all"])?;
    same("what is left", &toml.contains("name = \"sample\""), &false)?;
    contains(&toml, &["name = \"file_guard\""])?;
    let (_, all, said) = import("--all")?;
    same("said", &said.as_str(), &"")?;
    contains(
        &all,
        &[
            "name = \"file_guard\"",
            "name = \"sample\"",
            "sample_ebpf_extension_replace",
        ],
    )
}

fn whole_machine() -> Result<(), Failed> {
    let folder = TempDir::new()?;
    fs::write(folder.path().join("machine.reg"), machine()?)?;
    let object = "../metadata/utility.o";
    let build = |options: &str| {
        succeed(&mut call(words(
            folder.path(),
            &format!("build {options} -o {{x.sys}} {{:{object}}}"),
        )))?;
        Ok::<_, Failed>(fs::read(folder.path().join("x.sys"))?)
    };
    // What is built in keeps what no registry tells, and nothing of a driver changes.
    let alone = build("")?;
    same(
        "the drivers are the same",
        &(build("--platform {machine.reg}")? == alone),
        &true,
    )
}

/// A changed copy of the sample extension's export.
fn changed(folder: &Path, from: &str, to: &str) -> Result<(), Failed> {
    let machine = machine()?;
    if !machine.contains(from) {
        return Err(format!("the export has no `{from}`").into());
    }
    fs::write(folder.join("machine.reg"), machine.replace(from, to))?;
    Ok(())
}

fn contradictions() -> Result<(), Failed> {
    let folder = TempDir::new()?;
    let verify = || {
        call(words(
            folder.path(),
            "verify --platform {machine.reg} {:../metadata/utility.o}",
        ))
    };
    // Another helper under a known id, another number and another attach type.
    changed(
        folder.path(),
        "Helpers\\sample_ebpf_extension_find]",
        "Helpers\\sample_ebpf_extension_search]",
    )?;
    let help = "`replaces = [\"sample\"]`";
    let both = [
        "sample_ebpf_extension_find there",
        "sample_ebpf_extension_search here",
        "machine.reg",
        help,
    ];
    fails(
        &mut verify(),
        3,
        &[&["BPF6002", "program type `sample`", "65537"][..], &both].concat(),
    )?;
    changed(
        folder.path(),
        "\"BpfProgType\"=dword:000003e7",
        "\"BpfProgType\"=dword:000003e8",
    )?;
    fails(
        &mut verify(),
        3,
        &["BPF6002", "bpf_prog_type: 999 there, 1000 here", help],
    )?;
    changed(
        folder.path(),
        "\"BpfAttachType\"=dword:00000008",
        "\"BpfAttachType\"=dword:00000009",
    )?;
    fails(
        &mut verify(),
        3,
        &["BPF6002", "section `sample_ext`", "bpf_attach_type: 8 there, 9 here"],
    )?;
    changed(folder.path(), "\"Name\"=\"file_guard\"", "\"Name\"=\"xdp\"")?;
    fails(
        &mut verify(),
        3,
        &[
            "BPF6002",
            "program type `xdp`",
            "GUID: f1832a85",
            "b3a1c0de",
            "`replaces = [\"xdp\"]`",
        ],
    )?;
    Ok(())
}

fn replaces() -> Result<(), Failed> {
    let folder = TempDir::new()?;
    let at = |line: &str| call(words(folder.path(), line));
    changed(
        folder.path(),
        "\"ReallocatePacket\"=dword:00000000",
        "\"ReallocatePacket\"=dword:00000001",
    )?;
    fails(
        &mut at("verify --platform {machine.reg} {:../rules/accepted.o}"),
        3,
        &["BPF6002", "reallocate_packet: false there, true here"],
    )?;
    succeed(&mut at("platform import {machine.reg} -o {machine.toml}"))?;
    let path = folder.path().join("machine.toml");
    let toml = fs::read_to_string(&path)?;
    contains(&toml, &["[provider]\nid = \"registry\"\n"])?;
    let replacing = toml.replace("[provider]\n", "[provider]\nreplaces = [\"sample\"]\n");
    fs::write(&path, &replacing)?;
    succeed(&mut at(
        "build --platform {machine.toml} -o {x.sys} {:../rules/accepted.o}",
    ))?;
    succeed(&mut at("build -o {y.sys} {:../rules/accepted.o}"))?;
    let built = |name: &str| fs::read(folder.path().join(name));
    same(
        "the hash of changed prototypes differs",
        &(built("x.sys")? == built("y.sys")?),
        &false,
    )?;
    // Only what is there can be replaced.
    fs::write(
        &path,
        toml.replace("[provider]\n", "[provider]\nreplaces = [\"sampel\"]\n"),
    )?;
    fails(
        &mut at("verify --platform {machine.toml} {:../rules/accepted.o}"),
        3,
        &["BPF6001", "no file before this one has a provider `sampel`"],
    )?;
    Ok(())
}

fn longer_list() -> Result<(), Failed> {
    let folder = TempDir::new()?;
    // A helper that a newer sample extension could have.
    let newer = "Helpers\\sample_newer]\r\n\"Version\"=dword:1\r\n\"Size\"=dword:42\r\n\"Prototype\"=hex:\
                 20,00,01,00,00,00,00,00,00,00,00,00,00,00,00,00,00,00,00,00,00,00,00,00,00,00,00,00\r\n\r\n";
    let key = "[HKEY_LOCAL_MACHINE\\Software\\eBPF\\Providers\\ProgramData\\{f788ef4a-207d-4dc3-85cf-0f2ea107213c}\\";
    let machine = machine()?.replace("\"HelperCount\"=dword:00000007", "\"HelperCount\"=dword:00000008");
    fs::write(folder.path().join("machine.reg"), format!("{machine}{key}{newer}"))?;
    let at = |line: &str| succeed(&mut call(words(folder.path(), line)));
    at("build --platform {machine.reg} -o {x.sys} {:../metadata/utility.o}")?;
    at("build -o {y.sys} {:../metadata/utility.o}")?;
    let built = |name: &str| fs::read(folder.path().join(name));
    same(
        "a program that does not call it is the same",
        &(built("x.sys")? == built("y.sys")?),
        &true,
    )?;
    let toml = at("platform import {machine.reg}")?;
    contains(&toml, &["name = \"sample_newer\"", "name = \"sample\""])
}

fn content_tells() -> Result<(), Failed> {
    let folder = TempDir::new()?;
    let at = |line: &str| call(words(folder.path(), line));
    // Names say nothing.
    fs::copy(fixture("file_guard.reg"), folder.path().join("export.toml"))?;
    succeed(&mut at("verify --platform {export.toml} {:file_guard.o}"))?;
    succeed(&mut at("platform import {:file_guard.reg} -o {file.reg}"))?;
    succeed(&mut at("verify --platform {file.reg} {:file_guard.o}"))?;
    // A shell of Windows that redirects output writes UTF-16.
    let toml = fs::read_to_string(folder.path().join("file.reg"))?;
    let wide = [0xFF, 0xFE]
        .into_iter()
        .chain(toml.encode_utf16().flat_map(u16::to_le_bytes));
    fs::write(folder.path().join("wide.toml"), wide.collect::<Vec<u8>>())?;
    succeed(&mut at("verify --platform {wide.toml} {:file_guard.o}"))?;
    fs::write(folder.path().join("marked.toml"), format!("\u{feff}{toml}"))?;
    succeed(&mut at("verify --platform {marked.toml} {:file_guard.o}"))?;
    fails(
        &mut at("verify --platform {:file_guard.o} {:file_guard.o}"),
        3,
        &["BPF6010"],
    )?;
    fails(
        &mut at("platform import {:file_guard.c}"),
        3,
        &["BPF6011", "first line"],
    )?;
    fs::write(
        folder.path().join("other.reg"),
        "REGEDIT4\r\n[HKEY_LOCAL_MACHINE\\Software\\WOW6432Node\\eBPF\\Providers]\r\n",
    )?;
    fails(
        &mut at("platform import {other.reg}"),
        3,
        &["BPF6012", "WOW6432Node", "reg export"],
    )?;
    Ok(())
}

fn left_out() -> Result<(), Failed> {
    let folder = TempDir::new()?;
    let at = |line: &str| call(words(folder.path(), line));
    // A helper that an earlier version had.
    changed(
        folder.path(),
        "\"HelperCount\"=dword:00000006",
        "\"HelperCount\"=dword:00000005",
    )?;
    let warned = [
        "BPF6015",
        "`HelperCount` is 5, and `Helpers` has 6",
        "machine.reg:",
        "[-HKEY_LOCAL_MACHINE\\",
    ];
    let out = output(&mut at("verify --platform {machine.reg} {:../metadata/utility.o}"))?;
    same("status", &out.status.code(), &Some(0))?;
    contains(&String::from_utf8_lossy(&out.stderr), &warned)?;
    fails(
        &mut at("verify --platform {machine.reg} {:file_guard.o}"),
        4,
        &["BPF2011", "BPF6015"],
    )?;
    // The way out that the warning names.
    let key = "HKEY_LOCAL_MACHINE\\Software\\eBPF\\Providers\\ProgramData\\{b3a1c0de-5d1e-4f0a-9c53-2f6f1c9d7e10}";
    let mended =
        fs::read_to_string(folder.path().join("machine.reg"))? + &format!("[-{key}\\Helpers\\file_guard_volume]\r\n");
    fs::write(folder.path().join("machine.reg"), mended)?;
    let without = fails(
        &mut at("verify --platform {machine.reg} {:file_guard.o}"),
        4,
        &["65540"],
    )?;
    same("no warning", &without.contains("BPF6015"), &false)
}

fn another_host_has_no_registry() -> Result<(), Failed> {
    let object = fixture("file_guard.o");
    let mut verify = call(["verify", "--platform", "registry"]);
    fails(verify.arg(&object), 3, &["BPF6020", "reg export"])?;
    let mut listed = call(["verify"]);
    fails(listed.arg(&object).env(VARIABLE, "registry"), 3, &["BPF6020"])?;
    fails(&mut call(["platform", "import", "registry"]), 3, &["BPF6020"])?;
    Ok(())
}
