//! The version information that file properties show: `VS_VERSIONINFO` of the SDK.
//!
//! A tree of blocks, each with its length, the length of its value, whether that is text, its name in UTF-16, the value and
//! the blocks below it, all at multiples of 4 bytes. The one language is US English, its text is Unicode.

use crate::image_kind::ImageKind;

/// US English.
pub(crate) const LANGUAGE: u16 = 0x0409;
/// Unicode.
const CODE_PAGE: u16 = 0x04B0;
/// The name of the block of strings: language and code page.
const STRINGS: &str = "040904B0";

/// `VS_FFI_SIGNATURE`, `VS_FFI_STRUCVERSION`.
const SIGNATURE: u32 = 0xFEEF_04BD;
const STRUCTURE_VERSION: u32 = 0x0001_0000;
/// `VS_FFI_FILEFLAGSMASK`: which flags mean something. None is set.
const FLAGS_MASK: u32 = 0x3F;
/// `VOS_NT_WINDOWS32`.
const SYSTEM: u32 = 0x0004_0004;
/// `VFT_DRV` and `VFT2_DRV_SYSTEM`; `VFT_DLL`.
const DRIVER: [u32; 2] = [3, 7];
const LIBRARY: [u32; 2] = [2, 0];

/// A version of four numbers, the most significant one first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Version(pub [u16; 4]);

impl Version {
    fn words(self) -> [u32; 2] {
        let [a, b, c, d] = self.0.map(u32::from);
        [a << 16 | b, c << 16 | d]
    }
}

/// What the version resource says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct VersionInfo {
    /// Version of the file.
    pub file_version: Version,
    /// Version of the product that the file is of.
    pub product_version: Version,
    /// Strings by their names, e.g. `CompanyName`, in the order that they take.
    pub strings: Vec<(String, String)>,
}

impl VersionInfo {
    /// Most UTF-16 units of all strings and their names together: the lengths in the resource have 16 bits and count bytes.
    pub const MAX_UNITS: usize = 30_000;

    /// Whether a resource can hold it.
    pub fn fits(&self) -> bool {
        let units = |text: &str| text.encode_utf16().count() + 1;
        let each = self.strings.iter().map(|(name, text)| units(name) + units(text) + 6);
        each.sum::<usize>() <= Self::MAX_UNITS
    }

    /// The resource; `None` if it would be too large.
    pub(crate) fn bytes(&self, kind: ImageKind) -> Option<Vec<u8>> {
        if !self.fits() {
            return None;
        }
        let [file_type, subtype] = match kind {
            ImageKind::Driver => DRIVER,
            ImageKind::Dll => LIBRARY,
        };
        let [file_high, file_low] = self.file_version.words();
        let [product_high, product_low] = self.product_version.words();
        let fixed: Vec<u8> = [
            SIGNATURE,
            STRUCTURE_VERSION,
            file_high,
            file_low,
            product_high,
            product_low,
            FLAGS_MASK,
            0, // flags
            SYSTEM,
            file_type,
            subtype,
            0, // date: none
            0,
        ]
        .into_iter()
        .flat_map(u32::to_le_bytes)
        .collect();
        let strings = self
            .strings
            .iter()
            .map(|(name, text)| string(name, text))
            .collect::<Vec<_>>();
        let strings = block(STRINGS, Value::Text(0), &[], &strings);
        let translation: Vec<u8> = [LANGUAGE, CODE_PAGE].into_iter().flat_map(u16::to_le_bytes).collect();
        let translation = block("Translation", Value::Binary, &translation, &[]);
        let parts = [
            block("StringFileInfo", Value::Text(0), &[], &[strings]),
            block("VarFileInfo", Value::Text(0), &[], &[translation]),
        ];
        Some(block("VS_VERSION_INFO", Value::Binary, &fixed, &parts))
    }
}

/// How the length of a value is counted.
#[derive(Clone, Copy)]
enum Value {
    /// In bytes.
    Binary,
    /// In UTF-16 units, this many.
    Text(u16),
}

fn string(name: &str, text: &str) -> Vec<u8> {
    let value = wide(text);
    block(name, Value::Text((value.len() / 2) as u16), &value, &[])
}

/// NUL-terminated UTF-16.
fn wide(text: &str) -> Vec<u8> {
    text.encode_utf16().chain([0]).flat_map(u16::to_le_bytes).collect()
}

/// One block with what is below it. Its own length leaves out the padding behind it.
fn block(name: &str, kind: Value, value: &[u8], below: &[Vec<u8>]) -> Vec<u8> {
    let (value_length, is_text) = match kind {
        Value::Binary => (value.len() as u16, 0u16),
        Value::Text(units) => (units, 1),
    };
    let mut out = vec![0; 2];
    out.extend_from_slice(&value_length.to_le_bytes());
    out.extend_from_slice(&is_text.to_le_bytes());
    out.extend(wide(name));
    for part in std::iter::once(value).chain(below.iter().map(Vec::as_slice)) {
        if !part.is_empty() {
            out.resize(out.len().next_multiple_of(4), 0);
            out.extend_from_slice(part);
        }
    }
    let length = (out.len() as u16).to_le_bytes();
    out[..2].copy_from_slice(&length);
    out
}
