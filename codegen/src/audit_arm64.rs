//! What ARM64 machine code must not contain in a driver.
//!
//! Cranelift is trusted to translate correctly; this is the check that its choice of instructions stays inside what
//! kernel code at `DISPATCH_LEVEL` may do, whatever a future version or setting does: the base instruction set of ARMv8.0
//! and the extensions that were asked for, general registers only, never `x18` (which holds the processor's control
//! region in kernel code), nothing privileged, no trap, and data only through relocations. A loop of
//! load-exclusive and store-exclusive accesses nothing else in between, because the architecture promises progress only
//! then (Arm Architecture Reference Manual, "Load-Exclusive and Store-Exclusive instruction usage restrictions"), and is
//! followed by a barrier, because it alone would let later accesses pass its store.

use std::collections::BTreeMap;

use bpf2sys_pe_emit::RelocationKind;

use crate::Options;
use crate::instruction_arm64::{Insn, Opcode, Operand, Role, SIZE, SP, SizeCode, registers};

/// The platform register (ARM64 ABI conventions, "Integer registers").
const PLATFORM_REGISTER: u16 = 18;

/// Checks a function's instructions; `relocated` are those that relocations complete, by offset.
pub(crate) fn check(code: &[Insn], relocated: &BTreeMap<u32, RelocationKind>, options: &Options) -> Result<(), String> {
    let signs = code.first().is_some_and(|first| first.op.opcode == Opcode::PACIBSP);
    if signs != options.sign_return_address {
        return Err(format!(
            "the return address is {}signed",
            if signs { "" } else { "not " }
        ));
    }
    let mut unreached = false; // after an instruction that does not go on
    let mut loop_end = 0; // of the last load-exclusive loop, as a position
    for (position, insn) in code.iter().enumerate() {
        let forbidden = |what: &str| Err(format!("{what} at {:#x}: {}", insn.offset, insn.op));
        let Some(role) = insn.role() else {
            return forbidden("an instruction that a driver does not need");
        };
        let relocation = relocated.get(&insn.offset).copied();
        for mut operand in insn.op.operands {
            let Some(registers) = registers(&mut operand) else {
                return forbidden("a register that is not a general one");
            };
            if registers
                .into_iter()
                .flatten()
                .any(|register| *register == PLATFORM_REGISTER)
            {
                return forbidden("the platform register");
            }
            let reads_near = matches!(operand, Operand::PCOffset(_));
            if reads_near && !matches!(role, Role::Jump | Role::Branch | Role::Call | Role::PageAddress) {
                return forbidden("data in code");
            }
        }
        let expected = match role {
            Role::PageAddress => Some(RelocationKind::Arm64Page21),
            Role::Call if insn.target().is_some() => Some(RelocationKind::Arm64Branch26),
            // The second half of an address.
            Role::Compute if insn.op.opcode == Opcode::ADD && insn.op.operands[2] == Operand::Immediate(0) => {
                relocation.filter(|kind| *kind == RelocationKind::Arm64PageOffset12)
            }
            // The same, of what is read there.
            Role::Load(1) if is_plain_load(insn) => {
                relocation.filter(|kind| *kind == RelocationKind::Arm64LoadOffset12)
            }
            _ => None,
        };
        if relocation != expected {
            return forbidden("a wrong or missing relocation");
        }
        match role {
            Role::Atomic(_) if !options.lse => return forbidden("an instruction of ARMv8.1"),
            Role::PointerAuthentication if !options.sign_return_address => {
                return forbidden("an instruction for signed return addresses");
            }
            Role::LandingPad if position != 0 => return forbidden("a landing pad inside the function"),
            Role::Trap if !unreached => return forbidden("a trap"),
            Role::Jump | Role::Branch if leads_to_trap(code, insn) => return forbidden("a branch to a trap"),
            Role::LoadExclusive => match exclusive_loop(&code[position..]) {
                Some(length) => {
                    loop_end = position + length;
                    if !orders_accesses(&code[loop_end..]) {
                        return forbidden("an atomic operation without a barrier");
                    }
                }
                None => return forbidden("a load-exclusive that starts no known loop"),
            },
            Role::StoreExclusive if position >= loop_end => return forbidden("a store-exclusive without its load"),
            _ => {}
        }
        unreached = matches!(role, Role::Jump | Role::Return | Role::Trap);
    }
    Ok(())
}

/// Whether it is `ldr` of 64 bits from a register's address itself.
fn is_plain_load(insn: &Insn) -> bool {
    let address = insn.address();
    insn.op.opcode == Opcode::LDR
        && matches!(insn.op.operands[0], Operand::Register(SizeCode::X, _))
        && address.is_some_and(|address| address.offset == 0 && !address.writeback)
}

/// The number of instructions of the loop that starts with this load-exclusive: at most some arithmetic of the same size and
/// a branch out, then a store-exclusive to the same address and the branch back.
fn exclusive_loop(code: &[Insn]) -> Option<usize> {
    let (start, rest) = code.split_first()?;
    let store = rest
        .iter()
        .position(|insn| !matches!(insn.role(), Some(Role::Compute | Role::Compare | Role::Branch)))?;
    let ([inside @ .., last], [again, ..]) = rest.split_at_checked(store + 1)? else {
        return None;
    };
    let end = again.offset + SIZE;
    let Operand::Register(size, _) = start.op.operands[0] else {
        return None;
    };
    let has_size = |operand: Operand| matches!(operand, Operand::Register(found, _) if found == size);
    let sizes_and_status = match (last.op.operands, again.op.operands[0]) {
        ([Operand::Register(_, a), stored, ..], Operand::Register(_, b)) => has_size(stored) && a == b,
        _ => false,
    };
    let closed = sizes_and_status
        && last.role() == Some(Role::StoreExclusive)
        && last.address() == start.address()
        && again.op.opcode == Opcode::CBNZ
        && again.target() == Some(start.offset);
    let fits = |insn: &Insn| match insn.role() {
        Some(Role::Branch) => insn.target() == Some(end),
        _ => has_size(insn.op.operands[0]),
    };
    (closed && inside.iter().all(fits)).then_some(store + 3)
}

/// Whether the branch goes to an instruction that traps.
fn leads_to_trap(code: &[Insn], branch: &Insn) -> bool {
    let target = branch.target().and_then(|target| code.get((target / SIZE) as usize));
    target.is_some_and(|insn| insn.role() == Some(Role::Trap))
}

/// Whether the code starts with a barrier, accesses to the own stack aside.
fn orders_accesses(code: &[Insn]) -> bool {
    let first = code.iter().find_map(|insn| match insn.role()? {
        Role::Compute => None,
        Role::Load(_) | Role::Store if insn.address().is_some_and(|address| address.base == SP) => None,
        role => Some(role),
    });
    first == Some(Role::Barrier)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use bpf2sys_pe_emit::{Machine, RelocationKind};

    use super::check;
    use crate::Options;
    use crate::instruction_arm64::decode;

    const RET: u32 = 0xD65F_03C0;
    fn plain() -> Options {
        Options {
            machine: Machine::Arm64,
            ..Options::default()
        }
    }

    fn problem(words: &[u32], relocated: &BTreeMap<u32, RelocationKind>, options: &Options) -> Option<String> {
        let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
        match decode(&bytes) {
            Ok(code) => check(&code, relocated, options).err(),
            Err(error) => Some(error),
        }
    }

    #[test]
    fn refuses_traps_privileged_instructions_and_other_registers() {
        let cases = [
            ("mov x18, x1", 0xAA01_03F2_u32),
            ("mov w1, w18", 0x2A12_03E1),
            ("ldr x1, [x18]", 0xF940_0241),
            ("ldr x1, [x2, x18]", 0xF872_6841),
            ("add x0, x1, x18, lsl #3", 0x8B12_0C20),
            ("stp x1, x18, [sp, #16]", 0xA901_4BE1),
            ("fmov d7, x0", 0x9E67_0007),
            ("cnt v16.8b, v16.8b", 0x0E20_5A10),
            ("ldr d0, [x1]", 0xFD40_0020),
            ("str q0, [x1]", 0x3D80_0020),
            ("mrs x0, tpidr_el0", 0xD53B_D040),
            ("msr daifset, #2", 0xD503_42DF),
            ("isb", 0xD503_3FDF),
            ("dsb sy", 0xD503_3F9F),
            ("dmb ishld", 0xD503_39BF),
            ("yield", 0xD503_203F),
            ("wfe", 0xD503_205F),
            ("clrex", 0xD503_3F5F),
            ("svc #0", 0xD400_0001),
            ("hvc #0", 0xD400_0002),
            ("smc #0", 0xD400_0003),
            ("brk #1", 0xD420_0020),
            ("udf #0", 0x0000_0000),
            ("eret", 0xD69F_03E0),
            ("hlt #0", 0xD440_0000),
            ("br x4", 0xD61F_0080),
            ("ret x1", 0xD65F_0020),
            ("retab", 0xD65F_0FFF),
            ("blraa x0, x1", 0xD73F_0801),
            ("paciasp", 0xD503_233F),
            ("pacibsp", 0xD503_237F),
            ("autibsp", 0xD503_23FF),
            ("pacia x0, x1", 0xDAC1_0020),
            ("xpaclri", 0xD503_20FF),
            ("ldr x0, #16", 0x5800_0080),
            ("ldrsw x0, #16", 0x9800_0080),
            ("adr x0, #4", 0x1000_0020),
            ("adrp x0, #4096", 0xB000_0000),
            ("bl #4", 0x9400_0001),
            ("ldadd x0, x1, [x2]", 0xF820_0041),
            ("ldaddal x0, x1, [x2]", 0xF8E0_0041),
            ("casal w0, w1, [x2]", 0x88E0_FC41),
            ("swpalb w0, w1, [x2]", 0x38E0_8041),
            ("ldaxr x0, [x1]", 0xC85F_FC20),
            ("stlxr w2, x3, [x1]", 0xC802_FC23),
            ("ldxr x0, [x1]", 0xC85F_7C20),
            ("ldar x0, [x1]", 0xC8DF_FC20),
            ("ldapr x0, [x1]", 0xF8BF_C020),
            ("stlr x0, [x1]", 0xC89F_FC20),
            ("crc32b w0, w1, w2", 0x1AC2_4020),
            ("prfm pldl1keep, [x0]", 0xF980_0000),
            ("dc civac, x0", 0xD50B_7E20),
            ("irg x0, x1", 0x9ADF_1020),
        ];
        for (name, word) in cases {
            assert!(problem(&[word, RET], &BTreeMap::new(), &plain()).is_some(), "{name}");
        }
    }

    #[test]
    fn a_landing_pad_is_the_first_instruction() {
        const NOP: u32 = 0xD503_201F;
        const LANDING_PAD: u32 = 0xD503_245F;
        assert_eq!(problem(&[LANDING_PAD, RET], &BTreeMap::new(), &plain()), None);
        assert!(problem(&[NOP, LANDING_PAD, RET], &BTreeMap::new(), &plain()).is_some());
        for other in [0xD503_241F, 0xD503_249F, 0xD503_24DF] {
            assert!(
                problem(&[other, RET], &BTreeMap::new(), &plain()).is_some(),
                "bti, bti j, bti jc"
            );
        }
    }

    #[test]
    fn accepts_the_base_instruction_set() {
        let words = [
            0x9AC2_0820, // udiv x0, x1, x2
            0x9B02_0C20, // madd x0, x1, x2, x3
            0x38A2_C820, // ldrsb x0, [x1, w2, sxtw]
            0xF81F_8020, // stur x0, [x1, #-8]
            0xFA41_1804, // ccmp x0, #1, #4, ne
            0xD503_3BBF, // dmb ish
            0xD503_201F, // nop
            0xD63F_0060, // blr x3
            RET,
            0, // behind the end: nothing runs into it
        ];
        assert_eq!(problem(&words, &BTreeMap::new(), &plain()), None);
    }

    #[test]
    fn refuses_ways_to_a_trap() {
        let none = BTreeMap::new();
        for branch in [0xB400_0042, 0x1400_0002, 0x5400_0040] {
            // cbz x2, #8; b #8; b.eq #8
            assert_eq!(problem(&[branch, RET, RET], &none, &plain()), None);
            assert!(problem(&[branch, RET, 0], &none, &plain()).is_some());
        }
    }

    #[test]
    fn extensions_are_for_those_who_ask() {
        let lse = Options { lse: true, ..plain() };
        let signing = Options {
            sign_return_address: true,
            ..plain()
        };
        let none = BTreeMap::new();
        assert_eq!(problem(&[0xF8E0_0041, RET], &none, &lse), None); // ldaddal x0, x1, [x2]
        assert!(problem(&[0x38E0_8041, RET], &none, &lse).is_some()); // swpalb: no eBPF instruction has bytes
        assert_eq!(problem(&[0xD503_237F, 0xD503_23FF, RET], &none, &signing), None);
        assert!(problem(&[RET], &none, &signing).is_some_and(|error| error.contains("not signed")));
    }

    const LOOP: &[u32] = &[
        0xC85F_FF3B, // ldaxr x27, [x25]
        0x8B1A_037C, // add x28, x27, x26
        0xC818_FF3C, // stlxr w24, x28, [x25]
        0xB5FF_FFB8, // cbnz x24, #-12
        0xAA1B_03E0, // mov x0, x27
        0xF900_03FB, // str x27, [sp]
        BARRIER,
        RET,
    ];
    const BARRIER: u32 = 0xD503_3BBF; // dmb ish

    #[test]
    fn exclusives_are_loops_without_other_accesses() {
        let none = BTreeMap::new();
        assert_eq!(problem(LOOP, &none, &plain()), None);
        // cmp x27, x26; b.ne out: compare and exchange
        let exchange = [LOOP[0], 0xEB1A_037F, 0x5400_0061, LOOP[2], 0xB5FF_FF98, BARRIER, RET];
        assert_eq!(problem(&exchange, &none, &plain()), None);
        let wrong = [
            ("a load in between", 1, 0xF940_0041),            // ldr x1, [x2]
            ("a branch elsewhere", 1, 0x5400_0040),           // b.eq #8
            ("arithmetic of another size", 1, 0x0B1A_037C),   // add w28, w27, w26
            ("a store of another size", 2, 0x8818_FF3C),      // stlxr w24, w28, [x25]
            ("a store elsewhere", 2, 0xC818_FF5C),            // stlxr w24, x28, [x26]
            ("no store", 2, 0xD503_201F),                     // nop
            ("another status", 3, 0xB5FF_FFB9),               // cbnz x25, #-12
            ("a branch to the middle", 3, 0xB5FF_FFD8),       // cbnz x24, #-8
            ("no branch back", 3, 0xD503_201F),               // nop
            ("no barrier", 6, 0xD503_201F),                   // nop
            ("an access before the barrier", 4, 0xF940_0041), // ldr x1, [x2]
            ("no load", 0, 0xD503_201F),                      // nop
        ];
        for (name, position, word) in wrong {
            let mut code = LOOP.to_vec();
            code[position] = word;
            assert!(problem(&code, &none, &plain()).is_some(), "{name}");
        }
    }

    #[test]
    fn data_and_functions_are_reached_by_relocations_alone() {
        let code = [
            0x9000_0000, // adrp x0, 0
            0x9100_0000, // add x0, x0, #0
            0x9400_0000, // bl 0
            RET,
        ];
        let kinds = [
            (0, RelocationKind::Arm64Page21),
            (4, RelocationKind::Arm64PageOffset12),
            (8, RelocationKind::Arm64Branch26),
        ];
        let good = BTreeMap::from(kinds);
        assert_eq!(problem(&code, &good, &plain()), None);
        for missing in [0, 8] {
            let mut relocated = good.clone();
            relocated.remove(&missing);
            assert!(problem(&code, &relocated, &plain()).is_some(), "{missing}");
        }
        for (offset, kind) in [(0, kinds[1].1), (8, kinds[0].1), (12, kinds[2].1), (4, kinds[0].1)] {
            let mut relocated = good.clone();
            relocated.insert(offset, kind);
            assert!(problem(&code, &relocated, &plain()).is_some(), "{offset} {kind:?}");
        }
        let load = [code[0], 0xF940_0000, code[2], RET]; // ldr x0, [x0]: its offset counts 8 bytes
        assert!(problem(&load, &good, &plain()).is_some());
    }
}
