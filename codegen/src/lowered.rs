//! What lowering a module gives.

use bpf2sys_bytecode::{FunctionIndex, InsnIndex, Module};
use bpf2sys_pe_emit::NativeObject;

use crate::functions;

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

/// Where the code of a native function came from.
#[derive(Clone, Debug)]
pub struct LoweredFunction {
    /// The eBPF function.
    pub function: FunctionIndex,
    /// Which piece of it this is; `None` for all of it, or for what calls the pieces.
    pub piece: Option<u32>,
    /// Its position in [`NativeObject::functions`].
    pub range: usize,
    /// Which instruction its code was made of, by ascending offset. Each entry holds up to the next one.
    pub origins: Vec<Origin>,
    /// Its Cranelift IR after optimization, if [`Options::keep_ir`](crate::Options::keep_ir) asked for it.
    pub ir: Option<String>,
}

impl LoweredFunction {
    /// The name of its symbol: that of the eBPF function, with `.part` and the number for a piece.
    pub fn symbol(&self, module: &Module) -> String {
        let function = module.functions.get(self.function.index());
        functions::symbol(function.map_or("", |function| &function.name), self.piece)
    }
}

/// Where an instruction stands in the bytecode.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct InsnPlace {
    /// Its function.
    pub function: FunctionIndex,
    /// Its position there.
    pub instruction: InsnIndex,
}

/// A stretch of native code and the eBPF instruction that it was made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Origin {
    /// First byte, from the start of the function.
    pub offset: u32,
    /// The instruction, which may be one of an inlined subprogram; `None` for code that belongs to no single one, such as the
    /// prologue.
    pub instruction: Option<InsnPlace>,
}

/// Numbers for all instructions of a module, which fit what Cranelift keeps of where code came from.
#[derive(Debug)]
pub(crate) struct Numbering {
    /// By function: the number of its first instruction; and one more, the number of all.
    starts: Vec<u32>,
}

impl Numbering {
    /// Those of a module.
    pub(crate) fn of(module: &Module) -> Numbering {
        let mut starts = vec![0];
        for function in &module.functions {
            starts.push(starts[starts.len() - 1] + function.instructions.len() as u32);
        }
        Numbering { starts }
    }

    /// The number of an instruction.
    pub(crate) fn number(&self, place: InsnPlace) -> u32 {
        self.starts[place.function.index()] + place.instruction.0
    }

    /// The instruction with a number.
    pub(crate) fn place(&self, number: u32) -> InsnPlace {
        let function = self.starts.partition_point(|start| *start <= number) - 1;
        InsnPlace {
            function: FunctionIndex(function as u32),
            instruction: InsnIndex(number - self.starts[function]),
        }
    }
}
