//! Which lines of the source ran, how often, and which ways branches took.
//!
//! Given: what runs executed ([`TraceReport`](bpf2sys_simulator::TraceReport)) and where that code came from ([`LineTable`], or the object
//! where programs were interpreted). Computed: counts by lines, branches and functions, which add up over runs and drivers.
//!
//! **Lines** that have eBPF instructions in programs of the driver are told; others, such as declarations, are not. Where a line was
//! copied, because loops were unrolled or functions inlined, its copies are added. Native code tells how often blocks of eBPF
//! ran: not each line has code of its own after optimization, but all lines of a block run together. Without eBPF in the line table, lines
//! that have native code are told.
//!
//! **Branches** are conditions of the source at which the code jumps. Their ways are the lines where it goes on: compilers copy
//! conditions, and turn them round, but where a way leads stays what it is in the source. In a driver, conditional jumps of the native code count
//! that were made of conditional jumps of eBPF; one that the compiler proved to go one way, or made into a conditional move, is
//! none any more. Interpreted programs have those of the object, no more and no less. Where the line table knows no eBPF
//! instructions, all conditional jumps of a line count.

mod bytecode;
mod flow;
mod interpreted;
mod lcov;
mod native;
mod regions;

use std::collections::BTreeMap;
use std::fmt;

use bpf2sys_lines::LineTable;

pub use lcov::LcovError;

/// What ran, by file, as the compiler named it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Coverage {
    /// By name of the file.
    pub files: BTreeMap<String, FileCoverage>,
}

/// What ran of a source file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FileCoverage {
    /// By line from 1, for lines that have code: how often it ran.
    pub lines: BTreeMap<u32, u64>,
    /// By name.
    pub functions: BTreeMap<String, FunctionCoverage>,
    /// Of each branch, its ways, at least two, and how often each was gone.
    pub branches: BTreeMap<Branch, BTreeMap<Way, u64>>,
    /// What is on lines, as far as the object has it.
    pub texts: BTreeMap<u32, String>,
}

/// What ran of a function.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FunctionCoverage {
    /// Its first line that has code.
    pub line: u32,
    /// How often it was called.
    pub count: u64,
}

/// A place where the program goes one way or another. They are told in this order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Branch {
    /// Line, from 1.
    pub line: u32,
    /// Column, from 1: conditions of one line have different ones. 0 if it is not known.
    pub column: u32,
}

/// Where a branch leads.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Way {
    /// To another line of the same file.
    Line(u32),
    /// To a line of another file.
    File(String, u32),
    /// Out of the source: to code of no line.
    Out,
    /// A tracefile only numbers ways.
    Number(u32),
}

/// How much of something there is, and how much of it ran.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Share {
    /// What ran.
    pub hit: usize,
    /// All.
    pub of: usize,
}

impl Share {
    fn count(ran: impl Iterator<Item = bool>) -> Share {
        ran.fold(Share::default(), |share, ran| Share {
            hit: share.hit + usize::from(ran),
            of: share.of + 1,
        })
    }

    fn and(self, other: Share) -> Share {
        Share {
            hit: self.hit + other.hit,
            of: self.of + other.of,
        }
    }

    /// In percent; 100 of nothing.
    pub fn percent(self) -> f64 {
        if self.of == 0 {
            100.0
        } else {
            self.hit as f64 * 100.0 / self.of as f64
        }
    }
}

/// `17 of 20 (85.0 %)`
impl fmt::Display for Share {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Not rounded up: what is all but one is not all.
        let percent = (self.percent() * 10.0).floor() / 10.0;
        write!(f, "{} of {} ({percent:.1} %)", self.hit, self.of)
    }
}

impl FileCoverage {
    /// Lines that ran.
    pub fn line_share(&self) -> Share {
        Share::count(self.lines.values().map(|count| *count > 0))
    }

    /// Functions that were called.
    pub fn function_share(&self) -> Share {
        Share::count(self.functions.values().map(|function| function.count > 0))
    }

    /// Ways of branches that were gone.
    pub fn branch_share(&self) -> Share {
        let ways = self.branches.values().flat_map(BTreeMap::values);
        Share::count(ways.map(|count| *count > 0))
    }

    /// Counts a way of a branch.
    fn go(&mut self, branch: Branch, way: Way, count: u64) {
        let known = self.branches.entry(branch).or_default().entry(way).or_default();
        *known = known.saturating_add(count);
    }

    /// The lines that have code and did not run, those that follow each other together: first and last.
    pub fn missed(&self) -> Vec<(u32, u32)> {
        let mut missed: Vec<(u32, u32)> = Vec::new();
        let mut is_open = false;
        for (&line, &count) in &self.lines {
            match missed.last_mut() {
                // Lines without code between them make no gap.
                Some((_, last)) if count == 0 && is_open => *last = line,
                _ if count == 0 => missed.push((line, line)),
                _ => {}
            }
            is_open = count == 0;
        }
        missed
    }
}

impl Coverage {
    /// Lines that ran, of all files.
    pub fn line_share(&self) -> Share {
        self.sum(FileCoverage::line_share)
    }

    /// Functions that were called, of all files.
    pub fn function_share(&self) -> Share {
        self.sum(FileCoverage::function_share)
    }

    /// Ways of branches that were gone, of all files.
    pub fn branch_share(&self) -> Share {
        self.sum(FileCoverage::branch_share)
    }

    fn sum(&self, of: fn(&FileCoverage) -> Share) -> Share {
        self.files.values().map(of).fold(Share::default(), Share::and)
    }

    /// Adds what other runs executed.
    pub fn add(&mut self, other: Coverage) {
        for (name, from) in other.files {
            let to = self.files.entry(name).or_default();
            for (line, count) in from.lines {
                *to.lines.entry(line).or_default() += count;
            }
            for (name, function) in from.functions {
                let known = to
                    .functions
                    .entry(name)
                    .or_insert(FunctionCoverage { count: 0, ..function });
                known.line = known.line.min(function.line);
                known.count += function.count;
            }
            for (branch, ways) in from.branches {
                for (way, count) in ways {
                    to.go(branch, way, count);
                }
            }
            to.texts.extend(from.texts);
        }
    }

    /// Gives files other names, such as where they are on this machine. Those that get one name become one.
    #[must_use]
    pub fn renamed(self, name: impl Fn(&str) -> String) -> Coverage {
        let mut renamed = Coverage::default();
        for (file, coverage) in self.files {
            let files = BTreeMap::from([(name(&file), coverage)]);
            renamed.add(Coverage { files });
        }
        renamed
    }
}

/// Where the code of a table goes from one place to another.
struct Step {
    from: (u32, Branch),
    /// File and line; `None` for out of the function.
    to: Option<(u32, u32)>,
    count: u64,
}

impl Coverage {
    /// Takes branches. Those that lead to one line only, whatever the condition is, are none.
    fn add_branches(&mut self, table: &LineTable, steps: impl IntoIterator<Item = Step>) {
        for Step { from, to, count } in steps {
            let (file, branch) = from;
            let Some(name) = table.files.get(file as usize) else {
                continue;
            };
            let way = match to {
                None => Way::Out,
                Some((of, line)) if of == file => Way::Line(line),
                Some((of, line)) => Way::File(table.files.get(of as usize).cloned().unwrap_or_default(), line),
            };
            self.files.entry(name.clone()).or_default().go(branch, way, count);
        }
        for file in self.files.values_mut() {
            file.branches.retain(|_, ways| ways.len() > 1);
        }
    }
}

/// What every kind of run needs of a table: names of files, and what is on their lines.
fn with_texts(table: &LineTable) -> Coverage {
    let mut coverage = Coverage::default();
    for ((file, line), text) in &table.texts {
        if let Some(name) = table.files.get(*file as usize) {
            let file = coverage.files.entry(name.clone()).or_default();
            file.texts.insert(*line, text.clone());
        }
    }
    coverage
}

#[cfg(test)]
mod tests;
