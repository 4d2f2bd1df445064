//! What is refused leaves no half-signed file; and builds that sign.

use std::fs;
use std::process::Command;

use libtest_mimic::{Failed, Trial};

use super::keys::{KINDS, SIGNER, made, openssl};
use super::{TOOLS, driver, osslsigncode_takes, sign};
use crate::support::{output, root, succeed, test_with, tool};

pub fn trials() -> Vec<Trial> {
    vec![
        test_with("signing::a_build_signs_as_sign_does", TOOLS, build_signs),
        test_with("signing::a_build_that_can_not_sign_writes_nothing", TOOLS, build_fails),
        test_with("signing::keys_that_do_not_fit_are_refused", TOOLS, keys_that_do_not_fit),
        test_with(
            "signing::several_images_are_signed_and_one_bad_does_not_stop_them",
            TOOLS,
            several,
        ),
    ]
}

fn build(folder: &std::path::Path, arguments: &[&str]) -> Command {
    let mut command = tool();
    command
        .arg("build")
        .arg(root().join("examples/udp_filter/udp_filter.o"));
    command.args(arguments).current_dir(folder);
    command
}

fn build_signs() -> Result<(), Failed> {
    let (made, folder) = (made(), tempfile::tempdir()?);
    let [_, key, _, certificate] = made.signer("rsa2048");
    let options = [
        "--sign-key",
        &key,
        "--sign-cert",
        &certificate,
        "--sign-page-hashes",
        "--sign-digest",
        "sha384",
    ];
    let told = succeed(build(folder.path(), &["--emit", "sys,dll,obj", "--out-dir", "out"]).args(options))?;
    assert!(told.contains("out/udp_filter.sys"), "{told}");
    let out = folder.path().join("out");
    osslsigncode_takes(&out.join("udp_filter.sys"), 1)?;
    osslsigncode_takes(&out.join("udp_filter.dll"), 1)?;
    let image = driver(folder.path())?;
    succeed(sign(&image, &["--page-hashes", "--digest", "sha384"]).args(made.signer("rsa2048")))?;
    assert_eq!(fs::read(image)?, fs::read(out.join("udp_filter.sys"))?);
    Ok(())
}

fn build_fails() -> Result<(), Failed> {
    let (made, folder) = (made(), tempfile::tempdir()?);
    let [_, key, _, certificate] = made.signer("rsa2048");
    let other = made.text("p256.pem");
    let pfx = made.text("rsa2048.pem");
    for (arguments, status, part) in [
        (&["--sign-key", &key, "--sign-cert", &other][..], 7, "BPF7006"),
        (&["--sign-pfx", "none.pfx"], 1, "none.pfx"),
        (&["--sign-pfx", &pfx], 7, "BPF7004"),
        (
            &[
                "--sign-key",
                &key,
                "--sign-cert",
                &certificate,
                "--sign-timestamp",
                "http://127.0.0.1:9/",
            ],
            7,
            "BPF7008",
        ),
        (&["--sign-signer-command", "false {file}"], 7, "BPF7009"),
        (
            &["--sign-key", &key, "--sign-cert", &certificate, "--emit", "obj"],
            2,
            "only drivers and DLLs",
        ),
        (
            &["--sign-timestamp", "http://127.0.0.1:9/"],
            2,
            "`--sign-timestamp` is about a signature",
        ),
    ] {
        let out = output(&mut build(folder.path(), arguments))?;
        let told = String::from_utf8_lossy(&out.stderr);
        assert!(
            out.status.code() == Some(status) && told.contains(part),
            "{arguments:?}: {told}"
        );
        assert_eq!(fs::read_dir(&folder)?.count(), 0, "{arguments:?}");
    }
    Ok(())
}

fn keys_that_do_not_fit() -> Result<(), Failed> {
    let (made, folder) = (made(), tempfile::tempdir()?);
    let image = driver(folder.path())?;
    let before = fs::read(&image)?;
    let rsa = |bits: &'static str| ["-algorithm", "RSA", "-pkeyopt", bits];
    made.issue("small", &rsa("rsa_keygen_bits:1024"), "/CN=small", Some("root"), SIGNER)?;
    let p521 = ["-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-521"];
    made.issue("p521", &p521, "/CN=p521", Some("root"), SIGNER)?;
    made.issue(
        "ed25519",
        &["-algorithm", "ED25519"],
        "/CN=ed25519",
        Some("root"),
        SIGNER,
    )?;
    made.issue("other", KINDS[3].1, "/CN=other", Some("root"), SIGNER)?;
    let mut old = Command::new("openssl");
    old.args(["rsa", "-traditional", "-aes128", "-passout", "pass:x", "-in"])
        .arg(made.file("rsa2048.key"));
    openssl(old.arg("-out").arg(made.file("old.key")))?;
    fs::write(made.file("cut.key"), &fs::read(made.file("rsa2048.key"))?[..400])?;
    fs::write(made.file("empty.key"), b"")?;
    for (key, certificate, code, part) in [
        ("small", "small", "BPF7007", "1024 bits"),
        ("p521", "p521", "BPF7007", "RSA, and ECDSA on P-256 and P-384"),
        ("ed25519", "ed25519", "BPF7007", "RSA, and ECDSA on P-256 and P-384"),
        ("p521", "p256", "BPF7007", "RSA, and ECDSA on P-256 and P-384"),
        ("other", "p256", "BPF7006", "CN=Signer p256"),
        ("old", "rsa2048", "BPF7004", "openssl pkcs8 -topk8"),
        ("cut", "rsa2048", "BPF7004", "has no end"),
        ("empty", "rsa2048", "BPF7004", "malformed"),
    ] {
        let (key_file, certificate) = (
            made.text(&format!("{key}.key")),
            made.text(&format!("{certificate}.pem")),
        );
        let out = output(&mut sign(&image, &["--key", &key_file, "--cert", &certificate]))?;
        let told = String::from_utf8_lossy(&out.stderr);
        assert_eq!(out.status.code(), Some(7), "{key}: {told}");
        assert!(told.contains(code) && told.contains(part), "{key}: {told}");
        assert_eq!(fs::read(&image)?, before, "{key}");
    }
    Ok(())
}

fn several() -> Result<(), Failed> {
    let (made, folder) = (made(), tempfile::tempdir()?);
    let image = driver(folder.path())?;
    let (second, bad) = (folder.path().join("second.sys"), folder.path().join("bad.sys"));
    fs::copy(&image, &second)?;
    fs::write(&bad, &fs::read(&image)?[..3000])?;
    let mut command = sign(&image, &["--out-dir"]);
    command
        .arg(folder.path().join("out"))
        .arg(&bad)
        .arg(&second)
        .args(made.signer("p256"));
    let out = output(&mut command)?;
    let told = String::from_utf8_lossy(&out.stderr);
    assert!(out.status.code() == Some(3) && told.contains("BPF7001"), "{told}");
    let mut names: Vec<_> = fs::read_dir(folder.path().join("out"))?
        .flatten()
        .map(|f| f.file_name())
        .collect();
    names.sort();
    assert_eq!(names, ["driver.sys", "second.sys"]);
    Ok(())
}
