//! A small image, and certificates.

use std::sync::OnceLock;

use bpf2sys_authenticode::{
    Certificate, Identity, NewCertificates, NewKey, Report, SignOptions, TestCertificates, Time, VerifyOptions, sign,
    verify,
};

/// Where the fields are in [`image`] that no signature covers.
pub const CHECKSUM: std::ops::Range<usize> = 0x98..0x9C;
pub const DIRECTORY: std::ops::Range<usize> = 0xE8..0xF0;

/// A PE32+ image with two sections, of 1,536 bytes.
pub fn image() -> Vec<u8> {
    let mut bytes = vec![0; 0x200];
    let mut put = |offset: usize, field: &[u8]| bytes[offset..offset + field.len()].copy_from_slice(field);
    put(0, b"MZ");
    put(0x3C, &0x40u32.to_le_bytes());
    put(0x40, b"PE\0\0\x64\x86");
    put(0x46, &2u16.to_le_bytes()); // sections
    put(0x54, &240u16.to_le_bytes()); // size of the optional header
    put(0x58, &0x20Bu16.to_le_bytes());
    put(0x58 + 32, &0x1000u32.to_le_bytes()); // section alignment
    put(0x58 + 36, &0x200u32.to_le_bytes()); // file alignment
    put(0x58 + 60, &0x200u32.to_le_bytes()); // size of headers
    put(0x58 + 108, &16u32.to_le_bytes()); // directories
    for (index, size) in [(0, 0x200u32), (1, 0x200)] {
        let header = 0x58 + 240 + 40 * index;
        put(header, b".text");
        put(header + 16, &size.to_le_bytes());
        put(header + 20, &(0x200 + 0x200 * index as u32).to_le_bytes());
    }
    bytes.extend((0..0x400).map(|index| (index * 7 % 251) as u8));
    bytes
}

pub fn certificates() -> &'static TestCertificates {
    static MADE: OnceLock<TestCertificates> = OnceLock::new();
    MADE.get_or_init(|| new_certificates("Tests", NewKey::P256))
}

pub fn new_certificates(name: &str, key: NewKey) -> TestCertificates {
    let new = NewCertificates {
        name: name.into(),
        key,
        from: "2026-01-01".parse().unwrap(),
        days: 365,
    };
    new.make().unwrap()
}

pub fn identity() -> Identity {
    Identity::new(certificates().signer.clone(), Vec::new()).unwrap()
}

pub fn signed(image: &[u8], options: &SignOptions) -> Vec<u8> {
    sign(image, &identity(), &certificates().key, None, options).unwrap()
}

pub fn at(time: &str, roots: &[&Certificate]) -> VerifyOptions {
    VerifyOptions {
        roots: roots.iter().map(|root| (*root).clone()).collect(),
        at: time.parse::<Time>().unwrap(),
    }
}

/// Judged in the middle of the certificates' validity, by their root.
pub fn judged(image: &[u8]) -> Report {
    verify(image, &at("2026-06-01", &[&certificates().root])).unwrap()
}

/// The kinds of problems of the signature with this index.
pub fn problems(report: &Report, index: usize) -> Vec<&'static str> {
    report.signatures[index]
        .problems
        .iter()
        .map(bpf2sys_authenticode::Problem::kind)
        .collect()
}
