//! What can be wrong with a registry export or with what the registry says.

use std::fmt;

/// Something in a registry, or in an export of it, that can't be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{place}: {problem}")]
pub struct RegistryError {
    /// Where.
    pub place: RegistryPlace,
    /// What is wrong.
    pub problem: RegistryProblem,
}

/// A place in a registry.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RegistryPlace {
    /// Name of the export; `registry` for that of this machine.
    pub file: String,
    /// Line of the export, from 1; 0 if no line is meant.
    pub line: u32,
    /// Path of the key; empty if none is meant.
    pub key: String,
    /// Name of the value.
    pub value: Option<String>,
}

impl fmt::Display for RegistryPlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.file)?;
        if self.line > 0 {
            write!(f, ":{}", self.line)?;
        }
        if !self.key.is_empty() {
            write!(f, ": `{}`", self.key)?;
        }
        if let Some(value) = &self.value {
            write!(f, ": value `{value}`")?;
        }
        Ok(())
    }
}

/// What is wrong.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RegistryProblem {
    /// The text does not follow the form of exports.
    #[error("{0}")]
    Syntax(&'static str),
    /// The export has no provider store.
    #[error("there is no key `Software\\eBPF\\Providers` of HKEY_CURRENT_USER or HKEY_LOCAL_MACHINE{}", elsewhere(.found.as_ref()))]
    NoStore {
        /// A key that could have been meant.
        found: Option<String>,
    },
    /// A value or key is not there.
    #[error("{0} is missing")]
    Missing(&'static str),
    /// A value has another type or length.
    #[error("is {found}, and must be {expected}")]
    Mistyped {
        /// What it is.
        found: String,
        /// What it must be.
        expected: &'static str,
    },
    /// The number of helpers that a provider has written is not the number that is there.
    #[error("`HelperCount` is {stated}, and `Helpers` has {found}")]
    HelperCount {
        /// What is stated.
        stated: u32,
        /// How many keys there are.
        found: usize,
    },
    /// The name of a key is no GUID in braces.
    #[error("the key's name is no GUID in braces")]
    NoGuid,
    /// A structure's version is not known.
    #[error("version {0} is unknown; only 1 is known")]
    Version(u32),
    /// An entry is complete, but contradicts a rule of the platform.
    #[error("{0}")]
    Unusable(String),
    /// There is more than any machine has.
    #[error("there are more than {limit} {of}")]
    TooMany {
        /// How many may be.
        limit: usize,
        /// Of what.
        of: &'static str,
    },
    /// A section names a program type that the store does not describe.
    #[error("program type {0} is not described in `ProgramData` so that it can be used")]
    NoProgramType(crate::Guid),
    /// The registry of this machine can't be read.
    #[error("{0}")]
    Unreadable(String),
}

fn elsewhere(found: Option<&String>) -> String {
    found
        .as_ref()
        .map_or_else(String::new, |key| format!("; there is `{key}`"))
}
