//! Test files, and the drivers that they are about.

use std::path::{Path, PathBuf};

use bpf2sys_pe_emit::Machine;
use bpf2sys_simulator::image::Image;
use bpf2sys_simulator::{ObjectFile, ProcessorKind, SimulatorError};
use bpf2sys_testing::suite::{self, Arch, Driver, Parts, Suite};
use bpf2sys_testing::values::ModuleTypes;

use super::{Arguments, wrong};
use crate::cli::coverage::Counted;
use crate::cli::providers;
use crate::cli::reporter::Reporter;
use crate::cli::{source, work};
use crate::{
    BuildOptions, Compiler, CompilerOutput, Error, ErrorKind, Form, Providers, SourcePlace, files, is_source,
    line_tables,
};

/// A test file.
pub(super) struct Loaded {
    pub path: PathBuf,
    /// The name that its tests begin with.
    pub name: String,
    pub text: String,
    pub suite: Suite,
    /// A driver for each machine.
    pub drivers: Vec<(Arch, Driver)>,
    /// Of each, the code whose lines are counted, if they are.
    pub counted: Vec<(Arch, Counted)>,
}

impl Loaded {
    pub(super) fn driver(&self, arch: Arch) -> Option<&Driver> {
        self.drivers
            .iter()
            .find(|(known, _)| *known == arch)
            .map(|(_, driver)| driver)
    }

    /// The machines that its tests run on.
    pub(super) fn machines(&self) -> Vec<Arch> {
        let mut machines = self.suite.arch.clone();
        machines.sort();
        machines.dedup();
        machines
    }

    fn folder(&self) -> PathBuf {
        self.path.parent().unwrap_or(Path::new("")).to_owned()
    }
}

/// Reads test files. Those that are none are told. Gives the others, and the status.
pub(super) fn read(paths: &[PathBuf], reporter: &mut Reporter) -> (Vec<Loaded>, u8) {
    let (mut files, mut status) = (Vec::new(), 0);
    for path in paths {
        match read_one(path) {
            Ok(file) => files.push(file),
            Err(error) => status = status.max(reporter.fail(&error, path)),
        }
    }
    (files, status)
}

fn read_one(path: &Path) -> Result<Loaded, Error> {
    let none = |message: String, place| ErrorKind::TestFile {
        message,
        place,
        path: path.to_owned(),
    };
    let text = files::text(files::read(path)?).ok_or_else(|| none("it is no text".into(), None))?;
    let mut suite = suite::parse(&text).map_err(|error| {
        let place = SourcePlace {
            file: path.display().to_string(),
            line: error.line,
            column: error.column,
            text: error.text,
        };
        none(error.message, Some(place))
    })?;
    // An image is for one machine. One that can't be read is told of later.
    let image = suite.image.as_ref().map(|name| path.with_file_name(name));
    if let Some(Ok(image)) = image.map(|path| files::read(&path))
        && let Ok(image) = Image::parse(&image)
    {
        let is_arm64 = image.machine == Image::ARM64;
        suite.arch = vec![if is_arm64 { Arch::Arm64 } else { Arch::X64 }];
    }
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let name = name.strip_suffix(super::find::ENDING).unwrap_or(&name).to_owned();
    Ok(Loaded {
        path: path.to_owned(),
        name,
        text,
        suite,
        drivers: Vec::new(),
        counted: Vec::new(),
    })
}

/// What a driver of a file is made with.
struct Tools {
    providers: Providers,
    compiler: Option<Compiler>,
    processor: ProcessorKind,
}

/// Builds the drivers of those files that are needed. Gives the status; a file whose driver can't be made has none.
pub(super) fn build(
    files: &mut [Loaded],
    is_needed: &dyn Fn(usize) -> bool,
    arguments: &Arguments,
    reporter: &mut Reporter,
) -> Result<u8, Error> {
    let common = arguments.providers.load(reporter)?;
    let mut status = 0;
    let mut tools = Vec::new();
    for (index, file) in files.iter().enumerate() {
        let own = is_needed(index)
            .then(|| prepare(file, &common, arguments, reporter))
            .transpose();
        tools.push(own.unwrap_or_else(|error| {
            status = status.max(reporter.fail(&error, &file.path));
            None
        }));
    }
    let jobs = arguments.jobs.map(std::num::NonZeroUsize::get);
    let mut built = Vec::new();
    let is_counted = arguments.coverage.is_wanted();
    let one = |index: usize| {
        let tools = tools[index].as_ref();
        tools.map(|tools| drivers(&files[index], tools, is_counted))
    };
    work::in_order(files.len(), jobs, one, |_, came| {
        built.push(came);
        Ok(())
    })?;
    for (file, came) in files.iter_mut().zip(built) {
        match came {
            None => {}
            Some(Ok(made)) => {
                reporter.compiler_output(&made.said, &file.path);
                (file.drivers, file.counted) = (made.drivers, made.counted);
            }
            Some(Err(error)) => status = status.max(reporter.fail(&error, &file.path)),
        }
    }
    Ok(status)
}

fn prepare(file: &Loaded, common: &Providers, arguments: &Arguments, reporter: &mut Reporter) -> Result<Tools, Error> {
    let mut texts = common.files().to_vec();
    for name in &file.suite.platform {
        let text = providers::read(&file.folder().join(name))?;
        reporter.tell(text.warnings, Some(&file.path));
        texts.push((text.name, text.toml));
    }
    let providers = Providers::with_files(texts)?;
    let source: Vec<PathBuf> = file.suite.source.iter().map(|name| file.folder().join(name)).collect();
    if let Some(path) = source.iter().find(|path| !is_source(path)) {
        let message = format!("`source` names `{}`, which is no C source (`.c`)", path.display());
        return Err(wrong(file, message));
    }
    let compiler = arguments.sources.compiler(&source, &providers, false, reporter)?;
    Ok(Tools {
        providers,
        compiler,
        processor: arguments.processor(),
    })
}

/// What was made for a file.
struct Made {
    drivers: Vec<(Arch, Driver)>,
    counted: Vec<(Arch, Counted)>,
    /// What the compiler said.
    said: CompilerOutput,
}

/// The drivers of a file, and the lines of their code if those are counted.
fn drivers(file: &Loaded, tools: &Tools, is_counted: bool) -> Result<Made, Error> {
    let suite = &file.suite;
    let driver = |image: Vec<u8>, interpret: Option<ObjectFile>, types: Option<ModuleTypes>| {
        let parts = Parts {
            image,
            interpret,
            types,
            processor: tools.processor,
            platform: tools.providers.platform().clone(),
            platform_files: tools.providers.files().to_vec(),
            folder: file.folder(),
            code: |error: &SimulatorError| crate::diagnose::code_of(error).name(),
        };
        Driver::new(parts, suite).map_err(|message| wrong(file, message))
    };
    if let Some(name) = &suite.image {
        let path = file.folder().join(name);
        let image = files::read(&path)?;
        let machine = file.machines()[0];
        let mut counted = Vec::new();
        if is_counted {
            let named = suite.types.as_ref().map(|name| file.folder().join(name));
            let table = line_tables::find(&path, &image, named.as_deref(), &tools.providers)?;
            counted.push((machine, Counted::native(&image, table)?));
        }
        let types = suite.types.as_ref().map(|name| {
            let path = file.folder().join(name);
            let object = files::read(&path)?;
            let module = bpf2sys_bytecode::read(&object, &path.to_string_lossy())?;
            Ok::<_, Error>(ModuleTypes::from_object(&module, &object))
        });
        let driver = driver(image, None, types.transpose()?)?;
        return Ok(Made {
            drivers: vec![(machine, driver)],
            counted,
            said: CompilerOutput::default(),
        });
    }
    let input = suite.object.as_ref().or(suite.source.as_ref()).map(String::as_str);
    let input = file.folder().join(input.unwrap_or_default());
    let source::Object {
        bytes: object, said, ..
    } = source::load(&input, tools.compiler.as_ref())?;
    let name = input.to_string_lossy().into_owned();
    let machines = file.machines();
    let options = BuildOptions {
        program_type: suite.section.clone(),
        providers: tools.providers.clone(),
        machines: machines
            .iter()
            .map(|arch| match arch {
                Arch::X64 => Machine::X64,
                Arch::Arm64 => Machine::Arm64,
            })
            .collect(),
        forms: if is_counted {
            vec![Form::Sys, Form::Lines]
        } else {
            vec![Form::Sys]
        },
        ..BuildOptions::default()
    };
    let built = crate::build(&object, &name, &options)?;
    let types = ModuleTypes::from_object(&bpf2sys_bytecode::read(&object, &name)?, &object);
    let interpret = suite.interpret.then_some(ObjectFile { name, bytes: object });
    let mut made = Made {
        drivers: Vec::new(),
        counted: Vec::new(),
        said,
    };
    let mut outputs = built.outputs.into_iter();
    for arch in machines {
        let Some(image) = outputs.next() else { break };
        if is_counted && let Some(lines) = outputs.next() {
            let table = line_tables::of_build(&image.bytes, &lines.bytes)?;
            made.counted.push((arch, Counted::native(&image.bytes, table)?));
        }
        let driver = driver(image.bytes, interpret.clone(), Some(types.clone()))?;
        made.drivers.push((arch, driver));
    }
    Ok(made)
}
