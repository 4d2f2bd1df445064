//! Names the state of everything that a verdict and its text are made of, so that a verdict kept by another state of the
//! tool is never taken for one of this: `BPF2SYS_VERDICT_SOURCES`, a SHA-256 over the sources and `Cargo.lock`. And names the
//! versions of what the tool is made of: `BPF2SYS_PREVAIL_VERSION`, `BPF2SYS_CRANELIFT_VERSION`, and `BPF2SYS_COMMIT`, the commit
//! that it is built from, where it is known.

use std::io;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

/// From this crate's folder.
const SOURCES: [&str; 8] = [
    "../bytecode/src",
    "../platform/src",
    "../platform/providers",
    "../verifier/src",
    "../retarget/src",
    "../retarget/data",
    "src",
    "../../Cargo.lock",
];

fn main() -> io::Result<()> {
    let mut files = Vec::new();
    for source in SOURCES {
        println!("cargo::rerun-if-changed={source}");
        collect(Path::new(source), &mut files)?;
    }
    files.sort();
    let mut hash = Sha256::new();
    for file in files {
        let bytes = std::fs::read(&file)?;
        // Lengths, so that no two lists of files are the same bytes. The separator is that of the host.
        let name = file.to_string_lossy().replace('\\', "/");
        for part in [name.as_bytes(), &bytes] {
            hash.update((part.len() as u64).to_le_bytes());
            hash.update(part);
        }
    }
    let digest = hash
        .finalize()
        .iter()
        .fold(String::new(), |text, byte| format!("{text}{byte:02x}"));
    println!("cargo::rustc-env=BPF2SYS_VERDICT_SOURCES={digest}");
    for (variable, package) in [("PREVAIL", "prevail"), ("CRANELIFT", "cranelift-codegen")] {
        let version = locked_version(package)?;
        println!("cargo::rustc-env=BPF2SYS_{variable}_VERSION={version}");
    }
    println!("cargo::rustc-env=BPF2SYS_COMMIT={}", commit().unwrap_or_default());
    Ok(())
}

/// The commit: what the environment says, or else, for an executable that is to be kept, what git says. A build of a
/// developer's does without, so that a commit does not make everything be compiled again.
fn commit() -> Option<String> {
    println!("cargo::rerun-if-env-changed=BPF2SYS_COMMIT");
    if let Ok(commit) = std::env::var("BPF2SYS_COMMIT") {
        return Some(commit);
    }
    if std::env::var("PROFILE").as_deref() != Ok("release") {
        return None;
    }
    let git = |arguments: &[&str]| {
        let said = std::process::Command::new("git").args(arguments).output().ok()?;
        let said = String::from_utf8(said.stdout).ok().filter(|_| said.status.success())?;
        Some(said.trim().to_owned())
    };
    // The repository that this file belongs to, and not one around an unpacked archive.
    git(&["ls-files", "--error-unmatch", "build.rs"])?;
    println!(
        "cargo::rerun-if-changed={}",
        git(&["rev-parse", "--git-path", "logs/HEAD"])?
    );
    git(&["rev-parse", "--short=12", "HEAD"])
}

/// The version of a package in `Cargo.lock`.
fn locked_version(package: &str) -> io::Result<String> {
    let lock = std::fs::read_to_string("../../Cargo.lock")?.replace("\r\n", "\n");
    let (_, entry) = lock
        .split_once(&format!("name = \"{package}\"\nversion = \""))
        .ok_or_else(|| io::Error::other(format!("no `{package}` in Cargo.lock")))?;
    Ok(entry.split('"').next().unwrap_or_default().to_owned())
}

fn collect(path: &Path, files: &mut Vec<PathBuf>) -> io::Result<()> {
    if !path.is_dir() {
        files.push(path.to_owned());
        return Ok(());
    }
    for entry in std::fs::read_dir(path)? {
        collect(&entry?.path(), files)?;
    }
    Ok(())
}
