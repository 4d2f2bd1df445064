//! What a register or a cell of the stack holds.

use bpf2sys_bytecode::{MapIndex, Reg};

use super::num::Num;

/// Names a number that does not change: every value with this identity is it plus the value's own distance.
pub(super) type Id = u32;

/// No identity: nothing else is known to be this value.
pub(super) const NONE: Id = 0;
/// Bytes in the packet.
pub(super) const PACKET_SIZE: Id = 1;
/// Offset of the metadata from the start of the packet.
pub(super) const META: Id = 2;
/// The first identity that is free.
pub(super) const FIRST: Id = 3;

/// What is known of a value.
///
/// Of a number, `num` is what it can be; of a pointer, its distance in bytes from the start of what it points into, as a
/// signed number: of the stack, from the `r10` of its frame. An identity names the same number. Of a pointer that may be
/// null the identity is its own, and it has no distance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Value {
    pub kind: Kind,
    /// Whether a pointer may be null.
    pub nullable: bool,
    pub id: Id,
    /// This value minus the number that `id` names, as exact numbers where it is not 0.
    pub delta: i64,
    pub num: Num,
}

/// What kind of value it is, and what a pointer points into.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Nothing that may be used.
    Nothing(Why),
    Number,
    Context,
    Packet,
    /// The frame with this number; the program's own is 0.
    Stack(u32),
    /// A value of a map, or of a map made from it if it is a template; a section of global variables has a map too.
    MapValue(Table),
    /// A map.
    Map(Table),
    /// A map of programs.
    Programs(Table),
    /// A pointer of which only its kind is known.
    Opaque(Opaque),
}

/// A map of the module, or some map that is made from it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Table {
    pub map: MapIndex,
    /// Whether it came out of a map of maps.
    pub made: bool,
}

/// What helpers give pointers to that no program may follow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Opaque {
    Socket,
    KernelObject,
    Allocated,
    /// The value of a map of which nothing is known.
    Unknown,
}

/// Why there is nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Why {
    /// This register was never written.
    NeverWritten(Reg),
    /// This register was an argument of a call, or free to it, at an instruction of the function.
    Clobbered(Reg, u32),
    /// It was read from the stack, at this distance if that is known.
    Stack(Option<i16>),
    /// It is a part of a pointer field of the context.
    PartOfPointer,
    /// A helper may have moved the packet.
    PacketMoved,
    /// It was a pointer into the frame of a function that has returned.
    FrameGone,
    /// Kinds that do not go together came together.
    Mixed(Sort, Sort),
}

/// A kind without what it points into.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sort {
    Nothing,
    Number,
    Context,
    Packet,
    Stack,
    MapValue,
    Map,
    Programs,
    Socket,
    KernelObject,
    Allocated,
}

impl Kind {
    pub fn sort(self) -> Sort {
        match self {
            Kind::Nothing(_) => Sort::Nothing,
            Kind::Number => Sort::Number,
            Kind::Context => Sort::Context,
            Kind::Packet => Sort::Packet,
            Kind::Stack(_) => Sort::Stack,
            Kind::MapValue(_) | Kind::Opaque(Opaque::Unknown) => Sort::MapValue,
            Kind::Map(_) => Sort::Map,
            Kind::Programs(_) => Sort::Programs,
            Kind::Opaque(Opaque::Socket) => Sort::Socket,
            Kind::Opaque(Opaque::KernelObject) => Sort::KernelObject,
            Kind::Opaque(Opaque::Allocated) => Sort::Allocated,
        }
    }

    pub fn is_nothing(self) -> bool {
        matches!(self, Kind::Nothing(_))
    }

    /// Whether it is something other than a number.
    pub fn is_pointer(self) -> bool {
        !matches!(self, Kind::Nothing(_) | Kind::Number)
    }

    /// Whether numbers can be added.
    pub fn has_distance(self) -> bool {
        matches!(self, Kind::Context | Kind::Packet | Kind::Stack(_) | Kind::MapValue(_))
    }
}

impl Value {
    pub const fn nothing(why: Why) -> Value {
        Value {
            kind: Kind::Nothing(why),
            nullable: false,
            id: NONE,
            delta: 0,
            num: Num::ANY,
        }
    }

    pub const fn number(num: Num) -> Value {
        Value {
            kind: Kind::Number,
            nullable: false,
            id: NONE,
            delta: 0,
            num,
        }
    }

    pub fn constant(value: u64) -> Value {
        Value::number(Num::of(value))
    }

    /// A pointer to a byte of known distance.
    pub fn pointer(kind: Kind, distance: i64) -> Value {
        Value {
            kind,
            ..Value::constant(distance.cast_unsigned())
        }
    }

    pub fn is_number(&self) -> bool {
        self.kind == Kind::Number
    }

    /// The one number that it is.
    pub fn as_constant(&self) -> Option<u64> {
        self.num.constant().filter(|_| self.is_number())
    }

    /// The number behind it without its distance: its identity, or none and the number itself.
    pub fn name(&self) -> Name {
        match self.num.constant() {
            Some(value) if !self.nullable => Name::Constant(value.cast_signed()),
            _ if self.id != NONE => Name::Identity(self.id, self.delta),
            _ => Name::None,
        }
    }
}

/// What else is the same number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Name {
    None,
    Constant(i64),
    Identity(Id, i64),
}
