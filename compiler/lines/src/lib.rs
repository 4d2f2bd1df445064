//! Which lines of source the code of an image came from.
//!
//! Given: an image, and what tells of its lines. Computed: a [`LineTable`]. It comes from
//!
//! | where | who writes it |
//! |---|---|
//! | a file of [`LineTable::to_json`], beside the image | `bpf2sys build --emit lines` |
//! | the program database (PDB), beside the image: [`pdb::read`] | Microsoft's linker, `lld-link` |
//!
//! An image has none in itself: sections of DWARF need the string table behind a COFF symbol table, and eBPF for Windows's user mode library is not
//! known to read images that have one (native module contract §5.1).
//!
//! A line table belongs to one image: each form says to which, and is refused for others.

pub mod bytecode;
mod code;
mod json;
pub mod pdb;
mod table;

pub use code::code_hash;
pub use table::{Block, Function, LineTable, Place, Row, Slot, SlotKind};

/// Why there is no line table.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LinesError {
    /// The image or the file can't be read.
    #[error("{0}")]
    Malformed(String),
    /// The file is about another image.
    #[error("it belongs to another image: {0}")]
    OtherImage(String),
}

fn malformed(error: impl std::fmt::Display) -> LinesError {
    LinesError::Malformed(error.to_string())
}
