//! The programs that the benchmark `speed` measures: every engine that there is does the same with them.

#[allow(dead_code)] // what is only there to be timed
#[path = "benches/speed/lab/mod.rs"]
mod lab;

use bpf2sys_platform::Platform;
use libtest_mimic::{Failed, Trial};

use crate::support::{Need, root, test_with};
use lab::{Bench, WORKLOADS, Workload, name};

pub fn trials() -> Vec<Trial> {
    let needs = [Need::Program("clang-19")];
    let trial =
        |workload: &'static Workload| test_with(&format!("speed::{}", workload.name), &needs, move || agree(workload));
    WORKLOADS.iter().map(trial).collect()
}

fn agree(workload: &'static Workload) -> Result<(), Failed> {
    let mut bench = Bench::new(workload, &root(), &Platform::builtin())?;
    bench.compare()?;
    for index in 0..bench.engines.len() {
        let steps = bench.count(index)?;
        let engine = &bench.engines[index];
        if steps.instructions == 0 || steps.stack_bytes < 8 || engine.code_bytes == 0 {
            return Err(format!("{}: {steps:?}, {} bytes", engine.name, engine.code_bytes).into());
        }
        if engine.name == name::OURS {
            let again = bench.count(index)?;
            if again != steps {
                return Err(format!("{steps:?}, and then {again:?}").into());
            }
        }
    }
    if let Some(arm) = bench.arm.take() {
        for index in 0..arm.engines.len() {
            let steps = bench.count_arm64(&arm, index)?;
            if steps.instructions == 0 || arm.engines[index].code_bytes == 0 {
                return Err(format!("{} on ARM64: {steps:?}", arm.engines[index].name).into());
            }
        }
    }
    // What is not installed, or cannot run the program, may be missing; what the table is about may not.
    let present = |name: &str| bench.engines.iter().any(|engine| engine.name == name);
    match [name::OURS, name::BPF2C, name::CLANG]
        .iter()
        .find(|name| !present(name))
    {
        Some(name) => Err(format!("without {name}").into()),
        None => Ok(()),
    }
}
