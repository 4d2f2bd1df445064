//! Registry keys with their values, wherever they come from.

use std::collections::BTreeMap;

/// Names of keys and values are compared without regard to case. Windows compares them unit by unit by their upper case,
/// so characters whose upper case is more than one stay as they are.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Name(String);

impl Name {
    pub fn new(name: &str) -> Name {
        let upper = |c: char| {
            let mut upper = c.to_uppercase();
            match (upper.next(), upper.next()) {
                (Some(upper), None) => upper,
                _ => c,
            }
        };
        Name(name.chars().map(upper).collect())
    }
}

/// A key. Its keys and values come in the order in which the registry lists them, that of their names without case.
#[derive(Debug, Default)]
pub(super) struct Key {
    /// The name as it is written.
    pub name: String,
    /// Line of the export that names it first, from 1; 0 where there is no export.
    pub line: u32,
    pub keys: BTreeMap<Name, Key>,
    pub values: BTreeMap<Name, Value>,
}

/// A value. The key's default value has an empty name.
#[derive(Debug)]
pub(super) struct Value {
    /// Line of the export, from 1; 0 where there is no export.
    pub line: u32,
    pub data: Data,
}

/// What a value holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Data {
    /// `REG_SZ`.
    Text(String),
    /// `REG_DWORD`, four bytes.
    Dword(u32),
    /// Anything else: the number of the type, and the bytes. Texts and numbers whose bytes are none are here, too.
    Bytes(u32, Vec<u8>),
}

/// `REG_SZ`.
pub(super) const TEXT: u32 = 1;
/// `REG_BINARY`.
pub(super) const BINARY: u32 = 3;
/// `REG_DWORD`.
pub(super) const DWORD: u32 = 4;

impl Data {
    /// What the bytes of a value of type `kind` mean.
    pub fn new(kind: u32, bytes: Vec<u8>) -> Data {
        match kind {
            DWORD => match <[u8; 4]>::try_from(bytes.as_slice()) {
                Ok(number) => Data::Dword(u32::from_le_bytes(number)),
                Err(_) => Data::Bytes(kind, bytes),
            },
            TEXT => match text(&bytes) {
                Some(text) => Data::Text(text),
                None => Data::Bytes(kind, bytes),
            },
            _ => Data::Bytes(kind, bytes),
        }
    }

    /// What it is, for a message, e.g. "`REG_BINARY` of 16 bytes".
    pub fn describe(&self) -> String {
        let (kind, length) = match self {
            Data::Text(_) => return "REG_SZ".to_owned(),
            Data::Dword(_) => return "REG_DWORD".to_owned(),
            Data::Bytes(kind, bytes) => (*kind, bytes.len()),
        };
        let plural = if length == 1 { "" } else { "s" };
        let name = match kind {
            0 => "REG_NONE",
            TEXT => "REG_SZ",
            2 => "REG_EXPAND_SZ",
            BINARY => "REG_BINARY",
            DWORD => "REG_DWORD",
            5 => "REG_DWORD_BIG_ENDIAN",
            7 => "REG_MULTI_SZ",
            11 => "REG_QWORD",
            _ => return format!("type {kind} of {length} byte{plural}"),
        };
        format!("{name} of {length} byte{plural}")
    }
}

/// UTF-16 with or without the NUL that ends texts in the registry.
fn text(bytes: &[u8]) -> Option<String> {
    let (units, []) = bytes.as_chunks::<2>() else {
        return None;
    };
    let mut units: Vec<u16> = units.iter().map(|unit| u16::from_le_bytes(*unit)).collect();
    if units.last() == Some(&0) {
        units.pop();
    }
    String::from_utf16(&units).ok()
}
