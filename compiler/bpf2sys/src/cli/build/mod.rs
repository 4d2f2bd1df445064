//! `bpf2sys build`.

mod targets;

use std::fmt::Write;
use std::path::{Path, PathBuf};

use bpf2sys_authenticode::Existing;
use bpf2sys_platform::Platform;
use clap::ValueEnum;

use self::targets::Target;
use super::output::Done;
use super::reporter::{Record, Reporter};
use super::sign::PrefixedSigningOptions;
use super::{Outcome, output};
use crate::messages::json::{Built, WrittenFile};
use crate::signing::Signing;
use crate::{
    BuildOptions, Error, ErrorKind, Form, HashAlgorithm, ImageOptions, Machine, Output, RuntimeLevel, VersionInfo,
    files,
};

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

    /// The oldest runtime that the output must load in; newer ones take it too
    ///
    /// Do not load it in an older one: not all of them refuse it. A runtime older than 1.4 takes a module of level 1.4 and
    /// gives it the wrong memory for maps. One of level 1.6 is refused by runtimes older than 1.5.
    #[arg(long, value_name = "LEVEL", default_value = "1.6")]
    runtime: Runtime,

    /// Algorithm of the hashes that the output states: of the object, and of the helpers that each program was compiled for
    #[arg(long, value_name = "ALGORITHM", default_value = "sha256")]
    hash: Hash,

    /// arm64: use atomic instructions of the Large System Extensions; the driver then needs an ARMv8.1 processor
    #[arg(long)]
    lse: bool,

    /// arm64: sign return addresses, which protects them on processors with pointer authentication
    #[arg(long)]
    sign_return_address: bool,

    /// Whether Windows checks calls of helpers: every image but an object file says that its calls go through Control Flow
    /// Guard, and they do
    #[arg(long, value_name = "on|off", default_value = "on")]
    cfg: Cfg,

    /// Have Windows check the driver's signature whenever it loads it; without a signature that the machine trusts it then
    /// never loads
    #[arg(long)]
    force_integrity: bool,

    /// What the file properties of drivers and DLLs show: company, product, description, versions, copyright; see `bpf2sys
    /// explain BPF9007` for an example
    #[arg(long, value_name = "FILE.toml")]
    version_info: Option<PathBuf>,

    /// Print no results; problems and warnings are told
    #[arg(short, long)]
    quiet: bool,

    #[command(flatten)]
    verification: super::verify::Options,

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

/// `--runtime`
#[derive(Clone, Copy, Debug, ValueEnum)]
enum Runtime {
    /// As bpf2c 1.6 writes it; runtimes of 1.5 take it too
    #[value(name = "1.6")]
    V1_6,
    /// Without functions of other modules that are found by name (BTF-resolved functions)
    #[value(name = "1.4")]
    V1_4,
    /// Also without lookups in array maps that need no call
    #[value(name = "0.21")]
    V0_21,
}

impl From<Runtime> for RuntimeLevel {
    fn from(runtime: Runtime) -> RuntimeLevel {
        match runtime {
            Runtime::V1_6 => RuntimeLevel::V1_6,
            Runtime::V1_4 => RuntimeLevel::V1_4,
            Runtime::V0_21 => RuntimeLevel::V0_21,
        }
    }
}

/// `--cfg`
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Cfg {
    On,
    Off,
}

/// `--hash`
#[derive(Clone, Copy, Debug, ValueEnum)]
enum Hash {
    Sha256,
    Sha384,
    Sha512,
    /// State no hashes; the runtime then can't tell that a helper has changed
    None,
}

impl From<Hash> for Option<HashAlgorithm> {
    fn from(hash: Hash) -> Option<HashAlgorithm> {
        match hash {
            Hash::Sha256 => Some(HashAlgorithm::Sha256),
            Hash::Sha384 => Some(HashAlgorithm::Sha384),
            Hash::Sha512 => Some(HashAlgorithm::Sha512),
            Hash::None => None,
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

    fn build_options(&self, reporter: &mut Reporter) -> Result<BuildOptions, Error> {
        let options = BuildOptions {
            machines: self.architectures.iter().copied().map(Machine::from).collect(),
            forms: self.emit.iter().copied().map(Form::from).collect(),
            runtime: self.runtime.into(),
            hash: self.hash.into(),
            lse: self.lse,
            sign_return_address: self.sign_return_address,
            control_flow_guard: self.cfg == Cfg::On,
            image: ImageOptions {
                force_integrity: self.force_integrity,
                version_info: self.version_info.as_deref().map(version_info).transpose()?,
            },
            ..self.verification.build_options(reporter)?
        };
        let switches = [("--lse", self.lse), ("--sign-return-address", self.sign_return_address)];
        if self.cfg == Cfg::Off && options.forms.iter().all(|form| *form == Form::Obj) {
            return Err(ErrorKind::Usage(
                "`--cfg off` is without effect: an object file never goes through Control Flow Guard".into(),
            )
            .into());
        }
        let of_images = [
            ("--force-integrity", self.force_integrity),
            ("--version-info", self.version_info.is_some()),
        ];
        let makes_image = options.forms.iter().any(|form| matches!(form, Form::Sys | Form::Dll));
        if let Some((switch, _)) = of_images.into_iter().find(|(_, given)| *given && !makes_image) {
            return Err(ErrorKind::Usage(format!(
                "`{switch}` is about drivers and DLLs, and none is made; add `--emit sys` or `--emit dll`"
            ))
            .into());
        }
        match switches.into_iter().find(|(_, given)| *given) {
            Some((switch, _)) if !options.machines.contains(&Machine::Arm64) => Err(ErrorKind::Usage(format!(
                "`{switch}` is about arm64 code, and none is made; add `--arch arm64`"
            ))
            .into()),
            _ => Ok(options),
        }
    }
}

/// Reads the file for the version resource.
fn version_info(path: &Path) -> Result<VersionInfo, Error> {
    let failed = |problem| ErrorKind::VersionInfo {
        path: path.to_owned(),
        problem,
    };
    let text = String::from_utf8(files::read(path)?).map_err(|_| failed("it is not UTF-8 text".into()))?;
    Ok(crate::version_info::parse(&text).map_err(failed)?)
}

impl Arguments {
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
    let options = arguments.build_options(reporter)?;
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
