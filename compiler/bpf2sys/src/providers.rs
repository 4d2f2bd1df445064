//! Which providers a build knows: those that are built in, and files of the user's own.

use std::sync::{Arc, LazyLock};

use bpf2sys_platform::Platform;
use bpf2sys_platform::registry::{RegistryProviders, is_export};

use crate::{Diagnostic, Error, ErrorKind, files};

/// The providers that a build knows. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Providers(Arc<Loaded>);

#[derive(Debug)]
struct Loaded {
    /// Those besides the built-in ones, as (file name, TOML text).
    files: Vec<(String, String)>,
    platform: Platform,
}

/// A description of providers, as the text of a provider file.
#[derive(Clone, Debug)]
pub struct ProviderText {
    /// Name of what it was read from.
    pub name: String,
    /// The TOML.
    pub toml: String,
    /// What had to be left out.
    pub warnings: Vec<Diagnostic>,
}

impl ProviderText {
    /// Reads a file with these bytes, which is a provider file (TOML) or a registry export: its content tells which.
    ///
    /// # Errors
    /// It is neither, or it is an export that can't be used. Whether TOML is right is told when it is loaded.
    pub fn of_file(name: &str, bytes: Vec<u8>) -> Result<ProviderText, Error> {
        if is_export(&bytes) {
            return ProviderText::of_registry(name, &RegistryProviders::of_export(name, &bytes)?);
        }
        let name = name.to_owned();
        match files::text(bytes) {
            Some(toml) => Ok(ProviderText {
                name,
                toml,
                warnings: Vec::new(),
            }),
            None => Err(ErrorKind::NoProviderText { name }.into()),
        }
    }

    /// Reads the registry of this machine.
    ///
    /// # Errors
    /// This is no Windows machine, or its registry can't be used.
    pub fn of_this_machine() -> Result<ProviderText, Error> {
        ProviderText::of_registry("registry", &RegistryProviders::of_this_machine()?)
    }

    fn of_registry(name: &str, registry: &RegistryProviders) -> Result<ProviderText, Error> {
        Ok(ProviderText {
            name: name.to_owned(),
            toml: registry.to_toml()?,
            warnings: registry.warnings().iter().map(crate::diagnose::left_out).collect(),
        })
    }
}

impl Providers {
    /// Those that are built in; read once per process.
    pub fn builtin() -> Providers {
        static BUILTIN: LazyLock<Providers> = LazyLock::new(|| {
            Providers(Arc::new(Loaded {
                files: Vec::new(),
                platform: Platform::builtin(),
            }))
        });
        BUILTIN.clone()
    }

    /// Those that are built in and these provider files, given as (file name, TOML text).
    ///
    /// # Errors
    /// A file is not valid, or contradicts another.
    pub fn with_files(files: Vec<(String, String)>) -> Result<Providers, Error> {
        if files.is_empty() {
            return Ok(Providers::builtin());
        }
        let own = files.iter().map(|(name, text)| (name.as_str(), text.as_str()));
        let all: Vec<(&str, &str)> = Platform::builtin_files().iter().copied().chain(own).collect();
        let platform = Platform::from_toml(&all)?;
        Ok(Providers(Arc::new(Loaded { files, platform })))
    }

    /// Everything that they offer.
    pub fn platform(&self) -> &Platform {
        &self.0.platform
    }

    /// The files besides the built-in ones, as (file name, TOML text).
    pub fn files(&self) -> &[(String, String)] {
        &self.0.files
    }
}

impl Default for Providers {
    fn default() -> Self {
        Providers::builtin()
    }
}
