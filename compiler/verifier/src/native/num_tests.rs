//! Sets hold what the operations give on their members.

use std::collections::BTreeSet;

use super::*;

/// A generator of numbers, the same in every run (splitmix64).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }

    /// Numbers near the borders of every width, and some others.
    fn number(&mut self) -> u64 {
        let near = self.below(5).wrapping_sub(2);
        match self.below(12) {
            0 => near,
            1 => 0x7FFF_FFFF_u64.wrapping_add(near),
            2 => 0xFFFF_FFFF_u64.wrapping_add(near),
            3 => (1_u64 << 63).wrapping_add(near),
            4 => (1_u64 << self.below(64)).wrapping_add(near),
            5 => self.below(70),
            6 => self.below(70).wrapping_neg(),
            7 => self.next() & LOW,
            8 => i64::from(self.next() as i32).cast_unsigned(),
            9 => self.below(0x1_0000),
            10 => 0xFFFF_FFFF_8000_0000_u64.wrapping_add(near),
            _ => self.next(),
        }
    }

    /// A set with some of its members.
    fn set(&mut self) -> (Num, Vec<u64>) {
        let first = self.number();
        let mut members = vec![first];
        let mut set = Num::of(first);
        for _ in 0..self.below(4) {
            let next = match self.below(3) {
                0 => self.number(),
                1 => first.wrapping_add(self.below(20)),
                _ => first ^ (1 << self.below(64)),
            };
            members.push(next);
            set = set.join(&Num::of(next));
        }
        match self.below(4) {
            0 => {
                let (low, high) = set.unsigned();
                set = Num::within(low..=high);
            }
            1 => {
                let (low, high) = set.signed();
                set = Num::between(low..=high);
            }
            _ => {}
        }
        // Ends of the ranges are members more often than not.
        let (unsigned, signed) = (set.unsigned(), set.signed());
        for end in [
            unsigned.0,
            unsigned.1,
            signed.0.cast_unsigned(),
            signed.1.cast_unsigned(),
        ] {
            if has(&set, end) {
                members.push(end);
            }
        }
        (set, members)
    }
}

fn has(set: &Num, value: u64) -> bool {
    let of = Num::of(value);
    set.covers(&of)
}

const SIZES: [WordSize; 2] = [WordSize::W32, WordSize::W64];

#[test]
fn operations_give_sets_with_all_results() {
    let mut random = Random(1);
    for _ in 0..60_000 {
        let ((a, xs), (b, ys)) = (random.set(), random.set());
        for size in SIZES {
            for op in AluOp::ALL {
                let result = alu(size, op, &a, &b);
                for x in &xs {
                    for y in &ys {
                        let exact = compute(size, op, *x, *y);
                        assert!(
                            has(&result, exact),
                            "{size:?} {op:?} {x:#x} {y:#x}: {exact:#x} is not in {result:#x?} of {a:#x?} and {b:#x?}"
                        );
                    }
                }
            }
        }
    }
}

#[test]
fn changes_of_one_number_give_sets_with_all_results() {
    let mut random = Random(2);
    for _ in 0..40_000 {
        let (a, xs) = random.set();
        for x in xs {
            for size in SIZES {
                assert!(has(&negated(size, &a), compute(size, AluOp::Sub, 0, x)));
                for (from, bits) in [(Extension::S8, 8), (Extension::S16, 16), (Extension::S32, 32)] {
                    let shift = 64 - bits;
                    let wide = ((x << shift).cast_signed() >> shift).cast_unsigned();
                    let exact = if size == WordSize::W32 { wide & LOW } else { wide };
                    let found = sign_extended(size, from, &a);
                    assert!(has(&found, exact), "{from:?} {x:#x}: {found:#x?} of {a:#x?}");
                }
            }
            for (width, exact, cut) in [
                (SwapWidth::W16, u64::from((x as u16).swap_bytes()), x & 0xFFFF),
                (SwapWidth::W32, u64::from((x as u32).swap_bytes()), x & LOW),
                (SwapWidth::W64, x.swap_bytes(), x),
            ] {
                assert!(has(&swapped(SwapKind::Swap, width, &a), exact));
                assert!(has(&swapped(SwapKind::ToBe, width, &a), exact));
                assert!(has(&swapped(SwapKind::ToLe, width, &a), cut));
            }
        }
    }
}

fn decide(size: WordSize, condition: Condition, a: u64, b: u64) -> bool {
    let (ua, ub) = (unsigned(size, a.cast_signed()), unsigned(size, b.cast_signed()));
    let (sa, sb) = (signed(size, a), signed(size, b));
    match condition {
        Condition::Eq => ua == ub,
        Condition::Ne => ua != ub,
        Condition::Gt => ua > ub,
        Condition::Ge => ua >= ub,
        Condition::Lt => ua < ub,
        Condition::Le => ua <= ub,
        Condition::Sgt => sa > sb,
        Condition::Sge => sa >= sb,
        Condition::Slt => sa < sb,
        Condition::Sle => sa <= sb,
        Condition::Set => ua & ub != 0,
    }
}

#[test]
fn comparisons_keep_all_members_for_which_they_hold() {
    let mut random = Random(3);
    for _ in 0..60_000 {
        let ((a, xs), (b, ys)) = (random.set(), random.set());
        for size in SIZES {
            for condition in Condition::ALL {
                for x in &xs {
                    for y in &ys {
                        let holds = decide(size, condition, *x, *y);
                        let kept = compared(size, condition, holds, &a, &b);
                        let kept = kept.is_some_and(|(a, b)| has(&a, *x) && has(&b, *y));
                        assert!(
                            kept,
                            "{size:?} {condition:?} {holds}: {x:#x} of {a:#x?}, {y:#x} of {b:#x?}"
                        );
                    }
                }
            }
        }
    }
}

#[test]
fn joins_and_meets_hold_what_they_must() {
    let mut random = Random(4);
    for _ in 0..60_000 {
        let ((a, xs), (b, ys)) = (random.set(), random.set());
        let joined = a.join(&b);
        assert!(joined.covers(&a) && joined.covers(&b));
        for member in xs.iter().chain(&ys) {
            assert!(has(&joined, *member));
            if has(&a, *member) && has(&b, *member) {
                assert!(a.meet(&b).is_some_and(|both| has(&both, *member)));
            }
        }
    }
}

/// What ranges alone would not tell.
#[test]
fn sets_are_as_small_as_programs_need() {
    let any = Num::ANY;
    let below = |n: &Num, end: u64| {
        compared(WordSize::W64, Condition::Lt, true, n, &Num::of(end))
            .unwrap()
            .0
    };
    let and = |n: &Num, mask: u64| alu(WordSize::W64, AluOp::And, n, &Num::of(mask));
    assert_eq!(and(&any, 0x3C).unsigned(), (0, 0x3C));
    assert_eq!(alu(WordSize::W64, AluOp::Mod, &any, &Num::of(10)).unsigned(), (0, 9));
    // A comparison of the low half, and the zero extension behind it.
    let short = compared(WordSize::W32, Condition::Lt, true, &any, &Num::of(10))
        .unwrap()
        .0;
    assert_eq!(short.zero_extended().unsigned(), (0, 9));
    let up = alu(WordSize::W64, AluOp::Lsh, &short, &Num::of(32));
    assert_eq!(alu(WordSize::W64, AluOp::Rsh, &up, &Num::of(32)).unsigned(), (0, 9));
    let signed = compared(WordSize::W32, Condition::Sgt, true, &any, &Num::of(u64::MAX))
        .unwrap()
        .0;
    let up = alu(WordSize::W64, AluOp::Lsh, &signed, &Num::of(32));
    assert_eq!(
        alu(WordSize::W64, AluOp::Arsh, &up, &Num::of(32)).signed(),
        (0, i32::MAX.into())
    );
    // Bits that a test has told.
    let even = compared(WordSize::W64, Condition::Set, false, &below(&any, 8), &Num::of(1))
        .unwrap()
        .0;
    assert_eq!(even.unsigned(), (0, 6));
    assert_eq!(alu(WordSize::W64, AluOp::Mul, &even, &Num::of(4)).unsigned(), (0, 24));
    // Ends move where a number is left out.
    let zero = compared(WordSize::W64, Condition::Ne, true, &below(&any, 3), &Num::of(0))
        .unwrap()
        .0;
    assert_eq!(zero.unsigned(), (1, 2));
    assert_eq!(compared(WordSize::W64, Condition::Gt, true, &zero, &Num::of(2)), None);
    let all: BTreeSet<u64> = (0..8).filter(|n| has(&even, *n)).collect();
    assert_eq!(all, BTreeSet::from([0, 2, 4, 6]));
}

#[test]
fn widened_ends_come_to_the_next_threshold_at_once() {
    let thresholds = [i64::MIN, 0, 1_000, i64::MAX];
    let grown = |old: Num, new: Num| {
        let both = old.join(&new);
        let widened = both.widened(&old, &thresholds);
        assert!(widened.covers(&both), "{widened:?} {both:?}");
        widened
    };
    // No known bit holds the range back.
    assert_eq!(
        grown(Num::within(65..=66), Num::within(66..=67)).unsigned(),
        (65, 1_000)
    );
    assert!(grown(Num::within(900..=990), Num::within(900..=1_023)).unsigned().1 > 1 << 60);
    assert_eq!(grown(Num::between(3..=4), Num::between(2..=3)).signed(), (0, 4));
    assert_eq!(
        grown(Num::between(-4..=4), Num::between(-5..=4)).signed(),
        (i64::MIN, 4)
    );
    // Steps of four stay steps of four.
    let fours = grown(Num::of(8), Num::of(12));
    let more = grown(fours, alu(WordSize::W64, AluOp::Add, &fours, &Num::of(4)));
    assert!(more.covers(&Num::of(996)) && !more.covers(&Num::of(998)), "{more:?}");
    // What has not grown stays as it is.
    let all = Num::within(0..=255);
    assert_eq!(grown(all, Num::of(7)), all);
}

/// What sets cover is judged by their members; what ranges allow, bits may still forbid.
#[test]
fn a_set_covers_no_set_with_other_members() {
    let mut random = Random(5);
    for _ in 0..60_000 {
        let ((a, _), (b, ys)) = (random.set(), random.set());
        for part in [a.join(&b), a, Num::of(b.unsigned().0)] {
            if part.covers(&b) {
                assert!(ys.iter().all(|y| has(&part, *y)), "{part:#x?} covers {b:#x?}");
            }
        }
    }
    let six = Num::within(0..=6);
    let even = compared(WordSize::W64, Condition::Set, false, &six, &Num::of(1))
        .unwrap()
        .0;
    assert_eq!(even.unsigned(), six.unsigned());
    assert!(six.covers(&even) && !even.covers(&six));
}

/// By hand, after RFC 9669: the other tests take these as the truth.
#[test]
fn constants_are_computed_as_the_standard_says() {
    let minus = |n: u64| n.wrapping_neg();
    let least = 1_u64 << 63;
    for (op, a, b, wide, short) in [
        (AluOp::Div, 7, 0, 0, 0),
        (AluOp::Mod, 7, 0, 7, 7),
        (AluOp::Mod, minus(7), 0, minus(7), minus(7) & LOW),
        (AluOp::Sdiv, 7, 0, 0, 0),
        (AluOp::Smod, minus(7), 0, minus(7), minus(7) & LOW),
        (AluOp::Div, minus(6), 2, minus(6) / 2, (minus(6) & LOW) / 2),
        (AluOp::Sdiv, minus(7), 2, minus(3), minus(3) & LOW),
        (AluOp::Smod, minus(7), 2, minus(1), minus(1) & LOW),
        (AluOp::Smod, 7, minus(2), 1, 1),
        (AluOp::Sdiv, least, minus(1), least, 0),
        (AluOp::Sdiv, 1 << 31, minus(1), minus(1 << 31), 1 << 31),
        (AluOp::Smod, least, minus(1), 0, 0),
        (AluOp::Lsh, 3, 65, 6, 6),
        (AluOp::Lsh, 3, 33, 3 << 33, 6),
        (AluOp::Rsh, minus(1), 36, minus(1) >> 36, LOW >> 4),
        (AluOp::Arsh, minus(8), 1, minus(4), minus(4) & LOW),
        (AluOp::Arsh, 0xFFFF_FFFF_7000_0000, 28, minus(9), 7),
        (AluOp::Sub, 0, 1, minus(1), LOW),
        (AluOp::Mul, LOW, LOW, LOW * LOW, 1),
    ] {
        assert_eq!(compute(WordSize::W64, op, a, b), wide, "{op:?} {a:#x} {b:#x}");
        assert_eq!(compute(WordSize::W32, op, a, b), short, "{op:?} {a:#x} {b:#x}, 32 bits");
    }
}
