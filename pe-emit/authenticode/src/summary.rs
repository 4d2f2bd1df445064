//! What is told of a certificate.

use serde::Serialize;

use crate::certificate::Certificate;
use crate::digest::DigestAlgorithm;
use crate::oid;
use crate::time::Time;

/// A certificate, as it is told of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct CertificateSummary {
    /// Subject (RFC 4514).
    pub subject: String,
    /// The values of the subject's attributes in the order of their encoding, with commas between: what eBPF for Windows
    /// compares.
    pub simple_subject: String,
    /// Issuer (RFC 4514).
    pub issuer: String,
    /// Serial number, in hexadecimal.
    pub serial: String,
    /// SHA-1 thumbprint, in hexadecimal: its name in Windows.
    pub sha1: String,
    /// SHA-256 thumbprint, in hexadecimal.
    pub sha256: String,
    /// Valid from.
    pub not_before: Time,
    /// Valid until.
    pub not_after: Time,
    /// Kind and size of its key.
    pub key: String,
    /// What it may be used for; `None` is anything.
    pub extended_key_usages: Option<Vec<Usage>>,
    /// Whether it issued itself.
    pub self_issued: bool,
}

/// An extended key usage.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Usage {
    /// Dotted.
    pub oid: String,
    /// What it is called, if it is a known one.
    pub name: Option<&'static str>,
}

impl CertificateSummary {
    /// Of this certificate.
    pub fn of(certificate: &Certificate) -> CertificateSummary {
        let usages = certificate.extensions.extended_key_usage.as_ref().map(|usages| {
            let usage = |oid: &der::asn1::ObjectIdentifier| Usage {
                oid: oid.to_string(),
                name: oid::usage_name(*oid),
            };
            usages.iter().map(usage).collect()
        });
        CertificateSummary {
            subject: certificate.subject().to_owned(),
            simple_subject: certificate.simple_subject().to_owned(),
            issuer: certificate.issuer().to_owned(),
            serial: certificate.serial(),
            sha1: certificate.thumbprint(DigestAlgorithm::Sha1),
            sha256: certificate.thumbprint(DigestAlgorithm::Sha256),
            not_before: certificate.not_before(),
            not_after: certificate.not_after(),
            key: certificate.key_description(),
            extended_key_usages: usages,
            self_issued: certificate.is_self_issued(),
        }
    }

    /// Whether it is restricted to usages among which is this one.
    pub(crate) fn states_usage(&self, usage: der::asn1::ObjectIdentifier) -> bool {
        let usages = self.extended_key_usages.as_deref().unwrap_or_default();
        usages.iter().any(|u| u.oid == usage.to_string())
    }
}
