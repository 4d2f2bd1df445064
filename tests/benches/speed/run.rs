//! Measures everything that was asked for.

use std::fs;
use std::path::Path;
use std::process::ExitCode;

use bpf2sys_codegen::{Optimization, Optimizations};
use bpf2sys_platform::Platform;

use crate::lab::stepping::Steps;
use crate::lab::{Bench, WORKLOADS, Workload, name};
use crate::options::Options;
use crate::report::{Figures, Report, Row};
use crate::{tables, timing};

/// Where the tables of a page begin and end.
const START: &str = "<!-- speed -->\n";
const EFFECTS: &str = "<!-- effects -->\n";
const END: &str = "<!-- end -->";

/// With all optimizations, and with none.
const ALL: &str = "all";
const NOTHING: &str = "none";

/// Nanoseconds that a program must take for the kernel's figure to say something: it is a whole number, and what the kernel's
/// loop takes is not simply added to what the program takes.
const KERNEL_LEAST: f64 = 20.0;

/// The whole benchmark.
pub fn main() -> ExitCode {
    let options = match Options::read(std::env::args().skip(1)) {
        Ok(options) => options,
        Err(text) => {
            eprint!("{text}");
            return ExitCode::FAILURE;
        }
    };
    match all(&options) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn all(options: &Options) -> Result<(), String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let root = root.canonicalize().map_err(|e| e.to_string())?;
    let platform = Platform::builtin();
    if options.effects {
        return effects(options, &root, &platform);
    }
    // Before hours of measuring, if it cannot be read.
    let old = options.compare.as_deref().map(read).transpose()?;
    let mut report = Report {
        rounds: options.rounds,
        rows: Vec::new(),
    };
    for workload in WORKLOADS.iter().filter(|workload| options.wants(workload.name)) {
        let row = row(workload, &root, &platform, options).map_err(|e| format!("{}: {e}", workload.name))?;
        report.rows.push(row);
    }
    if report.rows.is_empty() {
        return Err("no workload has such a name".into());
    }
    let text = tables::all(&report);
    println!("{text}");
    if let Some(old) = old {
        println!("{}", tables::comparison(&old, &report));
    }
    if let Some(file) = &options.json {
        let json = serde_json::to_string_pretty(&report).map_err(|e| e.to_string())?;
        fs::write(file, json).map_err(|e| format!("{}: {e}", file.display()))?;
    }
    if let Some(page) = &options.markdown {
        write_page(page, START, &text)?;
    }
    Ok(())
}

fn row(workload: &'static Workload, root: &Path, platform: &Platform, options: &Options) -> Result<Row, String> {
    let mut bench = Bench::new(workload, root, platform)?;
    if let Some(folder) = &options.keep {
        fs::create_dir_all(folder).map_err(|e| format!("{}: {e}", folder.display()))?;
        for (extension, bytes) in &bench.files {
            let file = folder.join(format!("{}.{extension}", workload.name));
            fs::write(&file, bytes).map_err(|e| format!("{}: {e}", file.display()))?;
        }
    }
    let row = measured(&mut bench, options.rounds)?;
    for (engine, why) in &bench.missing {
        eprintln!("{}: without {engine}: {}", workload.name, why.trim());
    }
    Ok(row)
}

/// Compares, counts and times what a workload was compiled to.
fn measured(bench: &mut Bench, rounds: usize) -> Result<Row, String> {
    bench.compare()?;
    let (times, kernel) = timing::nanoseconds(bench, rounds)?;
    let mut engines = Vec::new();
    for (index, ns) in times.into_iter().enumerate() {
        let steps = bench.count(index)?;
        let engine = &bench.engines[index];
        engines.push(figures(engine.name, Some(ns), Some(steps), Some(engine.code_bytes)));
    }
    let reference = engines.iter().find(|figures| figures.name == name::BPF2C);
    let long = reference.is_some_and(|figures| figures.ns >= Some(KERNEL_LEAST));
    let kernel = kernel.filter(|_| long);
    engines.extend(kernel.map(|ns| figures(name::KERNEL, Some(ns), None, None)));
    let mut arm64 = Vec::new();
    if let Some(arm) = bench.arm.take() {
        for (index, engine) in arm.engines.iter().enumerate() {
            let steps = bench.count_arm64(&arm, index)?;
            arm64.push(figures(engine.name, None, Some(steps), Some(engine.code_bytes)));
        }
    }
    Ok(Row {
        name: bench.workload.name.to_owned(),
        bytecode: bench.shape.instructions,
        lowering_us: bench.shape.lowering.as_secs_f64() * 1e6,
        runs: bench.world.contexts.len(),
        engines,
        arm64,
    })
}

fn figures(name: &str, ns: Option<f64>, steps: Option<Steps>, code_bytes: Option<usize>) -> Figures {
    Figures {
        name: name.to_owned(),
        ns,
        instructions: steps.map(|steps| steps.instructions),
        code_bytes,
        stack_bytes: steps.map(|steps| steps.stack_bytes),
    }
}

fn read(file: &Path) -> Result<Report, String> {
    let text = fs::read_to_string(file).map_err(|e| format!("{}: {e}", file.display()))?;
    serde_json::from_str(&text).map_err(|e| format!("{}: {e}", file.display()))
}

/// Measures what each optimization does.
fn effects(options: &Options, root: &Path, platform: &Platform) -> Result<(), String> {
    let with = |optimizations| bpf2sys_codegen::Options {
        optimizations,
        ..bpf2sys_codegen::Options::default()
    };
    let mut variants = vec![(ALL, with(Optimizations::ALL))];
    variants.extend(Optimization::ALL.map(|(one, name)| (name, with(Optimizations::ALL.set(one, false)))));
    variants.push((NOTHING, with(Optimizations::NONE)));
    let mut report = Report {
        rounds: options.rounds,
        rows: Vec::new(),
    };
    for workload in WORKLOADS.iter().filter(|workload| options.wants(workload.name)) {
        let failed = |e| format!("{}: {e}", workload.name);
        let mut bench = Bench::variants(workload, root, platform, &variants).map_err(failed)?;
        report.rows.push(measured(&mut bench, options.rounds).map_err(failed)?);
    }
    let names: Vec<&str> = variants.iter().map(|(name, _)| *name).collect();
    let text = tables::effects(&report, &names);
    println!("{text}");
    if let Some(page) = &options.markdown {
        write_page(page, EFFECTS, &text)?;
    }
    Ok(())
}

fn write_page(page: &Path, start: &str, tables: &str) -> Result<(), String> {
    let old = fs::read_to_string(page).map_err(|e| format!("{}: {e}", page.display()))?;
    let parts = old
        .split_once(start)
        .and_then(|(before, rest)| Some((before, rest.split_once(END)?.1)));
    let (before, after) = parts.ok_or_else(|| format!("{} has no {start}", page.display()))?;
    fs::write(page, format!("{before}{start}\n{tables}\n{END}{after}")).map_err(|e| e.to_string())
}
