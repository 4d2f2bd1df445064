//! What the end-to-end tests share: the tool under test, the repository's folders, and skipping.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::{Mutex, OnceLock, PoisonError};

use libtest_mimic::{Failed, Trial};

/// What a test needs that a machine may lack.
#[derive(Clone, Copy, Debug)]
pub enum Need {
    /// A program on the `PATH`.
    Program(&'static str),
    /// Python 3 with this module.
    PythonModule(&'static str),
    /// A file that only some systems have, e.g. a device. Its absence skips, and never fails.
    File(&'static str),
    /// A folder of the corpus, e.g. `elf/build`. Its absence skips, and never fails.
    Corpus(&'static str),
    /// The emulator that runs ARM64 images.
    Emulator,
    /// What [`judge`] finds, and Python. Its absence skips, and never fails.
    Judge,
    /// A program or library for Windows, which this variable names. Its absence skips, and never fails.
    ForWindows(&'static str),
    /// That this environment variable is 1: what takes long or a large download. Its absence skips, and never fails.
    Asked(&'static str),
    /// Permission to run a program with mounts and a network of its own. Its absence skips, and never fails.
    Namespaces,
    /// The system call `bpf(2)` and permission to use it. Its absence skips, and never fails.
    Bpf,
}

impl Need {
    fn missing(self) -> Option<String> {
        match self {
            Need::Program(name) => find_program(name).is_none().then(|| format!("no `{name}` on the PATH")),
            Need::PythonModule(name) => {
                (!has_python_module(name)).then(|| format!("no `python3` with module `{name}`"))
            }
            Need::File(path) => (!Path::new(path).exists()).then(|| format!("no `{path}`")),
            Need::Corpus(folder) => corpus(folder).is_none().then(|| format!("no corpus folder `{folder}`")),
            Need::Emulator => emulator(),
            Need::Judge => (judge().is_none() || find_program("python3").is_none())
                .then(|| "no `image_check.py` beside the corpus, or no `python3`".into()),
            Need::ForWindows(variable) => (std::env::var_os(variable).is_none())
                .then(|| format!("no `{variable}`; `tests/wine/README.md` tells what it names")),
            Need::Asked(variable) => {
                let asked = std::env::var_os(variable).is_some_and(|value| value == "1");
                (!asked).then(|| format!("only with {variable}=1"))
            }
            Need::Namespaces => {
                let mut alone = Command::new("unshare");
                // A container may allow the one and forbid the other.
                alone.args(["--mount", "--net", "--", "mount", "--make-rprivate", "/"]);
                let allowed = alone.output().is_ok_and(|out| out.status.success());
                (!allowed).then(|| "no mounts and network of its own for a program".into())
            }
            Need::Bpf => bpf2sys_isa_tests::differential::Judged::Kernel.missing(),
        }
    }

    fn required(self) -> bool {
        matches!(self, Need::Program(_) | Need::PythonModule(_) | Need::Emulator)
            && std::env::var_os("BPF2SYS_REQUIRE_TOOLS").is_some_and(|v| v == "1")
    }
}

fn has_python_module(name: &str) -> bool {
    let mut python = Command::new("python3");
    python.args(["-c", &format!("import {name}")]);
    python.output().is_ok_and(|out| out.status.success())
}

/// Why there is no emulator; asked once, because it takes loading it.
fn emulator() -> Option<String> {
    static PROBLEM: OnceLock<Option<String>> = OnceLock::new();
    PROBLEM.get_or_init(|| bpf2sys_simulator::emulator().err()).clone()
}

/// A test that needs nothing beyond the repository.
pub fn test(name: &str, body: impl FnOnce() -> Result<(), Failed> + Send + 'static) -> Trial {
    Trial::test(name, body)
}

/// A test that is skipped, and counted as skipped, where something it needs is missing; with
/// `BPF2SYS_REQUIRE_TOOLS=1` a missing program or emulator is a failure.
pub fn test_with(name: &str, needs: &[Need], body: impl FnOnce() -> Result<(), Failed> + Send + 'static) -> Trial {
    for need in needs {
        if let Some(reason) = need.missing() {
            if need.required() {
                return Trial::test(name, move || {
                    Err(format!("{reason}, and BPF2SYS_REQUIRE_TOOLS=1").into())
                });
            }
            eprintln!("{name}: skipped: {reason}");
            return Trial::test(name, body).with_ignored_flag(true);
        }
    }
    Trial::test(name, body)
}

/// The repository's root.
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../..")
        .canonicalize()
        .expect("the repository's root exists")
}

/// A folder of the corpus of foreign test data, if the machine has it: `BPF2SYS_CORPUS`, or `shared/corpus` beside the
/// repository.
pub fn corpus(folder: &str) -> Option<PathBuf> {
    let base = std::env::var_os("BPF2SYS_CORPUS").map_or_else(|| root().join("../shared/corpus"), PathBuf::from);
    let path = base.join(folder);
    path.is_dir().then_some(path)
}

/// A strict reader of images that was written apart from this project, and what it expects of known modules: where the
/// corpus is, the machine may have both beside it.
pub fn judge() -> Option<(PathBuf, PathBuf)> {
    let beside = corpus(".")?.canonicalize().ok()?.parent()?.to_owned();
    let (script, expected) = (
        beside.join("tools/image_check.py"),
        beside.join("contract/expected-metadata"),
    );
    (script.is_file() && expected.is_dir()).then_some((script, expected))
}

/// The built tool, ready for arguments. Objects of the tests without a mark are for Windows.
pub fn tool() -> Command {
    let mut tool = Command::new(env!("CARGO_BIN_EXE_bpf2sys"));
    tool.env("BPF2SYS_FROM", "windows");
    tool
}

/// Runs a command and gives its output; failing to start is an error of the test.
pub fn output(command: &mut Command) -> Result<Output, Failed> {
    command.output().map_err(|e| format!("{command:?}: {e}").into())
}

/// Runs a command that must succeed and gives what it printed.
pub fn succeed(command: &mut Command) -> Result<String, Failed> {
    let out = output(command)?;
    if !out.status.success() {
        return Err(format!("{command:?}: {}\n{}", out.status, String::from_utf8_lossy(&out.stderr)).into());
    }
    Ok(String::from_utf8_lossy(&out.stdout).into_owned())
}

/// The path of a program on the `PATH`.
pub fn find_program(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path)
        .map(|folder| folder.join(name))
        .find(|file| file.is_file())
}

/// Holds the part of a page between `<!-- MARKER -->` and `<!-- end -->` to what it must be; with BLESS=1 it is written.
pub fn written_page(page: &str, marker: &str, content: &str) -> Result<(), Failed> {
    // Several tests keep parts of one page.
    static WRITING: Mutex<()> = Mutex::new(());
    let _writing = WRITING.lock().unwrap_or_else(PoisonError::into_inner);
    let file = root().join(page);
    let old = std::fs::read_to_string(&file)?.replace("\r\n", "\n");
    let start = format!("<!-- {marker} -->\n");
    let (before, rest) = old
        .split_once(&start)
        .ok_or_else(|| format!("no `{marker}` in {page}"))?;
    let (_, after) = rest
        .split_once("<!-- end -->\n")
        .ok_or_else(|| format!("no end of `{marker}` in {page}"))?;
    let new = format!("{before}{start}{content}<!-- end -->\n{after}");
    if new == old {
        return Ok(());
    }
    if std::env::var_os("BLESS").is_some_and(|v| v == "1") {
        std::fs::write(&file, new)?;
        return Ok(());
    }
    let diff = similar::TextDiff::from_lines(old.as_str(), new.as_str());
    Err(format!("{}\nBLESS=1 rewrites it", diff.unified_diff()).into())
}
