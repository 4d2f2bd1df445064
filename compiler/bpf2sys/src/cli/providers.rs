//! The options that name providers besides the built-in ones.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use clap::ValueHint;

use super::reporter::Reporter;
use crate::{Error, ProviderText, Providers, files};

/// The environment variable with further descriptions, in the form of `PATH`.
const VARIABLE: &str = "BPF2SYS_PLATFORM";

/// What stands for the registry of this machine.
const REGISTRY: &str = "registry";

/// Options of everything that needs to know program types and helpers.
#[derive(Debug, Default, clap::Args)]
pub(super) struct ProviderOptions {
    /// Know the program types, helpers and maps that this file describes, too
    ///
    /// The file is a provider file (TOML) or a registry export (`.reg`) of `Software\eBPF\Providers`; `registry` is the
    /// registry of this machine, if it runs Windows. Those that the environment variable `BPF2SYS_PLATFORM` lists, with the
    /// separator that `PATH` has, come first.
    #[arg(long = "platform", value_name = "FILE", value_hint = ValueHint::FilePath)]
    files: Vec<PathBuf>,
}

impl ProviderOptions {
    /// The built-in providers, those of the environment, and those of the options, in this order. What had to be left out
    /// of them is told.
    pub(super) fn load(&self, reporter: &mut Reporter) -> Result<Providers, Error> {
        let mut texts = Vec::new();
        for path in self.named() {
            let text = read(&path)?;
            reporter.tell(text.warnings, None);
            texts.push((text.name, text.toml));
        }
        Providers::with_files(texts)
    }

    /// What the environment and the options name.
    fn named(&self) -> Vec<PathBuf> {
        let listed = std::env::var_os(VARIABLE).unwrap_or_default();
        let listed = std::env::split_paths(&listed).filter(|path| !path.as_os_str().is_empty());
        listed.chain(self.files.iter().cloned()).collect()
    }

    /// The files that are read.
    pub(super) fn files(&self) -> Vec<PathBuf> {
        self.named().into_iter().filter(|path| !is_registry(path)).collect()
    }
}

/// Whether an argument means the registry of this machine.
pub(super) fn is_registry(path: &Path) -> bool {
    path.as_os_str() == OsStr::new(REGISTRY)
}

/// The description that an argument means.
pub(super) fn read(path: &Path) -> Result<ProviderText, Error> {
    if is_registry(path) {
        return ProviderText::of_this_machine();
    }
    ProviderText::of_file(&path.display().to_string(), files::read(path)?)
}
