//! Which instructions of an image are which program's, found in the file alone, for either machine.
//!
//! Given: an image, and the module in it. Computed: for each program the instructions that may be executed, by following its
//! code from its first instruction through jumps, both ways of conditional branches, and calls of functions of the image. What
//! executed instructions ([`TraceReport`](crate::TraceReport)) leave of them did not run.
//!
//! Safe on any file: nothing is executed, and each offset of the code is looked at once per program.

use std::collections::BTreeMap;

use iced_x86::{Decoder, DecoderOptions, FlowControl};

use crate::image::{Image, Rva, Section, read_u32};
use crate::trace::is_conditional_arm64;
use crate::usermode::UserModeView;

/// The code of a program.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ProgramCode {
    /// Program name.
    pub program: String,
    /// Its instructions and those of the functions that it calls, by ascending RVA. A function that several programs call is in
    /// each of them.
    pub instructions: Vec<CodeInstruction>,
    /// Those of them that jump to where only running them tells. What is only behind such a jump is not in the list.
    pub indirect_jumps: Vec<Rva>,
}

/// An instruction of a program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CodeInstruction {
    /// Its first byte.
    pub rva: Rva,
    /// The instruction behind it, if that can come next, or when a call returns.
    pub next: Option<Rva>,
    /// Where it jumps or what it calls, if it says so itself.
    pub target: Option<Rva>,
    /// Whether it is a conditional branch.
    pub is_conditional: bool,
}

/// Finds the code of each program of `module`, which `image` holds, in the module's order.
pub fn program_code(image: &Image<'_>, module: &UserModeView) -> Vec<ProgramCode> {
    let programs = module.programs.iter().map(|program| {
        let entry = image.rva_of(program.entry.function.get());
        code_from(image, program.name.clone(), entry)
    });
    programs.collect()
}

fn code_from(image: &Image<'_>, program: String, entry: Option<Rva>) -> ProgramCode {
    let mut found = BTreeMap::new();
    let mut indirect_jumps = Vec::new();
    let mut waiting: Vec<Rva> = entry.into_iter().collect();
    while let Some(rva) = waiting.pop() {
        if found.contains_key(&rva.0) {
            continue;
        }
        let Some(step) = step(image, rva) else { continue };
        waiting.extend([step.next, step.target].into_iter().flatten());
        if step.jumps_anywhere {
            indirect_jumps.push(rva);
        }
        found.insert(rva.0, step);
    }
    indirect_jumps.sort_by_key(|rva| rva.0);
    let instructions = found.into_iter().map(|(rva, step)| CodeInstruction {
        rva: Rva(rva),
        next: step.next,
        target: step.target,
        is_conditional: step.is_conditional,
    });
    ProgramCode {
        program,
        instructions: instructions.collect(),
        indirect_jumps,
    }
}

/// Where an instruction can lead.
#[derive(Default)]
struct Step {
    /// The instruction behind it, if it can come next or when a call returns.
    next: Option<Rva>,
    /// Where it jumps or what it calls, if it says so itself.
    target: Option<Rva>,
    is_conditional: bool,
    jumps_anywhere: bool,
}

/// Looks at an instruction; `None` if none is there.
fn step(image: &Image<'_>, rva: Rva) -> Option<Step> {
    let section = image.section_at(rva).filter(|section| section.has(Section::EXECUTE))?;
    let code = image.raw_data(section)?.get((rva.0 - section.rva.0) as usize..)?;
    match image.machine {
        Image::ARM64 => Some(step_arm64(read_u32(code, 0)?, rva)),
        _ => step_x64(code, rva),
    }
}

fn step_x64(code: &[u8], rva: Rva) -> Option<Step> {
    let mut decoder = Decoder::with_ip(64, code, rva.0.into(), DecoderOptions::NONE);
    let instruction = decoder.decode();
    if instruction.is_invalid() {
        return None;
    }
    let place = |address| u32::try_from(address).ok().map(Rva);
    let (next, target) = (place(instruction.next_ip()), place(instruction.near_branch_target()));
    Some(match instruction.flow_control() {
        FlowControl::Next | FlowControl::IndirectCall | FlowControl::XbeginXabortXend => Step {
            next,
            ..Step::default()
        },
        FlowControl::UnconditionalBranch => Step {
            target,
            ..Step::default()
        },
        FlowControl::ConditionalBranch => Step {
            next,
            target,
            is_conditional: true,
            ..Step::default()
        },
        // A system call, too, which names no target.
        FlowControl::Call => Step {
            next,
            target: target.filter(|_| instruction.is_call_near()),
            ..Step::default()
        },
        FlowControl::IndirectBranch => Step {
            jumps_anywhere: true,
            ..Step::default()
        },
        FlowControl::Return | FlowControl::Interrupt | FlowControl::Exception => Step::default(),
    })
}

/// "Branches, Exception Generating and System instructions" of the "Arm Architecture Reference Manual for A-profile".
fn step_arm64(word: u32, rva: Rva) -> Step {
    let next = rva.0.checked_add(4).map(Rva);
    // A signed number of instructions in `bits` bits from bit `low` on.
    let target = |low: u32, bits: u32| {
        let distance = (word << (32 - low - bits)).cast_signed() >> (32 - bits);
        rva.0.checked_add_signed(distance.wrapping_mul(4)).map(Rva)
    };
    if is_conditional_arm64(word) {
        // `TBZ` and `TBNZ` say which bit they test in the upper part of the field.
        let is_test_of_bit = word >> 25 & 0b011_1111 == 0b01_1011;
        return Step {
            next,
            target: target(5, if is_test_of_bit { 14 } else { 19 }),
            is_conditional: true,
            ..Step::default()
        };
    }
    match word >> 26 {
        // `B`
        0b00_0101 => {
            return Step {
                target: target(0, 26),
                ..Step::default()
            };
        }
        // `BL`
        0b10_0101 => {
            return Step {
                next,
                target: target(0, 26),
                ..Step::default()
            };
        }
        _ => {}
    }
    // Branches to a register: `BR`, `BLR`, and what returns. A bit says whether the address is authenticated.
    if word >> 25 == 0b110_1011 {
        return match word >> 21 & 0b0111 {
            0 => Step {
                jumps_anywhere: true,
                ..Step::default()
            },
            1 => Step {
                next,
                ..Step::default()
            },
            _ => Step::default(),
        };
    }
    // `UDF`, and `BRK`.
    let stops = word >> 16 == 0 || word & 0xFFE0_001F == 0xD420_0000;
    Step {
        next: next.filter(|_| !stops),
        ..Step::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn branches_of_arm64_lead_where_the_manual_says() {
        let at = Rva(0x1000);
        // `b.ne`, `cbz`, `tbnz` with bit 37, `b`, `bl` backwards; then `br`, `blr`, `blraa`, `ret`, `retaa`, `brk`, `udf`, `add`.
        let cases = [
            (0x5400_0041, Some(0x1004), Some(0x1008), true, false),
            (0xB4FF_FFE0, Some(0x1004), Some(0x0FFC), true, false),
            (0xB72F_FFE0, Some(0x1004), Some(0x0FFC), true, false),
            (0x1400_0004, None, Some(0x1010), false, false),
            (0x97FF_FFFC, Some(0x1004), Some(0x0FF0), false, false),
            (0xD61F_0100, None, None, false, true),
            (0xD63F_0100, Some(0x1004), None, false, false),
            (0xD73F_0901, Some(0x1004), None, false, false),
            (0xD65F_03C0, None, None, false, false),
            (0xD65F_0BFF, None, None, false, false),
            (0xD43E_0000, None, None, false, false),
            (0x0000_0001, None, None, false, false),
            (0x9100_0400, Some(0x1004), None, false, false),
        ];
        for (word, next, target, is_conditional, jumps_anywhere) in cases {
            let step = step_arm64(word, at);
            let found = (step.next, step.target, step.is_conditional, step.jumps_anywhere);
            let expected = (next.map(Rva), target.map(Rva), is_conditional, jumps_anywhere);
            assert_eq!(found, expected, "{word:#010x}");
        }
    }

    #[test]
    fn branches_of_x64_lead_where_they_say() {
        let at = Rva(0x1000);
        // `je`, `loop`, `jmp`, `call`; then `call` and `jmp` of registers, `ret`, `int3`, `ud2`, `syscall`, `nop`, and nothing.
        let cases: [(&[u8], _); 12] = [
            (b"\x74\xFE", Some((Some(0x1002), Some(0x1000), true, false))),
            (b"\xE2\x10", Some((Some(0x1002), Some(0x1012), true, false))),
            (b"\xE9\xFB\x0F\0\0", Some((None, Some(0x2000), false, false))),
            (
                b"\xE8\xFB\xFF\xFF\xFF",
                Some((Some(0x1005), Some(0x1000), false, false)),
            ),
            (b"\xFF\xD0", Some((Some(0x1002), None, false, false))),
            (b"\xFF\xE0", Some((None, None, false, true))),
            (b"\xC3", Some((None, None, false, false))),
            (b"\xCC", Some((None, None, false, false))),
            (b"\x0F\x0B", Some((None, None, false, false))),
            (b"\x0F\x05", Some((Some(0x1002), None, false, false))),
            (b"\x90", Some((Some(0x1001), None, false, false))),
            (b"\x06", None),
        ];
        for (code, expected) in cases {
            let place = |rva: Option<u32>| rva.map(Rva);
            let expected = expected.map(|(next, target, a, b)| (place(next), place(target), a, b));
            let found = step_x64(code, at);
            let found = found.map(|step| (step.next, step.target, step.is_conditional, step.jumps_anywhere));
            assert_eq!(found, expected, "{code:x?}");
        }
    }
}
