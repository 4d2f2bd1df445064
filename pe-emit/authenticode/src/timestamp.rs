//! RFC 3161 timestamps: asking for one, and verifying one.

use crate::asn1::{self, Asn1Error, Reader};
use crate::certificate::{self, Certificate};
use crate::digest::DigestAlgorithm;
use crate::message;
use crate::oid;
use crate::problem::Problem;
use crate::signed_data::SignedData;
use crate::time::Time;

/// A way to ask a timestamp authority.
pub trait TimestampAuthority {
    /// Sends a `TimeStampReq` (DER), and gives the `TimeStampResp` (DER), or why there is none.
    fn answer(&self, request: &[u8]) -> Result<Vec<u8>, String>;
}

/// Why there is no timestamp.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TimestampError {
    /// The authority did not answer.
    #[error("the timestamp authority did not answer: {0}")]
    NoAnswer(String),
    /// The answer is no `TimeStampResp`.
    #[error("the answer of the timestamp authority is malformed: {0}")]
    Malformed(#[from] Asn1Error),
    /// The authority refused.
    #[error("the timestamp authority refused (status {status}{})", text.as_ref().map(|t| format!(": {t}")).unwrap_or_default())]
    Refused {
        /// `PKIStatus`
        status: u32,
        /// What it says.
        text: Option<String>,
    },
    /// The answer is to another question.
    #[error("the timestamp is not for this request: its nonce is another one")]
    OtherRequest,
    /// The timestamp does not verify.
    #[error("the timestamp does not verify: {0}")]
    Wrong(Problem),
    /// The system gives no random numbers.
    #[error("the system gives no random numbers: {0}")]
    Random(String),
}

/// Asks for a timestamp of a signature, and gives the token: a `ContentInfo`.
pub(crate) fn request(
    authority: &dyn TimestampAuthority,
    algorithm: DigestAlgorithm,
    signature: &[u8],
) -> Result<Vec<u8>, TimestampError> {
    let mut nonce = [0; 16];
    getrandom::fill(&mut nonce).map_err(|e| TimestampError::Random(e.to_string()))?;
    let nonce = asn1::unsigned(&nonce);
    let imprint = asn1::sequence(&[
        &algorithm.identifier(),
        &asn1::element(asn1::OCTET_STRING, &[&algorithm.digest(&[signature])]),
    ]);
    let with_certificates = [asn1::BOOLEAN, 1, 0xFF];
    let request = asn1::sequence(&[&asn1::unsigned(&[1]), &imprint, &nonce, &with_certificates]);
    let answer = authority.answer(&request).map_err(TimestampError::NoAnswer)?;
    let token = token(&answer)?;
    let info = TstInfo::of(&SignedData::read(token)?)?;
    if info.nonce != Some(&nonce) {
        return Err(TimestampError::OtherRequest);
    }
    // Who the authority is may be judged by those who verify; that it stamped this signature is checked here.
    let judged = verify(token, signature, &[], &[]);
    match judged.problems.into_iter().find(|problem| !problem.is_about_trust()) {
        Some(problem) => Err(TimestampError::Wrong(problem)),
        None => Ok(token.to_vec()),
    }
}

/// The token in a `TimeStampResp` (RFC 3161 §2.4.2).
fn token(answer: &[u8]) -> Result<&[u8], TimestampError> {
    let mut response = asn1::only(answer, asn1::SEQUENCE)?.reader();
    let mut info = response.sequence()?;
    let status = info.small_integer()?;
    if status > 1 {
        let text = match info.optional(asn1::SEQUENCE)? {
            Some(texts) => texts.reader().optional(asn1::UTF8_STRING)?,
            None => None,
        };
        let text = text.map(|text| String::from_utf8_lossy(text.value).into_owned());
        return Err(TimestampError::Refused { status, text });
    }
    let token = response.element(asn1::SEQUENCE)?.whole;
    response.end()?;
    Ok(token)
}

/// `TSTInfo`, as far as it is needed.
struct TstInfo<'a> {
    algorithm: Option<DigestAlgorithm>,
    imprint: &'a [u8],
    time: Time,
    /// Whole.
    nonce: Option<&'a [u8]>,
}

impl<'a> TstInfo<'a> {
    fn of(token: &SignedData<'a>) -> Result<TstInfo<'a>, Asn1Error> {
        // The version of messages with content other than data (RFC 5652 §5.1).
        if token.version != 3 || token.content_type != oid::TST_INFO || token.content.tag != asn1::OCTET_STRING {
            return Err(Asn1Error::Value);
        }
        let mut info = asn1::only(token.content.value, asn1::SEQUENCE)?.reader();
        if info.small_integer()? != 1 {
            return Err(Asn1Error::Value);
        }
        info.object_identifier()?; // the authority's policy
        let mut imprint = info.sequence()?;
        let algorithm = DigestAlgorithm::read(imprint.sequence()?)?;
        let digest = imprint.element(asn1::OCTET_STRING)?.value;
        imprint.end()?;
        info.element(asn1::INTEGER)?; // the serial number
        let time = Time::read_generalized(info.element(asn1::GENERALIZED_TIME)?.value)?;
        info.optional(asn1::SEQUENCE)?; // the accuracy
        info.optional(asn1::BOOLEAN)?; // whether timestamps can be ordered
        let nonce = info.optional(asn1::INTEGER)?.map(|nonce| nonce.whole);
        Ok(TstInfo {
            algorithm,
            imprint: digest,
            time,
            nonce,
        })
    }
}

/// What a token is worth.
pub(crate) struct Judged {
    /// The time it states.
    pub time: Option<Time>,
    /// The authority's certificate and those above it.
    pub chain: Vec<Certificate>,
    /// Whether the chain ends at a given root.
    pub trusted: bool,
    pub problems: Vec<Problem>,
}

/// Verifies a token (a `ContentInfo`) of a signature. The chain is judged at the time that the token states, if there are
/// roots. The certificates of the message around it may be needed too.
pub(crate) fn verify(token: &[u8], signature: &[u8], around: &[Certificate], roots: &[Certificate]) -> Judged {
    let mut judged = Judged {
        time: None,
        chain: Vec::new(),
        trusted: false,
        problems: Vec::new(),
    };
    let read = || -> Result<_, Asn1Error> {
        let data = SignedData::read(token)?;
        let info = TstInfo::of(&data)?;
        Ok((data, info))
    };
    let (data, info) = match read() {
        Ok(both) => both,
        Err(error) => {
            judged.problems.push(Problem::Malformed(error));
            return judged;
        }
    };
    judged.time = Some(info.time);
    let mut pool = certificate::readable(&data.certificates);
    pool.extend_from_slice(around);
    let signer = message::signer(&data, &pool);
    message::check(&data, signer, &mut judged.problems);
    match info.algorithm {
        None => judged.problems.push(Problem::UnknownDigest),
        Some(algorithm) if algorithm.digest(&[signature]) != info.imprint => {
            judged.problems.push(Problem::OtherSignature);
        }
        Some(_) => {}
    }
    let Some(signer) = signer else { return judged };
    if !names_certificate(&data, signer) {
        judged.problems.push(Problem::Attribute("signing certificate"));
    }
    let chain = crate::chain::find(signer, &pool, roots);
    judged.problems.extend(chain.problems(info.time, oid::TIME_STAMPING));
    if !roots.is_empty() && !chain.trusted {
        judged.problems.push(crate::verify::untrusted(&chain));
    }
    judged.trusted = chain.trusted;
    judged.chain = chain.certificates.into_iter().cloned().collect();
    judged
}

/// Whether the attribute that binds the token to its certificate does so (RFC 5035 §3, §5): the first in its list is the
/// signer's.
fn names_certificate(data: &SignedData<'_>, signer: &Certificate) -> bool {
    let first = |attribute: crate::asn1::Element<'_>, v2: bool| -> Result<bool, Asn1Error> {
        let mut list: Reader<'_> = attribute.reader().sequence()?;
        let mut id = list.sequence()?;
        let algorithm = match (v2, id.optional(asn1::SEQUENCE)?) {
            (true, Some(algorithm)) => DigestAlgorithm::read(algorithm.reader())?.ok_or(Asn1Error::Value)?,
            (true, None) => DigestAlgorithm::Sha256,
            (false, None) => DigestAlgorithm::Sha1,
            (false, Some(_)) => return Err(Asn1Error::Unexpected),
        };
        let hash = id.element(asn1::OCTET_STRING)?.value;
        Ok(hash == algorithm.digest(&[signer.as_der()]))
    };
    for (kind, v2) in [(oid::SIGNING_CERTIFICATE_V2, true), (oid::SIGNING_CERTIFICATE, false)] {
        if let Ok(Some(attribute)) = data.signer.signed_attribute(kind) {
            return first(attribute, v2) == Ok(true);
        }
    }
    false
}
