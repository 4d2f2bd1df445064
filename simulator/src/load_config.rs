//! The load configuration of an image, and the tables of Control Flow Guard that it leads to (PE format, "The Load
//! Configuration Structure" and "Control Flow Guard").

use crate::image::{DirectoryKind, Image, Rva, read_u32, read_u64};
use crate::rule::{Rule, Violation};

/// `IMAGE_GUARD_CF_INSTRUMENTED`: calls by address are checked.
pub const INSTRUMENTED: u32 = 0x100;
/// `IMAGE_GUARD_CF_FUNCTION_TABLE_PRESENT`.
pub const FUNCTION_TABLE_PRESENT: u32 = 0x400;
/// `IMAGE_DLLCHARACTERISTICS_GUARD_CF`.
const GUARD_CF: u16 = 0x4000;
/// The least that a load configuration with a function table has: up to its flags.
const GUARD_SIZE: u32 = 0x94;
/// Most functions that an image is taken to have in its table.
const MAX_FUNCTIONS: u64 = 1 << 20;

/// What an image tells of protections that it takes part in. Addresses are VAs at the preferred base, 0 where there is none.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
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
    /// `IMAGE_GUARD_*` flags.
    pub guard_flags: u32,
    /// The functions that may be called by their addresses, in table order.
    pub functions: Vec<Rva>,
}

impl LoadConfig {
    /// Whether the image says that calls by address are checked.
    pub fn is_instrumented(&self) -> bool {
        self.guard_flags & INSTRUMENTED != 0
    }
}

/// The load configuration of `image`; `None` if it has none.
///
/// # Errors
/// [`Rule::LoadConfig`]: it, or its function table, is not where it says, or is too short for what it says.
pub fn load_config(image: &Image<'_>) -> Result<Option<LoadConfig>, Violation> {
    let bad = |detail: String| Violation::new(Rule::LoadConfig, detail);
    let Some(directory) = image.directory(DirectoryKind::LoadConfig) else {
        return Ok(None);
    };
    let size = image.file_bytes(directory.rva, 4).and_then(|bytes| read_u32(bytes, 0));
    let size = size.ok_or_else(|| bad(format!("it is at {}, outside of raw data", directory.rva)))?;
    let bytes = image.file_bytes(directory.rva, size as usize).ok_or_else(|| {
        bad(format!(
            "its {size:#x} bytes at {} pass the end of raw data",
            directory.rva
        ))
    })?;
    let long = |at: usize| read_u64(bytes, at).unwrap_or(0);
    let mut config = LoadConfig {
        rva: directory.rva,
        size,
        security_cookie: long(0x58),
        guard_check: long(0x70),
        guard_dispatch: long(0x78),
        guard_flags: read_u32(bytes, 0x90).unwrap_or(0),
        functions: Vec::new(),
    };
    if config.guard_flags & FUNCTION_TABLE_PRESENT == 0 {
        return Ok(Some(config));
    }
    if size < GUARD_SIZE {
        return Err(bad(format!("its {size:#x} bytes end before the guard flags")));
    }
    let (table, count) = (long(0x80), long(0x88));
    let stride = 4 + (config.guard_flags >> 28) as usize;
    let data = (count <= MAX_FUNCTIONS)
        .then(|| image.rva_of(table))
        .flatten()
        .and_then(|rva| image.file_bytes(rva, count as usize * stride));
    if count > 0 {
        let data = data.ok_or_else(|| bad(format!("{count} functions at {table:#x} are not in raw data")))?;
        let entries = data.chunks_exact(stride);
        config.functions = entries.filter_map(|entry| read_u32(entry, 0)).map(Rva).collect();
    }
    Ok(Some(config))
}

/// The rules of Control Flow Guard that `image` breaks: Windows does not load an image whose table it cannot use, and stops
/// the machine at a call of a function that is not in it.
pub(crate) fn check(image: &Image<'_>) -> Vec<Violation> {
    let config = match load_config(image) {
        Ok(Some(config)) => config,
        Ok(None) => return Vec::new(),
        Err(violation) => return vec![violation],
    };
    let mut found = Vec::new();
    let mut fail = |detail: String| found.push(Violation::new(Rule::LoadConfig, detail));
    if !config.functions.is_sorted_by(|a, b| a < b) {
        fail("the function table is not sorted".into());
    }
    if let Some(wild) = config.functions.iter().find(|rva| !is_code(image, **rva)) {
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
        .is_some_and(|section| section.has(crate::image::Section::EXECUTE))
}

fn is_variable(image: &Image<'_>, address: u64) -> bool {
    let section = image.rva_of(address).and_then(|rva| image.section_at(rva));
    address.is_multiple_of(8) && section.is_some_and(|section| section.has(crate::image::Section::WRITE))
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
