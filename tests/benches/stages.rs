//! How long each stage takes: `cargo bench`. Prints medians in milliseconds for objects of about 50, 500 and 5,000
//! instructions, and each stage's growth from one size to the next.
//!
//! Absolute figures hold for the machine they were taken on; the growth columns are ratios within one run.

use std::time::{Duration, Instant};

use bpf2sys_platform::Platform;

/// Total time given to one stage of one object; at least three rounds are run.
const BUDGET: Duration = Duration::from_secs(2);
const MAX_ROUNDS: usize = 201;

fn median(mut round: impl FnMut() -> Duration) -> f64 {
    let started = Instant::now();
    let mut times = Vec::new();
    while times.len() < MAX_ROUNDS && (times.len() < 3 || started.elapsed() < BUDGET) {
        times.push(round());
    }
    times.sort();
    times[times.len() / 2].as_secs_f64() * 1000.0
}

/// The time of `work` alone; its result is dropped outside the measurement.
fn time<T>(work: impl FnOnce() -> T) -> Duration {
    let started = Instant::now();
    let result = work();
    let elapsed = started.elapsed();
    drop(result);
    elapsed
}

fn main() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures/bench");
    println!(
        "{:>12} {:>10} {:>10} {:>10} {:>10} {:>10}",
        "instructions", "platform", "read", "verify", "lower", "link"
    );
    let mut last: Option<[f64; 5]> = None;
    for steps in [50, 500, 5000] {
        let name = format!("steps_{steps}.o");
        let object = std::fs::read(folder.join(&name)).expect("the fixture is committed");
        let platform = Platform::builtin();
        let module = bpf2sys_bytecode::read(&object, &name).expect("the fixture is valid");
        let options = bpf2sys_verifier::Options {
            time_limit: Duration::from_mins(10),
            ..Default::default()
        };
        let verified = bpf2sys_verifier::verify(module.clone(), &platform, &options).expect("the fixture is safe");
        let lowering = bpf2sys_codegen::Options::default();
        let native = bpf2sys_codegen::lower(&verified, &platform, &lowering)
            .expect("the fixture lowers")
            .object;
        let stages = [
            median(|| time(Platform::builtin)),
            median(|| time(|| bpf2sys_bytecode::read(&object, &name))),
            median(|| {
                let module = module.clone();
                time(|| bpf2sys_verifier::verify(module, &platform, &options))
            }),
            median(|| time(|| bpf2sys_codegen::lower(&verified, &platform, &lowering))),
            median(|| time(|| bpf2sys_pe_emit::link(&native))),
        ];
        let instructions: usize = module.functions.iter().map(|f| f.instructions.len()).sum();
        print!("{instructions:>12}");
        for stage in stages {
            print!(" {stage:>7.3} ms");
        }
        println!();
        if let Some(last) = last {
            print!("{:>12}", "growth");
            for (stage, last) in stages.iter().zip(last) {
                print!(" {:>9.1}x", stage / last);
            }
            println!();
        }
        last = Some(stages);
    }
}
