//! Contexts of programs by the names of their fields.
//!
//! Given: a context of the platform, and JSON that names its fields; or its bytes. Computed: the bytes and the data of a run; or the
//! fields with their values, as people write them. How a field is written follows from what its provider says of it: its format,
//! its values, its byte order, its C type. No program type is named in code.
//!
//! Safe because: a value is shown in a form only if [`encode`] makes the same bytes of it, and as bytes otherwise. So what is shown
//! can be given again. Bytes that no field has are 0 then, and so are pointers, which a run sets itself.
//!
//! `docs/contexts.md` is the page for people.

mod address;
mod bytes;
mod decode;
mod encode;
mod error;
mod expected;
mod form;
pub(crate) mod layout;
mod number;
mod sid;
mod time;

#[cfg(test)]
mod tests;

pub use decode::{Fields, decode};
pub use encode::encode;
pub use error::ContextError;
pub use expected::{OtherValue, other_values};

/// What a run is given.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Given {
    /// The context structure, whole. Its pointers are 0.
    pub context: Vec<u8>,
    /// The bytes between the data pointers, if they were given.
    pub data: Option<Vec<u8>>,
    /// The bytes between the metadata pointer and the data, if they were given.
    pub meta: Option<Vec<u8>>,
}
