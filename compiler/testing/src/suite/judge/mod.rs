//! Whether runs gave what was expected.
//!
//! Given: runs of a test or a step, or one run for a property; maps before and after. Computed: a line for everything that is otherwise.
//! An error means that the expectation itself makes no sense for this driver.

mod expect;
mod never;
mod preset;
mod property;

use bpf2sys_simulator::{BtfCalls, HelperCalls, Input, InvocationResult, MapContents, RunReport};

use super::driver::Driver;
use super::file::{Expect, Never, Outcome};

pub(super) use preset::with_presets;
pub(super) use property::holds;

/// One run: what went in, and what came out.
#[derive(Clone, Copy)]
pub(super) struct Run<'a> {
    pub input: &'a Input,
    pub result: &'a InvocationResult,
}

/// Runs that are judged together.
#[derive(Clone, Copy)]
pub(super) struct Scope<'a> {
    pub runs: &'a [Run<'a>],
    /// The number of the first of them, from 1.
    pub first: usize,
    /// Maps before the first and after the last, where they are told.
    pub before: Option<&'a [MapContents]>,
    pub after: Option<&'a [MapContents]>,
    /// Calls over all of them, if they are all that there were.
    pub calls: Option<Calls<'a>>,
}

/// How often functions were called.
#[derive(Clone, Copy)]
pub(super) struct Calls<'a> {
    helpers: &'a [HelperCalls],
    btf: &'a [BtfCalls],
}

impl<'a> Calls<'a> {
    pub fn of(report: &'a RunReport) -> Calls<'a> {
        Calls {
            helpers: &report.helper_calls,
            btf: &report.btf_calls,
        }
    }

    fn count(&self, name: &str) -> u64 {
        let helpers = self
            .helpers
            .iter()
            .filter(|calls| calls.helper == name)
            .map(|calls| calls.calls);
        let btf = self
            .btf
            .iter()
            .filter(|calls| calls.function == name)
            .map(|calls| calls.calls);
        helpers.chain(btf).sum()
    }
}

/// Everything that is otherwise in runs.
pub(super) fn judge(driver: &Driver, expect: &Expect, never: &Never, scope: &Scope<'_>) -> Result<Vec<String>, String> {
    let mut lines = expect::expect(driver, expect, scope)?;
    lines.extend(never::never(driver, never, scope)?);
    Ok(lines)
}

/// Where a run is, for messages: nothing if there is only one.
fn place(scope: &Scope<'_>, index: usize) -> String {
    if scope.runs.len() == 1 && scope.first == 1 {
        String::new()
    } else {
        format!("run {}: ", scope.first + index)
    }
}

/// The text of a result that no run has: it was not run.
const NOT_RUN: &str = "not run";

/// Whether a run gave this.
fn gave(driver: &Driver, wanted: &Outcome, result: &InvocationResult) -> Result<bool, String> {
    let name = match wanted {
        Outcome::Number(number) => {
            if *number < i64::from(i32::MIN) || *number > i64::from(u32::MAX) {
                return Err(format!("{number} is no result: results have 32 bits"));
            }
            return Ok(result.not_run.is_none() && *number as u32 == result.result);
        }
        Outcome::Name(name) => name,
    };
    if name == NOT_RUN {
        return Ok(result.not_run.is_some());
    }
    let of = driver.type_of(&result.program);
    let known = of.map_or(&[][..], |of| &of.return_values);
    match known.iter().find(|known| known.name == *name) {
        Some(known) => Ok(result.not_run.is_none() && known.value as u32 == result.result),
        None if known.is_empty() => Err(format!("{name}: results of this program type have no names")),
        None => {
            let names: Vec<&str> = known.iter().map(|known| known.name.as_str()).collect();
            Err(format!("there is no result {name}; there are {}", names.join(", ")))
        }
    }
}

/// What was wanted, in words.
fn wanted(outcome: &Outcome) -> String {
    match outcome {
        Outcome::Number(number) => number.to_string(),
        Outcome::Name(name) => name.clone(),
    }
}

/// What a run gave, in words.
pub(super) fn given(result: &InvocationResult) -> String {
    match (&result.not_run, &result.result_name) {
        (Some(why), _) => format!("not run ({why})"),
        (None, Some(name)) => name.clone(),
        (None, None) => result.result.to_string(),
    }
}
