//! bpf2sys as a step of other build systems: the examples are built by the real engines, which must run what changed and
//! nothing else.

mod cmake;
mod dotnet;
#[cfg(target_os = "linux")]
mod hermetic;
mod make;
mod msbuild;

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use libtest_mimic::{Failed, Trial};

use crate::batch::{OF_ONE_RUN, build_options};
use crate::support::{output, root, succeed, tool};

pub fn trials() -> Vec<Trial> {
    [
        cmake::trials(),
        dotnet::trials(),
        #[cfg(target_os = "linux")]
        hermetic::trials(),
        make::trials(),
        msbuild::trials(),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// The programs of the examples.
const PROGRAMS: [&str; 2] = ["count_binds", "drop_port"];

/// A copy of the examples under a path with a space, and a tool that takes down what it is asked for.
struct Workplace {
    folder: tempfile::TempDir,
}

impl Workplace {
    fn new() -> Result<Workplace, Failed> {
        let folder = tempfile::tempdir()?;
        let workplace = Workplace { folder };
        copy(&root().join("examples/integration"), &workplace.examples())?;
        let script = format!(
            "#!/bin/sh\nfor word; do case $word in @*) cat \"${{word#@}}\";; *) printf '%s\\n' \"$word\";; esac; done | tr '\\n' ' ' >> '{log}'\n\
             echo >> '{log}'\nexec '{tool}' \"$@\"\n",
            log = workplace.path("log").display(),
            tool = env!("CARGO_BIN_EXE_bpf2sys"),
        );
        fs::create_dir(workplace.path("bin"))?;
        fs::write(workplace.tool(), script)?;
        fs::set_permissions(workplace.tool(), fs::Permissions::from_mode(0o755))?;
        Ok(workplace)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn examples(&self) -> PathBuf {
        self.path("my work/integration")
    }

    fn source(&self, name: &str) -> PathBuf {
        self.examples().join("programs").join(name)
    }

    /// The tool that engines are to call.
    fn tool(&self) -> PathBuf {
        self.path("bin/bpf2sys")
    }

    /// A command that finds the compiler of the fixtures.
    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command.env("BPF2SYS_CLANG", "clang-19").current_dir(self.examples());
        command
    }

    /// Which programs were built since this was asked last, in the order of their names; those built twice are there twice.
    fn ran(&self) -> Result<Vec<&'static str>, Failed> {
        let log = self.path("log");
        let text = fs::read_to_string(&log).unwrap_or_default();
        let _ = fs::remove_file(log);
        let mut ran: Vec<&str> = (text.lines())
            .flat_map(|line| {
                PROGRAMS
                    .into_iter()
                    .filter(move |name| line.contains(&format!("{name}.bpf.")))
            })
            .collect();
        if text.lines().count() != ran.len() {
            return Err(format!("calls that are not about one program:\n{text}").into());
        }
        ran.sort_unstable();
        Ok(ran)
    }

    /// Changes a source as an editor does, at a time that all engines tell from that of the last build.
    fn edit(&self, name: &str, change: impl FnOnce(String) -> String) -> Result<(), Failed> {
        std::thread::sleep(Duration::from_millis(1100));
        let source = self.source(name);
        let text = change(fs::read_to_string(&source)?);
        Ok(fs::write(source, text)?)
    }

    /// What the command line gives, called among the sources: the file's name and bytes, for both machines.
    fn by_hand(&self) -> Result<Vec<(String, Vec<u8>)>, Failed> {
        let out = self.path("by hand");
        let _ = fs::remove_dir_all(&out);
        succeed(
            tool()
                .args(["build", "--arch", "x64,arm64", "--cflag=-Wall", "--cflag=-Wextra"])
                .args(PROGRAMS.map(|name| format!("{name}.bpf.c")))
                .arg("--out-dir")
                .arg(&out)
                .env("BPF2SYS_CLANG", "clang-19")
                .current_dir(self.examples().join("programs")),
        )?;
        let mut files = Vec::new();
        for entry in fs::read_dir(out)? {
            let entry = entry?;
            files.push((
                entry.file_name().to_string_lossy().into_owned(),
                fs::read(entry.path())?,
            ));
        }
        Ok(files)
    }

    /// Expects in a folder what the command line gives.
    fn has_drivers(&self, folder: &Path) -> Result<(), Failed> {
        for (name, bytes) in self.by_hand()? {
            let file = folder.join(&name);
            let found = fs::read(&file).map_err(|e| format!("{}: {e}", file.display()))?;
            if found != bytes {
                return Err(format!("{name} is not what the command line gives").into());
            }
        }
        Ok(())
    }

    /// What must hold of every engine. `build` is the command that builds, `out` the folder with the drivers; `place` is how a
    /// place in `drop_port.bpf.c` is told: line, column.
    fn judge(&self, build: &dyn Fn() -> Command, out: &Path, place: fn(u32, u32) -> String) -> Result<(), Failed> {
        let runs = |what: &str, wanted: &[&str]| -> Result<(), Failed> {
            let said = passes(&mut build())?;
            let ran = self.ran()?;
            if ran != wanted {
                return Err(format!("{what}: {ran:?} ran, not {wanted:?}\n{said}").into());
            }
            Ok(())
        };
        runs("first build", &PROGRAMS)?;
        self.has_drivers(out)?;
        runs("nothing changed", &[])?;
        // The driver stays the same.
        self.edit("count_binds.bpf.c", |text| text)?;
        runs("source touched", &["count_binds"])?;
        runs("after that", &[])?;
        self.edit("policy.h", |text| text.replace(" 9 ", " 7 "))?;
        let before = fs::read(out.join("drop_port.x64.sys"))?;
        runs("header changed", &["drop_port"])?;
        assert!(before != fs::read(out.join("drop_port.x64.sys"))?, "the old driver");
        self.has_drivers(out)?;
        runs("after that", &[])?;

        // What clang refuses, what the verifier refuses, and a header that is gone.
        let good = fs::read_to_string(self.source("drop_port.bpf.c"))?;
        for (from, to, line, column) in [
            ("XDP_DROP", "XDP_DRIP", 21, 58),
            (" > (void *)context->data_end", " == (void *)0", 18, 19),
        ] {
            assert!(good.contains(from));
            self.edit("drop_port.bpf.c", |_| good.replace(from, to))?;
            let out = output(&mut build())?;
            let said = [out.stdout, out.stderr]
                .map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
                .concat();
            if out.status.success() || !said.contains(&place(line, column)) {
                return Err(format!("{}, without {}:\n{said}", out.status, place(line, column)).into());
            }
            assert_eq!(self.ran()?, ["drop_port"]);
        }
        self.edit("drop_port.bpf.c", |_| good.replace("policy.h", "other.h"))?;
        fs::rename(self.source("policy.h"), self.source("other.h"))?;
        runs("header renamed", &["drop_port"])?;
        self.has_drivers(out)?;
        runs("after that", &[])
    }
}

/// Runs an engine that must succeed. What it says goes to either stream.
fn passes(command: &mut Command) -> Result<String, Failed> {
    let out = output(command)?;
    let said = [&out.stdout, &out.stderr].map(|bytes| String::from_utf8_lossy(bytes));
    if !out.status.success() {
        return Err(format!("{command:?}: {}\n{}", out.status, said.concat()).into());
    }
    Ok(said.concat())
}

fn copy(from: &Path, to: &Path) -> Result<(), Failed> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            copy(&entry.path(), &to.join(entry.file_name()))?;
        } else {
            fs::copy(entry.path(), to.join(entry.file_name()))?;
        }
    }
    Ok(())
}

/// The options of `bpf2sys build` by their long names that a build system has use for.
fn options() -> Result<BTreeSet<String>, Failed> {
    let mut options = build_options()?;
    options.retain(|long| !OF_ONE_RUN.contains(&long.as_str()));
    assert!(options.len() > 30, "{options:?}");
    Ok(options)
}
