//! Page hashes: a digest for each page of the image, so that Windows can check a page when it is paged in.
//!
//! Entries are a file offset (32 bits) and a digest: the headers first, then each 4096 bytes of each section's raw data, the
//! rest of a page filled with zeros; then the offset where the last section ends, with a digest of zeros. The headers
//! are without the bytes that no signature covers. Digests are SHA-256, or in old signatures SHA-1, whatever the signature's
//! own digest is. No document of Microsoft tells this form; it is what signing tools of Windows write and osslsigncode checks.

use crate::asn1::{self, Asn1Error, Reader};
use crate::digest::DigestAlgorithm;
use crate::file::{FileError, PeFile};
use crate::oid;

/// Size of a page in memory, in bytes.
const PAGE: usize = 4096;

/// GUID of the serialized object, a6b586d5-b4a1-2466-ae05-a217da8e60d6 as signing tools of Windows write it.
const CLASS_ID: [u8; 16] = [
    0xA6, 0xB5, 0x86, 0xD5, 0xB4, 0xA1, 0x24, 0x66, 0xAE, 0x05, 0xA2, 0x17, 0xDA, 0x8E, 0x60, 0xD6,
];

/// Page hashes as a signature has them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct PageHashes<'a> {
    pub algorithm: DigestAlgorithm,
    pub table: &'a [u8],
}

impl PageHashes<'_> {
    /// Number of pages: all entries but the last one, which only says where the pages end.
    pub(crate) fn pages(&self) -> usize {
        (self.table.len() / entry_size(self.algorithm)).saturating_sub(1)
    }

    /// Whether they are those of this image.
    pub(crate) fn are_of(&self, file: &PeFile<'_>) -> bool {
        table(file, self.algorithm).is_ok_and(|expected| expected == self.table)
    }
}

fn entry_size(algorithm: DigestAlgorithm) -> usize {
    match algorithm {
        DigestAlgorithm::Sha1 => 4 + 20,
        _ => 4 + 32,
    }
}

/// The table of an image.
pub(crate) fn table<'f>(file: &'f PeFile<'_>, algorithm: DigestAlgorithm) -> Result<&'f [u8], FileError> {
    let known = file.page_tables[algorithm as usize].get_or_init(|| compute(file, algorithm));
    known.as_deref().map_err(|error| *error)
}

fn compute(file: &PeFile<'_>, algorithm: DigestAlgorithm) -> Result<Vec<u8>, FileError> {
    let headers = file.size_of_headers as usize;
    // Windows maps such images in one piece, and knows no page hashes of them.
    if file.section_alignment as usize != PAGE || headers > PAGE {
        return Err(FileError::Headers(
            "page hashes need sections that are aligned to 4096 bytes",
        ));
    }
    // Windows maps no image whose sections share raw data, and hashing it again for each could take long.
    let size: usize = file.sections.iter().map(|section| section.size as usize).sum();
    if size > file.bytes.len() {
        return Err(FileError::Headers("sections share raw data"));
    }
    let entry_size = entry_size(algorithm);
    let zeros = [0; PAGE];
    let mut table = 0u32.to_le_bytes().to_vec();
    let end = headers.max(file.directory + 8);
    table.extend(algorithm.digest(&[
        &file.bytes[..file.checksum],
        &file.bytes[file.checksum + 4..file.directory],
        &file.bytes[file.directory + 8..end],
        &zeros[..PAGE - headers],
    ]));
    let mut last = headers as u32;
    for section in &file.sections {
        let data = &file.bytes[section.offset as usize..][..section.size as usize];
        for (index, page) in data.chunks(PAGE).enumerate() {
            table.extend((section.offset + (index * PAGE) as u32).to_le_bytes());
            table.extend(algorithm.digest(&[page, &zeros[page.len()..]]));
        }
        last = section.offset + section.size;
    }
    table.extend(last.to_le_bytes());
    table.resize(table.len() + entry_size - 4, 0);
    Ok(table)
}

/// `SpcSerializedObject` with a table of SHA-256 digests, under the tag of `SpcLink`'s moniker.
pub(crate) fn write(table: &[u8]) -> Vec<u8> {
    let attribute = asn1::sequence(&[
        &asn1::object_identifier(oid::SPC_PAGE_HASHES_SHA256),
        &asn1::element(asn1::SET, &[&asn1::element(asn1::OCTET_STRING, &[table])]),
    ]);
    let serialized = asn1::element(asn1::SET, &[&attribute]);
    asn1::element(
        asn1::context(1),
        &[
            &asn1::element(asn1::OCTET_STRING, &[&CLASS_ID]),
            &asn1::element(asn1::OCTET_STRING, &[&serialized]),
        ],
    )
}

/// Reads the contents of a `SpcSerializedObject`. None if it is of another class.
pub(crate) fn read(mut object: Reader<'_>) -> Result<Option<PageHashes<'_>>, Asn1Error> {
    let class = object.element(asn1::OCTET_STRING)?;
    let serialized = object.element(asn1::OCTET_STRING)?;
    object.end()?;
    if class.value != CLASS_ID {
        return Ok(None);
    }
    let mut attributes = asn1::only(serialized.value, asn1::SET)?.reader();
    let mut attribute = attributes.sequence()?;
    attributes.end()?;
    let algorithm = match attribute.object_identifier()? {
        oid::SPC_PAGE_HASHES_SHA1 => DigestAlgorithm::Sha1,
        oid::SPC_PAGE_HASHES_SHA256 => DigestAlgorithm::Sha256,
        _ => return Err(Asn1Error::Value),
    };
    let values = attribute.element(asn1::SET)?;
    attribute.end()?;
    let table = asn1::only(values.value, asn1::OCTET_STRING)?.value;
    Ok(Some(PageHashes { algorithm, table }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::file::RawData;

    const IMAGE: &[u8] = include_bytes!("../../../tests/fixtures/codes/misbehave.sys");

    #[test]
    fn each_byte_of_the_table_counts() {
        let file = PeFile::read(IMAGE).unwrap();
        for algorithm in [DigestAlgorithm::Sha1, DigestAlgorithm::Sha256] {
            let right = table(&file, algorithm).unwrap().to_vec();
            let are_right = |table: &[u8]| PageHashes { algorithm, table }.are_of(&file);
            assert!(are_right(&right));
            assert!(!are_right(&right[..right.len() - entry_size(algorithm)]));
            for position in 0..right.len() {
                let mut wrong = right.clone();
                wrong[position] ^= 1;
                assert!(!are_right(&wrong), "{position}");
            }
        }
    }

    #[test]
    fn sections_that_share_raw_data_have_none() {
        let mut file = PeFile::read(IMAGE).unwrap();
        let whole = RawData {
            offset: 0,
            size: IMAGE.len() as u32,
        };
        file.sections = vec![whole; 2];
        let shared = FileError::Headers("sections share raw data");
        assert_eq!(table(&file, DigestAlgorithm::Sha256), Err(shared));
    }

    #[test]
    fn written_page_hashes_are_read() {
        let read = |object: &[u8]| {
            let object = asn1::only(object, asn1::context(1)).unwrap();
            read(object.reader()).map(|hashes| hashes.map(|h| (h.algorithm, h.table.to_vec())))
        };
        let mut written = write(&[7; 72]);
        assert_eq!(read(&written), Ok(Some((DigestAlgorithm::Sha256, vec![7; 72]))));
        let class = written.windows(16).position(|w| w == CLASS_ID).unwrap();
        written[class] ^= 1;
        assert_eq!(read(&written), Ok(None), "an object of another class");
    }
}
