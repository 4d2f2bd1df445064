//! The reader of registry exports.

use std::sync::LazyLock;

use bpf2sys_platform::registry::{RegistryProviders, is_export};
use bpf2sys_platform::{Platform, PlatformError};

static BUILTIN: LazyLock<Platform> = LazyLock::new(Platform::builtin);

/// Reads an export. What is read can be written as a provider file, which loads.
pub fn run(input: &[u8]) {
    let mut providers = match RegistryProviders::of_export("fuzz.reg", input) {
        Ok(providers) => providers,
        Err(error) => return drop(error.to_string()),
    };
    assert!(is_export(input));
    for warning in providers.warnings() {
        drop(warning.to_string());
    }
    let files = Platform::builtin_files();
    let all = providers.to_toml().unwrap();
    // The core is enough for all that an export can say.
    loads(&files[..1], &all);
    providers.omit_known(&BUILTIN);
    let new = providers.to_toml().unwrap();
    if new != all {
        loads(files, &new);
    }
}

/// A provider file that was made from an export can only say otherwise what others say.
fn loads(others: &[(&str, &str)], text: &str) {
    match Platform::from_toml(&[others, &[("fuzz.reg", text)]].concat()) {
        Ok(_) | Err(PlatformError::Conflicts(_)) => {}
        Err(other) => panic!("{other}\n{text}"),
    }
}

/// Exports of the tests.
pub fn seeds() -> Vec<Vec<u8>> {
    super::files(&["tests/fixtures"], &["reg"])
}
