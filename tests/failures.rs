//! Failures around modules that the tool made: the driver's answers, what is left, and a second load.

use std::sync::OnceLock;

use bpf2sys_codegen::Skeleton;
use bpf2sys_pe_emit::{Machine, link};
use bpf2sys_simulator::RunRequest;
use libtest_mimic::{Failed, Trial};

use crate::forms::{MACHINES, lowered, machine_name, needs_to_run};
use crate::simulator_trials::shared::failures::{Parts, fail_at, points};
use crate::support::test_with;

/// Examples with what can fail in them.
const MODULES: [(&str, Parts); 2] = [
    (
        "tail_dispatch",
        Parts {
            maps: 5,
            pins: 0,
            programs: 4,
            helper: Some(5),
            hash: true,
            btf: false,
        },
    ),
    (
        "connect_redirect",
        Parts {
            maps: 4,
            pins: 0,
            programs: 2,
            helper: Some(1),
            hash: true,
            btf: false,
        },
    ),
];

pub fn trials() -> Vec<Trial> {
    let mut trials = Vec::new();
    for (example, parts) in &MODULES {
        for machine in MACHINES {
            for point in points(parts) {
                let name = point.what.replace([' ', ':'], "_").replace("__", "_");
                trials.push(test_with(
                    &format!("failures::{example}::{}::{name}", machine_name(machine)),
                    needs_to_run(machine),
                    move || {
                        let request = RunRequest {
                            image: image(example, machine)?.to_vec(),
                            ..RunRequest::default()
                        };
                        Ok(fail_at(&request, parts, &point).map(drop)?)
                    },
                ));
            }
        }
    }
    trials
}

/// An example's driver, made once.
fn image(example: &str, machine: Machine) -> Result<&'static [u8], Failed> {
    static IMAGES: [OnceLock<Result<Vec<u8>, String>>; 4] = [const { OnceLock::new() }; 4];
    let module = MODULES.iter().position(|m| m.0 == example).unwrap_or(0);
    let image = IMAGES[2 * module + usize::from(machine == Machine::Arm64)].get_or_init(|| {
        let object = lowered(example, machine, Skeleton::Driver).map_err(|e| format!("{e:?}"))?;
        Ok(link(&object).map_err(|e| e.to_string())?.bytes().to_vec())
    });
    image.as_deref().map_err(|e| e.clone().into())
}
