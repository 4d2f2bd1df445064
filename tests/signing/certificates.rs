//! `cert new`, and chains of certificates.

use std::fs;
use std::path::Path;
use std::process::Command;

use libtest_mimic::{Failed, Trial};

use super::keys::{AUTHORITY, KINDS, SIGNER, made};
use super::{TOOLS, driver, osslsigncode, our_problems, our_report, sign};
use crate::support::{output, succeed, test_with, tool};

pub fn trials() -> Vec<Trial> {
    vec![
        test_with("signing::cert_new_makes_what_signs", TOOLS, cert_new),
        test_with("signing::chains_are_judged", TOOLS, chains),
    ]
}

fn cert_new() -> Result<(), Failed> {
    for key in ["rsa2048", "p256"] {
        let folder = tempfile::tempdir()?;
        let new = |arguments: &[&str]| {
            let mut command = tool();
            command
                .args(["cert", "new", "--key", key, "--out-dir", "made"])
                .args(arguments);
            command.current_dir(&folder);
            command
        };
        let told = succeed(&mut new(&["--name", "Jüdge test"]))?;
        for part in [
            "certutil -addstore root root.cer",
            "certutil -addstore trustedpublisher signing.cer",
            "bcdedit /set testsigning on",
            "Secure Boot",
        ] {
            assert!(told.contains(part), "{part}\n{told}");
        }
        let file = |name: &str| folder.path().join("made").join(name);
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            let mode = fs::metadata(file("signing.pfx"))?.permissions().mode();
            assert_eq!(mode & 0o777, 0o600, "the key is for its owner only");
        }
        let before = fs::read(file("signing.pfx"))?;
        assert_eq!(output(&mut new(&[]))?.status.code(), Some(2), "nothing is overwritten");
        assert_eq!(fs::read(file("signing.pfx"))?, before);

        // OpenSSL reads the files and finds the chain good.
        let root = file("root.pem");
        let convert = |from: &str, to: &Path| {
            let mut command = Command::new("openssl");
            succeed(
                command
                    .args(["x509", "-inform", "DER", "-in"])
                    .arg(file(from))
                    .arg("-out")
                    .arg(to),
            )
        };
        convert("root.cer", &root)?;
        convert("signing.cer", &file("signing.pem"))?;
        let mut verify = Command::new("openssl");
        verify
            .args(["verify", "-x509_strict", "-purpose", "any", "-CAfile"])
            .arg(&root);
        succeed(verify.arg(file("signing.pem")))?;
        let mut show = Command::new("openssl");
        let shown = succeed(show.args(["x509", "-noout", "-text", "-in"]).arg(file("signing.pem")))?;
        for part in ["Code Signing, 1.3.6.1.4.1.311.133.1", "Digital Signature"] {
            assert!(shown.contains(part), "{part}\n{shown}");
        }
        let mut pfx = Command::new("openssl");
        succeed(
            pfx.args(["pkcs12", "-noout", "-passin", "pass:", "-in"])
                .arg(file("signing.pfx")),
        )?;

        let image = driver(folder.path())?;
        succeed(sign(&image, &["--pfx"]).arg(file("signing.pfx")))?;
        our_report(&image, &[&file("root.cer")])?;
        let (good, text) = osslsigncode(&image, &root, &root)?;
        assert!(good, "{text}");

        // With a password, and in place of the old ones.
        let protect = ["--force", "--quiet", "--password-env", "BPF2SYS_TEST_PASSWORD"];
        assert_eq!(succeed(new(&protect).env("BPF2SYS_TEST_PASSWORD", "geheim"))?, "");
        let mut pfx = Command::new("openssl");
        succeed(
            pfx.args(["pkcs12", "-noout", "-passin", "pass:geheim", "-in"])
                .arg(file("signing.pfx")),
        )?;
    }
    Ok(())
}

fn chains() -> Result<(), Failed> {
    let (made, folder) = (made(), tempfile::tempdir()?);
    let image = driver(folder.path())?;
    let key = KINDS[3].1;
    let below = |name: &str, issuer: &str, extensions: &str| {
        made.issue(name, key, &format!("/CN={name}"), Some(issuer), extensions)
    };
    let authority = |more: &str| format!("{AUTHORITY}{more}");
    below("middle", "root", AUTHORITY)?;
    below("good", "middle", SIGNER)?;
    below(
        "last_authority",
        "root",
        &AUTHORITY.replace("CA:TRUE", "CA:TRUE,pathlen:0"),
    )?;
    below("one_too_many", "last_authority", AUTHORITY)?;
    below("too_deep", "one_too_many", SIGNER)?;
    below("for_tls", "root", &authority("extendedKeyUsage=serverAuth\n"))?;
    below("under_tls", "for_tls", SIGNER)?;
    below("under_signer", "p256", SIGNER)?;
    below("no_usage", "root", "keyUsage=critical,digitalSignature\n")?;
    below("tls", "root", "extendedKeyUsage=serverAuth\n")?;
    below(
        "encipher",
        "root",
        "keyUsage=critical,keyEncipherment\nextendedKeyUsage=codeSigning\n",
    )?;
    below("odd", "root", &format!("{SIGNER}1.2.3.4=critical,ASN1:NULL\n"))?;
    for (signer, chain, part) in [
        ("good", &["middle"][..], ""),
        ("good", &["root", "middle"], ""),
        (
            "good",
            &[],
            "the chain of `CN=good` does not end at a given root; its last certificate was issued by `CN=middle`",
        ),
        (
            "too_deep",
            &["one_too_many", "last_authority"],
            "allows only 0 authorities below it",
        ),
        ("under_tls", &["for_tls"], "`CN=for_tls` is not for code signing"),
        ("under_signer", &["p256"], "is not an authority's"),
        ("no_usage", &[], "is not for code signing"),
        ("tls", &[], "is not for code signing"),
        ("encipher", &[], "is not for digital signatures"),
        ("odd", &[], "has the critical extension 1.2.3.4, which is not known"),
    ] {
        let signed = folder.path().join("signed.sys");
        let mut command = sign(&image, &["-o"]);
        command.arg(&signed).args(made.signer(signer));
        for name in chain {
            command.arg("--chain").arg(made.file(&format!("{name}.pem")));
        }
        succeed(&mut command)?;
        let (status, told) = our_problems(&signed, &[&made.root], &[])?;
        let (expected, count) = if part.is_empty() { (0, 0) } else { (7, 1) };
        assert_eq!(status, expected, "{signer} {chain:?}: {told}");
        // A signer's certificate in the place of an authority's has two faults, all others one.
        let count = if part.contains("authority's") { 2 } else { count };
        assert_eq!(told.matches("BPF7011").count(), count, "{signer} {chain:?}: {told}");
        assert!(told.contains(part), "{signer} {chain:?}: {told}");
    }
    let signed = folder.path().join("signed.sys");
    succeed(sign(&image, &["-o"]).arg(&signed).args(made.signer("p256")))?;
    let (status, told) = our_problems(&signed, &[&made.root], &["--at", "2099-01-01"])?;
    assert!(
        status == 7 && told.contains("and not at 2099-01-01T00:00:00Z"),
        "{told}"
    );
    Ok(())
}
