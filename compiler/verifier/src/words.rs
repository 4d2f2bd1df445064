//! What is known of values, in plain words.

use crate::Span;
use crate::violation::{Bytes, OnStack};

/// "byte 4 of the packet".
pub(crate) fn within(offset: Span, what: &str) -> String {
    match offset.one() {
        Some(0) => what.to_owned(),
        Some(at) => format!("byte {at} of {what}"),
        None if offset == Span::default() => format!("an unknown byte of {what}"),
        None => format!("byte {offset} of {what}"),
    }
}

/// The end of a packet that has so many bytes at least.
pub(crate) fn packet_end(least: i64) -> String {
    match least {
        0 => "the end of the packet, which can be empty".to_owned(),
        n => format!("the end of the packet, which has at least {}", Bytes(Span::exactly(n))),
    }
}

/// A pointer into the packet, behind which so many bytes are proven to be there.
pub(crate) fn packet_place(offset: Span, left: i64) -> String {
    let place = match offset.one() {
        Some(0) => "the start of the packet".to_owned(),
        _ => format!("a pointer to {}", within(offset, "the packet")),
    };
    match left {
        0 => format!("{place}; no byte is proven to be there"),
        n => format!(
            "{place}; from there on {} are proven to be there",
            Bytes(Span::exactly(n))
        )
        .replace("1 byte are", "1 byte is"),
    }
}

/// A pointer into a stack frame.
pub(crate) fn stack(offset: Span) -> String {
    match offset.min {
        Some(1..) => "a pointer into the stack frame of a caller".to_owned(),
        _ => format!("the stack at {}", OnStack(offset)),
    }
}

/// A number, by its bounds as a signed and as an unsigned one.
pub(crate) fn number(signed: Span, unsigned: Span) -> String {
    match (signed.one().or(unsigned.one()), signed, unsigned) {
        (Some(number), ..) => format!("the number {number}"),
        (
            None,
            Span {
                min: Some(a),
                max: Some(b),
            },
            _,
        ) if (a, b) != (i64::MIN, i64::MAX) => format!("a number from {a} to {b}"),
        (
            None,
            _,
            Span {
                min: Some(a),
                max: Some(b),
            },
        ) if (a, b) != (0, i64::MAX) => format!("a number from {a} to {b}"),
        (None, Span { min: Some(a), .. }, _) if a > i64::MIN => format!("a number from {a} upward"),
        (None, Span { max: Some(b), .. }, _) if b < i64::MAX => format!("a number up to {b}"),
        _ => "any number".to_owned(),
    }
}

/// "twice".
pub(crate) fn times(count: usize) -> String {
    match count {
        1 => "once".to_owned(),
        2 => "twice".to_owned(),
        n => format!("{n} times"),
    }
}
