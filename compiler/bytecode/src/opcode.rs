//! The numbers of RFC 9669 that decoding and encoding share.

use crate::{AluOp, AtomicOp, Condition, Width};

// Instruction classes, the low three bits (§3.2).
pub(crate) const LD: u8 = 0;
pub(crate) const LDX: u8 = 1;
pub(crate) const ST: u8 = 2;
pub(crate) const STX: u8 = 3;
pub(crate) const ALU: u8 = 4;
pub(crate) const JMP: u8 = 5;
pub(crate) const JMP32: u8 = 6;
pub(crate) const ALU64: u8 = 7;

/// The second operand is a register; for byte swaps of class `ALU`: to big endian (§4).
pub(crate) const X: u8 = 0x08;

// Operations of the arithmetic classes that are treated apart (§4.1).
pub(crate) const NEG: u8 = 0x80;
pub(crate) const MOV: u8 = 0xb0;
pub(crate) const END: u8 = 0xd0;

// Operations of the jump classes that are no `Condition` (§4.3).
pub(crate) const JA: u8 = 0x00;
pub(crate) const CALL: u8 = 0x80;
pub(crate) const EXIT: u8 = 0x90;

// Mode modifiers of loads and stores, the high three bits (§5).
pub(crate) const ABS: u8 = 0x20;
pub(crate) const IND: u8 = 0x40;
pub(crate) const MEM: u8 = 0x60;
pub(crate) const MEMSX: u8 = 0x80;
pub(crate) const ATOMIC: u8 = 0xc0;

/// `lddw`: class `LD`, mode `IMM`, size `DW` (§5.4).
pub(crate) const LDDW: u8 = 0x18;
/// `call` of a helper, local function or BTF function (§4.3.1).
pub(crate) const CALL_IMM: u8 = JMP | CALL;

// The `src` field of `call` (§4.3.1).
pub(crate) const CALL_HELPER: u8 = 0;
pub(crate) const CALL_LOCAL: u8 = 1;
pub(crate) const CALL_BTF: u8 = 2;

// The `src` field of `lddw` (§5.4).
pub(crate) const LDDW_CONSTANT: u8 = 0;
pub(crate) const LDDW_MAP: u8 = 1;
pub(crate) const LDDW_MAP_VALUE: u8 = 2;
/// `BPF_PSEUDO_FUNC`: the address of code.
pub(crate) const LDDW_CODE: u8 = 4;
pub(crate) const LDDW_MAP_VALUE_BY_INDEX: u8 = 6;

/// Set in an atomic's immediate when `src` receives the old value (§5.3).
pub(crate) const FETCH: i32 = 1;

/// Operation bits and offset field of every `AluOp` (§4.1).
pub(crate) const ALU_OPS: [(u8, i16, AluOp); 14] = [
    (0x00, 0, AluOp::Add),
    (0x10, 0, AluOp::Sub),
    (0x20, 0, AluOp::Mul),
    (0x30, 0, AluOp::Div),
    (0x30, 1, AluOp::Sdiv),
    (0x40, 0, AluOp::Or),
    (0x50, 0, AluOp::And),
    (0x60, 0, AluOp::Lsh),
    (0x70, 0, AluOp::Rsh),
    (0x90, 0, AluOp::Mod),
    (0x90, 1, AluOp::Smod),
    (0xa0, 0, AluOp::Xor),
    (0xb0, 0, AluOp::Mov),
    (0xc0, 0, AluOp::Arsh),
];

/// Operation bits of every condition (§4.3).
pub(crate) const CONDITIONS: [(u8, Condition); 11] = [
    (0x10, Condition::Eq),
    (0x20, Condition::Gt),
    (0x30, Condition::Ge),
    (0x40, Condition::Set),
    (0x50, Condition::Ne),
    (0x60, Condition::Sgt),
    (0x70, Condition::Sge),
    (0xa0, Condition::Lt),
    (0xb0, Condition::Le),
    (0xc0, Condition::Slt),
    (0xd0, Condition::Sle),
];

/// Size modifiers (§5).
pub(crate) const WIDTHS: [(u8, Width); 4] = [(0x00, Width::W), (0x08, Width::H), (0x10, Width::B), (0x18, Width::Dw)];

/// Immediates of the atomic operations (§5.3).
pub(crate) const ATOMICS: [(i32, AtomicOp); 10] = [
    (0x00, AtomicOp::Add { fetch: false }),
    (0x01, AtomicOp::Add { fetch: true }),
    (0x40, AtomicOp::Or { fetch: false }),
    (0x41, AtomicOp::Or { fetch: true }),
    (0x50, AtomicOp::And { fetch: false }),
    (0x51, AtomicOp::And { fetch: true }),
    (0xa0, AtomicOp::Xor { fetch: false }),
    (0xa1, AtomicOp::Xor { fetch: true }),
    (0xe0 | FETCH, AtomicOp::Xchg),
    (0xf0 | FETCH, AtomicOp::Cmpxchg),
];
