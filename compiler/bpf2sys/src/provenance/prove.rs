//! Judging a statement: what it says is so, or it is not.

use serde::Serialize;

use super::difference::difference;
use super::envelope::Envelope;
use super::rebuild::{rebuild, without_signatures};
use super::statement::{EngineOptions, Facts, dependencies};
use super::{ProvenanceError, PublicKey, Statement};
use crate::hash::sha256;
use crate::{BuildOptions, Error, ErrorKind, Providers};

/// What is held against a statement.
#[derive(Clone, Copy)]
pub(crate) struct Given<'a> {
    pub image: &'a [u8],
    pub object: &'a [u8],
    /// The built-in ones, and those that the statement names.
    pub providers: &'a Providers,
    /// Limits of the build; nothing else of it counts.
    pub limits: &'a BuildOptions,
    /// Whose signature it must be; without one it is not judged.
    pub key: Option<&'a PublicKey>,
    /// Whether the image may have other signatures than the one that is stated.
    pub other_signatures: bool,
}

/// What came of a question.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Outcome {
    Good,
    Wrong,
    NotJudged,
}

/// A question, and its answer in words.
#[derive(Debug, Serialize)]
pub(crate) struct Check {
    /// What was asked.
    pub name: &'static str,
    pub outcome: Outcome,
    pub told: String,
}

impl Check {
    /// Whether the answer is worth telling people: what is wrong is told as an error.
    pub(crate) fn is_told(&self) -> bool {
        self.outcome != Outcome::Wrong
    }
}

/// What a statement is worth.
#[derive(Debug)]
pub(crate) struct Verification {
    /// In the order of asking.
    pub checks: Vec<Check>,
    /// Why it is not proven.
    pub errors: Vec<Error>,
}

impl Verification {
    fn good(&mut self, name: &'static str, told: impl Into<String>) {
        self.add(name, Outcome::Good, told.into());
    }

    fn not_judged(&mut self, name: &'static str, told: impl Into<String>) {
        self.add(name, Outcome::NotJudged, told.into());
    }

    fn wrong(&mut self, name: &'static str, error: impl Into<Error>) {
        let error = error.into();
        let mut told = error.kind().to_string();
        if let ErrorKind::Provenance(ProvenanceError::OtherBytes { difference, .. }) = error.kind() {
            told = format!("{told}; {}", difference.first());
        }
        self.add(name, Outcome::Wrong, told);
        self.errors.push(error);
    }

    fn add(&mut self, name: &'static str, outcome: Outcome, told: String) {
        self.checks.push(Check { name, outcome, told });
    }
}

/// Judges a statement about an image. All questions are asked that can be; what is wrong is in [`Verification::errors`]. If there
/// is a key and the signature is not by it, the statement is not even read, as DSSE advises.
///
/// # Errors
/// The statement or the image can't be read.
pub(crate) fn verify(envelope: &Envelope, given: Given<'_>) -> Result<Verification, Error> {
    let mut found = Verification {
        checks: Vec::new(),
        errors: Vec::new(),
    };
    match given.key {
        Some(key) if envelope.is_signed_by(key) => {
            found.good("signature", format!("by the given key ({})", key.description()));
        }
        Some(key) => {
            let key = key.description();
            found.wrong("signature", ProvenanceError::WrongSignature { key });
            for name in ["image", "object", "platform", "rebuild", "claims"] {
                found.not_judged(name, "it is not known who made the statement");
            }
            return Ok(found);
        }
        None => found.not_judged("signature", "no key was given"),
    }
    let statement = Statement::read(&envelope.payload)?;
    let unsigned = without_signatures(given.image)?;
    if statement.image() == sha256(given.image) {
        found.good("image", "it is the one that is stated");
    } else if statement.image_without_signatures() != sha256(&unsigned) {
        let what = "its bytes are not those that are stated, also without signatures".into();
        found.wrong("image", ProvenanceError::OtherImage(what));
    } else if given.other_signatures {
        found.good("image", "it is the one that is stated, with other signatures");
    } else {
        let what = "only its signatures are not those that are stated; `--ignore-signatures` takes it".into();
        found.wrong("image", ProvenanceError::OtherImage(what));
    }
    if inputs(&statement, given, &mut found) {
        proof(&statement, given, &unsigned, &mut found);
    } else {
        found.not_judged("rebuild", "other inputs give other images");
        found.not_judged("claims", "nothing was built");
    }
    Ok(found)
}

/// Holds the object and the descriptions against the stated ones. Gives whether they are the same.
fn inputs(statement: &Statement, given: Given<'_>, found: &mut Verification) -> bool {
    let definition = &statement.predicate.build_definition;
    let parameters = &definition.external_parameters;
    let actual = dependencies(&parameters.object, given.object, given.providers);
    let stated = &definition.resolved_dependencies;
    let before = found.errors.len();
    match stated.first() {
        Some(object) if object == &actual[0] => found.good("object", "it is the one that is stated"),
        _ => {
            let what = "the object is not the one that the statement names".into();
            found.wrong("object", ProvenanceError::OtherInput(what));
        }
    }
    let (stated, actual) = (stated.get(1..).unwrap_or_default(), &actual[1..]);
    let names: Vec<&str> = stated.iter().map(|file| file.name.as_str()).collect();
    let differing = stated.iter().zip(actual).find(|(a, b)| a.digest != b.digest);
    if parameters.platform != names {
        let what = "the names of the descriptions and their digests do not fit together";
        found.wrong("platform", ProvenanceError::Untrue(what.into()));
    } else if stated.len() != actual.len() {
        let what = format!(
            "the build knew {}; {} given (`--platform`, in this order)",
            match names.as_slice() {
                [] => "the built-in descriptions only".to_owned(),
                names => format!("the descriptions `{}`", names.join("`, `")),
            },
            match actual.len() {
                0 => "none is".to_owned(),
                1 => "one is".to_owned(),
                count => format!("{count} are"),
            }
        );
        found.wrong("platform", ProvenanceError::OtherInput(what));
    } else if let Some((file, _)) = differing {
        let what = format!("the description `{}` is not the one that the build knew", file.name);
        found.wrong("platform", ProvenanceError::OtherInput(what));
    } else {
        let told = match names.len() {
            0 => "the built-in descriptions only".to_owned(),
            count => format!("all of {count} are those that are stated"),
        };
        found.good("platform", told);
    }
    found.errors.len() == before
}

/// Builds the image again, and holds everything that is stated about it against what was seen.
fn proof(statement: &Statement, given: Given<'_>, unsigned: &[u8], found: &mut Verification) {
    let parameters = &statement.predicate.build_definition.external_parameters;
    let rebuilt = match rebuild(given.object, parameters, given.providers, given.limits) {
        Ok(rebuilt) => rebuilt,
        Err(error) => {
            found.wrong("rebuild", error);
            found.not_judged("claims", "nothing was built");
            return;
        }
    };
    let own = env!("CARGO_PKG_VERSION");
    let other_version = statement.tool_version().filter(|stated| *stated != own);
    if let Some(difference) = difference(unsigned, &rebuilt.image) {
        let reason = other_version.map(|stated| {
            format!("bpf2sys {stated} built it, and this is bpf2sys {own}: that version may give the same bytes")
        });
        found.wrong("rebuild", ProvenanceError::OtherBytes { difference, reason });
    } else {
        found.good(
            "rebuild",
            format!("all {} bytes without signatures are the same", unsigned.len()),
        );
    }
    let expected = Statement::of(Facts {
        image_name: "",
        image: given.image,
        object: given.object,
        parameters,
        providers: given.providers,
        rebuilt: &rebuilt,
        builder: statement.builder(),
    });
    let (stated, expected) = (&statement.predicate, &expected.predicate);
    let engine = &stated.build_definition.internal_parameters.verifier;
    let options = EngineOptions::of(&given.providers.platform().verifier_options);
    let untrue = if statement.image_without_signatures() != sha256(&rebuilt.image) {
        Some("the digest of the image without signatures")
    } else if stated.run_details.programs != expected.run_details.programs {
        Some("the programs and their hashes")
    } else if engine.options != options {
        Some("the options of the verifier")
    } else if other_version.is_none() && engine != &expected.build_definition.internal_parameters.verifier {
        Some("the verifier")
    } else if statement.tool_version().is_none() {
        Some("the version of bpf2sys")
    } else {
        None
    };
    match untrue {
        Some(what) => found.wrong("claims", ProvenanceError::Untrue(what.into())),
        None => found.good("claims", "programs, hashes and verifier are as they are stated"),
    }
}
