//! ARM64 code in the emulator, with the ARM64 calling convention of Windows: arguments in x0 to x7, result in x0; x19 to
//! x28, the frame pointer x29, the stack pointer and the low halves of v8 to v15 are kept by a callee; x18 belongs to the
//! system, and no code of an image ever changes it ("Overview of ARM64 ABI conventions", learn.microsoft.com).

use std::ffi::c_int;
use std::rc::Rc;

use super::{Access, Call, CallSite, Cause, Event, Exception, NoStack, POISON, Processor, STAND_IN_FRAME};
use crate::emulator_library::number;
use crate::trace::NativeTrace;
use crate::windows::memory::Memory;
use crate::windows::thunks::Thunks;
use crate::windows::trace::CodeCounts;
use crate::windows::unicorn::Engine;

/// The link register.
const LR: usize = 30;
/// What the system keeps in x18: on Windows, the address of the processor's control region.
const PLATFORM: u64 = 0xB0B0_0000_0000_0018;
/// Condition flags, all set.
const FLAGS: u64 = 0xF000_0000;

/// The general registers x0 to x30, then the stack pointer.
const GENERAL: [c_int; 32] = {
    let mut list = [number::SP; 32];
    let mut i = 0;
    while i < 29 {
        list[i] = number::X0 + i as c_int;
        i += 1;
    }
    list[29] = number::X29;
    list[30] = number::X29 + 1;
    list
};

/// The vector registers.
const VECTORS: [c_int; 32] = {
    let mut list = [number::Q0; 32];
    let mut i = 0;
    while i < 32 {
        list[i] = number::Q0 + i as c_int;
        i += 1;
    }
    list
};

/// The control registers that a call can see.
const CONTROL: [c_int; 2] = [number::NZCV, number::FPCR];

/// The registers that a call can see.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Registers {
    x: [u64; 31],
    sp: u64,
    v: [u128; 32],
    fpcr: u64,
}

/// A call that has not returned.
struct Frame {
    /// Registers at the function's entry.
    before: Registers,
    /// General registers of the code around it and, last, its stack pointer.
    outer: [u64; 32],
    /// Its vector registers.
    outer_vectors: [u128; 32],
    /// Where it continues.
    outer_pc: u64,
}

/// The emulated processor, and the calls that run on it.
pub struct Arm64 {
    engine: Rc<Engine>,
    calls: Vec<Frame>,
    /// General registers, and the stack pointer, as the code left them when it called a stand-in or returned.
    x: [u64; 32],
    /// The instruction to continue at.
    pc: u64,
}

impl Arm64 {
    /// Runs code on `engine`.
    pub fn new(engine: Rc<Engine>) -> Self {
        Arm64 {
            engine,
            calls: Vec::new(),
            x: [0; 32],
            pc: 0,
        }
    }
}

impl Processor for Arm64 {
    fn enter(&mut self, _: &mut Memory, call: &Call<'_>) -> Result<(), NoStack> {
        let top = if self.calls.is_empty() {
            call.stack_top
        } else {
            self.x[31].saturating_sub(STAND_IN_FRAME)
        };
        let sp = top & !15;
        // Nothing of Windows calls an image with more than the eight arguments that registers hold.
        if sp < call.stack_bottom.saturating_add(64) || call.arguments.len() > 8 {
            return Err(NoStack);
        }
        let mut x = [POISON; 31];
        x[..call.arguments.len()].copy_from_slice(call.arguments);
        for (i, register) in x.iter_mut().enumerate().take(30).skip(18) {
            *register = 0xB0B0_0000_0000_0000 + (i / 10 * 16 + i % 10) as u64;
        }
        x[18] = PLATFORM;
        x[LR] = call.return_address;
        let before = Registers {
            x,
            sp,
            v: std::array::from_fn(|i| 0xB1B1_0000_0000_0000_A5A5 + i as u128),
            fpcr: 0,
        };
        self.calls.push(Frame {
            before,
            outer: self.x,
            outer_vectors: self.engine.read(&VECTORS),
            outer_pc: self.pc,
        });
        let mut general = [sp; 32];
        general[..31].copy_from_slice(&x);
        self.engine.write(&GENERAL, &general);
        self.engine.write(&VECTORS, &before.v);
        self.engine.write(&CONTROL, &[FLAGS, before.fpcr]);
        self.pc = call.function;
        Ok(())
    }

    unsafe fn run(&mut self, thunks: &Thunks) -> Event {
        // SAFETY: promised by the caller.
        let exception = unsafe { self.engine.run(self.pc) };
        if let Exception {
            cause: Cause::Access(Access::Execute, address),
            ..
        } = exception
            && let Some(index) = thunks.index_at(address)
        {
            self.x = self.engine.read(&GENERAL);
            return Event::Call(index);
        }
        Event::Exception(exception)
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

    fn argument(&self, memory: &Memory, index: usize) -> Option<u64> {
        if index < 8 {
            Some(self.x[index])
        } else {
            memory.read_u64(self.x[31].wrapping_add(8 * (index as u64 - 8)))
        }
    }

    fn call_site(&self, _: &Memory) -> CallSite {
        let sp = self.x[31];
        CallSite {
            return_address: Some(self.x[LR]),
            stack_pointer: sp,
            stack_register: "sp",
            home_bytes: 0,
            misaligned: (!sp.is_multiple_of(16)).then(|| format!("sp modulo 16 is {} at a call", sp % 16)),
            broken: (self.x[18] != PLATFORM).then(|| "x18 is changed at a call".into()),
        }
    }

    fn guarded_target(&self, _jumps: bool) -> u64 {
        self.x[15]
    }

    fn resume_checked(&mut self) {
        self.pc = self.x[LR];
        let mut general = self.x;
        // LLVM's list of what the function preserves (`CSR_Win_AArch64_CFGuard_Check`) ends at x8.
        general[9..18].fill(POISON);
        general[LR] = POISON;
        self.engine.write(&GENERAL, &general);
    }

    fn resume(&mut self, _: &mut Memory, value: u64) -> Result<(), NoStack> {
        self.pc = self.x[LR];
        let mut general = self.x;
        general[0] = value;
        general[1..18].fill(POISON);
        general[LR] = POISON;
        let poison = u128::from(POISON) << 64 | u128::from(POISON);
        let mut vectors: [u128; 32] = self.engine.read(&VECTORS);
        for (i, vector) in vectors.iter_mut().enumerate() {
            // Of v8 to v15, a callee keeps the low halves.
            let kept = if (8..16).contains(&i) { u128::from(u64::MAX) } else { 0 };
            *vector = *vector & kept | poison & !kept;
        }
        self.engine.write(&GENERAL, &general);
        self.engine.write(&VECTORS, &vectors);
        self.engine.write(&[number::NZCV], &[FLAGS]);
        Ok(())
    }

    fn leave(&mut self) -> Result<u64, Vec<String>> {
        let Some(frame) = self.calls.pop() else {
            return Err(vec!["a call that was not made".into()]);
        };
        let (before, after) = (&frame.before, self.x);
        let mut changed: Vec<String> = (18..30)
            .filter(|&i| before.x[i] != after[i])
            .map(|i| format!("x{i}"))
            .collect();
        if before.sp != after[31] {
            changed.push("sp".into());
        }
        let vectors: [u128; 32] = self.engine.read(&VECTORS);
        changed.extend(
            (8..16)
                .filter(|&i| before.v[i] as u64 != vectors[i] as u64)
                .map(|i| format!("d{i}")),
        );
        if self.engine.read::<u64, 1>(&[number::FPCR]) != [before.fpcr] {
            changed.push("FPCR".into());
        }
        self.x = frame.outer;
        self.pc = frame.outer_pc;
        self.engine.write(&GENERAL, &frame.outer);
        self.engine.write(&VECTORS, &frame.outer_vectors);
        if changed.is_empty() { Ok(after[0]) } else { Err(changed) }
    }
}
