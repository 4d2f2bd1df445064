//! What machine code must not contain in a driver.
//!
//! Cranelift is trusted to translate correctly; this is the check that its choice of instructions stays inside what
//! kernel code at `DISPATCH_LEVEL` may do, whatever a future version or setting does.

use std::collections::BTreeSet;

use iced_x86::{Code, Decoder, DecoderOptions, FlowControl, Instruction, InstructionInfoFactory, OpAccess, Register};

/// Registers that a function must give back to its caller as it found them (x64 calling convention), `rsp` aside.
pub(crate) const NONVOLATILE: [Register; 8] = [
    Register::RBX,
    Register::RBP,
    Register::RSI,
    Register::RDI,
    Register::R12,
    Register::R13,
    Register::R14,
    Register::R15,
];

/// A function's bytes, taken apart.
#[derive(Debug)]
pub(crate) struct Decoded {
    /// Its instructions.
    pub(crate) instructions: Vec<Instruction>,
    /// Where they end, in bytes.
    pub(crate) code_size: usize,
    /// Where the constants begin that Cranelift puts behind them, in bytes; the length of the function if there are none.
    pub(crate) constants: usize,
    /// Uses of these constants.
    pub(crate) constant_uses: Vec<ConstantUse>,
}

/// An instruction's reference to a constant behind the function.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ConstantUse {
    /// Offset of the 4-byte distance in the function.
    pub(crate) field: u32,
    /// Offset of the end of the instruction, from which the distance counts.
    pub(crate) end: u32,
    /// Offset of the constant in the function.
    pub(crate) target: u32,
}

/// Takes a function's bytes apart; `relocated` are the offsets of the fields that relocations fill in. An error if some
/// bytes are neither an instruction, nor padding before the constants, nor constants.
pub(crate) fn decode(code: &[u8], relocated: &BTreeSet<u32>) -> Result<Decoded, String> {
    let mut decoder = Decoder::with_ip(64, code, 0, DecoderOptions::NONE);
    let mut decoded = Decoded {
        instructions: Vec::with_capacity(code.len() / 4),
        code_size: code.len(),
        constants: code.len(),
        constant_uses: Vec::new(),
    };
    while decoder.can_decode() {
        let instruction = decoder.decode();
        let end = decoder.position();
        if instruction.is_invalid() || end > decoded.constants {
            return Err(format!("undecodable bytes at {:#x}", instruction.ip()));
        }
        if instruction.is_ip_rel_memory_operand() {
            let in_instruction = decoder.get_constant_offsets(&instruction).displacement_offset();
            let field = instruction.ip() as u32 + in_instruction as u32;
            if !relocated.contains(&field) {
                let target = instruction.ip_rel_memory_address();
                if target < end as u64 || target >= code.len() as u64 {
                    return Err(format!("a reference to {target:#x} at {:#x}", instruction.ip()));
                }
                decoded.constants = decoded.constants.min(target as usize);
                decoded.constant_uses.push(ConstantUse {
                    field,
                    end: end as u32,
                    target: target as u32,
                });
            }
        }
        decoded.instructions.push(instruction);
        let ends = matches!(instruction.flow_control(), FlowControl::Return | FlowControl::UnconditionalBranch);
        // Zeros up to the constants are padding: as code they would run into the constants.
        if ends && code[end..decoded.constants].iter().all(|byte| *byte == 0) {
            decoded.code_size = end;
            return Ok(decoded);
        }
    }
    Err("execution runs past the end of the function".to_owned())
}

/// Checks that no instruction traps by design, is privileged, or uses a register beyond the general ones.
pub(crate) fn check(instructions: &[Instruction]) -> Result<(), String> {
    let mut factory = InstructionInfoFactory::new();
    for instruction in instructions {
        let forbidden = |what: &str| Err(format!("{what} at {:#x}: {instruction}", instruction.ip()));
        if matches!(instruction.flow_control(), FlowControl::Exception | FlowControl::Interrupt) {
            return forbidden("a trap");
        }
        if instruction.is_privileged() || instruction.code() == Code::Syscall {
            return forbidden("a privileged instruction");
        }
        for used in factory.info(instruction).used_registers() {
            let register = used.register();
            let general = register.is_gpr() || register.is_ip() || register.is_segment_register();
            if used.access() != OpAccess::None && !general {
                return forbidden("a register that is not a general one");
            }
        }
    }
    Ok(())
}
