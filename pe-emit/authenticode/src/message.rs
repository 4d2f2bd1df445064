//! Whether a message is what its signer signed (RFC 5652 §5.4, §5.6).

use crate::certificate::Certificate;
use crate::digest::DigestAlgorithm;
use crate::oid;
use crate::problem::Problem;
use crate::signed_data::{SignedData, SignerIdentifier};

/// The certificate that a message says it was signed with.
pub(crate) fn signer<'c>(data: &SignedData<'_>, certificates: &'c [Certificate]) -> Option<&'c Certificate> {
    certificates.iter().find(|certificate| match data.signer.identifier {
        SignerIdentifier::IssuerAndSerial { issuer, serial } => {
            certificate.issuer_name() == issuer && certificate.serial_digits() == serial
        }
        SignerIdentifier::KeyIdentifier(key) => certificate.extensions.subject_key_identifier.as_deref() == Some(key),
    })
}

/// Checks everything between a message's content and the key of its signer. Gives the digest algorithm of the signature.
pub(crate) fn check(
    data: &SignedData<'_>,
    signer: Option<&Certificate>,
    problems: &mut Vec<Problem>,
) -> Option<DigestAlgorithm> {
    let Some(algorithm) = data.signer.digest else {
        problems.push(Problem::UnknownDigest);
        return None;
    };
    if algorithm == DigestAlgorithm::Sha1 {
        problems.push(Problem::WeakDigest);
    }
    match data.signer.signed_attribute(oid::CONTENT_TYPE) {
        Ok(Some(kind)) if kind.object_identifier() == Ok(data.content_type) => {}
        _ => problems.push(Problem::Attribute("content type")),
    }
    match data.signer.signed_attribute(oid::MESSAGE_DIGEST) {
        Ok(Some(digest)) if digest.tag == crate::asn1::OCTET_STRING => {
            if digest.value != algorithm.digest(&[data.content.value]) {
                problems.push(Problem::ContentChanged);
            }
        }
        _ => problems.push(Problem::Attribute("message digest")),
    }
    let Some(signer) = signer else {
        problems.push(Problem::NoSignerCertificate);
        return Some(algorithm);
    };
    let key = match signer.key() {
        Ok(key) => key,
        Err(error) => {
            problems.push(Problem::SignerKey(error));
            return Some(algorithm);
        }
    };
    let stated = data.signer.signature_algorithm;
    let fits = stated.is_some_and(|s| s.kind == key.kind() && s.digest.is_none_or(|digest| digest == algorithm));
    let digest = data.signer.signed_digest(algorithm);
    if !fits {
        problems.push(Problem::SignatureAlgorithm);
    } else if !key.verifies(algorithm, &digest, data.signer.signature) {
        problems.push(Problem::SignatureWrong);
    }
    Some(algorithm)
}
