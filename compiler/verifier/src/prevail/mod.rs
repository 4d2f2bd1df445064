//! PREVAIL as the verification engine.
//!
//! Given: a program of a module with its program type. Computed: what its proof knows about every instruction, or why
//! there is no proof.
//! Safe because: PREVAIL gets the instructions of the module itself, encoded again, and the options that eBPF for Windows
//! gives it; it may panic and run long, and is only called under [`guard`](crate::guard). Nothing of it leaves this
//! module.
//!
//! # Why each fact holds
//!
//! PREVAIL computes, per point of the program, a state that covers every execution that gets there. It copies a
//! subprogram into each of its callers, so an instruction has one point per chain of calls; knowledge of all of them,
//! in all programs, is joined in [`Knowledge`](crate::knowledge::Knowledge).
//! * Reachability: an instruction is unreachable if the state before it is empty at all its points. PREVAIL takes a
//!   64-bit shift left by 32 with the shift right behind it as one instruction; the second of such a pair has no point of
//!   its own, is as reachable as the first, and nothing else is said of it.
//! * Kinds and ranges of registers: see [`state`].
//! * The one map of a call: the descriptor in the argument register is exactly one, and one that stands for a map and
//!   not for "some map made from a template" ([`fd`]).
//! * Edges: each edge of a conditional jump is a point with the condition as its instruction; the edge is dead if
//!   the state after it is empty at all its points. A jump whose two edges lead to the same place has none.
//! * `r0` at exit: its range in the states before the exit instructions.
//! * A tail call, to PREVAIL, gives any number and execution goes on: that covers the failed call. A successful one ends the
//!   whole program at run time, in a subprogram too, so no execution carries its result to the point behind it, to a caller or to
//!   an exit, and no fact has to hold for it.
//!
//! What is told of a program that is rejected is found in [`explain`], and only for such.
//!
//! What PREVAIL lets pass and is refused all the same is listed in [`rules`]; where it gets another program to analyse than
//! it would read by itself, in [`meaning`].
//!
//! All this holds in PREVAIL's model of pointers and of stack frames. Where a program does something that these models get
//! wrong, see [`trust`] and [`frames`], none of its facts is used.

mod code;
mod explain;
mod fd;
mod frames;
mod meaning;
mod reader;
mod rules;
mod state;
mod subject;
mod trust;
mod windows;

use std::cell::RefCell;

use std::sync::Arc;

use bpf2sys_bytecode::{FunctionIndex, Module};
use bpf2sys_platform::{Platform, ProgramType, VerifierOptions};
use prevail::cfg::graph::Cfg;
use prevail::cfg::label::Label;
use prevail::crab::ebpf_domain::DomainContext;
use prevail::crab::var_registry::VariableRegistry;
use prevail::fwd_analyzer::{self, Program as EngineProgram};
use prevail::ir::program::Program;
use prevail::ir::syntax::{Assertion, Instruction as EngineInstruction};
use prevail::ir::unmarshal::{conformance_groups, unmarshal};
use prevail::spec::config::{EbpfRuntimeConfig, EbpfVerifierOptions};
use prevail::spec::type_descriptors::{EbpfMapDescriptor, ProgramInfo};

use crate::cost::{Stage, Stopwatch};
use crate::error::Rejection;
use crate::flow::Flow;
use crate::guard::Deadline;
use crate::proof::Proof;

use code::Code;
use explain::{Allowance, Explainer};
use fd::Numbers;
use frames::Frames;
use meaning::Meaning;
use reader::FactReader;
use subject::Subject;
use windows::Windows;

/// What all programs of a module share.
pub(crate) struct Engine {
    maps: Vec<EbpfMapDescriptor>,
    numbers: Arc<Numbers>,
    conformance_groups: u32,
    options: EbpfVerifierOptions,
    /// See [`Options`](crate::Options).
    explanation_steps: usize,
}

impl Engine {
    /// Prepares the analysis of a module's programs.
    pub fn new(module: &Module, platform: &Platform, explanation_steps: usize) -> Engine {
        let numbers = Numbers::new(module, platform);
        let names = &platform.verifier_options.conformance_groups;
        let known = |name: &String| conformance_groups::group_by_name(name);
        Engine {
            maps: fd::descriptors(module, &numbers),
            numbers: Arc::new(numbers),
            conformance_groups: names.iter().filter_map(known).fold(0, |all, group| all | group),
            options: options(platform),
            explanation_steps,
        }
    }

    /// Analyses one program. Panics where PREVAIL does, and unwinds when the deadline has passed.
    pub fn analyze(
        &self,
        module: &Module,
        platform: &Platform,
        (program, program_type): (FunctionIndex, &ProgramType),
        flow: &Flow,
        deadline: &Deadline,
        watch: &mut Stopwatch,
    ) -> Result<Proof, Rejection> {
        let windows = Windows::new(
            module,
            platform,
            program_type,
            self.maps.clone(),
            self.conformance_groups,
        );
        let code = Code::new(module, program, Arc::clone(&self.numbers));
        let subject = Subject {
            module,
            program,
            code: &code,
            flow,
        };
        let mut info = ProgramInfo {
            map_descriptors: self.maps.clone(),
            program_type: windows::program_type(program_type),
            supported_conformance_groups: self.conformance_groups,
            ..ProgramInfo::default()
        };
        let mut notes = Vec::new();
        let sequence = unmarshal(&code.slots, &mut notes, &info, &windows, &self.options)
            .map_err(|error| subject.unreadable(&error))?;
        deadline.check();
        let graph = Program::from_sequence(&sequence, &mut info, &windows, &self.options)
            .map_err(|error| subject.reject(None, &error.message))?;
        deadline.check();
        let context = DomainContext::new(&info, &graph, &self.options, &windows);
        let mut names = VariableRegistry::new();
        let mut meaning = Meaning::new(&graph, platform, program_type)
            .map_err(|(label, reason)| subject.refuse(&label, reason).rejection)?;
        watch.enter(Stage::Proof);
        let result = loop {
            let watched = Watched {
                meaning: &meaning,
                deadline,
            };
            let result = fwd_analyzer::analyze(&watched, &context, &mut names);
            if result.failed {
                return Err(self
                    .explainer(&subject, &meaning, &context, names, deadline, watch)
                    .failure(&result));
            }
            match meaning.learn(&result, &context, &mut names) {
                Ok(true) => {}
                Ok(false) => break result,
                Err((label, reason)) => {
                    let refused = subject.refuse(&label, reason);
                    return Err(self
                        .explainer(&subject, &meaning, &context, names, deadline, watch)
                        .refused(&result, refused));
                }
            }
        };
        watch.enter(Stage::Rules);
        if let Some(outside) = rules::outside_memory(&meaning, &result, &context, &mut names) {
            return Err(self
                .explainer(&subject, &meaning, &context, names, deadline, watch)
                .outside(&result, &outside));
        }
        let mut reader = FactReader {
            subject: &subject,
            platform,
            program_type,
            context,
            mirror: windows.mirror(),
            frames: Frames {
                platform,
                program_type,
                several: code.functions().count() > 1,
                module,
            },
            names,
            deadline,
        };
        let known = reader.known(&result);
        let warnings = match reader.refuse(&result, &known) {
            Ok(warnings) => warnings,
            Err(refused) => {
                let mut explainer = self.explainer(&subject, &meaning, &reader.context, reader.names, deadline, watch);
                return Err(explainer.refused(&result, refused));
            }
        };
        watch.enter(Stage::Facts);
        Ok(reader.read(&result, &known, warnings))
    }

    fn explainer<'e>(
        &self,
        subject: &'e Subject<'e>,
        meaning: &'e Meaning<'e>,
        context: &'e DomainContext<'e>,
        names: VariableRegistry,
        deadline: &Deadline,
        watch: &mut Stopwatch,
    ) -> Explainer<'e> {
        watch.enter(Stage::Explanation);
        Explainer {
            subject,
            meaning,
            context,
            names: RefCell::new(names),
            allowance: Allowance {
                steps: self.explanation_steps,
                // The rest is for the words, so that a rejection does not become a limit that was passed.
                until: deadline.half_way(),
            },
        }
    }
}

fn options(platform: &Platform) -> EbpfVerifierOptions {
    let VerifierOptions {
        check_for_termination,
        must_have_exit,
        strict,
        allow_division_by_zero,
        setup_constraints,
        ..
    } = platform.verifier_options;
    EbpfVerifierOptions {
        runtime: EbpfRuntimeConfig {
            strict,
            allow_division_by_zero,
            setup_constraints,
            big_endian: false,
            check_for_termination,
            subprogram_stack_size: platform.limits.subprogram_stack_bytes.cast_signed(),
            max_call_stack_frames: platform.limits.max_call_frames.cast_signed(),
            max_packet_size: platform.limits.max_packet_bytes.cast_signed(),
        },
        must_have_exit,
        mock_map_fds: true,
        ..EbpfVerifierOptions::default()
    }
}

/// The engine's program, with a look at the clock at every step of the analysis.
struct Watched<'a> {
    meaning: &'a Meaning<'a>,
    deadline: &'a Deadline,
}

impl EngineProgram for Watched<'_> {
    fn cfg(&self) -> &Cfg {
        self.meaning.cfg()
    }

    fn instruction_at(&self, label: &Label) -> &EngineInstruction {
        self.deadline.check();
        self.meaning.instruction_at(label)
    }

    fn assertions_at(&self, label: &Label) -> &[Assertion] {
        self.meaning.assertions_at(label)
    }
}
