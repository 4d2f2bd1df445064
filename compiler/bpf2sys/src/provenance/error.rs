//! Why nothing is stated, or a statement is not believed.

use super::Difference;

/// A failure around statements of provenance.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ProvenanceError {
    /// The statement can't be read, or is of another kind.
    #[error("the statement can't be used: {0}")]
    Statement(String),
    /// A statement says what is not so.
    #[error("the statement says what is not so: {0}")]
    Untrue(String),
    /// The image is not what the object gives.
    #[error("the image is not what the object gives: it differs in {difference}")]
    OtherBytes {
        /// What differs.
        difference: Difference,
        /// What may be the reason.
        reason: Option<String>,
    },
    /// The signature of a statement is not by the key.
    #[error("no signature of the statement is by the given key ({key})")]
    WrongSignature {
        /// Kind of the key.
        key: String,
    },
    /// The statement is about another image.
    #[error("the statement is about another image: {0}")]
    OtherImage(String),
    /// The object or a description is not the one that the statement names.
    #[error("{0}")]
    OtherInput(String),
    /// A key can't be used for statements.
    #[error("the key can't be used: {0}")]
    Key(String),
    /// An image can't be in a package, or none can be made.
    #[error("{0}")]
    Package(String),
}
