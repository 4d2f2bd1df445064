//! From the text of a test file to its tests, or to what is wrong with it and where.

use std::collections::BTreeSet;

use bpf2sys_simulator::SimulatedMachine;
use serde_json::Value;

use super::file::{Expect, OneOrMore, Property, Suite, Test};

/// Why a text is no test file.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct SuiteError {
    /// What is wrong.
    pub message: String,
    /// The line, from 1.
    pub line: u32,
    /// The column, from 1, in characters.
    pub column: u32,
    /// The line's text.
    pub text: String,
}

impl SuiteError {
    fn at(text: &str, offset: usize, message: impl Into<String>) -> SuiteError {
        let before = text.get(..offset.min(text.len())).unwrap_or_default();
        let start = before.rfind('\n').map_or(0, |at| at + 1);
        SuiteError {
            message: message.into(),
            line: before.matches('\n').count() as u32 + 1,
            column: before[start..].chars().count() as u32 + 1,
            text: text[start..].lines().next().unwrap_or_default().to_owned(),
        }
    }
}

/// The line that a place of a text is in, from 1.
pub fn line(text: &str, offset: usize) -> u32 {
    SuiteError::at(text, offset, "").line
}

/// Reads a test file.
///
/// # Errors
/// It is no TOML, has keys or values that test files do not have, or contradicts itself.
pub fn parse(text: &str) -> Result<Suite, SuiteError> {
    let suite: Suite = toml::from_str(text).map_err(|error| {
        let at = error.span().map_or(0, |span| span.start);
        SuiteError::at(text, at, error.message().trim_end())
    })?;
    check(&suite, text)?;
    Ok(suite)
}

/// What the types of the keys do not say.
fn check(suite: &Suite, text: &str) -> Result<(), SuiteError> {
    let error = |offset: usize, message: String| SuiteError::at(text, offset, message);
    let fail = |offset: usize, message: String| Err(error(offset, message));
    let given = [&suite.object, &suite.source, &suite.image];
    if given.iter().filter(|given| given.is_some()).count() != 1 {
        let message = "a test file names what is tested: one of `object`, `source` and `image`";
        return fail(0, message.to_owned());
    }
    if suite.image.is_some() && suite.interpret {
        return fail(
            0,
            "`interpret` needs `object` or `source`: a driver holds no eBPF instructions".to_owned(),
        );
    }
    if suite.image.is_some() && suite.section.is_some() {
        return fail(
            0,
            "`type` needs `object` or `source`: the programs of a driver have their types".to_owned(),
        );
    }
    if suite.image.is_none() && suite.types.is_some() {
        return fail(0, "`types` is for `image`: an object has its own".to_owned());
    }
    if !(1..=86_400).contains(&suite.time_limit) {
        return fail(0, "`time_limit` has 1 to 86400 seconds".to_owned());
    }
    if suite.arch.is_empty() {
        return fail(0, "`arch` has at least one machine".to_owned());
    }
    machine(&suite.machine).map_err(|message| error(0, message))?;
    let mut names = BTreeSet::new();
    for test in &suite.tests {
        let at = test.span().start;
        let test = test.get_ref();
        if !names.insert(test.name.as_str()) {
            return fail(at, format!("there are two tests of the name {:?}", test.name));
        }
        check_test(test).map_err(|message| error(at, format!("test {:?}: {message}", test.name)))?;
    }
    for property in &suite.properties {
        let at = property.span().start;
        let property = property.get_ref();
        check_property(property).map_err(|message| error(at, format!("property {:?}: {message}", property.name)))?;
    }
    Ok(())
}

fn check_test(test: &Test) -> Result<(), String> {
    if test.name.trim().is_empty() || test.name.contains(char::is_control) {
        return Err("a test has a name of one line".to_owned());
    }
    machine(&test.machine)?;
    let own = test.packet.is_some() || test.context.is_some() || test.repeat.is_some();
    if own && !test.steps.is_empty() {
        return Err("inputs are given in the steps or in the test, and not in both".to_owned());
    }
    repeat(test.repeat)?;
    check_expect(&test.expect)?;
    for step in &test.steps {
        repeat(step.repeat)?;
        check_expect(&step.expect)?;
        if step.expect.error.is_some() {
            return Err("`expect.error` is of the whole test".to_owned());
        }
        if !step.expect.calls.is_empty() || !step.never.calls.is_empty() {
            return Err("calls are counted over the whole test".to_owned());
        }
    }
    Ok(())
}

fn repeat(times: Option<u32>) -> Result<(), String> {
    match times {
        Some(0 | 1_000_001..) => Err("`repeat` is from 1 to 1000000".to_owned()),
        _ => Ok(()),
    }
}

fn check_expect(expect: &Expect) -> Result<(), String> {
    let others = expect.result.is_some()
        || expect.one_of.is_some()
        || expect.context.is_some()
        || expect.packet.is_some()
        || expect.redirect_context.is_some()
        || expect.tail_calls.is_some()
        || expect.maps.is_some()
        || !expect.only.is_empty()
        || expect.absent.is_some()
        || expect.events.is_some()
        || expect.printed.is_some()
        || !expect.calls.is_empty();
    if expect.error.is_some() && others {
        return Err("what ends with an error gives nothing else to expect".to_owned());
    }
    Ok(())
}

fn check_property(property: &Property) -> Result<(), String> {
    let (expect, never) = (&property.expect, &property.never);
    check_expect(expect)?;
    if expect.error.is_some() {
        return Err("no run may end with an error, and so none can be expected of all".to_owned());
    }
    if !expect.calls.is_empty() || !never.calls.is_empty() {
        return Err("calls are counted over whole tests, and a property is about each run".to_owned());
    }
    let list = matches!(expect.result, Some(OneOrMore::More(_)))
        || matches!(expect.context, Some(OneOrMore::More(_)))
        || matches!(expect.packet, Some(OneOrMore::More(_)));
    if list {
        return Err("a list has one for each run, and a property is about one: `one_of` has alternatives".to_owned());
    }
    for condition in &property.when {
        let bytes = |digits: &Option<String>| {
            let read = |digits: &String| {
                bpf2sys_simulator::HexBytes::parse(digits)
                    .map(|bytes| bytes.0.len())
                    .ok_or_else(|| format!("`{digits}` is no hexadecimal bytes"))
            };
            digits.as_ref().map(read).transpose()
        };
        let (count, mask) = (bytes(&condition.bytes)?, bytes(&condition.mask)?);
        if condition.at.is_some() != count.is_some() {
            return Err("`at` and `bytes` are given together".to_owned());
        }
        if mask.is_some() && mask != count {
            return Err("`mask` has as many bytes as `bytes`".to_owned());
        }
    }
    Ok(())
}

/// The machine that the keys of a table say, on top of the usual one.
pub(super) fn machine(given: &Value) -> Result<SimulatedMachine, String> {
    machine_on(&SimulatedMachine::default(), given)
}

/// The machine that the keys of a table say, on top of another.
pub(super) fn machine_on(usual: &SimulatedMachine, given: &Value) -> Result<SimulatedMachine, String> {
    let Value::Object(given) = given else {
        return Ok(usual.clone());
    };
    let Ok(Value::Object(mut all)) = serde_json::to_value(usual) else {
        return Ok(usual.clone());
    };
    for (name, value) in given {
        if !all.contains_key(name) {
            let known: Vec<String> = all.keys().map(|key| format!("`{key}`")).collect();
            return Err(format!("a machine has no `{name}`; it has {}", known.join(", ")));
        }
        all.insert(name.clone(), value.clone());
    }
    serde_json::from_value(Value::Object(all)).map_err(|e| format!("`machine`: {e}"))
}
