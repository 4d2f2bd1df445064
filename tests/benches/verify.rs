//! What verification takes: `cargo bench --bench verify`. Prints tables in Markdown:
//! - time and peak memory over the corpus (where it is) and our examples, of both engines, with the share of each stage;
//! - how the time grows with the size of a program there, and the ten programs that take longest;
//! - the curve: time and memory for programs of 100 to 100,000 instructions of each of the shapes in [`proofs`];
//! - what it gains to verify programs side by side, and to know a verdict;
//! - what it takes to make an image of a small object.
//!
//! The engines take turns at each program, so absolute figures hold for the machine they were taken on, and ratios for any. It asks
//! the verifier's public functions only. Memory is what the verification of the program's module has allocated at most
//! at one time, counted by the allocator of this benchmark alone.

#[allow(dead_code)] // the parity test uses the rest
#[path = "../parity/corpus.rs"]
mod corpus;
#[path = "../parity/linux.rs"]
mod linux;
mod proofs;
#[allow(dead_code)] // the lowering's benchmark uses the rest
mod shapes;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use bpf2sys::{BuildOptions, VerdictCache};
use bpf2sys_bytecode::{FunctionKind, Module};
use bpf2sys_platform::Platform;
use bpf2sys_verifier::{Options, ProgramCost, Stage, Verifier, VerifyError, verify, verify_observed};
use peak_alloc::PeakAlloc;

#[global_allocator]
static ALLOCATOR: PeakAlloc = PeakAlloc;

/// Each figure is the median of so many; of what takes longer than [`LONG`], of one.
const ROUNDS: usize = 5;
const LONG: Duration = Duration::from_millis(300);

/// Instructions of the programs of the curve.
const SIZES: [usize; 4] = [100, 1_000, 10_000, 100_000];
/// The largest of them for PREVAIL, whose time grows with the square, and how long it may take. Loops in loops take it minutes.
const LARGEST_FOR_PREVAIL: usize = 1_000;
const PATIENCE: Duration = Duration::from_secs(10);

/// What one program took.
struct Measured {
    name: String,
    /// The engine of this project, and PREVAIL.
    engines: [Cost; 2],
    /// Reading its whole object.
    reading: Duration,
}

/// What one engine took for a program.
#[derive(Clone, Copy, Default)]
struct Cost {
    slots: u64,
    accepted: bool,
    /// Processor time from the module to its verdict: the stages, and all around them.
    total: Duration,
    stages: [Duration; Stage::ALL.len()],
    peak_bytes: usize,
}

const ENGINES: [(&str, Verifier); 2] = [("native", Verifier::Native), ("PREVAIL", Verifier::Prevail)];

impl Measured {
    fn slots(&self) -> u64 {
        self.engines[0].slots
    }

    /// How often as long PREVAIL takes.
    fn ratio(&self) -> f64 {
        ratio(self.engines[1].total, self.engines[0].total)
    }
}

fn main() {
    let programs = [("corpus", of_corpus()), ("examples", of_examples())];
    totals(&programs);
    println!();
    let all: Vec<&Measured> = programs.iter().flat_map(|(_, programs)| programs).collect();
    growth(&all);
    println!();
    slowest(all);
    println!();
    curve();
    println!();
    gains();
    println!();
    images();
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

fn options(verifier: Verifier, time_limit: Duration) -> Options {
    Options {
        verifier,
        time_limit,
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
    let mut costs: [Vec<Cost>; 2] = Default::default();
    for _ in 0..ROUNDS {
        for (costs, (_, verifier)) in costs.iter_mut().zip(ENGINES) {
            if costs.first().is_none_or(|first| first.total < LONG) {
                let cost = once(module, platform, &options(verifier, Duration::MAX));
                costs.push(cost.expect("there is no limit"));
            }
        }
    }
    Measured {
        name,
        engines: costs.map(|costs| middle(&costs)),
        reading,
    }
}

/// One verification of a module with one program; `None` if it takes longer than it may.
fn once(module: &Module, platform: &Platform, options: &Options) -> Option<Cost> {
    let module = module.clone();
    let mut of_program: Option<ProgramCost> = None;
    let held = PeakAlloc.current_usage();
    PeakAlloc.reset_peak_usage();
    let before = processor_time();
    let result = verify_observed(module, platform, options, &mut |cost| of_program = Some(*cost));
    let total = processor_time().saturating_sub(before);
    let peak_bytes = PeakAlloc.peak_usage().saturating_sub(held);
    if let Err(VerifyError::TimeLimit { .. }) = result {
        return None;
    }
    let known = matches!(result, Ok(_) | Err(VerifyError::Rejected(_)));
    assert!(known, "{:?}", result.err());
    let of_program = of_program.expect("a program with a verdict has a cost");
    Some(Cost {
        slots: of_program.slots,
        accepted: result.is_ok(),
        total,
        stages: Stage::ALL.map(|stage| of_program.time(stage)),
        peak_bytes,
    })
}

fn middle(costs: &[Cost]) -> Cost {
    Cost {
        total: median(costs.iter().map(|cost| cost.total)),
        stages: std::array::from_fn(|stage| median(costs.iter().map(|cost| cost.stages[stage]))),
        peak_bytes: median(costs.iter().map(|cost| cost.peak_bytes)),
        ..costs.first().copied().unwrap_or_default()
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

fn ratio(a: Duration, b: Duration) -> f64 {
    a.as_secs_f64() / b.as_secs_f64().max(f64::MIN_POSITIVE)
}

fn ms(time: Duration) -> String {
    let ms = time.as_secs_f64() * 1000.0;
    if ms < 10.0 {
        format!("{ms:.2} ms")
    } else {
        format!("{ms:.0} ms")
    }
}

fn mib(bytes: usize) -> String {
    format!("{:.1} MiB", bytes as f64 / f64::from(1 << 20))
}

fn totals(sets: &[(&str, Vec<Measured>)]) {
    println!(
        "| programs of | engine | accepted | slots | reading | total | ratio | median | 90 % | most | {} | peak, median | peak, most |",
        { Stage::ALL.map(Stage::name).join(" | ") }
    );
    println!("| --- | --- |{}", " ---: |".repeat(10 + Stage::ALL.len()));
    for (set, programs) in sets {
        let sum = |engine: usize| programs.iter().map(|p| p.engines[engine].total).sum::<Duration>();
        for (engine, (name, _)) in ENGINES.iter().enumerate() {
            let costs = || programs.iter().map(|p| p.engines[engine]);
            let share = |stage: usize| {
                let time = costs().map(|cost| cost.stages[stage]).sum();
                format!("{:.1} %", 100.0 * ratio(time, sum(engine)))
            };
            println!(
                "| {set} | {name} | {} of {} | {} | {} | {} | {:.1} | {} | {} | {} | {} | {} | {} |",
                costs().filter(|cost| cost.accepted).count(),
                programs.len(),
                programs.iter().map(Measured::slots).sum::<u64>(),
                ms(programs.iter().map(|p| p.reading).sum()),
                ms(sum(engine)),
                ratio(sum(engine), sum(0)),
                ms(quantile(costs().map(|cost| cost.total), 50)),
                ms(quantile(costs().map(|cost| cost.total), 90)),
                ms(costs().map(|cost| cost.total).max().unwrap_or_default()),
                (0..Stage::ALL.len()).map(share).collect::<Vec<_>>().join(" | "),
                mib(median(costs().map(|cost| cost.peak_bytes))),
                mib(costs().map(|cost| cost.peak_bytes).max().unwrap_or_default()),
            );
        }
    }
}

fn growth(programs: &[&Measured]) {
    println!("| slots of a program | programs | native, per slot | PREVAIL, per slot | ratio |");
    println!("| --- | ---: | ---: | ---: | ---: |");
    for (from, to) in [(1, 25), (26, 50), (51, 100), (101, 200), (201, 400), (401, u64::MAX)] {
        let inside: Vec<_> = programs.iter().filter(|p| (from..=to).contains(&p.slots())).collect();
        if inside.is_empty() {
            continue;
        }
        let per_slot = |engine: usize| {
            median(
                inside
                    .iter()
                    .map(|p| p.engines[engine].total.as_nanos() / u128::from(p.slots())),
            ) as f64
                / 1000.0
        };
        println!(
            "| {from} to {} | {} | {:.1} µs | {:.0} µs | {:.0} |",
            if to == u64::MAX {
                "more".to_owned()
            } else {
                to.to_string()
            },
            inside.len(),
            per_slot(0),
            per_slot(1),
            per_slot(1) / per_slot(0),
        );
    }
}

fn slowest(mut programs: Vec<&Measured>) {
    programs.sort_by_key(|p| std::cmp::Reverse(p.engines[0].total));
    println!(
        "| slowest programs | slots | native | {} | peak | PREVAIL | peak | ratio |",
        Stage::ALL.map(Stage::name).join(" | ")
    );
    println!("| --- |{}", " ---: |".repeat(6 + Stage::ALL.len()));
    for program in programs.iter().take(10) {
        let [native, prevail] = program.engines;
        println!(
            "| {} | {} | {} | {} | {} | {} | {} | {:.0} |",
            program.name,
            program.slots(),
            ms(native.total),
            native.stages.map(ms).join(" | "),
            mib(native.peak_bytes),
            ms(prevail.total),
            mib(prevail.peak_bytes),
            program.ratio()
        );
    }
}

/// Programs of growing size.
fn curve() {
    println!(
        "| shape | instructions | verdict | native | per instruction | growth | peak | {} | PREVAIL | verdict | peak | ratio |",
        Stage::ALL.map(Stage::name).join(" | ")
    );
    println!("| --- | ---: | --- |{}", " ---: |".repeat(8 + Stage::ALL.len()));
    let platform = Platform::builtin();
    let verdict = |cost: &Cost| if cost.accepted { "safe" } else { "rejected" };
    for shape in &proofs::PROOFS {
        let mut smaller = None;
        for size in SIZES {
            let module = (shape.make)(size);
            let count: usize = module.functions.iter().map(|f| f.instructions.len()).sum();
            let run = |options: &Options| {
                let mut costs = vec![once(&module, &platform, options)?];
                while costs.len() < ROUNDS && costs[0].total < LONG {
                    costs.push(once(&module, &platform, options)?);
                }
                Some(middle(&costs))
            };
            let native = run(&options(Verifier::Native, Duration::MAX)).expect("there is no limit");
            let per_instruction = native.total.as_nanos() as f64 / count as f64;
            let growth = per_instruction / *smaller.get_or_insert(per_instruction);
            let beside = if size > LARGEST_FOR_PREVAIL {
                "| | |".to_owned()
            } else if let Some(prevail) = run(&options(Verifier::Prevail, PATIENCE)) {
                format!(
                    "{} | {} | {} | {:.0}",
                    ms(prevail.total),
                    verdict(&prevail),
                    mib(prevail.peak_bytes),
                    ratio(prevail.total, native.total)
                )
            } else {
                let least = ratio(PATIENCE, native.total);
                format!("more than {} | | | more than {least:.0}", ms(PATIENCE))
            };
            println!(
                "| {} | {count} | {} | {} | {per_instruction:.0} ns | {growth:.2} | {} | {} | {beside} |",
                shape.name,
                verdict(&native),
                ms(native.total),
                mib(native.peak_bytes),
                native.stages.map(ms).join(" | "),
            );
        }
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
            verify(alone, &platform, &options(Verifier::Native, Duration::MAX)).expect("the fixture is safe");
        }
    });
    let together = timed(&|| {
        verify(module.clone(), &platform, &options(Verifier::Native, Duration::MAX)).expect("the fixture is safe");
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

/// From an ELF file to a driver, on one processor's time.
fn images() {
    println!("| from ELF to image | instructions | processor time |");
    println!("| --- | ---: | ---: |");
    let options = BuildOptions {
        verifier: Verifier::Native,
        ..BuildOptions::default()
    };
    for (name, bytes, module) in examples() {
        let instructions: usize = module.functions.iter().map(|f| f.instructions.len()).sum();
        let took = median((0..ROUNDS).map(|_| {
            let before = processor_time();
            bpf2sys::build(&bytes, &name, &options).expect("an example is safe");
            processor_time().saturating_sub(before)
        }));
        println!("| {name} | {instructions} | {} |", ms(took));
    }
}

/// Time that this process spent on a processor; elsewhere than on Unix, wall time.
#[cfg(unix)]
fn processor_time() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

#[cfg(not(unix))]
fn processor_time() -> Duration {
    static START: std::sync::LazyLock<Instant> = std::sync::LazyLock::new(Instant::now);
    START.elapsed()
}
