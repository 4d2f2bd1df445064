//! Compares what random programs do in the interpreter, on x86-64, on ARM64 and in the Linux kernel.
//!
//! The exit status is 0 when all agree, 1 when not.

use std::process::ExitCode;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use bpf2sys_isa_tests::differential::{Judged, Report, Request, run};
use clap::Parser;

/// Runs random valid programs in every engine and compares what they do.
#[derive(Parser)]
#[command(name = "bpf2sys-differential", version)]
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
    /// What to compare with the interpreter.
    #[arg(long, value_enum, value_delimiter = ',', default_values_t = Judged::ALL)]
    engines: Vec<Judged>,
    /// How many threads; one per processor if left out.
    #[arg(long)]
    threads: Option<usize>,
}

/// Time between lines of progress.
const INTERVAL: Duration = Duration::from_secs(10);

fn print(report: &Report) {
    let Report {
        programs, instructions, ..
    } = report;
    println!("{programs} programs with {instructions} instructions");
    for (engine, reason) in &report.skipped {
        println!("{}: skipped: {reason}", engine.name());
    }
    for (engine, tally) in &report.engines {
        let refused: u64 = tally.refused.values().map(|(count, _)| count).sum();
        let time = tally.time.as_secs_f64();
        println!(
            "{}: {} executed, {refused} not taken, {time:.1} s",
            engine.name(),
            tally.executed
        );
        let mut reasons: Vec<_> = tally.refused.iter().collect();
        reasons.sort_by_key(|(_, (count, _))| std::cmp::Reverse(*count));
        for (reason, (count, first)) in reasons.into_iter().take(8) {
            println!("  {count:6}  {reason} (first: program {first})");
        }
    }
    for found in &report.disagreements {
        println!("\n{found}");
    }
}

fn main() -> ExitCode {
    bpf2sys_simulator::child_main_if_requested();
    let arguments = Arguments::parse();
    let request = Request {
        seed: arguments.seed,
        first: arguments.first,
        count: arguments.count,
        judged: arguments.engines,
        threads: arguments
            .threads
            .unwrap_or_else(|| std::thread::available_parallelism().map_or(1, std::num::NonZero::get)),
    };
    let (start, told) = (Instant::now(), Mutex::new(Instant::now()));
    let report = run(&request, &|done| {
        if let Ok(mut told) = told.lock()
            && told.elapsed() >= INTERVAL
        {
            *told = Instant::now();
            let seconds = start.elapsed().as_secs().max(1);
            eprintln!("{done} of {} programs, {} per second", request.count, done / seconds);
        }
    });
    print(&report);
    if report.disagreements.is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}
