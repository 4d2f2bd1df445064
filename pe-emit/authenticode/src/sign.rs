//! Signing an image.

use crate::asn1;
use crate::certificate::Certificate;
use crate::check::check;
use crate::digest::{DigestAlgorithm, hex};
use crate::file::{FileError, PeFile};
use crate::oid;
use crate::page_hashes;
use crate::problem::Problem;
use crate::public_key::KeyError;
use crate::signed_data::{self, SignedData};
use crate::spc::{IndirectData, OpusInfo};
use crate::table;
use crate::timestamp::{self, TimestampAuthority, TimestampError};
use crate::verify::{self, VerifyOptions};

/// Why a digest was not signed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct SignerError(pub String);

/// Signs digests.
pub trait Signer {
    /// The signature of a digest: RSASSA-PKCS1-v1_5, or ECDSA as DER or as its two numbers one behind the other.
    fn sign(&self, algorithm: DigestAlgorithm, digest: &[u8]) -> Result<Vec<u8>, SignerError>;
}

/// Why an image was not signed, or its signatures not removed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SignError {
    /// The file can't be signed.
    #[error(transparent)]
    File(#[from] FileError),
    /// It is signed already.
    #[error("the image is signed already")]
    Signed,
    /// There is nothing to remove.
    #[error("the image is not signed")]
    NotSigned,
    /// A signature can't be added to one that is wrong.
    #[error("no signature can be added, because the one that is there is wrong: {0}")]
    Existing(Problem),
    /// The certificate's key can't be used.
    #[error("the certificate can't be used: {0}")]
    Key(#[from] KeyError),
    /// The key is not the one that the certificate is about.
    #[error("the key is not that of the certificate of `{subject}`")]
    OtherKey {
        /// Subject of the certificate.
        subject: String,
    },
    /// Signatures are not made with this digest.
    #[error("signatures are made with SHA-256 or SHA-384, not with {}", .0.name())]
    Digest(DigestAlgorithm),
    /// The description or the address can't be written.
    #[error("{0}")]
    Text(&'static str),
    /// The signer did not sign.
    #[error("{0}")]
    Signer(#[from] SignerError),
    /// What the signer gave is no signature by the certificate's key.
    #[error("what the signer made is no signature with the key of `{subject}` ({key})")]
    WrongSignature {
        /// Subject of the certificate.
        subject: String,
        /// Kind of its key.
        key: String,
    },
    /// There is no timestamp.
    #[error(transparent)]
    Timestamp(#[from] TimestampError),
    /// The signed image does not verify.
    #[error("the signed image does not verify: {0}")]
    Wrong(Problem),
}

/// Who signs: the certificate, and those that lead from it to a root.
#[derive(Clone, Debug)]
pub struct Identity {
    certificates: Vec<Certificate>,
}

impl Identity {
    /// Of the signer's certificate and others, in any order. The same certificate is taken once, and roots are left out:
    /// those who verify have the ones that they trust.
    pub fn new(signer: Certificate, others: Vec<Certificate>) -> Result<Identity, KeyError> {
        signer.key()?.check_for_signing()?;
        let mut certificates = vec![signer];
        for other in others {
            if !other.is_self_issued() && certificates.iter().all(|c| c.as_der() != other.as_der()) {
                certificates.push(other);
            }
        }
        Ok(Identity { certificates })
    }

    /// The signer's certificate.
    pub fn signer(&self) -> &Certificate {
        &self.certificates[0]
    }

    /// The other certificates.
    pub fn others(&self) -> &[Certificate] {
        &self.certificates[1..]
    }

    /// Whether the private key is the signer's.
    pub fn is_of(&self, key: &crate::PrivateKey) -> bool {
        self.signer().public_key_info() == key.public_key_info()
    }
}

/// What to do with an image that is signed already.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Existing {
    /// Refuse it.
    #[default]
    Refuse,
    /// Add a signature beside those that are there.
    Append,
    /// Sign it as if it were not signed.
    Replace,
}

/// How to sign.
#[derive(Clone, Debug)]
pub struct SignOptions {
    /// SHA-256 or SHA-384.
    pub digest: DigestAlgorithm,
    /// Which program it is.
    pub description: Option<String>,
    /// Where more is told of it.
    pub url: Option<String>,
    /// Add a digest for each page.
    pub page_hashes: bool,
    /// What to do with an image that is signed already.
    pub existing: Existing,
}

impl Default for SignOptions {
    /// SHA-256, nothing else.
    fn default() -> SignOptions {
        SignOptions {
            digest: DigestAlgorithm::Sha256,
            description: None,
            url: None,
            page_hashes: false,
            existing: Existing::Refuse,
        }
    }
}

/// Longest description and address, in bytes.
const MAX_TEXT: usize = 4096;

/// Signs an image: gives all its bytes, or none. The same image, signer and options give the same bytes, but for
/// timestamps. What is given has been verified: it is the image that was given, and its signature is one by the signer's
/// certificate.
pub fn sign(
    image: &[u8],
    identity: &Identity,
    signer: &dyn Signer,
    authority: Option<&dyn TimestampAuthority>,
    options: &SignOptions,
) -> Result<Vec<u8>, SignError> {
    check_options(options)?;
    let stripped;
    let image = match (is_signed(image)?, options.existing) {
        (true, Existing::Refuse) => return Err(SignError::Signed),
        (true, Existing::Replace) => {
            stripped = remove_signatures(image)?;
            &stripped
        }
        _ => image,
    };
    let file = PeFile::read(image)?;
    let present = table::signatures(&file)?;
    let signature = make(&file, identity, signer, authority, options)?;
    let signature = match present.first() {
        Some(entry) => nest(&existing(image, entry, present.len())?, signature),
        None => signature,
    };
    let signed = table::with_signature(&file, Some(&signature))?;
    check(image, &signed, Some(identity.signer()))?;
    Ok(signed)
}

/// Whether an image has a certificate table.
pub fn is_signed(image: &[u8]) -> Result<bool, FileError> {
    Ok(!PeFile::read(image)?.table.is_empty())
}

/// The digest of an image that a signature would sign, in hexadecimal: every byte counts but the checksum and signatures.
///
/// # Errors
/// The bytes are no image.
pub fn image_digest(image: &[u8], algorithm: DigestAlgorithm) -> Result<String, FileError> {
    Ok(hex(&PeFile::read(image)?.digest(algorithm)))
}

/// The image without signatures.
pub fn remove_signatures(image: &[u8]) -> Result<Vec<u8>, SignError> {
    let file = PeFile::read(image)?;
    if file.table.is_empty() {
        return Err(SignError::NotSigned);
    }
    Ok(table::with_signature(&file, None)?)
}

fn check_options(options: &SignOptions) -> Result<(), SignError> {
    if !matches!(options.digest, DigestAlgorithm::Sha256 | DigestAlgorithm::Sha384) {
        return Err(SignError::Digest(options.digest));
    }
    let too_long = |text: &Option<String>| text.as_ref().is_some_and(|text| text.len() > MAX_TEXT);
    if too_long(&options.description) || too_long(&options.url) {
        return Err(SignError::Text("the description and the URL may have 4096 bytes"));
    }
    let printable = |url: &String| url.bytes().all(|byte| byte.is_ascii_graphic());
    if !options.url.as_ref().is_none_or(printable) {
        return Err(SignError::Text("the URL may have only printable ASCII characters"));
    }
    Ok(())
}

/// A new signature of an image: a `ContentInfo`.
fn make(
    file: &PeFile<'_>,
    identity: &Identity,
    signer: &dyn Signer,
    authority: Option<&dyn TimestampAuthority>,
    options: &SignOptions,
) -> Result<Vec<u8>, SignError> {
    let algorithm = options.digest;
    let pages = if options.page_hashes {
        Some(page_hashes::table(file, DigestAlgorithm::Sha256)?)
    } else {
        None
    };
    let content = IndirectData::write(algorithm, &file.digest(algorithm), pages);
    let content_value = asn1::only(&content, asn1::SEQUENCE).map_or(&[][..], |element| element.value);
    let opus_info = OpusInfo {
        description: options.description.clone(),
        url: options.url.clone(),
    };
    let purpose = asn1::sequence(&[&asn1::object_identifier(oid::SPC_INDIVIDUAL_PURPOSE)]);
    let digest = asn1::element(asn1::OCTET_STRING, &[&algorithm.digest(&[content_value])]);
    let attributes = vec![
        signed_data::attribute(oid::CONTENT_TYPE, vec![asn1::object_identifier(oid::SPC_INDIRECT_DATA)]),
        signed_data::attribute(oid::SPC_STATEMENT_TYPE, vec![purpose]),
        signed_data::attribute(oid::SPC_OPUS_INFO, vec![opus_info.write()]),
        signed_data::attribute(oid::MESSAGE_DIGEST, vec![digest]),
    ];
    let to_sign = algorithm.digest(&[&asn1::set_of(asn1::SET, attributes.clone())]);
    let key = identity.signer().key()?;
    let signature = key.normalized(signer.sign(algorithm, &to_sign)?);
    if !key.verifies(algorithm, &to_sign, &signature) {
        return Err(SignError::WrongSignature {
            subject: identity.signer().subject().to_owned(),
            key: key.description(),
        });
    }
    let unsigned = match authority {
        Some(authority) => {
            let token = timestamp::request(authority, algorithm, &signature)?;
            let attribute = signed_data::attribute(oid::RFC3161_TIMESTAMP, vec![token]);
            asn1::element(asn1::context(1), &[&attribute])
        }
        None => Vec::new(),
    };
    let leaf = identity.signer();
    let signer_info = asn1::sequence(&[
        &asn1::unsigned(&[1]),
        &asn1::sequence(&[
            leaf.issuer_name(),
            &asn1::element(asn1::INTEGER, &[leaf.serial_digits()]),
        ]),
        &algorithm.identifier(),
        &asn1::set_of(asn1::context(0), attributes),
        &key.signature_identifier(algorithm),
        &asn1::element(asn1::OCTET_STRING, &[&signature]),
        &unsigned,
    ]);
    let certificates = identity.certificates.iter().map(|c| c.as_der().to_vec()).collect();
    Ok(signed_data::content(
        oid::SIGNED_DATA,
        &asn1::sequence(&[
            &asn1::unsigned(&[1]),
            &asn1::element(asn1::SET, &[&algorithm.identifier()]),
            &signed_data::content(oid::SPC_INDIRECT_DATA, &content),
            &asn1::set_of(asn1::context(0), certificates),
            &asn1::element(asn1::SET, &[&signer_info]),
        ]),
    ))
}

/// The signature that another one is added to, if it is right.
fn existing<'a>(image: &[u8], entry: &'a [u8], count: usize) -> Result<SignedData<'a>, SignError> {
    let malformed = |error| SignError::Existing(Problem::Malformed(error));
    if count > 1 {
        return Err(SignError::File(FileError::Table(
            "there are several signatures that are not nested",
        )));
    }
    let report = verify::verify(image, &VerifyOptions::default())?;
    let problems = report.signatures.into_iter().flat_map(|signature| signature.problems);
    if let Some(problem) = problems.into_iter().find(|problem| !problem.is_about_trust()) {
        return Err(SignError::Existing(problem));
    }
    let message = asn1::Reader::new(entry).any().map_err(malformed)?;
    SignedData::read(message.whole).map_err(malformed)
}

/// A signature with another one nested in it, beside those that are nested in it already.
fn nest(data: &SignedData<'_>, signature: Vec<u8>) -> Vec<u8> {
    let mut nested: Vec<Vec<u8>> = data
        .signer
        .unsigned_values(oid::NESTED_SIGNATURE)
        .map(|value| value.whole.to_vec())
        .collect();
    nested.push(signature);
    let others = data
        .signer
        .unsigned_attributes
        .iter()
        .filter(|a| a.kind != oid::NESTED_SIGNATURE);
    let mut attributes: Vec<Vec<u8>> = others
        .map(|attribute| {
            let values = attribute.values.iter().map(|value| value.whole.to_vec()).collect();
            signed_data::attribute(attribute.kind, values)
        })
        .collect();
    attributes.push(signed_data::attribute(oid::NESTED_SIGNATURE, nested));
    data.with_unsigned_attributes(attributes)
}
