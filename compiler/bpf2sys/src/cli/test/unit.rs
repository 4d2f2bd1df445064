//! The tests that are run: those of test files, for each machine, and property runs.

use bpf2sys_simulator::image::Image;
use bpf2sys_simulator::{ProcessorKind, TraceReport, emulator, is_emulated};
use bpf2sys_testing::suite::fuzz::{self, FuzzOptions, Fuzzed};
use bpf2sys_testing::suite::{self, Arch, Golden, How, Outcome, Verdict};

use super::load::Loaded;

/// A test.
pub(super) struct Unit {
    /// The file.
    pub file: usize,
    pub arch: Arch,
    pub kind: Kind,
    /// With that of its file.
    pub name: String,
    /// Without it.
    pub own_name: String,
}

/// What is run.
pub(super) enum Kind {
    /// A test of the file, by its index.
    Test(usize),
    /// A program on many inputs.
    Fuzz { program: String, options: FuzzOptions },
}

/// What came of a test.
pub(super) struct Came {
    pub outcome: Outcome,
    pub golden: Option<Golden>,
    pub fuzzed: Option<Fuzzed>,
    /// What was executed, if that is counted.
    pub trace: Option<TraceReport>,
    /// Whether why it failed is told of its file already.
    pub is_without_driver: bool,
}

/// The tests of files whose names are wanted, and how many others there are.
pub(super) fn of_tests(files: &[Loaded], wanted: &dyn Fn(&str) -> bool) -> (Vec<Unit>, usize) {
    let mut units = Vec::new();
    for (file, loaded) in files.iter().enumerate() {
        for arch in loaded.machines() {
            for (index, test) in loaded.suite.tests.iter().enumerate() {
                let own_name = test.get_ref().name.clone();
                units.push(unit((file, loaded), arch, own_name, Kind::Test(index)));
            }
        }
    }
    let all = units.len();
    units.retain(|unit| wanted(&unit.name));
    let filtered = all - units.len();
    (units, filtered)
}

/// Adds a property run for each program, behind the tests of its file. Gives how many are not wanted.
pub(super) fn add_fuzz(
    files: &[Loaded],
    units: &mut Vec<Unit>,
    inputs: u64,
    seed: u64,
    wanted: &dyn Fn(&str) -> bool,
) -> usize {
    let mut filtered = 0;
    for (file, loaded) in files.iter().enumerate() {
        for (arch, driver) in &loaded.drivers {
            for program in fuzz::programs(driver, &loaded.suite) {
                let name = format!("fuzz {program} ({inputs} inputs, seed {seed})");
                let options = FuzzOptions { inputs, seed };
                let unit = unit((file, loaded), *arch, name, Kind::Fuzz { program, options });
                if wanted(&unit.name) {
                    units.push(unit);
                } else {
                    filtered += 1;
                }
            }
        }
    }
    units.sort_by_key(|unit| unit.file);
    filtered
}

fn unit((file, loaded): (usize, &Loaded), arch: Arch, own_name: String, kind: Kind) -> Unit {
    let name = match arch {
        Arch::Arm64 => format!("{} (arm64): {own_name}", loaded.name),
        Arch::X64 => format!("{}: {own_name}", loaded.name),
    };
    Unit {
        file,
        arch,
        kind,
        name,
        own_name,
    }
}

impl Unit {
    /// How much of the whole it is.
    pub(super) fn size(&self) -> u64 {
        match &self.kind {
            Kind::Test(_) => 1,
            Kind::Fuzz { options, .. } => options.inputs,
        }
    }

    pub(super) fn perform(&self, file: &Loaded, processor: ProcessorKind, how: How, progress: &dyn Fn(u64)) -> Came {
        let came = |outcome| Came {
            outcome,
            golden: None,
            fuzzed: None,
            is_without_driver: false,
            trace: None,
        };
        let Some(driver) = file.driver(self.arch) else {
            progress(self.size());
            return Came {
                is_without_driver: true,
                ..came(Outcome::Error("its driver can't be made".to_owned()))
            };
        };
        let machine = match self.arch {
            Arch::Arm64 => Image::ARM64,
            Arch::X64 => Image::X64,
        };
        if is_emulated(machine, processor)
            && let Err(why) = emulator()
        {
            progress(self.size());
            return came(Outcome::Skipped(why));
        }
        match &self.kind {
            Kind::Test(index) => {
                let test = file.suite.tests[*index].get_ref();
                let verdict = suite::run(driver, &file.suite, test, how);
                progress(1);
                let Verdict {
                    outcome, golden, trace, ..
                } = verdict;
                Came {
                    golden,
                    trace,
                    ..came(outcome)
                }
            }
            Kind::Fuzz { program, options } => match fuzz::fuzz(driver, &file.suite, program, *options, progress) {
                Err(message) => came(Outcome::Error(message)),
                Ok(fuzzed) => {
                    let outcome = match &fuzzed.found {
                        None => Outcome::Passed,
                        Some(found) => Outcome::Failed(found.lines.clone()),
                    };
                    Came {
                        fuzzed: Some(fuzzed),
                        ..came(outcome)
                    }
                }
            },
        }
    }
}
