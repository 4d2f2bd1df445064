//! Properties: for which runs they hold, and whether they do.

use bpf2sys_simulator::HexBytes;

use super::{Run, Scope, gave, judge};
use crate::contexts::other_values;
use crate::suite::driver::Driver;
use crate::suite::file::{Condition, OneOrMore, Property};

/// What is otherwise in the one run of a scope, if the property is about it.
pub(in crate::suite) fn holds(driver: &Driver, property: &Property, scope: &Scope<'_>) -> Result<Vec<String>, String> {
    let Some(run) = scope.runs.first() else {
        return Ok(Vec::new());
    };
    let told = |message| format!("property {:?}: {message}", property.name);
    if property
        .program
        .as_ref()
        .is_some_and(|program| *program != run.input.program)
    {
        return Ok(Vec::new());
    }
    for condition in &property.when {
        if !is_met(driver, condition, run).map_err(told)? {
            return Ok(Vec::new());
        }
    }
    let lines = judge(driver, &property.expect, &property.never, scope).map_err(told)?;
    Ok(lines.into_iter().map(told).collect())
}

fn is_met(driver: &Driver, condition: &Condition, run: &Run<'_>) -> Result<bool, String> {
    Ok(is_all(driver, condition, run)? != condition.not)
}

fn is_all(driver: &Driver, condition: &Condition, run: &Run<'_>) -> Result<bool, String> {
    let packet = &run.input.packet.0;
    if condition
        .length
        .is_some_and(|length| !(length.least..=length.most).contains(&packet.len()))
    {
        return Ok(false);
    }
    if let (Some(at), Some(bytes)) = (condition.at, condition.bytes.as_deref().and_then(HexBytes::parse)) {
        let mask = condition.mask.as_deref().and_then(HexBytes::parse);
        let mask = mask.map_or_else(|| vec![0xff; bytes.0.len()], |mask| mask.0);
        let Some(found) = packet.get(at..).and_then(|rest| rest.get(..bytes.0.len())) else {
            return Ok(false);
        };
        if bytes
            .0
            .iter()
            .zip(found)
            .zip(&mask)
            .any(|((wanted, found), mask)| wanted & mask != found & mask)
        {
            return Ok(false);
        }
    }
    if let Some(expected) = &condition.context {
        let of = driver.type_of(&run.input.program);
        let of = of.ok_or("the program's type is not known, and so its context has no fields")?;
        let mut context = run.input.context.0.clone();
        context.resize(context.len().max(of.context.size.max(0) as usize), 0);
        let others = other_values(&of.context, expected, &context, packet).map_err(|e| format!("context: {e}"))?;
        if !others.is_empty() {
            return Ok(false);
        }
    }
    let mut one = condition.result.is_none();
    for wanted in condition.result.iter().flat_map(OneOrMore::all) {
        one |= gave(driver, wanted, run.result)?;
    }
    Ok(one)
}
