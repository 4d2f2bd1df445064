//! One flipped byte in a signed driver.

use std::fs;

use bpf2sys_authenticode::{Time, VerifyOptions, load, verify};
use libtest_mimic::{Failed, Trial};

use super::keys::made;
use super::{TOOLS, driver, osslsigncode, our_problems, sign};
use crate::support::{succeed, test_with};

pub fn trials() -> Vec<Trial> {
    vec![
        test_with("signing::every_flipped_byte_of_a_driver_is_found", TOOLS, every_byte),
        test_with("signing::both_judges_find_the_same_flipped_bytes", TOOLS, both_judges),
    ]
}

/// Where the two fields are that no signature covers, and where the certificate table begins.
struct Excluded {
    checksum: std::ops::Range<usize>,
    directory: std::ops::Range<usize>,
    table: usize,
}

impl Excluded {
    fn of(image: &[u8]) -> Excluded {
        let word = |at: usize| u32::from_le_bytes([image[at], image[at + 1], image[at + 2], image[at + 3]]) as usize;
        let optional = word(0x3C) + 24;
        let directory = optional + 112 + 4 * 8;
        Excluded {
            checksum: optional + 64..optional + 68,
            directory: directory..directory + 8,
            table: word(directory),
        }
    }

    fn covered(&self, position: usize) -> bool {
        position < self.table && !self.checksum.contains(&position) && !self.directory.contains(&position)
    }
}

fn every_byte() -> Result<(), Failed> {
    let (made, folder) = (made(), tempfile::tempdir()?);
    let image = driver(folder.path())?;
    succeed(sign(&image, &["--page-hashes"]).args(made.signer("p256")))?;
    let signed = fs::read(&image)?;
    let excluded = Excluded::of(&signed);
    let options = VerifyOptions {
        roots: load::certificates(&fs::read(&made.root)?).map_err(|e| e.to_string())?,
        at: Time::now(),
    };
    let (mut covered, mut found) = (0, 0);
    for position in 0..signed.len() {
        let mut changed = signed.clone();
        changed[position] ^= 1 << (position % 8);
        let result = verify(&changed, &options);
        let good = result.as_ref().is_ok_and(bpf2sys_authenticode::Report::is_good);
        assert_eq!(good, excluded.checksum.contains(&position), "{position:#x}: {result:?}");
        covered += usize::from(excluded.covered(position));
        found += usize::from(!good);
    }
    // Of the positions that are not covered, the checksum's are free; the others are where the signature is.
    assert_eq!(covered, excluded.table - 4 - 8);
    assert_eq!(found, signed.len() - 4);
    println!("{found} flipped bytes found, {covered} of them covered by the digest; 4 of the checksum are free");
    Ok(())
}

fn both_judges() -> Result<(), Failed> {
    let (made, folder) = (made(), tempfile::tempdir()?);
    let image = driver(folder.path())?;
    succeed(sign(&image, &["--page-hashes"]).args(made.signer("rsa2048")))?;
    let signed = fs::read(&image)?;
    let excluded = Excluded::of(&signed);
    let step = excluded.table / 12;
    let mut positions: Vec<usize> = (3..excluded.table).step_by(step).collect();
    positions.extend([
        excluded.checksum.start,
        excluded.table - 1,
        signed.len() / 2 + excluded.table / 2,
    ]);
    for position in positions {
        let mut changed = signed.clone();
        changed[position] ^= 0x04;
        fs::write(&image, &changed)?;
        let ours = our_problems(&image, &[&made.root], &[])?.0 == 0;
        let theirs = osslsigncode(&image, &made.root, &made.root)?.0;
        assert_eq!(ours, theirs, "at {position:#x}");
        assert_eq!(ours, excluded.checksum.contains(&position), "at {position:#x}");
    }
    Ok(())
}
