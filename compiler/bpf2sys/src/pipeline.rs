//! The way of the data: read, verify, lower, link.

use std::time::{Duration, Instant};

use bpf2sys_bytecode::HashAlgorithm;
use bpf2sys_codegen::{self as codegen, Optimizations, RuntimeLevel};
use bpf2sys_pe_emit::{self as pe_emit, ImageOptions, Machine};
use bpf2sys_retarget::{Settings, System};
use bpf2sys_verifier::{self as verifier, VerifiedModule, Verifier};

use crate::origin;
use crate::porting::{self, Ported};
use crate::timings::{ProgramTimes, Timings};
use crate::{Diagnostic, Error, ErrorKind, Providers};

/// What a build may be told. The default is what `bpf2sys build INPUT` does.
#[derive(Clone, Debug)]
#[allow(clippy::struct_excessive_bools)] // switches that have nothing to do with each other
pub struct BuildOptions {
    /// Verify every program as this section name says (`--type`), whatever section it is in.
    pub program_type: Option<String>,
    /// The system that the object was compiled for (`--from`); none to tell by its marks.
    pub from: Option<System>,
    /// The system that an object was compiled for whose marks tell nothing (`BPF2SYS_FROM`); none to build none of it. Linux by marks is
    /// [`retarget`](BuildOptions::retarget)'s.
    pub unmarked: Option<System>,
    /// Whether an object whose marks say that it was compiled for Linux is rewritten for Windows (`--retarget`).
    pub retarget: bool,
    /// Whether programs for Linux may get less than on Linux (`--allow-degraded`).
    pub allow_degraded: bool,
    /// What a loader of Linux would be told (`--set`, `--config`).
    pub linux: Settings,
    /// Which engine proves programs safe (`--verifier`).
    pub verifier: Verifier,
    /// The providers whose program types, helpers and maps programs use (`--platform`).
    pub providers: Providers,
    /// How long verification of the module may take; `None` is the verifier's default of 60 s.
    pub time_limit: Option<Duration>,
    /// Whether a warning about a program is an error (`--deny-warnings`).
    pub deny_warnings: bool,
    /// How many bytes of the process may be in memory while the module is verified (`--memory-limit`); `None` for any
    /// number. See [`bpf2sys_verifier::Options::memory_limit`].
    pub memory_limit: Option<u64>,
    /// Machines to compile for (`--arch`). What is named twice is made once.
    pub machines: Vec<Machine>,
    /// What to make for each machine (`--emit`). What is named twice is made once.
    pub forms: Vec<Form>,
    /// The oldest runtime that images must load in (`--runtime`).
    pub runtime: RuntimeLevel,
    /// Algorithm of the hashes that images state, of the object and of each program's helpers (`--hash`); `None` for none.
    pub hash: Option<HashAlgorithm>,
    /// ARM64: use the atomic instructions of the Large System Extensions (`--lse`).
    pub lse: bool,
    /// ARM64: sign return addresses (`--sign-return-address`).
    pub sign_return_address: bool,
    /// Have Windows check every call of a helper (`--cfg`).
    pub control_flow_guard: bool,
    /// Which optimizations are made (`--optimize`).
    pub optimizations: Optimizations,
    /// What images say that their code does not depend on (`--force-integrity`, `--version-info`).
    pub image: ImageOptions,
}

impl Default for BuildOptions {
    fn default() -> Self {
        BuildOptions {
            program_type: None,
            from: None,
            unmarked: Some(System::Windows),
            retarget: false,
            allow_degraded: false,
            linux: Settings::default(),
            verifier: Verifier::default(),
            providers: Providers::builtin(),
            time_limit: None,
            deny_warnings: false,
            memory_limit: None,
            machines: vec![Machine::X64],
            forms: vec![Form::Sys],
            runtime: RuntimeLevel::default(),
            hash: Some(HashAlgorithm::default()),
            lse: false,
            sign_return_address: false,
            control_flow_guard: true,
            optimizations: Optimizations::default(),
            image: ImageOptions::default(),
        }
    }
}

impl BuildOptions {
    /// What is to be made, in the order of [`Built::outputs`]: machine by machine, and for each the forms.
    pub fn products(&self) -> Vec<(Machine, Form)> {
        let mut products = Vec::new();
        for &machine in &self.machines {
            for &form in &self.forms {
                if !products.contains(&(machine, form)) {
                    products.push((machine, form));
                }
            }
        }
        products
    }
}

/// What a build can make of a module.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Form {
    /// A driver that attaches to the runtime.
    Sys,
    /// A DLL that exports `get_metadata_table`, which eBPF for Windows's user mode library reads and its tests load.
    Dll,
    /// A COFF object file that defines `get_metadata_table`, for another linker.
    Obj,
    /// The optimized Cranelift IR of the programs, as text.
    Clif,
    /// A listing of source lines, eBPF instructions and native instructions side by side. The code is that of the driver.
    Asm,
    /// The driver's line table ([`LineTable::to_json`](bpf2sys_lines::LineTable::to_json)): which line of source and which eBPF
    /// instruction each stretch of its code came from.
    Lines,
}

impl Form {
    /// The usual extension of such a file, without the dot.
    pub fn extension(self) -> &'static str {
        match self {
            Form::Sys => "sys",
            Form::Dll => "dll",
            Form::Obj => "obj",
            Form::Clif => "clif",
            Form::Asm => "asm",
            Form::Lines => "lines.json",
        }
    }

    /// Whether it is a PE image.
    pub fn is_image(self) -> bool {
        matches!(self, Form::Sys | Form::Dll)
    }

    /// What is put around the programs.
    fn skeleton(self) -> codegen::Skeleton {
        match self {
            Form::Sys | Form::Clif | Form::Asm | Form::Lines => codegen::Skeleton::Driver,
            Form::Dll => codegen::Skeleton::Dll,
            Form::Obj => codegen::Skeleton::Object,
        }
    }
}

/// What a build makes.
#[derive(Debug)]
pub struct Built {
    /// The verified module.
    pub verified: VerifiedModule,
    /// What became of what it had of Linux; none if it was made for Windows.
    pub ported: Option<Ported>,
    /// Everything that [`BuildOptions::products`] names, in that order.
    pub outputs: Vec<Output>,
}

/// One file of a build.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Output {
    /// The machine it is for.
    pub machine: Machine,
    /// What it is.
    pub form: Form,
    /// Its contents.
    pub bytes: Vec<u8>,
}

/// Builds an object file: by default, a driver for x64. The object is read and verified once, whatever is made of it.
/// `name` is the file's name, with or without folders; its first letters are part of the names of maps behind
/// global variables.
///
/// # Errors
/// See [`ErrorKind`]. If one output fails, there is none.
pub fn build(object: &[u8], name: &str, options: &BuildOptions) -> Result<Built, Error> {
    porting::buildable(object, options)?;
    let Proven { verified, ported, .. } = prove(object, name, options)?;
    let mut lowerings = Lowerings {
        verified: &verified,
        options,
        done: Vec::new(),
    };
    let outputs = options
        .products()
        .into_iter()
        .map(|(machine, form)| lowerings.output(machine, form))
        .collect::<Result<_, _>>()?;
    Ok(Built {
        verified,
        ported,
        outputs,
    })
}

/// Reads and verifies an object file, and makes nothing. Of one for Linux, it is the module that was made of it.
///
/// # Errors
/// See [`ErrorKind`].
pub fn verify(object: &[u8], name: &str, options: &BuildOptions) -> Result<VerifiedModule, Error> {
    Ok(prove(object, name, options)?.verified)
}

/// A module that is proven safe.
#[derive(Debug)]
pub struct Proven {
    /// The module.
    pub verified: VerifiedModule,
    /// What became of what it had of Linux; none if it was made for Windows.
    pub ported: Option<Ported>,
    /// Why it was compiled for Linux, as its marks say, although it is taken for one of Windows.
    pub(crate) marked_for_linux: Option<String>,
}

impl Proven {
    /// What its author should know although it is safe.
    pub fn warnings(&self) -> Vec<Diagnostic> {
        let mut all = warnings(&self.verified, self.ported.as_ref());
        all.extend(self.marked_for_linux.as_deref().map(crate::diagnose::taken_for_windows));
        all
    }
}

/// The same, with what became of what the object had of Linux.
///
/// # Errors
/// See [`ErrorKind`].
pub fn prove(object: &[u8], name: &str, options: &BuildOptions) -> Result<Proven, Error> {
    let porting::Read {
        module,
        ported,
        marked_for_linux,
    } = porting::read(object, name, options)?;
    let platform = options.providers.platform();
    let verified = verifier::verify(module, platform, &verifier_options(options));
    let verified = verified.map_err(|error| porting::unproven(error, ported.as_ref()))?;
    let proven = Proven {
        verified,
        ported,
        marked_for_linux,
    };
    accept(proven, options)
}

/// The same, and what it took: nothing of a program that has no verdict. Of an object for Linux, all that comes before the proof for Windows
/// counts as reading.
pub fn verify_timed(object: &[u8], name: &str, options: &BuildOptions) -> (Result<Proven, Error>, Timings) {
    let started = Instant::now();
    let read = porting::read(object, name, options);
    let mut timings = Timings {
        reading: started.elapsed(),
        programs: Vec::new(),
    };
    let porting::Read {
        module,
        ported,
        marked_for_linux,
    } = match read {
        Ok(read) => read,
        Err(error) => return (Err(error), timings),
    };
    let names: Vec<String> = module.functions.iter().map(|f| f.name.clone()).collect();
    let mut observer = |cost: &verifier::ProgramCost| {
        timings.programs.push(ProgramTimes {
            program: names[cost.program.index()].clone(),
            cost: *cost,
        });
    };
    let platform = options.providers.platform();
    let result = verifier::verify_observed(module, platform, &verifier_options(options), &mut observer);
    let result = result.map_err(|error| porting::unproven(error, ported.as_ref()));
    let accepted = result.and_then(|verified| {
        let proven = Proven {
            verified,
            ported,
            marked_for_linux,
        };
        accept(proven, options)
    });
    (accepted, timings)
}

/// The module, unless there must be no warnings and there are.
fn accept(proven: Proven, options: &BuildOptions) -> Result<Proven, Error> {
    let warnings = proven.verified.warnings();
    if options.deny_warnings && !warnings.is_empty() {
        return Err(ErrorKind::DeniedWarnings(warnings.to_vec()).into());
    }
    Ok(proven)
}

pub(crate) fn verifier_options(options: &BuildOptions) -> verifier::Options {
    let defaults = verifier::Options::default();
    verifier::Options {
        verifier: options.verifier,
        program_type: options.program_type.clone(),
        time_limit: options.time_limit.unwrap_or(defaults.time_limit),
        memory_limit: options.memory_limit,
        explanation_steps: defaults.explanation_steps,
    }
}

/// What the author of a verified module should know although it is safe.
pub fn warnings(verified: &VerifiedModule, ported: Option<&Ported>) -> Vec<Diagnostic> {
    let of_porting = ported.into_iter().flat_map(Ported::warnings);
    of_porting
        .chain(verified.warnings().iter().map(crate::diagnose::warning))
        .collect()
}

fn codegen_options(options: &BuildOptions, machine: Machine, form: Form) -> codegen::Options {
    let arm64 = machine == Machine::Arm64;
    codegen::Options {
        machine,
        skeleton: form.skeleton(),
        runtime: options.runtime,
        lse: arm64 && options.lse,
        sign_return_address: arm64 && options.sign_return_address,
        control_flow_guard: options.control_flow_guard,
        optimizations: options.optimizations,
        keep_ir: form.skeleton() == codegen::Skeleton::Driver && options.forms.contains(&Form::Clif),
        ..codegen::Options::default()
    }
}

/// An image together with what it was made of.
#[derive(Debug)]
pub(crate) struct Linked {
    pub lowered: codegen::Lowered,
    pub image: pe_emit::Image,
}

/// Makes the driver or DLL of a verified module for one machine, and keeps what it is made of.
pub(crate) fn link(
    verified: &VerifiedModule,
    options: &BuildOptions,
    machine: Machine,
    form: Form,
) -> Result<Linked, Error> {
    let lowered = codegen::lower(
        verified,
        options.providers.platform(),
        &codegen_options(options, machine, form),
    )
    .map_err(|source| ErrorKind::Lower { machine, source })?;
    let image =
        pe_emit::link_with(&lowered.object, &options.image).map_err(|source| ErrorKind::Link { machine, source })?;
    Ok(Linked { lowered, image })
}

/// The native code that outputs are made of. Each is made once, when it is first needed.
struct Lowerings<'a> {
    verified: &'a VerifiedModule,
    options: &'a BuildOptions,
    /// Those of the machine that was last worked on.
    done: Vec<(codegen::Options, codegen::Lowered)>,
}

impl Lowerings<'_> {
    fn output(&mut self, machine: Machine, form: Form) -> Result<Output, Error> {
        let verified = self.verified;
        let platform = self.options.providers.platform();
        let image = &self.options.image;
        let lowered = self.lowered(machine, form)?;
        let link_failed = |source| ErrorKind::Link { machine, source };
        let bytes = match form {
            Form::Sys | Form::Dll => pe_emit::link_with(&lowered.object, image)
                .map_err(link_failed)?
                .into_bytes(),
            Form::Obj => pe_emit::coff(&lowered.object).map_err(link_failed)?,
            Form::Clif => codegen::listing::clif(verified, platform, lowered).into_bytes(),
            Form::Asm => codegen::listing::assembly(verified, platform, lowered).into_bytes(),
            Form::Lines => {
                let driver = pe_emit::link_with(&lowered.object, image).map_err(link_failed)?;
                origin::line_file(verified.module(), lowered, &driver)?.into_bytes()
            }
        };
        Ok(Output { machine, form, bytes })
    }

    fn lowered(&mut self, machine: Machine, form: Form) -> Result<&codegen::Lowered, Error> {
        let options = codegen_options(self.options, machine, form);
        self.done.retain(|(of, _)| of.machine == machine);
        let known = self.done.iter().position(|(of, _)| *of == options);
        let position = if let Some(position) = known {
            position
        } else {
            let lowered = codegen::lower(self.verified, self.options.providers.platform(), &options)
                .map_err(|source| ErrorKind::Lower { machine, source })?;
            self.done.push((options, lowered));
            self.done.len() - 1
        };
        Ok(&self.done[position].1)
    }
}
