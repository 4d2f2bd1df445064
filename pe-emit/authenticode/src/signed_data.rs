//! CMS `SignedData` with one signer (RFC 5652 §5), read in place, and written again with other unsigned attributes.

use der::asn1::ObjectIdentifier;

use crate::asn1::{self, Asn1Error, Element, Reader};
use crate::digest::DigestAlgorithm;
use crate::oid;
use crate::public_key::SignatureAlgorithm;

/// Most certificates that a message may carry.
const MAX_CERTIFICATES: usize = 64;
/// Most attributes, and values of one attribute, that are read.
const MAX_ATTRIBUTES: usize = 64;

/// A message. All slices are parts of the bytes that it was read from.
#[derive(Clone, Debug)]
pub(crate) struct SignedData<'a> {
    /// `version`, whole.
    pub version: u32,
    /// `digestAlgorithms`, whole.
    digest_algorithms: &'a [u8],
    pub content_type: ObjectIdentifier,
    /// The element inside of `eContent`.
    pub content: Element<'a>,
    /// The certificates, each whole, in the order of the message.
    pub certificates: Vec<&'a [u8]>,
    /// `certificates` and `crls`, whole.
    certificate_set: &'a [u8],
    revocation_set: &'a [u8],
    pub signer: SignerInfo<'a>,
}

/// Who signed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SignerIdentifier<'a> {
    /// The issuer's name, whole, and the serial number's digits.
    IssuerAndSerial { issuer: &'a [u8], serial: &'a [u8] },
    /// The certificate's subject key identifier.
    KeyIdentifier(&'a [u8]),
}

/// A signer's signature.
#[derive(Clone, Debug)]
pub(crate) struct SignerInfo<'a> {
    pub identifier: SignerIdentifier<'a>,
    /// `None` is an algorithm that is not known.
    pub digest: Option<DigestAlgorithm>,
    /// The signed attributes as they are signed but for the first byte: whole, with the tag `[0]`.
    signed: &'a [u8],
    pub signed_attributes: Vec<Attribute<'a>>,
    /// `None` is an algorithm that is not known.
    pub signature_algorithm: Option<SignatureAlgorithm>,
    pub signature: &'a [u8],
    pub unsigned_attributes: Vec<Attribute<'a>>,
    /// Everything before the unsigned attributes.
    before_unsigned: &'a [u8],
}

/// An attribute.
#[derive(Clone, Debug)]
pub(crate) struct Attribute<'a> {
    pub kind: ObjectIdentifier,
    pub values: Vec<Element<'a>>,
}

/// The fields of the `SignedData` in a `ContentInfo`, behind which there may be nothing (RFC 5652 §3, §5.1).
pub(crate) fn fields(bytes: &[u8]) -> Result<Reader<'_>, Asn1Error> {
    let mut info = asn1::only(bytes, asn1::SEQUENCE)?.reader();
    if info.object_identifier()? != oid::SIGNED_DATA {
        return Err(Asn1Error::Value);
    }
    let content = info.element(asn1::context(0))?;
    info.end()?;
    Ok(asn1::only(content.value, asn1::SEQUENCE)?.reader())
}

impl<'a> SignedData<'a> {
    /// Reads a `ContentInfo`, behind which there may be nothing.
    pub(crate) fn read(bytes: &'a [u8]) -> Result<SignedData<'a>, Asn1Error> {
        let mut data = fields(bytes)?;
        let version = data.small_integer()?;
        let digest_algorithms = data.element(asn1::SET)?;
        let mut encapsulated = data.sequence()?;
        let content_type = encapsulated.object_identifier()?;
        let mut content = encapsulated.element(asn1::context(0))?.reader();
        encapsulated.end()?;
        let only_content = content.any()?;
        content.end()?;
        let certificates = data.optional(asn1::context(0))?;
        let revocation = data.optional(asn1::context(1))?;
        let mut signers = data.element(asn1::SET)?.reader();
        data.end()?;
        let signer = SignerInfo::read(signers.element(asn1::SEQUENCE)?)?;
        // Windows looks at the first signer only, and no tool makes several.
        signers.end()?;
        // The list is not signed: it may hold nothing but algorithms, of which one is the signer's.
        let mut named = false;
        for algorithm in elements(&digest_algorithms, MAX_ATTRIBUTES)? {
            if algorithm.tag != asn1::SEQUENCE {
                return Err(Asn1Error::Unexpected);
            }
            named |= DigestAlgorithm::read(algorithm.reader())? == signer.digest;
        }
        if !named {
            return Err(Asn1Error::Value);
        }
        Ok(SignedData {
            version,
            digest_algorithms: digest_algorithms.whole,
            content_type,
            content: only_content,
            certificates: match &certificates {
                Some(set) => elements(set, MAX_CERTIFICATES)?.iter().map(|c| c.whole).collect(),
                None => Vec::new(),
            },
            certificate_set: certificates.map_or(&[], |set| set.whole),
            revocation_set: revocation.map_or(&[], |set| set.whole),
            signer,
        })
    }

    /// The same message with these unsigned attributes, each whole: a `ContentInfo`.
    pub(crate) fn with_unsigned_attributes(&self, attributes: Vec<Vec<u8>>) -> Vec<u8> {
        let unsigned = if attributes.is_empty() {
            Vec::new()
        } else {
            asn1::set_of(asn1::context(1), attributes)
        };
        let signer = asn1::sequence(&[self.signer.before_unsigned, &unsigned]);
        content(
            oid::SIGNED_DATA,
            &asn1::sequence(&[
                &asn1::unsigned(&self.version.to_be_bytes()),
                self.digest_algorithms,
                &content(self.content_type, self.content.whole),
                self.certificate_set,
                self.revocation_set,
                &asn1::element(asn1::SET, &[&signer]),
            ]),
        )
    }
}

impl<'a> SignerInfo<'a> {
    fn read(element: Element<'a>) -> Result<SignerInfo<'a>, Asn1Error> {
        let mut info = element.reader();
        let version = info.small_integer()?;
        let identifier = if let Some(key) = info.optional(asn1::context_primitive(0))? {
            SignerIdentifier::KeyIdentifier(key.value)
        } else {
            let mut identifier = info.sequence()?;
            let issuer = identifier.element(asn1::SEQUENCE)?.whole;
            let serial = identifier.element(asn1::INTEGER)?.value;
            identifier.end()?;
            SignerIdentifier::IssuerAndSerial { issuer, serial }
        };
        let stated = match identifier {
            SignerIdentifier::IssuerAndSerial { .. } => 1,
            SignerIdentifier::KeyIdentifier(_) => 3,
        };
        if version != stated {
            return Err(Asn1Error::Value);
        }
        let digest = DigestAlgorithm::read(info.sequence()?)?;
        // Without signed attributes nothing says what kind of content is signed; no tool leaves them out.
        let signed = info.element(asn1::context(0))?;
        let signature_algorithm = SignatureAlgorithm::read(info.sequence()?)?;
        let signature = info.element(asn1::OCTET_STRING)?.value;
        let unsigned = info.optional(asn1::context(1))?;
        info.end()?;
        let unsigned_size = unsigned.map_or(0, |set| set.whole.len());
        Ok(SignerInfo {
            identifier,
            digest,
            signed: signed.whole,
            signed_attributes: attributes(&signed)?,
            signature_algorithm,
            signature,
            unsigned_attributes: match &unsigned {
                Some(set) => attributes(set)?,
                None => Vec::new(),
            },
            before_unsigned: &element.value[..element.value.len() - unsigned_size],
        })
    }

    /// The digest that is signed: of the signed attributes as a set (RFC 5652 §5.4).
    pub(crate) fn signed_digest(&self, algorithm: DigestAlgorithm) -> Vec<u8> {
        algorithm.digest(&[&[asn1::SET], &self.signed[1..]])
    }

    /// The only value of a signed attribute, which may be there once. `None` if it is not there.
    pub(crate) fn signed_attribute(&self, kind: ObjectIdentifier) -> Result<Option<Element<'a>>, Asn1Error> {
        let mut found = self.signed_attributes.iter().filter(|a| a.kind == kind);
        let Some(attribute) = found.next() else {
            return Ok(None);
        };
        match (found.next(), attribute.values.as_slice()) {
            (None, [value]) => Ok(Some(*value)),
            _ => Err(Asn1Error::Value),
        }
    }

    /// All values of the unsigned attributes of a kind.
    pub(crate) fn unsigned_values(&self, kind: ObjectIdentifier) -> impl Iterator<Item = Element<'a>> {
        let attributes = self.unsigned_attributes.iter().filter(move |a| a.kind == kind);
        attributes.flat_map(|attribute| attribute.values.iter().copied())
    }
}

/// The attributes of a set, which is not empty.
fn attributes<'a>(set: &Element<'a>) -> Result<Vec<Attribute<'a>>, Asn1Error> {
    let elements = elements(set, MAX_ATTRIBUTES)?;
    let read = |element: &Element<'a>| {
        if element.tag != asn1::SEQUENCE {
            return Err(Asn1Error::Unexpected);
        }
        let mut attribute = element.reader();
        let kind = attribute.object_identifier()?;
        let values = attribute.element(asn1::SET)?;
        attribute.end()?;
        Ok(Attribute {
            kind,
            values: self::elements(&values, MAX_ATTRIBUTES)?,
        })
    };
    elements.iter().map(read).collect()
}

fn elements<'a>(set: &Element<'a>, most: usize) -> Result<Vec<Element<'a>>, Asn1Error> {
    let mut reader: Reader<'a> = set.reader();
    let mut found = Vec::new();
    while !reader.is_empty() {
        if found.len() == most {
            return Err(Asn1Error::Value);
        }
        found.push(reader.any()?);
    }
    Ok(found)
}

/// An attribute with these values, each whole.
pub(crate) fn attribute(kind: ObjectIdentifier, values: Vec<Vec<u8>>) -> Vec<u8> {
    asn1::sequence(&[&asn1::object_identifier(kind), &asn1::set_of(asn1::SET, values)])
}

/// `EncapsulatedContentInfo` or `ContentInfo` with this content, whole.
pub(crate) fn content(kind: ObjectIdentifier, content: &[u8]) -> Vec<u8> {
    asn1::sequence(&[
        &asn1::object_identifier(kind),
        &asn1::element(asn1::context(0), &[content]),
    ])
}
