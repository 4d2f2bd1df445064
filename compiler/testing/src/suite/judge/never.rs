//! `never`: what must not happen.

use super::{Scope, gave, given, place};
use crate::suite::driver::Driver;
use crate::suite::file::{Never, Written};
use crate::values::{difference, record_to_json};

pub(super) fn never(driver: &Driver, never: &Never, scope: &Scope<'_>) -> Result<Vec<String>, String> {
    let mut lines = Vec::new();
    for (index, run) in scope.runs.iter().enumerate() {
        for unwanted in &never.result {
            if gave(driver, unwanted, run.result)? {
                lines.push(format!(
                    "{}result: {}, which must not be",
                    place(scope, index),
                    given(run.result)
                ));
            }
        }
        for written in &never.writes {
            let changed = match written {
                Written::Packet => run.input.packet != run.result.packet || run.input.meta != run.result.meta,
                Written::Context => is_context_changed(driver, scope, index),
            };
            if changed {
                let what = match written {
                    Written::Packet => "packet",
                    Written::Context => "context",
                };
                lines.push(format!(
                    "{}{what}: it was changed, which must not be",
                    place(scope, index)
                ));
            }
        }
        for record in &run.result.records {
            if never.events.contains(&record.map) {
                let data = record_to_json(&record.record.data.0, &record.map, driver.types());
                let place = place(scope, index);
                lines.push(format!("{place}event of {}: {data}, which must not be", record.map));
            }
        }
        if let Some(line) = run.result.printed.first().filter(|_| never.printed) {
            lines.push(format!("{}printed: {line:?}, which must not be", place(scope, index)));
        }
    }
    for map in &never.events {
        is_map(driver, map)?;
    }
    for name in &never.calls {
        is_function(driver, name)?;
        let count = scope.calls.map_or(0, |calls| calls.count(name));
        if count > 0 {
            lines.push(format!("calls of {name}: {count}, which must not be"));
        }
    }
    lines.extend(changes(driver, never, scope)?);
    Ok(lines)
}

fn changes(driver: &Driver, never: &Never, scope: &Scope<'_>) -> Result<Vec<String>, String> {
    let maps = never.changes.iter().map(|name| {
        let section = driver.types().and_then(|types| types.map_of_section(name));
        let own = section.unwrap_or(name);
        is_map(driver, own).map(|()| own)
    });
    let maps = maps.collect::<Result<Vec<&str>, String>>()?;
    let (false, Some(before), Some(after)) = (maps.is_empty(), scope.before, scope.after) else {
        return Ok(Vec::new());
    };
    let changes = difference(before, after, driver.types());
    let unwanted = changes.iter().filter(|change| maps.contains(&change.map.as_str()));
    Ok(unwanted.map(|change| format!("{change}, which must not be")).collect())
}

/// Whether a run has changed the fields of its context: pointers are the run's own.
fn is_context_changed(driver: &Driver, scope: &Scope<'_>, index: usize) -> bool {
    let run = &scope.runs[index];
    let Some(of) = driver.type_of(&run.result.program) else {
        return false;
    };
    let mut before = run.input.context.0.clone();
    before.resize(run.result.context.0.len(), 0);
    let shown = |bytes: &[u8]| crate::contexts::decode(&of.context, bytes, None);
    shown(&before) != shown(&run.result.context.0)
}

fn is_map(driver: &Driver, name: &str) -> Result<(), String> {
    if driver.shapes.iter().any(|shape| shape.name == name) {
        return Ok(());
    }
    let names: Vec<&str> = driver.shapes.iter().map(|shape| shape.name.as_str()).collect();
    Err(format!("there is no map {name:?}; there are {}", names.join(", ")))
}

/// That some provider has a function of this name.
pub(super) fn is_function(driver: &Driver, name: &str) -> Result<(), String> {
    let platform = &driver.parts.platform;
    let own = platform.program_types.iter().flat_map(|t| &t.helpers);
    let known = own.chain(&platform.helpers).any(|helper| helper.name == name)
        || platform.btf_functions.iter().any(|function| function.name == name);
    if known {
        Ok(())
    } else {
        Err(format!("no provider that is known has a helper or function `{name}`"))
    }
}
