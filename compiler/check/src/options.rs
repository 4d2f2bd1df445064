//! What is asked of an image.

use std::fmt;
use std::str::FromStr;

use bpf2sys_simulator::module_tables::RuntimeLevel;
use serde::Serialize;

use crate::signature;

/// Where the image is to load. Each asks for everything that those before it ask for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Policy {
    /// With memory integrity (HVCI) on. A signature need not be there yet.
    #[default]
    Hvci,
    /// On a machine with test signing on: there is an embedded signature, whoever made it.
    TestSigned,
    /// On a production machine: with the signature that the eBPF service demands there, which only Microsoft can give.
    Production,
}

impl Policy {
    /// All of them, from the weakest.
    pub const ALL: [Policy; 3] = [Policy::Hvci, Policy::TestSigned, Policy::Production];

    /// As the command line names it.
    pub fn name(self) -> &'static str {
        match self {
            Policy::Hvci => "hvci",
            Policy::TestSigned => "test-signed",
            Policy::Production => "production",
        }
    }
}

/// There is no policy of this name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UnknownName;

impl fmt::Display for UnknownName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("policies are hvci, test-signed and production")
    }
}

impl std::error::Error for UnknownName {}

impl FromStr for Policy {
    type Err = UnknownName;

    fn from_str(text: &str) -> Result<Policy, UnknownName> {
        Policy::ALL.into_iter().find(|p| p.name() == text).ok_or(UnknownName)
    }
}

/// What a reader of signatures found in an embedded signature: of several, in the one that comes nearest to what is asked, because
/// one that satisfies all is enough (native module contract §9). A field is `None` where it was not looked at.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SignatureFacts {
    /// Whether the signed digest is that of the file.
    pub digest_matches: Option<bool>,
    /// Whether the signature over the digest is that of the certificate it names.
    pub signature_verifies: Option<bool>,
    /// SHA-1 thumbprint of the certificate at the root of the chain, lower-case hexadecimal; empty if the chain has none.
    pub root_thumbprint: Option<String>,
    /// Subject of the signing certificate, as its relative distinguished names, separated by `, `.
    pub leaf_subject: Option<String>,
    /// Extended key usages of the signing certificate, in dotted form.
    pub leaf_key_usages: Option<Vec<String>>,
    /// Whether the signature has page hashes.
    pub page_hashes: Option<bool>,
}

impl SignatureFacts {
    /// How much of what is asked it satisfies: the digest first, then the signature, then what production systems ask for.
    pub fn nearness(&self) -> u32 {
        let production = [
            self.root_thumbprint.as_deref() == Some(signature::ROOT),
            self.leaf_subject.as_deref() == Some(signature::SUBJECT),
            self.leaf_key_usages.as_deref().is_some_and(signature::has_usages),
        ];
        let production = production.into_iter().map(u32::from).sum::<u32>();
        u32::from(self.digest_matches == Some(true)) * 8
            + u32::from(self.signature_verifies == Some(true)) * 4
            + production
    }
}

/// What is asked of an image.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Where it is to load.
    pub policy: Policy,
    /// The oldest runtime that is to take it; by default the one that its stated version means.
    pub runtime: Option<RuntimeLevel>,
    /// What is known of its signature.
    pub signature: SignatureFacts,
}
