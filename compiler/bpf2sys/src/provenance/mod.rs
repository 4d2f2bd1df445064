//! Provenance: a signed statement of what an image was built from and how, and its proof by building again.
//!
//! Given: an image, the object that it is said to be built from, and the options of that build. Computed: an in-toto
//! statement with a SLSA provenance predicate, signed as a DSSE envelope; or a verdict on such a statement.
//! Safe because: nothing is stated that was not just seen. The object is built again with the stated options, and every byte
//! of the image but its signatures must come out the same. `docs/provenance.md` defines each field.
//!
//! Sources: in-toto Attestation Framework, "Statement v1" and "`ResourceDescriptor` v1"; SLSA, "Provenance v1"; DSSE 1.0,
//! "envelope" and "protocol".

mod attester;
mod difference;
mod envelope;
mod error;
mod parameters;
mod prove;
mod public_key;
mod rebuild;
mod statement;

pub(crate) use attester::Attester;
pub use difference::Difference;
pub(crate) use difference::difference;
pub(crate) use envelope::{read as read_envelope, seal};
pub use error::ProvenanceError;
pub(crate) use parameters::{Parameters, file_name};
pub(crate) use prove::{Check, Given, Verification, verify};
pub(crate) use public_key::PublicKey;
pub(crate) use rebuild::{Rebuilt, rebuild, without_signatures};
pub(crate) use statement::{DEFAULT_BUILDER, Facts, Statement};

/// What is behind an image's name in the name of the file with the statement about it.
pub(crate) const STATEMENT_EXTENSION: &str = ".intoto.jsonl";

/// Largest statement that is read, in bytes. One of a module with a thousand programs has less than a MiB.
pub(crate) const MAX_STATEMENT: usize = 16 << 20;
