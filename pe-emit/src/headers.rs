//! The headers of an image: DOS header and program, NT headers, section table.
//!
//! The values that are the same in every image are those of drivers that Microsoft's tools build; the comments say which
//! of them Windows looks at.

use std::mem::size_of;

use object::endian::{U16, U32, U64};
use object::pe::{
    DllFlags, IMAGE_DLLCHARACTERISTICS_DYNAMIC_BASE, IMAGE_DLLCHARACTERISTICS_FORCE_INTEGRITY,
    IMAGE_DLLCHARACTERISTICS_GUARD_CF, IMAGE_DLLCHARACTERISTICS_HIGH_ENTROPY_VA, IMAGE_DLLCHARACTERISTICS_NX_COMPAT,
    IMAGE_DOS_SIGNATURE, IMAGE_FILE_MACHINE_AMD64, IMAGE_FILE_MACHINE_ARM64, IMAGE_NT_OPTIONAL_HDR64_MAGIC,
    IMAGE_NT_SIGNATURE, IMAGE_NUMBEROF_DIRECTORY_ENTRIES, IMAGE_SCN_CNT_CODE, ImageDataDirectory, ImageDosHeader,
    ImageFileHeader, ImageNtHeaders64, ImageOptionalHeader64, ImageSectionHeader, SectionFlags,
};
use object::pod::bytes_of;

use crate::address::{FILE_ALIGNMENT, Rva, SECTION_ALIGNMENT};
use crate::image_kind::ImageKind;
use crate::layout::{Layout, PlacedSection};
use crate::native_object::Machine;

/// What DOS runs: prints the message behind it and exits with status 1.
///
/// ```text
/// push cs | pop ds | mov dx, 14 | mov ah, 9 | int 21h | mov ax, 4C01h | int 21h
/// ```
const DOS_CODE: [u8; 14] = [
    0x0E, 0x1F, 0xBA, 0x0E, 0x00, 0xB4, 0x09, 0xCD, 0x21, 0xB8, 0x01, 0x4C, 0xCD, 0x21,
];
const DOS_MESSAGE_SIZE: usize = ImageKind::Driver.dos_message().len();

const DOS_HEADER_SIZE: usize = size_of::<ImageDosHeader>();
const NT_HEADERS_OFFSET: usize = DOS_HEADER_SIZE + DOS_CODE.len() + DOS_MESSAGE_SIZE;

/// `SizeOfOptionalHeader`. Readers of native eBPF modules assume this number and do not read the field (native module
/// contract §5.1).
const OPTIONAL_HEADER_SIZE: usize =
    size_of::<ImageOptionalHeader64>() + IMAGE_NUMBEROF_DIRECTORY_ENTRIES * size_of::<ImageDataDirectory>();

/// The size of everything before the section table, in bytes.
pub(crate) const FIXED_SIZE: usize = NT_HEADERS_OFFSET
    + size_of::<ImageNtHeaders64>()
    + IMAGE_NUMBEROF_DIRECTORY_ENTRIES * size_of::<ImageDataDirectory>();

const _: () = assert!(DOS_HEADER_SIZE == 0x40);
const _: () = assert!(NT_HEADERS_OFFSET.is_multiple_of(8));
const _: () = assert!(OPTIONAL_HEADER_SIZE == 0xF0);

/// The data directories, all empty to begin with.
#[derive(Default)]
pub(crate) struct Directories([(u32, u32); IMAGE_NUMBEROF_DIRECTORY_ENTRIES]);

impl Directories {
    /// Sets the directory with this `IMAGE_DIRECTORY_ENTRY_*` number to a place and its size in bytes.
    pub(crate) fn set(&mut self, entry: usize, (rva, size): (Rva, u32)) {
        self.0[entry] = (rva.0, size);
    }
}

/// What headers say that neither the kind of image nor the layout gives.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Fields {
    pub entry: Rva,
    pub check_sum: u32,
    /// No time: a part of the hash of the contents, as the debug entry REPRO says.
    pub time_date_stamp: u32,
    /// Whether the code takes part in Control Flow Guard.
    pub guard: bool,
    /// Whether Windows is to check the signature whenever it loads the image.
    pub force_integrity: bool,
}

impl Fields {
    fn dll_characteristics(self) -> DllFlags {
        let mut flags = IMAGE_DLLCHARACTERISTICS_HIGH_ENTROPY_VA
            | IMAGE_DLLCHARACTERISTICS_DYNAMIC_BASE
            | IMAGE_DLLCHARACTERISTICS_NX_COMPAT;
        for (wanted, flag) in [
            (self.guard, IMAGE_DLLCHARACTERISTICS_GUARD_CF),
            (self.force_integrity, IMAGE_DLLCHARACTERISTICS_FORCE_INTEGRITY),
        ] {
            if wanted {
                flags |= flag;
            }
        }
        flags
    }
}

/// The bytes of all headers, `layout.headers_size` of them.
pub(crate) fn write(
    kind: ImageKind,
    machine: Machine,
    layout: &Layout,
    directories: &Directories,
    fields: Fields,
) -> Vec<u8> {
    let mut out = Vec::with_capacity(layout.headers_size as usize);
    out.extend_from_slice(bytes_of(&dos_header()));
    out.extend_from_slice(&DOS_CODE);
    out.extend_from_slice(kind.dos_message());
    out.extend_from_slice(bytes_of(&ImageNtHeaders64 {
        signature: IMAGE_NT_SIGNATURE.into(),
        file_header: file_header(kind, machine, layout.sections.len(), fields),
        optional_header: optional_header(kind, layout, fields),
    }));
    for (rva, size) in directories.0 {
        let directory = ImageDataDirectory {
            virtual_address: rva.into(),
            size: size.into(),
        };
        out.extend_from_slice(bytes_of(&directory));
    }
    for section in &layout.sections {
        out.extend_from_slice(bytes_of(&section_header(section)));
    }
    out.resize(layout.headers_size as usize, 0);
    out
}

fn dos_header() -> ImageDosHeader {
    const PARAGRAPH: usize = 16;
    const PAGE: usize = 512;
    let zero = U16::from(0);
    ImageDosHeader {
        e_magic: IMAGE_DOS_SIGNATURE.into(),
        e_cblp: ((NT_HEADERS_OFFSET % PAGE) as u16).into(),
        e_cp: (NT_HEADERS_OFFSET.div_ceil(PAGE) as u16).into(),
        e_crlc: zero,
        e_cparhdr: ((DOS_HEADER_SIZE / PARAGRAPH) as u16).into(),
        // At least 256 bytes behind the program, for its stack.
        e_minalloc: 0x10.into(),
        e_maxalloc: 0xFFFF.into(),
        e_ss: zero,
        e_sp: 0x140.into(),
        e_csum: zero,
        e_ip: zero,
        e_cs: zero,
        e_lfarlc: (DOS_HEADER_SIZE as u16).into(),
        e_ovno: zero,
        e_res: [zero; 4],
        e_oemid: zero,
        e_oeminfo: zero,
        e_res2: [zero; 10],
        e_lfanew: (NT_HEADERS_OFFSET as u32).into(),
    }
}

fn file_header(kind: ImageKind, machine: Machine, sections: usize, fields: Fields) -> ImageFileHeader {
    ImageFileHeader {
        machine: match machine {
            Machine::X64 => IMAGE_FILE_MACHINE_AMD64,
            Machine::Arm64 => IMAGE_FILE_MACHINE_ARM64,
        }
        .into(),
        number_of_sections: (sections as u16).into(),
        time_date_stamp: fields.time_date_stamp.into(),
        // No COFF symbols: they are deprecated for images, and readers refuse a file whose table they cannot follow.
        pointer_to_symbol_table: 0.into(),
        number_of_symbols: 0.into(),
        size_of_optional_header: (OPTIONAL_HEADER_SIZE as u16).into(),
        characteristics: kind.characteristics().into(),
    }
}

fn optional_header(kind: ImageKind, layout: &Layout, fields: Fields) -> ImageOptionalHeader64 {
    let is_code = |section: &&PlacedSection| section.flags & IMAGE_SCN_CNT_CODE != SectionFlags(0);
    let code: u32 = layout
        .sections
        .iter()
        .filter(is_code)
        .map(|section| section.raw_size)
        .sum();
    let all: u32 = layout.sections.iter().map(|section| section.raw_size).sum();
    let base_of_code = layout.sections.iter().find(is_code).map_or(0, |section| section.rva.0);
    let (system_version, image_version) = kind.versions();
    ImageOptionalHeader64 {
        magic: IMAGE_NT_OPTIONAL_HDR64_MAGIC.into(),
        // The generation of Microsoft's linker whose format this is; lld says the same. Nothing at load depends on it.
        major_linker_version: 14,
        minor_linker_version: 0,
        size_of_code: code.into(),
        size_of_initialized_data: (all - code).into(),
        size_of_uninitialized_data: 0.into(),
        address_of_entry_point: fields.entry.0.into(),
        base_of_code: base_of_code.into(),
        image_base: kind.base().into(),
        section_alignment: SECTION_ALIGNMENT.into(),
        file_alignment: FILE_ALIGNMENT.into(),
        major_operating_system_version: system_version.into(),
        minor_operating_system_version: 0.into(),
        major_image_version: image_version.into(),
        minor_image_version: 0.into(),
        major_subsystem_version: system_version.into(),
        minor_subsystem_version: 0.into(),
        win32_version_value: 0.into(),
        size_of_image: layout.image_size.into(),
        size_of_headers: layout.headers_size.into(),
        check_sum: U32::from(fields.check_sum),
        subsystem: kind.subsystem().into(),
        dll_characteristics: fields.dll_characteristics().into(),
        // Drivers and libraries run on the stacks of others, and their heaps are those of others; these are the defaults of Microsoft's linker.
        size_of_stack_reserve: U64::from(0x10_0000),
        size_of_stack_commit: U64::from(0x1000),
        size_of_heap_reserve: U64::from(0x10_0000),
        size_of_heap_commit: U64::from(0x1000),
        loader_flags: 0.into(),
        number_of_rva_and_sizes: (IMAGE_NUMBEROF_DIRECTORY_ENTRIES as u32).into(),
    }
}

fn section_header(section: &PlacedSection) -> ImageSectionHeader {
    ImageSectionHeader {
        name: section.name,
        virtual_size: section.virtual_size.into(),
        virtual_address: section.rva.0.into(),
        size_of_raw_data: section.raw_size.into(),
        pointer_to_raw_data: section.file_offset.0.into(),
        pointer_to_relocations: 0.into(),
        pointer_to_linenumbers: 0.into(),
        number_of_relocations: 0.into(),
        number_of_linenumbers: 0.into(),
        characteristics: section.flags.into(),
    }
}
