//! The tool itself as a program for Windows, run by Wine: `BPF2SYS_WINDOWS_EXE` names it, and `tests/wine/README.md` tells how to make it.
//! It does what the tool does here, and keeps to the customs of Windows where those are others.

use std::path::{Path, PathBuf};
use std::process::Output;

use libtest_mimic::{Failed, Trial};

use super::{COMPILER, alone, compile_as, folder, wine};
use crate::examples::EXAMPLES;
use crate::support::{Need, output, root, succeed, test_with, tool};

const NEEDS: [Need; 3] = [Need::ForWindows(TOOL), Need::Program("wine"), Need::Program(COMPILER)];
const RUN_NEEDS: [Need; 5] = [
    Need::ForWindows(TOOL),
    Need::ForWindows(EMULATOR),
    Need::Program("wine"),
    Need::Program(COMPILER),
    Need::Emulator,
];
/// Names the tool.
const TOOL: &str = "BPF2SYS_WINDOWS_EXE";
/// Names the emulator as a library of Windows.
const EMULATOR: &str = "BPF2SYS_WINDOWS_UNICORN";

pub fn trials() -> Vec<Trial> {
    vec![
        test_with("wine::the_tool_writes_what_it_writes_here", &NEEDS, same_outputs),
        test_with("wine::the_tool_takes_the_paths_of_windows", &NEEDS, paths),
        test_with("wine::the_tool_leaves_the_devices_of_windows_alone", &NEEDS, devices),
        test_with("wine::the_tool_reads_the_registry", &NEEDS, registry),
        test_with(
            "wine::the_tool_signs_with_keys_programs_and_batch_files",
            &NEEDS,
            signing,
        ),
        test_with("wine::the_tool_runs_drivers_in_the_emulator", &RUN_NEEDS, runs),
    ]
}

/// A folder with the examples' objects, in which commands run. There is a space in its path.
struct Place(PathBuf);

impl Place {
    fn new(name: &str) -> Result<Place, Failed> {
        let path = folder().join("windows host").join(name);
        if path.exists() {
            std::fs::remove_dir_all(&path)?;
        }
        std::fs::create_dir_all(&path)?;
        for example in EXAMPLES {
            let object = format!("{example}.o");
            std::fs::copy(root().join("examples").join(example).join(&object), path.join(object))?;
        }
        Ok(Place(path))
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    fn read(&self, name: &str) -> Result<Vec<u8>, Failed> {
        std::fs::read(self.path(name)).map_err(|e| format!("{name}: {e}").into())
    }

    /// Writes a file, or another name of it.
    fn copy(&self, from: &Path, name: &str) -> Result<(), Failed> {
        std::fs::copy(from, self.path(name)).map_err(|e| format!("{name}: {e}"))?;
        Ok(())
    }

    /// The tool for Windows.
    fn there(&self, arguments: &[&str]) -> Result<Output, Failed> {
        let _alone = alone();
        output(wine("wine").arg(executable()?).args(arguments).current_dir(&self.0))
    }

    fn succeeds_there(&self, arguments: &[&str]) -> Result<(), Failed> {
        let out = self.there(arguments)?;
        if out.status.success() {
            return Ok(());
        }
        let told = String::from_utf8_lossy(&out.stderr);
        Err(format!("{arguments:?}: {}\n{told}", out.status).into())
    }

    /// It fails with a message that has this part, and leaves nothing half-written.
    fn fails_there(&self, arguments: &[&str], status: i32, part: &str) -> Result<(), Failed> {
        let out = self.there(arguments)?;
        let told = String::from_utf8_lossy(&out.stderr);
        if out.status.code() != Some(status) || !told.contains(part) {
            return Err(format!("{arguments:?}: {}, without `{part}`:\n{told}", out.status).into());
        }
        for entry in std::fs::read_dir(&self.0)? {
            let name = entry?.file_name();
            if name.to_string_lossy().starts_with(".bpf2sys-") {
                return Err(format!("{arguments:?} left {}", name.display()).into());
            }
        }
        Ok(())
    }

    /// It succeeds, and what it moves has the prefix that lifts Windows's limit of 260 characters. Wine itself has no such limit, but
    /// tells what it is asked for.
    fn moves_as_long_paths(&self, arguments: &[&str]) -> Result<(), Failed> {
        let _alone = alone();
        let mut command = wine("wine");
        command.env("WINEDEBUG", "+file").arg(executable()?).args(arguments);
        let out = output(command.current_dir(&self.0))?;
        let told = String::from_utf8_lossy(&out.stderr);
        let moves: Vec<&str> = told.lines().filter(|line| line.contains("MoveFile")).collect();
        let prefix = r#"L"\\\\?\\"#;
        if !out.status.success() || moves.is_empty() || moves.iter().any(|line| line.matches(prefix).count() != 2) {
            return Err(format!("{arguments:?}: {}\n{}", out.status, moves.join("\n")).into());
        }
        Ok(())
    }

    /// The tool of this host.
    fn here(&self, arguments: &[&str]) -> Result<String, Failed> {
        succeed(tool().args(arguments).current_dir(&self.0))
    }

    /// A program of Wine's.
    fn wine(&self, arguments: &[&str]) -> Result<Output, Failed> {
        let _alone = alone();
        output(wine("wine").args(arguments).current_dir(&self.0))
    }
}

/// The tool, beside a library that Wine may lack.
fn executable() -> Result<PathBuf, Failed> {
    static MADE: std::sync::OnceLock<Result<PathBuf, String>> = std::sync::OnceLock::new();
    let made = MADE.get_or_init(|| {
        let make = || -> Result<PathBuf, Failed> {
            let library = compile_as("bcryptprimitives", "dll", &["-shared", "-ladvapi32"])?;
            let place = folder().join("windows host");
            std::fs::create_dir_all(&place)?;
            std::fs::copy(library, place.join("bcryptprimitives.dll"))?;
            let named = std::env::var_os(TOOL).ok_or("no BPF2SYS_WINDOWS_EXE")?;
            let tool = place.join("bpf2sys.exe");
            std::fs::copy(named, &tool)?;
            Ok(tool)
        };
        make().map_err(|failed| failed.message().unwrap_or("no reason").to_owned())
    });
    Ok(made.clone()?)
}

/// Every form for both machines, of a pattern that no shell has expanded; and headers.
fn same_outputs() -> Result<(), Failed> {
    let place = Place::new("outputs")?;
    let options = ["--quiet", "--arch", "x64,arm64", "--emit", "sys,dll,obj,clif,asm"];
    for folder in ["there", "here"] {
        std::fs::create_dir(place.path(folder))?;
    }
    place.succeeds_there(&[&["build", "--out-dir", "there", "*.o"][..], &options].concat())?;
    let objects = EXAMPLES.map(|example| format!("{example}.o"));
    let objects: Vec<&str> = objects.iter().map(String::as_str).collect();
    place.here(&[&["build", "--out-dir", "here"][..], &objects, &options].concat())?;
    place.succeeds_there(&["platform", "header", "--all", "--out-dir", "there"])?;
    place.here(&["platform", "header", "--all", "--out-dir", "here"])?;
    let mut compared = 0;
    for entry in std::fs::read_dir(place.path("here"))? {
        let name = entry?.file_name().to_string_lossy().into_owned();
        if place.read(&format!("there/{name}"))? != place.read(&format!("here/{name}"))? {
            return Err(format!("{name} differs").into());
        }
        compared += 1;
    }
    let written = std::fs::read_dir(place.path("there"))?.count();
    if compared <= EXAMPLES.len() * 10 || written != compared {
        return Err(format!("{written} files there, {compared} here").into());
    }
    for question in [
        &["check", "--json", "here/flow_log.x64.sys"][..],
        &["inspect", "--json", "here/flow_log.arm64.sys"],
        &["platform", "list"],
        &["explain", "BPF2101"],
    ] {
        let there = place.there(question)?;
        if String::from_utf8_lossy(&there.stdout) != place.here(question)? {
            return Err(format!("{question:?} is answered differently").into());
        }
    }
    Ok(())
}

/// What the examples' tests and a run of packets report is what they report here.
fn runs() -> Result<(), Failed> {
    let place = Place::new("runs")?;
    let library = std::env::var_os(EMULATOR).unwrap_or_default();
    let of_windows = |path: &Path| format!("Z:{}", path.display()).replace('/', "\\");
    let emulator = of_windows(Path::new(&library));
    let examples = root().join("examples");
    let capture = examples.join("tail_dispatch/traffic.pcap");
    place.here(&[
        "build",
        "--quiet",
        "--arch",
        "x64,arm64",
        "tail_dispatch.o",
        "udp_filter.o",
    ])?;
    let mut passed = 0;
    for (command, path) in [
        (
            &["test", "--emulate", "--fuzz", "20", "--seed", "1", "--json"][..],
            &examples,
        ),
        (
            &[
                "run",
                "tail_dispatch.x64.sys",
                "-p",
                "dispatch",
                "--each",
                "--instructions",
                "--packet",
            ],
            &capture,
        ),
        (
            &["run", "tail_dispatch.arm64.sys", "-p", "dispatch", "--json", "--packet"],
            &capture,
        ),
    ] {
        let there = {
            let _alone = alone();
            let mut there = wine("wine");
            there.env("BPF2SYS_UNICORN", &emulator).arg(executable()?).args(command);
            output(there.arg(of_windows(path)).current_dir(&place.0))?
        };
        let mut here = tool();
        here.args(command).arg(path).current_dir(&place.0);
        let here = succeed(&mut here)?;
        // Times and paths are each host's own.
        let told = |text: &str| -> Vec<String> {
            let lines = text
                .lines()
                .filter(|line| !line.contains("seconds") && !line.contains("examples"));
            lines.map(str::to_owned).collect()
        };
        let (there, here) = (told(&String::from_utf8_lossy(&there.stdout)), told(&here));
        if there != here {
            let other = there.iter().zip(&here).find(|(there, here)| there != here);
            return Err(format!("{command:?}: {} and {} lines; {other:?}", there.len(), here.len()).into());
        }
        passed += here.len();
    }
    if passed < 100 {
        return Err(format!("only {passed} lines were compared").into());
    }
    Ok(())
}

fn paths() -> Result<(), Failed> {
    let place = Place::new("paths")?;
    place.here(&["build", "--quiet", "udp_filter.o", "-o", "expected.sys"])?;
    let expected = place.read("expected.sys")?;
    let deep = [["long"; 25].concat(), ["path"; 25].concat(), ["deep"; 25].concat()];
    let folders = deep.join("/");
    std::fs::create_dir_all(place.path(&folders))?;
    std::fs::create_dir(place.path("a b"))?;
    place.copy(&place.path("udp_filter.o"), &format!("{folders}/udp_filter.o"))?;
    // Wine's drive Z is the root of this host.
    let absolute = format!("Z:{}", place.0.display()).replace('/', "\\");
    let deep = deep.join("\\");
    for (input, target, file) in [
        ("udp_filter.o".into(), r"a b\c d.sys".into(), "a b/c d.sys".to_owned()),
        (r".\udp_filter.o".into(), "a b/e.sys".into(), "a b/e.sys".to_owned()),
        (
            format!("{deep}\\udp_filter.o"),
            format!("{deep}\\a.sys"),
            format!("{folders}/a.sys"),
        ),
        (
            format!("{absolute}\\{deep}\\udp_filter.o"),
            format!("{absolute}\\{deep}\\b.sys"),
            format!("{folders}/b.sys"),
        ),
        (
            format!("\\\\?\\{absolute}\\udp_filter.o"),
            format!("\\\\?\\{absolute}\\c.sys"),
            "c.sys".to_owned(),
        ),
    ] {
        // The second time, there is a file already.
        for _ in 0..2 {
            place.succeeds_there(&["build", "--quiet", &input, "-o", &target])?;
            if place.read(&file)? != expected {
                return Err(format!("{file} is another").into());
            }
        }
    }
    let target = format!("{deep}\\a.sys");
    // A file that has the bytes already is left alone.
    std::fs::remove_file(place.path(&format!("{folders}/a.sys")))?;
    place.moves_as_long_paths(&["build", "--quiet", "udp_filter.o", "-o", &target])?;
    place.succeeds_there(&["verify", "--cache", &format!("{deep}\\cache"), "udp_filter.o"])?;
    std::fs::create_dir(place.path("other"))?;
    place.copy(&place.path("udp_filter.o"), "other/UDP_FILTER.o")?;
    let both = ["build", "udp_filter.o", r"other\UDP_FILTER.o", "--out-dir", "a b"];
    place.fails_there(&both, 2, "two outputs would be written to")?;
    place.fails_there(&["inspect", "a b"], 1, "is a directory")?;
    place.fails_there(
        &["build", "udp_filter.o", "-o", r"no\x.sys"],
        1,
        "its folder does not exist",
    )
}

fn devices() -> Result<(), Failed> {
    let place = Place::new("devices")?;
    for name in ["NUL", "nul", r"\\.\nul"] {
        place.succeeds_there(&["build", "--quiet", "udp_filter.o", "-o", name])?;
    }
    place.fails_there(&["inspect", "nul"], 3, "is no PE image")?;
    // Wine has the devices that Windows 10 has.
    for name in ["con.sys", "aux", "nul.sys", "CONOUT$"] {
        place.fails_there(&["build", "udp_filter.o", "-o", name], 1, "Windows has a device")?;
    }
    let files = std::fs::read_dir(&place.0)?.count();
    if files != EXAMPLES.len() {
        return Err(format!("there are {files} files").into());
    }
    Ok(())
}

/// What `reg import` put into the registry is what the export says.
fn registry() -> Result<(), Failed> {
    let place = Place::new("registry")?;
    for file in ["file_guard.reg", "file_guard.o"] {
        place.copy(&root().join("tests/fixtures/platforms").join(file), file)?;
    }
    // That of a run before.
    place.wine(&["reg", "delete", r"HKLM\Software\eBPF", "/f"])?;
    place.fails_there(&["platform", "list", "--platform", "registry"], 3, "there is no key")?;
    let imported = place.wine(&["reg", "import", "file_guard.reg"])?;
    if !imported.status.success() {
        return Err(format!("reg import: {imported:?}").into());
    }
    place.succeeds_there(&["platform", "import", "registry", "-o", "there.toml"])?;
    place.here(&["platform", "import", "file_guard.reg", "-o", "here.toml"])?;
    // The first line tells where it is from.
    let texts = ["there.toml", "here.toml"].map(|file| place.read(file));
    let [there, here] = texts.map(|text| text.map(|text| String::from_utf8_lossy(&text).into_owned()));
    let (there, here) = (there?, here?);
    let rest = |text: &str| text.split_once('\n').map(|(_, rest)| rest.to_owned());
    if rest(&there).is_none_or(|text| text.len() < 100) || rest(&there) != rest(&here) {
        return Err(format!("{there}\n{here}").into());
    }
    place.succeeds_there(&[
        "build",
        "--quiet",
        "--platform",
        "registry",
        "file_guard.o",
        "-o",
        "there.sys",
    ])?;
    place.here(&[
        "build",
        "--quiet",
        "--platform",
        "file_guard.reg",
        "file_guard.o",
        "-o",
        "here.sys",
    ])?;
    if place.read("there.sys")? != place.read("here.sys")? {
        return Err("the drivers differ".into());
    }
    Ok(())
}

fn signing() -> Result<(), Failed> {
    let place = Place::new("signing")?;
    place.succeeds_there(&["cert", "new", "--quiet", "--out-dir", r"my certificates"])?;
    place.here(&["build", "--quiet", "udp_filter.o", "-o", "a.sys"])?;
    let pfx = r"my certificates\signing.pfx";
    place.succeeds_there(&["sign", "a.sys", "--pfx", pfx, "-o", "there.sys"])?;
    place.here(&["sign", "a.sys", "--pfx", &pfx.replace('\\', "/"), "-o", "here.sys"])?;
    place.here(&["signature", "there.sys", "--root", "my certificates/root.cer"])?;
    let signed = place.read("there.sys")?;
    if signed != place.read("here.sys")? {
        return Err("the signatures differ".into());
    }
    // Stands in for a program that signs: it puts the signed image in place, if its arguments are what they should be.
    std::fs::create_dir(place.path("my tools"))?;
    let script = "@if not \"%~2\"==\"a & b\" exit 3\r\n@if not \"%~3\"==\"\" exit 4\r\n@copy /y there.sys %1 >nul\r\n";
    std::fs::write(place.path("my tools/sign it.cmd"), script)?;
    for (command, target) in [
        (r#""my tools\sign it.cmd" {file} "a & b" """#, "b.sys"),
        (r"cmd /c copy /y there.sys {file}", "c.sys"),
    ] {
        place.succeeds_there(&["sign", "a.sys", "-o", target, "--signer-command", command])?;
        if place.read(target)? != signed {
            return Err(format!("`{command}` signed otherwise").into());
        }
    }
    let without_extension = r#""my tools\sign it" {file}"#;
    let arguments = ["sign", "a.sys", "-o", "d.sys", "--signer-command", without_extension];
    place.fails_there(&arguments, 7, "`.cmd` or `.bat`")
}
