//! Base relocations, imports and exports of an image, read the way Windows walks them.

use crate::image::{DirectoryKind, Image, Rva, read_u16, read_u32, read_u64};
use crate::rule::{Rule, Violation};

/// A base relocation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BaseRelocation {
    /// The field's place.
    pub rva: Rva,
    /// `IMAGE_REL_BASED_*`; padding (type 0) is left out.
    pub kind: u16,
}

impl BaseRelocation {
    /// `IMAGE_REL_BASED_DIR64`: eight bytes.
    pub const DIR64: u16 = 10;
}

/// All base relocations in file order.
pub fn base_relocations(image: &Image<'_>) -> Result<Vec<BaseRelocation>, Violation> {
    let bad = |detail: String| Violation::new(Rule::BaseRelocation, detail);
    let Some(directory) = image.directory(DirectoryKind::BaseRelocation) else {
        return Ok(Vec::new());
    };
    let data = image
        .file_bytes(directory.rva, directory.size as usize)
        .ok_or_else(|| {
            bad(format!(
                "the directory at {} is not inside a section's raw data",
                directory.rva
            ))
        })?;
    let mut relocations = Vec::new();
    let mut offset = 0usize;
    while offset < data.len() {
        let (Some(page), Some(size)) = (read_u32(data, offset), read_u32(data, offset + 4)) else {
            return Err(bad(format!("{} stray bytes end the directory", data.len() - offset)));
        };
        let size = size as usize;
        if size < 8 || !size.is_multiple_of(4) || size > data.len() - offset {
            return Err(bad(format!(
                "the block at offset {offset:#x} states a size of {size} bytes"
            )));
        }
        if !page.is_multiple_of(0x1000) {
            return Err(bad(format!(
                "the block at offset {offset:#x} is for {page:#x}, which starts no page"
            )));
        }
        for entry in (offset + 8..offset + size).step_by(2) {
            let word = read_u16(data, entry).unwrap_or(0);
            let kind = word >> 12;
            if kind != 0 {
                let rva = page
                    .checked_add(u32::from(word & 0xFFF))
                    .ok_or_else(|| bad(format!("a relocation in the block for {page:#x} overflows")))?;
                relocations.push(BaseRelocation { rva: Rva(rva), kind });
            }
        }
        offset += size;
    }
    Ok(relocations)
}

/// How an import says what it wants.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ImportName {
    /// By name.
    Name(String),
    /// By ordinal.
    Ordinal(u16),
}

/// An entry of the import tables.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Import {
    /// Module name as written.
    pub module: String,
    /// What is wanted of it.
    pub name: ImportName,
    /// The 8-byte slot of the import address table.
    pub slot: Rva,
}

/// An imported function and its import address table slot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImportedFunction {
    /// Module name as written.
    pub module: String,
    /// Function name.
    pub function: String,
    /// The 8-byte slot.
    pub slot: Rva,
}

/// Most functions that one module is taken to import.
const MAX_IMPORTS: usize = 4096;

/// All imports of an image that imports by name only, in table order.
pub fn imports(image: &Image<'_>) -> Result<Vec<ImportedFunction>, Violation> {
    let by_name = |import: Import| match import.name {
        ImportName::Name(function) => Ok(ImportedFunction {
            module: import.module,
            function,
            slot: import.slot,
        }),
        ImportName::Ordinal(ordinal) => Err(Violation::new(
            Rule::ImportTable,
            format!("{} is asked for ordinal {ordinal}, by name only", import.module),
        )),
    };
    import_entries(image)?.into_iter().map(by_name).collect()
}

/// All imports, in table order.
pub fn import_entries(image: &Image<'_>) -> Result<Vec<Import>, Violation> {
    let bad = |detail: String| Violation::new(Rule::ImportTable, detail);
    let Some(directory) = image.directory(DirectoryKind::Import) else {
        return Ok(Vec::new());
    };
    let mut functions = Vec::new();
    let mut at = directory.rva;
    loop {
        let descriptor = image
            .file_bytes(at, 20)
            .ok_or_else(|| bad(format!("no null descriptor before the raw data ends at {at}")))?;
        let word = |offset: usize| read_u32(descriptor, offset).unwrap_or(0);
        let (lookup, name, address_table) = (word(0), word(12), word(16));
        if name == 0 && address_table == 0 {
            return Ok(functions);
        }
        let module = image
            .c_string(Rva(name), 256)
            .and_then(|n| std::str::from_utf8(n).ok())
            .filter(|n| !n.is_empty())
            .ok_or_else(|| bad(format!("the descriptor at {at} has no readable module name")))?;
        let names = if lookup == 0 { address_table } else { lookup };
        for index in 0u32.. {
            if functions.len() >= MAX_IMPORTS {
                return Err(bad(format!("more than {MAX_IMPORTS} imports")));
            }
            let place = |base: u32| base.checked_add(8 * index).map(Rva);
            let thunk = place(names)
                .and_then(|rva| image.file_bytes(rva, 8))
                .and_then(|b| read_u64(b, 0))
                .ok_or_else(|| bad(format!("the lookup table of {module} passes its section's raw data")))?;
            if thunk == 0 {
                break;
            }
            let name = if thunk >> 63 == 0 {
                let name = u32::try_from(thunk)
                    .ok()
                    .and_then(|hint| hint.checked_add(2))
                    .and_then(|rva| image.c_string(Rva(rva), 256))
                    .and_then(|n| std::str::from_utf8(n).ok())
                    .filter(|n| !n.is_empty())
                    .ok_or_else(|| bad(format!("entry {index} of {module} has no readable name")))?;
                ImportName::Name(name.to_owned())
            } else {
                ImportName::Ordinal(thunk as u16)
            };
            let slot = place(address_table)
                .filter(|&rva| image.file_bytes(rva, 8).is_some())
                .ok_or_else(|| bad(format!("the address table of {module} passes its section's raw data")))?;
            functions.push(Import {
                module: module.to_owned(),
                name,
                slot,
            });
        }
        at = Rva(at
            .0
            .checked_add(20)
            .ok_or_else(|| bad("the descriptors overflow".into()))?);
    }
}

/// An exported function or variable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Export {
    /// Name.
    pub name: String,
    /// Where it is.
    pub rva: Rva,
}

/// Everything that is exported by name, in table order. What is exported by ordinal alone nobody looks for.
pub fn exports(image: &Image<'_>) -> Result<Vec<Export>, Violation> {
    let bad = |detail: String| Violation::new(Rule::ExportTable, detail);
    let Some(directory) = image.directory(DirectoryKind::Export) else {
        return Ok(Vec::new());
    };
    let header = image
        .file_bytes(directory.rva, 40)
        .ok_or_else(|| bad(format!("the directory at {} is not in raw data", directory.rva)))?;
    let word = |at: usize| read_u32(header, at).unwrap_or(0);
    // Ordinals of names have 16 bits, so there can be no more names or addresses.
    let table = |what: &str, count: u32, rva: u32, width: usize| {
        let length = (count <= 1 << 16).then_some(count as usize * width);
        length
            .and_then(|length| image.file_bytes(Rva(rva), length))
            .ok_or_else(|| bad(format!("the {count} {what} at {rva:#x} are not in raw data")))
    };
    let (functions, names) = (word(20), word(24));
    if names == 0 {
        return Ok(Vec::new());
    }
    let addresses = table("addresses", functions, word(28), 4)?;
    let name_pointers = table("names", names, word(32), 4)?;
    let ordinals = table("ordinals", names, word(36), 2)?;
    let mut found: Vec<Export> = Vec::new();
    for index in 0..names as usize {
        let name = read_u32(name_pointers, 4 * index)
            .and_then(|rva| image.c_string(Rva(rva), 256))
            .and_then(|name| std::str::from_utf8(name).ok())
            .filter(|name| !name.is_empty())
            .ok_or_else(|| bad(format!("name {index} is not readable")))?;
        if found
            .last()
            .is_some_and(|before| before.name.as_bytes() >= name.as_bytes())
        {
            return Err(bad(format!("`{name}` is not sorted, so it may not be found")));
        }
        let rva = read_u16(ordinals, 2 * index)
            .and_then(|ordinal| read_u32(addresses, 4 * usize::from(ordinal)))
            .map(Rva)
            .ok_or_else(|| bad(format!("`{name}` has no address")))?;
        if image.section_at(rva).is_none() {
            return Err(bad(format!("`{name}` is at {rva}, outside every section")));
        }
        if rva >= directory.rva && u64::from(rva.0) < u64::from(directory.rva.0) + u64::from(directory.size) {
            return Err(bad(format!("`{name}` is forwarded to another module")));
        }
        found.push(Export {
            name: name.to_owned(),
            rva,
        });
    }
    Ok(found)
}

/// What Windows offers a native module (native module contract §2.1; the C library's memory functions are exports of
/// ntoskrnl.exe that compilers of C skeletons import).
pub fn is_known_import(module: &str, function: &str) -> bool {
    match module.to_ascii_lowercase().as_str() {
        "ntoskrnl.exe" => {
            matches!(
                function,
                "RtlQueryRegistryValues" | "memcpy" | "memmove" | "memset" | "memcmp"
            )
        }
        "netio.sys" => matches!(
            function,
            "NmrRegisterClient"
                | "NmrDeregisterClient"
                | "NmrWaitForClientDeregisterComplete"
                | "NmrClientAttachProvider"
        ),
        _ => false,
    }
}
