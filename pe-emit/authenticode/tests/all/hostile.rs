//! Whatever is read: an error or a report, never a panic.

use bpf2sys_authenticode::load::{self, PasswordError};
use std::time::{Duration, Instant};

use bpf2sys_authenticode::{Certificate, Existing, FileError, Problem, SignOptions, remove_signatures, sign, verify};
use zeroize::Zeroizing;

use crate::support::{CHECKSUM, at, certificates, identity, image, signed};

/// Numbers that look random, the same in each run.
struct Numbers(u64);

impl Numbers {
    fn next(&mut self, below: usize) -> usize {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % below
    }
}

/// Some of the bytes changed, taken out, or put in twice.
fn mutated(bytes: &[u8], from: usize, numbers: &mut Numbers) -> Vec<u8> {
    let mut changed = bytes.to_vec();
    for _ in 0..=numbers.next(4) {
        let position = from + numbers.next(changed.len() - from);
        match numbers.next(4) {
            0 => changed[position] ^= 1 << numbers.next(8),
            1 => changed[position] = [0, 0x7F, 0x80, 0x84, 0xFF, 0x30, 0xA0][numbers.next(7)],
            2 => drop(changed.drain(position..(position + numbers.next(8)).min(changed.len()))),
            _ => {
                let piece = changed[position..(position + numbers.next(40)).min(changed.len())].to_vec();
                changed.splice(position..position, piece);
            }
        }
        if changed.len() <= from + 1 {
            break;
        }
    }
    changed
}

#[test]
fn signatures_that_were_changed_at_random_are_errors_or_reports() {
    let two = SignOptions {
        page_hashes: true,
        existing: Existing::Append,
        ..SignOptions::default()
    };
    let signed = signed(&signed(&image(), &SignOptions::default()), &two);
    let options = at("2026-06-01", &[&certificates().root]);
    let table = image().len();
    let mut numbers = Numbers(1);
    for round in 0..2500 {
        let mut changed = mutated(&signed, if round % 2 == 0 { table } else { 0 }, &mut numbers);
        if round % 4 == 0 && changed.len() > table + 8 {
            // As if the sizes around it were right, so that what is inside is read.
            changed.resize(changed.len().next_multiple_of(8), 0);
            let size = ((changed.len() - table) as u32).to_le_bytes();
            changed[table..table + 4].copy_from_slice(&size);
            changed[crate::support::DIRECTORY][4..].copy_from_slice(&size);
        }
        if verify(&changed, &options).is_ok_and(|report| report.is_good()) {
            // A change in the checksum, or one that undid another.
            changed[CHECKSUM].copy_from_slice(&signed[CHECKSUM]);
            assert_eq!(changed, signed, "round {round}");
        }
        let _ = sign(&changed, &identity(), &certificates().key, None, &two);
        let _ = remove_signatures(&changed);
    }
}

/// A large image with as many signatures as are read, each of which states a digest of it.
#[test]
fn many_signatures_of_a_large_image_take_bounded_time() {
    const ENTRIES: usize = 16;
    let mut small = image();
    for number in 0..=16 {
        let options = SignOptions {
            description: Some(format!("signature {number}")),
            page_hashes: true,
            existing: Existing::Append,
            ..SignOptions::default()
        };
        small = signed(&small, &options);
    }
    let entry = &small[image().len()..];
    let with = |entries: usize| {
        let mut large = image();
        large.resize(16 << 20, 0);
        let size = (entry.len() * entries) as u32;
        large[crate::support::DIRECTORY][..4].copy_from_slice(&(16u32 << 20).to_le_bytes());
        large[crate::support::DIRECTORY][4..].copy_from_slice(&size.to_le_bytes());
        large.extend(entry.repeat(entries));
        verify(&large, &at("2026-06-01", &[]))
    };
    let start = Instant::now();
    let report = with(ENTRIES).unwrap();
    let taken = start.elapsed();
    assert_eq!(report.signatures.len(), ENTRIES * 17);
    assert!(
        report
            .signatures
            .iter()
            .all(|s| s.problems.contains(&Problem::DigestMismatch))
    );
    assert!(taken < Duration::from_secs(10), "{taken:?}");
    assert!(matches!(with(ENTRIES + 1), Err(FileError::Table(_))));
}

#[test]
fn what_is_cut_off_is_an_error() {
    let signed = signed(&image(), &SignOptions::default());
    let options = at("2026-06-01", &[&certificates().root]);
    for length in 0..signed.len() {
        assert!(
            verify(&signed[..length], &options).is_err() || length == 0x600,
            "{length}"
        );
    }
}

#[test]
fn keys_and_certificates_that_were_changed_are_errors_or_read() {
    let made = certificates();
    let pfx = load::write_pfx(&made.key, &[&made.signer, &made.root], "secret").unwrap();
    let key = made.key.to_pkcs8().unwrap();
    let mut numbers = Numbers(7);
    let mut ask = || -> Result<Zeroizing<String>, PasswordError> { Ok(Zeroizing::new("secret".into())) };
    for round in 0..600 {
        let certificate = mutated(made.signer.as_der(), 0, &mut numbers);
        let _ = Certificate::from_der(&certificate);
        let _ = load::certificates(&certificate);
        let _ = load::private_key(&mutated(&key, 0, &mut numbers), &mut ask);
        if round % 20 == 0 {
            let _ = load::pfx(&mutated(&pfx, 0, &mut numbers), &mut ask);
        }
    }
    for length in (0..pfx.len()).step_by(7) {
        assert!(load::pfx(&pfx[..length], &mut ask).is_err(), "{length}");
    }
}
