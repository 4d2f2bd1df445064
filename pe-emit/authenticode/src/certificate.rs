//! X.509 certificates, as far as signatures need them.

use std::collections::BTreeSet;
use std::ops::Range;

use der::asn1::ObjectIdentifier;
use der::{Decode, Tagged};
use x509_cert::attr::AttributeTypeAndValue;
use x509_cert::ext::pkix::{BasicConstraints, ExtendedKeyUsage, KeyUsage, SubjectKeyIdentifier};

use crate::asn1::{self, Asn1Error, Element};
use crate::digest::{DigestAlgorithm, hex};
use crate::oid;
use crate::public_key::{KeyError, PublicKey, SignatureAlgorithm};
use crate::signed_data;
use crate::time::Time;

/// What is wrong with a certificate.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the certificate is malformed: {0}")]
pub struct CertificateError(String);

impl From<Asn1Error> for CertificateError {
    fn from(error: Asn1Error) -> CertificateError {
        CertificateError(error.to_string())
    }
}

impl From<der::Error> for CertificateError {
    fn from(error: der::Error) -> CertificateError {
        CertificateError(error.to_string())
    }
}

/// A certificate.
#[derive(Clone, Debug)]
pub struct Certificate {
    der: Vec<u8>,
    tbs: Range<usize>,
    serial: Range<usize>,
    issuer: Range<usize>,
    subject: Range<usize>,
    signature: Range<usize>,
    public_key_info: Range<usize>,
    signature_algorithm: Option<SignatureAlgorithm>,
    issuer_text: String,
    subject_text: String,
    simple_subject: String,
    /// Valid from and to, both included.
    validity: (Time, Time),
    key: Result<PublicKey, KeyError>,
    pub(crate) extensions: Extensions,
}

/// The extensions that decide what a certificate is good for (RFC 5280 §4.2.1).
#[derive(Clone, Debug, Default)]
pub(crate) struct Extensions {
    /// Whether it is an authority's, and how many authorities may follow.
    pub basic_constraints: Option<(bool, Option<u8>)>,
    pub key_usage: Option<KeyUsage>,
    pub extended_key_usage: Option<Vec<ObjectIdentifier>>,
    pub subject_key_identifier: Option<Vec<u8>>,
    /// A critical extension of which nothing is known here.
    pub unknown_critical: Option<ObjectIdentifier>,
}

impl Certificate {
    /// Reads a certificate (DER), behind which there may be nothing.
    pub fn from_der(der: &[u8]) -> Result<Certificate, CertificateError> {
        let mut certificate = asn1::only(der, asn1::SEQUENCE)?.reader();
        let tbs = certificate.element(asn1::SEQUENCE)?;
        let outer_algorithm = certificate.element(asn1::SEQUENCE)?;
        let signature = certificate.element(asn1::BIT_STRING)?;
        certificate.end()?;
        let mut fields = tbs.reader();
        fields.optional(asn1::context(0))?;
        let serial = fields.element(asn1::INTEGER)?;
        let inner_algorithm = fields.element(asn1::SEQUENCE)?;
        let issuer = fields.element(asn1::SEQUENCE)?;
        fields.element(asn1::SEQUENCE)?; // the validity
        let subject = fields.element(asn1::SEQUENCE)?;
        let key = fields.element(asn1::SEQUENCE)?;
        if outer_algorithm.whole != inner_algorithm.whole {
            return Err(CertificateError("it states two signature algorithms".into()));
        }
        let Some((0, signature)) = signature.value.split_first() else {
            return Err(Asn1Error::Value.into());
        };
        let parsed = x509_cert::Certificate::from_der(der)?;
        let parsed = parsed.tbs_certificate();
        let validity = parsed.validity();
        let range = |part: &[u8]| {
            let start = part.as_ptr().addr() - der.as_ptr().addr();
            start..start + part.len()
        };
        Ok(Certificate {
            tbs: range(tbs.whole),
            serial: range(serial.value),
            issuer: range(issuer.whole),
            subject: range(subject.whole),
            signature: range(signature),
            public_key_info: range(key.whole),
            signature_algorithm: SignatureAlgorithm::read(outer_algorithm.reader())?,
            issuer_text: parsed.issuer().to_string(),
            subject_text: parsed.subject().to_string(),
            simple_subject: simple_name(parsed.subject().iter()),
            validity: (
                Time::from_unix(validity.not_before.to_unix_duration()),
                Time::from_unix(validity.not_after.to_unix_duration()),
            ),
            key: PublicKey::read(key.whole),
            extensions: extensions(parsed.extensions().map_or(&[], Vec::as_slice))?,
            der: der.to_vec(),
        })
    }

    /// Its encoding.
    pub fn as_der(&self) -> &[u8] {
        &self.der
    }

    /// The subject as text (RFC 4514).
    pub fn subject(&self) -> &str {
        &self.subject_text
    }

    /// The issuer as text (RFC 4514).
    pub fn issuer(&self) -> &str {
        &self.issuer_text
    }

    /// The values of the subject's attributes in the order of their encoding, with commas between.
    pub fn simple_subject(&self) -> &str {
        &self.simple_subject
    }

    /// The digits of the serial number, in hexadecimal.
    pub fn serial(&self) -> String {
        let digits = self.serial_digits();
        hex(digits.strip_prefix(&[0]).unwrap_or(digits))
    }

    /// From when it is valid.
    pub fn not_before(&self) -> Time {
        self.validity.0
    }

    /// Until when it is valid, this second included.
    pub fn not_after(&self) -> Time {
        self.validity.1
    }

    /// Digest of the whole certificate, in hexadecimal: its name in Windows, where the digest is SHA-1.
    pub fn thumbprint(&self, algorithm: DigestAlgorithm) -> String {
        hex(&algorithm.digest(&[&self.der]))
    }

    /// Kind and size of its key, for people.
    pub fn key_description(&self) -> String {
        match &self.key {
            Ok(key) => key.description(),
            Err(_) => "a key that is not supported".into(),
        }
    }

    /// Its extended key usages, dotted; `None` if it does not restrict them.
    pub fn extended_key_usages(&self) -> Option<Vec<String>> {
        let usages = self.extensions.extended_key_usage.as_ref()?;
        Some(usages.iter().map(ToString::to_string).collect())
    }

    /// Whether subject and issuer are the same.
    pub fn is_self_issued(&self) -> bool {
        self.issuer_name() == self.subject_name()
    }

    pub(crate) fn serial_digits(&self) -> &[u8] {
        &self.der[self.serial.clone()]
    }

    /// The issuer's name, whole.
    pub(crate) fn issuer_name(&self) -> &[u8] {
        &self.der[self.issuer.clone()]
    }

    /// The subject's name, whole.
    pub(crate) fn subject_name(&self) -> &[u8] {
        &self.der[self.subject.clone()]
    }

    /// `SubjectPublicKeyInfo`, whole.
    pub fn public_key_info(&self) -> &[u8] {
        &self.der[self.public_key_info.clone()]
    }

    pub(crate) fn key(&self) -> Result<&PublicKey, KeyError> {
        self.key.as_ref().map_err(Clone::clone)
    }

    /// The digest algorithm of its issuer's signature, if it is known.
    pub(crate) fn signature_digest(&self) -> Option<DigestAlgorithm> {
        self.signature_algorithm?.digest
    }

    /// Whether `issuer` has the name that this certificate gives as its issuer's.
    pub(crate) fn names_issuer(&self, issuer: &Certificate) -> bool {
        self.issuer_name() == issuer.subject_name()
    }

    /// Whether the signature on it was made by `issuer`'s key.
    pub(crate) fn is_signed_by(&self, issuer: &Certificate) -> bool {
        let (
            Some(SignatureAlgorithm {
                kind,
                digest: Some(digest),
            }),
            Ok(key),
        ) = (self.signature_algorithm, &issuer.key)
        else {
            return false;
        };
        let signed = digest.digest(&[&self.der[self.tbs.clone()]]);
        key.kind() == kind && key.verifies(digest, &signed, &self.der[self.signature.clone()])
    }
}

fn extensions(list: &[x509_cert::ext::Extension]) -> Result<Extensions, CertificateError> {
    let mut found = Extensions::default();
    let mut seen = BTreeSet::new();
    for extension in list {
        let value = extension.extn_value.as_bytes();
        if !seen.insert(extension.extn_id) {
            return Err(CertificateError("an extension is there twice".into()));
        }
        match extension.extn_id {
            oid::BASIC_CONSTRAINTS => {
                let constraints = BasicConstraints::from_der(value)?;
                found.basic_constraints = Some((constraints.ca, constraints.path_len_constraint));
            }
            oid::KEY_USAGE => found.key_usage = Some(KeyUsage::from_der(value)?),
            oid::EXTENDED_KEY_USAGE => found.extended_key_usage = Some(ExtendedKeyUsage::from_der(value)?.0),
            oid::SUBJECT_KEY_IDENTIFIER => {
                found.subject_key_identifier = Some(SubjectKeyIdentifier::from_der(value)?.0.as_bytes().to_vec());
            }
            // These restrict nothing that is judged here.
            oid::SUBJECT_ALT_NAME
            | oid::ISSUER_ALT_NAME
            | oid::CRL_DISTRIBUTION_POINTS
            | oid::CERTIFICATE_POLICIES
            | oid::AUTHORITY_KEY_IDENTIFIER => {}
            other if extension.critical => found.unknown_critical = Some(other),
            _ => {}
        }
    }
    Ok(found)
}

/// The values of a name's attributes, with commas between.
fn simple_name<'a>(attributes: impl Iterator<Item = &'a AttributeTypeAndValue>) -> String {
    let values = attributes.map(|attribute| {
        let bytes = attribute.value.value();
        match attribute.value.tag() {
            der::Tag::BmpString => {
                let units = bytes.as_chunks::<2>().0.iter().map(|unit| u16::from_be_bytes(*unit));
                String::from_utf16_lossy(&units.collect::<Vec<_>>())
            }
            der::Tag::TeletexString => bytes.iter().map(|byte| char::from(*byte)).collect(),
            _ => String::from_utf8_lossy(bytes).into_owned(),
        }
    });
    values.collect::<Vec<_>>().join(", ")
}

/// The certificates of a message; those that can't be read are left out, as nothing can be signed with them.
pub(crate) fn readable(certificates: &[&[u8]]) -> Vec<Certificate> {
    certificates
        .iter()
        .filter_map(|der| Certificate::from_der(der).ok())
        .collect()
}

/// The certificates of a PKCS #7 message without content, as `.p7b` files are (RFC 5652 §5.1), whole.
pub(crate) fn of_message(bytes: &[u8]) -> Result<Vec<Element<'_>>, Asn1Error> {
    let mut data = signed_data::fields(bytes)?;
    data.small_integer()?;
    data.element(asn1::SET)?;
    data.element(asn1::SEQUENCE)?;
    let mut certificates = data.element(asn1::context(0))?.reader();
    let mut found = Vec::new();
    while !certificates.is_empty() {
        found.push(certificates.element(asn1::SEQUENCE)?);
    }
    Ok(found)
}
