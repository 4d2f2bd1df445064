//! Times engines against each other.

use std::time::{Duration, Instant};

use crate::lab::Bench;
use crate::lab::engine::Engine;

/// What one measurement is to take: long against the clock's own cost, short against what else the machine does.
const BATCH: Duration = Duration::from_micros(60);

/// How many rounds the kernel takes part in, spread over all: its system call alone takes longer than hundreds of batches.
const KERNEL_ROUNDS: usize = 15;

/// Median nanoseconds of one run for each engine of `bench`, and for the kernel.
///
/// In each round every engine is timed once, so that what slows the machine down slows all of them down; the order changes from
/// round to round.
pub fn nanoseconds(bench: &mut Bench, rounds: usize) -> Result<(Vec<f64>, Option<f64>), String> {
    bench.world.reset();
    let contexts = bench.world.contexts.clone();
    let engines = &bench.engines;
    let sizes: Vec<u32> = engines.iter().map(|engine| repetitions(engine, &contexts)).collect();
    let mut samples = vec![Vec::with_capacity(rounds); engines.len()];
    let mut kernel = Vec::new();
    let kernel_every = rounds.div_ceil(KERNEL_ROUNDS);
    for round in 0..rounds {
        if let Some(program) = bench.kernel.as_ref().filter(|_| round % kernel_every == 0) {
            kernel.push(program.nanoseconds(&bench.world.packets)?);
        }
        for step in 0..engines.len() {
            let index = (round + step) % engines.len();
            let started = Instant::now();
            engines[index].batch(&contexts, sizes[index]);
            let elapsed = started.elapsed().as_nanos() as f64;
            samples[index].push(elapsed / f64::from(sizes[index]) / contexts.len() as f64);
        }
    }
    let kernel = (!kernel.is_empty()).then(|| median(kernel));
    Ok((samples.into_iter().map(median).collect(), kernel))
}

/// How often an engine runs all contexts in [`BATCH`].
fn repetitions(engine: &Engine, contexts: &[u64]) -> u32 {
    let mut count = 1;
    loop {
        let started = Instant::now();
        engine.batch(contexts, count);
        let elapsed = started.elapsed();
        if elapsed >= BATCH / 2 {
            let scale = BATCH.as_secs_f64() / elapsed.as_secs_f64();
            return ((f64::from(count) * scale) as u32).max(1);
        }
        count *= 2;
    }
}

fn median(mut samples: Vec<f64>) -> f64 {
    samples.sort_by(f64::total_cmp);
    samples[samples.len() / 2]
}
