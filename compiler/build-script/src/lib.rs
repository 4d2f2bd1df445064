//! For build scripts: Windows drivers from eBPF programs, and Rust constants that tell of them.
//!
//! ```no_run
//! // in `main` of build.rs
//! bpf2sys_build::Build::new()
//!     .input("src/filter.bpf.c")
//!     .include("include")
//!     .define("LIMIT", "8")
//!     .compile();
//! ```
//!
//! ```text
//! // src/main.rs: what was generated
//! mod drivers {
//!     include!(concat!(env!("OUT_DIR"), "/bpf2sys.rs"));
//! }
//!
//! let image: &[u8] = drivers::filter::IMAGE;
//! let map = drivers::filter::maps::BLOCKED_PORTS; // Map<u16, u8>
//! ```
//!
//! Everything is as `bpf2sys build` does it: C sources take clang, objects take nothing; every program is verified; drivers go to
//! cargo's `OUT_DIR`. They are for the machine that cargo builds for, unless the script says otherwise. Cargo runs the script again when a file
//! changes that was read: inputs, headers, and what options name. Problems are cargo's errors and warnings.

mod cargo;
mod generate;

use std::env;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process;

use bpf2sys::{Error, ErrorKind};

/// What to build, and how. Methods without a word more are the option of `bpf2sys build` of that name.
#[derive(Clone, Debug, Default)]
pub struct Build {
    words: Vec<OsString>,
    inputs: Vec<PathBuf>,
    has_machine: bool,
    folder: Option<PathBuf>,
}

/// A machine that drivers are for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Machine {
    /// x86-64.
    X64,
    /// ARM64.
    Arm64,
}

/// What is made of an input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// A driver; this is the default.
    Sys,
    /// A DLL that exports `get_metadata_table`.
    Dll,
    /// A COFF object file, for a linker.
    Obj,
}

impl Build {
    /// One without inputs.
    pub fn new() -> Build {
        Build::default()
    }

    /// Adds a C source (`.c`) or an object file. Relative names are relative to the package.
    pub fn input(&mut self, path: impl AsRef<Path>) -> &mut Build {
        self.inputs.push(path.as_ref().to_owned());
        self
    }

    /// Adds several.
    pub fn inputs(&mut self, paths: impl IntoIterator<Item = impl AsRef<Path>>) -> &mut Build {
        for path in paths {
            self.input(path);
        }
        self
    }

    /// Builds for this machine instead of the one that cargo builds for; several can be given.
    pub fn machine(&mut self, machine: Machine) -> &mut Build {
        self.has_machine = true;
        self.option(
            "arch",
            match machine {
                Machine::X64 => "x64",
                Machine::Arm64 => "arm64",
            },
        )
    }

    /// Makes this; several can be given.
    pub fn emit(&mut self, form: Form) -> &mut Build {
        self.option(
            "emit",
            match form {
                Form::Sys => "sys",
                Form::Dll => "dll",
                Form::Obj => "obj",
            },
        )
    }

    /// Looks for headers of C sources in this folder.
    pub fn include(&mut self, folder: impl AsRef<Path>) -> &mut Build {
        self.option("include", folder.as_ref())
    }

    /// Defines a macro of C sources.
    pub fn define(&mut self, name: &str, value: &str) -> &mut Build {
        self.option("define", format!("{name}={value}"))
    }

    /// Gives clang an option.
    pub fn cflag(&mut self, flag: &str) -> &mut Build {
        self.option("cflag", flag)
    }

    /// Compiles C sources with this clang.
    pub fn clang(&mut self, path: impl AsRef<Path>) -> &mut Build {
        self.option("clang", path.as_ref())
    }

    /// Knows the program types of this provider file or registry export, too.
    pub fn platform(&mut self, file: impl AsRef<Path>) -> &mut Build {
        self.option("platform", file.as_ref())
    }

    /// Verifies every program as one in a section of this name.
    pub fn program_type(&mut self, section: &str) -> &mut Build {
        self.option("type", section)
    }

    /// The oldest runtime that the output must load in: `1.6`, `1.4` or `0.21`.
    pub fn runtime(&mut self, level: &str) -> &mut Build {
        self.option("runtime", level)
    }

    /// What the file properties show.
    pub fn version_info(&mut self, file: impl AsRef<Path>) -> &mut Build {
        self.option("version-info", file.as_ref())
    }

    /// Takes warnings for errors.
    pub fn deny_warnings(&mut self) -> &mut Build {
        self.flag("deny-warnings")
    }

    /// Signs images with this PFX file, whose password is in the environment variable.
    pub fn sign_pfx(&mut self, file: impl AsRef<Path>, password_variable: &str) -> &mut Build {
        println!("cargo::rerun-if-env-changed={password_variable}");
        self.option("sign-pfx", file.as_ref())
            .option("sign-password-env", password_variable)
    }

    /// Any option of `bpf2sys build` by its long name, without hyphens: `option("hash", "sha512")`.
    pub fn option(&mut self, name: &str, value: impl Into<OsString>) -> &mut Build {
        let mut word = OsString::from(format!("--{name}="));
        word.push(value.into());
        self.words.push(word);
        self
    }

    /// Any option without a value, by its long name: `flag("force-integrity")`.
    pub fn flag(&mut self, name: &str) -> &mut Build {
        self.words.push(format!("--{name}").into());
        self
    }

    /// Writes to this folder instead of `OUT_DIR`.
    pub fn out_dir(&mut self, folder: impl AsRef<Path>) -> &mut Build {
        self.folder = Some(folder.as_ref().to_owned());
        self
    }

    /// Builds everything, and writes `bpf2sys.rs`. If anything is wrong, cargo is told and the process ends.
    pub fn compile(&self) {
        if self.try_compile().is_err() {
            process::exit(1);
        }
    }

    /// The same, but comes back. What is wrong was told to cargo already.
    ///
    /// # Errors
    /// The first thing that is wrong.
    pub fn try_compile(&self) -> Result<(), Error> {
        let folder = self.folder().inspect_err(|error| told(error, None))?;
        let arguments = self.arguments(&folder).inspect_err(|error| told(error, None))?;
        let report = bpf2sys::run_build(arguments).inspect_err(|error| told(error, None))?;
        cargo::tell_of(&report);
        let mut modules = Vec::with_capacity(report.inputs.len());
        let mut first = None;
        for built in report.inputs {
            match built.result {
                Ok(module) => modules.push((built.input, module)),
                Err(error) => {
                    told(&error, Some(&built.input));
                    first.get_or_insert(error);
                }
            }
        }
        match first {
            Some(error) => Err(error),
            None => write(&folder.join("bpf2sys.rs"), &generate::rust(&modules)).inspect_err(|error| told(error, None)),
        }
    }

    fn folder(&self) -> Result<PathBuf, Error> {
        match (&self.folder, env::var_os("OUT_DIR")) {
            (Some(folder), _) => Ok(folder.clone()),
            (None, Some(folder)) => Ok(folder.into()),
            (None, None) => Err(usage(
                "`OUT_DIR` is not set: this is for build scripts; `out_dir` names another folder",
            )),
        }
    }

    /// The words of the command line that does the same.
    fn arguments(&self, folder: &Path) -> Result<Vec<OsString>, Error> {
        if self.inputs.is_empty() {
            return Err(usage("no input was named"));
        }
        let mut words = self.words.clone();
        if !self.has_machine {
            // As cargo calls what it builds for; a script that runs elsewhere builds for where it runs.
            let target = env::var("CARGO_CFG_TARGET_ARCH").unwrap_or_else(|_| env::consts::ARCH.to_owned());
            words.push(match target.as_str() {
                "aarch64" => "--arch=arm64".into(),
                _ => "--arch=x64".into(),
            });
        }
        let mut out_dir = OsString::from("--out-dir=");
        out_dir.push(folder);
        words.extend([out_dir, "--".into()]);
        words.extend(self.inputs.iter().map(OsString::from));
        Ok(words)
    }
}

/// Tells cargo of an error.
fn told(error: &Error, input: Option<&Path>) {
    for diagnostic in error.diagnostics() {
        cargo::tell(&match input {
            Some(path) => diagnostic.in_file(&path.display().to_string()),
            None => diagnostic,
        });
    }
}

/// Writes a file that does not have this text yet; what has not changed keeps its time.
fn write(path: &Path, text: &str) -> Result<(), Error> {
    if std::fs::read_to_string(path).is_ok_and(|before| before == text) {
        return Ok(());
    }
    std::fs::write(path, text).map_err(|source| {
        let path = path.to_owned();
        ErrorKind::WriteFile { path, source }.into()
    })
}

fn usage(message: &str) -> Error {
    ErrorKind::Usage(message.to_owned()).into()
}

#[cfg(test)]
mod tests;
