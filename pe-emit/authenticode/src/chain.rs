//! Chains of certificates: the part of RFC 5280 §6 that code signing needs.
//!
//! Revocation is not looked up, as eBPF for Windows does not look it up either; names and policies are not constrained,
//! and a certificate that constrains them critically is refused.

use der::asn1::ObjectIdentifier;

use crate::certificate::Certificate;
use crate::digest::DigestAlgorithm;
use crate::oid;
use crate::problem::Problem;
use crate::time::Time;

/// Most certificates in a chain.
const MAX_DEPTH: usize = 10;
/// Most signatures of certificates that are checked while a chain is searched.
const MAX_CHECKS: usize = 100;

/// A chain from a certificate upwards.
#[derive(Clone, Debug)]
pub(crate) struct Chain<'c> {
    pub certificates: Vec<&'c Certificate>,
    /// Whether the last one is a given root.
    pub trusted: bool,
}

/// Searches a chain from `leaf` to a given root, by way of `pool`; if there is none, the longest.
pub(crate) fn find<'c>(leaf: &'c Certificate, pool: &'c [Certificate], roots: &'c [Certificate]) -> Chain<'c> {
    let mut search = Search {
        pool,
        roots,
        checks: MAX_CHECKS,
        best: Vec::new(),
    };
    let trusted = search.extend(&mut vec![leaf]);
    Chain {
        certificates: search.best,
        trusted,
    }
}

struct Search<'c> {
    pool: &'c [Certificate],
    roots: &'c [Certificate],
    checks: usize,
    best: Vec<&'c Certificate>,
}

impl<'c> Search<'c> {
    /// Goes on from a path. Whether it came to a root.
    fn extend(&mut self, path: &mut Vec<&'c Certificate>) -> bool {
        if path.len() > self.best.len() {
            self.best.clone_from(path);
        }
        let Some(last) = path.last().copied() else { return false };
        if self.roots.iter().any(|root| root.as_der() == last.as_der()) {
            self.best.clone_from(path);
            return true;
        }
        if path.len() == MAX_DEPTH {
            return false;
        }
        let roots = self.roots;
        for root in roots {
            if self.issued(root, last) {
                path.push(root);
                self.best.clone_from(path);
                return true;
            }
        }
        let pool = self.pool;
        for issuer in pool {
            if path.iter().any(|c| c.as_der() == issuer.as_der()) || !self.issued(issuer, last) {
                continue;
            }
            path.push(issuer);
            if self.extend(path) {
                return true;
            }
            path.pop();
        }
        false
    }

    fn issued(&mut self, issuer: &Certificate, certificate: &Certificate) -> bool {
        if !certificate.names_issuer(issuer) || self.checks == 0 {
            return false;
        }
        self.checks -= 1;
        certificate.is_signed_by(issuer)
    }
}

impl Chain<'_> {
    /// What speaks against the chain at this time, for certificates that are used for `usage`.
    pub(crate) fn problems(&self, at: Time, usage: ObjectIdentifier) -> Vec<Problem> {
        let mut problems = Vec::new();
        let mut authorities_below = 0u32;
        for (index, certificate) in self.certificates.iter().enumerate() {
            let anchor = self.trusted && index + 1 == self.certificates.len();
            if at < certificate.not_before() || at > certificate.not_after() {
                problems.push(Problem::Validity {
                    subject: certificate.subject().to_owned(),
                    from: certificate.not_before(),
                    to: certificate.not_after(),
                    at,
                });
            }
            let mut refuse = |why: String| {
                problems.push(Problem::Certificate {
                    subject: certificate.subject().to_owned(),
                    why,
                });
            };
            if let Some(extension) = certificate.extensions.unknown_critical {
                refuse(format!("has the critical extension {extension}, which is not known"));
            }
            match certificate.key() {
                Ok(key) if key.is_weak() => refuse(format!("has a key that is not safe ({})", key.description())),
                Ok(_) => {}
                Err(error) => refuse(error.to_string()),
            }
            if !anchor && certificate.signature_digest() == Some(DigestAlgorithm::Sha1) {
                refuse("is signed with SHA-1, which is not safe".into());
            }
            if index > 0 {
                authority(certificate, authorities_below, &mut refuse);
                authorities_below += u32::from(!certificate.is_self_issued());
            } else if certificate
                .extensions
                .key_usage
                .is_some_and(|usage| !usage.digital_signature())
            {
                refuse("is not for digital signatures (key usage)".into());
            }
            // What a root says of its own usages does not count; what an authority below it may issue does.
            let usages = certificate.extensions.extended_key_usage.as_deref();
            let allows = |usages: &[ObjectIdentifier]| {
                usages.contains(&usage) || (index > 0 && usages.contains(&oid::ANY_EXTENDED_KEY_USAGE))
            };
            let allowed = match usages {
                Some(usages) => allows(usages),
                None => index > 0,
            };
            let root = anchor && index > 0;
            if !allowed && !root {
                let name = oid::usage_name(usage).unwrap_or_default();
                refuse(format!("is not for {name} (extended key usage {usage})"));
            }
        }
        problems
    }
}

/// What an issuer must be.
fn authority(certificate: &Certificate, authorities_below: u32, refuse: &mut impl FnMut(String)) {
    match certificate.extensions.basic_constraints {
        Some((true, None)) => {}
        Some((true, Some(most))) if authorities_below <= u32::from(most) => {}
        Some((true, Some(most))) => refuse(format!("allows only {most} authorities below it")),
        _ => refuse("is not an authority's (basic constraints)".into()),
    }
    if certificate
        .extensions
        .key_usage
        .is_some_and(|usage| !usage.key_cert_sign())
    {
        refuse("is not for signing certificates (key usage)".into());
    }
}
