//! Conditional jumps: what they need, and what each way tells.

use bpf2sys_bytecode::{Condition, Operand, Reg, WordSize};

use super::num;
use super::state::{Ids, State, Term};
use super::step::{
    Checked, World, as_register, nothing, one_region, public, refuse, refuse_both, refuse_by, same_region,
};
use super::value::{Kind, Name, Value};
use crate::Violation;
use crate::rules;

/// A conditional jump.
#[derive(Clone, Copy)]
pub(super) struct Jump {
    pub size: WordSize,
    pub condition: Condition,
    pub dst: Reg,
    pub src: Operand,
}

/// The states behind a jump that is not taken, and behind one that is; `None` where no execution goes.
pub(super) type Ways = [Option<State>; 2];

impl World<'_> {
    /// What is known behind a jump. In the state before it, what is compared gets a name.
    pub fn branch(&self, jump: Jump, state: &mut State, ids: &mut Ids) -> Checked<Ways> {
        let Jump { size, dst, src, .. } = jump;
        let (a, b) = operands(jump, state);
        for (value, register) in [(&a, Some(dst)), (&b, as_register(src))] {
            if let (Kind::Nothing(why), Some(register)) = (value.kind, register) {
                return refuse(nothing(why, register), register);
            }
        }
        // Values of a map have the same distances in different places.
        let alike = a.is_number() && b.is_number() || same_region(&a, &b);
        let copies = alike && a.name() == b.name() && a.name() != Name::None;
        if (as_register(src) == Some(dst) || copies) && (a.is_number() || size == WordSize::W64) {
            return Ok(itself(jump, state));
        }
        if a.is_number() && b.is_number() {
            state.identify(dst, ids);
            if let Operand::Reg(src) = src {
                state.identify(src, ids);
            }
            return Ok([false, true].map(|holds| numbers(jump, holds, state)));
        }
        if size == WordSize::W32
            && let Some(reason) = rules::half_comparison(a.is_number() && b.is_number())
        {
            let register = if a.is_number() {
                as_register(src).unwrap_or(dst)
            } else {
                dst
            };
            return refuse_by(reason, register);
        }
        match as_register(src) {
            None => self.with_null(jump, dst, &b, state),
            Some(src) if b.as_constant() == Some(0) => {
                self.with_null(Jump { dst, ..jump }, dst, state.register(src), state)
            }
            Some(src) if a.as_constant() == Some(0) && equality(jump.condition) => {
                self.with_null(Jump { dst: src, ..jump }, src, &a, state)
            }
            Some(src) => self.pointers(jump, src, (&a, &b), state, ids),
        }
    }

    /// A comparison of a pointer with a number, which must be 0.
    fn with_null(&self, jump: Jump, register: Reg, number: &Value, state: &State) -> Checked<Ways> {
        let pointer = *state.register(register);
        let privileged = self.program_type.is_privileged;
        // An address is not 0; so these are tests of null in other words.
        let condition = match jump.condition {
            Condition::Eq | Condition::Ne => Some(jump.condition),
            Condition::Gt if !privileged => Some(Condition::Ne),
            Condition::Le if !privileged => Some(Condition::Eq),
            _ => None,
        };
        let always = match jump.condition {
            Condition::Ge if !privileged => Some(true),
            Condition::Lt | Condition::Set if !privileged => Some(false),
            _ => None,
        };
        if number.as_constant() != Some(0) || condition.is_none() && always.is_none() {
            let kind = public(pointer.kind.sort());
            return refuse(Violation::PointerCompared { register, kind }, register);
        }
        // A pointer that has left its memory may be anything, even null.
        if !privileged {
            self.in_bounds(&pointer, register, state)?;
        } else if !self.is_in_bounds(&pointer, state) {
            return Ok([Some(state.clone()), Some(state.clone())]);
        }
        let Some(condition) = condition else {
            let taken = always == Some(true);
            return Ok(if taken {
                [None, Some(state.clone())]
            } else {
                [Some(state.clone()), None]
            });
        };
        let decided = |null: bool| {
            if !pointer.nullable {
                return (!null).then(|| state.clone());
            }
            let mut state = state.clone();
            state.decide_null(register, null);
            Some(state)
        };
        let equal = condition == Condition::Eq;
        Ok([decided(!equal), decided(equal)])
    }

    fn pointers(
        &self,
        jump: Jump,
        src: Reg,
        (a, b): (&Value, &Value),
        state: &mut State,
        ids: &mut Ids,
    ) -> Checked<Ways> {
        let registers = [jump.dst, src];
        if a.is_number() || b.is_number() {
            if self.program_type.is_privileged {
                let register = if a.is_number() { src } else { jump.dst };
                let kind = public(state.register(register).kind.sort());
                return refuse(Violation::PointerCompared { register, kind }, register);
            }
            return refuse_both(Violation::UnrelatedPointers { registers }, registers);
        }
        let maps = matches!(
            (a.kind, b.kind),
            (Kind::Map(_), Kind::Map(_)) | (Kind::Programs(_), Kind::Programs(_))
        );
        if maps && equality(jump.condition) && !self.program_type.is_privileged {
            return Ok([Some(state.clone()), Some(state.clone())]);
        }
        if !one_region(a, b) || a.nullable || b.nullable || jump.condition == Condition::Set {
            return refuse_both(Violation::UnrelatedPointers { registers }, registers);
        }
        let mut known = same_region(a, b);
        for (value, register, other) in [(a, jump.dst, src), (b, src, jump.dst)] {
            if self.program_type.is_privileged {
                known &= self.is_in_bounds(value, state);
            } else {
                self.in_bounds(value, register, state)
                    .map_err(|refusal| refusal.and(other))?;
            }
        }
        if !known {
            // Of two frames, which lies above is not known.
            return Ok([Some(state.clone()), Some(state.clone())]);
        }
        state.identify(jump.dst, ids);
        state.identify(src, ids);
        // Distances compare as addresses do, and are signed.
        let condition = match jump.condition {
            Condition::Gt => Condition::Sgt,
            Condition::Ge => Condition::Sge,
            Condition::Lt => Condition::Slt,
            Condition::Le => Condition::Sle,
            other => other,
        };
        let jump = Jump { condition, ..jump };
        Ok([false, true].map(|holds| numbers(jump, holds, state)))
    }
}

/// A comparison of a register with itself.
fn itself(jump: Jump, state: &State) -> Ways {
    match jump.condition {
        Condition::Eq | Condition::Ge | Condition::Le | Condition::Sge | Condition::Sle => [None, Some(state.clone())],
        Condition::Ne | Condition::Gt | Condition::Lt | Condition::Sgt | Condition::Slt => [Some(state.clone()), None],
        Condition::Set if state.register(jump.dst).is_number() => {
            let with_zero = Jump {
                condition: Condition::Ne,
                src: Operand::Imm(0),
                ..jump
            };
            [numbers(with_zero, false, state), numbers(with_zero, true, state)]
        }
        Condition::Set => [Some(state.clone()), Some(state.clone())],
    }
}

fn equality(condition: Condition) -> bool {
    matches!(condition, Condition::Eq | Condition::Ne)
}

fn operands(jump: Jump, state: &State) -> (Value, Value) {
    let b = match jump.src {
        Operand::Imm(imm) => Value::constant(i64::from(imm).cast_unsigned()),
        Operand::Reg(src) => *state.register(src),
    };
    (*state.register(jump.dst), b)
}

/// What is left of a state where a comparison of two numbers, or of two distances, has this result.
fn numbers(jump: Jump, holds: bool, state: &State) -> Option<State> {
    let (a, b) = operands(jump, state);
    if contradicts(jump, holds, (&a, &b), state) {
        return None;
    }
    let (x, y) = num::compared(jump.size, jump.condition, holds, &a.num, &b.num)?;
    let mut state = state.clone();
    state.narrow(jump.dst, x)?;
    if let Operand::Reg(src) = jump.src {
        state.narrow(src, y)?;
    }
    let (a, b) = operands(jump, &state);
    for (most, first, second) in distances(jump, holds, &a, &b)
        .into_iter()
        .flatten()
        .map(|(most, swap)| if swap { (most, &b, &a) } else { (most, &a, &b) })
    {
        state.relate(first.name(), second.name(), most);
    }
    state.spread(&a)?;
    state.spread(&b)?;
    Some(state)
}

/// Whether what is known of the distance of two numbers rules a result out.
fn contradicts(jump: Jump, holds: bool, (a, b): (&Value, &Value), state: &State) -> bool {
    distances(jump, holds, a, b).into_iter().flatten().any(|(most, swap)| {
        // If `a - b <= most`, then `b - a` is at least `-most`.
        let (first, second) = if swap { (b, a) } else { (a, b) };
        let reverse = state.most(Term::of(second), Term::of(first));
        reverse.is_some_and(|reverse| reverse < -most)
    })
}

/// What a result tells of the distance of two numbers, as exact numbers: that `a - b`, or with `true` `b - a`, is at most so much.
fn distances(jump: Jump, holds: bool, a: &Value, b: &Value) -> [Option<(i64, bool)>; 2] {
    let positive = |value: &Value| value.num.signed().0 >= 0;
    let short = |value: &Value| {
        let (low, high) = value.num.signed();
        low >= 0 && high <= i64::from(u32::MAX)
    };
    let half = |value: &Value| {
        let (low, high) = value.num.signed();
        low >= 0 && high <= i64::from(i32::MAX)
    };
    // Whether the numbers compare, as the instruction does it, like exact ones.
    let (unsigned, signed, equal) = match jump.size {
        WordSize::W64 => (positive(a) && positive(b), true, true),
        WordSize::W32 => (short(a) && short(b), half(a) && half(b), short(a) && short(b)),
    };
    let less = |exact: bool, strict: bool, swap: bool| [exact.then_some((-i64::from(strict), swap)), None];
    match (jump.condition, holds) {
        (Condition::Lt, true) | (Condition::Ge, false) => less(unsigned, true, false),
        (Condition::Le, true) | (Condition::Gt, false) => less(unsigned, false, false),
        (Condition::Gt, true) | (Condition::Le, false) => less(unsigned, true, true),
        (Condition::Ge, true) | (Condition::Lt, false) => less(unsigned, false, true),
        (Condition::Slt, true) | (Condition::Sge, false) => less(signed, true, false),
        (Condition::Sle, true) | (Condition::Sgt, false) => less(signed, false, false),
        (Condition::Sgt, true) | (Condition::Sle, false) => less(signed, true, true),
        (Condition::Sge, true) | (Condition::Slt, false) => less(signed, false, true),
        (Condition::Eq, true) | (Condition::Ne, false) if equal => [Some((0, false)), Some((0, true))],
        _ => [None, None],
    }
}
