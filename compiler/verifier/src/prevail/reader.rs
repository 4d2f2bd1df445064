//! What the result of an analysis says: refusals of our own, and facts.

use std::collections::BTreeMap;

use bpf2sys_bytecode::{AluOp, FunctionIndex, InsnIndex, Instruction, MapIndex, Operand, Reg, WordSize};
use bpf2sys_platform::{Platform, ProgramType};
use prevail::cfg::label::Label;
use prevail::crab::ebpf_domain::{DomainContext, EbpfDomain};
use prevail::crab::var_registry::VariableRegistry;
use prevail::ir::syntax::Reg as EngineReg;
use prevail::result::AnalysisResult;

use super::frames::Frames;
use super::subject::{Refused, Subject};
use super::windows::Windows;
use super::{rules, state, trust};
use crate::check::place;
use crate::guard::Deadline;
use crate::knowledge::{Knowledge, Visit};
use crate::proof::Proof;
use crate::prototype::prototype;
use crate::{Object, RegisterFact, RegisterKind, Warning};

/// The registers before each instruction that is reached.
pub(super) type Known<'r> = BTreeMap<&'r Label, state::Registers>;

/// Reads facts from the result of an analysis.
pub(super) struct FactReader<'a> {
    pub subject: &'a Subject<'a>,
    pub platform: &'a Platform,
    pub program_type: &'a ProgramType,
    pub context: DomainContext<'a>,
    /// The platform on which the inner map of each map descriptor is the descriptor itself.
    pub mirror: Windows,
    pub frames: Frames<'a>,
    pub names: VariableRegistry,
    pub deadline: &'a Deadline,
}

impl FactReader<'_> {
    /// The registers before each instruction that is reached.
    pub fn known<'r>(&mut self, result: &'r AnalysisResult) -> Known<'r> {
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

    /// Refuses what the engine should not have accepted, and otherwise gives the warnings, in the order of the code.
    #[allow(clippy::result_large_err)] // once per program
    pub fn refuse(&mut self, result: &AnalysisResult, known: &Known<'_>) -> Result<Vec<Warning>, Refused> {
        let module = self.subject.module;
        let functions = self.subject.code.functions();
        let origins: BTreeMap<FunctionIndex, Vec<rules::Origins>> = functions
            .map(|(_, function)| (function, rules::origins(module, module.function(function))))
            .collect();
        let escaped = origins
            .iter()
            .flat_map(|(function, origins)| rules::escaped(module.function(*function), origins));
        let rules = rules::Rules {
            module,
            platform: self.platform,
            program_type: self.program_type,
            escaped: escaped.collect(),
        };
        let mut warnings: Vec<Warning> = Vec::new();
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
                region_sizes: &registers.region_sizes,
                origins: &origins[&function][index.index()],
                impossible: registers.impossible || swapped,
            };
            if let Some(reason) = rules.refuse(instruction, &point, &self.context, &mut self.names) {
                return Err(self.subject.refuse(label, reason));
            }
            if let Some(reason) = rules.warn(instruction, &point, &self.context, &mut self.names) {
                let warning = Warning {
                    program: module.function(self.subject.program).name.clone(),
                    place: place(module, function, index),
                    reason,
                };
                // A function has a point for every chain of calls.
                if !warnings.contains(&warning) {
                    warnings.push(warning);
                }
            }
        }
        Ok(warnings)
    }

    pub fn read(&mut self, result: &AnalysisResult, known: &Known<'_>, warnings: Vec<Warning>) -> Proof {
        let module = self.subject.module;
        let knowledge = self.believe(result, known).unwrap_or_else(|| self.nothing());
        let returns = knowledge.returns(module, self.subject.program);
        Proof {
            knowledge,
            returns,
            warnings,
        }
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
                sources: &self.subject.flow.at(function, index),
                program_type: self.program_type,
            };
            let kind = module.function(function).kind;
            let map = self.one_map(&insn.op, &states.pre, registers);
            if !trust::is_modelled(&insn.op, &point, &self.context, &mut self.names)
                || !self.frames.agree(&insn.op, kind, map, &point, &mut self.names)
            {
                return None;
            }
            let row = knowledge.row(&self.registers(registers));
            knowledge.visit(
                function,
                index,
                &Visit {
                    registers: row,
                    map,
                    packet_bytes: registers.packet_bytes,
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

    /// The registers at a point, as facts.
    fn registers(&self, registers: &state::Registers) -> [RegisterFact; Reg::COUNT] {
        let mut facts = registers.facts;
        for (fact, descriptor) in facts.iter_mut().zip(registers.descriptors) {
            match fact.kind {
                RegisterKind::Map | RegisterKind::MapOfPrograms => {
                    let map = descriptor.and_then(|fd| self.subject.code.maps.map_of(fd));
                    fact.object = map.map(Object::Map);
                }
                // Where frames lie beside each other, a distance from the own one proves nothing.
                RegisterKind::Stack if self.frames.several => (fact.offset, fact.room) = (None, 0),
                _ => {}
            }
        }
        facts
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
        self.subject.code.maps.map_of(fd)
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
