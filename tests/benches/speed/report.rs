//! The figures of a run.

use serde::{Deserialize, Serialize};

/// All of them.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Report {
    /// How often each engine was timed.
    pub rounds: usize,
    /// By workload.
    pub rows: Vec<Row>,
}

/// Those of one workload.
#[derive(Debug, Serialize, Deserialize)]
pub struct Row {
    /// Its name.
    pub name: String,
    /// eBPF instructions.
    pub bytecode: usize,
    /// Microseconds of lowering to x86-64.
    pub lowering_us: f64,
    /// Runs that the counts of instructions are for.
    pub runs: usize,
    /// x86-64, by engine.
    pub engines: Vec<Figures>,
    /// ARM64, by engine.
    pub arm64: Vec<Figures>,
}

/// Those of one engine.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Figures {
    /// Its name.
    pub name: String,
    /// Nanoseconds of one run.
    pub ns: Option<f64>,
    /// Instructions executed in all runs.
    pub instructions: Option<u64>,
    /// Bytes of code.
    pub code_bytes: Option<usize>,
    /// Bytes of stack.
    pub stack_bytes: Option<u64>,
}

impl Row {
    /// The figures of an engine on x86-64.
    pub fn engine(&self, name: &str) -> Option<&Figures> {
        self.engines.iter().find(|figures| figures.name == name)
    }

    /// The figures of an engine on ARM64.
    pub fn arm64(&self, name: &str) -> Option<&Figures> {
        self.arm64.iter().find(|figures| figures.name == name)
    }

    /// Instructions executed in one run.
    pub fn per_run(&self, figures: &Figures) -> Option<f64> {
        Some(figures.instructions? as f64 / self.runs as f64)
    }
}

/// The geometric mean.
pub fn mean(ratios: impl Iterator<Item = f64>) -> Option<f64> {
    let logarithms: Vec<f64> = ratios.map(f64::ln).collect();
    let count = logarithms.len();
    (count > 0).then(|| (logarithms.iter().sum::<f64>() / count as f64).exp())
}
