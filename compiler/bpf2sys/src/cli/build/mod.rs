//! `bpf2sys build`.

mod options;
mod targets;

use std::fmt::Write;
use std::path::{Path, PathBuf};

use bpf2sys_authenticode::Existing;
use bpf2sys_platform::Platform;
use clap::ValueEnum;

pub(super) use self::options::CompileOptions;
use self::targets::Target;
use super::output::Done;
use super::reporter::{Record, Reporter};
use super::sign::PrefixedSigningOptions;
use super::{Outcome, output};
use crate::messages::json::{Built, WrittenFile};
use crate::signing::Signing;
use crate::{BuildOptions, Error, ErrorKind, Form, Machine, Output, files};

/// Verify eBPF object files and compile each to a Windows driver.
///
/// Every program of an object is verified before anything is compiled; if one is rejected, no file is written. An object
/// gives all its outputs or none. The same object gives the same bytes on every machine.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  bpf2sys build udp_filter.o                           writes udp_filter.sys
  bpf2sys build udp_filter.o -o drivers/filter.sys
  bpf2sys build --out-dir drivers *.o
  bpf2sys build --arch x64 --arch arm64 udp_filter.o   writes udp_filter.{x64,arm64}.sys
  bpf2sys build --emit sys --emit asm udp_filter.o     writes udp_filter.{sys,asm}
  bpf2sys build --emit asm -o - udp_filter.o           shows what became of each line
  bpf2sys build --runtime 0.21 udp_filter.o            for machines with an older eBPF for Windows
  bpf2sys build --version-info version.toml filter.o   with file properties
  bpf2sys build --type xdp filter.o                    programs in sections of other names
  bpf2sys build --sign-pfx signing.pfx udp_filter.o    signed, as `bpf2sys sign` does it")]
#[allow(clippy::struct_excessive_bools)] // switches that have nothing to do with each other
pub(super) struct Arguments {
    /// Object files, as `clang -target bpf` writes them
    #[arg(value_name = "INPUT", required = true)]
    inputs: Vec<PathBuf>,

    /// Write the one output to this file; `-` is standard output [default: the input's name with what is emitted as
    /// extension, in this folder]
    #[arg(short, long, value_name = "FILE", conflicts_with = "out_dir")]
    output: Option<PathBuf>,

    /// Write the outputs to this folder, which is made if needed
    #[arg(long, value_name = "DIR")]
    out_dir: Option<PathBuf>,

    /// Compile for this architecture; several give one output each, with the architecture in its name
    #[arg(long = "arch", value_name = "ARCH", value_delimiter = ',', default_value = "x64")]
    architectures: Vec<Architecture>,

    /// Make this; several make one output each
    #[arg(long, value_name = "FORM", value_delimiter = ',', default_value = "sys")]
    emit: Vec<Emit>,

    /// Print no results; problems and warnings are told
    #[arg(short, long)]
    quiet: bool,

    #[command(flatten)]
    compilation: CompileOptions,

    #[command(flatten)]
    signing: PrefixedSigningOptions,
}

/// `--arch`
#[derive(Clone, Copy, Debug, ValueEnum)]
enum Architecture {
    X64,
    Arm64,
}

impl From<Architecture> for Machine {
    fn from(architecture: Architecture) -> Machine {
        match architecture {
            Architecture::X64 => Machine::X64,
            Architecture::Arm64 => Machine::Arm64,
        }
    }
}

/// `--emit`
#[derive(Clone, Copy, Debug, ValueEnum)]
enum Emit {
    /// Driver
    Sys,
    /// DLL with the function `get_metadata_table`
    Dll,
    /// COFF object file with the function `get_metadata_table`, for a linker
    Obj,
    /// Optimized Cranelift IR, as text
    Clif,
    /// Listing: source lines, eBPF instructions and native instructions side by side
    Asm,
}

impl From<Emit> for Form {
    fn from(emit: Emit) -> Form {
        match emit {
            Emit::Sys => Form::Sys,
            Emit::Dll => Form::Dll,
            Emit::Obj => Form::Obj,
            Emit::Clif => Form::Clif,
            Emit::Asm => Form::Asm,
        }
    }
}

impl Arguments {
    /// Whether standard output has what is built.
    pub(super) fn writes_to_standard_output(&self) -> bool {
        self.output.as_deref() == Some(Path::new("-"))
    }

    /// How images are signed, if they are.
    fn signing(&self, options: &BuildOptions) -> Result<Option<Signing>, Error> {
        let images = options.forms.iter().any(|form| form.is_image());
        if self.signing.0.says_who() && !images {
            return Err(ErrorKind::Usage("only drivers and DLLs can be signed, and none is made".into()).into());
        }
        self.signing.0.signing(Existing::Refuse, PrefixedSigningOptions::PREFIX)
    }
}

pub(super) fn run(arguments: &Arguments, reporter: &mut Reporter) -> Outcome {
    let machines = arguments.architectures.iter().copied().map(Machine::from).collect();
    let forms = arguments.emit.iter().copied().map(Form::from).collect();
    let options = arguments.compilation.build_options(machines, forms, reporter)?;
    let signing = arguments.signing(&options)?;
    let targets = targets::of(arguments, &options.products())?;
    if let Some(folder) = &arguments.out_dir {
        files::create_folder(folder)?;
    }
    output::for_each_input(reporter, &arguments.inputs, "building", |index, input| {
        build_one(input, &targets[index], &options, signing.as_ref(), arguments.quiet)
    })
}

/// Builds an object, and signs its images. `targets` are where its outputs go, in the order of [`BuildOptions::products`].
fn build_one(
    input: &Path,
    targets: &[Target],
    options: &BuildOptions,
    signing: Option<&Signing>,
    quiet: bool,
) -> Result<Done, Error> {
    let object = files::read(input)?;
    let mut built = crate::build(&object, &input.to_string_lossy(), options)?;
    if let Some(signing) = signing {
        for output in built.outputs.iter_mut().filter(|output| output.form.is_image()) {
            output.bytes = signing.sign(&output.bytes)?;
        }
    }
    let mut written = Vec::with_capacity(built.outputs.len());
    for (target, output) in targets.iter().zip(&built.outputs) {
        match target {
            Target::StandardOutput => output::print_bytes(&output.bytes)?,
            Target::File(path) => written.push((path.as_path(), output)),
        }
    }
    let contents: Vec<(&Path, &[u8])> = written.iter().map(|(path, output)| (*path, &*output.bytes)).collect();
    files::write_all(&contents)?;
    let warnings = crate::warnings(&built.verified);
    if quiet {
        return Ok(Done {
            warnings,
            ..Done::default()
        });
    }
    Ok(Done {
        text: summary(&written, options.providers.platform())?,
        record: Some(Record::Built(record(input, &written))),
        warnings,
    })
}

/// What is told of a build, for machines.
fn record(input: &Path, written: &[(&Path, &Output)]) -> Built {
    let outputs = written.iter().map(|(path, output)| WrittenFile {
        file: path.display().to_string(),
        machine: output.machine.to_string(),
        form: output.form.extension(),
        size: output.bytes.len(),
    });
    Built {
        input: input.display().to_string(),
        outputs: outputs.collect(),
    }
}

/// What to tell of the files: everything that is in the one image, or a line for each.
fn summary(written: &[(&Path, &Output)], platform: &Platform) -> Result<String, Error> {
    if let [(path, output)] = written
        && matches!(output.form, Form::Sys | Form::Dll)
    {
        return super::inspect::summary(path, &output.bytes, platform);
    }
    let mut text = String::new();
    for (path, output) in written {
        let what = match output.form {
            Form::Sys => "driver",
            Form::Dll => "DLL",
            Form::Obj => "object file for a linker",
            Form::Clif => "Cranelift IR",
            Form::Asm => "listing",
        };
        let size = match output.form {
            Form::Sys | Form::Dll | Form::Obj => format!("{} bytes", output.bytes.len()),
            Form::Clif | Form::Asm => format!("{} lines", output.bytes.split(|byte| *byte == b'\n').count() - 1),
        };
        let _ = writeln!(text, "{}: {} {what}, {size}", path.display(), output.machine);
    }
    Ok(text)
}
