//! The product as an engine: lowers programs, links a driver, and runs it in the simulator.
//!
//! Given: cases. Computed: their outcomes. Every step is the product's own: the image that runs is one that the loader's
//! checks have passed and whose `DriverEntry` has attached. Only verification is left out, since no verifier would type
//! programs that test single instructions.
//!
//! All cases of a call go into one image. When that fails, its halves are tried, down to the case that is at fault.

use bpf2sys_codegen::{Options, lower};
use bpf2sys_pe_emit::link;
use bpf2sys_simulator::{HexBytes, Input, InvocationResult, RunRequest, run};
use bpf2sys_verifier::VerifiedModule;

use crate::embed::{Placement, RESULTS, embed, program_name};
use crate::{Case, Engine, Outcome, provider, refused};

/// Most programs of one image. With more, the cost of the tables that grow with the square of their number shows.
const MAX_BATCH: usize = 500;

/// Default time limit of one image, in milliseconds.
const DEFAULT_LIMIT_MS: u64 = 10_000;

/// The product.
#[derive(Clone, Debug)]
pub struct ImageEngine {
    name: String,
    options: Options,
    placement: Placement,
    time_limit_ms: u64,
}

impl ImageEngine {
    /// An engine that lowers with these options.
    pub fn new(name: impl Into<String>, options: Options, placement: Placement) -> ImageEngine {
        ImageEngine {
            name: name.into(),
            options,
            placement,
            time_limit_ms: DEFAULT_LIMIT_MS,
        }
    }

    /// The same engine with another limit for the time that the programs of one image take together.
    #[must_use]
    pub fn with_time_limit_ms(self, time_limit_ms: u64) -> ImageEngine {
        ImageEngine { time_limit_ms, ..self }
    }

    fn run_batch(&self, cases: &[Case], outcomes: &mut Vec<Result<Outcome, String>>) {
        match (self.run_image(cases), cases) {
            (_, []) => {}
            (Ok(found), _) => outcomes.extend(found.into_iter().map(Ok)),
            (Err(error), [_]) => outcomes.push(Err(error)),
            (Err(_), _) => {
                let (left, right) = cases.split_at(cases.len() / 2);
                self.run_batch(left, outcomes);
                self.run_batch(right, outcomes);
            }
        }
    }

    fn run_image(&self, cases: &[Case]) -> Result<Vec<Outcome>, String> {
        for case in cases {
            refused::check_groups(&case.module)?;
        }
        let platform = provider::platform();
        let (program_type, attach) = platform
            .program_type_for_section(provider::SECTION)
            .ok_or("the provider has no program type")?;
        let module = embed(cases, self.placement);
        let verified = VerifiedModule::assume_verified_for_instruction_tests(module, program_type, attach.attach_type);
        let lowered = lower(&verified, platform, &self.options).map_err(|e| e.to_string())?;
        let image = link(&lowered.object).map_err(|e| e.to_string())?;
        let request = RunRequest {
            image: image.bytes().to_vec(),
            platform_files: vec![(provider::FILE.0.to_owned(), provider::FILE.1.to_owned())],
            inputs: cases
                .iter()
                .enumerate()
                .map(|(position, case)| Input {
                    program: program_name(position),
                    packet: HexBytes(case.memory.clone()),
                    ..Input::default()
                })
                .collect(),
            time_limit_ms: self.time_limit_ms,
            echo_helpers: vec![provider::UNWIND],
            ..RunRequest::default()
        };
        let report = run(&request).map_err(|e| e.to_string())?;
        let results = report
            .maps
            .iter()
            .find(|map| map.name == RESULTS)
            .and_then(|map| map.entries.first()?.values.first())
            .map(|value| value.0.as_chunks().0)
            .unwrap_or_default();
        if report.results.len() != cases.len() || results.len() != cases.len() {
            return Err("the report does not have one result for each case".to_owned());
        }
        report
            .results
            .into_iter()
            .zip(results)
            .map(|(invocation, stored)| outcome(invocation, u64::from_le_bytes(*stored)))
            .collect()
    }
}

impl Engine for ImageEngine {
    fn name(&self) -> &str {
        &self.name
    }

    fn run(&mut self, cases: &[Case]) -> Vec<Result<Outcome, String>> {
        let mut outcomes = Vec::with_capacity(cases.len());
        for batch in cases.chunks(MAX_BATCH) {
            self.run_batch(batch, &mut outcomes);
        }
        outcomes
    }
}

/// What is stored is 0 as well when the program ended early, in a helper that the program does not return from.
fn outcome(invocation: InvocationResult, stored: u64) -> Result<Outcome, String> {
    if invocation.result != stored as u32 {
        return Err(format!(
            "the program returned {:#x} and stored {stored:#x}",
            invocation.result
        ));
    }
    Ok(Outcome {
        r0: stored,
        memory: invocation.packet.0,
    })
}
