//! Programs that no engine runs, because they need a conformance group of RFC 9669 that Windows does not have.

use bpf2sys_bytecode::{Instruction, Module};

/// Refuses a program with an instruction of such a group, in the verifier's words.
pub(crate) fn check_groups(module: &Module) -> Result<(), String> {
    for insn in module.functions.iter().flat_map(|function| &function.instructions) {
        let (what, group) = match insn.op {
            Instruction::CallX(_) => ("a call through a register", "callx"),
            Instruction::LegacyPacket { .. } => ("a legacy packet load", "packet"),
            _ => continue,
        };
        let slot = insn.slot;
        return Err(format!(
            "instruction {slot}: {what} is not supported (conformance group `{group}`)"
        ));
    }
    Ok(())
}
