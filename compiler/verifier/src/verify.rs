//! From a module to a verified module.

use std::sync::Arc;
use std::time::Duration;

use bpf2sys_bytecode::{Function, FunctionIndex, Module};
use bpf2sys_platform::{AttachPoint, Platform, ProgramType};

use crate::check::check;
use crate::engine::{Engine, Proof};
use crate::error::Rejection;
use crate::flow::Flow;
use crate::guard::{self, Deadline, Failure};
use crate::knowledge::Knowledge;
use crate::nearest::prefixes_meant;
use crate::{VerifiedModule, VerifiedProgram, VerifyError};

/// How to verify.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// How long verification of the whole module may take. A program that takes longer is not verified.
    pub time_limit: Duration,
    /// A section name prefix that gives the program type and attach type of every program, whatever its section is
    /// called. Looked up as a section name is: the longest registered prefix of it counts.
    pub program_type: Option<String>,
}

impl Default for Options {
    fn default() -> Self {
        Options {
            time_limit: Duration::from_mins(1),
            program_type: None,
        }
    }
}

/// Proves every program of a module safe for its program type, and keeps what was proven.
///
/// Programs are verified side by side, on threads of this function's own. When the time limit passes, the error comes
/// at once and the threads are told to stop; one that is just building the control flow graph of a large program cannot
/// be interrupted and stops when that is done.
///
/// The first call installs a process-wide panic hook, once: it keeps quiet about panics on those threads, which become
/// errors, and passes every other panic to the hook that was there before.
///
/// # Errors
/// All rejected programs, in file order; or what kept verification from a verdict.
pub fn verify(module: Module, platform: &Platform, options: &Options) -> Result<VerifiedModule, VerifyError> {
    let mut programs = typed_programs(&module, platform, options)?;
    let engine = Engine::new(&module, platform)?;

    let mut rejections: Vec<Option<Rejection>> = Vec::with_capacity(programs.len());
    for program in &programs {
        rejections.push(check(&module, program.function, &program.program_type, platform).err());
    }
    let sound: Vec<usize> = (0..programs.len()).filter(|i| rejections[*i].is_none()).collect();

    let flow = Flow::new(&module);
    let shared = Arc::new(Shared {
        module,
        platform: platform.clone(),
        engine,
        flow,
        jobs: sound
            .iter()
            .map(|i| (programs[*i].function, Arc::clone(&programs[*i].program_type)))
            .collect(),
    });
    let deadline = Arc::new(Deadline::new(options.time_limit));
    let results = {
        let (shared, deadline) = (Arc::clone(&shared), Arc::clone(&deadline));
        guard::run(sound.len(), &Arc::clone(&deadline), move |i| {
            shared.analyze(i, &deadline)
        })
    };
    let results = results.map_err(|(job, failure)| {
        let program = |job: usize| shared.module.function(shared.jobs[job].0).name.clone();
        match failure {
            Failure::TimeLimit => VerifyError::TimeLimit {
                limit: options.time_limit,
                program: program(job),
            },
            Failure::Panic(message) => VerifyError::EngineFailed {
                program: program(job),
                message,
            },
            Failure::NoThread(reason) => VerifyError::NoThread(reason),
        }
    })?;

    let mut knowledge = Knowledge::new(&shared.module);
    for (i, result) in sound.into_iter().zip(results) {
        match result {
            Ok(Proof {
                knowledge: new,
                returns,
            }) => {
                knowledge.join(new);
                programs[i].returns = returns;
            }
            Err(rejection) => rejections[i] = Some(rejection),
        }
    }
    let rejections: Vec<Rejection> = rejections.into_iter().flatten().collect();
    if !rejections.is_empty() {
        return Err(VerifyError::Rejected(rejections));
    }
    // The threads have ended, so the module is ours alone again.
    let facts = knowledge.into_facts(&shared.module, &shared.flow);
    let module = Arc::try_unwrap(shared).map_or_else(|shared| shared.module.clone(), |shared| shared.module);
    Ok(VerifiedModule::new(module, programs, facts))
}

/// What the threads work on.
struct Shared {
    module: Module,
    platform: Platform,
    engine: Engine,
    flow: Flow,
    jobs: Vec<(FunctionIndex, Arc<ProgramType>)>,
}

impl Shared {
    fn analyze(&self, job: usize, deadline: &Deadline) -> Result<Proof, Rejection> {
        let (program, program_type) = &self.jobs[job];
        self.engine.analyze(
            &self.module,
            &self.platform,
            *program,
            program_type,
            &self.flow,
            deadline,
        )
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
