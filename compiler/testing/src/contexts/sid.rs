//! SIDs as people write them: `S-1-5-18`.
//!
//! The bytes of one are its revision, the number of its subauthorities, its authority with the most significant byte first, and
//! its subauthorities with the least significant byte first ([MS-DTYP] §2.4.2.2).

use serde_json::Value;

/// Bytes before the subauthorities.
const HEAD: usize = 8;
/// The only revision that there is.
const REVISION: u8 = 1;
/// Most subauthorities that a SID has.
const MAX_SUBAUTHORITIES: u8 = 15;

pub(super) fn parse(value: &Value) -> Option<Vec<u8>> {
    let mut parts = value.as_str()?.split('-');
    let head = [parts.next()?, parts.next()?];
    if !head[0].eq_ignore_ascii_case("S") || head[1] != "1" {
        return None;
    }
    let authority = authority(parts.next()?)?;
    let subauthorities: Option<Vec<u32>> = parts.map(|part| plain(part)?.parse().ok()).collect();
    let subauthorities = subauthorities?;
    let count = u8::try_from(subauthorities.len()).ok();
    let mut bytes = vec![REVISION, count.filter(|count| *count <= MAX_SUBAUTHORITIES)?];
    bytes.extend(&authority.to_be_bytes()[2..]);
    bytes.extend(subauthorities.into_iter().flat_map(u32::to_le_bytes));
    Some(bytes)
}

/// The authority, of 48 bits: in hex if it has more than 32.
fn authority(text: &str) -> Option<u64> {
    let number = match text.strip_prefix("0x") {
        Some(digits) => u64::from_str_radix(digits, 16).ok()?,
        None => plain(text)?.parse().ok()?,
    };
    (number < 1 << 48).then_some(number)
}

/// A text without a sign, which parsers of numbers would take.
fn plain(text: &str) -> Option<&str> {
    text.bytes().all(|c| c.is_ascii_digit()).then_some(text)
}

pub(super) fn show(bytes: &[u8]) -> Option<Value> {
    let used = structure(bytes)?;
    let mut authority = [0; 8];
    authority[2..].copy_from_slice(&bytes[2..HEAD]);
    let authority = u64::from_be_bytes(authority);
    let mut text = if u32::try_from(authority).is_ok() {
        format!("S-{REVISION}-{authority}")
    } else {
        format!("S-{REVISION}-0x{authority:012x}")
    };
    for subauthority in bytes[HEAD..used].as_chunks::<4>().0 {
        text += &format!("-{}", u32::from_le_bytes(*subauthority));
    }
    Some(text.into())
}

/// Bytes of the SID that a field starts with; of what is no SID, those up to the last that is not 0.
pub(super) fn used(bytes: &[u8]) -> usize {
    let last = || bytes.iter().rposition(|byte| *byte != 0).map_or(0, |at| at + 1);
    structure(bytes).unwrap_or_else(last)
}

/// Bytes of the SID that a field starts with, if there is one.
fn structure(bytes: &[u8]) -> Option<usize> {
    let [REVISION, count, ..] = *bytes else { return None };
    let size = HEAD + 4 * usize::from(count);
    (count <= MAX_SUBAUTHORITIES && size <= bytes.len()).then_some(size)
}
