//! Operands: registers, numbers, addresses.

use super::AssemblyProblem as Problem;

/// `%r0` to `%r15`: as many as the field can say, though RFC 9669 ends with 10.
pub(super) fn register(text: &str) -> Result<u8, Problem> {
    let number = text.strip_prefix("%r").filter(|n| n.len() == 1 || !n.starts_with('0'));
    number
        .and_then(|n| n.parse().ok())
        .filter(|n| *n < 16)
        .ok_or_else(|| Problem::Register(text.to_owned()))
}

/// A number for a field of `bits` bits, 16 to 64: decimal ones are signed (with 64 bits also unsigned), hexadecimal ones
/// are bit patterns of that width, or negative. The result is sign-extended.
pub(super) fn number(text: &str, bits: u32) -> Result<i64, Problem> {
    let wrong = || Problem::Number {
        text: text.to_owned(),
        bits,
    };
    let (negative, digits) = match text.as_bytes() {
        [b'-', ..] => (true, &text[1..]),
        [b'+', ..] => (false, &text[1..]),
        _ => (false, text),
    };
    let hexadecimal = digits.strip_prefix("0x");
    // `from_str_radix` would take a second sign.
    let digits = hexadecimal.unwrap_or(digits);
    if digits.starts_with(['+', '-']) {
        return Err(wrong());
    }
    let radix = if hexadecimal.is_some() { 16 } else { 10 };
    let magnitude = i128::from(u64::from_str_radix(digits, radix).map_err(|_| wrong())?);
    let value = if negative { -magnitude } else { magnitude };
    let half = 1_i128 << (bits - 1);
    let above = if hexadecimal.is_some() || bits == 64 {
        2 * half
    } else {
        half
    };
    if !(-half..above).contains(&value) {
        return Err(wrong());
    }
    let unused = 64 - bits;
    Ok((value as i64) << unused >> unused)
}

/// `[%r1]`, `[%r1+4]` or `[%r1-0x4]`: register and offset.
pub(super) fn address(text: &str) -> Result<(u8, i16), Problem> {
    let inner = text.strip_prefix('[').and_then(|t| t.strip_suffix(']'));
    let inner = inner.ok_or_else(|| Problem::Address(text.to_owned()))?;
    match inner.find(['+', '-']) {
        None => Ok((register(inner)?, 0)),
        Some(sign) => {
            let (base, offset) = inner.split_at(sign);
            Ok((register(base)?, number(offset, 16)? as i16))
        }
    }
}

/// `name` or `name+4`: a name and an offset in bytes.
pub(super) fn reference(text: &str) -> Result<(&str, i32), Problem> {
    match text.find('+') {
        None => Ok((text, 0)),
        Some(sign) => {
            let (name, offset) = text.split_at(sign);
            Ok((name, number(offset, 32)? as i32))
        }
    }
}
