//! `NTSTATUS` values.
#![allow(missing_docs)] // their names are those of ntstatus.h

pub const SUCCESS: u32 = 0;
pub const PENDING: u32 = 0x103;
pub const INVALID_PARAMETER: u32 = 0xC000_000D;
pub const OBJECT_NAME_NOT_FOUND: u32 = 0xC000_0034;
