//! What Windows demands of an image's file: of a driver the kernel's loader, and memory integrity (HVCI) behind it; of a
//! DLL the loader of user mode, and whoever looks for its metadata table.
//!
//! Given an image's headers; computed: every rule it breaks. An empty list means that Windows would map it.

use crate::directories::{BaseRelocation, base_relocations, exports, imports, is_known_import};
use crate::image::{DirectoryKind, Image, Rva, Section, read_u32};
use crate::load_config;
use crate::rule::{Rule, Violation};

const PAGE: u32 = 0x1000;
/// `IMAGE_FILE_EXECUTABLE_IMAGE`.
const EXECUTABLE: u16 = 0x2;
/// `IMAGE_FILE_RELOCS_STRIPPED`.
const RELOCS_STRIPPED: u16 = 0x1;
/// `IMAGE_SUBSYSTEM_NATIVE`, `IMAGE_SUBSYSTEM_WINDOWS_GUI` and `IMAGE_SUBSYSTEM_WINDOWS_CUI`.
const NATIVE: u16 = 1;
const WINDOWS: [u16; 2] = [2, 3];
/// The function that a DLL is asked for its metadata table.
const METADATA_FUNCTION: &str = "get_metadata_table";
/// `IMAGE_DLLCHARACTERISTICS_NX_COMPAT`.
const NX_COMPAT: u16 = 0x100;
/// `IMAGE_DLLCHARACTERISTICS_DYNAMIC_BASE`.
const DYNAMIC_BASE: u16 = 0x40;

/// All rules of the loader that `image` breaks, in header order.
pub fn check(image: &Image<'_>) -> Vec<Violation> {
    let mut found = Vec::new();
    headers(image, &mut found);
    sections(image, &mut found);
    directories(image, &mut found);
    relocations(image, &mut found);
    import_tables(image, &mut found);
    function_table(image, &mut found);
    found.extend(load_config::check(image));
    let exported = if image.is_dll() {
        metadata_function(image).map(drop)
    } else {
        exports(image).map(drop)
    };
    found.extend(exported.err());
    found
}

/// Where a DLL has the function that gives its metadata table (native module contract §3).
pub(crate) fn metadata_function(image: &Image<'_>) -> Result<Rva, Violation> {
    let fail = |detail: String| Err(Violation::new(Rule::MetadataExport, detail));
    let Some(export) = exports(image)?
        .into_iter()
        .find(|export| export.name == METADATA_FUNCTION)
    else {
        return fail("it is not exported".into());
    };
    if !image
        .section_at(export.rva)
        .is_some_and(|section| section.has(Section::EXECUTE))
    {
        return fail(format!("it is at {}, which is not code", export.rva));
    }
    Ok(export.rva)
}

fn headers(image: &Image<'_>, found: &mut Vec<Violation>) {
    let mut fail = |rule, detail: String| found.push(Violation::new(rule, detail));
    if !matches!(image.machine, Image::X64 | Image::ARM64) {
        fail(Rule::Machine, format!("the machine is {:#06x}", image.machine));
    }
    if image.optional_header_size != 0xF0 || image.directory_count != 16 {
        fail(
            Rule::OptionalHeader,
            format!(
                "it has {} bytes and {} directories",
                image.optional_header_size, image.directory_count
            ),
        );
    }
    if image.characteristics & (EXECUTABLE | RELOCS_STRIPPED) != EXECUTABLE {
        fail(
            Rule::Characteristics,
            format!("characteristics are {:#06x}", image.characteristics),
        );
    }
    let subsystem_fits = if image.is_dll() {
        WINDOWS.contains(&image.subsystem)
    } else {
        image.subsystem == NATIVE
    };
    if !subsystem_fits {
        fail(Rule::Subsystem, format!("the subsystem is {}", image.subsystem));
    }
    if !image.image_base.is_multiple_of(0x1_0000) {
        fail(
            Rule::Alignment,
            format!("image base {:#x} is not a multiple of 64 KiB", image.image_base),
        );
    }
    if image.section_alignment != PAGE {
        fail(
            Rule::Alignment,
            format!("section alignment is {:#x}, not one page", image.section_alignment),
        );
    }
    if !image.file_alignment.is_power_of_two() || !(0x200..=PAGE).contains(&image.file_alignment) {
        fail(
            Rule::Alignment,
            format!("file alignment is {:#x}", image.file_alignment),
        );
    }
    let first = image.sections.first().map_or(u32::MAX, |s| s.rva.0);
    let table_end = image.checksum_offset() - 64 + usize::from(image.optional_header_size) + 40 * image.sections.len();
    if (image.header_size as usize) < table_end
        || image.header_size > first
        || image.header_size as usize > image.bytes.len()
        || !image.header_size.is_multiple_of(image.file_alignment.max(1))
    {
        fail(
            Rule::HeaderSize,
            format!(
                "SizeOfHeaders is {:#x}, the section table ends at {table_end:#x}",
                image.header_size
            ),
        );
    }
    let checksum = image.computed_checksum();
    // User mode does not look at it.
    if image.checksum != checksum && !image.is_dll() {
        fail(
            Rule::Checksum,
            format!(
                "the header states {:#010x}, the file has {checksum:#010x}",
                image.checksum
            ),
        );
    }
    if image.dll_characteristics & (NX_COMPAT | DYNAMIC_BASE) != NX_COMPAT | DYNAMIC_BASE {
        fail(
            Rule::DllCharacteristics,
            format!("DllCharacteristics are {:#06x}", image.dll_characteristics),
        );
    }
    let entry = image.section_at(image.entry);
    let without = image.is_dll() && image.entry.0 == 0;
    if !without && !entry.is_some_and(|s| s.has(Section::EXECUTE)) {
        fail(
            Rule::EntryPoint,
            format!("the entry point {} is not in an executable section", image.entry),
        );
    }
}

fn sections(image: &Image<'_>, found: &mut Vec<Violation>) {
    let mut fail = |rule, detail: String| found.push(Violation::new(rule, detail));
    if image.sections.is_empty() || image.sections.len() > 96 {
        fail(
            Rule::SectionLayout,
            format!("there are {} sections", image.sections.len()),
        );
    }
    let mut expected = u64::from(image.header_size).next_multiple_of(PAGE.into());
    let mut raw: Vec<(u64, u64, String)> = Vec::new();
    for section in &image.sections {
        let name = section.display_name();
        if u64::from(section.rva.0) != expected || section.memory_size() == 0 {
            fail(
                Rule::SectionLayout,
                format!(
                    "{name} starts at {} with {:#x} bytes; the next page is {expected:#x}",
                    section.rva,
                    section.memory_size()
                ),
            );
        }
        expected = (u64::from(section.rva.0) + u64::from(section.memory_size())).next_multiple_of(PAGE.into());

        let (start, size) = (u64::from(section.raw_offset), u64::from(section.raw_size));
        if size == 0 && start != 0 {
            fail(
                Rule::SectionRawData,
                format!("{name} has no raw data but PointerToRawData {start:#x}"),
            );
        } else if size != 0 {
            let alignment = u64::from(image.file_alignment.max(1));
            if !start.is_multiple_of(alignment) || start < u64::from(image.header_size) {
                fail(Rule::SectionRawData, format!("raw data of {name} starts at {start:#x}"));
            }
            if start + size > image.bytes.len() as u64 {
                fail(
                    Rule::SectionRawData,
                    format!(
                        "raw data of {name} ends at {:#x}, the file at {:#x}",
                        start + size,
                        image.bytes.len()
                    ),
                );
            }
            raw.push((start, start + size, name.clone()));
        }
        if section.has(Section::WRITE | Section::EXECUTE) {
            fail(Rule::WritableCode, format!("{name} is {}", section.protection()));
        }
        if section.has(Section::SHARED) {
            fail(Rule::SectionLayout, format!("{name} is marked shared"));
        }
        if image.is_dll() {
            continue;
        }
        if section.name.starts_with(b"PAGE") {
            fail(Rule::PageableSection, format!("the name of {name} makes it pageable"));
        }
        if section.has(Section::DISCARDABLE) && !matches!(section.name.as_slice(), b"INIT" | b".reloc") {
            fail(Rule::PageableSection, format!("{name} is discarded after DriverEntry"));
        }
    }
    raw.sort();
    for pair in raw.windows(2) {
        if pair[0].1 > pair[1].0 {
            fail(
                Rule::SectionRawData,
                format!("raw data of {} and {} overlap", pair[0].2, pair[1].2),
            );
        }
    }
    if u64::from(image.image_size) != expected {
        fail(
            Rule::ImageSize,
            format!(
                "SizeOfImage is {:#x}, the last section ends at {expected:#x}",
                image.image_size
            ),
        );
    }
}

fn directories(image: &Image<'_>, found: &mut Vec<Violation>) {
    let mut fail = |detail: String| found.push(Violation::new(Rule::DataDirectory, detail));
    for (index, directory) in image.directories.iter().enumerate() {
        let end = u64::from(directory.rva.0) + u64::from(directory.size);
        if directory.size == 0 && directory.rva.0 == 0 {
            continue;
        }
        if index == DirectoryKind::Certificate as usize {
            if end > image.bytes.len() as u64 {
                fail(format!(
                    "the certificate table ends at {end:#x}, past the end of the file"
                ));
            }
        } else if directory.size == 0 || directory.rva.0 == 0 || end > u64::from(image.image_size) {
            fail(format!(
                "directory {index} is at {} with {:#x} bytes",
                directory.rva, directory.size
            ));
        }
    }
    for (kind, name) in [
        (DirectoryKind::Tls, "thread local storage"),
        (DirectoryKind::BoundImport, "bound imports"),
        (DirectoryKind::DelayImport, "delay-loaded imports"),
        (DirectoryKind::Clr, "a CLR header"),
    ] {
        if image.directory(kind).is_some() {
            fail(format!("a native module has no use for {name}"));
        }
    }
}

fn relocations(image: &Image<'_>, found: &mut Vec<Violation>) {
    let list = match base_relocations(image) {
        Ok(list) => list,
        Err(violation) => return found.push(violation),
    };
    let mut fail = |rule, detail: String| found.push(Violation::new(rule, detail));
    let mut previous: Option<Rva> = None;
    for relocation in list {
        let at = relocation.rva;
        if relocation.kind != BaseRelocation::DIR64 {
            fail(
                Rule::BaseRelocation,
                format!("the relocation at {at} has type {}", relocation.kind),
            );
            continue;
        }
        if previous.is_some_and(|p| at.0 < p.0.saturating_add(8)) {
            fail(
                Rule::BaseRelocation,
                format!("the relocation at {at} overlaps or precedes the one before"),
            );
        }
        previous = Some(at);
        match image.section_at(at) {
            Some(section) if section.contains(Rva(at.0.saturating_add(7))) => {
                if section.has(Section::EXECUTE) {
                    fail(
                        Rule::RelocatedCode,
                        format!("the relocation at {at} is in {}", section.display_name()),
                    );
                }
            }
            _ => fail(Rule::BaseRelocation, format!("the relocation at {at} is in no section")),
        }
    }
}

fn import_tables(image: &Image<'_>, found: &mut Vec<Violation>) {
    let list = match imports(image) {
        Ok(list) => list,
        Err(violation) => return found.push(violation),
    };
    let table = image.directory(DirectoryKind::ImportAddressTable);
    for import in &list {
        let name = format!("{}!{}", import.module, import.function);
        if !image.is_dll() && !is_known_import(&import.module, &import.function) {
            found.push(Violation::new(Rule::UnknownImport, format!("{name} is imported")));
        }
        if image.section_at(import.slot).is_none_or(|s| s.has(Section::EXECUTE)) {
            found.push(Violation::new(
                Rule::ImportTableInCode,
                format!("the slot of {name} at {}", import.slot),
            ));
        }
        // Without the directory entry the kernel would not know what to write-protect after binding.
        let inside = table.is_some_and(|t| {
            import.slot >= t.rva && u64::from(import.slot.0) + 8 <= u64::from(t.rva.0) + u64::from(t.size)
        });
        if !inside {
            found.push(Violation::new(
                Rule::ImportTable,
                format!("the slot of {name} is outside the import address table directory"),
            ));
        }
    }
}

/// Sorted entries that point at code, and unwind data that lies in the image.
fn function_table(image: &Image<'_>, found: &mut Vec<Violation>) {
    let Some(directory) = image.directory(DirectoryKind::Exception) else {
        return;
    };
    let mut fail = |detail: String| found.push(Violation::new(Rule::FunctionTable, detail));
    let arm64 = image.machine == Image::ARM64;
    let stride = if arm64 { 8 } else { 12 };
    let Some(data) = image.file_bytes(directory.rva, directory.size as usize) else {
        return fail(format!("the table at {} is not in raw data", directory.rva));
    };
    if !data.len().is_multiple_of(stride) {
        return fail(format!("its size {:#x} is no multiple of {stride}", data.len()));
    }
    let in_code = |rva: u32| image.section_at(Rva(rva)).is_some_and(|s| s.has(Section::EXECUTE));
    let mut previous_end = 0;
    for entry in data.chunks_exact(stride) {
        let word = |at: usize| read_u32(entry, at).unwrap_or(0);
        let begin = word(0);
        if begin < previous_end || !in_code(begin) || (arm64 && !begin.is_multiple_of(4)) {
            fail(format!("the function at {begin:#x} is not sorted or not in code"));
        }
        let end = if arm64 {
            match arm64_function_length(image, word(4)) {
                Ok(length) => begin.saturating_add(length),
                Err(problem) => {
                    fail(format!("the function at {begin:#x} {problem}"));
                    begin.saturating_add(4)
                }
            }
        } else {
            let unwind = word(8);
            if image.file_bytes(Rva(unwind), 4).is_none() || !unwind.is_multiple_of(4) {
                fail(format!("the function at {begin:#x} has its unwind data at {unwind:#x}"));
            }
            word(4)
        };
        if end <= begin || !in_code(end - 1) {
            fail(format!("the function at {begin:#x} ends at {end:#x}"));
        }
        previous_end = end;
    }
}

/// Bytes of a function of an ARM64 image, from the second word of its entry: packed unwind data, or the RVA of an
/// `.xdata` record, all of which must be there ("ARM64 exception handling", learn.microsoft.com).
fn arm64_function_length(image: &Image<'_>, unwind: u32) -> Result<u32, String> {
    match unwind & 3 {
        1 | 2 => return Ok((unwind >> 2 & 0x7FF) * 4),
        3 => return Err(format!("has unwind data of the reserved kind 3: {unwind:#x}")),
        _ => {}
    }
    let word = |at: u32| {
        let bytes = image.file_bytes(Rva(unwind.checked_add(at)?), 4)?;
        read_u32(bytes, 0)
    };
    let outside = || format!("has its unwind data at {unwind:#x}");
    let header = word(0).ok_or_else(outside)?;
    if header >> 18 & 3 != 0 {
        return Err(format!("has unwind data of version {}", header >> 18 & 3));
    }
    let (mut epilogs, mut codes, mut size) = (header >> 22 & 0x1F, header >> 27, 4);
    if epilogs == 0 && codes == 0 {
        let extension = word(4).ok_or_else(outside)?;
        (epilogs, codes, size) = (extension & 0xFFFF, extension >> 16 & 0xFF, 8);
    }
    // With bit 21, the number is the place of the one epilogue's codes; with bit 20, a handler's RVA follows.
    if header >> 21 & 1 == 0 {
        size += 4 * epilogs;
    }
    size += 4 * codes + 4 * (header >> 20 & 1);
    if image.file_bytes(Rva(unwind), size as usize).is_none() {
        return Err(outside());
    }
    Ok((header & 0x3_FFFF) * 4)
}
