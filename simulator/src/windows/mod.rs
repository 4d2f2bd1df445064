//! The Windows that an image runs in: loader, kernel, registration, maps and helpers, in a process made for one run.
//! x86-64 code is run by the host itself, if that is Linux on such a machine and nothing else is asked for; all other code in an emulator.
//!
//! The programs in it are executed by their native code, or by the interpreter ([`interpret`]) with everything around them
//! the same: the driver is loaded, its tables are read, maps are made and helpers are resolved from the image.

mod addresses;
mod chain;
mod clock;
mod cpu;
mod dll;
mod driver;
mod fault;
mod helpers;
mod host;
mod imports;
mod interpret;
mod invoke;
mod kernel;
mod life;
mod mapping;
mod maps;
mod memory;
mod metadata;
mod mishaps;
mod module;
mod nmr;
mod program;
mod providers;
mod registry;
mod report;
#[cfg(all(target_os = "linux", any(target_arch = "x86_64", target_arch = "aarch64")))]
mod sandbox;
mod status;
#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
mod switch;
mod system;
mod thunks;
mod trace;
mod unicorn;

use std::collections::BTreeMap;
use std::rc::Rc;

use bpf2sys_bytecode::Module;
use bpf2sys_platform::Platform;

use crate::child::is_emulated;
use crate::error::SimulatorError;
use crate::failure::{Life, Sabotage};
use crate::image::Image;
use crate::kernel_tables::Tables;
use crate::loader_rules;
use crate::request::{
    Input, InvocationResult, MapContents, MapPreset, PresetValue, ProcessorKind, RunReport, RunRequest,
};
use crate::rule::{Rule, Violation};
use crate::trace::Trace;
use crate::usermode::{self, UserModeView};
use cpu::Processor;
use cpu::arm64::Arm64;
use cpu::x64::X64;
use cpu::x64::emulated::Emulated;
use kernel::Kernel;
use memory::{Memory, PAGE};
#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
use switch::Switch;
use thunks::Form;
use unicorn::Engine;

/// Most times that a driver is loaded side by side.
const MAX_LOADS: u32 = 8;

/// Who gives inputs and takes results, one after another.
pub trait Exchange {
    /// What to run next; `None` if that was all.
    fn next(&mut self) -> Result<Option<Input>, SimulatorError>;
    /// Takes what is in the maps before the first input, if that is told.
    fn loaded(&mut self, maps: Vec<MapContents>) -> Result<(), SimulatorError>;
    /// Takes what came out of an invocation.
    fn done(&mut self, result: InvocationResult) -> Result<(), SimulatorError>;
}

/// Starts what a run needs before anything of the image is looked at.
///
/// # Safety
/// The process has no handlers of signals yet.
pub unsafe fn prepare(time_limit_ms: u64) -> std::io::Result<()> {
    host::without_core_dump();
    // SAFETY: promised by the caller.
    unsafe { clock::start(time_limit_ms) }
}

/// Loads the image, runs what is asked for, unloads it, and reports.
///
/// # Safety
/// To be called at most once in a process that has one thread and exists for nothing else: the image's code can write
/// to all of its memory.
pub unsafe fn execute(request: RunRequest, exchange: &mut dyn Exchange) -> Result<RunReport, SimulatorError> {
    let bytes = request.image.clone();
    let image = Image::parse(&bytes)?;
    let object = request.interpret.as_ref().map(interpret::read).transpose()?;
    let view = usermode::read(&image).map_err(SimulatorError::UserMode)?;
    let violations = loader_rules::check(&image);
    if !violations.is_empty() {
        return Err(SimulatorError::Loader(violations));
    }
    let metadata_function = image
        .is_dll()
        .then(|| loader_rules::metadata_function(&image))
        .transpose()
        .map_err(|violation| SimulatorError::Loader(vec![violation]))?;
    if metadata_function.is_some() && (request.sabotage != Sabotage::None || request.defects_are_answers) {
        return Err(SimulatorError::Request(
            "a DLL registers nowhere, so nothing around it can fail".into(),
        ));
    }
    let extra = request
        .platform_files
        .iter()
        .map(|(name, text)| (name.as_str(), text.as_str()));
    let files: Vec<(&str, &str)> = Platform::builtin_files().iter().copied().chain(extra).collect();
    let platform = Platform::from_toml(&files).map_err(|e| SimulatorError::Request(e.to_string()))?;
    let providers = providers::Providers::without(&request.absent, &platform)?;
    let machine = &request.machine;
    if !(1..=64).contains(&machine.cpus) || machine.cpu >= machine.cpus {
        return Err(SimulatorError::Request(format!(
            "processor {} of {}",
            machine.cpu, machine.cpus
        )));
    }

    // SAFETY: promised by the caller: this thread is the only one, and it is done once.
    let (mut memory, form, mut cpu) = unsafe { processor(image.machine, request.processor) }?;
    let mut thunks = thunks::Thunks::new(form);
    let full = |_| kernel::no_memory("the kernel's code");
    let return_address = thunks.add(&mut memory, thunks::Target::Return).map_err(full)?;
    let loads = request.loads.max(1);
    if loads > MAX_LOADS || loads > 1 && metadata_function.is_some() {
        return Err(SimulatorError::Request(format!(
            "a driver is loaded up to {MAX_LOADS} times, a DLL once, not {loads} times"
        )));
    }
    if loads > 1 && request.defects_are_answers {
        return Err(SimulatorError::Request(
            "answers to defects are given for one load only".into(),
        ));
    }
    let mut images = Vec::new();
    for _ in 0..loads {
        images.push(mapping::place(&image, &mut memory, &mut thunks)?);
    }
    let stack = driver::make_stack(&mut memory, machine.stack_bytes)?;
    if request.trace == Trace::Instructions && object.is_none() {
        cpu.start_counting(trace::CodeCounts::new(&images[0]));
    }
    if request.tell.times && (object.is_some() || !cpu.start_timing()) {
        return Err(SimulatorError::Request(
            "time is taken of native code alone: what an emulator or the interpreter takes says nothing".into(),
        ));
    }
    confine(&memory, &images)?;
    let mut kernel = Kernel {
        memory,
        cpu,
        thunks,
        image: images[0].clone(),
        images,
        load: 0,
        return_address,
        stack,
        checked: None,
        activities: Vec::new(),
        nmr: nmr::Nmr::default(),
        system: system::System::default(),
        driver: driver::Driver::default(),
        original_platform: platform.clone(),
        platform,
        providers,
        module: module::LoadedModule::default(),
        maps: maps::Maps::new(machine.cpus, machine.cpu),
        state: invoke::RunState {
            random: machine.random_seed,
            time: machine.boot_time,
            ..invoke::RunState::default()
        },
        interpreted: None,
        functions: BTreeMap::new(),
        request,
    };
    kernel.pin_before()?;
    let Some(metadata_function) = metadata_function else {
        return live_and_live_again(&mut kernel, &view, object.as_ref(), exchange);
    };
    let dll = dll::Dll {
        metadata_function: kernel.image.base + u64::from(metadata_function.0),
    };
    mapping::fill(&kernel.image, &mut kernel.memory)?;
    kernel.start_dll(dll)?;
    kernel.load_module()?;
    let report = use_module(&mut kernel, &view, object, exchange)?;
    kernel.stop_dll(dll)?;
    Ok(report)
}

/// A driver's life, or, if something is made to fail, that and another one in the same system, where nothing fails.
fn live_and_live_again(
    kernel: &mut Kernel,
    view: &UserModeView,
    object: Option<&Module>,
    exchange: &mut dyn Exchange,
) -> Result<RunReport, SimulatorError> {
    let mut lives = Vec::new();
    if kernel.request.sabotage != Sabotage::None {
        lives.push(kernel.live(|_| Ok(RunReport::default()))?.0);
        kernel.request.sabotage = Sabotage::None;
    }
    let (life, report) = live_beside(kernel, 0, &mut |kernel| {
        use_module(kernel, view, object.cloned(), exchange)
    })?;
    let mut report = report.unwrap_or_default();
    if !lives.is_empty() || kernel.request.defects_are_answers {
        lives.push(life);
        report.lives = lives;
    }
    Ok(report)
}

/// The life of a load, in which those after it are lived and, when all are there, `in_use` is done.
fn live_beside(
    kernel: &mut Kernel,
    load: usize,
    in_use: &mut dyn FnMut(&mut Kernel) -> Result<RunReport, SimulatorError>,
) -> Result<(Life, Option<RunReport>), SimulatorError> {
    kernel.live(|kernel| {
        if load + 1 == kernel.images.len() {
            return in_use(kernel);
        }
        let before = kernel.next_load();
        let (_, report) = live_beside(kernel, load + 1, in_use)?;
        kernel.previous_load(before)?;
        Ok(report.unwrap_or_default())
    })
}

/// Compares what both sides see of a loaded module, and runs what is asked for.
fn use_module(
    kernel: &mut Kernel,
    view: &UserModeView,
    object: Option<Module>,
    exchange: &mut dyn Exchange,
) -> Result<RunReport, SimulatorError> {
    let (tables, (major, minor, revision)) = kernel.nmr.tables.clone().unwrap_or_default();
    for load in 0..kernel.module.loads.len() {
        compare_views(kernel, load, view, &tables)?;
    }
    if let Some(object) = object {
        kernel.interpret_instead(object)?;
    }
    let presets = kernel.request.presets.clone();
    kernel.be(0)?;
    kernel.set_presets(&presets)?;
    kernel.begin_mishaps()?;
    let tell = kernel.request.tell;
    let maps_before = tell.maps_before.then(|| kernel.all_contents());
    exchange.loaded(maps_before.unwrap_or_default())?;
    kernel.run_inputs(exchange)?;
    let mut report = kernel.report();
    report.stated_version = format!("{major}.{minor}.{revision}");
    Ok(report)
}

/// Takes from the process what it may ask of the host beyond what the run needs.
#[cfg(all(target_os = "linux", any(target_arch = "x86_64", target_arch = "aarch64")))]
fn confine(memory: &Memory, images: &[mapping::MappedImage]) -> Result<(), SimulatorError> {
    let code = if memory.is_emulated() {
        sandbox::Code::Emulated
    } else {
        sandbox::Code::native(images)
    };
    sandbox::enter(code).map_err(|e| SimulatorError::Process(format!("the process cannot be confined: {e}")))
}

/// Code runs in the emulator only, from where it can't ask the host for anything.
#[cfg(not(all(target_os = "linux", any(target_arch = "x86_64", target_arch = "aarch64"))))]
#[allow(clippy::unnecessary_wraps)] // elsewhere it fails
fn confine(memory: &Memory, _: &[mapping::MappedImage]) -> Result<(), SimulatorError> {
    assert!(
        memory.is_emulated(),
        "no code of an image runs on this host's processor"
    );
    Ok(())
}

/// A processor, the memory that it sees, and how its code calls the kernel.
type Parts = (Memory, Form, Box<dyn Processor>);

/// The processor for a machine, the memory that it sees, and how its code calls the kernel.
///
/// # Safety
/// To be called at most once in a process that has one thread.
unsafe fn processor(machine: u16, kind: ProcessorKind) -> Result<Parts, SimulatorError> {
    if is_emulated(machine, kind) {
        emulated(machine).map_err(SimulatorError::Unsupported)
    } else {
        // SAFETY: promised by the caller.
        unsafe { native() }
    }
}

/// The host's own, for x64.
///
/// # Safety
/// As of [`processor`].
#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
unsafe fn native() -> Result<Parts, SimulatorError> {
    // SAFETY: promised by the caller.
    let switch = unsafe { Switch::new() }.map_err(|e| SimulatorError::Process(e.to_string()))?;
    let form = Form::Jump(Switch::trap_address());
    Ok((Memory::default(), form, Box::new(X64::new(switch))))
}

/// The host's own, which is for no image.
#[cfg(not(all(target_os = "linux", target_arch = "x86_64")))]
unsafe fn native() -> Result<Parts, SimulatorError> {
    Err(SimulatorError::Unsupported("the host's processor runs no image".into()))
}

/// An emulated one.
fn emulated(machine: u16) -> Result<Parts, String> {
    let is_arm64 = machine == Image::ARM64;
    let model = if is_arm64 {
        &unicorn::arm64::MODEL
    } else {
        &unicorn::x64::MODEL
    };
    let engine = Engine::new(model)?;
    let mut memory = Memory::emulated(Rc::clone(&engine));
    if is_arm64 {
        unicorn::arm64::boot(&engine, &mut memory)?;
        return Ok((memory, Form::Unmapped, Box::new(Arm64::new(engine))));
    }
    unicorn::x64::boot(&engine, &mut memory)?;
    let trap = memory.map_pages(PAGE).map_err(|_| "no memory")?;
    Ok((
        memory,
        Form::Jump(trap),
        Box::new(X64::new(Emulated::new(engine, trap))),
    ))
}

/// User mode pairs what it read from the file with what the kernel loaded, by position (native module contract §5.4).
fn compare_views(kernel: &Kernel, load: usize, view: &UserModeView, tables: &Tables) -> Result<(), SimulatorError> {
    let programs = || kernel.module.programs.iter().filter(|p| p.load == load);
    let maps = || kernel.module.loads[load].maps.iter().map(|&map| &kernel.maps.list[map]);
    let differ = |detail: String| SimulatorError::UserMode(Violation::new(Rule::ViewsDiffer, detail));
    let kernel_programs: Vec<&str> = programs().map(|p| p.name.as_str()).collect();
    let user_programs: Vec<&str> = view.programs.iter().map(|p| p.name.as_str()).collect();
    if kernel_programs != user_programs {
        return Err(differ(format!(
            "user mode sees programs {user_programs:?}, the kernel {kernel_programs:?}"
        )));
    }
    for (user, loaded) in view.programs.iter().zip(programs()) {
        let attach = loaded.attach_type.map(|g| bpf2sys_platform::Guid(g).to_string());
        if user.section != loaded.section
            || user.program_type != loaded.program_type.guid.to_string()
            || attach.as_ref() != Some(&user.attach_type)
        {
            return Err(differ(format!(
                "section, type or attach type of program {} differ",
                user.name
            )));
        }
    }
    let mut duplicates: Vec<&str> = user_programs.clone();
    duplicates.dedup();
    if duplicates.len() != user_programs.len() {
        return Err(differ("two programs have the same name".into()));
    }
    let same_maps = view.maps.len() == maps().count()
        && view
            .maps
            .iter()
            .zip(maps())
            .zip(&tables.maps)
            .all(|((user, loaded), entry)| {
                let d = &entry.definition;
                user.name == loaded.name
                    && [
                        user.map_type,
                        user.key_size,
                        user.value_size,
                        user.max_entries,
                        user.pinning,
                        user.id,
                    ] == [d.map_type, d.key_size, d.value_size, d.max_entries, d.pinning, d.id]
                        .map(zerocopy::little_endian::U32::get)
            });
    if !same_maps {
        let user: Vec<&str> = view.maps.iter().map(|m| m.name.as_str()).collect();
        let kernel: Vec<&str> = maps().map(|m| m.name.as_str()).collect();
        return Err(differ(format!(
            "user mode sees maps {user:?}, the kernel {kernel:?}, or their definitions differ"
        )));
    }
    Ok(())
}

impl Kernel {
    /// Sets map entries as user mode would.
    fn set_presets(&mut self, presets: &[MapPreset]) -> Result<(), SimulatorError> {
        for preset in presets {
            let bad = |detail: String| SimulatorError::Request(format!("map {}: {detail}", preset.map));
            let Some(index) = self.map_named(self.load, &preset.map) else {
                return Err(bad("there is no such map".into()));
            };
            let map = &self.maps.list[index];
            if preset.key.0.len() != map.key_size() {
                return Err(bad(format!(
                    "keys have {} bytes, {} are given",
                    map.key_size(),
                    preset.key.0.len()
                )));
            }
            match &preset.value {
                PresetValue::Name(name) => self.store_named(index, &preset.key.0, name)?,
                PresetValue::Bytes(bytes) => {
                    let is_for_each_cpu = map.per_cpu() && bytes.0.len() == map.value_size() * self.maps.cpus as usize;
                    if bytes.0.len() != map.value_size() && !is_for_each_cpu {
                        return Err(bad(format!(
                            "values have {} bytes, {} are given",
                            map.value_size(),
                            bytes.0.len()
                        )));
                    }
                    self.maps
                        .update(&mut self.memory, index, &preset.key.0, &bytes.0, 0, true)
                        .map_err(|code| bad(format!("the runtime answers with error {code}")))?;
                }
            }
        }
        self.maps.release_retired(&mut self.memory);
        Ok(())
    }
}
