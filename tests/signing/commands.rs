//! `--signer-command`: programs that sign digests or files, and programs that do so wrongly.

use std::fs;
use std::path::Path;

use libtest_mimic::{Failed, Trial};

use super::keys::made;
use super::{TOOLS, driver, osslsigncode_takes, our_report, sign};
use crate::support::{output, succeed, test_with};

pub fn trials() -> Vec<Trial> {
    vec![
        test_with("signing::a_command_signs_digests", TOOLS, digests),
        test_with("signing::a_command_signs_files", TOOLS, files),
        test_with("signing::what_a_command_made_wrongly_is_not_used", TOOLS, wrong),
        test_with("signing::templates_and_options_must_fit", TOOLS, usage),
    ]
}

/// `openssl pkeyutl` with the key of this name.
fn pkeyutl(key: &str) -> String {
    let key = made().text(&format!("{key}.key"));
    format!("openssl pkeyutl -sign -inkey '{key}' -in {{digest}} -out {{signature}} -pkeyopt digest:{{algorithm}}")
}

fn digests() -> Result<(), Failed> {
    let (made, folder) = (made(), tempfile::tempdir()?);
    let image = driver(folder.path())?;
    for (kind, digest) in [("rsa4096", "sha384"), ("p256", "sha256"), ("p384", "sha384")] {
        let (by_command, by_key) = (folder.path().join("command.sys"), folder.path().join("key.sys"));
        let certificate = made.text(&format!("{kind}.pem"));
        let mut command = sign(
            &image,
            &["--page-hashes", "--digest", digest, "--cert", &certificate, "-o"],
        );
        succeed(command.arg(&by_command).args(["--signer-command", &pkeyutl(kind)]))?;
        our_report(&by_command, &[&made.root])?;
        osslsigncode_takes(&by_command, 1)?;
        let mut command = sign(&image, &["--page-hashes", "--digest", digest, "-o"]);
        succeed(command.arg(&by_key).args(made.signer(kind)))?;
        if kind == "rsa4096" {
            assert_eq!(
                fs::read(&by_command)?,
                fs::read(&by_key)?,
                "RSA signatures have no random numbers"
            );
        }
    }
    // As a token does it that only adds padding.
    let (by_token, by_key) = (folder.path().join("token.sys"), folder.path().join("key.sys"));
    let (key, certificate) = (made.text("rsa2048.key"), made.text("rsa2048.pem"));
    let raw = format!("openssl pkeyutl -sign -inkey '{key}' -in {{digest_info}} -out {{signature}}");
    let mut command = sign(&image, &["--cert", &certificate, "--signer-command", &raw, "-o"]);
    succeed(command.arg(&by_token))?;
    succeed(sign(&image, &["-o"]).arg(&by_key).args(made.signer("rsa2048")))?;
    assert_eq!(fs::read(&by_token)?, fs::read(&by_key)?);
    Ok(())
}

/// A program that gets the path of the file to sign, as a script with this text.
fn script(folder: &Path, name: &str, text: &str) -> Result<String, Failed> {
    let path = folder.join(name);
    fs::write(&path, text)?;
    Ok(format!("sh '{}' {{file}}", path.display()))
}

/// A script that signs with osslsigncode.
fn signing_script(signer: &str, more: &str) -> String {
    let made = made();
    let (key, certificate) = (made.text(&format!("{signer}.key")), made.text(&format!("{signer}.pem")));
    format!(
        "osslsigncode sign {more} -h sha256 -certs '{certificate}' -key '{key}' -in \"$1\" -out \"$1.out\" && mv \"$1.out\" \"$1\"\n"
    )
}

fn files() -> Result<(), Failed> {
    let (made, folder) = (made(), tempfile::tempdir()?);
    let image = driver(folder.path())?;
    let template = script(folder.path(), "sign.sh", &signing_script("rsa2048", "-ph"))?;
    let certificate = made.text("rsa2048.pem");
    succeed(&mut sign(
        &image,
        &["--signer-command", &template, "--cert", &certificate],
    ))?;
    osslsigncode_takes(&image, 1)?;
    our_report(&image, &[&made.root])?;
    // Without a certificate anybody may have signed; on request beside what is there, or in its place.
    let nesting = script(folder.path(), "nest.sh", &signing_script("p256", "-nest"))?;
    assert_eq!(
        output(&mut sign(&image, &["--signer-command", &nesting]))?
            .status
            .code(),
        Some(7)
    );
    succeed(&mut sign(&image, &["--signer-command", &nesting, "--append"]))?;
    osslsigncode_takes(&image, 2)?;
    succeed(&mut sign(&image, &["--signer-command", &template, "--replace"]))?;
    osslsigncode_takes(&image, 1).map(|_| ())
}

fn wrong() -> Result<(), Failed> {
    let (made, folder) = (made(), tempfile::tempdir()?);
    let image = driver(folder.path())?;
    let before = fs::read(&image)?;
    let good = signing_script("rsa2048", "");
    let certificate = made.text("rsa2048.pem");
    // The byte at 0x500 is in a section.
    let change = "printf '\\377' | dd of=\"$1\" bs=1 seek=1280 conv=notrunc 2>/dev/null\n";
    // Behind the image is the signature, and here a certificate in it.
    let inside = before.len() + 400;
    let swap = format!("dd if=/dev/zero of=\"$1\" bs=1 count=7 seek={inside} conv=notrunc 2>/dev/null\n");
    let scripts = [
        (
            "does nothing",
            String::new(),
            "BPF7010",
            "not exactly one new signature",
        ),
        (
            "signs another image",
            format!("{change}{good}"),
            "BPF7010",
            "not the image that was to be signed",
        ),
        (
            "changes what it signed",
            format!("{good}{change}"),
            "BPF7010",
            "not the image that was to be signed",
        ),
        ("damages the signature", format!("{good}{swap}"), "BPF7010", ""),
        (
            "signs by somebody else",
            signing_script("p256", ""),
            "BPF7010",
            "with the certificate of `CN=Signer p256",
        ),
        (
            "writes no image",
            "echo broken > \"$1\"\n".into(),
            "BPF7001",
            "no PE image",
        ),
        ("takes it away", "rm \"$1\"\n".into(), "BPF7009", ""),
        (
            "fails",
            "echo the token is locked >&2; exit 3\n".into(),
            "BPF7009",
            "it says: the token is locked",
        ),
        ("fails half way", format!("{good}exit 1\n"), "BPF7009", "failed"),
        (
            "hangs",
            "echo waiting for a card; exec sleep 60\n".into(),
            "BPF7009",
            "within 1 seconds",
        ),
    ];
    for (what, text, code, part) in scripts {
        let template = script(folder.path(), "signer.sh", &text)?;
        let options = [
            "--signer-command",
            &template,
            "--cert",
            &certificate,
            "--signer-timeout",
            "1",
        ];
        // Only what hangs gets so little time.
        let options = if what == "hangs" { &options[..] } else { &options[..4] };
        refused(&image, options, what, code, part)?;
        assert_eq!(fs::read(&image)?, before, "{what}");
    }
    for (what, template, code, part) in [
        (
            "another key",
            pkeyutl("p256"),
            "BPF7010",
            "is no signature with the key of",
        ),
        (
            "no signature",
            "true {digest} {signature}".into(),
            "BPF7009",
            "wrote no signature",
        ),
        (
            "the digest",
            "cp {digest} {signature}".into(),
            "BPF7010",
            "is no signature with the key of",
        ),
        (
            "no program",
            "no_such_program {digest} {signature}".into(),
            "BPF7009",
            "can't be started",
        ),
    ] {
        refused(
            &image,
            &["--signer-command", &template, "--cert", &certificate],
            what,
            code,
            part,
        )?;
        assert_eq!(fs::read(&image)?, before, "{what}");
    }
    Ok(())
}

fn refused(image: &Path, options: &[&str], what: &str, code: &str, part: &str) -> Result<(), Failed> {
    let out = output(&mut sign(image, options))?;
    let told = String::from_utf8_lossy(&out.stderr);
    let status = if code == "BPF7001" { 3 } else { 7 };
    if out.status.code() != Some(status) || !told.contains(code) || !told.contains(part) {
        return Err(format!("{what}: {:?}\n{told}", out.status).into());
    }
    Ok(())
}

fn usage() -> Result<(), Failed> {
    let (made, folder) = (made(), tempfile::tempdir()?);
    let image = driver(folder.path())?;
    let certificate = made.text("p256.pem");
    for (options, part) in [
        (&["--signer-command", "sign"][..], "neither `{digest}` nor `{file}`"),
        (&["--signer-command", "sign {digest} {signature}"], "`--cert` must name"),
        (
            &["--signer-command", "sign {file}", "--page-hashes"],
            "`--page-hashes` has no effect",
        ),
        (
            &["--signer-command", "sign {file}", "--timestamp", "http://x/"],
            "`--timestamp` has no effect",
        ),
        (&["--page-hashes"], "nothing says who signs"),
        (&[], "say who signs"),
        (&["--cert", &certificate], "nothing says who signs"),
        (&["--timestamp", "ftp://x/", "--remove"], "begins with http"),
        (&["--pfx", "a", "--key", "b", "--cert", "c"], "cannot be used with"),
        (&["--key", "b"], "--cert"),
        (&["--append", "--replace"], "cannot be used with"),
        (&["--url", "a b", "--remove"], "characters that a URL can't have"),
    ] {
        let out = output(&mut sign(&image, options))?;
        let told = String::from_utf8_lossy(&out.stderr);
        assert!(
            out.status.code() == Some(2) && told.contains(part),
            "{options:?}: {told}"
        );
    }
    Ok(())
}
