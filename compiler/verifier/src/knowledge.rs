//! Facts in the making: what all analyses of all programs agree on.
//!
//! A fact of an instruction must hold in every program, and in a subprogram for every call. So knowledge starts as
//! "never reached", each visit of an instruction in some analysis adds what was true there, and what is left at the end
//! holds for all of them.

use bpf2sys_bytecode::{FunctionIndex, InsnIndex, Instruction, MapIndex, Module, Reg};

use crate::flow::{Flow, Source, Sources};
use crate::{Branch, FunctionFacts, InsnFacts, Interval, RegisterFact, RegisterKind};

/// Offsets from `r10` that lie in a frame of 512 bytes, the end included.
const FRAME: std::ops::RangeInclusive<i32> = -512..=0;

/// What one visit of an instruction found.
pub(crate) struct Visit {
    /// `r0` to `r10` before the instruction. Stack offsets are not looked at.
    pub registers: [RegisterFact; Reg::COUNT],
    /// The one map of its call.
    pub map: Option<MapIndex>,
}

/// What is known of an instruction so far.
#[derive(Clone, Default)]
struct Known {
    /// `None` until the first visit.
    registers: Option<[RegisterFact; Reg::COUNT]>,
    map: Option<MapIndex>,
    taken: bool,
    fallthrough: bool,
}

/// What is known of the functions that some analysis has covered.
#[derive(Clone)]
pub(crate) struct Knowledge {
    functions: Vec<Option<Vec<Known>>>,
}

impl Knowledge {
    /// Nothing has been covered.
    pub fn new(module: &Module) -> Knowledge {
        Knowledge {
            functions: vec![None; module.functions.len()],
        }
    }

    /// An analysis covers this function: instructions that it does not visit are never reached in it.
    pub fn cover(&mut self, module: &Module, function: FunctionIndex) {
        let count = module.function(function).instructions.len();
        self.functions[function.index()].get_or_insert_with(|| vec![Known::default(); count]);
    }

    fn known(&mut self, function: FunctionIndex, index: InsnIndex) -> Option<&mut Known> {
        self.functions
            .get_mut(function.index())?
            .as_mut()?
            .get_mut(index.index())
    }

    /// Execution gets to the instruction.
    pub fn visit(&mut self, function: FunctionIndex, index: InsnIndex, visit: &Visit) {
        if let Some(known) = self.known(function, index) {
            known.add(&visit.registers, visit.map);
        }
    }

    /// Execution gets to the instruction, and nothing more is known.
    pub fn visit_unknown(&mut self, function: FunctionIndex, index: InsnIndex) {
        if let Some(known) = self.known(function, index) {
            known.add(&Default::default(), None);
            (known.taken, known.fallthrough) = (true, true);
        }
    }

    /// Execution takes an edge of a conditional jump.
    pub fn edge(&mut self, function: FunctionIndex, index: InsnIndex, taken: bool) {
        if let Some(known) = self.known(function, index) {
            if taken {
                known.taken = true;
            } else {
                known.fallthrough = true;
            }
        }
    }

    /// What was found about `r0` where the function exits; the full range if it never does.
    pub fn returns(&self, module: &Module, function: FunctionIndex) -> Interval {
        let Some(known) = &self.functions[function.index()] else {
            return Interval::FULL;
        };
        let instructions = &module.function(function).instructions;
        instructions
            .iter()
            .zip(known)
            .filter(|(insn, _)| insn.op == Instruction::Exit)
            .filter_map(|(_, known)| known.registers)
            .map(|registers| registers[Reg::R0.index()].signed)
            .reduce(Interval::join)
            .unwrap_or_default()
    }

    /// Adds what another analysis knows.
    pub fn join(&mut self, other: Knowledge) {
        for (mine, theirs) in self.functions.iter_mut().zip(other.functions) {
            match (mine, theirs) {
                (_, None) => {}
                (mine @ None, theirs) => *mine = theirs,
                (Some(mine), Some(theirs)) => {
                    for (mine, theirs) in mine.iter_mut().zip(theirs) {
                        if let Some(registers) = &theirs.registers {
                            mine.add(registers, theirs.map);
                        }
                        mine.taken |= theirs.taken;
                        mine.fallthrough |= theirs.fallthrough;
                    }
                }
            }
        }
    }

    /// The facts of every function of the module. Of functions that no analysis covered nothing is known.
    pub fn into_facts(self, module: &Module, flow: &Flow) -> Vec<FunctionFacts> {
        let returns: Vec<Interval> = (0..module.functions.len() as u32)
            .map(|f| self.returns(module, FunctionIndex(f)))
            .collect();
        let mut facts = Vec::with_capacity(returns.len());
        for (i, (known, returns)) in self.functions.into_iter().zip(returns).enumerate() {
            let count = module.functions[i].instructions.len();
            let known = known.unwrap_or_else(|| vec![Known::unknown(); count]);
            let sources = |at: usize| flow.at(FunctionIndex(i as u32), InsnIndex(at as u32));
            facts.push(FunctionFacts {
                instructions: known
                    .into_iter()
                    .enumerate()
                    .map(|(at, k)| k.into_facts(sources(at)))
                    .collect(),
                returns,
            });
        }
        facts
    }
}

impl Known {
    fn unknown() -> Known {
        Known {
            registers: Some(Default::default()),
            map: None,
            taken: true,
            fallthrough: true,
        }
    }

    /// Adds what is true at another visit.
    fn add(&mut self, registers: &[RegisterFact; Reg::COUNT], map: Option<MapIndex>) {
        match &mut self.registers {
            None => (self.registers, self.map) = (Some(*registers), map),
            Some(mine) => {
                for (mine, theirs) in mine.iter_mut().zip(registers) {
                    *mine = join(*mine, *theirs);
                }
                self.map = self.map.filter(|m| map == Some(*m));
            }
        }
    }

    fn into_facts(self, sources: Sources) -> InsnFacts {
        let Some(mut registers) = self.registers else {
            return InsnFacts {
                reachable: false,
                ..InsnFacts::default()
            };
        };
        for (register, source) in registers.iter_mut().zip(sources) {
            match source {
                // The engine may know the caller's register by this name.
                Source::Undefined => *register = RegisterFact::default(),
                Source::OwnFrame(offset) if FRAME.contains(&offset) => {
                    register.kind = RegisterKind::Stack;
                    register.stack_offset = Some(offset);
                }
                _ => {}
            }
        }
        InsnFacts {
            reachable: true,
            registers,
            map: self.map,
            branch: match (self.taken, self.fallthrough) {
                (true, false) => Branch::AlwaysTaken,
                (false, true) => Branch::NeverTaken,
                // An instruction without edges of its own, or one that both edges leave.
                _ => Branch::Both,
            },
        }
    }
}

/// What holds for both.
fn join(a: RegisterFact, b: RegisterFact) -> RegisterFact {
    if a.kind != b.kind {
        return RegisterFact::default();
    }
    RegisterFact {
        kind: a.kind,
        signed: match a.kind {
            RegisterKind::Number => a.signed.join(b.signed),
            _ => Interval::FULL,
        },
        unsigned: match (a.unsigned, b.unsigned) {
            (Some(a), Some(b)) => Some((a.0.min(b.0), a.1.max(b.1))),
            _ => None,
        },
        stack_offset: None,
    }
}
