//! Random programs do on every machine what the reference interpreter says (`bpf2sys-differential` runs more of them).

use bpf2sys_isa_tests::differential::{Judged, Report, Request, run};
use libtest_mimic::{Failed, Trial};

use crate::support::{Need, test, test_with};

/// The environment variable with the number of programs.
const PROGRAMS: &str = "BPF2SYS_DIFFERENTIAL_PROGRAMS";

/// How many programs there are where it is not set: a run takes seconds then, and the whole of 100,000 takes minutes.
const FEW: u64 = 3_000;

pub fn trials() -> Vec<Trial> {
    vec![
        test("differential::x64_does_what_the_interpreter_says", || {
            agree(&[Judged::X64, Judged::VerifiedX64]).map(|_| ())
        }),
        test_with(
            "differential::arm64_does_what_the_interpreter_says",
            &[Need::Emulator],
            || agree(&[Judged::Arm64, Judged::VerifiedArm64]).map(|_| ()),
        ),
        test_with(
            "differential::linux_does_what_the_interpreter_says",
            &[Need::Bpf],
            || {
                let report = agree(&[Judged::Kernel])?;
                let tally = report.engines.get(&Judged::Kernel).cloned().unwrap_or_default();
                let refused: u64 = tally.refused.values().map(|(count, _)| count).sum();
                // Else little would be compared.
                if tally.executed < 50 * refused {
                    return Err(format!(
                        "{refused} programs refused, {} executed: {:?}",
                        tally.executed, tally.refused
                    )
                    .into());
                }
                Ok(())
            },
        ),
    ]
}

/// Runs the fixed sequence of programs.
fn agree(judged: &[Judged]) -> Result<Report, Failed> {
    let count = match std::env::var(PROGRAMS) {
        Ok(number) => number.parse().map_err(|e| format!("{PROGRAMS}={number}: {e}"))?,
        Err(_) => FEW,
    };
    let request = Request {
        seed: 1,
        first: 0,
        count,
        judged: judged.to_vec(),
        threads: std::thread::available_parallelism().map_or(1, std::num::NonZero::get),
    };
    let report = run(&request, &|_| {});
    if report.disagreements.is_empty() {
        return Ok(report);
    }
    let found: Vec<String> = report.disagreements.iter().map(ToString::to_string).collect();
    Err(found.join("\n\n").into())
}
