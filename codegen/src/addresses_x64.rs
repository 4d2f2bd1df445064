//! x64: addresses in the frame that only one access needs.
//!
//! Given: the instructions of a function.
//! Computed: pairs of `lea r, [rsp+d]` and the one instruction that accesses memory from `r`, and sets `r` to something else.
//! Safe because: between the two nothing names `r`, no jump leads there or away, and behind them the address is not there any more. The
//! access can so be from `rsp`, and the address is not needed.
//!
//! Cranelift has an address in the frame with an index in no instruction.

use std::collections::{BTreeMap, BTreeSet};

use iced_x86::{Code as Op, FlowControl, Instruction, InstructionInfoFactory, Mnemonic, OpKind, Register};

use crate::parts_x64::with_least_displacement;

/// How far behind an address its use is looked for.
const MOST_BETWEEN: usize = 8;

/// By position of an access: the position of the address that goes. `targets` are the positions to which jumps lead.
pub(crate) fn folds(code: &[Instruction], targets: &BTreeSet<usize>) -> BTreeMap<usize, usize> {
    let mut folds = BTreeMap::new();
    let mut factory = InstructionInfoFactory::new();
    for (position, address) in code.iter().enumerate() {
        if is_frame_address(address)
            && let Some(access) = only_access(code, position, targets, &mut factory)
        {
            folds.insert(access, position);
        }
    }
    folds
}

fn is_frame_address(instruction: &Instruction) -> bool {
    instruction.code() == Op::Lea_r64_m
        && instruction.memory_base() == Register::RSP
        && instruction.memory_index() == Register::None
}

/// The position of the access that is all that an address is made for.
fn only_access(
    code: &[Instruction],
    position: usize,
    targets: &BTreeSet<usize>,
    factory: &mut InstructionInfoFactory,
) -> Option<usize> {
    let register = code[position].op0_register();
    for (at, instruction) in code.iter().enumerate().skip(position + 1).take(MOST_BETWEEN) {
        if targets.contains(&at) || instruction.flow_control() != FlowControl::Next {
            return None;
        }
        if names(instruction, register, factory) {
            return folded(instruction, &code[position]).map(|_| at);
        }
    }
    None
}

/// Whether an instruction has a register, or a part of it, in an operand. Those with operands that it does not have in its text, too.
fn names(instruction: &Instruction, register: Register, factory: &mut InstructionInfoFactory) -> bool {
    let used = factory.info(instruction).used_registers();
    used.iter().any(|used| used.register().full_register() == register)
}

/// An access as it is from `rsp`, if it is one from the register of an address, which it sets to what it loads.
pub(crate) fn folded(access: &Instruction, address: &Instruction) -> Option<Instruction> {
    let register = address.op0_register();
    let loads = matches!(
        access.mnemonic(),
        Mnemonic::Mov | Mnemonic::Movzx | Mnemonic::Movsx | Mnemonic::Movsxd
    );
    let set = access.op0_register();
    let fits = is_frame_address(address)
        && loads
        && access.op0_kind() == OpKind::Register
        && (set.is_gpr32() || set.is_gpr64())
        && set.full_register() == register
        && access.op1_kind() == OpKind::Memory
        && access.memory_base() == register
        && access.memory_index() != register;
    if !fits {
        return None;
    }
    let distance = address
        .memory_displacement64()
        .checked_add(access.memory_displacement64())?;
    i32::try_from(distance).ok()?;
    let mut new = *access;
    new.set_memory_base(Register::RSP);
    new.set_memory_displacement64(distance);
    Some(with_least_displacement(&new))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use crate::audit_x64::decode;
    use crate::rewrite_x64::tests::bytes;

    use super::folds;

    #[test]
    fn an_address_goes_into_the_one_access_that_replaces_it() {
        let cases = [
            // lea rsi, [rsp+0x30]; movzx esi, word [rsi+rdx*2+4]
            ("488d742430 0fb7745604", &[][..], true),
            // with mov rax, rcx between
            ("488d742430 4889c8 0fb7745604", &[], true),
            // a jump leads between
            ("488d742430 4889c8 0fb7745604", &[2], false),
            // mov rax, rsi between
            ("488d742430 4889f0 0fb7745604", &[], false),
            // movzx eax, word [rsi+rdx*2]: the address may be needed later
            ("488d742430 0fb70456", &[], false),
            // mov [rsi+rdx*2], esi stores the address
            ("488d742430 893456", &[], false),
            // mov sil, [rsi] leaves a part of it
            ("488d742430 408a36", &[], false),
            // lea rsi, [rcx+0x30] is no address in the frame
            ("488d7130 0fb7745604", &[], false),
            // movzx esi, word [rdx+rsi*2]: an index
            ("488d742430 0fb73472", &[], false),
        ];
        for (text, targets, goes) in cases {
            let code = bytes(&[text, "c3"].concat());
            let decoded = decode(&code, &BTreeSet::new()).unwrap();
            let found = folds(&decoded.instructions, &targets.iter().copied().collect());
            assert_eq!(!found.is_empty(), goes, "{text}");
        }
    }
}
