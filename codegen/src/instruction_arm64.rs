//! ARM64 machine code taken apart again.
//!
//! Given: a function's bytes.
//! Computed: its instructions, and for each which registers it writes.
//! Safe because: only instructions in the list below have a [`Role`]; anything else, and anything that does not decode, is
//! an error of the caller. So no instruction is judged by rules that were made for another.

use yaxpeax_arch::{Decoder, U8Reader};
use yaxpeax_arm::armv8::a64::InstDecoder;
pub(crate) use yaxpeax_arm::armv8::a64::{Instruction, Opcode, Operand, ShiftStyle, SizeCode};

/// Bytes of an instruction.
pub(crate) const SIZE: u32 = 4;
/// `x29`, the frame pointer.
pub(crate) const FP: u16 = 29;
/// `x30`, the link register.
pub(crate) const LR: u16 = 30;
/// Number 31 as [`Operand::RegisterOrSP`] or as base of a memory operand.
pub(crate) const SP: u16 = 31;

/// An instruction and its place.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Insn {
    /// First byte, from the start of the function.
    pub(crate) offset: u32,
    /// Its bytes.
    pub(crate) word: [u8; SIZE as usize],
    /// What they mean.
    pub(crate) op: Instruction,
}

/// Takes a function's bytes apart.
pub(crate) fn decode(code: &[u8]) -> Result<Vec<Insn>, String> {
    let (words, rest) = code.as_chunks::<{ SIZE as usize }>();
    if !rest.is_empty() {
        return Err(format!("{} bytes are no whole number of instructions", code.len()));
    }
    (0..)
        .step_by(SIZE as usize)
        .zip(words)
        .map(|(offset, word)| {
            let op = decode_word(*word).ok_or_else(|| format!("undecodable word at {offset:#x}"))?;
            Ok(Insn {
                offset,
                word: *word,
                op,
            })
        })
        .collect()
}

/// The instruction that a word is.
pub(crate) fn decode_word(word: [u8; SIZE as usize]) -> Option<Instruction> {
    InstDecoder::default().decode(&mut U8Reader::new(&word)).ok()
}

/// Which registers, by number; bit 31 is the stack pointer, and the zero register is none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Registers(u32);

impl Registers {
    /// `x0` to the one with this number.
    pub(crate) const fn through(last: u16) -> Registers {
        Registers((1 << (last + 1)) - 1)
    }

    /// The one with this number.
    pub(crate) const fn one(number: u16) -> Registers {
        Registers(1 << number)
    }

    /// Those of both.
    pub(crate) const fn and(self, others: Registers) -> Registers {
        Registers(self.0 | others.0)
    }

    /// Those that are not among others.
    pub(crate) fn without(self, others: Registers) -> Registers {
        Registers(self.0 & !others.0)
    }

    pub(crate) fn contains(self, register: u16) -> bool {
        self.0 & 1 << register != 0
    }

    pub(crate) fn insert(&mut self, register: u16) {
        self.0 |= 1 << register;
    }

    pub(crate) fn remove(&mut self, register: u16) {
        self.0 &= !(1 << register);
    }

    /// The registers, ascending.
    pub(crate) fn iter(self) -> impl Iterator<Item = u16> {
        (0..32).filter(move |register| self.contains(*register))
    }
}

impl FromIterator<u16> for Registers {
    fn from_iter<I: IntoIterator<Item = u16>>(registers: I) -> Registers {
        let mut set = Registers::default();
        registers.into_iter().for_each(|register| set.insert(register));
        set
    }
}

/// `x19` to `x28` and the frame pointer: a function gives them back to its caller as it found them (ARM64 ABI
/// conventions, "Integer registers"). So does it with the stack pointer.
pub(crate) const NONVOLATILE: Registers = Registers(0x7FF << 19);

/// What an instruction does with its operands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    /// Computes its first operand from the others.
    Compute,
    /// Writes flags only.
    Compare,
    /// Divides into its first operand.
    Divide,
    /// The address of a page, into its first operand.
    PageAddress,
    /// Reads memory into so many operands.
    Load(usize),
    /// Writes operands to memory.
    Store,
    /// Reads memory and marks it.
    LoadExclusive,
    /// Writes memory if the mark is still there; the first operand says whether it did not.
    StoreExclusive,
    /// One instruction that reads and writes memory (Large System Extensions); writes the operand at this position.
    Atomic(usize),
    /// Orders memory accesses.
    Barrier,
    /// `nop`.
    Nop,
    /// `bti c`: a place to which calls by address may go. Does nothing else.
    LandingPad,
    /// Signs or checks the return address with key B, as a hint.
    PointerAuthentication,
    /// Jumps, always.
    Jump,
    /// Jumps or goes on.
    Branch,
    /// Calls.
    Call,
    /// Returns.
    Return,
    /// Traps.
    Trap,
}

/// The orderings of an atomic instruction: acquire and release.
const ACQUIRE_RELEASE: u8 = 3;
/// `dmb ish`: all accesses, the inner shareable domain.
const INNER_SHAREABLE: u8 = 11;

impl Insn {
    /// The instruction's role; `None` if it has none in a driver.
    pub(crate) fn role(&self) -> Option<Role> {
        use Opcode as O;
        Some(match self.op.opcode {
            O::MOVN
            | O::MOVZ
            | O::MOVK
            | O::ADD
            | O::ADDS
            | O::SUB
            | O::SUBS
            | O::AND
            | O::ANDS
            | O::ORR
            | O::ORN
            | O::EOR
            | O::EON
            | O::BIC
            | O::BICS
            | O::BFM
            | O::UBFM
            | O::SBFM
            | O::EXTR
            | O::CSEL
            | O::CSINC
            | O::CSINV
            | O::CSNEG
            | O::RBIT
            | O::REV16
            | O::REV
            | O::REV32
            | O::CLZ
            | O::CLS
            | O::MADD
            | O::MSUB
            | O::SMADDL
            | O::SMSUBL
            | O::SMULH
            | O::UMADDL
            | O::UMSUBL
            | O::UMULH
            | O::LSLV
            | O::LSRV
            | O::ASRV
            | O::RORV => Role::Compute,
            O::CCMN | O::CCMP => Role::Compare,
            O::UDIV | O::SDIV => Role::Divide,
            O::ADRP => Role::PageAddress,
            O::LDR
            | O::LDRB
            | O::LDRH
            | O::LDRSB
            | O::LDRSH
            | O::LDRSW
            | O::LDUR
            | O::LDURB
            | O::LDURH
            | O::LDURSB
            | O::LDURSH
            | O::LDURSW => Role::Load(1),
            O::LDP => Role::Load(2),
            O::STR | O::STRB | O::STRH | O::STUR | O::STURB | O::STURH | O::STP => Role::Store,
            O::LDAXR => Role::LoadExclusive,
            O::STLXR => Role::StoreExclusive,
            O::LDADD(ACQUIRE_RELEASE)
            | O::LDCLR(ACQUIRE_RELEASE)
            | O::LDEOR(ACQUIRE_RELEASE)
            | O::LDSET(ACQUIRE_RELEASE)
            | O::SWP(ACQUIRE_RELEASE) => Role::Atomic(1),
            O::CAS(ACQUIRE_RELEASE) => Role::Atomic(0),
            O::DMB(INNER_SHAREABLE) => Role::Barrier,
            O::HINT if self.op == NOP => Role::Nop,
            O::HINT if self.op == LANDING_PAD => Role::LandingPad,
            O::PACIBSP | O::AUTIBSP => Role::PointerAuthentication,
            O::B => Role::Jump,
            O::Bcc(_) | O::CBZ | O::CBNZ | O::TBZ | O::TBNZ => Role::Branch,
            O::BL | O::BLR => Role::Call,
            O::RET if self.op == RET => Role::Return,
            O::UDF => Role::Trap,
            _ => return None,
        })
    }

    /// The registers that the instruction itself writes; a call also changes what its callee may.
    pub(crate) fn written(&self, role: Role) -> Registers {
        let results = match role {
            Role::Compute | Role::Divide | Role::PageAddress | Role::LoadExclusive | Role::StoreExclusive => 0..1,
            Role::Load(count) => 0..count,
            Role::Atomic(position) => position..position + 1,
            _ => 0..0,
        };
        let mut written: Registers = self.op.operands[results].iter().copied().filter_map(register).collect();
        if role == Role::Call {
            written.insert(LR);
        }
        if let Some(Address {
            base, writeback: true, ..
        }) = self.address()
        {
            written.insert(base);
        }
        written
    }

    /// The memory operand with a constant offset, if there is one.
    pub(crate) fn address(&self) -> Option<Address> {
        self.op.operands.iter().find_map(|operand| match *operand {
            Operand::RegPreIndex(base, offset, writeback) => Some(Address {
                base,
                offset,
                writeback,
            }),
            Operand::RegPostIndex(base, _) | Operand::RegPostIndexReg(base, _) => Some(Address {
                base,
                offset: 0,
                writeback: true,
            }),
            _ => None,
        })
    }

    /// Where a jump or branch goes, from the start of the function; `None` if not into the function.
    pub(crate) fn target(&self) -> Option<u32> {
        self.op.operands.iter().find_map(|operand| match *operand {
            Operand::PCOffset(distance) => u32::try_from(i64::from(self.offset) + distance).ok(),
            _ => None,
        })
    }
}

/// A memory operand: what it accesses, and whether it changes its base.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Address {
    /// The base register; 31 is the stack pointer.
    pub(crate) base: u16,
    /// The distance of the access from the base.
    pub(crate) offset: i32,
    /// Whether the base register is changed, before or after.
    pub(crate) writeback: bool,
}

/// The number of a register that an operand alone is; `None` for the zero register.
fn register(operand: Operand) -> Option<u16> {
    match operand {
        Operand::Register(_, 31) => None,
        Operand::Register(_, number) | Operand::RegisterOrSP(_, number) => Some(number),
        _ => None,
    }
}

/// The general registers in an operand; `None` if it has other registers, or is of a kind that is not known.
pub(crate) fn registers(operand: &mut Operand) -> Option<[Option<&mut u16>; 2]> {
    Some(match operand {
        Operand::Register(_, a)
        | Operand::RegisterOrSP(_, a)
        | Operand::RegShift(_, _, _, a)
        | Operand::RegPreIndex(a, _, _)
        | Operand::RegPostIndex(a, _) => [Some(a), None],
        Operand::RegRegOffset(a, b, ..) => [Some(a), Some(b)],
        Operand::Nothing
        | Operand::ConditionCode(_)
        | Operand::PCOffset(_)
        | Operand::Immediate(_)
        | Operand::Imm64(_)
        | Operand::Imm16(_)
        | Operand::ImmShift(..)
        | Operand::ControlReg(_) => [None, None],
        _ => return None,
    })
}

/// `nop`
const NOP: Instruction = hint(0, 0);
/// `bti c`
pub(crate) const LANDING_PAD: Instruction = hint(4, 2);

/// One of the instructions that processors may take for `nop`.
const fn hint(crm: u16, op2: u32) -> Instruction {
    let operands = [
        Operand::ControlReg(crm),
        Operand::Immediate(op2),
        Operand::Nothing,
        Operand::Nothing,
    ];
    instruction(Opcode::HINT, operands)
}

impl Insn {
    /// `bti c` as the first instruction of a function.
    pub(crate) fn landing_pad() -> Insn {
        Insn {
            offset: 0,
            word: 0xD503_245F_u32.to_le_bytes(),
            op: LANDING_PAD,
        }
    }
}

/// `ret`, through the link register.
pub(crate) const RET: Instruction = instruction(
    Opcode::RET,
    [
        Operand::Register(SizeCode::X, LR),
        Operand::Nothing,
        Operand::Nothing,
        Operand::Nothing,
    ],
);

/// An instruction.
pub(crate) const fn instruction(opcode: Opcode, operands: [Operand; 4]) -> Instruction {
    Instruction { opcode, operands }
}
