//! One ARM64 processor of the Unicorn emulator, which sees the memory of the run at its own addresses.
//!
//! [`Engine`] is told which pages the code may use and for what. It gives the emulator a run of pages when the code
//! first touches it, and takes it back when its protection changes: the emulator's own bookkeeping grows with the square
//! of the mappings, and version 2.0 aborts at some two thousand. What the code touches beyond its pages stops it.
//!
//! The emulator keeps pointers into that memory. This is sound as long as each run of pages is taken back before its
//! memory is unmapped or forbidden to the host, which [`Engine::set_protection`] does.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::ffi::{c_int, c_void};
use std::rc::Rc;

use super::clock;
use super::cpu::{Access, Cause, Exception};
use super::memory::{Memory, PAGE};
use super::trace::CodeCounts;
use crate::emulator_library::{EmulatorLibrary, Handle, Status, number};

/// An address that is no instruction's: emulation is never asked to stop by reaching an address.
const NOWHERE: u64 = u64::MAX - 3;

/// A system register with its value, `uc_arm64_cp_reg`.
#[repr(C)]
#[derive(Clone, Copy)]
struct SystemRegister {
    crn: u32,
    crm: u32,
    op0: u32,
    op1: u32,
    op2: u32,
    value: u64,
}

/// What firmware and hypervisor have set up for a kernel on an ARM64 machine ("Arm Architecture Reference Manual for
/// A-profile", system register descriptions); each register by op1, `CRn`, `CRm` and op2, and its value.
///
/// `SCR_EL3` with NS, RW, APK, API and the bits that are always one; `HCR_EL2` with RW, APK and API; then the keys of
/// pointer authentication, which a real kernel draws at random: `APIAKey`, `APIBKey`, `APDAKey` and `APDBKey`, each as
/// `Lo_EL1` and `Hi_EL1`.
const BOOT: [(u32, u32, u32, u32, u64); 10] = [
    (6, 1, 1, 0, 1 << 0 | 0b11 << 4 | 1 << 10 | 1 << 16 | 1 << 17),
    (4, 1, 1, 0, 1 << 31 | 1 << 40 | 1 << 41),
    (0, 2, 1, 0, 0x0123_4567_89AB_CDEF),
    (0, 2, 1, 1, 0xFEDC_BA98_7654_3210),
    (0, 2, 1, 2, 0x0F1E_2D3C_4B5A_6978),
    (0, 2, 1, 3, 0x8796_A5B4_C3D2_E1F0),
    (0, 2, 2, 0, 0x1357_9BDF_0246_8ACE),
    (0, 2, 2, 1, 0xECA8_6420_FDB9_7531),
    (0, 2, 2, 2, 0x1122_3344_5566_7788),
    (0, 2, 2, 3, 0x8877_6655_4433_2211),
];

/// What the kernel itself then does: it turns pointer authentication on.
#[rustfmt::skip]
const KERNEL: [u32; 8] = [
    0xD538_1000, // mrs x0, SCTLR_EL1
    0xD284_0001, // mov x1, #0x2000
    0xF2B9_0001, // movk x1, #0xC800, lsl #16
    0xAA01_0000, // orr x0, x0, x1            EnIA, EnIB, EnDA, EnDB
    0xD518_1000, // msr SCTLR_EL1, x0
    0xD503_3FDF, // isb
    0xDAC1_0044, // pacia x4, x2              shows that it works
    0xD65F_03C0, // ret
];

/// Bits of the processor's addresses.
pub const ADDRESS_BITS: u32 = 44;

/// Most runs of pages that the emulator has when code starts. While it runs, there may be more.
const MOST_MAPPED: usize = 128;

/// Consecutive pages with one protection.
#[derive(Clone, Copy, Debug)]
struct Pages {
    length: u64,
    protection: i32,
}

/// An emulated processor.
pub struct Engine {
    library: EmulatorLibrary,
    handle: Handle,
    /// What the code may use, by first byte.
    pages: RefCell<BTreeMap<u64, Pages>>,
    /// What of that the emulator has: first byte and length, longest known first.
    mapped: RefCell<Vec<(u64, u64)>>,
    /// Why the code was stopped.
    cause: Cell<Option<Cause>>,
    /// The instruction that was executed last.
    last: Cell<u64>,
    /// Whether instructions are counted.
    counting: Cell<bool>,
    /// What was counted.
    counts: RefCell<Option<CodeCounts>>,
}

impl Engine {
    /// Loads the emulator and makes a processor that [`Engine::boot`] sets up.
    ///
    /// # Safety
    /// At most one may exist in a process, on the only thread that ever uses it: it installs the handler of the timer.
    pub unsafe fn new() -> Result<Rc<Engine>, String> {
        let library = EmulatorLibrary::load()?;
        let mut handle: Handle = std::ptr::null_mut();
        // SAFETY: the pointer is valid, and the numbers are those of the header.
        let status = unsafe { (library.open)(number::ARCH_ARM64, number::MODE_LITTLE_ENDIAN, &raw mut handle) };
        if status != number::OK {
            return Err(format!("Unicorn has no ARM64 processor: {}", library.text(status)));
        }
        let engine = Rc::new(Engine {
            library,
            handle,
            pages: RefCell::default(),
            mapped: RefCell::default(),
            cause: Cell::new(None),
            last: Cell::new(0),
            counting: Cell::new(false),
            counts: RefCell::default(),
        });
        let user = Rc::as_ptr(&engine).cast::<c_void>().cast_mut();
        let mut hook = 0usize;
        let hooks: [(c_int, *mut c_void); 3] = [
            (number::HOOK_MEMORY_INVALID, on_access as *const () as *mut c_void),
            (number::HOOK_CODE, on_instruction as *const () as *mut c_void),
            (number::HOOK_INTERRUPT, on_interrupt as *const () as *mut c_void),
        ];
        // SAFETY: `handle` is open, the model is set before anything else, as the header demands; the callbacks have the
        // types that their kinds of hook ask for, and the user data is the engine, which `drop` closes before it goes.
        // A range that ends before it begins means all addresses.
        let status = unsafe {
            let mut status = (engine.library.control)(handle, number::SET_CPU_MODEL, number::CPU_ARM64_MAX);
            for (kind, callback) in hooks {
                if status == number::OK {
                    status = (engine.library.add_hook)(handle, &raw mut hook, kind, callback, user, 1, 0);
                }
            }
            status
        };
        engine.succeeded(status)?;
        // SAFETY: promised by the caller.
        unsafe { catch_timer() }.map_err(|e| e.to_string())?;
        Ok(engine)
    }

    /// Does what comes before a driver on a real machine: [`BOOT`], then [`KERNEL`]. The emulator also makes its code
    /// buffer now, which it could not once the process is confined.
    pub fn boot(&self, memory: &mut Memory) -> Result<(), String> {
        for (op1, crn, crm, op2, value) in BOOT {
            let register = SystemRegister {
                crn,
                crm,
                op0: 3,
                op1,
                op2,
                value,
            };
            self.write(&[number::SYSTEM_REGISTER], &[register]);
        }
        let refused = |_| "no memory".to_owned();
        let page = memory.map_pages(PAGE).map_err(refused)?;
        let writable = libc::PROT_READ | libc::PROT_WRITE;
        memory.protect(page, PAGE, writable).map_err(refused)?;
        let code: Vec<u8> = KERNEL.iter().flat_map(|word| word.to_le_bytes()).collect();
        // SAFETY: the page was made writable in the line before.
        unsafe { memory.write_while_mapping(page, &code) };
        let executable = libc::PROT_READ | libc::PROT_EXEC;
        memory.protect(page, PAGE, executable).map_err(refused)?;
        self.write(&[number::X0 + 4, number::X29 + 1], &[page, NOWHERE]);
        // SAFETY: the code stores to no memory.
        let end = unsafe { self.run(page) };
        memory.protect(page, PAGE, libc::PROT_NONE).map_err(refused)?;
        let [signed] = self.read::<u64, 1>(&[number::X0 + 4]);
        if end.cause == Cause::Access(Access::Execute, NOWHERE) && signed != page {
            Ok(())
        } else {
            Err(format!("this Unicorn has no pointer authentication ({:?})", end.cause))
        }
    }

    fn succeeded(&self, status: Status) -> Result<(), String> {
        if status == number::OK {
            Ok(())
        } else {
            Err(format!("Unicorn: {}", self.library.text(status)))
        }
    }

    /// Reads registers: 64 bits for general ones, 128 for vectors, as `T` is.
    pub fn read<T: Default + Copy, const N: usize>(&self, registers: &[c_int; N]) -> [T; N] {
        let mut values = [T::default(); N];
        let places: [*mut c_void; N] = std::array::from_fn(|i| (&raw mut values[i]).cast());
        // SAFETY: there are as many places as registers, each as large as `T`, which callers choose as the header says.
        unsafe { (self.library.read_registers)(self.handle, registers.as_ptr(), places.as_ptr(), N as c_int) };
        values
    }

    /// Writes registers, with the same types.
    pub fn write<T, const N: usize>(&self, registers: &[c_int; N], values: &[T; N]) {
        let places: [*const c_void; N] = std::array::from_fn(|i| (&raw const values[i]).cast());
        // SAFETY: as in `read`; nothing of Unicorn is running.
        unsafe { (self.library.write_registers)(self.handle, registers.as_ptr(), places.as_ptr(), N as c_int) };
    }

    /// Says what the code may do with whole pages: `PROT_*`. To be called before the host's own protection changes.
    pub fn set_protection(&self, start: u64, length: u64, protection: i32) {
        let end = start + length;
        self.mapped.borrow_mut().retain(|&(base, size)| {
            let keep = base >= end || base + size <= start;
            if !keep {
                self.unmap(base, size);
            }
            keep
        });
        let mut pages = self.pages.borrow_mut();
        let touched: Vec<(u64, Pages)> = pages
            .range(..end)
            .rev()
            .take_while(|(base, p)| **base + p.length > start)
            .map(|(&base, &p)| (base, p))
            .collect();
        for (base, old) in touched {
            pages.remove(&base);
            if base < start {
                let length = start - base;
                pages.insert(base, Pages { length, ..old });
            }
            if base + old.length > end {
                let length = base + old.length - end;
                pages.insert(end, Pages { length, ..old });
            }
        }
        if protection != libc::PROT_NONE {
            pages.insert(start, Pages { length, protection });
        }
    }

    fn unmap(&self, base: u64, length: u64) {
        // SAFETY: it is exactly what `map` gave. A failure would leave the emulator with memory that it may not use.
        let status = unsafe { (self.library.unmap)(self.handle, base, length as usize) };
        assert!(status == number::OK, "Unicorn does not give memory back");
    }

    /// Gives the emulator the pages around an address that the code may use.
    fn map(&self, address: u64) -> bool {
        let pages = self.pages.borrow();
        let Some((&base, &Pages { length, protection })) = pages.range(..=address).next_back() else {
            return false;
        };
        if address - base >= length {
            return false;
        }
        // SAFETY: the pages are mapped in this process with at least this protection, but for execution, which only the
        // emulator does; and they are taken back before that ends.
        let status = unsafe {
            (self.library.map)(
                self.handle,
                base,
                length as usize,
                protection as u32,
                base as *mut c_void,
            )
        };
        if status == number::OK {
            self.mapped.borrow_mut().push((base, length));
        }
        status == number::OK
    }

    /// Runs the code at `pc` until something stops it.
    ///
    /// # Safety
    /// The code can write to all memory that `set_protection` has made writable: no Rust value may live there.
    pub unsafe fn run(&self, pc: u64) -> Exception {
        if clock::is_up() {
            return Exception {
                cause: Cause::TimeUp,
                pc,
            };
        }
        {
            let mut mapped = self.mapped.borrow_mut();
            if mapped.len() > MOST_MAPPED {
                // The oldest go: what is still used comes back.
                for (base, length) in mapped.drain(..MOST_MAPPED / 2) {
                    self.unmap(base, length);
                }
            }
        }
        self.cause.set(None);
        self.last.set(pc);
        // SAFETY: `handle` is open; callbacks reach this engine by shared reference only, and no borrow of its cells is
        // held here. What the code does to memory is the caller's promise.
        let status = unsafe { (self.library.start)(self.handle, pc, NOWHERE, 0, 0) };
        let cause = self.cause.get().unwrap_or(match status {
            number::OK if self.read::<u64, 1>(&[number::PC]) == [NOWHERE] => Cause::Access(Access::Execute, NOWHERE),
            // `wfi` and its like.
            number::OK => Cause::Other("the processor was halted"),
            _ => Cause::Other("exception that the emulator does not name"),
        });
        let pc = match cause {
            Cause::Access(Access::Execute, address) => address,
            _ => self.last.get(),
        };
        Exception { cause, pc }
    }

    /// Why the last instruction's access was not even looked up: the address is no multiple of its size although the
    /// instruction demands that, or has more bits than addresses have.
    fn data_abort(&self) -> Cause {
        let pc = self.last.get();
        let pages = self.pages.borrow();
        let executed = pages
            .range(..=pc)
            .next_back()
            .is_some_and(|(base, p)| pc - base + 4 <= p.length);
        if !executed {
            return Cause::Other("data abort");
        }
        // SAFETY: the instruction lies in pages of the run, which are mapped readable.
        let instruction = u32::from_le(unsafe { std::ptr::read_unaligned(pc as *const u32) });
        // "Loads and stores" of the instruction encoding: exclusive and ordered ones, atomic memory operations.
        let exclusive = instruction >> 24 & 0x3F == 0b00_1000;
        let atomic = instruction >> 24 & 0x3F == 0b11_1000 && instruction & 0x0020_0C00 == 0x0020_0000;
        let [address] = self.read::<u64, 1>(&[match instruction >> 5 & 31 {
            31 => number::SP,
            base @ 29..31 => number::X29 + base as c_int - 29,
            base => number::X0 + base as c_int,
        }]);
        if (exclusive || atomic) && address & ((1 << (instruction >> 30)) - 1) != 0 {
            Cause::Misaligned(address)
        } else {
            Cause::NoSuchAddress
        }
    }

    /// Counts into `counts` from now on, when [`Engine::count`] says so.
    pub fn start_counting(&self, counts: CodeCounts) {
        self.counts.replace(Some(counts));
    }

    /// Whether the instructions of the image at this address are counted, which go on now.
    pub fn count(&self, image: Option<u64>) {
        let mut counts = self.counts.borrow_mut();
        if let (Some(counts), Some(image)) = (counts.as_mut(), image) {
            counts.go_on(image);
        }
        self.counting.set(counts.is_some() && image.is_some());
    }

    /// Looks at what was counted.
    pub fn with_counts<T: Default>(&self, look: impl FnOnce(&CodeCounts) -> T) -> T {
        self.counts.borrow().as_ref().map(look).unwrap_or_default()
    }

    fn stop(&self, cause: Cause) {
        if self.cause.get().is_none() {
            self.cause.set(Some(cause));
        }
        // SAFETY: `handle` is open; stopping is what callbacks may do.
        unsafe { (self.library.stop)(self.handle) };
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        // SAFETY: it was opened by `new`, and nothing uses it any more.
        unsafe { (self.library.close)(self.handle) };
    }
}

/// Code touches memory that the emulator does not have, or has not for this. Gives whether to try again.
extern "C" fn on_access(_: Handle, kind: c_int, address: u64, _: c_int, _: i64, user: *mut c_void) -> bool {
    // SAFETY: Unicorn passes the engine that `new` has given it, which lives while it runs; it is only borrowed shared.
    let engine = unsafe { &*user.cast::<Engine>() };
    let unmapped = (number::READ_UNMAPPED..=number::FETCH_UNMAPPED).contains(&kind);
    if unmapped && engine.map(address) {
        return true;
    }
    let access = match kind {
        number::WRITE_UNMAPPED | number::WRITE_PROT => Access::Write,
        number::FETCH_UNMAPPED | number::FETCH_PROT => Access::Execute,
        _ => Access::Read,
    };
    // Some versions look such addresses up before they find that there are none.
    let cause = if address >> ADDRESS_BITS != 0 && access != Access::Execute {
        Cause::NoSuchAddress
    } else {
        Cause::Access(access, address)
    };
    if engine.cause.get().is_none() {
        engine.cause.set(Some(cause));
    }
    false
}

/// An instruction is about to be executed.
extern "C" fn on_instruction(_: Handle, address: u64, _: u32, user: *mut c_void) {
    // SAFETY: as in `on_access`.
    let engine = unsafe { &*user.cast::<Engine>() };
    engine.last.set(address);
    if clock::is_up() {
        engine.stop(Cause::TimeUp);
    }
    if engine.counting.get()
        && let Some(counts) = engine.counts.borrow_mut().as_mut()
    {
        counts.arrive(address);
    }
}

/// Exception numbers of the ARM processor that the emulator is made of, QEMU's (`target/arm/cpu.h`, `EXCP_*`).
mod exception {
    pub const UNDEFINED: u32 = 1;
    pub const SUPERVISOR_CALL: u32 = 2;
    pub const PREFETCH_ABORT: u32 = 3;
    pub const DATA_ABORT: u32 = 4;
    pub const BREAKPOINT: u32 = 7;
}

/// An instruction raised an exception that no memory access caused.
extern "C" fn on_interrupt(_: Handle, number: u32, user: *mut c_void) {
    // SAFETY: as in `on_access`.
    let engine = unsafe { &*user.cast::<Engine>() };
    engine.stop(match number {
        exception::UNDEFINED => Cause::IllegalInstruction,
        exception::SUPERVISOR_CALL => Cause::SystemCall,
        // Other aborts come as accesses to memory.
        exception::PREFETCH_ABORT => Cause::Access(Access::Execute, engine.read(&[number::PC])[0]),
        exception::DATA_ABORT => engine.data_abort(),
        exception::BREAKPOINT => Cause::Breakpoint,
        _ => Cause::Other("exception"),
    });
}

extern "C" fn on_timer(_: c_int) {
    clock::tick();
}

/// Installs the handler of `SIGALRM`. The code is stopped at its next instruction.
///
/// # Safety
/// Nobody else may handle that signal.
unsafe fn catch_timer() -> std::io::Result<()> {
    // SAFETY: the handler has the type that plain handlers have, and only stores to an atomic.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = on_timer as *const () as usize;
        action.sa_flags = libc::SA_RESTART;
        libc::sigemptyset(&raw mut action.sa_mask);
        if libc::sigaction(libc::SIGALRM, &raw const action, std::ptr::null_mut()) != 0 {
            return Err(std::io::Error::last_os_error());
        }
    }
    Ok(())
}
