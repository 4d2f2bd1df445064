//! GUIDs in the order that Windows keeps them in memory.

use std::fmt;
use std::str::FromStr;

/// A GUID as 16 bytes in memory order: `Data1`, `Data2` and `Data3` little endian, then eight bytes as written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Guid(pub [u8; 16]);

impl Guid {
    /// The GUID of all zeros, which stands for "unspecified".
    pub const ZERO: Guid = Guid([0; 16]);
}

/// A text is not a GUID.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a GUID (expected the form 01234567-89ab-cdef-0123-456789abcdef)")]
pub struct GuidError(pub String);

impl FromStr for Guid {
    type Err = GuidError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        uuid::Uuid::try_parse(text)
            .map(|u| Guid(u.to_bytes_le()))
            .map_err(|_| GuidError(text.to_owned()))
    }
}

impl fmt::Display for Guid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", uuid::Uuid::from_bytes_le(self.0).as_hyphenated())
    }
}
