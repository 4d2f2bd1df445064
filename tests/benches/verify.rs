//! What verification takes: `cargo bench --bench verify`. Prints tables in Markdown:
//! - time and peak memory per program over the corpus (where it is) and our examples, with the share of each stage;
//! - how the time grows with the size of a program;
//! - what it gains to verify programs side by side, and to know a verdict.
//!
//! Absolute figures hold for the machine they were taken on; shares, growth and gains are ratios within one run. It asks
//! the verifier's public functions only, so it judges any engine. Memory is what the program's verification has
//! allocated at most at one time, counted by the allocator of this benchmark alone.

#[allow(dead_code)] // the parity test uses the rest
#[path = "../parity/corpus.rs"]
mod corpus;
#[path = "../parity/linux.rs"]
mod linux;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use bpf2sys::{BuildOptions, VerdictCache};
use bpf2sys_bytecode::{FunctionKind, Module};
use bpf2sys_platform::Platform;
use bpf2sys_verifier::{Options, ProgramCost, Stage, VerifyError, verify, verify_observed};
use peak_alloc::PeakAlloc;

#[global_allocator]
static ALLOCATOR: PeakAlloc = PeakAlloc;

/// Each figure is the median of so many.
const ROUNDS: usize = 5;

/// What one program took.
struct Measured {
    name: String,
    slots: u64,
    /// Of its whole object.
    reading: Duration,
    stages: [Duration; Stage::ALL.len()],
    peak_bytes: usize,
}

impl Measured {
    /// Without the reading, which the programs of an object share.
    fn total(&self) -> Duration {
        self.stages.iter().sum()
    }
}

fn main() {
    let programs = [("corpus", of_corpus()), ("examples", of_examples())];
    println!(
        "| programs of | programs | slots | median | 90 % | most | reading | {} | peak, median | peak, most |",
        { Stage::ALL.map(Stage::name).join(" | ") }
    );
    println!("| --- |{}", " ---: |".repeat(8 + Stage::ALL.len()));
    for (set, programs) in &programs {
        summary(set, programs);
    }
    let all: Vec<&Measured> = programs.iter().flat_map(|(_, programs)| programs).collect();
    println!();
    growth(&all);
    println!();
    slowest(all);
    println!();
    gains();
}

/// The programs for which there is a record, each alone in its module.
fn of_corpus() -> Vec<Measured> {
    let base = std::env::var_os("BPF2SYS_CORPUS").map_or_else(|| root().join("../shared/corpus"), PathBuf::from);
    if !base.join("verdicts.jsonl").is_file() {
        eprintln!("no corpus");
        return Vec::new();
    }
    let rows = corpus::recorded(&base).expect("the record can be read");
    let mut objects = corpus::Objects::of(&base);
    let mut measured = Vec::new();
    for row in rows {
        let Ok(module) = objects.program(&row).expect("the object can be found") else {
            continue;
        };
        let bytes = objects.bytes(&row).expect("the object can be found");
        let platform = linux::platform(std::iter::once(row.section.as_str()), true);
        let name = format!("{} `{}`", row.object, row.function);
        measured.push(measure(name, &bytes, &module, &platform));
    }
    measured
}

/// The programs of the examples, each alone in its module.
fn of_examples() -> Vec<Measured> {
    let platform = Platform::builtin();
    let mut measured = Vec::new();
    for (name, bytes, module) in examples() {
        for program in module.programs().map(|(index, _)| index) {
            let mut alone = module.clone();
            for (i, function) in alone.functions.iter_mut().enumerate() {
                if i != program.index() {
                    function.kind = FunctionKind::Subprogram;
                }
            }
            let program = format!("{name} `{}`", module.function(program).name);
            measured.push(measure(program, &bytes, &alone, &platform));
        }
    }
    measured
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// The examples that need no provider of their own.
fn examples() -> Vec<(String, Vec<u8>, Module)> {
    let folders = std::fs::read_dir(root().join("examples")).expect("there are examples");
    let mut folders: Vec<PathBuf> = folders.map(|entry| entry.expect("it can be listed").path()).collect();
    folders.sort();
    let objects = folders.iter().filter_map(|folder| {
        let name = folder.file_name()?.to_str()?.to_owned();
        let bytes = std::fs::read(folder.join(&name).with_extension("o")).ok()?;
        let module = bpf2sys_bytecode::read(&bytes, &name).expect("an example is valid");
        Some((name, bytes, module))
    });
    let platform = Platform::builtin();
    let known = |module: &Module| {
        module
            .programs()
            .all(|(_, f)| platform.program_type_for_section(&f.section).is_some())
    };
    objects.filter(|(_, _, module)| known(module)).collect()
}

fn options() -> Options {
    Options {
        time_limit: Duration::from_mins(10),
        ..Options::default()
    }
}

fn measure(name: String, bytes: &[u8], module: &Module, platform: &Platform) -> Measured {
    let reading = median((0..ROUNDS).map(|_| {
        let started = Instant::now();
        let read = bpf2sys_bytecode::read(bytes, "a.o");
        let took = started.elapsed();
        drop(read);
        took
    }));
    let mut costs: Vec<ProgramCost> = Vec::new();
    let mut peaks = Vec::new();
    for _ in 0..ROUNDS {
        let module = module.clone();
        let before = PeakAlloc.current_usage();
        PeakAlloc.reset_peak_usage();
        let result = verify_observed(module, platform, &options(), &mut |cost| costs.push(*cost));
        peaks.push(PeakAlloc.peak_usage().saturating_sub(before));
        assert!(
            matches!(result, Ok(_) | Err(VerifyError::Rejected(_))),
            "{name}: {:?}",
            result.err()
        );
    }
    Measured {
        name,
        slots: costs.first().map_or(0, |cost| cost.slots),
        reading,
        stages: Stage::ALL.map(|stage| median(costs.iter().map(|cost| cost.time(stage)))),
        peak_bytes: median(peaks.into_iter()),
    }
}

fn median<T: Ord + Copy + Default>(values: impl Iterator<Item = T>) -> T {
    quantile(values, 50)
}

fn quantile<T: Ord + Copy + Default>(values: impl Iterator<Item = T>, percent: usize) -> T {
    let mut values: Vec<T> = values.collect();
    values.sort();
    let at = values.len().saturating_sub(1) * percent / 100;
    values.get(at).copied().unwrap_or_default()
}

fn ms(time: Duration) -> String {
    format!("{:.1} ms", time.as_secs_f64() * 1000.0)
}

fn mib(bytes: usize) -> String {
    format!("{:.1} MiB", bytes as f64 / f64::from(1 << 20))
}

fn summary(set: &str, programs: &[Measured]) {
    let slots: u64 = programs.iter().map(|p| p.slots).sum();
    let totals = || programs.iter().map(Measured::total);
    let reading: Duration = programs.iter().map(|p| p.reading).sum();
    let all = totals().sum::<Duration>() + reading;
    let share = |time: Duration| {
        format!(
            "{:.1} %",
            100.0 * time.as_secs_f64() / all.as_secs_f64().max(f64::MIN_POSITIVE)
        )
    };
    let stages: Vec<String> = (0..Stage::ALL.len())
        .map(|stage| share(programs.iter().map(|p| p.stages[stage]).sum()))
        .collect();
    let peaks = || programs.iter().map(|p| p.peak_bytes);
    println!(
        "| {set} | {} | {slots} | {} | {} | {} | {} | {} | {} | {} |",
        programs.len(),
        ms(quantile(totals(), 50)),
        ms(quantile(totals(), 90)),
        ms(totals().max().unwrap_or_default()),
        share(reading),
        stages.join(" | "),
        mib(median(peaks())),
        mib(peaks().max().unwrap_or_default()),
    );
}

fn growth(programs: &[&Measured]) {
    println!("| slots of a program | programs | median per slot | against the smallest |");
    println!("| --- | ---: | ---: | ---: |");
    let mut smallest = None;
    for (from, to) in [(1, 25), (26, 50), (51, 100), (101, 200), (201, 400), (401, u64::MAX)] {
        let inside: Vec<_> = programs.iter().filter(|p| (from..=to).contains(&p.slots)).collect();
        if inside.is_empty() {
            continue;
        }
        let nanoseconds = median(inside.iter().map(|p| p.total().as_nanos() / u128::from(p.slots)));
        let smallest = *smallest.get_or_insert(nanoseconds);
        println!(
            "| {from} to {} | {} | {:.0} µs | {:.1} |",
            if to == u64::MAX {
                "more".to_owned()
            } else {
                to.to_string()
            },
            inside.len(),
            nanoseconds as f64 / 1000.0,
            nanoseconds as f64 / smallest as f64
        );
    }
}

fn slowest(mut programs: Vec<&Measured>) {
    programs.sort_by_key(|p| std::cmp::Reverse(p.total()));
    println!(
        "| slowest programs | slots | total | {} | peak |",
        Stage::ALL.map(Stage::name).join(" | ")
    );
    println!("| --- |{}", " ---: |".repeat(3 + Stage::ALL.len()));
    for program in programs.iter().take(5) {
        let stages = program.stages.map(ms).join(" | ");
        println!(
            "| {} | {} | {} | {stages} | {} |",
            program.name,
            program.slots,
            ms(program.total()),
            mib(program.peak_bytes)
        );
    }
}

/// Ratios of whole verifications.
fn gains() {
    println!("| gain | without | with | ratio |");
    println!("| --- | ---: | ---: | ---: |");
    let row = |what: &str, without: Duration, with: Duration| {
        let ratio = without.as_secs_f64() / with.as_secs_f64();
        println!("| {what} | {} | {} | {ratio:.1} |", ms(without), ms(with));
    };
    let timed = |work: &dyn Fn()| {
        median((0..ROUNDS).map(|_| {
            let started = Instant::now();
            work();
            started.elapsed()
        }))
    };
    let path = root().join("tests/fixtures/limits/many.o");
    let bytes = std::fs::read(path).expect("the fixture is committed");
    let module = bpf2sys_bytecode::read(&bytes, "many.o").expect("the fixture is valid");
    let platform = Platform::builtin();
    let programs: Vec<_> = module.programs().map(|(index, _)| index).collect();
    let one_by_one = timed(&|| {
        for program in &programs {
            let mut alone = module.clone();
            for (i, function) in alone.functions.iter_mut().enumerate() {
                if i != program.index() {
                    function.kind = FunctionKind::Subprogram;
                }
            }
            verify(alone, &platform, &options()).expect("the fixture is safe");
        }
    });
    let together = timed(&|| {
        verify(module.clone(), &platform, &options()).expect("the fixture is safe");
    });
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    row(
        &format!("{} programs side by side on {processors} processors", programs.len()),
        one_by_one,
        together,
    );
    let folder = tempfile::tempdir().expect("a folder can be made");
    let (cache, build) = (VerdictCache::new(folder.path()), BuildOptions::default());
    for (name, bytes, _) in examples() {
        let fresh = timed(&|| {
            bpf2sys::verify(&bytes, &name, &build).expect("an example is safe");
        });
        cache.verify(&bytes, &name, &build).expect("an example is safe");
        let known = timed(&|| {
            cache.verify(&bytes, &name, &build).expect("an example is safe");
        });
        row(&format!("a known verdict, {name}"), fresh, known);
    }
}
