//! Timestamps: ours judged by osslsigncode, theirs by us, and authorities that answer wrongly.

use std::fs;
use std::process::Command;
use std::sync::Mutex;

use libtest_mimic::{Failed, Trial};

use super::keys::made;
use super::{TOOLS, authority, driver, osslsigncode_takes, our_problems, our_report, sign};
use crate::support::{output, succeed, test_with};

pub fn trials() -> Vec<Trial> {
    vec![
        test_with("signing::timestamps_are_verified_by_both_judges", TOOLS, both_judges),
        test_with("signing::their_timestamps_verify", TOOLS, theirs),
        test_with(
            "signing::wrong_answers_of_an_authority_leave_nothing",
            TOOLS,
            wrong_answers,
        ),
    ]
}

fn both_judges() -> Result<(), Failed> {
    let (made, folder) = (made(), tempfile::tempdir()?);
    let url = authority::start_good("good_tsa")?;
    for (kind, digest) in [("rsa2048", "sha256"), ("p384", "sha384")] {
        let image = driver(folder.path())?;
        succeed(sign(&image, &["--digest", digest, "--timestamp", &url]).args(made.signer(kind)))?;
        let text = osslsigncode_takes(&image, 1)?;
        for part in ["Timestamp time:", "CN=Judge TSA", "Timestamp verified using:"] {
            assert!(text.contains(part), "{part}\n{text}");
        }
        let report = our_report(&image, &[&made.root, &made.timestamp_root])?;
        let stamp = &report["signatures"][0]["timestamp"];
        assert_eq!(stamp["verified"], true, "{report}");
        assert_eq!(stamp["chain"][0]["subject"], "CN=Judge TSA");
        assert_eq!(stamp["time"], report["signatures"][0]["judged_at"]);

        // The certificate has ended, and the signature has not; without trust in the authority it has.
        let later = ["--at", "2099-01-01"];
        assert_eq!(our_problems(&image, &[&made.root, &made.timestamp_root], &later)?.0, 0);
        let (status, told) = our_problems(&image, &[&made.root], &later)?;
        assert!(
            status == 7 && told.contains("the timestamp: the chain of `CN=Judge TSA`"),
            "{told}"
        );
        assert!(told.contains("and not at 2099-01-01"), "{told}");

        // A second signature leaves the timestamp of the first as it is.
        succeed(sign(&image, &["--append", "--timestamp", &url]).args(made.signer("p256")))?;
        osslsigncode_takes(&image, 2)?;
        our_report(&image, &[&made.root, &made.timestamp_root])?;
    }
    Ok(())
}

fn theirs() -> Result<(), Failed> {
    let (made, folder) = (made(), tempfile::tempdir()?);
    let url = authority::start_good("their_tsa")?;
    let image = driver(folder.path())?;
    let signed = folder.path().join("signed.sys");
    let mut command = Command::new("osslsigncode");
    command
        .args(["sign", "-h", "sha256", "-ts", &url, "-certs"])
        .arg(made.file("rsa2048.pem"));
    command.arg("-key").arg(made.file("rsa2048.key"));
    succeed(command.arg("-in").arg(&image).arg("-out").arg(&signed))?;
    let report = our_report(&signed, &[&made.root, &made.timestamp_root])?;
    assert_eq!(report["signatures"][0]["timestamp"]["verified"], true, "{report}");
    Ok(())
}

fn wrong_answers() -> Result<(), Failed> {
    let (made, folder) = (made(), tempfile::tempdir()?);
    let image = driver(folder.path())?;
    let before = fs::read(&image)?;
    let refusing = b"\x30\x0F\x30\x0D\x02\x01\x02\x30\x08\x0C\x06closed".to_vec();
    let replaying = {
        let (folder, first) = (authority::prepare("replaying_tsa")?, Mutex::new(None));
        authority::start(move |request| {
            let answer = authority::stamp(&folder, request)?;
            let mut first = first.lock().map_err(|e| e.to_string())?;
            Ok(("200 OK", first.get_or_insert(answer).clone()))
        })?
    };
    // So that what is replayed is an answer to another request.
    let sink = folder.path().join("sink.sys");
    let mut first = sign(&image, &["--timestamp", &replaying, "-o"]);
    succeed(first.arg(&sink).args(made.signer("p256")))?;
    let changing = {
        let folder = authority::prepare("changing_tsa")?;
        authority::start(move |request| {
            let mut answer = authority::stamp(&folder, request)?;
            let last = answer.len() - 1;
            answer[last] ^= 1; // of the signature
            Ok(("200 OK", answer))
        })?
    };
    for (url, part) in [
        (
            authority::start(move |_| Ok(("200 OK", refusing.clone())))?,
            "refused (status 2: closed)",
        ),
        (authority::start(|_| Ok(("500 Oops", Vec::new())))?, "500"),
        (authority::start(|_| Ok(("200 OK", b"<html>".to_vec())))?, "malformed"),
        (authority::start(|_| Ok(("200 OK", Vec::new())))?, "malformed"),
        (authority::start(|_| Ok(("200 OK", vec![0; 2 << 20])))?, "limit"),
        (authority::start(|_| Err("gone".into()))?, "did not answer"),
        (replaying, "nonce"),
        (changing, "does not verify"),
    ] {
        let out = output(sign(&image, &["--timestamp", &url]).args(made.signer("p256")))?;
        let told = String::from_utf8_lossy(&out.stderr);
        assert_eq!(out.status.code(), Some(7), "{part}: {told}");
        assert!(told.contains("BPF7008") && told.contains(part), "{part}: {told}");
        assert_eq!(fs::read(&image)?, before, "{part}");
    }
    Ok(())
}
