//! Keys that statements are signed with.

use base64ct::{Base64, Encoding};
use bpf2sys_authenticode::{Certificate, DigestAlgorithm, PrivateKey, load};
use der::{Decode, Encode};
use p256::ecdsa::signature::hazmat::PrehashVerifier;
use pkcs8::{DecodePrivateKey, DecodePublicKey, EncodePublicKey};
use rsa::traits::PublicKeyParts;
use rsa::{Pkcs1v15Sign, RsaPublicKey};
use sha2::Sha256;

use super::{ProvenanceError, sha256};

/// Sizes of RSA keys that are relied on, in bits.
const RSA_BITS: std::ops::RangeInclusive<u32> = 2048..=8192;

/// A public key: RSA, or ECDSA on P-256 or P-384.
#[derive(Clone, Debug)]
pub(crate) struct PublicKey {
    key: Key,
    /// `SubjectPublicKeyInfo`, as DER.
    info: Vec<u8>,
}

#[derive(Clone, Debug)]
enum Key {
    Rsa(RsaPublicKey),
    P256(p256::ecdsa::VerifyingKey),
    P384(p384::ecdsa::VerifyingKey),
}

impl PublicKey {
    /// The key of a file: a public key (`SubjectPublicKeyInfo`) as PEM or DER.
    pub(crate) fn read(file: &[u8]) -> Result<PublicKey, ProvenanceError> {
        match pem(file) {
            Some(contents) => PublicKey::of_info(&contents?),
            None => PublicKey::of_info(file),
        }
    }

    /// The key that a file with certificates is about: that of the first one.
    pub(crate) fn of_certificates(file: &[u8]) -> Result<PublicKey, ProvenanceError> {
        let certificates = load::certificates(file).map_err(|e| ProvenanceError::Key(e.to_string()))?;
        match certificates.first() {
            Some(certificate) => PublicKey::of_certificate(certificate),
            None => Err(ProvenanceError::Key("there is no certificate".into())),
        }
    }

    /// The key that a certificate is about.
    pub(crate) fn of_certificate(certificate: &Certificate) -> Result<PublicKey, ProvenanceError> {
        let malformed = |e: der::Error| ProvenanceError::Key(format!("the certificate is malformed: {e}"));
        let certificate = x509_cert::Certificate::from_der(certificate.as_der()).map_err(malformed)?;
        let info = certificate.tbs_certificate().subject_public_key_info();
        PublicKey::of_info(&info.to_der().map_err(malformed)?)
    }

    /// The public part of a private key.
    pub(crate) fn of_private(key: &PrivateKey) -> Result<PublicKey, ProvenanceError> {
        let document = key.to_pkcs8().map_err(|e| ProvenanceError::Key(e.to_string()))?;
        let key = if let Ok(key) = rsa::RsaPrivateKey::from_pkcs8_der(&document) {
            Key::Rsa(key.to_public_key())
        } else if let Ok(key) = p256::ecdsa::SigningKey::from_pkcs8_der(&document) {
            Key::P256(*key.verifying_key())
        } else if let Ok(key) = p384::ecdsa::SigningKey::from_pkcs8_der(&document) {
            Key::P384(*key.verifying_key())
        } else {
            return Err(unsupported());
        };
        PublicKey::new(key)
    }

    fn of_info(info: &[u8]) -> Result<PublicKey, ProvenanceError> {
        let key = if let Ok(key) = RsaPublicKey::from_public_key_der(info) {
            Key::Rsa(key)
        } else if let Ok(key) = p256::ecdsa::VerifyingKey::from_public_key_der(info) {
            Key::P256(key)
        } else if let Ok(key) = p384::ecdsa::VerifyingKey::from_public_key_der(info) {
            Key::P384(key)
        } else {
            return Err(unsupported());
        };
        PublicKey::new(key)
    }

    fn new(key: Key) -> Result<PublicKey, ProvenanceError> {
        if let Key::Rsa(key) = &key
            && !RSA_BITS.contains(&key.n().bits_vartime())
        {
            let bits = key.n().bits_vartime();
            return Err(ProvenanceError::Key(format!(
                "it has {bits} bits; RSA keys of 2048 to 8192 are relied on"
            )));
        }
        let info = match &key {
            Key::Rsa(key) => key.to_public_key_der(),
            Key::P256(key) => key.to_public_key_der(),
            Key::P384(key) => key.to_public_key_der(),
        };
        let info = info.map_err(|e| ProvenanceError::Key(e.to_string()))?.into_vec();
        Ok(PublicKey { key, info })
    }

    /// Its name in envelopes: SHA-256 of its `SubjectPublicKeyInfo`, in hexadecimal.
    pub(crate) fn id(&self) -> String {
        sha256(&self.info)
    }

    /// Kind and size, for people.
    pub(crate) fn description(&self) -> String {
        match &self.key {
            Key::Rsa(key) => format!("RSA {}", key.n().bits_vartime()),
            Key::P256(_) => "ECDSA P-256".into(),
            Key::P384(_) => "ECDSA P-384".into(),
        }
    }

    /// The digest that signatures by this key are over: one as long as the curve, SHA-256 for RSA. Verifiers of DSSE choose
    /// it by the key in the same way.
    pub(super) fn digest(&self) -> DigestAlgorithm {
        match &self.key {
            Key::Rsa(_) | Key::P256(_) => DigestAlgorithm::Sha256,
            Key::P384(_) => DigestAlgorithm::Sha384,
        }
    }

    /// A signature as envelopes have it: one of ECDSA is DER, and may come as its two numbers, one behind the other.
    pub(super) fn normalized(&self, signature: Vec<u8>) -> Vec<u8> {
        if self.is_der(&signature) {
            return signature;
        }
        match &self.key {
            Key::P256(_) => p256::ecdsa::Signature::from_slice(&signature).map(|s| s.to_der().as_bytes().to_vec()),
            Key::P384(_) => p384::ecdsa::Signature::from_slice(&signature).map(|s| s.to_der().as_bytes().to_vec()),
            Key::Rsa(_) => return signature,
        }
        .unwrap_or(signature)
    }

    /// Whether it is DER already.
    fn is_der(&self, signature: &[u8]) -> bool {
        match &self.key {
            Key::P256(_) => p256::ecdsa::Signature::from_der(signature).is_ok(),
            Key::P384(_) => p384::ecdsa::Signature::from_der(signature).is_ok(),
            Key::Rsa(_) => true,
        }
    }

    /// Whether `signature` is this key's over a message: RSASSA-PKCS1-v1_5, or ECDSA as DER.
    pub(super) fn verifies(&self, message: &[u8], signature: &[u8]) -> bool {
        let digest = self.digest().digest(&[message]);
        match &self.key {
            Key::Rsa(key) => key.verify(Pkcs1v15Sign::new::<Sha256>(), &digest, signature).is_ok(),
            Key::P256(key) => p256::ecdsa::Signature::from_der(signature)
                .is_ok_and(|signature| key.verify_prehash(&digest, &signature).is_ok()),
            Key::P384(key) => p384::ecdsa::Signature::from_der(signature)
                .is_ok_and(|signature| key.verify_prehash(&digest, &signature).is_ok()),
        }
    }
}

fn unsupported() -> ProvenanceError {
    ProvenanceError::Key("it is no public key of RSA, or of ECDSA on P-256 or P-384".into())
}

/// The contents of the block `PUBLIC KEY` of a PEM file (RFC 7468 §13); `None` if the file is no PEM.
fn pem(file: &[u8]) -> Option<Result<Vec<u8>, ProvenanceError>> {
    let text = std::str::from_utf8(file).ok()?;
    if !text.contains("-----BEGIN ") {
        return None;
    }
    let body = text
        .split_once("-----BEGIN PUBLIC KEY-----")
        .and_then(|(_, rest)| rest.split_once("-----END PUBLIC KEY-----"))
        .map(|(body, _)| body.split_ascii_whitespace().collect::<String>());
    let contents = body.and_then(|body| Base64::decode_vec(&body).ok());
    Some(contents.ok_or_else(|| ProvenanceError::Key("there is no block `PUBLIC KEY` in it that can be read".into())))
}
