//! The listing: source lines, eBPF instructions and the native instructions they became, side by side.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

use bpf2sys_bytecode::{FunctionIndex, InsnIndex, SourceLine};
use bpf2sys_pe_emit::{FunctionRange, Machine, NativeObject};
use bpf2sys_platform::Platform;
use bpf2sys_verifier::VerifiedModule;

use super::ebpf::{Source, title};
use super::native::{NativeInstruction, function_name, native_code};
use super::{escape, hex};
use crate::{InsnPlace, Lowered, LoweredFunction, Origin};

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
    let object = &lowered.object;
    let mut text = title(verified, lowered) + LEGEND;
    // By eBPF function, all native functions together: each instruction is listed in one of them.
    let mut with_code: BTreeMap<FunctionIndex, BTreeSet<InsnIndex>> = BTreeMap::new();
    for function in &lowered.functions {
        with_code.entry(function.function).or_default();
        for place in function.origins.iter().filter_map(|origin| origin.instruction) {
            with_code.entry(place.function).or_default().insert(place.instruction);
        }
    }
    for (position, function) in lowered.functions.iter().enumerate() {
        let (Some(with_code), next) = (with_code.get(&function.function), lowered.functions.get(position + 1)) else {
            continue;
        };
        let (Some(range), Some(source)) = (
            object.functions.get(function.range),
            Source::new(verified, platform, function.function),
        ) else {
            continue;
        };
        heading(&mut text, object, range, &source.heading(function, lowered));
        let mut listing = Listing {
            source,
            inlined: None,
            of: |index| Source::new(verified, platform, index),
            machine: object.machine,
            function,
            with_code,
            is_last: next.is_none_or(|next| next.function != function.function),
            listed: BTreeSet::new(),
            last_line: None,
            text: &mut text,
        };
        listing.function(range.unwind.prologue_size(), &native_code(object, range));
    }
    let of_module: BTreeSet<usize> = lowered.functions.iter().map(|function| function.range).collect();
    for (position, range) in object.functions.iter().enumerate() {
        if !of_module.contains(&position) {
            let name = escape(function_name(object, range));
            heading(&mut text, object, range, &format!("{name}: skeleton"));
            for instruction in native_code(object, range) {
                native_row(&mut text, object.machine, 0, "", &instruction);
            }
        }
    }
    text
}

fn heading(text: &mut String, object: &NativeObject, range: &FunctionRange, what: &str) {
    let section = object
        .sections
        .get(range.section.0 as usize)
        .map_or("", |section| &section.name);
    let machine = object.machine;
    let _ = writeln!(
        text,
        "\n\n{what}, {size} bytes of {machine} code in `{section}`\n",
        size = range.size,
        section = escape(section)
    );
}

/// The listing of one function, in progress.
struct Listing<'a, F> {
    source: Source<'a>,
    /// The inlined function whose instructions were listed last, if it is not the function itself.
    inlined: Option<(FunctionIndex, Source<'a>)>,
    /// Other functions.
    of: F,
    machine: Machine,
    function: &'a LoweredFunction,
    /// Instructions that native code was made of, here or in another piece.
    with_code: &'a BTreeSet<InsnIndex>,
    /// Whether this is the last native function of its eBPF function.
    is_last: bool,
    /// Instructions that are in the listing already.
    listed: BTreeSet<InsnIndex>,
    /// The source line that was listed last.
    last_line: Option<&'a SourceLine>,
    text: &'a mut String,
}

impl<'a, F: Fn(FunctionIndex) -> Option<Source<'a>>> Listing<'a, F> {
    fn function(&mut self, prologue_size: u32, code: &[NativeInstruction]) {
        let part = |instruction: &NativeInstruction| {
            let origin = origin(&self.function.origins, instruction.offset);
            (origin, origin.is_none() && instruction.offset < prologue_size)
        };
        let runs: Vec<(Option<InsnPlace>, bool, &[NativeInstruction])> = code
            .chunk_by(|a, b| part(a) == part(b))
            .filter_map(|run| run.first().map(|first| (part(first).0, part(first).1, run)))
            .collect();
        for (origin, prologue, run) in runs {
            if let Some(place) = origin.filter(|place| place.function != self.function.function) {
                self.inlined_instruction(place, run);
            } else if let Some(place) = origin {
                self.inlined = None;
                self.instruction(place.instruction, run);
            } else if prologue {
                self.rows(&left("-", "prologue"), run);
            } else if run.iter().any(|instruction| instruction.returns) {
                self.rows(&left("-", "shared ending"), run);
            } else {
                self.rows(&left("-", ""), run);
            }
        }
        if self.is_last {
            self.without_code(self.source.function.instructions.len());
        }
    }

    /// A run of native code of one eBPF instruction.
    fn instruction(&mut self, index: InsnIndex, run: &[NativeInstruction]) {
        let slot = self.source.slot(index);
        let first = self.listed.insert(index);
        if first {
            self.without_code(index.index());
        }
        self.line(index);
        let slot = if first { format!("{slot}") } else { format!("({slot})") };
        self.rows(&left(&slot, &self.source.text(index)), run);
    }

    /// A run of native code of an instruction of another function.
    fn inlined_instruction(&mut self, place: InsnPlace, run: &[NativeInstruction]) {
        if self
            .inlined
            .as_ref()
            .is_none_or(|(function, _)| *function != place.function)
        {
            self.inlined = (self.of)(place.function).map(|source| (place.function, source));
            self.last_line = None;
        }
        let Some((_, source)) = &self.inlined else {
            return self.rows(&left("-", ""), run);
        };
        if let Some(line) = source.new_line(place.instruction, &mut self.last_line) {
            let _ = writeln!(self.text, "\n{line}");
        }
        let slot = format!("^{}", source.slot(place.instruction));
        let left = left(&slot, &source.text(place.instruction));
        self.rows(&left, run);
    }

    /// The instructions right before position `end` that have no native code.
    fn without_code(&mut self, end: usize) {
        let has_code = |position: &usize| self.with_code.contains(&InsnIndex(*position as u32));
        let start = (0..end).rev().find(has_code).map_or(0, |last| last + 1);
        for index in (start..end).map(|position| InsnIndex(position as u32)) {
            self.line(index);
            let slot = self.source.slot(index).to_string();
            let _ = writeln!(self.text, "{}", left(&slot, &self.source.text(index)));
        }
    }

    fn line(&mut self, index: InsnIndex) {
        if let Some(line) = self.source.new_line(index, &mut self.last_line) {
            let _ = writeln!(self.text, "\n{line}");
        }
    }

    fn rows(&mut self, left: &str, run: &[NativeInstruction]) {
        let mut left = left;
        for instruction in run {
            native_row(self.text, self.machine, LEFT_WIDTH, left, instruction);
            left = "";
        }
    }
}

/// The instruction that the code at `offset` was made of.
fn origin(origins: &[Origin], offset: u32) -> Option<InsnPlace> {
    let next = origins.partition_point(|origin| origin.offset <= offset);
    origins.get(next.checked_sub(1)?)?.instruction
}

/// The left half of a row.
fn left(slot: &str, text: &str) -> String {
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
    let bytes = match machine {
        Machine::X64 => hex(&instruction.bytes),
        // As one number, as everybody writes ARM64 instructions.
        Machine::Arm64 => hex(&instruction.bytes.iter().rev().copied().collect::<Vec<u8>>()),
    };
    let NativeInstruction {
        offset, text: native, ..
    } = instruction;
    let _ = writeln!(text, "{left:<width$}  {offset:04x}  {bytes:<BYTES_WIDTH$}  {native}");
}
