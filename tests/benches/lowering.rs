//! What lowering costs per instruction: `cargo bench --bench lowering [-- FILTER…]`.
//!
//! For programs of 1,000, 10,000 and 100,000 instructions of each shape ([`shapes`]) and both targets: processor time per
//! 1,000 instructions, its growth against the smallest size, memory that lowering added at its peak, bytes of code per
//! instruction, and the link's time per 1,000 instructions.
//!
//! Each point is a process of its own (this executable again), so that peak memory is its own too. Absolute figures hold for
//! the machine they were taken on; the growth columns are ratios within one run.

// Figures for people, of a few digits.
#![allow(clippy::cast_precision_loss)]

mod shapes;

use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};

use bpf2sys_codegen::Options;
use bpf2sys_pe_emit::Machine;
use bpf2sys_platform::Platform;
use shapes::{HOSTILE, Shape, USUAL, trusted};

const SIZES: [usize; 3] = [1_000, 10_000, 100_000];
const TARGETS: [(&str, Machine); 2] = [("x64", Machine::X64), ("arm64", Machine::Arm64)];
/// Given to the child before shape, target and size.
const CHILD: &str = "--point";
/// Time given to the repetitions of one point; there is at least one.
const BUDGET: Duration = Duration::from_millis(500);
const MAX_ROUNDS: u32 = 50;

/// What a child measures.
struct Point {
    instructions: usize,
    lower_ns: u64,
    link_ns: u64,
    peak_kib: u64,
    code_bytes: usize,
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|a| a != "--bench").collect();
    match arguments.as_slice() {
        [flag, shape, target, size] if flag == CHILD => child(shape, target, size),
        filters => {
            table(filters);
            ExitCode::SUCCESS
        }
    }
}

fn table(filters: &[String]) {
    println!(
        "{:<11} {:<6} {:>7} {:>10} {:>7} {:>9} {:>7} {:>10}   shape",
        "shape", "target", "insns", "ms/1000", "growth", "peak MiB", "B/insn", "link/1000"
    );
    for shape in USUAL.iter().chain(&HOSTILE) {
        for (target, _) in TARGETS {
            let chosen = filters
                .iter()
                .all(|f| f == shape.name || f == target || SIZES.iter().any(|s| *f == s.to_string()));
            if !chosen {
                continue;
            }
            let mut first = None;
            for size in SIZES {
                let sizes_given = filters.iter().any(|f| SIZES.iter().any(|s| *f == s.to_string()));
                if sizes_given && !filters.contains(&size.to_string()) {
                    continue;
                }
                match point(shape.name, target, size) {
                    Ok(point) => {
                        let thousands = point.instructions as f64 / 1000.0;
                        let per_thousand = point.lower_ns as f64 / 1e6 / thousands;
                        let growth = per_thousand / *first.get_or_insert(per_thousand);
                        println!(
                            "{:<11} {target:<6} {:>7} {per_thousand:>10.3} {growth:>6.2}x {:>9.1} {:>7.2} {:>10.3}   {}",
                            shape.name,
                            point.instructions,
                            point.peak_kib as f64 / 1024.0,
                            point.code_bytes as f64 / point.instructions as f64,
                            point.link_ns as f64 / 1e6 / thousands,
                            shape.what,
                        );
                    }
                    Err(error) => println!("{:<11} {target:<6} {size:>7} {error}", shape.name),
                }
            }
        }
    }
}

/// Measures one point in a process of its own.
fn point(shape: &str, target: &str, size: usize) -> Result<Point, String> {
    let executable = std::env::current_exe().map_err(|e| e.to_string())?;
    let output = Command::new(executable)
        .args([CHILD, shape, target, &size.to_string()])
        .output()
        .map_err(|e| e.to_string())?;
    let text = String::from_utf8_lossy(&output.stdout);
    let numbers: Vec<u64> = text.split_whitespace().filter_map(|n| n.parse().ok()).collect();
    match numbers[..] {
        [instructions, lower_ns, link_ns, peak_kib, code_bytes] if output.status.success() => Ok(Point {
            instructions: instructions as usize,
            lower_ns,
            link_ns,
            peak_kib,
            code_bytes: code_bytes as usize,
        }),
        _ => Err(format!(
            "{}: {}",
            output.status,
            String::from_utf8_lossy(&output.stderr).trim()
        )),
    }
}

fn child(shape: &str, target: &str, size: &str) -> ExitCode {
    match measure(shape, target, size) {
        Ok(point) => {
            println!(
                "{} {} {} {} {}",
                point.instructions, point.lower_ns, point.link_ns, point.peak_kib, point.code_bytes
            );
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn measure(shape: &str, target: &str, size: &str) -> Result<Point, String> {
    let shape: &Shape = USUAL
        .iter()
        .chain(&HOSTILE)
        .find(|s| s.name == shape)
        .ok_or("no such shape")?;
    let machine = TARGETS.iter().find(|t| t.0 == target).ok_or("no such target")?.1;
    let size = size.parse().map_err(|_| "no size")?;
    let verified = trusted((shape.make)(size));
    let platform = Platform::builtin();
    let options = Options {
        machine,
        ..Options::default()
    };
    let before = peak_kib();
    let (mut lower_ns, mut link_ns) = (u64::MAX, u64::MAX);
    let mut peak = 0;
    let mut code_bytes = 0;
    let started = Instant::now();
    let mut rounds = 0;
    while rounds == 0 || (rounds < MAX_ROUNDS && started.elapsed() < BUDGET) {
        let from = processor_ns();
        let lowered = bpf2sys_codegen::lower(&verified, &platform, &options).map_err(|e| e.to_string())?;
        let lowered_at = processor_ns();
        if rounds == 0 {
            peak = peak_kib().saturating_sub(before);
        }
        code_bytes = lowered
            .functions
            .iter()
            .map(|f| lowered.object.functions[f.range].size as usize)
            .sum();
        let to_link = processor_ns();
        bpf2sys_pe_emit::link(&lowered.object).map_err(|e| e.to_string())?;
        link_ns = link_ns.min(processor_ns() - to_link);
        lower_ns = lower_ns.min(lowered_at - from);
        rounds += 1;
    }
    Ok(Point {
        instructions: verified.module().functions.iter().map(|f| f.instructions.len()).sum(),
        lower_ns,
        link_ns,
        peak_kib: peak,
        code_bytes,
    })
}

/// Time that this process spent on a processor; elsewhere than on Unix, wall time.
#[cfg(unix)]
fn processor_ns() -> u64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

#[cfg(not(unix))]
fn processor_ns() -> u64 {
    static START: std::sync::LazyLock<Instant> = std::sync::LazyLock::new(Instant::now);
    START.elapsed().as_nanos() as u64
}

/// Most memory that this process ever held, in KiB. (Linux; elsewhere 0.)
fn peak_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let number = line.and_then(|line| line.split_whitespace().next());
    number.and_then(|kib| kib.parse().ok()).unwrap_or(0)
}
