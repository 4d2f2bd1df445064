//! Private keys. They are zeroed in memory when they are dropped, and never shown.

use std::fmt;

use p256::ecdsa::signature::hazmat::PrehashSigner;
use pkcs8::{DecodePrivateKey, PrivateKeyInfoRef};
use rsa::RsaPrivateKey;
use rsa::pkcs1::DecodeRsaPrivateKey;
use zeroize::Zeroizing;

use crate::asn1::{self, Asn1Error, NULL_ELEMENT};
use crate::digest::DigestAlgorithm;
use crate::oid;
use crate::public_key::{KeyError, PublicKey, rsa_scheme};
use crate::sign::{Signer, SignerError};

/// A private key: RSA of 2048 to 4096 bits, or ECDSA on P-256 or P-384.
pub struct PrivateKey {
    key: Key,
    public: PublicKey,
}

enum Key {
    Rsa(Box<RsaPrivateKey>),
    P256(p256::ecdsa::SigningKey),
    P384(p384::ecdsa::SigningKey),
}

impl fmt::Debug for PrivateKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PrivateKey({})", self.public.description())
    }
}

impl PrivateKey {
    /// Reads an unencrypted key: PKCS #8, PKCS #1 (RSA) or SEC 1 (elliptic curves), as DER.
    pub fn from_der(der: &[u8]) -> Result<PrivateKey, KeyError> {
        let malformed = |what: &dyn fmt::Display| KeyError::Malformed(what.to_string());
        let kind = DerKey::of(der).map_err(|e| malformed(&e))?;
        let key = match kind {
            DerKey::Pkcs8 => {
                let info = PrivateKeyInfoRef::try_from(der).map_err(|e| malformed(&e))?;
                match info.algorithm.oid {
                    oid::RSA => Key::Rsa(Box::new(rsa(RsaPrivateKey::from_pkcs8_der(der))?)),
                    oid::EC_PUBLIC_KEY => match info.algorithm.parameters_oid() {
                        Ok(oid::P256) => p256::ecdsa::SigningKey::from_pkcs8_der(der)
                            .map(Key::P256)
                            .map_err(|e| malformed(&e))?,
                        Ok(oid::P384) => p384::ecdsa::SigningKey::from_pkcs8_der(der)
                            .map(Key::P384)
                            .map_err(|e| malformed(&e))?,
                        _ => return Err(KeyError::Kind),
                    },
                    _ => return Err(KeyError::Kind),
                }
            }
            DerKey::Pkcs1 => Key::Rsa(Box::new(rsa(RsaPrivateKey::from_pkcs1_der(der))?)),
            DerKey::Sec1 => {
                if let Ok(key) = p256::SecretKey::from_sec1_der(der) {
                    Key::P256(key.into())
                } else if let Ok(key) = p384::SecretKey::from_sec1_der(der) {
                    Key::P384(key.into())
                } else {
                    return Err(KeyError::Kind);
                }
            }
        };
        PrivateKey::new(key)
    }

    /// A new random key.
    pub fn generate(kind: NewKey) -> Result<PrivateKey, KeyError> {
        use getrandom::rand_core::UnwrapErr;
        use p256::elliptic_curve::Generate;
        let rng = &mut UnwrapErr(getrandom::SysRng);
        PrivateKey::new(match kind {
            NewKey::Rsa2048 => Key::Rsa(Box::new(rsa(RsaPrivateKey::new(rng, 2048))?)),
            NewKey::Rsa3072 => Key::Rsa(Box::new(rsa(RsaPrivateKey::new(rng, 3072))?)),
            NewKey::Rsa4096 => Key::Rsa(Box::new(rsa(RsaPrivateKey::new(rng, 4096))?)),
            NewKey::P256 => Key::P256(p256::ecdsa::SigningKey::generate_from_rng(rng)),
            NewKey::P384 => Key::P384(p384::ecdsa::SigningKey::generate_from_rng(rng)),
        })
    }

    fn new(key: Key) -> Result<PrivateKey, KeyError> {
        use pkcs8::EncodePublicKey;
        let malformed = |e: pkcs8::spki::Error| KeyError::Malformed(e.to_string());
        let info = match &key {
            Key::Rsa(key) => key.to_public_key().to_public_key_der(),
            Key::P256(key) => key.verifying_key().to_public_key_der(),
            Key::P384(key) => key.verifying_key().to_public_key_der(),
        };
        let public = PublicKey::read(info.map_err(malformed)?.as_bytes())?;
        public.check_for_signing()?;
        Ok(PrivateKey { key, public })
    }

    /// The key as PKCS #8.
    pub fn to_pkcs8(&self) -> Result<Zeroizing<Vec<u8>>, KeyError> {
        use pkcs8::EncodePrivateKey;
        let document = match &self.key {
            Key::Rsa(key) => key.to_pkcs8_der(),
            Key::P256(key) => key.to_pkcs8_der(),
            Key::P384(key) => key.to_pkcs8_der(),
        };
        let document = document.map_err(|e| KeyError::Malformed(e.to_string()))?;
        Ok(Zeroizing::new(document.as_bytes().to_vec()))
    }

    /// Kind and size, for people.
    pub fn description(&self) -> String {
        self.public.description()
    }

    pub(crate) fn public(&self) -> &PublicKey {
        &self.public
    }

    /// `SubjectPublicKeyInfo` of its public key.
    pub fn public_key_info(&self) -> Vec<u8> {
        let (algorithm, bits) = match &self.public {
            PublicKey::Rsa(key) => {
                use rsa::traits::PublicKeyParts;
                let number = |digits: Box<[u8]>| asn1::unsigned(&digits);
                let key = asn1::sequence(&[&number(key.n_bytes()), &number(key.e_bytes())]);
                (asn1::algorithm(oid::RSA, NULL_ELEMENT), key)
            }
            PublicKey::P256(key) => (curve(oid::P256), key.to_sec1_bytes().to_vec()),
            PublicKey::P384(key) => (curve(oid::P384), key.to_sec1_bytes().to_vec()),
        };
        asn1::sequence(&[&algorithm, &asn1::element(asn1::BIT_STRING, &[&[0], &bits])])
    }
}

/// Kinds of keys that can be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NewKey {
    /// RSA, 2048 bits.
    Rsa2048,
    /// RSA, 3072 bits.
    Rsa3072,
    /// RSA, 4096 bits.
    Rsa4096,
    /// ECDSA on P-256.
    P256,
    /// ECDSA on P-384.
    P384,
}

impl Signer for PrivateKey {
    /// The same for the same digest: RSASSA-PKCS1-v1_5, or ECDSA by RFC 6979.
    fn sign(&self, algorithm: DigestAlgorithm, digest: &[u8]) -> Result<Vec<u8>, SignerError> {
        let failed = |e: &dyn fmt::Display| SignerError(format!("the key can't sign: {e}"));
        match &self.key {
            Key::Rsa(key) => {
                // With random numbers against measuring; they do not show in the signature.
                let rng = &mut getrandom::rand_core::UnwrapErr(getrandom::SysRng);
                key.sign_with_rng(rng, rsa_scheme(algorithm), digest)
                    .map_err(|e| failed(&e))
            }
            Key::P256(key) => {
                let signature: Result<p256::ecdsa::DerSignature, _> = key.sign_prehash(digest);
                signature.map(|s| s.as_bytes().to_vec()).map_err(|e| failed(&e))
            }
            Key::P384(key) => {
                let signature: Result<p384::ecdsa::DerSignature, _> = key.sign_prehash(digest);
                signature.map(|s| s.as_bytes().to_vec()).map_err(|e| failed(&e))
            }
        }
    }
}

fn curve(oid: der::asn1::ObjectIdentifier) -> Vec<u8> {
    asn1::algorithm(self::oid::EC_PUBLIC_KEY, &asn1::object_identifier(oid))
}

fn rsa<E: fmt::Display>(key: Result<RsaPrivateKey, E>) -> Result<RsaPrivateKey, KeyError> {
    let key = key.map_err(|e| KeyError::Malformed(e.to_string()))?;
    key.validate().map_err(|e| KeyError::Malformed(e.to_string()))?;
    Ok(key)
}

/// The structures that a key may be in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum DerKey {
    Pkcs8,
    Pkcs1,
    Sec1,
}

impl DerKey {
    /// All are sequences that begin with a version; what follows tells them apart.
    fn of(der: &[u8]) -> Result<DerKey, Asn1Error> {
        let mut fields = asn1::only(der, asn1::SEQUENCE)?.reader();
        fields.small_integer()?;
        match fields.any()?.tag {
            asn1::SEQUENCE => Ok(DerKey::Pkcs8),
            asn1::INTEGER => Ok(DerKey::Pkcs1),
            asn1::OCTET_STRING => Ok(DerKey::Sec1),
            _ => Err(Asn1Error::Unexpected),
        }
    }
}
