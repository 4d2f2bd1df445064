//! Packages and statements of provenance. cabextract reads the packages; statements are taken apart here by the letter of their
//! specifications, their digests are computed again, and OpenSSL verifies their signatures.
//!
//! Keys are made anew in each run; none is in the repository.

mod cabinet;
mod hostile;
mod refused;
mod statement;
mod verify;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use libtest_mimic::{Failed, Trial};
use serde_json::Value;

use crate::support::{root, succeed, tool};

pub fn trials() -> Vec<Trial> {
    let modules = [
        cabinet::trials(),
        hostile::trials(),
        refused::trials(),
        statement::trials(),
        verify::trials(),
    ];
    modules.into_iter().flatten().collect()
}

/// What an INF needs, where a test is not about that.
const DETAILS: [&str; 6] = [
    "--provider",
    "C",
    "--driver-version",
    "1",
    "--driver-date",
    "2026-01-01",
];

/// A folder with a driver, what it was built from, and a key.
struct Shop {
    folder: tempfile::TempDir,
}

impl Shop {
    /// `filter.o`, `filter.sys`, and of `cert new` the files `signing.pfx` and `signing.cer`.
    fn new() -> Result<Shop, Failed> {
        let shop = Shop {
            folder: tempfile::tempdir()?,
        };
        // A small program with a map: most of the time goes into starting the tool.
        fs::copy(root().join("tests/fixtures/codes/BPF5009.o"), shop.path("filter.o"))?;
        succeed(shop.tool().args(["build", "-q", "filter.o"]))?;
        succeed(shop.tool().args(["cert", "new", "-q", "--key", "p256"]))?;
        Ok(shop)
    }

    /// The same, and `filter.cab` and `filter.sys.intoto.jsonl`.
    fn packaged() -> Result<Shop, Failed> {
        let shop = Shop::new()?;
        succeed(&mut shop.package(&["filter.sys", "--object", "filter.o"]))?;
        Ok(shop)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn read(&self, name: &str) -> Result<Vec<u8>, Failed> {
        fs::read(self.path(name)).map_err(|e| format!("{name}: {e}").into())
    }

    /// The tool, in this folder, without a date from the environment.
    fn tool(&self) -> Command {
        let mut tool = tool();
        tool.current_dir(&self.folder).env_remove("SOURCE_DATE_EPOCH");
        tool
    }

    /// `package ARGUMENTS`, with what each needs besides.
    fn package(&self, arguments: &[&str]) -> Command {
        let mut command = self.tool();
        command.arg("package").args(arguments);
        command.args(["-o", "filter.cab", "--attest-key", "signing.pfx"]);
        command.args([
            "--provider",
            "Contoso",
            "--driver-version",
            "1.4.0.2",
            "--driver-date",
            "2026-11-22",
        ]);
        command
    }

    /// `attest verify ARGUMENTS`, with the certificate of the key that signs here.
    fn verify(&self, arguments: &[&str]) -> Command {
        let mut command = self.tool();
        command.args(["attest", "verify"]).args(arguments);
        command.args(["--cert", "signing.cer"]);
        command
    }

    fn files(&self) -> Result<Vec<String>, Failed> {
        let mut names = Vec::new();
        for entry in fs::read_dir(&self.folder)? {
            names.push(entry?.file_name().to_string_lossy().into_owned());
        }
        names.sort();
        Ok(names)
    }
}

/// The statement in an envelope.
fn payload(envelope: &[u8]) -> Result<Value, Failed> {
    Ok(serde_json::from_slice(&payload_bytes(envelope)?)?)
}

/// The same, as it is signed.
fn payload_bytes(envelope: &[u8]) -> Result<Vec<u8>, Failed> {
    let envelope: Value = serde_json::from_slice(envelope)?;
    base64(envelope["payload"].as_str().ok_or("no payload")?)
}

/// Decodes Base64 (RFC 4648 §4).
fn base64(text: &str) -> Result<Vec<u8>, Failed> {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut bytes = Vec::new();
    for group in text.as_bytes().chunks(4) {
        let digits = group.strip_suffix(b"==").or(group.strip_suffix(b"=")).unwrap_or(group);
        let mut bits = 0u32;
        for digit in digits {
            let value = ALPHABET.iter().position(|known| known == digit).ok_or("no Base64")?;
            bits = bits << 6 | value as u32;
        }
        bits <<= 6 * (4 - digits.len());
        bytes.extend_from_slice(&bits.to_be_bytes()[1..digits.len().max(1)]);
    }
    Ok(bytes)
}

/// Encodes Base64.
fn to_base64(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let digits = bytes.chunks(3).flat_map(|group| {
        let mut three = [0; 4];
        three[1..=group.len()].copy_from_slice(group);
        let bits = u32::from_be_bytes(three);
        (0..4).map(move |place| {
            if place <= group.len() {
                char::from(ALPHABET[(bits >> (18 - 6 * place) & 63) as usize])
            } else {
                '='
            }
        })
    });
    digits.collect()
}

/// An envelope around other bytes, with the signature of the one that is there.
fn with_payload(envelope: &[u8], payload: &[u8]) -> Result<Vec<u8>, Failed> {
    let mut envelope: Value = serde_json::from_slice(envelope)?;
    envelope["payload"] = to_base64(payload).into();
    Ok(serde_json::to_vec(&envelope)?)
}

/// The lines of a section of an INF, without comments.
fn section(inf: &str, name: &str) -> Vec<String> {
    let mut inside = false;
    let mut lines = Vec::new();
    for line in inf.lines().map(str::trim) {
        if line.starts_with('[') {
            inside = line == format!("[{name}]");
        } else if inside && !line.is_empty() && !line.starts_with(';') {
            lines.push(line.split_whitespace().collect::<Vec<_>>().join(" "));
        }
    }
    lines
}

/// SHA-256 by another program than ours.
fn sha256sum(path: &Path) -> Result<String, Failed> {
    let text = succeed(Command::new("openssl").args(["dgst", "-sha256", "-r"]).arg(path))?;
    Ok(text.split_whitespace().next().unwrap_or_default().to_owned())
}
