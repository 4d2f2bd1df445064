//! The whole product as an engine: programs are verified, and lowered with what was proven about them.
//!
//! A program that the verifier rejects is not run: the engine does not take it.

use std::time::Duration;

use bpf2sys_verifier::{Options, VerifiedModule, Verifier, VerifyError, verify};

use crate::embed::{embed, program_name};
use crate::{Case, Engine, ImageEngine, Outcome, provider};

/// Programs that are verified together.
const BATCH: usize = 10;

/// Time for a batch. The first program that is not done by then is left out, and the others get as much again.
const TIME_LIMIT: Duration = Duration::from_secs(2);

/// The product with its verifier.
#[derive(Clone, Debug)]
pub struct VerifiedEngine {
    name: String,
    image: ImageEngine,
    verifier: Verifier,
}

impl VerifiedEngine {
    /// An engine that executes as `image` does.
    pub fn new(name: impl Into<String>, image: ImageEngine) -> VerifiedEngine {
        VerifiedEngine {
            name: name.into(),
            image,
            verifier: Verifier::default(),
        }
    }

    /// The same with another engine that verifies.
    #[must_use]
    pub fn verified_by(self, verifier: Verifier) -> VerifiedEngine {
        VerifiedEngine { verifier, ..self }
    }

    fn run_batch(&self, cases: &[Case]) -> Vec<Result<Outcome, String>> {
        let mut outcomes: Vec<Option<Result<Outcome, String>>> = vec![None; cases.len()];
        loop {
            let left: Vec<usize> = (0..cases.len()).filter(|i| outcomes[*i].is_none()).collect();
            let accepted: Vec<Case> = left.iter().map(|i| cases[*i].clone()).collect();
            if accepted.is_empty() {
                break;
            }
            let found = match self.verify(&accepted) {
                Ok(verified) => match self.image.execute(&verified, &accepted) {
                    Ok(found) => found.into_iter().map(Ok).collect(),
                    // A batch cannot say which of its programs it was; of one program it is known.
                    Err(error) if accepted.len() == 1 => vec![Err(format!("{BROKEN}{error}"))],
                    Err(_) => {
                        let (one, others) = accepted.split_at(accepted.len() / 2);
                        [one, others]
                            .into_iter()
                            .flat_map(|part| self.run_batch(part))
                            .collect()
                    }
                },
                Err(VerifyError::Rejected(rejections)) => {
                    for rejection in rejections {
                        let position = (0..accepted.len()).find(|i| program_name(*i) == rejection.program);
                        if let Some(position) = position {
                            outcomes[left[position]] = Some(Err(format!("rejected: {}", rejection.reason)));
                        }
                    }
                    continue;
                }
                Err(VerifyError::TimeLimit { program, .. }) => {
                    let position = (0..accepted.len()).find(|i| program_name(*i) == program);
                    if let Some(position) = position {
                        outcomes[left[position]] = Some(Err("not verified in time".to_owned()));
                    }
                    continue;
                }
                Err(error) => vec![Err(format!("{BROKEN}{error}")); accepted.len()],
            };
            for (position, outcome) in left.into_iter().zip(found) {
                outcomes[position] = Some(outcome);
            }
        }
        outcomes.into_iter().flatten().collect()
    }

    fn verify(&self, cases: &[Case]) -> Result<VerifiedModule, VerifyError> {
        let module = embed(cases, self.image.placement());
        let options = Options {
            verifier: self.verifier,
            time_limit: TIME_LIMIT,
            explanation_steps: 0,
            ..Options::default()
        };
        verify(module, provider::platform(self.image.placement()), &options)
    }
}

/// What errors begin with that are no verdicts.
const BROKEN: &str = "broken: ";

impl Engine for VerifiedEngine {
    fn name(&self) -> &str {
        &self.name
    }

    fn refused(&self, error: &str) -> bool {
        !error.starts_with(BROKEN)
    }

    fn run(&mut self, cases: &[Case]) -> Vec<Result<Outcome, String>> {
        cases.chunks(BATCH).flat_map(|batch| self.run_batch(batch)).collect()
    }
}
