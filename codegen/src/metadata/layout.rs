//! Structures of the metadata tables (native module contract §1.1), as the bytes that the runtime and its user-mode
//! library read. All numbers are little endian, also on a big-endian host; pointers are zero here and get relocations.

use zerocopy::little_endian::{U16, U32, U64};
use zerocopy::{Immutable, IntoBytes};

/// A pointer, filled in by the linker.
#[derive(Clone, Copy, Debug, Default, IntoBytes, Immutable)]
#[repr(C)]
pub(crate) struct Pointer(U64);

/// `ebpf_native_module_header_t`.
#[derive(Clone, Copy, Debug, Default, IntoBytes, Immutable)]
#[repr(C)]
pub(crate) struct Header {
    version: U16,
    padding: [u8; 6],
    /// Bytes up to and including the last field.
    size: U64,
    /// Stride of the array.
    total_size: U64,
}

impl Header {
    const fn new(size: u64, total_size: u64) -> Header {
        Header {
            version: U16::new(1),
            padding: [0; 6],
            size: U64::new(size),
            total_size: U64::new(total_size),
        }
    }
}

/// `helper_function_entry_t`.
#[derive(Clone, Copy, Debug, IntoBytes, Immutable)]
#[repr(C)]
pub(crate) struct HelperEntry {
    pub(crate) header: Header,
    /// 0 for a hole.
    pub(crate) helper_id: U32,
    pub(crate) padding: [u8; 4],
    /// `""` for a hole.
    pub(crate) name: Pointer,
}

impl HelperEntry {
    pub(crate) const HEADER: Header = Header::new(40, 40);
}

/// `map_entry_t`.
#[derive(Clone, Copy, Debug, IntoBytes, Immutable)]
#[repr(C)]
pub(crate) struct MapEntry {
    /// Zeros, by which user mode finds the table.
    pub(crate) marker: [U64; 2],
    pub(crate) header: Header,
    pub(crate) definition: MapDefinition,
    pub(crate) name: Pointer,
}

impl MapEntry {
    pub(crate) const HEADER: Header = Header::new(80, 80);
}

/// `ebpf_map_definition_in_file_t`.
#[derive(Clone, Copy, Debug, IntoBytes, Immutable)]
#[repr(C)]
pub(crate) struct MapDefinition {
    pub(crate) map_type: U32,
    pub(crate) key_size: U32,
    pub(crate) value_size: U32,
    pub(crate) max_entries: U32,
    pub(crate) inner_map_idx: U32,
    pub(crate) pinning: U32,
    pub(crate) id: U32,
    pub(crate) inner_id: U32,
}

/// `map_initial_values_t`.
#[derive(Clone, Copy, Debug, IntoBytes, Immutable)]
#[repr(C)]
pub(crate) struct MapInitialValues {
    pub(crate) header: Header,
    pub(crate) map_name: Pointer,
    pub(crate) count: U64,
    pub(crate) values: Pointer,
}

impl MapInitialValues {
    pub(crate) const HEADER: Header = Header::new(48, 48);
}

/// `global_variable_section_info_t`.
#[derive(Clone, Copy, Debug, IntoBytes, Immutable)]
#[repr(C)]
pub(crate) struct GlobalSection {
    pub(crate) header: Header,
    pub(crate) map_name: Pointer,
    pub(crate) size: U64,
    pub(crate) initial_data: Pointer,
}

impl GlobalSection {
    pub(crate) const HEADER: Header = Header::new(48, 48);
}

/// `program_entry_t` in the form of runtimes before 1.5. Later ones take it too, and another with [`BtfFunctionList`] behind.
#[derive(Clone, Copy, Debug, IntoBytes, Immutable)]
#[repr(C)]
pub(crate) struct ProgramEntry {
    /// Zeros, by which user mode finds the table.
    pub(crate) marker: U64,
    pub(crate) header: Header,
    pub(crate) function: Pointer,
    pub(crate) pe_section_name: Pointer,
    pub(crate) section_name: Pointer,
    pub(crate) program_name: Pointer,
    pub(crate) referenced_map_indices: Pointer,
    pub(crate) referenced_map_count: U16,
    pub(crate) padding0: [u8; 6],
    pub(crate) helpers: Pointer,
    pub(crate) helper_count: U16,
    pub(crate) padding1: [u8; 6],
    pub(crate) bpf_instruction_count: U64,
    pub(crate) program_type: Pointer,
    pub(crate) expected_attach_type: Pointer,
    pub(crate) program_info_hash: Pointer,
    pub(crate) program_info_hash_length: U64,
    pub(crate) program_info_hash_type: Pointer,
}

impl ProgramEntry {
    /// Of an entry that ends here.
    pub(crate) const HEADER: Header = Header::new(144, 144);
    /// Of an entry with a [`BtfFunctionList`] behind.
    pub(crate) const HEADER_WITH_BTF: Header = Header::new(154, 160);
}

/// The last fields of `program_entry_t` since version 1.5.
#[derive(Clone, Copy, Debug, IntoBytes, Immutable)]
#[repr(C)]
pub(crate) struct BtfFunctionList {
    /// Null exactly when `count` is 0.
    pub(crate) first: Pointer,
    pub(crate) count: U16,
    pub(crate) padding: [u8; 6],
}

/// `btf_resolved_function_entry_t`.
#[derive(Clone, Copy, Debug, IntoBytes, Immutable)]
#[repr(C)]
pub(crate) struct BtfFunctionEntry {
    pub(crate) header: Header,
    /// `""` for a hole.
    pub(crate) name: Pointer,
    /// Zeros for a hole.
    pub(crate) module: [u8; 16],
}

impl BtfFunctionEntry {
    pub(crate) const HEADER: Header = Header::new(48, 48);
}

/// `bpf2c_version_t`.
#[derive(Clone, Copy, Debug, IntoBytes, Immutable)]
#[repr(C)]
pub(crate) struct Version {
    pub(crate) major: U32,
    pub(crate) minor: U32,
    pub(crate) revision: U32,
}

/// `metadata_table_t`.
#[derive(Clone, Copy, Debug, IntoBytes, Immutable)]
#[repr(C)]
pub(crate) struct MetadataTable {
    pub(crate) size: U64,
    pub(crate) programs: Pointer,
    pub(crate) maps: Pointer,
    pub(crate) hash: Pointer,
    pub(crate) version: Pointer,
    pub(crate) map_initial_values: Pointer,
    pub(crate) global_variable_sections: Pointer,
}

/// What a getter hands out. Our own structure, read by `templates/metadata.clif`.
#[derive(Clone, Copy, Debug, IntoBytes, Immutable)]
#[repr(C)]
pub(crate) struct List {
    /// Null when `count` is 0.
    pub(crate) first: Pointer,
    pub(crate) count: U64,
}

/// Sizes and the offsets that the contract names.
const _: () = {
    use std::mem::{offset_of, size_of};
    assert!(size_of::<Header>() == 24);
    assert!(size_of::<HelperEntry>() == 40 && offset_of!(HelperEntry, name) == 32);
    assert!(size_of::<MapDefinition>() == 32);
    assert!(size_of::<MapEntry>() == 80 && offset_of!(MapEntry, name) == 72);
    assert!(size_of::<MapInitialValues>() == 48 && offset_of!(MapInitialValues, values) == 40);
    assert!(size_of::<GlobalSection>() == 48 && offset_of!(GlobalSection, initial_data) == 40);
    assert!(size_of::<ProgramEntry>() == 144 && size_of::<BtfFunctionList>() == 16);
    assert!(offset_of!(BtfFunctionList, count) == 152 - 144);
    assert!(size_of::<BtfFunctionEntry>() == 48 && offset_of!(BtfFunctionEntry, module) == 32);
    assert!(offset_of!(ProgramEntry, function) == 32 && offset_of!(ProgramEntry, helpers) == 80);
    assert!(offset_of!(ProgramEntry, program_type) == 104 && offset_of!(ProgramEntry, program_info_hash) == 120);
    assert!(size_of::<Version>() == 12);
    assert!(size_of::<MetadataTable>() == 56);
    assert!(size_of::<List>() == 16);
};
