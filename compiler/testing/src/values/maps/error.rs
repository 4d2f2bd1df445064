//! Why JSON is no contents of maps.

use crate::values::error::Near;
use crate::values::{ValueError, ValueProblem};

/// Why JSON is no contents of maps, and which part of it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}: {problem}", if path.is_empty() { "the maps" } else { path.as_str() })]
pub struct MapsError {
    /// Where, e.g. `flows.entries[2].value.bytes[3]`. Empty for the whole.
    pub path: String,
    /// What is wrong there.
    pub problem: MapsProblem,
}

/// What is wrong with contents of maps.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MapsProblem {
    /// A key or value.
    #[error(transparent)]
    Value(ValueProblem),
    /// There is no such map.
    #[error("there is no such map{}", Near(near))]
    Map {
        /// Those that look like it.
        near: Vec<String>,
    },
    /// There is no such member of a map or an entry.
    #[error("there is no such member{}", Near(near))]
    Member {
        /// Those that look like it.
        near: Vec<String>,
    },
    /// There is no such variable.
    #[error("there is no such variable{}", Near(near))]
    Variable {
        /// Those that look like it.
        near: Vec<String>,
    },
    /// Variables have no places without types.
    #[error(
        "variables can only be read with the types of the object; without them, remove this and give the bytes in `entries`"
    )]
    NoTypes,
    /// Something of another kind is needed.
    #[error("{given} is given where {needed} is needed")]
    Kind {
        /// What is needed.
        needed: &'static str,
        /// What there is.
        given: String,
    },
    /// A key or value that must be there.
    #[error("it has no `{0}`")]
    Missing(&'static str),
    /// Two entries have one key, and one of them would be lost.
    #[error("an entry with this key is there twice")]
    Twice,
    /// Bytes that stand for something else than what stands beside them.
    #[error("it says something else than `{0}` beside it; remove `{0}` if this is meant")]
    Contradiction(String),
    /// The file states another size than the map has.
    #[error("it is {given} here, and {has} in the module")]
    Shape {
        /// As the file has it.
        given: String,
        /// As the map has it.
        has: u32,
    },
    /// The file does not have all of them.
    #[error("{0} entries of it are not in the file; set this to 0 if they are to stay away")]
    Omitted(i128),
    /// Ring buffers take no entries.
    #[error("the map holds records, which only programs send")]
    Records,
}

impl MapsError {
    pub(super) fn new(path: impl Into<String>, problem: MapsProblem) -> MapsError {
        let path = path.into();
        MapsError { path, problem }
    }

    pub(super) fn value(path: &str, error: ValueError) -> MapsError {
        let ValueError { path, problem } = error.within(path);
        MapsError::new(path, MapsProblem::Value(problem))
    }

    pub(super) fn kind(path: &str, needed: &'static str, given: &crate::values::Json) -> MapsError {
        let given = given.kind();
        MapsError::new(path, MapsProblem::Kind { needed, given })
    }
}
