//! The matrix: kind of key × digest × judge, in both directions.

use std::fs;
use std::process::Command;

use libtest_mimic::{Failed, Trial};

use super::keys::{KINDS, made};
use super::{TOOLS, driver, osslsigncode_takes, our_report, sign};
use crate::support::{succeed, test_with};

const DIGESTS: [&str; 2] = ["sha256", "sha384"];

pub fn trials() -> Vec<Trial> {
    let mut trials = Vec::new();
    for (kind, _) in KINDS {
        trials.push(test_with(
            &format!("signing::{kind}_signs_and_both_judges_verify"),
            TOOLS,
            move || we_sign(kind),
        ));
        trials.push(test_with(
            &format!("signing::what_osslsigncode_signs_with_{kind}_verifies"),
            TOOLS,
            move || they_sign(kind),
        ));
    }
    trials
}

fn we_sign(kind: &str) -> Result<(), Failed> {
    let (made, folder) = (made(), tempfile::tempdir()?);
    let image = driver(folder.path())?;
    let before = fs::read(&image)?;
    for digest in DIGESTS {
        let signed = folder.path().join(format!("{digest}.sys"));
        let mut command = sign(&image, &["--digest", digest, "--page-hashes", "-o"]);
        command
            .arg(&signed)
            .args(made.signer(kind))
            .arg("--chain")
            .arg(&made.root);
        let told = succeed(command.args(["--description", "Fälter", "--url", "https://example.com/x"]))?;
        let added = fs::metadata(&signed)?.len() as usize - before.len();
        assert!(told.contains(&format!("{added} bytes added")), "{told}");

        let report = our_report(&signed, &[&made.root])?;
        let signature = &report["signatures"][0];
        assert_eq!(signature["digest_algorithm"], digest);
        assert_eq!(signature["trusted"], true);
        assert_eq!(signature["description"], "Fälter");
        assert_eq!(signature["page_hashes"]["verified"], true);
        assert_eq!(report["checksum_ok"], true);

        let text = osslsigncode_takes(&signed, 1)?;
        let computed = signature["computed_digest"].as_str().unwrap_or_default().to_uppercase();
        for part in [
            format!("Calculated message digest : {computed}"),
            format!("Message digest algorithm  : {}", digest.to_uppercase()),
            "URL description: https://example.com/x".into(),
            "Text description: Fälter".into(),
        ] {
            assert!(text.contains(&part), "{part}\n{text}");
        }
        same_page_hashes(&text)?;
        same_checksum(&text)?;
    }
    assert_eq!(fs::read(&image)?, before, "the input is as it was");
    Ok(())
}

/// osslsigncode computes the page hashes that the signature states.
fn same_page_hashes(text: &str) -> Result<(), Failed> {
    let value = |name: &str| {
        let line = text.lines().find(|line| line.starts_with(name));
        line.and_then(|line| line.split_once(": "))
            .map(|(_, value)| value.trim().to_owned())
    };
    match (value("Page hash  "), value("Calculated page hash")) {
        (Some(stated), Some(calculated)) if stated == calculated => Ok(()),
        other => Err(format!("page hashes: {other:?}\n{text}").into()),
    }
}

/// It prints a second line if the checksum is another one than it computes.
fn same_checksum(text: &str) -> Result<(), Failed> {
    if text.contains("PE checksum") && !text.contains("Calculated PE checksum") {
        return Ok(());
    }
    let lines: Vec<&str> = text.lines().filter(|line| line.contains("checksum")).collect();
    match lines.as_slice() {
        [stated, calculated] if stated.split(": ").nth(1) == calculated.split(": ").nth(1) => Ok(()),
        lines => Err(format!("{lines:?}").into()),
    }
}

fn they_sign(kind: &str) -> Result<(), Failed> {
    let (made, folder) = (made(), tempfile::tempdir()?);
    let image = driver(folder.path())?;
    for digest in DIGESTS {
        for pages in [false, true] {
            let signed = folder.path().join(format!("{digest}_{pages}.sys"));
            let mut command = Command::new("osslsigncode");
            command.args([
                "sign",
                "-h",
                digest,
                "-n",
                "Their filter",
                "-i",
                "http://their.example/",
            ]);
            if pages {
                command.arg("-ph");
            }
            command.arg("-certs").arg(made.file(&format!("{kind}.pem")));
            command.arg("-key").arg(made.file(&format!("{kind}.key")));
            succeed(command.arg("-in").arg(&image).arg("-out").arg(&signed))?;
            let report = our_report(&signed, &[&made.root])?;
            let signature = &report["signatures"][0];
            assert_eq!(signature["problems"].as_array().map(Vec::len), Some(0));
            assert_eq!(signature["digest_algorithm"], digest);
            assert_eq!(signature["description"], "Their filter");
            assert_eq!(signature["url"], "http://their.example/");
            assert_eq!(signature["page_hashes"].is_object(), pages);
        }
    }
    Ok(())
}
