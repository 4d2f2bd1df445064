//! The headers and sections of a PE32+ image, with every later read of its bytes checked.
//!
//! Given: the bytes of a file. Computed: its headers, its sections, and what lies at a place of it. Parsing judges only
//! what it needs to go on; the rules are in `loader_rules` and `usermode`.

use std::fmt;

use serde::Serialize;

/// An offset from the image base, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct Rva(pub u32);

impl fmt::Display for Rva {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#x}", self.0)
    }
}

/// The file is not an image that can be looked at.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error, Serialize, serde::Deserialize)]
pub enum ImageError {
    /// The headers cannot be read.
    #[error("not a PE image: {0}")]
    NotPe(String),
    /// It is a COFF object file, which a linker can make an image of.
    #[error("a COFF object file for {machine}, not an image: link it with a driver or DLL of your own")]
    ObjectFile {
        /// `x64` or `arm64`.
        machine: String,
    },
    /// It starts as a COFF object file and cannot be read as one.
    #[error("not a COFF object file: {0}")]
    NotObjectFile(String),
    /// It is a 32-bit image or a ROM image.
    #[error("not a PE32+ image (optional header magic {0:#x})")]
    NotPe32Plus(u16),
    /// The section table passes the end of the file.
    #[error("the section table of {sections} sections passes the end of the file")]
    SectionTable {
        /// How many sections the file header states.
        sections: u16,
    },
}

/// What a data directory is for (its position in the optional header).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(usize)]
pub enum DirectoryKind {
    /// Exports.
    Export = 0,
    /// Imports.
    Import = 1,
    /// Resources.
    Resource = 2,
    /// Function table (`.pdata`).
    Exception = 3,
    /// Attribute certificates; its address is a file offset.
    Certificate = 4,
    /// Base relocations.
    BaseRelocation = 5,
    /// Debug data.
    Debug = 6,
    /// Thread local storage.
    Tls = 9,
    /// Load configuration.
    LoadConfig = 10,
    /// Bound imports.
    BoundImport = 11,
    /// Import address table.
    ImportAddressTable = 12,
    /// Delay-loaded imports.
    DelayImport = 13,
    /// CLR header.
    Clr = 14,
}

/// Place and size of a data directory. Both are 0 if it is absent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Directory {
    /// Where it starts.
    pub rva: Rva,
    /// Bytes.
    pub size: u32,
}

/// A section header.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Section {
    /// The name's bytes up to the first NUL; any bytes.
    pub name: Vec<u8>,
    /// Bytes in memory as the linker counted them.
    pub virtual_size: u32,
    /// Where it starts in memory.
    pub rva: Rva,
    /// Bytes in the file.
    pub raw_size: u32,
    /// Where it starts in the file.
    pub raw_offset: u32,
    /// `IMAGE_SCN_*` flags.
    pub flags: u32,
}

impl Section {
    /// `IMAGE_SCN_CNT_CODE`.
    pub const CODE: u32 = 0x20;
    /// `IMAGE_SCN_MEM_DISCARDABLE`.
    pub const DISCARDABLE: u32 = 0x0200_0000;
    /// `IMAGE_SCN_MEM_SHARED`.
    pub const SHARED: u32 = 0x1000_0000;
    /// `IMAGE_SCN_MEM_EXECUTE`.
    pub const EXECUTE: u32 = 0x2000_0000;
    /// `IMAGE_SCN_MEM_READ`.
    pub const READ: u32 = 0x4000_0000;
    /// `IMAGE_SCN_MEM_WRITE`.
    pub const WRITE: u32 = 0x8000_0000;

    /// The name for messages.
    pub fn display_name(&self) -> String {
        String::from_utf8_lossy(&self.name).into_owned()
    }

    /// Bytes it takes in memory before rounding to pages.
    pub fn memory_size(&self) -> u32 {
        if self.virtual_size == 0 {
            self.raw_size
        } else {
            self.virtual_size
        }
    }

    /// Whether `rva` lies in it.
    pub fn contains(&self, rva: Rva) -> bool {
        rva.0 >= self.rva.0 && u64::from(rva.0) < u64::from(self.rva.0) + u64::from(self.memory_size())
    }

    /// Whether all of the flags are set.
    pub fn has(&self, flags: u32) -> bool {
        self.flags & flags == flags
    }

    /// Protection as text: `r-x` and so on.
    pub fn protection(&self) -> String {
        [(Self::READ, 'r'), (Self::WRITE, 'w'), (Self::EXECUTE, 'x')]
            .iter()
            .map(|&(flag, letter)| if self.has(flag) { letter } else { '-' })
            .collect()
    }
}

/// An image as it lies in a file.
#[derive(Clone, Debug)]
pub struct Image<'a> {
    /// The whole file.
    pub bytes: &'a [u8],
    /// `IMAGE_FILE_MACHINE_*`.
    pub machine: u16,
    /// `IMAGE_FILE_*` characteristics.
    pub characteristics: u16,
    /// Seconds since 1970, or a hash.
    pub timestamp: u32,
    /// `SizeOfOptionalHeader`.
    pub optional_header_size: u16,
    /// File offset of the COFF symbol table; 0 without one.
    pub symbol_table: u32,
    /// Preferred base.
    pub image_base: u64,
    /// Entry point; 0 without one.
    pub entry: Rva,
    /// Alignment of sections in memory.
    pub section_alignment: u32,
    /// Alignment of raw data.
    pub file_alignment: u32,
    /// Bytes in memory.
    pub image_size: u32,
    /// Bytes of all headers.
    pub header_size: u32,
    /// Stated checksum.
    pub checksum: u32,
    /// `IMAGE_SUBSYSTEM_*`.
    pub subsystem: u16,
    /// `IMAGE_DLLCHARACTERISTICS_*`.
    pub dll_characteristics: u16,
    /// Operating system, image and subsystem versions.
    pub versions: [(u16, u16); 3],
    /// `NumberOfRvaAndSizes`.
    pub directory_count: u32,
    /// Data directories; those past `directory_count` are empty.
    pub directories: [Directory; 16],
    /// Sections, in header order.
    pub sections: Vec<Section>,
    checksum_offset: usize,
}

impl<'a> Image<'a> {
    /// `IMAGE_FILE_MACHINE_AMD64`.
    pub const X64: u16 = 0x8664;
    /// `IMAGE_FILE_MACHINE_ARM64`.
    pub const ARM64: u16 = 0xAA64;
    /// `IMAGE_FILE_DLL`, of the characteristics.
    const DLL: u16 = 0x2000;

    /// Reads headers and section table.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, ImageError> {
        use goblin::pe::header::Header;
        use goblin::pe::optional_header::MAGIC_64;

        if is_object_file(bytes) {
            let machine = machine_name(read_u16(bytes, 0).unwrap_or(0));
            return Err(ImageError::ObjectFile { machine });
        }
        // goblin reads the optional header by its magic; a 32-bit one is told apart first.
        let optional_offset = read_u32(bytes, 0x3C)
            .and_then(|pe| usize::try_from(pe).ok()?.checked_add(24))
            .ok_or_else(|| ImageError::NotPe("the file is shorter than a DOS header".into()))?;
        let header = Header::parse(bytes).map_err(|e| ImageError::NotPe(e.to_string()))?;
        let coff = &header.coff_header;
        let magic = read_u16(bytes, optional_offset)
            .ok_or_else(|| ImageError::NotPe("the optional header passes the end of the file".into()))?;
        let Some(optional) = header.optional_header.filter(|_| magic == MAGIC_64) else {
            return Err(ImageError::NotPe32Plus(magic));
        };
        let windows = &optional.windows_fields;

        let mut directories = [Directory::default(); 16];
        let table = optional_offset + 112;
        for (i, directory) in directories
            .iter_mut()
            .enumerate()
            .take(windows.number_of_rva_and_sizes as usize)
        {
            let at = table + 8 * i;
            *directory = Directory {
                rva: Rva(read_u32(bytes, at).unwrap_or(0)),
                size: read_u32(bytes, at + 4).unwrap_or(0),
            };
        }

        let section_table = optional_offset + usize::from(coff.size_of_optional_header);
        let error = || ImageError::SectionTable {
            sections: coff.number_of_sections,
        };
        let mut sections = Vec::new();
        for i in 0..usize::from(coff.number_of_sections) {
            let header = bytes
                .get(section_table + 40 * i..section_table + 40 * i + 40)
                .ok_or_else(error)?;
            let name = &header[..8];
            let length = name.iter().position(|&b| b == 0).unwrap_or(8);
            let word = |at: usize| read_u32(header, at).unwrap_or(0);
            sections.push(Section {
                name: name[..length].to_vec(),
                virtual_size: word(8),
                rva: Rva(word(12)),
                raw_size: word(16),
                raw_offset: word(20),
                flags: word(36),
            });
        }

        Ok(Image {
            bytes,
            machine: coff.machine,
            characteristics: coff.characteristics,
            timestamp: coff.time_date_stamp,
            optional_header_size: coff.size_of_optional_header,
            symbol_table: coff.pointer_to_symbol_table,
            image_base: windows.image_base,
            entry: Rva(optional.standard_fields.address_of_entry_point),
            section_alignment: windows.section_alignment,
            file_alignment: windows.file_alignment,
            image_size: windows.size_of_image,
            header_size: windows.size_of_headers,
            checksum: windows.check_sum,
            subsystem: windows.subsystem,
            dll_characteristics: windows.dll_characteristics,
            versions: [
                (
                    windows.major_operating_system_version,
                    windows.minor_operating_system_version,
                ),
                (windows.major_image_version, windows.minor_image_version),
                (windows.major_subsystem_version, windows.minor_subsystem_version),
            ],
            directory_count: windows.number_of_rva_and_sizes,
            directories,
            sections,
            checksum_offset: optional_offset + 64,
        })
    }

    /// Whether it is a DLL. What is not is taken for a driver.
    pub fn is_dll(&self) -> bool {
        self.characteristics & Self::DLL != 0
    }

    /// A data directory, `None` if it is absent.
    pub fn directory(&self, kind: DirectoryKind) -> Option<Directory> {
        self.directories
            .get(kind as usize)
            .copied()
            .filter(|d| d.size != 0 || d.rva.0 != 0)
    }

    /// The section that holds `rva`.
    pub fn section_at(&self, rva: Rva) -> Option<&Section> {
        self.sections.iter().find(|s| s.contains(rva))
    }

    /// Raw data of a section, `None` if it passes the end of the file.
    pub fn raw_data(&self, section: &Section) -> Option<&'a [u8]> {
        let start = section.raw_offset as usize;
        self.bytes.get(start..start.checked_add(section.raw_size as usize)?)
    }

    /// `length` bytes at `rva` that are really in the file.
    pub fn file_bytes(&self, rva: Rva, length: usize) -> Option<&'a [u8]> {
        let Some(section) = self.section_at(rva) else {
            let end = (rva.0 as usize).checked_add(length)?;
            return (end <= self.header_size as usize)
                .then(|| self.bytes.get(rva.0 as usize..end))
                .flatten();
        };
        let offset = (rva.0 - section.rva.0) as usize;
        self.raw_data(section)?.get(offset..offset.checked_add(length)?)
    }

    /// The NUL-terminated bytes at `rva`, without the NUL, if they end within `limit` bytes and their section's raw data.
    pub fn c_string(&self, rva: Rva, limit: usize) -> Option<&'a [u8]> {
        let section = self.section_at(rva)?;
        let data = self.raw_data(section)?.get((rva.0 - section.rva.0) as usize..)?;
        let data = &data[..data.len().min(limit)];
        data.iter().position(|&b| b == 0).map(|n| &data[..n])
    }

    /// The RVA of an address in terms of the preferred base.
    pub fn rva_of(&self, address: u64) -> Option<Rva> {
        let offset = address.checked_sub(self.image_base)?;
        u32::try_from(offset).ok().filter(|&o| o < self.image_size).map(Rva)
    }

    /// The checksum that the file should state (PE format: sum of 16-bit words with carry, plus the length).
    pub fn computed_checksum(&self) -> u32 {
        let mut sum = 0u64;
        for (i, pair) in self.bytes.chunks(2).enumerate() {
            // The field itself counts as 0. Its offset is even wherever the header offset is.
            if (2 * i).abs_diff(self.checksum_offset) < 4 && 2 * i >= self.checksum_offset {
                continue;
            }
            sum += u64::from(u16::from_le_bytes([pair[0], pair.get(1).copied().unwrap_or(0)]));
            sum = (sum & 0xFFFF) + (sum >> 16);
        }
        sum = (sum & 0xFFFF) + (sum >> 16);
        (sum as u32).wrapping_add(self.bytes.len() as u32)
    }

    /// File offset of the checksum field.
    pub fn checksum_offset(&self) -> usize {
        self.checksum_offset
    }

    /// `x64`, `arm64`, or the machine number.
    pub fn machine_name(&self) -> String {
        machine_name(self.machine)
    }
}

pub(crate) fn machine_name(machine: u16) -> String {
    match machine {
        Image::X64 => "x64".into(),
        Image::ARM64 => "arm64".into(),
        other => format!("{other:#06x}"),
    }
}

/// Whether a file starts as COFF object files of these machines do: machine, sections, and no optional header. (PE format,
/// "COFF File Header".)
pub fn is_object_file(bytes: &[u8]) -> bool {
    let word = |at| read_u16(bytes, at);
    matches!(word(0), Some(Image::X64 | Image::ARM64))
        && word(2).is_some_and(|sections| sections != 0)
        && word(16) == Some(0)
}

/// Two little-endian bytes at `offset`.
pub(crate) fn read_u16(bytes: &[u8], offset: usize) -> Option<u16> {
    Some(u16::from_le_bytes(
        bytes.get(offset..offset.checked_add(2)?)?.try_into().ok()?,
    ))
}

/// Four little-endian bytes at `offset`.
pub(crate) fn read_u32(bytes: &[u8], offset: usize) -> Option<u32> {
    Some(u32::from_le_bytes(
        bytes.get(offset..offset.checked_add(4)?)?.try_into().ok()?,
    ))
}

/// Eight little-endian bytes at `offset`.
pub(crate) fn read_u64(bytes: &[u8], offset: usize) -> Option<u64> {
    Some(u64::from_le_bytes(
        bytes.get(offset..offset.checked_add(8)?)?.try_into().ok()?,
    ))
}
