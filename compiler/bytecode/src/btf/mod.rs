//! BTF: the types of a program, and which of its source lines each instruction came from.
//!
//! A linker that knows nothing of BTF (`ld -r`) leaves the sections of its objects one behind the other. They are read as one, with type ids
//! counted on, and each with its own strings.
//!
//! Only what the reader needs is kept, but every type is walked, and one of an unknown kind is an error: its length
//! would be unknown, and all types after it misread.

mod ext;
mod types;

pub(crate) use ext::{CoreRecord, FunctionRecord, LineRecord, Records, core_records, records};
pub(crate) use types::{Btf, DataSection, Member, Scalar, Text, Type, TypeId};

/// Little-endian integers from a section, front to back.
pub(crate) struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Reader<'a> {
        Reader(bytes)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn remaining(&self) -> usize {
        self.0.len()
    }

    pub(super) fn bytes(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(taken)
    }

    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (taken, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(*taken)
    }

    pub(super) fn u8(&mut self) -> Option<u8> {
        self.array().map(u8::from_le_bytes)
    }

    pub(super) fn u16(&mut self) -> Option<u16> {
        self.array().map(u16::from_le_bytes)
    }

    pub(crate) fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_le_bytes)
    }
}

/// The part of `whole` that starts at `offset` and has `length` bytes.
pub(super) fn part(whole: &[u8], offset: u32, length: u32) -> Option<&[u8]> {
    let start = usize::try_from(offset).ok()?;
    whole.get(start..)?.get(..usize::try_from(length).ok()?)
}

/// First field of both headers (Linux documentation, "BPF Type Format").
pub(super) const MAGIC: u16 = 0xeb9f;

/// What is left of a section behind the tables of one object, where a linker put those of another one behind them.
pub(super) fn next_object(rest: &[u8]) -> Option<&[u8]> {
    let start = rest.iter().position(|b| *b != 0)?;
    rest.get(start..).filter(|next| next.starts_with(&MAGIC.to_le_bytes()))
}
