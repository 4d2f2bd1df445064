//! Bytes as people write them: hex digits, a list of numbers, or text.

use bpf2sys_platform::DataFormat;
use serde_json::Value;

/// Bytes of hex digits, between which there may be spaces, or of a list of numbers.
pub(super) fn parse(value: &Value) -> Option<Vec<u8>> {
    match value {
        Value::String(text) => from_hex(text),
        Value::Array(_) => list(value),
        _ => None,
    }
}

/// Bytes of a list of numbers.
pub(super) fn list(value: &Value) -> Option<Vec<u8>> {
    let byte = |value: &Value| value.as_u64().and_then(|n| u8::try_from(n).ok());
    value.as_array()?.iter().map(byte).collect()
}

/// Bytes as a list of numbers.
pub(super) fn as_list(bytes: &[u8]) -> Value {
    bytes.iter().map(|byte| Value::from(*byte)).collect()
}

fn from_hex(text: &str) -> Option<Vec<u8>> {
    let digit = |c: char| c.to_digit(16).map(|d| d as u8);
    let digits: Option<Vec<u8>> = text.chars().filter(|c| !c.is_ascii_whitespace()).map(digit).collect();
    let digits = digits.filter(|digits| digits.len().is_multiple_of(2))?;
    Some(digits.chunks_exact(2).map(|pair| pair[0] << 4 | pair[1]).collect())
}

/// Bytes as hex digits.
pub(super) fn as_hex(bytes: &[u8]) -> Value {
    let digits: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    digits.into()
}

/// The data of a context.
pub(super) fn parse_data(format: Option<DataFormat>, value: &Value) -> Option<Vec<u8>> {
    match (format, value) {
        (Some(DataFormat::Utf16), Value::String(text)) => {
            Some(text.encode_utf16().flat_map(u16::to_le_bytes).collect())
        }
        (Some(DataFormat::Utf16), _) => list(value),
        (None, _) => parse(value),
    }
}

/// The data of a context; as a list of numbers if it is no text and should be.
pub(super) fn show_data(format: Option<DataFormat>, bytes: &[u8]) -> Value {
    let Some(DataFormat::Utf16) = format else {
        return as_hex(bytes);
    };
    let (units, rest) = bytes.as_chunks::<2>();
    let units: Vec<u16> = units.iter().map(|unit| u16::from_le_bytes(*unit)).collect();
    match String::from_utf16(&units) {
        Ok(text) if rest.is_empty() => text.into(),
        _ => as_list(bytes),
    }
}

/// What the data of a context takes, for errors.
pub(super) fn data_takes(format: Option<DataFormat>) -> &'static str {
    match format {
        Some(DataFormat::Utf16) => "text, such as \"curl.exe\", or a list of bytes, such as [104, 0]",
        None => "hex digits, such as \"08004500\", or a list of bytes, such as [8, 0]",
    }
}
