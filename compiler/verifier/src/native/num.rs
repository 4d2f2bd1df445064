//! Sets of numbers: what the engine knows of a 64-bit value.
//!
//! A [`Num`] is the set of all 64-bit values that lie in a signed and an unsigned range, whose low half lies in a signed and an
//! unsigned range of 32 bits, and that have certain bits. Each view tightens the others ([`Num::settled`]).
//!
//! Each operation gives a set with every result that the operation can have on members of its operands: tested on random
//! sets with all kinds of members.

use std::ops::RangeInclusive;

use bpf2sys_bytecode::{AluOp, Condition, Extension, SwapKind, SwapWidth, WordSize};

/// Bits that all members have: those of `value`, where `unknown` has a 0. Where it has a 1, `value` has a 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Bits {
    pub value: u64,
    pub unknown: u64,
}

/// A set of 64-bit values, never empty.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Num {
    /// All 64 bits.
    pub wide: View,
    /// The low half.
    pub low: View,
    pub bits: Bits,
}

/// A range of numbers of some width, as signed and as unsigned ones: a member lies in both. All ends are included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct View {
    pub unsigned: (u64, u64),
    pub signed: (i64, i64),
}

const LOW: u64 = u32::MAX as u64;

/// All numbers of a width.
const fn full(size: WordSize) -> View {
    match size {
        WordSize::W64 => View {
            unsigned: (0, u64::MAX),
            signed: (i64::MIN, i64::MAX),
        },
        WordSize::W32 => View {
            unsigned: (0, LOW),
            signed: (i32::MIN as i64, i32::MAX as i64),
        },
    }
}

const fn width(size: WordSize) -> u32 {
    match size {
        WordSize::W64 => 64,
        WordSize::W32 => 32,
    }
}

/// A number of some width as an unsigned one.
const fn unsigned(size: WordSize, number: i64) -> u64 {
    match size {
        WordSize::W64 => number.cast_unsigned(),
        WordSize::W32 => number.cast_unsigned() & LOW,
    }
}

/// A number of some width as a signed one.
const fn signed(size: WordSize, number: u64) -> i64 {
    match size {
        WordSize::W64 => number.cast_signed(),
        WordSize::W32 => number as i32 as i64,
    }
}

impl View {
    fn of(size: WordSize, value: u64) -> View {
        let value = unsigned(size, value.cast_signed());
        let signed = signed(size, value);
        View {
            unsigned: (value, value),
            signed: (signed, signed),
        }
    }

    fn meet(self, other: View) -> View {
        let larger = |a: (u64, u64), b: (u64, u64)| (a.0.max(b.0), a.1.min(b.1));
        View {
            unsigned: larger(self.unsigned, other.unsigned),
            signed: (self.signed.0.max(other.signed.0), self.signed.1.min(other.signed.1)),
        }
    }

    fn join(self, other: View) -> View {
        View {
            unsigned: (
                self.unsigned.0.min(other.unsigned.0),
                self.unsigned.1.max(other.unsigned.1),
            ),
            signed: (self.signed.0.min(other.signed.0), self.signed.1.max(other.signed.1)),
        }
    }

    fn is_empty(self) -> bool {
        self.unsigned.0 > self.unsigned.1 || self.signed.0 > self.signed.1
    }

    fn covers(self, other: View) -> bool {
        self.unsigned.0 <= other.unsigned.0
            && other.unsigned.1 <= self.unsigned.1
            && self.signed.0 <= other.signed.0
            && other.signed.1 <= self.signed.1
    }

    /// What each range says of the other.
    fn settled(mut self, size: WordSize) -> View {
        if (self.signed.0 < 0) == (self.signed.1 < 0) {
            let ends = (unsigned(size, self.signed.0), unsigned(size, self.signed.1));
            self.unsigned = (self.unsigned.0.max(ends.0), self.unsigned.1.min(ends.1));
        }
        let ends = (signed(size, self.unsigned.0), signed(size, self.unsigned.1));
        if (ends.0 < 0) == (ends.1 < 0) {
            self.signed = (self.signed.0.max(ends.0), self.signed.1.min(ends.1));
        }
        self
    }

    /// From ends that may not be numbers of that width: what wraps around as a whole is moved, the rest is anything.
    fn wrapped(size: WordSize, unsigned: (i128, i128), signed: (i128, i128)) -> View {
        let all = full(size);
        let turn = 1_i128 << width(size);
        let fit = |(low, high): (i128, i128), least: i128, most: i128| {
            let rounds = (low - least).div_euclid(turn);
            let (low, high) = (low - rounds * turn, high - rounds * turn);
            (high <= most).then_some((low, high))
        };
        let unsigned = fit(unsigned, 0, all.unsigned.1.into());
        let signed = fit(signed, all.signed.0.into(), all.signed.1.into());
        View {
            unsigned: unsigned.map_or(all.unsigned, |(low, high)| (low as u64, high as u64)),
            signed: signed.map_or(all.signed, |(low, high)| (low as i64, high as i64)),
        }
    }

    fn unsigned_ends(self) -> (i128, i128) {
        (self.unsigned.0.into(), self.unsigned.1.into())
    }

    fn signed_ends(self) -> (i128, i128) {
        (self.signed.0.into(), self.signed.1.into())
    }

    fn constant(self) -> Option<u64> {
        (self.unsigned.0 == self.unsigned.1).then_some(self.unsigned.0)
    }
}

impl Bits {
    const UNKNOWN: Bits = Bits {
        value: 0,
        unknown: u64::MAX,
    };

    const fn of(value: u64) -> Bits {
        Bits { value, unknown: 0 }
    }

    /// The bits that all numbers between two have in common.
    fn between((low, high): (u64, u64)) -> Bits {
        let unknown = match (low ^ high).leading_zeros() {
            0 => u64::MAX,
            same => u64::MAX.checked_shr(same).unwrap_or(0),
        };
        Bits {
            value: low & !unknown,
            unknown,
        }
    }

    /// `None` if a bit would be 0 and 1.
    fn meet(self, other: Bits) -> Option<Bits> {
        let known = !(self.unknown | other.unknown);
        if (self.value ^ other.value) & known != 0 {
            return None;
        }
        Some(Bits {
            value: self.value | other.value,
            unknown: self.unknown & other.unknown,
        })
    }

    fn join(self, other: Bits) -> Bits {
        let unknown = self.unknown | other.unknown | (self.value ^ other.value);
        Bits {
            value: self.value & !unknown,
            unknown,
        }
    }

    fn covers(self, other: Bits) -> bool {
        other.unknown & !self.unknown == 0 && (self.value ^ other.value) & !self.unknown == 0
    }

    fn low(self) -> Bits {
        Bits {
            value: self.value & LOW,
            unknown: self.unknown & LOW,
        }
    }

    /// Bits that may be 1.
    fn most(self) -> u64 {
        self.value | self.unknown
    }

    /// Where the carries of every sum agree, the bits do.
    fn add(self, other: Bits) -> Bits {
        let least = self.value.wrapping_add(other.value);
        let most = self.most().wrapping_add(other.most());
        let unknown = (least ^ most) | self.unknown | other.unknown;
        Bits {
            value: least & !unknown,
            unknown,
        }
    }

    fn sub(self, other: Bits) -> Bits {
        let most = self.most().wrapping_sub(other.value);
        let least = self.value.wrapping_sub(other.most());
        let unknown = (least ^ most) | self.unknown | other.unknown;
        Bits {
            value: self.value.wrapping_sub(other.value) & !unknown,
            unknown,
        }
    }

    /// A product has at least as many zeros at its end as its factors together.
    fn mul(self, other: Bits) -> Bits {
        let zeros = |bits: Bits| bits.most().trailing_zeros();
        match zeros(self) + zeros(other) {
            0 => Bits::UNKNOWN,
            count => Bits {
                value: 0,
                unknown: u64::MAX.checked_shl(count).unwrap_or(0),
            },
        }
    }

    fn and(self, other: Bits) -> Bits {
        let value = self.value & other.value;
        Bits {
            value,
            unknown: self.most() & other.most() & !value,
        }
    }

    fn or(self, other: Bits) -> Bits {
        let value = self.value | other.value;
        Bits {
            value,
            unknown: (self.unknown | other.unknown) & !value,
        }
    }

    fn xor(self, other: Bits) -> Bits {
        let unknown = self.unknown | other.unknown;
        Bits {
            value: (self.value ^ other.value) & !unknown,
            unknown,
        }
    }

    fn map(self, by: impl Fn(u64) -> u64) -> Bits {
        Bits {
            value: by(self.value),
            unknown: by(self.unknown),
        }
    }
}

impl Num {
    /// Every value.
    pub const ANY: Num = Num {
        wide: full(WordSize::W64),
        low: full(WordSize::W32),
        bits: Bits::UNKNOWN,
    };

    /// One value.
    pub fn of(value: u64) -> Num {
        Num {
            wide: View::of(WordSize::W64, value),
            low: View::of(WordSize::W32, value),
            bits: Bits::of(value),
        }
    }

    /// All unsigned numbers in a range.
    pub fn within(range: RangeInclusive<u64>) -> Num {
        Num {
            wide: View {
                unsigned: (*range.start(), *range.end()),
                ..full(WordSize::W64)
            },
            ..Num::ANY
        }
        .known()
    }

    /// All signed numbers in a range.
    pub fn between(range: RangeInclusive<i64>) -> Num {
        Num {
            wide: View {
                signed: (*range.start(), *range.end()),
                ..full(WordSize::W64)
            },
            ..Num::ANY
        }
        .known()
    }

    /// The one member.
    pub fn constant(&self) -> Option<u64> {
        self.wide.constant()
    }

    /// As signed numbers, the smallest and the largest.
    pub fn signed(&self) -> (i64, i64) {
        self.wide.signed
    }

    /// As unsigned numbers, the smallest and the largest.
    pub fn unsigned(&self) -> (u64, u64) {
        self.wide.unsigned
    }

    /// Whether all members are numbers of 32 bits, zero-extended.
    pub fn is_short(&self) -> bool {
        self.wide.unsigned.1 <= LOW
    }

    /// Whether every member of another set is one of this.
    pub fn covers(&self, other: &Num) -> bool {
        self.wide.covers(other.wide) && self.low.covers(other.low) && self.bits.covers(other.bits)
    }

    /// The smallest such set with both.
    #[must_use]
    pub fn join(&self, other: &Num) -> Num {
        Num {
            wide: self.wide.join(other.wide),
            low: self.low.join(other.low),
            bits: self.bits.join(other.bits),
        }
    }

    /// What is in both; `None` if nothing is.
    pub fn meet(&self, other: &Num) -> Option<Num> {
        Num {
            wide: self.wide.meet(other.wide),
            low: self.low.meet(other.low),
            bits: self.bits.meet(other.bits)?,
        }
        .settled()
    }

    /// Each view tightened by the others; `None` if there is no member.
    fn settled(mut self) -> Option<Num> {
        // What the second round finds is little, and a third one finds almost nothing.
        for _ in 0..2 {
            let before = self;
            self.wide = self.wide.settled(WordSize::W64);
            self.low = self.low.settled(WordSize::W32);
            if self.wide.is_empty() || self.low.is_empty() {
                return None;
            }
            self.bits = self.bits.meet(Bits::between(self.wide.unsigned))?;
            let half = Bits::between(self.low.unsigned);
            self.bits = self.bits.meet(Bits {
                value: half.value,
                unknown: half.unknown | !LOW,
            })?;
            let ends = |bits: Bits| (bits.value, bits.most());
            let narrow = |range: (u64, u64), bits: Bits| {
                let ends = ends(bits);
                (range.0.max(ends.0), range.1.min(ends.1))
            };
            self.wide.unsigned = narrow(self.wide.unsigned, self.bits);
            self.low.unsigned = narrow(self.low.unsigned, self.bits.low());
            let (low, high) = self.wide.unsigned;
            if low >> 32 == high >> 32 {
                let above = low & !LOW;
                let range = &mut self.low.unsigned;
                *range = (range.0.max(low & LOW), range.1.min(high & LOW));
                let range = *range;
                self.wide.unsigned = (low.max(above | range.0), high.min(above | range.1));
            }
            let (low, high) = self.wide.signed;
            if i64::from(low as i32) == low && i64::from(high as i32) == high {
                let range = &mut self.low.signed;
                *range = (range.0.max(low), range.1.min(high));
                self.wide.signed = *range;
            }
            if self == before {
                break;
            }
        }
        (!self.wide.is_empty() && !self.low.is_empty()).then_some(self)
    }

    /// The same for a set that has members, as it holds results of some operation.
    fn known(self) -> Num {
        self.settled().unwrap_or(Num::ANY)
    }

    /// The low half of members, zero-extended.
    #[must_use]
    pub fn zero_extended(&self) -> Num {
        if self.is_short() {
            return *self;
        }
        Num::short(self.low, self.bits)
    }

    /// A 32-bit result, zero-extended.
    fn short(low: View, bits: Bits) -> Num {
        Num {
            wide: View {
                unsigned: low.unsigned,
                ..full(WordSize::W64)
            },
            low,
            bits: bits.low(),
        }
        .known()
    }

    /// This set, as a part of a larger one that has grown to it: ends that have moved are moved on to the next threshold. Thresholds
    /// are ascending, the first and the last one are the smallest and the largest number.
    #[must_use]
    pub fn widened(&self, smaller: &Num, thresholds: &[i64]) -> Num {
        let below = |end: i64| thresholds[..thresholds.partition_point(|t| *t <= end)].last().copied();
        let above = |end: i64| thresholds.get(thresholds.partition_point(|t| *t < end)).copied();
        let widen = |size: WordSize, old: View, new: View| {
            let all = full(size);
            let mut wide = new;
            if new.signed.0 < old.signed.0 {
                wide.signed.0 = below(new.signed.0).unwrap_or(i64::MIN).max(all.signed.0);
            }
            if new.signed.1 > old.signed.1 {
                wide.signed.1 = above(new.signed.1).unwrap_or(i64::MAX).min(all.signed.1);
            }
            if new.unsigned.0 < old.unsigned.0 {
                let end = i64::try_from(new.unsigned.0).ok().and_then(below);
                wide.unsigned.0 = end.and_then(|end| u64::try_from(end).ok()).unwrap_or(0);
            }
            if new.unsigned.1 > old.unsigned.1 {
                let end = i64::try_from(new.unsigned.1)
                    .ok()
                    .and_then(above)
                    .filter(|end| *end != i64::MAX);
                let end = end.and_then(|end| u64::try_from(end).ok());
                wide.unsigned.1 = end.unwrap_or(u64::MAX).min(all.unsigned.1);
            }
            wide
        };
        let wide = widen(WordSize::W64, smaller.wide, self.wide);
        // Bits would hold a range back that has been moved on, and let it grow by one of them each time: from the lowest unknown one to
        // those of the new end they may be anything. Those below stay, so that steps of four stay known as such.
        let mut bits = self.bits;
        let came = if wide.unsigned.1 > self.wide.unsigned.1 {
            bits.unknown
        } else {
            bits.unknown & !smaller.bits.unknown
        };
        if came != 0 {
            let end = u64::MAX.checked_shr(wide.unsigned.1.leading_zeros()).unwrap_or(0);
            bits.unknown |= end & (u64::MAX << came.trailing_zeros());
            bits.value &= !bits.unknown;
        }
        Num {
            wide,
            low: widen(WordSize::W32, smaller.low, self.low),
            bits,
        }
        .known()
    }

    fn view(&self, size: WordSize) -> View {
        match size {
            WordSize::W64 => self.wide,
            WordSize::W32 => self.low,
        }
    }

    /// All members with a number added that makes none of them overflow, as signed numbers.
    #[must_use]
    pub fn moved(&self, by: i64) -> Num {
        if by == 0 {
            return *self;
        }
        alu(WordSize::W64, AluOp::Add, self, &Num::of(by.cast_unsigned()))
    }
}

/// The results of an arithmetic operation.
pub(super) fn alu(size: WordSize, op: AluOp, a: &Num, b: &Num) -> Num {
    if op == AluOp::Mov {
        return match size {
            WordSize::W64 => *b,
            WordSize::W32 => b.zero_extended(),
        };
    }
    if let (Some(x), Some(y)) = (a.view(size).constant(), b.view(size).constant()) {
        return Num::of(compute(size, op, x, y));
    }
    let (x, y) = (a.view(size), b.view(size));
    let bits = match op {
        AluOp::Add => a.bits.add(b.bits),
        AluOp::Sub => a.bits.sub(b.bits),
        AluOp::Mul => a.bits.mul(b.bits),
        AluOp::And => a.bits.and(b.bits),
        AluOp::Or => a.bits.or(b.bits),
        AluOp::Xor => a.bits.xor(b.bits),
        AluOp::Lsh | AluOp::Rsh | AluOp::Arsh => shifted_bits(size, op, a.bits, y),
        AluOp::Div | AluOp::Sdiv | AluOp::Mod | AluOp::Smod | AluOp::Mov => Bits::UNKNOWN,
    };
    let view = range(size, op, x, y);
    match size {
        WordSize::W32 => Num::short(view, bits),
        WordSize::W64 => {
            // The low half of these results is the result of the low halves.
            let low = match op {
                AluOp::Add | AluOp::Sub | AluOp::Mul | AluOp::And | AluOp::Or | AluOp::Xor => {
                    range(WordSize::W32, op, a.low, b.low)
                }
                _ => full(WordSize::W32),
            };
            let mut result = Num { wide: view, low, bits };
            if op == AluOp::Lsh && b.wide.constant().is_some_and(|count| count & 63 == 32) {
                // The range of the low half is that of the high half now.
                result.wide = result.wide.meet(View {
                    unsigned: (a.low.unsigned.0 << 32, a.low.unsigned.1 << 32),
                    signed: (a.low.signed.0 << 32, a.low.signed.1 << 32),
                });
            }
            result.known()
        }
    }
}

/// The result of an arithmetic operation on two numbers of its width (RFC 9669 §4.1).
pub(super) fn compute(size: WordSize, op: AluOp, a: u64, b: u64) -> u64 {
    let cut = |number: u64| unsigned(size, number.cast_signed());
    let (sa, sb) = (signed(size, a), signed(size, b));
    let count = (b & u64::from(width(size) - 1)) as u32;
    let result = match op {
        AluOp::Add => a.wrapping_add(b),
        AluOp::Sub => a.wrapping_sub(b),
        AluOp::Mul => a.wrapping_mul(b),
        AluOp::Div => cut(a).checked_div(cut(b)).unwrap_or(0),
        AluOp::Mod => cut(a).checked_rem(cut(b)).unwrap_or(a),
        AluOp::Sdiv if sb == 0 => 0,
        AluOp::Sdiv => sa.wrapping_div(sb).cast_unsigned(),
        AluOp::Smod if sb == 0 => a,
        AluOp::Smod => sa.wrapping_rem(sb).cast_unsigned(),
        AluOp::Or => a | b,
        AluOp::And => a & b,
        AluOp::Xor => a ^ b,
        AluOp::Mov => b,
        AluOp::Lsh => a << count,
        AluOp::Rsh => cut(a) >> count,
        AluOp::Arsh => (sa >> count).cast_unsigned(),
    };
    cut(result)
}

/// The counts of a shift.
fn counts(size: WordSize, count: View) -> (u32, u32) {
    let most = width(size) - 1;
    let (low, high) = count.unsigned;
    if high <= u64::from(most) {
        (low as u32, high as u32)
    } else if low == high {
        let masked = (low & u64::from(most)) as u32;
        (masked, masked)
    } else {
        (0, most)
    }
}

fn shifted_bits(size: WordSize, op: AluOp, bits: Bits, count: View) -> Bits {
    let (low, high) = counts(size, count);
    if low != high {
        return Bits::UNKNOWN;
    }
    match (op, size) {
        (AluOp::Lsh, _) => bits.map(|b| b << low),
        (AluOp::Rsh, WordSize::W64) => bits.map(|b| b >> low),
        (AluOp::Rsh, WordSize::W32) => bits.low().map(|b| b >> low),
        // An unknown sign is copied as unknown.
        (_, WordSize::W64) => bits.map(|b| (b.cast_signed() >> low).cast_unsigned()),
        (_, WordSize::W32) => bits.map(|b| unsigned(size, i64::from(b as i32 >> low))),
    }
}

/// The results as ranges.
fn range(size: WordSize, op: AluOp, a: View, b: View) -> View {
    let all = full(size);
    let (ua, ub) = (a.unsigned_ends(), b.unsigned_ends());
    let (sa, sb) = (a.signed_ends(), b.signed_ends());
    let only_unsigned = |unsigned: (u64, u64)| View { unsigned, ..all };
    let only_signed = |signed: (i64, i64)| View { signed, ..all };
    match op {
        AluOp::Add => View::wrapped(size, (ua.0 + ub.0, ua.1 + ub.1), (sa.0 + sb.0, sa.1 + sb.1)),
        AluOp::Sub => View::wrapped(size, (ua.0 - ub.1, ua.1 - ub.0), (sa.0 - sb.1, sa.1 - sb.0)),
        AluOp::Mul => {
            let corners = [sa.0 * sb.0, sa.0 * sb.1, sa.1 * sb.0, sa.1 * sb.1];
            let signed = corners
                .iter()
                .fold((i128::MAX, i128::MIN), |(low, high), c| (low.min(*c), high.max(*c)));
            // A product of two unsigned 64-bit numbers does not fit, but then it is no number of that width either.
            let high = ua.1.checked_mul(ub.1).unwrap_or(i128::MAX);
            let unsigned = if high > all.unsigned.1.into() {
                (0, all.unsigned.1.into())
            } else {
                (ua.0 * ub.0, high)
            };
            let signed = if signed.0 < all.signed.0.into() || signed.1 > all.signed.1.into() {
                (all.signed.0.into(), all.signed.1.into())
            } else {
                signed
            };
            View::wrapped(size, unsigned, signed)
        }
        AluOp::Div => {
            let low = if b.unsigned.0 == 0 {
                0
            } else {
                a.unsigned.0 / b.unsigned.1
            };
            only_unsigned((low, a.unsigned.1 / b.unsigned.0.max(1)))
        }
        AluOp::Mod => {
            // A remainder by zero is the dividend.
            let below = match b.unsigned {
                (0, 0) => a.unsigned.1,
                (0, _) => a.unsigned.1,
                (_, most) => a.unsigned.1.min(most - 1),
            };
            if b.unsigned.0 > a.unsigned.1 {
                return a;
            }
            only_unsigned((0, below))
        }
        AluOp::Sdiv => {
            if a.signed.0 == all.signed.0 && (b.signed.0..=b.signed.1).contains(&-1) {
                return all;
            }
            // The quotient is largest for the divisors next to zero, and smallest for those far from it.
            let divisors = [b.signed.0, b.signed.1, -1, 1];
            let ends = divisors
                .into_iter()
                .filter(|d| *d != 0 && (b.signed.0..=b.signed.1).contains(d));
            let mut quotients = (i64::MAX, i64::MIN);
            for divisor in ends {
                for dividend in [a.signed.0, a.signed.1] {
                    let quotient = dividend / divisor;
                    quotients = (quotients.0.min(quotient), quotients.1.max(quotient));
                }
            }
            if (b.signed.0..=b.signed.1).contains(&0) {
                quotients = (quotients.0.min(0), quotients.1.max(0));
            }
            only_signed(quotients)
        }
        AluOp::Smod => {
            // The remainder has the sign of the dividend, and is not larger.
            let most = b.signed.0.unsigned_abs().max(b.signed.1.unsigned_abs());
            let by_zero = (b.signed.0..=b.signed.1).contains(&0);
            let less = if by_zero { u64::MAX } else { most - 1 };
            let clamp = |end: i64| {
                if end < 0 {
                    i64::try_from(less).map_or(end, |less| end.max(-less))
                } else {
                    i64::try_from(less).map_or(end, |less| end.min(less))
                }
            };
            only_signed((clamp(a.signed.0.min(0)), clamp(a.signed.1.max(0))))
        }
        AluOp::And => View {
            unsigned: (0, a.unsigned.1.min(b.unsigned.1)),
            signed: match (a.signed.0 < 0, b.signed.0 < 0) {
                (false, false) => (0, a.signed.1.min(b.signed.1)),
                (false, true) => (0, a.signed.1),
                (true, false) => (0, b.signed.1),
                (true, true) => (all.signed.0, a.signed.1.max(b.signed.1).max(0)),
            },
        },
        AluOp::Or => View {
            unsigned: (a.unsigned.0.max(b.unsigned.0), all.unsigned.1),
            signed: match (a.signed.0 < 0, b.signed.0 < 0) {
                (false, false) => (a.signed.0.max(b.signed.0), all.signed.1),
                _ => (a.signed.0.min(b.signed.0), all.signed.1),
            },
        },
        AluOp::Xor => all,
        AluOp::Lsh => {
            let (low, high) = counts(size, b);
            let most = i128::from(a.unsigned.1) << high;
            let unsigned = (i128::from(a.unsigned.0) << low, most);
            if most > all.unsigned.1.into() {
                return all;
            }
            View::wrapped(size, unsigned, (all.signed.0.into(), all.signed.1.into()))
        }
        AluOp::Rsh => {
            let (low, high) = counts(size, b);
            only_unsigned((a.unsigned.0 >> high, a.unsigned.1 >> low))
        }
        AluOp::Arsh => {
            let (low, high) = counts(size, b);
            let corners = [
                a.signed.0 >> low,
                a.signed.0 >> high,
                a.signed.1 >> low,
                a.signed.1 >> high,
            ];
            only_signed((
                *corners.iter().min().unwrap_or(&all.signed.0),
                *corners.iter().max().unwrap_or(&all.signed.1),
            ))
        }
        AluOp::Mov => b,
    }
}

/// `-a`.
pub(super) fn negated(size: WordSize, a: &Num) -> Num {
    alu(size, AluOp::Sub, &Num::of(0), a)
}

/// A part of a number, sign-extended.
pub(super) fn sign_extended(size: WordSize, from: Extension, a: &Num) -> Num {
    let count = match from {
        Extension::S8 => 8,
        Extension::S16 => 16,
        Extension::S32 => 32,
    };
    let limit = 1_i64 << (count - 1);
    if size == WordSize::W64 && a.signed().0 >= -limit && a.signed().1 < limit {
        return *a;
    }
    let part = low_part(a, count);
    let bits = part.bits.map(|b| {
        let shift = 64 - count;
        ((b << shift).cast_signed() >> shift).cast_unsigned()
    });
    let (low, high) = if count == 32 { a.low.signed } else { part.wide.signed };
    let signed = if low >= -limit && high < limit {
        (low, high)
    } else {
        (-limit, limit - 1)
    };
    let wide = Num {
        wide: View {
            signed,
            ..full(WordSize::W64)
        },
        low: full(WordSize::W32),
        bits,
    }
    .known();
    match size {
        WordSize::W64 => wide,
        WordSize::W32 => wide.zero_extended(),
    }
}

/// The low bits of a number, zero-extended, as far as ranges do not wrap around: a member whose low part is no member of
/// the range is in none.
pub(super) fn low_part(a: &Num, count: u32) -> Num {
    let mask = u64::MAX >> (64 - count);
    if a.unsigned().1 <= mask {
        return *a;
    }
    if count == 32 {
        return a.zero_extended();
    }
    alu(WordSize::W64, AluOp::And, a, &Num::of(mask))
}

/// A byte swap.
pub(super) fn swapped(kind: SwapKind, width: SwapWidth, a: &Num) -> Num {
    let count = match width {
        SwapWidth::W16 => 16,
        SwapWidth::W32 => 32,
        SwapWidth::W64 => 64,
    };
    let part = low_part(a, count);
    if kind == SwapKind::ToLe {
        return part;
    }
    let bits = part.bits.map(|b| b.swap_bytes() >> (64 - count));
    Num {
        bits: Bits {
            value: bits.value,
            unknown: bits.unknown,
        },
        ..Num::ANY
    }
    .known()
}

/// What is left of two numbers where a comparison of them holds, or where it does not: `None` if that cannot be.
pub(super) fn compared(size: WordSize, condition: Condition, holds: bool, a: &Num, b: &Num) -> Option<(Num, Num)> {
    let swap = |found: Option<(Num, Num)>| found.map(|(a, b)| (b, a));
    match (condition, holds) {
        (Condition::Eq, true) | (Condition::Ne, false) => equal(size, a, b),
        (Condition::Ne, true) | (Condition::Eq, false) => different(size, a, b),
        (Condition::Lt, true) | (Condition::Ge, false) => less(size, Order::Unsigned, true, a, b),
        (Condition::Le, true) | (Condition::Gt, false) => less(size, Order::Unsigned, false, a, b),
        (Condition::Gt, true) | (Condition::Le, false) => swap(less(size, Order::Unsigned, true, b, a)),
        (Condition::Ge, true) | (Condition::Lt, false) => swap(less(size, Order::Unsigned, false, b, a)),
        (Condition::Slt, true) | (Condition::Sge, false) => less(size, Order::Signed, true, a, b),
        (Condition::Sle, true) | (Condition::Sgt, false) => less(size, Order::Signed, false, a, b),
        (Condition::Sgt, true) | (Condition::Sle, false) => swap(less(size, Order::Signed, true, b, a)),
        (Condition::Sge, true) | (Condition::Slt, false) => swap(less(size, Order::Signed, false, b, a)),
        (Condition::Set, _) => tested(size, holds, a, b),
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Order {
    Signed,
    Unsigned,
}

impl Num {
    /// With another view of one width.
    fn with(&self, size: WordSize, view: View) -> Option<Num> {
        let mut changed = *self;
        match size {
            WordSize::W64 => changed.wide = view,
            WordSize::W32 => changed.low = view,
        }
        if changed == *self {
            return Some(changed);
        }
        changed.settled()
    }
}

fn equal(size: WordSize, a: &Num, b: &Num) -> Option<(Num, Num)> {
    if size == WordSize::W64 {
        let both = a.meet(b)?;
        return Some((both, both));
    }
    let low = a.low.meet(b.low);
    let bits = a.bits.low().meet(b.bits.low())?;
    let half = |n: &Num| {
        Num {
            low,
            bits: Bits {
                value: (n.bits.value & !LOW) | bits.value,
                unknown: (n.bits.unknown & !LOW) | bits.unknown,
            },
            ..*n
        }
        .settled()
    };
    Some((half(a)?, half(b)?))
}

fn different(size: WordSize, a: &Num, b: &Num) -> Option<(Num, Num)> {
    let without = |n: &Num, value: Option<u64>| -> Option<Num> {
        let Some(value) = value else { return Some(*n) };
        let mut view = n.view(size);
        let as_signed = signed(size, value);
        if view.unsigned == (value, value) {
            return None;
        }
        if view.unsigned.0 == value {
            view.unsigned.0 += 1;
        } else if view.unsigned.1 == value {
            view.unsigned.1 -= 1;
        }
        if view.signed.0 == as_signed {
            view.signed.0 += 1;
        } else if view.signed.1 == as_signed {
            view.signed.1 -= 1;
        }
        n.with(size, view)
    };
    let (x, y) = (a.view(size).constant(), b.view(size).constant());
    Some((without(a, y)?, without(b, x)?))
}

/// `a < b`, or `a <= b` if not `strict`.
fn less(size: WordSize, order: Order, strict: bool, a: &Num, b: &Num) -> Option<(Num, Num)> {
    let (mut x, mut y) = (a.view(size), b.view(size));
    match order {
        Order::Unsigned => {
            let one = u64::from(strict);
            x.unsigned.1 = x.unsigned.1.min(y.unsigned.1.checked_sub(one)?);
            y.unsigned.0 = y.unsigned.0.max(x.unsigned.0.checked_add(one)?);
        }
        Order::Signed => {
            let one = i64::from(strict);
            x.signed.1 = x.signed.1.min(y.signed.1.checked_sub(one)?);
            y.signed.0 = y.signed.0.max(x.signed.0.checked_add(one)?);
        }
    }
    if x.is_empty() || y.is_empty() {
        return None;
    }
    Some((a.with(size, x)?, b.with(size, y)?))
}

/// `a & b != 0`, or `== 0`.
fn tested(size: WordSize, holds: bool, a: &Num, b: &Num) -> Option<(Num, Num)> {
    let mask = unsigned(size, -1);
    let both = a.bits.and(b.bits);
    if holds {
        if both.most() & mask == 0 {
            return None;
        }
        let set = |n: &Num, other: Option<u64>| -> Option<Num> {
            match other {
                // One bit, which is set then.
                Some(bit) if (bit & mask).is_power_of_two() => {
                    let bits = n.bits.meet(Bits {
                        value: bit & mask,
                        unknown: !(bit & mask),
                    })?;
                    Num { bits, ..*n }.settled()
                }
                _ => Some(*n),
            }
        };
        return Some((set(a, b.constant())?, set(b, a.constant())?));
    }
    if both.value & mask != 0 {
        return None;
    }
    let clear = |n: &Num, other: &Num| -> Option<Num> {
        // What the other surely has, this has not.
        let zeros = other.bits.value & mask;
        let bits = n.bits.meet(Bits {
            value: 0,
            unknown: !zeros,
        })?;
        Num { bits, ..*n }.settled()
    };
    Some((clear(a, b)?, clear(b, a)?))
}

#[cfg(test)]
#[path = "num_tests.rs"]
mod tests;
