//! The listing: source lines, eBPF instructions and the native instructions they became, side by side.

use std::fmt::Write;

use bpf2sys_pe_emit::Machine;
use bpf2sys_platform::Platform;
use bpf2sys_verifier::VerifiedModule;

use super::ebpf::{line_text, title};
use super::native::NativeInstruction;
use super::rows::{Glue, Left, Part, Row, rows};
use crate::Lowered;

/// Columns of the eBPF half; a longer instruction gets a line of its own.
const LEFT_WIDTH: usize = 46;
/// Columns of an instruction's bytes: few have more than twelve.
const BYTES_WIDTH: usize = 24;

const LEGEND: &str = "\
;
; Left, eBPF instructions by slot; right, what they became, by offset in the function, with bytes before relocation.
; An instruction with nothing on its right became part of others, or is never reached. A slot in parentheses was listed
; before: the compiler put another part of it here. `^` marks one of a subprogram whose call was inlined, `-` code that belongs
; to no single instruction.
";

/// The listing of a module: every program and subprogram that was emitted, then the functions of the skeleton around them.
/// About 120 columns wide.
///
/// `lowered` must be made of `verified`; of anything else the listing makes no sense.
pub fn assembly(verified: &VerifiedModule, platform: &Platform, lowered: &Lowered) -> String {
    let machine = lowered.object.machine;
    let mut text = title(verified, lowered) + LEGEND;
    for function in rows(verified, platform, lowered) {
        let _ = writeln!(
            text,
            "\n\n{what}, {size} bytes of {machine} code in `{section}`\n",
            what = function.title,
            size = function.size,
            section = function.section
        );
        for row in &function.rows {
            row_text(&mut text, machine, row);
        }
    }
    text
}

fn row_text(text: &mut String, machine: Machine, row: &Row) {
    if let Some(line) = row.line {
        let _ = writeln!(text, "\n{}", line_text(line));
    }
    let width = match row.left {
        Left::Glue(Glue::Skeleton) => 0,
        _ => LEFT_WIDTH,
    };
    let mut left = left(&row.left);
    if row.native.is_empty() {
        let _ = writeln!(text, "{left}");
    }
    for instruction in &row.native {
        native_row(text, machine, width, &left, instruction);
        left.clear();
    }
}

/// The left half of a row.
fn left(left: &Left) -> String {
    let (slot, text) = match left {
        Left::Instruction { slot, text, part, .. } => match part {
            Part::First => (slot.to_string(), text.as_str()),
            Part::Further => (format!("({slot})"), text.as_str()),
            Part::Inlined => (format!("^{slot}"), text.as_str()),
        },
        Left::Glue(Glue::Prologue) => ("-".to_owned(), "prologue"),
        Left::Glue(Glue::Ending) => ("-".to_owned(), "shared ending"),
        Left::Glue(Glue::Other) => ("-".to_owned(), ""),
        Left::Glue(Glue::Skeleton) => return String::new(),
    };
    format!("{slot:>6}  {text}")
}

/// A row whose left half has `width` columns.
fn native_row(text: &mut String, machine: Machine, width: usize, left: &str, instruction: &NativeInstruction) {
    let mut left = left;
    if left.chars().count() > width {
        let _ = writeln!(text, "{left}");
        left = "";
    }
    if let Some(label) = &instruction.label {
        let _ = writeln!(text, "{:width$}  {label}:", "");
    }
    let bytes = instruction.digits(machine);
    let NativeInstruction {
        offset, text: native, ..
    } = instruction;
    let _ = writeln!(text, "{left:<width$}  {offset:04x}  {bytes:<BYTES_WIDTH$}  {native}");
}
