//! What a run tells: results one by one, or how many there were of each; what was printed and sent; maps and what changed in
//! them.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::mpsc::Receiver;

use bpf2sys_platform::{Context, ProgramType};
use bpf2sys_simulator::{InvocationResult, MapContents, Progress, RunReport, SentRecord, Trace};
use bpf2sys_testing::captures::{CaptureError, CaptureWriter, Fate, Written};
use bpf2sys_testing::contexts::{self, Fields};
use bpf2sys_testing::values::{self, Json, MapChange, ModuleTypes, difference, maps_to_json};
use indicatif::ProgressBar;
use serde::Serialize;

use super::cost::{Cost, Unit};
use super::inputs::Origin;
use crate::cli::coverage::CoverageOptions;
use crate::cli::output;
use crate::files::Stream;
use crate::{Error, ErrorKind};

/// How many results are told one by one; of more, how often there was each.
pub(super) const EACH: u64 = 20;

#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Output")]
#[allow(clippy::struct_excessive_bools)] // switches that have nothing to do with each other
pub(super) struct OutputOptions {
    /// Tell every result, however many there are; otherwise those after the first 20 are only counted
    #[arg(long)]
    pub(super) each: bool,

    /// Run this driver on the same inputs, too, and tell only in what the two differ: the last release, or one of another compiler
    ///
    /// Results, packets, contexts, events and what is in the maps are compared. With `--instructions`, what runs cost is told of both. The status
    /// is 6 if they differ.
    #[arg(long, value_name = "IMAGE", conflicts_with_all = ["write_pcap", "events", "changes", "coverage", "dump_maps", "pins"])]
    pub(super) compare: Option<PathBuf>,

    /// Write the packets to a pcapng file, as the program left them, on an interface for what became of them: passed, dropped,
    /// sent back, redirected, other
    #[arg(long, value_name = "FILE")]
    write_pcap: Option<PathBuf>,

    /// Write what programs sent to ring buffers and perf event arrays, and what they printed, to a file of JSON lines; `-` is
    /// standard output
    #[arg(long, value_name = "FILE")]
    events: Option<PathBuf>,

    /// Tell what changed in the maps: over all, or with `each` over every run
    #[arg(long, value_name = "WHEN", num_args = 0..=1, require_equals = true, default_missing_value = "all")]
    changes: Option<Changes>,

    /// Count the instructions that each run takes, and tell which run took most
    ///
    /// They are those of the driver, or with `--interpret` of the object, without those of helpers. x64 drivers run one instruction at a time
    /// then, which takes long.
    #[arg(long)]
    instructions: bool,

    #[command(flatten)]
    pub(super) coverage: CoverageOptions,

    /// The line table, program database or object that tells where the driver's code came from, for `--coverage`
    ///
    /// Without it these are taken from beside the driver, if they belong to it: NAME.lines.json, which `build --emit lines` writes, its object,
    /// NAME.pdb.
    #[arg(long, value_name = "FILE", requires = "coverage", conflicts_with = "interpret")]
    pub(super) lines: Option<PathBuf>,

    /// Take the time of each run, without helpers, and tell which run took most
    ///
    /// It is that of the driver's code on this machine, so it differs from run to run: with `--repeat` there are many. There is none of
    /// code that is interpreted or emulated.
    #[arg(long, conflicts_with_all = ["instructions", "coverage", "interpret"])]
    time: bool,

    /// Nobody reads what programs send: records stay in their maps until there is no room
    #[arg(long)]
    unread: bool,

    /// Print JSON
    #[arg(long)]
    pub(super) json: bool,
}

/// Over what changes of maps are told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Changes {
    /// From the first run to the last.
    All,
    /// Over every run.
    Each,
}

impl OutputOptions {
    /// Whether all results have packets and contexts, however many there are.
    pub(super) fn needs_all_data(&self) -> bool {
        self.each || self.json || self.write_pcap.is_some() || self.compare.is_some()
    }

    /// What runs are told to cost.
    pub(super) fn unit(&self) -> Unit {
        if self.time { Unit::Time } else { Unit::Instructions }
    }

    pub(super) fn trace(&self) -> Trace {
        if self.instructions || self.coverage.is_wanted() {
            Trace::Instructions
        } else {
            Trace::None
        }
    }

    pub(super) fn tell(&self) -> bpf2sys_simulator::Tell {
        bpf2sys_simulator::Tell {
            records: !self.unread,
            maps: self.changes == Some(Changes::Each),
            maps_before: self.changes.is_some(),
            times: self.time,
        }
    }
}

/// What programs of this type and these maps are told with.
pub(super) struct Known<'a> {
    /// The type of the program that is run, if one is.
    pub program_type: Option<&'a ProgramType>,
    pub types: Option<&'a ModuleTypes>,
}

/// Takes results as they come.
pub(super) struct Telling<'a> {
    options: &'a OutputOptions,
    known: Known<'a>,
    origins: Receiver<Origin>,
    /// How often each input is run.
    repeat: u32,
    /// Whether something else has standard output for itself.
    is_silent: bool,
    /// The input of the results that come now, and how many have come.
    origin: Origin,
    of_origin: u32,
    count: u64,
    /// How often there was each result after the first ones.
    more: BTreeMap<(String, u32, Option<String>), u64>,
    printed: u64,
    sent: BTreeMap<String, u64>,
    cost: Cost,
    /// For JSON.
    results: Vec<InvocationResult>,
    /// Maps before the first run, and before this one, as far as they are told.
    maps_before: Vec<MapContents>,
    maps: Vec<MapContents>,
    capture: Option<Capture>,
    events: Option<Events>,
    progress: &'a ProgressBar,
}

/// After how many results the progress line is told.
const STEP: u64 = 1 << 10;

struct Capture {
    path: PathBuf,
    writer: CaptureWriter<std::io::BufWriter<Stream>>,
}

/// Where events go.
enum Events {
    Output,
    File(Box<std::io::BufWriter<Stream>>),
}

/// Something that a program sent or printed.
#[derive(Serialize)]
struct Event<'a> {
    /// The run, from 1.
    run: u64,
    program: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    map: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cpu: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    data: Option<Json>,
    #[serde(skip_serializing_if = "Option::is_none")]
    printed: Option<&'a str>,
}

/// The report as JSON: what the simulator reports, and what is known of its bytes.
#[derive(Serialize)]
struct Told<'a> {
    #[serde(flatten)]
    report: &'a RunReport,
    /// Of each result: the context by the names of its fields.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    contexts: Vec<Fields>,
    /// The maps by the types of the C source.
    #[serde(skip_serializing_if = "Option::is_none")]
    values: Option<Json>,
    /// What changed in them.
    #[serde(skip_serializing_if = "Option::is_none")]
    changes: Option<Vec<Json>>,
}

impl<'a> Telling<'a> {
    pub(super) fn new(
        options: &'a OutputOptions,
        known: Known<'a>,
        origins: Receiver<Origin>,
        (repeat, is_silent, progress): (u32, bool, &'a ProgressBar),
    ) -> Result<Telling<'a>, Error> {
        let capture = options.write_pcap.as_deref().map(Capture::create).transpose()?;
        let events = match options.events.as_deref() {
            None => None,
            Some(path) if path == Path::new("-") => Some(Events::Output),
            Some(path) => Some(Events::File(Box::new(std::io::BufWriter::new(Stream::create(path)?)))),
        };
        let is_silent = is_silent || options.json || matches!(events, Some(Events::Output));
        Ok(Telling {
            options,
            known,
            origins,
            repeat,
            is_silent,
            origin: Origin::default(),
            of_origin: repeat,
            count: 0,
            more: BTreeMap::new(),
            printed: 0,
            sent: BTreeMap::new(),
            cost: Cost::new(options.unit()),
            results: Vec::new(),
            maps_before: Vec::new(),
            maps: Vec::new(),
            capture,
            events,
            progress,
        })
    }

    /// Takes what comes next.
    pub(super) fn take(&mut self, progress: Progress) -> Result<(), Error> {
        match progress {
            Progress::Loaded(maps) => {
                self.maps_before.clone_from(&maps);
                self.maps = maps;
                Ok(())
            }
            Progress::Done(result) => self.result(*result),
        }
    }

    fn result(&mut self, result: InvocationResult) -> Result<(), Error> {
        if self.of_origin == self.repeat {
            // Each input is told before it is given.
            self.origin = self.origins.try_recv().unwrap_or_default();
            self.of_origin = 0;
        }
        self.of_origin += 1;
        let is_shown = self.options.each || self.count < EACH;
        self.count += 1;
        if self.count.is_multiple_of(STEP) {
            self.progress.set_position(self.count);
        }
        let (run, packet) = (self.count, self.origin.number);
        let instructions = result.instructions.filter(|_| self.options.instructions);
        let input = (run - 1) / u64::from(self.repeat);
        self.cost.add(run, (input, packet), instructions.or(result.time_ns));
        self.write_packet(&result)?;
        self.write_events(&result)?;
        if !self.is_silent {
            if is_shown {
                let mut text = self.text(&result);
                self.add_changes(&mut text, &result);
                output::print(&text)?;
            } else {
                self.add(&result);
            }
        }
        if self.options.json {
            self.results.push(result);
        }
        Ok(())
    }

    fn add(&mut self, result: &InvocationResult) {
        let name = result.not_run.clone().or_else(|| result.result_name.clone());
        let key = (result.program.clone(), result.result, name);
        *self.more.entry(key).or_default() += 1;
        self.printed += result.printed.len() as u64;
        for record in &result.records {
            *self.sent.entry(record.map.clone()).or_default() += 1;
        }
    }

    /// A result, and below it what it left.
    fn text(&self, result: &InvocationResult) -> String {
        let mut text = String::new();
        if let Some(number) = self.origin.number {
            let _ = write!(text, "{number}: ");
        }
        let _ = match &result.not_run {
            Some(why) => write!(text, "{}: not run: {why}", result.program),
            None => write!(text, "{}: {}", result.program, result.result),
        };
        if let Some(name) = &result.result_name {
            let _ = write!(text, " ({name})");
        }
        add_tail_calls(&mut text, &result.tail_calls);
        if let Some(instructions) = result.instructions.filter(|_| self.options.instructions) {
            let _ = write!(text, ", {instructions} instructions");
        }
        if let Some(time) = result.time_ns {
            let _ = write!(text, ", {time} ns");
        }
        text.push('\n');
        for link in &result.chain {
            let _ = write!(text, "  {}: {}", link.program, link.result);
            if let Some(name) = &link.result_name {
                let _ = write!(text, " ({name})");
            }
            add_tail_calls(&mut text, &link.tail_calls);
            text.push('\n');
        }
        for call in &result.failed {
            let _ = writeln!(text, "  failed: {call}");
        }
        if let Some(context) = self.context() {
            let before = contexts::decode(context, &self.origin.context, None);
            let after = contexts::decode(context, &result.context.0, None);
            for ((name, was), (_, is)) in before.0.iter().zip(&after.0).filter(|(was, is)| was != is) {
                let _ = writeln!(text, "  {name}: {was} -> {is}");
            }
        }
        if let Some(redirect) = &result.redirect_context {
            let _ = writeln!(text, "  redirect context: {redirect}");
        }
        for line in &result.printed {
            let _ = writeln!(text, "  printed: {line}");
        }
        for record in &result.records {
            let _ = writeln!(text, "  {}: {}", place(record), self.record(record));
        }
        text
    }

    fn context(&self) -> Option<&Context> {
        self.known.program_type.map(|program_type| &program_type.context)
    }

    /// A record by its type, if that is known.
    fn record(&self, record: &SentRecord) -> Json {
        values::record_to_json(&record.record.data.0, &record.map, self.known.types)
    }

    /// What changed in the maps over this run.
    fn add_changes(&mut self, text: &mut String, result: &InvocationResult) {
        if let Some(after) = &result.maps {
            let changes = difference(&self.maps, after, self.known.types);
            text.extend(changes.iter().map(|change| format!("  {change}\n")));
            self.maps.clone_from(after);
        }
    }

    fn write_packet(&mut self, result: &InvocationResult) -> Result<(), Error> {
        let Some(capture) = &mut self.capture else {
            return Ok(());
        };
        let name = result.result_name.as_deref();
        let known = self.known.program_type.into_iter().flat_map(|t| &t.return_values);
        let returned = known.into_iter().find(|value| Some(value.name.as_str()) == name);
        let mut comment = format!("{}: ", result.program);
        comment += &match (&result.not_run, name) {
            (Some(why), _) => format!("not run: {why}"),
            (None, Some(name)) => name.to_owned(),
            (None, None) => result.result.to_string(),
        };
        let written = capture.writer.write(&Written {
            bytes: &result.packet.0,
            original_length: self.origin.original_length,
            time_ns: self.origin.time_ns,
            fate: Fate::from(returned.and_then(|value| value.fate)),
            verdict: result.not_run.is_none().then_some(result.result.into()),
            comment: &comment,
        });
        written.map_err(|e| capture.failed(e))
    }

    fn write_events(&mut self, result: &InvocationResult) -> Result<(), Error> {
        if self.events.is_none() {
            return Ok(());
        }
        let event = || Event {
            run: self.count,
            program: &result.program,
            map: None,
            cpu: None,
            data: None,
            printed: None,
        };
        let printed = result.printed.iter().map(|line| Event {
            printed: Some(line),
            ..event()
        });
        let sent = result.records.iter().map(|record| Event {
            map: Some(&record.map),
            cpu: record.record.cpu,
            data: Some(self.record(record)),
            ..event()
        });
        let mut text = Vec::new();
        for event in printed.chain(sent) {
            serde_json::to_writer(&mut text, &event).map_err(|e| ErrorKind::Internal(e.to_string()))?;
            text.push(b'\n');
        }
        match (&mut self.events, &self.options.events) {
            (Some(Events::File(file)), Some(path)) => file.write_all(&text).map_err(|source| {
                let path = path.clone();
                ErrorKind::WriteFile { path, source }.into()
            }),
            _ => output::print_bytes(&text),
        }
    }

    /// Tells the rest. The report has no results yet. `coverage` is what is told of that.
    pub(super) fn finish(mut self, mut report: RunReport, coverage: &str) -> Result<(), Error> {
        if let Some(capture) = self.capture.take() {
            capture.finish()?;
        }
        if let (Some(Events::File(file)), Some(path)) = (self.events.take(), &self.options.events) {
            let stream = file.into_inner().map_err(|e| {
                let (path, source) = (path.clone(), e.into_error());
                ErrorKind::WriteFile { path, source }
            })?;
            stream.finish()?;
        }
        let changes = self
            .options
            .changes
            .map(|_| difference(&self.maps_before, &report.maps, self.known.types));
        if self.options.json {
            report.results = std::mem::take(&mut self.results);
            report.printed = report
                .results
                .iter()
                .flat_map(|result| result.printed.clone())
                .collect();
            return self.json(&report, changes.as_deref());
        }
        if self.is_silent {
            return Ok(());
        }
        let mut text = String::new();
        for ((program, result, name), times) in &self.more {
            let name = name.as_ref().map_or_else(String::new, |name| format!(" ({name})"));
            let _ = writeln!(text, "{program}: {result}{name}, {times} more");
        }
        if self.printed > 0 {
            let _ = writeln!(text, "printed: {} more lines", self.printed);
        }
        for (map, records) in &self.sent {
            let _ = writeln!(text, "{map}: {records} more records");
        }
        self.cost.tell(&mut text);
        if self.count == 0 {
            text += "loaded, checked and unloaded\n";
        }
        match changes {
            Some(changes) => text.extend(changes.iter().map(|change| format!("{change}\n"))),
            None => report.maps.iter().for_each(|map| self.map_text(&mut text, map)),
        }
        text += coverage;
        output::print(&text)
    }

    fn json(&self, report: &RunReport, changes: Option<&[MapChange]>) -> Result<(), Error> {
        let contexts = self.context().into_iter().flat_map(|context| {
            let results = report.results.iter();
            results.map(|result| contexts::decode(context, &result.context.0, Some(&result.packet.0)))
        });
        output::print_json(&Told {
            report,
            contexts: contexts.collect(),
            values: self.known.types.map(|types| maps_to_json(&report.maps, Some(types))),
            changes: changes.map(|changes| changes.iter().map(MapChange::to_json).collect()),
        })
    }

    fn map_text(&self, text: &mut String, map: &MapContents) {
        let _ = writeln!(text, "map {} ({}):", map.name, map.type_name);
        for line in values::lines(map, self.known.types) {
            let _ = writeln!(text, "  {line}");
        }
    }
}

fn add_tail_calls(text: &mut String, programs: &[String]) {
    if !programs.is_empty() {
        let _ = write!(text, ", by tail calls through {}", programs.join(", "));
    }
}

/// The map of a record, and the processor if there is a ring for each.
pub(super) fn place(record: &SentRecord) -> String {
    match record.record.cpu {
        Some(cpu) => format!("{} on processor {cpu}", record.map),
        None => record.map.clone(),
    }
}

impl Capture {
    fn create(path: &Path) -> Result<Capture, Error> {
        let stream = Stream::create(path)?;
        let writer = CaptureWriter::new(std::io::BufWriter::new(stream));
        Ok(Capture {
            path: path.to_owned(),
            writer: writer.map_err(|source| failed(path, source))?,
        })
    }

    fn failed(&self, source: CaptureError) -> Error {
        failed(&self.path, source)
    }

    fn finish(self) -> Result<(), Error> {
        let Capture { path, writer } = self;
        let buffered = writer.finish().map_err(|source| failed(&path, source))?;
        let stream = buffered.into_inner().map_err(|e| {
            let (path, source) = (path.clone(), e.into_error());
            ErrorKind::WriteFile { path, source }
        })?;
        stream.finish()
    }
}

fn failed(path: &Path, error: CaptureError) -> Error {
    match error {
        CaptureError::Io { error, .. } => ErrorKind::WriteFile {
            path: path.to_owned(),
            source: error,
        },
        source => ErrorKind::Packets {
            name: path.display().to_string(),
            source,
        },
    }
    .into()
}
