//! Lowered modules as text, for people: what became of each eBPF instruction.
//!
//! Given: a verified module and what [`lower`](crate::lower) made of it.
//! Computed: a listing of source lines, eBPF instructions and native instructions side by side, or its [`rows`]; or the optimized
//! Cranelift IR with the instructions it was made of; or the plain native code of one function.
//! Safe because: it only reads, and all text that came from a file is freed of control characters. The same module gives
//! the same text: file names are those that the object records.

mod arm64;
mod assembly;
mod clif;
mod ebpf;
mod native;
mod rows;
mod x64;

pub use assembly::assembly;
pub use clif::clif;
pub use native::{NativeInstruction, native_code, native_text};
pub use rows::{FunctionRows, Glue, Left, Part, Row, rows};

use std::fmt::Write;

/// Text from a file on one line and without control characters.
fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\t' => escaped.push(' '),
            c if c.is_control() => escaped.extend(c.escape_unicode()),
            c => escaped.push(c),
        }
    }
    escaped
}

/// Bytes as hexadecimal digits.
fn hex(bytes: &[u8]) -> String {
    bytes
        .iter()
        .fold(String::with_capacity(2 * bytes.len()), |mut digits, byte| {
            let _ = write!(digits, "{byte:02x}");
            digits
        })
}

#[cfg(test)]
mod tests;
