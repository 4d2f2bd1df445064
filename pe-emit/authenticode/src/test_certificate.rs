//! Certificates for tests: a root, and a signer's certificate below it.

use der::asn1::ObjectIdentifier;

use crate::asn1;
use crate::certificate::{Certificate, CertificateError};
use crate::digest::DigestAlgorithm;
use crate::oid;
use crate::private_key::{NewKey, PrivateKey};
use crate::public_key::{KeyError, KeyKind};
use crate::sign::{Signer, SignerError};
use crate::time::Time;

/// What to make.
#[derive(Clone, Debug)]
pub struct NewCertificates {
    /// Common name of the signer. The root's is the same with ` root` behind.
    pub name: String,
    /// The kind of both keys.
    pub key: NewKey,
    /// From when both are valid.
    pub from: Time,
    /// For how many days.
    pub days: u32,
}

/// What was made. The root's key is gone, so nothing else can be signed below this root.
#[derive(Debug)]
pub struct TestCertificates {
    /// The root.
    pub root: Certificate,
    /// The signer's certificate, for code signing and eBPF verification.
    pub signer: Certificate,
    /// The signer's key.
    pub key: PrivateKey,
}

/// Why no certificates were made.
#[derive(Debug, thiserror::Error)]
pub enum NewCertificateError {
    /// The name can't be one.
    #[error("a name has 1 to 60 characters, none of them a control character")]
    Name,
    /// The key can't be made.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// The key can't sign.
    #[error(transparent)]
    Signer(#[from] SignerError),
    /// What was made is no certificate.
    #[error(transparent)]
    Certificate(#[from] CertificateError),
    /// The system gives no random numbers.
    #[error("the system gives no random numbers: {0}")]
    Random(String),
}

impl NewCertificates {
    /// Makes keys and certificates.
    pub fn make(&self) -> Result<TestCertificates, NewCertificateError> {
        // RFC 5280 allows a common name 64 characters.
        if !(1..=60).contains(&self.name.chars().count()) || self.name.chars().any(char::is_control) {
            return Err(NewCertificateError::Name);
        }
        let root_key = PrivateKey::generate(self.key)?;
        let key = PrivateKey::generate(self.key)?;
        let (root_name, name) = (common_name(&format!("{} root", self.name)), common_name(&self.name));
        let root_id = key_identifier(&root_key);
        let root = self.certificate(
            (&root_name, &root_key),
            (&root_name, &root_key),
            &[
                // An authority, with no authority below it.
                extension(
                    oid::BASIC_CONSTRAINTS,
                    true,
                    &asn1::sequence(&[&[asn1::BOOLEAN, 1, 0xFF], &[asn1::INTEGER, 1, 0]]),
                ),
                // keyCertSign
                extension(oid::KEY_USAGE, true, &[asn1::BIT_STRING, 2, 2, 0x04]),
                extension(
                    oid::SUBJECT_KEY_IDENTIFIER,
                    false,
                    &asn1::element(asn1::OCTET_STRING, &[&root_id]),
                ),
            ],
        )?;
        let usages = [oid::CODE_SIGNING, oid::EBPF_VERIFICATION].map(asn1::object_identifier);
        let authority = asn1::sequence(&[&asn1::element(asn1::context_primitive(0), &[&root_id])]);
        let signer = self.certificate(
            (&root_name, &root_key),
            (&name, &key),
            &[
                // digitalSignature
                extension(oid::KEY_USAGE, true, &[asn1::BIT_STRING, 2, 7, 0x80]),
                extension(
                    oid::EXTENDED_KEY_USAGE,
                    false,
                    &asn1::sequence(&[&usages[0], &usages[1]]),
                ),
                extension(
                    oid::SUBJECT_KEY_IDENTIFIER,
                    false,
                    &asn1::element(asn1::OCTET_STRING, &[&key_identifier(&key)]),
                ),
                extension(oid::AUTHORITY_KEY_IDENTIFIER, false, &authority),
            ],
        )?;
        Ok(TestCertificates { root, signer, key })
    }

    /// A certificate (RFC 5280 §4.1) of a name and its key, signed by another name's key.
    fn certificate(
        &self,
        (issuer, issuer_key): (&[u8], &PrivateKey),
        (subject, key): (&[u8], &PrivateKey),
        extensions: &[Vec<u8>],
    ) -> Result<Certificate, NewCertificateError> {
        let mut serial = [0; 16];
        getrandom::fill(&mut serial).map_err(|e| NewCertificateError::Random(e.to_string()))?;
        let digest = DigestAlgorithm::Sha256;
        let algorithm = match issuer_key.public().kind() {
            KeyKind::Rsa => asn1::algorithm(oid::SHA256_WITH_RSA, asn1::NULL_ELEMENT),
            KeyKind::Ecdsa => asn1::algorithm(oid::ECDSA_WITH_SHA256, &[]),
        };
        let validity = asn1::sequence(&[&self.from.to_der(), &self.from.plus_days(self.days).to_der()]);
        let parts: Vec<&[u8]> = extensions.iter().map(Vec::as_slice).collect();
        let version_3 = [asn1::INTEGER, 1, 2];
        let tbs = asn1::sequence(&[
            &asn1::element(asn1::context(0), &[&version_3]),
            &asn1::unsigned(&serial),
            &algorithm,
            issuer,
            &validity,
            subject,
            &key.public_key_info(),
            &asn1::element(asn1::context(3), &[&asn1::sequence(&parts)]),
        ]);
        let signature = issuer_key.sign(digest, &digest.digest(&[&tbs]))?;
        let bits = asn1::element(asn1::BIT_STRING, &[&[0], &signature]);
        Ok(Certificate::from_der(&asn1::sequence(&[&tbs, &algorithm, &bits]))?)
    }
}

fn common_name(name: &str) -> Vec<u8> {
    let value = asn1::element(asn1::UTF8_STRING, &[name.as_bytes()]);
    let attribute = asn1::sequence(&[&asn1::object_identifier(oid::COMMON_NAME), &value]);
    asn1::sequence(&[&asn1::element(asn1::SET, &[&attribute])])
}

fn key_identifier(key: &PrivateKey) -> Vec<u8> {
    let mut digest = DigestAlgorithm::Sha256.digest(&[&key.public_key_info()]);
    digest.truncate(20);
    digest
}

fn extension(oid: ObjectIdentifier, critical: bool, value: &[u8]) -> Vec<u8> {
    let critical: &[u8] = if critical { &[asn1::BOOLEAN, 1, 0xFF] } else { &[] };
    asn1::sequence(&[
        &asn1::object_identifier(oid),
        critical,
        &asn1::element(asn1::OCTET_STRING, &[value]),
    ])
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::*;

    #[test]
    fn certificates_with_many_extensions_take_bounded_time() {
        let new = NewCertificates {
            name: "Many".into(),
            key: NewKey::P256,
            from: Time::now(),
            days: 1,
        };
        let key = PrivateKey::generate(new.key).unwrap();
        let name = common_name(&new.name);
        let made = |count: u32, twice: &[Vec<u8>]| {
            let numbered = |number| oid::SUBJECT_KEY_IDENTIFIER.push_arc(number).unwrap();
            let list = (0..count).map(|number| extension(numbered(number), false, &[]));
            let list: Vec<Vec<u8>> = list.chain(twice.iter().cloned()).collect();
            new.certificate((&name, &key), (&name, &key), &list)
        };
        let start = Instant::now();
        assert!(made(1 << 18, &[]).is_ok());
        let taken = start.elapsed();
        assert!(taken < Duration::from_secs(5), "{taken:?}");
        let one = extension(oid::KEY_USAGE, true, &[asn1::BIT_STRING, 2, 7, 0x80]);
        let twice = [one.clone(), one];
        assert!(made(2, &twice[..1]).is_ok());
        assert!(made(2, &twice).is_err());
    }
}
