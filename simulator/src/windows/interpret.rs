//! Programs that are executed by the interpreter, from the object that the image was built from.
//!
//! Given: an image that is loaded, and that object.
//! Computed: what each program returns and does, with the maps, helpers and contexts of the image.
//! Safe because: an interpreted program reaches memory only through [`Memory`](super::memory::Memory), and there only
//! what is a program's: its context, packet and stack, map values. The image and the kernel's own stack are no longer
//! among that, not even for helpers.

use std::rc::Rc;

use bpf2sys_bytecode::{BtfFunctionIndex, FunctionIndex, GlobalIndex, MapIndex, Module};

use super::helpers::{Prototype, TAIL_CALL};
use super::kernel::{Activity, Kernel, no_memory};
use super::memory::Use;
use super::trace::SlotCounts;
use crate::address_space::AddressSpace;
use crate::error::{InterpretedFault, InterpretedLine, SimulatorError};
use crate::interpreter::{
    self, At, Denied, Entry, FRAME_BYTES, HelperResult, InterpretError, Options, Problem, STACK_BYTES, STACK_FILL,
    Undefined, World,
};
use crate::request::ObjectFile;
use crate::rule::Rule;
use crate::tables::{AddressData, RuntimeContext};
use crate::trace::{Trace, TraceReport};

/// Most instructions of one invocation, for each millisecond of the run's time limit: what an optimized interpreter could
/// just do in it. Where it is slower, the time limit itself comes first; but this error says which instruction it was.
const STEPS_PER_MS: u64 = 20_000;

/// What is interpreted.
#[derive(Debug)]
pub struct Interpreted {
    module: Module,
    /// The function of each program of the image, in the image's order.
    functions: Vec<FunctionIndex>,
    /// First byte of the stack of [`STACK_BYTES`] bytes.
    stack: u64,
}

/// Reads the object.
pub fn read(object: &ObjectFile) -> Result<Module, SimulatorError> {
    bpf2sys_bytecode::read(&object.bytes, &object.name).map_err(|e| SimulatorError::Request(e.to_string()))
}

impl Kernel {
    /// From now on, interprets the programs of `module` where the image's would run.
    pub fn interpret_instead(&mut self, module: Module) -> Result<(), SimulatorError> {
        let other = |what: String| SimulatorError::Request(format!("the image was not built from this object: {what}"));
        let mut functions = Vec::new();
        for program in &self.module.programs {
            let mut found = module.programs().filter(|(_, function)| function.name == program.name);
            let (index, _) = found
                .next()
                .ok_or_else(|| other(format!("there is no program {} in it", program.name)))?;
            functions.push(index);
        }
        let loads = self.module.loads.len();
        if functions.len() != loads * module.programs().count() {
            return Err(other("it has more programs".into()));
        }
        for load in &self.module.loads {
            let maps = load.maps.iter().map(|&map| &self.maps.list[map].name);
            if !maps.eq(module.maps.iter().map(|map| &map.name)) {
                return Err(other("its maps are others".into()));
            }
        }
        let stack = self.allocate(STACK_BYTES as usize, "the stack", Use::ReadWrite)?;
        let sections = self
            .images
            .iter()
            .flat_map(|image| &image.sections)
            .map(|section| section.start);
        for start in sections.chain([self.stack.bottom]).collect::<Vec<_>>() {
            let Some((label, allowed)) = self.memory.region(start).map(|r| (r.label.clone(), r.allowed)) else {
                continue;
            };
            let allowed = match allowed {
                Use::Read => Use::KernelRead,
                Use::ReadWrite => Use::Kernel,
                other => other,
            };
            self.memory.relabel(start, label, allowed);
        }
        if self.request.trace == Trace::Instructions {
            self.state.counts = Some(SlotCounts::new(&module));
        }
        self.interpreted = Some(Rc::new(Interpreted {
            module,
            functions,
            stack,
        }));
        Ok(())
    }

    /// Interprets a program on a context and gives its result.
    pub(super) fn interpret(
        &mut self,
        interpreted: &Interpreted,
        program: usize,
        context: u64,
    ) -> Result<u64, SimulatorError> {
        if !self.memory.fill(interpreted.stack, STACK_BYTES as usize, STACK_FILL) {
            return Err(no_memory("the stack"));
        }
        self.activities.push(Activity::Program(program));
        let stack_end = interpreted.stack + STACK_BYTES;
        let entry = Entry::new(interpreted.functions[program], &[context], stack_end);
        let options = Options {
            // As the verifier, which has accepted the program, understands calls.
            undefined: Undefined::AsCompiled,
            max_steps: self.request.time_limit_ms.saturating_mul(STEPS_PER_MS),
        };
        let mut world = RunningProgram {
            counts: self.state.counts.take(),
            module: &interpreted.module,
            kernel: self,
            program,
        };
        let outcome = interpreter::interpret(&interpreted.module, &entry, &mut world, options);
        self.state.counts = world.counts;
        let outcome = outcome.map_err(|error| self.interpreted_fault(*error))?;
        self.activities.pop();
        self.state.max_stack = self.state.max_stack.max(outcome.frames * FRAME_BYTES as u32);
        Ok(outcome.r0)
    }

    /// How many instructions programs have executed, if they are counted.
    pub(super) fn executed(&self) -> Option<u64> {
        match (self.request.trace, &self.state.counts) {
            (Trace::None, _) => None,
            (Trace::Instructions, Some(counts)) => Some(counts.total()),
            (Trace::Instructions, None) => Some(self.cpu.counted()),
        }
    }

    /// The instructions that programs have executed, if they are counted.
    pub(super) fn trace(&self) -> Option<TraceReport> {
        let interpreted = self.state.counts.as_ref().zip(self.interpreted.as_ref());
        (self.request.trace == Trace::Instructions).then(|| TraceReport {
            native: self.cpu.trace(),
            interpreted: interpreted.map_or_else(Vec::new, |(counts, interpreted)| counts.trace(&interpreted.module)),
        })
    }

    /// The error for an instruction at which a program could not go on. Addresses of this machine are not shown.
    fn interpreted_fault(&self, error: InterpretError<SimulatorError>) -> SimulatorError {
        let InterpretError { place, problem } = error;
        let problem = match problem {
            Problem::Access {
                access, length, near, ..
            } => format!("it {access} {length} bytes at {near}"),
            Problem::Misaligned { address, length } => {
                let place = self.memory.place(address);
                format!("it is atomic on {length} bytes at {place}, which is not aligned")
            }
            Problem::Helper(SimulatorError::Kernel { violation, .. }) => violation.to_string(),
            Problem::Helper(other) => return other,
            other => other.to_string(),
        };
        SimulatorError::Interpreted(Box::new(InterpretedFault {
            during: self.during(),
            function: place.function,
            slot: place.slot,
            text: place.text,
            line: place.line.map(|line| InterpretedLine {
                file: line.file,
                line: line.line,
                column: line.column,
                text: line.text,
            }),
            problem,
        }))
    }
}

/// The simulated kernel as one of its programs sees it.
struct RunningProgram<'a> {
    kernel: &'a mut Kernel,
    program: usize,
    module: &'a Module,
    /// What is counted, if instructions are.
    counts: Option<SlotCounts>,
}

impl RunningProgram<'_> {
    fn runtime_context(&self) -> Option<RuntimeContext> {
        let address = self.kernel.module.programs[self.program].runtime_context;
        self.kernel.memory.read_as(address, "the runtime context").ok()
    }

    fn denied(&self, address: u64) -> Denied {
        let memory = &self.kernel.memory;
        let place = memory.place(address);
        let near = match memory.region(address) {
            Some(region) if memory.program_may_read(address, 1) => {
                let room = region.start + region.length - address;
                format!("{place}, where {room} are left")
            }
            _ => place,
        };
        Denied { near }
    }
}

impl World for RunningProgram<'_> {
    type Error = SimulatorError;

    fn read(&mut self, address: u64, bytes: &mut [u8]) -> Result<(), Denied> {
        let memory = &self.kernel.memory;
        let found = memory.program_may_read(address, bytes.len());
        let found = found.then(|| memory.read(address, bytes.len())).flatten();
        bytes.copy_from_slice(&found.ok_or_else(|| self.denied(address))?);
        Ok(())
    }

    fn write(&mut self, address: u64, bytes: &[u8]) -> Result<(), Denied> {
        let memory = &mut self.kernel.memory;
        if memory.program_may_write(address, bytes.len()) && memory.write(address, bytes) {
            return Ok(());
        }
        Err(self.denied(address))
    }

    /// The helpers are those of the program's table in the image.
    fn helper(&mut self, id: i32, arguments: [u64; 5]) -> Result<HelperResult, SimulatorError> {
        let helpers = &self.kernel.module.programs[self.program].helpers;
        let wanted = |helper: &&bpf2sys_platform::Helper| i64::from(helper.id) == i64::from(id);
        let Some(helper) = helpers.iter().flatten().find(wanted).cloned() else {
            let detail = format!("helper {id} is not in the program's table");
            return Err(self.kernel.broken(Rule::HelperId, detail));
        };
        if let Some(value) = Prototype::of(&helper).without_map(&arguments) {
            return Ok(HelperResult::Returned(value));
        }
        let value = self.kernel.run_helper(self.program, &helper, arguments)?;
        // The tail call worked if it gave 0, all 64 bits (native module contract §6.3).
        Ok(if helper.id == TAIL_CALL && value == 0 {
            HelperResult::Ends(0)
        } else {
            HelperResult::Returned(value)
        })
    }

    /// The functions are those of the program's table in the image.
    fn btf_function(&mut self, function: BtfFunctionIndex, arguments: [u64; 5]) -> Result<Option<u64>, SimulatorError> {
        let interpreted = self.kernel.interpreted.clone();
        let wanted = interpreted
            .as_ref()
            .and_then(|i| i.module.btf_functions.get(function.index()));
        let Some(wanted) = wanted else { return Ok(None) };
        let functions = &self.kernel.module.programs[self.program].btf_functions;
        let mut functions = functions.iter().enumerate();
        let found = functions.find_map(|(slot, f)| {
            let f = f
                .as_ref()
                .filter(|f| f.module == wanted.module && f.name == wanted.name)?;
            Some((slot, f.clone()))
        });
        let Some((slot, found)) = found else {
            let detail = format!(
                "{} of module {} is not in the program's table",
                wanted.name, wanted.module
            );
            return Err(self.kernel.broken(Rule::BtfFunction, detail));
        };
        if let Some(value) = Prototype::of_btf(&found).without_map(&arguments) {
            return Ok(Some(value));
        }
        let value = self.kernel.run_btf_function(self.program, slot, &found, arguments)?;
        Ok(Some(value))
    }

    fn executing(&mut self, at: &At<'_>) {
        if let Some(counts) = &mut self.counts {
            counts.arrive(self.module, at.function, at.instruction);
        }
    }

    fn map_address(&mut self, map: MapIndex) -> Option<u64> {
        let (index, table) = (u64::from(map.0), self.runtime_context()?.maps.get());
        let stride = self.kernel.module.programs[self.program].map_stride;
        // Both forms of an element start with the same fields.
        let place = table + index * stride as u64;
        let data: AddressData = self.kernel.memory.read_as(place, "map_data").ok()?;
        let address = data.address.get();
        (address != 0).then_some(address)
    }

    fn global_address(&mut self, section: GlobalIndex) -> Option<u64> {
        let table = self.runtime_context()?.global_sections.get();
        let place = table + u64::from(section.0) * size_of::<AddressData>() as u64;
        let data: AddressData = self.kernel.memory.read_as(place, "global_variable_section_data").ok()?;
        Some(data.address.get())
    }
}
