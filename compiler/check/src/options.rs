//! What is asked of an image.

use std::fmt;
use std::str::FromStr;

use bpf2sys_simulator::module_tables::RuntimeLevel;
use serde::Serialize;

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

/// What a reader of signatures found: of several, in the first one, which Windows judges a file by, and for production systems in the
/// one that comes nearest to what they ask for, because one that satisfies all is enough (native module contract §9). A field is
/// `None` where it was not looked at.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SignatureFacts {
    /// Whether the digest that the first one signs is that of the file.
    pub digest: Option<Finding>,
    /// Whether the first signature is that of the certificate it names.
    pub signature: Option<Finding>,
    /// Whether its chain ends at the root that the eBPF service demands on production systems.
    pub production_root: Option<Finding>,
    /// Whether its signer is the one that the service demands there.
    pub production_subject: Option<Finding>,
    /// Whether its signer's certificate has the extended key usages that the service demands there.
    pub production_usages: Option<Finding>,
    /// Whether the signature has page hashes.
    pub page_hashes: Option<bool>,
}

/// An answer, with what it was found from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// Whether it is so.
    pub kept: bool,
    /// What there is.
    pub measured: String,
}

impl SignatureFacts {
    /// How much of what is asked it satisfies: the digest first, then the signature, then what production systems ask for.
    pub fn nearness(&self) -> u32 {
        let kept = |finding: &Option<Finding>| u32::from(finding.as_ref().is_some_and(|finding| finding.kept));
        let production = [&self.production_root, &self.production_subject, &self.production_usages];
        kept(&self.digest) * 8 + kept(&self.signature) * 4 + production.into_iter().map(kept).sum::<u32>()
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
