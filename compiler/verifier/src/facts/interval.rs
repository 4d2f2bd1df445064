//! Ranges of numbers: what follows from them for parts of a number and for comparisons.

/// A range of signed 64-bit numbers, both ends included. `Default` is the full range.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Interval {
    /// Smallest value.
    pub min: i64,
    /// Largest value.
    pub max: i64,
}

impl Interval {
    /// The range of all numbers.
    pub const FULL: Interval = Interval {
        min: i64::MIN,
        max: i64::MAX,
    };

    /// The smallest range that contains both.
    #[must_use]
    pub fn join(self, other: Interval) -> Interval {
        Interval {
            min: self.min.min(other.min),
            max: self.max.max(other.max),
        }
    }
}

impl Default for Interval {
    fn default() -> Self {
        Interval::FULL
    }
}

/// A 64-bit value as a signed and as an unsigned number: it lies in both ranges. All ends are included, and neither range is
/// empty.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Range64 {
    /// As a signed number.
    pub signed: (i64, i64),
    /// As an unsigned number.
    pub unsigned: (u64, u64),
}

/// A 32-bit value as a signed and as an unsigned number: it lies in both ranges. All ends are included, and neither range is
/// empty.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Range32 {
    /// As a signed number.
    pub signed: (i32, i32),
    /// As an unsigned number.
    pub unsigned: (u32, u32),
}

/// Bits of a 64-bit value that are the same in every execution.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KnownBits {
    /// Bits that are 0.
    pub zeros: u64,
    /// Bits that are 1.
    pub ones: u64,
}

impl Range64 {
    /// Every value.
    pub const FULL: Range64 = Range64 {
        signed: (i64::MIN, i64::MAX),
        unsigned: (0, u64::MAX),
    };

    /// One value.
    pub fn of(value: u64) -> Range64 {
        Range64 {
            signed: (value.cast_signed(), value.cast_signed()),
            unsigned: (value, value),
        }
    }

    /// Whether this is the range of a value.
    pub fn contains(&self, value: u64) -> bool {
        (self.signed.0..=self.signed.1).contains(&value.cast_signed())
            && (self.unsigned.0..=self.unsigned.1).contains(&value)
    }

    /// The values that lie in these ranges too, each view tightened by the other; `None` if there are none.
    pub fn within(self, signed: (i64, i64), unsigned: (u64, u64)) -> Option<Range64> {
        let mut signed = (self.signed.0.max(signed.0), self.signed.1.min(signed.1));
        let mut unsigned = (self.unsigned.0.max(unsigned.0), self.unsigned.1.min(unsigned.1));
        // Each view bounds the other where it does not cross the other's wrap-around. What one learns from the other, the
        // other has no more to learn from.
        if (signed.0 < 0) == (signed.1 < 0) {
            let (low, high) = (signed.0.cast_unsigned(), signed.1.cast_unsigned());
            unsigned = (unsigned.0.max(low), unsigned.1.min(high));
        }
        if (unsigned.0 > i64::MAX as u64) == (unsigned.1 > i64::MAX as u64) {
            let (low, high) = (unsigned.0.cast_signed(), unsigned.1.cast_signed());
            signed = (signed.0.max(low), signed.1.min(high));
        }
        (signed.0 <= signed.1 && unsigned.0 <= unsigned.1).then_some(Range64 { signed, unsigned })
    }

    /// The low 32 bits.
    pub fn low(self) -> Range32 {
        let (low, high) = self.unsigned;
        let unsigned = if low >> 32 == high >> 32 {
            (low as u32, high as u32)
        } else {
            (0, u32::MAX)
        };
        let (low, high) = self.signed;
        // Numbers that lie within one stretch of 2^32 from a multiple of it, moved by half.
        let half = |value: i64| value.wrapping_add(1 << 31) >> 32;
        let signed =
            if low.checked_add(1 << 31).is_some() && high.checked_add(1 << 31).is_some() && half(low) == half(high) {
                (low as i32, high as i32)
            } else {
                (i32::MIN, i32::MAX)
            };
        let full = Range32 {
            signed: (i32::MIN, i32::MAX),
            unsigned: (0, u32::MAX),
        };
        full.within(signed, unsigned).unwrap_or(full)
    }

    /// The bits that all values have in common.
    pub fn bits(self) -> KnownBits {
        let (low, high) = self.unsigned;
        // Below the highest bit in which the ends differ, everything can be.
        let differing = low ^ high;
        let known = match differing.leading_zeros() {
            64 => u64::MAX,
            same => !(u64::MAX >> same),
        };
        KnownBits {
            zeros: !low & known,
            ones: low & known,
        }
    }
}

impl Range32 {
    /// The values that lie in these ranges too, each view tightened by the other; `None` if there are none.
    pub fn within(self, signed: (i32, i32), unsigned: (u32, u32)) -> Option<Range32> {
        let mut signed = (self.signed.0.max(signed.0), self.signed.1.min(signed.1));
        let mut unsigned = (self.unsigned.0.max(unsigned.0), self.unsigned.1.min(unsigned.1));
        if (signed.0 < 0) == (signed.1 < 0) {
            let (low, high) = (signed.0.cast_unsigned(), signed.1.cast_unsigned());
            unsigned = (unsigned.0.max(low), unsigned.1.min(high));
        }
        if (unsigned.0 > i32::MAX as u32) == (unsigned.1 > i32::MAX as u32) {
            let (low, high) = (unsigned.0.cast_signed(), unsigned.1.cast_signed());
            signed = (signed.0.max(low), signed.1.min(high));
        }
        (signed.0 <= signed.1 && unsigned.0 <= unsigned.1).then_some(Range32 { signed, unsigned })
    }

    /// The 64-bit number that has these low 32 bits and zeros above.
    pub fn zero_extended(self) -> Range64 {
        let unsigned = (u64::from(self.unsigned.0), u64::from(self.unsigned.1));
        Range64 {
            signed: (unsigned.0.cast_signed(), unsigned.1.cast_signed()),
            unsigned,
        }
    }
}
