//! A reference interpreter of RFC 9669: what each instruction means, to be read beside the RFC.
//!
//! Given: a [`Module`], the function to start with, its registers, and a [`World`] that has the memory and the helpers.
//! Computed: `r0` at the exit, and what the program did to the world.
//! Safe because: nothing is compiled and nothing is `unsafe`; each access to memory is asked of the world, which knows the
//! regions that exist; a number of steps ends what does not end itself.
//!
//! It is written from the RFC and not from the lowering, which it judges. What each instruction does is the one `match` in
//! `step`; the results of arithmetic are in `arithmetic`. Three things the RFC leaves open, and what is done here:
//!
//! * **Calls of local functions** (§4.3.2). A callee's `r10` is its caller's minus 512; `r6` to `r9` are the caller's again
//!   when it returns; functions may use their own frame and those of all their callers, which lie above it.
//! * **Registers that nothing has set**: see [`Undefined`]. The stack is the world's, and so is what it holds at first.
//! * **Alignment.** Plain accesses may be misaligned. Atomic operations may not: ARM64's exclusive instructions fault there,
//!   on x86-64 such a "split lock" may, and Linux' verifier refuses them too.

mod arithmetic;
mod error;
mod flat;
mod machine;
mod step;
#[cfg(test)]
mod tests;
mod undefined;
mod world;

use bpf2sys_bytecode::{FunctionIndex, Module, Reg};

pub use arithmetic::{holds32, holds64};
pub use error::{Access, InterpretError, Place, Problem};
pub use flat::{FlatError, FlatWorld, NewRegion, Permission};
pub use world::{At, Denied, HelperResult, World};

/// Bytes of stack that each function has below its `r10`.
pub const FRAME_BYTES: u64 = 512;

/// Functions that may be active at once (platform fact `max_call_frames`).
pub const MAX_FRAMES: u32 = 8;

/// Bytes below the first function's `r10` that calls can need.
pub const STACK_BYTES: u64 = FRAME_BYTES * MAX_FRAMES as u64;

/// What a stack holds before anything is written to it. RFC 9669 does not say; a value makes runs equal, and one that is not
/// zero shows what relies on it.
pub const STACK_FILL: u8 = 0xA5;

/// What becomes of registers to which RFC 9669 gives no value: all but the arguments and `r10` when a program begins;
/// `r0` and `r6` to `r9` when a local function begins; `r1` to `r5` after a call.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Undefined {
    /// Reading one before it is written is an error. A function that returns without having set `r0` leaves its caller's
    /// `r0` without a value; a program must set it (§4.3).
    #[default]
    Refused,
    /// As in our compiled code, which is laxer: they are 0 when a program begins and after a call, and a local function
    /// finds its caller's.
    AsCompiled,
    /// For judges of a verifier: such a value may be moved, computed with and kept where [`World::write_undefined`] takes it,
    /// and its result is as undefined; but nothing may depend on it, neither an address nor a branch nor what anybody else
    /// gets to see. Memory that was never written ([`World::is_undefined`]) holds such values too. A local function finds its
    /// caller's registers.
    Tracked,
}

/// Where and with what execution begins.
#[derive(Clone, Copy, Debug)]
pub struct Entry {
    /// The function.
    pub function: FunctionIndex,
    /// Values of `r0` to `r9`; `None` where there is none.
    pub registers: [Option<u64>; Reg::COUNT - 1],
    /// `r10`: the address just above the stack. The world has [`STACK_BYTES`] of memory below it.
    pub stack_end: u64,
}

impl Entry {
    /// Begins with arguments in `r1`, `r2` and so on; at most five are used.
    pub fn new(function: FunctionIndex, arguments: &[u64], stack_end: u64) -> Entry {
        let mut registers = [None; Reg::COUNT - 1];
        for (register, argument) in registers[1..=5].iter_mut().zip(arguments) {
            *register = Some(*argument);
        }
        Entry {
            function,
            registers,
            stack_end,
        }
    }
}

/// How strict an execution is and when it is given up.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Registers without a value.
    pub undefined: Undefined,
    /// Most instructions that are executed, those of called functions included.
    pub max_steps: u64,
}

impl Default for Options {
    fn default() -> Self {
        Options {
            undefined: Undefined::default(),
            max_steps: 10_000_000,
        }
    }
}

/// How an execution ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// `r0` at the program's exit, or what the runtime gets when a helper ended the program.
    pub r0: u64,
    /// Whether a helper ended the program: a tail call that succeeded.
    pub ended_by_helper: bool,
    /// Instructions executed.
    pub steps: u64,
    /// Most functions that were active at once, from 1.
    pub frames: u32,
}

/// Executes a function of `module`, with everything it calls.
///
/// # Errors
/// See [`Problem`]; the place is the instruction.
pub fn interpret<W: World>(
    module: &Module,
    entry: &Entry,
    world: &mut W,
    options: Options,
) -> Result<Outcome, Box<InterpretError<W::Error>>> {
    machine::Machine::new(module, entry, world, options).run()
}
