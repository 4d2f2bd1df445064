//! Facts in the making: what all analyses of all programs agree on.
//!
//! A fact of an instruction must hold in every program, and in a subprogram for every call. So knowledge starts as
//! "never reached", each visit of an instruction in some analysis adds what was true there, and what is left at the end
//! holds for all of them.

use bpf2sys_bytecode::{FunctionIndex, InsnIndex, Instruction, MapIndex, Module, Reg};

use crate::facts::FRAME_BYTES;
use crate::facts::{PoolBuilder, RegisterRow};
use crate::flow::{Flow, Source, Sources};
use crate::frame::{Found, RegisterObject};
use crate::{Branch, FunctionFacts, InsnFacts, Interval, Object, RegisterFact, RegisterKind};

/// Offsets from `r10` that lie in a frame of 512 bytes, the end included.
const FRAME: std::ops::RangeInclusive<i32> = -FRAME_BYTES..=0;

/// What one visit of an instruction found.
pub(crate) struct Visit {
    /// `r0` to `r10` before the instruction: a row of the knowledge that it is for. Stack offsets are not looked at.
    pub registers: RegisterRow,
    /// The one map of its call.
    pub map: Option<MapIndex>,
    /// Bytes in the packet, at least.
    pub packet_bytes: u32,
}

/// What is known of an instruction so far.
#[derive(Clone, Default)]
struct Known {
    /// `None` until the first visit.
    registers: Option<RegisterRow>,
    map: Option<MapIndex>,
    packet_bytes: u32,
    taken: bool,
    fallthrough: bool,
}

/// What is known of the functions that some analysis has covered.
#[derive(Clone)]
pub(crate) struct Knowledge {
    functions: Vec<Option<Vec<Known>>>,
    /// What the rows of all of them name.
    pool: PoolBuilder,
}

impl Knowledge {
    /// Nothing has been covered.
    pub fn new(module: &Module) -> Knowledge {
        Knowledge::with(module, PoolBuilder::default())
    }

    /// The same, with facts that will be named.
    pub fn with(module: &Module, pool: PoolBuilder) -> Knowledge {
        Knowledge {
            functions: vec![None; module.functions.len()],
            pool,
        }
    }

    /// An analysis covers this function: instructions that it does not visit are never reached in it.
    pub fn cover(&mut self, module: &Module, function: FunctionIndex) {
        let count = module.function(function).instructions.len();
        self.functions[function.index()].get_or_insert_with(|| vec![Known::default(); count]);
    }

    fn known(&mut self, function: FunctionIndex, index: InsnIndex) -> Option<(&mut Known, &mut PoolBuilder)> {
        let function = self.functions.get_mut(function.index())?.as_mut()?;
        Some((function.get_mut(index.index())?, &mut self.pool))
    }

    /// The row of these facts about `r0` to `r10`.
    pub fn row(&mut self, registers: &[RegisterFact; Reg::COUNT]) -> RegisterRow {
        self.pool.row(registers)
    }

    /// The number of a fact in rows.
    pub fn number(&mut self, fact: &RegisterFact) -> u32 {
        self.pool.add(fact)
    }

    /// Execution gets to the instruction.
    pub fn visit(&mut self, function: FunctionIndex, index: InsnIndex, visit: &Visit) {
        if let Some((known, pool)) = self.known(function, index) {
            known.add(visit.registers, visit.map, visit.packet_bytes, pool);
        }
    }

    /// Execution gets to the instruction, and nothing more is known.
    pub fn visit_unknown(&mut self, function: FunctionIndex, index: InsnIndex) {
        if let Some((known, pool)) = self.known(function, index) {
            known.add(RegisterRow::default(), None, 0, pool);
            (known.taken, known.fallthrough) = (true, true);
        }
    }

    /// Execution takes an edge of a conditional jump.
    pub fn edge(&mut self, function: FunctionIndex, index: InsnIndex, taken: bool) {
        if let Some((known, _)) = self.known(function, index) {
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
            .map(|registers| self.pool.fact(registers, Reg::R0).signed)
            .reduce(Interval::join)
            .unwrap_or_default()
    }

    /// Adds what another analysis knows.
    pub fn join(&mut self, other: Knowledge) {
        if self.functions.iter().all(Option::is_none) {
            *self = other;
            return;
        }
        let adopted = self.pool.adopt(&other.pool);
        for (mine, theirs) in self.functions.iter_mut().zip(other.functions) {
            match (mine, theirs) {
                (_, None) => {}
                (mine @ None, Some(mut theirs)) => {
                    for known in &mut theirs {
                        known.registers = known.registers.map(|row| adopted.row(row));
                    }
                    *mine = Some(theirs);
                }
                (Some(mine), Some(theirs)) => {
                    for (mine, theirs) in mine.iter_mut().zip(theirs) {
                        if let Some(row) = theirs.registers {
                            mine.add(adopted.row(row), theirs.map, theirs.packet_bytes, &mut self.pool);
                        }
                        mine.taken |= theirs.taken;
                        mine.fallthrough |= theirs.fallthrough;
                    }
                }
            }
        }
    }

    /// The facts of every function of the module. Of functions that no analysis covered nothing is known.
    pub fn into_facts(mut self, module: &Module, flow: &Flow) -> Vec<FunctionFacts> {
        let returns: Vec<Interval> = (0..module.functions.len() as u32)
            .map(|f| self.returns(module, FunctionIndex(f)))
            .collect();
        let mut facts = Vec::with_capacity(returns.len());
        for (i, (known, returns)) in std::mem::take(&mut self.functions).into_iter().zip(returns).enumerate() {
            let count = module.functions[i].instructions.len();
            let known = known.unwrap_or_else(|| vec![Known::unknown(); count]);
            let sources = |at: usize| flow.at(FunctionIndex(i as u32), InsnIndex(at as u32));
            let instructions = known.into_iter().enumerate();
            facts.push(FunctionFacts {
                instructions: instructions
                    .map(|(at, k)| k.into_facts(&sources(at), &mut self.pool))
                    .collect(),
                returns,
                ..FunctionFacts::default()
            });
        }
        let pool = self.pool.finish();
        for function in &mut facts {
            function.pool = pool.clone();
        }
        facts
    }
}

/// Adds what was found by following addresses, which starts from the engine's facts.
pub(crate) fn complete(module: &Module, facts: &mut [FunctionFacts], found: Vec<Found>) {
    let Some(first) = facts.first() else { return };
    let mut pool = PoolBuilder::resume(&first.pool);
    for (facts, found) in facts.iter_mut().zip(found) {
        facts.frame = found.frame;
        for RegisterObject { at, register, object } in found.objects {
            let Some(insn) = facts.instructions.get_mut(at.index()) else {
                continue;
            };
            let mut fact = pool.fact(insn.registers, register);
            if insn.reachable && fact.kind == RegisterKind::MapValue {
                fact.object = Some(object);
                let size = match object {
                    Object::Map(map) => module.maps.get(map.index()).map(|map| map.definition.value_size),
                    Object::Global(section) => {
                        let global = module.globals.get(section.index());
                        global.and_then(|global| u32::try_from(global.data.len()).ok())
                    }
                };
                if let (Some((0.., high)), Some(size)) = (fact.offset, size) {
                    fact.room = fact.room.max(size.saturating_sub(high.unsigned_abs()));
                }
                insn.registers = pool.with(insn.registers, register, &fact);
            }
        }
    }
    let pool = pool.finish();
    for facts in facts {
        facts.pool = pool.clone();
    }
}

impl Known {
    fn unknown() -> Known {
        Known {
            registers: Some(RegisterRow::default()),
            map: None,
            packet_bytes: 0,
            taken: true,
            fallthrough: true,
        }
    }

    /// Adds what is true at another visit.
    fn add(&mut self, registers: RegisterRow, map: Option<MapIndex>, packet_bytes: u32, pool: &mut PoolBuilder) {
        match self.registers {
            None => (self.registers, self.map, self.packet_bytes) = (Some(registers), map, packet_bytes),
            Some(mine) => {
                self.registers = Some(pool.join(mine, registers));
                self.map = self.map.filter(|m| map == Some(*m));
                self.packet_bytes = self.packet_bytes.min(packet_bytes);
            }
        }
    }

    fn into_facts(self, sources: &Sources, pool: &mut PoolBuilder) -> InsnFacts {
        let Some(mut row) = self.registers else {
            return InsnFacts {
                reachable: false,
                ..InsnFacts::default()
            };
        };
        for (source, register) in sources.iter().zip((0..).filter_map(Reg::new)) {
            let fact = match *source {
                // The engine may know the caller's register by this name.
                Source::Undefined => RegisterFact::default(),
                Source::OwnFrame(offset) if FRAME.contains(&offset) => RegisterFact {
                    kind: RegisterKind::Stack,
                    non_null: true,
                    stack_offset: Some(offset),
                    offset: Some((offset, offset)),
                    room: offset.unsigned_abs(),
                    ..RegisterFact::default()
                },
                _ => continue,
            };
            row = pool.with(row, register, &fact);
        }
        InsnFacts {
            reachable: true,
            branch: match (self.taken, self.fallthrough) {
                (true, false) => Branch::AlwaysTaken,
                (false, true) => Branch::NeverTaken,
                // An instruction without edges of its own, or one that both edges leave.
                _ => Branch::Both,
            },
            map: self.map,
            packet_bytes: self.packet_bytes,
            registers: row,
        }
    }
}
