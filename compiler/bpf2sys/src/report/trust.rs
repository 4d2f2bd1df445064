//! Who vouches for the image: its signatures, and the statement of provenance beside it.

use bpf2sys_authenticode::{CertificateSummary, Report, Signature};
use bpf2sys_simulator::describe::ImageDescription;

use super::html::{Html, tag};
use super::parts::{Facts, Mark, Section, Table, bytes, code, digits, heading, note, paragraph, prose};
use super::{Context, Subject};
use crate::hash::sha256;
use crate::provenance::{Statement, without_signatures};
use crate::signing::words;

/// The verdict on signatures: a mark, a word, and more words.
pub(super) fn signature_verdict(context: &Context<'_>) -> (Mark, &'static str, String) {
    let report = match &context.subject.signatures {
        Ok(report) => report,
        Err(why) => return (Mark::Bad, "unreadable", why.clone()),
    };
    let Some(first) = report.signatures.first() else {
        return (
            Mark::Open,
            "not signed",
            "to be signed before Windows loads it".to_owned(),
        );
    };
    let signer = first
        .chain
        .first()
        .map_or_else(|| "not known who".to_owned(), |signer| signer.subject.clone());
    if !report.is_good() {
        return (Mark::Bad, "wrong", signer);
    }
    match first.trusted {
        Some(true) => (Mark::Good, "verified", signer),
        _ => (
            Mark::Open,
            "intact",
            format!("{signer}; no root was given to judge the chain"),
        ),
    }
}

/// The same on the statement.
pub(super) fn statement_verdict(context: &Context<'_>) -> (Mark, &'static str, String) {
    match &context.subject.statement {
        None => (Mark::Open, "no statement", "none beside the image".to_owned()),
        Some((_, Err(_))) => (Mark::Bad, "unreadable", "the statement can't be read".to_owned()),
        Some((_, Ok(statement))) => match about(context.subject, statement) {
            About::ThisImage => (
                Mark::Open,
                "stated",
                "about this image; whose it is was not judged".to_owned(),
            ),
            About::OtherSignatures => (
                Mark::Open,
                "stated",
                "about this image with other signatures".to_owned(),
            ),
            About::Another => (Mark::Bad, "of another image", "its hash is another one".to_owned()),
        },
    }
}

pub(super) fn signature(context: &Context<'_>) -> Section {
    let content = match &context.subject.signatures {
        Ok(report) => signatures(context, report),
        Err(why) => paragraph(format!("The signatures can't be read: {why}.")).into(),
    };
    Section::new("signature", "Signature", content)
}

fn signatures(context: &Context<'_>, report: &Report) -> Html {
    let mut all = Html::default();
    if report.signatures.is_empty() {
        all.push(paragraph("The image is not signed."));
    }
    for (number, signature) in report.signatures.iter().enumerate() {
        let beside = if signature.nested {
            ", beside the one before"
        } else {
            ""
        };
        all.push(heading(format!("Signature {}{beside}", number + 1)));
        all.push(one(context, signature));
    }
    let mut table = Table::new("What eBPF for Windows would say", &["Machine", "Verdict", "Reasons"]);
    for verdict in &report.ebpfsvc {
        let mark = if verdict.accepted {
            Mark::Good.on("accepted")
        } else {
            Mark::Open.on("refused")
        };
        let reasons = verdict.reasons.iter().map(|reason| tag("li").with(reason));
        table.row([
            Html::from(verdict.mode.description()),
            mark.into(),
            tag("ul").with_all(reasons).into(),
        ]);
    }
    all.with(table)
}

fn one(context: &Context<'_>, signature: &Signature) -> Html {
    let mut facts = Facts::default();
    let good = signature.problems.is_empty();
    facts.add("Verified", if good { Mark::Good.on("yes") } else { Mark::Bad.on("no") });
    for problem in &signature.problems {
        facts.add("Problem", problem.to_string());
    }
    let algorithm = signature
        .digest_algorithm
        .map_or("unknown digest", |digest| digest.name());
    facts.add(
        "Digest",
        Html::from(digits(&signature.stated_digest)).with(format!(" ({algorithm})")),
    );
    if signature.computed_digest != signature.stated_digest && !signature.computed_digest.is_empty() {
        facts.add("Digest of the image", digits(&signature.computed_digest));
    }
    facts.add_some("Description", signature.description.as_ref());
    // Not a link: it comes from the file.
    facts.add_some("URL", signature.url.as_ref().map(code));
    facts.add("Size", bytes(signature.size as u64));
    if let Some(pages) = &signature.page_hashes {
        let verified = if pages.verified { "all right" } else { "wrong" };
        facts.add(
            "Page hashes",
            format!("{} pages ({}), {verified}", pages.pages, pages.algorithm.name()),
        );
    }
    if let Some(stamp) = &signature.timestamp {
        let time = stamp
            .time
            .map_or_else(|| "unreadable".to_owned(), |time| time.to_string());
        let by = stamp
            .chain
            .first()
            .map_or("an unknown authority", |authority| &authority.subject);
        let verified = if stamp.verified { "verified" } else { "wrong" };
        let chain = words::end_of_chain(stamp.trusted);
        facts.add("Timestamp", format!("{time} by {by}, {verified}; its chain {chain}"));
    }
    if let Some(at) = signature.judged_at {
        let stamped = signature.timestamp.as_ref().is_some_and(|stamp| stamp.verified);
        let how = match (stamped, context.subject.at) {
            (true, _) => "the time of the timestamp",
            (false, Some(_)) => "the time given with --at",
            (false, None) => {
                "the first moment of the signer's certificate, because there is no timestamp; --at names another"
            }
        };
        facts.add("Judged at", format!("{at}, {how}"));
    }
    let mut all = Html::from(facts);
    if !signature.chain.is_empty() {
        let mut table = Table::new(
            "Chain of certificates",
            &["Subject", "Issuer", "Valid", "Key", "For", "Serial number and hashes"],
        );
        for certificate in &signature.chain {
            table.row(chain_row(certificate));
        }
        all.push(table);
        all.push(paragraph(format!(
            "The chain {}. Revocation is not looked up.",
            words::end_of_chain(signature.trusted)
        )));
    }
    all
}

fn chain_row(certificate: &CertificateSummary) -> [Html; 6] {
    let hashes = [
        ("serial ", &certificate.serial),
        ("SHA-1 ", &certificate.sha1),
        ("SHA-256 ", &certificate.sha256),
    ];
    let hashes = hashes.map(|(name, value)| tag("div").with(name).with(digits(value)));
    [
        (&certificate.subject).into(),
        (&certificate.issuer).into(),
        format!("{} to {}", certificate.not_before, certificate.not_after).into(),
        (&certificate.key).into(),
        words::usages(certificate).into(),
        Html::of(hashes),
    ]
}

/// What a statement is about.
enum About {
    ThisImage,
    OtherSignatures,
    Another,
}

fn about(subject: &Subject<'_>, statement: &Statement) -> About {
    if statement.image() == sha256(subject.image) {
        return About::ThisImage;
    }
    let unsigned = without_signatures(subject.image).ok();
    match unsigned {
        Some(unsigned) if statement.image_without_signatures() == sha256(&unsigned) => About::OtherSignatures,
        _ => About::Another,
    }
}

pub(super) fn provenance(context: &Context<'_>) -> Section {
    let content = match &context.subject.statement {
        None => paragraph(prose(&none(&context.image))).into(),
        Some((name, Err(why))) => Html::from(paragraph(
            Html::from("The statement ")
                .with(code(*name))
                .with(format!(" can't be read: {why}.")),
        )),
        Some((name, Ok(statement))) => stated(context, name, statement),
    };
    Section::new("provenance", "Provenance", content)
}

fn none(image: &ImageDescription) -> String {
    let what = "No statement of provenance is beside the image. `bpf2sys package` writes one";
    if image.signed {
        format!("{what}.")
    } else {
        format!("{what}, and the package that the dashboard signs.")
    }
}

fn stated(context: &Context<'_>, name: &str, statement: &Statement) -> Html {
    let subject = context.subject;
    let mut facts = Facts::default();
    facts.add("Statement", code(name));
    facts.add(
        "Its subject",
        match about(subject, statement) {
            About::ThisImage => Mark::Good.on("this image: the hash is the same"),
            About::OtherSignatures => Mark::Good.on("this image, but for its signatures"),
            About::Another => Mark::Bad.on("another image: the hash is another one"),
        },
    );
    facts.add("SHA-256 of its subject", digits(statement.image()));
    facts.add(
        "SHA-256 without signatures",
        digits(statement.image_without_signatures()),
    );
    facts.add("Builder", code(statement.builder()));
    facts.add(
        "Built by",
        format!(
            "bpf2sys {}",
            statement.tool_version().unwrap_or("of a version that is not stated")
        ),
    );
    let object = match (&subject.source, statement.object()) {
        (Ok(source), stated) if stated == source.object => Mark::Good.on("the one that this page shows"),
        (Ok(_), _) => Mark::Bad.on("another one than this page shows"),
        (Err(_), _) => Mark::Open.on("not known here"),
    };
    facts.add("Its object", object);
    facts.add("SHA-256 of its object", digits(statement.object()));
    let mut table = Table::new("Options of the build, as stated", &["Option", "Value"]);
    for (option, value) in statement.options() {
        table.row([Html::from(code(option)), code(value).into()]);
    }
    let remark = "Who signed the statement, and whether building the object again gives these bytes, is for \
                  `bpf2sys attest verify` to say: it was not judged here.";
    Html::from(facts).with(table).with(note(prose(remark)))
}
