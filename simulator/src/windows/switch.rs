//! Switching between the simulator and x86-64 code that the host's processor runs, each on its own stack.
//!
//! [`Switch::run`] gives the processor to native code; it comes back when that code calls a stand-in, returns, or faults.
//! Stand-ins are thunks in executable memory: `push index; jmp [trap]`. The trap saves all registers and switches back,
//! so all Rust code runs on the host's stack: nothing of Rust unwinds through native frames, and helpers take nothing
//! of the simulated kernel stack.
//!
//! Instructions are counted by the trap flag: behind each, the processor raises a signal whose handler counts the next. The flag is
//! set by the last instructions before native code goes on, and cleared when that code comes to a thunk, so nothing of
//! the simulator runs with it. Code that reads its flags sees it. Code that clears it is not counted from then until it comes
//! back from its next call, and neither is the instruction behind a load of SS; compiled programs have no such code.
//!
//! This is sound as long as one thread runs it: the child process of a run is that thread.

use std::cell::UnsafeCell;
use std::mem::offset_of;
use std::time::{Duration, Instant};

use super::cpu::x64::{Core, MXCSR, Registers};
use super::cpu::{Access, Cause, Event, Exception};
use super::trace::CodeCounts;
use crate::trace::NativeTrace;

/// Trap flag: the processor stops behind each instruction that begins with it set (Intel SDM, volume 3, "Single-Step Exception
/// Condition").
const TRAP_FLAG: u64 = 0x100;

/// What the signal handler saw.
#[derive(Clone, Copy, Debug, Default)]
struct Signal {
    number: i32,
    /// `si_code`.
    code: i32,
    rip: u64,
    /// Accessed address, for access violations.
    address: u64,
    /// Page fault error code.
    error: u64,
}

/// Page fault error code: the access was a write.
const WRITE: u64 = 0x2;
/// Page fault error code: the access was an instruction fetch.
const FETCH: u64 = 0x10;

impl Signal {
    fn exception(&self) -> Exception {
        // A non-canonical address raises a general protection fault, which names no address.
        let has_address = self.code > 0 && self.code < 0x80;
        let access = if self.error & FETCH != 0 {
            Access::Execute
        } else if self.error & WRITE != 0 {
            Access::Write
        } else {
            Access::Read
        };
        let cause = match self.number {
            libc::SIGSEGV | libc::SIGBUS if has_address => Cause::Access(access, self.address),
            libc::SIGSEGV | libc::SIGBUS => Cause::GeneralProtection,
            libc::SIGILL => Cause::IllegalInstruction,
            libc::SIGFPE => Cause::DivideError,
            libc::SIGTRAP => Cause::Breakpoint,
            libc::SIGSYS => Cause::SystemCall,
            libc::SIGALRM => Cause::TimeUp,
            _ => Cause::Other("exception"),
        };
        // These come when the instruction pointer is already behind their instruction: `syscall` and `int3`.
        let before = match self.number {
            libc::SIGSYS => 2,
            libc::SIGTRAP => 1,
            _ => 0,
        };
        Exception {
            cause,
            pc: self.rip.wrapping_sub(before),
        }
    }
}

const EXCEPTION: u64 = u64::MAX;

#[repr(C)]
struct State {
    registers: Registers,
    event: u64,
    host_stack: u64,
    running: u64,
    signal: Signal,
    /// Whether instructions are counted.
    counting: bool,
    /// Where, or null.
    counts: *mut CodeCounts,
}

struct Shared(UnsafeCell<State>);

// SAFETY: only one thread of the child process uses it (module docs); the signal handler runs on that thread too.
unsafe impl Sync for Shared {}

static STATE: Shared = Shared(UnsafeCell::new(State {
    registers: Registers {
        rax: 0,
        rbx: 0,
        rcx: 0,
        rdx: 0,
        rsi: 0,
        rdi: 0,
        rbp: 0,
        rsp: 0,
        r8: 0,
        r9: 0,
        r10: 0,
        r11: 0,
        r12: 0,
        r13: 0,
        r14: 0,
        r15: 0,
        flags: 0,
        mxcsr: MXCSR,
        padding: 0,
        xmm: [0; 16],
    },
    event: 0,
    host_stack: 0,
    running: 0,
    signal: Signal {
        number: 0,
        code: 0,
        rip: 0,
        address: 0,
        error: 0,
    },
    counting: false,
    counts: std::ptr::null_mut(),
}));

/// Saves the host's registers and continues native code at the address on top of its stack.
///
/// # Safety
/// `STATE.registers` must describe native code that may be continued.
#[unsafe(naked)]
unsafe extern "sysv64" fn enter() {
    core::arch::naked_asm!(
        "push rbp",
        "push rbx",
        "push r12",
        "push r13",
        "push r14",
        "push r15",
        "sub rsp, 8",
        "stmxcsr [rsp]",
        "mov [rip + {s} + {host}], rsp",
        "mov qword ptr [rip + {s} + {running}], 1",
        "ldmxcsr [rip + {s} + {mxcsr}]",
        "movups xmm0, [rip + {s} + {xmm} + 0]",
        "movups xmm1, [rip + {s} + {xmm} + 16]",
        "movups xmm2, [rip + {s} + {xmm} + 32]",
        "movups xmm3, [rip + {s} + {xmm} + 48]",
        "movups xmm4, [rip + {s} + {xmm} + 64]",
        "movups xmm5, [rip + {s} + {xmm} + 80]",
        "movups xmm6, [rip + {s} + {xmm} + 96]",
        "movups xmm7, [rip + {s} + {xmm} + 112]",
        "movups xmm8, [rip + {s} + {xmm} + 128]",
        "movups xmm9, [rip + {s} + {xmm} + 144]",
        "movups xmm10, [rip + {s} + {xmm} + 160]",
        "movups xmm11, [rip + {s} + {xmm} + 176]",
        "movups xmm12, [rip + {s} + {xmm} + 192]",
        "movups xmm13, [rip + {s} + {xmm} + 208]",
        "movups xmm14, [rip + {s} + {xmm} + 224]",
        "movups xmm15, [rip + {s} + {xmm} + 240]",
        "mov rax, [rip + {s} + {rax}]",
        "mov rbx, [rip + {s} + {rbx}]",
        "mov rcx, [rip + {s} + {rcx}]",
        "mov rdx, [rip + {s} + {rdx}]",
        "mov rsi, [rip + {s} + {rsi}]",
        "mov rdi, [rip + {s} + {rdi}]",
        "mov rbp, [rip + {s} + {rbp}]",
        "mov r8, [rip + {s} + {r8}]",
        "mov r9, [rip + {s} + {r9}]",
        "mov r10, [rip + {s} + {r10}]",
        "mov r11, [rip + {s} + {r11}]",
        "mov r12, [rip + {s} + {r12}]",
        "mov r13, [rip + {s} + {r13}]",
        "mov r14, [rip + {s} + {r14}]",
        "mov r15, [rip + {s} + {r15}]",
        // Last, because from here on the processor may stop behind each instruction.
        "push qword ptr [rip + {s} + {flags}]",
        "popfq",
        "mov rsp, [rip + {s} + {rsp}]",
        "ret",
        s = sym STATE,
        host = const offset_of!(State, host_stack),
        running = const offset_of!(State, running),
        mxcsr = const offset_of!(State, registers.mxcsr),
        flags = const offset_of!(State, registers.flags),
        xmm = const offset_of!(State, registers.xmm),
        rsp = const offset_of!(State, registers.rsp),
        rax = const offset_of!(State, registers.rax),
        rbx = const offset_of!(State, registers.rbx),
        rcx = const offset_of!(State, registers.rcx),
        rdx = const offset_of!(State, registers.rdx),
        rsi = const offset_of!(State, registers.rsi),
        rdi = const offset_of!(State, registers.rdi),
        rbp = const offset_of!(State, registers.rbp),
        r8 = const offset_of!(State, registers.r8),
        r9 = const offset_of!(State, registers.r9),
        r10 = const offset_of!(State, registers.r10),
        r11 = const offset_of!(State, registers.r11),
        r12 = const offset_of!(State, registers.r12),
        r13 = const offset_of!(State, registers.r13),
        r14 = const offset_of!(State, registers.r14),
        r15 = const offset_of!(State, registers.r15),
    )
}

/// Where thunks jump: saves native registers, takes the thunk's index off the native stack and goes back to the host.
///
/// # Safety
/// Only thunks may jump here, with `STATE.running` set by `enter`.
#[unsafe(naked)]
unsafe extern "sysv64" fn trap() {
    core::arch::naked_asm!(
        "mov [rip + {s} + {rax}], rax",
        "mov [rip + {s} + {rbx}], rbx",
        "mov [rip + {s} + {rcx}], rcx",
        "mov [rip + {s} + {rdx}], rdx",
        "mov [rip + {s} + {rsi}], rsi",
        "mov [rip + {s} + {rdi}], rdi",
        "mov [rip + {s} + {rbp}], rbp",
        "mov [rip + {s} + {r8}], r8",
        "mov [rip + {s} + {r9}], r9",
        "mov [rip + {s} + {r10}], r10",
        "mov [rip + {s} + {r11}], r11",
        "mov [rip + {s} + {r12}], r12",
        "mov [rip + {s} + {r13}], r13",
        "mov [rip + {s} + {r14}], r14",
        "mov [rip + {s} + {r15}], r15",
        "pop qword ptr [rip + {s} + {event}]",
        "mov [rip + {s} + {rsp}], rsp",
        "mov rsp, [rip + {s} + {host}]",
        "pushfq",
        "pop qword ptr [rip + {s} + {flags}]",
        "cld",
        "movups [rip + {s} + {xmm} + 0], xmm0",
        "movups [rip + {s} + {xmm} + 16], xmm1",
        "movups [rip + {s} + {xmm} + 32], xmm2",
        "movups [rip + {s} + {xmm} + 48], xmm3",
        "movups [rip + {s} + {xmm} + 64], xmm4",
        "movups [rip + {s} + {xmm} + 80], xmm5",
        "movups [rip + {s} + {xmm} + 96], xmm6",
        "movups [rip + {s} + {xmm} + 112], xmm7",
        "movups [rip + {s} + {xmm} + 128], xmm8",
        "movups [rip + {s} + {xmm} + 144], xmm9",
        "movups [rip + {s} + {xmm} + 160], xmm10",
        "movups [rip + {s} + {xmm} + 176], xmm11",
        "movups [rip + {s} + {xmm} + 192], xmm12",
        "movups [rip + {s} + {xmm} + 208], xmm13",
        "movups [rip + {s} + {xmm} + 224], xmm14",
        "movups [rip + {s} + {xmm} + 240], xmm15",
        "stmxcsr [rip + {s} + {mxcsr}]",
        "mov qword ptr [rip + {s} + {running}], 0",
        "ldmxcsr [rsp]",
        "add rsp, 8",
        "pop r15",
        "pop r14",
        "pop r13",
        "pop r12",
        "pop rbx",
        "pop rbp",
        "ret",
        s = sym STATE,
        event = const offset_of!(State, event),
        host = const offset_of!(State, host_stack),
        running = const offset_of!(State, running),
        mxcsr = const offset_of!(State, registers.mxcsr),
        flags = const offset_of!(State, registers.flags),
        xmm = const offset_of!(State, registers.xmm),
        rsp = const offset_of!(State, registers.rsp),
        rax = const offset_of!(State, registers.rax),
        rbx = const offset_of!(State, registers.rbx),
        rcx = const offset_of!(State, registers.rcx),
        rdx = const offset_of!(State, registers.rdx),
        rsi = const offset_of!(State, registers.rsi),
        rdi = const offset_of!(State, registers.rdi),
        rbp = const offset_of!(State, registers.rbp),
        r8 = const offset_of!(State, registers.r8),
        r9 = const offset_of!(State, registers.r9),
        r10 = const offset_of!(State, registers.r10),
        r11 = const offset_of!(State, registers.r11),
        r12 = const offset_of!(State, registers.r12),
        r13 = const offset_of!(State, registers.r13),
        r14 = const offset_of!(State, registers.r14),
        r15 = const offset_of!(State, registers.r15),
    )
}

/// Where the signal handler continues after a fault, on the host's stack: the end of `enter`.
///
/// # Safety
/// `rsp` must be what `enter` stored as the host's stack.
#[unsafe(naked)]
unsafe extern "sysv64" fn abandon() {
    core::arch::naked_asm!(
        "cld",
        "ldmxcsr [rsp]",
        "add rsp, 8",
        "pop r15",
        "pop r14",
        "pop r13",
        "pop r12",
        "pop rbx",
        "pop rbp",
        "ret",
    )
}

/// Time by the processor's own counter, which needs no system call (Intel SDM, volume 3, "Time-Stamp Counter").
struct Timing {
    /// What native code has taken.
    ticks: u64,
    /// How long one is.
    nanoseconds_per_tick: f64,
}

impl Timing {
    /// How long ticks are compared with the system's clock.
    const CALIBRATION: Duration = Duration::from_millis(2);

    fn new() -> Timing {
        let (begun, first) = (Instant::now(), ticks());
        while begun.elapsed() < Timing::CALIBRATION {
            std::hint::spin_loop();
        }
        let (took, last) = (begun.elapsed(), ticks());
        Timing {
            ticks: 0,
            nanoseconds_per_tick: took.as_secs_f64() * 1e9 / last.wrapping_sub(first).max(1) as f64,
        }
    }
}

/// What the counter says when all before it is done.
fn ticks() -> u64 {
    // SAFETY: every x86-64 processor has both instructions, and Linux lets programs use them.
    unsafe {
        core::arch::x86_64::_mm_lfence();
        core::arch::x86_64::_rdtsc()
    }
}

/// The host's processor as seen from the simulator. There is one.
pub struct Switch {
    /// The time that native code has taken, if that is wanted.
    timing: Option<Timing>,
    /// Keeps it on the thread that made it.
    not_send: std::marker::PhantomData<*mut ()>,
}

impl Switch {
    /// Takes the processor: installs the signal handlers that turn faults of native code into events.
    ///
    /// # Safety
    /// At most one may exist in a process, on the only thread that ever uses it.
    pub unsafe fn new() -> std::io::Result<Switch> {
        // SAFETY: `install` promises nothing but to be called once, before native code runs.
        unsafe { install()? };
        Ok(Switch {
            timing: None,
            not_send: std::marker::PhantomData,
        })
    }

    /// Address that thunks jump to.
    pub fn trap_address() -> u64 {
        trap as *const () as u64
    }

    /// What was counted.
    #[allow(clippy::unused_self)] // whoever holds the processor may look at it
    fn counts(&self) -> Option<&CodeCounts> {
        // SAFETY: as in `count`.
        unsafe { (*STATE.0.get()).counts.as_ref() }
    }
}

impl Core for Switch {
    fn registers(&self) -> &Registers {
        // SAFETY: native code is not running, and a `&mut` only comes from `registers_mut`, which borrows `self` alone.
        unsafe { &(*STATE.0.get()).registers }
    }

    fn registers_mut(&mut self) -> &mut Registers {
        // SAFETY: native code is not running, and `&mut self` makes this the only reference.
        unsafe { &mut (*STATE.0.get()).registers }
    }

    fn start_timing(&mut self) -> bool {
        self.timing = Some(Timing::new());
        true
    }

    fn nanoseconds(&self) -> Option<u64> {
        let timing = self.timing.as_ref()?;
        Some((timing.ticks as f64 * timing.nanoseconds_per_tick) as u64)
    }

    fn start_counting(&mut self, counts: CodeCounts) {
        let counts = Box::into_raw(Box::new(counts));
        // SAFETY: native code is not running, so the signal handler does not look at the state.
        unsafe { (*STATE.0.get()).counts = counts };
    }

    fn count(&mut self, image: Option<u64>) {
        // SAFETY: `counts` is null or what `start_counting` has left there for good. Native code is not running, so the
        // signal handler does not use it, and the only other reference comes from `counts`, which borrows `self`.
        let counting = unsafe {
            let state = STATE.0.get();
            let counts = (*state).counts.as_mut().zip(image);
            (*state).counting = counts.is_some();
            counts.map(|(counts, image)| counts.go_on(image)).is_some()
        };
        let flags = &mut self.registers_mut().flags;
        *flags = *flags & !TRAP_FLAG | if counting { TRAP_FLAG } else { 0 };
    }

    fn counted(&self) -> u64 {
        self.counts().map_or(0, CodeCounts::total)
    }

    fn trace(&self) -> NativeTrace {
        self.counts().map(CodeCounts::trace).unwrap_or_default()
    }

    unsafe fn run(&mut self) -> Event {
        // SAFETY: `enter` keeps the host's registers and comes back by `trap` or `abandon` with the host's stack as
        // it was. The state is reached through a raw pointer, so no Rust reference to it is live meanwhile.
        unsafe {
            if let Some(timing) = &mut self.timing {
                let begun = ticks();
                enter();
                timing.ticks += ticks().wrapping_sub(begun);
            } else {
                enter();
            }
            let state = STATE.0.get();
            match (*state).event {
                EXCEPTION => Event::Exception((*state).signal.exception()),
                index => Event::Call(index as u32),
            }
        }
    }
}

/// Signals that native code can cause, and the timer's.
const SIGNALS: [i32; 7] = [
    libc::SIGSEGV,
    libc::SIGBUS,
    libc::SIGILL,
    libc::SIGFPE,
    libc::SIGTRAP,
    libc::SIGSYS,
    libc::SIGALRM,
];

extern "C" fn on_signal(signal: i32, info: *mut libc::siginfo_t, context: *mut libc::c_void) {
    // SAFETY: the system passes valid pointers to handlers installed with SA_SIGINFO. The handler runs on the thread
    // that ran `enter`, so nobody else uses STATE now.
    unsafe {
        let state = STATE.0.get();
        if signal == libc::SIGALRM {
            super::clock::tick();
            if !super::clock::is_up() {
                return;
            }
        }
        if (*state).running == 0 {
            if signal != libc::SIGALRM {
                // A fault of the simulator itself: let it end the process as it would have.
                libc::signal(signal, libc::SIG_DFL);
            }
            return;
        }
        let context = context.cast::<libc::ucontext_t>();
        let registers = &mut (*context).uc_mcontext.gregs;
        if signal == libc::SIGTRAP && (*info).si_code == libc::TRAP_TRACE && (*state).counting {
            // No other reference to the counts lives while native code runs.
            if (*(*state).counts).arrive(registers[libc::REG_RIP as usize] as u64) {
                // Into a thunk, which gives the processor back.
                registers[libc::REG_EFL as usize] &= !(TRAP_FLAG as i64);
            }
            return;
        }
        (*state).signal = Signal {
            number: signal,
            code: (*info).si_code,
            rip: registers[libc::REG_RIP as usize] as u64,
            address: (*info).si_addr() as u64,
            error: registers[libc::REG_ERR as usize] as u64,
        };
        (*state).event = EXCEPTION;
        (*state).running = 0;
        registers[libc::REG_RSP as usize] = (*state).host_stack as i64;
        registers[libc::REG_RIP as usize] = abandon as *const () as i64;
        registers[libc::REG_EFL as usize] &= !(TRAP_FLAG as i64);
    }
}

/// Installs the handlers on a stack of their own.
///
/// # Safety
/// To be called once per process, before native code runs.
unsafe fn install() -> std::io::Result<()> {
    const SIZE: usize = 128 * 1024;
    let stack = Box::leak(vec![0u8; SIZE].into_boxed_slice());
    let stack = libc::stack_t {
        ss_sp: stack.as_mut_ptr().cast(),
        ss_flags: 0,
        ss_size: SIZE,
    };
    // SAFETY: the stack lives as long as the process; the handler has the signature that SA_SIGINFO asks for.
    unsafe {
        if libc::sigaltstack(&raw const stack, std::ptr::null_mut()) != 0 {
            return Err(std::io::Error::last_os_error());
        }
        for signal in SIGNALS {
            let mut action: libc::sigaction = std::mem::zeroed();
            action.sa_sigaction = on_signal as *const () as usize;
            action.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK | libc::SA_RESTART;
            libc::sigemptyset(&raw mut action.sa_mask);
            // The timer's signal waits for the end of another's handler: it is to find native code, not that handler.
            libc::sigaddset(&raw mut action.sa_mask, libc::SIGALRM);
            if libc::sigaction(signal, &raw const action, std::ptr::null_mut()) != 0 {
                return Err(std::io::Error::last_os_error());
            }
        }
    }
    Ok(())
}
