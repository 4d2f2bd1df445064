//! The emulated ARM64 processor: how it is set up, and what its exceptions mean.

use std::ffi::c_int;

use super::{Engine, Model, NOWHERE};
use crate::emulator_library::number;
use crate::windows::cpu::{Access, Cause};
use crate::windows::memory::Memory;

/// The machine.
pub static MODEL: Model = Model {
    name: "ARM64",
    architecture: number::ARCH_ARM64,
    mode: number::MODE_LITTLE_ENDIAN,
    cpu: number::CPU_ARM64_MAX,
    all_address_bits: false,
    pc: number::PC,
    system_calls: &[],
    impossible: |access, address| {
        (address >> ADDRESS_BITS != 0 && access != Access::Execute).then_some(Cause::NoSuchAddress)
    },
    exception: meaning,
    unknown: |_, _| Cause::IllegalInstruction,
    unnoticed: None,
    unfetched: |_, address| address,
};

/// Bits of the processor's addresses.
const ADDRESS_BITS: u32 = 44;

/// A system register with its value, `uc_arm64_cp_reg`.
#[repr(C)]
#[derive(Clone, Copy)]
struct SystemRegister {
    crn: u32,
    crm: u32,
    op0: u32,
    op1: u32,
    op2: u32,
    value: u64,
}

/// What firmware and hypervisor have set up for a kernel on an ARM64 machine ("Arm Architecture Reference Manual for
/// A-profile", system register descriptions); each register by op1, `CRn`, `CRm` and op2, and its value.
///
/// `SCR_EL3` with NS, RW, APK, API and the bits that are always one; `HCR_EL2` with RW, APK and API; then the keys of
/// pointer authentication, which a real kernel draws at random: `APIAKey`, `APIBKey`, `APDAKey` and `APDBKey`, each as
/// `Lo_EL1` and `Hi_EL1`.
const BOOT: [(u32, u32, u32, u32, u64); 10] = [
    (6, 1, 1, 0, 1 << 0 | 0b11 << 4 | 1 << 10 | 1 << 16 | 1 << 17),
    (4, 1, 1, 0, 1 << 31 | 1 << 40 | 1 << 41),
    (0, 2, 1, 0, 0x0123_4567_89AB_CDEF),
    (0, 2, 1, 1, 0xFEDC_BA98_7654_3210),
    (0, 2, 1, 2, 0x0F1E_2D3C_4B5A_6978),
    (0, 2, 1, 3, 0x8796_A5B4_C3D2_E1F0),
    (0, 2, 2, 0, 0x1357_9BDF_0246_8ACE),
    (0, 2, 2, 1, 0xECA8_6420_FDB9_7531),
    (0, 2, 2, 2, 0x1122_3344_5566_7788),
    (0, 2, 2, 3, 0x8877_6655_4433_2211),
];

/// What the kernel itself then does: it turns pointer authentication on.
#[rustfmt::skip]
const KERNEL: [u32; 8] = [
    0xD538_1000, // mrs x0, SCTLR_EL1
    0xD284_0001, // mov x1, #0x2000
    0xF2B9_0001, // movk x1, #0xC800, lsl #16
    0xAA01_0000, // orr x0, x0, x1            EnIA, EnIB, EnDA, EnDB
    0xD518_1000, // msr SCTLR_EL1, x0
    0xD503_3FDF, // isb
    0xDAC1_0044, // pacia x4, x2              shows that it works
    0xD65F_03C0, // ret
];

/// Exception numbers of the ARM processor that the emulator is made of, QEMU's (`target/arm/cpu.h`, `EXCP_*`).
mod exception {
    pub const UNDEFINED: u32 = 1;
    pub const SUPERVISOR_CALL: u32 = 2;
    pub const PREFETCH_ABORT: u32 = 3;
    pub const DATA_ABORT: u32 = 4;
    pub const BREAKPOINT: u32 = 7;
}

/// What an exception means.
fn meaning(engine: &Engine, number: u32) -> Cause {
    match number {
        exception::UNDEFINED => Cause::IllegalInstruction,
        exception::SUPERVISOR_CALL => Cause::SystemCall,
        // Other aborts come as accesses to memory.
        exception::PREFETCH_ABORT => Cause::Access(Access::Execute, engine.pc()),
        exception::DATA_ABORT => data_abort(engine),
        exception::BREAKPOINT => Cause::Breakpoint,
        _ => Cause::Other("exception"),
    }
}

/// Does what comes before a driver on a real ARM64 machine: [`BOOT`], then [`KERNEL`].
pub fn boot(engine: &Engine, memory: &mut Memory) -> Result<(), String> {
    for (op1, crn, crm, op2, value) in BOOT {
        let register = SystemRegister {
            crn,
            crm,
            op0: 3,
            op1,
            op2,
            value,
        };
        engine.write(&[number::SYSTEM_REGISTER], &[register]);
    }
    let code: Vec<u8> = KERNEL.iter().flat_map(|word| word.to_le_bytes()).collect();
    let mut pointer = 0;
    engine.execute_at_start(memory, &code, |page| {
        pointer = page;
        engine.write(&[number::X0 + 4, number::X29 + 1], &[page, NOWHERE]);
    })?;
    if engine.read::<u64, 1>(&[number::X0 + 4]) == [pointer] {
        return Err("this Unicorn has no pointer authentication".into());
    }
    Ok(())
}

/// Why the last instruction's access was not even looked up: the address is no multiple of its size although the
/// instruction demands that, or has more bits than addresses have.
fn data_abort(engine: &Engine) -> Cause {
    let (word, 4) = engine.bytes::<4>(engine.last.get()) else {
        return Cause::Other("data abort");
    };
    let instruction = u32::from_le_bytes(word);
    // "Loads and stores" of the instruction encoding: exclusive and ordered ones, atomic memory operations.
    let exclusive = instruction >> 24 & 0x3F == 0b00_1000;
    let atomic = instruction >> 24 & 0x3F == 0b11_1000 && instruction & 0x0020_0C00 == 0x0020_0000;
    let [address] = engine.read::<u64, 1>(&[match instruction >> 5 & 31 {
        31 => number::SP,
        base @ 29..31 => number::X29 + base as c_int - 29,
        base => number::X0 + base as c_int,
    }]);
    if (exclusive || atomic) && address & ((1 << (instruction >> 30)) - 1) != 0 {
        Cause::Misaligned(address)
    } else {
        Cause::NoSuchAddress
    }
}
