//! The memory of a run: regions with exact bounds and nothing between them.

use bpf2sys_bytecode::{GlobalIndex, MapIndex};

/// What a region is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// The context structure.
    Context,
    /// The packet, metadata included.
    Packet,
    /// The stack with all its frames.
    Stack,
    /// A value of a map.
    Value(MapIndex),
    /// A section of global variables.
    Global(GlobalIndex),
}

/// Bytes at an address.
#[derive(Clone, Debug)]
pub(super) struct Region {
    pub(super) kind: Kind,
    pub(super) start: u64,
    pub(super) bytes: Vec<u8>,
    /// For the stack: which bytes hold a value.
    pub(super) written: Vec<bool>,
    pub(super) read_only: bool,
}

impl Region {
    pub(super) fn end(&self) -> u64 {
        self.start + self.bytes.len() as u64
    }
}

/// All regions.
#[derive(Clone, Debug, Default)]
pub(super) struct Memory {
    pub(super) regions: Vec<Region>,
}

impl Memory {
    /// The region that holds all of these bytes, and where in it they begin.
    pub(super) fn find(&self, address: u64, length: u64) -> Option<(usize, usize)> {
        self.regions.iter().enumerate().find_map(|(index, region)| {
            let offset = address.checked_sub(region.start)?;
            let size = region.bytes.len() as u64;
            (offset <= size && length <= size - offset).then_some((index, offset as usize))
        })
    }

    /// Where an address is, for people.
    pub(super) fn near(&self, address: u64) -> String {
        let distance = |region: &Region| {
            if address < region.start {
                region.start - address
            } else {
                address.saturating_sub(region.end())
            }
        };
        match self.regions.iter().min_by_key(|region| distance(region)) {
            Some(region) if distance(region) < 1 << 20 => {
                let offset = address.wrapping_sub(region.start).cast_signed();
                format!("{:?} of {} bytes at offset {offset}", region.kind, region.bytes.len())
            }
            _ if address < 0x1000 => "a null pointer".to_owned(),
            _ => "no region is near".to_owned(),
        }
    }
}
