//! What can be wrong with a provider file, or with a question to the platform.

use crate::Guid;
use crate::registry::RegistryError;

/// A provider file is unusable, or two of them contradict each other.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PlatformError {
    /// The text is no TOML, or a table has a missing, unknown or mistyped field.
    #[error("{file}:{line}: {table}: {message}")]
    Syntax {
        /// Provider file.
        file: String,
        /// Line number from 1.
        line: usize,
        /// Header of the table that holds the place, e.g. `[[program_type.helper]]`; `top level` before the first.
        table: String,
        /// What is wrong, with the field.
        message: String,
    },
    /// A value contradicts another value or a rule of the platform.
    #[error("{file}: {table}: `{field}`: {message}")]
    Inconsistent {
        /// Provider file.
        file: String,
        /// The table and which one of its kind, e.g. "helper `bpf_tail_call`".
        table: String,
        /// The field.
        field: &'static str,
        /// What is wrong.
        message: String,
    },
    /// A registry, or an export of one, can't be used.
    #[error(transparent)]
    Registry(#[from] RegistryError),
    /// The registry of this machine was asked for, and this is no Windows machine.
    #[error("only Windows has a registry")]
    NoRegistry,
    /// Files contradict each other.
    #[error("{}", .0.first().map_or_else(String::new, ToString::to_string))]
    Conflicts(Vec<Conflict>),
    /// A provider file is larger than any should be.
    #[error("{file}: a provider file has {limit} bytes at most")]
    TooLarge {
        /// Provider file.
        file: String,
        /// The limit in bytes.
        limit: usize,
    },
    /// No file has a table that must exist once.
    #[error("no provider file has a `[{table}]` table")]
    MissingTable {
        /// Name of the table.
        table: &'static str,
    },
}

/// Two files say different things of the same.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{file}: {what}: `{other_provider}` (in {other_file}) says otherwise: {}",
    shown(differences)
)]
pub struct Conflict {
    /// The later file.
    pub file: String,
    /// What both describe, e.g. "program type `xdp`".
    pub what: String,
    /// The earlier file.
    pub other_file: String,
    /// The provider that the earlier file describes.
    pub other_provider: String,
    /// How the descriptions differ; never empty.
    pub differences: Vec<Difference>,
}

/// One difference between two descriptions.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{what} is {before} there and {now} here")]
pub struct Difference {
    /// The fact.
    pub what: String,
    /// What the earlier file says.
    pub before: String,
    /// What the later file says.
    pub now: String,
}

fn shown(differences: &[Difference]) -> String {
    let shown: Vec<String> = differences.iter().map(ToString::to_string).collect();
    shown.join("; ")
}

/// A program calls something that the platform does not have.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UnknownCallee {
    /// A helper that its program type does not have.
    #[error("program type `{program_type}` has no helper with id {id}")]
    Helper {
        /// Name of the program type.
        program_type: String,
        /// The id.
        id: u32,
    },
    /// A BTF-resolved function that no provider offers.
    #[error("no provider offers the function `{name}` of module {module}")]
    BtfFunction {
        /// The module that the program names.
        module: Guid,
        /// The function's name.
        name: String,
    },
}
