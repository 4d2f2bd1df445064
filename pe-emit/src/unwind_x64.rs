//! `UNWIND_INFO`: what a prologue did to the stack, so that Windows can undo it.
//!
//! A header of four bytes and an array of two-byte slots, of which an operation takes one to three (x64 exception
//! handling, "struct `UNWIND_INFO`"). Nothing in a record is an address, so functions with equal prologues share one.

use zerocopy::little_endian::{U16, U32};
use zerocopy::{Immutable, IntoBytes};

use crate::error::FunctionProblem;
use crate::native_object::{UnwindCodeX64, UnwindOpX64};

/// `UNWIND_INFO` up to its array.
#[derive(IntoBytes, Immutable)]
#[repr(C)]
struct Header {
    /// Version in bits 0 to 2, flags above.
    version_and_flags: u8,
    /// Length of the prologue in bytes.
    prologue_size: u8,
    /// Slots in use.
    slots: u8,
    /// Frame register in bits 0 to 3, its scaled offset above; 0 for none.
    frame: u8,
}
const _: () = assert!(size_of::<Header>() == 4);

/// `UNWIND_CODE`.
#[derive(IntoBytes, Immutable)]
#[repr(C)]
struct Code {
    /// Offset of the end of the instruction from the start of the function.
    offset: u8,
    /// Operation in bits 0 to 3, its information above.
    operation_and_info: u8,
}
const _: () = assert!(size_of::<Code>() == 2);

/// Version 1, no handler, not chained.
const VERSION: u8 = 1;
/// Sizes and offsets in the stack are counted in this many bytes.
const SCALE: u32 = 8;
/// The most that `UWOP_ALLOC_SMALL` can say, in bytes: 4 bits of (size - 8) / 8.
const ALLOC_SMALL_MAX: u32 = 128;

const UWOP_PUSH_NONVOL: u8 = 0;
const UWOP_ALLOC_LARGE: u8 = 1;
const UWOP_ALLOC_SMALL: u8 = 2;
const UWOP_SAVE_NONVOL: u8 = 4;
const UWOP_SAVE_NONVOL_FAR: u8 = 5;

/// rbx, rbp, rsi, rdi, r12 to r15 (x64 calling convention, "Caller/callee saved registers").
const PRESERVED: [u8; 8] = [3, 5, 6, 7, 12, 13, 14, 15];

/// The bytes of the record, a multiple of 4.
pub(crate) fn encode(
    prologue_size: u8,
    codes: &[UnwindCodeX64],
    function_size: u32,
) -> Result<Vec<u8>, FunctionProblem> {
    if u32::from(prologue_size) > function_size {
        return Err(FunctionProblem::PrologueTooLong { size: prologue_size });
    }
    let mut array = Vec::new();
    let mut previous = None;
    for &UnwindCodeX64 { offset, op } in codes {
        if offset == 0 || offset > prologue_size {
            return Err(FunctionProblem::OperationOutsidePrologue { offset });
        }
        if previous.is_some_and(|previous| offset >= previous) {
            return Err(FunctionProblem::OperationOrder { offset });
        }
        previous = Some(offset);
        encode_operation(&mut array, offset, op)?;
    }
    let slots = u8::try_from(array.len() / size_of::<Code>()).map_err(|_| FunctionProblem::TooManyOperations)?;
    let mut out = Header {
        version_and_flags: VERSION,
        prologue_size,
        slots,
        frame: 0,
    }
    .as_bytes()
    .to_vec();
    out.append(&mut array);
    // The array has an even number of slots, of which the last may be unused.
    out.resize(out.len().next_multiple_of(4), 0);
    Ok(out)
}

fn encode_operation(array: &mut Vec<u8>, offset: u8, op: UnwindOpX64) -> Result<(), FunctionProblem> {
    let code = |operation: u8, info: u8| Code {
        offset,
        operation_and_info: operation | info << 4,
    };
    match op {
        UnwindOpX64::PushNonvol(register) => {
            array.extend_from_slice(code(UWOP_PUSH_NONVOL, preserved(register)?).as_bytes());
        }
        UnwindOpX64::Alloc(bytes) => {
            if bytes == 0 || !bytes.is_multiple_of(SCALE) {
                return Err(FunctionProblem::StackBytes { bytes });
            }
            if bytes <= ALLOC_SMALL_MAX {
                array.extend_from_slice(code(UWOP_ALLOC_SMALL, (bytes / SCALE - 1) as u8).as_bytes());
            } else if let Ok(scaled) = u16::try_from(bytes / SCALE) {
                array.extend_from_slice(code(UWOP_ALLOC_LARGE, 0).as_bytes());
                array.extend_from_slice(U16::new(scaled).as_bytes());
            } else {
                array.extend_from_slice(code(UWOP_ALLOC_LARGE, 1).as_bytes());
                array.extend_from_slice(U32::new(bytes).as_bytes());
            }
        }
        UnwindOpX64::SaveNonvol {
            register,
            offset: place,
        } => {
            let register = preserved(register)?;
            if !place.is_multiple_of(SCALE) {
                return Err(FunctionProblem::StackBytes { bytes: place });
            }
            if let Ok(scaled) = u16::try_from(place / SCALE) {
                array.extend_from_slice(code(UWOP_SAVE_NONVOL, register).as_bytes());
                array.extend_from_slice(U16::new(scaled).as_bytes());
            } else {
                array.extend_from_slice(code(UWOP_SAVE_NONVOL_FAR, register).as_bytes());
                array.extend_from_slice(U32::new(place).as_bytes());
            }
        }
    }
    Ok(())
}

fn preserved(register: u8) -> Result<u8, FunctionProblem> {
    if PRESERVED.contains(&register) {
        Ok(register)
    } else {
        Err(FunctionProblem::NotPreserved { register })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(op: UnwindOpX64) -> Result<Vec<u8>, FunctionProblem> {
        encode(16, &[UnwindCodeX64 { offset: 4, op }], 64)
    }

    #[test]
    fn operations_take_the_shortest_form() {
        use UnwindOpX64::{Alloc, PushNonvol, SaveNonvol};
        let cases: [(UnwindOpX64, &[u8]); 11] = [
            (PushNonvol(5), &[4, 0x50, 0, 0]),
            (PushNonvol(15), &[4, 0xF0, 0, 0]),
            (Alloc(8), &[4, 0x02, 0, 0]),
            (Alloc(128), &[4, 0xF2, 0, 0]),
            (Alloc(136), &[4, 0x01, 17, 0]),
            (Alloc(0x7_FFF8), &[4, 0x01, 0xFF, 0xFF]),
            (Alloc(0x8_0000), &[4, 0x11, 0, 0, 0x08, 0, 0, 0]),
            (SaveNonvol { register: 6, offset: 0 }, &[4, 0x64, 0, 0]),
            (
                SaveNonvol {
                    register: 6,
                    offset: 0x210,
                },
                &[4, 0x64, 0x42, 0],
            ),
            (
                SaveNonvol {
                    register: 12,
                    offset: 0x7_FFF8,
                },
                &[4, 0xC4, 0xFF, 0xFF],
            ),
            (
                SaveNonvol {
                    register: 12,
                    offset: 0x8_0000,
                },
                &[4, 0xC5, 0, 0, 0x08, 0, 0, 0],
            ),
        ];
        for (op, array) in cases {
            let slots = match op {
                PushNonvol(_) | Alloc(..=128) => 1,
                Alloc(0x8_0000..) | SaveNonvol { offset: 0x8_0000.., .. } => 3,
                _ => 2,
            };
            let expected = [&[1, 16, slots, 0], array].concat();
            assert_eq!(one(op).as_deref(), Ok(expected.as_slice()), "{op:?}");
        }
    }

    #[test]
    fn rejects_what_the_format_cannot_say() {
        use UnwindOpX64::{Alloc, PushNonvol, SaveNonvol};
        for bytes in [0, 4, 129] {
            assert_eq!(one(Alloc(bytes)), Err(FunctionProblem::StackBytes { bytes }));
        }
        assert_eq!(
            one(SaveNonvol {
                register: 3,
                offset: 12
            }),
            Err(FunctionProblem::StackBytes { bytes: 12 })
        );
        for register in [0, 1, 2, 4, 8, 9, 10, 11, 16, 255] {
            assert_eq!(
                one(PushNonvol(register)),
                Err(FunctionProblem::NotPreserved { register })
            );
            assert_eq!(
                one(SaveNonvol { register, offset: 8 }),
                Err(FunctionProblem::NotPreserved { register })
            );
        }
    }

    #[test]
    fn rejects_operations_that_are_not_those_of_a_prologue() {
        let at = |offset| UnwindCodeX64 {
            offset,
            op: UnwindOpX64::Alloc(8),
        };
        assert_eq!(encode(9, &[], 8), Err(FunctionProblem::PrologueTooLong { size: 9 }));
        assert_eq!(
            encode(8, &[at(9)], 64),
            Err(FunctionProblem::OperationOutsidePrologue { offset: 9 })
        );
        assert_eq!(
            encode(8, &[at(0)], 64),
            Err(FunctionProblem::OperationOutsidePrologue { offset: 0 })
        );
        assert_eq!(
            encode(8, &[at(4), at(4)], 64),
            Err(FunctionProblem::OperationOrder { offset: 4 })
        );
        assert_eq!(
            encode(8, &[at(4), at(6)], 64),
            Err(FunctionProblem::OperationOrder { offset: 6 })
        );
    }

    #[test]
    fn rejects_more_slots_than_a_byte_counts() {
        let code = |offset| UnwindCodeX64 {
            offset,
            op: UnwindOpX64::Alloc(0x8_0000),
        };
        let codes: Vec<_> = (1..=85).rev().map(code).collect();
        assert_eq!(encode(255, &codes, 300).map(|bytes| bytes[2]), Ok(255));
        let codes: Vec<_> = (1..=86).rev().map(code).collect();
        assert_eq!(encode(255, &codes, 300), Err(FunctionProblem::TooManyOperations));
    }
}
