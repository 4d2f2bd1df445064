//! What user mode (ebpfapi) reads out of the file of a native module (native module contract §5).
//!
//! Given: the file. Computed: the programs and maps that user mode would see, in its order; or the first reason why it
//! would refuse the file, misread it, or read out of bounds. Nothing is executed, so images for any machine are read.

use std::collections::BTreeSet;

use bpf2sys_platform::Guid;
use serde::Serialize;
use zerocopy::FromBytes;

use crate::directories::{base_relocations, imports};
use crate::image::{DirectoryKind, Image, Section};
use crate::rule::{Rule, Violation};
use crate::tables::{MapEntry, ProgramEntry};

/// What user mode sees in a native module.
#[derive(Clone, Debug, Serialize)]
pub struct UserModeView {
    /// Maps, in table order.
    pub maps: Vec<UserModeMap>,
    /// Programs, sorted by name as user mode sorts them.
    pub programs: Vec<UserModeProgram>,
    /// The digest of the ELF file that the module was made from, in hexadecimal, from section `hash`.
    pub elf_hash: Option<String>,
}

/// A map as user mode sees it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct UserModeMap {
    /// Name.
    pub name: String,
    /// Map type number.
    pub map_type: u32,
    /// Key bytes.
    pub key_size: u32,
    /// Value bytes.
    pub value_size: u32,
    /// Capacity.
    pub max_entries: u32,
    /// Index of the inner template; 0 for none.
    pub inner_map_idx: u32,
    /// 0 none, 1 by name.
    pub pinning: u32,
    /// Id inside the module.
    pub id: u32,
    /// Id of the inner template; 0 for none.
    pub inner_id: u32,
}

/// A program as user mode sees it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct UserModeProgram {
    /// Name.
    pub name: String,
    /// ELF section name.
    pub section: String,
    /// Name of the code section in the image.
    pub pe_section: String,
    /// Bytes of that code section.
    pub code_size: u32,
    /// Program type GUID.
    pub program_type: String,
    /// Attach type GUID.
    pub attach_type: String,
    /// Position in the image's program table.
    pub table_index: usize,
    /// The table entry.
    #[serde(skip)]
    pub(crate) entry: ProgramEntry,
    /// The table entry in full, with what the longer form adds.
    #[serde(skip)]
    pub(crate) entry_bytes: Vec<u8>,
}

/// Reads `image` as user mode does when it opens an object.
pub fn read(image: &Image<'_>) -> Result<UserModeView, Violation> {
    readable_by_pe_parse(image)?;
    // pe-parse hands out sections by their place in the file; sections without raw data come first.
    let mut sections: Vec<&Section> = image.sections.iter().collect();
    sections.sort_by_key(|s| s.raw_offset);
    for name in ["maps", "programs", ".rdata", ".data"] {
        if sections.iter().filter(|s| s.name == name.as_bytes()).count() > 1 {
            return Err(Violation::new(
                Rule::UserModeFile,
                format!("two sections are called {name}"),
            ));
        }
    }

    let (mut rdata, mut data, mut maps) = (None, None, Vec::new());
    for section in &sections {
        match section.name.as_slice() {
            b".rdata" => rdata = Some(*section),
            b".data" => data = Some(*section),
            b"maps" => maps = read_maps(image, section, rdata)?,
            _ => {}
        }
    }
    let mut entries = Vec::new();
    for section in sections.iter().filter(|s| s.name == b"programs") {
        entries = read_programs(image, section, rdata, data)?;
    }
    let programs = match_code_sections(image, &sections, &entries)?;

    let elf_hash = sections.iter().find(|s| s.name == b"hash").and_then(|s| {
        let size = if (1..=s.raw_size).contains(&s.virtual_size) {
            s.virtual_size
        } else {
            s.raw_size
        };
        image.raw_data(s)?.get(..size as usize).map(hex)
    });
    Ok(UserModeView {
        maps,
        programs,
        elf_hash,
    })
}

fn readable_by_pe_parse(image: &Image<'_>) -> Result<(), Violation> {
    let bad = |detail: String| Violation::new(Rule::UserModeFile, detail);
    if image.optional_header_size != 0xF0 {
        return Err(bad(format!(
            "the optional header has {:#x} bytes, not 0xf0",
            image.optional_header_size
        )));
    }
    if let Some(section) = image.sections.iter().find(|s| image.raw_data(s).is_none()) {
        return Err(bad(format!(
            "raw data of {} passes the end of the file",
            section.display_name()
        )));
    }
    if image.symbol_table != 0 {
        return Err(bad(format!("it has a COFF symbol table at {:#x}", image.symbol_table)));
    }
    base_relocations(image).map_err(|v| bad(v.detail))?;
    imports(image).map_err(|v| bad(v.detail))?;
    if let Some(exports) = image.directory(DirectoryKind::Export)
        && image.file_bytes(exports.rva, exports.size.max(40) as usize).is_none()
    {
        return Err(bad(format!(
            "the export directory at {} is not in raw data",
            exports.rva
        )));
    }
    Ok(())
}

/// A string of a table: in `.rdata`, or else in the table's own section.
fn string(
    image: &Image<'_>,
    address: u64,
    rdata: Option<&Section>,
    own: &Section,
    what: &str,
) -> Result<String, Violation> {
    let bad = |detail: String| Violation::new(Rule::UserModeString, format!("{what} {detail}"));
    if address == 0 {
        return Err(bad("is NULL".into()));
    }
    let inside = |s: &&Section| {
        let start = image.image_base.wrapping_add(s.rva.0.into());
        address >= start && address - start < u64::from(s.virtual_size)
    };
    let section = rdata.filter(inside).or(Some(own)).filter(inside).ok_or_else(|| {
        let place = image.rva_of(address).and_then(|rva| image.section_at(rva));
        let place = place.map_or("outside every section".into(), Section::display_name);
        bad(format!(
            "is in {place}; only .rdata, if it precedes, and {} are looked at",
            own.display_name()
        ))
    })?;
    let offset = (address - image.image_base - u64::from(section.rva.0)) as usize;
    let data = image
        .raw_data(section)
        .and_then(|d| d.get(offset..))
        .unwrap_or_default();
    let end = data
        .iter()
        .position(|&b| b == 0)
        .ok_or_else(|| bad("does not end in raw data".into()))?;
    String::from_utf8(data[..end].to_vec()).map_err(|_| bad("is not UTF-8".into()))
}

/// The first `virtual_size` bytes of a section, which must be in the file.
fn table_bytes<'a>(image: &Image<'a>, section: &Section, rule: Rule) -> Result<&'a [u8], Violation> {
    image
        .raw_data(section)
        .and_then(|d| d.get(..section.virtual_size as usize))
        .ok_or_else(|| {
            let name = section.display_name();
            Violation::new(
                rule,
                format!(
                    "{name} has {:#x} raw bytes of {:#x}",
                    section.raw_size, section.virtual_size
                ),
            )
        })
}

fn is_zero(bytes: &[u8]) -> bool {
    bytes.iter().all(|&b| b == 0)
}

fn read_maps(image: &Image<'_>, section: &Section, rdata: Option<&Section>) -> Result<Vec<UserModeMap>, Violation> {
    let bad = |detail: String| Violation::new(Rule::UserModeMapTable, detail);
    let data = table_bytes(image, section, Rule::UserModeMapTable)?;
    // A table starts with 16 zero bytes before a version that is not zero, after a string's NUL or at the start.
    let start = (0..data.len())
        .step_by(8)
        .take_while(|offset| offset + 24 < data.len())
        .find(|&o| is_zero(&data[o..o + 16]) && !is_zero(&data[o + 16..o + 24]) && (o == 0 || data[o - 1] == 0))
        .ok_or_else(|| bad("no map entry is found in section maps".into()))?;
    let entries = data[start..].chunks_exact(size_of::<MapEntry>());
    if !entries.remainder().is_empty() {
        return Err(bad(format!(
            "section maps holds {} bytes from its first entry, which is no multiple of {}",
            data.len() - start,
            size_of::<MapEntry>()
        )));
    }
    let mut maps = Vec::new();
    for (index, bytes) in entries.enumerate() {
        let entry = MapEntry::read_from_bytes(bytes).map_err(|_| bad(format!("map {index} is cut")))?;
        if !is_zero(&entry.marker) {
            return Err(bad(format!("user mode stops at map {index}, whose marker is not zero")));
        }
        let name = string(
            image,
            entry.name.get(),
            rdata,
            section,
            &format!("the name of map {index}"),
        )?;
        let d = entry.definition;
        maps.push(UserModeMap {
            name,
            map_type: d.map_type.get(),
            key_size: d.key_size.get(),
            value_size: d.value_size.get(),
            max_entries: d.max_entries.get(),
            inner_map_idx: d.inner_map_idx.get(),
            pinning: d.pinning.get(),
            id: d.id.get(),
            inner_id: d.inner_id.get(),
        });
    }
    Ok(maps)
}

struct TableEntry {
    program: UserModeProgram,
}

fn read_programs(
    image: &Image<'_>,
    section: &Section,
    rdata: Option<&Section>,
    data_section: Option<&Section>,
) -> Result<Vec<TableEntry>, Violation> {
    let bad = |detail: String| Violation::new(Rule::UserModeProgramTable, detail);
    let data = table_bytes(image, section, Rule::UserModeProgramTable)?;
    let start = (0..data.len())
        .step_by(16)
        .take_while(|offset| offset + 8 <= data.len())
        .find(|&o| is_zero(&data[o..o + 8]) && (o == 0 || data[o - 1] == 0))
        .ok_or_else(|| bad("no program entry is found in section programs".into()))?;
    let data = &data[start..];
    let first = data
        .get(..size_of::<ProgramEntry>())
        .and_then(|b| ProgramEntry::read_from_bytes(b).ok())
        .ok_or_else(|| bad(format!("only {} bytes follow its start", data.len())))?;
    let (version, size, stride) = (
        first.header.version.get(),
        first.header.size.get(),
        first.header.total_size.get(),
    );
    if version != 1 || !matches!(size, 144 | 154) || stride < 144 || stride < size {
        return Err(bad(format!(
            "the first entry has version {version}, size {size}, total size {stride}"
        )));
    }
    let stride = usize::try_from(stride).unwrap_or(usize::MAX);
    if !data.len().is_multiple_of(stride) {
        return Err(bad(format!(
            "section programs holds {} bytes, no multiple of {stride}",
            data.len()
        )));
    }
    let mut entries = Vec::new();
    for (index, bytes) in data.chunks_exact(stride).enumerate() {
        let entry = ProgramEntry::read_from_bytes(&bytes[..size_of::<ProgramEntry>()])
            .map_err(|_| bad(format!("program {index} is cut")))?;
        let text = |address: u64, what: &str| {
            string(
                image,
                address,
                rdata,
                section,
                &format!("the {what} of program {index}"),
            )
        };
        let guid = |address: u64, what: &str| {
            let place = || {
                Violation::new(
                    Rule::UserModeGuid,
                    format!("the {what} of program {index} is not in .data"),
                )
            };
            let section = data_section.ok_or_else(place)?;
            let offset = image
                .rva_of(address)
                .and_then(|rva| rva.0.checked_sub(section.rva.0))
                .ok_or_else(place)?;
            let offset = offset as usize;
            let bytes = image
                .raw_data(section)
                .and_then(|d| d.get(offset..offset + 16))
                .ok_or_else(place)?;
            <[u8; 16]>::try_from(bytes)
                .map(|b| Guid(b).to_string())
                .map_err(|_| place())
        };
        entries.push(TableEntry {
            program: UserModeProgram {
                pe_section: text(entry.pe_section_name.get(), "code section name")?,
                section: text(entry.section_name.get(), "section name")?,
                name: text(entry.program_name.get(), "name")?,
                program_type: guid(entry.program_type.get(), "program type")?,
                attach_type: guid(entry.attach_type.get(), "attach type")?,
                code_size: 0,
                table_index: index,
                entry,
                entry_bytes: bytes.to_vec(),
            },
        });
    }
    Ok(entries)
}

fn match_code_sections(
    image: &Image<'_>,
    sections: &[&Section],
    entries: &[TableEntry],
) -> Result<Vec<UserModeProgram>, Violation> {
    let bad = |detail: String| Violation::new(Rule::UserModeCodeSection, detail);
    let mut programs = Vec::new();
    let mut found = BTreeSet::new();
    for section in sections.iter().filter(|s| s.has(Section::CODE)) {
        for entry in entries
            .iter()
            .filter(|e| e.program.pe_section.as_bytes() == section.name)
        {
            table_bytes(image, section, Rule::UserModeCodeSection)?;
            if !found.insert(entry.program.table_index) {
                return Err(bad(format!(
                    "two code sections are called {}",
                    entry.program.pe_section
                )));
            }
            programs.push(UserModeProgram {
                code_size: section.virtual_size,
                ..entry.program.clone()
            });
        }
    }
    if let Some(missing) = entries.iter().find(|e| !found.contains(&e.program.table_index)) {
        let (name, section) = (&missing.program.name, &missing.program.pe_section);
        return Err(bad(format!("program {name} has no code section called {section}")));
    }
    programs.sort_by(|a, b| a.name.as_bytes().cmp(b.name.as_bytes()));
    Ok(programs)
}

/// Lower-case hexadecimal digits.
pub(crate) fn hex(bytes: &[u8]) -> String {
    // Of each packet of a long run, so that it matters how fast it is.
    const DIGITS: [char; 16] = [
        '0', '1', '2', '3', '4', '5', '6', '7', '8', '9', 'a', 'b', 'c', 'd', 'e', 'f',
    ];
    let mut text = String::with_capacity(bytes.len() * 2);
    for byte in bytes {
        text.push(DIGITS[usize::from(byte >> 4)]);
        text.push(DIGITS[usize::from(byte & 15)]);
    }
    text
}
