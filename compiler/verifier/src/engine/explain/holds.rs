//! What a register holds, in plain words.

use bpf2sys_bytecode::Reg;

use super::view::View;
use crate::violation::{Bytes, OnStack};
use crate::{Kind, Memory, Span};

/// In words: `memory` is what the register points into if it points to memory of fixed size, `nothing` why it has no known
/// content if it has none.
pub(super) fn holds(register: Reg, view: &View<'_>, memory: &Memory, nothing: &str) -> String {
    match view.kinds(register) {
        [] => nothing.to_owned(),
        [kind] => one(*kind, register, view, memory),
        kinds => {
            let all: Vec<String> = kinds.iter().map(Kind::to_string).collect();
            format!("{}, depending on the path", all.join(" or "))
        }
    }
}

fn one(kind: Kind, register: Reg, view: &View<'_>, memory: &Memory) -> String {
    match kind {
        Kind::Number => number(view.of(register, "svalue"), view.of(register, "uvalue")),
        Kind::Packet => packet(register, view),
        Kind::Stack if register == Reg::R10 => "the top of the stack frame".to_owned(),
        Kind::Stack => stack(view.stack_offset(register)),
        Kind::MapValue | Kind::Allocated => {
            let (offset, size) = match kind {
                Kind::MapValue => ("shared_offset", "shared_region_size"),
                _ => ("alloc_mem_offset", "alloc_mem_size"),
            };
            let size = match view.of(register, size).min {
                Some(size) => format!(" ({})", Bytes(Span::exactly(size))),
                None => String::new(),
            };
            let null = match view.of(register, "uvalue").min {
                Some(1..) => "",
                _ => ", or null",
            };
            format!(
                "a pointer to {}{size}{null}",
                within(view.of(register, offset), &memory.to_string())
            )
        }
        Kind::Context => match view.of(register, "ctx_offset").one() {
            Some(0) => "the context".to_owned(),
            _ => format!(
                "a pointer to {}",
                within(view.of(register, "ctx_offset"), "the context")
            ),
        },
        Kind::Map | Kind::ProgramArray => match view.map(register) {
            Some((name, false)) => format!("map `{name}`"),
            Some((name, true)) => format!("a map like `{name}`, from a map of maps"),
            None => "one of several maps".to_owned(),
        },
        kind => kind.to_string(),
    }
}

/// "byte 4 of the packet".
fn within(offset: Span, what: &str) -> String {
    match offset.one() {
        Some(0) => what.to_owned(),
        Some(at) => format!("byte {at} of {what}"),
        None if offset == Span::default() => format!("an unknown byte of {what}"),
        None => format!("byte {offset} of {what}"),
    }
}

fn packet(register: Reg, view: &View<'_>) -> String {
    if view.is_packet_end(register) {
        let least = view.packet_size().min.unwrap_or(0);
        return match least {
            0 => "the end of the packet, which can be empty".to_owned(),
            n => format!("the end of the packet, which has at least {}", Bytes(Span::exactly(n))),
        };
    }
    let place = match view.of(register, "packet_offset").one() {
        Some(0) => "the start of the packet".to_owned(),
        _ => format!(
            "a pointer to {}",
            within(view.of(register, "packet_offset"), "the packet")
        ),
    };
    match view.left_in_packet(register) {
        0 => format!("{place}; no byte is proven to be there"),
        n => format!(
            "{place}; from there on {} are proven to be there",
            Bytes(Span::exactly(n))
        )
        .replace("1 byte are", "1 byte is"),
    }
}

fn stack(offset: Span) -> String {
    match offset.min {
        Some(1..) => "a pointer into the stack frame of a caller".to_owned(),
        _ => format!("the stack at {}", OnStack(offset)),
    }
}

pub(super) fn number(signed: Span, unsigned: Span) -> String {
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
