//! Why JSON is no value of a type.

use std::fmt;

/// Why JSON is no value of a type, and which part of it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}: {problem}", if path.is_empty() { "the value" } else { path.as_str() })]
pub struct ValueError {
    /// Where, e.g. `flows.value.bytes[3]`. Empty for the whole value.
    pub path: String,
    /// What is wrong there.
    pub problem: ValueProblem,
}

/// What is wrong with a part of a value.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ValueProblem {
    /// Something of another kind is needed.
    #[error("{given} is given where {needed} is needed")]
    Kind {
        /// What the type takes.
        needed: &'static str,
        /// What there is.
        given: String,
    },
    /// A number that the type can't hold.
    #[error("{given} is out of range: {least} to {most}")]
    Range {
        /// The number.
        given: String,
        /// The smallest that it can hold.
        least: i128,
        /// The largest that it can hold.
        most: u128,
    },
    /// A number with a fraction, or one whose digits are lost already.
    #[error("{given} is no whole number that is exact")]
    Inexact {
        /// The number.
        given: String,
    },
    /// A number that a floating point type rounds to another one.
    #[error("{given} is no number of this floating point type")]
    Float {
        /// The number.
        given: String,
    },
    /// No value of the enumeration has that name.
    #[error("the enumeration has no `{name}`{}", Near(near))]
    Name {
        /// The name.
        name: String,
        /// Those that look like it.
        near: Vec<String>,
    },
    /// The structure has no such member.
    #[error("there is no such member{}", Near(near))]
    Member {
        /// Those that look like it.
        near: Vec<String>,
    },
    /// A member is there twice.
    #[error("it is there twice")]
    Twice,
    /// Members that share their bytes say different things.
    #[error("it shares bytes with a member before it, which says something else; give one of them")]
    Disagrees,
    /// A text that is longer than its array, in bytes.
    #[error("the text has {given} bytes, and there is room for {room}")]
    Text {
        /// Bytes of the text.
        given: usize,
        /// Bytes of the array.
        room: u32,
    },
    /// A text with a NUL in it would end there.
    #[error("the text has a NUL in it; give the bytes, as `hex:…`")]
    Nul,
    /// More elements than the array has.
    #[error("{given} elements are given, and there is room for {room}")]
    Elements {
        /// How many are given.
        given: usize,
        /// How many it has.
        room: u32,
    },
    /// `hex:` with another number of bytes.
    #[error("{given} bytes are given, and it has {size}")]
    Size {
        /// Bytes that are given.
        given: usize,
        /// Its size.
        size: u32,
    },
    /// What follows `hex:` is no bytes.
    #[error("what follows `hex:` is no whole number of bytes in hexadecimal")]
    Hex,
    /// The type is too odd to be taken apart.
    #[error("its type is too intricate; give its bytes, as `hex:…`")]
    Intricate,
    /// The type is too large.
    #[error("its type has {size} bytes, more than any value")]
    TooLarge {
        /// Its size.
        size: u32,
    },
}

impl ValueError {
    pub(super) fn new(problem: ValueProblem) -> ValueError {
        let path = String::new();
        ValueError { path, problem }
    }

    pub(super) fn kind(needed: &'static str, given: &super::Json) -> ValueError {
        let given = given.kind();
        ValueError::new(ValueProblem::Kind { needed, given })
    }

    /// The same, as a part of something that has a name.
    #[must_use]
    pub fn within(self, name: &str) -> ValueError {
        let joint = if self.path.is_empty() || self.path.starts_with('[') {
            ""
        } else {
            "."
        };
        let path = format!("{name}{joint}{}", self.path);
        ValueError { path, ..self }
    }

    /// The same, as an element of an array.
    pub(super) fn at(self, index: usize) -> ValueError {
        self.within(&format!("[{index}]"))
    }
}

/// Names to propose.
pub(super) struct Near<'a>(pub(super) &'a [String]);

impl fmt::Display for Near<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some((last, before)) = self.0.split_last() {
            f.write_str("; did you mean ")?;
            for name in before {
                write!(f, "`{name}` or ")?;
            }
            write!(f, "`{last}`?")?;
        }
        Ok(())
    }
}

/// Most names that are looked at for ones that are near.
const MOST_NAMES: usize = 4096;

/// Names of an object that differ little from this one.
pub(super) fn near<'a>(name: &str, known: impl Iterator<Item = &'a str>) -> Vec<String> {
    let found = crate::near::near(name, known.take(MOST_NAMES));
    found.into_iter().map(str::to_owned).collect()
}
