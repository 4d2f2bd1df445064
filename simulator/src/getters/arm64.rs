//! The ARM64 instructions that getters are made of ("Arm Architecture Reference Manual for A-profile", C4.1 and C6.2).

use super::{ARGUMENTS, Machine, RETURN, STACK, Unknown};

/// The stack pointer, where an instruction takes it for register 31; elsewhere 31 is the zero register.
const SP: usize = 31;
const LINK: usize = 30;

/// What a caller leaves in the registers (AAPCS64).
pub(super) fn enter(machine: &mut Machine<'_, '_>) {
    let [first, second] = ARGUMENTS.map(Some);
    (machine.registers[0], machine.registers[1]) = (first, second);
    for saved in 18..LINK {
        machine.registers[saved] = Some(0);
    }
    machine.registers[LINK] = Some(RETURN);
    machine.registers[SP] = Some(STACK);
}

/// `length` bits of `word` from bit `low`.
fn bits(word: u32, low: u32, length: u32) -> u32 {
    word >> low & ((1 << length) - 1)
}

/// The same, as a signed number.
fn signed(word: u32, low: u32, length: u32) -> u64 {
    i64::from((bits(word, low, length) << (32 - length)).cast_signed() >> (32 - length)).cast_unsigned()
}

pub(super) fn step(machine: &mut Machine<'_, '_>, code: &[u8]) -> Result<(), Unknown> {
    let word = code.first_chunk().map(|b| u32::from_le_bytes(*b)).ok_or(Unknown)?;
    let mut next = machine.pc.wrapping_add(4);
    let wide = bits(word, 31, 1) == 1;
    let (destination, base) = (bits(word, 0, 5) as usize, bits(word, 5, 5) as usize);
    match word {
        // HINT: NOP, BTI, and signing and checking of return addresses with the stack pointer.
        _ if word & 0xFFFF_F01F == 0xD503_201F => {}
        // ADR, ADRP
        _ if word & 0x1F00_0000 == 0x1000_0000 => {
            let offset = signed(word, 5, 19) << 2 | u64::from(bits(word, 29, 2));
            let value = if wide {
                (machine.pc & !0xFFF).wrapping_add(offset << 12)
            } else {
                machine.pc.wrapping_add(offset)
            };
            put(machine, destination, true, value)?;
        }
        // ADD, SUB (immediate) without flags
        _ if word & 0x3F80_0000 == 0x1100_0000 => {
            let immediate = u64::from(bits(word, 10, 12)) << (12 * bits(word, 22, 1));
            let left = machine.register(base)?;
            let value = if bits(word, 30, 1) == 0 {
                left.wrapping_add(immediate)
            } else {
                left.wrapping_sub(immediate)
            };
            machine.set_register(destination, if wide { value } else { value & 0xFFFF_FFFF })?;
        }
        // MOVN, MOVZ, MOVK
        _ if word & 0x1F80_0000 == 0x1280_0000 => {
            let shift = 16 * bits(word, 21, 2);
            let immediate = u64::from(bits(word, 5, 16)) << shift;
            let value = match bits(word, 29, 2) {
                0 => !immediate,
                2 => immediate,
                3 => get(machine, destination)? & !(0xFFFF << shift) | immediate,
                _ => return Err(Unknown),
            };
            put(machine, destination, wide, value)?;
        }
        // ORR (shifted register) of the zero register, without a shift: MOV
        _ if word & 0x7FE0_FFE0 == 0x2A00_03E0 => {
            let value = get(machine, bits(word, 16, 5) as usize)?;
            put(machine, destination, wide, value)?;
        }
        // STR, LDR (immediate, unsigned offset) of 4 or 8 bytes
        _ if word & 0xBF80_0000 == 0xB900_0000 => {
            let size = 4 << bits(word, 30, 1);
            let at = machine
                .register(base)?
                .wrapping_add(u64::from(bits(word, 10, 12)) * size);
            transfer(machine, word, destination, at, size)?;
        }
        // STUR, LDUR; STR, LDR (immediate, post-index and pre-index)
        _ if word & 0xBFA0_0000 == 0xB800_0000 && bits(word, 10, 2) != 2 => {
            let size = 4 << bits(word, 30, 1);
            let (before, after) = (machine.register(base)?, signed(word, 12, 9));
            let moved = before.wrapping_add(after);
            let at = if bits(word, 10, 2) == 1 { before } else { moved };
            transfer(machine, word, destination, at, size)?;
            if bits(word, 10, 2) != 0 {
                machine.set_register(base, moved)?;
            }
        }
        // STP, LDP (post-index, signed offset, pre-index)
        _ if word & 0x7E00_0000 == 0x2800_0000 && bits(word, 23, 2) != 0 => {
            let size = if wide { 8 } else { 4 };
            let before = machine.register(base)?;
            let moved = before.wrapping_add(signed(word, 15, 7).wrapping_mul(size));
            let at = if bits(word, 23, 2) == 1 { before } else { moved };
            let second = bits(word, 10, 5) as usize;
            transfer(machine, word, destination, at, size)?;
            transfer(machine, word, second, at.wrapping_add(size), size)?;
            if bits(word, 23, 2) != 2 {
                machine.set_register(base, moved)?;
            }
        }
        // LDR (literal)
        _ if word & 0xBF00_0000 == 0x1800_0000 => {
            let at = machine.pc.wrapping_add(signed(word, 5, 19) << 2);
            let value = machine.load(at, 4 << bits(word, 30, 1))?;
            put(machine, destination, true, value)?;
        }
        // B
        _ if word & 0xFC00_0000 == 0x1400_0000 => next = machine.pc.wrapping_add(signed(word, 0, 26) << 2),
        // RET; RETAA, RETAB
        _ if word & 0xFFFF_FC1F == 0xD65F_0000 => next = get(machine, base)?,
        0xD65F_0BFF | 0xD65F_0FFF => next = machine.register(LINK)?,
        _ => return Err(Unknown),
    }
    machine.pc = next;
    Ok(())
}

/// A register, 31 being zero.
fn get(machine: &Machine<'_, '_>, number: usize) -> Result<u64, Unknown> {
    if number == SP { Ok(0) } else { machine.register(number) }
}

fn put(machine: &mut Machine<'_, '_>, number: usize, wide: bool, value: u64) -> Result<(), Unknown> {
    if number == SP {
        return Ok(());
    }
    machine.set_register(number, if wide { value } else { value & 0xFFFF_FFFF })
}

/// Loads or stores one register, as bit 22 says.
fn transfer(machine: &mut Machine<'_, '_>, word: u32, register: usize, at: u64, size: u64) -> Result<(), Unknown> {
    if bits(word, 22, 1) == 1 {
        let value = machine.load(at, size)?;
        put(machine, register, true, value)
    } else {
        let value = get(machine, register)?;
        machine.store(at, size, value);
        Ok(())
    }
}
