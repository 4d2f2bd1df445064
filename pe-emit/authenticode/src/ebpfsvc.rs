//! What the service of eBPF for Windows (`ebpfsvc`) says of an image before it lets it be loaded.
//!
//! The facts are those of its source, `libs/service/api_service.cpp` and `docs/eBbpfProofOfVerification.md`: on production
//! systems it wants an image that Windows trusts, with an embedded signature whose chain ends at one root of Microsoft, whose
//! signer has one name, and whose signer's certificate has two extended key usages. With test signing on it wants that
//! only where the registry value `ProofOfVerification` is not 0.

use der::asn1::ObjectIdentifier;
use serde::Serialize;

use crate::certificate::Certificate;
use crate::oid;
use crate::verify::Signature;

/// SHA-1 thumbprint of "Microsoft Root Certificate Authority 2011".
const PRODUCTION_ROOT: &str = "8f43288ad272f3103b6fb1428485ea3014c0bcfe";

/// The subject of the signer's certificate.
const PRODUCTION_SUBJECT: &str =
    "US, Washington, Redmond, Microsoft Corporation, Microsoft Corporation eBPF Verification";

/// The extended key usages of the signer's certificate.
const PRODUCTION_USAGES: [ObjectIdentifier; 2] = [oid::CODE_SIGNING, oid::EBPF_VERIFICATION];

/// Which of the things that the service demands of a signature on production systems are so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProductionDemands {
    /// Its chain ends at the root.
    pub root: bool,
    /// Its signer has the name.
    pub subject: bool,
    /// Its signer's certificate has the extended key usages.
    pub key_usages: bool,
}

impl Signature {
    /// What is so of this signature; `None` if its signer's certificate is not known.
    pub fn production_demands(&self) -> Option<ProductionDemands> {
        let (leaf, last) = (self.chain.first()?, self.chain.last()?);
        Some(ProductionDemands {
            root: last.sha1 == PRODUCTION_ROOT,
            subject: leaf.simple_subject == PRODUCTION_SUBJECT,
            key_usages: PRODUCTION_USAGES.iter().all(|usage| leaf.states_usage(*usage)),
        })
    }
}

/// How a machine is set up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// Test signing is off.
    Production,
    /// Test signing is on (`bcdedit /set testsigning on`).
    TestSigning,
    /// Test signing is on, and `HKLM\Software\eBPF\Parameters\ProofOfVerification` is not 0.
    TestSigningWithProof,
}

impl Mode {
    /// For people.
    pub const fn description(self) -> &'static str {
        match self {
            Mode::Production => "in production",
            Mode::TestSigning => "with test signing on",
            Mode::TestSigningWithProof => "with test signing on and ProofOfVerification=1",
        }
    }
}

/// What the service says in a mode.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Verdict {
    /// The mode.
    pub mode: Mode,
    /// Whether it lets the image be loaded.
    pub accepted: bool,
    /// Why, or what else it takes: sentences without full stops.
    pub reasons: Vec<String>,
}

/// The verdicts in all modes.
pub(crate) fn verdicts(signatures: &[Signature], roots: &[Certificate]) -> Vec<Verdict> {
    let proof = |mode| {
        let (accepted, reasons) = proof_of_verification(signatures, roots);
        Verdict {
            mode,
            accepted,
            reasons,
        }
    };
    let verified = |signature: &Signature| signature.problems.iter().all(crate::Problem::is_about_trust);
    let windows = if signatures.first().is_some_and(verified) {
        "Windows itself loads it if the machine has the chain's root among its trusted roots, and the signer among its trusted publishers"
    } else {
        "Windows itself refuses to load it: it is not signed, or the signature is wrong"
    };
    vec![
        proof(Mode::Production),
        Verdict {
            mode: Mode::TestSigning,
            accepted: true,
            reasons: vec!["ebpfsvc looks at no signature in this mode".into(), windows.into()],
        },
        proof(Mode::TestSigningWithProof),
    ]
}

/// The check of signatures. The first reason is about the image as a whole, the others are about each signature.
fn proof_of_verification(signatures: &[Signature], roots: &[Certificate]) -> (bool, Vec<String>) {
    let Some(first) = signatures.first() else {
        return (
            false,
            vec!["the image has no embedded signature (EBPF_INVALID_ARGUMENT)".into()],
        );
    };
    // Windows looks at the first signature when it judges whether a file is trusted.
    if let Some(problem) = first.problems.first() {
        return (
            false,
            vec![format!(
                "Windows does not trust the image (EBPF_INVALID_ARGUMENT): {problem}"
            )],
        );
    }
    let mut reasons = Vec::new();
    for (index, signature) in signatures.iter().enumerate() {
        let missing = missing(signature);
        if missing.is_empty() {
            let mut reasons = vec![format!(
                "signature {} is Microsoft's for verified eBPF modules",
                index + 1
            )];
            if roots.is_empty() {
                reasons.push("no root was given, so it is assumed that Windows trusts the chain".into());
            }
            return (true, reasons);
        }
        let told = missing
            .into_iter()
            .map(|what| format!("signature {}: {what}", index + 1));
        reasons.extend(told);
    }
    reasons.insert(
        0,
        "no signature is Microsoft's for verified eBPF modules (EBPF_OBJECT_NOT_FOUND)".into(),
    );
    (false, reasons)
}

/// What a signature lacks.
fn missing(signature: &Signature) -> Vec<String> {
    let mut missing: Vec<String> = signature.problems.iter().map(ToString::to_string).collect();
    let chain = &signature.chain;
    let (Some(met), Some(leaf), Some(last)) = (signature.production_demands(), chain.first(), chain.last()) else {
        return missing;
    };
    if !met.root {
        let what = if last.self_issued {
            "ends at the root"
        } else {
            "is known only up to"
        };
        missing.push(format!(
            "its chain {what} `{}` ({}), and not at Microsoft Root Certificate Authority 2011 ({PRODUCTION_ROOT})",
            last.subject, last.sha1
        ));
    }
    if !met.subject {
        missing.push(format!(
            "its signer is `{}`, and not `{PRODUCTION_SUBJECT}`",
            leaf.simple_subject
        ));
    }
    for usage in PRODUCTION_USAGES.into_iter().filter(|usage| !leaf.states_usage(*usage)) {
        missing.push(format!(
            "its signer's certificate lacks the extended key usage {} ({usage})",
            oid::usage_name(usage).unwrap_or_default()
        ));
    }
    missing
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{CertificateSummary, Problem, Usage};

    fn certificate(simple_subject: &str, sha1: &str, usages: &[&str]) -> CertificateSummary {
        let usage = |oid: &&str| Usage {
            oid: (*oid).to_owned(),
            name: None,
        };
        CertificateSummary {
            subject: String::new(),
            simple_subject: simple_subject.into(),
            issuer: String::new(),
            serial: String::new(),
            sha1: sha1.into(),
            sha256: String::new(),
            not_before: crate::Time::now(),
            not_after: crate::Time::now(),
            key: String::new(),
            extended_key_usages: Some(usages.iter().map(usage).collect()),
            self_issued: true,
        }
    }

    fn signature(subject: &str, usages: &[&str], root: &str) -> Signature {
        Signature {
            chain: vec![certificate(subject, "", usages), certificate("", root, &[])],
            ..Signature::default()
        }
    }

    const USAGES: [&str; 2] = ["1.3.6.1.4.1.311.133.1", "1.3.6.1.5.5.7.3.3"];

    fn accepted(signatures: &[Signature]) -> [bool; 3] {
        let verdicts = verdicts(signatures, &[]);
        [0, 1, 2].map(|index| verdicts[index].accepted)
    }

    #[test]
    fn microsofts_signature_is_taken_wherever_it_stands() {
        let theirs = signature(PRODUCTION_SUBJECT, &USAGES, PRODUCTION_ROOT);
        let other = signature("Somebody", &USAGES, "00");
        assert_eq!(accepted(std::slice::from_ref(&theirs)), [true, true, true]);
        assert_eq!(accepted(&[other.clone(), theirs.clone()]), [true, true, true]);
        assert_eq!(accepted(&[other]), [false, true, false]);
        assert_eq!(accepted(&[]), [false, true, false]);
        let changed = Signature {
            problems: vec![Problem::DigestMismatch],
            ..theirs
        };
        assert_eq!(accepted(&[changed]), [false, true, false]);
    }

    #[test]
    fn each_thing_that_is_missing_is_said() {
        let all = ProductionDemands {
            root: true,
            subject: true,
            key_usages: true,
        };
        let theirs = signature(PRODUCTION_SUBJECT, &USAGES, PRODUCTION_ROOT);
        assert_eq!(theirs.production_demands(), Some(all));
        assert_eq!(Signature::default().production_demands(), None);
        let without_root = ProductionDemands { root: false, ..all };
        let without_subject = ProductionDemands { subject: false, ..all };
        let without_usages = ProductionDemands {
            key_usages: false,
            ..all
        };
        for (signature, demands, parts) in [
            (
                signature("Somebody", &USAGES, PRODUCTION_ROOT),
                without_subject,
                &["its signer is `Somebody`"][..],
            ),
            (
                signature(PRODUCTION_SUBJECT, &USAGES, "00"),
                without_root,
                &["ends at the root"],
            ),
            (
                signature(PRODUCTION_SUBJECT, &USAGES[..1], PRODUCTION_ROOT),
                without_usages,
                &["lacks the extended key usage code signing"],
            ),
            (
                signature(PRODUCTION_SUBJECT, &USAGES[1..], PRODUCTION_ROOT),
                without_usages,
                &["lacks the extended key usage eBPF verification"],
            ),
        ] {
            assert_eq!(signature.production_demands(), Some(demands));
            let verdict = &verdicts(&[signature], &[])[0];
            assert!(
                !verdict.accepted && verdict.reasons.len() == 1 + parts.len(),
                "{verdict:?}"
            );
            for part in parts {
                assert!(verdict.reasons[1].contains(part), "{part}: {verdict:?}");
            }
        }
    }
}
