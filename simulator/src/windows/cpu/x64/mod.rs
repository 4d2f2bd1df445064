//! x86-64 code, with the x64 calling convention of Windows, on the host's processor or an emulated one.

pub mod emulated;

use super::{Call, CallSite, Event, NoStack, POISON, Processor, STACK_FILL, STAND_IN_FRAME};
use crate::trace::NativeTrace;
use crate::windows::memory::Memory;
use crate::windows::thunks::Thunks;
use crate::windows::trace::CodeCounts;

/// The registers that a call can see.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct Registers {
    pub rax: u64,
    pub rbx: u64,
    pub rcx: u64,
    pub rdx: u64,
    pub rsi: u64,
    pub rdi: u64,
    pub rbp: u64,
    pub rsp: u64,
    pub r8: u64,
    pub r9: u64,
    pub r10: u64,
    pub r11: u64,
    pub r12: u64,
    pub r13: u64,
    pub r14: u64,
    pub r15: u64,
    pub flags: u64,
    pub mxcsr: u32,
    pub padding: u32,
    pub xmm: [u128; 16],
}

/// MXCSR as Windows starts threads with.
pub const MXCSR: u32 = 0x1F80;

/// Direction flag.
pub const DIRECTION_FLAG: u64 = 0x400;

/// What executes the code. Between [`Core::run`] and the next, it keeps the registers.
pub trait Core {
    /// Registers as the code left them.
    fn registers(&self) -> &Registers;

    /// Registers as the code will find them.
    fn registers_mut(&mut self) -> &mut Registers;

    /// Continues at the address that the stack's top word holds, which it takes from there, until the code gives the processor back.
    ///
    /// # Safety
    /// As of [`Processor::run`].
    unsafe fn run(&mut self) -> Event;

    /// As of [`Processor`].
    fn start_timing(&mut self) -> bool {
        false
    }

    /// As of [`Processor`].
    fn nanoseconds(&self) -> Option<u64> {
        None
    }

    /// As of [`Processor`].
    fn start_counting(&mut self, counts: CodeCounts);

    /// As of [`Processor`].
    fn count(&mut self, image: Option<u64>);

    /// As of [`Processor`].
    fn counted(&self) -> u64;

    /// As of [`Processor`].
    fn trace(&self) -> NativeTrace;
}

/// An x64 processor, and the calls that run on it.
pub struct X64<C> {
    core: C,
    calls: Vec<Frame>,
}

/// A call that has not returned.
struct Frame {
    /// Registers at the function's entry.
    before: Registers,
    /// Registers of the code around it.
    outer: Registers,
    /// What `rsp` must be afterwards.
    return_rsp: u64,
}

impl<C: Core> X64<C> {
    /// Runs code by `core`.
    pub fn new(core: C) -> Self {
        X64 {
            core,
            calls: Vec::new(),
        }
    }
}

impl<C: Core> Processor for X64<C> {
    fn enter(&mut self, memory: &mut Memory, call: &Call<'_>) -> Result<(), NoStack> {
        let outer = *self.core.registers();
        let top = if self.calls.is_empty() {
            call.stack_top
        } else {
            outer.rsp.saturating_sub(STAND_IN_FRAME)
        };
        let words = call.arguments.len().max(4) as u64 + 1;
        let entry = (top.saturating_sub(8 * words) & !15).saturating_sub(8);
        let mut frame = vec![call.function, call.return_address];
        frame.extend([POISON; 4]);
        frame.extend(call.arguments.iter().skip(4));
        let bytes: Vec<u8> = frame.iter().flat_map(|word| word.to_le_bytes()).collect();
        if entry < call.stack_bottom + 64 || !memory.write(entry - 8, &bytes) {
            return Err(NoStack);
        }
        let argument = |i: usize| call.arguments.get(i).copied().unwrap_or(POISON);
        let before = Registers {
            rax: POISON,
            rbx: 0xB0B0_0000_0000_0001,
            rcx: argument(0),
            rdx: argument(1),
            rsi: 0xB0B0_0000_0000_0002,
            rdi: 0xB0B0_0000_0000_0003,
            rbp: 0xB0B0_0000_0000_0004,
            rsp: entry - 8,
            r8: argument(2),
            r9: argument(3),
            r10: POISON,
            r11: POISON,
            r12: 0xB0B0_0000_0000_0005,
            r13: 0xB0B0_0000_0000_0006,
            r14: 0xB0B0_0000_0000_0007,
            r15: 0xB0B0_0000_0000_0008,
            flags: 0x202,
            mxcsr: MXCSR,
            padding: 0,
            xmm: std::array::from_fn(|i| 0xB1B1_0000_0000_0000_A5A5 + i as u128),
        };
        *self.core.registers_mut() = before;
        self.calls.push(Frame {
            before,
            outer,
            return_rsp: entry + 8,
        });
        Ok(())
    }

    unsafe fn run(&mut self, _: &Thunks) -> Event {
        // SAFETY: promised by the caller; `enter` and `resume` have left an address on top of the stack.
        unsafe { self.core.run() }
    }

    fn start_timing(&mut self) -> bool {
        self.core.start_timing()
    }

    fn nanoseconds(&self) -> Option<u64> {
        self.core.nanoseconds()
    }

    fn start_counting(&mut self, counts: CodeCounts) {
        self.core.start_counting(counts);
    }

    fn count(&mut self, image: Option<u64>) {
        self.core.count(image);
    }

    fn counted(&self) -> u64 {
        self.core.counted()
    }

    fn trace(&self) -> NativeTrace {
        self.core.trace()
    }

    fn argument(&self, memory: &Memory, index: usize) -> Option<u64> {
        let registers = self.core.registers();
        match index {
            0 => Some(registers.rcx),
            1 => Some(registers.rdx),
            2 => Some(registers.r8),
            3 => Some(registers.r9),
            _ => memory.read_u64(registers.rsp.wrapping_add(8 + 8 * index as u64)),
        }
    }

    fn call_site(&self, memory: &Memory) -> CallSite {
        let registers = self.core.registers();
        let rsp = registers.rsp;
        CallSite {
            return_address: memory.read_u64(rsp),
            stack_pointer: rsp,
            stack_register: "rsp",
            home_bytes: 40,
            misaligned: (rsp % 16 != 8).then(|| format!("rsp modulo 16 is {} at the callee's entry", rsp % 16)),
            broken: (registers.flags & DIRECTION_FLAG != 0).then(|| "the direction flag is set at a call".into()),
        }
    }

    fn guarded_target(&self, jumps: bool) -> u64 {
        let registers = self.core.registers();
        if jumps { registers.rax } else { registers.rcx }
    }

    fn resume_checked(&mut self) {
        let registers = self.core.registers_mut();
        for register in [&mut registers.rax, &mut registers.r10, &mut registers.r11] {
            *register = POISON;
        }
    }

    fn resume(&mut self, memory: &mut Memory, value: u64) -> Result<(), NoStack> {
        let registers = self.core.registers_mut();
        registers.rax = value;
        for register in [
            &mut registers.rcx,
            &mut registers.rdx,
            &mut registers.r8,
            &mut registers.r9,
            &mut registers.r10,
            &mut registers.r11,
        ] {
            *register = POISON;
        }
        for xmm in &mut registers.xmm[..6] {
            *xmm = u128::from(POISON) << 64 | u128::from(POISON);
        }
        registers.flags = 0x202 | 0x8D5; // all status flags set
        // The home space above the return address is the callee's.
        if memory.fill(registers.rsp + 8, 32, STACK_FILL) {
            Ok(())
        } else {
            Err(NoStack)
        }
    }

    fn leave(&mut self) -> Result<u64, Vec<String>> {
        let Some(frame) = self.calls.pop() else {
            return Err(vec!["a call that was not made".into()]);
        };
        let (before, after) = (&frame.before, *self.core.registers());
        let mut changed: Vec<String> = [
            ("rbx", before.rbx, after.rbx),
            ("rbp", before.rbp, after.rbp),
            ("rsi", before.rsi, after.rsi),
            ("rdi", before.rdi, after.rdi),
            ("r12", before.r12, after.r12),
            ("r13", before.r13, after.r13),
            ("r14", before.r14, after.r14),
            ("r15", before.r15, after.r15),
            ("rsp", frame.return_rsp, after.rsp),
            ("MXCSR", before.mxcsr.into(), after.mxcsr.into()),
            ("the direction flag", 0, after.flags & DIRECTION_FLAG),
        ]
        .iter()
        .filter(|(_, before, after)| before != after)
        .map(|(name, ..)| (*name).to_owned())
        .collect();
        changed.extend(
            (6..16)
                .filter(|&i| before.xmm[i] != after.xmm[i])
                .map(|i| format!("xmm{i}")),
        );
        *self.core.registers_mut() = frame.outer;
        if changed.is_empty() {
            Ok(after.rax)
        } else {
            Err(changed)
        }
    }
}
