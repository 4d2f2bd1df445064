//! Words about signatures, the same wherever they are told.

use bpf2sys_authenticode::{CertificateSummary, Usage};

/// What is known of the end of a chain.
pub(crate) fn end_of_chain(trusted: Option<bool>) -> &'static str {
    match trusted {
        Some(true) => "ends at a given root",
        Some(false) => "ends at no given root",
        None => "is not judged, as no root was given",
    }
}

/// What a certificate is for.
pub(crate) fn usages(certificate: &CertificateSummary) -> String {
    let usage = |usage: &Usage| match usage.name {
        Some(name) => format!("{name} ({})", usage.oid),
        None => usage.oid.clone(),
    };
    match &certificate.extended_key_usages {
        None => "anything".into(),
        Some(usages) => usages.iter().map(usage).collect::<Vec<_>>().join(", "),
    }
}
