//! `bpf2sys build`.

mod depfile;
pub(super) mod embedded;
mod options;
pub(super) mod project;
mod summary;
mod targets;

use std::collections::BTreeSet;
use std::fmt::Write;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};

use bpf2sys_authenticode::Existing;
use bpf2sys_verifier::VerifiedModule;
use clap::{ValueEnum, ValueHint};

pub(super) use self::options::CompileOptions;
use self::project::Given;
use self::summary::Summary;
use self::targets::{Chooser, Target, Targets};
use super::output::{Batch, Done, Work};
use super::reporter::{Record, Reporter};
use super::sign::PrefixedSigningOptions;
use super::source::{self, SourceOptions};
use super::{Outcome, output};
use crate::hash::sha256;
use crate::messages::json::{Built, WrittenFile};
use crate::signing::Signing;
use crate::{BuildOptions, Compiler, CompilerOutput, Error, ErrorKind, Form, Machine, Output, Ported, files};

/// Verify eBPF programs and compile each object file or C source to a Windows driver.
///
/// C sources are compiled by clang first. Every program of an input is verified before anything is compiled; if one is
/// rejected, no file is written. An input gives all its outputs or none. The same object gives the same bytes on every
/// machine. A file that would get the bytes that it has is not written, and keeps its time.
///
/// Without inputs, the project is built whose file `bpf2sys.toml` is in this folder or the nearest above: `bpf2sys init`
/// writes one. An argument `@FILE` stands for the arguments in that file, one per line.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  bpf2sys build udp_filter.o                           writes udp_filter.sys
  bpf2sys build udp_filter.bpf.c -D LIMIT=8            the same from C, with clang
  bpf2sys build                                        what bpf2sys.toml says
  bpf2sys build udp_filter.o -o drivers/filter.sys
  bpf2sys build --out-dir drivers *.o
  bpf2sys build --arch x64 --arch arm64 udp_filter.o   writes udp_filter.{x64,arm64}.sys
  bpf2sys build --emit sys --emit asm udp_filter.o     writes udp_filter.{sys,asm}
  bpf2sys build --emit asm -o - udp_filter.o           shows what became of each line
  bpf2sys build --runtime 0.21 udp_filter.o            for machines with an older eBPF for Windows
  bpf2sys build --version-info version.toml filter.o   with file properties
  bpf2sys build --type xdp filter.o                    programs in sections of other names
  bpf2sys build --sign-pfx signing.pfx udp_filter.o    signed, as `bpf2sys sign` does it
  bpf2sys build --retarget udp_filter.o                an object for Linux, too; see `bpf2sys port`
  bpf2sys build --depfile a.d a.bpf.c                  and tells Make or Ninja what was read
  bpf2sys build --summary json @inputs.txt             many, with one JSON document about all")]
#[allow(clippy::struct_excessive_bools)] // switches that have nothing to do with each other
pub(super) struct Arguments {
    // First, since reading the others takes them away.
    #[command(flatten)]
    given: Given,

    /// Object files, as `clang -target bpf` writes them, and C sources (`.c`)
    #[arg(value_name = "INPUT", value_hint = ValueHint::FilePath)]
    inputs: Vec<PathBuf>,

    /// Build with the options of this project file, all its inputs or those that are named here
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    project: Option<PathBuf>,

    /// Write the one output to this file; `-` is standard output [default: the input's name with what is emitted as
    /// extension, in this folder]
    #[arg(short, long, value_name = "FILE", conflicts_with = "out_dir", value_hint = ValueHint::FilePath)]
    output: Option<PathBuf>,

    /// Write the outputs to this folder, which is made if needed
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath)]
    out_dir: Option<PathBuf>,

    /// Compile for this architecture; several give one output each, with the architecture in its name
    #[arg(long = "arch", value_name = "ARCH", value_delimiter = ',', default_value = "x64")]
    architectures: Vec<Architecture>,

    /// Make this; several make one output each
    #[arg(long, value_name = "FORM", value_delimiter = ',', default_value = "sys")]
    emit: Vec<Emit>,

    /// Write the object of each C source, too, beside the outputs: `a.bpf.c` gives `a.bpf.o`
    #[arg(long)]
    keep_object: bool,

    /// Write this file with all that outputs depend on, as Make and Ninja read it, when everything is built
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    depfile: Option<PathBuf>,

    /// How that file is written
    #[arg(long, value_name = "FORM", default_value = "make", requires = "depfile")]
    depfile_form: DepfileForm,

    /// Work on this many inputs at once [default: as many as there are processors]
    #[arg(short, long, value_name = "N")]
    jobs: Option<NonZeroUsize>,

    /// Print no results; problems and warnings are told
    #[arg(short, long)]
    quiet: bool,

    /// Print one summary of the run, instead of results as they come
    #[arg(long, value_name = "FORM", conflicts_with = "quiet")]
    summary: Option<SummaryForm>,

    #[command(flatten)]
    sources: SourceOptions,

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
    /// Line table of the driver: which source line each part of its code came from; for `run --coverage` without the object
    Lines,
}

impl From<Emit> for Form {
    fn from(emit: Emit) -> Form {
        match emit {
            Emit::Sys => Form::Sys,
            Emit::Dll => Form::Dll,
            Emit::Obj => Form::Obj,
            Emit::Clif => Form::Clif,
            Emit::Asm => Form::Asm,
            Emit::Lines => Form::Lines,
        }
    }
}

/// `--depfile-form`
#[derive(Clone, Copy, Debug, ValueEnum)]
enum DepfileForm {
    /// A rule of Make, which Ninja reads, too
    Make,
    /// The files that were read alone, one per line, as they are: what `MSBuild` reads
    Lines,
}

/// `--summary`
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum SummaryForm {
    /// A line
    Text,
    /// A JSON document: counts, and for each input its outputs with sizes and hashes
    Json,
}

impl Arguments {
    /// Whether standard output has what is built.
    pub(super) fn writes_to_standard_output(&self) -> bool {
        self.output.as_deref() == Some(Path::new("-")) || self.summary == Some(SummaryForm::Json)
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

/// Inputs that are built with the same options.
struct Group {
    /// By input.
    targets: Vec<Targets>,
    options: BuildOptions,
    signing: Option<Signing>,
    compiler: Option<Compiler>,
    /// Files that all outputs depend on.
    reads: Vec<PathBuf>,
}

impl Group {
    fn new(
        arguments: &Arguments,
        project: Option<&Path>,
        chooser: &mut Chooser,
        reporter: &mut Reporter,
    ) -> Result<Group, Error> {
        let inputs = &arguments.inputs;
        let machines = arguments.architectures.iter().copied().map(Machine::from).collect();
        let forms = arguments.emit.iter().copied().map(Form::from).collect();
        let compilation = &arguments.compilation;
        let options = compilation.build_options(machines, forms, reporter)?;
        let signing = arguments.signing(&options)?;
        let targets = chooser.of(arguments, &options.products())?;
        let compiler = (arguments.sources).compiler(inputs, &options.providers, options.deny_warnings, reporter)?;
        if let Some(folder) = &arguments.out_dir {
            files::create_folder(folder)?;
        }
        let mut reads: Vec<PathBuf> = project.map(Path::to_owned).into_iter().collect();
        reads.extend(compilation.reads());
        reads.extend(arguments.signing.0.reads());
        Ok(Group {
            targets,
            options,
            signing,
            compiler,
            reads,
        })
    }
}

/// What is to be built.
struct Plan {
    groups: Vec<Group>,
    /// All inputs: those of the groups, one after the other.
    inputs: Vec<PathBuf>,
    /// Of each input: its group, and its place in that.
    places: Vec<(usize, usize)>,
}

impl Plan {
    fn new(arguments: &Arguments, reporter: &mut Reporter) -> Result<Plan, Error> {
        let from_project;
        let (said, project) = if arguments.inputs.is_empty() || arguments.project.is_some() {
            from_project = project::load(arguments)?;
            (from_project.groups.iter().collect(), Some(from_project.file.as_path()))
        } else {
            (vec![arguments], None)
        };
        let inputs: Vec<PathBuf> = said.iter().flat_map(|group| group.inputs.iter().cloned()).collect();
        let mut chooser = Chooser::new(&inputs);
        let groups: Vec<Group> = said
            .into_iter()
            .map(|group| Group::new(group, project, &mut chooser, reporter))
            .collect::<Result<_, _>>()?;
        if let Some(depfile) = &arguments.depfile {
            chooser.file(depfile.clone())?;
        }
        let places = groups
            .iter()
            .enumerate()
            .flat_map(|(number, group)| (0..group.targets.len()).map(move |index| (number, index)));
        Ok(Plan {
            places: places.collect(),
            groups,
            inputs,
        })
    }

    /// Files that all outputs depend on.
    fn reads(&self) -> BTreeSet<PathBuf> {
        self.groups
            .iter()
            .flat_map(|group| group.reads.iter().cloned())
            .collect()
    }

    /// Builds an input.
    fn make(&self, index: usize) -> Result<Made<'_>, Error> {
        let (group, place) = self.places[index];
        let group = &self.groups[group];
        make(&self.inputs[index], &group.targets[place], group)
    }
}

pub(super) fn run(arguments: &Arguments, reporter: &mut Reporter) -> Outcome {
    if arguments.summary == Some(SummaryForm::Json) && arguments.output.as_deref() == Some(Path::new("-")) {
        return Err(ErrorKind::Usage("`--summary json` and `--output -` both write to standard output".into()).into());
    }
    let plan = Plan::new(arguments, reporter)?;
    let how = Work {
        verb: "building",
        jobs: arguments.jobs.map(NonZeroUsize::get),
    };
    let told = Told {
        quiet: arguments.quiet || arguments.summary.is_some(),
        several: plan.inputs.len() > 1,
    };
    let batch = output::for_each_input(reporter, &plan.inputs, how, |index, input| {
        plan.make(index)?.done(input, told)
    })?;
    if let Some(depfile) = &arguments.depfile
        && batch.status == 0
    {
        write_depfile(depfile, arguments.depfile_form, &plan, &batch)?;
    }
    let summary = Summary::new(&plan.inputs, &batch);
    match arguments.summary {
        Some(SummaryForm::Json) => output::print_json(&summary)?,
        Some(SummaryForm::Text) => reporter.note(&summary.line())?,
        None if told.several && !told.quiet => reporter.note(&summary.line())?,
        None => {}
    }
    Ok(batch.status)
}

/// Writes what all outputs depend on.
fn write_depfile(depfile: &Path, form: DepfileForm, plan: &Plan, batch: &Batch) -> Result<(), Error> {
    let mut reads = plan.reads();
    reads.extend(
        batch
            .results
            .iter()
            .flatten()
            .flat_map(|done| done.reads.iter().cloned()),
    );
    let targets = plan.groups.iter().flat_map(|group| &group.targets);
    let outputs: Vec<PathBuf> = targets
        .flat_map(|targets| {
            let files = targets.outputs.iter().filter_map(|target| match target {
                Target::File(path) => Some(path),
                Target::StandardOutput => None,
            });
            files.chain(&targets.object)
        })
        .cloned()
        .collect();
    let text = match form {
        DepfileForm::Make => depfile::rules(&outputs, &reads),
        DepfileForm::Lines => depfile::lines(&reads),
    };
    files::update_all(&[(depfile, text.as_bytes())]).map(|_| ())
}

/// What is told of each input.
#[derive(Clone, Copy, Debug)]
struct Told {
    quiet: bool,
    /// Whether there are several inputs: then there is a line for each file.
    several: bool,
}

/// What was made of an input.
struct Made<'a> {
    verified: VerifiedModule,
    ported: Option<Ported>,
    /// The outputs that are files, and where they are.
    files: Vec<(&'a Path, Output)>,
    /// Of each, whether it was written.
    written: Vec<bool>,
    group: &'a Group,
    said: CompilerOutput,
    reads: Vec<PathBuf>,
}

/// Builds an input, and signs its images.
fn make<'a>(input: &Path, targets: &'a Targets, group: &'a Group) -> Result<Made<'a>, Error> {
    let object = source::load(input, group.compiler.as_ref())?;
    let mut built = crate::build(&object.bytes, &input.to_string_lossy(), &group.options)?;
    if let Some(signing) = &group.signing {
        for output in built.outputs.iter_mut().filter(|output| output.form.is_image()) {
            output.bytes = signing.sign(&output.bytes)?;
        }
    }
    let mut files: Vec<(&Path, Output)> = Vec::with_capacity(built.outputs.len());
    for (target, output) in targets.outputs.iter().zip(built.outputs) {
        match target {
            Target::StandardOutput => output::print_bytes(&output.bytes)?,
            Target::File(path) => files.push((path, output)),
        }
    }
    let mut contents: Vec<(&Path, &[u8])> = files.iter().map(|(path, output)| (*path, &*output.bytes)).collect();
    contents.extend((targets.object.as_deref()).map(|path| (path, &*object.bytes)));
    let written = files::update_all(&contents)?;
    Ok(Made {
        verified: built.verified,
        ported: built.ported,
        files,
        written,
        group,
        said: object.said,
        reads: object.reads,
    })
}

impl Made<'_> {
    /// What the user is told of it.
    fn done(self, input: &Path, told: Told) -> Result<Done, Error> {
        let outputs: Vec<WrittenFile> = (self.files.iter().zip(&self.written))
            .map(|((path, output), written)| WrittenFile {
                file: path.display().to_string(),
                machine: output.machine.to_string(),
                form: output.form.extension(),
                size: output.bytes.len(),
                sha256: sha256(&output.bytes),
                written: *written,
            })
            .collect();
        let text = match (told, &self.files[..]) {
            (Told { quiet: true, .. }, _) => String::new(),
            (Told { several: false, .. }, [(path, output)]) if output.form.is_image() => {
                super::inspect::summary(path, &output.bytes, self.group.options.providers.platform())?
            }
            _ => lines(&self.files, &outputs),
        };
        let rewritten = self.ported.as_ref().map(Ported::summary);
        let text = match &rewritten {
            Some(changes) if !told.quiet => format!("{}: {changes}\n{text}", input.display()),
            _ => text,
        };
        Ok(Done {
            text,
            record: Some(Record::Built(Built {
                input: input.display().to_string(),
                rewritten,
                outputs,
            })),
            quiet: told.quiet,
            warnings: crate::warnings(&self.verified, self.ported.as_ref()),
            said: self.said,
            reads: self.reads,
        })
    }
}

/// A line for each file.
fn lines(files: &[(&Path, Output)], records: &[WrittenFile]) -> String {
    let mut text = String::new();
    for ((path, output), record) in files.iter().zip(records) {
        let what = match output.form {
            Form::Sys => "driver",
            Form::Dll => "DLL",
            Form::Obj => "object file for a linker",
            Form::Clif => "Cranelift IR",
            Form::Asm => "listing",
            Form::Lines => "line table",
        };
        let size = match output.form {
            Form::Sys | Form::Dll | Form::Obj => format!("{} bytes", output.bytes.len()),
            Form::Clif | Form::Asm | Form::Lines => {
                format!("{} lines", output.bytes.split(|byte| *byte == b'\n').count() - 1)
            }
        };
        let unchanged = if record.written { "" } else { ", unchanged" };
        let _ = writeln!(text, "{}: {} {what}, {size}{unchanged}", path.display(), output.machine);
    }
    text
}
