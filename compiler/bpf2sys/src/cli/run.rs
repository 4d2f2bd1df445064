//! `bpf2sys run`: load a driver as Windows would, and run a program of it, by its code or by the interpreter.

use std::fmt::Write;
use std::path::PathBuf;

use bpf2sys_simulator::{
    HexBytes, Input, MapContents, MapPreset, ObjectFile, PresetValue, RunReport, RunRequest, SimulatedRuntime,
};

use super::reporter::Reporter;
use super::{Outcome, output};
use crate::{BuildOptions, Error, ErrorKind, Providers, files};

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
  bpf2sys run udp_filter.sys --program udp_filter --packet dns.bin
  bpf2sys run udp_filter.sys --packet dns.bin --set-map blocked_ports:0035=01
  bpf2sys run flow_log.sys --context established.bin --repeat 3 --json
  bpf2sys run udp_filter.sys                       only load, check and unload
  bpf2sys run --interpret udp_filter.o --packet dns.bin
  bpf2sys run --platform their.reg theirs.sys --context open.bin --answer their_helper=7

Map keys and values are bytes in hexadecimal, in the order in which they are in memory.")]
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

    /// The program to run; not needed where there is only one
    #[arg(short, long, value_name = "NAME")]
    program: Option<String>,

    /// Bytes of the packet (or of what the program type has between its data pointers); given several times, the
    /// program runs on each, in this order, with the same maps
    #[arg(long, value_name = "FILE")]
    packet: Vec<PathBuf>,

    /// Bytes of the context structure, from its first byte; the rest is zero, and data pointers are set
    #[arg(long, value_name = "FILE")]
    context: Option<PathBuf>,

    /// Run this many times on each input
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    repeat: u32,

    /// Set a map entry before the first run; for maps of maps and program arrays the value is `@` and a name
    #[arg(long, value_name = "MAP:KEY=VALUE")]
    set_map: Vec<String>,

    /// What a helper or function gives that only its extension implements, whatever it is called with; bytes in hexadecimal
    /// behind a colon are what it writes to the memory that it is given to write to, with zeros behind
    #[arg(long, value_name = "FUNCTION=VALUE[:BYTES]")]
    answer: Vec<String>,

    /// Number of simulated processors
    #[arg(long, value_name = "N", default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..=64))]
    cpus: u32,

    /// Version of the simulated runtime: 0.21, 1.4 or 1.6
    #[arg(long, value_name = "VERSION", default_value = "1.6", value_parser = runtime)]
    runtime: SimulatedRuntime,

    /// Stop after this many seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=86_400))]
    time_limit: u64,

    /// Print JSON
    #[arg(long)]
    json: bool,

    #[command(flatten)]
    providers: super::providers::ProviderOptions,
}

pub(super) fn run(arguments: &Arguments, reporter: &mut Reporter) -> Outcome {
    let input = files::read(&arguments.image)?;
    let providers = arguments.providers.load(reporter)?;
    let (image, interpret) = match image(arguments, input, &providers) {
        Ok(both) => both,
        Err(error) => return Ok(reporter.fail(&error, &arguments.image)),
    };
    let mut request = request(arguments, image, interpret)?;
    request.platform_files = providers.files().to_vec();
    request.answers = super::answers::answers(&arguments.answer, providers.platform())?;
    match bpf2sys_simulator::run(&request) {
        Ok(report) if arguments.json => output::print_json(&report).map(|()| 0),
        Ok(report) => output::print(&text(&report)).map(|()| 0),
        Err(error) => Ok(reporter.fail(&error.into(), &arguments.image)),
    }
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

fn request(arguments: &Arguments, image: Vec<u8>, interpret: Option<ObjectFile>) -> Result<RunRequest, Error> {
    let presets = arguments
        .set_map
        .iter()
        .map(|text| preset(text))
        .collect::<Result<_, _>>()?;
    let context = arguments.context.as_deref().map(files::read).transpose()?;
    let wanted = arguments.program.is_some() || context.is_some() || !arguments.packet.is_empty();
    let mut inputs = Vec::new();
    if wanted {
        let program = program_name(arguments, &image)?;
        let input = |packet: Vec<u8>| Input {
            program: program.clone(),
            packet: HexBytes(packet),
            context: HexBytes(context.clone().unwrap_or_default()),
            repeat: arguments.repeat,
            ..Input::default()
        };
        for packet in &arguments.packet {
            inputs.push(input(files::read(packet)?));
        }
        if inputs.is_empty() {
            inputs.push(input(Vec::new()));
        }
    }
    let mut request = RunRequest {
        image,
        interpret,
        inputs,
        presets,
        time_limit_ms: arguments.time_limit * 1000,
        ..RunRequest::default()
    };
    request.runtime = arguments.runtime;
    request.machine.cpus = arguments.cpus;
    Ok(request)
}

fn runtime(text: &str) -> Result<SimulatedRuntime, String> {
    match text {
        "0.21" => Ok(SimulatedRuntime::V0_21),
        "1.4" => Ok(SimulatedRuntime::V1_4),
        "1.6" => Ok(SimulatedRuntime::V1_6),
        _ => Err("runtimes that differ are 0.21, 1.4 and 1.6".into()),
    }
}

/// The program to run: the one named, or the only one there is.
fn program_name(arguments: &Arguments, image: &[u8]) -> Result<String, Error> {
    if let Some(name) = &arguments.program {
        return Ok(name.clone());
    }
    let description = bpf2sys_simulator::describe::describe(image).map_err(bpf2sys_simulator::SimulatorError::from)?;
    let names: Vec<String> = description
        .module
        .into_iter()
        .flat_map(|m| m.programs)
        .map(|p| p.name)
        .collect();
    match <[String; 1]>::try_from(names) {
        Ok([name]) => Ok(name),
        Err(names) => Err(ErrorKind::Usage(format!(
            "say which program to run with `--program`: {}",
            names.join(", ")
        ))
        .into()),
    }
}

/// Parses `MAP:KEY=VALUE`.
fn preset(text: &str) -> Result<MapPreset, Error> {
    let parse = || {
        let (map, entry) = text.split_once(':')?;
        let (key, value) = entry.split_once('=')?;
        let value = match value.strip_prefix('@') {
            Some(name) => PresetValue::Name(name.to_owned()),
            None => PresetValue::Bytes(HexBytes::parse(value)?),
        };
        Some(MapPreset {
            map: map.to_owned(),
            key: HexBytes::parse(key)?,
            value,
        })
    };
    parse().ok_or_else(|| {
        ErrorKind::Usage(format!(
            "`--set-map {text}`: expected MAP:KEY=VALUE with key and value in hexadecimal, or @NAME as value"
        ))
        .into()
    })
}

fn text(report: &RunReport) -> String {
    let mut text = String::new();
    for result in &report.results {
        let _ = write!(text, "{}: {}", result.program, result.result);
        if let Some(name) = &result.result_name {
            let _ = write!(text, " ({name})");
        }
        if !result.tail_calls.is_empty() {
            let _ = write!(text, ", by tail calls through {}", result.tail_calls.join(", "));
        }
        text.push('\n');
    }
    if report.results.is_empty() {
        text += "loaded, checked and unloaded\n";
    }
    for line in &report.printed {
        let _ = writeln!(text, "printed: {line}");
    }
    for map in &report.maps {
        map_text(&mut text, map);
    }
    text
}

fn map_text(text: &mut String, map: &MapContents) {
    let _ = writeln!(text, "map {} ({}):", map.name, map.type_name);
    for entry in &map.entries {
        let value = match &entry.object {
            Some(object) => object.clone(),
            None => entry
                .values
                .iter()
                .map(ToString::to_string)
                .collect::<Vec<_>>()
                .join(" "),
        };
        let _ = writeln!(text, "  {}: {value}", entry.key);
    }
    for record in &map.records {
        match record.cpu {
            Some(cpu) => {
                let _ = writeln!(text, "  record on processor {cpu}: {}", record.data);
            }
            None => {
                let _ = writeln!(text, "  record: {}", record.data);
            }
        }
    }
}
