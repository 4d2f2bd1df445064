//! Names of C as names of Rust.

use std::collections::HashSet;

/// Words that are no identifiers, and not even with `r#` all of them.
const WORDS: [&str; 52] = [
    "abstract", "as", "async", "await", "become", "box", "break", "const", "continue", "crate", "do", "dyn", "else",
    "enum", "extern", "false", "final", "fn", "for", "gen", "if", "impl", "in", "let", "loop", "macro", "match", "mod",
    "move", "mut", "override", "priv", "pub", "ref", "return", "self", "Self", "static", "struct", "super", "trait",
    "true", "try", "type", "typeof", "unsafe", "unsized", "use", "virtual", "where", "while", "yield",
];

/// A name as an identifier: what is no letter, digit or `_` is `_`, and a word of Rust has one more behind it.
pub(super) fn identifier(name: &str) -> String {
    let mut text: String = name
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() { c } else { '_' })
        .collect();
    if text.chars().all(|c| c == '_') {
        text.push_str("unnamed");
    }
    if text.starts_with(|c: char| c.is_ascii_digit()) {
        text.insert(0, '_');
    }
    if WORDS.contains(&text.as_str()) {
        text.push('_');
    }
    text
}

/// Identifiers of one scope.
#[derive(Debug, Default)]
pub(super) struct Names(HashSet<String>);

impl Names {
    /// The identifier, with a number behind it if it is taken.
    pub(super) fn take(&mut self, wanted: &str) -> String {
        let mut name = wanted.to_owned();
        let mut number = 2;
        while !self.0.insert(name.clone()) {
            name = format!("{wanted}_{number}");
            number += 1;
        }
        name
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_is_an_identifier() {
        for (name, wanted) in [
            ("counters", "counters"),
            ("type", "type_"),
            (".data.config", "_data_config"),
            ("3rd", "_3rd"),
            ("", "unnamed"),
            ("größe", "gr__e"),
            ("__", "__unnamed"),
            ("a\"; evil", "a___evil"),
        ] {
            assert_eq!(identifier(name), wanted);
        }
        let mut names = Names::default();
        assert_eq!(
            ["a", "a", "b", "a"].map(|name| names.take(name)),
            ["a", "a_2", "b", "a_3"]
        );
    }
}
