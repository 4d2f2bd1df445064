//! Counts the instructions that code executes, by the processor's trap after each of them.
//!
//! Performance counters do the same faster, and virtual machines often have none. What is counted is the program itself:
//! helpers, and the benchmark, are left out.

use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};

use super::Error;

/// Addresses of the code that is looked at.
static START: AtomicU64 = AtomicU64::new(0);
static END: AtomicU64 = AtomicU64::new(0);
/// Instructions in it so far.
static COUNT: AtomicU64 = AtomicU64::new(0);
/// The stack pointer at the first of them, and the lowest one. At the first it points to the return address.
static TOP: AtomicU64 = AtomicU64::new(0);
static LOWEST: AtomicU64 = AtomicU64::new(u64::MAX);

/// What a run took.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Steps {
    /// Instructions executed.
    pub instructions: u64,
    /// Bytes of stack, the return address included.
    pub stack_bytes: u64,
}

/// The sum of instructions, and the most stack.
impl std::iter::Sum for Steps {
    fn sum<I: Iterator<Item = Steps>>(steps: I) -> Steps {
        steps.fold(Steps::default(), |sum, step| Steps {
            instructions: sum.instructions + step.instructions,
            stack_bytes: sum.stack_bytes.max(step.stack_bytes),
        })
    }
}

/// Runs `work` and counts what it executes of `code`. One at a time: the caller sees to that.
pub fn count<T>(code: &Range<u64>, work: impl FnOnce() -> T) -> Result<Steps, Error> {
    START.store(code.start, Ordering::Relaxed);
    END.store(code.end, Ordering::Relaxed);
    COUNT.store(0, Ordering::Relaxed);
    TOP.store(0, Ordering::Relaxed);
    LOWEST.store(u64::MAX, Ordering::Relaxed);
    // SAFETY: the action is whole, its handler has the type that `SA_SIGINFO` asks for, and it only works on atomics and on
    // what the kernel passes it. The old action is put back.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = on_trap as *const () as usize;
        action.sa_flags = libc::SA_SIGINFO;
        libc::sigemptyset(&raw mut action.sa_mask);
        let mut old: libc::sigaction = std::mem::zeroed();
        if libc::sigaction(libc::SIGTRAP, &raw const action, &raw mut old) != 0 {
            return Err(format!("sigaction: {}", std::io::Error::last_os_error()));
        }
        set_trap_flag();
        work();
        clear_trap_flag();
        libc::sigaction(libc::SIGTRAP, &raw const old, std::ptr::null_mut());
    }
    let lowest = LOWEST.load(Ordering::Relaxed);
    Ok(Steps {
        instructions: COUNT.load(Ordering::Relaxed),
        stack_bytes: (TOP.load(Ordering::Relaxed) + 8).saturating_sub(lowest),
    })
}

/// # Safety
/// SIGTRAP must have a handler that returns.
#[inline(never)]
unsafe fn set_trap_flag() {
    // SAFETY: only the trap flag changes, which the caller has a handler for; the stack is used below what the compiler keeps.
    unsafe { std::arch::asm!("pushfq", "or qword ptr [rsp], 0x100", "popfq") };
}

/// # Safety
/// None that the compiler could not see; the pair of [`set_trap_flag`].
#[inline(never)]
unsafe fn clear_trap_flag() {
    // SAFETY: as there.
    unsafe { std::arch::asm!("pushfq", "and qword ptr [rsp], ~0x100", "popfq") };
}

/// An instruction was executed; the context is that before the next one.
extern "C" fn on_trap(_: i32, _: *mut libc::siginfo_t, context: *mut libc::c_void) {
    // SAFETY: the kernel passes a context of this type to handlers of `SA_SIGINFO`.
    let registers = unsafe { &(*context.cast::<libc::ucontext_t>()).uc_mcontext.gregs };
    let rip = registers[libc::REG_RIP as usize] as u64;
    if rip < START.load(Ordering::Relaxed) || rip >= END.load(Ordering::Relaxed) {
        return;
    }
    let rsp = registers[libc::REG_RSP as usize] as u64;
    if COUNT.fetch_add(1, Ordering::Relaxed) == 0 {
        TOP.store(rsp, Ordering::Relaxed);
    }
    LOWEST.fetch_min(rsp, Ordering::Relaxed);
}
