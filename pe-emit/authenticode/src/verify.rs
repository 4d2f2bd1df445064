//! Verifying the signatures of an image.

use serde::Serialize;

use crate::asn1;
use crate::certificate::{self, Certificate};
use crate::chain::{self, Chain};
use crate::digest::{DigestAlgorithm, hex};
use crate::ebpfsvc::{self, Verdict};
use crate::file::{FileError, PeFile};
use crate::message;
use crate::oid;
use crate::problem::Problem;
use crate::signed_data::SignedData;
use crate::spc::{IndirectData, OpusInfo};
use crate::summary::CertificateSummary;
use crate::table;
use crate::time::Time;
use crate::timestamp;

/// Most nested signatures that are read.
const MAX_NESTED: usize = 16;

/// What signatures are judged by.
#[derive(Clone, Debug)]
pub struct VerifyOptions {
    /// Roots that chains must end at. With none, chains are shown, and where they end is not judged.
    pub roots: Vec<Certificate>,
    /// The time that certificates are judged at, where no timestamp tells when they were used.
    pub at: Time,
}

impl Default for VerifyOptions {
    /// No roots, at present.
    fn default() -> VerifyOptions {
        VerifyOptions {
            roots: Vec::new(),
            at: Time::now(),
        }
    }
}

/// What was found in an image.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// The `CheckSum` field is right.
    pub checksum_ok: bool,
    /// The signatures, with each the ones nested in it behind it.
    pub signatures: Vec<Signature>,
    /// What eBPF for Windows would say.
    pub ebpfsvc: Vec<Verdict>,
}

/// A signature, and what it is worth.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Signature {
    /// It is in an attribute of the signature before it (a second signature).
    pub nested: bool,
    /// Size of its encoding, in bytes.
    pub size: usize,
    /// The algorithm of the image's digest; `None` if it is not known.
    pub digest_algorithm: Option<DigestAlgorithm>,
    /// The image's digest as it is signed, in hexadecimal.
    pub stated_digest: String,
    /// The image's digest as it is.
    pub computed_digest: String,
    /// Which program it is, in the signer's words.
    pub description: Option<String>,
    /// Where more is told of it.
    pub url: Option<String>,
    /// The signer's certificate and those above it, as far as they are known.
    pub chain: Vec<CertificateSummary>,
    /// Whether the chain ends at a given root; `None` if no root was given.
    pub trusted: Option<bool>,
    /// The page hashes, if there are any.
    pub page_hashes: Option<PageHashSummary>,
    /// The timestamp, if there is one.
    pub timestamp: Option<Timestamp>,
    /// The time that the chain was judged at.
    pub judged_at: Option<Time>,
    /// What is wrong with it.
    pub problems: Vec<Problem>,
}

/// Page hashes of a signature.
#[derive(Clone, Debug, Serialize)]
pub struct PageHashSummary {
    /// Their algorithm.
    pub algorithm: DigestAlgorithm,
    /// Number of pages.
    pub pages: usize,
    /// Whether all are those of the image.
    pub verified: bool,
}

/// A timestamp.
#[derive(Clone, Debug, Serialize)]
pub struct Timestamp {
    /// The time, if it can be read.
    pub time: Option<Time>,
    /// The authority's certificate and those above it.
    pub chain: Vec<CertificateSummary>,
    /// Whether the chain ends at a given root; `None` if no root was given.
    pub trusted: Option<bool>,
    /// Nothing is wrong with it.
    pub verified: bool,
}

impl Report {
    /// Whether there is a signature, and nothing is wrong with any.
    pub fn is_good(&self) -> bool {
        !self.signatures.is_empty() && self.signatures.iter().all(|signature| signature.problems.is_empty())
    }
}

/// Reads and verifies all signatures of an image. Never panics, whatever the bytes are; the work is bounded by their
/// number.
pub fn verify(image: &[u8], options: &VerifyOptions) -> Result<Report, FileError> {
    let file = PeFile::read(image)?;
    let mut signatures = Vec::new();
    for entry in table::signatures(&file)? {
        let mut nested = Vec::new();
        signatures.push(signature(&file, entry, options, Some(&mut nested)));
        if nested.len() > MAX_NESTED {
            nested.truncate(MAX_NESTED);
            if let Some(outer) = signatures.last_mut() {
                outer.problems.push(Problem::TooManyNested);
            }
        }
        for entry in nested {
            signatures.push(Signature {
                nested: true,
                ..signature(&file, entry, options, None)
            });
        }
    }
    Ok(Report {
        checksum_ok: file.stated_checksum() == file.computed_checksum(),
        ebpfsvc: ebpfsvc::verdicts(&signatures, &options.roots),
        signatures,
    })
}

/// Verifies one signature: a `ContentInfo`, with the zeros behind it that its place in the file needs. Those nested in it
/// are put into `nested`; where that is none, there may be none.
fn signature<'a>(
    file: &PeFile<'_>,
    entry: &'a [u8],
    options: &VerifyOptions,
    nested: Option<&mut Vec<&'a [u8]>>,
) -> Signature {
    let mut found = Signature::default();
    let entry = match asn1::Reader::new(entry).any() {
        Ok(element) => {
            let behind = &entry[element.whole.len()..];
            if behind.len() > 7 || behind.iter().any(|byte| *byte != 0) {
                found.problems.push(Problem::BytesBehind);
            }
            element.whole
        }
        Err(error) => {
            found.problems.push(Problem::Malformed(error));
            return found;
        }
    };
    found.size = entry.len();
    let data = match SignedData::read(entry) {
        Ok(data) => data,
        Err(error) => {
            found.problems.push(Problem::Malformed(error));
            return found;
        }
    };
    if data.version != 1 || data.content_type != oid::SPC_INDIRECT_DATA {
        found.problems.push(Problem::NotOfImage);
        return found;
    }
    let certificates = certificate::readable(&data.certificates);
    let signer = message::signer(&data, &certificates);
    let algorithm = message::check(&data, signer, &mut found.problems);
    image_digest(file, &data, algorithm, &mut found);
    opus_info(&data, &mut found);
    timestamps(&data, &certificates, options, &mut found);
    let known = [oid::RFC3161_TIMESTAMP, oid::COUNTERSIGNATURE, oid::NESTED_SIGNATURE];
    let kinds = data.signer.unsigned_attributes.iter().map(|attribute| attribute.kind);
    let unknown = kinds.filter(|kind| !known.contains(kind));
    found.problems.extend(unknown.map(Problem::UnknownAttribute));
    let inner: Vec<&[u8]> = data
        .signer
        .unsigned_values(oid::NESTED_SIGNATURE)
        .map(|v| v.whole)
        .collect();
    match nested {
        Some(nested) => nested.extend(inner),
        None if !inner.is_empty() => found.problems.push(Problem::TooManyNested),
        None => {}
    }
    let stamped = found.timestamp.as_ref().filter(|stamp| stamp.verified);
    let at = stamped.and_then(|stamp| stamp.time).unwrap_or(options.at);
    found.judged_at = Some(at);
    if let Some(signer) = signer {
        let chain = chain::find(signer, &certificates, &options.roots);
        found.problems.extend(chain.problems(at, oid::CODE_SIGNING));
        if !options.roots.is_empty() {
            found.trusted = Some(chain.trusted);
            if !chain.trusted {
                found.problems.push(untrusted(&chain));
            }
        }
        found.chain = chain.certificates.iter().map(|c| CertificateSummary::of(c)).collect();
    }
    found
}

fn image_digest(file: &PeFile<'_>, data: &SignedData<'_>, algorithm: Option<DigestAlgorithm>, found: &mut Signature) {
    let content = match IndirectData::read(data.content.whole) {
        Ok(content) => content,
        Err(error) => {
            found.problems.push(Problem::Malformed(error));
            return;
        }
    };
    found.digest_algorithm = content.algorithm;
    found.stated_digest = hex(content.digest);
    match content.algorithm {
        None => found.problems.push(Problem::UnknownDigest),
        Some(of_image) => {
            if algorithm.is_some_and(|algorithm| algorithm != of_image) {
                found.problems.push(Problem::TwoDigests);
            }
            let computed = file.digest(of_image);
            if computed != content.digest {
                found.problems.push(Problem::DigestMismatch);
            }
            found.computed_digest = hex(&computed);
        }
    }
    if let Some(hashes) = content.page_hashes {
        let verified = hashes.are_of(file);
        if !verified {
            found.problems.push(Problem::PageHashes);
        }
        found.page_hashes = Some(PageHashSummary {
            algorithm: hashes.algorithm,
            pages: hashes.pages(),
            verified,
        });
    }
}

fn opus_info(data: &SignedData<'_>, found: &mut Signature) {
    let info = match data.signer.signed_attribute(oid::SPC_OPUS_INFO) {
        Ok(Some(value)) => OpusInfo::read(&value),
        Ok(None) => return,
        Err(error) => Err(error),
    };
    match info {
        Ok(info) => (found.description, found.url) = (info.description, info.url),
        Err(_) => found.problems.push(Problem::Attribute("description")),
    }
}

fn timestamps(data: &SignedData<'_>, certificates: &[Certificate], options: &VerifyOptions, found: &mut Signature) {
    if data.signer.unsigned_values(oid::COUNTERSIGNATURE).next().is_some() {
        found.problems.push(Problem::Timestamp(Box::new(Problem::OldTimestamp)));
    }
    let mut tokens = data.signer.unsigned_values(oid::RFC3161_TIMESTAMP);
    let Some(token) = tokens.next() else { return };
    if tokens.next().is_some() {
        found.problems.push(Problem::Attribute("timestamp"));
    }
    let judged = timestamp::verify(token.whole, data.signer.signature, certificates, &options.roots);
    found.timestamp = Some(Timestamp {
        time: judged.time,
        chain: judged.chain.iter().map(CertificateSummary::of).collect(),
        trusted: (!options.roots.is_empty()).then_some(judged.trusted),
        verified: judged.problems.is_empty(),
    });
    let problems = judged.problems.into_iter();
    found
        .problems
        .extend(problems.map(|problem| Problem::Timestamp(Box::new(problem))));
}

/// The problem of a chain that ends at no given root.
pub(crate) fn untrusted(chain: &Chain<'_>) -> Problem {
    let text = |certificate: Option<&&Certificate>, text: fn(&Certificate) -> &str| {
        certificate.map_or(String::new(), |certificate| text(certificate).to_owned())
    };
    Problem::Untrusted {
        subject: text(chain.certificates.first(), Certificate::subject),
        issuer: text(chain.certificates.last(), Certificate::issuer),
    }
}
