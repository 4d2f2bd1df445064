//! The same for ARM64 images. Wine's `RtlVirtualUnwind` on this machine unwinds its own architecture only, so the rules here
//! are written from the format's documentation, apart from the writer's.

pub mod handmade;
mod image;
pub mod modules;
mod rules;
mod state;
mod tracker;
mod trials;

use std::collections::BTreeSet;

use image::Image;
use state::{State, Value};
use yaxpeax_arm::armv8::a64::Opcode;

pub use trials::trials;

use super::Stats;

/// Unwinds from every instruction of every function of an ARM64 image. The errors name addresses as RVAs.
pub fn check_unwind(bytes: &[u8]) -> Result<Stats, Vec<String>> {
    let image = Image::read(bytes).map_err(|error| vec![error])?;
    let mut check = Check {
        image: &image,
        stats: Stats::default(),
        errors: Vec::new(),
        starts: BTreeSet::new(),
        called: BTreeSet::from([image.entry]),
    };
    let mut functions = image.functions.iter().peekable();
    while let Some(function) = functions.next() {
        check.stats.framed += 1;
        // A fragment continues the one before it: its codes start with `end_c`.
        let mut end = function.end;
        while let Some(fragment) = functions.next_if(|next| next.begin == end && next.codes.first() == Some(&0xE5)) {
            check.stats.framed += 1;
            end = fragment.end;
        }
        let reached = check.function(function.begin, end);
        check.rest(function.begin, end, &reached);
    }
    check.leaves();
    for target in check.called.difference(&check.starts) {
        check
            .errors
            .push(format!("{target:#x} is called, and is not the start of a function"));
    }
    if check.errors.is_empty() {
        Ok(check.stats)
    } else {
        Err(check.errors)
    }
}

struct Check<'a> {
    image: &'a Image,
    stats: Stats,
    errors: Vec<String>,
    /// Where functions start.
    starts: BTreeSet<u32>,
    /// What is called from another function, and the entry point.
    called: BTreeSet<u32>,
}

impl Check<'_> {
    /// Checks a function and gives the instructions that control can reach.
    fn function(&mut self, begin: u32, end: u32) -> BTreeSet<u32> {
        self.starts.insert(begin);
        let walk = match tracker::walk(self.image, begin, end) {
            Ok(walk) => walk,
            Err(error) => {
                self.errors.push(format!("function {begin:#x}: {error}"));
                return BTreeSet::new();
            }
        };
        self.called.extend(&walk.targets);
        for (rva, state) in &walk.states {
            self.stats.instructions += 1;
            let result = rules::unwind(self.image, *rva, state).and_then(|(pc, caller)| arrived(pc, &caller));
            if let Err(error) = result {
                self.errors.push(format!("function {begin:#x}, at {rva:#x}: {error}"));
            }
        }
        walk.states.into_keys().collect()
    }

    /// Checks that what control never reaches in a range is padding.
    fn rest(&mut self, begin: u32, end: u32, reached: &BTreeSet<u32>) {
        let unreached = (begin..end).step_by(4).filter(|rva| !reached.contains(rva));
        if !reached.is_empty() {
            let code = unreached.filter(|rva| !is_padding(self.image, *rva));
            self.errors
                .extend(code.map(|rva| format!("function {begin:#x}: {rva:#x} is neither reached nor padding")));
        }
    }

    /// Checks what the function table does not cover: padding and leaf functions.
    fn leaves(&mut self) {
        for code in &self.image.code {
            let end = code.rva + code.bytes.len() as u32;
            let mut known = BTreeSet::new();
            for rva in (code.rva..end).step_by(4) {
                let covered = self.image.function(rva).is_some() || known.contains(&rva);
                if !covered && !is_padding(self.image, rva) {
                    self.stats.leaves += 1;
                    known.extend(self.function(rva, end));
                    known.insert(rva);
                }
            }
        }
    }
}

/// Whether an instruction is there to stop what runs into it: `udf`.
fn is_padding(image: &Image, rva: u32) -> bool {
    tracker::decode(image, rva).is_some_and(|instruction| instruction.opcode == Opcode::UDF)
}

/// Checks that unwinding has led to the caller, with everything that the caller relies on.
fn arrived(pc: Value, caller: &State) -> Result<(), String> {
    if pc != Value::Return {
        return Err(format!("the return address is taken to be {pc:?}"));
    }
    caller.is_callers().map_err(|error| format!("in the caller {error}"))
}
