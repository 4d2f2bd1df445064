//! Signatures, judged by osslsigncode and OpenSSL: what we sign, they verify, and what they sign, we verify.
//!
//! Keys are made anew in each run; none is in the repository.

mod authority;
mod certificates;
mod commands;
#[cfg(all(feature = "https", target_os = "linux"))]
mod https;
mod keys;
mod matrix;
mod refused;
mod second;
mod service;
mod tampering;
mod timestamps;

use std::path::{Path, PathBuf};
use std::process::Command;

use libtest_mimic::{Failed, Trial};

use crate::support::{Need, output, root, succeed, tool};

/// What all of these tests need.
const TOOLS: &[Need] = &[Need::Program("openssl"), Need::Program("osslsigncode")];

pub fn trials() -> Vec<Trial> {
    let modules = [
        certificates::trials(),
        commands::trials(),
        #[cfg(all(feature = "https", target_os = "linux"))]
        https::trials(),
        keys::trials(),
        matrix::trials(),
        refused::trials(),
        second::trials(),
        service::trials(),
        tampering::trials(),
        timestamps::trials(),
    ];
    modules.into_iter().flatten().collect()
}

/// A driver that is not signed, in this folder.
fn driver(folder: &Path) -> Result<PathBuf, Failed> {
    let path = folder.join("driver.sys");
    let object = root().join("examples/udp_filter/udp_filter.o");
    succeed(tool().args(["build", "--quiet"]).arg(object).arg("-o").arg(&path))?;
    Ok(path)
}

/// `bpf2sys sign IMAGE ARGUMENTS`
fn sign(image: &Path, arguments: &[&str]) -> Command {
    let mut command = tool();
    command.arg("sign").arg(image).args(arguments);
    command
}

/// Our verdict: the report as JSON, of an image of which nothing is wrong.
fn our_report(image: &Path, roots: &[&Path]) -> Result<serde_json::Value, Failed> {
    let mut command = tool();
    command.arg("signature").arg(image).arg("--json");
    for root in roots {
        command.arg("--root").arg(root);
    }
    Ok(serde_json::from_str(&succeed(&mut command)?)?)
}

/// Our verdict on an image of which something is wrong: the exit status and what is told.
fn our_problems(image: &Path, roots: &[&Path], arguments: &[&str]) -> Result<(i32, String), Failed> {
    let mut command = tool();
    command.arg("signature").arg(image).arg("--quiet").args(arguments);
    for root in roots {
        command.arg("--root").arg(root);
    }
    let out = output(&mut command)?;
    Ok((
        out.status.code().unwrap_or(-1),
        String::from_utf8_lossy(&out.stderr).into_owned(),
    ))
}

/// What osslsigncode says of an image: whether it verifies, and its report.
fn osslsigncode(image: &Path, root: &Path, timestamp_root: &Path) -> Result<(bool, String), Failed> {
    let mut command = Command::new("osslsigncode");
    command.arg("verify").arg("-in").arg(image).arg("-CAfile").arg(root);
    command.arg("-TSA-CAfile").arg(timestamp_root);
    let out = output(&mut command)?;
    let text = String::from_utf8_lossy(&out.stdout).into_owned() + &String::from_utf8_lossy(&out.stderr);
    Ok((out.status.success(), text))
}

/// osslsigncode finds nothing wrong with any of this many signatures.
fn osslsigncode_takes(image: &Path, signatures: usize) -> Result<String, Failed> {
    let made = keys::made();
    let (good, text) = osslsigncode(image, &made.root, &made.timestamp_root)?;
    if !good
        || !text.contains(&format!("Number of verified signatures: {signatures}"))
        || text.contains("MISMATCH")
        || text.contains("Signature verification: failed")
    {
        return Err(format!("osslsigncode refuses {}:\n{text}", image.display()).into());
    }
    Ok(text)
}
