//! Writes Windows PE images.
//!
//! Given: a [`NativeObject`], which is sections, symbols, relocations, function ranges with their unwind data, and
//! imports: what a linker takes.
//! Computed: the bytes of an image that Windows loads.
//! This crate knows the PE format and nothing of eBPF; the order of sections, their names and exact sizes are the
//! caller's, and are kept.

mod native_object;

pub use native_object::{
    FunctionRange, Import, Machine, NativeObject, Relocation, RelocationKind, Section, SectionIndex, SectionKind,
    Symbol, SymbolIndex, SymbolPlace, UnwindCodeX64, UnwindInfo, UnwindOpX64,
};
