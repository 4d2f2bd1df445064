//! The load configuration of an image, and the tables of Control Flow Guard that it leads to (PE format, "The Load
//! Configuration Structure" and "Control Flow Guard").

use crate::image::{DirectoryKind, Image, Rva, Section, read_u32, read_u64};
use crate::rule::{Rule, Violation};

/// `IMAGE_GUARD_CF_INSTRUMENTED`: calls by address are checked.
pub const INSTRUMENTED: u32 = 0x100;
/// `IMAGE_GUARD_CF_FUNCTION_TABLE_PRESENT`.
pub const FUNCTION_TABLE_PRESENT: u32 = 0x400;
/// `IMAGE_DLLCHARACTERISTICS_GUARD_CF`.
pub const GUARD_CF: u16 = 0x4000;
/// Place in the flags of four bits that say how many bytes of an entry of the function table are behind its RVA.
const EXTRA_BYTES: u32 = 28;
/// More functions than any image has in its table.
const MAX_FUNCTIONS: u64 = 1 << 22;

/// Offsets of the fields of `IMAGE_LOAD_CONFIG_DIRECTORY64` that are read.
pub mod field {
    /// `SecurityCookie`
    pub const SECURITY_COOKIE: u32 = 0x58;
    /// `GuardCFCheckFunctionPointer`
    pub const GUARD_CHECK: u32 = 0x70;
    /// `GuardCFDispatchFunctionPointer`
    pub const GUARD_DISPATCH: u32 = 0x78;
    /// `GuardCFFunctionTable`
    pub const GUARD_TABLE: u32 = 0x80;
    /// `GuardCFFunctionCount`
    pub const GUARD_COUNT: u32 = 0x88;
    /// `GuardFlags`
    pub const GUARD_FLAGS: u32 = 0x90;
}

/// What an image tells of protections that it takes part in. Addresses are VAs at the preferred base, 0 where there is none; what
/// the structure does not reach to is 0.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LoadConfig {
    /// Where it is.
    pub rva: Rva,
    /// The size that it states, in bytes.
    pub size: u32,
    /// Where the security cookie is.
    pub security_cookie: u64,
    /// Where the pointer to the function that checks a target is.
    pub guard_check: u64,
    /// Where the pointer to the function that checks a target and jumps there is.
    pub guard_dispatch: u64,
    /// Where the table of functions that may be called by their addresses is.
    pub guard_table: u64,
    /// How many functions that table has.
    pub guard_count: u64,
    /// `IMAGE_GUARD_*` flags.
    pub guard_flags: u32,
}

impl LoadConfig {
    /// The load configuration of `image`; `None` if it has none. The error says where it is, if not all of it is in raw data.
    pub fn read(image: &Image<'_>) -> Option<Result<LoadConfig, String>> {
        let rva = image.directory(DirectoryKind::LoadConfig)?.rva;
        let Some(size) = image.file_bytes(rva, 4).and_then(|bytes| read_u32(bytes, 0)) else {
            return Some(Err(format!("at {rva}, which is not in raw data")));
        };
        let Some(bytes) = image.file_bytes(rva, size as usize) else {
            return Some(Err(format!("{size:#x} bytes at {rva} are not all in raw data")));
        };
        let long = |offset: u32| read_u64(bytes, offset as usize).unwrap_or(0);
        Some(Ok(LoadConfig {
            rva,
            size,
            security_cookie: long(field::SECURITY_COOKIE),
            guard_check: long(field::GUARD_CHECK),
            guard_dispatch: long(field::GUARD_DISPATCH),
            guard_table: long(field::GUARD_TABLE),
            guard_count: long(field::GUARD_COUNT),
            guard_flags: read_u32(bytes, field::GUARD_FLAGS as usize).unwrap_or(0),
        }))
    }

    /// Whether the image says that calls by address are checked.
    pub fn is_instrumented(&self) -> bool {
        self.guard_flags & INSTRUMENTED != 0
    }

    /// The functions that may be called by their addresses, in table order, whether or not the flags say that there is a table.
    /// The error says where they are, if not all of them are in raw data.
    pub fn functions(&self, image: &Image<'_>) -> Result<Vec<Rva>, String> {
        let (count, width) = (self.guard_count, 4 + (self.guard_flags >> EXTRA_BYTES) as usize);
        if count == 0 {
            return Ok(Vec::new());
        }
        let place = image.rva_of(self.guard_table).filter(|_| count <= MAX_FUNCTIONS);
        let data = place.and_then(|rva| image.file_bytes(rva, count as usize * width));
        let data = data.ok_or_else(|| {
            format!(
                "{count} functions of {width} bytes each at {:#x} are not all in raw data",
                self.guard_table
            )
        })?;
        let entries = data.chunks_exact(width);
        Ok(entries.filter_map(|entry| read_u32(entry, 0)).map(Rva).collect())
    }
}

/// The load configuration, with the functions of the table that its flags promise.
pub(crate) fn read_all(image: &Image<'_>) -> Result<Option<(LoadConfig, Vec<Rva>)>, Violation> {
    let bad = |detail| Violation::new(Rule::LoadConfig, detail);
    let Some(config) = LoadConfig::read(image).transpose().map_err(bad)? else {
        return Ok(None);
    };
    let functions = if config.guard_flags & FUNCTION_TABLE_PRESENT == 0 {
        Vec::new()
    } else {
        config.functions(image).map_err(bad)?
    };
    Ok(Some((config, functions)))
}

/// The rules of Control Flow Guard that `image` breaks: Windows does not load an image whose table it cannot use, and stops
/// the machine at a call of a function that is not in it.
pub(crate) fn check(image: &Image<'_>) -> Vec<Violation> {
    let (config, functions) = match read_all(image) {
        Ok(Some(read)) => read,
        Ok(None) => return Vec::new(),
        Err(violation) => return vec![violation],
    };
    let mut found = Vec::new();
    let mut fail = |detail: String| found.push(Violation::new(Rule::LoadConfig, detail));
    if !functions.is_sorted_by(|a, b| a < b) {
        fail("the function table is not sorted".into());
    }
    if let Some(wild) = functions.iter().find(|rva| !is_code(image, **rva)) {
        fail(format!("the function table has {wild}, which is not in code"));
    }
    if config.security_cookie != 0 && !is_variable(image, config.security_cookie) {
        fail(format!(
            "the security cookie is at {:#x}, where Windows can't write it",
            config.security_cookie
        ));
    }
    if image.dll_characteristics & GUARD_CF != 0 && !config.is_instrumented() {
        fail("the optional header says that calls are checked, and it does not".into());
    }
    if config.is_instrumented() {
        let needed = match image.machine {
            Image::X64 => [("check", config.guard_check), ("dispatch", config.guard_dispatch)].to_vec(),
            _ => vec![("check", config.guard_check)],
        };
        for (name, pointer) in needed {
            if !leads_to_code(image, pointer) {
                fail(format!("the {name} pointer at {pointer:#x} does not lead to code"));
            }
        }
    }
    found
}

fn is_code(image: &Image<'_>, rva: Rva) -> bool {
    image
        .section_at(rva)
        .is_some_and(|section| section.has(Section::EXECUTE))
}

fn is_variable(image: &Image<'_>, address: u64) -> bool {
    let section = image.rva_of(address).and_then(|rva| image.section_at(rva));
    address.is_multiple_of(8) && section.is_some_and(|section| section.has(Section::WRITE))
}

/// Whether there is an aligned pointer at an address, in the file one to code.
fn leads_to_code(image: &Image<'_>, address: u64) -> bool {
    let target = image
        .rva_of(address)
        .filter(|_| address.is_multiple_of(8))
        .and_then(|rva| read_u64(image.file_bytes(rva, 8)?, 0))
        .and_then(|target| image.rva_of(target));
    target.is_some_and(|target| is_code(image, target))
}
