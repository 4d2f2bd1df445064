//! `bpf2sys report`.

use std::path::{Path, PathBuf};

use bpf2sys_authenticode::{Time, VerifyOptions, verify};
use bpf2sys_check::{Options, Policy};
use bpf2sys_codegen::Lowered;
use bpf2sys_pe_emit::{ImageOptions, Machine, Version, VersionInfo};
use bpf2sys_simulator::describe::describe;
use bpf2sys_simulator::image::Image;
use bpf2sys_simulator::resources;
use bpf2sys_testing::coverage::Coverage;
use bpf2sys_verifier::VerifiedModule;
use clap::{ValueEnum, ValueHint};

use super::reporter::Reporter;
use super::{Outcome, check, output};
use crate::hash::sha256;
use crate::origin::{self, object_beside};
use crate::pipeline::link;
use crate::provenance::{STATEMENT_EXTENSION, Statement, difference, read_envelope, without_signatures};
use crate::report::{self, Source, Subject, Unknown};
use crate::{BuildOptions, Error, ErrorKind, Form, Providers, files, signing};

/// Write a page (HTML) about a driver, for whoever signs or reviews it.
///
/// It tells what the driver is and can do, which rules it keeps, who signed it, and what its statement of provenance says; and shows
/// C, eBPF and machine code side by side with what was proven. The page is one file, which runs nothing and loads nothing. The same
/// files give the same page. Of an object, it is about the driver that `bpf2sys build` makes of it.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  bpf2sys report udp_filter.sys -o udp_filter.html
  bpf2sys report udp_filter.sys --object build/udp_filter.o --root root.cer -o udp_filter.html
  bpf2sys test --coverage tests.info && bpf2sys report udp_filter.sys --coverage tests.info -o udp_filter.html
  bpf2sys report udp_filter.o --arch arm64 -o udp_filter.html")]
pub(super) struct Arguments {
    /// A driver (`.sys`), a DLL, or an object file
    #[arg(value_name = "FILE", value_hint = ValueHint::FilePath)]
    file: PathBuf,

    /// Write the page to this file; `-` is standard output
    #[arg(short, long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    output: PathBuf,

    /// The machine of the driver that an object becomes
    #[arg(long, value_enum, default_value_t = Arch::X64)]
    arch: Arch,

    /// The object that an image was built from, which is proven by building it again [default: the object of the image's name beside
    /// it, if the image states its hash]
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    object: Option<PathBuf>,

    /// The statement of provenance [default: the image's name with `.intoto.jsonl` behind it, if it is there]
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    statement: Option<PathBuf>,

    /// Mark the lines that ran: a tracefile of lcov, such as `bpf2sys test --coverage` writes
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    coverage: Option<PathBuf>,

    /// Where the driver is to load: hvci, test-signed or production, as `bpf2sys check` judges it
    #[arg(long, value_name = "POLICY", default_value = "hvci", value_parser = str::parse::<Policy>)]
    policy: Policy,

    /// The root of a signature's chain: PEM, DER or PKCS #7
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    root: Vec<PathBuf>,

    /// Judge certificates at this time, where no timestamp says otherwise: 2026-11-22 or 2026-11-22T13:45:16Z [default: the first
    /// moment of the signer's certificate]
    #[arg(long, value_name = "TIME")]
    at: Option<Time>,

    #[command(flatten)]
    providers: super::providers::ProviderOptions,
}

/// `--arch`
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Arch {
    X64,
    Arm64,
}

impl From<Arch> for Machine {
    fn from(arch: Arch) -> Machine {
        match arch {
            Arch::X64 => Machine::X64,
            Arch::Arm64 => Machine::Arm64,
        }
    }
}

/// What a page is about.
struct Driver {
    image: Vec<u8>,
    /// The object that the image was built from, if it is the input.
    object: Option<Vec<u8>>,
    source: Result<Known, Unknown>,
}

/// What the code of an image was made of.
struct Known {
    /// SHA-256 of the object.
    object: String,
    verified: VerifiedModule,
    lowered: Lowered,
    /// What of the image is not as building the object again gives it.
    difference: Option<String>,
}

/// Standard output as a name of a file.
const STANDARD_OUTPUT: &str = "-";

pub(super) fn run(arguments: &Arguments, reporter: &mut Reporter) -> Outcome {
    let inputs = [
        Some(&arguments.file),
        arguments.object.as_ref(),
        arguments.statement.as_ref(),
        arguments.coverage.as_ref(),
    ];
    if inputs
        .into_iter()
        .flatten()
        .any(|input| files::same_file(input, &arguments.output))
    {
        let message = format!(
            "`{}` is an input and can't be the output, too",
            arguments.output.display()
        );
        return Err(ErrorKind::Usage(message).into());
    }
    let bytes = files::read(&arguments.file)?;
    let providers = arguments.providers.load(reporter)?;
    let page = match page(arguments, bytes, &providers) {
        Ok(page) => page,
        Err(error) => return Ok(reporter.fail(&error, &arguments.file)),
    };
    if arguments.output == Path::new(STANDARD_OUTPUT) {
        output::print_bytes(page.as_bytes())?;
    } else {
        files::update_all(&[(&arguments.output, page.as_bytes())])?;
    }
    Ok(0)
}

fn page(arguments: &Arguments, bytes: Vec<u8>, providers: &Providers) -> Result<String, Error> {
    let driver = driver(arguments, bytes, providers)?;
    let signatures = VerifyOptions {
        roots: signing::roots(&arguments.root)?,
        at: arguments.at.unwrap_or_else(|| first_moment(&driver.image)),
    };
    let options = Options {
        policy: arguments.policy,
        runtime: None,
        signature: check::signature(&driver.image, &signatures),
    };
    let rules = bpf2sys_check::check(&driver.image, &options, providers.platform())?;
    let signatures = verify(&driver.image, &signatures);
    let statement = statement(arguments, driver.object.is_some())?;
    let file = arguments.file.to_string_lossy();
    report::page(&Subject {
        file: &file,
        object: driver.object.as_deref(),
        image: &driver.image,
        platform: providers.platform(),
        source: driver.source.as_ref().map(|known| Source {
            object: &known.object,
            verified: &known.verified,
            lowered: &known.lowered,
            difference: known.difference.as_deref(),
        }),
        check: &rules,
        signatures: signatures.as_ref().map_err(ToString::to_string),
        at: arguments.at,
        statement: statement
            .as_ref()
            .map(|(name, read)| (name.as_str(), read.as_ref().map_err(Clone::clone))),
        coverage: coverage(arguments)?.as_ref(),
    })
}

/// What ran, if the user says it.
fn coverage(arguments: &Arguments) -> Result<Option<Coverage>, Error> {
    let Some(path) = &arguments.coverage else {
        return Ok(None);
    };
    let wrong = |message: String| ErrorKind::Lines {
        path: path.clone(),
        message,
    };
    let text = files::text(files::read(path)?).ok_or_else(|| wrong("it is no text".into()))?;
    let coverage = Coverage::from_lcov(&text).map_err(|e| wrong(format!("no tracefile of lcov: {e}")))?;
    if coverage.line_share().of == 0 {
        return Err(wrong("no tracefile of lcov with lines in it".into()).into());
    }
    Ok(Some(coverage))
}

/// The image, and what its code was made of.
fn driver(arguments: &Arguments, bytes: Vec<u8>, providers: &Providers) -> Result<Driver, Error> {
    if bytes.starts_with(b"MZ") {
        let source = source(arguments, &bytes, providers)?;
        return Ok(Driver {
            image: bytes,
            object: None,
            source,
        });
    }
    if !bytes.starts_with(b"\x7fELF") {
        let path = arguments.file.clone();
        return Err(ErrorKind::UnknownFormat { path }.into());
    }
    if arguments.object.is_some() || arguments.statement.is_some() {
        let message = "`--object` and `--statement` are about a driver, and the file is an object";
        return Err(ErrorKind::Usage(message.into()).into());
    }
    let options = BuildOptions {
        providers: providers.clone(),
        ..BuildOptions::default()
    };
    let verified = crate::verify(&bytes, &arguments.file.to_string_lossy(), &options)?;
    let linked = link(&verified, &options, arguments.arch.into(), Form::Sys)?;
    Ok(Driver {
        image: linked.image.into_bytes(),
        source: Ok(Known {
            object: sha256(&bytes),
            verified,
            lowered: linked.lowered,
            difference: None,
        }),
        object: Some(bytes),
    })
}

/// What an image's code was made of, or why that is not known.
fn source(arguments: &Arguments, image: &[u8], providers: &Providers) -> Result<Result<Known, Unknown>, Error> {
    let found = match &arguments.object {
        Some(path) => Some((path.clone(), files::read(path)?)),
        None => stated_hash(image).and_then(|stated| object_beside(&arguments.file, &stated)),
    };
    let Some((path, object)) = found else {
        return Ok(Err(Unknown::NoObject));
    };
    let name = path.display().to_string();
    let built = origin::of_image(&arguments.file, image, (&object, &path.to_string_lossy()), providers);
    Ok(match built {
        Ok(Some(origin)) => Ok(Known {
            object: sha256(&object),
            difference: other_parts(image, &origin.lowered)?,
            verified: origin.verified,
            lowered: origin.lowered,
        }),
        Ok(None) => Err(Unknown::OtherCode { object: name }),
        // Of an object that the user named, the error is the answer.
        Err(error) if arguments.object.is_some() => return Err(error),
        Err(error) => Err(Unknown::NotBuilt {
            object: name,
            why: error.to_string(),
        }),
    })
}

/// What of an image is not as linking its code gives it; signatures aside. What the image says that its code does not depend on is
/// taken from it: a version resource, and whether its signature must be checked.
fn other_parts(image: &[u8], lowered: &Lowered) -> Result<Option<String>, Error> {
    const FORCE_INTEGRITY: u16 = 0x80;
    let parsed = Image::parse(image)?;
    let options = ImageOptions {
        force_integrity: parsed.dll_characteristics & FORCE_INTEGRITY != 0,
        version_info: resources::version(&parsed).map(|version| VersionInfo {
            file_version: Version(version.file_version),
            product_version: Version(version.product_version),
            strings: version.strings,
        }),
    };
    let machine = lowered.object.machine;
    let linked =
        bpf2sys_pe_emit::link_with(&lowered.object, &options).map_err(|source| ErrorKind::Link { machine, source })?;
    let found = difference(&without_signatures(image)?, linked.bytes());
    Ok(found.map(|found| format!("{found}; {}", found.first())))
}

/// The hash of its object that an image states.
fn stated_hash(image: &[u8]) -> Option<String> {
    describe(image).ok()?.module?.elf_hash
}

/// A time at which the certificate of an image's first signer is valid. The present would give another page every day.
fn first_moment(image: &[u8]) -> Time {
    let options = VerifyOptions {
        roots: Vec::new(),
        at: Time::from_unix(std::time::Duration::ZERO),
    };
    let report = verify(image, &options).ok();
    let first = report.and_then(|report| report.signatures.into_iter().next());
    let signer = first.and_then(|signature| signature.chain.into_iter().next());
    signer.map_or(options.at, |signer| signer.not_before)
}

/// The name of a file, and the statement in it, or why it can't be read.
type NamedStatement = (String, Result<Statement, String>);

/// The statement of provenance about an image, with its name; none if there is none.
fn statement(arguments: &Arguments, is_object: bool) -> Result<Option<NamedStatement>, Error> {
    let path = match &arguments.statement {
        Some(path) => path.clone(),
        None if is_object => return Ok(None),
        None => {
            let beside = files::with_suffix(&arguments.file, STATEMENT_EXTENSION);
            if !beside.is_file() {
                return Ok(None);
            }
            beside
        }
    };
    let file = files::read(&path)?;
    let read = read_envelope(&file).and_then(|envelope| Statement::read(&envelope.payload));
    Ok(Some((
        path.display().to_string(),
        read.map_err(|error| error.to_string()),
    )))
}
