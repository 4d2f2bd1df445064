//! What instructions need and what they do: arithmetic is in [`arithmetic`](super::arithmetic), accesses are in
//! [`memory`](super::memory), branches in [`compare`](super::compare), calls in [`call`](super::call).

use bpf2sys_bytecode::{FunctionIndex, Imm64, Instruction, MapIndex, Module, Operand, Reg};
use bpf2sys_platform::{MapValueKind, Platform, ProgramType};

use super::num::{self, Num};
use super::state::{Ids, State};
use super::value::{Kind, Opaque, Sort, Table, Value, Why};
use crate::error::RejectionReason;
use crate::{Argument, Memory, Span, Violation};

/// What the programs of one type are verified against.
pub(super) struct World<'a> {
    pub module: &'a Module,
    pub platform: &'a Platform,
    pub program_type: &'a ProgramType,
    /// Which section of global variables a map holds, if it is one.
    pub globals: Vec<Option<Section>>,
}

/// A section of global variables.
#[derive(Clone, Copy)]
pub(super) struct Section {
    pub index: usize,
    pub read_only: bool,
}

/// Why an instruction is refused.
#[derive(Debug)]
pub(super) struct Refusal {
    pub reason: RejectionReason,
    /// The registers that it is about.
    pub registers: [Option<Reg>; 2],
}

impl Refusal {
    /// The same, and it is about another register too.
    #[expect(clippy::unnecessary_box_returns, reason = "it comes boxed")]
    pub fn and(mut self: Box<Self>, register: Reg) -> Box<Self> {
        if let [Some(first), second @ None] = &mut self.registers
            && *first != register
        {
            *second = Some(register);
            self.registers.sort_unstable();
        }
        self
    }
}

pub(super) type Checked<T> = Result<T, Box<Refusal>>;

/// A refusal of what is wrong with no register.
#[expect(clippy::unnecessary_box_returns, reason = "it becomes an error, and those are boxed")]
pub(super) fn refusal(violation: Violation) -> Box<Refusal> {
    Box::new(Refusal {
        reason: unsafe_because(violation),
        registers: [None, None],
    })
}

/// A refusal of what is wrong with a register.
pub(super) fn refuse<T>(violation: Violation, register: Reg) -> Checked<T> {
    Err(Box::new(Refusal {
        reason: unsafe_because(violation),
        registers: [Some(register), None],
    }))
}

/// A refusal of what is wrong with two registers.
pub(super) fn refuse_both<T>(violation: Violation, registers: [Reg; 2]) -> Checked<T> {
    Err(Box::new(Refusal {
        reason: unsafe_because(violation),
        registers: registers.map(Some),
    }))
}

/// A refusal by a rule.
pub(super) fn refuse_by<T>(reason: RejectionReason, register: Reg) -> Checked<T> {
    Err(Box::new(Refusal {
        reason,
        registers: [Some(register), None],
    }))
}

fn unsafe_because(violation: Violation) -> RejectionReason {
    RejectionReason::Unsafe {
        violation: Box::new(violation),
        engine: String::new(),
    }
}

/// A number as a span.
pub(super) fn span(num: &Num) -> Span {
    let (low, high) = num.signed();
    Span {
        min: (low != i64::MIN).then_some(low),
        max: (high != i64::MAX).then_some(high),
    }
}

impl World<'_> {
    /// Executes an instruction that is no jump, no call and no exit.
    pub fn step(&self, op: &Instruction, state: &mut State, ids: &mut Ids) -> Checked<()> {
        match *op {
            Instruction::Alu { size, op, dst, src } => self.alu(size, op, dst, src, state, ids),
            Instruction::Movsx { size, from, dst, src } => {
                let value = *number(src, state)?;
                let num = num::sign_extended(size, from, &value.num);
                let result = if num == value.num {
                    state.copy(src, ids)
                } else {
                    Value::number(num)
                };
                state.set(dst, result);
                Ok(())
            }
            Instruction::Neg { size, dst } => {
                let value = number(dst, state)?;
                let num = num::negated(size, &value.num);
                state.set(dst, Value::number(num));
                Ok(())
            }
            Instruction::ByteSwap { kind, width, dst } => {
                let value = number(dst, state)?;
                let num = num::swapped(kind, width, &value.num);
                if num != value.num {
                    state.set(dst, Value::number(num));
                } else if num.constant().is_none() && kind != bpf2sys_bytecode::SwapKind::ToLe {
                    // The same set, but not the same number.
                    state.set(dst, Value::number(num));
                }
                Ok(())
            }
            Instruction::LoadImm64 { dst, value } => {
                let value = self.immediate(value);
                state.set(dst, value);
                Ok(())
            }
            Instruction::Load {
                width,
                signed,
                dst,
                base,
                offset,
            } => self.load((width, signed), dst, (base, offset), state, ids),
            Instruction::Store {
                width,
                base,
                offset,
                src,
            } => self.store(width, (base, offset), src, state, ids),
            Instruction::Atomic {
                size,
                op,
                base,
                offset,
                src,
            } => self.atomic(size, op, (base, offset), src, state),
            Instruction::Jump { .. }
            | Instruction::JumpIf { .. }
            | Instruction::Call(_)
            | Instruction::CallX(_)
            | Instruction::LegacyPacket { .. }
            | Instruction::Exit => Ok(()),
        }
    }

    fn immediate(&self, value: Imm64) -> Value {
        match value {
            Imm64::Constant(value) => Value::constant(value),
            Imm64::Map(map) => {
                let table = Table { map, made: false };
                Value::pointer(self.map_kind(table), 0)
            }
            Imm64::Global { section, offset } => match self.module.globals.get(section.index()) {
                Some(global) => {
                    let table = Table {
                        map: global.map,
                        made: false,
                    };
                    Value::pointer(Kind::MapValue(table), offset.into())
                }
                None => Value::nothing(Why::Stack(None)),
            },
            // Refused before the proof.
            Imm64::Pseudo { .. } => Value::nothing(Why::Stack(None)),
        }
    }

    /// What a register holds that holds a map.
    pub fn map_kind(&self, table: Table) -> Kind {
        match self.value_kind(table.map) {
            MapValueKind::Program => Kind::Programs(table),
            _ => Kind::Map(table),
        }
    }

    pub fn value_kind(&self, map: MapIndex) -> MapValueKind {
        let number = self.module.maps.get(map.index()).map(|map| map.definition.map_type);
        let known = number.and_then(|number| self.platform.map_type(number));
        let global = self.globals.get(map.index()).is_some_and(Option::is_some);
        known
            .filter(|_| !global)
            .map_or(MapValueKind::Any, |known| known.verifier_value_kind)
    }

    /// Size of a value of a map; of a section of global variables, of the section.
    pub fn value_size(&self, map: MapIndex) -> i64 {
        let map = self.module.maps.get(map.index());
        map.map_or(0, |map| map.definition.value_size.into())
    }

    /// What a value of a map is called.
    pub fn memory(&self, table: Table) -> Memory {
        match self.globals.get(table.map.index()).copied().flatten() {
            Some(section) => Memory::Globals {
                section: self.module.globals[section.index].section.clone(),
            },
            None => Memory::MapValue {
                map: self.map_name(table),
            },
        }
    }

    /// The name of a map; of one that is made from a template, none.
    pub fn map_name(&self, table: Table) -> Option<String> {
        let map = self.module.maps.get(table.map.index()).filter(|_| !table.made)?;
        Some(map.name.clone())
    }

    /// The argument of a callee.
    pub fn argument(callee: &str, register: Reg) -> Argument {
        Argument {
            callee: callee.to_owned(),
            register,
        }
    }
}

pub(super) fn as_register(operand: Operand) -> Option<Reg> {
    match operand {
        Operand::Reg(register) => Some(register),
        Operand::Imm(_) => None,
    }
}

/// Whether two pointers point into one thing, so that their distances compare as they do.
pub(super) fn one_region(a: &Value, b: &Value) -> bool {
    matches!(
        (a.kind, b.kind),
        (Kind::Context, Kind::Context) | (Kind::Packet, Kind::Packet) | (Kind::Stack(_), Kind::Stack(_))
    )
}

/// The same, of frames only the same one.
pub(super) fn same_region(a: &Value, b: &Value) -> bool {
    one_region(a, b) && a.kind == b.kind
}

/// Why a register holds nothing, in terms of the register that is used.
pub(super) fn nothing(why: Why, register: Reg) -> Violation {
    match why {
        Why::NeverWritten(source) => Violation::NeverWritten { register, source },
        Why::Clobbered(source, _) => Violation::Clobbered {
            register,
            source,
            call: None,
        },
        Why::Stack(offset) => Violation::UnknownContent {
            register,
            offset: offset.map(i64::from),
        },
        Why::PartOfPointer => Violation::PartOfPointer { register },
        Why::PacketMoved | Why::FrameGone => Violation::NothingKnown { register },
        Why::Mixed(a, b) => Violation::MixedKinds {
            register,
            kinds: vec![public(a), public(b)],
        },
    }
}

/// A kind in terms of violations.
pub(super) fn public(sort: Sort) -> crate::Kind {
    match sort {
        Sort::Nothing => crate::Kind::Unknown,
        Sort::Number => crate::Kind::Number,
        Sort::Context => crate::Kind::Context,
        Sort::Packet => crate::Kind::Packet,
        Sort::Stack => crate::Kind::Stack,
        Sort::MapValue => crate::Kind::MapValue,
        Sort::Map => crate::Kind::Map,
        Sort::Programs => crate::Kind::ProgramArray,
        Sort::Socket => crate::Kind::Socket,
        Sort::KernelObject => crate::Kind::KernelObject,
        Sort::Allocated => crate::Kind::Allocated,
    }
}

/// A pointer that a callee gives, of which only the kind is known.
pub(super) fn opaque(kind: Opaque, nullable: bool) -> Value {
    Value {
        kind: Kind::Opaque(kind),
        nullable,
        ..Value::constant(0)
    }
}

/// For the rejections of one function.
#[derive(Debug)]
pub(super) struct Failure {
    pub function: FunctionIndex,
    pub instruction: u32,
    pub refusal: Box<Refusal>,
    /// What was known there; `None` if that does not matter.
    pub state: Option<Box<State>>,
}

/// A register that has to be a number.
pub(super) fn number(register: Reg, state: &State) -> Checked<&Value> {
    let value = state.register(register);
    match value.kind {
        Kind::Number => Ok(value),
        Kind::Nothing(why) => refuse(nothing(why, register), register),
        kind => refuse(
            Violation::PointerArithmetic {
                register,
                kind: public(kind.sort()),
            },
            register,
        ),
    }
}

/// Whether a program may end with what is in `r0`.
pub(super) fn result(state: &State) -> Checked<()> {
    let violation = match state.register(Reg::R0).kind {
        Kind::Number => return Ok(()),
        Kind::Nothing(Why::NeverWritten(_)) => Violation::NoResult,
        Kind::Nothing(why) => nothing(why, Reg::R0),
        kind => Violation::PointerReturned {
            kind: public(kind.sort()),
        },
    };
    refuse(violation, Reg::R0)
}
