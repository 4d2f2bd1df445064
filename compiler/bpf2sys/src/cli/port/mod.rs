//! `bpf2sys port`: what becomes of an object for Linux.

mod text;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use bpf2sys_bytecode::Module;
use bpf2sys_retarget::{Examined, Fate, Level, Recognition, Subject, System, examine};
use clap::ValueHint;
use serde::Serialize;

use super::reporter::Reporter;
use super::{Outcome, output, verify};
use crate::pipeline::verifier_options;
use crate::porting::{self, PortedUse};
use crate::{Error, ErrorKind, PortingError, files};

/// Tell what becomes of each program of an object for Linux on Windows, and build nothing.
///
/// A program is exact if it does the same on Windows, degraded if it gets answers that Linux could give, too, but that tell it less, and
/// blocked if nothing can be made of it. For each there is a table of everything that it has of Linux: its section, fields of the
/// context, helpers, maps and return values.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  bpf2sys port xdp_firewall.o
  bpf2sys port --json xdp_firewall.o | jq -r '.programs[] | \"\\(.name): \\(.level)\"'
  bpf2sys port --type xdp old.o             programs in sections of other names
  bpf2sys build --from linux xdp_firewall.o builds it, if all its programs are exact")]
pub(super) struct Arguments {
    /// An object file, as `clang -target bpf` writes it
    #[arg(value_name = "OBJECT", value_hint = ValueHint::FilePath)]
    object: PathBuf,

    /// Print JSON
    #[arg(long)]
    json: bool,

    /// Take every program for one of a section of this name (`xdp`, `cgroup/connect4`, `sockops`, ...)
    #[arg(long = "type", value_name = "SECTION")]
    program_type: Option<String>,

    /// Which engine proves programs safe, by the rules of Linux and by those of Windows
    #[arg(long, value_name = "ENGINE", value_enum, default_value_t = verify::Engine::Native)]
    verifier: verify::Engine,

    #[command(flatten)]
    linux: verify::LinuxOptions,

    #[command(flatten)]
    limits: verify::Limits,

    #[command(flatten)]
    providers: super::providers::ProviderOptions,
}

/// What becomes of an object, for `--json`. Fields are never taken away or given another meaning.
#[derive(Debug, Serialize)]
struct Report {
    object: String,
    /// `linux`, or null if nothing tells.
    compiled_for: Option<&'static str>,
    because: String,
    /// How many programs come how far.
    exact: usize,
    degraded: usize,
    blocked: usize,
    programs: Vec<Program>,
}

/// A program, and what becomes of it.
#[derive(Debug, Serialize)]
#[allow(clippy::struct_field_names)] // its type is its program type
struct Program {
    name: String,
    section: String,
    /// None where its section selects no type that Windows has.
    program_type: Option<String>,
    /// `exact`, `degraded` or `blocked`.
    level: &'static str,
    /// Why nothing can be made of it: the first reason.
    reason: Option<Reason>,
    uses: Vec<Row>,
    /// What is other on Windows all the same.
    differences: Vec<&'static str>,
}

/// Why nothing can be made of a program.
#[derive(Debug, Serialize)]
struct Reason {
    message: String,
    place: Option<Place>,
    /// What to change.
    advice: Option<String>,
}

/// Something that a program has of Linux.
#[derive(Debug, Serialize)]
struct Row {
    /// `section`, `field`, `helper`, `map`, `return` or `instruction`.
    kind: &'static str,
    /// What it is on Linux.
    name: String,
    level: &'static str,
    /// What becomes of it, or what is lost, or why nothing does.
    becomes: String,
    /// What to change, if nothing becomes of it.
    advice: Option<String>,
    /// Where, in file order.
    places: Vec<Place>,
}

/// Where something is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
struct Place {
    function: String,
    /// Number of 8-byte slots before the instruction in the function.
    slot: u32,
    file: Option<String>,
    line: Option<u32>,
    column: Option<u32>,
    text: Option<String>,
}

impl Place {
    fn of(of: &PortedUse) -> Option<Place> {
        let instruction = of.instruction.as_ref()?;
        let line = of.line.as_ref().filter(|line| line.line > 0);
        Some(Place {
            function: instruction.function.clone(),
            slot: instruction.slot,
            file: line.map(|line| line.file.clone()),
            line: line.map(|line| line.line),
            column: line.map(|line| line.column),
            text: line.map(|line| line.text.trim().to_owned()),
        })
    }
}

pub(super) fn run(arguments: &Arguments, reporter: &mut Reporter) -> Outcome {
    let bytes = files::read(&arguments.object)?;
    Ok(match print(arguments, &bytes, reporter) {
        Ok(()) => 0,
        Err(error) => reporter.fail(&error, &arguments.object),
    })
}

fn print(arguments: &Arguments, bytes: &[u8], reporter: &mut Reporter) -> Result<(), Error> {
    let path = &arguments.object;
    if !bytes.starts_with(b"\x7fELF") {
        return Err(ErrorKind::UnknownFormat { path: path.clone() }.into());
    }
    let mut options = arguments.limits.build_options();
    options.providers = arguments.providers.load(reporter)?;
    options.program_type.clone_from(&arguments.program_type);
    options.linux = arguments.linux.settings()?;
    options.verifier = arguments.verifier.into();
    let windows = options.providers.platform();
    let (module, recognition) = porting::read_linux(bytes, &path.to_string_lossy(), &options)?;
    if recognition.system == Some(System::Windows) {
        let because = recognition.because;
        return Err(PortingError::ForWindows { because }.into());
    }
    let examined = examine(&module, windows, &verifier_options(&options));
    let report = Report::new(path, &module, &recognition, examined);
    if arguments.json {
        output::print_json(&report)
    } else {
        output::print(&text::report(&report))
    }
}

impl Report {
    fn new(path: &Path, module: &Module, recognition: &Recognition, examined: Vec<Examined>) -> Report {
        let count = |level: Level| examined.iter().filter(|e| e.level == level).count();
        let (exact, degraded, blocked) = (count(Level::Exact), count(Level::Degraded), count(Level::Blocked));
        let names = module.programs().map(|(_, function)| function);
        Report {
            object: path.display().to_string(),
            compiled_for: recognition.system.map(|_| "linux"),
            because: recognition.because.clone(),
            exact,
            degraded,
            blocked,
            programs: (names.zip(examined))
                .map(|(function, examined)| Program::new(&function.name, &function.section, examined))
                .collect(),
        }
    }
}

impl Program {
    fn new(name: &str, section: &str, examined: Examined) -> Program {
        let uses = PortedUse::all(examined.uses, &examined.module);
        let unproven = examined.unproven.map(|(system, source)| {
            let error = Error::from(PortingError::Unsafe { system, source });
            Reason::unproven(system, &error)
        });
        let blocked = uses.iter().find(|u| matches!(u.fate, Fate::Blocked { .. }));
        Program {
            name: name.to_owned(),
            section: section.to_owned(),
            program_type: examined.program_type,
            level: examined.level.name(),
            reason: blocked.map(Reason::of).or(unproven),
            uses: rows(&uses),
            differences: examined.differences,
        }
    }
}

impl Reason {
    fn of(blocked: &PortedUse) -> Reason {
        Reason {
            message: blocked.message.clone(),
            place: Place::of(blocked),
            advice: match &blocked.fate {
                Fate::Blocked { advice, .. } => advice.clone(),
                _ => None,
            },
        }
    }

    fn unproven(system: System, error: &Error) -> Reason {
        let by = match system {
            System::Linux => "it is not proven safe by the rules of Linux",
            System::Windows => "what was made of it is not proven safe by the rules of Windows",
        };
        let first = error.diagnostics().into_iter().next();
        let Some(first) = first else {
            return Reason {
                message: by.to_owned(),
                place: None,
                advice: None,
            };
        };
        Reason {
            message: format!("{by}: {}", first.message),
            place: first.instruction.map(|instruction| {
                let line = first.place.as_ref();
                Place {
                    function: instruction.function,
                    slot: instruction.slot,
                    file: line.map(|line| line.file.clone()),
                    line: line.map(|line| line.line),
                    column: line.map(|line| line.column),
                    text: line.map(|line| line.text.trim().to_owned()),
                }
            }),
            advice: first.help,
        }
    }
}

/// One row for each thing that something else becomes of, by kind and then in the order in which they are met.
fn rows(uses: &[PortedUse]) -> Vec<Row> {
    let mut rows: Vec<(Kind, Row)> = Vec::new();
    let mut known = BTreeMap::new();
    for of in uses {
        let (kind, name) = named(&of.subject);
        let (level, becomes, advice) = match &of.fate {
            Fate::Exact(becomes) => (Level::Exact, becomes, None),
            Fate::Degraded(lacks) => (Level::Degraded, lacks, None),
            Fate::Blocked { reason, advice } => (Level::Blocked, reason, advice.clone()),
        };
        let place = *known.entry((kind, name.clone(), level, becomes)).or_insert_with(|| {
            let row = Row {
                kind: kind.name(),
                name,
                level: level.name(),
                becomes: becomes.clone(),
                advice,
                places: Vec::new(),
            };
            rows.push((kind, row));
            rows.len() - 1
        });
        rows[place].1.places.extend(Place::of(of));
    }
    rows.sort_by_key(|(kind, _)| *kind);
    rows.into_iter().map(|(_, row)| row).collect()
}

/// In the order of tables.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    Section,
    Return,
    Field,
    Helper,
    Map,
    Instruction,
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Kind::Section => "section",
            Kind::Return => "return",
            Kind::Field => "field",
            Kind::Helper => "helper",
            Kind::Map => "map",
            Kind::Instruction => "instruction",
        }
    }
}

fn named(subject: &Subject) -> (Kind, String) {
    match subject {
        Subject::Section(name) => (Kind::Section, name.clone()),
        Subject::Return => (Kind::Return, "value".to_owned()),
        Subject::Field(name) => (Kind::Field, name.clone()),
        Subject::Helper(name) => (Kind::Helper, name.clone()),
        Subject::Map(name) => (Kind::Map, name.clone()),
        Subject::Instruction => (Kind::Instruction, String::new()),
    }
}
