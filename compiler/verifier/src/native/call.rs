//! Calls that leave the module: what callees need, and what is known behind them.

use bpf2sys_bytecode::{MapIndex, Reg};
use bpf2sys_platform::MapValueKind;

use super::memory::Bytes;
use super::num::Num;
use super::state::State;
use super::step::{Checked, Refusal, World, nothing, opaque, public, refuse, refuse_by, span};
use super::value::{Kind, NONE, Name, Opaque, Table, Value, Why};
use crate::error::RejectionReason;
use crate::map_type::{self, Candidate, Wrong};
use crate::prototype::{Need, Prototype};
use crate::rules;
use crate::{Accessor, Role, Violation, WarningReason};

/// What a call is known by.
pub(super) struct Called {
    /// The one map of its first argument that names one.
    pub map: Option<MapIndex>,
    pub warning: Option<WarningReason>,
}

/// What a callee does to the memory of an argument.
struct Written {
    register: Reg,
    /// So many at most.
    bytes: u64,
    /// Whether it may leave a part as it was, unless it is known to fill what it gets.
    partly: bool,
    /// Whether it gets exactly so many.
    exact: bool,
}

impl World<'_> {
    /// Checks the arguments of a callee outside the module, and gives what is known behind the call.
    pub fn call(&self, called: &Prototype<'_>, at: u32, state: &mut State) -> Checked<Called> {
        // Numbers of `ebpf_return_type_t` that say nothing.
        if !matches!(called.return_type, 0..=2 | 4..=11) {
            return refuse(Violation::UnusableHelper, Reg::R0);
        }
        let mut map: Option<(Reg, Table)> = None;
        let mut program_map: Option<Table> = None;
        let mut written: Vec<Written> = Vec::new();
        let mut pending: Option<(Reg, bool, bool)> = None;
        for (register, need) in called.needs() {
            if let Some((memory, writes, or_null)) = pending.take() {
                let Need::Size { zero } = need else {
                    return refuse(Violation::UnusableHelper, register);
                };
                let bytes = self
                    .sized(called, memory, (register, zero), (writes, or_null), state)
                    .map_err(|refusal| refusal.and(register))?;
                if writes || called.writes_readable.contains(&memory.number()) {
                    written.push(Written {
                        register: memory,
                        bytes,
                        partly: writes,
                        exact: state.register(register).as_constant().is_some(),
                    });
                }
                continue;
            }
            let sized = matches!(need, Need::Key | Need::Value | Need::NewValue | Need::Memory { .. });
            if called.writes_readable.contains(&register.number()) && !sized {
                let helper = called.name.to_owned();
                return refuse_by(RejectionReason::UnknownWrite { helper }, register);
            }
            let value = *state.register(register);
            let number_needed = |value: &Value| number_argument(called, register, value);
            match need {
                Need::Anything if self.program_type.is_privileged => {}
                Need::Anything => number_needed(&value)?,
                Need::Map => {
                    // Null may be given, too: compiled code gives no callee a null map.
                    let Kind::Map(table) = value.kind else {
                        return not_a_map(called, register, &value, false);
                    };
                    map = Some((register, table));
                }
                Need::Programs => {
                    let Kind::Programs(table) = value.kind else {
                        return not_a_map(called, register, &value, true);
                    };
                    program_map = Some(table);
                }
                Need::Key | Need::Value | Need::NewValue => {
                    let key = need == Need::Key;
                    let Some((named, table)) = map else {
                        return refuse(Violation::UnusableHelper, register);
                    };
                    let bytes = self
                        .element(called, table, (register, key), state)
                        .map_err(|refusal| refusal.and(named))?;
                    if need == Need::NewValue || called.writes_readable.contains(&register.number()) {
                        written.push(Written {
                            register,
                            bytes,
                            partly: false,
                            exact: true,
                        });
                    }
                }
                Need::Context { or_null } => context_argument(called, register, or_null, &value)?,
                Need::Stack { or_null } => {
                    let right = matches!(value.kind, Kind::Stack(_)) || or_null && value.is_number();
                    if !right {
                        return wrong_kind(called, register, &value, crate::Kind::Stack);
                    }
                }
                Need::Memory { writes, or_null } => pending = Some((register, writes, or_null)),
                Need::LoneSize => {
                    number_needed(&value)?;
                    size_in_range(called, register, &value, true)?;
                }
                Need::Number(bytes) => {
                    let bytes = i64::from(bytes);
                    is_memory(called, register, &value, false)?;
                    let by = || accessor(called, register, Role::Write);
                    let place = self.accessible((&value, register), 0, &Bytes::Exactly(bytes), &by, state)?;
                    self.writable(&value, place, bytes, register)?;
                    written.push(Written {
                        register,
                        bytes: bytes.cast_unsigned(),
                        partly: true,
                        exact: true,
                    });
                }
                Need::Socket | Need::KernelObject | Need::Allocated => {
                    let kind = match need {
                        Need::Socket => Opaque::Socket,
                        Need::KernelObject => Opaque::KernelObject,
                        _ => Opaque::Allocated,
                    };
                    if value.kind != Kind::Opaque(kind) || value.nullable {
                        let wanted = public(Kind::Opaque(kind).sort());
                        return wrong_kind(called, register, &value, wanted);
                    }
                }
                Need::Function => {
                    return refuse(Violation::Callback, register);
                }
                Need::Plain => is_memory(called, register, &value, false)?,
                Need::Size { .. } | Need::Unknown => return refuse(Violation::UnusableHelper, register),
            }
        }
        if pending.is_some() {
            return refuse(Violation::UnusableHelper, Reg::R1);
        }
        let table = map.map(|(_, table)| table).or(program_map);
        let warning = self.map_rule(called, table)?;
        for change in &written {
            self.write(called, change, state)?;
        }
        self.unlisted(called, state)?;
        let result = self.returned(called.return_type, map.map(|(_, table)| table));
        for number in 1..6 {
            if let Some(register) = Reg::new(number) {
                state.set(register, Value::nothing(Why::Clobbered(register, at)));
            }
        }
        state.set(Reg::R0, result);
        if called.moves_packet {
            state.invalidate(Why::PacketMoved, |kind| kind == Kind::Packet);
            state.forget_packet(Num::within(0..=u64::from(self.platform.limits.max_packet_bytes)));
        }
        Ok(Called {
            map: table.filter(|table| !table.made).map(|table| table.map),
            warning,
        })
    }

    /// Memory with its size in the next argument. Gives the most bytes that it can have.
    fn sized(
        &self,
        called: &Prototype<'_>,
        memory: Reg,
        (size, zero): (Reg, bool),
        (writes, or_null): (bool, bool),
        state: &State,
    ) -> Checked<u64> {
        let (pointer, bytes) = (*state.register(memory), *state.register(size));
        match bytes.kind {
            Kind::Number => {}
            Kind::Nothing(why) => return refuse(nothing(why, size), size),
            kind => {
                let violation = Violation::ArgumentKind {
                    argument: World::argument(called.name, size),
                    kind: public(kind.sort()),
                    needs: crate::Kind::Number,
                };
                return refuse(violation, size);
            }
        }
        size_in_range(called, size, &bytes, zero)?;
        is_memory(called, memory, &pointer, or_null)?;
        if pointer.is_number() || or_null && pointer.nullable {
            let null = pointer.nullable || pointer.as_constant() == Some(0);
            if null && bytes.as_constant() == Some(0) {
                return Ok(0);
            }
            let argument = World::argument(called.name, memory);
            return refuse(Violation::NullWithSize { argument }, memory);
        }
        let role = if writes { Role::Write } else { Role::Read };
        let by = || accessor(called, memory, role.clone());
        let place = self.accessible((&pointer, memory), 0, &Bytes::Of(&bytes), &by, state)?;
        let most = bytes.num.signed().1;
        if writes || called.writes_readable.contains(&memory.number()) {
            self.writable(&pointer, place, most, memory)?;
        }
        if !writes {
            readable(called, (&pointer, memory), place, most, Role::Read, state)?;
        }
        Ok(most.cast_unsigned())
    }

    /// A key or a value of a map. Gives its size.
    fn element(
        &self,
        called: &Prototype<'_>,
        table: Table,
        (register, key): (Reg, bool),
        state: &State,
    ) -> Checked<u64> {
        let pointer = *state.register(register);
        is_memory(called, register, &pointer, false)?;
        let definition = self.module.maps.get(table.map.index()).map(|map| map.definition);
        let definition = definition.unwrap_or_default();
        let bytes = if key {
            definition.key_size
        } else {
            definition.value_size
        };
        let role = if key {
            Role::Key {
                map: self.map_name(table),
            }
        } else {
            Role::Value {
                map: self.map_name(table),
            }
        };
        let by = || accessor(called, register, role.clone());
        let place = self.accessible((&pointer, register), 0, &Bytes::Exactly(bytes.into()), &by, state)?;
        readable(called, (&pointer, register), place, bytes.into(), role.clone(), state)?;
        if called.writes_readable.contains(&register.number()) {
            self.writable(&pointer, place, bytes.into(), register)?;
        }
        Ok(bytes.into())
    }

    /// What is on the stack behind a write of a callee.
    fn write(&self, called: &Prototype<'_>, change: &Written, state: &mut State) -> Checked<()> {
        let pointer = *state.register(change.register);
        let Kind::Stack(frame) = pointer.kind else {
            return Ok(());
        };
        let (low, high) = pointer.num.signed();
        let range = low..high.saturating_add(change.bytes.cast_signed());
        let same = |a: Reg, b: Reg| {
            let (a, b) = (state.register(a), state.register(b));
            a.is_number() && b.is_number() && a.name() == b.name() && a.name() != Name::None
        };
        // What it is given: of a size that is not one number, that may be less than the most that it can be.
        let fills = !change.partly || called.fills_memory(change.register, same);
        let privileged = self.program_type.is_privileged;
        let Some(memory) = state.memory_mut(frame) else {
            return Ok(());
        };
        let initialised = || memory.missing(&range).is_none();
        if let Some(reason) = rules::unfilled_buffer(called, self.program_type, fills, initialised) {
            return refuse_by(reason, change.register);
        }
        if low == high && change.exact && (fills || privileged) {
            memory.fill(&range);
        } else {
            // What was numbers stays numbers.
            memory.blur(&range, true);
        }
        Ok(())
    }

    /// Registers that are read although no prototype lists them.
    fn unlisted(&self, called: &Prototype<'_>, state: &State) -> Checked<()> {
        let is_number = |register: Reg| state.register(register).is_number();
        match rules::unlisted_argument(called, self.program_type, is_number) {
            Some((register, reason)) => refuse_by(reason, register),
            None => Ok(()),
        }
    }

    /// A map of a type that the callee does not work on.
    fn map_rule(&self, called: &Prototype<'_>, table: Option<Table>) -> Checked<Option<WarningReason>> {
        if called.always_fails {
            return Ok(Some(map_type::always_fails(called, self.program_type)));
        }
        let Some(table) = table else { return Ok(None) };
        let definition = self.module.maps.get(table.map.index()).map(|map| map.definition);
        let candidate = Candidate {
            name: self.map_name(table),
            map_type: definition.unwrap_or_default().map_type,
        };
        match map_type::wrong(called, self.platform, Some(&[candidate])) {
            None => Ok(None),
            Some(Wrong::Warned(warning)) => Ok(Some(warning)),
            Some(Wrong::Refused(reason)) => Err(Box::new(Refusal {
                reason,
                registers: [None, None],
            })),
        }
    }

    /// What a callee gives.
    fn returned(&self, return_type: u32, map: Option<Table>) -> Value {
        match return_type {
            1 => {
                let Some(table) = map else {
                    return opaque(Opaque::Unknown, true);
                };
                let value = if self.value_kind(table.map) == MapValueKind::Map {
                    let inner = self.module.maps.get(table.map.index()).and_then(|map| map.inner);
                    match inner {
                        Some(map) => Value::pointer(self.map_kind(Table { map, made: true }), 0),
                        None => opaque(Opaque::Unknown, true),
                    }
                } else {
                    Value::pointer(Kind::MapValue(table), 0)
                };
                Value {
                    nullable: true,
                    id: NONE,
                    ..value
                }
            }
            4..=6 => opaque(Opaque::Socket, true),
            7 => opaque(Opaque::Allocated, true),
            8 | 9 => opaque(Opaque::KernelObject, true),
            10 | 11 => opaque(Opaque::KernelObject, false),
            _ => Value::number(Num::ANY),
        }
    }
}

fn accessor(called: &Prototype<'_>, register: Reg, role: Role) -> Accessor {
    Accessor::Call {
        argument: World::argument(called.name, register),
        role,
    }
}

fn number_argument(called: &Prototype<'_>, register: Reg, value: &Value) -> Checked<()> {
    match value.kind {
        Kind::Number => Ok(()),
        Kind::Nothing(why) => refuse(nothing(why, register), register),
        kind => {
            let violation = Violation::PointerPassed {
                argument: World::argument(called.name, register),
                kind: public(kind.sort()),
            };
            refuse(violation, register)
        }
    }
}

fn wrong_kind<T>(called: &Prototype<'_>, register: Reg, value: &Value, needs: crate::Kind) -> Checked<T> {
    if let Kind::Nothing(why) = value.kind {
        return refuse(nothing(why, register), register);
    }
    let violation = Violation::ArgumentKind {
        argument: World::argument(called.name, register),
        kind: public(value.kind.sort()),
        needs,
    };
    refuse(violation, register)
}

fn not_a_map<T>(called: &Prototype<'_>, register: Reg, value: &Value, programs: bool) -> Checked<T> {
    if let Kind::Nothing(why) = value.kind {
        return refuse(nothing(why, register), register);
    }
    let violation = Violation::ArgumentNotMap {
        argument: World::argument(called.name, register),
        kind: public(value.kind.sort()),
        programs,
    };
    refuse(violation, register)
}

fn context_argument(called: &Prototype<'_>, register: Reg, or_null: bool, value: &Value) -> Checked<()> {
    let argument = || World::argument(called.name, register);
    match value.kind {
        Kind::Context if value.num.constant() == Some(0) => Ok(()),
        Kind::Context => {
            let violation = Violation::ContextOffset {
                argument: argument(),
                offset: span(&value.num),
            };
            refuse(violation, register)
        }
        Kind::Number if or_null && value.as_constant() == Some(0) => Ok(()),
        Kind::Nothing(why) => refuse(nothing(why, register), register),
        kind => {
            let violation = Violation::ArgumentNotContext {
                argument: argument(),
                kind: public(kind.sort()),
            };
            refuse(violation, register)
        }
    }
}

/// An argument that has to point to memory which programs can use.
fn is_memory(called: &Prototype<'_>, register: Reg, value: &Value, or_null: bool) -> Checked<()> {
    match value.kind {
        Kind::Stack(_) | Kind::Packet | Kind::MapValue(_) => Ok(()),
        Kind::Number if or_null => Ok(()),
        Kind::Nothing(why) => refuse(nothing(why, register), register),
        kind => {
            let violation = Violation::ArgumentNotMemory {
                argument: World::argument(called.name, register),
                kind: public(kind.sort()),
            };
            refuse(violation, register)
        }
    }
}

fn size_in_range(called: &Prototype<'_>, register: Reg, value: &Value, zero: bool) -> Checked<()> {
    let least = i64::from(!zero);
    if value.num.signed().0 >= least {
        return Ok(());
    }
    let violation = Violation::Size {
        argument: World::argument(called.name, register),
        size: span(&value.num),
        zero,
    };
    refuse(violation, register)
}

/// Memory that a callee reads: on the stack it must hold numbers.
fn readable(
    called: &Prototype<'_>,
    (pointer, register): (&Value, Reg),
    (low, high): (i64, i64),
    bytes: i64,
    role: Role,
    state: &State,
) -> Checked<()> {
    let Kind::Stack(frame) = pointer.kind else {
        return Ok(());
    };
    let range = low..high.saturating_add(bytes);
    let memory = state.memory(frame);
    let missing = memory.map_or(Some((0, bytes - 1)), |memory| memory.missing(&range));
    let Some(missing) = missing else { return Ok(()) };
    let access = crate::Access {
        by: accessor(called, register, role),
        offset: span(&pointer.num),
        bytes: crate::Span::exactly(bytes),
    };
    let violation = match memory.and_then(|memory| memory.pointer_in(&range)) {
        Some(kind) => Violation::PointerInBuffer {
            access,
            kind: public(kind.sort()),
        },
        None => Violation::UnwrittenStack {
            access,
            bytes: (low == high).then_some(missing),
        },
    };
    refuse(violation, register)
}
