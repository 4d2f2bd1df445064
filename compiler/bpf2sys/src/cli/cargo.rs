//! `cargo bpf2sys`: the tool as a subcommand of cargo, which builds what a package's `Cargo.toml` says.

use std::ffi::OsString;

use super::build::project::{CARGO_FILE_NAME, above, has_project};

/// The words of `bpf2sys` that these of `cargo-bpf2sys` mean, behind any first one. Cargo gives the subcommand's name first. `build`
/// is meant where no subcommand is named; it builds the project of the nearest `Cargo.toml` that has one.
pub(super) fn words(words: impl IntoIterator<Item = OsString>) -> Vec<OsString> {
    let mut words: Vec<OsString> = words.into_iter().skip(1).collect();
    if words.first().is_some_and(|word| word == "bpf2sys") {
        words.remove(0);
    }
    let for_the_tool = ["-h", "--help", "-V", "--version"];
    let names_none = words.first().is_none_or(|word| {
        let word = word.to_string_lossy();
        word.starts_with('-') && !for_the_tool.contains(&&*word)
    });
    if names_none {
        words.insert(0, "build".into());
    }
    let names_project = words.iter().any(|word| {
        let word = word.to_string_lossy();
        word == "--project" || word.starts_with("--project=")
    });
    if words.first().is_some_and(|word| word == "build")
        && !names_project
        && let Some(manifest) = above(CARGO_FILE_NAME, |file| file.is_file() && has_project(file))
    {
        let mut word = OsString::from("--project=");
        word.push(manifest);
        words.insert(1, word);
    }
    words.insert(0, "bpf2sys".into());
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn build_is_meant_where_nothing_is_named() {
        let of = |line: &str| {
            let said = words(line.split(' ').map(OsString::from));
            said.join(" ".as_ref()).into_string().unwrap()
        };
        assert_eq!(of("cargo-bpf2sys bpf2sys"), "bpf2sys build");
        assert_eq!(of("cargo-bpf2sys bpf2sys --arch arm64"), "bpf2sys build --arch arm64");
        assert_eq!(of("cargo-bpf2sys bpf2sys check a.sys"), "bpf2sys check a.sys");
        assert_eq!(of("cargo-bpf2sys bpf2sys --help"), "bpf2sys --help");
        assert_eq!(of("cargo-bpf2sys check a.sys"), "bpf2sys check a.sys");
    }
}
