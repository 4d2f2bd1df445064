//! One processor of the Unicorn emulator, which sees the memory of the run at its own addresses: for ARM64 code as [`arm64`]
//! makes it, for x64 code as [`x64`] does.
//!
//! [`Engine`] is told which pages the code may use and for what. It gives the emulator a run of pages when the code
//! first touches it, and takes it back when its protection changes: the emulator's own bookkeeping grows with the square
//! of the mappings, and version 2.0 aborts at some two thousand. What the code touches beyond its pages stops it.
//!
//! The emulator keeps pointers into that memory. This is sound as long as each run of pages is taken back before its
//! memory is unmapped or forbidden to the host, which [`Engine::set_protection`] does.

pub mod arm64;
pub mod x64;

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::ffi::{c_int, c_void};
use std::rc::Rc;

use super::clock;
use super::cpu::{Access, Cause, Exception};
use super::host::Protection;
use super::memory::{Memory, PAGE};
use super::trace::CodeCounts;
use crate::emulator_library::{EmulatorLibrary, Handle, Status, number};

/// An address that is no instruction's: emulation is never asked to stop by reaching an address.
pub const NOWHERE: u64 = u64::MAX - 3;

/// Most runs of pages that the emulator has when code starts. While it runs, there may be more.
const MOST_MAPPED: usize = 128;

/// How many addresses are known at once of instructions that do nothing wrong unnoticed.
const HARMLESS: usize = 8192;

/// Consecutive pages with one protection.
#[derive(Clone, Copy, Debug)]
struct Pages {
    length: u64,
    protection: Protection,
}

/// What a machine needs that the emulator can be.
pub struct Model {
    /// Its name.
    pub name: &'static str,
    /// `UC_ARCH_*`.
    pub architecture: c_int,
    /// `UC_MODE_*`.
    pub mode: c_int,
    /// `UC_CPU_*`.
    pub cpu: c_int,
    /// Whether addresses of more bits than the machine's memory has are to be seen as they are. Version 2.1 otherwise forgets the
    /// upper ones; version 2.0.1 never does and refuses to be asked for that.
    pub all_address_bits: bool,
    /// The register of the program counter.
    pub pc: c_int,
    /// Instructions that call the system, `UC_*_INS_*`: those that the emulator takes for nothing if nobody asks for them.
    pub system_calls: &'static [c_int],
    /// What an access to an address is that no memory can have; `None` if some can.
    pub impossible: fn(Access, u64) -> Option<Cause>,
    /// What an exception is that no access to memory caused, by the emulator's number.
    pub exception: fn(&Engine, u32) -> Cause,
    /// What the instruction at an address is, which the emulator does not know.
    pub unknown: fn(&Engine, u64) -> Cause,
    /// What the instruction at an address is about to do wrong that the emulator lets pass.
    pub unnoticed: Option<fn(&Engine, u64) -> Option<Cause>>,
    /// The instruction that could not be fetched, because it, or the rest of it, would be at this address.
    pub unfetched: fn(&Engine, u64) -> u64,
}

/// An emulated processor.
pub struct Engine {
    model: &'static Model,
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
    /// Addresses of instructions that do nothing wrong unnoticed, by their low bits.
    harmless: Box<[Cell<u64>]>,
}

impl Engine {
    /// Loads the emulator and makes a processor, which is as it is at the machine's start.
    pub fn new(model: &'static Model) -> Result<Rc<Engine>, String> {
        let library = EmulatorLibrary::load()?;
        let mut handle: Handle = std::ptr::null_mut();
        // SAFETY: the pointer is valid, and the numbers are those of the header.
        let status = unsafe { (library.open)(model.architecture, model.mode, &raw mut handle) };
        if status != number::OK {
            return Err(format!(
                "Unicorn has no {} processor: {}",
                model.name,
                library.text(status)
            ));
        }
        let engine = Rc::new(Engine {
            model,
            library,
            handle,
            pages: RefCell::default(),
            mapped: RefCell::default(),
            cause: Cell::new(None),
            last: Cell::new(0),
            counting: Cell::new(false),
            counts: RefCell::default(),
            harmless: vec![Cell::new(NOWHERE); HARMLESS].into(),
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
            let mut status = (engine.library.control)(handle, number::SET_CPU_MODEL, model.cpu);
            if model.all_address_bits {
                (engine.library.control)(handle, number::SET_TLB, number::TLB_VIRTUAL);
            }
            for (kind, callback) in hooks {
                if status == number::OK {
                    status = (engine.library.add_hook)(handle, &raw mut hook, kind, callback, user, 1, 0);
                }
            }
            let callback = on_system_call as *const () as *mut c_void;
            for &instruction in model.system_calls {
                if status == number::OK {
                    let kind = number::HOOK_INSTRUCTION;
                    status = (engine.library.add_hook)(handle, &raw mut hook, kind, callback, user, 1, 0, instruction);
                }
            }
            status
        };
        engine.succeeded(status)?;
        Ok(engine)
    }

    /// Executes what comes before a driver on a real machine, from the first byte of a page of its own, up to a jump to
    /// [`NOWHERE`]. The emulator also makes its code buffer now, which it could not once the process is confined.
    fn execute_at_start(&self, memory: &mut Memory, code: &[u8], prepare: impl FnOnce(u64)) -> Result<(), String> {
        let refused = |_| "no memory".to_owned();
        let page = memory.map_pages(PAGE).map_err(refused)?;
        let writable = Protection::READ | Protection::WRITE;
        memory.protect(page, PAGE, writable).map_err(refused)?;
        // SAFETY: the page was made writable in the line before.
        unsafe { memory.write_while_mapping(page, code) };
        let executable = Protection::READ | Protection::EXECUTE;
        memory.protect(page, PAGE, executable).map_err(refused)?;
        prepare(page);
        // SAFETY: the code stores to no memory.
        let end = unsafe { self.run(page) };
        memory.protect(page, PAGE, Protection::NONE).map_err(refused)?;
        match end.cause {
            Cause::Access(Access::Execute, NOWHERE) => Ok(()),
            other => Err(format!(
                "this Unicorn's {} processor does not start ({other:?})",
                self.model.name
            )),
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

    /// Says what the code may do with whole pages. To be called before the host's own protection changes.
    pub fn set_protection(&self, start: u64, length: u64, protection: Protection) {
        let end = start + length;
        if protection.has(Protection::EXECUTE) {
            self.harmless.iter().for_each(|address| address.set(NOWHERE));
        }
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
        if protection != Protection::NONE {
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
                protection.bits(),
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
            number::OK if self.pc() == NOWHERE => Cause::Access(Access::Execute, NOWHERE),
            // `wfi` and its like.
            number::OK => Cause::Other("the processor was halted"),
            number::NO_INSTRUCTION => (self.model.unknown)(self, self.last.get()),
            _ => Cause::Other("exception that the emulator does not name"),
        });
        let pc = match cause {
            Cause::Access(Access::Execute, address) => (self.model.unfetched)(self, address),
            _ => self.last.get(),
        };
        Exception { cause, pc }
    }

    /// The program counter.
    fn pc(&self) -> u64 {
        self.read(&[self.model.pc])[0]
    }

    /// Bytes that the code may use, from an address on: as many as there are, up to `N`.
    pub fn bytes<const N: usize>(&self, address: u64) -> ([u8; N], usize) {
        let (mut bytes, mut length) = ([0; N], 0);
        let pages = self.pages.borrow();
        while length < N {
            let at = address.wrapping_add(length as u64);
            let Some((&base, found)) = pages
                .range(..=at)
                .next_back()
                .filter(|(base, p)| at - **base < p.length)
            else {
                break;
            };
            let here = (N - length).min((base + found.length - at) as usize);
            // SAFETY: the bytes lie in pages of the run, which are mapped readable, and nothing of the code runs.
            unsafe { std::ptr::copy_nonoverlapping(at as *const u8, bytes[length..].as_mut_ptr(), here) };
            length += here;
        }
        (bytes, length)
    }

    /// Whether the instruction at an address is known to do nothing wrong unnoticed.
    fn is_harmless(&self, address: u64) -> bool {
        self.harmless[address as usize % HARMLESS].get() == address
    }

    /// The instruction at an address never does anything wrong unnoticed.
    fn set_harmless(&self, address: u64) {
        self.harmless[address as usize % HARMLESS].set(address);
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
    let cause = (engine.model.impossible)(access, address).unwrap_or(Cause::Access(access, address));
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
    if let Some(unnoticed) = engine.model.unnoticed
        && let Some(cause) = unnoticed(engine, address)
    {
        engine.stop(cause);
        return;
    }
    if engine.counting.get()
        && let Some(counts) = engine.counts.borrow_mut().as_mut()
        && counts.arrive(address)
    {
        // Into a thunk, which gives the processor back.
        engine.counting.set(false);
    }
}

/// An instruction raised an exception that no memory access caused.
extern "C" fn on_interrupt(_: Handle, number: u32, user: *mut c_void) {
    // SAFETY: as in `on_access`.
    let engine = unsafe { &*user.cast::<Engine>() };
    engine.stop((engine.model.exception)(engine, number));
}

/// An instruction of [`Model::system_calls`] is executed.
extern "C" fn on_system_call(_: Handle, user: *mut c_void) {
    // SAFETY: as in `on_access`.
    let engine = unsafe { &*user.cast::<Engine>() };
    engine.stop(Cause::SystemCall);
}
