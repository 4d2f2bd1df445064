//! The tables that a module shows the runtime, and those that the runtime shows the module, byte by byte
//! (native module contract §1).
//!
//! Pointers are 64-bit addresses. Alignment is left to the reader: tables are copied out of memory before use.

use zerocopy::little_endian::{I32, U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

macro_rules! layout {
    ($(#[doc = $doc:literal])+ $name:ident, $size:literal { $( $(#[doc = $fdoc:literal])+ $field:ident: $type:ty, )+ }) => {
        $(#[doc = $doc])+
        #[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
        #[repr(C)]
        #[allow(missing_docs, clippy::pub_underscore_fields)]
        pub struct $name { $( $(#[doc = $fdoc])+ pub $field: $type, )+ }
        const _: () = assert!(size_of::<$name>() == $size);
    };
}

layout! {
    /// Version and sizes of an element (`ebpf_native_module_header_t`).
    Header, 24 {
        /// Structure version.
        version: U16,
        /// Zero.
        padding: [u8; 6],
        /// Bytes up to and including the last field.
        size: U64,
        /// Stride of the array.
        total_size: U64,
    }
}
layout! {
    /// One helper of a program.
    HelperEntry, 40 {
        /// Version and sizes.
        header: Header,
        /// Helper id; 0 is a hole.
        id: U32,
        /// Zero.
        padding: [u8; 4],
        /// Name.
        name: U64,
    }
}
layout! {
    /// A map definition.
    MapDefinition, 32 {
        /// Map type number.
        map_type: U32,
        /// Key bytes.
        key_size: U32,
        /// Value bytes.
        value_size: U32,
        /// Capacity.
        max_entries: U32,
        /// Index of the inner template; 0 for none.
        inner_map_idx: U32,
        /// 0 none, 1 by name.
        pinning: U32,
        /// Id inside the module.
        id: U32,
        /// Id of the inner template; 0 for none.
        inner_id: U32,
    }
}
layout! {
    /// One map.
    MapEntry, 80 {
        /// Zero.
        marker: [u8; 16],
        /// Version and sizes.
        header: Header,
        /// Definition.
        definition: MapDefinition,
        /// Name.
        name: U64,
    }
}
layout! {
    /// Initial values of one map.
    InitialValues, 48 {
        /// Version and sizes.
        header: Header,
        /// Map name.
        name: U64,
        /// Number of values.
        count: U64,
        /// Array of names.
        values: U64,
    }
}
layout! {
    /// One section of global variables.
    GlobalSection, 48 {
        /// Version and sizes.
        header: Header,
        /// Name of its map.
        name: U64,
        /// Bytes.
        size: U64,
        /// Initial bytes.
        initial_data: U64,
    }
}
layout! {
    /// One BTF-resolved function.
    BtfEntry, 48 {
        /// Version and sizes.
        header: Header,
        /// Name.
        name: U64,
        /// Provider.
        module: [u8; 16],
    }
}
layout! {
    /// One program, in the form without BTF-resolved functions, which starts both forms.
    ProgramEntry, 144 {
        /// Zero.
        marker: [u8; 8],
        /// Version and sizes.
        header: Header,
        /// Code.
        function: U64,
        /// Name of its code section.
        pe_section_name: U64,
        /// ELF section name.
        section_name: U64,
        /// Name.
        program_name: U64,
        /// Indices of maps.
        map_indices: U64,
        /// How many.
        map_index_count: U16,
        /// Zero.
        padding1: [u8; 6],
        /// Helper table.
        helpers: U64,
        /// How many.
        helper_count: U16,
        /// Zero.
        padding2: [u8; 6],
        /// Instructions, in 8-byte slots.
        instruction_count: U64,
        /// Program type GUID.
        program_type: U64,
        /// Attach type GUID.
        attach_type: U64,
        /// Program information hash.
        hash: U64,
        /// Its bytes.
        hash_length: U64,
        /// Its algorithm.
        hash_type: U64,
    }
}
layout! {
    /// What the longer form of a program adds.
    ProgramBtf, 10 {
        /// BTF-resolved functions.
        functions: U64,
        /// How many.
        count: U16,
    }
}
layout! {
    /// The bpf2c version that a module states.
    Version, 12 {
        /// Major.
        major: U32,
        /// Minor.
        minor: U32,
        /// Revision.
        revision: U32,
    }
}
layout! {
    /// The functions by which a module shows its tables.
    MetadataTable, 56 {
        /// Bytes of this table.
        size: U64,
        /// Programs.
        programs: U64,
        /// Maps.
        maps: U64,
        /// ELF hash.
        hash: U64,
        /// Version.
        version: U64,
        /// Initial values of maps.
        initial_values: U64,
        /// Global variable sections.
        global_sections: U64,
    }
}
layout! {
    /// What a program gets as second argument (`program_runtime_context_t`).
    RuntimeContext, 56 {
        /// Zero.
        header: [u8; 24],
        /// Resolved helpers.
        helpers: U64,
        /// Maps of the module.
        maps: U64,
        /// Global variable sections.
        global_sections: U64,
        /// BTF-resolved functions.
        btf_functions: U64,
    }
}
layout! {
    /// A resolved helper.
    HelperData, 40 {
        /// Zero.
        header: [u8; 24],
        /// Address of the function.
        address: U64,
        /// Whether it is the tail call.
        tail_call: u8,
        /// Zero.
        padding: [u8; 7],
    }
}
layout! {
    /// A map as a program of version 1.4.0 or later sees it.
    MapData, 40 {
        /// Zero.
        header: [u8; 24],
        /// The map.
        address: U64,
        /// Value memory, of ARRAY maps.
        array_data: U64,
    }
}
layout! {
    /// A map as an earlier program sees it; a resolved global section has the same layout.
    AddressData, 32 {
        /// Zero.
        header: [u8; 24],
        /// The map, or the start of a global section.
        address: U64,
    }
}
layout! {
    /// A counted UTF-16 string (`UNICODE_STRING`).
    UnicodeString, 16 {
        /// Bytes, without a terminator.
        length: U16,
        /// Bytes of the buffer.
        maximum_length: U16,
        /// Zero.
        padding: [u8; 4],
        /// The text.
        buffer: U64,
    }
}
layout! {
    /// One row of a registry query (`RTL_QUERY_REGISTRY_TABLE`).
    QueryRow, 56 {
        /// Routine.
        routine: U64,
        /// `RTL_QUERY_REGISTRY_*`.
        flags: U32,
        /// Zero.
        padding1: [u8; 4],
        /// Name of a key or value.
        name: U64,
        /// Passed to the routine.
        entry_context: U64,
        /// Type of the default.
        default_type: U32,
        /// Zero.
        padding2: [u8; 4],
        /// The default.
        default_data: U64,
        /// Its bytes.
        default_length: U32,
        /// Zero.
        padding3: [u8; 4],
    }
}
layout! {
    /// A module identity (`NPI_MODULEID`).
    ModuleId, 24 {
        /// Bytes of this structure.
        length: U16,
        /// Zero.
        padding: [u8; 2],
        /// `MIT_GUID` is 1.
        id_type: I32,
        /// The GUID.
        guid: [u8; 16],
    }
}
layout! {
    /// What an NMR client registers (`NPI_CLIENT_CHARACTERISTICS` with its `NPI_REGISTRATION_INSTANCE`).
    ClientCharacteristics, 72 {
        /// 0.
        version: U16,
        /// Bytes of this structure.
        length: U16,
        /// Zero.
        padding: [u8; 4],
        /// `ClientAttachProvider`.
        attach: U64,
        /// `ClientDetachProvider`.
        detach: U64,
        /// `ClientCleanupBindingContext`.
        cleanup: U64,
        /// 0.
        instance_version: U16,
        /// 40.
        instance_size: U16,
        /// Zero.
        instance_padding: [u8; 4],
        /// NPI GUID.
        npi_id: U64,
        /// Module identity.
        module_id: U64,
        /// 0.
        number: U32,
        /// Zero.
        number_padding: [u8; 4],
        /// NPI-specific data.
        specific: U64,
    }
}
