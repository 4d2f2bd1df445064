//! A workload made ready to run: compiled by everything, loaded, and compared.

use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bpf2sys_bytecode::FunctionIndex;
use bpf2sys_pe_emit::Machine;
use bpf2sys_platform::Platform;
use bpf2sys_verifier::VerifiedModule;

use super::compile::{Compiler, has_gcc};
use super::engine::{Engine, Entry, Program};
use super::helpers::helper;
use super::runtime::Runtime;
use super::stepping::{self, Steps};
use super::workload::Workload;
use super::world::World;
use super::{Error, bpf2c, elf, ours, pe};

/// The names of engines.
pub mod name {
    /// Our own compiler.
    pub const OURS: &str = "bpf2sys";
    /// C in bpf2c's style, by clang: what all others are compared with.
    pub const BPF2C: &str = "bpf2c";
    /// The workload's own C, by clang.
    pub const CLANG: &str = "clang";
    /// The workload's own C, by gcc.
    pub const GCC: &str = "gcc";
    /// The JIT of the crate rbpf.
    pub const RBPF: &str = "rbpf";
    /// The JIT of the Linux kernel.
    pub const KERNEL: &str = "kernel";
}

/// Helpers work on one world at a time.
static RUNNING: Mutex<()> = Mutex::new(());

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
    /// About its bytecode.
    pub shape: Shape,
    _running: MutexGuard<'static, ()>,
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

impl Bench {
    /// Compiles a workload with everything there is. `root` is the repository's.
    pub fn new(workload: &'static Workload, root: &Path, platform: &Platform) -> Result<Bench, Error> {
        let compiler = Compiler::new(root)?;
        let object = compiler.bytecode(workload.source)?;
        let verified = ours::verified(&object, workload.name, platform)?;
        let running = RUNNING.lock().unwrap_or_else(PoisonError::into_inner);
        let world = World::new(verified.module(), workload.fill)?;
        let made = ours::make(&verified, platform, Machine::X64)?;
        let shape = Shape {
            instructions: verified.module().functions.iter().map(|f| f.instructions.len()).sum(),
            lowering: made.lowering,
        };
        let mut engines = vec![our_engine(&verified, &world, &made)?];
        let mut missing = Vec::new();
        let mut add = |name, engine: Result<Engine, Error>| match engine {
            Ok(engine) => engines.push(engine),
            Err(error) => missing.push((name, error)),
        };
        add(name::BPF2C, bpf2c_engine(&verified, &world, &compiler));
        let clang = compiler.clang(workload.source);
        add(
            name::CLANG,
            clang.and_then(|file| c_engine(name::CLANG, &file, &verified, &world)),
        );
        if has_gcc() {
            let gcc = compiler.gcc(workload.source);
            add(
                name::GCC,
                gcc.and_then(|file| c_engine(name::GCC, &file, &verified, &world)),
            );
        } else {
            missing.push((name::GCC, "no gcc".into()));
        }
        Ok(Bench {
            workload,
            world,
            engines,
            missing,
            shape,
            _running: running,
        })
    }

    /// Runs everything once with each context, and gives what they do that differs from native code.
    pub fn compare(&mut self) -> Result<(), Error> {
        let mut outcomes = Vec::new();
        for index in 0..self.engines.len() {
            outcomes.push((self.engines[index].name, self.outcome(index)));
        }
        let [(_, ours), others @ ..] = &outcomes[..] else {
            return Ok(());
        };
        for (name, theirs) in others {
            if theirs.results != ours.results {
                return Err(format!(
                    "{name} gives {:x?}, bpf2sys {:x?}",
                    theirs.results, ours.results
                ));
            }
            if let Some(at) = (0..ours.state.len()).find(|&at| ours.state[at] != theirs.state[at]) {
                return Err(format!("{name} leaves other memory than bpf2sys, first at {at:#x}"));
            }
        }
        let expected = self.workload.expected;
        if ours.results == expected {
            Ok(())
        } else {
            Err(format!(
                "results are {:x?}, and {expected:x?} was expected",
                ours.results
            ))
        }
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
        self.world.reset();
        let mut sum = Steps::default();
        for &context in &self.world.contexts {
            let engine = &self.engines[index];
            let mut result = 0;
            let steps = stepping::count(&engine.code, || result = engine.run(context))?;
            std::hint::black_box(result);
            sum.instructions += steps.instructions;
            sum.stack_bytes = sum.stack_bytes.max(steps.stack_bytes);
        }
        Ok(sum)
    }
}

/// The one program of a workload.
fn program(verified: &VerifiedModule) -> Result<FunctionIndex, Error> {
    let mut programs = verified.module().programs();
    match (programs.next(), programs.next()) {
        (Some((index, _)), None) => Ok(index),
        _ => Err("a workload has one program".into()),
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

fn our_engine(verified: &VerifiedModule, world: &World, made: &ours::Made) -> Result<Engine, Error> {
    let mut loaded = pe::load(&made.image)?;
    let program = loaded.programs.pop().ok_or("no program")?;
    let runtime = Runtime::new(world, verified.module(), &addresses(&program.helpers)?)?;
    let start = loaded.memory.address();
    Ok(Engine {
        name: name::OURS,
        code_bytes: made.code_bytes,
        entry: windows(program.function, &runtime),
        code: start..start + loaded.memory.length() as u64,
        _memory: loaded.memory,
        _runtime: Some(runtime),
    })
}

fn bpf2c_engine(verified: &VerifiedModule, world: &World, compiler: &Compiler) -> Result<Engine, Error> {
    let program = program(verified)?;
    let (text, helpers) = bpf2c::write(verified, program)?;
    let runtime = Runtime::new(world, verified.module(), &addresses(&helpers)?)?;
    let loaded = elf::load(&compiler.bpf2c(&text)?, |_| 0, &[])?;
    let name = &verified.module().function(program).name;
    elf_engine(name::BPF2C, name, loaded, runtime)
}

fn c_engine(engine: &'static str, file: &[u8], verified: &VerifiedModule, world: &World) -> Result<Engine, Error> {
    let module = verified.module();
    let maps = module.maps.iter().map(|map| map.name.clone());
    let maps: Vec<(String, u64)> = maps.zip(world.maps.iter().copied()).collect();
    let address = |id| helper(id).map_or(0, |helper| helper.windows as usize as u64);
    let loaded = elf::load(file, address, &maps)?;
    let runtime = Runtime::new(world, module, &[])?;
    elf_engine(engine, &module.function(program(verified)?).name, loaded, runtime)
}

fn elf_engine(engine: &'static str, program: &str, loaded: elf::Loaded, runtime: Runtime) -> Result<Engine, Error> {
    let function = loaded.symbol(program).ok_or("the shared object has no program")?;
    let start = loaded.memory.address();
    Ok(Engine {
        name: engine,
        code_bytes: loaded.code_bytes,
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
