//! Many inputs in one call, and what build systems want of a step: unchanged files keep their time, what was read is
//! listed, arguments can come from a file, a project file has the options.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, SystemTime};

use libtest_mimic::{Failed, Trial};
use serde_json::Value;

use crate::support::{Need, output, root, succeed, test, test_with, tool};

pub fn trials() -> Vec<Trial> {
    let clang = [Need::Program("clang-19")];
    vec![
        test("batch::unchanged_outputs_keep_their_time", unchanged),
        test("batch::results_come_in_the_order_of_the_inputs", order),
        test("batch::the_summary_counts_and_hashes", summary),
        test_with("batch::the_depfile_lists_what_was_read", &clang, depfile),
        test("batch::response_files_hold_arguments", response_files),
        test("batch::outputs_never_take_the_place_of_inputs", no_overwriting),
        test_with(
            "project::a_new_project_builds_and_its_program_works",
            &clang,
            new_project,
        ),
        test("project::files_are_relative_to_the_project", relative_files),
        test("project::the_command_line_comes_first", command_line_first),
        test("project::drivers_have_options_of_their_own", drivers),
        test("project::signing_and_version_info_are_said_in_tables", tables),
        test("project::what_is_wrong_is_told_with_its_line", wrong),
        test("project::every_option_is_a_key_or_is_said_not_to_be", every_option),
    ]
}

/// A folder with objects of these names, all of one example.
fn objects(names: &[&str]) -> Result<tempfile::TempDir, Failed> {
    let folder = tempfile::tempdir()?;
    for name in names {
        let path = folder.path().join(name);
        fs::create_dir_all(path.parent().unwrap_or(folder.path()))?;
        fs::copy(root().join("examples/flow_log/flow_log.o"), path)?;
    }
    Ok(folder)
}

fn build(folder: &Path, arguments: &[&str]) -> Command {
    let mut command = tool();
    command.arg("build").args(arguments).current_dir(folder);
    command
}

/// The error that a command ends with.
fn fails(command: &mut Command, status: i32, says: &[&str]) -> Result<(), Failed> {
    let out = output(command)?;
    let told = String::from_utf8_lossy(&out.stderr);
    if out.status.code() != Some(status) {
        return Err(format!("{command:?}: {}, not {status}:\n{told}", out.status).into());
    }
    match says.iter().find(|says| !told.contains(**says)) {
        Some(missing) => Err(format!("does not say {missing:?}:\n{told}").into()),
        None => Ok(()),
    }
}

fn long_ago() -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000_000)
}

fn age(path: &Path) -> Result<(), Failed> {
    Ok(fs::File::options().write(true).open(path)?.set_modified(long_ago())?)
}

fn is_aged(path: &Path) -> Result<bool, Failed> {
    Ok(fs::metadata(path)?.modified()? == long_ago())
}

/// All files below a folder, relative to it.
fn files(folder: &Path) -> Result<Vec<String>, Failed> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(next) = folders.pop() {
        for entry in fs::read_dir(&next)? {
            let path = entry?.path();
            if path.is_dir() {
                folders.push(path);
            } else {
                let name = path.strip_prefix(folder)?.to_string_lossy().replace('\\', "/");
                found.push(name);
            }
        }
    }
    found.sort();
    Ok(found)
}

fn unchanged() -> Result<(), Failed> {
    let folder = objects(&["a.o", "b.o"])?;
    let path = |name: &str| folder.path().join(name);
    succeed(&mut build(folder.path(), &["a.o", "b.o", "--arch", "x64,arm64"]))?;
    let outputs = ["a.x64.sys", "a.arm64.sys", "b.x64.sys", "b.arm64.sys"];
    for name in outputs {
        age(&path(name))?;
    }
    let told = succeed(&mut build(folder.path(), &["a.o", "b.o", "--arch", "x64,arm64"]))?;
    assert!(told.contains("0 files written, 4 unchanged"), "{told}");
    for name in outputs {
        assert!(is_aged(&path(name))?, "{name} was written");
    }
    fs::copy(root().join("examples/bind_policy/bind_policy.o"), path("a.o"))?;
    fs::write(path("b.arm64.sys"), b"damaged")?;
    let told = succeed(&mut build(folder.path(), &["a.o", "b.o", "--arch", "x64,arm64"]))?;
    assert!(told.contains("3 files written, 1 unchanged"), "{told}");
    assert!(
        told.contains("b.x64.sys: x64 driver, ") && told.contains(" bytes, unchanged\n"),
        "{told}"
    );
    assert!(is_aged(&path("b.x64.sys"))? && !is_aged(&path("a.x64.sys"))?);
    Ok(())
}

fn order() -> Result<(), Failed> {
    let names: Vec<String> = (0..40).map(|n| format!("o{n:02}.o")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let folder = objects(&names)?;
    // The slowest first: the others are done before it.
    fs::copy(
        root().join("examples/process_guard/process_guard.o"),
        folder.path().join("o00.o"),
    )?;
    fs::write(folder.path().join("o20.o"), b"no object")?;
    let mut seen: Option<(Vec<u8>, Vec<u8>)> = None;
    for jobs in ["1", "2", "7"] {
        let out = output(build(folder.path(), &["-j", jobs, "--out-dir", jobs]).args(&names))?;
        assert_eq!(out.status.code(), Some(3));
        let named = |bytes: &[u8]| {
            String::from_utf8_lossy(bytes)
                .replace(&format!("{jobs}/o"), "o")
                .into_bytes()
        };
        let told = (named(&out.stdout), out.stderr);
        assert!(
            *seen.get_or_insert_with(|| told.clone()) == told,
            "with {jobs} at once: another order"
        );
    }
    let lines = String::from_utf8(seen.unwrap_or_default().0)?;
    let listed: Vec<&str> = lines.lines().filter_map(|line| line.split(".sys").next()).collect();
    assert_eq!(listed.len(), 40, "{lines}"); // one failed, and the last line sums up
    assert!(listed[..39].is_sorted());
    assert!(
        lines.ends_with("39 inputs built, 1 failed: 39 files written, 0 unchanged\n"),
        "{lines}"
    );
    fails(&mut build(folder.path(), &["-j", "0", "o01.o"]), 2, &["--jobs"])
}

fn summary() -> Result<(), Failed> {
    let folder = objects(&["a.o", "b.o"])?;
    fs::write(folder.path().join("c.o"), b"no object")?;
    let arguments = ["a.o", "b.o", "c.o", "--summary", "json", "--emit", "sys,asm"];
    let out = output(&mut build(folder.path(), &arguments))?;
    assert_eq!(out.status.code(), Some(3));
    let summary: Value = serde_json::from_slice(&out.stdout)?;
    let counts = ["status", "built", "failed", "written", "unchanged"].map(|key| summary[key].as_u64());
    assert_eq!(counts, [3, 2, 1, 4, 0].map(Some));
    let statuses: Vec<_> = (0..3).map(|i| summary["inputs"][i]["status"].as_u64()).collect();
    assert_eq!(statuses, [Some(0), Some(0), Some(3)]);
    let first = &summary["inputs"][0]["outputs"][0];
    assert_eq!((&first["file"], &first["form"]), (&"a.sys".into(), &"sys".into()));
    let bytes = fs::read(folder.path().join("a.sys"))?;
    assert_eq!(first["size"].as_u64(), Some(bytes.len() as u64));
    let hash = succeed(Command::new("sha256sum").arg(folder.path().join("a.sys")))?;
    assert_eq!(first["sha256"].as_str(), hash.split_whitespace().next());
    let text = output(&mut build(folder.path(), &["a.o", "b.o", "--summary", "text"]))?;
    assert_eq!(
        String::from_utf8(text.stdout)?,
        "2 inputs built: 0 files written, 2 unchanged\n"
    );
    fails(
        &mut build(folder.path(), &["a.o", "--summary=json", "-o", "-"]),
        2,
        &["standard output"],
    )
}

fn depfile() -> Result<(), Failed> {
    let folder = tempfile::tempdir()?;
    let path = |name: &str| folder.path().join(name);
    fs::create_dir(path("my headers"))?;
    fs::write(path("my headers/own.h"), "#include \"second.h\"\n")?;
    fs::write(path("my headers/second.h"), "#define LIMIT 3\n")?;
    let source = fs::read_to_string(root().join("examples/udp_filter/udp_filter.c"))?;
    fs::write(path("a.bpf.c"), format!("#include \"own.h\"\n{source}"))?;
    let version = "company = 'C'\nproduct = 'P'\ndescription = 'D'\nfile-version = '1.0'\n";
    fs::write(path("version.toml"), version)?;
    fs::write(
        path("bpf2sys.toml"),
        "inputs = ['a.bpf.c']\ninclude = ['my headers']\nversion-info = 'version.toml'\nkeep-object = true\nclang = 'clang-19'\n",
    )?;
    succeed(tool().args(["cert", "new", "--key", "p256"]).current_dir(&folder))?;
    let run = |arguments: &[&str]| succeed(build(folder.path(), &["--depfile", "a.d"]).args(arguments));
    run(&["--sign-pfx", "signing.pfx"])?;
    let listed = fs::read_to_string(path("a.d"))?;
    let (rule, rest) = listed.split_once("\n\n").ok_or("no rules for what was read")?;
    let (targets, reads) = rule.split_once(':').ok_or("no rule")?;
    assert_eq!(targets, "a.sys a.bpf.o");
    let mut reads: Vec<&str> = reads
        .split(" \\\n")
        .map(str::trim)
        .filter(|read| !read.is_empty())
        .collect();
    reads.sort_unstable();
    let wanted = [
        "a.bpf.c",
        "bpf2sys.toml",
        "my\\ headers/own.h",
        "my\\ headers/second.h",
        "signing.pfx",
    ];
    assert_eq!(
        reads,
        wanted.iter().chain(&["version.toml"]).copied().collect::<Vec<_>>()
    );
    assert!(rest.contains("my\\ headers/own.h:\n"), "{rest}");
    // Make reads it, and builds again when any of these is newer, and when a header is gone.
    fs::write(path("Makefile"), "a.sys:\n\techo builds it\n-include a.d\n")?;
    let make =
        || -> Result<bool, Failed> { Ok(succeed(Command::new("make").current_dir(&folder))?.contains("builds it")) };
    assert!(!make()?);
    let later = SystemTime::now() + Duration::from_secs(5);
    fs::File::options()
        .write(true)
        .open(path("my headers/second.h"))?
        .set_modified(later)?;
    assert!(make()?);
    fs::remove_file(path("my headers/second.h"))?;
    assert!(make()?);
    // What failed leaves none.
    fs::remove_file(path("a.d"))?;
    fails(&mut build(folder.path(), &["--depfile", "a.d"]), 3, &["second.h"])?;
    assert!(!path("a.d").exists());
    Ok(())
}

fn response_files() -> Result<(), Failed> {
    let folder = objects(&["a b.o", "c.o"])?;
    fs::write(
        folder.path().join("arguments"),
        "a b.o\r\nc.o\r\n--out-dir\r\nout put\r\n",
    )?;
    let utf16: Vec<u8> = "\u{feff}--arch=arm64\n"
        .encode_utf16()
        .flat_map(u16::to_le_bytes)
        .collect();
    fs::write(folder.path().join("wide"), utf16)?;
    succeed(&mut build(folder.path(), &["@arguments", "@wide"]))?;
    assert_eq!(files(&folder.path().join("out put"))?, ["a b.sys", "c.sys"]);
    let check = succeed(tool().arg("inspect").arg(folder.path().join("out put/c.sys")))?;
    assert!(check.contains("arm64 driver"), "{check}");
    fails(&mut build(folder.path(), &["@none"]), 1, &["BPF9001", "`none`"])?;
    fs::write(folder.path().join("bytes"), [0xff, 0xfe, 0x00])?;
    fails(&mut build(folder.path(), &["@bytes"]), 2, &["BPF9005", "no text"])?;
    let json = output(&mut build(folder.path(), &["--message-format=json", "@none"]))?;
    assert!(String::from_utf8(json.stdout)?.starts_with("{\"reason\":\"diagnostic\""));
    Ok(())
}

fn no_overwriting() -> Result<(), Failed> {
    let folder = objects(&["a.o", "b.o", "sub/a.o"])?;
    let before = fs::read(folder.path().join("a.o"))?;
    for (arguments, says) in [
        (&["a.o", "-o", "./a.o"][..], "is an input"),
        (&["a.o", "--depfile", "sub/../a.o"], "is an input"),
        (&["a.o", "--depfile", "a.sys"], "two outputs"),
        (&["a.o", "sub/a.o"], "two outputs"),
    ] {
        fails(&mut build(folder.path(), arguments), 2, &[says])?;
    }
    assert!(fs::read(folder.path().join("a.o"))? == before);
    assert_eq!(files(folder.path())?, ["a.o", "b.o", "sub/a.o"]);
    Ok(())
}

fn new_project() -> Result<(), Failed> {
    let folder = tempfile::tempdir()?;
    let in_folder = |name: &str| {
        let mut command = tool();
        command
            .current_dir(folder.path().join(name))
            .env("BPF2SYS_CLANG", "clang-19");
        command
    };
    succeed(in_folder("").args(["init", "mine"]))?;
    assert_eq!(files(folder.path())?, ["mine/bpf2sys.toml", "mine/src/drop_port.bpf.c"]);
    let out = output(in_folder("mine").arg("build"))?;
    assert!(
        out.status.success() && out.stderr.is_empty(),
        "{}",
        String::from_utf8_lossy(&out.stderr)
    );
    let drivers = folder.path().join("mine/drivers");
    assert_eq!(files(&drivers)?, ["drop_port.arm64.sys", "drop_port.x64.sys"]);
    // From a folder below it: the same files with the same bytes.
    let told = succeed(in_folder("mine/src").arg("build"))?;
    assert!(
        told.contains("../drivers/drop_port.x64.sys") && told.contains("unchanged"),
        "{told}"
    );
    if cfg!(all(target_os = "linux", target_arch = "x86_64")) {
        let packet = |port| crate::packets::udp4((53, port), b"data");
        let run = |packet: &[u8]| -> Result<String, Failed> {
            fs::write(folder.path().join("packet"), packet)?;
            succeed(
                in_folder("")
                    .arg("run")
                    .arg(drivers.join("drop_port.x64.sys"))
                    .args(["--packet", "packet"]),
            )
        };
        let dropped = run(&packet(9))?;
        assert!(dropped.contains("(XDP_DROP)"), "{dropped}");
        let passed = run(&packet(10))?;
        assert!(passed.contains("(XDP_PASS)"), "{passed}");
    }
    // Nothing that is there is touched.
    let file = folder.path().join("mine/src/drop_port.bpf.c");
    fs::write(&file, "mine")?;
    fs::remove_file(folder.path().join("mine/bpf2sys.toml"))?;
    fails(
        in_folder("").args(["init", "mine"]),
        2,
        &["drop_port.bpf.c` is there already"],
    )?;
    assert!(fs::read(&file)? == b"mine" && !folder.path().join("mine/bpf2sys.toml").exists());
    Ok(())
}

/// Writes a project file, and gives its path.
fn project(folder: &Path, text: &str) -> Result<PathBuf, Failed> {
    let file = folder.join("bpf2sys.toml");
    fs::write(&file, text)?;
    Ok(file)
}

fn relative_files() -> Result<(), Failed> {
    let folder = objects(&["p/objects/a.o", "p/objects/b.o", "p/other.o", "elsewhere/x"])?;
    fs::copy(
        root().join("tests/fixtures/platforms/file_guard.reg"),
        folder.path().join("p/mine.reg"),
    )?;
    project(
        &folder.path().join("p"),
        "inputs = ['objects/*.o', 'other.o']\nout-dir = 'out'\nplatform = 'mine.reg'\n",
    )?;
    succeed(&mut build(
        &folder.path().join("elsewhere"),
        &["--project", "../p/bpf2sys.toml"],
    ))?;
    assert_eq!(files(&folder.path().join("p/out"))?, ["a.sys", "b.sys", "other.sys"]);
    assert_eq!(files(&folder.path().join("elsewhere"))?, ["x"]);
    Ok(())
}

fn command_line_first() -> Result<(), Failed> {
    let folder = objects(&["a.o", "b.o", "c.o"])?;
    project(
        folder.path(),
        "inputs = ['a.o']\narch = ['x64', 'arm64']\nout-dir = 'out'\nemit = ['sys', 'asm']\n[[driver]]\ninputs = ['b.o']\nemit = 'dll'\n",
    )?;
    let run = |arguments: &[&str], wanted: &[&str]| -> Result<(), Failed> {
        succeed(&mut build(folder.path(), arguments))?;
        let found: Vec<String> = files(folder.path())?
            .into_iter()
            .filter(|name| !name.contains(".o"))
            .collect();
        assert_eq!(&found[1..], wanted, "{arguments:?}"); // the first is the project file
        for name in &found[1..] {
            fs::remove_file(folder.path().join(name))?;
        }
        Ok(())
    };
    let all = [
        "out/a.arm64.asm",
        "out/a.arm64.sys",
        "out/a.x64.asm",
        "out/a.x64.sys",
        "out/b.arm64.dll",
        "out/b.x64.dll",
    ];
    run(&[], &all)?;
    run(&["--arch", "arm64"], &["out/a.asm", "out/a.sys", "out/b.dll"])?;
    run(
        &["--out-dir", "new", "--arch=x64", "--emit=sys"],
        &["new/a.sys", "new/b.sys"],
    )?;
    // Named inputs have the options of their group, or those of the project.
    let named = ["--project", "bpf2sys.toml", "--arch=x64"];
    run(&[&named[..], &["./b.o"]].concat(), &["out/b.dll"])?;
    run(&[&named[..], &["c.o", "--emit", "sys"]].concat(), &["out/c.sys"])?;
    run(&[&named[..], &["-o", "new.dll", "b.o"]].concat(), &["new.dll"])?;
    // Without `--project`, named inputs are built as if there were none.
    run(&["c.o"], &["c.sys"])
}

fn drivers() -> Result<(), Failed> {
    let folder = objects(&["a.o", "b.o", "c.o"])?;
    project(
        folder.path(),
        "out-dir = 'out'\nhash = 'none'\n[[driver]]\ninputs = ['a.o']\noutput = 'a/renamed.sys'\n\
         [[driver]]\ninputs = ['b.o', 'c.o']\nruntime = 1.4\nhash = 'sha512'\n",
    )?;
    fs::create_dir(folder.path().join("a"))?;
    succeed(&mut build(folder.path(), &[]))?;
    let inspect = |name: &str| succeed(tool().arg("inspect").arg(folder.path().join(name)));
    let renamed = inspect("a/renamed.sys")?;
    assert!(
        renamed.contains("runtime level: 1.6") && !renamed.contains("object hash"),
        "{renamed}"
    );
    for name in ["out/b.sys", "out/c.sys"] {
        let shown = inspect(name)?;
        assert!(
            shown.contains("runtime level: 1.4") && shown.contains("program info hash SHA512"),
            "{shown}"
        );
    }
    Ok(())
}

fn tables() -> Result<(), Failed> {
    let folder = objects(&["a.o"])?;
    succeed(tool().args(["cert", "new", "--key", "p256"]).current_dir(&folder))?;
    project(
        folder.path(),
        "inputs = ['a.o']\n[sign]\npfx = 'signing.pfx'\ndescription = 'Mine'\n[version-info]\ncompany = 'Contoso'\n\
         product = 'P'\ndescription = 'Größer'\nfile-version = '3.1'\n",
    )?;
    succeed(&mut build(folder.path(), &[]))?;
    let image = fs::read(folder.path().join("a.sys"))?;
    for text in ["Contoso", "Größer", "3.1"] {
        let wide = crate::packets::utf16(text);
        assert!(
            image.windows(wide.len()).any(|part| part == wide),
            "the image does not say {text:?}"
        );
    }
    // Also for an input that the file does not name.
    fs::copy(folder.path().join("a.o"), folder.path().join("other.o"))?;
    succeed(&mut build(folder.path(), &["--project", "bpf2sys.toml", "other.o"]))?;
    let other = fs::read(folder.path().join("other.sys"))?;
    let wide = crate::packets::utf16("Contoso");
    assert!(other.windows(wide.len()).any(|part| part == wide));
    let signature = succeed(
        tool()
            .args(["signature", "a.sys", "--root", "root.cer"])
            .current_dir(&folder),
    )?;
    assert!(signature.contains("Mine"), "{signature}");
    Ok(())
}

fn wrong() -> Result<(), Failed> {
    let folder = objects(&["a.o"])?;
    for (text, says) in [
        ("inputs = ['a.o'", "bpf2sys.toml:1:"),
        ("inputs = ['a.o']\nruntme = 1.6", "`runtme` is no key"),
        ("inputs = ['a.o']\nruntime = 9.9", "bpf2sys.toml:2:1"),
        ("inputs = ['a.o']\nlse = 'yes'", "`lse` is true or false"),
        ("inputs = ['a.o']\narch = [1, true]", "`arch` is a list of texts"),
        ("inputs = ['a.o']\nhash = ['none']", "`hash` is a text"),
        ("inputs = 'a.o'", "`inputs` is a list"),
        ("inputs = [3]", "`inputs` is a list"),
        ("inputs = ['*.x']", "no file matches it"),
        ("inputs = ['[.o']", "the pattern `[.o`"),
        ("inputs = []", "it names no `inputs`"),
        ("arch = 'x64'", "it names no `inputs`"),
        ("[[driver]]\narch = 'x64'", "names no `inputs`"),
        ("driver = 3", "write `[[driver]]`"),
        ("inputs = ['a.o']\noutput = 'x'", "`output` is no key"),
        ("inputs = ['a.o']\nquiet = true", "`quiet` is no key"),
        ("inputs = ['a.o']\nsign-pfx = 'x'", "`sign-pfx` is no key"),
        (
            "inputs = ['a.o']\n[sign]\nreturn-address = true",
            "`sign.return-address` is no key",
        ),
        ("inputs = ['a.o']\n[sign]\npfx = 'p'\nkey = 'k'", "bpf2sys.toml:3:1"),
        ("inputs = ['a.o']\n[version-info]\ncompany = 'C'", "bpf2sys.toml:2:2"),
        ("inputs = ['a.o']\nversion-info = 'none'", "can't read `none`"),
        ("inputs = ['a.o']\nversion-info = true", "`version-info` is a text"),
        ("inputs = ['none.o']", "BPF9001"),
    ] {
        project(folder.path(), text)?;
        let out = output(&mut build(folder.path(), &[]))?;
        let told = String::from_utf8_lossy(&out.stderr);
        assert!(
            !out.status.success() && told.contains(says),
            "{text:?} does not say {says:?}:\n{told}"
        );
        assert_eq!(files(folder.path())?, ["a.o", "bpf2sys.toml"], "{text:?}");
    }
    fs::write(folder.path().join("bpf2sys.toml"), [0xff; 4])?;
    fails(&mut build(folder.path(), &[]), 3, &["it is no text"])
}

/// Options of `bpf2sys build` that are about one run and not about what is built.
pub const OF_ONE_RUN: [&str; 11] = [
    "project",
    "output",
    "depfile",
    "depfile-form",
    "jobs",
    "quiet",
    "summary",
    "help",
    "version",
    "message-format",
    "color",
];

/// All options of `bpf2sys build`, by their long names.
pub fn build_options() -> Result<BTreeSet<String>, Failed> {
    let help = succeed(tool().args(["build", "--help"]))?;
    let longs = help.lines().filter_map(|line| {
        let at = line.find("--")?;
        let before = line[..at].trim();
        let is_option = before.is_empty() || before.starts_with('-');
        let long = line[at + 2..].split([' ', ',', '=']).next()?;
        is_option.then(|| long.to_owned())
    });
    Ok(longs.collect())
}

/// An option that is new must be thought of here.
fn every_option() -> Result<(), Failed> {
    let folder = objects(&["a.o"])?;
    let mut keys = 0;
    for long in build_options()? {
        project(folder.path(), &format!("{long} = {{}}\n"))?;
        let out = output(&mut build(folder.path(), &[]))?;
        let told = String::from_utf8_lossy(&out.stderr);
        let is_key = !told.contains("is no key");
        let is_signing = long.starts_with("sign-") && long != "sign-return-address";
        let is_of_one_run = OF_ONE_RUN.contains(&long.as_str());
        assert_eq!(is_key, !is_signing && !is_of_one_run, "--{long}: {told}");
        keys += usize::from(is_key);
    }
    assert!(keys > 15, "{keys} keys");
    Ok(())
}
