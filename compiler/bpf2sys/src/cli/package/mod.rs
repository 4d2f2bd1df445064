//! `bpf2sys package`.

mod drivers;
mod values;

use std::fmt::Write;
use std::path::{Path, PathBuf};

use time::Date;

use self::drivers::{Image, read_images};
use self::values::{date, epoch, uri};
use super::attest::AttestOptions;
use super::build::CompileOptions;
use super::reporter::Reporter;
use super::{Outcome, output};
use crate::package::{self, Details, Driver};
use crate::provenance::{
    Attester, DEFAULT_BUILDER, Facts, Parameters, ProvenanceError, STATEMENT_EXTENSION, Statement, difference, rebuild,
    seal, without_signatures,
};
use crate::{BuildOptions, Error, ErrorKind, Form, Version, files};

/// Write a package for Microsoft's hardware dashboard, and statements of provenance.
///
/// The package is a cabinet with a folder per driver: its images by architecture, an INF, and symbols. Sign it (signtool), and
/// submit it. Beside each image comes a statement of what it was built from and how, signed (in-toto, SLSA, DSSE). Nothing
/// is stated on trust: each object is built again with the options given here, which must be those that `build` had, and must give
/// the same bytes. The same input gives the same package.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  bpf2sys package udp_filter.sys --object udp_filter.o -o udp_filter.cab --attest-key key.pem \\
      --provider Contoso --driver-version 1.4.0.2 --driver-date 2026-11-22
  bpf2sys package udp_filter.x64.sys udp_filter.arm64.sys --object udp_filter.o -o udp_filter.cab \\
      --version-info version.toml --attest-key signing.pfx
  bpf2sys package a.sys b.sys --object a.o --object b.o -o both.cab --inf a.inf --no-statement")]
pub(super) struct Arguments {
    /// Drivers, signed or not: of one driver for several architectures, or of several drivers for the same ones
    #[arg(value_name = "IMAGE", required = true)]
    images: Vec<PathBuf>,

    /// The object file that the images were built from; with several drivers one for each, in the order of the images
    #[arg(long = "object", value_name = "FILE", required = true)]
    objects: Vec<PathBuf>,

    /// Write the package to this file
    #[arg(short, long, value_name = "FILE.cab")]
    output: PathBuf,

    /// Take this INF for the one driver, instead of making one
    #[arg(long, value_name = "FILE")]
    inf: Option<PathBuf>,

    /// Include these symbols; with several images, beside the one with the same name but for the extension
    #[arg(long, value_name = "FILE")]
    symbols: Vec<PathBuf>,

    /// Who provides the drivers, for the INF [default: the company of `--version-info`]
    #[arg(long, value_name = "NAME")]
    provider: Option<String>,

    /// Version of the drivers, for the INF [default: the file version of `--version-info`]
    #[arg(long, value_name = "VERSION", value_parser = crate::version_info::version)]
    driver_version: Option<Version>,

    /// Date of the drivers, for the INF [default: that of the environment variable `SOURCE_DATE_EPOCH`]
    #[arg(long, value_name = "YYYY-MM-DD", value_parser = date)]
    driver_date: Option<Date>,

    /// Write the statement about the one image to this file [default: the image's name with `.intoto.jsonl` behind it, beside it]
    #[arg(long, value_name = "FILE", conflicts_with = "no_statement")]
    statement: Option<PathBuf>,

    /// Write no statements
    #[arg(long, conflicts_with_all = ["attest_key", "attest_command", "builder_id"])]
    no_statement: bool,

    /// URI of who or what runs this build, for the statement
    #[arg(long, value_name = "URI", default_value = DEFAULT_BUILDER, value_parser = uri, help_heading = "Statement")]
    builder_id: String,

    /// Print no results; problems and warnings are told
    #[arg(short, long)]
    quiet: bool,

    #[command(flatten)]
    attest: AttestOptions,

    #[command(flatten)]
    compilation: CompileOptions,
}

pub(super) fn run(arguments: &Arguments, reporter: &mut Reporter) -> Outcome {
    let epoch = epoch()?;
    let attester = arguments.attest.attester()?;
    if attester.is_none() && !arguments.no_statement {
        return Err(usage(
            "say who signs the statement: `--attest-key`, or `--attest-command`; `--no-statement` writes none".into(),
        ));
    }
    let images = read_images(&arguments.images, &arguments.objects)?;
    if arguments.statement.is_some() && images.len() > 1 {
        return Err(usage(
            "`--statement` names one file, and there are several images".into(),
        ));
    }
    let machines = images.iter().map(|image| image.machine).collect();
    let options = arguments
        .compilation
        .build_options(machines, vec![Form::Sys], reporter)?;
    let mut statements: Vec<(PathBuf, Vec<u8>)> = Vec::new();
    for image in &images {
        let kept = package::keeps_every_rule(&image.bytes, options.providers.platform()).map_err(Error::from);
        let statement = kept.and_then(|()| prove(image, &options, attester.as_ref(), &arguments.builder_id));
        let statement = match statement {
            Ok(statement) => statement,
            Err(error) => return Ok(reporter.fail(&error, &image.path)),
        };
        if let Some(statement) = statement {
            let path = arguments.statement.clone().unwrap_or_else(|| beside(&image.path));
            statements.push((path, statement));
        }
    }
    let drivers = drivers::drivers(&images, arguments.inf.as_deref(), &arguments.symbols)?;
    let details = if arguments.inf.is_none() {
        Some(details(arguments, &options, epoch)?)
    } else {
        None
    };
    // 1980 is the oldest date that a cabinet can have.
    let oldest = Date::from_ordinal_date(1980, 1).map_err(|e| ErrorKind::Internal(e.to_string()))?;
    let cabinet = package::cabinet(&drivers, details.as_ref(), epoch.unwrap_or(oldest))?;

    let mut outputs: Vec<(&Path, &[u8])> = vec![(&arguments.output, &cabinet)];
    outputs.extend(
        statements
            .iter()
            .map(|(path, bytes)| (path.as_path(), bytes.as_slice())),
    );
    refuse_inputs(arguments, &outputs)?;
    files::write_all(&outputs)?;
    if !arguments.quiet {
        output::print(&summary(arguments, &drivers, &cabinet, &statements))?;
    }
    Ok(0)
}

/// Builds an image again, and states what was seen; gives the statement if there is somebody to sign it.
fn prove(
    image: &Image,
    options: &BuildOptions,
    attester: Option<&Attester>,
    builder: &str,
) -> Result<Option<Vec<u8>>, Error> {
    let parameters = Parameters::of(&image.object_name, image.machine, options);
    let rebuilt = rebuild(&image.object, &parameters, &options.providers, options)?;
    let unsigned = without_signatures(&image.bytes)?;
    if let Some(difference) = difference(&unsigned, &rebuilt.image) {
        let reason = "the object, the options and the version of bpf2sys must be those that built it".to_owned();
        let reason = Some(reason);
        return Err(ProvenanceError::OtherBytes { difference, reason }.into());
    }
    let Some(attester) = attester else { return Ok(None) };
    let statement = Statement::of(Facts {
        image_name: &image.path.to_string_lossy(),
        image: &image.bytes,
        object: &image.object,
        parameters: &parameters,
        providers: &options.providers,
        rebuilt: &rebuilt,
        builder,
    });
    let payload = serde_json::to_vec(&statement).map_err(|e| ErrorKind::Internal(e.to_string()))?;
    seal(&payload, attester).map(Some)
}

/// What the INF says.
fn details(arguments: &Arguments, options: &BuildOptions, epoch: Option<Date>) -> Result<Details, Error> {
    let info = options.image.version_info.as_ref();
    let company = || {
        let strings = info.into_iter().flat_map(|info| &info.strings);
        strings
            .into_iter()
            .find(|(name, _)| name == "CompanyName")
            .map(|(_, text)| text.clone())
    };
    let missing = |option: &str, otherwise: &str| usage(format!("the INF needs `{option}`, or {otherwise}"));
    Ok(Details {
        provider: (arguments.provider.clone())
            .or_else(company)
            .ok_or_else(|| missing("--provider", "the `--version-info` that the images were built with"))?,
        version: (arguments.driver_version)
            .or(info.map(|info| info.file_version))
            .ok_or_else(|| {
                missing(
                    "--driver-version",
                    "the `--version-info` that the images were built with",
                )
            })?,
        date: (arguments.driver_date).or(epoch).ok_or_else(|| {
            missing(
                "--driver-date",
                "the environment variable `SOURCE_DATE_EPOCH`: there is no clock",
            )
        })?,
    })
}

fn summary(arguments: &Arguments, drivers: &[Driver], cabinet: &[u8], statements: &[(PathBuf, Vec<u8>)]) -> String {
    let mut text = format!("{}: {} bytes\n", arguments.output.display(), cabinet.len());
    for driver in drivers {
        let machines: Vec<String> = driver.images.iter().map(|(machine, _)| machine.to_string()).collect();
        let _ = writeln!(text, "  driver {} for {}", driver.name, machines.join(" and "));
    }
    for (path, _) in statements {
        let _ = writeln!(text, "{}: statement of provenance", path.display());
    }
    text
}

/// Where the statement about an image goes if nothing else is said.
fn beside(image: &Path) -> PathBuf {
    files::with_suffix(image, STATEMENT_EXTENSION)
}

fn refuse_inputs(arguments: &Arguments, outputs: &[(&Path, &[u8])]) -> Result<(), Error> {
    let inputs = arguments
        .images
        .iter()
        .chain(&arguments.objects)
        .chain(&arguments.symbols);
    let inputs: Vec<&PathBuf> = inputs.chain(&arguments.inf).collect();
    for (index, (output, _)) in outputs.iter().enumerate() {
        if inputs.iter().any(|input| files::same_file(input, output)) {
            return Err(usage(format!(
                "`{}` is an input and would be overwritten",
                output.display()
            )));
        }
        let same = |other: &Path| files::name_key(other) == files::name_key(output) || files::same_file(other, output);
        if outputs[..index].iter().any(|(other, _)| same(other)) {
            return Err(usage(format!("two files would be written to `{}`", output.display())));
        }
    }
    Ok(())
}

fn usage(message: String) -> Error {
    ErrorKind::Usage(message).into()
}
