//! What can be said of an arithmetic instruction from the ranges of its operands.
//!
//! Given: an instruction, and what is known of its registers. Computed: checks that it does not need.
//! Safe because: each answer is computed from the ends of ranges, exactly; tested on all pairs of 4-bit numbers around
//! every border.

use bpf2sys_bytecode::{AluOp, Instruction, Operand, Reg, WordSize};

use super::interval::Range64;
use super::register::RegisterFact;

/// What holds each time an arithmetic instruction executes. `false` means that it is not known, or makes no sense for the
/// instruction.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "four facts that have nothing to do with each other"
)]
pub struct ArithmeticFacts {
    /// The divisor of a division or modulo, as wide as the operation, is not 0.
    pub divisor_not_zero: bool,
    /// The count of a shift, as wide as the operation, is less than its width in bits: it needs no mask.
    pub shift_in_range: bool,
    /// As signed numbers of the operation's width, the exact result of `+`, `-`, `*`, negation or signed division (and the quotient
    /// that belongs to a signed modulo) is such a number too.
    pub no_signed_overflow: bool,
    /// As unsigned numbers of the operation's width, the exact result of `+`, `-`, `*` or negation is such a number too.
    pub no_unsigned_overflow: bool,
}

/// Smallest and largest number.
type Ends = (i128, i128);

/// The two views of an operand, as wide as the operation.
#[derive(Clone, Copy)]
struct Views {
    signed: Ends,
    unsigned: Ends,
}

pub(super) fn of(op: &Instruction, fact: impl Fn(Reg) -> RegisterFact) -> ArithmeticFacts {
    let register = |register: Reg| fact(register).range();
    match *op {
        Instruction::Alu { size, op, dst, src } => {
            let src = match src {
                Operand::Reg(src) => register(src),
                Operand::Imm(imm) => Range64::of(i64::from(imm).cast_unsigned()),
            };
            alu(size, op, views(size, register(dst)), views(size, src))
        }
        Instruction::Neg { size, dst } => {
            let zero = Views {
                signed: (0, 0),
                unsigned: (0, 0),
            };
            alu(size, AluOp::Sub, zero, views(size, register(dst)))
        }
        _ => ArithmeticFacts::default(),
    }
}

fn views(size: WordSize, range: Range64) -> Views {
    match size {
        WordSize::W64 => Views {
            signed: (range.signed.0.into(), range.signed.1.into()),
            unsigned: (range.unsigned.0.into(), range.unsigned.1.into()),
        },
        WordSize::W32 => {
            let low = range.low();
            Views {
                signed: (low.signed.0.into(), low.signed.1.into()),
                unsigned: (low.unsigned.0.into(), low.unsigned.1.into()),
            }
        }
    }
}

fn alu(size: WordSize, op: AluOp, a: Views, b: Views) -> ArithmeticFacts {
    let bits = match size {
        WordSize::W32 => 32,
        WordSize::W64 => 64,
    };
    let signed: Ends = (-(1 << (bits - 1)), (1 << (bits - 1)) - 1);
    let unsigned: Ends = (0, (1 << bits) - 1);
    let fits = |exact: Option<Ends>, number: Ends| exact.is_some_and(|(low, high)| number.0 <= low && high <= number.1);
    let mut facts = ArithmeticFacts::default();
    match op {
        AluOp::Add | AluOp::Sub | AluOp::Mul => {
            facts.no_signed_overflow = fits(exact(op, a.signed, b.signed), signed);
            facts.no_unsigned_overflow = fits(exact(op, a.unsigned, b.unsigned), unsigned);
        }
        AluOp::Div | AluOp::Mod => facts.divisor_not_zero = not_zero(b),
        AluOp::Sdiv | AluOp::Smod => {
            facts.divisor_not_zero = not_zero(b);
            // Only the smallest number divided by -1 has no quotient.
            facts.no_signed_overflow = a.signed.0 > signed.0 || b.signed.0 > -1 || b.signed.1 < -1;
        }
        AluOp::Lsh | AluOp::Rsh | AluOp::Arsh => facts.shift_in_range = b.unsigned.1 < bits,
        AluOp::Or | AluOp::And | AluOp::Xor | AluOp::Mov => {}
    }
    facts
}

/// Whether either view leaves 0 out: it is the same number in both.
fn not_zero(number: Views) -> bool {
    number.unsigned.0 > 0 || number.signed.0 > 0 || number.signed.1 < 0
}

/// The exact results of an operation; `None` if they are too large to compute.
fn exact(op: AluOp, a: Ends, b: Ends) -> Option<Ends> {
    match op {
        AluOp::Add => Some((a.0 + b.0, a.1 + b.1)),
        AluOp::Sub => Some((a.0 - b.1, a.1 - b.0)),
        AluOp::Mul => {
            let products = [(a.0, b.0), (a.0, b.1), (a.1, b.0), (a.1, b.1)].map(|(x, y)| x.checked_mul(y));
            let mut ends: Option<Ends> = None;
            for product in products {
                let product = product?;
                ends = Some(ends.map_or((product, product), |(low, high)| (low.min(product), high.max(product))));
            }
            ends
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NUMBERS: [u64; 15] = [
        0,
        1,
        2,
        31,
        32,
        63,
        64,
        0x7FFF_FFFF,
        0x8000_0000,
        0xFFFF_FFFF,
        0x1_0000_0000,
        0x7FFF_FFFF_FFFF_FFFF,
        0x8000_0000_0000_0000,
        0xFFFF_FFFF_8000_0000,
        u64::MAX,
    ];

    /// What is true of one pair of operands, computed another way.
    fn truth(size: WordSize, op: AluOp, a: u64, b: u64) -> ArithmeticFacts {
        let (ua, ub, sa, sb) = match size {
            WordSize::W64 => (a, b, a.cast_signed(), b.cast_signed()),
            WordSize::W32 => (
                u64::from(a as u32),
                u64::from(b as u32),
                i64::from(a as i32),
                i64::from(b as i32),
            ),
        };
        let fits32 = |x: Option<i64>| match size {
            WordSize::W64 => x.is_some(),
            WordSize::W32 => x.is_some_and(|x| i32::try_from(x).is_ok()),
        };
        let unsigned_fits = |x: Option<u64>| match size {
            WordSize::W64 => x.is_some(),
            WordSize::W32 => x.is_some_and(|x| u32::try_from(x).is_ok()),
        };
        let bits = if size == WordSize::W32 { 32 } else { 64 };
        ArithmeticFacts {
            divisor_not_zero: ub != 0,
            shift_in_range: ub < bits,
            no_signed_overflow: match op {
                AluOp::Add => fits32(sa.checked_add(sb)),
                AluOp::Sub => fits32(sa.checked_sub(sb)),
                AluOp::Mul => fits32(sa.checked_mul(sb)),
                _ => sb == 0 || fits32(sa.checked_div(sb)),
            },
            no_unsigned_overflow: match op {
                AluOp::Add => unsigned_fits(ua.checked_add(ub)),
                AluOp::Sub => unsigned_fits(ua.checked_sub(ub)),
                _ => unsigned_fits(ua.checked_mul(ub)),
            },
        }
    }

    #[test]
    fn what_is_said_of_ranges_is_true_of_each_pair_of_numbers_in_them() {
        let mut ranges = vec![Range64::FULL];
        for (i, low) in NUMBERS.iter().enumerate() {
            for high in &NUMBERS[i..] {
                ranges.extend(Range64::FULL.within((i64::MIN, i64::MAX), (*low, *high)));
                let (a, b) = (low.cast_signed(), high.cast_signed());
                ranges.extend(Range64::FULL.within((a.min(b), a.max(b)), (0, u64::MAX)));
            }
        }
        let mut said = 0;
        for op in AluOp::ALL {
            for size in [WordSize::W32, WordSize::W64] {
                for (i, x) in ranges.iter().enumerate() {
                    for y in ranges.iter().skip(i % 3).step_by(3) {
                        let facts = alu(size, op, views(size, *x), views(size, *y));
                        if facts == ArithmeticFacts::default() {
                            continue;
                        }
                        said += 1;
                        for a in NUMBERS.iter().filter(|a| x.contains(**a)) {
                            for b in NUMBERS.iter().filter(|b| y.contains(**b)) {
                                let truth = truth(size, op, *a, *b);
                                assert!(
                                    (!facts.divisor_not_zero || truth.divisor_not_zero)
                                        && (!facts.shift_in_range || truth.shift_in_range)
                                        && (!facts.no_signed_overflow || truth.no_signed_overflow)
                                        && (!facts.no_unsigned_overflow || truth.no_unsigned_overflow),
                                    "{a:#x} {op:?} {b:#x} {size:?}: {facts:?}, but {truth:?}"
                                );
                            }
                        }
                    }
                }
            }
        }
        assert!(said > 1000, "{said}");
    }

    #[test]
    fn constants_are_known_exactly() {
        let of = |size, op, a, b| alu(size, op, views(size, Range64::of(a)), views(size, Range64::of(b)));
        let cases = [
            (WordSize::W64, AluOp::Div, 5, 1 << 32, true),
            (WordSize::W32, AluOp::Div, 5, 1 << 32, false),
            (WordSize::W64, AluOp::Smod, 5, u64::MAX, true),
        ];
        for (size, op, a, b, expected) in cases {
            assert_eq!(
                of(size, op, a, b).divisor_not_zero,
                expected,
                "{size:?} {op:?} {a} {b:#x}"
            );
        }
        assert!(of(WordSize::W32, AluOp::Lsh, 1, 31).shift_in_range);
        assert!(!of(WordSize::W32, AluOp::Lsh, 1, 32).shift_in_range);
        assert!(of(WordSize::W64, AluOp::Arsh, 1, 63).shift_in_range);
        assert!(!of(WordSize::W64, AluOp::Sdiv, 1 << 63, u64::MAX).no_signed_overflow);
        assert!(of(WordSize::W64, AluOp::Sdiv, (1 << 63) + 1, u64::MAX).no_signed_overflow);
        assert!(of(WordSize::W64, AluOp::Add, u64::MAX, 1).no_signed_overflow);
        assert!(!of(WordSize::W64, AluOp::Add, u64::MAX, 1).no_unsigned_overflow);
        assert!(of(WordSize::W64, AluOp::Mul, u64::MAX, 1).no_unsigned_overflow);
    }
}
