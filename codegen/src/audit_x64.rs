//! What machine code must not contain in a driver.
//!
//! Cranelift is trusted to translate correctly; this is the check that its choice of instructions stays inside what
//! kernel code at `DISPATCH_LEVEL` may do, whatever a future version or setting does.

use std::collections::BTreeSet;

use bpf2sys_pe_emit::RelocationKind;
use iced_x86::{
    Code, CpuidFeature, Decoder, DecoderOptions, FlowControl, Instruction, InstructionInfoFactory, OpAccess, Register,
};

use crate::compile::{Reference, Target};
use crate::guard;

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

impl Decoded {
    /// Whether the field at this offset is the target of a call or jump.
    pub(crate) fn calls(&self, field: u32) -> bool {
        let behind = self.instructions.partition_point(|i| i.ip() <= u64::from(field));
        let instruction = behind
            .checked_sub(1)
            .and_then(|position| self.instructions.get(position));
        instruction.is_some_and(|i| matches!(i.flow_control(), FlowControl::Call | FlowControl::UnconditionalBranch))
    }
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

impl ConstantUse {
    /// What a relocation of the field against the first constant adds, the constants being at `constants` now.
    pub(crate) fn addend(self, constants: usize) -> i64 {
        let in_constants = i64::from(self.target) - constants as i64;
        in_constants - i64::from(self.end - self.field)
    }
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
        let ends = matches!(
            instruction.flow_control(),
            FlowControl::Return | FlowControl::UnconditionalBranch | FlowControl::IndirectBranch
        );
        // Zeros up to the constants are padding: as code they would run into the constants.
        if ends && code[end..decoded.constants].iter().all(|byte| *byte == 0) {
            decoded.code_size = end;
            return Ok(decoded);
        }
    }
    Err("execution runs past the end of the function".to_owned())
}

/// What every x86-64 processor has and needs no saved state: no x87, no vectors, no extension.
const BASELINE: [CpuidFeature; 7] = [
    CpuidFeature::INTEL8086,
    CpuidFeature::INTEL186,
    CpuidFeature::INTEL386,
    CpuidFeature::INTEL486,
    CpuidFeature::X64,
    CpuidFeature::CMOV,
    CpuidFeature::MULTIBYTENOP,
];

/// Checks that no instruction traps by design, is privileged, or needs more than the baseline and the general registers.
pub(crate) fn check(instructions: &[Instruction]) -> Result<(), String> {
    let mut factory = InstructionInfoFactory::new();
    for instruction in instructions {
        let forbidden = |what: &str| Err(format!("{what} at {:#x}: {instruction}", instruction.ip()));
        if matches!(
            instruction.flow_control(),
            FlowControl::Exception | FlowControl::Interrupt
        ) {
            return forbidden("a trap");
        }
        if instruction.is_privileged() || instruction.code() == Code::Syscall {
            return forbidden("a privileged instruction");
        }
        if !instruction.cpuid_features().iter().all(|f| BASELINE.contains(f)) {
            return forbidden("an instruction beyond the baseline");
        }
        for used in factory.info(instruction).used_registers() {
            let register = used.register();
            // fs and gs lead to the processor's and the thread's own data.
            let flat = register.is_segment_register() && ![Register::FS, Register::GS].contains(&register);
            let general = register.is_gpr() || register.is_ip() || flat;
            if used.access() != OpAccess::None && !general {
                return forbidden("a register that is not a general one");
            }
        }
    }
    Ok(())
}

/// Whether an instruction is a call through the pointer of Control Flow Guard.
pub(crate) fn is_guarded_call(instruction: &Instruction, references: &[Reference]) -> bool {
    /// `call [rip + distance]`, and where in it the distance is.
    const LENGTH: usize = 6;
    const FIELD: u32 = 2;
    instruction.code() == Code::Call_rm64
        && instruction.is_ip_rel_memory_operand()
        && instruction.len() == LENGTH
        && references.iter().any(|reference| {
            u64::from(reference.offset) == instruction.ip() + u64::from(FIELD)
                && reference.kind == RelocationKind::Relative32
                && reference.addend == -4
                && matches!(&reference.target, Target::Named(name) if name == guard::DISPATCH_POINTER)
        })
}

/// Checks that all calls and jumps to addresses that the code has read go through the pointer of Control Flow Guard.
pub(crate) fn check_calls(instructions: &[Instruction], references: &[Reference]) -> Result<(), String> {
    let by_address = |i: &&Instruction| {
        matches!(
            i.flow_control(),
            FlowControl::IndirectCall | FlowControl::IndirectBranch
        )
    };
    let mut calls = instructions.iter().filter(by_address);
    match calls.find(|call| !is_guarded_call(call, references)) {
        Some(call) => Err(format!("a call without Control Flow Guard at {:#x}: {call}", call.ip())),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::{check, decode};

    fn problem(code: &[u8]) -> Option<String> {
        let decoded = decode(code, &BTreeSet::new()).unwrap();
        check(&decoded.instructions).err()
    }

    #[test]
    fn refuses_traps_privileged_instructions_and_other_registers() {
        let cases: [(&str, &[u8]); 12] = [
            ("mov rax, gs:[rcx]", &[0x65, 0x48, 0x8B, 0x01, 0xC3]),
            ("rdtsc", &[0x0F, 0x31, 0xC3]),
            ("ud2", &[0x0F, 0x0B, 0xC3]),
            ("int3", &[0xCC, 0xC3]),
            ("int 0x29", &[0xCD, 0x29, 0xC3]),
            ("cli", &[0xFA, 0xC3]),
            ("mov cr0, rax", &[0x0F, 0x22, 0xC0, 0xC3]),
            ("wrmsr", &[0x0F, 0x30, 0xC3]),
            ("syscall", &[0x0F, 0x05, 0xC3]),
            ("movaps xmm0, xmm1", &[0x0F, 0x28, 0xC1, 0xC3]),
            ("fld1", &[0xD9, 0xE8, 0xC3]),
            ("movq mm0, rax", &[0x48, 0x0F, 0x6E, 0xC0, 0xC3]),
        ];
        for (name, code) in cases {
            assert!(problem(code).is_some(), "{name}");
        }
        assert_eq!(problem(&[0x48, 0xF7, 0xF1, 0xC3]), None); // div rcx
    }

    #[test]
    fn finds_the_constants_behind_the_code() {
        // cmp rax, [rip+1]; ret; a constant that would not decode
        let mut code = vec![0x48, 0x3B, 0x05, 1, 0, 0, 0, 0xC3];
        code.extend([0x0B, 0x0F, 0xFF, 0xCC, 0, 0, 0, 0]);
        let decoded = decode(&code, &BTreeSet::new()).unwrap();
        assert_eq!(
            (decoded.code_size, decoded.constants, decoded.instructions.len()),
            (8, 8, 2)
        );
        assert_eq!(decoded.constant_uses.len(), 1);
        let used = decoded.constant_uses[0];
        assert_eq!((used.field, used.end, used.target), (3, 7, 8));
    }

    #[test]
    fn padding_before_constants_is_not_code() {
        // cmp rax, [rip+9]; nops; ret; three zeros; the constant
        let mut code = vec![
            0x48, 0x3B, 0x05, 9, 0, 0, 0, 0x90, 0x90, 0x90, 0x90, 0x90, 0xC3, 0, 0, 0,
        ];
        code.extend([0xFF; 8]);
        let decoded = decode(&code, &BTreeSet::new()).unwrap();
        assert_eq!((decoded.code_size, decoded.constants), (13, 16));
    }

    #[test]
    fn the_distance_to_a_constant_counts_from_the_end_of_the_instruction() {
        // cmp qword [rip+8], 5; ret; padding; two constants, the second one used: an immediate follows the field
        let mut code = vec![0x48, 0x83, 0x3D, 16, 0, 0, 0, 5, 0x48, 0x3B, 0x05, 1, 0, 0, 0, 0xC3];
        code.extend([0xFF; 16]);
        let decoded = decode(&code, &BTreeSet::new()).unwrap();
        let addends: Vec<i64> = decoded
            .constant_uses
            .iter()
            .map(|used| used.addend(decoded.constants))
            .collect();
        assert_eq!((decoded.constants, addends.as_slice()), (16, &[8 - 5, -4][..]));
    }

    #[test]
    fn a_field_that_a_relocation_fills_in_is_no_constant() {
        let code = [0x48, 0x8B, 0x05, 0, 0, 0, 0, 0xC3];
        let decoded = decode(&code, &BTreeSet::from([3])).unwrap();
        assert!(decoded.constant_uses.is_empty());
    }

    #[test]
    fn refuses_bytes_that_are_neither_code_nor_constants() {
        let cases: [(&str, &[u8]); 4] = [
            ("undecodable", &[0x06, 0xC3]),
            ("cut off", &[0x48]),
            ("reads its own code", &[0x48, 0x8B, 0x05, 0xF9, 0xFF, 0xFF, 0xFF, 0xC3]),
            ("reads behind its end", &[0x48, 0x8B, 0x05, 0x01, 0, 0, 0, 0xC3]),
        ];
        for (name, code) in cases {
            assert!(decode(code, &BTreeSet::new()).is_err(), "{name}");
        }
    }
}
