//! Chains of tail calls of which the last one must fail.
//!
//! The runtime starts at most `max_tail_call_count` programs after the first (native module contract §6.3); the call of one more
//! gives an error, and its caller goes on. That is no danger, but a program whose every run comes to that end was not meant so.
//!
//! Given: a verified module. Computed: a warning for each program of which every run makes more tail calls than that.
//! Only what is certain counts: the call's map is exactly one, every slot that the index can mean has an initial value, and
//! every path through the program makes such a call. User mode can put other programs into the map at any time, so this is
//! never a reason to refuse.

use bpf2sys_bytecode::{Callee, FunctionIndex, InitialValue, InsnIndex, Instruction, Module, Reg};
use bpf2sys_platform::{Platform, ProgramType};

use crate::check::place;
use crate::{Branch, FunctionFacts, InsnFacts, RegisterFact, VerifiedProgram, Warning, WarningReason};

/// Position of the index among the arguments: `bpf_tail_call(context, map, index)`.
const INDEX: u8 = 3;

/// The warnings, in the order of the programs.
pub(crate) fn endless_chains(
    module: &Module,
    platform: &Platform,
    programs: &[VerifiedProgram],
    facts: &[FunctionFacts],
) -> Vec<Warning> {
    let limit = platform.limits.max_tail_call_count;
    let code = Code {
        module,
        platform,
        facts,
    };
    // Entry n: the programs of which every run makes n tail calls or more.
    let mut levels: Vec<Vec<FunctionIndex>> = vec![programs.iter().map(|p| p.function).collect()];
    while let Some(last) = levels
        .last()
        .filter(|last| !last.is_empty() && levels.len() <= limit as usize + 1)
    {
        let longer: Vec<FunctionIndex> = programs
            .iter()
            .filter(|p| code.always_calls(p.function, &p.program_type, last).is_some())
            .map(|p| p.function)
            .collect();
        if longer == *last {
            // All that are left call each other in circles, and no level differs from here on.
            let rest = limit as usize + 2 - levels.len();
            levels.extend(std::iter::repeat_n(longer, rest));
        } else {
            levels.push(longer);
        }
    }
    let Some((chained, before)) = levels.split_last() else {
        return Vec::new();
    };
    let type_of = |function| {
        programs
            .iter()
            .find(|p| p.function == function)
            .map(|p| &*p.program_type)
    };
    let warn = |program: &VerifiedProgram| {
        let mut first = None;
        let mut chain = vec![program.function];
        for targets in before.iter().rev() {
            let last = *chain.last()?;
            let call = code.always_calls(last, type_of(last)?, targets)?;
            first.get_or_insert(call.at);
            let seen = chain.contains(&call.target);
            chain.push(call.target);
            if seen {
                break;
            }
        }
        Some(Warning {
            program: module.function(program.function).name.clone(),
            place: place(module, program.function, first?),
            reason: WarningReason::TailCallChain {
                chain: chain.iter().map(|f| module.function(*f).name.clone()).collect(),
                limit,
            },
        })
    };
    let ending = programs.iter().filter(|p| chained.contains(&p.function));
    ending.filter_map(warn).collect()
}

/// A tail call that a function makes, itself or in a subprogram.
#[derive(Clone, Copy)]
struct TailCall {
    /// The tail call, or the call of the subprogram.
    at: InsnIndex,
    /// A program that it may start.
    target: FunctionIndex,
}

/// What the search looks at.
struct Code<'a> {
    module: &'a Module,
    platform: &'a Platform,
    facts: &'a [FunctionFacts],
}

impl Code<'_> {
    /// If every path through a function makes a tail call of one of `targets`, and no other before: the first such call in the
    /// order of the code. The recursion is as deep as calls nest, which is checked before anything is analysed.
    fn always_calls(
        &self,
        function: FunctionIndex,
        program_type: &ProgramType,
        targets: &[FunctionIndex],
    ) -> Option<TailCall> {
        let body = self.module.function(function);
        let facts = self.facts.get(function.index())?;
        let mut first: Option<TailCall> = None;
        let mut seen = vec![false; body.instructions.len()];
        let mut work = vec![InsnIndex(0)];
        while let Some(at) = work.pop() {
            let (Some(insn), Some(known)) = (body.instructions.get(at.index()), facts.instructions.get(at.index()))
            else {
                return None;
            };
            if std::mem::replace(&mut seen[at.index()], true) || !known.reachable {
                continue;
            }
            let made = match insn.op {
                Instruction::Exit => return None,
                Instruction::Call(Callee::Helper(id)) if self.is_tail_call(id, program_type) => {
                    let index = facts.register(at, Reg::new(INDEX)?);
                    let possible = self.targets(known, &index)?;
                    let target = *possible.first()?;
                    if !possible.iter().all(|target| targets.contains(target)) {
                        return None;
                    }
                    Some(TailCall { at, target })
                }
                Instruction::Call(Callee::Local(callee)) => {
                    let always = self.always_calls(callee, program_type, targets);
                    if always.is_none() && self.may_tail_call(callee, program_type) {
                        return None;
                    }
                    always.map(|call| TailCall { at, ..call })
                }
                _ => None,
            };
            if let Some(made) = made {
                first = Some(first.filter(|first| first.at < made.at).unwrap_or(made));
                continue;
            }
            if !matches!(insn.op, Instruction::Jump { .. }) && known.branch != Branch::AlwaysTaken {
                work.push(InsnIndex(at.0 + 1));
            }
            if let Some(target) = body.jump_target(at)
                && known.branch != Branch::NeverTaken
            {
                work.push(target);
            }
        }
        first
    }

    /// Whether a subprogram makes tail calls at all.
    fn may_tail_call(&self, function: FunctionIndex, program_type: &ProgramType) -> bool {
        let reachable = self.module.reachable_from(function);
        let mut all = std::iter::once(function).chain(reachable);
        all.any(|f| {
            let mut ops = self.module.function(f).instructions.iter().map(|insn| insn.op);
            ops.any(|op| matches!(op, Instruction::Call(Callee::Helper(id)) if self.is_tail_call(id, program_type)))
        })
    }

    fn is_tail_call(&self, id: i32, program_type: &ProgramType) -> bool {
        let helper = u32::try_from(id)
            .ok()
            .and_then(|id| self.platform.helper(program_type, id));
        helper.is_some_and(bpf2sys_platform::Helper::is_tail_call)
    }

    /// The programs that a tail call may start as long as nobody changes the map; `None` if there may be another.
    fn targets(&self, call: &InsnFacts, index: &RegisterFact) -> Option<Vec<FunctionIndex>> {
        let map = self.module.maps.get(call.map?.index())?;
        let (low, high) = index.range().unsigned;
        let (low, high) = (usize::try_from(low).ok()?, usize::try_from(high).ok()?);
        let slots = map.initial_values.get(low..=high)?;
        let program = |slot: &Option<InitialValue>| match slot {
            Some(InitialValue::Program(function)) => Some(*function),
            _ => None,
        };
        slots.iter().map(program).collect()
    }
}
