//! Whether a signed image is a given image and a new signature, whoever made it.

use crate::asn1::{Asn1Error, Reader};
use crate::certificate::Certificate;
use crate::file::PeFile;
use crate::oid;
use crate::problem::Problem;
use crate::sign::SignError;
use crate::signed_data::SignedData;
use crate::table;
use crate::verify::{self, VerifyOptions};

/// Checks that `signed` is `image` with one more signature, by the key of `signer` if that is given: all bytes that
/// signatures cover are the same, all signatures that were there are there, the new one is right, and so is the
/// `CheckSum` field. Whether anybody trusts the signer is not asked.
pub fn check(image: &[u8], signed: &[u8], signer: Option<&Certificate>) -> Result<(), SignError> {
    let wrong = |problem| Err(SignError::Wrong(problem));
    let (before, after) = (PeFile::read(image)?, PeFile::read(signed)?);
    if before.covered().concat() != after.covered().concat() || after.stated_checksum() != after.computed_checksum() {
        return wrong(Problem::OtherImage);
    }
    let report = verify::verify(signed, &VerifyOptions::default())?;
    let problems = report.signatures.iter().flat_map(|signature| &signature.problems);
    if let Some(problem) = problems.into_iter().find(|problem| !problem.is_about_trust()) {
        return wrong(problem.clone());
    }
    let (before, after) = (values(&before)?, values(&after)?);
    let mut new = (0..after.len()).filter(|index| !before.contains(&after[*index]));
    let (Some(new), None) = (new.next(), new.next()) else {
        return wrong(Problem::NotOneNew);
    };
    if before.iter().any(|value| !after.contains(value)) {
        return wrong(Problem::NotOneNew);
    }
    let by = report.signatures.get(new).and_then(|signature| signature.chain.first());
    match (signer, by) {
        (Some(signer), Some(by)) if by.sha256 != signer.thumbprint(crate::DigestAlgorithm::Sha256) => {
            wrong(Problem::OtherSigner(by.subject.clone()))
        }
        (_, None) => wrong(Problem::NoSignerCertificate),
        _ => Ok(()),
    }
}

/// The values of all signatures, in the order in which they are reported.
fn values<'a>(file: &PeFile<'a>) -> Result<Vec<&'a [u8]>, SignError> {
    let malformed = |error: Asn1Error| SignError::Existing(Problem::Malformed(error));
    let value = |message: &'a [u8]| SignedData::read(message).map(|data| data.signer).map_err(malformed);
    let mut found = Vec::new();
    for entry in table::signatures(file)? {
        let message = Reader::new(entry).any().map_err(malformed)?;
        let signer = value(message.whole)?;
        found.push(signer.signature);
        for nested in signer.unsigned_values(oid::NESTED_SIGNATURE) {
            found.push(value(nested.whole)?.signature);
        }
    }
    Ok(found)
}
