//! One flipped byte in a signed driver.

use std::fs;

use bpf2sys_authenticode::{Report, Time, VerifyOptions, load, verify};
use libtest_mimic::{Failed, Trial};

use super::keys::made;
use super::{TOOLS, authority, driver, osslsigncode, our_problems, sign};
use crate::support::{succeed, test_with};

pub fn trials() -> Vec<Trial> {
    vec![
        test_with("signing::every_flipped_byte_of_a_driver_is_found", TOOLS, every_byte),
        test_with("signing::every_flipped_byte_of_a_timestamp_is_found", TOOLS, timestamp),
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
    // Without page hashes, so that it is the digest that finds what was changed.
    succeed(sign(&image, &[]).args(made.signer("p256")))?;
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
        let good = result.as_ref().is_ok_and(Report::is_good);
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

/// A timestamp is in no part of the file that the digest covers, and is signed itself. Only a root that its authority sent is of no use
/// to those who have it.
fn timestamp() -> Result<(), Failed> {
    let (made, folder) = (made(), tempfile::tempdir()?);
    let image = driver(folder.path())?;
    let url = authority::start_good("flipped_tsa")?;
    succeed(sign(&image, &["--timestamp", &url]).args(made.signer("p256")))?;
    let signed = fs::read(&image)?;
    let read = |path| load::certificates(&fs::read(path)?).map_err(|e| Failed::from(e.to_string()));
    let roots = [read(&made.root)?, read(&made.timestamp_root)?].concat();
    let sent = roots[1].as_der().to_vec();
    let place = signed
        .windows(sent.len())
        .position(|window| *window == *sent)
        .ok_or("no root of the authority")?;
    // Long after the certificates have ended: it is good only because of the timestamp.
    let at = "2099-01-01".parse()?;
    let options = VerifyOptions { roots, at };
    let mut found = 0;
    for position in Excluded::of(&signed).table..signed.len() {
        let mut changed = signed.clone();
        changed[position] ^= 1 << (position % 8);
        let good = verify(&changed, &options).is_ok_and(|report| Report::is_good(&report));
        if good && !(place..place + sent.len()).contains(&position) {
            return Err(format!("the flip at {position:#x} was not found").into());
        }
        found += usize::from(!good);
    }
    println!(
        "{found} of {} flipped bytes of a table with a timestamp found",
        signed.len() - Excluded::of(&signed).table
    );
    assert!(found + sent.len() >= signed.len() - Excluded::of(&signed).table);
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
