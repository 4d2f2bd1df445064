//! The tracefile of lcov (`geninfo(1)`, "TRACEFILE FORMAT"), which genhtml, editors and build servers read.

use std::fmt::Write as _;

use super::{Branch, Coverage, FileCoverage, FunctionCoverage, Way};

/// Largest number of a line that is believed.
const MAX_LINE: u32 = 1 << 24;

/// Why a tracefile can't be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {what}")]
pub struct LcovError {
    /// The line, from 1.
    pub line: usize,
    /// What is wrong.
    pub what: String,
}

impl Coverage {
    /// The text of a tracefile. The same counts give the same text.
    pub fn to_lcov(&self) -> String {
        let mut text = String::from("TN:\n");
        for (name, file) in &self.files {
            let _ = writeln!(text, "SF:{}", one_line(name));
            file.write_lcov(&mut text);
            text.push_str("end_of_record\n");
        }
        text
    }

    /// Reads a tracefile. Records of other tools that say nothing of lines, functions and branches are skipped.
    ///
    /// # Errors
    /// A record that should have numbers has none.
    pub fn from_lcov(text: &str) -> Result<Coverage, LcovError> {
        let mut coverage = Coverage::default();
        let mut file: Option<&mut FileCoverage> = None;
        for (index, line) in text.lines().enumerate() {
            let wrong = |what: &str| LcovError {
                line: index + 1,
                what: what.to_owned(),
            };
            let (key, value) = line.trim_end().split_once(':').unwrap_or((line.trim_end(), ""));
            match key {
                "SF" => file = Some(coverage.files.entry(value.to_owned()).or_default()),
                "end_of_record" => file = None,
                "DA" | "FN" | "FNDA" | "BRDA" => {
                    let file = file
                        .as_deref_mut()
                        .ok_or_else(|| wrong("there is no `SF` record before it"))?;
                    file.read_record(key, value)
                        .ok_or_else(|| wrong(&format!("no `{key}` record: {value:?}")))?;
                }
                _ => {}
            }
        }
        Ok(coverage)
    }
}

impl FileCoverage {
    fn write_lcov(&self, text: &mut String) {
        for (name, function) in &self.functions {
            let _ = writeln!(text, "FN:{},{}", function.line, one_line(name));
        }
        for (name, function) in &self.functions {
            let _ = writeln!(text, "FNDA:{},{}", function.count, one_line(name));
        }
        let functions = self.function_share();
        let _ = writeln!(text, "FNF:{}\nFNH:{}", functions.of, functions.hit);
        let (mut line, mut block) = (0, 0);
        for (branch, ways) in &self.branches {
            block = if branch.line == line { block + 1 } else { 0 };
            line = branch.line;
            let is_reached = ways.values().any(|count| *count > 0);
            for (number, count) in ways.values().enumerate() {
                // A branch that was never reached has `-`.
                let count = if is_reached { count.to_string() } else { "-".into() };
                let _ = writeln!(text, "BRDA:{line},{block},{number},{count}");
            }
        }
        let branches = self.branch_share();
        let _ = writeln!(text, "BRF:{}\nBRH:{}", branches.of, branches.hit);
        for (line, count) in &self.lines {
            let _ = writeln!(text, "DA:{line},{count}");
        }
        let lines = self.line_share();
        let _ = writeln!(text, "LF:{}\nLH:{}", lines.of, lines.hit);
    }

    /// Takes a record; `None` if it is none.
    fn read_record(&mut self, key: &str, value: &str) -> Option<()> {
        let mut parts = value.split(',');
        let number = |text: &str| text.parse::<u64>().ok();
        let line = |text: &str| text.parse().ok().filter(|line| (1..=MAX_LINE).contains(line));
        match key {
            "DA" => {
                let (line, count) = (line(parts.next()?)?, number(parts.next()?)?);
                let known = self.lines.entry(line).or_default();
                *known = known.saturating_add(count);
            }
            "FN" => {
                let line = line(parts.next()?)?;
                // Some tools tell the last line, too.
                let name = parts.next_back()?.to_owned();
                self.functions
                    .entry(name)
                    .or_insert(FunctionCoverage { line, count: 0 })
                    .line = line;
            }
            "FNDA" => {
                let count = number(parts.next()?)?;
                let name = parts.next()?.to_owned();
                let known = self
                    .functions
                    .entry(name)
                    .or_insert(FunctionCoverage { line: 1, count: 0 });
                known.count = known.count.saturating_add(count);
            }
            _ => {
                let (line, block, way) = (line(parts.next()?)?, parts.next()?, parts.next()?);
                let count = match parts.next()? {
                    "-" => 0,
                    count => number(count)?,
                };
                // Blocks of exceptions have a letter before the number.
                let column = block.trim_start_matches(|c: char| !c.is_ascii_digit()).parse().ok()?;
                let way = Way::Number(way.parse().ok()?);
                self.go(Branch { line, column }, way, count);
            }
        }
        Some(())
    }
}

/// A name that can't begin another record.
fn one_line(name: &str) -> String {
    name.replace(['\n', '\r'], " ")
}
