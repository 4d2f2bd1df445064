//! The tool's outputs for a module, made once for all tests that look at them: verifying is what takes the time.

use std::path::PathBuf;
use std::sync::OnceLock;

use bpf2sys_pe_emit::Machine;
use libtest_mimic::Failed;
use tempfile::TempDir;

use super::fixture;
use crate::forms::machine_name;
use crate::support::{succeed, tool};

/// What a module can be loaded as.
pub const FORMS: [&str; 2] = ["sys", "dll"];

/// The outputs of a module, for both machines; they go away with it.
pub struct Builds {
    /// The module.
    pub module: &'static str,
    without_hashes: OnceLock<Result<TempDir, String>>,
    with_hashes: OnceLock<Result<TempDir, String>>,
}

impl Builds {
    /// Nothing yet.
    pub fn new(module: &'static str) -> Self {
        Builds {
            module,
            without_hashes: OnceLock::new(),
            with_hashes: OnceLock::new(),
        }
    }

    /// A driver and a DLL without hashes.
    pub fn plain(&self, machine: Machine) -> Result<[PathBuf; 2], Failed> {
        self.images(&self.without_hashes, "none", machine)
    }

    /// A driver and a DLL as they are built by default.
    pub fn hashed(&self, machine: Machine) -> Result<[PathBuf; 2], Failed> {
        self.images(&self.with_hashes, "sha256", machine)
    }

    /// The listing of the driver.
    pub fn listing(&self, machine: Machine) -> Result<String, Failed> {
        let file = self.output(&self.without_hashes, "none", machine, "asm")?;
        Ok(std::fs::read_to_string(file)?)
    }

    fn images(
        &self,
        folder: &OnceLock<Result<TempDir, String>>,
        hash: &str,
        machine: Machine,
    ) -> Result<[PathBuf; 2], Failed> {
        let output = |form| self.output(folder, hash, machine, form);
        let [driver, dll] = FORMS.map(output);
        Ok([driver?, dll?])
    }

    fn output(
        &self,
        folder: &OnceLock<Result<TempDir, String>>,
        hash: &str,
        machine: Machine,
        form: &str,
    ) -> Result<PathBuf, Failed> {
        let folder = folder.get_or_init(|| build(self.module, hash).map_err(|e| e.message().unwrap_or("").to_owned()));
        let folder = folder.as_ref().map_err(Clone::clone)?;
        Ok(folder
            .path()
            .join(format!("{}.{}.{form}", self.module, machine_name(machine))))
    }
}

/// Builds everything with the hashes of `hash`. A busy machine gets longer than the tool gives by itself.
pub fn build(module: &str, hash: &str) -> Result<TempDir, Failed> {
    let folder = tempfile::tempdir()?;
    let mut command = tool();
    command.args(["build", "--quiet", "--time-limit", "600", "--hash", hash]);
    command.args(["--arch", "x64,arm64", "--emit", "sys,dll,asm", "--out-dir"]);
    command.arg(folder.path()).arg(fixture(module, "o"));
    succeed(&mut command)?;
    Ok(folder)
}
