//! What Authenticode adds to CMS: the content that is signed, and two signed attributes ("Windows Authenticode Portable
//! Executable Signature Format", 2008).

use crate::asn1::{self, Asn1Error, Element, Reader};
use crate::digest::DigestAlgorithm;
use crate::oid;
use crate::page_hashes::{self, PageHashes};

/// `SpcIndirectDataContent`: which digest of which kind of file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct IndirectData<'a> {
    /// `None` is an algorithm that is not known.
    pub algorithm: Option<DigestAlgorithm>,
    pub digest: &'a [u8],
    pub page_hashes: Option<PageHashes<'a>>,
}

impl IndirectData<'_> {
    /// Reads the whole element.
    pub(crate) fn read(content: &[u8]) -> Result<IndirectData<'_>, Asn1Error> {
        let mut content = asn1::only(content, asn1::SEQUENCE)?.reader();
        let (mut data, mut digest) = (content.sequence()?, content.sequence()?);
        content.end()?;
        if data.object_identifier()? != oid::SPC_PE_IMAGE_DATA {
            return Err(Asn1Error::Value);
        }
        let mut image = data.sequence()?;
        data.end()?;
        image.element(asn1::BIT_STRING)?;
        let link = image.element(asn1::context(0))?;
        image.end()?;
        let mut link = link.reader();
        let file = link.any()?;
        link.end()?;
        let page_hashes = if file.tag == asn1::context(1) {
            page_hashes::read(file.reader())?
        } else {
            None
        };
        let algorithm = DigestAlgorithm::read(digest.sequence()?)?;
        let value = digest.element(asn1::OCTET_STRING)?.value;
        digest.end()?;
        Ok(IndirectData {
            algorithm,
            digest: value,
            page_hashes,
        })
    }

    /// The whole element, for a digest of an image, and its table of page hashes.
    pub(crate) fn write(algorithm: DigestAlgorithm, digest: &[u8], page_hashes: Option<&[u8]>) -> Vec<u8> {
        let file = match page_hashes {
            Some(table) => page_hashes::write(table),
            // An empty name, in UTF-16.
            None => asn1::element(asn1::context(2), &[&[asn1::context_primitive(0), 0]]),
        };
        let no_flags = [asn1::BIT_STRING, 1, 0];
        let image = asn1::sequence(&[&no_flags, &asn1::element(asn1::context(0), &[&file])]);
        asn1::sequence(&[
            &asn1::sequence(&[&asn1::object_identifier(oid::SPC_PE_IMAGE_DATA), &image]),
            &asn1::sequence(&[&algorithm.identifier(), &asn1::element(asn1::OCTET_STRING, &[digest])]),
        ])
    }
}

/// `SpcSpOpusInfo`: what the signer says of the file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct OpusInfo {
    pub description: Option<String>,
    pub url: Option<String>,
}

impl OpusInfo {
    pub(crate) fn read(value: &Element<'_>) -> Result<OpusInfo, Asn1Error> {
        if value.tag != asn1::SEQUENCE {
            return Err(Asn1Error::Unexpected);
        }
        let mut fields = value.reader();
        let description = match fields.optional(asn1::context(0))? {
            Some(name) => Some(string(name.reader())?),
            None => None,
        };
        let url = match fields.optional(asn1::context(1))? {
            Some(link) => Some(url(link.reader())?),
            None => None,
        };
        fields.end()?;
        Ok(OpusInfo { description, url })
    }

    pub(crate) fn write(&self) -> Vec<u8> {
        let description = self.description.as_ref().map_or(Vec::new(), |text| {
            let utf16: Vec<u8> = text.encode_utf16().flat_map(u16::to_be_bytes).collect();
            asn1::element(
                asn1::context(0),
                &[&asn1::element(asn1::context_primitive(0), &[&utf16])],
            )
        });
        let url = self.url.as_ref().map_or(Vec::new(), |url| {
            asn1::element(
                asn1::context(1),
                &[&asn1::element(asn1::context_primitive(0), &[url.as_bytes()])],
            )
        });
        asn1::sequence(&[&description, &url])
    }
}

/// `SpcString`: UTF-16 or ASCII.
fn string(mut choice: Reader<'_>) -> Result<String, Asn1Error> {
    let text = choice.any()?;
    choice.end()?;
    match text.tag {
        0x80 => utf16(text.value),
        0x81 => ascii(text.value),
        _ => Err(Asn1Error::Unexpected),
    }
}

/// `SpcLink`: an address, or the name of a file.
fn url(mut choice: Reader<'_>) -> Result<String, Asn1Error> {
    let link = choice.any()?;
    choice.end()?;
    match link.tag {
        0x80 => ascii(link.value),
        0xA2 => string(link.reader()),
        _ => Err(Asn1Error::Unexpected),
    }
}

fn utf16(bytes: &[u8]) -> Result<String, Asn1Error> {
    let (units, rest) = bytes.as_chunks::<2>();
    if !rest.is_empty() {
        return Err(Asn1Error::Value);
    }
    let units = units.iter().map(|unit| u16::from_be_bytes(*unit));
    Ok(char::decode_utf16(units)
        .map(|c| c.unwrap_or(char::REPLACEMENT_CHARACTER))
        .collect())
}

fn ascii(bytes: &[u8]) -> Result<String, Asn1Error> {
    if !bytes.is_ascii() {
        return Err(Asn1Error::Value);
    }
    Ok(bytes.iter().map(|byte| char::from(*byte)).collect())
}
