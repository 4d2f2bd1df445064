//! The image under judgement, with everything that more than one rule asks for read once.

use bpf2sys_platform::Platform;
use bpf2sys_simulator::directories::{BaseRelocation, Import, base_relocations, exports, import_entries};
use bpf2sys_simulator::image::{Image, Rva, Section};
use bpf2sys_simulator::load_config::LoadConfig;

use crate::code::Scan;
use crate::exception::Function;
use crate::module::Module;
use crate::options::Options;

/// The function that a DLL is asked for its metadata table (native module contract §3).
pub(crate) const METADATA_FUNCTION: &str = "get_metadata_table";
/// The network programming interface of native modules, as its GUID is in memory (native module contract §2.2).
pub(crate) const NPI_ID: [u8; 16] = [
    0xC8, 0xAA, 0x47, 0xC8, 0xF2, 0xA6, 0x53, 0x4B, 0xAE, 0xA3, 0xF4, 0xA9, 0x4B, 0x9A, 0x80, 0xCB,
];
/// `IMAGE_SUBSYSTEM_NATIVE`.
pub(crate) const NATIVE: u16 = 1;

/// The image under judgement.
pub(crate) struct Subject<'a> {
    pub(crate) image: &'a Image<'a>,
    /// Sections that the header counts. The image has no more of them here than Windows maps.
    pub(crate) section_count: usize,
    pub(crate) options: &'a Options,
    pub(crate) platform: &'a Platform,
    /// Whether user mode loads it. A driver that others link to is marked as a DLL too, and its subsystem tells it apart.
    pub(crate) is_dll: bool,
    pub(crate) is_module: bool,
    /// Base relocations in table order, or what is wrong with the table.
    pub(crate) relocations: Result<Vec<BaseRelocation>, String>,
    /// RVAs of the eight-byte fields that are relocated, ascending.
    pub(crate) relocated: Vec<Rva>,
    /// Imports in table order, or what is wrong with the tables.
    pub(crate) imports: Result<Vec<Import>, String>,
    /// The load configuration; `None` without one.
    pub(crate) load_config: Option<Result<LoadConfig, String>>,
    /// The function table, or what is wrong with it.
    pub(crate) functions: Result<Vec<Function>, String>,
    /// What is known of the machine code.
    pub(crate) code: Scan,
    /// The module, if it is one.
    pub(crate) module: Option<Module>,
}

impl<'a> Subject<'a> {
    pub(crate) fn new(
        image: &'a Image<'a>,
        section_count: usize,
        options: &'a Options,
        platform: &'a Platform,
    ) -> Subject<'a> {
        let exports_metadata = exports(image).is_ok_and(|list| list.iter().any(|e| e.name == METADATA_FUNCTION));
        let has_tables = image
            .sections
            .iter()
            .any(|s| matches!(s.name.as_slice(), b"maps" | b"programs"));
        let is_module = exports_metadata || has_tables || image.bytes.windows(16).any(|bytes| bytes == NPI_ID);
        let relocations = base_relocations(image).map_err(|v| v.detail);
        let mut relocated: Vec<Rva> = relocations
            .iter()
            .flatten()
            .filter(|r| r.kind == BaseRelocation::DIR64)
            .map(|r| r.rva)
            .collect();
        relocated.sort_unstable();
        let mut subject = Subject {
            image,
            section_count,
            options,
            platform,
            is_dll: image.is_dll() && (image.subsystem != NATIVE || exports_metadata),
            is_module,
            relocations,
            relocated,
            imports: import_entries(image).map_err(|v| v.detail),
            load_config: LoadConfig::read(image),
            functions: crate::exception::functions(image),
            code: Scan::default(),
            module: None,
        };
        subject.module = is_module.then(|| Module::read(&subject));
        subject.code = Scan::of(&subject);
        subject
    }

    /// Whether there is executable memory at `rva`.
    pub(crate) fn is_code(&self, rva: Rva) -> bool {
        self.image.section_at(rva).is_some_and(|s| s.has(Section::EXECUTE))
    }

    /// Whether an address, in terms of the preferred base, is that of code.
    pub(crate) fn is_code_address(&self, address: u64) -> bool {
        self.image.rva_of(address).is_some_and(|rva| self.is_code(rva))
    }

    /// The name of what lies at `rva`, for messages.
    pub(crate) fn place(&self, rva: Rva) -> String {
        match self.image.section_at(rva) {
            Some(section) => format!("{}+{:#x}", section.display_name(), rva.0 - section.rva.0),
            None => format!("{rva}, in no section"),
        }
    }

    /// The same for an address.
    pub(crate) fn place_of(&self, address: u64) -> String {
        match self.image.rva_of(address) {
            _ if address == 0 => "NULL".into(),
            Some(rva) => self.place(rva),
            None => format!("{address:#x}, outside the image"),
        }
    }

    /// Whether the eight bytes at `rva` are relocated.
    pub(crate) fn is_relocated(&self, rva: Rva) -> bool {
        self.relocated.binary_search(&rva).is_ok()
    }

    /// The eight-byte number at `rva`, if it is in the file.
    pub(crate) fn u64_at(&self, rva: Rva) -> Option<u64> {
        Some(u64::from_le_bytes(self.image.file_bytes(rva, 8)?.try_into().ok()?))
    }

    /// What every relocated field that lies in the file holds: place and value.
    pub(crate) fn pointers(&self) -> impl Iterator<Item = (Rva, u64)> {
        self.relocated.iter().filter_map(|&rva| Some((rva, self.u64_at(rva)?)))
    }
}
