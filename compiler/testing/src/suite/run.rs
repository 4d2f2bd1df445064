//! Running a test, and what came of it.

use std::borrow::Cow;
use std::ops::{ControlFlow, Range};

use bpf2sys_simulator::{
    Input, InvocationResult, MapContents, Mishap, Progress, RunReport, RunRequest, SimulatorError, Trace, TraceReport,
    run_each,
};

use super::driver::Driver;
use super::file::{Expect, Never, Step, Suite, Test};
use super::golden::{Golden, came_out};
use super::inputs::inputs;
use super::judge::{Calls, Run, Scope, holds, judge, with_presets};
use super::parse::machine_on;
use crate::conditions::{FAILURE_FORM, answer, mishap, provider};
use crate::values::maps_from_json;

/// What came of a test.
#[derive(Clone, Debug, PartialEq)]
pub struct Verdict {
    /// Whether it passed.
    pub outcome: Outcome,
    /// Runs of programs that it took.
    pub runs: u64,
    /// What came out, if the test has a file for that.
    pub golden: Option<Golden>,
    /// What was executed, if that was to be counted and the test came to an end.
    pub trace: Option<TraceReport>,
}

/// How tests are run.
#[derive(Clone, Copy, Debug, Default)]
pub struct How {
    /// Whether golden files are to be rewritten: what is different in them is no failure then.
    pub is_blessed: bool,
    /// Whether executed instructions are counted.
    pub trace: Trace,
}

/// Whether a test passed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Everything is as expected.
    Passed,
    /// Something is otherwise: a line for each.
    Failed(Vec<String>),
    /// The test can't be done as it is written.
    Error(String),
    /// It was not run, for this reason.
    Skipped(String),
}

/// What a run of the driver left.
pub(super) struct Came {
    pub results: Vec<InvocationResult>,
    pub before: Vec<MapContents>,
    pub ended: Result<RunReport, SimulatorError>,
}

/// Runs a test. What is different in its golden file is a failure, unless that is to be rewritten.
pub fn run(driver: &Driver, suite: &Suite, test: &Test, how: How) -> Verdict {
    let mut verdict = Verdict {
        outcome: Outcome::Passed,
        runs: 0,
        golden: None,
        trace: None,
    };
    if let Some(why) = &test.ignore {
        verdict.outcome = Outcome::Skipped(why.clone());
        return verdict;
    }
    verdict.outcome = match try_run(driver, suite, test, how.trace, &mut verdict) {
        Err(message) => Outcome::Error(message),
        Ok(mut lines) => {
            if let Some(golden) = verdict.golden.as_ref().filter(|_| !how.is_blessed) {
                match golden.compare(&test.name) {
                    Ok(others) => lines.extend(others),
                    Err(message) => {
                        return Verdict {
                            outcome: Outcome::Error(message),
                            ..verdict
                        };
                    }
                }
            }
            if lines.is_empty() {
                Outcome::Passed
            } else {
                Outcome::Failed(lines)
            }
        }
    };
    verdict
}

fn try_run(
    driver: &Driver,
    suite: &Suite,
    test: &Test,
    trace: Trace,
    verdict: &mut Verdict,
) -> Result<Vec<String>, String> {
    let prepared = Prepared::new(driver, suite, test)?;
    let request = RunRequest {
        trace,
        ..prepared.request.clone()
    };
    let mut came = perform(&request, &prepared.inputs);
    // They are no part of what a test expects.
    for result in &mut came.results {
        result.instructions = None;
    }
    if let Ok(report) = &mut came.ended {
        verdict.trace = report.trace.take();
    }
    verdict.runs = came.results.len() as u64;
    let mut lines = prepared.judge(driver, suite, test, &came)?;
    if let (Some(file), Ok(report)) = (&test.golden, &came.ended) {
        verdict.golden = Some(Golden {
            path: driver.path(file),
            came_out: came_out(driver, &came, report),
        });
    }
    if let Some(object) = &driver.parts.interpret {
        let request = RunRequest {
            interpret: Some(object.clone()),
            ..prepared.request.clone()
        };
        lines.extend(differs(driver, &came, &perform(&request, &prepared.inputs)));
    }
    Ok(lines)
}

/// Runs programs, up to an error if there is one.
pub(super) fn perform(request: &RunRequest, inputs: &[Input]) -> Came {
    let (mut results, mut before) = (Vec::new(), Vec::new());
    let ended = run_each(request, inputs.iter().cloned(), |progress| {
        match progress {
            Progress::Loaded(maps) => before = maps,
            Progress::Done(result) => results.push(*result),
        }
        ControlFlow::Continue(())
    });
    Came { results, before, ended }
}

/// What the interpreter gives otherwise.
fn differs(driver: &Driver, native: &Came, interpreted: &Came) -> Vec<String> {
    let differ = |what: String| vec![format!("the interpreter and the driver differ: {what}")];
    for (index, (a, b)) in native.results.iter().zip(&interpreted.results).enumerate() {
        if a != b {
            let (a, b) = (super::judge::given(a), super::judge::given(b));
            return differ(format!("run {}: {b} and {a}, or what they left", index + 1));
        }
    }
    match (&native.ended, &interpreted.ended) {
        (Err(_), Err(_)) => Vec::new(),
        (Ok(_), Err(error)) => differ(format!("by the interpreter, {}", driver.told(error))),
        (Err(error), Ok(_)) => differ(format!("by the driver, {}", driver.told(error))),
        (Ok(a), Ok(b)) if a.maps != b.maps => {
            let changes = crate::values::difference(&b.maps, &a.maps, driver.types());
            differ(changes.first().map_or("the maps".to_owned(), ToString::to_string))
        }
        (Ok(_), Ok(_)) => Vec::new(),
    }
}

/// A test that can be run.
pub(super) struct Prepared {
    pub request: RunRequest,
    pub inputs: Vec<Input>,
    /// The runs of each step.
    steps: Vec<(Step, Range<usize>)>,
}

impl Prepared {
    pub fn new(driver: &Driver, suite: &Suite, test: &Test) -> Result<Prepared, String> {
        let mut request = driver.request(suite)?;
        let maps = maps_from_json(&test.maps, &driver.shapes, driver.types());
        request.presets.extend(maps.map_err(|e| format!("`maps`: {e}"))?);
        request.machine = machine_on(&request.machine, &test.machine)?;
        request.tell.records = true;
        request.tell.maps_before = true;
        for text in &test.answers {
            let answer = answer(text, &driver.parts.platform).map_err(|e| format!("`answers`: {text:?}: {e}"))?;
            request.answers.push(answer);
        }
        for text in &test.fail {
            let mishap = mishap(text).ok_or_else(|| format!("`fail`: {text:?}: {FAILURE_FORM}"))?;
            request.mishaps.push(mishap);
        }
        let full = test.full.iter().cloned().map(|map| Mishap::FullMap { map });
        request.mishaps.extend(full);
        request.absent = test.absent.iter().map(|name| provider(name)).collect();
        let own = Step {
            packet: test.packet.clone(),
            context: test.context.clone(),
            repeat: test.repeat,
            ..Step::default()
        };
        let mut steps = if test.steps.is_empty() {
            vec![own]
        } else {
            test.steps.clone()
        };
        // Between steps others may set entries.
        for step in steps.iter_mut().filter(|_| !test.steps.is_empty()) {
            step.never.changes.extend(test.never.changes.clone());
        }
        let several = steps.len() > 1;
        request.tell.maps = suite
            .properties
            .iter()
            .any(|p| needs_maps(&p.get_ref().expect, &p.get_ref().never))
            || several && steps.iter().any(|step| needs_maps(&step.expect, &step.never));
        let mut prepared = Prepared {
            request,
            inputs: Vec::new(),
            steps: Vec::new(),
        };
        let mut start = 0;
        for step in steps {
            let is_run = step.packet.is_some() || step.context.is_some();
            let mut own = Vec::new();
            if is_run {
                let name = step
                    .program
                    .as_ref()
                    .or(test.program.as_ref())
                    .or(suite.program.as_ref());
                let program = &driver.program(name.map(String::as_str))?.name;
                own = inputs(driver, &step, program, prepared.request.machine.boot_time)?;
            }
            let runs: usize = own.iter().map(|input| input.repeat.max(1) as usize).sum();
            prepared.inputs.extend(own);
            prepared.steps.push((step, start..start + runs));
            start += runs;
        }
        Ok(prepared)
    }

    fn judge(&self, driver: &Driver, suite: &Suite, test: &Test, came: &Came) -> Result<Vec<String>, String> {
        let repeated = self
            .inputs
            .iter()
            .flat_map(|input| std::iter::repeat_n(input, input.repeat.max(1) as usize));
        let runs: Vec<Run<'_>> = repeated
            .zip(&came.results)
            .map(|(input, result)| Run { input, result })
            .collect();
        let mut lines = Vec::new();
        let report = match (&test.expect.error, &came.ended) {
            (None, Err(error)) => {
                lines.push(format!(
                    "{}{}",
                    ended_at(runs.len(), self.inputs.len()),
                    driver.told(error)
                ));
                None
            }
            (Some(wanted), Err(error)) => {
                let told = driver.told(error);
                if !told.contains(wanted.as_str()) {
                    lines.push(format!("error: expected {wanted}, found {told}"));
                }
                None
            }
            (Some(wanted), Ok(_)) => {
                lines.push(format!("error: expected {wanted}, found none"));
                None
            }
            (None, Ok(report)) => Some(report),
        };
        let maps_after = |runs: usize| match (runs, report) {
            (0, _) => Some(came.before.as_slice()),
            (runs, Some(report)) if runs == came.results.len() => Some(report.maps.as_slice()),
            (runs, _) => came.results.get(runs - 1)?.maps.as_deref(),
        };
        let before = |start: usize| {
            let maps = maps_after(start)?;
            let input = runs.get(start).map(|run| run.input);
            // Not between runs of the same input.
            let is_first =
                start == 0 || runs.get(start - 1).map(|run| &raw const *run.input) != input.map(|i| &raw const *i);
            Some(match input.filter(|input| is_first && !input.presets.is_empty()) {
                Some(input) => Cow::Owned(with_presets(maps, &input.presets)),
                None => Cow::Borrowed(maps),
            })
        };
        for index in 0..runs.len() {
            let before = before(index);
            let scope = part(&runs, index..index + 1, before.as_deref(), maps_after(index + 1));
            for property in &suite.properties {
                lines.extend(holds(driver, property.get_ref(), &scope)?);
            }
        }
        // What a run that ended early did not give is not told besides.
        if report.is_none() {
            return Ok(lines);
        }
        if !test.steps.is_empty() {
            for (number, (step, range)) in self.steps.iter().enumerate() {
                let place = match &step.name {
                    Some(name) => format!("step {} ({name}): ", number + 1),
                    None => format!("step {}: ", number + 1),
                };
                let before = before(range.start);
                let scope = part(&runs, range.clone(), before.as_deref(), maps_after(range.end));
                let others = judge(driver, &step.expect, &step.never, &scope);
                let others = others.map_err(|message| format!("{place}{message}"))?;
                lines.extend(others.into_iter().map(|line| place.clone() + &line));
            }
        }
        let whole = Scope {
            calls: report.map(Calls::of),
            ..part(&runs, 0..runs.len(), Some(&came.before), maps_after(runs.len()))
        };
        let mut never = test.never.clone();
        if !test.steps.is_empty() {
            never.changes.clear();
        }
        lines.extend(judge(driver, &test.expect, &never, &whole)?);
        Ok(lines)
    }
}

/// Some of the runs, by themselves.
fn part<'a>(
    runs: &'a [Run<'a>],
    range: Range<usize>,
    before: Option<&'a [MapContents]>,
    after: Option<&'a [MapContents]>,
) -> Scope<'a> {
    Scope {
        first: range.start + 1,
        runs: runs.get(range).unwrap_or_default(),
        before,
        after,
        calls: None,
    }
}

fn ended_at(runs: usize, inputs: usize) -> String {
    if inputs > 1 {
        format!("after {runs} runs: ")
    } else {
        String::new()
    }
}

/// Whether maps must be told after each run.
pub(super) fn needs_maps(expect: &Expect, never: &Never) -> bool {
    expect.maps.is_some() || !expect.only.is_empty() || expect.absent.is_some() || !never.changes.is_empty()
}
