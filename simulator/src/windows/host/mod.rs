//! What the simulation asks of the system that it runs on: pages of memory, ticks of time, and confinement.
//!
//! Linux has all of it, on both machines. Other systems run images in the emulator only, and confine nothing: emulated code has no way
//! to call the host.

#[cfg(unix)]
mod unix;
#[cfg(windows)]
mod win32;

#[cfg(unix)]
pub use unix::{GRANULE, map, page_size, protect, start_ticks, unmap, without_core_dump};
#[cfg(windows)]
pub use win32::{GRANULE, map, page_size, protect, start_ticks, unmap, without_core_dump};

/// What may be done with pages. The bits are those of the emulator's `UC_PROT_*`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Protection(u8);

impl Protection {
    /// Nothing.
    pub const NONE: Protection = Protection(0);
    /// They are read.
    pub const READ: Protection = Protection(1);
    /// They are written.
    pub const WRITE: Protection = Protection(2);
    /// Instructions are fetched from them.
    pub const EXECUTE: Protection = Protection(4);

    /// Whether all of that is allowed.
    pub fn has(self, other: Protection) -> bool {
        self.0 & other.0 == other.0
    }

    /// The same, but that instructions are not fetched.
    pub fn without_execution(self) -> Protection {
        Protection(self.0 & !Protection::EXECUTE.0)
    }

    /// `UC_PROT_*`.
    pub fn bits(self) -> u32 {
        self.0.into()
    }
}

impl std::ops::BitOr for Protection {
    type Output = Protection;

    fn bitor(self, other: Protection) -> Protection {
        Protection(self.0 | other.0)
    }
}

impl std::ops::BitOrAssign for Protection {
    fn bitor_assign(&mut self, other: Protection) {
        *self = *self | other;
    }
}
