//! The instructions of RFC 9669 as typed values.

use crate::{BtfFunctionIndex, FunctionIndex, GlobalIndex, MapIndex};

/// A register, `r0` to `r10`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Reg(u8);

impl Reg {
    /// Return value of calls and of the program.
    pub const R0: Reg = Reg(0);
    /// First argument; the context at entry of a program.
    pub const R1: Reg = Reg(1);
    /// The read-only frame pointer.
    pub const R10: Reg = Reg(10);
    /// Number of registers.
    pub const COUNT: usize = 11;

    /// The register with this number, or `None` above 10.
    pub const fn new(number: u8) -> Option<Reg> {
        if number <= 10 { Some(Reg(number)) } else { None }
    }

    /// The register's number, 0 to 10.
    pub fn number(self) -> u8 {
        self.0
    }

    /// The register's number as a slice index.
    pub fn index(self) -> usize {
        usize::from(self.0)
    }
}

/// Width of a memory access in bytes (RFC 9669 §5, "size modifier").
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Width {
    /// One byte (`B`).
    B,
    /// Two bytes (`H`).
    H,
    /// Four bytes (`W`).
    W,
    /// Eight bytes (`DW`).
    Dw,
}

impl Width {
    /// The width in bytes: 1, 2, 4 or 8.
    pub fn bytes(self) -> u32 {
        match self {
            Width::B => 1,
            Width::H => 2,
            Width::W => 4,
            Width::Dw => 8,
        }
    }
}

/// Whether an operation works on 32 or on 64 bits: the classes `ALU`/`JMP32` and `ALU64`/`JMP`, and the width of atomics.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum WordSize {
    /// 32 bits; a result is zero-extended to 64.
    W32,
    /// 64 bits.
    W64,
}

/// The second operand of an arithmetic or jump instruction, or the value of a store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Operand {
    /// A register.
    Reg(Reg),
    /// A 32-bit immediate; sign-extended when the operation has 64 bits.
    Imm(i32),
}

/// Arithmetic operations with two operands (RFC 9669 §4.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum AluOp {
    /// `dst += src`
    Add,
    /// `dst -= src`
    Sub,
    /// `dst *= src`
    Mul,
    /// Unsigned division; by zero gives 0.
    Div,
    /// Signed division; by zero gives 0, and MIN / -1 gives MIN.
    Sdiv,
    /// `dst |= src`
    Or,
    /// `dst &= src`
    And,
    /// Shift left; the count is masked to the word size.
    Lsh,
    /// Logical shift right; the count is masked to the word size.
    Rsh,
    /// Unsigned remainder; by zero leaves `dst` (truncated to the word size).
    Mod,
    /// Signed remainder; by zero leaves `dst` (truncated to the word size), and MIN % -1 gives 0.
    Smod,
    /// `dst ^= src`
    Xor,
    /// `dst = src`
    Mov,
    /// Arithmetic shift right; the count is masked to the word size.
    Arsh,
}

impl AluOp {
    /// All of them.
    pub const ALL: [AluOp; 14] = [
        AluOp::Add,
        AluOp::Sub,
        AluOp::Mul,
        AluOp::Div,
        AluOp::Sdiv,
        AluOp::Or,
        AluOp::And,
        AluOp::Lsh,
        AluOp::Rsh,
        AluOp::Mod,
        AluOp::Smod,
        AluOp::Xor,
        AluOp::Mov,
        AluOp::Arsh,
    ];
}

/// How many low bits of the source a sign-extending move takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Extension {
    /// From 8 bits.
    S8,
    /// From 16 bits.
    S16,
    /// From 32 bits (64-bit moves only).
    S32,
}

/// The three kinds of byte swap (RFC 9669 §4.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SwapKind {
    /// `le16/32/64`: host to little endian; on little-endian hosts a truncation.
    ToLe,
    /// `be16/32/64`: host to big endian.
    ToBe,
    /// `bswap16/32/64`: unconditional.
    Swap,
}

/// How many low bits a byte swap works on; the bits above become zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SwapWidth {
    /// 16 bits.
    W16,
    /// 32 bits.
    W32,
    /// 64 bits.
    W64,
}

/// Conditions of conditional jumps (RFC 9669 §4.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Condition {
    /// `==`
    Eq,
    /// Unsigned `>`
    Gt,
    /// Unsigned `>=`
    Ge,
    /// `dst & src != 0`
    Set,
    /// `!=`
    Ne,
    /// Signed `>`
    Sgt,
    /// Signed `>=`
    Sge,
    /// Unsigned `<`
    Lt,
    /// Unsigned `<=`
    Le,
    /// Signed `<`
    Slt,
    /// Signed `<=`
    Sle,
}

impl Condition {
    /// All of them.
    pub const ALL: [Condition; 11] = [
        Condition::Eq,
        Condition::Gt,
        Condition::Ge,
        Condition::Set,
        Condition::Ne,
        Condition::Sgt,
        Condition::Sge,
        Condition::Lt,
        Condition::Le,
        Condition::Slt,
        Condition::Sle,
    ];
}

/// Atomic read-modify-write operations (RFC 9669 §5.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum AtomicOp {
    /// `*addr += src`
    Add {
        /// Whether `src` receives the old value.
        fetch: bool,
    },
    /// `*addr |= src`
    Or {
        /// Whether `src` receives the old value.
        fetch: bool,
    },
    /// `*addr &= src`
    And {
        /// Whether `src` receives the old value.
        fetch: bool,
    },
    /// `*addr ^= src`
    Xor {
        /// Whether `src` receives the old value.
        fetch: bool,
    },
    /// Exchange: `src` receives the old value.
    Xchg,
    /// Compare with `r0` and exchange: `r0` receives the old value.
    Cmpxchg,
}

/// What `lddw` loads, after relocations are resolved.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Imm64 {
    /// A 64-bit constant.
    Constant(u64),
    /// The address of a map (the object, not its values).
    Map(MapIndex),
    /// The address of a byte in a global variable section.
    Global {
        /// The section.
        section: GlobalIndex,
        /// Offset in bytes from the section's start; at most its size.
        offset: u32,
    },
    /// A `src` form of `lddw` that the reader decodes but Windows has no meaning for (map by index, platform
    /// variable, code address). Verification refuses it.
    Pseudo {
        /// The `src` field of the first slot, 1 to 6.
        src: u8,
        /// The immediate of the first slot.
        imm: i32,
        /// The immediate of the second slot.
        next_imm: i32,
    },
}

/// What a `call` calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Callee {
    /// A helper function by its id.
    Helper(i32),
    /// Another function of the module.
    Local(FunctionIndex),
    /// A function of another Windows module that the runtime finds by name (BTF-resolved function; Linux calls them kfuncs).
    Btf(BtfFunctionIndex),
}

/// One instruction of RFC 9669.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Instruction {
    /// Arithmetic with two operands.
    Alu {
        /// `ALU` or `ALU64`.
        size: WordSize,
        /// The operation.
        op: AluOp,
        /// First operand and result.
        dst: Reg,
        /// Second operand.
        src: Operand,
    },
    /// `MOVSX`: move with sign extension.
    Movsx {
        /// `ALU` (the result is zero-extended from 32 bits) or `ALU64`.
        size: WordSize,
        /// Which part of `src` is taken.
        from: Extension,
        /// Result.
        dst: Reg,
        /// Source.
        src: Reg,
    },
    /// `dst = -dst`
    Neg {
        /// `ALU` or `ALU64`.
        size: WordSize,
        /// Operand and result.
        dst: Reg,
    },
    /// Byte swap.
    ByteSwap {
        /// Which swap.
        kind: SwapKind,
        /// How many bits.
        width: SwapWidth,
        /// Operand and result.
        dst: Reg,
    },
    /// `lddw`: the one instruction of two slots.
    LoadImm64 {
        /// Result.
        dst: Reg,
        /// The value.
        value: Imm64,
    },
    /// `LDX`: a load.
    Load {
        /// Width of the access.
        width: Width,
        /// `MEMSX` (sign-extend) instead of `MEM` (zero-extend). Never with `Width::Dw`.
        signed: bool,
        /// Result.
        dst: Reg,
        /// Address register.
        base: Reg,
        /// Added to the address, in bytes.
        offset: i16,
    },
    /// `ST` (immediate) or `STX` (register): a store.
    Store {
        /// Width of the access.
        width: Width,
        /// Address register.
        base: Reg,
        /// Added to the address, in bytes.
        offset: i16,
        /// The value.
        src: Operand,
    },
    /// An atomic operation.
    Atomic {
        /// Width of the access, 4 or 8 bytes.
        size: WordSize,
        /// The operation.
        op: AtomicOp,
        /// Address register.
        base: Reg,
        /// Added to the address, in bytes.
        offset: i16,
        /// The operand.
        src: Reg,
    },
    /// `JA`: jump always.
    Jump {
        /// `JMP` (16-bit offset) or `JMP32` (`ja32`, 32-bit offset): how it is encoded.
        size: WordSize,
        /// In slots, relative to the next instruction.
        offset: i32,
    },
    /// A conditional jump.
    JumpIf {
        /// Compares 32 bits (`JMP32`) or 64 (`JMP`).
        size: WordSize,
        /// The condition.
        condition: Condition,
        /// First operand.
        dst: Reg,
        /// Second operand.
        src: Operand,
        /// In slots, relative to the next instruction.
        offset: i16,
    },
    /// A call.
    Call(Callee),
    /// A call of the helper whose id is in a register (`callx`). Verification refuses it.
    CallX(Reg),
    /// A legacy packet load (`ABS`, `IND`; conformance group `packet`). Verification refuses it.
    LegacyPacket {
        /// Width of the access: 1, 2 or 4 bytes.
        width: Width,
        /// The added register of the `IND` form.
        index: Option<Reg>,
        /// Offset in the packet.
        offset: i32,
    },
    /// Return `r0`.
    Exit,
}

impl Instruction {
    /// How many 8-byte slots the instruction takes: 2 for `lddw`, else 1.
    pub fn slots(&self) -> u32 {
        if matches!(self, Instruction::LoadImm64 { .. }) {
            2
        } else {
            1
        }
    }

    /// How far a jump goes when it is taken, in slots relative to the next instruction; `None` for anything else.
    pub fn jump_offset(&self) -> Option<i32> {
        match *self {
            Instruction::Jump { offset, .. } => Some(offset),
            Instruction::JumpIf { offset, .. } => Some(i32::from(offset)),
            _ => None,
        }
    }
}
