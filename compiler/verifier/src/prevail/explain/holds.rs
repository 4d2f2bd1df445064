//! What a register holds, in plain words.

use bpf2sys_bytecode::Reg;

use super::view::View;
use crate::violation::Bytes;
use crate::words::{number, packet_end, packet_place, stack, within};
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

fn packet(register: Reg, view: &View<'_>) -> String {
    if view.is_packet_end(register) {
        return packet_end(view.packet_size().min.unwrap_or(0));
    }
    packet_place(view.of(register, "packet_offset"), view.left_in_packet(register))
}
