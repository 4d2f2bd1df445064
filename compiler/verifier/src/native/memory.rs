//! Memory: which accesses are safe, and what loads, stores and atomic operations do.

use bpf2sys_bytecode::{AluOp, AtomicOp, Extension, Instruction, Operand, Reg, Width, WordSize};

use super::frame::BYTES;
use super::num::{self, Num};
use super::plan::written;
use super::state::{Ids, State, Term, identify};
use super::step::{Checked, World, as_register, nothing, public, refuse, refuse_both, refuse_by, span};
use super::value::{Kind, META, NONE, PACKET_SIZE, Value, Why};
use crate::error::RejectionReason;
use crate::facts::FRAME_BYTES;
use crate::rules;
use crate::{Access, Accessor, Memory, Span, Violation};

/// How many bytes are used.
pub(super) enum Bytes<'v> {
    Exactly(i64),
    /// As many as a number says, which is not negative.
    Of(&'v Value),
}

impl Bytes<'_> {
    fn most(&self) -> i64 {
        match self {
            Bytes::Exactly(bytes) => *bytes,
            Bytes::Of(value) => value.num.signed().1,
        }
    }

    fn span(&self) -> Span {
        match self {
            Bytes::Exactly(bytes) => Span::exactly(*bytes),
            Bytes::Of(value) => span(&value.num),
        }
    }
}

impl World<'_> {
    /// Whether a pointer is so near to what it points into that its distance compares as its address does.
    pub fn is_in_bounds(&self, value: &Value, state: &State) -> bool {
        let (low, high) = value.num.signed();
        match value.kind {
            Kind::Packet => {
                // As far behind the largest packet as that is long, no address has wrapped around.
                let most = 2 * i64::from(self.platform.limits.max_packet_bytes);
                behind_packet_start(value, 0, state) && (high <= most || before_packet_end(value, 0, state))
            }
            Kind::Context => low >= 0 && high <= i64::from(self.program_type.context.size),
            Kind::Stack(_) => low >= BYTES.start && high <= BYTES.end,
            Kind::MapValue(table) => low >= 0 && high <= self.value_size(table.map),
            _ => true,
        }
    }

    /// Refuses a pointer that may be anywhere.
    pub fn in_bounds(&self, value: &Value, register: Reg, state: &State) -> Checked<()> {
        if self.is_in_bounds(value, state) {
            return Ok(());
        }
        refuse(
            Violation::PointerOutOfRange {
                register,
                kind: public(value.kind.sort()),
                offset: span(&value.num),
            },
            register,
        )
    }

    /// Whether `bytes` bytes from `offset` behind a pointer on lie in what it points into. Gives the range of distances of the first one.
    pub fn accessible(
        &self,
        (value, register): (&Value, Reg),
        offset: i64,
        bytes: &Bytes<'_>,
        by: &dyn Fn() -> Accessor,
        state: &State,
    ) -> Checked<(i64, i64)> {
        let (low, high) = value.num.signed();
        let (low, high) = (low.saturating_add(offset), high.saturating_add(offset));
        let end = high.saturating_add(bytes.most());
        let access = || Access {
            by: by(),
            offset: span(&value.num.moved(offset)),
            bytes: bytes.span(),
        };
        let is_call = || matches!(by(), Accessor::Call { .. });
        // Of a pointer that nobody may follow, it is no matter that it may be null, too.
        if value.nullable && !matches!(value.kind, Kind::Opaque(_)) {
            let memory = match value.kind {
                Kind::MapValue(table) => self.memory(table),
                Kind::Map(table) | Kind::Programs(table) if !is_call() => {
                    let map = self.map_name(table);
                    return refuse(Violation::MapDereferenced { register, map }, register);
                }
                _ => Memory::Given { helper: None },
            };
            let access = access();
            return refuse(
                if is_call() {
                    Violation::NullArgument { access, memory }
                } else {
                    Violation::NullAccess { access, memory }
                },
                register,
            );
        }
        let wrong = match value.kind {
            Kind::Context => {
                let size = i64::from(self.program_type.context.size);
                if low < 0 {
                    Violation::MemoryStart {
                        access: access(),
                        memory: Memory::Context,
                    }
                } else if end > size {
                    Violation::MemoryEnd {
                        access: access(),
                        memory: Memory::Context,
                        size: Some(size),
                    }
                } else {
                    return Ok((low, high));
                }
            }
            Kind::Packet => {
                if !behind_packet_start(value, offset, state) {
                    Violation::PacketStart { access: access() }
                } else if ends_in_packet(value, offset, bytes, state) {
                    return Ok((low, high));
                } else {
                    Violation::PacketEnd {
                        access: access(),
                        proven: state.packet_size.signed().0,
                    }
                }
            }
            Kind::Stack(_) => {
                // Nothing is known of a larger one, whatever a platform says: no runtime has it.
                let frame = i64::from(self.platform.limits.subprogram_stack_bytes).min(FRAME_BYTES.into());
                if low >= -frame && end <= BYTES.end {
                    return Ok((low, high));
                }
                if low < -frame {
                    Violation::StackBottom {
                        access: access(),
                        frame,
                    }
                } else if is_call() && high < 0 {
                    Violation::SmallBuffer { access: access() }
                } else {
                    Violation::StackTop { access: access() }
                }
            }
            Kind::MapValue(table) => {
                let size = self.value_size(table.map);
                if low < 0 {
                    Violation::MemoryStart {
                        access: access(),
                        memory: self.memory(table),
                    }
                } else if end > size {
                    Violation::MemoryEnd {
                        access: access(),
                        memory: self.memory(table),
                        size: Some(size),
                    }
                } else {
                    return Ok((low, high));
                }
            }
            Kind::Number => Violation::NumberDereferenced { register },
            Kind::Nothing(why) => nothing(why, register),
            Kind::Map(table) | Kind::Programs(table) => Violation::MapDereferenced {
                register,
                map: self.map_name(table),
            },
            Kind::Opaque(_) => Violation::OpaquePointer {
                register,
                kind: public(value.kind.sort()),
            },
        };
        refuse(wrong, register)
    }

    /// The pointer that an instruction accesses memory through, and the distances of the first byte.
    fn accessed(
        &self,
        (base, offset): (Reg, i16),
        width: Width,
        by: &Accessor,
        state: &State,
    ) -> Checked<(Value, (i64, i64))> {
        let pointer = *state.register(base);
        let bytes = Bytes::Exactly(width.bytes().into());
        let place = self.accessible((&pointer, base), offset.into(), &bytes, &|| by.clone(), state)?;
        Ok((pointer, place))
    }

    pub(super) fn load(
        &self,
        (width, signed): (Width, bool),
        dst: Reg,
        (base, offset): (Reg, i16),
        state: &mut State,
        ids: &mut Ids,
    ) -> Checked<()> {
        let bytes = i64::from(width.bytes());
        let (pointer, place) = self.accessed((base, offset), width, &Accessor::Load, state)?;
        let mut value = match pointer.kind {
            Kind::Context => self.context_field(place, width, base, state)?,
            Kind::Stack(frame) => {
                let (low, high) = place;
                let Some(memory) = state.memory(frame) else {
                    return refuse(Violation::Unproven, base);
                };
                if low == high {
                    let mut value = memory.load(low, width);
                    // What is on the stack and what is in the register are one value from here on.
                    if value.id == NONE
                        && let Some(memory) = state.memory_mut(frame)
                    {
                        identify(&mut value, ids);
                        if value.id != NONE && memory.load(low, width).num == value.num {
                            memory.store(low, width, &value);
                        }
                    }
                    value
                } else if memory.missing(&(low..high + bytes)).is_none() {
                    unknown(width)
                } else {
                    Value::nothing(Why::Stack(None))
                }
            }
            _ => unknown(width),
        };
        if signed && value.is_number() {
            let from = match width {
                Width::B => Extension::S8,
                Width::H => Extension::S16,
                _ => Extension::S32,
            };
            let num = num::sign_extended(WordSize::W64, from, &value.num);
            if num != value.num {
                value = Value::number(num);
            }
        }
        state.set(dst, value);
        Ok(())
    }

    /// What a load from the context gives.
    fn context_field(&self, (low, high): (i64, i64), width: Width, base: Reg, state: &State) -> Checked<Value> {
        let layout = &self.program_type.context;
        let bytes = i64::from(width.bytes());
        let number = unknown(width);
        if layout.data_end < 0 {
            return Ok(number);
        }
        let fields = [layout.data, layout.data_end, layout.data_meta].map(i64::from);
        let pointer_bytes = i64::from(layout.data_end - layout.data);
        let touched = |field: i64| field >= 0 && low < field + pointer_bytes && field < high + bytes;
        let place = (Some(low.into()), Some(high.into()));
        if let Some(reason) = rules::null_metadata(self.program_type, place, width.bytes()) {
            return refuse_by(reason, base);
        }
        if !fields.into_iter().any(touched) {
            return Ok(number);
        }
        let whole = |field: i64| low == high && low == field && bytes == pointer_bytes;
        let [data, end, meta] = fields;
        let named = |id, num| Value {
            kind: Kind::Packet,
            id,
            ..Value::number(num)
        };
        Ok(if whole(data) {
            Value::pointer(Kind::Packet, 0)
        } else if whole(end) {
            named(PACKET_SIZE, state.packet_size)
        } else if whole(meta) {
            // How much metadata there is, no provider says.
            named(META, Num::between(i32::MIN.into()..=0))
        } else {
            Value::nothing(Why::PartOfPointer)
        })
    }

    /// Whether the bytes at these distances from the start of the context may belong to a field with a pointer.
    pub fn touches_pointer(&self, (low, high): (i64, i64), bytes: i64) -> bool {
        let layout = &self.program_type.context;
        if layout.data_end < 0 {
            return false;
        }
        let pointer_bytes = i64::from(layout.data_end - layout.data);
        [layout.data, layout.data_end, layout.data_meta]
            .into_iter()
            .map(i64::from)
            .any(|field| field >= 0 && low < field + pointer_bytes && field < high.saturating_add(bytes))
    }

    pub(super) fn store(
        &self,
        width: Width,
        (base, offset): (Reg, i16),
        src: Operand,
        state: &mut State,
        ids: &mut Ids,
    ) -> Checked<()> {
        let bytes = i64::from(width.bytes());
        let (pointer, place) = self.accessed((base, offset), width, &Accessor::Store, state)?;
        let value = match src {
            Operand::Imm(imm) => Value::constant(i64::from(imm).cast_unsigned()),
            Operand::Reg(src) => *state.register(src),
        };
        if let Kind::Stack(frame) = pointer.kind {
            let value = match as_register(src) {
                Some(src) => state.copy(src, ids),
                None => value,
            };
            let (low, high) = place;
            if let Some(memory) = state.memory_mut(frame) {
                if low == high {
                    memory.store(low, width, &value);
                } else {
                    memory.blur(&(low..high + bytes), value.is_number());
                }
            }
            return Ok(());
        }
        self.writable(&pointer, place, bytes, base)?;
        if let Some(src) = as_register(src) {
            match value.kind {
                Kind::Number => {}
                _ if self.program_type.is_privileged => {}
                Kind::Nothing(why) => return refuse(nothing(why, src), src),
                kind if width != Width::Dw => {
                    let kind = public(kind.sort());
                    return refuse(Violation::PointerTruncated { register: src, kind }, src);
                }
                kind => {
                    let violation = Violation::PointerStored {
                        register: src,
                        kind: public(kind.sort()),
                        into: public(pointer.kind.sort()),
                    };
                    return refuse_both(violation, [src, base]);
                }
            }
        }
        Ok(())
    }

    /// Whether memory that is not on the stack may be written.
    pub fn writable(&self, pointer: &Value, place: (i64, i64), bytes: i64, register: Reg) -> Checked<()> {
        match pointer.kind {
            Kind::Context if self.touches_pointer(place, bytes) => refuse(Violation::ContextPointerWrite, register),
            Kind::MapValue(table) => match self.globals.get(table.map.index()).copied().flatten() {
                Some(section) if section.read_only => {
                    let section = self.module.globals[section.index].section.clone();
                    refuse_by(RejectionReason::ReadOnlyWrite { section }, register)
                }
                _ => Ok(()),
            },
            _ => Ok(()),
        }
    }

    pub(super) fn atomic(
        &self,
        size: WordSize,
        op: AtomicOp,
        (base, offset): (Reg, i16),
        src: Reg,
        state: &mut State,
    ) -> Checked<()> {
        let width = match size {
            WordSize::W32 => Width::W,
            WordSize::W64 => Width::Dw,
        };
        let bytes = i64::from(width.bytes());
        let operand = *number_stored(src, base, state)?;
        let (pointer, place) = self.accessed((base, offset), width, &Accessor::Atomic, state)?;
        if op == AtomicOp::Cmpxchg {
            let compared = state.register(Reg::R0);
            if let Kind::Nothing(why) = compared.kind {
                return refuse(nothing(why, Reg::R0), Reg::R0);
            }
            if let Some(reason) = rules::exchange(compared.is_number()) {
                return refuse_by(reason, Reg::R0);
            }
        }
        self.writable(&pointer, place, bytes, base)?;
        let old = match pointer.kind {
            Kind::Stack(frame) => {
                let (low, high) = place;
                let Some(memory) = state.memory_mut(frame) else {
                    return refuse(Violation::Unproven, base);
                };
                let old = match low == high {
                    true => memory.load(low, width),
                    false if memory.missing(&(low..high + bytes)).is_none() => unknown(width),
                    false => Value::nothing(Why::Stack(None)),
                };
                let new = match op {
                    AtomicOp::Xchg => operand,
                    // What holds nothing, or a pointer, holds nothing behind the operation.
                    _ if !old.is_number() => Value::nothing(Why::Stack(None)),
                    AtomicOp::Cmpxchg => unknown(width),
                    AtomicOp::Add { .. } => changed(size, AluOp::Add, &old, &operand),
                    AtomicOp::Or { .. } => changed(size, AluOp::Or, &old, &operand),
                    AtomicOp::And { .. } => changed(size, AluOp::And, &old, &operand),
                    AtomicOp::Xor { .. } => changed(size, AluOp::Xor, &old, &operand),
                };
                if low == high {
                    memory.store(low, width, &new);
                } else {
                    memory.blur(&(low..high + bytes), new.is_number());
                }
                old
            }
            _ => unknown(width),
        };
        let instruction = Instruction::Atomic {
            size,
            op,
            base,
            offset,
            src,
        };
        if let Some(register) = written(&instruction) {
            state.set(register, old);
        }
        Ok(())
    }
}

fn changed(size: WordSize, op: AluOp, old: &Value, operand: &Value) -> Value {
    Value::number(num::alu(size, op, &old.num, &operand.num))
}

fn behind_packet_start(value: &Value, offset: i64, state: &State) -> bool {
    value.num.signed().0.checked_add(offset).is_some_and(|low| low >= 0)
        || state
            .most(Term::identity(META), Term::of(value))
            .is_some_and(|most| most <= offset)
}

/// Whether so many bytes behind a pointer the packet has not ended.
fn before_packet_end(value: &Value, bytes: i64, state: &State) -> bool {
    let most = state.most(Term::of(value), Term::of(&state.packet_end()));
    most.and_then(|most| most.checked_add(bytes))
        .is_some_and(|most| most <= 0)
}

/// A register that an atomic operation puts into memory.
fn number_stored(register: Reg, base: Reg, state: &State) -> Checked<&Value> {
    let value = state.register(register);
    match value.kind {
        Kind::Number => Ok(value),
        Kind::Nothing(why) => refuse(nothing(why, register), register),
        kind => {
            let violation = Violation::PointerStored {
                register,
                kind: public(kind.sort()),
                into: public(state.register(base).kind.sort()),
            };
            refuse_both(violation, [register, base])
        }
    }
}

fn ends_in_packet(value: &Value, offset: i64, bytes: &Bytes<'_>, state: &State) -> bool {
    if bytes
        .most()
        .checked_add(offset)
        .is_some_and(|more| before_packet_end(value, more, state))
    {
        return true;
    }
    // The sum of a known distance and a size was compared with the end.
    let Bytes::Of(size) = bytes else { return false };
    value
        .num
        .constant()
        .and_then(|at| at.cast_signed().checked_add(offset))
        .is_some_and(|more| before_packet_end(size, more, state))
}

/// A number of which only the width is known.
fn unknown(width: Width) -> Value {
    Value::number(num::low_part(&Num::ANY, width.bytes() * 8))
}
