//! Linux, macOS and their like.

use super::Protection;

/// Addresses that are asked for are multiples of this.
pub const GRANULE: u64 = 4096;

/// Bytes of a page.
pub fn page_size() -> usize {
    // SAFETY: it asks for a number.
    let size = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
    usize::try_from(size).unwrap_or(0)
}

/// Inaccessible pages at `address`, or, if that is 0, wherever the host likes. Not where something is already.
pub fn map(address: u64, length: usize) -> Option<u64> {
    let flags = libc::MAP_PRIVATE | libc::MAP_ANON | libc::MAP_NORESERVE;
    // Elsewhere the address is a wish, and what is free is given as wished.
    #[cfg(target_os = "linux")]
    let flags = flags | if address == 0 { 0 } else { libc::MAP_FIXED_NOREPLACE };
    // SAFETY: a fresh anonymous mapping where nothing is touches no memory that is in use.
    let found = unsafe { libc::mmap(address as *mut libc::c_void, length, libc::PROT_NONE, flags, -1, 0) };
    if found == libc::MAP_FAILED {
        return None;
    }
    if address != 0 && found as u64 != address {
        // SAFETY: it was mapped above, and nobody knows it.
        unsafe { unmap(found as u64, length) };
        return None;
    }
    Some(found as u64)
}

/// Sets the protection of whole pages. False if the host does not.
///
/// # Safety
/// The pages are of [`map`], and no Rust value lives in them.
pub unsafe fn protect(start: u64, length: usize, protection: Protection) -> bool {
    let mut bits = libc::PROT_NONE;
    for (part, bit) in [
        (Protection::READ, libc::PROT_READ),
        (Protection::WRITE, libc::PROT_WRITE),
        (Protection::EXECUTE, libc::PROT_EXEC),
    ] {
        if protection.has(part) {
            bits |= bit;
        }
    }
    // SAFETY: promised by the caller.
    unsafe { libc::mprotect(start as *mut libc::c_void, length, bits) == 0 }
}

/// Gives pages back.
///
/// # Safety
/// They are one whole mapping of [`map`], which nothing uses any more.
pub unsafe fn unmap(start: u64, length: usize) {
    // SAFETY: promised by the caller.
    unsafe { libc::munmap(start as *mut libc::c_void, length) };
}

/// Has `tick` called every so many milliseconds, by `SIGALRM`. `tick` does nothing that a signal handler may not do.
///
/// There must be a handler from the start: Linux starts an interval timer anew when its signal is taken, and one that is ignored never is.
///
/// # Safety
/// Nobody else may have a handler of that signal by now.
pub unsafe fn start_ticks(milliseconds: u64, tick: extern "C" fn(libc::c_int)) -> std::io::Result<()> {
    let time = libc::timeval {
        tv_sec: 0,
        tv_usec: (milliseconds * 1000) as libc::suseconds_t,
    };
    let timer = libc::itimerval {
        it_value: time,
        it_interval: time,
    };
    // SAFETY: the calls only read their arguments, which live until they return. The handler has the type that plain handlers have.
    let failed = unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = tick as *const () as usize;
        action.sa_flags = libc::SA_RESTART;
        libc::sigemptyset(&raw mut action.sa_mask);
        libc::sigaction(libc::SIGALRM, &raw const action, std::ptr::null_mut()) != 0
            || libc::setitimer(libc::ITIMER_REAL, &raw const timer, std::ptr::null_mut()) != 0
    };
    if failed {
        Err(std::io::Error::last_os_error())
    } else {
        Ok(())
    }
}

/// Should the process crash, nobody wants its memory in a file.
pub fn without_core_dump() {
    let none = libc::rlimit {
        rlim_cur: 0,
        rlim_max: 0,
    };
    // SAFETY: it only reads the structure, which lives until it returns.
    unsafe {
        libc::setrlimit(libc::RLIMIT_CORE, &raw const none);
    }
}
