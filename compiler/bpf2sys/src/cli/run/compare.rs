//! `--compare`: two drivers on the same inputs, side by side, and in what they differ.
//!
//! Both run at the same time, each in its own process, and results are compared as they come: a capture of a million packets is held in neither.

use std::fmt::Write as _;
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use bpf2sys_platform::{Context, ProgramType};
use bpf2sys_simulator::{HexBytes, Input, InvocationResult, Progress, RunReport, RunRequest, SimulatorError};
use bpf2sys_testing::contexts::{self, Fields};
use bpf2sys_testing::values::{self, MapChange, ModuleTypes, difference};
use serde::Serialize;

use super::cost::{Cost, Unit};
use super::inputs::Origin;
use super::report::EACH;
use crate::cli::output;
use crate::{Error, ErrorKind};

/// How many inputs one driver may be ahead of the other.
const AHEAD: usize = 64;

/// How a comparison is told.
pub(super) struct Wanted<'a> {
    /// The files of both drivers.
    pub names: [&'a Path; 2],
    /// How often each input is run.
    pub repeat: u32,
    /// Whether all differences are told.
    pub each: bool,
    pub json: bool,
    /// What costs are.
    pub unit: Unit,
    pub program_type: Option<&'a ProgramType>,
    pub types: Option<&'a ModuleTypes>,
}

/// What came of a comparison.
#[derive(Serialize)]
struct Comparison {
    /// The drivers.
    drivers: [Side; 2],
    /// How often they ran.
    runs: u64,
    /// Of how many runs something differs.
    different_runs: u64,
    /// The first of them.
    differences: Vec<RunDifference>,
    /// What differs in the maps after the last run: one line for each.
    maps: Vec<String>,
}

/// One of two drivers.
#[derive(Serialize)]
struct Side {
    file: String,
    /// Bytes of the file.
    size: usize,
    /// Instructions of all runs, if they were counted.
    #[serde(skip_serializing_if = "Option::is_none")]
    instructions: Option<u64>,
    /// What half of the runs took at most, in nanoseconds, if time was taken.
    #[serde(skip_serializing_if = "Option::is_none")]
    median_ns: Option<u64>,
}

/// A run that differs.
#[derive(Serialize)]
struct RunDifference {
    /// From 1.
    run: u64,
    /// The packet's number in its file, of files that can have several.
    #[serde(skip_serializing_if = "Option::is_none")]
    packet: Option<u64>,
    program: String,
    /// What differs: what it is, and what it was in both.
    what: Vec<(String, [String; 2])>,
}

/// Runs both drivers. An error is about the first driver or, with `true`, about the other one.
pub(super) fn compare(
    wanted: Wanted<'_>,
    requests: [&RunRequest; 2],
    inputs: impl Iterator<Item = Input> + Send,
    origins: &Receiver<Origin>,
) -> Result<(), (bool, Error)> {
    let costs = [Cost::new(wanted.unit), Cost::new(wanted.unit)];
    let mut comparing = Comparing {
        wanted,
        origins,
        origin: Origin::default(),
        runs: 0,
        different: 0,
        differences: Vec::new(),
        costs,
    };
    let (reports, ended_early) = run_both(requests, inputs, |a, b| comparing.take(a, b));
    let [first, other] = reports;
    // Where one ends early, the other is stopped: that is no error of it.
    let other = other.map_err(|error| (true, error.into()));
    let first = first.map_err(|error| (false, error.into()));
    let (first, other) = if ended_early == Some(1) {
        other.and_then(|other| Ok((first?, other)))?
    } else {
        (first?, other?)
    };
    comparing
        .finish([&first, &other], requests.map(|request| request.image.len()))
        .map_err(|error| (false, error))
}

/// Runs two drivers on the same inputs, and gives what comes of each run of both. Also which one ended before the other did.
fn run_both(
    [first, other]: [&RunRequest; 2],
    inputs: impl Iterator<Item = Input> + Send,
    mut take: impl FnMut(&InvocationResult, &InvocationResult),
) -> ([Result<RunReport, SimulatorError>; 2], Option<usize>) {
    let (give, given) = sync_channel::<Input>(AHEAD);
    let (tell, told): (SyncSender<Box<InvocationResult>>, Receiver<_>) = sync_channel(AHEAD);
    std::thread::scope(|scope| {
        let running = scope.spawn(move || {
            bpf2sys_simulator::run_each(other, given.into_iter(), |progress| {
                let is_awaited = match progress {
                    Progress::Loaded(_) => true,
                    Progress::Done(result) => tell.send(result).is_ok(),
                };
                if is_awaited {
                    ControlFlow::Continue(())
                } else {
                    ControlFlow::Break(())
                }
            })
        });
        let inputs = inputs.inspect(move |input| {
            // Nobody takes it if the other driver has ended early.
            let _ = give.send(input.clone());
        });
        let mut ended = None;
        let report = bpf2sys_simulator::run_each(first, inputs, |progress| {
            let Progress::Done(result) = progress else {
                return ControlFlow::Continue(());
            };
            let Ok(same) = told.recv() else {
                ended = Some(1);
                return ControlFlow::Break(());
            };
            take(&result, &same);
            ControlFlow::Continue(())
        });
        drop(told);
        let other = running.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        ([report, other], ended)
    })
}

/// A comparison in progress.
struct Comparing<'a> {
    wanted: Wanted<'a>,
    origins: &'a Receiver<Origin>,
    origin: Origin,
    runs: u64,
    different: u64,
    differences: Vec<RunDifference>,
    costs: [Cost; 2],
}

impl Comparing<'_> {
    fn take(&mut self, first: &InvocationResult, other: &InvocationResult) {
        if self.runs.is_multiple_of(self.wanted.repeat.into()) {
            // Each input is told before it is given.
            self.origin = self.origins.try_recv().unwrap_or_default();
        }
        let input = (self.runs / u64::from(self.wanted.repeat), self.origin.number);
        self.runs += 1;
        for (cost, result) in self.costs.iter_mut().zip([first, other]) {
            cost.add(self.runs, input, result.instructions.or(result.time_ns));
        }
        let what = self.what_differs(first, other);
        if what.is_empty() {
            return;
        }
        self.different += 1;
        if self.wanted.each || self.different <= EACH {
            self.differences.push(RunDifference {
                run: self.runs,
                packet: self.origin.number,
                program: first.program.clone(),
                what,
            });
        }
    }

    /// What a hook, a reader of events and the next driver would see otherwise.
    fn what_differs(&self, a: &InvocationResult, b: &InvocationResult) -> Vec<(String, [String; 2])> {
        let mut what = Vec::new();
        let mut one = |name: &str, a: String, b: String| {
            if a != b {
                what.push((name.to_owned(), [a, b]));
            }
        };
        one("result", result(a), result(b));
        one("tail calls", a.tail_calls.join(", "), b.tail_calls.join(", "));
        let chain = |of: &InvocationResult| {
            let links = of.chain.iter().map(|link| format!("{}: {}", link.program, link.result));
            links.collect::<Vec<_>>().join(", ")
        };
        one("programs that ran", chain(a), chain(b));
        for (name, [a, b]) in self.fields(a, b) {
            one(&name, a, b);
        }
        for (name, [a, b]) in [
            ("packet", [&a.packet.0[..], &b.packet.0]),
            ("metadata", [bytes(a.meta.as_ref()), bytes(b.meta.as_ref())]),
        ] {
            if a != b {
                let [a, b] = around_first_difference(a, b);
                one(name, a, b);
            }
        }
        let redirect = |of: &InvocationResult| {
            of.redirect_context
                .as_ref()
                .map_or_else(|| "none".into(), ToString::to_string)
        };
        one("redirect context", redirect(a), redirect(b));
        let lines = (a.printed.len().max(b.printed.len())).min(EACH as usize);
        for line in 0..lines {
            let printed = |of: &InvocationResult| of.printed.get(line).cloned().unwrap_or_else(|| "nothing".into());
            one("printed", printed(a), printed(b));
        }
        let records = (a.records.len().max(b.records.len())).min(EACH as usize);
        for record in 0..records {
            let sent = |of: &InvocationResult| {
                of.records.get(record).map_or_else(
                    || "nothing".into(),
                    |sent| {
                        let value = values::record_to_json(&sent.record.data.0, &sent.map, self.wanted.types);
                        format!("{}: {value}", super::report::place(sent))
                    },
                )
            };
            one("sent", sent(a), sent(b));
        }
        one(
            "printed lines",
            a.printed.len().to_string(),
            b.printed.len().to_string(),
        );
        one("sent records", a.records.len().to_string(), b.records.len().to_string());
        what
    }

    /// The fields of the context that differ.
    fn fields(&self, a: &InvocationResult, b: &InvocationResult) -> Vec<(String, [String; 2])> {
        if a.context == b.context {
            return Vec::new();
        }
        let context: Option<&Context> = self.wanted.program_type.map(|program_type| &program_type.context);
        let Some(context) = context else {
            return vec![("context".into(), around_first_difference(&a.context.0, &b.context.0))];
        };
        let decode = |of: &InvocationResult| -> Fields { contexts::decode(context, &of.context.0, None) };
        let (a, b) = (decode(a), decode(b));
        let pairs = a.0.iter().zip(&b.0).filter(|(a, b)| a.1 != b.1);
        pairs
            .map(|((name, a), (_, b))| (name.clone(), [a.to_string(), b.to_string()]))
            .collect()
    }

    /// Tells what came of it.
    fn finish(self, [first, other]: [&RunReport; 2], sizes: [usize; 2]) -> Result<(), Error> {
        let maps: Vec<MapChange> = difference(&first.maps, &other.maps, self.wanted.types);
        let sides = (self.wanted.names.iter().zip(sizes).zip(&self.costs)).map(|((name, size), cost)| Side {
            file: name.display().to_string(),
            size,
            instructions: cost.sum().filter(|_| self.wanted.unit == Unit::Instructions),
            median_ns: cost
                .sum()
                .filter(|_| self.wanted.unit == Unit::Time)
                .map(|_| cost.median()),
        });
        let sides: Vec<Side> = sides.collect();
        let comparison = Comparison {
            drivers: <[Side; 2]>::try_from(sides).map_err(|_| ErrorKind::Internal("there are two drivers".into()))?,
            runs: self.runs,
            different_runs: self.different,
            differences: self.differences,
            maps: maps.iter().map(ToString::to_string).collect(),
        };
        if self.wanted.json {
            output::print_json(&comparison)?;
        } else {
            output::print(&text(&comparison, &self.costs, self.wanted.unit))?;
        }
        match (comparison.different_runs, comparison.maps.len()) {
            (0, 0) => Ok(()),
            (runs, maps) => Err(ErrorKind::DriversDiffer { runs, maps }.into()),
        }
    }
}

fn result(of: &InvocationResult) -> String {
    match (&of.not_run, &of.result_name) {
        (Some(why), _) => format!("not run: {why}"),
        (None, Some(name)) => format!("{} ({name})", of.result),
        (None, None) => of.result.to_string(),
    }
}

fn bytes(of: Option<&HexBytes>) -> &[u8] {
    of.map_or(&[], |bytes| &bytes.0)
}

/// Most bytes that are told of two that differ.
const TOLD_BYTES: usize = 16;

/// What two stretches of bytes are where they first differ.
fn around_first_difference(a: &[u8], b: &[u8]) -> [String; 2] {
    let at = a
        .iter()
        .zip(b)
        .position(|(a, b)| a != b)
        .unwrap_or(a.len().min(b.len()));
    [a, b].map(|bytes| {
        let rest = bytes.get(at..).unwrap_or_default();
        let told: String = rest.iter().take(TOLD_BYTES).map(|byte| format!("{byte:02x}")).collect();
        let more = if rest.len() > TOLD_BYTES { "…" } else { "" };
        format!("{told}{more} at {at} of {} bytes", bytes.len())
    })
}

fn text(comparison: &Comparison, costs: &[Cost; 2], unit: Unit) -> String {
    let mut text = String::new();
    let [first, other] = &comparison.drivers;
    let _ = writeln!(
        text,
        "{} ({} bytes) -> {} ({} bytes)",
        first.file, first.size, other.file, other.size
    );
    for RunDifference {
        run,
        packet,
        program,
        what,
    } in &comparison.differences
    {
        let packet = packet.map_or_else(String::new, |number| format!(", packet {number}"));
        let _ = writeln!(text, "run {run}{packet}: {program}");
        for (name, [a, b]) in what {
            let _ = writeln!(text, "  {name}: {a} -> {b}");
        }
    }
    let untold = comparison.different_runs - comparison.differences.len() as u64;
    if untold > 0 {
        let _ = writeln!(text, "{untold} more runs differ");
    }
    if !comparison.maps.is_empty() {
        text.push_str("maps after the last run:\n");
        text.extend(comparison.maps.iter().map(|line| format!("  {line}\n")));
    }
    let same = comparison.runs - comparison.different_runs;
    let runs = if comparison.runs == 1 { "run" } else { "runs" };
    let (all, other) = (comparison.runs, comparison.different_runs);
    let _ = writeln!(text, "{all} {runs}: {same} the same, {other} differ");
    let [a, b] = costs;
    if a.sum().is_some() && b.sum().is_some() {
        let ((least_a, most_a), (least_b, most_b)) = (a.range(), b.range());
        let (what, [of_a, of_b], middle, unit) = match unit {
            Unit::Time => ("time", [a, b].map(|cost| cost.median() as f64), "in the median", " ns"),
            Unit::Instructions => ("instructions", [a, b].map(Cost::mean), "in the mean", ""),
        };
        let times = of_b / of_a.max(1.0);
        let _ = writeln!(
            text,
            "{what} of a run: {of_a:.1} -> {of_b:.1}{unit} {middle} (times {times:.2}), {least_a} to {most_a} -> {least_b} to {most_b}{unit}"
        );
    }
    text
}
