//! How long one step of a run may take: loading, an invocation, or unloading.
//!
//! Given: the limit, and when steps begin. Computed: whether the current one takes too long.
//! A timer of the system ticks all the time. Steps are measured in ticks, because beginning one must not cost a system call: once
//! code of the image runs, the process may make few of them, and there are millions of steps.

use std::ffi::c_int;
use std::sync::atomic::{AtomicU64, Ordering};

use super::host;

/// Longest time between ticks, in milliseconds.
const LONGEST_TICK: u64 = 50;
/// How many ticks the limit has at least, unless it is shorter than that many milliseconds.
const TICKS_IN_LIMIT: u64 = 8;

static TICKS: AtomicU64 = AtomicU64::new(0);
static BEGAN: AtomicU64 = AtomicU64::new(0);
static LIMIT: AtomicU64 = AtomicU64::new(u64::MAX);

/// Starts the timer. Where it is the signal `SIGALRM`, whoever installs another handler for it calls [`tick`].
///
/// # Safety
/// Nobody else may have a handler of that signal by now.
pub unsafe fn start(limit_ms: u64) -> std::io::Result<()> {
    let tick_ms = (limit_ms / TICKS_IN_LIMIT).clamp(1, LONGEST_TICK);
    LIMIT.store(limit_ms.div_ceil(tick_ms).max(1), Ordering::Relaxed);
    // SAFETY: promised by the caller; the handler only adds to an atomic.
    unsafe { host::start_ticks(tick_ms, on_timer) }
}

extern "C" fn on_timer(_: c_int) {
    tick();
}

/// A step begins.
pub fn step_begins() {
    BEGAN.store(TICKS.load(Ordering::Relaxed), Ordering::Relaxed);
}

/// The timer has ticked. For signal handlers.
pub fn tick() {
    TICKS.fetch_add(1, Ordering::Relaxed);
}

/// Whether the step takes too long. For signal handlers, too.
pub fn is_up() -> bool {
    let ticks = TICKS.load(Ordering::Relaxed) - BEGAN.load(Ordering::Relaxed);
    // The first tick may have come right after the beginning.
    ticks > LIMIT.load(Ordering::Relaxed)
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::*;

    #[test]
    fn time_passes_from_the_start_on() {
        // SAFETY: no other test has a handler, and the timer is stopped again.
        unsafe { start(8) }.unwrap();
        let last = Instant::now() + Duration::from_secs(5);
        while !is_up() && Instant::now() < last {
            std::thread::sleep(Duration::from_millis(1));
        }
        #[cfg(unix)]
        // SAFETY: zero is a timer that is stopped, which the call only reads.
        unsafe {
            let none: libc::itimerval = std::mem::zeroed();
            libc::setitimer(libc::ITIMER_REAL, &raw const none, std::ptr::null_mut());
        }
        assert!(is_up());
    }
}
