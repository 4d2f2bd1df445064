//! Reads an eBPF ELF object into a [`Module`].
//!
//! Given: the bytes of an ELF64 little-endian `EM_BPF` object, as clang, `bpftool gen object` or a Rust toolchain write it. Of what other
//! linkers make of several objects (`ld -r`), that is read whose meaning they leave intact.
//! Computed: decoded instructions with map, global variable and function references resolved to indices, map
//! definitions, initial values, source lines and the SHA-256 of the file.
//! Safe because: every offset, size and index of the file is checked before it is used, and a [`Module`] that
//! exists satisfies the invariants stated on its types, so later steps never look at the ELF again.

mod bare;
mod btf;
mod decode;
mod elf;
mod encode;
mod error;
mod externs;
mod functions;
mod guid;
mod hash;
mod index;
mod insn;
mod lines;
mod linux;
mod maps;
mod marks;
mod module;
mod opcode;
mod read;
mod relocate;
mod select;
mod set;
mod slot;
#[cfg(test)]
mod testing;
mod text;
mod types;

pub use bare::read_instructions;
pub use decode::{DecodeError, Malformed, NoReferences, References, decode};
pub use encode::{Encoded, Reference, encode};
pub use error::{Place, Problem, ReadError};
pub use guid::{Guid, GuidError};
pub use hash::{HashAlgorithm, ObjectHash};
pub use index::{BtfFunctionIndex, FunctionIndex, GlobalIndex, InsnIndex, LineIndex, MapIndex};
pub use insn::{
    AluOp, AtomicOp, Callee, Condition, Extension, Imm64, Instruction, Operand, Reg, SwapKind, SwapWidth, Width,
    WordSize,
};
pub use linux::{Kernel, Structure, Unresolved};
pub use marks::{ContextLoad, MapMark, Marks};
pub use module::{
    BtfFunction, Function, FunctionKind, GlobalSection, InitialValue, Insn, Map, MapDefinition, MapOrigin, Module,
    Pinning, SourceLine,
};
pub use read::{MAX_SLOTS, read, read_linux, read_with};
pub use set::SetError;
pub use slot::Slot;
pub use types::{DataMember, DataType, DataTypes, EntryTypes, TypeIndex, Variable};
