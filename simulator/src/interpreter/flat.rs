//! A world of named regions, for tests of single instructions and whole programs.

use std::collections::BTreeMap;

use bpf2sys_bytecode::{GlobalIndex, MapIndex};

use super::world::{Denied, HelperResult, World};
use super::{STACK_BYTES, STACK_FILL};

/// What a program may do with a region.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Permission {
    /// Read.
    Read,
    /// Read and write.
    ReadWrite,
}

/// A region to add to a [`FlatWorld`].
#[derive(Clone, Debug)]
pub struct NewRegion {
    /// Name, for messages.
    pub name: String,
    /// Address of the first byte.
    pub base: u64,
    /// Content.
    pub bytes: Vec<u8>,
    /// What programs may do with it.
    pub permission: Permission,
}

struct Region {
    name: String,
    bytes: Vec<u8>,
    permission: Permission,
}

/// A helper of a [`FlatWorld`]: computes `r0` from `r1` to `r5`.
type Helper = Box<dyn FnMut([u64; 5]) -> HelperResult>;

/// A world of regions that do not overlap, and of helpers that are closures. It has no maps and no global variables.
#[derive(Default)]
pub struct FlatWorld {
    /// By address of the first byte.
    regions: BTreeMap<u64, Region>,
    helpers: BTreeMap<i32, Helper>,
}

/// What a flat world cannot do.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FlatError {
    /// A helper that it does not have.
    #[error("there is no helper {0}")]
    NoHelper(i32),
    /// A region that overlaps another one, or the end of the address space.
    #[error("region {0} does not fit where it was put")]
    Overlap(String),
}

impl FlatWorld {
    /// Adds a region.
    ///
    /// # Errors
    /// If it overlaps another one or the end of the address space.
    pub fn add(&mut self, new: NewRegion) -> Result<(), FlatError> {
        let NewRegion {
            name,
            base,
            bytes,
            permission,
        } = new;
        let below = self.regions.range(..=base).next_back();
        let above = self.regions.range(base..).next().map(|(start, _)| *start);
        let end = base.checked_add(bytes.len() as u64);
        let fits = end.is_some_and(|end| above.is_none_or(|start| end <= start))
            && below.is_none_or(|(start, region)| *start < base && base - start >= region.bytes.len() as u64);
        if !fits {
            return Err(FlatError::Overlap(name));
        }
        self.regions.insert(
            base,
            Region {
                name,
                bytes,
                permission,
            },
        );
        Ok(())
    }

    /// Adds a region named `stack`, with room for every frame there may be, and gives its end, which is what `r10` starts
    /// with.
    ///
    /// # Errors
    /// As [`FlatWorld::add`].
    pub fn add_stack(&mut self, base: u64) -> Result<u64, FlatError> {
        self.add(NewRegion {
            name: "stack".into(),
            base,
            bytes: vec![STACK_FILL; STACK_BYTES as usize],
            permission: Permission::ReadWrite,
        })?;
        Ok(base + STACK_BYTES)
    }

    /// Adds a helper.
    pub fn add_helper(&mut self, id: i32, helper: impl FnMut([u64; 5]) -> HelperResult + 'static) {
        self.helpers.insert(id, Box::new(helper));
    }

    /// The bytes of the region that starts at `base`.
    pub fn bytes(&self, base: u64) -> Option<&[u8]> {
        self.regions.get(&base).map(|region| region.bytes.as_slice())
    }

    /// The bytes at an address, if all of them lie in one region that allows this.
    fn find(&mut self, address: u64, length: usize, write: bool) -> Result<&mut [u8], Denied> {
        let Some((start, region)) = self.regions.range_mut(..=address).next_back() else {
            return Err(Denied {
                near: "there is no region at or below it".into(),
            });
        };
        let offset = address - start;
        let size = region.bytes.len() as u64;
        let denied = |what: &str| Denied {
            near: format!("{what} `{}` of {size} bytes, at offset {offset:#x}", region.name),
        };
        if offset >= size {
            return Err(denied("behind region"));
        }
        if length as u64 > size - offset {
            return Err(denied("runs over the end of region"));
        }
        if write && region.permission == Permission::Read {
            return Err(denied("read-only region"));
        }
        let offset = offset as usize;
        Ok(&mut region.bytes[offset..offset + length])
    }
}

impl World for FlatWorld {
    type Error = FlatError;

    fn read(&mut self, address: u64, bytes: &mut [u8]) -> Result<(), Denied> {
        let found = self.find(address, bytes.len(), false)?;
        bytes.copy_from_slice(found);
        Ok(())
    }

    fn write(&mut self, address: u64, bytes: &[u8]) -> Result<(), Denied> {
        self.find(address, bytes.len(), true)?.copy_from_slice(bytes);
        Ok(())
    }

    fn helper(&mut self, id: i32, arguments: [u64; 5]) -> Result<HelperResult, FlatError> {
        let helper = self.helpers.get_mut(&id).ok_or(FlatError::NoHelper(id))?;
        Ok(helper(arguments))
    }

    fn map_address(&mut self, _map: MapIndex) -> Option<u64> {
        None
    }

    fn global_address(&mut self, _section: GlobalIndex) -> Option<u64> {
        None
    }
}
