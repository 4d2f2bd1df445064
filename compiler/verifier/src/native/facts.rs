//! What is kept of all states: the facts at each instruction.
//!
//! A fact must hold in every state that comes to an instruction. Between two blocks values change only where an instruction
//! writes them, so the registers are looked at where a block begins, and behind that only the one that is written.

use std::collections::BTreeMap;

use bpf2sys_bytecode::{Function, FunctionIndex, MapIndex, Module, Reg};

use super::plan::{Plan, written};
use super::state::{State, Term};
use super::step::World;
use super::value::{Kind, Value};
use crate::facts::{FRAME_BYTES, PoolBuilder, Range64, RegisterRow};
use crate::knowledge::{Knowledge, Visit};
use crate::{Object, RegisterFact, RegisterKind};

/// The facts of all functions that were visited.
#[derive(Default)]
pub(super) struct Facts {
    functions: BTreeMap<FunctionIndex, Recorded>,
    table: Table,
}

/// Facts by number. Most are the same in many places and stay as they are, so places share them; one that another state has changed
/// belongs to its place, and changes there from then on.
#[derive(Default)]
struct Table {
    shared: PoolBuilder,
    own: Vec<RegisterFact>,
}

/// What is known of a register in one place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Known {
    /// No state has come there.
    Nothing,
    /// The number of a fact that other places may have too.
    Shared(u32),
    /// The number of a fact that is this place's own.
    Own(u32),
}

impl Table {
    fn get(&self, known: Known) -> Option<&RegisterFact> {
        match known {
            Known::Nothing => None,
            Known::Shared(number) => Some(self.shared.get(number)),
            Known::Own(number) => self.own.get(number as usize),
        }
    }

    /// In this place it may be so, too.
    fn join(&mut self, known: &mut Known, new: RegisterFact) {
        let old = match *known {
            Known::Nothing => {
                *known = Known::Shared(self.shared.add(&new));
                return;
            }
            Known::Shared(number) => *self.shared.get(number),
            Known::Own(number) => self.own[number as usize],
        };
        if old == new {
            return;
        }
        let joined = old.join(new);
        match *known {
            Known::Own(number) => self.own[number as usize] = joined,
            _ if joined == old => {}
            _ => {
                *known = Known::Own(self.own.len() as u32);
                self.own.push(joined);
            }
        }
    }
}

/// The facts of a function.
struct Recorded {
    /// By block, at its start; `None` if no state has come there.
    blocks: Vec<Option<Start>>,
    /// By instruction, of the register that it writes, behind it.
    results: Vec<Known>,
    /// By instruction: whether its jump was taken, and whether it was not.
    edges: Vec<[bool; 2]>,
    /// By instruction, for calls: the one map.
    maps: Vec<Calls>,
}

/// The maps of a call.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Calls {
    /// No state has come to it.
    None,
    One(MapIndex),
    /// Several, or one that is not known.
    Any,
}

struct Start {
    /// Nothing of registers that were not looked at.
    registers: [Known; Reg::COUNT],
    packet_bytes: u32,
}

impl Facts {
    fn of(&mut self, index: FunctionIndex, plan: &Plan) -> (&mut Recorded, &mut Table) {
        let recorded = self.functions.entry(index).or_insert_with(|| {
            let count = plan.block_of.len();
            Recorded {
                blocks: plan.blocks.iter().map(|_| None).collect(),
                results: vec![Known::Nothing; count],
                edges: vec![[false; 2]; count],
                maps: vec![Calls::None; count],
            }
        });
        (recorded, &mut self.table)
    }

    /// A state comes to a block: what is known of the registers in a set, one bit each. Those that are read later are looked at
    /// where the block begins, as states may have been joined before; the others are forgotten then, and are looked at where
    /// states come from.
    pub fn enter(
        &mut self,
        world: &World<'_>,
        index: FunctionIndex,
        plan: &Plan,
        (block, set): (u32, u16),
        state: &State,
    ) {
        let has = |register: usize| set >> register & 1 == 1;
        let packet_bytes = if world.program_type.context.data_end < 0 {
            0
        } else {
            u32::try_from(state.packet_size.unsigned().0).unwrap_or(u32::MAX)
        };
        let (recorded, table) = self.of(index, plan);
        let start = recorded.blocks[block as usize].get_or_insert(Start {
            registers: [Known::Nothing; Reg::COUNT],
            packet_bytes,
        });
        for (register, known) in start.registers.iter_mut().enumerate() {
            if has(register) {
                table.join(known, fact(world, &state.registers[register], state));
            }
        }
        start.packet_bytes = start.packet_bytes.min(packet_bytes);
    }

    /// An instruction was executed that writes a register.
    pub fn wrote(
        &mut self,
        world: &World<'_>,
        index: FunctionIndex,
        plan: &Plan,
        at: u32,
        register: Reg,
        state: &State,
    ) {
        let (recorded, table) = self.of(index, plan);
        let known = &mut recorded.results[at as usize];
        table.join(known, fact(world, state.register(register), state));
    }

    /// Execution goes one way behind a jump.
    pub fn edge(&mut self, index: FunctionIndex, plan: &Plan, at: u32, taken: bool) {
        self.of(index, plan).0.edges[at as usize][usize::from(taken)] = true;
    }

    /// A call was made with this map.
    pub fn call(&mut self, index: FunctionIndex, plan: &Plan, at: u32, map: Option<MapIndex>) {
        let known = &mut self.of(index, plan).0.maps[at as usize];
        let new = map.map_or(Calls::Any, Calls::One);
        *known = match *known {
            Calls::None => new,
            old if old == new => old,
            _ => Calls::Any,
        };
    }

    /// What is known of a register before the last instruction of a block.
    pub fn at_end(
        &self,
        function: &Function,
        index: FunctionIndex,
        plan: &Plan,
        block: u32,
        register: Reg,
    ) -> RegisterFact {
        let Some(recorded) = self.functions.get(&index) else {
            return RegisterFact::default();
        };
        let start = recorded.blocks[block as usize].as_ref();
        let mut known = start.map_or(Known::Nothing, |start| start.registers[register.index()]);
        let range = plan.block(block).instructions.clone();
        for i in range.start..range.end - 1 {
            if written(&function.instructions[i as usize].op) == Some(register) {
                known = recorded.results[i as usize];
            }
        }
        self.table.get(known).copied().unwrap_or_default()
    }

    /// All of it, in the form that is common to engines. Functions that no state has come to are covered too.
    pub fn into_knowledge(
        self,
        module: &Module,
        plan: impl Fn(FunctionIndex) -> Option<std::rc::Rc<Plan>>,
        functions: impl Iterator<Item = FunctionIndex>,
    ) -> Knowledge {
        let Table { shared, own } = self.table;
        let mut knowledge = Knowledge::with(module, shared);
        for index in functions {
            knowledge.cover(module, index);
        }
        for (index, recorded) in self.functions {
            if let Some(plan) = plan(index) {
                recorded.tell(module.function(index), index, &plan, &own, &mut knowledge);
            }
        }
        knowledge
    }
}

impl Recorded {
    fn tell(
        &self,
        function: &Function,
        index: FunctionIndex,
        plan: &Plan,
        own: &[RegisterFact],
        knowledge: &mut Knowledge,
    ) {
        let number = |known: Known, knowledge: &mut Knowledge| match known {
            Known::Nothing => None,
            Known::Shared(number) => Some(number),
            Known::Own(number) => Some(knowledge.number(&own[number as usize])),
        };
        for (block, start) in plan.blocks.iter().zip(&self.blocks) {
            let Some(start) = start else { continue };
            let mut registers = RegisterRow::default();
            for (known, register) in start.registers.into_iter().zip((0..).filter_map(Reg::new)) {
                if let Some(number) = number(known, knowledge) {
                    registers.set(register, number);
                }
            }
            for i in block.instructions.clone() {
                let at = bpf2sys_bytecode::InsnIndex(i);
                let map = match self.maps[i as usize] {
                    Calls::One(map) => Some(map),
                    Calls::None | Calls::Any => None,
                };
                knowledge.visit(
                    index,
                    at,
                    &Visit {
                        registers,
                        map,
                        packet_bytes: start.packet_bytes,
                    },
                );
                let [not_taken, taken] = self.edges[i as usize];
                if not_taken {
                    knowledge.edge(index, at, false);
                }
                if taken {
                    knowledge.edge(index, at, true);
                }
                if let Some(register) = written(&function.instructions[i as usize].op) {
                    // If there is none, nothing has come past the instruction.
                    let Some(number) = number(self.results[i as usize], knowledge) else {
                        break;
                    };
                    registers.set(register, number);
                }
            }
        }
    }
}

/// What is known of a value, in the form that is common to engines.
fn fact(world: &World<'_>, value: &Value, state: &State) -> RegisterFact {
    let (low, high) = value.num.signed();
    let offset = || Some((i32::try_from(low).ok()?, i32::try_from(high).ok()?)).filter(|_| !value.nullable);
    let room = |size: i64| {
        let room = size.saturating_sub(high).clamp(0, u32::MAX.into());
        if low >= 0 && !value.nullable { room as u32 } else { 0 }
    };
    // A pointer that has left what it points into can be anything, even null.
    let within = |size: i64| !value.nullable && low >= 0 && high <= size;
    let pointer = |kind: RegisterKind, non_null: bool| RegisterFact {
        kind,
        non_null,
        offset: offset(),
        ..RegisterFact::default()
    };
    match value.kind {
        Kind::Number => RegisterFact::number(Range64 {
            signed: value.num.signed(),
            unsigned: value.num.unsigned(),
        }),
        Kind::Context => RegisterFact {
            room: room(world.program_type.context.size.into()),
            ..pointer(RegisterKind::Context, within(world.program_type.context.size.into()))
        },
        Kind::Packet => {
            let behind = state.most(Term::of(value), Term::of(&state.packet_end()));
            let behind = behind.and_then(i64::checked_neg);
            RegisterFact {
                room: behind
                    .filter(|_| low >= 0)
                    .map_or(0, |b| b.clamp(0, u32::MAX.into()) as u32),
                ..pointer(
                    RegisterKind::Packet,
                    within(world.platform.limits.max_packet_bytes.into()),
                )
            }
        }
        Kind::Stack(frame) => {
            let own = frame as usize == state.depth();
            let within = low >= -i64::from(FRAME_BYTES) && high <= 0;
            RegisterFact {
                offset: offset().filter(|_| own && within),
                room: if own && within { high.unsigned_abs() as u32 } else { 0 },
                ..pointer(RegisterKind::Stack, within)
            }
        }
        Kind::MapValue(table) => {
            let global = world.globals.get(table.map.index()).copied().flatten();
            let object = match global {
                Some(section) => Object::Global(bpf2sys_bytecode::GlobalIndex(section.index as u32)),
                None => Object::Map(table.map),
            };
            RegisterFact {
                room: room(world.value_size(table.map)),
                object: (!table.made).then_some(object),
                ..pointer(RegisterKind::MapValue, within(world.value_size(table.map)))
            }
        }
        Kind::Map(table) | Kind::Programs(table) => RegisterFact {
            offset: None,
            object: (!table.made).then_some(Object::Map(table.map)),
            ..pointer(
                match value.kind {
                    Kind::Map(_) => RegisterKind::Map,
                    _ => RegisterKind::MapOfPrograms,
                },
                !value.nullable,
            )
        },
        Kind::Nothing(_) | Kind::Opaque(_) => RegisterFact::default(),
    }
}
