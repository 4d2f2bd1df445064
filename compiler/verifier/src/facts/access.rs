//! Where a memory access goes.
//!
//! Given: an instruction, and what is known of its registers. Computed: the region of its access and where in it.
//! Safe because: the program is proven, so an access through a pointer into a region lies in that region; what lies around it
//! is what is known of the pointer, moved by the instruction's offset.

use std::ops::Range;

use bpf2sys_bytecode::{Instruction, Reg, WordSize};

use super::FRAME_BYTES;
use super::register::{Object, RegisterFact, RegisterKind};

/// The bytes of a function's frame, from its `r10`.
const FRAME: Range<i32> = -FRAME_BYTES..0;

/// Where a load, store or atomic operation goes, in every execution.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AccessFact {
    /// What its bytes lie in.
    pub region: Region,
    /// Distance in bytes from the region's start to the first byte, smallest and largest, where known. For the start see
    /// [`RegisterFact::offset`].
    pub offset: Option<(i32, i32)>,
    /// Bytes that it accesses: 1, 2, 4 or 8.
    pub width: u32,
    /// That many bytes, from the first that it accesses on, lie in the region; at least `width`.
    pub room: u32,
}

/// What the bytes of an access lie in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Region {
    /// The stack: the function's own frame if the offset is known, else those of active functions; maybe more than one.
    Stack,
    /// The context.
    Context,
    /// The packet, or the metadata in front of it.
    Packet,
    /// A map value or a section of global variables; which, where known.
    Shared(Option<Object>),
}

pub(super) fn of(op: &Instruction, fact: impl Fn(Reg) -> RegisterFact) -> Option<AccessFact> {
    let (base, offset, width) = accessed(op)?;
    let pointer = fact(base);
    let region = match pointer.kind {
        RegisterKind::Stack => Region::Stack,
        RegisterKind::Context => Region::Context,
        RegisterKind::Packet => Region::Packet,
        RegisterKind::MapValue => Region::Shared(pointer.object),
        RegisterKind::Unknown | RegisterKind::Number | RegisterKind::Map | RegisterKind::MapOfPrograms => return None,
    };
    let offset = i32::from(offset);
    let moved = |(low, high): (i32, i32)| {
        let (low, high) = (low.checked_add(offset)?, high.checked_add(offset)?);
        // The verifier lets a function write into its caller's frame, which lies above its own.
        let own = FRAME.start <= low && high.checked_add_unsigned(width)? <= FRAME.end;
        (own || region != Region::Stack).then_some((low, high))
    };
    // In front of the pointer lie bytes of the region only as far as the region starts there.
    let ahead = match pointer.offset {
        _ if offset >= 0 => pointer.room.saturating_sub(offset.unsigned_abs()),
        Some((low, _)) if region != Region::Stack && low.saturating_add(offset) >= 0 && pointer.room > 0 => {
            pointer.room.saturating_add(offset.unsigned_abs())
        }
        _ => 0,
    };
    Some(AccessFact {
        region,
        offset: pointer.offset.and_then(moved),
        width,
        room: ahead.max(width),
    })
}

/// The base, offset and width in bytes of an access.
pub(crate) fn accessed(op: &Instruction) -> Option<(Reg, i16, u32)> {
    match *op {
        Instruction::Load {
            width, base, offset, ..
        }
        | Instruction::Store {
            width, base, offset, ..
        } => Some((base, offset, width.bytes())),
        Instruction::Atomic { size, base, offset, .. } => {
            let width = match size {
                WordSize::W32 => 4,
                WordSize::W64 => 8,
            };
            Some((base, offset, width))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use bpf2sys_bytecode::Width;

    use super::*;

    #[test]
    fn the_bytes_around_an_access_are_those_around_its_pointer() {
        let pointer = |kind, offset, room| RegisterFact {
            kind,
            offset: Some(offset),
            room,
            ..RegisterFact::default()
        };
        let packet = |low, room| pointer(RegisterKind::Packet, (low, low + 4), room);
        let cases = [
            // The packet goes on behind the access.
            (packet(14, 20), 12, Some((26, 30)), 8),
            (packet(14, 20), 16, Some((30, 34)), 4),
            // What is not known of the pointer is still known of the access.
            (packet(14, 0), 16, Some((30, 34)), 4),
            (packet(14, 20), -2, Some((12, 16)), 22),
            (packet(14, 20), -14, Some((0, 4)), 34),
            (packet(14, 0), -14, Some((0, 4)), 4),
            // In front of the packet there may be nothing.
            (packet(14, 20), -15, Some((-1, 3)), 4),
            (pointer(RegisterKind::Stack, (-16, -16), 16), -8, Some((-24, -24)), 4),
            (pointer(RegisterKind::Stack, (-16, -16), 16), 4, Some((-12, -12)), 12),
            // Across the top of the frame, into the caller's.
            (pointer(RegisterKind::Stack, (-8, -8), 8), 6, None, 4),
            (pointer(RegisterKind::Stack, (0, 0), 0), -4, Some((-4, -4)), 4),
        ];
        for (base, offset, expected, room) in cases {
            let load = Instruction::Load {
                width: Width::W,
                signed: false,
                dst: Reg::R0,
                base: Reg::R1,
                offset,
            };
            let found = of(&load, |_| base).unwrap();
            assert_eq!(
                (found.offset, found.room, found.width),
                (expected, room, 4),
                "{base:?} {offset}"
            );
        }
        assert_eq!(of(&Instruction::Exit, |_| packet(0, 4)), None);
        let number = RegisterFact {
            kind: RegisterKind::Number,
            ..RegisterFact::default()
        };
        let store = Instruction::Store {
            width: Width::B,
            base: Reg::R1,
            offset: 0,
            src: bpf2sys_bytecode::Operand::Imm(0),
        };
        assert_eq!(of(&store, |_| number), None);
    }
}
