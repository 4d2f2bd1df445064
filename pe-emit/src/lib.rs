//! Writes Windows PE images and COFF object files.
//!
//! Given: a [`NativeObject`], which is sections, symbols, relocations, function ranges with their unwind data, and
//! imports: what a linker takes.
//! Computed: the bytes of an image that Windows loads, or of an object file that another linker takes.
//! This crate knows the PE format and nothing of eBPF; the order of sections, their names and exact sizes are the
//! caller's, and are kept.

mod address;
mod base_relocations;
mod checksum;
mod coff;
mod debug;
mod error;
mod exports;
mod functions;
mod headers;
mod image;
mod image_kind;
mod image_options;
mod imports;
mod layout;
mod link;
mod load_config;
mod native_object;
mod relocate;
mod resources;
mod sections;
mod symbols;
#[cfg(test)]
mod test_objects;
mod unwind_arm64;
mod unwind_x64;
mod version_info;

pub use coff::coff;
pub use error::{
    EntryProblem, ExportProblem, FunctionProblem, ImportProblem, LinkError, LoadConfigProblem, RelocationProblem,
    SectionProblem, SymbolProblem,
};
pub use image::Image;
pub use image_options::ImageOptions;
pub use link::{link, link_with};
pub use native_object::{
    FunctionRange, Guard, Import, LoadConfig, Machine, NativeObject, Purpose, Relocation, RelocationKind, Section,
    SectionIndex, SectionKind, Symbol, SymbolIndex, SymbolPlace, UnwindCodeX64, UnwindInfo, UnwindOpX64,
};
pub use version_info::{Version, VersionInfo};
