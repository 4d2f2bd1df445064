//! Bytes of maps and events by their types in the C source.
//!
//! Given: bytes and a type of [`DataTypes`](bpf2sys_bytecode::DataTypes). Computed: JSON, a line of text, and the bytes again.
//! Safe because: types come from files that nobody has looked at. No value is taken apart into more pieces than its size justifies; what
//! has more is shown as bytes. What is lost by showing a value by its type, [`exact`] finds by going back.
//!
//! | type | JSON | also read |
//! |---|---|---|
//! | integer | number; `"0x…"` beyond 64 bits | text with a number, `"0x1f"` |
//! | `bool` | `true`, `false`; a number if it is neither | 0 and 1 |
//! | enumeration | name, or number where none fits | number |
//! | floating point | number; `"inf"`; `"hex:…"` for what is no number | text |
//! | pointer | `"0x…"` | number |
//! | array of `char` | text up to the first NUL, if zeros are behind and all of it can be shown; else `"hex:…"` | list |
//! | array of unsigned bytes | `"hex:…"` | list |
//! | other array | list | shorter list: the rest is zero |
//! | structure | object; members of nameless ones in it are its own | what is missing is zero |
//! | union | object with all members | some members; those that share bytes must agree |
//!
//! Everywhere, a text that starts with `hex:` is the bytes themselves, all of them, in the order of memory. Other texts are never bytes:
//! `"0x35"` is a number.
//!
//! [`maps`] has the JSON form of whole maps.

mod dwarf;
mod error;
mod json;
mod layout;
pub mod maps;
mod module_types;
mod read;
mod show;
#[cfg(test)]
mod tests;

pub use error::{ValueError, ValueProblem};
pub use json::Json;
pub use maps::{
    Change, ExpectedMaps, MapChange, MapShape, MapsError, MapsProblem, difference, is_record, lines, maps_from_json,
    maps_to_json, record_to_json,
};
pub use module_types::{MapTypes, ModuleTypes, RecordTypeError, Section};
pub use read::from_json;
pub use show::{exact, hex, to_json, to_text};
