//! C sources: clang makes objects of them.
//!
//! Given: a C file. Computed: the object that `clang -target bpf` makes of it, every file that was read for it, and what
//! clang said. The platform's headers are on the include path, behind the user's own.
//! Deterministic because: names of files in the object are relative to the root of the sources, and those of the
//! platform's headers are the same on every machine.

mod dependencies;
mod find;
mod messages;

use std::collections::HashSet;
use std::ffi::OsString;
use std::fs;
use std::io;
use std::path::{Component, Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};

use bpf2sys_platform::{Headers, Platform};
use tempfile::TempDir;

pub use messages::CompilerOutput;

/// How the names of the platform's headers begin in objects.
const HEADERS: &str = "bpf2sys";

/// What is always given to clang: optimized, since helper calls only then become single instructions; with types and
/// source lines; for the instruction set of eBPF for Windows's own builds. Some distributions' defaults protect stacks
/// by calls that no eBPF program can make.
const FLAGS: [&str; 9] = [
    "-target",
    "bpf",
    "-mcpu=v3",
    "-O2",
    "-g",
    "-gdwarf-5",
    "-gembed-source",
    "-fno-stack-protector",
    "-c",
];

/// How C sources are compiled.
#[derive(Clone, Debug, Default)]
pub struct CompilerOptions {
    /// The compiler (`--clang`): a file, or a name on the `PATH`. Without it `BPF2SYS_CLANG` names it, or it is found.
    pub clang: Option<PathBuf>,
    /// Folders with headers (`-I`), searched before those of the platform.
    pub includes: Vec<PathBuf>,
    /// Macros, as `NAME` or `NAME=VALUE` (`-D`).
    pub defines: Vec<String>,
    /// Further options of clang (`--cflag`), behind our own.
    pub flags: Vec<String>,
    /// What names of files in the object are relative to (`--source-root`); the current folder if it is not given.
    pub source_root: Option<PathBuf>,
    /// Whether what clang says has colours.
    pub colors: bool,
    /// Whether clang takes its warnings for errors (`--deny-warnings`).
    pub deny_warnings: bool,
}

/// Why there is no object of a C source.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CompileError {
    /// No compiler was found.
    #[error("no clang was found: {searched}")]
    NotFound {
        /// Where it was looked for.
        searched: String,
    },
    /// The compiler makes no eBPF.
    #[error("`{}` can't compile eBPF: {reason}", clang.display())]
    NoTarget {
        /// The compiler.
        clang: PathBuf,
        /// How that is known.
        reason: String,
    },
    /// The compiler does not start, or a file for it can't be written.
    #[error("`{}` can't be run: {source}", clang.display())]
    Run {
        /// The compiler.
        clang: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The compiler refused the source.
    #[error("clang did not compile `{}` ({status})", source_file.display())]
    Refused {
        /// The source.
        source_file: PathBuf,
        /// How the compiler ended.
        status: String,
        /// What it said.
        output: CompilerOutput,
    },
}

/// What came of a C source.
#[derive(Clone, Debug)]
pub struct Compiled {
    /// The object's bytes.
    pub object: Vec<u8>,
    /// Every file that was read, as the compiler names it: the source and headers, but not those of the platform.
    pub reads: Vec<PathBuf>,
    /// What the compiler said: warnings.
    pub output: CompilerOutput,
}

/// Whether a file is a C source, by its name.
pub fn is_source(path: &Path) -> bool {
    path.extension()
        .is_some_and(|extension| extension.eq_ignore_ascii_case("c"))
}

/// A compiler of C sources, with the headers of a platform. Several threads can use it.
#[derive(Debug)]
pub struct Compiler {
    clang: PathBuf,
    options: CompilerOptions,
    /// The root of the sources, in all ways in which names of files can begin with it.
    roots: Vec<PathBuf>,
    /// Has the headers, objects and lists of what was read; goes with the value.
    folder: TempDir,
    count: AtomicUsize,
}

impl Compiler {
    /// Finds the compiler, checks that it makes eBPF, and lays out the platform's headers.
    pub fn new(options: CompilerOptions, platform: &Platform) -> Result<Compiler, CompileError> {
        let clang = find::find(options.clang.as_deref())?;
        let failed = |source| CompileError::Run {
            clang: clang.clone(),
            source,
        };
        let roots = roots(options.source_root.as_deref().unwrap_or(Path::new("."))).map_err(failed)?;
        let folder = tempfile::Builder::new()
            .prefix("bpf2sys-")
            .tempdir()
            .and_then(|folder| {
                let headers = folder.path().join(HEADERS);
                fs::create_dir(&headers)?;
                for (name, text) in Headers::new(platform).files() {
                    fs::write(headers.join(name), text)?;
                }
                Ok(folder)
            })
            .map_err(failed)?;
        Ok(Compiler {
            clang,
            options,
            roots,
            folder,
            count: AtomicUsize::new(0),
        })
    }

    /// Makes an object of a source.
    pub fn compile(&self, source: &Path) -> Result<Compiled, CompileError> {
        let failed = |source| CompileError::Run {
            clang: self.clang.clone(),
            source,
        };
        let number = self.count.fetch_add(1, Ordering::Relaxed);
        let [object, list] = ["o", "d"].map(|extension| self.folder.path().join(format!("{number}.{extension}")));
        let mut command = Command::new(&self.clang);
        command
            .args(self.arguments(source, &object, &list))
            .stdin(Stdio::null());
        let ended = command.output().map_err(failed)?;
        let headers = self.headers();
        let output = CompilerOutput::new(&[ended.stderr, ended.stdout].concat(), &headers);
        if !ended.status.success() {
            return Err(CompileError::Refused {
                source_file: source.to_owned(),
                status: ended.status.to_string(),
                output,
            });
        }
        let bytes = fs::read(&object).map_err(failed)?;
        let listed = fs::read(&list).map_err(failed)?;
        let reads = dependencies::parse(&listed).into_iter();
        let reads = reads.filter(|path| !path.starts_with(&headers)).collect();
        // What they hold is known now; on a machine with little room, many would be too many.
        for file in [object, list] {
            let _ = fs::remove_file(file);
        }
        Ok(Compiled {
            object: bytes,
            reads,
            output,
        })
    }

    fn headers(&self) -> PathBuf {
        self.folder.path().join(HEADERS)
    }

    fn arguments(&self, source: &Path, object: &Path, list: &Path) -> Vec<OsString> {
        let options = &self.options;
        let mut words: Vec<OsString> = FLAGS.map(OsString::from).to_vec();
        words.push("-fdebug-compilation-dir=.".into());
        words.extend(self.roots.iter().map(|root| {
            let separator = std::path::MAIN_SEPARATOR_STR;
            concat(
                "-ffile-prefix-map=",
                &[root.as_os_str(), separator.as_ref(), "=".as_ref()],
            )
        }));
        words.extend([
            concat(
                "-ffile-prefix-map=",
                &[self.headers().as_os_str(), "=".as_ref(), HEADERS.as_ref()],
            ),
            if options.colors {
                "-fcolor-diagnostics"
            } else {
                "-fno-color-diagnostics"
            }
            .into(),
        ]);
        words.extend(
            options
                .includes
                .iter()
                .map(|folder| concat("-I", &[folder.as_os_str()])),
        );
        words.extend(options.defines.iter().map(|define| concat("-D", &[define.as_ref()])));
        words.extend(options.deny_warnings.then(|| "-Werror".into()));
        words.extend(options.flags.iter().map(OsString::from));
        words.extend([
            "-isystem".into(),
            self.headers().into(),
            "-MD".into(),
            "-MT".into(),
            dependencies::TARGET.into(),
            "-MF".into(),
            list.into(),
            "-o".into(),
            object.into(),
            // A source whose name begins with a hyphen is no option; `--` does not tell that to all of clang's parts.
            if source.as_os_str().as_encoded_bytes().starts_with(b"-") {
                Path::new(".").join(source).into()
            } else {
                source.into()
            },
        ]);
        words
    }
}

/// The ways in which a folder is named: as it is given, without doubled separators, from the root of the file system, from
/// the current folder, and without links.
fn roots(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let absolute = std::path::absolute(folder)?;
    let plain = without_dots(&absolute);
    let here = without_dots(&std::env::current_dir()?);
    let mut roots = vec![
        folder.to_owned(),
        folder.components().collect(),
        absolute,
        relative(&plain, &here),
        plain,
    ];
    roots.extend(fs::canonicalize(folder).ok());
    let mut seen = HashSet::new();
    roots.retain(|root| !root.as_os_str().is_empty() && seen.insert(root.clone().into_os_string()));
    Ok(roots)
}

/// An absolute path without `.` and `..`.
fn without_dots(path: &Path) -> PathBuf {
    let mut plain = PathBuf::new();
    for component in path.components() {
        match component {
            Component::ParentDir => {
                plain.pop();
            }
            component => plain.push(component),
        }
    }
    plain
}

/// How a folder is named from another one; both are absolute and have no dots.
fn relative(folder: &Path, from: &Path) -> PathBuf {
    let shared = (folder.components().zip(from.components()))
        .take_while(|(a, b)| a == b)
        .count();
    let up = from.components().skip(shared).map(|_| Component::ParentDir);
    up.chain(folder.components().skip(shared)).collect()
}

fn concat(option: &str, values: &[&std::ffi::OsStr]) -> OsString {
    let mut word = OsString::from(option);
    for value in values {
        word.push(value);
    }
    word
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_are_named_from_each_other() {
        let named = |folder: &str, from: &str| relative(Path::new(folder), Path::new(from)).display().to_string();
        assert_eq!(named("/a/b/c", "/a"), "b/c");
        assert_eq!(named("/a", "/a/b/c"), "../..");
        assert_eq!(named("/a/x", "/a/b"), "../x");
        assert_eq!(named("/a", "/a"), "");
        assert_eq!(without_dots(Path::new("/a/b/../c/.")), Path::new("/a/c"));
    }
}
