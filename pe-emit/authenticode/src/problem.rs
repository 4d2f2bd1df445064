//! What can be wrong with a signature.

use serde::ser::SerializeStruct;
use serde::{Serialize, Serializer};

use crate::asn1::Asn1Error;
use crate::public_key::KeyError;
use crate::time::Time;

/// Something that is wrong with a signature. In JSON it is its `kind` and its `message`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Problem {
    /// The image is not what was signed.
    #[error("the image was changed after it was signed: its digest is another one")]
    DigestMismatch,
    /// The signature's structure can't be read.
    #[error("the signature is malformed: {0}")]
    Malformed(Asn1Error),
    /// The message is no Authenticode signature of a PE image, or no timestamp.
    #[error("the signature is of something else than a PE image")]
    NotOfImage,
    /// There are bytes behind the signature that nothing covers.
    #[error("there are bytes behind the signature that nothing covers")]
    BytesBehind,
    /// The digest algorithm is not known.
    #[error("the digest algorithm is not one of SHA-1, SHA-256, SHA-384 and SHA-512")]
    UnknownDigest,
    /// The digest algorithm is not safe.
    #[error("the digest is SHA-1, which is not safe")]
    WeakDigest,
    /// Two places name different digest algorithms.
    #[error("the signature states two digest algorithms")]
    TwoDigests,
    /// An attribute that every signature has is missing or malformed.
    #[error("the signed attribute `{0}` is missing or malformed")]
    Attribute(&'static str),
    /// The content is not what the signed attributes are about.
    #[error("the content of the signature was changed")]
    ContentChanged,
    /// There is an unsigned attribute that is not known: anybody can have put it there.
    #[error("there is the attribute {0}, which nobody signed and which is not known")]
    UnknownAttribute(der::asn1::ObjectIdentifier),
    /// The certificate of the signer is not in the message.
    #[error("the signer's certificate is not in the signature")]
    NoSignerCertificate,
    /// The signer's key can't be used.
    #[error("the signer's key can't be used: {0}")]
    SignerKey(KeyError),
    /// The signature algorithm is not known, or not one of the signer's key.
    #[error("the signature algorithm is not supported, or does not fit the key")]
    SignatureAlgorithm,
    /// The signature was not made with the signer's key, or the signed attributes were changed.
    #[error("the signature was not made with the signer's key, or it was changed")]
    SignatureWrong,
    /// The page hashes are not those of the image.
    #[error("the page hashes are not those of the image")]
    PageHashes,
    /// Nested signatures within nested signatures, or too many.
    #[error("there are more nested signatures than the 16 that are read, or they are nested twice")]
    TooManyNested,
    /// The chain does not end at a given root.
    #[error("the chain of `{subject}` does not end at a given root; its last certificate was issued by `{issuer}`")]
    Untrusted {
        /// Subject of the first certificate.
        subject: String,
        /// Issuer of the last certificate that was found.
        issuer: String,
    },
    /// A certificate was not valid at the time.
    #[error("the certificate of `{subject}` is valid from {from} to {to}, and not at {at}")]
    Validity {
        /// Its subject.
        subject: String,
        /// From when it is valid.
        from: Time,
        /// Until when.
        to: Time,
        /// The time that it is judged at.
        at: Time,
    },
    /// A certificate may not be used in this way.
    #[error("the certificate of `{subject}` {why}")]
    Certificate {
        /// Its subject.
        subject: String,
        /// What is wrong with it, as the end of a sentence.
        why: String,
    },
    /// Something is wrong with the timestamp.
    #[error("the timestamp: {0}")]
    Timestamp(Box<Problem>),
    /// The timestamp is of another signature.
    #[error("it is of another signature")]
    OtherSignature,
    /// A timestamp of the kind that was in use before RFC 3161, which is not read.
    #[error("it is of the old kind (PKCS #9), which is not verified")]
    OldTimestamp,
    /// What an outer signer gave back is another image.
    #[error("it is not the image that was to be signed")]
    OtherImage,
    /// An outer signer did not add one signature.
    #[error("there is not exactly one new signature, beside those that were there")]
    NotOneNew,
    /// It was signed with another certificate than it should be.
    #[error("it was signed with the certificate of `{0}`, which is not the one that was given")]
    OtherSigner(String),
}

impl Problem {
    /// Its stable name.
    pub fn kind(&self) -> &'static str {
        match self {
            Problem::DigestMismatch => "digest_mismatch",
            Problem::Malformed(_) => "malformed",
            Problem::NotOfImage => "not_of_image",
            Problem::BytesBehind => "bytes_behind",
            Problem::UnknownDigest => "unknown_digest",
            Problem::WeakDigest => "weak_digest",
            Problem::TwoDigests => "two_digests",
            Problem::Attribute(_) => "attribute",
            Problem::ContentChanged => "content_changed",
            Problem::UnknownAttribute(_) => "unknown_attribute",
            Problem::NoSignerCertificate => "no_signer_certificate",
            Problem::SignerKey(_) => "signer_key",
            Problem::SignatureAlgorithm => "signature_algorithm",
            Problem::SignatureWrong => "signature_wrong",
            Problem::PageHashes => "page_hashes",
            Problem::TooManyNested => "too_many_nested",
            Problem::Untrusted { .. } => "untrusted",
            Problem::Validity { .. } => "validity",
            Problem::Certificate { .. } => "certificate",
            Problem::Timestamp(_) => "timestamp",
            Problem::OtherSignature => "other_signature",
            Problem::OldTimestamp => "old_timestamp",
            Problem::OtherImage => "other_image",
            Problem::NotOneNew => "not_one_new",
            Problem::OtherSigner(_) => "other_signer",
        }
    }

    /// Whether it leaves doubt only about who signed, and not that the signer signed this image.
    pub fn is_about_trust(&self) -> bool {
        matches!(
            self,
            Problem::Untrusted { .. } | Problem::Validity { .. } | Problem::Certificate { .. }
        ) || matches!(self, Problem::Timestamp(problem) if problem.is_about_trust())
    }
}

impl Serialize for Problem {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut fields = serializer.serialize_struct("Problem", 2)?;
        fields.serialize_field("kind", self.kind())?;
        fields.serialize_field("message", &self.to_string())?;
        fields.end()
    }
}
