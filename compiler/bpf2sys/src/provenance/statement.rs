//! The statement: in-toto Statement v1 with the predicate SLSA Provenance v1.
//!
//! The order of fields here is their order in the file. What a statement of this build type has no field for is refused when it
//! is read: whoever relies on it would rely on something that was not judged.

use std::collections::BTreeMap;

use bpf2sys_platform::VerifierOptions;
use serde::{Deserialize, Serialize};

use super::parameters::{Engine, Parameters, file_name};
use super::{MAX_STATEMENT, ProvenanceError, Rebuilt};
use crate::Providers;
use crate::hash::sha256;

const STATEMENT_TYPE: &str = "https://in-toto.io/Statement/v1";
const PREDICATE_TYPE: &str = "https://slsa.dev/provenance/v1";

/// How to read the parameters: `docs/provenance.md`, "Build type".
const BUILD_TYPE: &str = "urn:bpf2sys:build:v1";

/// Who built, if nothing else is said: bpf2sys, run by whoever holds the key.
pub(crate) const DEFAULT_BUILDER: &str = "urn:bpf2sys:cli:v1";

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
#[allow(clippy::struct_field_names)] // as in-toto calls them
pub(crate) struct Statement {
    #[serde(rename = "_type")]
    statement_type: String,
    /// The image as it is shipped.
    subject: Vec<Resource>,
    predicate_type: String,
    pub(super) predicate: Predicate,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(super) struct Predicate {
    pub build_definition: BuildDefinition,
    pub run_details: RunDetails,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(super) struct BuildDefinition {
    build_type: String,
    pub external_parameters: Parameters,
    pub internal_parameters: InternalParameters,
    /// The object, then descriptions in their order.
    pub resolved_dependencies: Vec<Resource>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct InternalParameters {
    pub verifier: Verifier,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Verifier {
    name: String,
    pub version: String,
    pub options: EngineOptions,
}

impl Verifier {
    fn of(engine: Engine, options: &VerifierOptions) -> Verifier {
        let own = ("bpf2sys", env!("CARGO_PKG_VERSION"));
        let prevail = ("prevail", env!("BPF2SYS_PREVAIL_VERSION"));
        let engines = match engine {
            Engine::Native => vec![own],
            Engine::Prevail => vec![prevail],
            Engine::Both => vec![own, prevail],
        };
        let (names, versions): (Vec<&str>, Vec<&str>) = engines.into_iter().unzip();
        Verifier {
            name: names.join(", "),
            version: versions.join(", "),
            options: EngineOptions::of(options),
        }
    }
}

/// Under the names that eBPF for Windows has for them (`ebpf_verifier_options_t` of PREVAIL).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(clippy::struct_excessive_bools)] // the engine's own switches
pub(super) struct EngineOptions {
    check_for_termination: bool,
    must_have_exit: bool,
    strict: bool,
    allow_division_by_zero: bool,
    setup_constraints: bool,
    conformance_groups: Vec<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(super) struct RunDetails {
    pub builder: Builder,
    /// The image without signatures.
    pub byproducts: Vec<Resource>,
    /// An extension field, named as SLSA demands.
    #[serde(rename = "bpf2sys_programs")]
    pub programs: Vec<Program>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Builder {
    id: String,
    /// `bpf2sys` and its version.
    pub version: BTreeMap<String, String>,
}

/// A program of the module, as it was verified.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
#[allow(clippy::struct_field_names)] // as they are called everywhere
pub(crate) struct Program {
    pub name: String,
    pub section: String,
    pub program_type: String,
    /// Over the descriptions of what it uses of the platform, by the algorithm of `hash`; `null` without one.
    #[serde(deserialize_with = "Option::deserialize")]
    pub program_info_hash: Option<String>,
}

/// A file: `ResourceDescriptor`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Resource {
    pub name: String,
    pub digest: Digests,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Digests {
    pub sha256: String,
}

impl Resource {
    fn of(name: &str, contents: &[u8]) -> Resource {
        Resource {
            name: file_name(name).to_owned(),
            digest: Digests {
                sha256: sha256(contents),
            },
        }
    }
}

/// What a statement is made of.
#[derive(Clone, Copy)]
pub(crate) struct Facts<'a> {
    /// Its path.
    pub image_name: &'a str,
    /// As it is shipped.
    pub image: &'a [u8],
    pub object: &'a [u8],
    pub parameters: &'a Parameters,
    pub providers: &'a Providers,
    /// What the object gave, built with the parameters and providers: the same bytes as the image without signatures.
    pub rebuilt: &'a Rebuilt,
    /// URI of who built.
    pub builder: &'a str,
}

impl Statement {
    /// States a build.
    pub(crate) fn of(facts: Facts<'_>) -> Statement {
        let image_name = file_name(facts.image_name);
        let platform = facts.providers.platform();
        Statement {
            statement_type: STATEMENT_TYPE.into(),
            subject: vec![Resource::of(image_name, facts.image)],
            predicate_type: PREDICATE_TYPE.into(),
            predicate: Predicate {
                build_definition: BuildDefinition {
                    build_type: BUILD_TYPE.into(),
                    external_parameters: facts.parameters.clone(),
                    internal_parameters: InternalParameters {
                        verifier: Verifier::of(facts.parameters.verifier, &platform.verifier_options),
                    },
                    resolved_dependencies: dependencies(&facts.parameters.object, facts.object, facts.providers),
                },
                run_details: RunDetails {
                    builder: Builder {
                        id: facts.builder.into(),
                        version: [("bpf2sys".into(), env!("CARGO_PKG_VERSION").into())].into(),
                    },
                    byproducts: vec![Resource::of(
                        &format!("{image_name} without signatures"),
                        &facts.rebuilt.image,
                    )],
                    programs: facts.rebuilt.programs.clone(),
                },
            },
        }
    }

    /// Reads the payload of an envelope.
    pub(crate) fn read(payload: &[u8]) -> Result<Statement, ProvenanceError> {
        /// What decides whether the rest can be understood.
        #[derive(Deserialize)]
        struct Kinds {
            #[serde(rename = "_type")]
            statement_type: String,
            #[serde(rename = "predicateType")]
            predicate_type: String,
        }
        let unusable = |what: String| ProvenanceError::Statement(what);
        if payload.len() > MAX_STATEMENT {
            return Err(unusable(format!("it has more than {} MiB", MAX_STATEMENT >> 20)));
        }
        let kinds: Kinds =
            serde_json::from_slice(payload).map_err(|e| unusable(format!("it is no in-toto statement: {e}")))?;
        for (what, found, expected) in [
            ("statement", &kinds.statement_type, STATEMENT_TYPE),
            ("predicate", &kinds.predicate_type, PREDICATE_TYPE),
        ] {
            if found != expected {
                return Err(unusable(format!("its {what} type is `{found}`, and not `{expected}`")));
            }
        }
        let statement: Statement = serde_json::from_slice(payload)
            .map_err(|e| unusable(format!("it is no provenance of a build by bpf2sys: {e}")))?;
        let definition = &statement.predicate.build_definition;
        if definition.build_type != BUILD_TYPE {
            return Err(unusable(format!(
                "its build type is `{}`, and not `{BUILD_TYPE}`",
                definition.build_type
            )));
        }
        let (subjects, byproducts) = (&statement.subject, &statement.predicate.run_details.byproducts);
        if subjects.len() != 1 || byproducts.len() != 1 {
            return Err(unusable(format!(
                "it has {} subjects and {} byproducts; a build has one of each",
                subjects.len(),
                byproducts.len()
            )));
        }
        Ok(statement)
    }

    /// SHA-256 of the image.
    pub(crate) fn image(&self) -> &str {
        &self.subject[0].digest.sha256 // of statements that were read, there is one
    }

    /// SHA-256 of the image without signatures.
    pub(crate) fn image_without_signatures(&self) -> &str {
        &self.predicate.run_details.byproducts[0].digest.sha256 // as above
    }

    /// The options of the build.
    pub(crate) fn parameters(&self) -> &Parameters {
        &self.predicate.build_definition.external_parameters
    }

    /// The same by their names, as text.
    pub(crate) fn options(&self) -> Vec<(String, String)> {
        let Ok(serde_json::Value::Object(options)) = serde_json::to_value(self.parameters()) else {
            return Vec::new();
        };
        let text = |value: serde_json::Value| match value {
            serde_json::Value::String(text) => text,
            other => other.to_string(),
        };
        options.into_iter().map(|(name, value)| (name, text(value))).collect()
    }

    /// SHA-256 of the object; none is empty.
    pub(crate) fn object(&self) -> &str {
        let first = self.predicate.build_definition.resolved_dependencies.first();
        first.map_or("", |object| &object.digest.sha256)
    }

    /// How the builder is called.
    pub(crate) fn builder(&self) -> &str {
        &self.predicate.run_details.builder.id
    }

    /// The version of bpf2sys that built.
    pub(crate) fn tool_version(&self) -> Option<&str> {
        let version = self.predicate.run_details.builder.version.get("bpf2sys");
        version.map(String::as_str)
    }
}

/// The files that the build read.
pub(super) fn dependencies(object_name: &str, object: &[u8], providers: &Providers) -> Vec<Resource> {
    let descriptions = providers.files().iter();
    std::iter::once(Resource::of(object_name, object))
        .chain(descriptions.map(|(name, toml)| Resource::of(name, toml.as_bytes())))
        .collect()
}

impl EngineOptions {
    pub(super) fn of(options: &VerifierOptions) -> EngineOptions {
        EngineOptions {
            check_for_termination: options.check_for_termination,
            must_have_exit: options.must_have_exit,
            strict: options.strict,
            allow_division_by_zero: options.allow_division_by_zero,
            setup_constraints: options.setup_constraints,
            conformance_groups: options.conformance_groups.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use bpf2sys_authenticode::{NewKey, PrivateKey};

    use super::*;
    use crate::BuildOptions;
    use crate::provenance::{Attester, read_envelope, rebuild, seal};

    fn statement() -> Statement {
        let object = std::fs::read("../../examples/udp_filter/udp_filter.o").unwrap();
        let options = BuildOptions::default();
        let parameters = Parameters::of("udp_filter.o", bpf2sys_pe_emit::Machine::X64, &options);
        let rebuilt = rebuild(&object, &parameters, &options.providers, &options).unwrap();
        Statement::of(Facts {
            image_name: r"c:\drivers\udp_filter.sys",
            image: &rebuilt.image,
            object: &object,
            parameters: &parameters,
            providers: &options.providers,
            rebuilt: &rebuilt,
            builder: DEFAULT_BUILDER,
        })
    }

    #[test]
    fn what_is_written_is_read_back() {
        let statement = statement();
        let text = serde_json::to_string(&statement).unwrap();
        assert_eq!(Statement::read(text.as_bytes()).unwrap(), statement);
        assert_eq!(statement.subject[0].name, "udp_filter.sys");
    }

    /// Every object of the statement, with a field more and with each field less.
    #[test]
    fn no_field_may_be_missing_and_none_may_be_unknown() {
        fn visit(value: &serde_json::Value, place: &str, all: &serde_json::Value, count: &mut usize) {
            let refused = |changed: &serde_json::Value, what: &str| {
                assert!(
                    Statement::read(changed.to_string().as_bytes()).is_err(),
                    "{place}: {what}"
                );
            };
            match value {
                serde_json::Value::Object(fields) => {
                    // The versions of the builder are a map by SLSA.
                    if !place.ends_with("/version") {
                        let mut more = all.clone();
                        more.pointer_mut(place).unwrap()["more"] = 1.into();
                        refused(&more, "more");
                        for name in fields.keys() {
                            let mut less = all.clone();
                            less.pointer_mut(place).unwrap().as_object_mut().unwrap().remove(name);
                            refused(&less, name);
                        }
                        *count += fields.len();
                    }
                    for (name, below) in fields {
                        visit(below, &format!("{place}/{name}"), all, count);
                    }
                }
                serde_json::Value::Array(items) => {
                    for (index, below) in items.iter().enumerate() {
                        visit(below, &format!("{place}/{index}"), all, count);
                    }
                }
                _ => {}
            }
        }
        let all = serde_json::to_value(statement()).unwrap();
        let mut count = 0;
        visit(&all, "", &all, &mut count);
        assert!(count > 40, "{count} fields");
    }

    /// Thousands of changes of one to four bytes, and every length, in the envelope and in what is signed.
    #[test]
    fn mutations_are_read_or_refused_and_never_believed() {
        let attester = Attester::of_key(PrivateKey::generate(NewKey::P256).unwrap()).unwrap();
        let payload = serde_json::to_vec(&statement()).unwrap();
        let file = seal(&payload, &attester).unwrap();
        assert!(read_envelope(&file).unwrap().is_signed_by(attester.key()));
        let mut state = 1u64;
        let mut random = |below: usize| {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) as usize % below
        };
        let mut readable = 0;
        for round in 0..6000 {
            let mut bytes = if round % 2 == 0 { file.clone() } else { payload.clone() };
            if round % 7 == 0 {
                bytes.truncate(random(bytes.len()));
            } else {
                for _ in 0..=random(4) {
                    let place = random(bytes.len());
                    bytes[place] = *b"\"{}[],:0a\\\0\xFF".get(random(24)).unwrap_or(&(random(256) as u8));
                }
            }
            if round % 2 == 1 {
                readable += usize::from(Statement::read(&bytes).is_ok());
            } else if let Ok(envelope) = read_envelope(&bytes) {
                assert!(!envelope.is_signed_by(attester.key()) || envelope.payload == payload);
            }
        }
        // Some changes are inside of strings: what such a statement says is judged by building.
        assert!((1..2500).contains(&readable), "{readable}");
    }
}
