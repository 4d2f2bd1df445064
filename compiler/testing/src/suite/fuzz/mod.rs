//! Property runs: many inputs, changed and random, each of which must end in time, stay inside its memory, and have the properties of the
//! test file.
//!
//! Given: a driver, a test file and a seed. Computed: what the runs gave; and where one fails, the fewest and smallest inputs that do, as a
//! test. Equal seeds give equal inputs and equal results.
//!
//! The runs go in rounds, each with a load of the driver of its own and the maps of one of the tests. Within a round maps persist. Inputs
//! that give something new become ones that others are made from.

mod context;
mod generate;
mod headers;
mod random;
mod shrink;
mod snippet;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;
use std::sync::Arc;

use bpf2sys_simulator::{HexBytes, Input, InvocationResult, Progress, RunRequest, run_each};
use toml::Spanned;

use self::generate::{FuzzInput, Generator};
use self::random::Random;
use self::shrink::{Shrunk, shrink};
use super::driver::Driver;
use super::file::{Suite, Test};
use super::judge::{Run, Scope, given, holds};
use super::run::{Prepared, needs_maps};

/// Inputs of a round.
const ROUND: u64 = 2048;
/// Inputs that others are made from, at most.
const MOST_SEEDS: usize = 512;
/// How often inputs are tried to make them smaller.
const TRIALS: u32 = 600;

/// What is to be run.
#[derive(Clone, Copy, Debug)]
pub struct FuzzOptions {
    /// How many inputs.
    pub inputs: u64,
    /// What they follow from.
    pub seed: u64,
}

/// What came of it.
#[derive(Clone, Debug, Default)]
pub struct Fuzzed {
    /// Inputs that programs ran on.
    pub inputs: u64,
    /// How often there was each result.
    pub results: BTreeMap<String, u64>,
    /// What failed, if anything did. Then no further inputs are tried.
    pub found: Option<Found>,
}

/// Inputs that make something fail.
#[derive(Clone, Debug)]
pub struct Found {
    /// The number of the input that failed first, from 1.
    pub number: u64,
    /// What is otherwise.
    pub lines: Vec<String>,
    /// How many inputs it takes.
    pub inputs: usize,
    /// Whether it happens again with them.
    pub again: bool,
    /// A test with them.
    pub snippet: String,
}

/// The programs that tests run, in the order of the driver; if there are no tests, that of the file or all.
pub fn programs(driver: &Driver, suite: &Suite) -> Vec<String> {
    let tests = suite.tests.iter().map(Spanned::get_ref);
    let named: BTreeSet<&String> = tests
        .flat_map(|test| test.steps.iter().map(|step| &step.program).chain([&test.program]))
        .chain([&suite.program])
        .flatten()
        .collect();
    let all = driver.programs.iter().map(|program| program.name.clone());
    all.filter(|name| named.is_empty() || named.contains(name)).collect()
}

/// What a round starts from.
struct Around<'a> {
    request: RunRequest,
    /// The test that has it, if one does.
    test: Option<&'a Test>,
}

/// Runs a program on many inputs. `progress` is told of every round how many inputs there were.
///
/// # Errors
/// A test or a property can't be used as it is written.
pub fn fuzz(
    driver: &Driver,
    suite: &Suite,
    program: &str,
    options: FuzzOptions,
    progress: &dyn Fn(u64),
) -> Result<Fuzzed, String> {
    let (around, mut seeds) = starts(driver, suite, program)?;
    let context = driver.type_of(program).map(|of| &of.context);
    let mut fuzzed = Fuzzed::default();
    let rounds = options
        .inputs
        .div_ceil(ROUND)
        .max((around.len() as u64).min(options.inputs));
    let mut seen = BTreeSet::new();
    for round in 0..rounds {
        let own = &around[round as usize % around.len()];
        let count = options.inputs / rounds + u64::from(round < options.inputs % rounds);
        let words = own.request.presets.iter().map(|preset| preset.key.0.clone());
        let first = Generator::new(
            Random::new(options.seed, round),
            context,
            Arc::new(seeds.clone()),
            Arc::new(words.filter(|word| !word.is_empty()).collect()),
        );
        let fuzzing = Fuzzing {
            driver,
            suite,
            program,
            request: &own.request,
        };
        // The same inputs twice: for the driver, and for what is judged.
        let (mut given_to, mut judged) = (first.clone(), first.clone());
        let came = fuzzing.run((0..count).map(move |_| given_to.next()), &mut |result| {
            let input = judged.next();
            *fuzzed.results.entry(given(result)).or_default() += 1;
            if seeds.len() < MOST_SEEDS && seen.insert(signature(&input, result)) {
                seeds.push(input.clone());
            }
            input
        })?;
        fuzzed.inputs += came.passed;
        progress(came.passed);
        if let Some(failure) = came.failure {
            let mut again = first;
            let inputs: Vec<FuzzInput> = (0..=came.passed).map(|_| again.next()).collect();
            fuzzed.found = Some(fuzzing.found(inputs, failure, (fuzzed.inputs + 1, options.seed), own.test));
            break;
        }
    }
    Ok(fuzzed)
}

/// What rounds start from: the machine and maps of each test, and its inputs.
fn starts<'a>(driver: &Driver, suite: &'a Suite, program: &str) -> Result<(Vec<Around<'a>>, Vec<FuzzInput>), String> {
    let needs_maps = suite
        .properties
        .iter()
        .any(|property| needs_maps(&property.get_ref().expect, &property.get_ref().never));
    let (mut around, mut seeds, mut known) = (Vec::new(), Vec::new(), BTreeSet::new());
    let mut add = |mut request: RunRequest, test: Option<&'a Test>| {
        request.tell.maps = needs_maps;
        request.tell.records = true;
        request.tell.maps_before = true;
        if known.insert(serde_json::to_string(&request).unwrap_or_default()) {
            around.push(Around { request, test });
        }
    };
    for test in suite.tests.iter().map(Spanned::get_ref) {
        if test.ignore.is_some() || test.expect.error.is_some() {
            continue;
        }
        let prepared =
            Prepared::new(driver, suite, test).map_err(|message| format!("test {:?}: {message}", test.name))?;
        let mut inputs = prepared
            .inputs
            .into_iter()
            .filter(|input| input.program == program)
            .peekable();
        if inputs.peek().is_some() {
            add(prepared.request, Some(test));
        }
        seeds.extend(inputs.map(|input| FuzzInput {
            packet: input.packet.0,
            context: input.context.0,
        }));
    }
    add(driver.request(suite)?, None);
    seeds.sort();
    seeds.dedup();
    Ok((around, seeds))
}

/// What tells runs apart.
fn signature(input: &FuzzInput, result: &InvocationResult) -> String {
    let changes = input.packet != result.packet.0;
    let records: Vec<(&str, usize)> = result
        .records
        .iter()
        .map(|r| (r.map.as_str(), r.record.data.0.len()))
        .collect();
    let (tail_calls, printed) = (&result.tail_calls, result.printed.len());
    let redirect = result.redirect_context.is_some();
    format!(
        "{} {tail_calls:?} {records:?} {printed} {changes} {redirect}",
        given(result)
    )
}

/// A program, and what is around it.
struct Fuzzing<'a> {
    driver: &'a Driver,
    suite: &'a Suite,
    program: &'a str,
    request: &'a RunRequest,
}

/// What came of some inputs.
struct CameOf {
    /// How many passed.
    passed: u64,
    /// What the next one did.
    failure: Option<Failure>,
}

/// What an input did.
struct Failure {
    /// What failures of one kind have in common.
    kind: String,
    lines: Vec<String>,
}

impl Fuzzing<'_> {
    /// Runs inputs, up to the first that fails. `each` gives the input of the result that it is told of.
    fn run(
        &self,
        inputs: impl Iterator<Item = FuzzInput> + Send,
        each: &mut dyn FnMut(&InvocationResult) -> FuzzInput,
    ) -> Result<CameOf, String> {
        let (mut passed, mut failure, mut wrong, mut before) = (0, None, None, Vec::new());
        let inputs = inputs.map(|input| self.input(input));
        let ended = run_each(self.request, inputs, |came| {
            let result = match came {
                Progress::Loaded(maps) => {
                    before = maps;
                    return ControlFlow::Continue(());
                }
                Progress::Done(result) => result,
            };
            let input = self.input(each(&result));
            let run = [Run {
                input: &input,
                result: &result,
            }];
            match self.judge(&run, &before) {
                Ok(None) => passed += 1,
                Ok(found) => {
                    failure = found;
                    return ControlFlow::Break(());
                }
                Err(message) => {
                    wrong = Some(message);
                    return ControlFlow::Break(());
                }
            }
            if let Some(maps) = result.maps {
                before = maps;
            }
            ControlFlow::Continue(())
        });
        if let Some(message) = wrong {
            return Err(message);
        }
        if let (Err(error), None) = (ended, &failure) {
            failure = Some(Failure {
                kind: (self.driver.parts.code)(&error).to_owned(),
                lines: vec![self.driver.told(&error)],
            });
        }
        Ok(CameOf { passed, failure })
    }

    fn judge(&self, run: &[Run<'_>], before: &[bpf2sys_simulator::MapContents]) -> Result<Option<Failure>, String> {
        let scope = Scope {
            runs: run,
            first: 1,
            before: Some(before),
            after: run.first().and_then(|run| run.result.maps.as_deref()),
            calls: None,
        };
        for property in &self.suite.properties {
            let lines = holds(self.driver, property.get_ref(), &scope)?;
            if !lines.is_empty() {
                let kind = property.get_ref().name.clone();
                return Ok(Some(Failure { kind, lines }));
            }
        }
        Ok(None)
    }

    fn input(&self, input: FuzzInput) -> Input {
        Input {
            program: self.program.to_owned(),
            packet: HexBytes(input.packet),
            context: HexBytes(input.context),
            ..Input::default()
        }
    }

    /// Makes inputs, the last of which fails, small, and tells of them.
    fn found(
        &self,
        inputs: Vec<FuzzInput>,
        failure: Failure,
        (number, seed): (u64, u64),
        test: Option<&Test>,
    ) -> Found {
        let mut lines = failure.lines;
        let mut fails = |inputs: &[FuzzInput]| {
            let mut told = inputs.iter();
            let came = self.run(inputs.iter().cloned(), &mut |_| {
                told.next().cloned().unwrap_or_default()
            });
            let same = came
                .ok()
                .and_then(|came| came.failure)
                .filter(|other| other.kind == failure.kind);
            same.map(|other| lines = other.lines).is_some()
        };
        let Shrunk { inputs, again, .. } = shrink(inputs, TRIALS, &mut fails);
        let context = self.driver.type_of(self.program).map(|of| &of.context);
        let name = format!("found by --fuzz with seed {seed}: input {number} of {}", self.program);
        let shown = if again {
            &inputs[..]
        } else {
            &inputs[inputs.len().saturating_sub(1)..]
        };
        Found {
            number,
            lines,
            inputs: inputs.len(),
            again,
            snippet: snippet::snippet(&name, self.program, shown, context, test),
        }
    }
}
