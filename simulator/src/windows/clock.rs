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

/// Starts the timer. Until there is a handler for `SIGALRM`, it does nothing.
pub fn start(limit_ms: u64) {
    let tick_ms = (limit_ms / TICKS_IN_LIMIT).clamp(1, LONGEST_TICK);
    LIMIT.store(limit_ms.div_ceil(tick_ms).max(1), Ordering::Relaxed);
    let time = libc::timeval {
        tv_sec: 0,
        tv_usec: (tick_ms * 1000) as i64,
    };
    let timer = libc::itimerval {
        it_value: time,
        it_interval: time,
    };
    // SAFETY: both calls only read their arguments, which live until they return. SIGALRM is ignored until the handler for it is
    // installed, so that the simulator's own work before is not cut off.
    unsafe {
        libc::signal(libc::SIGALRM, libc::SIG_IGN);
        libc::setitimer(libc::ITIMER_REAL, &raw const timer, std::ptr::null_mut());
    }
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
