//! Golden files: everything that came out of tests, by their names.

use std::path::{Path, PathBuf};

use bpf2sys_simulator::{InvocationResult, RunReport};

use super::driver::Driver;
use super::judge::given;
use super::run::Came;
use crate::contexts;
use crate::values::{Json, difference, hex, record_to_json};

/// What came out of a test, and the file that has what should.
#[derive(Clone, Debug, PartialEq)]
pub struct Golden {
    /// The file, which several tests can share.
    pub path: PathBuf,
    /// What came out.
    pub came_out: Json,
}

impl Golden {
    /// What is otherwise in the file, in lines.
    pub(super) fn compare(&self, test: &str) -> Result<Vec<String>, String> {
        let name = self.path.file_name().unwrap_or_default().to_string_lossy();
        let Some(tests) = read(&self.path)? else {
            return Ok(vec![format!("there is no {name}: `--bless` writes it")]);
        };
        let known = tests.iter().find(|(known, _)| known == test);
        let Some((_, expected)) = known else {
            return Ok(vec![format!("{name} does not have this test: `--bless` adds it")]);
        };
        let mut lines = Vec::new();
        compare("", expected, &self.came_out, &mut lines);
        Ok(lines.into_iter().map(|line| format!("{name}: {line}")).collect())
    }
}

/// Writes what came out of tests of these names to their files. Gives those that have changed.
///
/// # Errors
/// A file can't be read, has something else, or can't be written.
pub fn bless<'a>(tests: impl IntoIterator<Item = (&'a str, &'a Golden)>) -> Result<Vec<PathBuf>, String> {
    let mut files: Vec<(&Path, Vec<(&str, &Json)>)> = Vec::new();
    for (name, golden) in tests {
        match files.iter_mut().find(|(path, _)| *path == golden.path) {
            Some((_, tests)) => tests.push((name, &golden.came_out)),
            None => files.push((&golden.path, vec![(name, &golden.came_out)])),
        }
    }
    let mut changed = Vec::new();
    for (path, tests) in files {
        let before = read(path)?;
        let mut after = before.clone().unwrap_or_default();
        for (name, came_out) in tests {
            match after.iter_mut().find(|(known, _)| known == name) {
                Some((_, known)) => *known = came_out.clone(),
                None => after.push((name.to_owned(), came_out.clone())),
            }
        }
        if before.as_ref() != Some(&after) {
            let text = Json::Object(after).pretty() + "\n";
            std::fs::write(path, text).map_err(|e| format!("`{}`: {e}", path.display()))?;
            changed.push(path.to_owned());
        }
    }
    Ok(changed)
}

fn read(path: &Path) -> Result<Option<Vec<(String, Json)>>, String> {
    let wrong = |message: String| format!("`{}`: {message}", path.display());
    let text = match std::fs::read_to_string(path) {
        Ok(text) => text,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(wrong(e.to_string())),
    };
    match Json::parse(&text).map_err(|e| wrong(format!("no JSON: {e}")))? {
        Json::Object(tests) => Ok(Some(tests)),
        _ => Err(wrong("no object with tests by name".to_owned())),
    }
}

fn compare(path: &str, expected: &Json, found: &Json, lines: &mut Vec<String>) {
    let place = if path.is_empty() { "all" } else { path };
    match (expected, found) {
        (Json::Object(a), Json::Object(b)) => {
            for (name, expected) in a {
                let path = if path.is_empty() {
                    name.clone()
                } else {
                    format!("{path}.{name}")
                };
                match found.get(name) {
                    Some(found) => compare(&path, expected, found, lines),
                    None => lines.push(format!("{path}: expected {expected}, found none")),
                }
            }
            for (name, found) in b.iter().filter(|(name, _)| expected.get(name).is_none()) {
                let path = if path.is_empty() {
                    name.clone()
                } else {
                    format!("{path}.{name}")
                };
                lines.push(format!("{path}: expected none, found {found}"));
            }
        }
        (Json::List(a), Json::List(b)) => {
            for index in 0..a.len().max(b.len()) {
                let path = format!("{path}[{index}]");
                match (a.get(index), b.get(index)) {
                    (Some(a), Some(b)) => compare(&path, a, b, lines),
                    (Some(a), None) => lines.push(format!("{path}: expected {a}, found none")),
                    (None, Some(b)) => lines.push(format!("{path}: expected none, found {b}")),
                    (None, None) => {}
                }
            }
        }
        _ if expected == found => {}
        _ => lines.push(format!("{place}: expected {expected}, found {found}")),
    }
}

/// Everything that came out of a run that is the same for every machine.
pub(super) fn came_out(driver: &Driver, came: &Came, report: &RunReport) -> Json {
    let results = came.results.iter().map(|result| one(driver, result));
    let changes = difference(&came.before, &report.maps, driver.types());
    let changes = changes.iter().map(|change| Json::from(change.to_string().as_str()));
    Json::Object(vec![
        ("results".to_owned(), Json::List(results.collect())),
        ("changes".to_owned(), Json::List(changes.collect())),
    ])
}

fn one(driver: &Driver, result: &InvocationResult) -> Json {
    let mut members = vec![
        ("program".to_owned(), Json::from(result.program.as_str())),
        ("result".to_owned(), Json::from(given(result).as_str())),
    ];
    let mut add = |name: &str, value: Json| members.push((name.to_owned(), value));
    let texts = |list: &[String]| Json::List(list.iter().map(|text| Json::from(text.as_str())).collect());
    if !result.tail_calls.is_empty() {
        add("tail_calls", texts(&result.tail_calls));
    }
    if !result.failed.is_empty() {
        add("failed", texts(&result.failed));
    }
    let of = driver.type_of(&result.program);
    let fields = of.map(|of| contexts::decode(&of.context, &result.context.0, None));
    if let Some(fields) = fields.filter(|fields| !fields.0.is_empty()) {
        let fields = fields.0.into_iter().map(|(name, value)| (name, value.into()));
        add("context", Json::Object(fields.collect()));
    }
    if !result.packet.0.is_empty() {
        add("packet", hex(&result.packet.0));
    }
    if let Some(meta) = &result.meta {
        add("meta", hex(&meta.0));
    }
    if let Some(redirect) = &result.redirect_context {
        add("redirect_context", hex(&redirect.0));
    }
    if !result.printed.is_empty() {
        add("printed", texts(&result.printed));
    }
    let events = result.records.iter().map(|sent| {
        let cpu = sent
            .record
            .cpu
            .map(|cpu| ("cpu".to_owned(), Json::from(i64::from(cpu))));
        let map = ("map".to_owned(), Json::from(sent.map.as_str()));
        let data = record_to_json(&sent.record.data.0, &sent.map, driver.types());
        let members = [map].into_iter().chain(cpu).chain([("data".to_owned(), data)]);
        Json::Object(members.collect())
    });
    let events: Vec<Json> = events.collect();
    if !events.is_empty() {
        add("events", Json::List(events));
    }
    Json::Object(members)
}
