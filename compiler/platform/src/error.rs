//! What can be wrong with a provider file.

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
    /// No file has a table that must exist once.
    #[error("no provider file has a `[{table}]` table")]
    MissingTable {
        /// Name of the table.
        table: &'static str,
    },
}

/// A program calls a helper that its program type does not have.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("program type `{program_type}` has no helper with id {id}")]
pub struct UnknownHelper {
    /// Name of the program type.
    pub program_type: String,
    /// The id.
    pub id: u32,
}
