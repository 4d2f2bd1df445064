//! What machine code must not contain in a driver.
//!
//! Cranelift is trusted to translate correctly; this is the check that its choice of instructions stays inside what
//! kernel code at DISPATCH_LEVEL may do, whatever a future version or setting does.

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

/// The instructions of a function; an error if some bytes are none.
pub(crate) fn decode(code: &[u8]) -> Result<Vec<Instruction>, String> {
    let mut decoder = Decoder::with_ip(64, code, 0, DecoderOptions::NONE);
    let mut instructions = Vec::with_capacity(code.len() / 4);
    while decoder.can_decode() {
        let instruction = decoder.decode();
        if instruction.is_invalid() {
            return Err(format!("undecodable bytes at {:#x}", instruction.ip()));
        }
        instructions.push(instruction);
    }
    Ok(instructions)
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
