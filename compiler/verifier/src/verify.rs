//! From a module to a verified module.

use std::borrow::Cow;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bpf2sys_bytecode::{Function, FunctionIndex, Module};
use bpf2sys_platform::{AttachPoint, MapValueKind, Platform, ProgramType};

use crate::check::{check, too_long};
use crate::cost::{ProgramCost, Stopwatch};
use crate::error::Rejection;
use crate::flow::Flow;
use crate::groups::Group;
use crate::guard::{self, Deadline, Failure, Limits};
use crate::knowledge::{self, Knowledge};
use crate::nearest::prefixes_meant;
use crate::prevail::Engine;
use crate::proof::Proof;
use crate::{FunctionFacts, VerifiedModule, VerifiedProgram, VerifyError, Warning, frame, native, tail_calls};

/// Which engine proves programs safe.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Verifier {
    /// The engine of this project.
    #[default]
    Native,
    /// PREVAIL, as eBPF for Windows uses it.
    Prevail,
    /// Both: a program is accepted if both accept it.
    Both,
}

/// How to verify.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// Which engine does it.
    pub verifier: Verifier,
    /// How long verification of the whole module may take. A program that takes longer is not verified.
    pub time_limit: Duration,
    /// How many bytes of the process may be in memory while the module is verified; `None` for any number. The
    /// engine's memory can't be told from that of the rest of the process, so this is a limit for the process, looked at about
    /// a hundred times a second. It never passes on systems that do not say how much a process has (all but Linux, macOS,
    /// Windows, FreeBSD and OpenBSD).
    pub memory_limit: Option<u64>,
    /// A section name prefix that gives the program type and attach type of every program, whatever its section is
    /// called. Looked up as a section name is: the longest registered prefix of it counts.
    pub program_type: Option<String>,
    /// How many instructions may be looked at to find out how execution gets to where a program is rejected. With 0 only the
    /// reason is told, in words for all ways that lead there.
    pub explanation_steps: usize,
}

impl Default for Options {
    fn default() -> Self {
        Options {
            verifier: Verifier::default(),
            time_limit: Duration::from_mins(1),
            memory_limit: None,
            program_type: None,
            // Above that, few programs are told more of, and a rejection takes seconds.
            explanation_steps: 20_000,
        }
    }
}

/// Proves every program of a module safe for its program type, and keeps what was proven.
///
/// Programs are verified side by side, on threads of this function's own: as many as there are processors, in all calls of
/// this function in the process together. A few small ones are verified on the caller's thread, which takes less time. The time limit counts from when the first program is begun. When a limit is
/// passed, the error comes at once and the threads are told to stop; one that is just building the control flow graph of
/// a large program cannot be interrupted and stops when that is done.
///
/// The first call installs a process-wide panic hook, once: it keeps quiet about panics on those threads, which become
/// errors, and passes every other panic to the hook that was there before.
///
/// # Errors
/// All rejected programs, in file order; or what kept verification from a verdict.
pub fn verify(module: Module, platform: &Platform, options: &Options) -> Result<VerifiedModule, VerifyError> {
    verify_with(module, platform, options, None)
}

/// The same, and tells what each program took that has a verdict, in file order, before it returns.
///
/// # Errors
/// Those of [`verify`].
pub fn verify_observed(
    module: Module,
    platform: &Platform,
    options: &Options,
    observer: &mut dyn FnMut(&ProgramCost),
) -> Result<VerifiedModule, VerifyError> {
    verify_with(module, platform, options, Some(observer))
}

fn verify_with(
    module: Module,
    platform: &Platform,
    options: &Options,
    observer: Option<&mut dyn FnMut(&ProgramCost)>,
) -> Result<VerifiedModule, VerifyError> {
    Group::check_names(platform)?;
    let mut programs = typed_programs(&module, platform, options)?;
    for map in &module.maps {
        if let Some(limit) = too_long(&map.name, platform) {
            let map = map.name.clone();
            return Err(VerifyError::MapName { map, limit });
        }
    }
    usable_maps(&module, platform)?;
    let prevail = match options.verifier {
        Verifier::Native => None,
        Verifier::Prevail | Verifier::Both => Some(Engine::new(&module, platform, options.explanation_steps)),
    };
    let flow = Flow::new(&module);
    let jobs: Vec<_> = programs
        .iter()
        .map(|p| (p.function, Arc::clone(&p.program_type)))
        .collect();
    let limits = Limits {
        time: options.time_limit,
        memory: options.memory_limit,
    };
    let small =
        options.verifier == Verifier::Native && jobs.iter().map(|(f, _)| slots(&module, *f)).sum::<u64>() <= SMALL;
    let shared = Shared {
        jobs,
        module,
        platform: Cow::Borrowed(platform),
        verifier: options.verifier,
        prevail,
        flow,
        costs: observer.is_some().then(Mutex::default),
    };
    if small {
        let results = guard::run_here(programs.len(), limits, |i, deadline| shared.analyze(i, deadline));
        let (facts, warnings) = shared.conclude(&mut programs, results, options, observer)?;
        return Ok(VerifiedModule::new(shared.module, programs, facts, warnings));
    }
    // A thread that is given up keeps what it works on.
    let own = Arc::new(shared.owned());
    let analyze = {
        let shared = Arc::clone(&own);
        move |i, deadline: &Deadline| shared.analyze(i, deadline)
    };
    let results = guard::run(programs.len(), limits, analyze);
    let (facts, warnings) = own.conclude(&mut programs, results, options, observer)?;
    // The threads have ended, so the module is ours alone again.
    let module = Arc::try_unwrap(own).map_or_else(|shared| shared.module.clone(), |shared| shared.module);
    Ok(VerifiedModule::new(module, programs, facts, warnings))
}

/// Of a program and the functions that it reaches.
fn slots(module: &Module, program: FunctionIndex) -> u64 {
    let functions = std::iter::once(program).chain(module.reachable_from(program));
    functions.map(|f| u64::from(module.function(f).slots())).sum()
}

/// Refuses maps that no proof can use.
fn usable_maps(module: &Module, platform: &Platform) -> Result<(), VerifyError> {
    for map in &module.maps {
        let unusable = |reason: String| VerifyError::UnusableMap {
            map: map.name.clone(),
            reason,
        };
        let definition = &map.definition;
        for (what, size) in [("key", definition.key_size), ("value", definition.value_size)] {
            if i32::try_from(size).is_err() {
                return Err(unusable(format!("the {what} size of {size} bytes is too large")));
            }
        }
        let kind = platform
            .map_type(definition.map_type)
            .map(|known| known.verifier_value_kind);
        if kind == Some(MapValueKind::Map) && map.inner.is_none() {
            return Err(unusable("a map of maps needs a template for its maps".to_owned()));
        }
    }
    Ok(())
}

/// Slots of all programs together up to which our engine works on the caller's thread: starting and ending one takes as long as
/// some hundred slots. Our engine looks at the deadline in each block, and its stack is as deep as calls are; PREVAIL's is as
/// deep as loops are, and it can be long without a look.
const SMALL: u64 = 1_000;

/// What the jobs work on.
struct Shared<'a> {
    module: Module,
    platform: Cow<'a, Platform>,
    verifier: Verifier,
    /// PREVAIL, if it is asked.
    prevail: Option<Engine>,
    flow: Flow,
    jobs: Vec<(FunctionIndex, Arc<ProgramType>)>,
    /// What the programs took, if somebody wants to know.
    costs: Option<Mutex<Vec<ProgramCost>>>,
}

impl Shared<'_> {
    fn analyze(&self, job: usize, deadline: &Deadline) -> Result<Proof, Rejection> {
        let (program, program_type) = &self.jobs[job];
        let mut watch = Stopwatch::new(self.costs.is_some());
        let result = check(&self.module, *program, program_type, &self.platform)
            .and_then(|()| self.prove((*program, program_type), deadline, &mut watch));
        if let Some(costs) = &self.costs {
            let cost = watch.stop(*program, slots(&self.module, *program));
            costs.lock().unwrap_or_else(PoisonError::into_inner).extend(cost);
        }
        result
    }

    fn prove(
        &self,
        (program, program_type): (FunctionIndex, &ProgramType),
        deadline: &Deadline,
        watch: &mut Stopwatch,
    ) -> Result<Proof, Rejection> {
        let (module, platform, flow) = (&self.module, &self.platform, &self.flow);
        let Some(prevail) = &self.prevail else {
            return native::analyze(module, platform, (program, program_type), flow, deadline, watch);
        };
        if self.verifier == Verifier::Prevail {
            return prevail.analyze(module, platform, (program, program_type), flow, deadline, watch);
        }
        let own = native::analyze(module, platform, (program, program_type), flow, deadline, watch);
        let theirs = prevail.analyze(module, platform, (program, program_type), flow, deadline, watch);
        let only = |rejection: Rejection, by| Rejection {
            only_by: Some(by),
            ..rejection
        };
        match (own, theirs) {
            // Ours has the narrower facts.
            (Ok(proof), Ok(_)) => Ok(proof),
            (Err(rejection), Ok(_)) => Err(only(rejection, Verifier::Native)),
            (Ok(_), Err(rejection)) => Err(only(rejection, Verifier::Prevail)),
            (Err(rejection), Err(_)) => Err(rejection),
        }
    }

    /// The same with nothing of the caller's.
    fn owned(self) -> Shared<'static> {
        Shared {
            module: self.module,
            platform: Cow::Owned(self.platform.into_owned()),
            verifier: self.verifier,
            prevail: self.prevail,
            flow: self.flow,
            jobs: self.jobs,
            costs: self.costs,
        }
    }

    /// What the proofs of all programs give together.
    fn conclude(
        &self,
        programs: &mut [VerifiedProgram],
        results: Result<Vec<Result<Proof, Rejection>>, (usize, Failure)>,
        options: &Options,
        observer: Option<&mut dyn FnMut(&ProgramCost)>,
    ) -> Result<(Vec<FunctionFacts>, Vec<Warning>), VerifyError> {
        if let Some(observer) = observer {
            self.tell_costs(observer);
        }
        let results = results.map_err(|(job, failure)| {
            let program = self.module.function(self.jobs[job].0).name.clone();
            match failure {
                Failure::TimeLimit => VerifyError::TimeLimit {
                    limit: options.time_limit,
                    program,
                },
                Failure::MemoryLimit => VerifyError::MemoryLimit {
                    limit: options.memory_limit.unwrap_or(u64::MAX),
                    program,
                },
                Failure::Panic(message) => VerifyError::EngineFailed { program, message },
                Failure::NoThread(reason) => VerifyError::NoThread(reason),
            }
        })?;
        let mut knowledge = Knowledge::new(&self.module);
        let mut warnings = Vec::new();
        let mut rejections = Vec::new();
        for (program, result) in programs.iter_mut().zip(results) {
            match result {
                Ok(Proof {
                    knowledge: new,
                    returns,
                    warnings: found,
                }) => {
                    knowledge.join(new);
                    warnings.extend(found);
                    program.returns = returns;
                }
                Err(rejection) => rejections.push(rejection),
            }
        }
        if !rejections.is_empty() {
            return Err(VerifyError::Rejected(rejections));
        }
        let mut facts = knowledge.into_facts(&self.module, &self.flow);
        let found = frame::follow(&frame::Subject {
            module: &self.module,
            platform: &self.platform,
            programs,
            facts: &facts,
        });
        knowledge::complete(&self.module, &mut facts, found);
        warnings.extend(tail_calls::endless_chains(
            &self.module,
            &self.platform,
            programs,
            &facts,
        ));
        let position = |warning: &Warning| {
            programs
                .iter()
                .position(|p| self.module.function(p.function).name == warning.program)
        };
        warnings.sort_by_key(position);
        Ok((facts, warnings))
    }

    fn tell_costs(&self, observer: &mut dyn FnMut(&ProgramCost)) {
        let Some(costs) = &self.costs else { return };
        let mut costs = costs.lock().unwrap_or_else(PoisonError::into_inner).clone();
        costs.sort_by_key(|cost| cost.program);
        costs.iter().for_each(observer);
    }
}

/// The programs of the module with their types, nothing proven yet.
fn typed_programs(
    module: &Module,
    platform: &Platform,
    options: &Options,
) -> Result<Vec<VerifiedProgram>, VerifyError> {
    let prefixes = platform.section_prefixes();
    let known = || prefixes.iter().map(|p| (*p).to_owned()).collect();
    let given = match &options.program_type {
        Some(name) => Some(
            platform
                .program_type_for_section(name)
                .ok_or_else(|| VerifyError::UnknownProgramType {
                    name: name.clone(),
                    near: prefixes_meant(name, &prefixes),
                    known: known(),
                })?,
        ),
        None => None,
    };
    let type_of = |function: &Function| -> Result<(&Arc<ProgramType>, &AttachPoint), VerifyError> {
        given
            .or_else(|| platform.program_type_for_section(&function.section))
            .ok_or_else(|| VerifyError::UnknownSection {
                program: function.name.clone(),
                section: function.section.clone(),
                near: prefixes_meant(&function.section, &prefixes),
                known: known(),
            })
    };
    let mut programs = Vec::new();
    for (function, content) in module.programs() {
        let (program_type, attach) = type_of(content)?;
        programs.push(VerifiedProgram {
            function,
            program_type: Arc::clone(program_type),
            attach_type: attach.attach_type,
            reachable: module.reachable_from(function),
            returns: crate::Interval::FULL,
        });
    }
    if programs.is_empty() {
        return Err(VerifyError::NoProgram);
    }
    Ok(programs)
}
