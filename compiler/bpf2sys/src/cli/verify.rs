//! `bpf2sys verify`, and the options of verification that other subcommands share.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::sync::OnceLock;
use std::time::Duration;

use bpf2sys_verifier::Verifier;
use clap::{ValueEnum, ValueHint};

use super::output::{Done, Work};
use super::reporter::{Record, Reporter};
use super::source::{self, SourceOptions};
use super::{Outcome, output};
use crate::messages::json::Verified;
use crate::messages::printable;
use crate::{BuildOptions, Error, ErrorKind, Settings, System, Timings, Verdict, VerdictCache};

/// Prove the programs of object files and C sources safe, and write nothing.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  bpf2sys verify udp_filter.o
  bpf2sys verify udp_filter.bpf.c -I include
  bpf2sys verify --time-limit 300 large.o && echo safe")]
pub(super) struct Arguments {
    /// Object files, as `clang -target bpf` writes them, and C sources (`.c`)
    #[arg(value_name = "INPUT", required = true, value_hint = ValueHint::FilePath)]
    inputs: Vec<PathBuf>,

    /// Print no results; problems and warnings are told
    #[arg(short, long)]
    quiet: bool,

    /// Print to standard error what the verification of each program took, the slowest first
    #[arg(long, conflicts_with = "cache")]
    timings: bool,

    /// Keep verdicts in this folder, and take from it those that it has. Whoever can write there decides what is safe
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath)]
    cache: Option<PathBuf>,

    /// Print what was proven, beside the instructions
    #[arg(long, conflicts_with_all = ["cache", "timings", "quiet"])]
    facts: bool,

    /// Work on this many inputs at once [default: as many as there are processors]
    #[arg(short, long, value_name = "N")]
    jobs: Option<NonZeroUsize>,

    #[command(flatten)]
    sources: SourceOptions,

    #[command(flatten)]
    options: Options,
}

/// Options of verification.
#[derive(Debug, clap::Args)]
pub(super) struct Options {
    /// Verify every program as a program in a section of this name would be (`xdp`, `bind`, `cgroup/connect4`, ...)
    #[arg(long = "type", value_name = "SECTION")]
    program_type: Option<String>,

    /// Which engine proves programs safe
    #[arg(long, value_name = "ENGINE", value_enum, default_value_t = Engine::Native)]
    verifier: Engine,

    /// Take objects for ones that were compiled for this system, whatever their marks say; those for Linux are rewritten for Windows,
    /// and proven safe as both have it. The environment variable `BPF2SYS_FROM` says it of objects whose marks tell nothing
    #[arg(long, value_name = "SYSTEM", value_enum)]
    from: Option<From>,

    /// Rewrite objects whose marks say that they were compiled for Linux
    #[arg(long)]
    retarget: bool,

    /// Accept programs for Linux that get less on Windows: answers that Linux could give, too. Each is a warning
    #[arg(long)]
    allow_degraded: bool,

    #[command(flatten)]
    linux: LinuxOptions,

    #[command(flatten)]
    limits: Limits,

    /// Take warnings about programs for errors
    #[arg(long)]
    deny_warnings: bool,

    #[command(flatten)]
    providers: super::providers::ProviderOptions,
}

/// `--from`
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum From {
    /// Linux
    Linux,
    /// eBPF for Windows
    Windows,
}

impl std::convert::From<From> for System {
    fn from(from: From) -> System {
        match from {
            From::Linux => System::Linux,
            From::Windows => System::Windows,
        }
    }
}

/// `--verifier`
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Engine {
    /// That of bpf2sys: it follows paths apart, and takes a hundredth of the time
    Native,
    /// PREVAIL, with the options of eBPF for Windows
    Prevail,
    /// Both: a program is accepted if both accept it
    Both,
}

impl std::convert::From<Engine> for Verifier {
    fn from(engine: Engine) -> Verifier {
        match engine {
            Engine::Native => Verifier::Native,
            Engine::Prevail => Verifier::Prevail,
            Engine::Both => Verifier::Both,
        }
    }
}

/// What a loader of Linux would be told besides an object.
#[derive(Debug, clap::Args)]
pub(super) struct LinuxOptions {
    /// Give a global variable of an object for Linux this value, as its loader would before it loads it; true, false, a number, or for
    /// other types all bytes as 0x and two digits for each
    #[arg(long = "set", value_name = "NAME=VALUE")]
    set: Vec<String>,

    /// Give a name of Linux's configuration this value: `LINUX_KERNEL_VERSION=6.6`, `CONFIG_HZ=250`, `CONFIG_BPF=y`
    #[arg(long = "config", value_name = "NAME=VALUE")]
    config: Vec<String>,
}

impl LinuxOptions {
    /// The same as the library takes them.
    pub(super) fn settings(&self) -> Result<Settings, Error> {
        Ok(Settings {
            configuration: pairs("--config", &self.config)?,
            variables: pairs("--set", &self.set)?,
        })
    }
}

/// The environment variable that says what objects are whose marks tell nothing.
const VARIABLE: &str = "BPF2SYS_FROM";

fn unmarked() -> Result<Option<System>, Error> {
    let Some(value) = std::env::var_os(VARIABLE).filter(|value| !value.is_empty()) else {
        return Ok(None);
    };
    match From::from_str(&value.to_string_lossy(), false) {
        Ok(from) => Ok(Some(from.into())),
        Err(_) => Err(ErrorKind::Usage(format!("`{VARIABLE}` is `linux` or `windows`")).into()),
    }
}

/// Names with their values, as an option gives them.
fn pairs(option: &str, given: &[String]) -> Result<BTreeMap<String, String>, Error> {
    let mut all = BTreeMap::new();
    for text in given {
        let Some((name, value)) = text.split_once('=').filter(|(name, _)| !name.is_empty()) else {
            return Err(ErrorKind::Usage(format!("`{option} {text}` is not NAME=VALUE")).into());
        };
        if all.insert(name.to_owned(), value.to_owned()).is_some() {
            return Err(ErrorKind::Usage(format!("`{option}` gives `{name}` two values")).into());
        }
    }
    Ok(all)
}

/// What verification may take.
#[derive(Debug, clap::Args)]
pub(super) struct Limits {
    /// Give up verification of a module after this many seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 60, value_parser = clap::value_parser!(u64).range(1..=86_400))]
    time_limit: u64,

    /// Give up verification when bpf2sys as a whole needs more than this many MiB of memory
    #[arg(long, value_name = "MIB", default_value_t = 4096, value_parser = clap::value_parser!(u64).range(16..=1 << 24))]
    memory_limit: u64,
}

impl Limits {
    /// The same as the library takes them; everything else is as it is without options.
    pub(super) fn build_options(&self) -> BuildOptions {
        BuildOptions {
            time_limit: Some(Duration::from_secs(self.time_limit)),
            memory_limit: Some(self.memory_limit << 20),
            ..BuildOptions::default()
        }
    }
}

impl Options {
    /// The providers besides the built-in ones.
    pub(super) fn providers(&self) -> &super::providers::ProviderOptions {
        &self.providers
    }

    /// The same as the library takes them.
    pub(super) fn build_options(&self, reporter: &mut Reporter) -> Result<BuildOptions, Error> {
        Ok(BuildOptions {
            providers: self.providers.load(reporter)?,
            program_type: self.program_type.clone(),
            from: self.from.map(System::from),
            unmarked: unmarked()?,
            retarget: self.retarget,
            allow_degraded: self.allow_degraded,
            linux: self.linux.settings()?,
            verifier: self.verifier.into(),
            deny_warnings: self.deny_warnings,
            ..self.limits.build_options()
        })
    }
}

pub(super) fn run(arguments: &Arguments, reporter: &mut Reporter) -> Outcome {
    let options = arguments.options.build_options(reporter)?;
    let cache = arguments.cache.as_ref().map(VerdictCache::new);
    let timings: Vec<OnceLock<Timings>> = arguments.inputs.iter().map(|_| OnceLock::new()).collect();
    let compiler =
        (arguments.sources).compiler(&arguments.inputs, &options.providers, options.deny_warnings, reporter)?;
    let how = Work {
        verb: "verifying",
        jobs: arguments.jobs.map(NonZeroUsize::get),
    };
    let batch = output::for_each_input(reporter, &arguments.inputs, how, |index, input| {
        let source::Object {
            bytes: object, said, ..
        } = source::load(input, compiler.as_ref())?;
        let name = input.to_string_lossy();
        let mut facts = String::new();
        let verdict = if let Some(cache) = &cache {
            cache.verify(&object, &name, &options)?
        } else if arguments.timings {
            let (result, took) = crate::verify_timed(&object, &name, &options);
            let _ = timings[index].set(took); // each input is worked on once
            {
                let proven = result?;
                Verdict::of(&proven.verified, proven.warnings())
            }
        } else {
            let proven = crate::prove(&object, &name, &options)?;
            if arguments.facts {
                facts = crate::facts::listing(&proven.verified);
            }
            Verdict::of(&proven.verified, proven.warnings())
        };
        let warnings = verdict.warnings;
        let verified = Verified {
            input: input.display().to_string(),
            programs: verdict.programs,
        };
        let mut text = String::new();
        for program in &verified.programs {
            let _ = writeln!(
                text,
                "{}: program `{}` (section `{}`, type {}) is safe",
                verified.input, program.name, program.section, program.program_type
            );
        }
        text.push_str(&facts);
        Ok(Done {
            text,
            record: Some(Record::Verified(verified)),
            quiet: arguments.quiet,
            warnings,
            said,
            ..Done::default()
        })
    })?;
    for (input, timings) in arguments.inputs.iter().zip(&timings) {
        if let Some(timings) = timings.get() {
            eprint!("{}: {timings}", printable(&input.to_string_lossy()));
        }
    }
    Ok(batch.status)
}
