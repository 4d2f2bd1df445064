//! Keys that statements are signed with.

use base64ct::{Base64, Encoding};
use bpf2sys_authenticode::{Certificate, DigestAlgorithm, KeyError, PrivateKey, PublicKey as Key, load};

use super::ProvenanceError;
use crate::hash::sha256;

/// A public key that statements are judged by, with its name.
#[derive(Clone, Debug)]
pub(crate) struct PublicKey {
    key: Key,
    /// `SubjectPublicKeyInfo`, as DER.
    info: Vec<u8>,
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
        PublicKey::of_info(certificate.public_key_info())
    }

    /// The public part of a private key.
    pub(crate) fn of_private(key: &PrivateKey) -> Result<PublicKey, ProvenanceError> {
        PublicKey::of_info(&key.public_key_info())
    }

    fn of_info(info: &[u8]) -> Result<PublicKey, ProvenanceError> {
        let key = Key::read(info).map_err(|error| match error {
            KeyError::Malformed(_) => unsupported(),
            other => ProvenanceError::Key(other.to_string()),
        })?;
        if key.is_weak() {
            let what = key.description();
            return Err(ProvenanceError::Key(format!(
                "{what} is not safe; keys of 2048 bits and more are"
            )));
        }
        Ok(PublicKey {
            key,
            info: info.to_vec(),
        })
    }

    /// Its name in envelopes: SHA-256 of its `SubjectPublicKeyInfo`, in hexadecimal.
    pub(crate) fn id(&self) -> String {
        sha256(&self.info)
    }

    /// Kind and size, for people.
    pub(crate) fn description(&self) -> String {
        self.key.description()
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
        self.key.normalized(signature)
    }

    /// Whether `signature` is this key's over a message: RSASSA-PKCS1-v1_5, or ECDSA as DER.
    pub(super) fn verifies(&self, message: &[u8], signature: &[u8]) -> bool {
        let algorithm = self.digest();
        self.key.verifies(algorithm, &algorithm.digest(&[message]), signature)
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
