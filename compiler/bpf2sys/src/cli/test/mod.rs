//! `bpf2sys test`: run the tests of test files.
//!
//! Test files are found and read, drivers are built in memory, and then all tests run side by side. What comes of them is told in the order
//! of files and tests.

mod find;
mod load;
mod told;
mod unit;

use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::time::Instant;

use bpf2sys_simulator::{ProcessorKind, Trace, TraceReport};
use bpf2sys_testing::coverage::Coverage;
use bpf2sys_testing::suite::How;
use clap::ValueHint;

use self::load::Loaded;
use self::told::{Summary, Told};
use self::unit::Unit;
use super::Outcome;
use super::coverage::CoverageOptions;
use super::reporter::Reporter;
use super::source::SourceOptions;
use super::{output, work};
use crate::{Error, ErrorKind, files};

/// Run the tests of drivers that are in test files.
///
/// A test file (`*.test.toml`) names an object, a C source or a driver, and says which inputs its programs are run on, what must come out,
/// and what must not happen. Each test has its own load of the driver, as `bpf2sys run` does it. `--fuzz` runs programs on many more
/// inputs, changed from those of the tests and random: each must end within the limit, stay inside its memory, and have the properties that
/// the file states.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  bpf2sys test                                     all test files below the current folder
  bpf2sys test udp_filter.test.toml                those of one file
  bpf2sys test --filter fragment                   the tests that have this in their names
  bpf2sys test --list                              which tests there are
  bpf2sys test --junit results.xml                 for a build server
  bpf2sys test --coverage tests.info               and which lines and branches of the sources they ran
  bpf2sys test --bless                             write what comes out to the golden files
  bpf2sys test --fuzz 100000 udp_filter.test.toml  and 100,000 further inputs
  bpf2sys test --fuzz 100000 --seed 7              other ones")]
#[allow(clippy::struct_excessive_bools)] // switches that have nothing to do with each other
pub(super) struct Arguments {
    /// Test files, and folders in which and below which all `*.test.toml` are taken; hidden folders and those named `target` are not
    /// searched [default: the current folder]
    #[arg(value_name = "PATH", value_hint = ValueHint::AnyPath)]
    paths: Vec<PathBuf>,

    /// Run the tests that have this text in their names, which begin with those of their files
    #[arg(long, value_name = "TEXT")]
    filter: Option<String>,

    /// Run this many tests at once [default: as many as there are processors]
    #[arg(short, long, value_name = "N")]
    jobs: Option<NonZeroUsize>,

    /// Run each program on this many further inputs
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=1_000_000_000))]
    fuzz: Option<u64>,

    /// What the further inputs follow from
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,

    /// Emulate the processor, even where this machine's own could run the drivers' code. What comes out is the same
    #[arg(long)]
    emulate: bool,

    /// Write what comes out of tests to their golden files
    #[arg(long)]
    bless: bool,

    /// Write the results to this file, too, as `JUnit` does
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    junit: Option<PathBuf>,

    #[command(flatten)]
    coverage: CoverageOptions,

    /// Only list the tests
    #[arg(long, conflicts_with_all = ["fuzz", "bless", "junit", "coverage"])]
    list: bool,

    /// Print JSON
    #[arg(long)]
    json: bool,

    /// Print no results; tests that fail are told
    #[arg(short, long, conflicts_with = "json")]
    quiet: bool,

    #[command(flatten)]
    sources: SourceOptions,

    #[command(flatten, next_help_heading = "Options")]
    providers: super::providers::ProviderOptions,
}

impl Arguments {
    /// What executes the code of drivers.
    fn processor(&self) -> ProcessorKind {
        if self.emulate {
            ProcessorKind::Emulated
        } else {
            ProcessorKind::Host
        }
    }
}

pub(super) fn run(arguments: &Arguments, reporter: &mut Reporter) -> Outcome {
    let started = Instant::now();
    let paths = find::test_files(&arguments.paths)?;
    let (mut files, mut status) = load::read(&paths, reporter);
    let wanted = |name: &str| {
        arguments
            .filter
            .as_ref()
            .is_none_or(|text| name.contains(text.as_str()))
    };
    let (mut units, mut filtered) = unit::of_tests(&files, &wanted);
    if arguments.list {
        told::list(&files, &units, arguments.json)?;
        return Ok(status);
    }
    let needed = |index: usize| arguments.fuzz.is_some() || units.iter().any(|unit| unit.file == index);
    let built = load::build(&mut files, &needed, arguments, reporter)?;
    status = status.max(built);
    if let Some(inputs) = arguments.fuzz {
        filtered += unit::add_fuzz(&files, &mut units, inputs, arguments.seed, &wanted);
    }
    let summary = perform(arguments, reporter, &files, &units, filtered)?;
    if arguments.bless {
        summary.bless(&units)?;
    }
    if let Some(path) = &arguments.junit {
        let text = summary.junit(&files, &units);
        files::write_all(&[(path, text.as_bytes())])?;
    }
    let status = status.max(summary.status());
    summary.finish(&files, &units, (started.elapsed(), status), reporter)?;
    Ok(status)
}

/// Runs all tests, and tells what comes of each.
fn perform(
    arguments: &Arguments,
    reporter: &Reporter,
    files: &[Loaded],
    units: &[Unit],
    filtered: usize,
) -> Result<Summary, Error> {
    let is_told = !arguments.quiet && !arguments.json;
    let mut summary = Summary::new(is_told, arguments.json, filtered, units.len());
    if is_told {
        let tests = if units.len() == 1 { "test" } else { "tests" };
        output::print(&format!("running {} {tests}\n", units.len()))?;
    }
    let total: u64 = units.iter().map(Unit::size).sum();
    let progress = output::progress(reporter, total, "testing");
    let jobs = arguments.jobs.map(NonZeroUsize::get);
    let is_counted = arguments.coverage.is_wanted();
    let how = How {
        is_blessed: arguments.bless,
        trace: if is_counted { Trace::Instructions } else { Trace::None },
    };
    let work = |index: usize| {
        let unit: &Unit = &units[index];
        let file = &files[unit.file];
        unit.perform(file, arguments.processor(), how, &|done| progress.inc(done))
    };
    // What no test ran is told, too.
    let mut coverage = Coverage::default();
    for (_, counted) in files.iter().flat_map(|file| &file.counted) {
        coverage.add(counted.coverage(&TraceReport::default()));
    }
    work::in_order(units.len(), jobs, work, |index, mut came| {
        let unit = &units[index];
        let counted = files[unit.file].counted.iter().find(|(arch, _)| *arch == unit.arch);
        if let (Some(trace), Some((_, counted))) = (came.trace.take(), counted) {
            coverage.add(counted.coverage(&trace));
        }
        let told = Told::of(unit, came);
        progress.suspend(|| summary.take(told))
    })?;
    progress.finish_and_clear();
    if is_counted {
        let folders: Vec<&Path> = files.iter().filter_map(|file| file.path.parent()).collect();
        summary.coverage = arguments.coverage.write(coverage, &folders)?;
    }
    Ok(summary)
}

/// An error about a test file.
fn wrong(file: &Loaded, message: String) -> Error {
    ErrorKind::TestFile {
        message,
        place: None,
        path: file.path.clone(),
    }
    .into()
}
