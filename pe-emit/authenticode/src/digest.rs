//! Digests.

use serde::Serialize;
use sha1::Sha1;
use sha2::{Digest, Sha256, Sha384, Sha512};

use crate::asn1::{self, Asn1Error, NULL_ELEMENT, Reader};
use crate::oid;

/// A digest algorithm. Signatures are made with SHA-256 and SHA-384; the others occur in those of others.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum DigestAlgorithm {
    /// SHA-1, which is no longer safe. It occurs in old certificates and as a name of certificates (thumbprint).
    Sha1,
    /// SHA-256.
    Sha256,
    /// SHA-384.
    Sha384,
    /// SHA-512.
    Sha512,
}

impl DigestAlgorithm {
    /// As signing tools call it: `sha256`.
    pub const fn name(self) -> &'static str {
        match self {
            DigestAlgorithm::Sha1 => "sha1",
            DigestAlgorithm::Sha256 => "sha256",
            DigestAlgorithm::Sha384 => "sha384",
            DigestAlgorithm::Sha512 => "sha512",
        }
    }

    /// The digest of consecutive pieces.
    pub fn digest(self, pieces: &[&[u8]]) -> Vec<u8> {
        fn run<D: Digest>(pieces: &[&[u8]]) -> Vec<u8> {
            let mut digest = D::new();
            for piece in pieces {
                digest.update(piece);
            }
            digest.finalize().to_vec()
        }
        match self {
            DigestAlgorithm::Sha1 => run::<Sha1>(pieces),
            DigestAlgorithm::Sha256 => run::<Sha256>(pieces),
            DigestAlgorithm::Sha384 => run::<Sha384>(pieces),
            DigestAlgorithm::Sha512 => run::<Sha512>(pieces),
        }
    }

    /// A digest with the name of its algorithm: `DigestInfo` (RFC 8017 §9.2), which is what a signature of RSA is made of.
    pub fn digest_info(self, digest: &[u8]) -> Vec<u8> {
        asn1::sequence(&[&self.identifier(), &asn1::element(asn1::OCTET_STRING, &[digest])])
    }

    /// Its `AlgorithmIdentifier`.
    pub(crate) fn identifier(self) -> Vec<u8> {
        let oid = match self {
            DigestAlgorithm::Sha1 => oid::SHA1,
            DigestAlgorithm::Sha256 => oid::SHA256,
            DigestAlgorithm::Sha384 => oid::SHA384,
            DigestAlgorithm::Sha512 => oid::SHA512,
        };
        asn1::algorithm(oid, NULL_ELEMENT)
    }

    /// Reads the contents of an `AlgorithmIdentifier`, whose parameters are NULL or left out. `None` is an algorithm that
    /// is not known.
    pub(crate) fn read(mut identifier: Reader<'_>) -> Result<Option<DigestAlgorithm>, Asn1Error> {
        let oid = identifier.object_identifier()?;
        if let Some(parameters) = identifier.optional(asn1::NULL)?
            && !parameters.value.is_empty()
        {
            return Err(Asn1Error::Value);
        }
        identifier.end()?;
        Ok(match oid {
            oid::SHA1 => Some(DigestAlgorithm::Sha1),
            oid::SHA256 => Some(DigestAlgorithm::Sha256),
            oid::SHA384 => Some(DigestAlgorithm::Sha384),
            oid::SHA512 => Some(DigestAlgorithm::Sha512),
            _ => None,
        })
    }
}

/// Bytes as lower-case hexadecimal digits.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
