//! x86-64 code on an emulated processor.
//!
//! Thunks are the same code as for the host's processor, emulated like all other: `push index; jmp [trap]`. The trap is memory that
//! cannot be executed: the fetch stops the emulator.

use std::ffi::c_int;
use std::rc::Rc;

use super::{Core, Registers};
use crate::emulator_library::number;
use crate::trace::NativeTrace;
use crate::windows::cpu::{Access, Cause, Event, Exception};
use crate::windows::trace::CodeCounts;
use crate::windows::unicorn::Engine;
use crate::windows::unicorn::x64::GENERAL;

/// All registers of 64 bits and fewer.
const SCALARS: [c_int; 18] = {
    let mut list = [number::EFLAGS; 18];
    let mut i = 0;
    while i < GENERAL.len() {
        list[i] = GENERAL[i];
        i += 1;
    }
    list[17] = number::MXCSR;
    list
};

/// The vector registers.
const VECTORS: [c_int; 16] = {
    let mut list = [number::XMM0; 16];
    let mut i = 0;
    while i < list.len() {
        list[i] += i as c_int;
        i += 1;
    }
    list
};

/// The emulated processor.
pub struct Emulated {
    engine: Rc<Engine>,
    /// Where thunks jump.
    trap: u64,
    registers: Registers,
}

impl Emulated {
    /// Runs code on `engine`, and takes a jump to `trap`, where nothing can be executed, as a thunk's.
    pub fn new(engine: Rc<Engine>, trap: u64) -> Self {
        Emulated {
            engine,
            trap,
            registers: Registers::default(),
        }
    }

    /// Takes the top word of the code's stack; `None` if the code could not read it.
    fn pop(&mut self) -> Option<u64> {
        let rsp = self.registers.rsp;
        let (word, 8) = self.engine.bytes::<8>(rsp) else {
            return None;
        };
        self.registers.rsp = rsp.wrapping_add(8);
        Some(u64::from_le_bytes(word))
    }

    /// Gives the engine the registers.
    fn write(&self) {
        let r = &self.registers;
        let scalars = [
            r.rax,
            r.rcx,
            r.rdx,
            r.rbx,
            r.rsp,
            r.rbp,
            r.rsi,
            r.rdi,
            r.r8,
            r.r9,
            r.r10,
            r.r11,
            r.r12,
            r.r13,
            r.r14,
            r.r15,
            r.flags,
            r.mxcsr.into(),
        ];
        self.engine.write(&SCALARS, &scalars);
        self.engine.write(&VECTORS, &r.xmm);
    }

    /// Takes them from there.
    fn read(&mut self) {
        let [
            rax,
            rcx,
            rdx,
            rbx,
            rsp,
            rbp,
            rsi,
            rdi,
            r8,
            r9,
            r10,
            r11,
            r12,
            r13,
            r14,
            r15,
            flags,
            mxcsr,
        ] = self.engine.read::<u64, 18>(&SCALARS);
        self.registers = Registers {
            rax,
            rbx,
            rcx,
            rdx,
            rsi,
            rdi,
            rbp,
            rsp,
            r8,
            r9,
            r10,
            r11,
            r12,
            r13,
            r14,
            r15,
            flags,
            mxcsr: mxcsr as u32,
            padding: 0,
            xmm: self.engine.read(&VECTORS),
        };
    }
}

impl Core for Emulated {
    fn registers(&self) -> &Registers {
        &self.registers
    }

    fn registers_mut(&mut self) -> &mut Registers {
        &mut self.registers
    }

    unsafe fn run(&mut self) -> Event {
        let rsp = self.registers.rsp;
        let unreadable = Event::Exception(Exception {
            cause: Cause::Access(Access::Read, rsp),
            pc: self.trap,
        });
        let Some(pc) = self.pop() else { return unreadable };
        self.write();
        // SAFETY: promised by the caller.
        let exception = unsafe { self.engine.run(pc) };
        if exception.cause != Cause::Access(Access::Execute, self.trap) {
            return Event::Exception(exception);
        }
        self.read();
        match self.pop() {
            Some(index) => Event::Call(index as u32),
            None => unreadable,
        }
    }

    fn start_counting(&mut self, counts: CodeCounts) {
        self.engine.start_counting(counts);
    }

    fn count(&mut self, image: Option<u64>) {
        self.engine.count(image);
    }

    fn counted(&self) -> u64 {
        self.engine.with_counts(CodeCounts::total)
    }

    fn trace(&self) -> NativeTrace {
        self.engine.with_counts(CodeCounts::trace)
    }
}
