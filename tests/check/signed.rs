//! Signatures that the tool itself made, read by `check`: from the file, not from facts of a test.

use std::path::{Path, PathBuf};

use goblin::pe::PE;
use libtest_mimic::{Failed, Trial};
use sha2::{Digest, Sha256};

use crate::support::{output, root, succeed, test, tool};

pub fn trials() -> Vec<Trial> {
    vec![
        test("check::a_signature_is_read_and_judged", judged),
        test(
            "check::a_signed_image_keeps_every_rule_on_both_machines",
            keeps_every_rule,
        ),
    ]
}

/// A test signer in a folder. Elliptic curves, because such keys are made at once.
fn signer(folder: &Path) -> Result<(PathBuf, PathBuf), Failed> {
    succeed(tool().args(["cert", "new", "--key", "p256", "--out-dir"]).arg(folder))?;
    Ok((folder.join("signing.pfx"), folder.join("root.cer")))
}

/// Status of `check`, and the rules that it says are broken.
fn check(image: &Path, arguments: &[&str]) -> Result<(Option<i32>, Vec<String>), Failed> {
    let out = output(tool().arg("check").arg(image).args(arguments))?;
    let told = String::from_utf8_lossy(&out.stderr).into_owned();
    let rules = told.lines().filter_map(|line| {
        let (rule, _) = line.strip_prefix("error[BPF5020]: `")?.split_once('`')?;
        Some(rule.to_owned())
    });
    Ok((out.status.code(), rules.collect()))
}

fn judged() -> Result<(), Failed> {
    let folder = tempfile::tempdir()?;
    let (pfx, root_certificate) = signer(folder.path())?;
    let image = folder.path().join("image.sys");
    let object = root().join("examples/flow_log/flow_log.o");
    succeed(
        tool()
            .args(["build", "-q", "-o"])
            .arg(&image)
            .arg("--sign-pfx")
            .arg(&pfx)
            .arg(object),
    )?;
    let test_signed = ["--policy", "test-signed"];
    let root_certificate = root_certificate.to_string_lossy();
    assert_eq!(check(&image, &test_signed)?, (Some(0), Vec::new()));

    let production = ["--policy", "production", "--root", &root_certificate];
    let (status, broken) = check(&image, &production)?;
    assert_eq!(
        (status, broken),
        (
            Some(6),
            ["sign.production-root", "sign.production-subject"]
                .map(str::to_owned)
                .into()
        )
    );

    // One byte of a constant, with the checksum put right: only the digest tells.
    let good = std::fs::read(&image)?;
    let mut changed = good.clone();
    let place = changed
        .windows(9)
        .position(|bytes| bytes == b"flow_log\0")
        .ok_or("no name")?;
    changed[place] ^= 0x20;
    right_checksum(&mut changed)?;
    std::fs::write(&image, &changed)?;
    let (status, broken) = check(&image, &test_signed)?;
    assert_eq!(status, Some(6));
    assert!(broken.contains(&"sign.digest".to_owned()), "{broken:?}");
    assert!(!broken.contains(&"sign.signature".to_owned()), "{broken:?}");

    // One byte of the signature's value, which is at its end.
    let last = good.iter().rposition(|byte| *byte != 0).ok_or("nothing")?;
    let value = &good[last - 16..last];
    damaged_value(&image, good.clone(), value)?;

    // The same where another signature, which is right, is beside it.
    std::fs::write(&image, &good)?;
    let mut append = tool();
    append.args(["sign", "-q", "--append", "--description", "second", "--pfx"]);
    succeed(append.arg(&pfx).arg(&image))?;
    assert_eq!(check(&image, &test_signed)?, (Some(0), Vec::new()));
    damaged_value(&image, std::fs::read(&image)?, value)
}

/// One bit of the value of a signature, which ends in these bytes, is another one.
fn damaged_value(image: &Path, mut bytes: Vec<u8>, value: &[u8]) -> Result<(), Failed> {
    let place = bytes.windows(value.len()).position(|window| window == value);
    bytes[place.ok_or("no value")?] ^= 1;
    right_checksum(&mut bytes)?;
    std::fs::write(image, &bytes)?;
    assert_eq!(
        check(image, &["--policy", "test-signed"])?,
        (Some(6), vec!["sign.signature".to_owned()])
    );
    Ok(())
}

fn right_checksum(bytes: &mut [u8]) -> Result<(), Failed> {
    let (at, sum) = {
        let image = bpf2sys_simulator::image::Image::parse(bytes)?;
        (image.checksum_offset(), image.computed_checksum())
    };
    bytes[at..at + 4].copy_from_slice(&sum.to_le_bytes());
    Ok(())
}

fn keeps_every_rule() -> Result<(), Failed> {
    let folder = tempfile::tempdir()?;
    let (pfx, _) = signer(folder.path())?;
    let object = root().join("examples/tail_dispatch/tail_dispatch.o");
    let mut build = tool();
    build.args(["build", "-q", "--arch", "x64,arm64", "--sign-page-hashes", "--out-dir"]);
    succeed(build.arg(folder.path()).arg("--sign-pfx").arg(&pfx).arg(object))?;
    for machine in ["x64", "arm64"] {
        let image = folder.path().join(format!("tail_dispatch.{machine}.sys"));
        assert_eq!(
            check(&image, &["--policy", "test-signed"])?,
            (Some(0), Vec::new()),
            "{machine}"
        );
        goblin_agrees(&image)?;
    }
    Ok(())
}

/// Another reader finds the certificate table, and the same digest over what a signature covers.
fn goblin_agrees(image: &Path) -> Result<(), Failed> {
    let bytes = std::fs::read(image)?;
    let pe = PE::parse(&bytes)?;
    assert_eq!(pe.certificates.len(), 1);
    let digest = pe
        .authenticode_ranges()
        .fold(Sha256::new(), Sha256::chain_update)
        .finalize();
    let digest: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
    let report: serde_json::Value = serde_json::from_str(&succeed(tool().args(["signature", "--json"]).arg(image))?)?;
    assert_eq!(report["signatures"][0]["stated_digest"], digest.as_str());
    Ok(())
}
