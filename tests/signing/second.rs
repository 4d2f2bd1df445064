//! A second signature beside the first, and removing signatures.

use std::fs;
use std::process::Command;

use libtest_mimic::{Failed, Trial};

use super::keys::made;
use super::{TOOLS, driver, osslsigncode_takes, our_report, sign};
use crate::support::{output, succeed, test_with};

pub fn trials() -> Vec<Trial> {
    vec![
        test_with("signing::a_second_signature_stands_beside_the_first", TOOLS, second),
        test_with("signing::removing_signatures_gives_the_image_back", TOOLS, removing),
    ]
}

fn second() -> Result<(), Failed> {
    let (made, folder) = (made(), tempfile::tempdir()?);
    let image = driver(folder.path())?;
    succeed(sign(&image, &[]).args(made.signer("rsa2048")))?;
    let one = fs::read(&image)?;
    let refused = output(sign(&image, &[]).args(made.signer("p256")))?;
    assert_eq!(refused.status.code(), Some(7));
    assert!(String::from_utf8_lossy(&refused.stderr).contains("BPF7002"));
    assert_eq!(fs::read(&image)?, one);

    // Ours beside ours, theirs beside both, ours beside all.
    succeed(sign(&image, &["--append", "--digest", "sha384"]).args(made.signer("p256")))?;
    osslsigncode_takes(&image, 2)?;
    let nested = folder.path().join("nested.sys");
    let mut theirs = Command::new("osslsigncode");
    theirs
        .args(["sign", "-nest", "-h", "sha256", "-certs"])
        .arg(made.file("rsa3072.pem"));
    theirs.arg("-key").arg(made.file("rsa3072.key"));
    succeed(theirs.arg("-in").arg(&image).arg("-out").arg(&nested))?;
    succeed(sign(&nested, &["--append"]).args(made.signer("p384")))?;
    osslsigncode_takes(&nested, 4)?;
    let report = our_report(&nested, &[&made.root])?;
    let signatures = report["signatures"].as_array().ok_or("signatures")?;
    let places: Vec<bool> = signatures.iter().filter_map(|s| s["nested"].as_bool()).collect();
    assert_eq!(places, [false, true, true, true]);

    // By two names the same file would be signed twice at a time.
    let mut twice = sign(&image, &["--append"]);
    twice
        .arg(folder.path().join(".").join("driver.sys"))
        .args(made.signer("p384"));
    let refused = output(&mut twice)?;
    let told = String::from_utf8_lossy(&refused.stderr);
    assert!(
        refused.status.code() == Some(2) && told.contains("two images would be written"),
        "{told}"
    );

    succeed(sign(&nested, &["--replace"]).args(made.signer("rsa2048")))?;
    assert_eq!(fs::read(&nested)?, one, "signed as the first time");
    Ok(())
}

fn removing() -> Result<(), Failed> {
    let (made, folder) = (made(), tempfile::tempdir()?);
    let image = driver(folder.path())?;
    let unsigned = fs::read(&image)?;
    succeed(sign(&image, &[]).args(made.signer("rsa2048")))?;
    let theirs = folder.path().join("theirs.sys");
    let mut command = Command::new("osslsigncode");
    succeed(
        command
            .arg("remove-signature")
            .arg("-in")
            .arg(&image)
            .arg("-out")
            .arg(&theirs),
    )?;
    succeed(&mut sign(&image, &["--remove"]))?;
    assert_eq!(fs::read(&image)?, unsigned);
    assert_eq!(fs::read(&theirs)?, unsigned, "osslsigncode gives the same");
    let again = output(&mut sign(&image, &["--remove"]))?;
    assert_eq!(again.status.code(), Some(7));
    assert!(String::from_utf8_lossy(&again.stderr).contains("BPF7003"));
    Ok(())
}
