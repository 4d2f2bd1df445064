//! One ARM64 instruction ("Arm Architecture Reference Manual for A-profile", C4.1).

use bpf2sys_simulator::image::Rva;
use yaxpeax_arch::{Decoder, U8Reader};
use yaxpeax_arm::armv8::a64::InstDecoder;

use super::{Around, Known, Scan, Slot, Step, Value};

/// The platform register.
const X18: u32 = 18;
/// The stack pointer, or the zero register.
const SP: usize = 31;

pub(super) fn step(around: &Around<'_, '_>, rva: u32, code: &[u8], known: &mut Known, scan: &mut Scan) -> Step {
    let Some(bytes) = code.first_chunk::<4>() else {
        return Step::default();
    };
    let word = u32::from_le_bytes(*bytes);
    let place = || format!("{}: {word:#010x}", around.subject.place(Rva(rva)));
    let ends = Step {
        length: 4,
        ..Step::default()
    };
    // SVE and SME have groups of encodings of their own; UDF is all that is defined of the rest.
    match word >> 25 & 0xF {
        0b0010 => {
            scan.vector.add(place);
            return ends;
        }
        0b0000 if word >> 16 == 0 => return ends,
        0b0000 if word >> 31 == 1 => {
            scan.vector.add(place);
            return ends;
        }
        0b0000 | 0b0001 | 0b0011 => return Step::default(),
        _ => {}
    }
    if InstDecoder::default().decode(&mut U8Reader::new(bytes)).is_err() {
        return Step::default();
    }
    if is_privileged(word) {
        scan.privileged.add(place);
    }
    let written = written(word);
    if written & 1 << X18 != 0 {
        scan.platform_register.add(place);
    }
    if scan.function_at(rva).is_none() && makes_frame(word) {
        scan.uncovered.add(place);
    }
    if word & 0xFFFF_FC1F == 0xD63F_0000 || word & 0xFEFF_F800 == 0xD63F_0800 {
        let register = (word >> 5 & 31) as usize;
        match around.slot_in(known.registers[register]) {
            Slot::Check => {
                known.checked = true;
                // The check function gives back x0 to x8 and x15.
                for number in (9..=14).chain(16..=17) {
                    known.registers[number] = Value::Unknown;
                }
                return follow(word, rva);
            }
            Slot::Import => {}
            Slot::Dispatch => scan.guarded_calls += 1,
            Slot::Other if known.checked => scan.guarded_calls += 1,
            Slot::Other => scan.unguarded.add(place),
        }
    }
    learn(word, rva, written, known, scan);
    follow(word, rva)
}

/// `length` bits from bit `low`, as a signed number.
fn signed(word: u32, low: u32, length: u32) -> i64 {
    let field = word >> low << (32 - length);
    i64::from(field.cast_signed() >> (32 - length))
}

fn is_call(word: u32) -> bool {
    word & 0xFC00_0000 == 0x9400_0000 || word & 0xFFFF_FC1F == 0xD63F_0000 || word & 0xFEFF_F800 == 0xD63F_0800
}

fn follow(word: u32, rva: u32) -> Step {
    let to = |words: i64| Some(i64::from(rva) + 4 * words);
    let (continues, target) = match word {
        // B, BL
        _ if word & 0xFC00_0000 == 0x1400_0000 => (false, to(signed(word, 0, 26))),
        _ if word & 0xFC00_0000 == 0x9400_0000 => (true, to(signed(word, 0, 26))),
        // B.cond, CBZ, CBNZ
        _ if word & 0xFF00_0000 == 0x5400_0000 || word & 0x7E00_0000 == 0x3400_0000 => (true, to(signed(word, 5, 19))),
        // TBZ, TBNZ
        _ if word & 0x7E00_0000 == 0x3600_0000 => (true, to(signed(word, 5, 14))),
        // BLR and its signed forms
        _ if is_call(word) => (true, None),
        // BR, RET, ERET and their signed forms
        _ if word & 0xFE00_0000 == 0xD600_0000 => (false, None),
        // BRK
        _ if word & 0xFFE0_001F == 0xD420_0000 => (false, None),
        _ => (true, None),
    };
    Step {
        length: 4,
        continues,
        target,
        calls: is_call(word),
    }
}

/// Exceptions but BRK, ERET and its signed forms, maintenance of caches and address translation that user mode can't do, reads of
/// system registers that user mode can't read, and writes of system registers but the flags and those of floating point.
fn is_privileged(word: u32) -> bool {
    let raises = word & 0xFF00_0000 == 0xD400_0000 && word & 0xFFE0_001F != 0xD420_0000;
    let returns = word & 0xFFFF_F3E0 == 0xD69F_03E0;
    let system = matches!(word & 0xFFF8_0000, 0xD508_0000 | 0xD528_0000) || word & 0xFFF0_0000 == 0xD530_0000;
    // SYS, SYSL and MRS: what user mode can do has 3 here (op1).
    let denied = system && word >> 16 & 7 != 3;
    // MSR (immediate): op1, CRm and op2 say which field.
    let sets_field = word & 0xFFF8_F01F == 0xD500_401F && word >> 5 & 7 != 0;
    // MSR (register) of anything but NZCV, FPCR and FPSR.
    let writes =
        word & 0xFFF0_0000 == 0xD510_0000 && !matches!(word & 0xFFFF_FFE0, 0xD51B_4200 | 0xD51B_4400 | 0xD51B_4420);
    raises || returns || denied || sets_field || writes
}

/// The general registers that an instruction writes, as bits; bit 31 is the stack pointer or none.
fn written(word: u32) -> u32 {
    let at = |low: u32| 1u32 << (word >> low & 31);
    let (destination, base) = (at(0), at(5));
    let vector = word >> 26 & 1 == 1;
    match word >> 25 & 0xF {
        // Data processing, immediate
        0b1000 | 0b1001 => destination,
        // MRS, SYSL
        0b1010 | 0b1011 if matches!(word & 0xFFF0_0000, 0xD530_0000) || word & 0xFFF8_0000 == 0xD528_0000 => {
            destination
        }
        // Calls write the link register; nothing else of this group writes one.
        0b1010 | 0b1011 => u32::from(is_call(word)) << 30,
        // Data processing, register; conditional compares write flags only.
        0b0101 | 0b1101 if word & 0x1FE0_0000 == 0x1A40_0000 => 0,
        0b0101 | 0b1101 => destination,
        // Vectors: moves and conversions to general registers.
        0b0111 | 0b1111 => {
            let converts = word & 0x5F20_FC00 == 0x1E20_0000 && matches!(word >> 16 & 7, 0 | 1 | 4 | 5 | 6);
            let fixed = word & 0x5F20_0000 == 0x1E00_0000 && matches!(word >> 16 & 7, 0 | 1);
            let moves = matches!(word & 0xBFE0_FC00, 0x0E00_2C00 | 0x0E00_3C00);
            if converts || fixed || moves { destination } else { 0 }
        }
        // Loads and stores
        _ => match word {
            // Exclusive, ordered, compare and swap
            _ if word & 0x3F00_0000 == 0x0800_0000 => {
                let (pair, load, second) = (word >> 21 & 1 == 1, word >> 22 & 1 == 1, at(10));
                match (word >> 23 & 1 == 1, load) {
                    (true, _) if pair => at(16),
                    (true, true) => destination,
                    (true, false) => 0,
                    // Bit 31 tells pairs of exclusive accesses from CASP.
                    (false, _) if pair && word >> 31 == 0 => at(16) | at(16) << 1,
                    (false, true) => destination | if pair { second } else { 0 },
                    (false, false) => at(16),
                }
            }
            // LDR (literal); PRFM has opc 3.
            _ if word & 0x3B00_0000 == 0x1800_0000 => {
                if vector || word >> 30 == 3 {
                    0
                } else {
                    destination
                }
            }
            // LDP, STP
            _ if word & 0x3A00_0000 == 0x2800_0000 => {
                let results = if word >> 22 & 1 == 1 && !vector {
                    destination | at(10)
                } else {
                    0
                };
                results | if matches!(word >> 23 & 3, 1 | 3) { base } else { 0 }
            }
            // One register: offset, index, atomic operation
            _ if word & 0x3A00_0000 == 0x3800_0000 => {
                let (opc, size) = (word >> 22 & 3, word >> 30);
                let scaled = word >> 24 & 1 == 1;
                let kind = word >> 10 & 3;
                let atomic = !scaled && word >> 21 & 1 == 1 && kind == 0;
                let moves_base = !scaled && word >> 21 & 1 == 0 && matches!(kind, 1 | 3);
                let loads = atomic || (opc != 0 && !(opc == 2 && size == 3));
                let result = if loads && !vector { destination } else { 0 };
                result | if moves_base { base } else { 0 }
            }
            // LDAPUR
            _ if word & 0x3F20_0C00 == 0x1900_0000 && word >> 22 & 3 != 0 => destination,
            // Vector structures move the base with the post-indexed forms.
            _ if word & 0xBE80_0000 == 0x0C80_0000 => base,
            _ => 0,
        },
    }
}

/// Whether a function with this instruction needs unwind data.
fn makes_frame(word: u32) -> bool {
    // sub sp, sp, #n
    let takes = word & 0xFF80_03FF == 0xD100_03FF;
    // stp and str with the stack pointer moved before
    let pushes = word & 0x3BC0_03E0 == 0x2980_03E0 || word & 0x3BE0_0FE0 == 0x3800_0FE0;
    takes || pushes || is_call(word)
}

/// What is known after an instruction.
fn learn(word: u32, rva: u32, written: u32, known: &mut Known, scan: &mut Scan) {
    let (destination, base) = ((word & 31) as usize, (word >> 5 & 31) as usize);
    let of = |register: usize| {
        if register == SP {
            Value::Unknown
        } else {
            known.registers[register]
        }
    };
    let result = match word {
        // ADRP
        _ if word & 0x9F00_0000 == 0x9000_0000 => {
            let pages = signed(word, 5, 19) << 2 | i64::from(word >> 29 & 3);
            let page = i64::from(rva & !0xFFF) + (pages << 12);
            u32::try_from(page).map_or(Value::Unknown, Value::Address)
        }
        // ADR
        _ if word & 0x9F00_0000 == 0x1000_0000 => {
            let distance = signed(word, 5, 19) << 2 | i64::from(word >> 29 & 3);
            u32::try_from(i64::from(rva) + distance).map_or(Value::Unknown, Value::Address)
        }
        // ADD (immediate), 64 bits
        _ if word & 0xFF80_0000 == 0x9100_0000 => match of(base) {
            Value::Address(from) => {
                let immediate = (word >> 10 & 0xFFF) << (12 * (word >> 22 & 1));
                from.checked_add(immediate).map_or(Value::Unknown, Value::Address)
            }
            _ => Value::Unknown,
        },
        // LDR (immediate, unsigned offset), 64 bits
        _ if word & 0xFFC0_0000 == 0xF940_0000 => match of(base) {
            Value::Address(from) => from
                .checked_add((word >> 10 & 0xFFF) * 8)
                .map_or(Value::Unknown, Value::Loaded),
            _ => Value::Unknown,
        },
        // MOV (register), 64 bits
        _ if word & 0xFFE0_FFE0 == 0xAA00_03E0 => of((word >> 16 & 31) as usize),
        _ => Value::Unknown,
    };
    // ADRP gives the page of some function, and ADD the function.
    if word & 0x9F00_0000 == 0x1000_0000 || word & 0xFF80_0000 == 0x9100_0000 {
        scan.take(result);
    }
    if is_call(word) {
        known.checked = false;
        for register in &mut known.registers[..=17] {
            *register = Value::Unknown;
        }
        known.registers[30] = Value::Unknown;
        return;
    }
    for register in (0..31).filter(|register| written & 1 << register != 0) {
        known.registers[register as usize] = Value::Unknown;
    }
    if destination != SP && written & 1 << destination != 0 {
        known.registers[destination] = result;
    }
}

#[cfg(test)]
mod tests {
    use super::{is_privileged, makes_frame, written};

    #[test]
    fn knows_what_is_written() {
        let cases = [
            ("mov x18, x0", 0xAA00_03F2, 1 << 18),
            ("adrp x18, #0", 0x9000_0012, 1 << 18),
            ("ldr x18, [x0]", 0xF940_0012, 1 << 18),
            ("str x18, [x0]", 0xF900_0012, 0),
            ("ldr x0, [x18], #8", 0xF840_8640, 1 | 1 << 18),
            ("ldr x0, [x18, #8]", 0xF940_0640, 1),
            ("ldp x0, x18, [x1]", 0xA940_4820, 1 | 1 << 18),
            ("stp x0, x18, [x1]", 0xA900_4820, 0),
            ("stp x29, x30, [sp, #-16]!", 0xA9BF_7BFD, 1 << 31),
            ("ldaxr x18, [x1]", 0xC85F_FC32, 1 << 18),
            ("stlxr w18, x0, [x1]", 0xC812_FC20, 1 << 18),
            ("stlr x18, [x1]", 0xC89F_FC32, 0),
            ("ldadd x0, x18, [x1]", 0xF820_0032, 1 << 18),
            ("casal x18, x1, [x2]", 0xC8F2_FC41, 1 << 18),
            ("cmp x18, #1", 0xF100_065F, 1 << 31),
            ("ccmp x18, #1, #4, ne", 0xFA41_1A44, 0),
            ("cbz x18, #8", 0xB400_0052, 0),
            ("blr x18", 0xD63F_0240, 1 << 30),
            ("mrs x18, nzcv", 0xD53B_4212, 1 << 18),
            ("prfm pldl1keep, [x0]", 0xF980_0000, 0),
            ("fmov x18, d0", 0x9E66_0012, 1 << 18),
            ("fmov d18, x0", 0x9E67_0012, 0),
            ("umov w18, v0.s[0]", 0x0E04_3C12, 1 << 18),
            ("ldr d18, [x0]", 0xFD40_0012, 0),
        ];
        for (name, word, due) in cases {
            assert_eq!(written(word), due, "{name}");
        }
    }

    #[test]
    fn knows_what_is_privileged() {
        for (name, word) in [
            ("svc #0", 0xD400_0001),
            ("hvc #0", 0xD400_0002),
            ("smc #0", 0xD400_0003),
            ("eret", 0xD69F_03E0),
            ("msr daifset, #2", 0xD503_42DF),
            ("msr ttbr0_el1, x0", 0xD518_2000),
            ("hlt #0", 0xD440_0000),
            ("dcps1", 0xD4A0_0001),
            ("eretaa", 0xD69F_0BFF),
            ("eretab", 0xD69F_0FFF),
            ("tlbi vmalle1", 0xD508_871F),
            ("at s1e1r, x0", 0xD508_7800),
            ("ic iallu", 0xD508_751F),
            ("dc isw, x0", 0xD508_7640),
            ("mrs x0, sctlr_el1", 0xD538_1000),
        ] {
            assert!(is_privileged(word), "{name}");
        }
        for (name, word) in [
            ("brk #0", 0xD420_0000),
            ("msr nzcv, x0", 0xD51B_4200),
            ("mrs x0, nzcv", 0xD53B_4200),
            ("mrs x0, tpidr_el0", 0xD53B_D040),
            ("mrs x0, cntvct_el0", 0xD53B_E040),
            ("dc zva, x0", 0xD50B_7420),
            ("ic ivau, x0", 0xD50B_7520),
            ("dmb ish", 0xD503_3BBF),
            ("nop", 0xD503_201F),
        ] {
            assert!(!is_privileged(word), "{name}");
        }
    }

    #[test]
    fn knows_what_needs_unwind_data() {
        for (name, word, needs) in [
            ("sub sp, sp, #32", 0xD100_83FF, true),
            ("stp x29, x30, [sp, #-16]!", 0xA9BF_7BFD, true),
            ("str x19, [sp, #-16]!", 0xF81F_0FF3, true),
            ("bl #4", 0x9400_0001, true),
            ("add sp, sp, #32", 0x9100_83FF, false),
            ("stp x0, x1, [x2, #-16]!", 0xA9BF_0440, false),
            ("str x0, [sp, #8]", 0xF900_07E0, false),
            ("ret", 0xD65F_03C0, false),
        ] {
            assert_eq!(makes_frame(word), needs, "{name}");
        }
    }
}
