//! What can be wrong with an object file, and where.

use std::fmt::{self, Display, Formatter};

use thiserror::Error;

use crate::decode::{Malformed, hex};

/// An object file that cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{place}{problem}")]
pub struct ReadError {
    /// Where in the file.
    pub place: Place,
    /// What is wrong there.
    pub problem: Problem,
}

/// A place in an object file, as precise as it is known.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Place {
    /// The section's name, or its number where the name cannot be read.
    pub section: Option<String>,
    /// Offset in bytes: from the section's start, or from the file's when no section is given.
    pub offset: Option<u64>,
    /// The symbol, map or type concerned.
    pub symbol: Option<String>,
}

impl Place {
    /// The file as a whole.
    pub fn file() -> Place {
        Place::default()
    }

    /// A section.
    pub fn section(name: impl Into<String>) -> Place {
        Place {
            section: Some(name.into()),
            ..Place::default()
        }
    }

    /// A symbol.
    pub fn symbol(name: impl Into<String>) -> Place {
        Place::default().of_symbol(name)
    }

    /// A byte of the section or file.
    #[must_use]
    pub fn at(self, offset: u64) -> Place {
        Place {
            offset: Some(offset),
            ..self
        }
    }

    /// The same place, naming a symbol too unless the name is empty.
    #[must_use]
    pub fn of_symbol(self, name: impl Into<String>) -> Place {
        let name = name.into();
        Place {
            symbol: (!name.is_empty()).then_some(name),
            ..self
        }
    }

    /// The error that `problem` is here.
    pub fn error(self, problem: Problem) -> ReadError {
        ReadError { place: self, problem }
    }
}

impl Display for Place {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match (&self.section, self.offset) {
            (None, None) => {}
            (None, Some(offset)) => write!(f, "at {offset:#x}: ")?,
            (Some(section), None) => write!(f, "section `{section}`: ")?,
            (Some(section), Some(offset)) => write!(f, "section `{section}` at {offset:#x}: ")?,
        }
        match &self.symbol {
            Some(symbol) => write!(f, "`{symbol}`: "),
            None => Ok(()),
        }
    }
}

/// What is wrong.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum Problem {
    /// Not an ELF64 little-endian relocatable object for eBPF.
    #[error("not an eBPF object file: {0}")]
    NotAnObject(&'static str),
    /// A range that the file does not have.
    #[error("{what} lies outside of the {whole}")]
    OutOfRange {
        /// What lies outside.
        what: &'static str,
        /// Of what.
        whole: &'static str,
    },
    /// Two parts of the file share bytes.
    #[error("overlaps {0}")]
    Overlap(String),
    /// A table that does not have the form it must have.
    #[error("{0}")]
    Malformed(&'static str),
    /// A name that is no UTF-8 or not terminated, or none where one is needed.
    #[error("{0}")]
    Name(&'static str),
    /// Two things of one kind share a name.
    #[error("two {0} have this name")]
    Duplicate(&'static str),
    /// More of something than is read.
    #[error("more than {limit} {what}")]
    TooMuch {
        /// What there is too much of.
        what: &'static str,
        /// The limit.
        limit: u64,
    },
    /// Bytes that are no instruction.
    #[error("instruction {}: {reason}", hex(.bytes))]
    Instruction {
        /// The first slot's bytes.
        bytes: [u8; 8],
        /// Why not.
        reason: Malformed,
    },
    /// No program in the object.
    #[error("the object has no program")]
    NoPrograms,
    /// A function that shares instructions with another one, or leaves some between them to nobody.
    #[error("{0}")]
    Function(&'static str),
    /// A relocation that is not defined for what it stands at.
    #[error("relocation type {kind} cannot be applied to {what}")]
    RelocationType {
        /// `r_type`.
        kind: u32,
        /// What it stands at.
        what: &'static str,
    },
    /// A reference that leads to nothing that can be referred to.
    #[error("{0}")]
    Reference(&'static str),
    /// A reference to a section that is no place for what instructions can refer to.
    #[error("refers to section `{0}`, which holds neither maps nor global variables")]
    NotData(String),
    /// A symbol that the object does not define.
    #[error("the symbol is not defined in this object")]
    Unresolved,
    /// A call of a function that the object neither defines nor declares as one of another Windows module.
    #[error("the function is not defined in this object")]
    UndefinedFunction,
    /// A function of `.ksyms` without a tag that names its module.
    #[error("nothing says which Windows module has this function")]
    NoModule,
    /// A function of `.ksyms` that is tagged with two modules.
    #[error("the function is declared in two modules, `{0}` and `{1}`")]
    TwoModules(String, String),
    /// A tag whose text names no module.
    #[error("`module_id:{0}` does not name a module by a GUID in braces other than zero")]
    NotAModule(String),
    /// An object made of several by a linker that does not know eBPF.
    #[error(
        "the object was put together by a linker that does not know eBPF (`ld -r`): what this means cannot be told"
    )]
    JoinedUnits,
    /// A BTF type of a kind that does not exist.
    #[error("BTF type {id} has unknown kind {kind}")]
    TypeKind {
        /// The type's id.
        id: u32,
        /// Its kind.
        kind: u32,
    },
    /// A BTF type id that leads nowhere, or to a kind of type that does not fit.
    #[error("BTF type {id}: {problem}")]
    Type {
        /// The type's id.
        id: u32,
        /// What is wrong.
        problem: &'static str,
    },
    /// A map definition that makes no sense.
    #[error("{0}")]
    Map(&'static str),
    /// A map definition field with a value that does not exist.
    #[error("`{field}` cannot be {value}")]
    MapField {
        /// The field.
        field: &'static str,
        /// Its value.
        value: u32,
    },
    /// Something that is well-formed, but that this version does not do.
    #[error("{0}")]
    Unsupported(&'static str),
}
