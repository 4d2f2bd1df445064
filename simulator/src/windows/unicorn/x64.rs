//! The emulated x64 processor: how it is set up, what its exceptions mean, and what it lets pass.
//!
//! It is in 64-bit mode without paging, and at the privilege level of user mode, as the host's processor is when it runs the
//! code: so an instruction that only a kernel may use is a general protection fault on both.

use std::ffi::c_int;

use iced_x86::{Decoder, DecoderOptions, Instruction, Mnemonic, OpKind};

use super::{Engine, Model, NOWHERE};
use crate::emulator_library::number;
use crate::windows::cpu::Cause;
use crate::windows::memory::{Memory, PAGE};

/// The machine.
pub static MODEL: Model = Model {
    name: "x64",
    architecture: number::ARCH_X86,
    mode: number::MODE_64,
    cpu: number::CPU_X86_ICELAKE_SERVER,
    all_address_bits: true,
    pc: number::RIP,
    system_calls: &[number::SYSCALL, number::SYSENTER],
    impossible: |_, address| (!is_canonical(address)).then_some(Cause::GeneralProtection),
    exception: meaning,
    unknown,
    unnoticed: Some(unnoticed),
    unfetched,
};

/// Most bytes of an instruction.
const LONGEST: usize = 15;

/// A segment descriptor table, `uc_x86_mmr`.
#[repr(C)]
#[derive(Clone, Copy)]
struct Table {
    selector: u16,
    base: u64,
    limit: u32,
    flags: u32,
}

/// What the kernel does before a driver: `iretq`.
const KERNEL: [u8; 8] = [0x48, 0xCF, 0, 0, 0, 0, 0, 0];

/// What that takes from the stack, to go to user mode (Intel SDM, volume 2, "IRET"): where to, `cs`, flags, `rsp` and `ss`.
const FRAME: [u64; 5] = [NOWHERE, 0x08 | 3, 0x202, 0, 0x10 | 3];

/// The segments that these are: none, 64-bit code and data, both of user mode (volume 3, "Segment Descriptors").
const SEGMENTS: [u64; 3] = [0, 0x00AF_FB00_0000_FFFF, 0x00CF_F300_0000_FFFF];

/// The general registers, by their number in instructions.
pub const GENERAL: [c_int; 16] = [
    number::RAX,
    number::RCX,
    number::RDX,
    number::RBX,
    number::RSP,
    number::RBP,
    number::RSI,
    number::RDI,
    number::R8,
    number::R8 + 1,
    number::R8 + 2,
    number::R8 + 3,
    number::R8 + 4,
    number::R8 + 5,
    number::R8 + 6,
    number::R8 + 7,
];

/// Does what comes before a driver on a real machine.
pub fn boot(engine: &Engine, memory: &mut Memory) -> Result<(), String> {
    let words = FRAME.iter().chain(&SEGMENTS).flat_map(|word| word.to_le_bytes());
    let code: Vec<u8> = KERNEL.into_iter().chain(words).collect();
    engine.execute_at_start(memory, &code, |page| {
        let frame = page + size_of_val(&KERNEL) as u64;
        let table = Table {
            selector: 0,
            base: frame + size_of_val(&FRAME) as u64,
            limit: size_of_val(&SEGMENTS) as u32 - 1,
            flags: 0,
        };
        engine.write(&[number::GDTR], &[table]);
        engine.write(&[number::RSP], &[frame]);
    })?;
    // Its lowest bits are the privilege level.
    if engine.read::<u64, 1>(&[number::CS])[0] & 3 == 3 {
        Ok(())
    } else {
        Err("this Unicorn's x64 processor does not go to user mode".into())
    }
}

/// Whether addresses of 48 bits have this one (Intel SDM, volume 1, "Canonical Addressing").
fn is_canonical(address: u64) -> bool {
    matches!(address as i64 >> 47, 0 | -1)
}

/// What an exception means, by its vector (Intel SDM, volume 3, "Exceptions and Interrupts Reference").
fn meaning(_: &Engine, vector: u32) -> Cause {
    match vector {
        0 => Cause::DivideError,
        1 | 3 => Cause::Breakpoint,
        6 => Cause::IllegalInstruction,
        // The system calls of 32-bit Linux, which the host's processor would take it for.
        0x80 => Cause::SystemCall,
        // Among them `int` with a number that user mode may not use.
        _ => Cause::GeneralProtection,
    }
}

/// The instruction at an address, with its bytes as far as there are any.
fn instruction(engine: &Engine, address: u64) -> Instruction {
    let (bytes, length) = engine.bytes::<LONGEST>(address);
    Decoder::with_ip(64, &bytes[..length], address, DecoderOptions::NONE).decode()
}

/// What an instruction is that the emulator does not know.
fn unknown(engine: &Engine, address: u64) -> Cause {
    match instruction(engine, address).mnemonic() {
        Mnemonic::INVALID | Mnemonic::Ud0 | Mnemonic::Ud1 | Mnemonic::Ud2 => Cause::IllegalInstruction,
        Mnemonic::Int1 => Cause::Breakpoint,
        _ => MISSING,
    }
}

/// An instruction of a real processor that the emulated one lacks.
const MISSING: Cause = Cause::Other("instruction that the emulator does not have");

/// What the instruction at an address is about to do that the emulator takes for something else, or lets pass:
///
/// * It reads or writes a port of the machine.
/// * It is `lzcnt`, which is another instruction to processors that do not know it, or has registers of more than 128 bits: version
///   2.0 takes these for others.
/// * It uses memory that must be aligned for it and is not: that of SSE instructions with operands of 16 bytes, but for a few (Intel
///   SDM, volume 1, "Memory Alignment Requirements").
fn unnoticed(engine: &Engine, address: u64) -> Option<Cause> {
    use Mnemonic::{In, Insb, Insd, Insw, Lzcnt, Out, Outsb, Outsd, Outsw};
    if engine.is_harmless(address) {
        return None;
    }
    let instruction = instruction(engine, address);
    match instruction.mnemonic() {
        In | Insb | Insd | Insw | Out | Outsb | Outsd | Outsw => return Some(Cause::GeneralProtection),
        Lzcnt => return Some(MISSING),
        Mnemonic::INVALID if has_wide_registers(engine, address) => return Some(MISSING),
        _ => {}
    }
    let place = (0..instruction.op_count()).find(|&i| instruction.op_kind(i) == OpKind::Memory);
    let (Some(place), true) = (place, must_be_aligned(&instruction)) else {
        engine.set_harmless(address);
        return None;
    };
    let address = instruction.virtual_address(place, 0, |register, _, _| {
        // Segments begin at 0.
        let value = || engine.read::<u64, 1>(&[GENERAL[register.number()]])[0];
        Some(match register.size() {
            8 => value(),
            4 => value() & u64::from(u32::MAX),
            _ => 0,
        })
    });
    address
        .is_some_and(|address| !address.is_multiple_of(16))
        .then_some(Cause::GeneralProtection)
}

/// Whether the instruction at an address has a prefix of AVX or AVX-512, VEX or EVEX (Intel SDM, volume 2, "Intel AVX").
fn has_wide_registers(engine: &Engine, address: u64) -> bool {
    matches!(engine.bytes::<1>(address), ([0xC4 | 0xC5 | 0x62], 1))
}

/// Whether memory that an instruction uses must be aligned.
fn must_be_aligned(instruction: &Instruction) -> bool {
    use Mnemonic::{Cmpxchg16b, Lddqu, Movdqu, Movupd, Movups, Pcmpestri, Pcmpestrm, Pcmpistri, Pcmpistrm};
    let is_any = [
        Cmpxchg16b, Lddqu, Movdqu, Movupd, Movups, Pcmpestri, Pcmpestrm, Pcmpistri, Pcmpistrm,
    ]
    .contains(&instruction.mnemonic());
    instruction.memory_size().size() == 16 && !is_any
}

/// The emulator fetches the instructions up to the next jump at once, from where the program counter is. The one that lacks bytes
/// is the first that reaches beyond its page, if the jump was not to where there are none.
fn unfetched(engine: &Engine, missing: u64) -> u64 {
    let mut at = engine.pc();
    let end = (at & !(PAGE as u64 - 1)).saturating_add(PAGE as u64);
    while at < end && at != missing {
        let instruction = instruction(engine, at);
        let next = at + instruction.len() as u64;
        // One that cannot be decoded lacks bytes: otherwise it would have been executed, and stopped the code itself.
        if next > end || instruction.is_invalid() {
            return at;
        }
        at = next;
    }
    missing
}
