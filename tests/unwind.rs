//! Unwinding from every instruction of an image arrives at the caller, with the caller's registers.
//!
//! Windows walks kernel stacks by the tables of images alone: on a crash, for a stack trace, on every exception. A wrong
//! table is not seen until then. So `tracker` computes where return address and registers really are at each instruction,
//! `rules` unwinds from there by the tables, and both must agree. The two share the decoder and nothing else.

pub mod arm64;
pub mod handmade;
mod image;
mod rules;
mod state;
mod tracker;
mod trials;
pub mod wine;

use std::collections::{BTreeMap, BTreeSet};

use image::{Code, Image};
use state::{NAMES, PRESERVED, RSP, State, Value};

use libtest_mimic::Trial;

pub fn trials() -> Vec<Trial> {
    [trials::trials(), arm64::trials()].into_iter().flatten().collect()
}

/// What was checked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Functions with an entry in the function table.
    pub framed: usize,
    /// Functions without.
    pub leaves: usize,
    /// Instructions that were unwound from.
    pub instructions: usize,
}

/// Unwinds from every instruction of every function of an x64 image. The errors name addresses as RVAs.
pub fn check_unwind(bytes: &[u8]) -> Result<Stats, Vec<String>> {
    check(bytes).map(|(stats, _)| stats)
}

/// As [`check_unwind`], and gives the state before each instruction as text: what `tests/wine/unwind.c` compares with.
fn check(bytes: &[u8]) -> Result<(Stats, Vec<String>), Vec<String>> {
    let image = Image::read(bytes).map_err(|error| vec![error])?;
    let mut check = Check {
        image: &image,
        stats: Stats::default(),
        errors: Vec::new(),
        places: Vec::new(),
        starts: BTreeSet::new(),
        called: BTreeSet::from([image.entry]),
    };
    for function in &image.functions {
        check.stats.framed += 1;
        let ends = check.function(function.begin, function.end);
        check.padding(function.begin, function.end, &ends);
    }
    for code in &image.code {
        check.leaves(code);
    }
    for target in check.called.difference(&check.starts) {
        check
            .errors
            .push(format!("{target:#x} is called, and is not the start of a function"));
    }
    if check.errors.is_empty() {
        Ok((check.stats, check.places))
    } else {
        Err(check.errors)
    }
}

struct Check<'a> {
    image: &'a Image,
    stats: Stats,
    errors: Vec<String>,
    /// A line for each instruction: its RVA and the state before it.
    places: Vec<String>,
    /// Where functions start.
    starts: BTreeSet<u32>,
    /// What is called or jumped to from another function.
    called: BTreeSet<u32>,
}

/// Address ranges of the instructions of a function.
type Instructions = Vec<(u32, u32)>;

impl Check<'_> {
    /// Checks a function and gives its instructions.
    fn function(&mut self, begin: u32, end: u32) -> Instructions {
        self.starts.insert(begin);
        let walk = match tracker::walk(self.image, begin, end) {
            Ok(walk) => walk,
            Err(error) => {
                self.errors.push(format!("function {begin:#x}: {error}"));
                return Vec::new();
            }
        };
        self.called.extend(&walk.targets);
        for (rva, state) in &walk.states {
            self.stats.instructions += 1;
            self.places.push(format!("{rva:x} {}", state.line()));
            let result = rules::unwind(self.image, *rva, state);
            let result = result
                .map_err(str::to_owned)
                .and_then(|(rip, caller)| arrived(rip, &caller));
            if let Err(error) = result {
                self.errors.push(format!("function {begin:#x}, at {rva:#x}: {error}"));
            }
        }
        walk.states.keys().map(|rva| (*rva, walk.ends[rva])).collect()
    }

    /// Checks that what control never reaches in a range is padding.
    fn padding(&mut self, begin: u32, end: u32, instructions: &Instructions) {
        let mut at = begin;
        for (start, next) in instructions.iter().copied().chain([(end, end)]) {
            if !instructions.is_empty() && at < start && !is_padding(self.image, at, start) {
                self.errors.push(format!(
                    "function {begin:#x}: {at:#x}..{start:#x} is neither reached nor padding"
                ));
            }
            at = next;
        }
    }

    /// Checks what the function table does not cover: padding and leaf functions.
    fn leaves(&mut self, code: &Code) {
        let section_end = code.rva + code.bytes.len() as u32;
        // Ends of the instructions that belong to a function already.
        let mut known = BTreeMap::new();
        let mut at = code.rva;
        while at < section_end {
            if let Some(end) = self
                .image
                .function(at)
                .map(|function| function.end)
                .or(known.get(&at).copied())
            {
                at = end;
                continue;
            }
            let end = self
                .image
                .next_function(at)
                .map_or(section_end, |next| next.begin.min(section_end));
            let start = skip_padding(self.image, at, end);
            if start == at {
                self.stats.leaves += 1;
                let instructions = self.function(at, end);
                if instructions.is_empty() {
                    return;
                }
                known.extend(instructions);
            }
            at = start;
        }
    }
}

/// Checks that unwinding has led to the caller, with everything that the caller relies on.
fn arrived(rip: Value, caller: &State) -> Result<(), String> {
    if rip != Value::Return {
        return Err(format!("the return address is taken to be {rip:?}"));
    }
    if caller.get(RSP) != Value::Stack(8) {
        return Err(format!("the caller's rsp is taken to be {:?}", caller.get(RSP)));
    }
    match PRESERVED
        .iter()
        .find(|register| caller.get(**register) != Value::Caller(**register))
    {
        Some(register) => Err(format!(
            "{} is taken to be {:?}",
            NAMES[*register],
            caller.get(*register)
        )),
        None => Ok(()),
    }
}

fn is_padding(image: &Image, begin: u32, end: u32) -> bool {
    skip_padding(image, begin, end) == end
}

/// The first address that is no `int3`, `nop`, `ud2` or zero byte.
fn skip_padding(image: &Image, begin: u32, end: u32) -> u32 {
    use iced_x86::{Decoder, DecoderOptions, Mnemonic};
    let mut at = begin;
    while at < end {
        let code = image.code_at(at).unwrap_or_default();
        let code = code.get(..(end - at) as usize).unwrap_or(code);
        let instruction = Decoder::new(64, code, DecoderOptions::NONE).decode();
        match instruction.mnemonic() {
            Mnemonic::Nop | Mnemonic::Int3 | Mnemonic::Ud2 => at += instruction.len() as u32,
            _ if code.first() == Some(&0) => at += 1,
            _ => break,
        }
    }
    at
}
