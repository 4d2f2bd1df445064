//! Resources, and the version information among them.
//!
//! Given: an image. Computed: its resources, and of the version resource the strings that file properties show.
//! Safe on any file: tables are followed to the third level, entries and blocks are counted, and every length is checked.
//!
//! Sources: PE format, "The .rsrc Section"; Microsoft, "VERSIONINFO resource" and "`VS_VERSIONINFO` structure".

use crate::image::{Directory, DirectoryKind, Image, Rva};

/// `RT_VERSION`.
pub const VERSION: u32 = 16;
/// What a resource's offset says that leads to another directory.
const SUBDIRECTORY: u32 = 0x8000_0000;
/// Type, name and language.
const LEVELS: usize = 3;
/// More resources than any driver has.
const MOST_RESOURCES: usize = 4096;
/// Signature of a `VS_FIXEDFILEINFO`.
const FIXED_FILE_INFO: [u8; 4] = 0xFEEF_04BDu32.to_le_bytes();
/// More strings than any version resource has.
const MOST_STRINGS: usize = 64;
/// `VS_VERSIONINFO`, `StringFileInfo`, `StringTable`, `String`.
const BLOCK_LEVELS: usize = 4;

/// What a version resource says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct VersionResource {
    /// Version of the file, the most significant number first.
    pub file_version: [u16; 4],
    /// Version of the product that the file is of.
    pub product_version: [u16; 4],
    /// Names and values, in their order; of a broken resource those that can be read.
    pub strings: Vec<(String, String)>,
}

/// The version resource of an image; `None` if there is none that can be read.
pub fn version(image: &Image<'_>) -> Option<VersionResource> {
    let directory = image.directory(DirectoryKind::Resource)?;
    let list = resources(image, directory).ok()?;
    let (_, data) = list.into_iter().find(|(kind, _)| *kind == VERSION)?;
    let mut strings = Vec::new();
    read_blocks(data, 0, &mut strings);
    let [file_version, product_version] = fixed_versions(data)?;
    Some(VersionResource {
        file_version,
        product_version,
        strings,
    })
}

/// The versions of the file and of the product as the fixed part of a version resource has them.
pub fn fixed_versions(data: &[u8]) -> Option<[[u16; 4]; 2]> {
    let at = data.windows(4).position(|bytes| bytes == FIXED_FILE_INFO)?;
    let half = |offset: usize| {
        data.get(at + offset..at + offset + 2)
            .map_or(0, |b| u16::from_le_bytes([b[0], b[1]]))
    };
    // dwFileVersionMS, dwFileVersionLS; then the same of the product.
    Some([8, 16].map(|start| [2, 0, 6, 4].map(|word| half(start + word))))
}

/// A version as people write it.
pub fn dotted(version: [u16; 4]) -> String {
    version.map(|number| number.to_string()).join(".")
}

/// Reads the strings of blocks that follow each other.
fn read_blocks(blocks: &[u8], level: usize, strings: &mut Vec<(String, String)>) {
    let mut rest = blocks;
    while let Some((block, behind)) = Block::read(rest) {
        if strings.len() >= MOST_STRINGS {
            return;
        }
        match level {
            // The fixed part is the value of the first level; what lies below it are blocks.
            0 => read_blocks(block.below, 1, strings),
            1 if block.name == "StringFileInfo" => read_blocks(block.below, 2, strings),
            2 => read_blocks(block.below, 3, strings),
            level if level + 1 == BLOCK_LEVELS => strings.push((block.name, text(block.value))),
            _ => {}
        }
        rest = behind;
    }
}

/// A block: its length, that of its value, whether that is text, its name, the value, and the blocks below it, all at multiples of
/// 4 bytes.
struct Block<'a> {
    name: String,
    value: &'a [u8],
    below: &'a [u8],
}

impl<'a> Block<'a> {
    /// The first block, and what is behind it.
    fn read(bytes: &'a [u8]) -> Option<(Block<'a>, &'a [u8])> {
        let word = |at: usize| Some(u16::from_le_bytes(bytes.get(at..at + 2)?.try_into().ok()?));
        let (length, value_length, is_text) = (usize::from(word(0)?), usize::from(word(2)?), word(4)? == 1);
        let block = bytes.get(..length).filter(|block| block.len() > 6)?;
        let units = block[6..].chunks_exact(2).position(|unit| unit == [0, 0])?;
        let value_size = if is_text { 2 * value_length } else { value_length };
        let value_at = (6 + 2 * units + 2).next_multiple_of(4).min(block.len());
        let value_end = value_at.saturating_add(value_size).min(block.len());
        let below_at = value_end.next_multiple_of(4).min(block.len());
        let behind = length.next_multiple_of(4).min(bytes.len());
        let found = Block {
            name: text(&block[6..]),
            value: &block[value_at..value_end],
            below: &block[below_at..],
        };
        Some((found, &bytes[behind..]))
    }
}

/// UTF-16 up to the first NUL.
fn text(bytes: &[u8]) -> String {
    let units = bytes.as_chunks::<2>().0.iter().map(|unit| u16::from_le_bytes(*unit));
    let units: Vec<u16> = units.take_while(|unit| *unit != 0).collect();
    String::from_utf16_lossy(&units)
}

/// All resources: number of the type (0 of types with names) and data.
///
/// # Errors
/// What is wrong with the tables, in words.
pub fn resources<'a>(image: &Image<'a>, directory: Directory) -> Result<Vec<(u32, &'a [u8])>, String> {
    let word = |rva: u32| {
        let bytes = image.file_bytes(Rva(rva), 4)?;
        Some(u32::from_le_bytes(bytes.try_into().ok()?))
    };
    let start = directory.rva.0;
    let mut found = Vec::new();
    // Offset of a table, its level, and the type that it belongs to.
    let mut waiting = vec![(0, 0, 0)];
    let mut seen = 0;
    while let Some((offset, level, kind)) = waiting.pop() {
        let outside = || format!("the table at {offset:#x} is not in raw data");
        let at = start.checked_add(offset).ok_or_else(outside)?;
        let counts = word(at.saturating_add(12)).ok_or_else(outside)?;
        for index in 0..(counts & 0xFFFF) + (counts >> 16) {
            seen += 1;
            if seen > MOST_RESOURCES {
                return Err(format!("more than {MOST_RESOURCES} entries"));
            }
            let entry = at.saturating_add(16 + 8 * index);
            let (Some(name), Some(target)) = (word(entry), word(entry.saturating_add(4))) else {
                return Err(outside());
            };
            let kind = if level == 0 && name < SUBDIRECTORY { name } else { kind };
            if target & SUBDIRECTORY != 0 {
                if level + 1 >= LEVELS {
                    return Err(format!("the table at {offset:#x} has tables below the third level"));
                }
                waiting.push((target & !SUBDIRECTORY, level + 1, kind));
                continue;
            }
            let data = start
                .checked_add(target)
                .and_then(|at| Some((word(at)?, word(at.checked_add(4)?)?)));
            let data = data.and_then(|(rva, size)| image.file_bytes(Rva(rva), size as usize));
            found.push((
                kind,
                data.ok_or_else(|| format!("the data at {target:#x} is not in raw data"))?,
            ));
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn block(name: &str, is_text: bool, value: &[u8], below: &[Vec<u8>]) -> Vec<u8> {
        let value_length = if is_text { value.len() / 2 } else { value.len() };
        let mut out = vec![0, 0];
        out.extend((value_length as u16).to_le_bytes());
        out.extend(u16::from(is_text).to_le_bytes());
        out.extend(wide(name));
        for part in std::iter::once(value).chain(below.iter().map(Vec::as_slice)) {
            out.resize(out.len().next_multiple_of(4), 0);
            out.extend(part);
        }
        let length = (out.len() as u16).to_le_bytes();
        out[..2].copy_from_slice(&length);
        out
    }

    fn wide(text: &str) -> Vec<u8> {
        text.encode_utf16().chain([0]).flat_map(u16::to_le_bytes).collect()
    }

    fn resource() -> Vec<u8> {
        let mut fixed = FIXED_FILE_INFO.to_vec();
        fixed.extend([0, 0, 1, 0, 2, 0, 1, 0, 4, 0, 3, 0, 6, 0, 5, 0, 8, 0, 7, 0]);
        let strings = [
            block("CompanyName", true, &wide("Contoso"), &[]),
            block("FileDescription", true, &wide("größer"), &[]),
        ];
        let table = block("040904B0", true, &[], &strings);
        let parts = [
            block("StringFileInfo", true, &[], &[table]),
            block(
                "VarFileInfo",
                true,
                &[],
                &[block("Translation", false, &[9, 4, 0xB0, 4], &[])],
            ),
        ];
        block("VS_VERSION_INFO", false, &fixed, &parts)
    }

    fn strings(data: &[u8]) -> Vec<(String, String)> {
        let mut strings = Vec::new();
        read_blocks(data, 0, &mut strings);
        strings
    }

    #[test]
    fn strings_of_a_version_resource_are_read_in_their_order() {
        let data = resource();
        assert_eq!(fixed_versions(&data), Some([[1, 2, 3, 4], [5, 6, 7, 8]]));
        assert_eq!(dotted([1, 2, 3, 4]), "1.2.3.4");
        let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        assert_eq!(
            strings(&data),
            [pair("CompanyName", "Contoso"), pair("FileDescription", "größer")]
        );
    }

    #[test]
    fn a_broken_version_resource_ends_and_gives_what_can_be_read() {
        let data = resource();
        for length in 0..data.len() {
            strings(&data[..length]);
        }
        for place in 0..data.len() {
            for value in [0, 1, 0x7F, 0xFF] {
                let mut broken = data.clone();
                broken[place] = value;
                assert!(strings(&broken).len() <= MOST_STRINGS);
            }
        }
    }
}
