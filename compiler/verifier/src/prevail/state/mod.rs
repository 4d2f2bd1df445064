//! What the engine knows of the registers at one point, as facts.
//!
//! What it prints of a state is taken apart in [`lines`]. Bounds belong to the number only where the type is `number` and nothing
//! else. For pointers they are about the engine's model of addresses, and only this is taken from them: whether the address can be
//! 0. A null pointer with something added would not be 0 either; but the program does no such arithmetic
//! ([`rules`](super::rules)), and a pointer whose distance from the start of its region is known to lie in it is not 0.
//!
//! Distances count in numbers without end in the engine, and addresses do not. Only distances of less than 2^31 are taken over:
//! there the two agree.

mod lines;

use bpf2sys_bytecode::Reg;
use prevail::crab::ebpf_domain::{DomainContext, EbpfDomain};
use prevail::crab::var_registry::VariableRegistry;

use crate::facts::FRAME_BYTES;
use crate::{Interval, RegisterFact, RegisterKind};

pub(super) use lines::Bounds;
use lines::{CONTEXT, Lines, PACKET, SHARED, STACK, Said, UNBOUNDED, others, read, variable};

/// The registers in a state, and the descriptors of those that are one known map of programs.
pub(super) struct Registers {
    pub facts: [RegisterFact; Reg::COUNT],
    pub program_maps: [Option<i32>; Reg::COUNT],
    /// The descriptors of those that are one known map, of programs or not.
    pub descriptors: [Option<i32>; Reg::COUNT],
    /// In bytes, of those that are context pointers.
    pub context_offsets: [Bounds; Reg::COUNT],
    /// Which may be context pointers.
    pub contexts: [bool; Reg::COUNT],
    /// In bytes, of the map values that those that may be pointers to one point into.
    pub region_sizes: [Bounds; Reg::COUNT],
    /// Bytes in the packet, at least.
    pub packet_bytes: u32,
    /// Whether some number is said to be negative as an unsigned number: then the engine has computed it wrongly (it does
    /// for a 64-bit byte swap of a constant), and what it concludes from it is wrong too.
    pub impossible: bool,
}

/// Reads a state that is not bottom.
pub(super) fn registers(state: &EbpfDomain, context: &DomainContext<'_>, names: &mut VariableRegistry) -> Registers {
    let mut reading = read(state, names);
    let lines = &reading.registers;
    let negative =
        |line: &Lines| line.kind == RegisterKind::Number && line.unsigned.bounds().0.is_some_and(|low| low < 0);
    let impossible = lines.iter().any(negative);
    let context_offsets = lines.each_ref().map(|l| l.offsets[CONTEXT].bounds());
    let contexts = lines.each_ref().map(|l| match l.kind {
        RegisterKind::Context => true,
        RegisterKind::Unknown => !l.same_types.map_or(l.not_context, |first| lines[first].not_context),
        _ => false,
    });
    let non_null = lines.each_ref().map(|l| at_least_one(&l.unsigned, lines));
    others(&mut reading, state, names);

    let lines = &reading.registers;
    let region_sizes = lines.each_ref().map(|l| l.region.bounds());
    let packet = reading.packet_size.bounds().0.unwrap_or(0);
    let frame = lines[Reg::R10.index()].offsets[STACK].bounds();
    let context_size = context
        .program_info
        .program_type
        .ctx_descriptor
        .map_or(0, |c| i128::from(c.size));
    let mut facts = [RegisterFact::default(); Reg::COUNT];
    for ((fact, line), non_null) in facts.iter_mut().zip(lines).zip(non_null) {
        *fact = match line.kind {
            RegisterKind::Number => {
                let (signed, unsigned) = ranges(line.signed.bounds(), line.unsigned.bounds());
                RegisterFact {
                    kind: RegisterKind::Number,
                    non_null: signed.min > 0 || signed.max < 0 || unsigned.is_some_and(|(low, _)| low > 0),
                    signed,
                    unsigned,
                    ..RegisterFact::default()
                }
            }
            kind @ (RegisterKind::Map | RegisterKind::MapOfPrograms) => RegisterFact {
                kind,
                non_null,
                ..RegisterFact::default()
            },
            RegisterKind::Context => pointer(line, CONTEXT, |_, high| context_size - high),
            RegisterKind::Packet => pointer(line, PACKET, |_, high| (packet - high).max(line.to_packet_end)),
            RegisterKind::MapValue => {
                let size = line.region.exactly().unwrap_or(0);
                let fact = pointer(line, SHARED, |_, high| size - high);
                let inside = |(low, high): (i32, i32)| low >= 0 && i128::from(high) <= size;
                RegisterFact {
                    non_null: non_null && fact.offset.is_some_and(inside),
                    ..fact
                }
            }
            RegisterKind::Stack => own_frame(line, frame),
            RegisterKind::Unknown => RegisterFact::default(),
        };
    }
    Registers {
        impossible,
        facts,
        program_maps: lines.each_ref().map(|l| l.program_map),
        descriptors: lines.each_ref().map(|l| l.descriptor),
        context_offsets,
        contexts,
        region_sizes,
        packet_bytes: clamp(packet),
    }
}

/// A pointer into a region that starts at distance 0. `room` computes the bytes from it to the region's end, at least.
fn pointer(line: &Lines, region: usize, room: impl Fn(i128, i128) -> i128) -> RegisterFact {
    let offset = distance(line.offsets[region].bounds());
    let low = line.offsets[region].bounds().0;
    RegisterFact {
        kind: line.kind,
        offset,
        room: match offset {
            Some((low, high)) if low >= 0 => clamp(room(low.into(), high.into())),
            // Of a packet pointer, how far it is from the end can be known without how far it can be from the start.
            None if region == PACKET && low.is_some_and(|low| low >= 0) => clamp(line.to_packet_end),
            _ => 0,
        },
        ..RegisterFact::default()
    }
}

/// A pointer into the running function's frame, or just into the stack.
fn own_frame(line: &Lines, r10: Bounds) -> RegisterFact {
    let relative = match (line.offsets[STACK].bounds(), r10) {
        ((Some(low), Some(high)), (Some(top), Some(same))) if top == same => {
            distance((Some(low - top), Some(high - top)))
        }
        _ => None,
    };
    let offset = relative.filter(|(low, high)| -FRAME_BYTES <= *low && *high <= 0);
    RegisterFact {
        kind: RegisterKind::Stack,
        offset,
        room: offset.map_or(0, |(_, high)| high.unsigned_abs()),
        ..RegisterFact::default()
    }
}

/// Bounds in which distances are the same for the engine and for the machine.
fn distance(bounds: Bounds) -> Option<(i32, i32)> {
    let (low, high) = (i32::try_from(bounds.0?).ok()?, i32::try_from(bounds.1?).ok()?);
    (low <= high).then_some((low, high))
}

fn clamp(bytes: i128) -> u32 {
    bytes.clamp(0, u32::MAX.into()) as u32
}

/// Whether an unsigned number is at least 1, by its own bounds or by those of what it is at least as large as.
fn at_least_one(said: &Said, registers: &[Lines; Reg::COUNT]) -> bool {
    let bounds = match said {
        Said::AtLeast(other) => match variable(other) {
            Some((register, "uvalue")) if register < Reg::COUNT => registers[register].unsigned.bounds(),
            _ => UNBOUNDED,
        },
        said => said.bounds(),
    };
    bounds.0.is_some_and(|low| low >= 1)
}

/// The ranges of one 64-bit number whose value as a signed and as an unsigned number lies within these bounds.
///
/// Bounds that no such number can have, and bounds that contradict each other, are worth nothing.
fn ranges(signed: Bounds, unsigned: Bounds) -> (Interval, Option<(u64, u64)>) {
    let within = |bounds: Bounds, low: i128, high: i128| {
        let (a, b) = (bounds.0.unwrap_or(low), bounds.1.unwrap_or(high));
        (low <= a && a <= b && b <= high).then_some((a, b))
    };
    let unknown = (Interval::FULL, None);
    let (Some(signed), Some(unsigned)) = (
        within(signed, i64::MIN.into(), i64::MAX.into()),
        within(unsigned, 0, u64::MAX.into()),
    ) else {
        return unknown;
    };
    let meet = |a: (i128, i128), b: (i128, i128)| (a.0.max(b.0), a.1.min(b.1));
    // Each view bounds the other where it does not cross the other's wrap-around.
    let two_to_64 = i128::from(u64::MAX) + 1;
    let unsigned = match signed {
        (low, _) if low >= 0 => meet(unsigned, signed),
        (low, high) if high < 0 => meet(unsigned, (low + two_to_64, high + two_to_64)),
        _ => unsigned,
    };
    let signed = match unsigned {
        (_, high) if high <= i64::MAX.into() => meet(signed, unsigned),
        (low, high) if low > i64::MAX.into() => meet(signed, (low - two_to_64, high - two_to_64)),
        _ => signed,
    };
    if signed.0 > signed.1 || unsigned.0 > unsigned.1 {
        return unknown;
    }
    let interval = Interval {
        min: signed.0 as i64,
        max: signed.1 as i64,
    };
    let all = (0, i128::from(u64::MAX));
    let range = (unsigned != all).then_some((unsigned.0 as u64, unsigned.1 as u64));
    (interval, range)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(min: i64, max: i64) -> Interval {
        Interval { min, max }
    }

    #[test]
    fn signed_and_unsigned_bounds_help_each_other() {
        let b = |a, b| (Some(a), Some(b));
        let cases = [
            (b(0, 5), UNBOUNDED, range(0, 5), Some((0, 5))),
            (UNBOUNDED, b(0, 5), range(0, 5), Some((0, 5))),
            (b(-2, -1), UNBOUNDED, range(-2, -1), Some((u64::MAX - 1, u64::MAX))),
            (
                UNBOUNDED,
                b(u64::MAX.into(), u64::MAX.into()),
                range(-1, -1),
                Some((u64::MAX, u64::MAX)),
            ),
            (b(-1, 5), UNBOUNDED, range(-1, 5), None),
            (b(-1, 5), b(0, 9), range(0, 5), Some((0, 9))),
            (b(2, 9), b(0, 5), range(2, 5), Some((2, 5))),
            (UNBOUNDED, b(3, 1 << 63), Interval::FULL, Some((3, 1 << 63))),
            (UNBOUNDED, UNBOUNDED, Interval::FULL, None),
            // Contradictions and impossible bounds.
            (b(0, 5), b(6, 7), Interval::FULL, None),
            (b(5, 0), UNBOUNDED, Interval::FULL, None),
            (b(-1, 1 << 63), UNBOUNDED, Interval::FULL, None),
            (UNBOUNDED, b(-1, 5), Interval::FULL, None),
            (UNBOUNDED, b(0, 1 << 64), Interval::FULL, None),
        ];
        for (signed, unsigned, expected_signed, expected_unsigned) in cases {
            let found = ranges(signed, unsigned);
            assert_eq!(found, (expected_signed, expected_unsigned), "{signed:?} {unsigned:?}");
        }
    }
}
