//! `bpf2sys attest verify`.

use std::fmt::Write;
use std::path::PathBuf;

use serde::Serialize;

use crate::cli::providers::ProviderOptions;
use crate::cli::reporter::Reporter;
use crate::cli::verify::Limits;
use crate::cli::{Outcome, output};
use crate::provenance::{self, Check, Given, PublicKey, Verification, read_envelope};
use crate::{Code, Diagnostic, Error, files};

/// Prove that an image was built from an object as a statement says, by building it again.
///
/// The image is proven if building the object with the stated options gives the same bytes, but for signatures, and all that
/// is stated is so. Its own signatures are not judged: `bpf2sys signature` does that. Exit status 0 means proven.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  bpf2sys attest verify udp_filter.sys udp_filter.o udp_filter.sys.intoto.jsonl --key vendor.pem
  bpf2sys attest verify udp_filter.sys udp_filter.o udp_filter.sys.intoto.jsonl --cert vendor.cer
  bpf2sys attest verify --ignore-signatures from_microsoft/udp_filter.sys udp_filter.o udp_filter.sys.intoto.jsonl
  bpf2sys attest verify --platform sample.toml --json filter.sys filter.o filter.sys.intoto.jsonl")]
pub(in crate::cli) struct Arguments {
    /// The driver
    #[arg(value_name = "IMAGE")]
    image: PathBuf,

    /// The object file that it is said to be built from; its name does not matter
    #[arg(value_name = "OBJECT")]
    object: PathBuf,

    /// The statement, as `package` writes it
    #[arg(value_name = "STATEMENT")]
    statement: PathBuf,

    /// The statement must be signed by this public key: PEM or DER. Without a key nobody vouches for the statement, and a warning
    /// says so; whether it is true is judged all the same
    #[arg(long, value_name = "FILE", conflicts_with = "cert")]
    key: Option<PathBuf>,

    /// The same with the key of this certificate: PEM, DER or PKCS #7. Who issued it, and when it ends, is not judged
    #[arg(long, value_name = "FILE")]
    cert: Option<PathBuf>,

    /// Take the image also with other signatures than it had when the statement was made, or without any: e.g. as Microsoft's
    /// dashboard gives it back
    #[arg(long)]
    ignore_signatures: bool,

    /// Print no results; problems and warnings are told
    #[arg(short, long)]
    quiet: bool,

    /// Print the answers as JSON
    #[arg(long, conflicts_with = "quiet")]
    json: bool,

    #[command(flatten)]
    limits: Limits,

    #[command(flatten)]
    providers: ProviderOptions,
}

/// What is printed with `--json`.
#[derive(Serialize)]
struct Report<'a> {
    proven: bool,
    checks: &'a [Check],
}

pub(super) fn run(arguments: &Arguments, reporter: &mut Reporter) -> Outcome {
    let verification = verify(arguments, reporter);
    let found = match verification {
        Ok(found) => found,
        // What can't be read proves nothing. What can't be read because of the machine, or wrong use, is no verdict.
        Err(error) => {
            let status = reporter.fail(&error, &arguments.statement);
            return Ok(if status <= 2 { status } else { 7 });
        }
    };
    if arguments.key.is_none() && arguments.cert.is_none() {
        let warning = Diagnostic {
            help: Some("`--key` or `--cert` say whose signature it must be".into()),
            ..Diagnostic::new(
                Code::BPF7027,
                "the signature of the statement was not judged: anybody can have written it",
            )
        };
        reporter.tell(vec![warning], Some(&arguments.statement));
    }
    let proven = found.errors.is_empty();
    if arguments.json {
        output::print_json(&Report {
            proven,
            checks: &found.checks,
        })?;
    } else if !arguments.quiet {
        let mut text = String::new();
        let verdict = if proven { "proven" } else { "not proven" };
        let _ = writeln!(text, "{}: {verdict}", arguments.image.display());
        for check in found.checks.iter().filter(|check| check.is_told()) {
            let _ = writeln!(text, "  {:<10}{}", check.name, check.told);
        }
        output::print(&text)?;
    }
    for error in &found.errors {
        reporter.report(error, Some(&arguments.image));
    }
    Ok(if proven { 0 } else { 7 })
}

fn verify(arguments: &Arguments, reporter: &mut Reporter) -> Result<Verification, Error> {
    let key = match (&arguments.key, &arguments.cert) {
        (Some(file), _) => Some(PublicKey::read(&files::read(file)?)?),
        (None, Some(file)) => Some(PublicKey::of_certificates(&files::read(file)?)?),
        (None, None) => None,
    };
    let envelope = read_envelope(&files::read(&arguments.statement)?)?;
    let (image, object) = (files::read(&arguments.image)?, files::read(&arguments.object)?);
    let providers = arguments.providers.load(reporter)?;
    provenance::verify(
        &envelope,
        Given {
            image: &image,
            object: &object,
            providers: &providers,
            limits: &arguments.limits.build_options(),
            key: key.as_ref(),
            other_signatures: arguments.ignore_signatures,
        },
    )
}
