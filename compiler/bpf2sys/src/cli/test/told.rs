//! What is told of tests: a line for each, what is otherwise in those that fail, and how many there were.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::Path;
use std::time::Duration;

use bpf2sys_testing::suite::{Golden, Outcome, XmlCase, XmlResult, XmlSuite, bless, junit, line};
use serde::Serialize;

use super::load::Loaded;
use super::unit::{Came, Kind, Unit};
use crate::cli::output;
use crate::cli::reporter::Reporter;
use crate::{Code, Diagnostic, Error, ErrorKind, SourcePlace};

/// What came of a test, for people and machines.
pub(super) struct Told {
    name: String,
    outcome: Outcome,
    golden: Option<Golden>,
    /// What stands below the lines of a failure: inputs as a test.
    snippet: Option<String>,
    results: BTreeMap<String, u64>,
    inputs: Option<u64>,
    is_without_driver: bool,
}

impl Told {
    pub(super) fn of(unit: &Unit, came: Came) -> Told {
        let fuzzed = came.fuzzed.unwrap_or_default();
        let snippet = fuzzed.found.map(|found| {
            let inputs = match (found.again, found.inputs) {
                (false, _) => "it does not happen again; the last input was".to_owned(),
                (true, 1) => "the smallest input that was found, as a test".to_owned(),
                (true, inputs) => format!("the fewest and smallest inputs that were found, {inputs}, as a test"),
            };
            format!("input {}; {inputs}:\n\n{}", found.number, found.snippet)
        });
        Told {
            name: unit.name.clone(),
            outcome: came.outcome,
            golden: came.golden,
            snippet,
            results: fuzzed.results,
            is_without_driver: came.is_without_driver,
            inputs: matches!(unit.kind, Kind::Fuzz { .. }).then_some(fuzzed.inputs),
        }
    }

    /// What is otherwise.
    fn lines(&self) -> Vec<String> {
        match &self.outcome {
            Outcome::Failed(lines) => lines.clone(),
            Outcome::Error(message) => vec![message.clone()],
            Outcome::Passed | Outcome::Skipped(_) => Vec::new(),
        }
    }
}

/// What came of all tests.
pub(super) struct Summary {
    /// Whether people are told of each.
    is_told: bool,
    is_json: bool,
    filtered: usize,
    told: Vec<Told>,
    /// What is told of lines that ran.
    pub coverage: String,
}

/// How many tests there were of each kind.
#[derive(Clone, Copy, Default, Serialize)]
struct Counts {
    passed: usize,
    failed: usize,
    skipped: usize,
    filtered: usize,
}

/// A test as JSON.
#[derive(Serialize)]
struct Shown<'a> {
    name: &'a str,
    file: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    line: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    outcome: Option<&'static str>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    messages: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    inputs: Option<u64>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    results: BTreeMap<String, u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    test: Option<&'a str>,
}

/// Lists tests.
pub(super) fn list(files: &[Loaded], units: &[Unit], is_json: bool) -> Result<(), Error> {
    if !is_json {
        return output::print(&units.iter().map(|unit| unit.name.clone() + "\n").collect::<String>());
    }
    let shown = units.iter().map(|unit| Shown {
        name: &unit.name,
        file: files[unit.file].path.display().to_string(),
        line: place(files, unit).map(|place| place.line),
        outcome: None,
        messages: Vec::new(),
        inputs: None,
        results: BTreeMap::new(),
        test: None,
    });
    output::print_json(&serde_json::json!({ "tests": shown.collect::<Vec<_>>() }))
}

/// Where a test is in its file.
fn place(files: &[Loaded], unit: &Unit) -> Option<SourcePlace> {
    let file = &files[unit.file];
    let Kind::Test(index) = unit.kind else { return None };
    let line = line(&file.text, file.suite.tests.get(index)?.span().start);
    Some(SourcePlace {
        file: file.path.display().to_string(),
        line,
        column: 1,
        text: file.text.lines().nth(line as usize - 1)?.to_owned(),
    })
}

impl Summary {
    pub(super) fn new(is_told: bool, is_json: bool, filtered: usize, tests: usize) -> Summary {
        Summary {
            is_told,
            is_json,
            filtered,
            told: Vec::with_capacity(tests),
            coverage: String::new(),
        }
    }

    /// Takes what came of the next test.
    pub(super) fn take(&mut self, told: Told) -> Result<(), Error> {
        if self.is_told {
            let word = match &told.outcome {
                Outcome::Passed => "ok".to_owned(),
                Outcome::Failed(_) | Outcome::Error(_) => "FAILED".to_owned(),
                Outcome::Skipped(why) => format!("skipped, {why}"),
            };
            output::print(&format!("test {} ... {word}\n", told.name))?;
        }
        self.told.push(told);
        Ok(())
    }

    fn counts(&self) -> Counts {
        let mut counts = Counts {
            filtered: self.filtered,
            ..Counts::default()
        };
        for told in &self.told {
            *match told.outcome {
                Outcome::Passed => &mut counts.passed,
                Outcome::Failed(_) | Outcome::Error(_) => &mut counts.failed,
                Outcome::Skipped(_) => &mut counts.skipped,
            } += 1;
        }
        counts
    }

    /// The status of tests that failed, but for those whose driver can't be made: that has one already.
    pub(super) fn status(&self) -> u8 {
        let failed = |told: &Told| !told.is_without_driver && !told.lines().is_empty();
        if self.told.iter().any(failed) { 6 } else { 0 }
    }

    /// Writes golden files.
    pub(super) fn bless(&self, units: &[Unit]) -> Result<(), Error> {
        let golden = units.iter().zip(&self.told);
        let golden = golden.filter_map(|(unit, told)| Some((unit.own_name.as_str(), told.golden.as_ref()?)));
        let changed = bless(golden).map_err(|message| ErrorKind::TestFile {
            message,
            place: None,
            path: Path::new("golden file").to_owned(),
        })?;
        if self.is_told {
            let lines = changed.iter().map(|path| format!("wrote {}\n", path.display()));
            output::print(&lines.collect::<String>())?;
        }
        Ok(())
    }

    pub(super) fn junit(&self, files: &[Loaded], units: &[Unit]) -> String {
        let mut suites: Vec<XmlSuite> = Vec::new();
        let mut of = None;
        for (unit, told) in units.iter().zip(&self.told) {
            if of != Some(unit.file) {
                of = Some(unit.file);
                suites.push(XmlSuite {
                    name: files[unit.file].name.clone(),
                    file: files[unit.file].path.display().to_string(),
                    cases: Vec::new(),
                });
            }
            let result = match &told.outcome {
                Outcome::Passed => XmlResult::Passed,
                Outcome::Failed(lines) => XmlResult::Failed(lines.clone()),
                Outcome::Error(message) => XmlResult::Error(message.clone()),
                Outcome::Skipped(why) => XmlResult::Skipped(why.clone()),
            };
            let own = unit.name.strip_prefix(&files[unit.file].name).unwrap_or(&unit.name);
            suites.last_mut().into_iter().for_each(|suite| {
                suite.cases.push(XmlCase {
                    name: own.trim_start_matches(": ").trim_start().to_owned(),
                    line: place(files, unit).map(|place| place.line),
                    result: result.clone(),
                    output: told.snippet.clone().unwrap_or_default(),
                });
            });
        }
        junit(&suites)
    }

    /// Tells the rest.
    pub(super) fn finish(
        &self,
        files: &[Loaded],
        units: &[Unit],
        (took, status): (Duration, u8),
        reporter: &mut Reporter,
    ) -> Result<(), Error> {
        let counts = self.counts();
        if self.is_json {
            let shown = units.iter().zip(&self.told).map(|(unit, told)| Shown {
                name: &told.name,
                file: files[unit.file].path.display().to_string(),
                line: place(files, unit).map(|place| place.line),
                outcome: Some(match &told.outcome {
                    Outcome::Passed => "passed",
                    Outcome::Failed(_) => "failed",
                    Outcome::Error(_) => "error",
                    Outcome::Skipped(_) => "skipped",
                }),
                messages: match &told.outcome {
                    Outcome::Skipped(why) => vec![why.clone()],
                    _ => told.lines(),
                },
                inputs: told.inputs,
                results: told.results.clone(),
                test: told.snippet.as_deref(),
            });
            output::print_json(&serde_json::json!({ "tests": shown.collect::<Vec<_>>(), "counts": counts }))?;
        }
        if self.is_told {
            output::print(&self.text(counts, took, status))?;
        }
        // People have read what is otherwise already.
        if self.is_told && reporter.allows_progress() {
            if counts.failed > 0 {
                let all = counts.passed + counts.failed;
                let message = format!("{} of {all} tests failed", counts.failed);
                reporter.tell(vec![Diagnostic::new(Code::BPF5018, message)], None);
            }
            return Ok(());
        }
        for (unit, told) in units.iter().zip(&self.told) {
            let mut notes = told.lines();
            if !notes.is_empty() {
                let snippet = told.snippet.iter().flat_map(|text| text.lines().map(str::to_owned));
                notes.extend(snippet.filter(|line| !line.is_empty()));
                let message = format!("test {:?} failed", told.name);
                let diagnostic = Diagnostic {
                    place: place(files, unit),
                    notes,
                    ..Diagnostic::new(Code::BPF5018, message)
                };
                reporter.tell(vec![diagnostic], Some(&files[unit.file].path));
            }
        }
        Ok(())
    }

    fn text(&self, counts: Counts, took: Duration, status: u8) -> String {
        let mut text = String::new();
        if counts.failed > 0 {
            text += "\nfailures:\n";
        }
        for told in &self.told {
            let lines = told.lines();
            if lines.is_empty() {
                continue;
            }
            let _ = writeln!(text, "\n---- {} ----", told.name);
            text.extend(lines.iter().map(|line| format!("{line}\n")));
            if let Some(snippet) = &told.snippet {
                text += snippet;
            }
        }
        if !self.coverage.is_empty() {
            text += &format!("\n{}", self.coverage);
        }
        let word = if status > 0 { "FAILED" } else { "ok" };
        let Counts {
            passed,
            failed,
            skipped,
            filtered,
        } = counts;
        let skipped = if skipped > 0 {
            format!(" {skipped} skipped;")
        } else {
            String::new()
        };
        let seconds = took.as_secs_f64();
        text += &format!(
            "\ntest result: {word}. {passed} passed; {failed} failed;{skipped} {filtered} filtered out; finished in {seconds:.2}s\n"
        );
        text
    }
}
