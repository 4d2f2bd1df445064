//! Bytes as hexadecimal digits.

/// Why a text is no bytes.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HexError {
    /// Something between the digits that is no digit.
    #[error("`{0}` is no hexadecimal digit")]
    Digit(char),
    /// Half a byte.
    #[error("a byte has two hexadecimal digits; one is missing")]
    Odd,
}

/// The bytes that pairs of digits stand for, with or without blanks between them.
///
/// # Errors
/// Something else is there.
pub fn parse_hex(text: &str) -> Result<Vec<u8>, HexError> {
    let digits: Vec<u8> = text
        .chars()
        .filter(|c| !c.is_whitespace())
        .map(|c| c.to_digit(16).map(|d| d as u8).ok_or(HexError::Digit(c)))
        .collect::<Result<_, _>>()?;
    let (pairs, rest) = digits.as_chunks::<2>();
    if !rest.is_empty() {
        return Err(HexError::Odd);
    }
    Ok(pairs.iter().map(|[high, low]| high << 4 | low).collect())
}

#[cfg(test)]
mod tests {
    use super::{HexError, parse_hex};

    #[test]
    fn blanks_are_skipped_and_anything_else_is_an_error() {
        assert_eq!(parse_hex("00  fF 1234\n"), Ok(vec![0, 0xff, 0x12, 0x34]));
        assert_eq!(parse_hex(""), Ok(Vec::new()));
        assert_eq!(parse_hex("0x00"), Err(HexError::Digit('x')));
        assert_eq!(parse_hex("00 1"), Err(HexError::Odd));
    }
}
