//! ARM64 code under the emulator: what it gives, and how many instructions it takes.
//!
//! The emulated processor sees the same memory at the same addresses. Helpers are addresses in a page of `ret`, at which the
//! emulator is told to call the real ones.

use std::cell::Cell;
use std::ffi::{c_int, c_void};
use std::ops::Range;

use bpf2sys_codegen::Options;
use bpf2sys_pe_emit::Machine;
use bpf2sys_platform::Platform;
use bpf2sys_simulator::emulator_library::{EmulatorLibrary, Handle, Status, number};
use bpf2sys_verifier::VerifiedModule;

use super::helpers::HELPERS;
use super::memory::{Mapping, PAGE};
use super::runtime::Runtime;
use super::stepping::Steps;
use super::world::World;
use super::{Error, elf, ours, pe};

/// Bytes of stack, as a thread of the kernel of Windows has on ARM64 at most.
const STACK: usize = 64 << 10;
/// `ret`.
const RETURN: u32 = 0xD65F_03C0;
/// Everything, of the protections of pages.
const ALL: u32 = 7;
/// `UC_ARM64_REG_X30`.
const LINK: c_int = number::X29 + 1;

/// ARM64 code of a program.
pub struct ArmEngine {
    /// Which compiler.
    pub name: &'static str,
    /// Bytes of the program and of its subprograms.
    pub code_bytes: usize,
    function: u64,
    code: Range<u64>,
    memory: Mapping,
    runtime: Runtime,
}

/// A workload's ARM64 code, and what runs it.
pub struct Arm {
    program: String,
    /// Our code, of all variants, and then that of C compilers.
    pub engines: Vec<ArmEngine>,
    library: EmulatorLibrary,
    traps: Traps,
}

impl Arm {
    /// Compiles a workload with our compiler, once for each of the named options.
    pub fn new(
        library: EmulatorLibrary,
        program: &str,
        verified: &VerifiedModule,
        world: &World,
        platform: &Platform,
        variants: &[(&'static str, Options)],
    ) -> Result<Arm, Error> {
        let traps = Traps::new()?;
        let engine = |variant| our_engine(program, verified, world, platform, &traps, variant);
        Ok(Arm {
            program: program.to_owned(),
            engines: variants.iter().map(engine).collect::<Result<_, _>>()?,
            library,
            traps,
        })
    }

    /// Adds the shared object that a C compiler made. `helpers` are those that it knows by their places in the runtime's table.
    pub fn add_c(
        &mut self,
        name: &'static str,
        file: &[u8],
        helpers: &[u32],
        verified: &VerifiedModule,
        world: &World,
    ) -> Result<(), Error> {
        let traps = &self.traps;
        let loaded = elf::load(file, |id| traps.address(id), &world.variables())?;
        let helpers: Vec<u64> = helpers.iter().map(|&id| traps.address(id)).collect();
        let start = loaded.memory.address();
        let function = loaded.symbol(&self.program);
        self.engines.push(ArmEngine {
            name,
            code_bytes: loaded.code_bytes(verified.module(), &self.program),
            function: function.ok_or("the shared object has no program")?,
            code: start..start + loaded.memory.length() as u64,
            runtime: Runtime::new(world, verified.module(), &helpers)?,
            memory: loaded.memory,
        });
        Ok(())
    }

    /// Runs an engine once with each context, and counts. One processor for all of them: setting it up takes longer than they do.
    pub fn run(&self, index: usize, world: &World) -> Result<Vec<(u32, Steps)>, Error> {
        let (engine, library, traps) = (&self.engines[index], &self.library, &self.traps);
        let stack = Mapping::new(STACK)?;
        let top = stack.address() + STACK as u64;
        // Before the processor, which calls back to it.
        let state = State {
            library,
            code: engine.code.clone(),
            traps: traps.0.address()..traps.end(),
            steps: Cell::default(),
            top,
        };
        let processor = Processor::new(library)?;
        for (address, length) in [
            world.extent(),
            engine.runtime.extent(),
            (engine.memory.address(), engine.memory.length()),
            (stack.address(), STACK),
            (traps.0.address(), PAGE),
        ] {
            processor.map(address, length)?;
        }
        processor.call_back(&state)?;
        let registers = [number::X0, number::X0 + 1, number::SP, LINK];
        let run = |&context| {
            let values = [context, engine.runtime.address(), top, traps.end()];
            write(library, processor.handle, registers, values);
            let steps = processor.run(engine.function, traps.end(), &state)?;
            let [result] = read(library, processor.handle, [number::X0]);
            Ok((result as u32, steps))
        };
        world.contexts.iter().map(run).collect()
    }
}

fn our_engine(
    program: &str,
    verified: &VerifiedModule,
    world: &World,
    platform: &Platform,
    traps: &Traps,
    (name, options): &(&'static str, Options),
) -> Result<ArmEngine, Error> {
    let options = Options {
        machine: Machine::Arm64,
        ..options.clone()
    };
    let made = ours::make(verified, program, platform, &options)?;
    let loaded = pe::load(&made.image)?;
    let program = loaded.program(program)?;
    let helpers: Vec<u64> = program.helpers.iter().map(|&id| traps.address(id)).collect();
    let start = loaded.memory.address();
    Ok(ArmEngine {
        name,
        code_bytes: made.code_bytes,
        function: program.function,
        code: start..start + loaded.memory.length() as u64,
        runtime: Runtime::new(world, verified.module(), &helpers)?,
        memory: loaded.memory,
    })
}

/// Addresses that stand for helpers: one `ret` for each, and one more to return to.
struct Traps(Mapping);

impl Traps {
    /// A page of them.
    fn new() -> Result<Traps, Error> {
        let mut page = Mapping::new(PAGE)?;
        for word in page.bytes().chunks_exact_mut(4) {
            word.copy_from_slice(&RETURN.to_le_bytes());
        }
        Ok(Traps(page))
    }

    /// The address that stands for a helper; 0 for one that there is not.
    fn address(&self, id: u32) -> u64 {
        let index = HELPERS.iter().position(|helper| helper.id == id);
        index.map_or(0, |index| self.0.address() + 4 * index as u64)
    }

    fn end(&self) -> u64 {
        self.0.address() + 4 * HELPERS.len() as u64
    }
}

/// What the emulator's callback works on.
struct State<'a> {
    library: &'a EmulatorLibrary,
    code: Range<u64>,
    traps: Range<u64>,
    steps: Cell<Steps>,
    top: u64,
}

/// An emulated processor, closed when it goes.
struct Processor<'a> {
    library: &'a EmulatorLibrary,
    handle: Handle,
}

impl<'a> Processor<'a> {
    fn new(library: &'a EmulatorLibrary) -> Result<Processor<'a>, Error> {
        let mut handle: Handle = std::ptr::null_mut();
        // SAFETY: the pointer is valid, and the numbers are those of the library's header.
        let status = unsafe { (library.open)(number::ARCH_ARM64, number::MODE_LITTLE_ENDIAN, &raw mut handle) };
        check(library, status)?;
        let processor = Processor { library, handle };
        // SAFETY: the handle is open, and the model is set before anything else.
        check(library, unsafe {
            (library.control)(handle, number::SET_CPU_MODEL, number::CPU_ARM64_MAX)
        })?;
        Ok(processor)
    }

    fn map(&self, address: u64, length: usize) -> Result<(), Error> {
        // SAFETY: the pages belong to a mapping that outlives the processor. Code may write what the host may not; verified
        // programs do not, and the host's protection would stop them.
        check(self.library, unsafe {
            (self.library.map)(self.handle, address, length, ALL, address as *mut c_void)
        })
    }

    /// Has `state` told of every instruction.
    fn call_back(&self, state: &State<'_>) -> Result<(), Error> {
        let mut hook = 0;
        // SAFETY: the callback has the type of this kind of hook, and its user data outlives all runs, which get it passed. A
        // range that ends before it begins means all addresses.
        check(self.library, unsafe {
            (self.library.add_hook)(
                self.handle,
                &raw mut hook,
                number::HOOK_CODE,
                on_instruction as *const () as *mut c_void,
                std::ptr::from_ref(state).cast_mut().cast(),
                1,
                0,
            )
        })
    }

    /// Runs from `start` to `until`; `state` is what `call_back` was given.
    fn run(&self, start: u64, until: u64, state: &State<'_>) -> Result<Steps, Error> {
        state.steps.set(Steps::default());
        // SAFETY: the handle is open; what the code does to memory, verified programs may do.
        check(self.library, unsafe {
            (self.library.start)(self.handle, start, until, 0, 0)
        })?;
        Ok(state.steps.get())
    }
}

impl Drop for Processor<'_> {
    fn drop(&mut self) {
        // SAFETY: it was opened by `new`, and nothing uses it any more.
        unsafe { (self.library.close)(self.handle) };
    }
}

fn check(library: &EmulatorLibrary, status: Status) -> Result<(), Error> {
    if status == number::OK {
        Ok(())
    } else {
        Err(format!("Unicorn: {}", library.text(status)))
    }
}

fn read<const N: usize>(library: &EmulatorLibrary, handle: Handle, registers: [c_int; N]) -> [u64; N] {
    let mut values = [0_u64; N];
    let places: [*mut c_void; N] = std::array::from_fn(|i| (&raw mut values[i]).cast());
    // SAFETY: there are as many places of 64 bits as registers, all of which have 64.
    unsafe { (library.read_registers)(handle, registers.as_ptr(), places.as_ptr(), N as c_int) };
    values
}

fn write<const N: usize>(library: &EmulatorLibrary, handle: Handle, registers: [c_int; N], values: [u64; N]) {
    let places: [*const c_void; N] = std::array::from_fn(|i| (&raw const values[i]).cast());
    // SAFETY: as in `read`.
    unsafe { (library.write_registers)(handle, registers.as_ptr(), places.as_ptr(), N as c_int) };
}

/// An instruction is about to be executed.
extern "C" fn on_instruction(handle: Handle, address: u64, _: u32, user: *mut c_void) {
    // SAFETY: Unicorn passes what `run` has given it, which is only borrowed shared.
    let state = unsafe { &*user.cast::<State<'_>>() };
    if state.code.contains(&address) {
        let [stack] = read(state.library, handle, [number::SP]);
        let so_far = state.steps.get();
        state.steps.set(Steps {
            instructions: so_far.instructions + 1,
            stack_bytes: so_far.stack_bytes.max(state.top - stack),
        });
    } else if state.traps.contains(&address) {
        let helper = &HELPERS[(address - state.traps.start) as usize / 4];
        let arguments = std::array::from_fn(|i| number::X0 + i as c_int);
        let numbers: [u64; 5] = read(state.library, handle, arguments);
        let result = (helper.windows)(numbers[0], numbers[1], numbers[2], numbers[3], numbers[4]);
        write(state.library, handle, [number::X0], [result]);
    }
}
