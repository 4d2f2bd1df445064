//! Bytes that are shown and passed as hexadecimal text.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Bytes, serialized as lower-case hexadecimal digits.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HexBytes(pub Vec<u8>);

impl HexBytes {
    /// Reads hexadecimal digits; blanks between bytes are skipped.
    pub fn parse(text: &str) -> Option<HexBytes> {
        let mut bytes = Vec::with_capacity(text.len() / 2);
        let mut digits = text.chars().filter(|c| !c.is_whitespace());
        let mut next = || digits.next().map(|digit| digit.to_digit(16));
        while let Some(high) = next() {
            bytes.push((high? << 4 | next()??) as u8);
        }
        Some(HexBytes(bytes))
    }
}

impl From<Vec<u8>> for HexBytes {
    fn from(bytes: Vec<u8>) -> Self {
        HexBytes(bytes)
    }
}

impl fmt::Display for HexBytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&crate::usermode::hex(&self.0))
    }
}

impl Serialize for HexBytes {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&crate::usermode::hex(&self.0))
    }
}

impl<'de> Deserialize<'de> for HexBytes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        HexBytes::parse(&text).ok_or_else(|| serde::de::Error::custom("not hexadecimal bytes"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hexadecimal_text_round_trips_and_odd_digits_are_refused() {
        let bytes = HexBytes(vec![0, 0xAB, 0xFF]);
        let text = serde_json::to_string(&bytes).unwrap();
        assert_eq!(text, "\"00abff\"");
        assert_eq!(serde_json::from_str::<HexBytes>(&text).unwrap(), bytes);
        assert_eq!(HexBytes::parse("00 ab\tff"), Some(bytes));
        assert_eq!(HexBytes::parse("0"), None);
        assert_eq!(HexBytes::parse("zz"), None);
    }
}
