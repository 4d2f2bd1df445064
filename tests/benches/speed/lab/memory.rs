//! Pages of this process.

use std::io;
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};

use super::Error;

/// Bytes of a page.
pub const PAGE: usize = 4096;

/// Where the next mapping is wished for. Below what the emulator can address, and the same in every run, so that no run is
/// slower than the other for where its code lies.
static NEXT: AtomicU64 = AtomicU64::new(0x10_0000_0000);

/// Whole pages, zero at first, that nothing else in the process uses.
pub struct Mapping {
    base: *mut u8,
    length: usize,
}

/// What may be done with pages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Read.
    Read,
    /// Read and write.
    Write,
    /// Read and execute.
    Execute,
}

impl Access {
    fn protection(self) -> i32 {
        match self {
            Access::Read => libc::PROT_READ,
            Access::Write => libc::PROT_READ | libc::PROT_WRITE,
            Access::Execute => libc::PROT_READ | libc::PROT_EXEC,
        }
    }
}

impl Mapping {
    /// At least `length` bytes, readable and writable.
    pub fn new(length: usize) -> Result<Mapping, Error> {
        let length = length.max(1).next_multiple_of(PAGE);
        let wish = NEXT.fetch_add((length + PAGE) as u64, Ordering::Relaxed);
        // SAFETY: without `MAP_FIXED`, a new mapping touches no memory that exists.
        let base = unsafe {
            libc::mmap(
                wish as *mut libc::c_void,
                length,
                Access::Write.protection(),
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
                -1,
                0,
            )
        };
        if base == libc::MAP_FAILED {
            return Err(format!("no memory: {}", io::Error::last_os_error()));
        }
        Ok(Mapping {
            base: base.cast(),
            length,
        })
    }

    /// Where it starts.
    pub fn address(&self) -> u64 {
        self.base as u64
    }

    /// Bytes.
    pub fn length(&self) -> usize {
        self.length
    }

    /// The bytes, which must be writable. Code that runs meanwhile may change them, so no slice may be kept across that.
    pub fn bytes(&mut self) -> &mut [u8] {
        // SAFETY: the pages belong to this value, which is borrowed exclusively; callers have not taken the right to write.
        unsafe { std::slice::from_raw_parts_mut(self.base, self.length) }
    }

    /// The bytes, to read.
    pub fn view(&self) -> &[u8] {
        // SAFETY: the pages belong to this value and are readable; no code runs while the slice lives.
        unsafe { std::slice::from_raw_parts(self.base, self.length) }
    }

    /// Says what may be done with the pages that `bytes` touches.
    pub fn protect(&mut self, bytes: Range<usize>, access: Access) -> Result<(), Error> {
        let start = bytes.start / PAGE * PAGE;
        let end = bytes.end.next_multiple_of(PAGE).min(self.length);
        if start >= end {
            return Ok(());
        }
        // SAFETY: the pages are inside this mapping, and no reference into it exists while it is borrowed exclusively.
        let status = unsafe { libc::mprotect(self.base.add(start).cast(), end - start, access.protection()) };
        if status == 0 {
            Ok(())
        } else {
            Err(format!("mprotect: {}", io::Error::last_os_error()))
        }
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: the pages were mapped by `new`, and nothing refers to them any more.
        unsafe { libc::munmap(self.base.cast(), self.length) };
    }
}
