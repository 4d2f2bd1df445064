//! Judges the verifier by random programs: each that it accepts is run on many inputs in a world that lets nothing pass.
//!
//! The exit status is 0 when nothing was found, 1 when something was.

use std::process::ExitCode;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use bpf2sys_soundness_tests::judge::Judge;
use bpf2sys_soundness_tests::planted::PLANTS;
use bpf2sys_soundness_tests::sweep::{Report, Request, sweep};
use bpf2sys_verifier::Verifier;
use clap::Parser;

/// Runs random programs that the verifier accepts and watches them.
#[derive(Parser)]
#[command(name = "bpf2sys-soundness", version)]
struct Arguments {
    /// Another seed gives other programs.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Number of the first program.
    #[arg(long, default_value_t = 0)]
    first: u64,
    /// How many programs.
    #[arg(long, default_value_t = 100_000)]
    count: u64,
    /// Inputs of each program; each is run at two places.
    #[arg(long, default_value_t = 8)]
    inputs: u64,
    /// How many threads; one per processor if left out.
    #[arg(long)]
    threads: Option<usize>,
    /// Print the programs as well.
    #[arg(long)]
    list: bool,
    /// Which engine is judged: `native` or `prevail`.
    #[arg(long, value_parser = engine, default_value = "native")]
    verifier: Verifier,
    /// Instead: how many programs it takes to find each hole that is made on purpose.
    #[arg(long)]
    planted: bool,
}

fn engine(name: &str) -> Result<Verifier, String> {
    match name {
        "native" => Ok(Verifier::Native),
        "prevail" => Ok(Verifier::Prevail),
        "both" => Ok(Verifier::Both),
        _ => Err("no such engine".to_owned()),
    }
}

/// Time between lines of progress.
const INTERVAL: Duration = Duration::from_secs(10);

fn print(report: &Report) {
    let share = |part: u64, whole: u64| 100.0 * part as f64 / whole.max(1) as f64;
    println!(
        "{} programs with {} instructions; {} accepted ({:.1} %); {} instructions executed",
        report.programs,
        report.instructions,
        report.accepted,
        share(report.accepted, report.programs),
        report.steps
    );
    let (intact, taken) = report.intact;
    println!(
        "without an intended mistake: {intact}, accepted {:.1} %",
        share(taken, intact)
    );
    for (section, (all, accepted)) in &report.sections {
        println!(
            "  {section:16} {all:7} programs, {:5.1} % accepted",
            share(*accepted, *all)
        );
    }
    println!("of the accepted programs, runs show:");
    for (feature, count) in &report.features {
        println!("  {feature:16?} {:5.1} %", share(*count, report.accepted));
    }
    println!("rejected:");
    let mut reasons: Vec<_> = report.rejected.iter().collect();
    reasons.sort_by_key(|(_, (count, _))| std::cmp::Reverse(*count));
    for (reason, (count, first)) in reasons.into_iter().take(40) {
        println!("  {count:6}  {reason} (first: program {first})");
    }
    println!(
        "{:.1} s in the verifier, {:.1} s in runs; slowest:",
        report.verifying.as_secs_f64(),
        report.running.as_secs_f64()
    );
    for (time, index) in &report.slowest {
        println!("  program {index}: {:.3} s", time.as_secs_f64());
    }
    for found in &report.holes {
        println!("\n{found}");
    }
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let judge = Judge {
        verifier: arguments.verifier,
        inputs: arguments.inputs,
        ..Judge::default()
    };
    if arguments.list {
        for index in arguments.first..arguments.first + arguments.count {
            let module = bpf2sys_soundness_tests::generate::generate(arguments.seed, index).module;
            for function in &module.functions {
                println!("{index} {}:", function.section);
                for insn in &function.instructions {
                    println!("  {:4}  {}", insn.slot, insn.op);
                }
            }
        }
    }
    if arguments.planted {
        for plant in &PLANTS {
            let start = Instant::now();
            match plant.find(arguments.verifier, arguments.seed, arguments.count) {
                Some((programs, hole)) => println!("{programs:6}  {}: {}", plant.name, hole.kind),
                None => println!("     -  {}", plant.name),
            }
            eprintln!("        {:.1} s", start.elapsed().as_secs_f64());
        }
        return ExitCode::SUCCESS;
    }
    let request = Request {
        seed: arguments.seed,
        first: arguments.first,
        count: arguments.count,
        threads: arguments
            .threads
            .unwrap_or_else(|| std::thread::available_parallelism().map_or(1, std::num::NonZero::get)),
    };
    let (start, told) = (Instant::now(), Mutex::new(Instant::now()));
    let report = sweep(&judge, request, &|done| {
        if let Ok(mut told) = told.lock()
            && told.elapsed() >= INTERVAL
        {
            *told = Instant::now();
            let seconds = start.elapsed().as_secs().max(1);
            eprintln!("{done} of {} programs, {} per second", request.count, done / seconds);
        }
    });
    print(&report);
    println!("{:.1} s", start.elapsed().as_secs_f64());
    if report.holes.is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}
