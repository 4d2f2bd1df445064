//! The simulated kernel: its state, and how it calls functions of the image.

use std::collections::BTreeMap;
use std::rc::Rc;

use bpf2sys_platform::Platform;

use super::cpu::{Cpu, DIRECTION_FLAG, Event, MXCSR, Registers};
use super::driver::Driver;
use super::interpret::Interpreted;
use super::mapping::MappedImage;
use super::maps::Maps;
use super::memory::{Memory, OutOfMemory, Use};
use super::module::LoadedModule;
use super::nmr::Nmr;
use super::thunks::{Target, Thunks};
use crate::address_space::AddressSpace;
use crate::error::SimulatorError;
use crate::request::RunRequest;
use crate::rule::{Rule, Violation};

/// What native code is being run for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Activity {
    /// `DriverEntry`.
    DriverEntry,
    /// The registry query routine.
    QueryRoutine,
    /// The NMR attach callback.
    Attach,
    /// The NMR detach callback.
    Detach,
    /// `DriverUnload`.
    Unload,
    /// `DllMain`.
    DllMain,
    /// The exported function of a DLL.
    MetadataTable,
    /// A function of the metadata table.
    Metadata(&'static str),
    /// A program, by index.
    Program(usize),
}

/// Byte that unused stack is filled with. Not zero: code must not rely on a cleared stack.
pub const STACK_FILL: u8 = 0xA5;
const POISON: u64 = 0xA5A5_A5A5_A5A5_A5A5;
/// What a stand-in's own frame takes of the stack when it calls back.
const STAND_IN_FRAME: u64 = 512;

/// The stack that native code runs on.
pub struct Stack {
    /// Lowest usable byte.
    pub bottom: u64,
    /// First byte above.
    pub top: u64,
    /// What it looks like before a call.
    pub untouched: Vec<u8>,
}

/// Everything.
pub struct Kernel {
    /// Memory.
    pub memory: Memory,
    /// Processor.
    pub cpu: Cpu,
    /// Stand-ins.
    pub thunks: Thunks,
    /// The image.
    pub image: MappedImage,
    /// Where functions return to.
    pub return_address: u64,
    /// The stack.
    pub stack: Stack,
    /// What runs, outermost first.
    pub activities: Vec<Activity>,
    /// The driver, once it has started.
    pub driver: Driver,
    /// Registration and binding.
    pub nmr: Nmr,
    /// Providers.
    pub platform: Platform,
    /// The request.
    pub request: RunRequest,
    /// The module, once it has attached and is loaded.
    pub module: LoadedModule,
    /// Maps.
    pub maps: Maps,
    /// What programs do, for the report.
    pub state: super::invoke::RunState,
    /// What is executed instead of the image's code, if anything.
    pub interpreted: Option<Rc<Interpreted>>,
    /// Names of programs by the address of their function.
    pub functions: BTreeMap<u64, String>,
}

impl Kernel {
    /// What is going on, for messages.
    pub fn during(&self) -> String {
        match self.activities.last() {
            None => "while the module was loaded".into(),
            Some(Activity::DriverEntry) => "in DriverEntry".into(),
            Some(Activity::QueryRoutine) => "in the registry query routine".into(),
            Some(Activity::Attach) => "in the attach callback".into(),
            Some(Activity::Detach) => "in the detach callback".into(),
            Some(Activity::Unload) => "in DriverUnload".into(),
            Some(Activity::DllMain) => "in DllMain".into(),
            Some(Activity::MetadataTable) => "in get_metadata_table".into(),
            Some(Activity::Metadata(name)) => format!("in the metadata function {name}"),
            Some(Activity::Program(index)) => format!("program {} running", self.program_name(*index)),
        }
    }

    /// A broken rule, here and now.
    pub fn broken(&self, rule: Rule, detail: impl Into<String>) -> SimulatorError {
        SimulatorError::Kernel {
            during: self.during(),
            violation: Violation::new(rule, detail),
        }
    }

    /// A broken rule that was found by reading.
    pub fn refuse(&self, violation: Violation) -> SimulatorError {
        SimulatorError::Kernel {
            during: self.during(),
            violation,
        }
    }

    /// A block of kernel memory, or an error that says what did not fit.
    pub fn allocate(&mut self, length: usize, label: &str, allowed: Use) -> Result<u64, SimulatorError> {
        self.memory
            .allocate(length, 16, label, allowed)
            .map_err(|OutOfMemory| no_memory(label))
    }

    /// Allocates a block that holds `bytes`.
    pub fn allocate_bytes(&mut self, bytes: &[u8], label: &str) -> Result<u64, SimulatorError> {
        let start = self.allocate(bytes.len(), label, Use::Kernel)?;
        if self.memory.write(start, bytes) {
            Ok(start)
        } else {
            Err(no_memory(label))
        }
    }

    /// An address that means something to the kernel only: using it as a pointer faults.
    pub fn opaque_handle(&mut self, label: &str) -> Result<u64, SimulatorError> {
        let start = self
            .memory
            .map_pages(super::memory::PAGE)
            .map_err(|OutOfMemory| no_memory(label))?;
        self.memory.add(super::memory::Region {
            start,
            length: 4096,
            label: label.to_owned(),
            allowed: Use::None,
        });
        Ok(start)
    }

    /// Argument `index` (from 0) of the stand-in that was called.
    pub fn argument(&mut self, index: usize) -> Result<u64, SimulatorError> {
        let registers = *self.cpu.registers();
        match index {
            0 => Ok(registers.rcx),
            1 => Ok(registers.rdx),
            2 => Ok(registers.r8),
            3 => Ok(registers.r9),
            _ => {
                let address = registers.rsp.wrapping_add(8 + 8 * index as u64);
                let value = self.memory.read_u64(address);
                value.ok_or_else(|| {
                    self.broken(Rule::StackAtCall, format!("argument {} is not on the stack", index + 1))
                })
            }
        }
    }

    /// Calls a function of the image and gives what it returned in `rax`.
    pub fn call(&mut self, function: u64, arguments: &[u64], activity: Activity) -> Result<u64, SimulatorError> {
        let outer = *self.cpu.registers();
        let top = if self.activities.is_empty() {
            let length = (self.stack.top - self.stack.bottom) as usize;
            if !self.memory.fill(self.stack.bottom, length, STACK_FILL) {
                return Err(no_memory("the stack"));
            }
            self.stack.top
        } else {
            outer.rsp.saturating_sub(STAND_IN_FRAME)
        };
        self.activities.push(activity);
        let words = arguments.len().max(4) as u64 + 1;
        let entry = (top.saturating_sub(8 * words) & !15) - 8;
        let mut frame = vec![function, self.return_address];
        frame.extend([POISON; 4]);
        frame.extend(arguments.iter().skip(4));
        let bytes: Vec<u8> = frame.iter().flat_map(|word| word.to_le_bytes()).collect();
        if entry < self.stack.bottom + 64 || !self.memory.write(entry - 8, &bytes) {
            return Err(self.broken(Rule::StackAtCall, "no stack is left for the call"));
        }
        let argument = |i: usize| arguments.get(i).copied().unwrap_or(POISON);
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
        *self.cpu.registers() = before;
        loop {
            // SAFETY: this process exists for this run; native code can harm only it, and what it knows of are
            // blocks of `Memory`, none of which a Rust value lives in.
            let event = unsafe { self.cpu.run() };
            let target = match event {
                Event::Exception(exception) => return Err(self.exception(&exception)),
                Event::Call(index) => self.thunks.target(index),
            };
            match target {
                Some(Target::Return) => {
                    let after = *self.cpu.registers();
                    self.check_return(&before, &after, entry + 8)?;
                    self.activities.pop();
                    *self.cpu.registers() = outer;
                    return Ok(after.rax);
                }
                Some(target) => self.stand_in(target)?,
                None => return Err(self.broken(Rule::UnexpectedCall, "a thunk that does not exist was called")),
            }
        }
    }

    /// Runs a stand-in and lets its caller find what the convention leaves it: `rax`, and garbage in the rest that a
    /// callee may change.
    fn stand_in(&mut self, target: Target) -> Result<(), SimulatorError> {
        let at_call = *self.cpu.registers();
        self.check_call_site(&at_call)?;
        let value = match target {
            Target::Import(import) => self.import(import)?,
            Target::Helper { program, slot } => self.helper(program, slot)?,
            Target::Return => POISON,
        };
        let mut registers = at_call;
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
        *self.cpu.registers() = registers;
        if !self.memory.fill(at_call.rsp + 8, 32, STACK_FILL) {
            return Err(self.broken(Rule::StackAtCall, "there is no home space above the return address"));
        }
        Ok(())
    }

    fn check_call_site(&self, registers: &Registers) -> Result<(), SimulatorError> {
        let rsp = registers.rsp;
        if rsp % 16 != 8 {
            return Err(self.broken(
                Rule::StackAtCall,
                format!("rsp modulo 16 is {} at the callee's entry", rsp % 16),
            ));
        }
        if rsp < self.stack.bottom || rsp + 40 > self.stack.top {
            return Err(self.broken(Rule::StackAtCall, format!("rsp is in {}", self.memory.place(rsp))));
        }
        let return_address = self.memory.read_u64(rsp).unwrap_or(0);
        // A function may end by jumping to a stand-in, which then returns for it.
        if !self.image.is_code(return_address) && return_address != self.return_address {
            let place = self.memory.place(return_address);
            return Err(self.broken(Rule::StackAtCall, format!("the return address is {place}")));
        }
        if registers.flags & DIRECTION_FLAG != 0 {
            return Err(self.broken(Rule::Nonvolatile, "the direction flag is set at a call"));
        }
        Ok(())
    }

    fn check_return(&self, before: &Registers, after: &Registers, rsp: u64) -> Result<(), SimulatorError> {
        let mut changed: Vec<String> = [
            ("rbx", before.rbx, after.rbx),
            ("rbp", before.rbp, after.rbp),
            ("rsi", before.rsi, after.rsi),
            ("rdi", before.rdi, after.rdi),
            ("r12", before.r12, after.r12),
            ("r13", before.r13, after.r13),
            ("r14", before.r14, after.r14),
            ("r15", before.r15, after.r15),
            ("rsp", rsp, after.rsp),
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
        if changed.is_empty() {
            return Ok(());
        }
        Err(self.broken(Rule::Nonvolatile, format!("changed on return: {}", changed.join(", "))))
    }

    /// Bytes of stack that the last outermost call has touched, if they are more than `known`; else `known`.
    pub fn deepest_stack(&self, known: u32) -> u32 {
        let length = (self.stack.top - self.stack.bottom) as usize;
        let below = self
            .memory
            .read(self.stack.bottom, length.saturating_sub(known as usize))
            .unwrap_or_default();
        // Mostly nothing has changed, which one comparison of all bytes tells.
        if below == self.stack.untouched[..below.len()] {
            return known;
        }
        let untouched = below.iter().take_while(|&&b| b == STACK_FILL).count();
        (length - untouched) as u32
    }
}

/// The error for a block that does not fit.
pub fn no_memory(label: &str) -> SimulatorError {
    SimulatorError::Process(format!("no memory for {label}"))
}
