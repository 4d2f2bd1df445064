//! What ARM64 machine code must not contain in a driver.
//!
//! Cranelift is trusted to translate correctly; this is the check that its choice of instructions stays inside what
//! kernel code at `DISPATCH_LEVEL` may do, whatever a future version or setting does: the base instruction set of ARMv8.0
//! and the extensions that were asked for, general registers only, never `x18` (which holds the processor's control
//! region in kernel code), nothing privileged, no trap, and data only through relocations. A loop of
//! load-exclusive and store-exclusive accesses nothing else in between, because the architecture promises progress only
//! then (Arm Architecture Reference Manual, "Load-Exclusive and Store-Exclusive instruction usage restrictions").

use std::collections::BTreeMap;

use bpf2sys_pe_emit::RelocationKind;

use crate::Options;
use crate::instruction_arm64::{Insn, Opcode, Operand, Role, SIZE, registers};

/// The platform register (ARM64 ABI conventions, "Integer registers").
const PLATFORM_REGISTER: u16 = 18;

/// Checks a function's instructions; `relocated` are those that relocations complete, by offset.
pub(crate) fn check(code: &[Insn], relocated: &BTreeMap<u32, RelocationKind>, options: &Options) -> Result<(), String> {
    let mut unreached = false; // after an instruction that does not go on
    let mut loop_end = 0; // of the last load-exclusive loop, as a position
    for (position, insn) in code.iter().enumerate() {
        let forbidden = |what: &str| Err(format!("{what} at {:#x}: {}", insn.offset, insn.op));
        let Some(role) = insn.role() else {
            return forbidden("an instruction that a driver does not need");
        };
        let relocation = relocated.get(&insn.offset).copied();
        for mut operand in insn.op.operands {
            match registers(&mut operand) {
                None => return forbidden("a register that is not a general one"),
                Some(registers) if registers.iter().any(|register| **register == PLATFORM_REGISTER) => {
                    return forbidden("the platform register");
                }
                Some(_) => {}
            }
            let reads_near = matches!(operand, Operand::PCOffset(_));
            if reads_near && !matches!(role, Role::Jump | Role::Branch | Role::Call | Role::PageAddress) {
                return forbidden("data in code");
            }
        }
        let expected = match role {
            Role::PageAddress => Some(RelocationKind::Arm64Page21),
            Role::Call if insn.target().is_some() => Some(RelocationKind::Arm64Branch26),
            // The second half of an address; the linker checks that it is an `add`.
            Role::Compute if relocation == Some(RelocationKind::Arm64PageOffset12) => relocation,
            _ => None,
        };
        if relocation != expected {
            return forbidden("a wrong or missing relocation");
        }
        match role {
            Role::Atomic(_) if !options.lse => return forbidden("an instruction of ARMv8.1"),
            Role::PointerAuthentication if !options.sign_return_address => {
                return forbidden("return address signing that nobody asked for");
            }
            Role::Trap if !unreached => return forbidden("a trap"),
            Role::LoadExclusive => match exclusive_loop(&code[position..]) {
                Some(length) => loop_end = position + length,
                None => return forbidden("a load-exclusive that starts no known loop"),
            },
            Role::StoreExclusive if position >= loop_end => return forbidden("a store-exclusive without its load"),
            _ => {}
        }
        unreached = matches!(role, Role::Jump | Role::Return | Role::Trap);
    }
    Ok(())
}

/// The number of instructions of the loop that starts with this load-exclusive: at most some arithmetic and a branch out,
/// then a store-exclusive to the same address and the branch back.
fn exclusive_loop(code: &[Insn]) -> Option<usize> {
    let (start, rest) = code.split_first()?;
    let store = rest
        .iter()
        .position(|insn| !matches!(insn.role(), Some(Role::Compute | Role::Compare | Role::Branch)))?;
    let ([inside @ .., last], [again, ..]) = rest.split_at_checked(store + 1)? else {
        return None;
    };
    let end = again.offset + SIZE;
    let status = last.op.operands[0];
    let closed = last.role() == Some(Role::StoreExclusive)
        && last.address() == start.address()
        && again.op.opcode == Opcode::CBNZ
        && again.target() == Some(start.offset)
        && matches!((status, again.op.operands[0]), (Operand::Register(_, a), Operand::Register(_, b)) if a == b);
    let leaves = |insn: &Insn| insn.role() != Some(Role::Branch) || insn.target() == Some(end);
    (closed && inside.iter().all(leaves)).then_some(store + 3)
}
