//! A workload made ready to run: compiled by everything, loaded, and compared.

use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bpf2sys_bytecode::Module;
use bpf2sys_codegen::Options;
use bpf2sys_platform::Platform;
use bpf2sys_simulator::emulator_library::EmulatorLibrary;
use bpf2sys_verifier::VerifiedModule;

use super::arm64::Arm;
use super::compile::{Compiler, has_gcc};
use super::engine::{Engine, Entry, Program};
use super::helpers::helper;
use super::kernel::Kernel;
use super::runtime::Runtime;
use super::stepping::{self, Steps};
use super::workload::Workload;
use super::world::World;
use super::{Error, bpf2c, elf, ours, pe, rbpf_jit};

/// The names of engines.
pub mod name {
    /// Our own compiler.
    pub const OURS: &str = "bpf2sys";
    /// The same without Control Flow Guard, which the C of most others does not have either.
    pub const UNGUARDED: &str = "CFG off";
    /// C in bpf2c's style, by clang: what all others are compared with.
    pub const BPF2C: &str = "bpf2c";
    /// The same with Control Flow Guard, as drivers have it that the WDK builds.
    pub const BPF2C_GUARDED: &str = "bpf2c CFG";
    /// The workload's own C, by clang.
    pub const CLANG: &str = "clang";
    /// The workload's own C, by gcc.
    pub const GCC: &str = "gcc";
    /// The JIT of the crate rbpf.
    pub const RBPF: &str = "rbpf";
    /// The JIT of the Linux kernel.
    pub const KERNEL: &str = "kernel";
    /// Everything on ARM64.
    pub const ARM64: &str = "ARM64";
}

/// Helpers work on one world at a time, and so does what counts instructions.
static RUNNING: Mutex<()> = Mutex::new(());

/// Waits until nothing else runs. What runs next starts with a world that is reset.
fn alone() -> MutexGuard<'static, ()> {
    RUNNING.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A workload with its memory and the engines that can run it.
pub struct Bench {
    /// The workload.
    pub workload: &'static Workload,
    /// What it works on.
    pub world: World,
    /// Who runs it.
    pub engines: Vec<Engine>,
    /// Who cannot, and why.
    pub missing: Vec<(&'static str, Error)>,
    /// The Linux kernel, where it can run the workload.
    pub kernel: Option<Kernel>,
    /// ARM64 code and an emulator for it, where there is one.
    pub arm: Option<Arm>,
    /// About its bytecode.
    pub shape: Shape,
    /// What was compiled, by what its file would be called: to look at.
    pub files: Vec<(&'static str, Vec<u8>)>,
}

/// What is known of a workload without running it.
#[derive(Clone, Copy, Debug)]
pub struct Shape {
    /// eBPF instructions.
    pub instructions: usize,
    /// How long lowering to x86-64 took.
    pub lowering: Duration,
}

/// What an engine does with all contexts.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Outcome {
    results: Vec<u32>,
    state: Vec<u8>,
}

impl Outcome {
    /// What another outcome has different.
    fn difference(&self, other: &Outcome) -> Option<Error> {
        if self.results != other.results {
            return Some(format!("gives {:x?}, bpf2sys {:x?}", other.results, self.results));
        }
        let at = (0..self.state.len()).find(|&at| self.state[at] != other.state[at])?;
        Some(format!("leaves other memory than bpf2sys, first at {at:#x}"))
    }
}

impl Bench {
    /// Compiles a workload with everything there is. `root` is the repository's.
    pub fn new(workload: &'static Workload, root: &Path, platform: &Platform) -> Result<Bench, Error> {
        let compiler = Compiler::new(root)?;
        let object = compiler.bytecode(workload)?;
        let verified = ours::verified(&object, workload.name, platform)?;
        let world = World::new(verified.module(), workload.fill)?;
        let (program, content) = workload.program(verified.module())?;
        let name = &content.name;
        let made = ours::make(&verified, name, platform, &Options::default())?;
        let shape = Shape {
            instructions: verified.module().functions.iter().map(|f| f.instructions.len()).sum(),
            lowering: made.lowering,
        };
        let mut engines = vec![our_engine(name::OURS, name, &verified, &world, &made)?];
        let (text, helpers) = bpf2c::write(&verified, program)?;
        let mut files = Vec::new();
        let both = [
            (name::BPF2C, "bpf2c.so", compiler.bpf2c(&text)?),
            (name::BPF2C_GUARDED, "bpf2c-cfg.so", compiler.bpf2c_guarded(&text)?),
        ];
        for (engine, extension, file) in both {
            engines.push(bpf2c_engine(engine, name, &verified, &world, &helpers, &file)?);
            files.push((extension, file));
        }
        files.extend([
            ("o", object),
            ("sys", made.image),
            ("bpf2c.c", text.clone().into_bytes()),
        ]);
        let mut native = |engine, extension, file: Vec<u8>| {
            let engine = c_engine(engine, name, &file, &verified, &world);
            files.push((extension, file));
            engine
        };
        let unguarded = Options {
            control_flow_guard: false,
            ..Options::default()
        };
        let made_unguarded = ours::make(&verified, name, platform, &unguarded)?;
        engines.push(our_engine(name::UNGUARDED, name, &verified, &world, &made_unguarded)?);
        engines.push(native(name::CLANG, "clang.so", compiler.clang(workload.source)?)?);
        let mut missing = Vec::new();
        if has_gcc() {
            engines.push(native(name::GCC, "gcc.so", compiler.gcc(workload.source)?)?);
        } else {
            missing.push((name::GCC, "no gcc".to_owned()));
        }
        match rbpf_jit::engine(&verified, &world, program) {
            Ok(engine) => engines.push(engine),
            Err(error) => missing.push((name::RBPF, error)),
        }
        let kernel = kernel(workload, &world, &compiler);
        let kernel = kernel.map_err(|error| missing.push((name::KERNEL, error))).ok();
        let arm = match EmulatorLibrary::load() {
            Ok(library) => {
                let variants = [(name::OURS, Options::default()), (name::UNGUARDED, unguarded)];
                let mut arm = Arm::new(library, name, &verified, &world, platform, &variants)?;
                let bpf2c = compiler.bpf2c_arm64(&text);
                let added = bpf2c
                    .and_then(|file| arm.add_c(name::BPF2C, &file, &helpers, &verified, &world))
                    .and_then(|()| {
                        arm.add_c(
                            name::CLANG,
                            &compiler.clang_arm64(workload.source)?,
                            &[],
                            &verified,
                            &world,
                        )
                    });
                if let Err(error) = added {
                    missing.push((name::ARM64, error));
                }
                Some(arm)
            }
            Err(error) => {
                missing.push((name::ARM64, error));
                None
            }
        };
        Ok(Bench {
            workload,
            world,
            engines,
            missing,
            kernel,
            arm,
            shape,
            files,
        })
    }

    /// A workload compiled by our own compiler alone, once with each of these options, which have names.
    pub fn variants(
        workload: &'static Workload,
        root: &Path,
        platform: &Platform,
        variants: &[(&'static str, Options)],
    ) -> Result<Bench, Error> {
        let object = Compiler::new(root)?.bytecode(workload)?;
        let verified = ours::verified(&object, workload.name, platform)?;
        let world = World::new(verified.module(), workload.fill)?;
        let program = &workload.program(verified.module())?.1.name;
        let mut engines = Vec::with_capacity(variants.len());
        let mut lowering = Duration::MAX;
        for (name, options) in variants {
            let made = ours::make(&verified, program, platform, options)?;
            lowering = lowering.min(made.lowering);
            engines.push(our_engine(name, program, &verified, &world, &made)?);
        }
        let mut missing = Vec::new();
        let arm = match EmulatorLibrary::load() {
            Ok(library) => Some(Arm::new(library, program, &verified, &world, platform, variants)?),
            Err(error) => {
                missing.push((name::ARM64, error));
                None
            }
        };
        Ok(Bench {
            workload,
            world,
            engines,
            missing,
            kernel: None,
            arm,
            shape: Shape {
                instructions: verified.module().functions.iter().map(|f| f.instructions.len()).sum(),
                lowering,
            },
            files: Vec::new(),
        })
    }

    /// Runs everything once with each context: all must return what is expected, and leave the same memory. What is not made here
    /// and does something else is left out instead.
    pub fn compare(&mut self) -> Result<(), Error> {
        let _alone = alone();
        let ours = self.outcome(0);
        let expected = self.workload.expected;
        if ours.results != expected {
            return Err(format!(
                "results are {:x?}, and {expected:x?} was expected",
                ours.results
            ));
        }
        for index in 1..self.engines.len() {
            let theirs = self.outcome(index);
            let name = self.engines[index].name;
            match ours.difference(&theirs) {
                Some(difference) if name == name::RBPF => self.missing.push((name, difference)),
                Some(difference) => return Err(format!("{name} {difference}")),
                None => {}
            }
        }
        let missing: Vec<&str> = self.missing.iter().map(|(name, _)| *name).collect();
        self.engines.retain(|engine| !missing.contains(&engine.name));
        if let Some(arm) = self.arm.take() {
            for index in 0..arm.engines.len() {
                self.world.reset();
                let runs = arm.run(index, &self.world)?;
                let theirs = Outcome {
                    results: runs.iter().map(|(result, _)| *result).collect(),
                    state: self.world.state().to_vec(),
                };
                if let Some(difference) = ours.difference(&theirs) {
                    return Err(format!("{} on ARM64 {difference}", arm.engines[index].name));
                }
            }
            self.arm = Some(arm);
        }
        if let Some(kernel) = &self.kernel
            && let Some(difference) = self.kernel_difference(kernel, &ours)?
        {
            self.missing.push((name::KERNEL, difference));
            self.kernel = None;
        }
        Ok(())
    }

    /// The kernel has maps of its own, so that results and packets are compared.
    fn kernel_difference(&self, kernel: &Kernel, ours: &Outcome) -> Result<Option<Error>, Error> {
        let (start, _) = self.world.extent();
        for ((packet, &context), &result) in self.world.packets.iter().zip(&self.world.contexts).zip(&ours.results) {
            let (theirs, after) = kernel.run(packet)?;
            if theirs != result {
                return Ok(Some(format!("gives {theirs:#x}, bpf2sys {result:#x}")));
            }
            let at = |address: u64| (address - start) as usize;
            let field = ours.state[at(context)..]
                .first_chunk()
                .map(|field| u64::from_le_bytes(*field));
            let data = at(field.unwrap_or(start));
            if ours.state[data..data + packet.len()] != after {
                return Ok(Some("makes another packet of it".into()));
            }
        }
        Ok(None)
    }

    fn outcome(&mut self, index: usize) -> Outcome {
        self.world.reset();
        let contexts = self.world.contexts.clone();
        let results = contexts
            .iter()
            .map(|&context| self.engines[index].run(context))
            .collect();
        Outcome {
            results,
            state: self.world.state().to_vec(),
        }
    }

    /// Counts what an engine executes for all contexts, from the start.
    pub fn count(&mut self, index: usize) -> Result<Steps, Error> {
        let _alone = alone();
        self.world.reset();
        let engine = &self.engines[index];
        let count = |&context| stepping::count(&engine.code, || std::hint::black_box(engine.run(context)));
        self.world.contexts.iter().map(count).sum()
    }

    /// The same for an engine on ARM64.
    pub fn count_arm64(&mut self, arm: &Arm, index: usize) -> Result<Steps, Error> {
        let _alone = alone();
        self.world.reset();
        let runs = arm.run(index, &self.world)?;
        Ok(runs.into_iter().map(|(_, steps)| steps).sum())
    }
}

fn addresses(helpers: &[u32]) -> Result<Vec<u64>, Error> {
    let address = |&id: &u32| match (id, helper(id)) {
        (0, _) => Ok(0),
        (_, Some(helper)) => Ok(helper.windows as usize as u64),
        (_, None) => Err(format!("no helper {id} here")),
    };
    helpers.iter().map(address).collect()
}

fn our_engine(
    name: &'static str,
    program: &str,
    verified: &VerifiedModule,
    world: &World,
    made: &ours::Made,
) -> Result<Engine, Error> {
    let loaded = pe::load(&made.image)?;
    let program = loaded.program(program)?;
    let runtime = Runtime::new(world, verified.module(), &addresses(&program.helpers)?)?;
    let start = loaded.memory.address();
    Ok(Engine {
        name,
        code_bytes: made.code_bytes,
        entry: windows(program.function, &runtime),
        code: start..start + loaded.memory.length() as u64,
        _memory: loaded.memory,
        _runtime: Some(runtime),
    })
}

fn bpf2c_engine(
    engine: &'static str,
    program: &str,
    verified: &VerifiedModule,
    world: &World,
    helpers: &[u32],
    file: &[u8],
) -> Result<Engine, Error> {
    let runtime = Runtime::new(world, verified.module(), &addresses(helpers)?)?;
    elf_engine(
        engine,
        program,
        verified.module(),
        elf::load(file, |_| 0, &[])?,
        runtime,
    )
}

fn c_engine(
    engine: &'static str,
    program: &str,
    file: &[u8],
    verified: &VerifiedModule,
    world: &World,
) -> Result<Engine, Error> {
    let address = |id| helper(id).map_or(0, |helper| helper.windows as usize as u64);
    let loaded = elf::load(file, address, &world.variables())?;
    let runtime = Runtime::new(world, verified.module(), &[])?;
    elf_engine(engine, program, verified.module(), loaded, runtime)
}

fn kernel(workload: &Workload, world: &World, compiler: &Compiler) -> Result<Kernel, Error> {
    let object = compiler.kernel_bytecode(workload)?;
    let module = bpf2sys_bytecode::read(&object, "kernel.o").map_err(|e| e.to_string())?;
    Kernel::new(&module, workload, world)
}

fn elf_engine(
    engine: &'static str,
    program: &str,
    module: &Module,
    loaded: elf::Loaded,
    runtime: Runtime,
) -> Result<Engine, Error> {
    let function = loaded.symbol(program).ok_or("the shared object has no program")?;
    let start = loaded.memory.address();
    Ok(Engine {
        name: engine,
        code_bytes: loaded.code_bytes(module, program),
        entry: windows(function, &runtime),
        code: start..start + loaded.memory.length() as u64,
        _memory: loaded.memory,
        _runtime: Some(runtime),
    })
}

fn windows(function: u64, runtime: &Runtime) -> Entry {
    // SAFETY: it is the address of a program in memory that the engine keeps, compiled for this calling convention.
    let program = unsafe { std::mem::transmute::<usize, Program>(function as usize) };
    Entry::Windows(program, runtime.address())
}
