//! Unwind data of x64 ("x64 exception handling", `UNWIND_INFO` and `UNWIND_CODE`).

use bpf2sys_simulator::image::{Image, Rva};
use iced_x86::{Decoder, DecoderOptions, Instruction, Mnemonic, Register};

use super::{Budget, Mismatch, Unwind};

/// `UNW_FLAG_EHANDLER` and `UNW_FLAG_UHANDLER`: the RVA of a handler follows the codes.
const HANDLER: u8 = 3;
/// `UNW_FLAG_CHAININFO`: another entry of the function table follows them.
const CHAINED: u8 = 4;

/// An operation of a prologue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Operation {
    Push(u8),
    Allocate(u32),
    Other,
}

/// Reads the unwind data at `unwind` of the function from `begin` to `end`.
pub(super) fn read(
    image: &Image<'_>,
    begin: u32,
    end: u32,
    unwind: u32,
    budget: &mut Budget,
) -> Result<Unwind, String> {
    let outside = || format!("unwind data at {unwind:#x} is not in raw data");
    if !unwind.is_multiple_of(4) {
        return Err(format!("unwind data at {unwind:#x} is not aligned"));
    }
    let bytes = |offset: usize, length: usize| {
        // The last record may end where its section ends.
        if length == 0 {
            return Some(&[][..]);
        }
        let rva = unwind.checked_add(u32::try_from(offset).ok()?)?;
        image.file_bytes(Rva(rva), length)
    };
    let Some(&[first, prologue, count, _]) = bytes(0, 4).and_then(|b| b.first_chunk::<4>()) else {
        return Err(outside());
    };
    budget.take(usize::from(prologue) + 2 * usize::from(count))?;
    let (version, flags) = (first & 7, first >> 3);
    if !(1..=2).contains(&version) {
        return Err(format!("unwind data of version {version}"));
    }
    let codes = bytes(4, 2 * usize::from(count)).ok_or_else(outside)?;
    let behind = 4 + 2 * usize::from(count).next_multiple_of(2);
    if flags & HANDLER != 0 && flags & CHAINED != 0 {
        return Err(format!("flags {flags:#x}, a handler and a chain"));
    }
    let more = if flags & CHAINED != 0 {
        12
    } else if flags & HANDLER != 0 {
        4
    } else {
        0
    };
    bytes(behind, more).ok_or_else(outside)?;
    if u32::from(prologue) > end.saturating_sub(begin) {
        return Err(format!(
            "a prologue of {prologue} bytes in a function of {}",
            end.saturating_sub(begin)
        ));
    }
    let operations = operations(codes, prologue, version)?;
    let frame = operations.iter().map(|(_, operation)| match operation {
        Operation::Push(_) => 8,
        Operation::Allocate(bytes) => *bytes,
        Operation::Other => 0,
    });
    let code = image.file_bytes(Rva(begin), usize::from(prologue)).unwrap_or_default();
    Ok(Unwind {
        frame: frame.fold(0, u32::saturating_add),
        mismatch: mismatch(code, &operations),
    })
}

/// The operations, last one of the prologue first, with the offset of the end of each one's instruction.
fn operations(codes: &[u8], prologue: u8, version: u8) -> Result<Vec<(u8, Operation)>, String> {
    let (slots, _) = codes.as_chunks::<2>();
    let word = |slot: usize| slots.get(slot).map(|bytes| u32::from(u16::from_le_bytes(*bytes)));
    let mut found: Vec<(u8, Operation)> = Vec::new();
    let mut at = 0;
    while let Some(&[offset, code]) = slots.get(at) {
        let (kind, info) = (code & 0xF, code >> 4);
        let missing = || format!("unwind code {kind} at {offset:#x} is cut off");
        // UWOP_EPILOG of version 2 says where epilogues are.
        if kind == 6 && version == 2 {
            at += 1;
            continue;
        }
        let (operation, extra) = match (kind, info) {
            (0, _) => (Operation::Push(info), 0),
            (1, 0) => (Operation::Allocate(word(at + 1).ok_or_else(missing)? * 8), 1),
            (1, 1) => {
                let (low, high) = (word(at + 1).ok_or_else(missing)?, word(at + 2).ok_or_else(missing)?);
                (Operation::Allocate(high << 16 | low), 2)
            }
            (2, _) => (Operation::Allocate(u32::from(info) * 8 + 8), 0),
            (3, _) => (Operation::Other, 0),
            (4 | 8, _) => (Operation::Other, 1),
            (5 | 9, _) => (Operation::Other, 2),
            // A machine frame, which the processor pushed.
            (10, 0 | 1) => (Operation::Other, 0),
            _ => return Err(format!("unwind code {kind} with {info} at {offset:#x}")),
        };
        if slots.len() < at + 1 + extra {
            return Err(missing());
        }
        if offset > prologue || found.last().is_some_and(|(later, _)| offset > *later) {
            return Err(format!(
                "unwind code at {offset:#x} of a prologue of {prologue:#x} bytes, out of order"
            ));
        }
        found.push((offset, operation));
        at += 1 + extra;
    }
    Ok(found)
}

/// The first pushed register or allocation that is not an instruction of the prologue.
fn mismatch(code: &[u8], operations: &[(u8, Operation)]) -> Option<Mismatch> {
    let instructions: Vec<Instruction> = Decoder::with_ip(64, code, 0, DecoderOptions::NONE)
        .into_iter()
        .collect();
    let ending = |offset: u8| instructions.iter().find(|i| i.next_ip() == u64::from(offset));
    operations.iter().rev().find_map(|(offset, operation)| {
        let instruction = ending(*offset);
        let (says, fits): (_, fn(&Instruction, u32) -> bool) = match operation {
            Operation::Push(_) => ("that push", |i, number| {
                i.mnemonic() == Mnemonic::Push
                    && i.op0_register().is_gpr64()
                    && i.op0_register().number() as u32 == number
            }),
            Operation::Allocate(_) => ("that allocation", allocates),
            Operation::Other => ("an instruction", |_, _| true),
        };
        let number = match operation {
            Operation::Push(register) => u32::from(*register),
            Operation::Allocate(bytes) => *bytes,
            Operation::Other => 0,
        };
        (!instruction.is_some_and(|i| fits(i, number))).then_some(Mismatch {
            offset: u32::from(*offset),
            says,
        })
    })
}

/// Whether the stack pointer moves by that many bytes, as far as the instruction alone tells.
fn allocates(instruction: &Instruction, bytes: u32) -> bool {
    let rsp = instruction.op0_register() == Register::RSP;
    match instruction.mnemonic() {
        Mnemonic::Sub if rsp => match instruction.try_immediate(1) {
            Ok(immediate) => immediate == u64::from(bytes),
            // After a probe, which has the number in a register.
            Err(_) => true,
        },
        Mnemonic::Add if rsp => instruction
            .try_immediate(1)
            .is_ok_and(|n| n == 0u64.wrapping_sub(bytes.into())),
        Mnemonic::Lea => rsp,
        // Compilers allocate a word by pushing any register.
        Mnemonic::Push => bytes == 8,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::{Operation, mismatch, operations};

    #[test]
    fn reads_codes_of_every_length() {
        // save rbx far, save xmm6, allocate large twice, allocate small, push rbp
        let codes = [
            20, 0x35, 1, 0, 2, 0, 18, 0x68, 3, 0, 14, 0x11, 0x10, 0, 1, 0, 10, 1, 4, 0, 6, 0x32, 1, 0x50,
        ];
        let found = operations(&codes, 20, 1).unwrap();
        assert_eq!(
            found[2..],
            [
                (14, Operation::Allocate(0x1_0010)),
                (10, Operation::Allocate(32)),
                (6, Operation::Allocate(32)),
                (1, Operation::Push(5)),
            ]
        );
        assert!(operations(&codes[..4], 20, 1).is_err(), "cut off");
        assert!(operations(&[4, 0x50, 8, 0x30], 20, 1).is_err(), "not descending");
        assert!(operations(&[21, 0x50], 20, 1).is_err(), "behind the prologue");
        assert!(operations(&[4, 0x0F], 20, 1).is_err(), "no such code");
    }

    #[test]
    fn compares_codes_with_instructions() {
        let code = [0x55, 0x48, 0x83, 0xEC, 0x20]; // push rbp; sub rsp, 32
        let push = |register| (1, Operation::Push(register));
        let allocate = |offset, bytes| (offset, Operation::Allocate(bytes));
        assert!(mismatch(&code, &[allocate(5, 32), push(5)]).is_none());
        assert_eq!(mismatch(&code, &[allocate(5, 32), push(3)]).unwrap().offset, 1);
        assert_eq!(mismatch(&code, &[allocate(5, 40), push(5)]).unwrap().offset, 5);
        assert_eq!(mismatch(&code, &[allocate(4, 32), push(5)]).unwrap().offset, 4);
    }
}
