//! What the simulated kernel asks of a processor, whichever it is: run the image's code until that code gives it back,
//! and speak the calling convention of Windows for it.
//!
//! x86-64 code (`x64`) runs on the host's processor or in an emulator, ARM64 code (`arm64`) in an emulator. All find the same memory at
//! the same addresses, so everything else of the kernel is one implementation.

pub mod arm64;
pub mod x64;

use super::memory::Memory;
use super::thunks::Thunks;
use super::trace::CodeCounts;
use crate::trace::NativeTrace;

/// What registers and stack hold where nothing was put. Not zero: code must not rely on cleared memory.
pub const POISON: u64 = 0xA5A5_A5A5_A5A5_A5A5;
/// The same, as a byte of the stack.
pub const STACK_FILL: u8 = 0xA5;
/// What a stand-in's own frame takes of the stack when it calls back.
pub const STAND_IN_FRAME: u64 = 512;

/// Kinds of memory access.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// A load.
    Read,
    /// A store.
    Write,
    /// An instruction fetch.
    Execute,
}

/// What stopped the image's code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// An access to memory at this address that is not there or not for this.
    Access(Access, u64),
    /// x86-64: an address that cannot exist.
    GeneralProtection,
    /// No instruction, or one that the code may not use.
    IllegalInstruction,
    /// x86-64: division by zero, or a quotient that does not fit.
    DivideError,
    /// A breakpoint instruction.
    Breakpoint,
    /// A system call instruction.
    SystemCall,
    /// ARM64: an access to this address, which must be aligned for it and is not.
    Misaligned(u64),
    /// ARM64: an access to an address that cannot exist.
    NoSuchAddress,
    /// The run's time is up.
    TimeUp,
    /// Anything else, in words.
    Other(&'static str),
}

/// Why and where the image's code was stopped.
#[derive(Clone, Copy, Debug)]
pub struct Exception {
    /// Why.
    pub cause: Cause,
    /// The instruction.
    pub pc: u64,
}

/// Why the image's code gave the processor back.
#[derive(Clone, Copy, Debug)]
pub enum Event {
    /// It called the thunk with this index.
    Call(u32),
    /// It was stopped.
    Exception(Exception),
}

/// A call of a function of the image.
pub struct Call<'a> {
    /// The function.
    pub function: u64,
    /// The thunk that it returns to.
    pub return_address: u64,
    /// Its arguments, all of them 64 bits wide.
    pub arguments: &'a [u64],
    /// First byte above the stack.
    pub stack_top: u64,
    /// Lowest byte of the stack.
    pub stack_bottom: u64,
}

/// What the image's code has set up when it calls a stand-in.
pub struct CallSite {
    /// Where it continues; `None` if that cannot be read.
    pub return_address: Option<u64>,
    /// The stack pointer.
    pub stack_pointer: u64,
    /// Name of the register that holds it.
    pub stack_register: &'static str,
    /// Bytes above the stack pointer that the convention gives the callee.
    pub home_bytes: u64,
    /// What is wrong with the stack pointer's alignment.
    pub misaligned: Option<String>,
    /// What is wrong with registers that the convention says something of at each call.
    pub broken: Option<String>,
}

/// The image's code found no room on its stack.
#[derive(Clone, Copy, Debug)]
pub struct NoStack;

/// A processor that runs the image's code. Calls nest: while a stand-in runs, the kernel can call the image again.
pub trait Processor {
    /// Sets registers and stack for a call, all that it does not define to garbage.
    fn enter(&mut self, memory: &mut Memory, call: &Call<'_>) -> Result<(), NoStack>;

    /// Runs the image's code from where it is, until it gives the processor back.
    ///
    /// # Safety
    /// The code can write to any writable memory of the process that the processor knows. The process must exist for
    /// this one run, and no Rust value may live in memory that `Memory` has given to the code.
    unsafe fn run(&mut self, thunks: &Thunks) -> Event;

    /// Has time taken that code runs. `false` if that says nothing, because it is emulated.
    fn start_timing(&mut self) -> bool {
        false
    }

    /// How long code has run since then, in nanoseconds.
    fn nanoseconds(&self) -> Option<u64> {
        None
    }

    /// Gives it what [`count`](Processor::count) needs. To be called once.
    fn start_counting(&mut self, counts: CodeCounts);

    /// Whether the instructions are counted that it executes until it gives the processor back: those of the image at this
    /// address. To be called before each [`run`](Processor::run), if there is something to count at all.
    fn count(&mut self, image: Option<u64>);

    /// How many were counted.
    fn counted(&self) -> u64;

    /// What was counted.
    fn trace(&self) -> NativeTrace;

    /// Argument `index` (from 0) of the stand-in that was called, `None` if it cannot be read.
    fn argument(&self, memory: &Memory, index: usize) -> Option<u64>;

    /// What the code has set up for the stand-in that it called.
    fn call_site(&self, memory: &Memory) -> CallSite;

    /// The address that the code wants checked, at a call of what checks addresses and, if `jumps`, goes there.
    fn guarded_target(&self, jumps: bool) -> u64;

    /// Ends the stand-in that checks addresses: its caller finds arguments and target as they were, and garbage in everything
    /// else that it may change.
    fn resume_checked(&mut self);

    /// Ends the stand-in that was called: its caller finds `value`, and garbage in everything that a callee may change.
    fn resume(&mut self, memory: &mut Memory, value: u64) -> Result<(), NoStack>;

    /// Ends the innermost call, whose function has returned: gives what it returned, or which registers it should have
    /// kept and did not.
    fn leave(&mut self) -> Result<u64, Vec<String>>;
}
