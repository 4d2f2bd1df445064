//! What became of each eBPF instruction, as rows: what the listing writes down, and others show in their own way.
//!
//! Given: a verified module and what [`lower`](crate::lower) made of it.
//! Computed: for each native function its rows in the order of the native code. A row is one eBPF instruction, or code of no
//! single one, with the native instructions it became. Each eBPF instruction is in the rows of one native function at least.
//! Safe because: it only reads. Texts that came from a file are freed of control characters, but for source lines, which are as
//! the module has them.

use std::collections::{BTreeMap, BTreeSet};

use bpf2sys_bytecode::{FunctionIndex, InsnIndex, SourceLine};
use bpf2sys_pe_emit::FunctionRange;
use bpf2sys_platform::Platform;
use bpf2sys_verifier::VerifiedModule;

use super::ebpf::Source;
use super::escape;
use super::native::{NativeInstruction, function_name, native_code};
use crate::{InsnPlace, Lowered, LoweredFunction, Origin};

/// The rows of one native function.
#[derive(Clone, Debug)]
pub struct FunctionRows<'a> {
    /// What it is, in words: its symbol, and which program, subprogram, piece or part of the skeleton it is.
    pub title: String,
    /// The eBPF function that it was made of; none of the skeleton.
    pub function: Option<FunctionIndex>,
    /// Its position in [`NativeObject::functions`](bpf2sys_pe_emit::NativeObject::functions).
    pub range: usize,
    /// Its bytes of native code.
    pub size: u32,
    /// Name of the section of the image that it is in.
    pub section: String,
    /// In the order of the native code.
    pub rows: Vec<Row<'a>>,
}

/// An eBPF instruction or code of no single one, and what native code it became.
#[derive(Clone, Debug)]
pub struct Row<'a> {
    /// The source line, where it is another one than that of the row before.
    pub line: Option<&'a SourceLine>,
    /// What the native code was made of.
    pub left: Left,
    /// The native code; none of an instruction that became part of others, or is never reached.
    pub native: Vec<NativeInstruction>,
}

/// What native code was made of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Left {
    /// An instruction.
    Instruction {
        /// Where it stands.
        place: InsnPlace,
        /// Its slot.
        slot: u32,
        /// Its text, with the names of what it refers to.
        text: String,
        /// Which part of its code this is.
        part: Part,
    },
    /// No single instruction.
    Glue(Glue),
}

/// Which part of an instruction's code a row has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// All of it, or the first.
    First,
    /// Another one: the compiler put it here.
    Further,
    /// Code of an instruction of a subprogram whose call was inlined.
    Inlined,
}

/// Code that belongs to no single instruction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Glue {
    /// What a function begins with.
    Prologue,
    /// An ending that several instructions share.
    Ending,
    /// Anything else.
    Other,
    /// The skeleton's code, which no program is made of.
    Skeleton,
}

/// The rows of a module: every program and subprogram that was emitted, then the functions of the skeleton around them.
///
/// `lowered` must be made of `verified`; of anything else the rows make no sense.
pub fn rows<'a>(
    verified: &'a VerifiedModule,
    platform: &'a Platform,
    lowered: &'a Lowered,
) -> impl Iterator<Item = FunctionRows<'a>> {
    // By eBPF function, all native functions together: each instruction is listed in one of them.
    let mut with_code: BTreeMap<FunctionIndex, BTreeSet<InsnIndex>> = BTreeMap::new();
    for function in &lowered.functions {
        with_code.entry(function.function).or_default();
        for place in function.origins.iter().filter_map(|origin| origin.instruction) {
            with_code.entry(place.function).or_default().insert(place.instruction);
        }
    }
    let of_module: BTreeSet<usize> = lowered.functions.iter().map(|function| function.range).collect();
    let skeleton = (0..lowered.object.functions.len()).filter(move |position| !of_module.contains(position));
    let programs = (0..lowered.functions.len())
        .filter_map(move |position| of_function(verified, platform, lowered, position, &with_code));
    programs.chain(skeleton.filter_map(|position| of_skeleton(lowered, position)))
}

fn of_function<'a>(
    verified: &'a VerifiedModule,
    platform: &'a Platform,
    lowered: &'a Lowered,
    position: usize,
    with_code: &BTreeMap<FunctionIndex, BTreeSet<InsnIndex>>,
) -> Option<FunctionRows<'a>> {
    let function = &lowered.functions[position];
    let with_code = with_code.get(&function.function)?;
    let next = lowered.functions.get(position + 1);
    let range = lowered.object.functions.get(function.range)?;
    let source = Source::new(verified, platform, function.function)?;
    let mut found = FunctionRows {
        title: source.heading(function, lowered),
        function: Some(function.function),
        ..empty(lowered, function.range, range)
    };
    let mut listing = Listing {
        source,
        inlined: None,
        of: |index| Source::new(verified, platform, index),
        function,
        with_code,
        is_last: next.is_none_or(|next| next.function != function.function),
        listed: BTreeSet::new(),
        last_line: None,
        rows: &mut found.rows,
    };
    listing.function(range.unwind.prologue_size(), native_code(&lowered.object, range));
    Some(found)
}

fn of_skeleton(lowered: &Lowered, position: usize) -> Option<FunctionRows<'static>> {
    let range = lowered.object.functions.get(position)?;
    Some(FunctionRows {
        title: format!("{}: skeleton", escape(function_name(&lowered.object, range))),
        rows: vec![Row {
            line: None,
            left: Left::Glue(Glue::Skeleton),
            native: native_code(&lowered.object, range),
        }],
        ..empty(lowered, position, range)
    })
}

/// A native function without rows.
fn empty(lowered: &Lowered, position: usize, range: &FunctionRange) -> FunctionRows<'static> {
    let section = lowered.object.sections.get(range.section.0 as usize);
    FunctionRows {
        title: String::new(),
        function: None,
        range: position,
        size: range.size,
        section: escape(section.map_or("", |section| &section.name)),
        rows: Vec::new(),
    }
}

/// The rows of one function, in progress.
struct Listing<'a, 'b, F> {
    source: Source<'a>,
    /// The inlined function whose instructions were listed last, if it is not the function itself.
    inlined: Option<(FunctionIndex, Source<'a>)>,
    /// Other functions.
    of: F,
    function: &'b LoweredFunction,
    /// Instructions that native code was made of, here or in another piece.
    with_code: &'b BTreeSet<InsnIndex>,
    /// Whether this is the last native function of its eBPF function.
    is_last: bool,
    /// Instructions that have a row already.
    listed: BTreeSet<InsnIndex>,
    /// The source line of the row before.
    last_line: Option<&'a SourceLine>,
    rows: &'b mut Vec<Row<'a>>,
}

impl<'a, F: Fn(FunctionIndex) -> Option<Source<'a>>> Listing<'a, '_, F> {
    fn function(&mut self, prologue_size: u32, code: Vec<NativeInstruction>) {
        let function = self.function;
        let part = |instruction: &NativeInstruction| {
            let origin = origin(&function.origins, instruction.offset);
            (origin, origin.is_none() && instruction.offset < prologue_size)
        };
        let mut code = code.into_iter().peekable();
        while let Some(first) = code.next() {
            let (origin, prologue) = part(&first);
            let mut run = vec![first];
            while let Some(next) = code.next_if(|next| part(next) == (origin, prologue)) {
                run.push(next);
            }
            if let Some(place) = origin.filter(|place| place.function != function.function) {
                self.inlined_instruction(place, run);
            } else if let Some(place) = origin {
                self.inlined = None;
                self.instruction(place.instruction, run);
            } else if prologue {
                self.glue(Glue::Prologue, run);
            } else if run.iter().any(|instruction| instruction.returns) {
                self.glue(Glue::Ending, run);
            } else {
                self.glue(Glue::Other, run);
            }
        }
        if self.is_last {
            self.without_code(self.source.function.instructions.len());
        }
    }

    /// A run of native code of one eBPF instruction.
    fn instruction(&mut self, index: InsnIndex, native: Vec<NativeInstruction>) {
        let first = self.listed.insert(index);
        if first {
            self.without_code(index.index());
        }
        let part = if first { Part::First } else { Part::Further };
        self.row(index, part, native);
    }

    /// A run of native code of an instruction of another function.
    fn inlined_instruction(&mut self, place: InsnPlace, native: Vec<NativeInstruction>) {
        if self
            .inlined
            .as_ref()
            .is_none_or(|(function, _)| *function != place.function)
        {
            self.inlined = (self.of)(place.function).map(|source| (place.function, source));
            self.last_line = None;
        }
        let Some((_, source)) = &self.inlined else {
            return self.glue(Glue::Other, native);
        };
        self.rows.push(Row {
            line: source.new_line(place.instruction, &mut self.last_line),
            left: Left::Instruction {
                place,
                slot: source.slot(place.instruction),
                text: source.text(place.instruction),
                part: Part::Inlined,
            },
            native,
        });
    }

    /// The instructions right before position `end` that have no native code.
    fn without_code(&mut self, end: usize) {
        let has_code = |position: &usize| self.with_code.contains(&InsnIndex(*position as u32));
        let start = (0..end).rev().find(has_code).map_or(0, |last| last + 1);
        for index in (start..end).map(|position| InsnIndex(position as u32)) {
            self.row(index, Part::First, Vec::new());
        }
    }

    fn row(&mut self, index: InsnIndex, part: Part, native: Vec<NativeInstruction>) {
        let place = InsnPlace {
            function: self.function.function,
            instruction: index,
        };
        self.rows.push(Row {
            line: self.source.new_line(index, &mut self.last_line),
            left: Left::Instruction {
                place,
                slot: self.source.slot(index),
                text: self.source.text(index),
                part,
            },
            native,
        });
    }

    fn glue(&mut self, glue: Glue, native: Vec<NativeInstruction>) {
        self.rows.push(Row {
            line: None,
            left: Left::Glue(glue),
            native,
        });
    }
}

/// The instruction that the code at `offset` was made of.
fn origin(origins: &[Origin], offset: u32) -> Option<InsnPlace> {
    let next = origins.partition_point(|origin| origin.offset <= offset);
    origins.get(next.checked_sub(1)?)?.instruction
}
