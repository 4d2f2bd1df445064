//! The memory that a run sees, by address.

use std::ops::Range;

use bpf2sys_bytecode::{GlobalIndex, MapIndex};

/// Where everything lies that a program can have a pointer to. Regions do not touch each other.
#[derive(Clone, Debug, Default)]
pub struct Regions {
    /// `r10` of the program.
    pub stack_end: u64,
    /// The context structure.
    pub context: Range<u64>,
    /// Where the metadata in front of the packet starts; the packet's start if there is none.
    pub meta: u64,
    /// The packet.
    pub packet: Range<u64>,
    /// The addresses that stand for maps: those of the module in its order, then others, which look-ups in maps of maps give.
    pub maps: Vec<u64>,
    /// Values of the module's maps.
    pub values: Vec<(MapIndex, Range<u64>)>,
    /// Global variable sections.
    pub globals: Vec<(GlobalIndex, Range<u64>)>,
}
