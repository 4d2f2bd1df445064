//! `bpf2sys inspect`: what is in a driver, a DLL or an object file.

mod image;
mod module_metadata;
mod object;
mod object_file;

use std::path::{Path, PathBuf};

use bpf2sys_bytecode::{HashAlgorithm, Marks};
use bpf2sys_platform::Platform;
use bpf2sys_retarget::{Settings, System};
use bpf2sys_simulator::SimulatorError;
use clap::ValueEnum;

use self::module_metadata::ModuleMetadata;
use super::reporter::Reporter;
use super::{Outcome, output};
use crate::{Error, ErrorKind, files};

/// Show what is in a driver, a DLL or an object file: programs, maps, helpers, sections, hash.
///
/// Of a COFF object file, which is not linked yet, only sections and names are shown.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  bpf2sys inspect udp_filter.sys
  bpf2sys inspect udp_filter.o
  bpf2sys inspect --disassemble udp_filter.o
  bpf2sys inspect --format module-metadata udp_filter.sys
  bpf2sys inspect --json udp_filter.sys | jq '.module.programs[].name'")]
pub(super) struct Arguments {
    /// A driver (`.sys`), a DLL, or an object file
    #[arg(value_name = "FILE")]
    file: PathBuf,

    /// Print JSON
    #[arg(long)]
    json: bool,

    /// Print it in this form [default: text, or json with `--json`]
    #[arg(long, value_name = "FORM")]
    format: Option<Format>,

    /// Print the instructions of an object's functions, with the source lines they came from
    #[arg(long, conflicts_with_all = ["json", "format"])]
    disassemble: bool,

    #[command(flatten)]
    providers: super::providers::ProviderOptions,
}

/// `--format`
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Format {
    /// For people
    Text,
    /// Everything that is known of the file, as JSON
    Json,
    /// Only what the tables of a driver or DLL tell the runtime, as JSON that can be compared with that of another
    /// compiler's driver
    ModuleMetadata,
}

impl Arguments {
    fn format(&self) -> Result<Format, Error> {
        match (self.json, self.format) {
            (true, Some(Format::Text)) => {
                Err(ErrorKind::Usage("`--json` and `--format text` contradict each other".into()).into())
            }
            (_, Some(format)) => Ok(format),
            (true, None) => Ok(Format::Json),
            (false, None) => Ok(Format::Text),
        }
    }
}

pub(super) fn run(arguments: &Arguments, reporter: &mut Reporter) -> Outcome {
    let bytes = files::read(&arguments.file)?;
    Ok(match print(arguments, &bytes, reporter) {
        Ok(()) => 0,
        Err(error) => reporter.fail(&error, &arguments.file),
    })
}

/// Prints what the arguments ask for.
fn print(arguments: &Arguments, bytes: &[u8], reporter: &mut Reporter) -> Result<(), Error> {
    let file = &arguments.file;
    let format = arguments.format()?;
    let providers = arguments.providers.load(reporter)?;
    let platform = providers.platform();
    let native = bpf2sys_simulator::object_file::describe(bytes);
    let is_image = bytes.starts_with(b"MZ");
    if arguments.disassemble && (is_image || native.is_some()) {
        let message = "`--disassemble` shows eBPF instructions, which a driver no longer has";
        return Err(ErrorKind::Usage(message.into()).into());
    }
    if is_image {
        let description = image::describe(bytes)?;
        return match format {
            Format::Text => output::print(&image::text(file, &description, platform)),
            Format::Json => output::print_json(&description),
            Format::ModuleMetadata => output::print_json(&ModuleMetadata::new(file, &description, platform)?),
        };
    }
    let is_object = bytes.starts_with(b"\x7fELF");
    if format == Format::ModuleMetadata && (is_object || native.is_some()) {
        let message = "`--format module-metadata` shows the tables of a driver or DLL, which an object file does not have \
                       yet; build one first";
        return Err(ErrorKind::Usage(message.into()).into());
    }
    let json = format == Format::Json;
    if is_object {
        let recognition = bpf2sys_retarget::recognize(&Marks::read(bytes)?, platform);
        let name = file.to_string_lossy();
        // Its numbers mean what they mean there.
        let (module, platform) = if recognition.system == Some(System::Linux) {
            let hash = Some(HashAlgorithm::default());
            (
                bpf2sys_retarget::read_linux(bytes, &name, hash, &Settings::default())?,
                bpf2sys_retarget::linux(),
            )
        } else {
            (bpf2sys_bytecode::read(bytes, &name)?, platform)
        };
        if arguments.disassemble {
            return output::print(&object::disassembly(&module));
        }
        let description = object::Description::new(&module, &recognition, platform);
        return if json {
            output::print_json(&description)
        } else {
            output::print(&object::text(file, &description, platform))
        };
    }
    if let Some(description) = native {
        let description = description.map_err(SimulatorError::from)?;
        return if json {
            output::print_json(&description)
        } else {
            output::print(&object_file::text(file, &description))
        };
    }
    Err(ErrorKind::UnknownFormat { path: file.clone() }.into())
}

/// What `build` prints of the driver it wrote.
pub(super) fn summary(file: &Path, image: &[u8], platform: &Platform) -> Result<String, Error> {
    Ok(image::text(file, &image::describe(image)?, platform))
}

/// A map, as both kinds of files describe it.
struct MapLine<'a> {
    name: &'a str,
    map_type: u32,
    key_size: u32,
    value_size: u32,
    max_entries: u32,
    pinned: bool,
    /// Name of the template, for maps of maps.
    inner: Option<&'a str>,
}

impl MapLine<'_> {
    fn text(&self, platform: &Platform) -> String {
        format!(
            "  {:<24} {}, key {}, value {}, {} entries{}{}\n",
            self.name,
            map_type_name(platform, self.map_type),
            self.key_size,
            self.value_size,
            self.max_entries,
            if self.pinned { ", pinned by name" } else { "" },
            self.inner
                .map_or_else(String::new, |inner| format!(", of maps like `{inner}`"))
        )
    }
}

/// What a function uses of one kind, as a line; nothing if it uses nothing.
fn uses_line(title: &str, names: &[String]) -> String {
    match names {
        [] => String::new(),
        names => format!("  {:<24} {title} {}\n", "", names.join(", ")),
    }
}

fn map_type_name(platform: &Platform, value: u32) -> String {
    platform
        .map_type(value)
        .map_or_else(|| format!("type {value}"), |t| t.name.clone())
}
