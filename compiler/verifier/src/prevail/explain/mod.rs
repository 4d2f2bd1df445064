//! What a person is told of a program that is rejected: what is wrong, what was known of the registers, and how
//! execution gets there.
//!
//! Given: an analysis that failed at a point, or one that a rule refuses there. Computed: the [`Rejection`].
//! Nothing here is a proof, and nothing here is run for a program that is accepted. Analysing one path asks more of the
//! engine than it was written for, and it may panic: then the rejection stands with less to say about it.

mod holds;
mod messages;
mod path;
mod sort;
mod sources;
mod steps;
mod trace;
mod view;

#[cfg(test)]
mod tests;

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

use bpf2sys_bytecode::{Callee, InsnIndex, Instruction as Op, Reg};
use prevail::cfg::label::Label;
use prevail::crab::ebpf_domain::{
    DomainContext, EbpfDomain, VerificationError, ebpf_domain_check, ebpf_domain_transform,
};
use prevail::crab::var_registry::VariableRegistry;
use prevail::fwd_analyzer::{self, Program as EngineProgram};
use prevail::ir::syntax::{Assertion, Instruction};
use prevail::result::{AnalysisResult, extract_assertion_registers};

use super::meaning::Meaning;
use super::rules::OutsideMemory;
use super::subject::{Refused, Subject};
use crate::check::place;
use crate::error::{Explanation, KnownRegister, ListedInstruction, PathKind, PathStep, Rejection, RejectionReason};
use crate::flow;
use crate::{Memory, Violation};

use path::{Effort, Found, Search};
use sort::Failure;
use view::View;

pub(super) use messages::by_message;
pub(super) use path::Allowance;

/// Explains the rejections of one program.
pub(super) struct Explainer<'e> {
    pub subject: &'e Subject<'e>,
    pub meaning: &'e Meaning<'e>,
    pub context: &'e DomainContext<'e>,
    pub names: RefCell<VariableRegistry>,
    /// What a search for a path may take.
    pub allowance: Allowance,
}

/// How many instructions are listed before and behind one without a source line.
const AROUND: usize = 3;

/// A check that failed.
struct Check {
    /// What the engine checks.
    failed: Assertion,
    /// What it is checked for: another check where one of ours stands in for one of the engine's.
    meant: Assertion,
}

/// A path and the state at its end.
struct Way {
    kind: PathKind,
    /// From the entry to the point, both included; of [`PathKind::Common`], only the labels that are on every path.
    labels: Vec<Label>,
    /// The state before the entry.
    start: EbpfDomain,
    /// The state before the point.
    state: EbpfDomain,
}

impl Explainer<'_> {
    /// The first failure in the order of the code: what follows it was not analysed.
    pub fn failure(&mut self, result: &AnalysisResult) -> Rejection {
        let first = result
            .invariants
            .iter()
            .filter(|(_, states)| !states.pre.is_bottom())
            .find_map(|(label, states)| states.error.as_ref().map(|error| (label, error)));
        match first {
            Some((label, VerificationError { message, .. })) => self.unsafe_at(result, label, message),
            None => self.subject.reject(None, "the analysis failed without saying where"),
        }
    }

    /// The rejection for a message of one of the engine's own checks at a point.
    fn unsafe_at(&mut self, result: &AnalysisResult, point: &Label, message: &str) -> Rejection {
        let checks = self.meaning.assertions_at(point);
        let check = checks.iter().find(|check| message.ends_with(&format!(" ({check})")));
        let check = check.map(|check| Check {
            failed: check.clone(),
            meant: check.clone(),
        });
        self.explained(result, point, message, check.as_ref())
    }

    /// The rejection for a check that the engine does not make by itself.
    pub fn outside(&mut self, result: &AnalysisResult, outside: &OutsideMemory<'_>) -> Rejection {
        let check = Check {
            failed: outside.access.clone(),
            meant: outside.argument.clone(),
        };
        self.explained(result, outside.label, &outside.error.message, Some(&check))
    }

    fn explained(&mut self, result: &AnalysisResult, point: &Label, message: &str, check: Option<&Check>) -> Rejection {
        let explained = catch_unwind(AssertUnwindSafe(|| self.explain(result, point, message, check)));
        explained.unwrap_or_else(|_| self.subject.reject(Some(point.from), message))
    }

    /// Adds what is known to a refusal by a rule.
    pub fn refused(&mut self, result: &AnalysisResult, refused: Refused) -> Rejection {
        let Refused { label, mut rejection } = refused;
        let explained = catch_unwind(AssertUnwindSafe(|| {
            // A rule looks at the states of all executions: any path that gets there shows how.
            let way = self.way(result, &label, &mut |_, _| true, PathKind::Reaches)?;
            Some(self.explanation(result, &label, &way, None))
        }));
        if let Ok(Some(explanation)) = explained {
            rejection.explanation = Box::new(explanation);
        }
        rejection
    }

    fn explain(&mut self, result: &AnalysisResult, point: &Label, message: &str, check: Option<&Check>) -> Rejection {
        let context = self.context;
        let (check, meant) = (check.map(|check| &check.failed), check.map(|check| &check.meant));
        let instruction = self.meaning.instruction_at(point).clone();
        let way = match check {
            // No single path fails that is not as long as the limit: one that gets there shows which loop it is.
            Some(Assertion::BoundedLoopCount(_)) => self.way(result, point, &mut |_, _| true, PathKind::Reaches),
            Some(check) => self.way(
                result,
                point,
                &mut |state, names| ebpf_domain_check(state, check, point, context, names).is_some(),
                PathKind::Fails,
            ),
            None => self.way(
                result,
                point,
                &mut |state, names| ebpf_domain_transform(&mut state.clone(), &instruction, context, names).is_err(),
                PathKind::Fails,
            ),
        };
        let Some(way) = way else {
            return self.subject.reject(Some(point.from), message);
        };
        // On one path the failure can be another than of all together, and says more.
        let on_path =
            check.and_then(|check| ebpf_domain_check(&way.state, check, point, context, &mut self.names.borrow_mut()));
        let said = on_path.as_ref().map_or(message, |error| &error.message);
        let violation = self.violation(point, &way, said, meant);
        let explanation = self.explanation(result, point, &way, meant);
        let reason = RejectionReason::Unsafe {
            violation: Box::new(violation),
            engine: message.to_owned(),
        };
        let mut rejection = self.subject.rejection(Some(point.from), reason);
        rejection.explanation = Box::new(explanation);
        rejection
    }

    /// How execution gets to a point where the check fails.
    fn way(
        &mut self,
        result: &AnalysisResult,
        point: &Label,
        fails: &mut path::Fails<'_>,
        kind: PathKind,
    ) -> Option<Way> {
        let state = result.invariants.get(point).map(|states| states.pre.clone())?;
        let entry = self.meaning.cfg().entry_label();
        let start = result.invariants.get(&entry).map(|states| states.pre.clone())?;
        let mut found = self.search(result, point, fails);
        // Behind a failure in a loop the analysis did not go on, so the states of its later rounds are missing.
        if matches!(found, Found::OnlyTogether) {
            found = match self.further(point) {
                Some(further) => self.search(&further, point, fails),
                None => Found::GivenUp,
            };
        }
        let (kind, labels, state) = match found {
            Found::Path(labels, state) => (kind, labels, *state),
            Found::OnlyTogether => (
                PathKind::Common,
                path::on_every_path(self.meaning, result, point),
                state,
            ),
            Found::GivenUp => (
                PathKind::Unfinished,
                path::on_every_path(self.meaning, result, point),
                state,
            ),
        };
        Some(Way {
            kind,
            labels,
            start,
            state,
        })
    }

    fn search(&mut self, result: &AnalysisResult, point: &Label, fails: &mut path::Fails<'_>) -> Found {
        let mut search = Search {
            meaning: self.meaning,
            result,
            context: self.context,
            names: &mut self.names.borrow_mut(),
            effort: Effort::new(self.allowance),
        };
        search.find(point, fails)
    }

    /// The analysis without the checks at a point, if it does not take too long.
    fn further(&self, point: &Label) -> Option<AnalysisResult> {
        let lenient = Lenient {
            meaning: self.meaning,
            point,
            effort: Effort::new(self.allowance),
        };
        catch_unwind(AssertUnwindSafe(|| {
            fwd_analyzer::analyze(&lenient, self.context, &mut self.names.borrow_mut())
        }))
        .ok()
    }

    fn violation(&self, point: &Label, way: &Way, message: &str, check: Option<&Assertion>) -> Violation {
        let view = View::new(&way.state, self.context, &self.names);
        Failure {
            message,
            instruction: self.instruction(point),
            check,
            view: &view,
            origin: &|register, through| self.origin(point, way, register, through),
            memory: &|register| self.memory(point, way, &view, register),
            call: &|index| self.text(way.labels.get(index)?),
        }
        .sort()
    }

    /// The instruction at a point, as the engine reads it.
    fn instruction(&self, point: &Label) -> &Instruction {
        self.meaning.original_at(point)
    }

    /// The instruction of a label as text.
    fn text(&self, label: &Label) -> Option<String> {
        self.subject.place(label.from).map(|place| place.text.clone())
    }

    fn explanation(&self, result: &AnalysisResult, point: &Label, way: &Way, check: Option<&Assertion>) -> Explanation {
        let view = View::new(&way.state, self.context, &self.names);
        if matches!(check, Some(Assertion::BoundedLoopCount(_))) {
            return self.loop_explanation(result, point, way);
        }
        let registers = self.involved(point, check);
        let known = registers.into_iter().map(|register| KnownRegister {
            register,
            holds: holds::holds(
                register,
                &view,
                &self.memory(point, way, &view, register),
                self.nothing(point, way, register),
            ),
        });
        let registers = known.collect();
        let (path, left_out) = self.steps(way);
        Explanation {
            registers,
            path,
            kind: way.kind,
            left_out,
            around: self.around(point),
        }
    }

    /// Of a loop that is not proven to end: the registers on which its end depends, and its exits.
    fn loop_explanation(&self, result: &AnalysisResult, point: &Label, way: &Way) -> Explanation {
        let mut registers: BTreeMap<Reg, String> = BTreeMap::new();
        let (mut path, left_out) = self.steps(way);
        let exits = path::exits(self.meaning.cfg(), point);
        let left = if exits.len() == 1 {
            "the loop is left here only"
        } else {
            "the loop can be left here"
        };
        for exit in exits {
            let Instruction::Assume(assume) = self.meaning.instruction_at(&exit) else {
                continue;
            };
            let Some(states) = result.invariants.get(&exit).filter(|states| !states.pre.is_bottom()) else {
                continue;
            };
            let view = View::new(&states.pre, self.context, &self.names);
            let right = match assume.cond.right {
                prevail::ir::syntax::Value::Reg(right) => Some(right),
                prevail::ir::syntax::Value::Imm(_) => None,
            };
            for register in [Some(assume.cond.left), right]
                .into_iter()
                .flatten()
                .map(sort::register)
            {
                let unknown = Memory::MapValue { map: None };
                let holds = holds::holds(register, &view, &unknown, "nothing that is known on every path");
                registers
                    .entry(register)
                    .or_insert_with(|| format!("{holds}, where the loop is left"));
            }
            if let Some(place) = self.subject.place(exit.from) {
                path.push(PathStep {
                    place: *place,
                    what: left.to_owned(),
                });
            }
        }
        Explanation {
            registers: registers
                .into_iter()
                .map(|(register, holds)| KnownRegister { register, holds })
                .collect(),
            path,
            kind: way.kind,
            left_out,
            around: self.around(point),
        }
    }

    /// The instructions around a point that has no source line.
    fn around(&self, point: &Label) -> Vec<ListedInstruction> {
        let module = self.subject.module;
        let Some((function, index)) = self.subject.code.place(module, point.from) else {
            return Vec::new();
        };
        let function_index = function;
        let function = module.function(function);
        if module.line(&function.instructions[index.index()]).is_some() {
            return Vec::new();
        }
        let first = index.index().saturating_sub(AROUND);
        let last = (index.index() + AROUND).min(function.instructions.len() - 1);
        (first..=last)
            .filter_map(|i| place(module, function_index, InsnIndex(i as u32)))
            .map(|place| ListedInstruction {
                slot: place.slot,
                text: place.text,
            })
            .collect()
    }

    /// The registers that an instruction uses: of a call, those of the check.
    fn involved(&self, point: &Label, check: Option<&Assertion>) -> Vec<Reg> {
        let module = self.subject.module;
        let op = self.subject.code.place(module, point.from);
        let op = op.map(|(function, index)| module.function(function).instructions[index.index()].op);
        let mut registers: Vec<Reg> = match (op, check) {
            (_, Some(Assertion::BoundedLoopCount(_))) => Vec::new(),
            (Some(Op::Call(Callee::Helper(_) | Callee::Btf(_))) | None, Some(check)) => {
                extract_assertion_registers(check)
                    .into_iter()
                    .map(sort::register)
                    .collect()
            }
            (Some(Op::Exit), _) => vec![Reg::R0],
            (Some(op), _) => flow::reads(&op).collect(),
            (None, None) => Vec::new(),
        };
        registers.sort();
        registers.dedup();
        registers
    }
}

/// The program without the checks at one point, for an analysis that unwinds when it may take no more.
struct Lenient<'l> {
    meaning: &'l Meaning<'l>,
    point: &'l Label,
    effort: Effort,
}

impl EngineProgram for Lenient<'_> {
    fn cfg(&self) -> &prevail::cfg::graph::Cfg {
        self.meaning.cfg()
    }

    fn instruction_at(&self, label: &Label) -> &Instruction {
        if let Err(nothing) = self.effort.spend() {
            // Not a panic: no hook is called.
            resume_unwind(Box::new(nothing));
        }
        self.meaning.instruction_at(label)
    }

    fn assertions_at(&self, label: &Label) -> &[Assertion] {
        // The engine insists on the check of a loop's counter.
        let counter = matches!(self.meaning.instruction_at(label), Instruction::IncrementLoopCounter(_));
        if label == self.point && !counter {
            return &[];
        }
        self.meaning.assertions_at(label)
    }
}
