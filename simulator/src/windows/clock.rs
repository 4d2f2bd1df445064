//! How long one step of a run may take: loading, an invocation, or unloading.
//!
//! Given: the limit, and when steps begin. Computed: whether the current one takes too long.
//! A timer of the system ticks all the time. Steps are measured in ticks, because beginning one must not cost a system call: once
//! code of the image runs, the process may make few of them, and there are millions of steps.

use std::sync::atomic::{AtomicU64, Ordering};

/// Longest time between ticks, in milliseconds.
const LONGEST_TICK: u64 = 50;
/// How many ticks the limit has at least, unless it is shorter than that many milliseconds.
const TICKS_IN_LIMIT: u64 = 8;

static TICKS: AtomicU64 = AtomicU64::new(0);
static BEGAN: AtomicU64 = AtomicU64::new(0);
static LIMIT: AtomicU64 = AtomicU64::new(u64::MAX);

/// Starts the timer, whose signal, `SIGALRM`, is counted. Whoever installs another handler for it calls [`tick`].
///
/// There must be a handler from the start: Linux starts an interval timer anew when its signal is taken, and one that is ignored never is.
///
/// # Safety
/// Nobody else may have a handler of that signal by now.
pub unsafe fn start(limit_ms: u64) -> std::io::Result<()> {
    let tick_ms = (limit_ms / TICKS_IN_LIMIT).clamp(1, LONGEST_TICK);
    LIMIT.store(limit_ms.div_ceil(tick_ms).max(1), Ordering::Relaxed);
    let time = libc::timeval {
        tv_sec: 0,
        tv_usec: (tick_ms * 1000) as libc::suseconds_t,
    };
    let timer = libc::itimerval {
        it_value: time,
        it_interval: time,
    };
    // SAFETY: the calls only read their arguments, which live until they return. The handler has the type that plain handlers have,
    // and only adds to an atomic.
    let failed = unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = on_timer as *const () as usize;
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

extern "C" fn on_timer(_: libc::c_int) {
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
        // SAFETY: zero is a timer that is stopped, which the call only reads.
        unsafe {
            let none: libc::itimerval = std::mem::zeroed();
            libc::setitimer(libc::ITIMER_REAL, &raw const none, std::ptr::null_mut());
        }
        assert!(is_up());
    }
}
