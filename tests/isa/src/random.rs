//! The source of everything random: the same numbers for the same seed, on every machine and in every version.

/// A generator of pseudo-random numbers: `SplitMix64` (Steele, Lea, Flood, "Fast splittable pseudorandom number generators",
/// 2014).
#[derive(Clone, Debug)]
pub struct Random(u64);

/// The step of the generator's counter: 2^64 divided by the golden ratio, odd.
const STEP: u64 = 0x9E37_79B9_7F4A_7C15;

impl Random {
    /// The sequence of program `index` of a run with this `seed`. Any two differ.
    pub fn of(seed: u64, index: u64) -> Random {
        let mut seeds = Random(seed);
        Random(seeds.next() ^ index.wrapping_mul(STEP).rotate_left(32))
    }

    /// A number, uniformly.
    #[allow(clippy::should_implement_trait)] // it never ends
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(STEP);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    /// A number below `end`, which is not 0. (The bias of the remainder does not matter here.)
    pub fn below(&mut self, end: usize) -> usize {
        (self.next() % end as u64) as usize
    }

    /// A number from `low` to `high`, both included.
    pub fn between(&mut self, low: i32, high: i32) -> i32 {
        low + self.below((high - low + 1) as usize) as i32
    }

    /// True in `times` of `of` cases.
    pub fn chance(&mut self, times: usize, of: usize) -> bool {
        self.below(of) < times
    }

    /// One of the elements; there is at least one.
    pub fn one_of<T: Copy>(&mut self, all: &[T]) -> T {
        all[self.below(all.len())]
    }

    /// An element with the weight beside it; at least one weight is not 0.
    pub fn weighted<T: Copy>(&mut self, all: &[(T, usize)]) -> T {
        let mut left = self.below(all.iter().map(|(_, weight)| weight).sum());
        for &(item, weight) in all {
            if left < weight {
                return item;
            }
            left -= weight;
        }
        unreachable!("the number is below the sum of the weights")
    }

    /// A number at which operations behave differently than beside it, more often than not.
    pub fn number(&mut self) -> u64 {
        match self.below(10) {
            0 => 0,
            1 => u64::MAX,
            2 => self.one_of(&[i64::MIN, i64::MAX, i32::MIN.into(), i32::MAX.into()]) as u64,
            // The extremes of 32 bits below other upper halves.
            3 => self.next() << 32 | u64::from(self.one_of(&[0, 1, 0x7FFF_FFFF, 0x8000_0000, u32::MAX])),
            // Near powers of two, and their negatives.
            4 | 5 => {
                let near = (1_u64 << self.below(64)).wrapping_add(self.next() % 3).wrapping_sub(1);
                if self.chance(1, 2) { near } else { near.wrapping_neg() }
            }
            6 => self.next() % 70,
            7 => self.next() >> self.below(64),
            _ => self.next(),
        }
    }

    /// The same for an immediate.
    pub fn immediate(&mut self) -> i32 {
        match self.below(4) {
            0 => self.between(-2, 70),
            1 => self.one_of(&[i32::MIN, i32::MAX, i32::MIN + 1, -1, 0, 1, 0xFF, 0xFFFF, -0x80, -0x8000]),
            _ => self.number() as i32,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Random;

    #[test]
    fn numbers_are_those_of_splitmix64() {
        // The reference implementation's first outputs for seed 1234567.
        let mut random = Random(1_234_567);
        let expected = [
            6_457_827_717_110_365_317,
            3_203_168_211_198_807_973,
            9_817_491_932_198_370_423,
        ];
        assert_eq!(expected.map(|_| random.next()), expected);
    }

    #[test]
    fn programs_of_one_seed_and_seeds_of_one_program_differ() {
        let first = |seed, index| Random::of(seed, index).next();
        let firsts: std::collections::BTreeSet<u64> = (0..50).flat_map(|i| [first(1, i), first(2, i)]).collect();
        assert_eq!(firsts.len(), 100);
    }
}
