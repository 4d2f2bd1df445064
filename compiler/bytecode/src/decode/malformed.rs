//! Why slots are no instructions.

use thiserror::Error;

use crate::Slot;

/// Slots that are no instruction.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("instruction {slot} ({}): {reason}", hex(bytes))]
pub struct DecodeError {
    /// Number of slots before it in the function.
    pub slot: u32,
    /// The slot's bytes.
    pub bytes: [u8; Slot::SIZE],
    /// What is wrong.
    pub reason: Malformed,
}

/// Bytes as hexadecimal digits with spaces between, as disassemblers print them.
pub(crate) fn hex(bytes: &[u8]) -> String {
    let digits: Vec<String> = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    digits.join(" ")
}

/// Why a slot is no instruction of RFC 9669, or none that may stand where it stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum Malformed {
    /// The opcode is not assigned.
    #[error("unknown opcode {0:#04x}")]
    Opcode(u8),
    /// A field that the instruction does not use is not zero.
    #[error("the {0} field must be zero in this instruction")]
    Reserved(&'static str),
    /// A register number above 10.
    #[error("there is no register r{0}")]
    Register(u8),
    /// An instruction that would write the frame pointer.
    #[error("r10 is read-only")]
    WritesFramePointer,
    /// The offset field selects no variant of the operation.
    #[error("offset {0} selects no variant of this operation")]
    Variant(i16),
    /// A byte swap of neither 16, 32 nor 64 bits.
    #[error("a byte swap of {0} bits does not exist")]
    SwapWidth(i32),
    /// The immediate selects no atomic operation.
    #[error("there is no atomic operation {0:#x}")]
    Atomic(i32),
    /// The `src` field of `call` selects no kind of call.
    #[error("there is no kind {0} of call")]
    CallKind(u8),
    /// A function by its number in the BTF of some kernel, which says nothing of Windows.
    #[error("a call by BTF id; only functions that the object declares by name can be called")]
    BtfCall,
    /// The `src` field of `lddw` selects no kind of constant.
    #[error("there is no kind {0} of lddw")]
    Imm64Kind(u8),
    /// The second slot of `lddw` is missing.
    #[error("the second half of lddw is missing")]
    Truncated,
    /// The second slot of `lddw` has more than an immediate.
    #[error("the second half of lddw must have nothing but an immediate")]
    SecondHalf,
    /// A jump to a place outside of the function.
    #[error("jumps out of the function, to instruction {0}")]
    JumpOut(i64),
    /// A jump to the second slot of `lddw`.
    #[error("jumps into the middle of the lddw at instruction {0}")]
    JumpIntoImm64(u32),
    /// The last instruction is neither `exit` nor an unconditional jump.
    #[error("execution can run past the end of the function")]
    RunsPastEnd,
    /// A local call to a place where no function begins.
    #[error("no function begins where this calls")]
    LocalCall,
    /// The function has more than [`MAX_SLOTS`](crate::MAX_SLOTS) slots.
    #[error("more than {} instructions", crate::MAX_SLOTS)]
    TooLong,
}
