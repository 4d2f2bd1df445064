//! What eBPF for Windows would say.

use libtest_mimic::{Failed, Trial};

use super::keys::{KINDS, SIGNER, made};
use super::{TOOLS, driver, our_report, sign};
use crate::support::{output, succeed, test_with, tool};

pub fn trials() -> Vec<Trial> {
    vec![test_with(
        "signing::verdicts_of_the_service_have_reasons",
        TOOLS,
        verdicts,
    )]
}

/// Name and usages of Microsoft's certificate, by another root.
const SUBJECT: &str =
    "/C=US/ST=Washington/L=Redmond/O=Microsoft Corporation/CN=Microsoft Corporation eBPF Verification";

fn verdicts() -> Result<(), Failed> {
    let (made, folder) = (made(), tempfile::tempdir()?);
    let image = driver(folder.path())?;
    let usages = SIGNER.replace("codeSigning", "codeSigning,1.3.6.1.4.1.311.133.1");
    made.issue("alike", KINDS[3].1, SUBJECT, Some("root"), &usages)?;
    for (signer, reasons) in [
        ("alike", &["8f43288ad272f3103b6fb1428485ea3014c0bcfe"][..]),
        (
            "p384",
            &[
                "8f43288ad272f3103b6fb1428485ea3014c0bcfe",
                "its signer is `DE, Jüdge, Inc., Signer p384`",
                "lacks the extended key usage eBPF verification (1.3.6.1.4.1.311.133.1)",
            ],
        ),
    ] {
        let signed = folder.path().join("signed.sys");
        succeed(sign(&image, &["-o"]).arg(&signed).args(made.signer(signer)))?;
        let report = our_report(&signed, &[&made.root])?;
        let verdicts = report["ebpfsvc"].as_array().ok_or("verdicts")?;
        let accepted: Vec<(&str, bool)> = verdicts
            .iter()
            .filter_map(|v| Some((v["mode"].as_str()?, v["accepted"].as_bool()?)))
            .collect();
        assert_eq!(
            accepted,
            [
                ("production", false),
                ("test_signing", true),
                ("test_signing_with_proof", false)
            ]
        );
        let told = verdicts[0]["reasons"].as_array().ok_or("reasons")?;
        // The first is about the image as a whole.
        assert_eq!(told.len(), 1 + reasons.len(), "{told:?}");
        for reason in reasons {
            assert!(
                told.iter().any(|t| t.as_str().is_some_and(|t| t.contains(reason))),
                "{reason}: {told:?}"
            );
        }
    }
    let out = output(tool().arg("signature").arg(&image))?;
    let (text, told) = (
        String::from_utf8_lossy(&out.stdout),
        String::from_utf8_lossy(&out.stderr),
    );
    assert!(
        text.contains("in production: refused") && text.contains("no embedded signature"),
        "{text}"
    );
    assert!(out.status.code() == Some(7) && told.contains("BPF7003"), "{told}");
    Ok(())
}
