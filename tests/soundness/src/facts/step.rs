//! Whether an instruction does what it is said to do.

use std::ops::Range;

use bpf2sys_bytecode::{AluOp, Instruction, Operand, Reg, WordSize};
use bpf2sys_simulator::interpreter::{At, FRAME_BYTES};
use bpf2sys_verifier::{AccessFact, ArithmeticFacts, FunctionFacts, InsnFacts, Object, Region};

use super::registers::{map_address, shared};
use crate::regions::Regions;

/// The facts of an instruction that is about to be executed.
pub(super) fn judge(
    facts: &FunctionFacts,
    known: &InsnFacts,
    op: &Instruction,
    at: &At<'_>,
    regions: &Regions,
) -> Result<(), String> {
    let packet = regions.packet.end - regions.packet.start;
    if u64::from(known.packet_bytes) > packet {
        let said = known.packet_bytes;
        return Err(format!("the packet has {packet} bytes, and is said to have {said}"));
    }
    if let (Some(map), Instruction::Call(_)) = (known.map, op) {
        // Which argument the map is, the judge does not know.
        let address = map_address(Object::Map(map), regions);
        let given = &at.registers[1..6];
        if address.is_some_and(|address| !given.contains(&Some(address))) {
            return Err(format!("the call is said to be given map {}", map.0));
        }
    }
    if let Some(access) = facts.access(at.instruction, op) {
        judge_access(&access, op, at, regions)?;
    }
    judge_arithmetic(facts.arithmetic(at.instruction, op), op, at)
}

fn judge_access(access: &AccessFact, op: &Instruction, at: &At<'_>, regions: &Regions) -> Result<(), String> {
    let Some((address, width)) = accessed(op, at) else {
        return Ok(());
    };
    let r10 = regions.stack_end - FRAME_BYTES * u64::from(at.frames - 1);
    let wrong = |what: &str| Err(format!("the access at {address:#x} {what}: {access:?}"));
    if access.width != width {
        return wrong("has another width");
    }
    let length = u64::from(access.room.max(width));
    let inside = |range: &Range<u64>| range.start <= address && length <= range.end.saturating_sub(address);
    let from = |start: u64| {
        let distance = address.wrapping_sub(start).cast_signed();
        access
            .offset
            .is_none_or(|(low, high)| (i64::from(low)..=i64::from(high)).contains(&distance))
    };
    let holds = match access.region {
        Region::Stack => {
            let own = r10 - FRAME_BYTES;
            // Of an offset that is not known, the frame is not known either.
            let region = if access.offset.is_some() {
                own..r10
            } else {
                own..regions.stack_end
            };
            inside(&region) && from(r10)
        }
        Region::Context => inside(&regions.context) && from(regions.context.start),
        Region::Packet => inside(&(regions.meta..regions.packet.end)) && from(regions.packet.start),
        Region::Shared(object) => shared(object, regions).any(|range| inside(range) && from(range.start)),
    };
    if holds { Ok(()) } else { wrong("goes elsewhere") }
}

/// The first byte and the width of the access that an instruction makes.
pub(super) fn accessed(op: &Instruction, at: &At<'_>) -> Option<(u64, u32)> {
    let (base, offset, width) = match *op {
        Instruction::Load {
            width, base, offset, ..
        }
        | Instruction::Store {
            width, base, offset, ..
        } => (base, offset, width.bytes()),
        Instruction::Atomic { size, base, offset, .. } => (base, offset, if size == WordSize::W32 { 4 } else { 8 }),
        _ => return None,
    };
    let base = at.registers[base.index()]?;
    Some((base.wrapping_add_signed(offset.into()), width))
}

fn judge_arithmetic(facts: ArithmeticFacts, op: &Instruction, at: &At<'_>) -> Result<(), String> {
    if facts == ArithmeticFacts::default() {
        return Ok(());
    }
    let value = |register: Reg| at.registers[register.index()];
    let (size, alu, a, b) = match *op {
        Instruction::Alu { size, op, dst, src } => {
            let src = match src {
                Operand::Reg(src) => value(src),
                Operand::Imm(imm) => Some(i64::from(imm).cast_unsigned()),
            };
            (size, op, value(dst), src)
        }
        Instruction::Neg { size, dst } => (size, AluOp::Sub, Some(0), value(dst)),
        _ => return Err(format!("something is said of arithmetic: {facts:?}")),
    };
    let (Some(a), Some(b)) = (a, b) else { return Ok(()) };
    #[allow(clippy::type_complexity)] // said once
    let (bits, signed, unsigned): (u32, fn(u64) -> i128, fn(u64) -> i128) = match size {
        WordSize::W32 => (32, |x| (x as i32).into(), |x| (x as u32).into()),
        WordSize::W64 => (64, |x| x.cast_signed().into(), Into::into),
    };
    let exact = |a: i128, b: i128| match alu {
        AluOp::Add => a + b,
        AluOp::Sub => a - b,
        AluOp::Mul => a.wrapping_mul(b),
        _ => a.checked_div(b).unwrap_or(0),
    };
    let half = 1_i128 << (bits - 1);
    let checks = [
        (facts.divisor_not_zero, unsigned(b) != 0, "a divisor that is not 0"),
        (
            facts.shift_in_range,
            unsigned(b) < bits.into(),
            "a shift count in range",
        ),
        (
            facts.no_signed_overflow,
            (-half..half).contains(&exact(signed(a), signed(b))),
            "no signed overflow",
        ),
        (
            facts.no_unsigned_overflow,
            (0..2 * half).contains(&exact(unsigned(a), unsigned(b))),
            "no unsigned overflow",
        ),
    ];
    for (said, holds, what) in checks {
        if said && !holds {
            return Err(format!("it is said to have {what}, of {a:#x} and {b:#x}"));
        }
    }
    Ok(())
}
