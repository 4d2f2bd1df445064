//! `bpf2sys run`: load a driver as Windows would, and run a program of it, by its code or by the interpreter.

mod compare;
mod cost;
mod inputs;
mod machine;
mod maps;
mod report;

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::mpsc;

use bpf2sys_platform::{Guid, Platform, ProgramType};
use bpf2sys_simulator::usermode::UserModeProgram;
use bpf2sys_simulator::{ObjectFile, RunReport, RunRequest};
use indicatif::ProgressBar;

use self::compare::{Wanted, compare};
use self::inputs::{Failure, InputOptions, Inputs};
use self::machine::{MachineOptions, MishapOptions};
use self::maps::{KnownMaps, MapOptions};
use self::report::{Known, OutputOptions, Telling};
use super::reporter::Reporter;
use super::{Outcome, output};
use crate::cli::coverage::Counted;
use crate::{BuildOptions, Error, ErrorKind, Providers, files, line_tables};

/// Load a driver as Windows would, run a program of it on given input, and unload it.
///
/// The image is checked as the Windows loader, the eBPF runtime and its user-mode library check it. Its code runs
/// natively in a process of its own, with simulated maps and helpers; a fault in it is reported. Nothing of this machine
/// shows through: clocks, random numbers and process ids are simulated, and equal runs give equal reports.
///
/// With `--interpret` the input is an object file. It is verified and built in memory, and the driver is loaded, but its
/// programs are executed instruction by instruction, as RFC 9669 defines them. Every access to memory is checked, and what
/// goes wrong is reported with the eBPF instruction and the source line. What differs from a run of the driver is a
/// mistake of this tool.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  bpf2sys run udp_filter.sys --packet traffic.pcapng --write-pcap judged.pcapng
  bpf2sys run udp_filter.sys --packet dns.bin --load-maps blocked.json --changes
  bpf2sys run connect_redirect.sys --program connect_redirect4 --context '{\"user_ip4\": \"192.0.2.1\", \"user_port\": 443}'
  bpf2sys run flow_log.sys --context connections.json --events -
  bpf2sys run flow_log.sys --context established.json --full events --json
  bpf2sys run udp_filter.sys --packet traffic.pcapng --compare last_release.sys --instructions
  bpf2sys run udp_filter.sys --packet traffic.pcapng --coverage ran.info
  bpf2sys run udp_filter.sys                       only load, check and unload
  bpf2sys run --interpret udp_filter.o --packet dns.bin
  bpf2sys run --platform their.reg theirs.sys --context open.bin --answer their_helper=7

With --set-map, keys and values are bytes in hexadecimal, in the order in which they are in memory.")]
pub(super) struct Arguments {
    /// The driver or DLL; with `--interpret`, the object file
    #[arg(value_name = "IMAGE")]
    image: PathBuf,

    /// Execute the programs of an object file by the interpreter
    #[arg(long)]
    interpret: bool,

    /// With `--interpret`: verify every program as `build --type` does
    #[arg(long = "type", value_name = "SECTION", requires = "interpret")]
    program_type: Option<String>,

    /// The program to run; not needed where there is only one. Several are attached at one place: they run one after another on
    /// the same context, up to the one that decides
    #[arg(short, long, value_name = "NAME")]
    program: Vec<String>,

    #[command(flatten)]
    inputs: InputOptions,

    #[command(flatten)]
    maps: MapOptions,

    #[command(flatten)]
    output: OutputOptions,

    #[command(flatten)]
    machine: MachineOptions,

    #[command(flatten)]
    mishaps: MishapOptions,

    #[command(flatten, next_help_heading = "Options")]
    providers: super::providers::ProviderOptions,
}

pub(super) fn run(arguments: &Arguments, reporter: &mut Reporter) -> Outcome {
    let input = files::read(&arguments.image)?;
    let providers = arguments.providers.load(reporter)?;
    let (image, interpret) = match image(arguments, input, &providers) {
        Ok(both) => both,
        Err(error) => return Ok(reporter.fail(&error, &arguments.image)),
    };
    let platform = providers.platform();
    let interpreted = interpret.as_ref().map(|object| object.bytes.as_slice());
    let known = arguments.maps.known(&arguments.image, &image, interpreted)?;
    let counted = counted(arguments, &image, interpret.as_ref(), &providers)?;
    let mut request = RunRequest {
        image,
        interpret,
        platform_files: providers.files().to_vec(),
        tell: arguments.output.tell(),
        trace: arguments.output.trace(),
        ..RunRequest::default()
    };
    arguments.machine.apply(&mut request, platform)?;
    arguments.mishaps.apply(&mut request)?;
    arguments.maps.apply(&mut request, &known)?;
    let progress = output::endless_progress(reporter, "running");
    let known = (&known, counted.as_ref());
    let mut whose = arguments.image.clone();
    let performed = perform(arguments, &request, known, (platform, &progress), &mut whose);
    progress.finish_and_clear();
    match performed {
        Err(error) if matches!(error.kind(), ErrorKind::Simulate(_)) => Ok(reporter.fail(&error, &whose)),
        other => other.map(|()| 0),
    }
}

/// Runs, and tells what comes out. An error is about the image that `whose` is then.
fn perform(
    arguments: &Arguments,
    request: &RunRequest,
    (known, counted): (&KnownMaps, Option<&Counted>),
    (platform, progress): (&Platform, &ProgressBar),
    whose: &mut PathBuf,
) -> Result<(), Error> {
    let events = arguments.mishaps.events()?;
    let wanted = !arguments.program.is_empty() || arguments.inputs.are_given();
    let program = wanted.then(|| program(arguments, &request.image)).transpose()?;
    let program_type = program.as_ref().and_then(|program| type_of(program, platform));
    let inputs = match &program {
        Some(program) => Some(arguments.inputs.read(
            (
                program.name.clone(),
                arguments.program.iter().skip(1).cloned().collect(),
            ),
            program_type,
            (events, request.machine.boot_time, arguments.output.needs_all_data()),
        )?),
        None => None,
    };
    let (sender, origins) = mpsc::channel();
    let failure = Failure::default();
    let inputs = inputs
        .into_iter()
        .flat_map(|inputs: Inputs| inputs.each(sender.clone(), &failure));
    if let Some(other) = &arguments.output.compare {
        let wanted = Wanted {
            names: [&arguments.image, other],
            repeat: arguments.inputs.repeat(),
            each: arguments.output.each,
            json: arguments.output.json,
            unit: arguments.output.unit(),
            program_type,
            types: known.types.as_ref(),
        };
        let request_of_other = RunRequest {
            image: files::read(other)?,
            interpret: None,
            ..request.clone()
        };
        let compared = compare(wanted, [request, &request_of_other], inputs, &origins);
        if let Some(unread) = failure.into_inner().unwrap_or_default() {
            return Err(unread);
        }
        return compared.map_err(|(is_of_other, error)| {
            if is_of_other {
                whose.clone_from(other);
            }
            error
        });
    }
    let mut telling = Telling::new(
        &arguments.output,
        Known {
            program_type,
            types: known.types.as_ref(),
        },
        origins,
        (arguments.inputs.repeat(), arguments.maps.takes_output(), progress),
    )?;
    let mut untold = None;
    let report: RunReport = bpf2sys_simulator::run_each(request, inputs, |progress| match telling.take(progress) {
        Ok(()) => ControlFlow::Continue(()),
        Err(error) => {
            untold = Some(error);
            ControlFlow::Break(())
        }
    })?;
    let unread = failure.into_inner().unwrap_or_default();
    if let Some(error) = untold.or(unread) {
        return Err(error);
    }
    arguments.maps.finish(&report, known)?;
    let mut told = String::new();
    if let (Some(counted), Some(trace)) = (counted, &report.trace) {
        let folder = arguments.image.parent().unwrap_or(Path::new(""));
        told = (arguments.output.coverage).write(counted.coverage(trace), &[folder])?;
    }
    telling.finish(report, &told)
}

/// The code whose lines are counted, if any are to be.
fn counted(
    arguments: &Arguments,
    image: &[u8],
    interpret: Option<&ObjectFile>,
    providers: &Providers,
) -> Result<Option<Counted>, Error> {
    if !arguments.output.coverage.is_wanted() {
        return Ok(None);
    }
    if let Some(object) = interpret {
        let module = bpf2sys_bytecode::read(&object.bytes, &object.name)?;
        return Ok(Some(Counted::Interpreted(Box::new(module))));
    }
    let table = line_tables::find(&arguments.image, image, arguments.output.lines.as_deref(), providers)?;
    Counted::native(image, table).map(Some)
}

/// The driver, and the object whose programs are interpreted instead of its own.
fn image(arguments: &Arguments, input: Vec<u8>, providers: &Providers) -> Result<(Vec<u8>, Option<ObjectFile>), Error> {
    let path = arguments.image.display();
    let usage = |message: String| Error::from(ErrorKind::Usage(message));
    if !arguments.interpret {
        if input.starts_with(b"\x7fELF") {
            return Err(usage(format!(
                "`{path}` is an object file: build a driver from it with `bpf2sys build`, or add `--interpret`"
            )));
        }
        return Ok((input, None));
    }
    if input.starts_with(b"MZ") {
        return Err(usage(format!(
            "`{path}` is a driver, which holds no eBPF instructions: `--interpret` takes the object it was built from"
        )));
    }
    let name = arguments.image.to_string_lossy().into_owned();
    let options = BuildOptions {
        program_type: arguments.program_type.clone(),
        providers: providers.clone(),
        ..BuildOptions::default()
    };
    let driver = crate::build(&input, &name, &options)?.outputs.swap_remove(0); // the default makes one
    Ok((driver.bytes, Some(ObjectFile { name, bytes: input })))
}

/// The program to run: the one named, or the only one there is.
fn program(arguments: &Arguments, image: &[u8]) -> Result<UserModeProgram, Error> {
    let description = bpf2sys_simulator::describe::describe(image).map_err(bpf2sys_simulator::SimulatorError::from)?;
    let mut programs: Vec<UserModeProgram> = description.module.into_iter().flat_map(|m| m.programs).collect();
    let names = || programs.iter().map(|p| p.name.as_str()).collect::<Vec<_>>().join(", ");
    let found = match arguments.program.first() {
        Some(name) => programs.iter().position(|p| p.name == *name).ok_or_else(|| {
            let message = format!("there is no program {name:?}; there are {}", names());
            Error::from(ErrorKind::Simulate(bpf2sys_simulator::SimulatorError::Request(message)))
        })?,
        None if programs.len() == 1 => 0,
        None => {
            let message = format!("say which program to run with `--program`: {}", names());
            return Err(ErrorKind::Usage(message).into());
        }
    };
    Ok(programs.swap_remove(found))
}

/// The type of a program, if the platform has it.
fn type_of<'a>(program: &UserModeProgram, platform: &'a Platform) -> Option<&'a ProgramType> {
    let guid: Guid = program.program_type.parse().ok()?;
    platform
        .program_types
        .iter()
        .find(|t| t.guid == guid)
        .map(AsRef::as_ref)
}
