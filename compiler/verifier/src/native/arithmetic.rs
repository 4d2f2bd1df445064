//! Arithmetic: what it needs, and what its results are.

use bpf2sys_bytecode::{AluOp, Condition, Operand, Reg, WordSize};

use super::num::{self, Num};
use super::state::{Ids, State, Term, identify};
use super::step::{
    Checked, World, as_register, nothing, number, one_region, public, refuse, refuse_both, refuse_by, same_region,
};
use super::value::{Kind, NONE, Name, Value};
use crate::Violation;
use crate::rules;

impl World<'_> {
    pub(super) fn alu(
        &self,
        size: WordSize,
        op: AluOp,
        dst: Reg,
        src: Operand,
        state: &mut State,
        ids: &mut Ids,
    ) -> Checked<()> {
        if op == AluOp::Mov {
            let value = match src {
                Operand::Imm(imm) => {
                    let wide = i64::from(imm).cast_unsigned();
                    Value::constant(num::compute(size, AluOp::Mov, 0, wide))
                }
                Operand::Reg(src) if size == WordSize::W64 => state.copy(src, ids),
                Operand::Reg(src) => {
                    let num = number(src, state)?.num;
                    if num.is_short() {
                        state.copy(src, ids)
                    } else {
                        Value::number(num.zero_extended())
                    }
                }
            };
            state.set(dst, value);
            return Ok(());
        }
        let a = *state.register(dst);
        let b = match src {
            Operand::Imm(imm) => Value::constant(i64::from(imm).cast_unsigned()),
            Operand::Reg(src) => *state.register(src),
        };
        for (value, register) in [(&a, Some(dst)), (&b, as_register(src))] {
            if let (Kind::Nothing(why), Some(register)) = (value.kind, register) {
                return refuse(nothing(why, register), register);
            }
        }
        if a.is_number() && b.is_number() {
            if let AluOp::Div | AluOp::Sdiv | AluOp::Mod | AluOp::Smod = op
                && !self.platform.verifier_options.allow_division_by_zero
                && num::compared(size, Condition::Eq, true, &b.num, &Num::of(0)).is_some()
            {
                let register = as_register(src);
                return refuse(Violation::DivisionByZero { register }, register.unwrap_or(dst));
            }
            let result = calculate(size, op, (dst, a), (as_register(src), b), state, ids);
            state.set(dst, result);
            return Ok(());
        }
        let wide = size == WordSize::W64;
        match op {
            AluOp::Add if wide => add(dst, src, (a, b), state, ids),
            AluOp::Sub if wide => self.subtract(dst, src, (a, b), state, ids),
            AluOp::Sub if !a.is_number() && !b.is_number() => {
                // The low half of the difference is the difference of the low halves.
                self.subtract(dst, src, (a, b), state, ids)?;
                let difference = *state.register(dst);
                if !difference.num.is_short() {
                    state.set(dst, Value::number(difference.num.zero_extended()));
                }
                Ok(())
            }
            _ => {
                let (register, kind) = match as_register(src) {
                    Some(src) if a.is_number() => (src, b.kind),
                    _ => (dst, a.kind),
                };
                let kind = public(kind.sort());
                refuse(Violation::PointerArithmetic { register, kind }, register)
            }
        }
    }

    /// A difference with a pointer.
    fn subtract(
        &self,
        dst: Reg,
        src: Operand,
        (a, b): (Value, Value),
        state: &mut State,
        ids: &mut Ids,
    ) -> Checked<()> {
        let src = as_register(src);
        if let (Some(src), false) = (src, b.is_number()) {
            let registers = [dst, src];
            if a.is_number() {
                let kind = public(b.kind.sort());
                return refuse(Violation::PointerArithmetic { register: src, kind }, src);
            }
            if !one_region(&a, &b) {
                return refuse_both(Violation::UnrelatedPointers { registers }, registers);
            }
            for (value, register, other) in [(&a, dst, src), (&b, src, dst)] {
                self.in_bounds(value, register, state)
                    .map_err(|refusal| refusal.and(other))?;
            }
            let apart = same_region(&a, &b);
            let num = if apart {
                num::alu(WordSize::W64, AluOp::Sub, &a.num, &b.num)
            } else {
                Num::ANY
            };
            let (x, y) = (Term::of(&a), Term::of(&b));
            let bounds = (state.most(y, x), state.most(x, y));
            let mut difference = Value::number(num);
            if let (true, (Some(below), Some(above))) = (apart, bounds)
                && let Some(near) = below.checked_neg().filter(|low| *low <= above)
                && let Some(both) = num.meet(&Num::between(near..=above))
            {
                difference.num = both;
            }
            // The end of the packet less something is a number that the packet's size is known by.
            if let (Name::Identity(id, delta), Some(less)) = (a.name(), b.num.constant())
                && let Some(delta) = delta.checked_sub(less.cast_signed())
                && apart
            {
                (difference.id, difference.delta) = (id, delta);
            }
            state.set(dst, difference);
            return Ok(());
        }
        has_distance(&a, dst)?;
        if b.as_constant() == Some(0) && src.is_none() {
            return Ok(());
        }
        if let Some(reason) = rules::arithmetic(a.nullable) {
            return refuse_by(reason, dst);
        }
        let distance = difference((dst, a), (src, b), state, ids);
        state.set(
            dst,
            Value {
                kind: a.kind,
                ..distance
            },
        );
        Ok(())
    }
}

/// An arithmetic operation on two numbers.
fn calculate(
    size: WordSize,
    op: AluOp,
    (dst, a): (Reg, Value),
    (src, b): (Option<Reg>, Value),
    state: &mut State,
    ids: &mut Ids,
) -> Value {
    let num = num::alu(size, op, &a.num, &b.num);
    if num.constant().is_some() {
        return Value::number(num);
    }
    // A result of 32 bits is that of the whole numbers if these are short, and so is their result.
    let exact = size == WordSize::W64 || a.num.is_short() && (b.num.is_short() || src.is_none());
    match op {
        AluOp::Add | AluOp::Sub if exact => {
            let result = if op == AluOp::Add {
                sum_of((dst, a), (src, b), state, ids)
            } else {
                difference((dst, a), (src, b), state, ids)
            };
            // Unless 32 bits were not enough.
            if size == WordSize::W64 || result.num.is_short() {
                return Value {
                    num: result.num.meet(&num).unwrap_or(num),
                    ..result
                };
            }
            Value::number(num)
        }
        // Results that are not above an operand.
        AluOp::And | AluOp::Rsh | AluOp::Div | AluOp::Mod if exact => {
            let mut result = Value::number(num);
            shrunk(op, (dst, a), (src, b), &mut result, state, ids);
            result
        }
        _ => Value::number(num),
    }
}

/// Relates a result to an operand that it is not above, or is below.
fn shrunk(
    op: AluOp,
    (dst, a): (Reg, Value),
    (src, b): (Option<Reg>, Value),
    result: &mut Value,
    state: &mut State,
    ids: &mut Ids,
) {
    let positive = |value: &Value| value.num.signed().0 >= 0;
    let below_a = match op {
        AluOp::And => positive(&a).then_some(0),
        AluOp::Mod => positive(&a).then_some(0),
        // Half of a number that is not 0 is less than it.
        AluOp::Rsh => {
            (positive(&a)).then(|| i64::from(a.num.signed().0 > 0 && b.num.unsigned().0 > 0 && b.num.unsigned().1 < 32))
        }
        AluOp::Div => (positive(&a)).then(|| i64::from(a.num.signed().0 > 0 && b.num.unsigned().0 > 1)),
        _ => None,
    };
    let below_b = match op {
        AluOp::And => positive(&b).then_some(0),
        AluOp::Mod => (b.num.signed().0 > 0).then_some(1),
        _ => None,
    };
    // What is only known of constants is in the range.
    let wanted = |value: &Value| value.num.constant().is_none();
    let mut relate = |register: Option<Reg>, value: &Value, below: Option<i64>| {
        let (Some(register), Some(below), true) = (register, below, wanted(value)) else {
            return;
        };
        let operand = state.copy(register, ids);
        identify(result, ids);
        state.relate(result.name(), operand.name(), -below);
    };
    relate(src, &b, below_b);
    relate(Some(dst), &a, below_a);
}

/// The sum of two registers, or of one and a constant.
fn sum_of((dst, a): (Reg, Value), (src, b): (Option<Reg>, Value), state: &mut State, ids: &mut Ids) -> Value {
    let Some(src) = src else {
        let a = if a.num.constant().is_some() {
            a
        } else {
            state.copy(dst, ids)
        };
        return sum(a, b, state, ids);
    };
    let (a, b) = (state.copy(dst, ids), state.copy(src, ids));
    sum(a, b, state, ids)
}

/// The sum of two numbers, as exact ones where no name is lost: what is related to the sum knows it by that.
fn sum(a: Value, b: Value, state: &mut State, ids: &mut Ids) -> Value {
    let num = num::alu(WordSize::W64, AluOp::Add, &a.num, &b.num);
    let plain = Value::number(num);
    if num.constant().is_some() {
        return plain;
    }
    let ((al, ah), (bl, bh)) = (a.num.signed(), b.num.signed());
    if al.checked_add(bl).is_none() || ah.checked_add(bh).is_none() {
        return plain;
    }
    let moved = |value: &Value, by: u64| {
        let delta = value.delta.checked_add(by.cast_signed())?;
        (value.id != NONE).then_some(Value {
            id: value.id,
            delta,
            ..plain
        })
    };
    if let Some(by) = b.num.constant() {
        return moved(&a, by).unwrap_or(plain);
    }
    if let Some(by) = a.num.constant() {
        return moved(&b, by).unwrap_or(plain);
    }
    apart(plain, &[(a, (bl, bh)), (b, (al, ah))], state, ids)
}

/// A difference that is a number, or a distance.
fn difference((dst, a): (Reg, Value), (src, b): (Option<Reg>, Value), state: &mut State, ids: &mut Ids) -> Value {
    let num = num::alu(WordSize::W64, AluOp::Sub, &a.num, &b.num);
    let plain = Value::number(num);
    let ((al, ah), (bl, bh)) = (a.num.signed(), b.num.signed());
    if num.constant().is_some() || al.checked_sub(bh).is_none() || ah.checked_sub(bl).is_none() {
        return plain;
    }
    let a = state.copy(dst, ids);
    if let Some(by) = b.num.constant() {
        return match a.delta.checked_sub(by.cast_signed()) {
            Some(delta) if a.id != NONE => Value {
                id: a.id,
                delta,
                ..plain
            },
            _ => plain,
        };
    }
    let b = src.map_or(b, |src| state.copy(src, ids));
    let mut result = match (bh.checked_neg(), bl.checked_neg()) {
        (Some(least), Some(most)) => apart(plain, &[(a, (least, most))], state, ids),
        _ => plain,
    };
    // What is known of the distance of two numbers is known of their difference.
    let (x, y) = (Term::of(&a), Term::of(&b));
    if let (Some(above), Some(below)) = (state.most(x, y), state.most(y, x))
        && let Some(least) = below.checked_neg().filter(|least| *least <= above)
        && let Some(both) = result.num.meet(&Num::between(least..=above))
    {
        result.num = both;
    }
    result
}

/// Names a value that is between two distances from others.
fn apart(value: Value, others: &[(Value, (i64, i64))], state: &mut State, ids: &mut Ids) -> Value {
    // Sums of numbers of which nothing is known tell nothing; and addresses are no numbers so far apart.
    const FAR: i64 = 1 << 32;
    let mut named = value;
    for (other, (least, most)) in others {
        if other.id == NONE || *least < -FAR || *most > FAR {
            continue;
        }
        identify(&mut named, ids);
        state.relate(named.name(), other.name(), *most);
        state.relate(other.name(), named.name(), -*least);
    }
    named
}

fn has_distance(pointer: &Value, register: Reg) -> Checked<()> {
    if pointer.kind.has_distance() {
        return Ok(());
    }
    let kind = public(pointer.kind.sort());
    refuse(Violation::PointerArithmetic { register, kind }, register)
}

/// A sum with a pointer.
fn add(dst: Reg, src: Operand, (a, b): (Value, Value), state: &mut State, ids: &mut Ids) -> Checked<()> {
    let src = as_register(src);
    let (pointer, number, register) = match (a.is_number(), src) {
        (false, Some(other)) if !b.is_number() => {
            return refuse_both(
                Violation::PointerSum {
                    registers: [dst, other],
                },
                [dst, other],
            );
        }
        (true, Some(src)) => (b, a, src),
        _ => (a, b, dst),
    };
    has_distance(&pointer, register)?;
    if number.as_constant() == Some(0) && src.is_none() {
        return Ok(());
    }
    if let Some(reason) = rules::arithmetic(pointer.nullable) {
        return refuse_by(reason, register);
    }
    // The sum of the numbers is that of the distances; a register's number gets an identity, so that tests of it are known to
    // be tests of the distance.
    let number = match (src, a.is_number()) {
        (Some(_), true) => state.copy(dst, ids),
        (Some(src), false) => state.copy(src, ids),
        (None, _) => number,
    };
    let distance = sum(pointer, number, state, ids);
    state.set(
        dst,
        Value {
            kind: pointer.kind,
            ..distance
        },
    );
    Ok(())
}
