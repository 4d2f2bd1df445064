//! Keys and certificates as files hold them.
//!
//! Whatever holds a private key is zeroed in memory after use. How often a password is hashed is bounded, so that a
//! hostile file can't make the tool work for hours.

mod encryption;
mod pem;
mod pfx;

use zeroize::Zeroizing;

use crate::asn1::{self, Asn1Error};
use crate::certificate::{self, Certificate, CertificateError};
use crate::private_key::PrivateKey;
use crate::public_key::KeyError;

pub use pem::PemError;
pub use pfx::{Pfx, write_pfx};

/// Why no password was given.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct PasswordError(pub String);

/// Gives the password when it is needed.
pub type AskPassword<'a> = dyn FnMut() -> Result<Zeroizing<String>, PasswordError> + 'a;

/// Why a file of keys or certificates can't be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LoadError {
    /// It is malformed.
    #[error("it is malformed: {0}")]
    Malformed(#[from] Asn1Error),
    /// It is PEM, and malformed.
    #[error(transparent)]
    Pem(#[from] PemError),
    /// There is no certificate in it.
    #[error("there is no certificate in it")]
    NoCertificate,
    /// There is no private key in it.
    #[error("there is no private key in it")]
    NoKey,
    /// There are several private keys in it.
    #[error("there are several private keys in it")]
    SeveralKeys,
    /// None of the certificates is about the key.
    #[error("none of its certificates is that of its key")]
    NoCertificateOfKey,
    /// A certificate can't be read.
    #[error(transparent)]
    Certificate(#[from] CertificateError),
    /// The key can't be used.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// No password was given.
    #[error("it needs a password: {0}")]
    Password(#[from] PasswordError),
    /// The password is wrong.
    #[error("the password is wrong, or the file is damaged")]
    WrongPassword,
    /// It is protected in a way that is not supported.
    #[error("it is protected in a way that is not supported: {0}")]
    Unsupported(&'static str),
}

/// The certificates of a file, in its order: PEM with one or more, DER with one, or PKCS #7 (`.p7b`) in either form.
pub fn certificates(bytes: &[u8]) -> Result<Vec<Certificate>, LoadError> {
    let mut found = Vec::new();
    if let Some(blocks) = pem::blocks(bytes)? {
        for block in blocks {
            match block.label.as_str() {
                "CERTIFICATE" | "X509 CERTIFICATE" => found.push(Certificate::from_der(&block.contents)?),
                "PKCS7" | "CMS" => found.extend(of_message(&block.contents)?),
                _ => {}
            }
        }
    } else if first_tag(bytes) == Some(asn1::OBJECT_IDENTIFIER) {
        found = of_message(bytes)?;
    } else {
        found.push(Certificate::from_der(bytes)?);
    }
    if found.is_empty() {
        return Err(LoadError::NoCertificate);
    }
    Ok(found)
}

/// The private key of a file: PEM or DER, of PKCS #8 (encrypted or not), PKCS #1 or SEC 1. The password is asked for only if
/// it is needed.
pub fn private_key(bytes: &[u8], ask: &mut AskPassword<'_>) -> Result<PrivateKey, LoadError> {
    let Some(blocks) = pem::blocks(bytes)? else {
        return match first_tag(bytes) {
            // `EncryptedPrivateKeyInfo` and certificates begin with a sequence, keys with a number.
            Some(asn1::SEQUENCE) if is_encrypted_key(bytes) => decrypted_key(bytes, &ask()?),
            Some(asn1::SEQUENCE | asn1::OBJECT_IDENTIFIER) => Err(LoadError::NoKey),
            _ => Ok(PrivateKey::from_der(bytes)?),
        };
    };
    let is_key = |block: &&pem::Block| block.label.ends_with("PRIVATE KEY");
    let mut keys = blocks.iter().filter(is_key);
    let block = keys.next().ok_or(LoadError::NoKey)?;
    if keys.next().is_some() {
        return Err(LoadError::SeveralKeys);
    }
    match block.label.as_str() {
        "ENCRYPTED PRIVATE KEY" => decrypted_key(&block.contents, &ask()?),
        _ if block.has_headers => Err(LoadError::Unsupported(
            "old encrypted PEM; `openssl pkcs8 -topk8` makes PKCS #8 of it",
        )),
        _ => Ok(PrivateKey::from_der(&block.contents)?),
    }
}

/// Opens a PFX file (PKCS #12). The password is asked for only if the empty one is wrong.
pub fn pfx(bytes: &[u8], ask: &mut AskPassword<'_>) -> Result<Pfx, LoadError> {
    pfx::open(bytes, ask)
}

/// `EncryptedPrivateKeyInfo` is an algorithm and a string.
fn is_encrypted_key(der: &[u8]) -> bool {
    let fields = || {
        let mut fields = asn1::only(der, asn1::SEQUENCE)?.reader();
        fields.element(asn1::SEQUENCE)?;
        fields.element(asn1::OCTET_STRING)?;
        fields.end()
    };
    fields().is_ok()
}

/// The tag of the first element of a sequence.
fn first_tag(der: &[u8]) -> Option<u8> {
    let element = asn1::only(der, asn1::SEQUENCE).ok()?;
    Some(element.reader().any().ok()?.tag)
}

fn decrypted_key(info: &[u8], password: &str) -> Result<PrivateKey, LoadError> {
    let mut fields = asn1::only(info, asn1::SEQUENCE)?.reader();
    let algorithm = fields.element(asn1::SEQUENCE)?;
    let encrypted = fields.element(asn1::OCTET_STRING)?;
    fields.end()?;
    let key = encryption::decrypt(algorithm.whole, password, encrypted.value)?;
    // What a wrong password makes of a key is seldom something that looks like one.
    PrivateKey::from_der(&key).map_err(|error| match error {
        KeyError::Malformed(_) => LoadError::WrongPassword,
        error => error.into(),
    })
}

fn of_message(der: &[u8]) -> Result<Vec<Certificate>, LoadError> {
    let elements = certificate::of_message(der)?;
    let certificates: Result<_, _> = elements.iter().map(|e| Certificate::from_der(e.whole)).collect();
    Ok(certificates?)
}
