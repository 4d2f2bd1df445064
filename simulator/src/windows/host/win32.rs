//! Windows.

use std::ffi::{c_int, c_void};
use std::time::Duration;

use windows_sys::Win32::System::Diagnostics::Debug::{SEM_FAILCRITICALERRORS, SEM_NOGPFAULTERRORBOX, SetErrorMode};
use windows_sys::Win32::System::Memory::{
    MEM_COMMIT, MEM_RELEASE, MEM_RESERVE, PAGE_EXECUTE, PAGE_EXECUTE_READ, PAGE_EXECUTE_READWRITE, PAGE_NOACCESS,
    PAGE_READONLY, PAGE_READWRITE, VirtualAlloc, VirtualFree, VirtualProtect,
};
use windows_sys::Win32::System::SystemInformation::{GetSystemInfo, SYSTEM_INFO};

use super::Protection;

/// Addresses that are asked for are multiples of this: Windows gives out addresses in pieces of 64 KiB.
pub const GRANULE: u64 = 0x1_0000;

/// Bytes of a page.
pub fn page_size() -> usize {
    let mut info = SYSTEM_INFO::default();
    // SAFETY: it fills the structure.
    unsafe { GetSystemInfo(&raw mut info) };
    info.dwPageSize as usize
}

/// Inaccessible pages at `address`, or, if that is 0, wherever the host likes. Not where something is already.
pub fn map(address: u64, length: usize) -> Option<u64> {
    let place = address as *const c_void;
    // SAFETY: a fresh allocation where nothing is touches no memory that is in use.
    let found = unsafe { VirtualAlloc(place, length, MEM_RESERVE | MEM_COMMIT, PAGE_NOACCESS) } as u64;
    (found != 0 && (address == 0 || found == address)).then_some(found)
}

/// Sets the protection of whole pages. False if the host does not.
///
/// # Safety
/// The pages are of [`map`], and no Rust value lives in them.
pub unsafe fn protect(start: u64, length: usize, protection: Protection) -> bool {
    let has = |part| protection.has(part);
    // Nothing of Windows is written and not read.
    let constant = match (has(Protection::EXECUTE), has(Protection::WRITE), has(Protection::READ)) {
        (false, false, false) => PAGE_NOACCESS,
        (false, false, true) => PAGE_READONLY,
        (false, true, _) => PAGE_READWRITE,
        (true, false, false) => PAGE_EXECUTE,
        (true, false, true) => PAGE_EXECUTE_READ,
        (true, true, _) => PAGE_EXECUTE_READWRITE,
    };
    let mut before = 0;
    // SAFETY: promised by the caller.
    unsafe { VirtualProtect(start as *const c_void, length, constant, &raw mut before) != 0 }
}

/// Gives pages back.
///
/// # Safety
/// They are one whole mapping of [`map`], which nothing uses any more.
pub unsafe fn unmap(start: u64, _length: usize) {
    // SAFETY: promised by the caller; the length of a whole allocation is not asked for.
    unsafe { VirtualFree(start as *mut c_void, 0, MEM_RELEASE) };
}

/// Has `tick` called every so many milliseconds, by a thread of its own.
///
/// # Safety
/// None of it is unsafe here; elsewhere it is.
pub unsafe fn start_ticks(milliseconds: u64, tick: extern "C" fn(c_int)) -> std::io::Result<()> {
    std::thread::Builder::new().name("ticks".into()).spawn(move || {
        loop {
            std::thread::sleep(Duration::from_millis(milliseconds));
            tick(0);
        }
    })?;
    Ok(())
}

/// Should the process crash, nobody wants to be asked about it in a window.
pub fn without_core_dump() {
    // SAFETY: it takes a number.
    unsafe { SetErrorMode(SEM_FAILCRITICALERRORS | SEM_NOGPFAULTERRORBOX) };
}
