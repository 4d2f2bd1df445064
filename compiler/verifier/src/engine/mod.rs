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
//! in all programs, is joined in [`Knowledge`].
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
//! What PREVAIL lets pass and is refused all the same is listed in [`rules`]; where it gets another program to analyse than
//! it would read by itself, in [`meaning`].
//!
//! All this holds in PREVAIL's model of pointers and of stack frames. Where a program does something that these models get
//! wrong, see [`trust`] and [`frames`], none of its facts is used.

mod code;
mod fd;
mod frames;
mod meaning;
mod rules;
mod state;
mod trust;
mod windows;

use std::collections::BTreeMap;

use bpf2sys_bytecode::{AluOp, FunctionIndex, InsnIndex, Instruction, MapIndex, Module, Operand, Reg, WordSize};
use bpf2sys_platform::{Platform, ProgramType, VerifierOptions};
use prevail::cfg::graph::Cfg;
use prevail::cfg::label::Label;
use prevail::crab::ebpf_domain::{DomainContext, EbpfDomain, VerificationError};
use prevail::crab::var_registry::VariableRegistry;
use prevail::fwd_analyzer::{self, Program as EngineProgram};
use prevail::ir::program::Program;
use prevail::ir::syntax::{Assertion, Instruction as EngineInstruction, Reg as EngineReg};
use prevail::ir::unmarshal::{UnmarshalError, conformance_groups, unmarshal};
use prevail::result::AnalysisResult;
use prevail::spec::config::{EbpfRuntimeConfig, EbpfVerifierOptions};
use prevail::spec::type_descriptors::{EbpfMapDescriptor, ProgramInfo};

use crate::check::place;
use crate::error::{Rejection, RejectionReason};
use crate::explain::explain;
use crate::flow::Flow;
use crate::guard::Deadline;
use crate::knowledge::{Knowledge, Visit};
use crate::prototype::prototype;
use crate::{Interval, RegisterKind, VerifyError};

use code::Code;
use frames::Frames;
use meaning::Meaning;
use windows::Windows;

/// What all programs of a module share.
pub(crate) struct Engine {
    maps: Vec<EbpfMapDescriptor>,
    conformance_groups: u32,
    options: EbpfVerifierOptions,
}

/// What the proof of a program knows.
pub(crate) struct Proof {
    /// Of each instruction.
    pub knowledge: Knowledge,
    /// Of `r0` at the program's own exits.
    pub returns: Interval,
}

impl Engine {
    /// Prepares the analysis of a module's programs.
    pub fn new(module: &Module, platform: &Platform) -> Result<Engine, VerifyError> {
        let mut groups = 0;
        for name in &platform.verifier_options.conformance_groups {
            groups |= conformance_groups::group_by_name(name)
                .ok_or_else(|| VerifyError::UnknownConformanceGroup { name: name.clone() })?;
        }
        Ok(Engine {
            maps: fd::descriptors(module, platform)?,
            conformance_groups: groups,
            options: options(platform),
        })
    }

    /// Analyses one program. Panics where PREVAIL does, and unwinds when the deadline has passed.
    pub fn analyze(
        &self,
        module: &Module,
        platform: &Platform,
        program: FunctionIndex,
        program_type: &ProgramType,
        flow: &Flow,
        deadline: &Deadline,
    ) -> Result<Proof, Rejection> {
        let windows = Windows::new(
            module,
            platform,
            program_type,
            self.maps.clone(),
            self.conformance_groups,
        );
        let code = Code::new(module, program);
        let subject = Subject {
            module,
            program,
            code: &code,
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
        let refuse = |(label, reason): (Label, _)| subject.refuse(&label, reason);
        let mut meaning = Meaning::new(&graph, platform, program_type).map_err(refuse)?;
        let result = loop {
            let watched = Watched {
                meaning: &meaning,
                deadline,
            };
            let result = fwd_analyzer::analyze(&watched, &context, &mut names);
            if result.failed {
                return Err(subject.failure(&result));
            }
            if !meaning.learn(&result, &context, &mut names).map_err(refuse)? {
                break result;
            }
        };
        if let Some((label, error)) = rules::outside_memory(&meaning, &result, &context, &mut names) {
            return Err(subject.reject(Some(label.from), &error.message));
        }
        let mut reader = FactReader {
            subject: &subject,
            platform,
            program_type,
            context,
            mirror: windows.mirror(),
            flow,
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
        reader.refuse(&result, &known)?;
        Ok(reader.read(&result, &known))
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

/// The program under analysis, to say where something is.
struct Subject<'a> {
    module: &'a Module,
    program: FunctionIndex,
    code: &'a Code,
}

impl Subject<'_> {
    fn reject(&self, slot: Option<i32>, message: &str) -> Rejection {
        let reason = RejectionReason::Unsafe {
            explanation: explain(message),
            engine: message.to_owned(),
        };
        self.rejection(slot, reason)
    }

    /// A rejection for a reason of our own.
    fn refuse(&self, label: &Label, reason: RejectionReason) -> Rejection {
        self.rejection(Some(label.from), reason)
    }

    fn rejection(&self, slot: Option<i32>, reason: RejectionReason) -> Rejection {
        Rejection {
            program: self.module.function(self.program).name.clone(),
            place: slot
                .and_then(|slot| self.code.place(self.module, slot))
                .and_then(|(function, index)| place(self.module, function, index)),
            reason,
        }
    }

    fn unreadable(&self, error: &UnmarshalError) -> Rejection {
        match error {
            UnmarshalError::InvalidInstruction { pc, message } => self.reject(i32::try_from(*pc).ok(), message),
            other => self.reject(None, &other.to_string()),
        }
    }

    /// The first failure in the order of the code: what follows it was not analysed.
    fn failure(&self, result: &AnalysisResult) -> Rejection {
        let first = result
            .invariants
            .iter()
            .filter(|(_, states)| !states.pre.is_bottom())
            .find_map(|(label, states)| states.error.as_ref().map(|error| (label, error)));
        match first {
            Some((label, VerificationError { message, .. })) => self.reject(Some(label.from), message),
            None => self.reject(None, "the analysis failed without saying where"),
        }
    }
}

/// The registers before each instruction that is reached.
type Known<'r> = BTreeMap<&'r Label, state::Registers>;

/// Reads facts from the result of an analysis.
struct FactReader<'a> {
    subject: &'a Subject<'a>,
    platform: &'a Platform,
    program_type: &'a ProgramType,
    context: DomainContext<'a>,
    /// The platform on which the inner map of each map descriptor is the descriptor itself.
    mirror: Windows,
    flow: &'a Flow,
    frames: Frames<'a>,
    names: VariableRegistry,
    deadline: &'a Deadline,
}

impl FactReader<'_> {
    /// The registers before each instruction that is reached.
    fn known<'r>(&mut self, result: &'r AnalysisResult) -> Known<'r> {
        let mut known = Known::new();
        for (label, states) in &result.invariants {
            self.deadline.check();
            // Edges, loop counters and halves of instructions are no instructions.
            if label.isjump() || !label.special_label.is_empty() || states.pre.is_bottom() {
                continue;
            }
            known.insert(label, state::registers(&states.pre, &self.context, &mut self.names));
        }
        known
    }

    /// Refuses what the engine should not have accepted.
    fn refuse(&mut self, result: &AnalysisResult, known: &Known<'_>) -> Result<(), Rejection> {
        let module = self.subject.module;
        let rules = rules::Rules {
            module,
            platform: self.platform,
            program_type: self.program_type,
        };
        let functions = self.subject.code.functions();
        let origins: BTreeMap<FunctionIndex, Vec<rules::Origins>> = functions
            .map(|(_, function)| (function, rules::origins(module, module.function(function))))
            .collect();
        for (label, registers) in known {
            self.deadline.check();
            let Some((function, index)) = self.subject.code.place(module, label.from) else {
                continue;
            };
            let instruction = &module.function(function).instructions[index.index()].op;
            let states = &result.invariants[*label];
            let swapped = matches!(instruction, Instruction::ByteSwap { .. })
                && state::registers(&states.post, &self.context, &mut self.names).impossible;
            let point = rules::Point {
                label,
                state: &states.pre,
                registers: &registers.facts,
                context_offsets: &registers.context_offsets,
                contexts: &registers.contexts,
                origins: &origins[&function][index.index()],
                impossible: registers.impossible || swapped,
            };
            if let Some(reason) = rules.refuse(instruction, &point, &self.context, &mut self.names) {
                return Err(self.subject.refuse(label, reason));
            }
        }
        Ok(())
    }

    fn read(&mut self, result: &AnalysisResult, known: &Known<'_>) -> Proof {
        let module = self.subject.module;
        let knowledge = self.believe(result, known).unwrap_or_else(|| self.nothing());
        let returns = knowledge.returns(module, self.subject.program);
        Proof { knowledge, returns }
    }

    /// Every instruction may be reached, and nothing is known there.
    fn nothing(&self) -> Knowledge {
        let module = self.subject.module;
        let mut knowledge = Knowledge::new(module);
        for (_, function) in self.subject.code.functions() {
            knowledge.cover(module, function);
            for index in 0..module.function(function).instructions.len() as u32 {
                knowledge.visit_unknown(function, InsnIndex(index));
            }
        }
        knowledge
    }

    /// The engine's facts, or `None` if they may not hold on Windows.
    fn believe(&mut self, result: &AnalysisResult, known: &Known<'_>) -> Option<Knowledge> {
        let module = self.subject.module;
        let mut knowledge = Knowledge::new(module);
        for (_, function) in self.subject.code.functions() {
            knowledge.cover(module, function);
        }
        for (label, states) in &result.invariants {
            self.deadline.check();
            // Loop counters and the ends of the graph are no instructions.
            let Some((function, index)) = self.subject.code.place(module, label.from) else {
                continue;
            };
            if !label.special_label.is_empty() {
                continue;
            }
            let instructions = &module.function(function).instructions;
            let insn = &instructions[index.index()];
            if label.isjump() {
                if !states.post.is_bottom() {
                    let distance = i64::from(label.to) - i64::from(label.from) - 1;
                    let taken = insn.op.jump_offset().map(i64::from) == Some(distance);
                    knowledge.edge(function, index, taken);
                }
                continue;
            }
            let Some(registers) = known.get(label) else {
                continue;
            };
            let point = trust::Point {
                label,
                state: &states.pre,
                registers: &registers.facts,
                sources: &self.flow.at(function, index),
                program_type: self.program_type,
            };
            let kind = module.function(function).kind;
            let map = self.one_map(&insn.op, &states.pre, registers);
            if !trust::is_modelled(&insn.op, &point, &self.context, &mut self.names)
                || !self.frames.agree(&insn.op, kind, map, &point, &mut self.names)
            {
                return None;
            }
            knowledge.visit(
                function,
                index,
                &Visit {
                    registers: registers.facts,
                    map,
                },
            );
            if instructions
                .get(index.index() + 1)
                .is_some_and(|next| is_extension(&insn.op, &next.op))
            {
                knowledge.visit_unknown(function, InsnIndex(index.0 + 1));
            }
        }
        Some(knowledge)
    }

    /// The map that the call at this point names, if it can only be one.
    fn one_map(
        &mut self,
        instruction: &Instruction,
        state: &EbpfDomain,
        registers: &state::Registers,
    ) -> Option<MapIndex> {
        let Instruction::Call(callee) = *instruction else {
            return None;
        };
        let called = prototype(callee, self.subject.module, self.platform, self.program_type)?;
        let argument = called
            .arguments
            .iter()
            .take_while(|a| **a != 0)
            .position(|a| self.platform.map_argument_types.contains(a))?;
        let register = Reg::new(argument as u8 + 1)?;
        let fd = match registers.facts[register.index()].kind {
            RegisterKind::Map => self.map_descriptor(register, state)?,
            RegisterKind::MapOfPrograms => registers.program_maps[register.index()]?,
            _ => return None,
        };
        fd::map_of(fd, self.subject.module)
    }

    /// The one descriptor that a register holds.
    ///
    /// The engine tells properties of the descriptor, not the descriptor: so it is asked on a platform where
    /// the inner map of each is the descriptor itself.
    fn map_descriptor(&mut self, register: Reg, state: &EbpfDomain) -> Option<i32> {
        let context = DomainContext {
            platform: &self.mirror,
            ..self.context
        };
        let register = EngineReg { v: register.number() };
        let fd = state.get_map_inner_map_fd(&register, &context, &mut self.names)?;
        Some(fd.cast_signed())
    }
}

/// Whether these are the two shifts that extend the low 32 bits of a register, which the engine takes as one instruction.
fn is_extension(first: &Instruction, second: &Instruction) -> bool {
    let shift = |instruction: &Instruction| match *instruction {
        Instruction::Alu {
            size: WordSize::W64,
            op,
            dst,
            src: Operand::Imm(32),
        } => Some((op, dst)),
        _ => None,
    };
    match (shift(first), shift(second)) {
        (Some((AluOp::Lsh, a)), Some((AluOp::Rsh | AluOp::Arsh, b))) => a == b,
        _ => false,
    }
}
