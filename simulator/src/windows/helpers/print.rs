//! `bpf_trace_printk2` to `5`: which formats are accepted, and the line they make.

use super::{Call, negative32};
use crate::windows::kernel::Kernel;

/// Longest format, the NUL included.
const LONGEST: u64 = 511;

impl Kernel {
    pub(super) fn print(&mut self, call: &Call<'_>) -> u64 {
        let [format, size, a3, a4, a5] = call.arguments;
        let values = &[a3, a4, a5][..(call.helper.id - 12) as usize];
        if size > LONGEST {
            return negative32(1);
        }
        match line(&self.bytes(format, size), values) {
            Some(text) => {
                let length = text.len() as u64;
                self.state.printed.push(text);
                length
            }
            None => negative32(1),
        }
    }
}

/// The line for a format and its arguments; `None` if the runtime refuses the format. Allowed are `%%` and `d`, `i`, `u`
/// and `x`, each alone or after `l` or `ll`, as many as there are arguments.
pub(super) fn line(format: &[u8], values: &[u64]) -> Option<String> {
    // The last byte should be the NUL; a newline before it is dropped.
    let end = match format.len().checked_sub(2).and_then(|n| format.get(n)) {
        Some(b'\n') => format.len() - 2,
        _ => format.len().saturating_sub(1),
    };
    let format = &format[..end];
    let format = &format[..format.iter().position(|&b| b == 0).unwrap_or(format.len())];
    let mut values = values.iter();
    let mut text = Vec::new();
    let mut rest = format;
    while let [byte, tail @ ..] = rest {
        rest = tail;
        if *byte != b'%' {
            text.push(*byte);
            continue;
        }
        if let [b'%', tail @ ..] = rest {
            text.push(b'%');
            rest = tail;
            continue;
        }
        let longs = rest.iter().take_while(|&&b| b == b'l').count();
        let conversion = rest.get(longs)?;
        if longs > 2 {
            return None;
        }
        rest = &rest[longs + 1..];
        let value = *values.next()?;
        // `long` has 32 bits on Windows.
        let value = if longs == 2 { value } else { u64::from(value as u32) };
        let shown = match conversion {
            b'd' | b'i' if longs == 2 => (value as i64).to_string(),
            b'd' | b'i' => (value as i32).to_string(),
            b'u' => value.to_string(),
            b'x' => format!("{value:x}"),
            _ => return None,
        };
        text.extend_from_slice(shown.as_bytes());
    }
    values
        .next()
        .is_none()
        .then(|| String::from_utf8_lossy(&text).into_owned())
}

#[cfg(test)]
mod tests {
    use super::line;

    #[test]
    fn formats_are_printed_or_refused_as_the_runtime_does() {
        let cases: &[(&[u8], &[u64], Option<&str>)] = &[
            (b"hello\0", &[], Some("hello")),
            (b"hello\n\0", &[], Some("hello")),
            (b"%d%%\0", &[u64::MAX], Some("-1%")),
            (
                b"%u %lu %llu\0",
                &[1 << 32 | 5, 1 << 32 | 6, 1 << 32],
                Some("5 6 4294967296"),
            ),
            (
                b"%x/%llx\0",
                &[0xFF_FFFF_FFFF, u64::MAX],
                Some("ffffffff/ffffffffffffffff"),
            ),
            (b"%s\0", &[1], None),
            (b"%d\0", &[], None),
            (b"%d\0", &[1, 2], None),
            (b"%llld\0", &[1], None),
            (b"%5d\0", &[1], None),
            (b"%\0", &[], None),
            (b"\0", &[], Some("")),
            (b"", &[], Some("")),
        ];
        for (format, values, expected) in cases {
            assert_eq!(
                line(format, values).as_deref(),
                *expected,
                "{}",
                String::from_utf8_lossy(format)
            );
        }
    }
}
