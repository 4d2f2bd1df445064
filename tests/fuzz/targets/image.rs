//! The readers of images and of COFF object files: all that `inspect` shows, and all that is looked at before an image is run.

use bpf2sys_simulator::image::{Image, is_object_file};
use bpf2sys_simulator::{describe, directories, getters, load_config::LoadConfig, loader_rules, object_file, usermode};

/// Reads the input as each kind of file.
pub fn run(input: &[u8]) {
    let described = object_file::describe(input);
    assert_eq!(described.is_some(), is_object_file(input));
    let Ok(image) = Image::parse(input) else {
        assert!(describe::describe(input).is_err());
        return;
    };
    assert!(describe::describe(input).is_ok());
    for violation in loader_rules::check(&image) {
        drop(violation.to_string());
    }
    drop(usermode::read(&image));
    if let Some(Ok(config)) = LoadConfig::read(&image) {
        drop(config.functions(&image));
    }
    drop(getters::follow(&image));
    drop(directories::base_relocations(&image));
    drop(directories::imports(&image));
    drop(directories::exports(&image));
}

/// Images that a C compiler made, and broken ones.
pub fn seeds() -> Vec<Vec<u8>> {
    super::files(&["simulator/testdata", "tests/fixtures"], &["image", "sys", "obj"])
}
