//! One flipped byte: every position of a signed image.

use bpf2sys_authenticode::{SignOptions, verify};

use crate::support::{CHECKSUM, DIRECTORY, at, certificates, image, signed};

#[test]
fn every_flipped_byte_is_found_but_in_the_checksum() {
    // Without page hashes, so that it is the digest that finds what was changed.
    let signed = signed(&image(), &SignOptions::default());
    let options = at("2026-06-01", &[&certificates().root]);
    let table = image().len();
    let (mut covered, mut excluded, mut in_table) = (0, 0, 0);
    for position in 0..signed.len() {
        for mask in [0x01, 0x80] {
            let mut changed = signed.clone();
            changed[position] ^= mask;
            let result = verify(&changed, &options);
            let found = match &result {
                Ok(report) => !report.is_good(),
                Err(_) => true,
            };
            assert_eq!(found, !CHECKSUM.contains(&position), "at {position:#x}: {result:?}");
            if CHECKSUM.contains(&position) {
                assert!(result.is_ok_and(|report| !report.checksum_ok));
            }
        }
        match position {
            _ if CHECKSUM.contains(&position) => excluded += 1,
            _ if DIRECTORY.contains(&position) || position >= table => in_table += 1,
            _ => covered += 1,
        }
    }
    assert_eq!((covered, excluded), (0x600 - 4 - 8, 4));
    println!("{covered} covered bytes, {in_table} of the certificate table and its directory entry: every flip found");
}

#[test]
fn covered_bytes_change_the_digest_and_others_do_not() {
    let signed = signed(&image(), &SignOptions::default());
    let options = at("2026-06-01", &[&certificates().root]);
    let digest = |bytes: &[u8]| {
        verify(bytes, &options)
            .ok()
            .map(|r| r.signatures[0].computed_digest.clone())
    };
    let right = digest(&signed).unwrap();
    for position in 0..image().len() {
        let mut changed = signed.clone();
        changed[position] ^= 0x10;
        let Some(found) = digest(&changed) else { continue };
        assert_eq!(found == right, CHECKSUM.contains(&position), "{position:#x}");
    }
}
