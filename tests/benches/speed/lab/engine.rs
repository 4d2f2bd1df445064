//! Machine code of a program, ready to be called.

use std::ops::Range;

use super::memory::Mapping;
use super::runtime::Runtime;

/// A program with the calling convention of Windows: context and runtime context.
pub type Program = extern "win64" fn(u64, u64) -> u64;
/// What rbpf makes: metadata and its bytes, packet and its bytes, two offsets.
pub type Jitted = extern "sysv64" fn(u64, u64, u64, u64, u64, u64) -> u64;

/// How the code wants to be called.
#[derive(Clone, Copy)]
pub enum Entry {
    /// As Windows does, with this address of a runtime context.
    Windows(Program, u64),
    /// As rbpf does.
    Jitted(Jitted),
}

/// Code of one program from one compiler.
pub struct Engine {
    /// Which compiler: the column's name.
    pub name: &'static str,
    /// Bytes of the program and of its subprograms.
    pub code_bytes: usize,
    /// How to call it.
    pub entry: Entry,
    /// Addresses of the code.
    pub code: Range<u64>,
    /// Where the code is.
    pub _memory: Mapping,
    /// What it is shown.
    pub _runtime: Option<Runtime>,
}

impl Engine {
    /// One run. Only the lower 32 bits count (native module contract §6.1).
    pub fn run(&self, context: u64) -> u32 {
        let result = match self.entry {
            Entry::Windows(program, runtime) => program(context, runtime),
            Entry::Jitted(program) => program(0, 0, context, 0, 0, 0),
        };
        result as u32
    }

    /// `rounds` runs with each of the contexts. A loop for each kind of entry, so that no choice is timed.
    pub fn batch(&self, contexts: &[u64], rounds: u32) {
        match self.entry {
            Entry::Windows(program, runtime) => repeat(contexts, rounds, |context| program(context, runtime)),
            Entry::Jitted(program) => repeat(contexts, rounds, |context| program(0, 0, context, 0, 0, 0)),
        }
    }
}

#[inline]
fn repeat(contexts: &[u64], rounds: u32, run: impl Fn(u64) -> u64) {
    for _ in 0..rounds {
        for &context in contexts {
            std::hint::black_box(run(context));
        }
    }
}
