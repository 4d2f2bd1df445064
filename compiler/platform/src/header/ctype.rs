//! C types of fields, arguments and results.
//!
//! Given: the text of a provider file. Computed: a type that is printed anew, so that nothing of the text reaches a header;
//! `None` for what is not understood.

/// A C type.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct CType {
    /// Whether what a pointer points to is constant.
    pub constant: bool,
    pub base: Base,
    pub pointers: u8,
    /// Length of an array of it.
    pub array: Option<u32>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Base {
    Void,
    Char,
    /// `int`, which is a better name than `int32_t` for a result.
    Int,
    Integer {
        signed: bool,
        bytes: u8,
    },
    /// A type that a header may or may not declare.
    Named(String),
}

/// Longest text of a type, in bytes.
const MAX: usize = 256;

impl CType {
    /// Reads a type: `uint32_t`, `const void *`, `uint8_t[16]`, `mode_t:8`.
    pub(super) fn parse(text: &str) -> Option<CType> {
        if text.len() > MAX {
            return None;
        }
        let (text, _bits) = match text.split_once(':') {
            Some((text, bits)) => (text, Some(bits.trim().parse::<u8>().ok()?)),
            None => (text, None),
        };
        let (text, array) = match text.trim_end().strip_suffix(']') {
            Some(text) => {
                let (text, length) = text.split_once('[')?;
                (text, Some(length.trim().parse().ok().filter(|n| *n > 0)?))
            }
            None => (text, None),
        };
        let name = text.trim_end_matches(|c: char| c == '*' || c.is_whitespace());
        let pointers = u8::try_from(text.get(name.len()..)?.matches('*').count()).ok()?;
        let mut constant = false;
        let mut words = Vec::new();
        for word in name.split_whitespace() {
            match word {
                "const" => constant = true,
                "struct" | "enum" if words.is_empty() => {}
                _ => words.push(word),
            }
        }
        let base = base(&words)?;
        (base != Base::Void || pointers > 0).then_some(CType {
            constant: constant && pointers > 0,
            base,
            pointers,
            array,
        })
    }

    pub(super) fn pointer(base: Base, constant: bool) -> CType {
        CType {
            constant,
            base,
            pointers: 1,
            array: None,
        }
    }

    pub(super) fn integer(signed: bool, bytes: u8) -> CType {
        CType {
            constant: false,
            base: Base::Integer { signed, bytes },
            pointers: 0,
            array: None,
        }
    }

    /// An array of bytes.
    pub(super) fn bytes(length: u32) -> CType {
        CType {
            array: Some(length),
            ..CType::integer(false, 1)
        }
    }

    /// Size of one element in bytes, which is its alignment, too; `None` for types that others declare.
    pub(super) fn element(&self) -> Option<u32> {
        if self.pointers > 0 {
            return Some(8);
        }
        match self.base {
            Base::Char => Some(1),
            Base::Int => Some(4),
            Base::Integer { bytes, .. } => Some(bytes.into()),
            Base::Void | Base::Named(_) => None,
        }
    }

    /// Size in bytes.
    pub(super) fn size(&self) -> Option<u32> {
        self.element()?.checked_mul(self.array.unwrap_or(1))
    }

    /// The name that a header must declare for it.
    pub(super) fn named(&self) -> Option<&str> {
        match &self.base {
            Base::Named(name) => Some(name),
            _ => None,
        }
    }

    /// A declaration of `name`; without a name, the type.
    pub(super) fn declare(&self, name: &str) -> String {
        let base = match &self.base {
            Base::Void => "void".to_owned(),
            Base::Char => "char".to_owned(),
            Base::Int => "int".to_owned(),
            Base::Integer { signed, bytes } => {
                format!("{}int{}_t", if *signed { "" } else { "u" }, u32::from(*bytes) * 8)
            }
            Base::Named(name) => super::names::identifier(name),
        };
        let constant = if self.constant { "const " } else { "" };
        let array = self.array.map_or_else(String::new, |n| format!("[{n}]"));
        let declarator = format!("{}{name}{array}", "*".repeat(self.pointers.into()));
        format!("{constant}{base} {declarator}").trim_end().to_owned()
    }
}

/// The meaning of the words of a type. `long` is left out: it has 8 bytes in a program and 4 in a driver.
fn base(words: &[&str]) -> Option<Base> {
    let integer = |signed, bytes| Some(Base::Integer { signed, bytes });
    match words {
        ["void"] => Some(Base::Void),
        ["char"] => Some(Base::Char),
        ["int" | "signed"] | ["signed", "int"] => Some(Base::Int),
        ["uint8_t" | "bool" | "_Bool" | "BOOLEAN" | "UCHAR"] | ["unsigned", "char"] => integer(false, 1),
        ["int8_t"] | ["signed", "char"] => integer(true, 1),
        ["uint16_t" | "wchar_t" | "USHORT"] | ["unsigned", "short"] => integer(false, 2),
        ["int16_t" | "short"] => integer(true, 2),
        ["uint32_t" | "unsigned" | "ULONG"] | ["unsigned", "int"] => integer(false, 4),
        ["int32_t" | "LONG" | "NTSTATUS"] => integer(true, 4),
        ["uint64_t" | "size_t" | "uintptr_t" | "ULONG64"] | ["unsigned", "long", "long"] => integer(false, 8),
        ["int64_t" | "ssize_t" | "intptr_t"] | ["long", "long"] => integer(true, 8),
        [name] if is_identifier(name) => Some(Base::Named((*name).to_owned())),
        _ => None,
    }
}

fn is_identifier(text: &str) -> bool {
    !text.is_empty() && super::names::identifier(text) == text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_are_printed_as_they_are_read() {
        let cases = [
            ("uint8_t*", "uint8_t *x", Some(8)),
            ("const void *", "const void *x", Some(8)),
            ("void const*", "const void *x", Some(8)),
            ("uint32_t[4]", "uint32_t x[4]", Some(16)),
            ("unsigned int", "uint32_t x", Some(4)),
            ("const int", "int x", Some(4)),
            ("struct bind_md *", "bind_md *x", Some(8)),
            ("bind_operation_t", "bind_operation_t x", None),
            ("process_operation_t:8", "process_operation_t x", None),
            ("size_t", "uint64_t x", Some(8)),
            ("char **", "char **x", Some(8)),
        ];
        for (text, expected, size) in cases {
            let read = CType::parse(text).unwrap_or_else(|| panic!("{text}"));
            assert_eq!(read.declare("x"), expected, "{text}");
            assert_eq!(read.size(), size, "{text}");
        }
    }

    #[test]
    fn what_is_not_understood_is_no_type() {
        for text in [
            "",
            "*",
            "void",
            "long",
            "int; int y",
            "int[",
            "int[0]",
            "int[-1]",
            "int[99999999999]",
            "int x",
            "int (*)(void)",
            "uint8_t*/",
            "a b c",
            "a:b",
            "__attribute__((x)) int",
            "1a",
            "int\u{0}",
        ] {
            assert_eq!(CType::parse(text), None, "{text:?}");
        }
        assert_eq!(CType::parse(&"*".repeat(300)), None);
    }
}
