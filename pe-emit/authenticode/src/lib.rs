//! Authenticode signatures of PE images: made, shown and verified.
//!
//! Given: the bytes of an image, keys, certificates, and ways to ask a signer or a timestamp authority.
//! Computed: the bytes of the signed image, all or none; or a report of what its signatures are worth.
//! This crate reads and writes no files, asks no network and prints nothing.
//!
//! A signature is CMS `SignedData` (RFC 5652) over a digest of the image, as "Windows Authenticode Portable Executable
//! Signature Format" (2008) says. It covers every byte of the file but the `CheckSum` field, the directory entry of the
//! certificate table, and that table, which is at the end of the file and holds the signature.

mod asn1;
mod certificate;
mod chain;
mod check;
mod digest;
mod ebpfsvc;
mod file;
pub mod load;
mod message;
mod oid;
mod page_hashes;
mod private_key;
mod problem;
mod public_key;
mod sign;
mod signed_data;
mod spc;
mod summary;
mod table;
mod test_certificate;
mod time;
mod timestamp;
mod verify;

pub use asn1::Asn1Error;
pub use certificate::{Certificate, CertificateError};
pub use check::check;
pub use digest::DigestAlgorithm;
pub use ebpfsvc::{Mode, ProductionDemands, Verdict};
pub use file::FileError;
pub use private_key::{NewKey, PrivateKey};
pub use problem::Problem;
pub use public_key::{KeyError, PublicKey};
pub use sign::{
    Existing, Identity, SignError, SignOptions, Signer, SignerError, image_digest, is_signed, remove_signatures, sign,
};
pub use summary::{CertificateSummary, Usage};
pub use test_certificate::{NewCertificateError, NewCertificates, TestCertificates};
pub use time::Time;
pub use timestamp::{TimestampAuthority, TimestampError};
pub use verify::{PageHashSummary, Report, Signature, Timestamp, VerifyOptions, verify};
