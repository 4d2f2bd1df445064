//! What any engine for remote execution wants of a step: it reads what is declared, writes what is declared, needs no network
//! and no environment, and gives the same bytes wherever, whenever and for whom it runs.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use libtest_mimic::{Failed, Trial};

use super::copy;
use crate::support::{Need, find_program, root, succeed, test_with};

pub fn trials() -> Vec<Trial> {
    let closed = [Need::Namespaces, Need::Program("strace"), Need::Program("clang-19")];
    let elsewhere = [Need::Program("clang-19"), Need::Program("faketime")];
    vec![
        test_with(
            "integration::hermetic_step_reads_and_writes_what_is_declared",
            &closed,
            declared,
        ),
        test_with(
            "integration::hermetic_step_gives_the_same_bytes_everywhere",
            &elsewhere,
            everywhere,
        ),
    ]
}

/// A folder with the sources.
struct Place {
    _folder: tempfile::TempDir,
    path: PathBuf,
}

impl Place {
    fn new(name: &str) -> Result<Place, Failed> {
        let folder = tempfile::tempdir()?;
        let path = folder.path().canonicalize()?.join(name);
        for part in ["out", "temporary", "log"] {
            fs::create_dir_all(path.join(part))?;
        }
        copy(&root().join("examples/integration/programs"), &path.join("sources"))?;
        fs::write(
            path.join("sources/version.toml"),
            "company = \"Contoso\"\nproduct = \"Filter\"\ndescription = \"Filters\"\nfile-version = \"1.0\"\n",
        )?;
        Ok(Place { _folder: folder, path })
    }

    /// The outputs by name.
    fn outputs(&self) -> Result<BTreeMap<String, Vec<u8>>, Failed> {
        let mut outputs = BTreeMap::new();
        for entry in fs::read_dir(self.path.join("out"))? {
            let entry = entry?;
            outputs.insert(
                entry.file_name().to_string_lossy().into_owned(),
                fs::read(entry.path())?,
            );
        }
        Ok(outputs)
    }
}

/// The arguments of the step, which runs in the folder of the sources.
fn arguments() -> Result<Vec<String>, Failed> {
    let clang = find_program("clang-19").ok_or("no clang-19")?;
    let mut words: Vec<String> = ["build", "--quiet", "drop_port.bpf.c", "count_binds.bpf.c", "--clang"]
        .map(String::from)
        .to_vec();
    words.push(clang.display().to_string());
    words.extend(
        [
            "--out-dir=../out",
            "--depfile=../out/all.d",
            "--arch=x64,arm64",
            "--emit=sys,dll,obj,asm",
            "--keep-object",
            "--version-info=version.toml",
        ]
        .map(String::from),
    );
    Ok(words)
}

/// Where a compiler and what it is linked with are, and what the system tells of itself: part of the machine that runs a step.
const MACHINE: [&str; 12] = [
    "/usr/lib/",
    "/usr/lib64/",
    "/lib/",
    "/lib64/",
    "/usr/include/",
    "/usr/local/include/",
    "/usr/bin/",
    "/etc/ld.so.",
    "/etc/os-release",
    "/etc/debian_version",
    "/proc/",
    "/sys/fs/cgroup/",
];

/// Runs the step where everything but two folders is read-only, without network and environment, and looks at what it opens.
fn declared() -> Result<(), Failed> {
    let place = Place::new("a place")?;
    let script = r#"
        set -e
        mount --make-rprivate /
        for folder in out temporary log; do mount --bind "$1/$folder" "$1/$folder"; done
        # Each mount on its own: what is below the root may be another one.
        cut -d' ' -f5 /proc/self/mountinfo | sort -r | while read -r mount; do
            mount=$(printf "$mount")
            case $mount in
                "$1/out" | "$1/temporary" | "$1/log" | /proc | /proc/* | /sys | /sys/* | /dev | /dev/*) ;;
                *) mount -o remount,bind,ro "$mount" ;;
            esac
        done
        ! touch "$1/sources/new" "$1/new" "$2/new" 2>/dev/null
        cd "$1/sources"
        place=$1
        shift 2
        exec env -i "$(command -v strace)" -ff -o "$place/log/trace" -E "TMPDIR=$place/temporary" -e trace=file,network -- "$@"
    "#;
    succeed(
        Command::new("unshare")
            .args(["--mount", "--net", "--", "sh", "-c", script, "sh"])
            .arg(&place.path)
            .arg(std::env::temp_dir())
            .arg(env!("CARGO_BIN_EXE_bpf2sys"))
            .args(arguments()?),
    )?;
    // Per source: 4 forms for 2 machines, and the object.
    assert_eq!(place.outputs()?.len(), 2 * 9 + 1);
    assert_eq!(
        fs::read_dir(place.path.join("temporary"))?.count(),
        0,
        "temporary files are left"
    );
    assert_eq!(fs::read_dir(place.path.join("sources"))?.count(), 4);

    let mut calls = 0;
    for entry in fs::read_dir(place.path.join("log"))? {
        for line in fs::read_to_string(entry?.path())?.lines() {
            let Some(call) = Call::of(line) else { continue };
            calls += 1;
            call.judge(&place.path)?;
        }
    }
    assert!(calls > 100, "{calls} calls were seen");
    Ok(())
}

/// A line of strace that is about a file that was opened, made, renamed or removed, or about the network.
struct Call<'a> {
    line: &'a str,
    name: &'a str,
    /// The names of files.
    paths: Vec<&'a str>,
}

impl<'a> Call<'a> {
    /// None if it failed or looks for a file only.
    fn of(line: &'a str) -> Option<Call<'a>> {
        let (name, rest) = line.split_once('(')?;
        let failed = rest.rsplit_once(" = ")?.1.starts_with('-');
        let looks = [
            "access",
            "faccessat2",
            "getcwd",
            "newfstatat",
            "readlink",
            "stat",
            "statx",
            "lstat",
            "statfs",
        ];
        let words = if name == "execve" {
            rest.split(", [").next()?
        } else {
            rest
        };
        let paths = words.split('"').skip(1).step_by(2).collect();
        (!failed && !looks.contains(&name)).then_some(Call { line, name, paths })
    }

    fn judge(&self, place: &Path) -> Result<(), Failed> {
        let writes = match self.name {
            "open" | "openat" => ["O_WRONLY", "O_RDWR", "O_CREAT"]
                .iter()
                .any(|flag| self.line.contains(flag)),
            "execve" => false,
            "mkdir" | "rename" | "renameat" | "renameat2" | "rmdir" | "unlink" | "unlinkat" => true,
            other => return Err(format!("{other} was called: {}", self.line).into()),
        };
        // Relative to a folder that was opened: what clears a temporary folder does that.
        let below_open_folder = ["openat(", "unlinkat("].iter().any(|call| {
            self.line
                .strip_prefix(call)
                .is_some_and(|rest| rest.starts_with(|first: char| first.is_ascii_digit()))
        });
        for path in &self.paths {
            let path = plain(&place.join("sources").join(path));
            let within = |part: &str| path.starts_with(place.join(part));
            let good = if writes {
                below_open_folder || within("out") || within("temporary")
            } else {
                below_open_folder
                    || path.starts_with(place)
                    || path == Path::new(env!("CARGO_BIN_EXE_bpf2sys"))
                    || path == Path::new("/dev/null")
                    || MACHINE.iter().any(|start| path.to_string_lossy().starts_with(start))
            };
            if !good {
                return Err(format!("`{}` is not declared: {}", path.display(), self.line).into());
            }
        }
        Ok(())
    }
}

/// A path without `.` and `..`.
fn plain(path: &Path) -> PathBuf {
    let mut plain = PathBuf::new();
    for component in path.components() {
        match component {
            std::path::Component::ParentDir => {
                plain.pop();
            }
            std::path::Component::CurDir => {}
            component => plain.push(component),
        }
    }
    plain
}

/// Another folder, time, user, language and number of threads.
fn everywhere() -> Result<(), Failed> {
    let one = Place::new("one")?;
    let two = Place::new("another place/of more")?;
    let run = |place: &Place, command: &mut Command, more: &[&str]| {
        command
            .args(arguments()?)
            .args(more)
            .env("TMPDIR", place.path.join("temporary"))
            .current_dir(place.path.join("sources"));
        succeed(command)
    };
    run(
        &one,
        Command::new(env!("CARGO_BIN_EXE_bpf2sys")).env_clear(),
        &["--jobs=1"],
    )?;
    let mut later = Command::new("faketime");
    later
        .args(["2031-05-06 07:08:09", env!("CARGO_BIN_EXE_bpf2sys")])
        .env("HOME", &two.path)
        .env("USER", "another")
        .env("LANG", "de_DE.UTF-8")
        .env("LC_ALL", "C")
        .env("TZ", "Pacific/Auckland")
        .env("SOURCE_DATE_EPOCH", "1");
    run(&two, &mut later, &["--jobs=2"])?;
    let (one, two) = (one.outputs()?, two.outputs()?);
    assert!(
        one.len() == 19 && one.keys().eq(two.keys()),
        "{:?} {:?}",
        one.keys(),
        two.keys()
    );
    for (name, bytes) in &one {
        assert!(two[name] == *bytes, "{name} differs");
    }
    Ok(())
}
