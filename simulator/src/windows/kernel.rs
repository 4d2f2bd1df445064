//! The simulated kernel: its state, and how it calls functions of the image.

use std::collections::BTreeMap;
use std::rc::Rc;

use bpf2sys_platform::Platform;

use super::cpu::{Call, Event, NoStack, POISON, Processor, STACK_FILL};
use super::driver::Driver;
use super::interpret::Interpreted;
use super::mapping::MappedImage;
use super::maps::Maps;
use super::memory::{Memory, OutOfMemory, Use};
use super::module::LoadedModule;
use super::nmr::Nmr;
use super::providers::Providers;
use super::system::System;
use super::thunks::{Target, Thunks};
use crate::address_space::AddressSpace;
use crate::error::SimulatorError;
use crate::request::RunRequest;
use crate::rule::{Rule, Violation};
use crate::trace::Trace;

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

/// The stack that native code runs on.
pub struct Stack {
    /// Lowest usable byte.
    pub bottom: u64,
    /// First byte above.
    pub top: u64,
    /// Bytes from its top that may be something else than the fill. All others are known to be that.
    pub used: usize,
}

/// Everything.
pub struct Kernel {
    /// Memory.
    pub memory: Memory,
    /// Processor.
    pub cpu: Box<dyn Processor>,
    /// Stand-ins.
    pub thunks: Thunks,
    /// The image, where the current load has it.
    pub image: MappedImage,
    /// Where each load has it.
    pub images: Vec<MappedImage>,
    /// The current load: the one whose code runs and whose names are meant.
    pub load: usize,
    /// Where functions return to.
    pub return_address: u64,
    /// The stack.
    pub stack: Stack,
    /// The target that was checked last, until something is called.
    pub checked: Option<Target>,
    /// What runs, outermost first.
    pub activities: Vec<Activity>,
    /// What of modules is in the system.
    pub system: System,
    /// The driver, once it has started.
    pub driver: Driver,
    /// Registration and binding.
    pub nmr: Nmr,
    /// What providers offer.
    pub platform: Platform,
    /// What they offered when the module was loaded.
    pub original_platform: Platform,
    /// Which of them are there.
    pub providers: Providers,
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

    /// Makes a load the current one.
    pub fn be(&mut self, load: usize) -> Result<(), SimulatorError> {
        if self.load == load {
            return Ok(());
        }
        let image = self.images.get(load).filter(|_| load < self.module.loads.len());
        let missing = || SimulatorError::Request(format!("there is no load {load}; they count from 0"));
        self.image = image.cloned().ok_or_else(missing)?;
        self.load = load;
        Ok(())
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
    pub fn argument(&self, index: usize) -> Result<u64, SimulatorError> {
        self.cpu
            .argument(&self.memory, index)
            .ok_or_else(|| self.broken(Rule::StackAtCall, format!("argument {} is not on the stack", index + 1)))
    }

    /// Calls a function of the image and gives what it returned.
    pub fn call(&mut self, function: u64, arguments: &[u64], activity: Activity) -> Result<u64, SimulatorError> {
        if self.activities.is_empty() {
            let used = self.stack.used as u64;
            if !self.memory.fill(self.stack.top - used, used as usize, STACK_FILL) {
                return Err(no_memory("the stack"));
            }
            self.stack.used = (self.stack.top - self.stack.bottom) as usize;
        }
        self.activities.push(activity);
        if self
            .image
            .guarded
            .as_ref()
            .is_some_and(|functions| !functions.contains(&function))
        {
            let place = self.memory.place(function);
            let detail = format!("the kernel calls {place}, which the function table does not have");
            return Err(self.broken(Rule::GuardTarget, detail));
        }
        let call = Call {
            function,
            return_address: self.return_address,
            arguments,
            stack_top: self.stack.top,
            stack_bottom: self.stack.bottom,
        };
        self.cpu
            .enter(&mut self.memory, &call)
            .map_err(|NoStack| self.broken(Rule::StackAtCall, "no stack is left for the call"))?;
        loop {
            if self.request.trace == Trace::Instructions {
                let program = matches!(self.activities.last(), Some(Activity::Program(_)));
                self.cpu.count(program.then_some(self.image.base));
            }
            // SAFETY: this process exists for this run; the code can harm only it, and what it knows of are blocks of
            // `Memory`, none of which a Rust value lives in.
            let event = unsafe { self.cpu.run(&self.thunks) };
            let target = match event {
                Event::Exception(exception) => return Err(self.exception(&exception)),
                Event::Call(index) => self.thunks.target(index),
            };
            match target {
                Some(Target::Return) => {
                    let value = self.cpu.leave().map_err(|changed| {
                        let detail = format!("changed on return: {}", changed.join(", "));
                        self.broken(Rule::Nonvolatile, detail)
                    })?;
                    self.activities.pop();
                    return Ok(value);
                }
                Some(target @ (Target::GuardCheck | Target::GuardDispatch)) => self.guard(target)?,
                Some(target) => {
                    let checked = self.checked.take();
                    let by_address = !matches!(target, Target::Import(_));
                    if self.image.guarded.is_some() && by_address && checked != Some(target) {
                        let detail = "a helper or function of another module was called unchecked";
                        return Err(self.broken(Rule::UnguardedCall, detail));
                    }
                    self.stand_in(target)?;
                }
                None => return Err(self.broken(Rule::UnexpectedCall, "a thunk that does not exist was called")),
            }
        }
    }

    /// Checks the target of a call as Control Flow Guard does, and makes the call if `guard` is to.
    fn guard(&mut self, guard: Target) -> Result<(), SimulatorError> {
        let jumps = guard == Target::GuardDispatch;
        let address = self.cpu.guarded_target(jumps);
        let target = self
            .thunks
            .index_at(address)
            .and_then(|index| self.thunks.target(index));
        let Some(target) = target.filter(|target| !matches!(target, Target::GuardCheck | Target::GuardDispatch)) else {
            let place = self.memory.place(address);
            return Err(self.broken(
                Rule::UnexpectedCall,
                format!("{place} is called, which is no function of others"),
            ));
        };
        if jumps {
            return self.stand_in(target);
        }
        self.checked = Some(target);
        self.cpu.resume_checked();
        Ok(())
    }

    /// Runs a stand-in and lets its caller find what the convention leaves it: the result, and garbage in the rest that
    /// a callee may change.
    fn stand_in(&mut self, target: Target) -> Result<(), SimulatorError> {
        self.check_call_site()?;
        let value = match target {
            Target::Import(import) => self.import(import)?,
            Target::Helper { program, slot } => self.helper(program, slot)?,
            Target::BtfFunction { program, slot } => self.btf_function(program, slot)?,
            Target::Former { .. } => return Err(self.former_address()),
            Target::Return | Target::GuardCheck | Target::GuardDispatch => POISON,
            Target::Gone => {
                return Err(self.broken(Rule::UnexpectedCall, "a helper of a program that is gone was called"));
            }
        };
        self.cpu
            .resume(&mut self.memory, value)
            .map_err(|NoStack| self.broken(Rule::StackAtCall, "there is no home space above the return address"))
    }

    fn check_call_site(&self) -> Result<(), SimulatorError> {
        let site = self.cpu.call_site(&self.memory);
        if let Some(misaligned) = site.misaligned {
            return Err(self.broken(Rule::StackAtCall, misaligned));
        }
        let end = site.stack_pointer.saturating_add(site.home_bytes);
        if site.stack_pointer < self.stack.bottom || end > self.stack.top {
            let (register, place) = (site.stack_register, self.memory.place(site.stack_pointer));
            return Err(self.broken(Rule::StackAtCall, format!("{register} is in {place}")));
        }
        let return_address = site.return_address.unwrap_or(0);
        // A function may end by jumping to a stand-in, which then returns for it.
        if !self.image.is_code(return_address) && return_address != self.return_address {
            let place = self.memory.place(return_address);
            return Err(self.broken(Rule::StackAtCall, format!("the return address is {place}")));
        }
        match site.broken {
            Some(broken) => Err(self.broken(Rule::Nonvolatile, broken)),
            None => Ok(()),
        }
    }

    /// Bytes of stack that the last outermost call has touched.
    pub fn stack_depth(&mut self) -> u32 {
        let length = (self.stack.top - self.stack.bottom) as usize;
        let untouched = self.memory.leading(self.stack.bottom, length, STACK_FILL);
        self.stack.used = length - untouched;
        self.stack.used as u32
    }
}

/// The error for a block that does not fit.
pub fn no_memory(label: &str) -> SimulatorError {
    SimulatorError::Process(format!("no memory for {label}"))
}
