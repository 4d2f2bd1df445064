//! What can be known of a register at one point.

use bpf2sys_bytecode::{GlobalIndex, MapIndex};

use super::interval::{Interval, Range64};

/// What is known of a register before an instruction, in every execution that gets there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct RegisterFact {
    /// What it holds.
    pub kind: RegisterKind,
    /// All 64 bits together are not 0.
    pub non_null: bool,
    /// Its value as a signed 64-bit number; the full range unless it is a number.
    pub signed: Interval,
    /// Its value as an unsigned 64-bit number, both ends included; `None` is the full range, and is what all but numbers
    /// have.
    pub unsigned: Option<(u64, u64)>,
    /// For addresses in the function's own stack frame: the offset in bytes from the function's own `r10`, -512 to 0, if
    /// it is one known value. Pointers into the frame of a caller have none.
    pub stack_offset: Option<i32>,
    /// For pointers that are not null: the distance in bytes from the start of what it points into, smallest and largest.
    /// That start is: of a context, the address that the program was given; of the packet, its first byte, `data` (so the
    /// metadata in front of it has negative offsets); of a map value, its first byte; of a global variable section, its first
    /// byte; of the stack, the function's own `r10`, and then both ends are -512 to 0. The address may lie outside of what it
    /// points into.
    pub offset: Option<(i32, i32)>,
    /// For pointers that are not null: that many bytes from the address on lie in what it points into. 0 is always true.
    pub room: u32,
    /// For a pointer to a map value, null or not: which map or section it points into. For a map: which it is, where
    /// a lookup in a map of maps did not give it.
    pub object: Option<Object>,
}

/// What a register holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum RegisterKind {
    /// Nothing is known.
    #[default]
    Unknown,
    /// A number.
    Number,
    /// A map; null when it came from a lookup in a map of maps whose result was not compared with null yet.
    Map,
    /// A map of programs.
    MapOfPrograms,
    /// A pointer into the context.
    Context,
    /// A pointer into the packet.
    Packet,
    /// A pointer into the stack.
    Stack,
    /// A pointer into a map value or a global variable; null when it came from a lookup whose result was not compared
    /// with null yet.
    MapValue,
}

/// What a pointer to shared memory points into, or which map a register holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Object {
    /// A value of this map, or the map itself: the one that the module's table names at run time.
    Map(MapIndex),
    /// This section of global variables.
    Global(GlobalIndex),
}

impl RegisterFact {
    /// The range of its value; the full range unless it is a number.
    pub fn range(&self) -> Range64 {
        match self.kind {
            RegisterKind::Number => {
                let signed = (self.signed.min, self.signed.max);
                // Contradictions are not made; if there were one, nothing would be known.
                Range64::FULL
                    .within(signed, self.unsigned.unwrap_or((0, u64::MAX)))
                    .unwrap_or(Range64::FULL)
            }
            _ => Range64::FULL,
        }
    }

    /// A number in this range.
    pub fn number(range: Range64) -> RegisterFact {
        RegisterFact {
            kind: RegisterKind::Number,
            non_null: !range.contains(0),
            signed: Interval {
                min: range.signed.0,
                max: range.signed.1,
            },
            unsigned: (range.unsigned != Range64::FULL.unsigned).then_some(range.unsigned),
            ..RegisterFact::default()
        }
    }

    /// The one value that it has.
    pub fn constant(&self) -> Option<u64> {
        let (low, high) = self.range().unsigned;
        (low == high).then_some(low)
    }

    /// What holds for both.
    #[must_use]
    pub fn join(self, other: RegisterFact) -> RegisterFact {
        let non_null = self.non_null && other.non_null;
        if self.kind != other.kind {
            return RegisterFact {
                non_null,
                ..RegisterFact::default()
            };
        }
        let span = |a: (i32, i32), b: (i32, i32)| (a.0.min(b.0), a.1.max(b.1));
        RegisterFact {
            kind: self.kind,
            non_null,
            signed: self.signed.join(other.signed),
            unsigned: match (self.unsigned, other.unsigned) {
                (Some(a), Some(b)) => Some((a.0.min(b.0), a.1.max(b.1))),
                _ => None,
            },
            stack_offset: self.stack_offset.filter(|offset| other.stack_offset == Some(*offset)),
            offset: self.offset.zip(other.offset).map(|(a, b)| span(a, b)),
            room: self.room.min(other.room),
            object: self.object.filter(|object| other.object == Some(*object)),
        }
    }
}
