//! What a conditional jump tells about the registers that it compares.
//!
//! Given: what is known of them before the jump, and whether it is taken. Computed: what is known of them behind it.
//! Safe because: it is arithmetic on ranges that hold before the jump, with a comparison that has just been made; tested on
//! all ranges of small numbers.

use bpf2sys_bytecode::{Condition, Instruction, Operand, Reg, WordSize};

use super::interval::{Range32, Range64};
use super::register::{RegisterFact, RegisterKind};

/// What is known on one edge of a conditional jump of the registers that it compares.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EdgeFacts {
    /// Of the first operand.
    pub dst: (Reg, RegisterFact),
    /// Of the second, if it is a register.
    pub src: Option<(Reg, RegisterFact)>,
}

/// The facts behind a conditional jump; `None` if no execution takes this edge, or for another instruction.
pub(super) fn behind(jump: &Instruction, taken: bool, fact: impl Fn(Reg) -> RegisterFact) -> Option<EdgeFacts> {
    let Instruction::JumpIf {
        size,
        condition,
        dst,
        src,
        ..
    } = *jump
    else {
        return None;
    };
    let a = fact(dst);
    let (b, second) = match src {
        Operand::Reg(register) => (fact(register), Some(register)),
        Operand::Imm(imm) => (RegisterFact::number(Range64::of(i64::from(imm).cast_unsigned())), None),
    };
    let (a, b) = match (a.kind, b.kind) {
        (RegisterKind::Number, RegisterKind::Number) => {
            let (c, d) = match size {
                WordSize::W64 => compare64(condition, taken, a.range(), b.range())?,
                WordSize::W32 => compare32(condition, taken, a.range(), b.range())?,
            };
            (RegisterFact::number(c), RegisterFact::number(d))
        }
        _ => (against_null(size, condition, taken, a, &b), b),
    };
    Some(EdgeFacts {
        dst: (dst, a),
        src: second.map(|register| (register, b)),
    })
}

/// What a comparison of something that may be a pointer with 0 tells about it.
fn against_null(size: WordSize, condition: Condition, taken: bool, a: RegisterFact, b: &RegisterFact) -> RegisterFact {
    let equal = match condition {
        Condition::Eq => taken,
        Condition::Ne => !taken,
        _ => return a,
    };
    if size != WordSize::W64 || b.constant() != Some(0) {
        a
    } else if equal {
        RegisterFact::number(Range64::of(0))
    } else {
        RegisterFact { non_null: true, ..a }
    }
}

/// Ranges of two numbers, wide enough for all arithmetic on their ends.
#[derive(Clone, Copy)]
struct Ends {
    signed: (i128, i128),
    unsigned: (i128, i128),
}

fn compare64(condition: Condition, holds: bool, a: Range64, b: Range64) -> Option<(Range64, Range64)> {
    let ends = |r: Range64| Ends {
        signed: (r.signed.0.into(), r.signed.1.into()),
        unsigned: (r.unsigned.0.into(), r.unsigned.1.into()),
    };
    let (x, y) = compare(condition, holds, ends(a), ends(b))?;
    // Ends only move inwards.
    let back = |r: Range64, e: Ends| {
        let signed = (e.signed.0 as i64, e.signed.1 as i64);
        r.within(signed, (e.unsigned.0 as u64, e.unsigned.1 as u64))
    };
    Some((back(a, x)?, back(b, y)?))
}

/// A comparison of low halves tells about the whole of a number that has zeros above.
fn compare32(condition: Condition, holds: bool, a: Range64, b: Range64) -> Option<(Range64, Range64)> {
    let (low_a, low_b) = (a.low(), b.low());
    let ends = |r: Range32| Ends {
        signed: (r.signed.0.into(), r.signed.1.into()),
        unsigned: (r.unsigned.0.into(), r.unsigned.1.into()),
    };
    let (x, y) = compare(condition, holds, ends(low_a), ends(low_b))?;
    let back = |whole: Range64, r: Range32, e: Ends| {
        let signed = (e.signed.0 as i32, e.signed.1 as i32);
        let low = r.within(signed, (e.unsigned.0 as u32, e.unsigned.1 as u32))?;
        if whole.unsigned.1 > u64::from(u32::MAX) {
            return Some(whole);
        }
        let extended = low.zero_extended();
        whole.within(extended.signed, extended.unsigned)
    };
    Some((back(a, low_a, x)?, back(b, low_b, y)?))
}

/// The ranges for which a comparison can give this result; `None` if no numbers in them do.
fn compare(condition: Condition, holds: bool, a: Ends, b: Ends) -> Option<(Ends, Ends)> {
    use Condition::{Eq, Ge, Gt, Le, Lt, Ne, Set, Sge, Sgt, Sle, Slt};
    let condition = match (holds, condition) {
        (true, condition) => condition,
        (false, Eq) => Ne,
        (false, Ne) => Eq,
        (false, Gt) => Le,
        (false, Le) => Gt,
        (false, Ge) => Lt,
        (false, Lt) => Ge,
        (false, Sgt) => Sle,
        (false, Sle) => Sgt,
        (false, Sge) => Slt,
        (false, Slt) => Sge,
        (false, Set) => return Some((a, b)),
    };
    let swap = |(a, b): (Ends, Ends)| (b, a);
    match condition {
        Eq => {
            let both = Ends {
                signed: meet(a.signed, b.signed)?,
                unsigned: meet(a.unsigned, b.unsigned)?,
            };
            Some((both, both))
        }
        Ne => {
            let (signed_a, signed_b) = differ(a.signed, b.signed)?;
            let (unsigned_a, unsigned_b) = differ(a.unsigned, b.unsigned)?;
            Some((
                Ends {
                    signed: signed_a,
                    unsigned: unsigned_a,
                },
                Ends {
                    signed: signed_b,
                    unsigned: unsigned_b,
                },
            ))
        }
        Lt => less(a.unsigned, b.unsigned, 1).map(|(x, y)| (Ends { unsigned: x, ..a }, Ends { unsigned: y, ..b })),
        Le => less(a.unsigned, b.unsigned, 0).map(|(x, y)| (Ends { unsigned: x, ..a }, Ends { unsigned: y, ..b })),
        Slt => less(a.signed, b.signed, 1).map(|(x, y)| (Ends { signed: x, ..a }, Ends { signed: y, ..b })),
        Sle => less(a.signed, b.signed, 0).map(|(x, y)| (Ends { signed: x, ..a }, Ends { signed: y, ..b })),
        Gt => compare(Lt, true, b, a).map(swap),
        Ge => compare(Le, true, b, a).map(swap),
        Sgt => compare(Slt, true, b, a).map(swap),
        Sge => compare(Sle, true, b, a).map(swap),
        // Neither can be 0.
        Set => compare(Ne, true, a, ZERO)
            .zip(compare(Ne, true, b, ZERO))
            .map(|((a, _), (b, _))| (a, b)),
    }
}

const ZERO: Ends = Ends {
    signed: (0, 0),
    unsigned: (0, 0),
};

fn meet(a: (i128, i128), b: (i128, i128)) -> Option<(i128, i128)> {
    let both = (a.0.max(b.0), a.1.min(b.1));
    (both.0 <= both.1).then_some(both)
}

/// `a + by <= b`
fn less(a: (i128, i128), b: (i128, i128), by: i128) -> Option<((i128, i128), (i128, i128))> {
    let (a, b) = ((a.0, a.1.min(b.1 - by)), (b.0.max(a.0 + by), b.1));
    (a.0 <= a.1 && b.0 <= b.1).then_some((a, b))
}

/// `a != b`: an end that is the other's only value goes.
fn differ(a: (i128, i128), b: (i128, i128)) -> Option<((i128, i128), (i128, i128))> {
    let without = |a: (i128, i128), b: (i128, i128)| {
        let one = b.0 == b.1;
        let low = a.0 + i128::from(one && a.0 == b.0);
        let high = a.1 - i128::from(one && a.1 == b.0);
        (low, high)
    };
    let (x, y) = (without(a, b), without(b, a));
    (x.0 <= x.1 && y.0 <= y.1).then_some((x, y))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tests::random::holds;

    /// Numbers around every border.
    const NUMBERS: [u64; 13] = [
        0,
        1,
        2,
        0x7FFF_FFFF,
        0x8000_0000,
        0xFFFF_FFFF,
        0x1_0000_0000,
        0x1_0000_0001,
        0x7FFF_FFFF_FFFF_FFFF,
        0x8000_0000_0000_0000,
        0xFFFF_FFFF_7FFF_FFFF,
        0xFFFF_FFFF_8000_0000,
        0xFFFF_FFFF_FFFF_FFFF,
    ];

    /// All ranges that end at these numbers, in either view.
    fn ranges() -> Vec<Range64> {
        let mut all = vec![Range64::FULL];
        for (i, low) in NUMBERS.iter().enumerate() {
            for high in &NUMBERS[i..] {
                all.extend(Range64::FULL.within((i64::MIN, i64::MAX), (*low, *high)));
                let (a, b) = (low.cast_signed(), high.cast_signed());
                all.extend(Range64::FULL.within((a.min(b), a.max(b)), (0, u64::MAX)));
            }
        }
        all
    }

    #[test]
    fn ranges_behind_a_comparison_contain_every_pair_of_numbers_that_gets_there() {
        let ranges = ranges();
        let mut narrowed = 0;
        for (i, a) in ranges.iter().enumerate() {
            // Every pair of ranges with every condition would take minutes.
            for b in ranges.iter().skip(i % 7).step_by(7) {
                for condition in Condition::ALL {
                    for size in [WordSize::W32, WordSize::W64] {
                        for taken in [true, false] {
                            let result = match size {
                                WordSize::W64 => compare64(condition, taken, *a, *b),
                                WordSize::W32 => compare32(condition, taken, *a, *b),
                            };
                            narrowed += usize::from(result != Some((*a, *b)));
                            for x in NUMBERS.iter().filter(|x| a.contains(**x)) {
                                for y in NUMBERS.iter().filter(|y| b.contains(**y)) {
                                    if holds(condition, size, *x, *y) == taken {
                                        let inside = result.is_some_and(|(c, d)| c.contains(*x) && d.contains(*y));
                                        assert!(inside, "{x:#x} {condition:?} {y:#x} {size:?} {taken}: {a:?} {b:?}");
                                    }
                                }
                            }
                        }
                    }
                }
            }
        }
        assert!(narrowed > 1000, "{narrowed}");
    }

    #[test]
    fn a_comparison_narrows_what_it_compares() {
        let jump = |size, condition, imm| Instruction::JumpIf {
            size,
            condition,
            dst: Reg::R1,
            src: Operand::Imm(imm),
            offset: 1,
        };
        let known = |jump: &Instruction, taken, fact| behind(jump, taken, |_| fact).map(|edge| edge.dst.1);
        let any = RegisterFact::number(Range64::FULL);
        let below = jump(WordSize::W64, Condition::Lt, 10);
        assert_eq!(known(&below, true, any).unwrap().unsigned, Some((0, 9)));
        assert_eq!(known(&below, false, any).unwrap().unsigned, Some((10, u64::MAX)));
        // Of 32 bits compared, the upper ones are still anything.
        assert_eq!(known(&jump(WordSize::W32, Condition::Lt, 10), true, any), Some(any));
        let word = RegisterFact::number(Range64::FULL.within((i64::MIN, i64::MAX), (0, 100)).unwrap());
        assert_eq!(
            known(&jump(WordSize::W32, Condition::Lt, 10), true, word)
                .unwrap()
                .unsigned,
            Some((0, 9))
        );
        assert_eq!(known(&jump(WordSize::W64, Condition::Gt, 100), true, word), None);

        let pointer = RegisterFact {
            kind: RegisterKind::MapValue,
            ..RegisterFact::default()
        };
        let null = jump(WordSize::W64, Condition::Eq, 0);
        assert_eq!(known(&null, true, pointer), Some(RegisterFact::number(Range64::of(0))));
        let not = known(&null, false, pointer).unwrap();
        assert_eq!((not.kind, not.non_null), (RegisterKind::MapValue, true));
        assert_eq!(
            known(&jump(WordSize::W32, Condition::Ne, 0), true, pointer),
            Some(pointer)
        );
    }
}
