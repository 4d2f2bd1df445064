//! The readers of signatures and certificates: the input becomes the certificate table of an image, and is read as a file of
//! certificates as well.

use std::time::Duration;

use bpf2sys_authenticode::{Time, VerifyOptions, is_signed, load, remove_signatures, verify};

const IMAGE: &[u8] = include_bytes!("../../../simulator/testdata/sample.image");

/// Reads the input in both ways. A signature can be taken off, and nothing of it stays.
pub fn run(input: &[u8]) {
    let options = VerifyOptions {
        roots: load::certificates(input).unwrap_or_default(),
        // In January of 2027, whenever it is run.
        at: Time::from_unix(Duration::from_hours(500_000)),
    };
    let signed = with_table(input);
    match verify(&signed, &options) {
        Ok(report) => {
            let problems = report.signatures.iter().flat_map(|signature| &signature.problems);
            problems.for_each(|problem| drop(problem.to_string()));
            let bare = remove_signatures(&signed).unwrap();
            assert!(!is_signed(&bare).unwrap());
        }
        Err(error) => drop(error.to_string()),
    }
}

/// Certificates of the tests. The corpus has signatures that the tool made.
pub fn seeds() -> Vec<Vec<u8>> {
    super::files(&["tests/fixtures"], &["cer"])
}

/// Fields of the optional header, from the start of the PE header.
const DIRECTORY: usize = 24 + 112 + 8 * 4;

/// The image with a table of one entry.
fn with_table(signature: &[u8]) -> Vec<u8> {
    let mut signed = IMAGE.to_vec();
    signed.resize(IMAGE.len().next_multiple_of(8), 0);
    let start = signed.len();
    let length = 8 + signature.len().next_multiple_of(8);
    signed.extend((length as u32).to_le_bytes());
    // WIN_CERT_REVISION_2_0, WIN_CERT_TYPE_PKCS_SIGNED_DATA
    signed.extend([0x00, 0x02, 0x02, 0x00]);
    signed.extend(signature);
    signed.resize(start + length, 0);
    let header = u32::from_le_bytes(IMAGE[0x3C..0x40].try_into().unwrap()) as usize;
    let entry = header + DIRECTORY;
    signed[entry..entry + 4].copy_from_slice(&(start as u32).to_le_bytes());
    signed[entry + 4..entry + 8].copy_from_slice(&(length as u32).to_le_bytes());
    signed
}
