//! DSSE envelopes (Dead Simple Signing Envelope 1.0).

use base64ct::{Base64, Base64Url, Encoding};
use serde::{Deserialize, Serialize};

use super::{Attester, MAX_STATEMENT, ProvenanceError, PublicKey};

/// What the payload is.
const PAYLOAD_TYPE: &str = "application/vnd.in-toto+json";

/// Most signatures of an envelope that are looked at.
const MAX_SIGNATURES: usize = 64;

/// An envelope as a file has it. Fields that DSSE does not know are ignored, as it demands: they are not signed.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Wire {
    payload: String,
    payload_type: String,
    signatures: Vec<WireSignature>,
}

#[derive(Serialize, Deserialize)]
struct WireSignature {
    /// A hint that nothing depends on.
    #[serde(default)]
    keyid: String,
    sig: String,
}

/// An envelope around an in-toto statement.
#[derive(Debug)]
pub(crate) struct Envelope {
    /// The bytes of the statement, exactly as they are signed.
    pub payload: Vec<u8>,
    signatures: Vec<Vec<u8>>,
}

impl Envelope {
    /// Whether one of the signatures is that of a key.
    pub(crate) fn is_signed_by(&self, key: &PublicKey) -> bool {
        let message = pre_authentication_encoding(&self.payload);
        self.signatures
            .iter()
            .any(|signature| key.verifies(&message, signature))
    }
}

/// Signs a statement: the text of a `.jsonl` file with one line.
pub(crate) fn seal(payload: &[u8], attester: &Attester) -> Result<Vec<u8>, crate::Error> {
    let signature = attester.sign(&pre_authentication_encoding(payload))?;
    let wire = Wire {
        payload: Base64::encode_string(payload),
        payload_type: PAYLOAD_TYPE.to_owned(),
        signatures: vec![WireSignature {
            keyid: attester.key().id(),
            sig: Base64::encode_string(&signature),
        }],
    };
    let text = serde_json::to_string(&wire).map_err(|e| crate::ErrorKind::Internal(e.to_string()))?;
    Ok((text + "\n").into_bytes())
}

/// Reads a file with one envelope.
pub(crate) fn read(file: &[u8]) -> Result<Envelope, ProvenanceError> {
    let malformed = |what: String| ProvenanceError::Statement(what);
    if file.len() > MAX_STATEMENT {
        return Err(malformed(format!("it has more than {} MiB", MAX_STATEMENT >> 20)));
    }
    let wire: Wire = serde_json::from_slice(file)
        .map_err(|e| malformed(format!("it is no DSSE envelope with one statement: {e}")))?;
    if wire.payload_type != PAYLOAD_TYPE {
        return Err(malformed(format!(
            "the payload of the envelope is `{}`, and not `{PAYLOAD_TYPE}`",
            wire.payload_type
        )));
    }
    if wire.signatures.is_empty() || wire.signatures.len() > MAX_SIGNATURES {
        return Err(malformed(format!(
            "the envelope has {} signatures; there must be 1 to {MAX_SIGNATURES}",
            wire.signatures.len()
        )));
    }
    let decoded = |text: &str, what: &str| decode(text).ok_or_else(|| malformed(format!("the {what} is not Base64")));
    Ok(Envelope {
        payload: decoded(&wire.payload, "payload of the envelope")?,
        signatures: (wire.signatures.iter())
            .map(|signature| decoded(&signature.sig, "signature of the envelope"))
            .collect::<Result<_, _>>()?,
    })
}

/// Base64 of both alphabets: readers of DSSE must take either.
fn decode(text: &str) -> Option<Vec<u8>> {
    Base64::decode_vec(text).or_else(|_| Base64Url::decode_vec(text)).ok()
}

/// What is signed, `PAE` of DSSE: the type and the payload with their lengths in front.
fn pre_authentication_encoding(payload: &[u8]) -> Vec<u8> {
    let head = format!("DSSEv1 {} {PAYLOAD_TYPE} {} ", PAYLOAD_TYPE.len(), payload.len());
    [head.as_bytes(), payload].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_signed_is_as_dsse_says() {
        assert_eq!(
            pre_authentication_encoding(b"{\"a\": 1}"),
            b"DSSEv1 28 application/vnd.in-toto+json 8 {\"a\": 1}"
        );
    }

    #[test]
    fn both_alphabets_are_read_and_nothing_else() {
        assert_eq!(decode("+/+/"), decode("-_-_"));
        assert_eq!(decode("+/+/"), Some(vec![0xFB, 0xFF, 0xBF]));
        for bad in ["+_+_", "YQ", "Y Q=", "YQ==\n", "*"] {
            assert_eq!(decode(bad), None, "{bad}");
        }
    }

    #[test]
    fn files_that_are_no_envelope_are_refused() {
        let envelope = |kind: &str, signatures: &str| {
            format!(r#"{{"payload":"e30=","payloadType":"{kind}","signatures":[{signatures}]}}"#)
        };
        let one = r#"{"keyid":"a","sig":"AA=="}"#;
        let good = envelope(PAYLOAD_TYPE, one);
        assert_eq!(read(good.as_bytes()).unwrap().payload, b"{}");
        for (bad, part) in [
            (String::new(), "no DSSE envelope"),
            ("[]".into(), "no DSSE envelope"),
            (format!("{good}\n{good}"), "with one statement"),
            (envelope("text/plain", one), "text/plain"),
            (envelope(PAYLOAD_TYPE, ""), "0 signatures"),
            (envelope(PAYLOAD_TYPE, &[one; 65].join(",")), "65 signatures"),
            (envelope(PAYLOAD_TYPE, r#"{"sig":"?"}"#), "Base64"),
            (envelope(PAYLOAD_TYPE, r#"{"keyid":"a"}"#), "no DSSE envelope"),
        ] {
            let error = read(bad.as_bytes()).unwrap_err().to_string();
            assert!(error.contains(part), "{bad}: {error}");
        }
    }
}
