//! Keys and certificates, made once by OpenSSL; and all forms in which keys come.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use libtest_mimic::{Failed, Trial};
use tempfile::TempDir;

use super::{TOOLS, driver, osslsigncode_takes, our_report, sign};
use crate::support::{Need, output, succeed, test_with};

/// Kinds of keys, and how OpenSSL makes them.
pub const KINDS: [(&str, &[&str]); 5] = [
    ("rsa2048", &["-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048"]),
    ("rsa3072", &["-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:3072"]),
    ("rsa4096", &["-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:4096"]),
    ("p256", &["-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256"]),
    ("p384", &["-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-384"]),
];

/// What was made.
pub struct Made {
    pub folder: TempDir,
    /// The root of all signers: `root.pem`, `root.key`.
    pub root: PathBuf,
    /// The root of the timestamp authority, which is `tsa.pem`, `tsa.key`.
    pub timestamp_root: PathBuf,
}

impl Made {
    pub fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// A path as text.
    pub fn text(&self, name: &str) -> String {
        self.file(name).display().to_string()
    }

    /// The options that sign with the key of this name.
    pub fn signer(&self, name: &str) -> [String; 4] {
        let file = |extension: &str| self.text(&format!("{name}.{extension}"));
        ["--key".into(), file("key"), "--cert".into(), file("pem")]
    }

    /// A key and a certificate, issued by another of these, or by itself.
    pub fn issue(
        &self,
        name: &str,
        kind: &[&str],
        subject: &str,
        issuer: Option<&str>,
        extensions: &str,
    ) -> Result<(), Failed> {
        let file = |extension: &str| self.file(&format!("{name}.{extension}"));
        openssl(
            Command::new("openssl")
                .arg("genpkey")
                .args(kind)
                .arg("-out")
                .arg(file("key")),
        )?;
        let mut request = Command::new("openssl");
        request
            .args(["req", "-new", "-utf8", "-subj", subject, "-key"])
            .arg(file("key"));
        openssl(request.arg("-out").arg(file("csr")))?;
        fs::write(file("ext"), extensions)?;
        let mut certificate = Command::new("openssl");
        certificate
            .args(["x509", "-req", "-days", "30", "-sha256", "-in"])
            .arg(file("csr"));
        match issuer {
            Some(issuer) => certificate
                .arg("-CA")
                .arg(self.file(&format!("{issuer}.pem")))
                .arg("-CAkey")
                .arg(self.file(&format!("{issuer}.key")))
                .arg("-CAcreateserial"),
            None => certificate.arg("-signkey").arg(file("key")),
        };
        openssl(
            certificate
                .arg("-extfile")
                .arg(file("ext"))
                .arg("-out")
                .arg(file("pem")),
        )
    }
}

pub const AUTHORITY: &str =
    "basicConstraints=critical,CA:TRUE\nkeyUsage=critical,keyCertSign,cRLSign\nsubjectKeyIdentifier=hash\n";
pub const SIGNER: &str = "keyUsage=critical,digitalSignature\nextendedKeyUsage=codeSigning\n";
const STAMPER: &str = "keyUsage=critical,digitalSignature\nextendedKeyUsage=critical,timeStamping\n";

/// All keys and certificates. Making them is part of the first test that asks.
pub fn made() -> &'static Made {
    static MADE: OnceLock<Made> = OnceLock::new();
    MADE.get_or_init(|| make().unwrap_or_else(|error| panic!("{}", error.message().unwrap_or_default())))
}

fn make() -> Result<Made, Failed> {
    let folder = tempfile::tempdir()?;
    let made = Made {
        root: folder.path().join("root.pem"),
        timestamp_root: folder.path().join("tsa_root.pem"),
        folder,
    };
    let fast = KINDS[3].1;
    made.issue("root", KINDS[0].1, "/CN=Judge root", None, AUTHORITY)?;
    made.issue("tsa_root", fast, "/CN=Judge TSA root", None, AUTHORITY)?;
    made.issue("tsa", KINDS[0].1, "/CN=Judge TSA", Some("tsa_root"), STAMPER)?;
    for (name, kind) in KINDS {
        made.issue(
            name,
            kind,
            &format!("/C=DE/O=Jüdge, Inc./CN=Signer {name}"),
            Some("root"),
            SIGNER,
        )?;
    }
    Ok(made)
}

/// Runs OpenSSL, which must succeed.
pub fn openssl(command: &mut Command) -> Result<(), Failed> {
    succeed(command.env("OPENSSL_CONF", "/dev/null")).map(|_| ())
}

pub fn trials() -> Vec<Trial> {
    vec![
        test_with(
            "signing::keys_come_in_all_their_forms",
            TOOLS,
            keys_come_in_all_their_forms,
        ),
        test_with(
            "signing::pfx_files_are_modern_or_legacy",
            TOOLS,
            pfx_files_are_modern_or_legacy,
        ),
        test_with(
            "signing::passwords_come_from_files_and_the_environment",
            TOOLS,
            passwords,
        ),
        test_with(
            "signing::passwords_are_asked_for_at_a_terminal",
            &[TOOLS[0], TOOLS[1], Need::PythonModule("pty")],
            prompt,
        ),
    ]
}

/// Signs with these options; both judges must be content.
fn signs(options: &[&str]) -> Result<(), Failed> {
    let folder = tempfile::tempdir()?;
    let image = driver(folder.path())?;
    succeed(&mut sign(&image, options))?;
    our_report(&image, &[&made().root])?;
    osslsigncode_takes(&image, 1).map(|_| ())
}

fn keys_come_in_all_their_forms() -> Result<(), Failed> {
    let made = made();
    let convert = |arguments: &[&str], from: &str, to: &str| {
        openssl(
            Command::new("openssl")
                .args(arguments)
                .arg("-in")
                .arg(made.file(from))
                .arg("-out")
                .arg(made.file(to)),
        )
    };
    convert(&["pkey", "-outform", "DER"], "rsa2048.key", "pkcs8.der")?;
    convert(&["rsa", "-traditional"], "rsa2048.key", "pkcs1.pem")?;
    convert(&["rsa", "-traditional", "-outform", "DER"], "rsa2048.key", "pkcs1.der")?;
    convert(&["ec"], "p384.key", "sec1.pem")?;
    convert(&["ec", "-outform", "DER"], "p384.key", "sec1.der")?;
    convert(&["x509", "-outform", "DER"], "rsa2048.pem", "cert.der")?;
    let mut p7b = Command::new("openssl");
    p7b.args(["crl2pkcs7", "-nocrl", "-outform", "DER", "-certfile"])
        .arg(made.file("rsa2048.pem"));
    openssl(p7b.arg("-out").arg(made.file("cert.p7b")))?;
    for (key, certificate) in [
        ("pkcs8.der", "rsa2048.pem"),
        ("pkcs1.pem", "cert.der"),
        ("pkcs1.der", "cert.p7b"),
        ("sec1.pem", "p384.pem"),
        ("sec1.der", "p384.pem"),
    ] {
        signs(&["--key", &made.text(key), "--cert", &made.text(certificate)])
            .map_err(|e| format!("{key}, {certificate}: {}", e.message().unwrap_or_default()))?;
    }
    Ok(())
}

/// A PFX file with a key and the root, made with these options.
fn pfx(name: &str, key: &str, options: &[&str]) -> Result<PathBuf, Failed> {
    let made = made();
    let file = made.file(name);
    let mut command = Command::new("openssl");
    command
        .args(["pkcs12", "-export", "-passout", "pass:geheim", "-inkey"])
        .arg(made.file(&format!("{key}.key")));
    command
        .arg("-in")
        .arg(made.file(&format!("{key}.pem")))
        .arg("-certfile")
        .arg(&made.root);
    succeed(command.args(options).arg("-out").arg(&file))?;
    Ok(file)
}

fn pfx_files_are_modern_or_legacy() -> Result<(), Failed> {
    let password = made().file("password");
    fs::write(&password, "geheim\r\nand a second line\n")?;
    for (name, key, options) in [
        ("modern.pfx", "rsa2048", &[][..]),
        ("modern_ec.pfx", "p256", &[]),
        ("legacy.pfx", "rsa2048", &["-legacy"]),
        (
            "three_des.pfx",
            "p384",
            &[
                "-legacy",
                "-certpbe",
                "PBE-SHA1-3DES",
                "-keypbe",
                "PBE-SHA1-3DES",
                "-macalg",
                "sha1",
            ],
        ),
        (
            "mac_512.pfx",
            "rsa2048",
            &["-macalg", "sha512", "-certpbe", "AES-128-CBC", "-keypbe", "AES-192-CBC"],
        ),
        ("open_certificates.pfx", "p256", &["-certpbe", "NONE"]),
        ("no_mac.pfx", "p256", &["-nomac"]),
    ] {
        let file = pfx(name, key, options)?;
        let (file, password) = (file.display().to_string(), password.display().to_string());
        signs(&["--pfx", &file, "--password-file", &password])
            .map_err(|e| format!("{name}: {}", e.message().unwrap_or_default()))?;
    }
    Ok(())
}

fn passwords() -> Result<(), Failed> {
    let made = made();
    let file = pfx("secret.pfx", "p256", &[])?;
    let encrypted = made.file("encrypted.key");
    let mut command = Command::new("openssl");
    command
        .args(["pkcs8", "-topk8", "-passout", "pass:geheim", "-in"])
        .arg(made.file("p256.key"));
    openssl(command.arg("-out").arg(&encrypted))?;
    let folder = tempfile::tempdir()?;
    let image = driver(folder.path())?;
    let before = fs::read(&image)?;
    let run = |options: &[&Path], password: Option<&str>| -> Result<(Option<i32>, String), Failed> {
        let mut command = sign(&image, &["--out-dir"]);
        command
            .arg(folder.path().join("out"))
            .args(options)
            .stdin(std::process::Stdio::null());
        if let Some(password) = password {
            command
                .env("BPF2SYS_TEST_PASSWORD", password)
                .args(["--password-env", "BPF2SYS_TEST_PASSWORD"]);
        }
        let out = output(&mut command)?;
        Ok((out.status.code(), String::from_utf8_lossy(&out.stderr).into_owned()))
    };
    let pfx_options: [&Path; 2] = [Path::new("--pfx"), &file];
    let certificate = made.file("p256.pem");
    let key_options: [&Path; 4] = [Path::new("--key"), &encrypted, Path::new("--cert"), &certificate];
    for options in [&pfx_options[..], &key_options] {
        assert_eq!(run(options, Some("geheim"))?.0, Some(0), "{options:?}");
        for (password, part) in [
            (Some("falsch"), "the password is wrong"),
            (None, "there is nobody to ask"),
        ] {
            let (status, text) = run(options, password)?;
            assert_eq!(status, Some(7), "{options:?}: {text}");
            assert!(text.contains("BPF7005") && text.contains(part), "{options:?}: {text}");
            assert!(!text.contains("falsch") && !text.contains("geheim"), "{text}");
        }
    }
    assert_eq!(fs::read(&image)?, before);
    Ok(())
}

/// Runs its arguments in a terminal, and types a password when it is asked for one.
const TYPIST: &str = "
import os, pty, sys, termios, time
seen = b''
def read(fd):
    global seen
    data = os.read(fd, 1024)
    seen += data
    if b'Password of' in seen and b'\\x00' not in seen:
        seen += b'\\x00'
        while termios.tcgetattr(fd)[3] & termios.ECHO:
            time.sleep(0.01)
        os.write(fd, b'geheim\\n')
    return data
sys.exit(os.waitstatus_to_exitcode(pty.spawn(sys.argv[1:], read)))
";

fn prompt() -> Result<(), Failed> {
    let folder = tempfile::tempdir()?;
    let image = driver(folder.path())?;
    let file = pfx("typed.pfx", "p256", &[])?;
    let mut python = Command::new("python3");
    python
        .args(["-c", TYPIST, env!("CARGO_BIN_EXE_bpf2sys"), "sign"])
        .arg(&image)
        .arg("--pfx")
        .arg(file);
    let told = succeed(&mut python)?;
    assert!(told.contains("Password of ") && told.contains("signed by"), "{told}");
    assert!(!told.contains("geheim"), "what is typed is not shown: {told}");
    osslsigncode_takes(&image, 1).map(|_| ())
}
