//! `bpf2sys signature`.

use std::fmt::Write;
use std::path::PathBuf;

use bpf2sys_authenticode::{CertificateSummary, Report, SignError, Signature, Time, VerifyOptions, verify};

use super::reporter::Reporter;
use super::{Outcome, output};
use crate::signing::words::{self, end_of_chain};
use crate::{Code, Diagnostic, SigningError, files, signing};

/// Show the signatures of an image, and verify them.
///
/// A signature is judged at the time of its timestamp, if that verifies, else at present. Revocation is not looked up.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  bpf2sys signature udp_filter.sys
  bpf2sys signature udp_filter.sys --root root.cer
  bpf2sys signature udp_filter.sys --root root.cer --root tsa.pem --json")]
pub(super) struct Arguments {
    /// The driver or DLL
    #[arg(value_name = "IMAGE")]
    image: PathBuf,

    /// Chains must end at a certificate of this file: PEM, DER or PKCS #7. Timestamps have chains, too
    #[arg(long, value_name = "FILE")]
    root: Vec<PathBuf>,

    /// Judge certificates at this time, where no timestamp says otherwise: 2026-11-22 or 2026-11-22T13:45:16Z
    #[arg(long, value_name = "TIME")]
    at: Option<Time>,

    /// Print JSON
    #[arg(long)]
    json: bool,

    /// Print nothing; problems are told
    #[arg(short, long, conflicts_with = "json")]
    quiet: bool,
}

pub(super) fn run(arguments: &Arguments, reporter: &mut Reporter) -> Outcome {
    let image = files::read(&arguments.image)?;
    let options = VerifyOptions {
        roots: signing::roots(&arguments.root)?,
        at: arguments.at.unwrap_or_else(Time::now),
    };
    let report = match verify(&image, &options) {
        Ok(report) => report,
        Err(error) => {
            let error = SigningError::from(SignError::from(error)).into();
            return Ok(reporter.fail(&error, &arguments.image));
        }
    };
    if arguments.json {
        output::print_json(&report)?;
    } else if !arguments.quiet {
        output::print(&text(&report))?;
    }
    if report.signatures.is_empty() {
        let error = SigningError::from(SignError::NotSigned).into();
        return Ok(reporter.fail(&error, &arguments.image));
    }
    let problems = report.signatures.iter().enumerate().flat_map(|(index, signature)| {
        let problems = signature.problems.iter();
        problems.map(move |problem| Diagnostic::new(Code::BPF7011, format!("signature {}: {problem}", index + 1)))
    });
    let problems: Vec<Diagnostic> = problems.collect();
    let status = if problems.is_empty() { 0 } else { 7 };
    reporter.tell(problems, Some(&arguments.image));
    Ok(status)
}

/// The report for people.
fn text(report: &Report) -> String {
    let mut text = String::new();
    for (index, signature) in report.signatures.iter().enumerate() {
        let place = if signature.nested {
            ", beside the one before"
        } else {
            ""
        };
        let _ = writeln!(text, "signature {}: {} bytes{place}", index + 1, signature.size);
        signature_text(&mut text, signature);
    }
    if !report.checksum_ok {
        text += "the CheckSum field of the image is wrong; no signature covers it, but Windows loads no such driver\n";
    }
    text += "eBPF for Windows:\n";
    for verdict in &report.ebpfsvc {
        let word = if verdict.accepted { "accepted" } else { "refused" };
        let _ = writeln!(text, "  {}: {word}", verdict.mode.description());
        for reason in &verdict.reasons {
            let _ = writeln!(text, "    {reason}");
        }
    }
    text
}

fn signature_text(text: &mut String, signature: &Signature) {
    let mut line = |name: &str, value: &str| {
        let _ = writeln!(text, "  {name:<12} {value}");
    };
    let algorithm = signature
        .digest_algorithm
        .map_or("unknown digest", |digest| digest.name());
    line("digest", &format!("{} ({algorithm})", signature.stated_digest));
    if signature.computed_digest != signature.stated_digest && !signature.computed_digest.is_empty() {
        line("of the image", &signature.computed_digest);
    }
    if let Some(signer) = signature.chain.first() {
        line("signer", &signer.subject);
        certificate_text(&mut line, signer);
    }
    for issuer in signature.chain.iter().skip(1) {
        line("issued by", &format!("{} (SHA-1 {})", issuer.subject, issuer.sha1));
    }
    if !signature.chain.is_empty() {
        line("chain", end_of_chain(signature.trusted));
    }
    for (name, value) in [("description", &signature.description), ("url", &signature.url)] {
        if let Some(value) = value {
            line(name, value);
        }
    }
    if let Some(pages) = &signature.page_hashes {
        let verified = if pages.verified { "all right" } else { "wrong" };
        line(
            "page hashes",
            &format!("{} pages ({}), {verified}", pages.pages, pages.algorithm.name()),
        );
    }
    if let Some(stamp) = &signature.timestamp {
        let time = stamp.time.map_or("unreadable".into(), |time| time.to_string());
        let by = stamp
            .chain
            .first()
            .map_or("an unknown authority", |authority| &authority.subject);
        let verified = if stamp.verified { "verified" } else { "wrong" };
        line(
            "timestamp",
            &format!("{time} by {by}, {verified}; its chain {}", end_of_chain(stamp.trusted)),
        );
    }
    if let Some(at) = signature.judged_at {
        line("judged at", &at.to_string());
    }
    let count = signature.problems.len();
    line("verified", if count == 0 { "yes" } else { "no" });
}

fn certificate_text(line: &mut impl FnMut(&str, &str), certificate: &CertificateSummary) {
    line("", &format!("serial number {}", certificate.serial));
    line("", &format!("SHA-1 {}", certificate.sha1));
    line("", &format!("SHA-256 {}", certificate.sha256));
    line(
        "",
        &format!(
            "{}, valid from {} to {}",
            certificate.key, certificate.not_before, certificate.not_after
        ),
    );
    line("", &format!("for {}", words::usages(certificate)));
}
