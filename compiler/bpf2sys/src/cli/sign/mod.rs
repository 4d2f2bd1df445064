//! `bpf2sys sign`.

mod options;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use bpf2sys_authenticode::{Existing, SignError, VerifyOptions, remove_signatures, verify};

pub(super) use self::options::{HEADING, PrefixedSigningOptions, SigningOptions};
use super::output::{Done, Work};
use super::reporter::{Record, Reporter};
use super::{Outcome, output};
use crate::messages::json::{MadeSignature, Signed};
use crate::signing::Signing;
use crate::{Error, ErrorKind, SigningError, files};

/// Sign images (Authenticode), or remove their signatures.
///
/// An image is signed in place, unless `--output` or `--out-dir` say otherwise. What is signed is verified before it is
/// written, and a file is replaced as a whole or stays as it was. The same image, key and options give the same bytes, except
/// for timestamps.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  bpf2sys sign udp_filter.sys --pfx signing.pfx
  bpf2sys sign udp_filter.sys --key key.pem --cert chain.pem --timestamp http://timestamp.digicert.com
  bpf2sys sign drivers/*.sys --out-dir signed --pfx signing.pfx --password-env PFX_PASSWORD
  bpf2sys sign udp_filter.sys --pfx second.pfx --append
  bpf2sys sign udp_filter.sys --remove
  bpf2sys sign udp_filter.sys --signer-command 'signtool sign /fd {algorithm} /n Contoso {file}'
  bpf2sys sign udp_filter.sys --cert token.cer --signer-command \\
      'pkcs11-tool --sign -m ECDSA -i {digest} -o {signature}'")]
pub(super) struct Arguments {
    /// Drivers or DLLs
    #[arg(value_name = "IMAGE", required = true)]
    images: Vec<PathBuf>,

    /// Write the one signed image to this file
    #[arg(short, long, value_name = "FILE", conflicts_with = "out_dir")]
    output: Option<PathBuf>,

    /// Write the signed images to this folder, which is made if needed
    #[arg(long, value_name = "DIR")]
    out_dir: Option<PathBuf>,

    #[command(flatten)]
    signed: IfSigned,

    /// Print no results; problems are told
    #[arg(short, long)]
    quiet: bool,

    #[command(flatten)]
    options: SigningOptions,
}

/// What to do with images that are signed already. By default they are refused.
#[derive(Debug, clap::Args)]
#[group(multiple = false)]
struct IfSigned {
    /// Add a signature beside those that are there
    #[arg(long)]
    append: bool,

    /// Remove the signatures that are there first
    #[arg(long)]
    replace: bool,

    /// Remove all signatures, and do not sign
    #[arg(long, conflicts_with_all = ["pfx", "key", "cert", "signer_command"])]
    remove: bool,
}

pub(super) fn run(arguments: &Arguments, reporter: &mut Reporter) -> Outcome {
    let targets = targets(arguments)?;
    let existing = match (arguments.signed.append, arguments.signed.replace) {
        (true, _) => Existing::Append,
        (_, true) => Existing::Replace,
        _ => Existing::Refuse,
    };
    let signing = arguments.options.signing(existing, "")?;
    if signing.is_none() && !arguments.signed.remove {
        return Err(usage(
            "say who signs: `--pfx`, or `--key` and `--cert`, or `--signer-command`".into(),
        ));
    }
    if let Some(folder) = &arguments.out_dir {
        files::create_folder(folder)?;
    }
    let how = Work {
        verb: "signing",
        jobs: None,
    };
    let batch = output::for_each_input(reporter, &arguments.images, how, |index, image| {
        one(image, &targets[index], signing.as_ref(), arguments.quiet)
    })?;
    Ok(batch.status)
}

/// Signs an image, or removes its signatures if there is nobody to sign it.
fn one(image: &Path, target: &Path, signing: Option<&Signing>, quiet: bool) -> Result<Done, Error> {
    let before = files::read(image)?;
    let after = match signing {
        Some(signing) => signing.sign(&before)?,
        None => remove_signatures(&before).map_err(SigningError::from)?,
    };
    let signatures = signatures(&after)?;
    files::write_all(&[(target, &after)])?;
    let name = target.display();
    let (size, size_before) = (after.len(), before.len());
    Ok(Done {
        text: if signatures.is_empty() {
            format!("{name}: without signatures, {size} bytes\n")
        } else {
            let added = size.saturating_sub(size_before);
            format!("{name}: signed by {}, {added} bytes added\n", told(&signatures))
        },
        record: Some(Record::Signed(Signed {
            input: image.display().to_string(),
            file: name.to_string(),
            size,
            signatures,
        })),
        quiet,
        ..Done::default()
    })
}

/// The signatures of an image, which verify.
fn signatures(image: &[u8]) -> Result<Vec<MadeSignature>, Error> {
    let report = verify(image, &VerifyOptions::default())
        .map_err(SignError::from)
        .map_err(SigningError::from)?;
    let signatures = report.signatures.into_iter().map(|signature| MadeSignature {
        signer: signature
            .chain
            .into_iter()
            .next()
            .map_or(String::new(), |signer| signer.subject),
        digest: signature.digest_algorithm.map_or("", |digest| digest.name()),
        timestamp: signature.timestamp.and_then(|stamp| stamp.time),
    });
    Ok(signatures.collect())
}

/// Signatures, for people.
fn told(signatures: &[MadeSignature]) -> String {
    let texts = signatures.iter().map(|signature| {
        let stamped = if signature.timestamp.is_some() {
            ", with a timestamp"
        } else {
            ""
        };
        format!("`{}` ({}{stamped})", signature.signer, signature.digest)
    });
    texts.collect::<Vec<_>>().join(" and ")
}

/// Where each image goes.
fn targets(arguments: &Arguments) -> Result<Vec<PathBuf>, Error> {
    if let Some(output) = &arguments.output {
        if arguments.images.len() > 1 {
            return Err(usage(
                "`--output` names one file, and there are several images; use `--out-dir`".into(),
            ));
        }
        return Ok(vec![output.clone()]);
    }
    let mut targets: Vec<PathBuf> = Vec::new();
    let mut written = BTreeSet::new();
    for image in &arguments.images {
        let target = match (&arguments.out_dir, image.file_name()) {
            (None, _) => image.clone(),
            (Some(folder), Some(name)) => folder.join(name),
            (Some(_), None) => return Err(usage(format!("`{}` has no file name", image.display()))),
        };
        // Also by two names of one file: both would be signed at a time, and one of the signatures be lost.
        let file = fs::canonicalize(&target).unwrap_or_else(|_| files::name_key(&target));
        if !written.insert(file) {
            return Err(usage(format!("two images would be written to `{}`", target.display())));
        }
        targets.push(target);
    }
    Ok(targets)
}

fn usage(message: String) -> Error {
    ErrorKind::Usage(message).into()
}
