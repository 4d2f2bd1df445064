//! What lowering a module gives.

use bpf2sys_bytecode::{FunctionIndex, InsnIndex};
use bpf2sys_pe_emit::NativeObject;

/// A lowered module: the object to link, and where its code came from.
#[derive(Clone, Debug)]
pub struct Lowered {
    /// Sections, symbols and relocations.
    pub object: NativeObject,
    /// The programs and subprograms that were emitted, in the order of the module's functions. A very long function is
    /// several native functions, which follow each other here: first the one with its name, made of no instruction, then
    /// its pieces.
    pub functions: Vec<LoweredFunction>,
}

/// Where the code of one eBPF function came from.
#[derive(Clone, Debug)]
pub struct LoweredFunction {
    /// The function.
    pub function: FunctionIndex,
    /// Its position in [`NativeObject::functions`].
    pub range: usize,
    /// Which instruction its code was made of, by ascending offset. Each entry holds up to the next one.
    pub origins: Vec<Origin>,
    /// Its Cranelift IR after optimization, if [`Options::keep_ir`](crate::Options::keep_ir) asked for it.
    pub ir: Option<String>,
}

/// A piece of native code and the eBPF instruction that it was made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Origin {
    /// First byte, from the start of the function.
    pub offset: u32,
    /// The instruction; `None` for code that belongs to no single one, such as the prologue.
    pub instruction: Option<InsnIndex>,
}
