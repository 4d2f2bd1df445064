//! How tables are compared with facts: every fact must be found as it is, and every list must have the facts' length.
//!
//! Ids of maps are numbers of types in the object's BTF, so they depend on the source. What they mean is compared: which
//! are zero, which are equal, and which map is the template of which.

use libtest_mimic::Failed;
use serde_json::Value;

use super::fixture;
use crate::support::{succeed, tool};

/// Map types with a template: `BPF_MAP_TYPE_HASH_OF_MAPS` and `BPF_MAP_TYPE_ARRAY_OF_MAPS`.
const MAPS_OF_MAPS: [u64; 2] = [6, 7];

/// A fact that does not hold: where, and what was found instead.
#[derive(Clone, Debug)]
pub struct Difference {
    /// JSON pointer of the fact.
    pub pointer: String,
    /// What is wrong.
    pub text: String,
}

impl Difference {
    fn new(pointer: impl Into<String>, got: &Value, wanted: &Value) -> Self {
        Difference {
            pointer: pointer.into(),
            text: format!("{got}, not {wanted}"),
        }
    }
}

/// All differences of a module's tables from the facts.
pub fn differences(metadata: &Value, facts: &Value) -> Vec<Difference> {
    let mut found = Vec::new();
    compare(metadata, facts, "", &mut found);
    ids(&list(metadata, "maps"), &list(facts, "maps"), &mut found);
    found
}

/// Differences of an object's subprograms.
pub fn subprograms(module: &str, facts: &Value) -> Result<Vec<Difference>, Failed> {
    let object: Value = serde_json::from_str(&succeed(tool().args(["inspect", "--json"]).arg(fixture(module, "o")))?)?;
    let mut names: Vec<Value> = list(&object, "subprograms").iter().map(|f| f["name"].clone()).collect();
    names.sort_by_key(Value::to_string);
    let (got, wanted) = (Value::Array(names), &facts["subprograms"]);
    Ok(if got == *wanted {
        Vec::new()
    } else {
        vec![Difference::new("/subprograms", &got, wanted)]
    })
}

fn list(value: &Value, key: &str) -> Vec<Value> {
    value[key].as_array().cloned().unwrap_or_default()
}

fn compare(got: &Value, wanted: &Value, at: &str, found: &mut Vec<Difference>) {
    match (got, wanted) {
        (Value::Object(got), Value::Object(wanted)) => {
            for (key, wanted) in wanted {
                let here = format!("{at}/{key}");
                if !elsewhere(&here, key) {
                    compare(got.get(key).unwrap_or(&Value::Null), wanted, &here, found);
                }
            }
        }
        (Value::Array(got), Value::Array(wanted)) => {
            if got.len() != wanted.len() {
                found.push(Difference {
                    pointer: at.to_owned(),
                    text: format!("{} of them, not {}", got.len(), wanted.len()),
                });
            }
            for (index, (got, wanted)) in got.iter().zip(wanted).enumerate() {
                compare(got, wanted, &format!("{at}/{index}"), found);
            }
        }
        (got, wanted) if got == wanted => {}
        (got, wanted) => found.push(Difference::new(at, got, wanted)),
    }
}

/// Whether a fact is compared in another way.
fn elsewhere(pointer: &str, key: &str) -> bool {
    let id = pointer.starts_with("/maps/") && matches!(key, "id" | "inner_id");
    id || matches!(key, "subprograms" | "inlined_array_lookups")
}

/// Compares what ids of maps mean.
fn ids(got: &[Value], wanted: &[Value], found: &mut Vec<Difference>) {
    let count = got.len().min(wanted.len());
    for index in 0..count {
        for key in ["id", "inner_id"] {
            let zero = |maps: &[Value]| maps[index][key] == 0;
            if zero(got) != zero(wanted) {
                let pointer = format!("/maps/{index}/{key}");
                found.push(Difference::new(pointer, &got[index][key], &wanted[index][key]));
            }
        }
        for other in 0..index {
            let equal = |maps: &[Value]| maps[index]["id"] == maps[other]["id"];
            if equal(got) != equal(wanted) {
                found.push(Difference {
                    pointer: format!("/maps/{index}/id"),
                    text: format!("equal to that of map {other}: {}, not {}", equal(got), equal(wanted)),
                });
            }
        }
        if template(got, index) != template(wanted, index) {
            found.push(Difference {
                pointer: format!("/maps/{index}/inner_id"),
                text: format!(
                    "its template is {:?}, not {:?}",
                    template(got, index),
                    template(wanted, index)
                ),
            });
        }
    }
}

/// The map that the runtime takes for the template of a map of maps (native module contract §4.3).
fn template(maps: &[Value], index: usize) -> Option<usize> {
    let map = &maps[index];
    let number = |key: &str| map[key].as_u64().unwrap_or(0);
    if !MAPS_OF_MAPS.contains(&number("type")) {
        return None;
    }
    match (number("inner_map_idx"), number("inner_id")) {
        (0, 0) => None,
        (0, id) => maps
            .iter()
            .enumerate()
            .position(|(other, map)| other != index && map["id"] == id),
        (position, _) => usize::try_from(position).ok(),
    }
}

/// JSON pointers of all values in `value` that hold no others.
pub fn leaves(value: &Value) -> Vec<String> {
    let children: Vec<(String, &Value)> = match value {
        Value::Object(fields) => fields.iter().map(|(key, value)| (key.clone(), value)).collect(),
        Value::Array(items) => items
            .iter()
            .enumerate()
            .map(|(i, value)| (i.to_string(), value))
            .collect(),
        _ => return vec![String::new()],
    };
    let below = |(key, value): (String, &Value)| leaves(value).into_iter().map(move |rest| format!("/{key}{rest}"));
    children.into_iter().flat_map(below).collect()
}
