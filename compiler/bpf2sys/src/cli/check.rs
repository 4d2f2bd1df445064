//! `bpf2sys check`: hold images against the rules of Windows, of memory integrity and of the runtime.

use std::fmt::Write;
use std::path::{Path, PathBuf};

use bpf2sys_authenticode::{Problem, ProductionDemands, Signature, VerifyOptions, verify};
use bpf2sys_check::{Finding, Group, Options, Policy, Report, Row, Rule, SignatureFacts, Status};
use bpf2sys_platform::Platform;
use bpf2sys_simulator::module_tables::RuntimeLevel;
use serde::Serialize;

use super::reporter::Reporter;
use super::{Outcome, output};
use crate::{Code, Diagnostic, Error, files, signing};

/// Tell which rules of Windows, of memory integrity (HVCI) or of the eBPF runtime an image breaks.
///
/// The image is a driver or DLL with a native eBPF module, of this tool or another compiler, or any other driver, for which the
/// rules on modules do not apply. Nothing of it is executed. The status is 6 if a rule is broken.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  bpf2sys check udp_filter.sys
  bpf2sys check --verbose udp_filter.sys           every rule, with what was found
  bpf2sys check --policy test-signed drivers/*.sys
  bpf2sys check --runtime 0.21 flow_log.sys
  bpf2sys check --json udp_filter.sys | jq '.[].rows[] | select(.status == \"fail\")'
  bpf2sys check --list-rules")]
pub(super) struct Arguments {
    /// Drivers (`.sys`) or DLLs
    #[arg(value_name = "IMAGE", required_unless_present = "list_rules")]
    images: Vec<PathBuf>,

    /// Where it is to load: hvci (memory integrity; a signature may be missing), test-signed, or production, where only
    /// modules load that Microsoft signed
    #[arg(long, value_name = "POLICY", default_value = "hvci", value_parser = str::parse::<Policy>)]
    policy: Policy,

    /// The oldest runtime that is to take the module: 0.21, 1.4 or 1.6 [default: the one whose version it states]
    #[arg(long, value_name = "VERSION", value_parser = runtime)]
    runtime: Option<RuntimeLevel>,

    /// The root of a signature's chain, which signatures leave out: PEM, DER or PKCS #7
    #[arg(long, value_name = "FILE")]
    root: Vec<PathBuf>,

    /// Show every rule with what was found, not only those that are broken
    #[arg(short, long)]
    verbose: bool,

    /// Print JSON: a list with one report for each image
    #[arg(long)]
    json: bool,

    /// Print all rules with their reasons and sources
    #[arg(long, conflicts_with_all = ["images", "json", "verbose"])]
    list_rules: bool,

    #[command(flatten)]
    providers: super::providers::ProviderOptions,
}

fn runtime(text: &str) -> Result<RuntimeLevel, String> {
    [RuntimeLevel::V0_21, RuntimeLevel::V1_4, RuntimeLevel::V1_6]
        .into_iter()
        .find(|level| level.name() == text)
        .ok_or_else(|| "runtimes that differ are 0.21, 1.4 and 1.6".into())
}

/// The status of an image that breaks a rule.
const BROKEN: u8 = 6;

/// A report with the name of its image.
#[derive(Serialize)]
struct Named {
    image: String,
    verdict: &'static str,
    #[serde(flatten)]
    report: Report,
}

pub(super) fn run(arguments: &Arguments, reporter: &mut Reporter) -> Outcome {
    if arguments.list_rules {
        return output::print(&rules()).map(|()| 0);
    }
    let providers = arguments.providers.load(reporter)?;
    let mut status = 0;
    let mut reports = Vec::new();
    for path in &arguments.images {
        let report = match judge(path, arguments, providers.platform()) {
            Ok(report) => report,
            Err(error) => {
                status = status.max(reporter.fail(&error, path));
                continue;
            }
        };
        let broken = report.failures().next().is_some();
        if broken {
            status = status.max(BROKEN);
        }
        if arguments.json {
            reports.push(Named {
                image: path.display().to_string(),
                verdict: if broken { "fail" } else { "pass" },
                report,
            });
            continue;
        }
        reporter.result(path, &text(path, &report, arguments.verbose), None)?;
        reporter.tell(report.failures().map(diagnostic).collect(), Some(path));
    }
    if arguments.json {
        output::print_json(&reports)?;
    }
    Ok(status)
}

fn judge(path: &Path, arguments: &Arguments, platform: &Platform) -> Result<Report, Error> {
    let bytes = files::read(path)?;
    let options = Options {
        policy: arguments.policy,
        runtime: arguments.runtime,
        signature: signature(
            &bytes,
            &VerifyOptions {
                roots: signing::roots(&arguments.root)?,
                ..VerifyOptions::default()
            },
        ),
    };
    Ok(bpf2sys_check::check(&bytes, &options, platform)?)
}

/// What a reader of signatures finds in an image. Windows judges whether to trust a file by its first signature; what production
/// systems ask for may be in any, and of several the one counts that comes nearest.
pub(super) fn signature(image: &[u8], options: &VerifyOptions) -> SignatureFacts {
    let report = match verify(image, options) {
        Ok(report) => report,
        Err(error) => {
            let measured = error.to_string();
            return SignatureFacts {
                signature: Some(Finding { kept: false, measured }),
                ..SignatureFacts::default()
            };
        }
    };
    let facts: Vec<SignatureFacts> = report.signatures.iter().map(facts).collect();
    let first = facts.first().cloned().unwrap_or_default();
    let nearest = facts.into_iter().max_by_key(SignatureFacts::nearness);
    SignatureFacts {
        digest: first.digest,
        signature: first.signature,
        ..nearest.unwrap_or_default()
    }
}

fn facts(signature: &Signature) -> SignatureFacts {
    let (stated, computed) = (&signature.stated_digest, &signature.computed_digest);
    let kept = !computed.is_empty() && stated == computed;
    let digest = Finding {
        kept,
        measured: if kept {
            stated.clone()
        } else {
            format!("signed is {stated:?}, and that of the file is {computed:?}")
        },
    };
    let wrong = signature.problems.iter();
    let wrong = wrong.filter(|problem| **problem != Problem::DigestMismatch && !problem.is_about_trust());
    let wrong: Vec<String> = wrong.map(Problem::to_string).collect();
    let met = signature.production_demands();
    let finding = |kept: fn(ProductionDemands) -> bool, measured: String| {
        let kept = kept(met?);
        Some(Finding { kept, measured })
    };
    let root = match signature.chain.last() {
        Some(last) if last.self_issued => last.sha1.clone(),
        _ => "its root is not in the file, and not given".into(),
    };
    let leaf = signature.chain.first();
    let subject = leaf.map(|leaf| leaf.simple_subject.clone()).unwrap_or_default();
    let usages = leaf
        .into_iter()
        .flat_map(|leaf| leaf.extended_key_usages.iter().flatten());
    let usages: Vec<&str> = usages.map(|usage| usage.oid.as_str()).collect();
    SignatureFacts {
        digest: Some(digest),
        signature: Some(Finding {
            kept: wrong.is_empty(),
            measured: if wrong.is_empty() {
                subject.clone()
            } else {
                wrong.join("; ")
            },
        }),
        production_root: finding(|met| met.root, root),
        production_subject: finding(|met| met.subject, subject),
        production_usages: finding(|met| met.key_usages, usages.join(", ")),
        page_hashes: Some(signature.page_hashes.as_ref().is_some_and(|hashes| hashes.verified)),
    }
}

/// Rules that depend on what providers offer.
const OF_PROVIDERS: [&str; 5] = [
    "contract.4.3.definition",
    "contract.4.4.program-type-known",
    "contract.4.6.helpers-known",
    "contract.4.7.functions-known",
    "contract.4.8.hash",
];

fn diagnostic(row: &Row) -> Diagnostic {
    let depends = OF_PROVIDERS.contains(&row.rule);
    Diagnostic {
        help: depends.then(|| "`--platform FILE` adds what an extension offers".to_owned()),
        notes: vec![
            format!("demanded: {}", row.title),
            format!("otherwise: {}", row.reason),
            format!("source: {}", row.source),
        ],
        ..Diagnostic::new(Code::BPF5020, format!("`{}` is broken: {}", row.rule, row.measured))
    }
}

/// The report for people: a line for each group, or for each rule.
fn text(path: &Path, report: &Report, verbose: bool) -> String {
    let count = |status| report.rows.iter().filter(|row| row.status == status).count();
    let (kept, broken, rest) = (count(Status::Pass), count(Status::Fail), count(Status::NotApplicable));
    let mut text = format!(
        "{}: {} {}{}, policy {}: {} ({kept} rules kept, {broken} broken, {rest} do not apply)\n",
        path.display(),
        report.machine,
        if report.dll { "DLL" } else { "driver" },
        if report.module { " with a native module" } else { "" },
        report.policy.name(),
        if broken == 0 { "pass" } else { "FAIL" },
    );
    for group in groups() {
        let rows: Vec<&Row> = report.rows.iter().filter(|row| row.group == group).collect();
        let count = |status| rows.iter().filter(|row| row.status == status).count();
        let _ = write!(
            text,
            "  {:<20} {:>3} kept {:>3} n.a.",
            group.title(),
            count(Status::Pass),
            count(Status::NotApplicable)
        );
        let broken: Vec<&str> = rows
            .iter()
            .filter(|row| row.status == Status::Fail)
            .map(|row| row.rule)
            .collect();
        if !broken.is_empty() {
            let _ = write!(text, "  broken: {}", broken.join(", "));
        }
        text.push('\n');
        if verbose {
            for row in rows {
                line(&mut text, row);
            }
        }
    }
    text
}

fn line(text: &mut String, row: &Row) {
    let (word, found) = match row.status {
        Status::Pass => ("pass", row.measured.clone()),
        Status::Fail => ("FAIL", row.measured.clone()),
        Status::NotApplicable if row.measured.is_empty() => ("n.a.", row.reason.clone()),
        Status::NotApplicable => ("n.a.", format!("{} ({})", row.measured, row.reason)),
    };
    let _ = writeln!(text, "    {word}  {:<34} {found}", row.rule);
}

/// The groups in the order of the rules.
fn groups() -> Vec<Group> {
    let mut groups: Vec<Group> = Rule::all().map(|rule| rule.group).collect();
    groups.dedup();
    groups.sort();
    groups.dedup();
    groups
}

fn rules() -> String {
    let mut text = String::new();
    for group in groups() {
        let _ = writeln!(text, "{}", group.title());
        for rule in Rule::all().filter(|rule| rule.group == group) {
            let weight = match rule.from {
                Policy::Hvci => rule.weight.title().to_owned(),
                policy => format!("{}, from policy {} on", rule.weight.title(), policy.name()),
            };
            let _ = writeln!(text, "  {} ({}; {weight})", rule.id, rule.scope.title());
            let _ = writeln!(text, "    {}", rule.title);
            let _ = writeln!(text, "    otherwise: {}", rule.why);
            let _ = writeln!(text, "    source: {}", rule.source);
        }
    }
    text
}
