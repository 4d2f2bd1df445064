//! Providers as a Windows machine's registry describes them, into provider files.
//!
//! Given: an export of `Software\eBPF\Providers` (`.reg`), or the registry of this machine. Computed: TOML, so that there is one
//! way into a [`Platform`], and warnings of what had to be left out.
//! `export` reads the form, `store` the meaning, `usable` leaves out what programs can't use, `write` makes TOML.

mod export;
mod known;
#[cfg(windows)]
mod machine;
mod problem;
mod store;
mod text;
mod tree;
mod usable;
mod write;

pub use export::is_export;
pub use known::{Count, Omitted};
pub use problem::{RegistryError, RegistryPlace, RegistryProblem};

use crate::{Platform, PlatformError};
use export::Root;
use store::Store;
use tree::Key;

/// What a registry says of providers.
#[derive(Clone, Debug)]
pub struct RegistryProviders {
    store: Store,
    /// What it was read from, e.g. "`HKEY_CURRENT_USER\Software\eBPF\Providers` in theirs.reg".
    source: String,
    warnings: Vec<RegistryError>,
}

impl RegistryProviders {
    /// Reads an export. `HKEY_CURRENT_USER` counts if it has the store, else `HKEY_LOCAL_MACHINE`; they are never mixed, as
    /// on Windows.
    ///
    /// # Errors
    /// The text is no export, it has no store, or the store can't be used.
    pub fn of_export(file: &str, bytes: &[u8]) -> Result<RegistryProviders, PlatformError> {
        let export = export::parse(file, bytes, &store::PATH)?;
        let Some((root, key)) = export.keys.first_key_value() else {
            return Err(PlatformError::Registry(RegistryError {
                place: RegistryPlace {
                    file: file.to_owned(),
                    ..RegistryPlace::default()
                },
                problem: RegistryProblem::NoStore {
                    found: export.elsewhere,
                },
            }));
        };
        // The folder is no fact of the export.
        let name = file.rsplit(['/', '\\']).next().unwrap_or(file);
        RegistryProviders::of_key(file, *root, key, &format!(" in {name}"))
    }

    /// Reads the registry of this machine.
    ///
    /// # Errors
    /// There is no store, it can't be read or used, or this is no Windows machine.
    pub fn of_this_machine() -> Result<RegistryProviders, PlatformError> {
        #[cfg(windows)]
        {
            let (root, key) = machine::read(&store::PATH)?;
            RegistryProviders::of_key("registry", root, &key, "")
        }
        #[cfg(not(windows))]
        Err(PlatformError::NoRegistry)
    }

    fn of_key(file: &str, root: Root, key: &Key, place: &str) -> Result<RegistryProviders, PlatformError> {
        let mut warnings = Vec::new();
        let mut store = store::read(file, root.name(), key, &mut warnings)?;
        usable::keep(&mut store, &mut warnings)?;
        Ok(RegistryProviders {
            store,
            source: format!("{}\\{}{place}", root.name(), store::PATH.join("\\")),
            warnings,
        })
    }

    /// What had to be left out, and what is odd.
    pub fn warnings(&self) -> &[RegistryError] {
        &self.warnings
    }

    /// Leaves out what a platform has already, exactly so.
    pub fn omit_known(&mut self, platform: &Platform) -> Omitted {
        known::omit(&mut self.store, platform)
    }

    /// The text of a provider file that says the same.
    pub fn to_toml(&self) -> Result<String, PlatformError> {
        write::write(&self.store, PROVIDER_ID, &self.source)
    }
}

/// The id of the provider that files from a registry name: which driver wrote an entry is not known.
const PROVIDER_ID: &str = "registry";

#[cfg(test)]
mod tests;
