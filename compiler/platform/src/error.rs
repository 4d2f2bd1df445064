//! What can be wrong with a provider file, or with a question to the platform.

use crate::Guid;

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
