//! Names of provider files as C identifiers.
//!
//! Given: any text. Computed: an identifier that means nothing else in a header.
//! Safe because: it is made of ASCII letters, digits and `_`, is no keyword of C or C++ and no name of the general header, is
//! not reserved to the compiler, and is taken once per scope.

use std::collections::BTreeSet;

/// Keywords of C23, C++23 and GNU C that do not start with an underscore, and what compilers define as macros in GNU modes.
const KEYWORDS: [&str; 113] = [
    "alignas",
    "alignof",
    "and",
    "and_eq",
    "asm",
    "auto",
    "bitand",
    "bitor",
    "bool",
    "break",
    "case",
    "catch",
    "char",
    "char16_t",
    "char32_t",
    "char8_t",
    "class",
    "co_await",
    "co_return",
    "co_yield",
    "compl",
    "concept",
    "const",
    "const_cast",
    "consteval",
    "constexpr",
    "constinit",
    "continue",
    "decltype",
    "default",
    "delete",
    "do",
    "double",
    "dynamic_cast",
    "else",
    "enum",
    "explicit",
    "export",
    "extern",
    "false",
    "float",
    "for",
    "friend",
    "goto",
    "if",
    "inline",
    "int",
    "linux",
    "long",
    "mutable",
    "namespace",
    "new",
    "noexcept",
    "not",
    "not_eq",
    "nullptr",
    "operator",
    "or",
    "or_eq",
    "private",
    "protected",
    "public",
    "register",
    "reinterpret_cast",
    "requires",
    "restrict",
    "return",
    "short",
    "signed",
    "sizeof",
    "static",
    "static_assert",
    "static_cast",
    "struct",
    "switch",
    "template",
    "this",
    "thread_local",
    "throw",
    "true",
    "try",
    "typedef",
    "typeid",
    "typename",
    "typeof",
    "typeof_unqual",
    "union",
    "unix",
    "unsigned",
    "using",
    "virtual",
    "void",
    "volatile",
    "wchar_t",
    "while",
    "xor",
    "xor_eq",
    // Macros of headers that programs are likely to include.
    "assert",
    "errno",
    "offsetof",
    "size_t",
    "ptrdiff_t",
    "intptr_t",
    "uintptr_t",
    "stdin",
    "stdout",
    "stderr",
    "max",
    "min",
    "htons",
    "htonl",
    "ntohs",
    "ntohl",
];

/// What the general header declares besides map types and helpers.
const GENERAL: [&str; 30] = [
    "uint8_t",
    "uint16_t",
    "uint32_t",
    "uint64_t",
    "int8_t",
    "int16_t",
    "int32_t",
    "int64_t",
    "NULL",
    "SEC",
    "bpf_htons",
    "bpf_ntohs",
    "bpf_htonl",
    "bpf_ntohl",
    "BPF2SYS_H",
    "BPF2SYS_OFFSET",
    "BPF2SYS_SIZE",
    "BPF2SYS_ASSERT",
    "BPF_SUBPROGRAM",
    "BPF_INLINE",
    "BPF_OPAQUE",
    "BPF_HELPER",
    "BPF_FUNCTION_OF",
    "bpf_map_type",
    "bpf_map_update_flags",
    "BPF_ANY",
    "BPF_NOEXIST",
    "BPF_EXIST",
    "BPF2SYS",
    "EOF",
];

/// Longest identifier that is made, in bytes, besides a number that tells it from others.
const MAX: usize = 200;

/// The identifiers that are taken in one scope.
#[derive(Clone, Debug, Default)]
pub(super) struct Scope(BTreeSet<String>);

impl Scope {
    /// An identifier for `wanted` that nothing else in the scope has; if that is taken, one that starts with `qualifier`.
    pub(super) fn take(&mut self, wanted: &str, qualifier: &str) -> String {
        let plain = identifier(wanted);
        if self.0.insert(plain.clone()) {
            return plain;
        }
        let qualified = identifier(&format!("{qualifier}_{plain}"));
        if self.0.insert(qualified.clone()) {
            return qualified;
        }
        let numbered = (2_u32..).map(|n| format!("{qualified}_{n}"));
        let mut free = numbered.filter(|name| !self.0.contains(name));
        let name = free.next().unwrap_or(qualified);
        self.0.insert(name.clone());
        name
    }

    /// The same for names that only have to differ: `size`, `size_2`.
    pub(super) fn number(&mut self, wanted: &str) -> String {
        let plain = identifier(wanted);
        let mut names = std::iter::once(plain.clone()).chain((2_u32..).map(|n| format!("{plain}_{n}")));
        let name = names.find(|name| !self.0.contains(name)).unwrap_or(plain);
        self.0.insert(name.clone());
        name
    }

    /// Takes these, too.
    pub(super) fn reserve(&mut self, names: impl IntoIterator<Item = String>) {
        self.0.extend(names);
    }
}

/// The text as an identifier: unchanged if it is one and may be used.
pub(super) fn identifier(text: &str) -> String {
    let plain = |c: char| if c.is_ascii_alphanumeric() { c } else { '_' };
    let mut name: String = text.chars().take(MAX).map(plain).collect();
    // Names with a leading underscore belong to the compiler, some of them in each scope.
    name = name.trim_start_matches('_').to_owned();
    if name.starts_with(|c: char| c.is_ascii_digit()) || name.is_empty() {
        name.insert(0, 'n');
    }
    if is_taken(&name) {
        name.push('_');
    }
    name
}

/// Whether every name scope has a use for it already. Names of macros that are built with [`guard`] are among them.
fn is_taken(name: &str) -> bool {
    KEYWORDS.contains(&name) || GENERAL.contains(&name) || (name.starts_with("BPF2SYS_") && name.ends_with("_H"))
}

/// The macro that tells that a part of the headers was included.
pub(super) fn guard(part: &str) -> String {
    format!("BPF2SYS_{}_H", part.to_ascii_uppercase())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_text_becomes_an_identifier() {
        let cases = [
            ("bpf_memcpy", "bpf_memcpy"),
            ("", "n"),
            ("__", "n"),
            ("3com", "n3com"),
            ("_Static_assert", "Static_assert"),
            ("__LINE__", "LINE__"),
            ("my-helper", "my_helper"),
            ("ä b", "__b"),
            ("int", "int_"),
            ("class", "class_"),
            ("NULL", "NULL_"),
            ("SEC", "SEC_"),
            ("uint8_t", "uint8_t_"),
            ("BPF2SYS_XDP_H", "BPF2SYS_XDP_H_"),
            ("x); int y; (", "x___int_y___"),
        ];
        for (text, expected) in cases {
            let expected = expected.trim_start_matches('_');
            assert_eq!(identifier(text), expected, "{text:?}");
        }
        assert_eq!(identifier(&"x".repeat(100_000)).len(), MAX);
    }

    #[test]
    fn a_name_is_given_once() {
        let mut scope = Scope::default();
        let names = ["a", "a", "a", "p_a", "a"].map(|wanted| scope.take(wanted, "p"));
        assert_eq!(names, ["a", "p_a", "p_a_2", "p_p_a", "p_a_3"]);
    }

    #[test]
    fn names_of_the_general_header_are_known() {
        let template = include_str!("../../../../templates/bpf2sys.h");
        let mut found = 0;
        for line in template.lines() {
            let name = match line.split_once(' ') {
                Some(("#define", rest)) => rest.split(['(', ' ']).next(),
                Some(("typedef", rest)) => rest.trim_end_matches(';').split(' ').next_back(),
                Some(("enum", rest)) => rest.split(' ').next(),
                _ if line.trim_start().starts_with("BPF_") => line.trim_start().split(' ').next(),
                _ => None,
            };
            let Some(name) = name else { continue };
            found += 1;
            assert!(name.starts_with("__") || is_taken(name), "{name}");
        }
        assert!(found > 20, "{found}");
    }
}
