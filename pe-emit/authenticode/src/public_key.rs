//! Public keys, and checking signatures with them.

use p256::ecdsa::signature::hazmat::PrehashVerifier;
use p256::pkcs8::DecodePublicKey;
use rsa::traits::PublicKeyParts;
use rsa::{BoxedUint, Pkcs1v15Sign, RsaPublicKey};
use sha2::{Sha256, Sha384, Sha512};

use crate::asn1::{self, Asn1Error, NULL_ELEMENT, Reader};
use crate::digest::DigestAlgorithm;
use crate::oid;

/// Sizes of RSA keys whose signatures are checked, in bits. Roots of other countries' authorities have up to 8192.
const RSA_BITS: std::ops::RangeInclusive<usize> = 1024..=8192;

/// Fewest bits of an RSA key that is still safe to rely on.
pub(crate) const RSA_SAFE_BITS: usize = 2048;

/// Why a key can't be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// It is malformed.
    #[error("the key is malformed: {0}")]
    Malformed(String),
    /// It is neither RSA nor on one of the two curves.
    #[error("the key is of a kind that is not supported: RSA, and ECDSA on P-256 and P-384, are")]
    Kind,
    /// An RSA key that is too small to be safe, or too large to be of use.
    #[error("the RSA key has {bits} bits; 2048 to 4096 are supported")]
    Size {
        /// Its size.
        bits: usize,
    },
}

/// A public key.
#[derive(Clone, Debug)]
pub enum PublicKey {
    /// RSA.
    Rsa(Box<RsaPublicKey>),
    /// ECDSA on P-256.
    P256(p256::ecdsa::VerifyingKey),
    /// ECDSA on P-384.
    P384(p384::ecdsa::VerifyingKey),
}

/// What kind of key makes a signature.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum KeyKind {
    Rsa,
    Ecdsa,
}

/// A signature algorithm as an `AlgorithmIdentifier` states it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SignatureAlgorithm {
    pub kind: KeyKind,
    /// `None`: what is signed says it in another place.
    pub digest: Option<DigestAlgorithm>,
}

impl SignatureAlgorithm {
    /// Reads the contents of an `AlgorithmIdentifier`. `None` is an algorithm that is not known.
    pub(crate) fn read(mut identifier: Reader<'_>) -> Result<Option<SignatureAlgorithm>, Asn1Error> {
        use DigestAlgorithm::{Sha1, Sha256, Sha384, Sha512};
        let (kind, digest) = match identifier.object_identifier()? {
            oid::RSA => (KeyKind::Rsa, None),
            oid::SHA1_WITH_RSA => (KeyKind::Rsa, Some(Sha1)),
            oid::SHA256_WITH_RSA => (KeyKind::Rsa, Some(Sha256)),
            oid::SHA384_WITH_RSA => (KeyKind::Rsa, Some(Sha384)),
            oid::SHA512_WITH_RSA => (KeyKind::Rsa, Some(Sha512)),
            oid::EC_PUBLIC_KEY => (KeyKind::Ecdsa, None),
            oid::ECDSA_WITH_SHA1 => (KeyKind::Ecdsa, Some(Sha1)),
            oid::ECDSA_WITH_SHA256 => (KeyKind::Ecdsa, Some(Sha256)),
            oid::ECDSA_WITH_SHA384 => (KeyKind::Ecdsa, Some(Sha384)),
            oid::ECDSA_WITH_SHA512 => (KeyKind::Ecdsa, Some(Sha512)),
            _ => return Ok(None),
        };
        if let Some(parameters) = identifier.optional(asn1::NULL)?
            && !parameters.value.is_empty()
        {
            return Err(Asn1Error::Value);
        }
        identifier.end()?;
        Ok(Some(SignatureAlgorithm { kind, digest }))
    }
}

impl PublicKey {
    /// Reads a `SubjectPublicKeyInfo`, as DER. RSA keys may be too small to be safe: see [`PublicKey::is_weak`].
    pub fn read(info: &[u8]) -> Result<PublicKey, KeyError> {
        let malformed = |what: &dyn std::fmt::Display| KeyError::Malformed(what.to_string());
        let parts = || -> Result<_, Asn1Error> {
            let mut fields = asn1::only(info, asn1::SEQUENCE)?.reader();
            let mut algorithm = fields.sequence()?;
            let kind = algorithm.object_identifier()?;
            let parameters = if algorithm.is_empty() {
                None
            } else {
                Some(algorithm.any()?)
            };
            let bits = fields.element(asn1::BIT_STRING)?.value;
            fields.end()?;
            Ok((kind, parameters, bits))
        };
        let (kind, parameters, bits) = parts().map_err(|e| malformed(&e))?;
        match kind {
            oid::RSA => {
                let key = bits.split_first().filter(|(unused, _)| **unused == 0);
                let (_, key) = key.ok_or_else(|| malformed(&Asn1Error::Value))?;
                rsa(key).map(|key| PublicKey::Rsa(Box::new(key)))
            }
            oid::EC_PUBLIC_KEY => match parameters.and_then(|p| p.object_identifier().ok()) {
                Some(oid::P256) => p256::ecdsa::VerifyingKey::from_public_key_der(info)
                    .map(PublicKey::P256)
                    .map_err(|e| malformed(&e)),
                Some(oid::P384) => p384::ecdsa::VerifyingKey::from_public_key_der(info)
                    .map(PublicKey::P384)
                    .map_err(|e| malformed(&e)),
                _ => Err(KeyError::Kind),
            },
            _ => Err(KeyError::Kind),
        }
    }

    /// Kind and size, for people: `RSA 2048`, `ECDSA P-256`.
    pub fn description(&self) -> String {
        match self {
            PublicKey::Rsa(key) => format!("RSA {}", key.n().bits_vartime()),
            PublicKey::P256(_) => "ECDSA P-256".into(),
            PublicKey::P384(_) => "ECDSA P-384".into(),
        }
    }

    pub(crate) fn kind(&self) -> KeyKind {
        match self {
            PublicKey::Rsa(_) => KeyKind::Rsa,
            PublicKey::P256(_) | PublicKey::P384(_) => KeyKind::Ecdsa,
        }
    }

    /// Whether it is an RSA key of too few bits.
    pub fn is_weak(&self) -> bool {
        matches!(self, PublicKey::Rsa(key) if (key.n().bits_vartime() as usize) < RSA_SAFE_BITS)
    }

    /// Whether it is of a kind and size to sign with.
    pub(crate) fn check_for_signing(&self) -> Result<(), KeyError> {
        match self {
            PublicKey::Rsa(key) => match key.n().bits_vartime() as usize {
                RSA_SAFE_BITS..=4096 => Ok(()),
                bits => Err(KeyError::Size { bits }),
            },
            PublicKey::P256(_) | PublicKey::P384(_) => Ok(()),
        }
    }

    /// Whether `signature` is this key's of a digest: RSASSA-PKCS1-v1_5, or ECDSA as DER.
    pub fn verifies(&self, algorithm: DigestAlgorithm, digest: &[u8], signature: &[u8]) -> bool {
        match self {
            PublicKey::Rsa(key) => key.verify(rsa_scheme(algorithm), digest, signature).is_ok(),
            PublicKey::P256(key) => p256::ecdsa::Signature::from_der(signature)
                .is_ok_and(|signature| key.verify_prehash(digest, &signature).is_ok()),
            PublicKey::P384(key) => p384::ecdsa::Signature::from_der(signature)
                .is_ok_and(|signature| key.verify_prehash(digest, &signature).is_ok()),
        }
    }

    /// A signature in the form that messages have it: one of ECDSA may be given as its two numbers, one behind the other.
    pub fn normalized(&self, signature: Vec<u8>) -> Vec<u8> {
        let half = match self {
            PublicKey::P256(_) if signature.len() == 64 => 32,
            PublicKey::P384(_) if signature.len() == 96 => 48,
            _ => return signature,
        };
        let (r, s) = signature.split_at(half);
        // Such a length may be one of DER all the same.
        if p256::ecdsa::Signature::from_der(&signature).is_ok() || p384::ecdsa::Signature::from_der(&signature).is_ok()
        {
            return signature;
        }
        asn1::sequence(&[&asn1::unsigned(r), &asn1::unsigned(s)])
    }

    /// The `AlgorithmIdentifier` of its signatures in a message (RFC 5754; for RSA that of the key, as signing tools of
    /// Windows have it).
    pub(crate) fn signature_identifier(&self, digest: DigestAlgorithm) -> Vec<u8> {
        match (self.kind(), digest) {
            (KeyKind::Rsa, _) => asn1::algorithm(oid::RSA, NULL_ELEMENT),
            (KeyKind::Ecdsa, DigestAlgorithm::Sha1) => asn1::algorithm(oid::ECDSA_WITH_SHA1, &[]),
            (KeyKind::Ecdsa, DigestAlgorithm::Sha256) => asn1::algorithm(oid::ECDSA_WITH_SHA256, &[]),
            (KeyKind::Ecdsa, DigestAlgorithm::Sha384) => asn1::algorithm(oid::ECDSA_WITH_SHA384, &[]),
            (KeyKind::Ecdsa, DigestAlgorithm::Sha512) => asn1::algorithm(oid::ECDSA_WITH_SHA512, &[]),
        }
    }
}

fn rsa(der: &[u8]) -> Result<RsaPublicKey, KeyError> {
    // The library's own reader has narrower limits, and does not say what size it refuses.
    let parts = || -> Result<_, Asn1Error> {
        let mut fields = asn1::only(der, asn1::SEQUENCE)?.reader();
        let (n, e) = (
            fields.element(asn1::INTEGER)?.value,
            fields.element(asn1::INTEGER)?.value,
        );
        fields.end()?;
        Ok((n, e))
    };
    let malformed = |what: &dyn std::fmt::Display| KeyError::Malformed(what.to_string());
    let (n, e) = parts().map_err(|e| malformed(&e))?;
    if n.len() > RSA_BITS.end() / 8 + 1 || e.len() > 8 {
        return Err(KeyError::Size { bits: n.len() * 8 });
    }
    let n = BoxedUint::from_be_slice_vartime(n);
    let e = BoxedUint::from_be_slice_vartime(e);
    let bits = n.bits_vartime() as usize;
    if !RSA_BITS.contains(&bits) {
        return Err(KeyError::Size { bits });
    }
    RsaPublicKey::new_with_size_limits(n, e, RSA_BITS).map_err(|e| malformed(&e))
}

/// RSASSA-PKCS1-v1_5 with a digest.
pub(crate) fn rsa_scheme(digest: DigestAlgorithm) -> Pkcs1v15Sign {
    match digest {
        DigestAlgorithm::Sha1 => Pkcs1v15Sign::new::<sha1::Sha1>(),
        DigestAlgorithm::Sha256 => Pkcs1v15Sign::new::<Sha256>(),
        DigestAlgorithm::Sha384 => Pkcs1v15Sign::new::<Sha384>(),
        DigestAlgorithm::Sha512 => Pkcs1v15Sign::new::<Sha512>(),
    }
}
