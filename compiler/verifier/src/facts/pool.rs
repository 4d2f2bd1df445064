//! How facts about registers are kept: most registers hold at one instruction what they held at the one before, and programs
//! repeat themselves. So each fact is kept once, and an instruction has the numbers of its eleven.

use std::hash::{Hash, Hasher};
use std::sync::Arc;

use bpf2sys_bytecode::Reg;
use rustc_hash::{FxHashMap, FxHasher};

use super::register::RegisterFact;

/// Names what is known of `r0` to `r10` in a [`FactPool`]. `Default` is "nothing", in any pool.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RegisterRow([u32; Reg::COUNT]);

impl RegisterRow {
    /// Names something else of one register.
    pub(crate) fn set(&mut self, register: Reg, number: u32) {
        self.0[register.index()] = number;
    }
}

/// Facts about registers by number. Number 0 is "nothing known", and so is any number that is not there.
#[derive(Clone, Debug, Default)]
pub struct FactPool(Arc<[RegisterFact]>);

impl FactPool {
    /// What a row says of a register.
    pub fn fact(&self, row: RegisterRow, register: Reg) -> RegisterFact {
        self.number(row.0[register.index()])
    }

    /// What a row says of all registers.
    pub fn facts(&self, row: RegisterRow) -> [RegisterFact; Reg::COUNT] {
        row.0.map(|number| self.number(number))
    }

    fn number(&self, number: u32) -> RegisterFact {
        self.0.get(number as usize).copied().unwrap_or_default()
    }
}

/// A pool in the making.
#[derive(Clone, Debug)]
pub(crate) struct PoolBuilder {
    facts: Vec<RegisterFact>,
    /// The number of a fact by its hash, which is a tenth of its size. Of two facts with the same hash the second one has
    /// no entry, and gets a new number each time.
    numbers: FxHashMap<u64, u32>,
}

impl Default for PoolBuilder {
    fn default() -> Self {
        let nothing = RegisterFact::default();
        PoolBuilder {
            facts: vec![nothing],
            numbers: FxHashMap::from_iter([(hash(&nothing), 0)]),
        }
    }
}

impl PoolBuilder {
    /// A pool that goes on growing.
    pub fn resume(pool: &FactPool) -> PoolBuilder {
        let mut builder = PoolBuilder::default();
        for fact in pool.0.iter() {
            builder.add(fact);
        }
        builder
    }

    /// The row of these facts.
    pub fn row(&mut self, facts: &[RegisterFact; Reg::COUNT]) -> RegisterRow {
        RegisterRow(facts.each_ref().map(|fact| self.add(fact)))
    }

    /// The row that says the same, but this of one register.
    pub fn with(&mut self, mut row: RegisterRow, register: Reg, fact: &RegisterFact) -> RegisterRow {
        row.set(register, self.add(fact));
        row
    }

    /// What a row of this pool says of a register.
    pub fn fact(&self, row: RegisterRow, register: Reg) -> RegisterFact {
        self.facts[row.0[register.index()] as usize]
    }

    /// What a row of this pool says of all registers.
    #[cfg(test)]
    pub fn facts(&self, row: RegisterRow) -> [RegisterFact; Reg::COUNT] {
        row.0.map(|number| self.facts[number as usize])
    }

    /// The row of what holds for both.
    pub fn join(&mut self, a: RegisterRow, b: RegisterRow) -> RegisterRow {
        let mut joined = a;
        for (mine, theirs) in joined.0.iter_mut().zip(b.0) {
            if *mine != theirs {
                let fact = self.facts[*mine as usize].join(self.facts[theirs as usize]);
                *mine = self.add(&fact);
            }
        }
        joined
    }

    /// The number in this pool of every fact in another one.
    pub fn adopt(&mut self, other: &PoolBuilder) -> Adopted {
        Adopted(other.facts.iter().map(|fact| self.add(fact)).collect())
    }

    /// The pool, which must not grow any more.
    pub fn finish(self) -> FactPool {
        FactPool(self.facts.into())
    }

    /// The fact with a number that this pool has given.
    pub fn get(&self, number: u32) -> &RegisterFact {
        &self.facts[number as usize]
    }

    /// The number of a fact.
    pub fn add(&mut self, fact: &RegisterFact) -> u32 {
        let next = self.facts.len() as u32;
        let number = *self.numbers.entry(hash(fact)).or_insert(next);
        if self.facts.get(number as usize) == Some(fact) {
            return number;
        }
        self.facts.push(*fact);
        next
    }
}

fn hash(fact: &RegisterFact) -> u64 {
    let mut hasher = FxHasher::default();
    fact.hash(&mut hasher);
    hasher.finish()
}

/// The numbers in one pool of the facts in another.
pub(crate) struct Adopted(Vec<u32>);

impl Adopted {
    /// The same row in the pool that adopted.
    pub fn row(&self, row: RegisterRow) -> RegisterRow {
        RegisterRow(row.0.map(|number| self.0[number as usize]))
    }
}

#[cfg(test)]
mod tests {
    use super::super::interval::Range64;
    use super::*;

    #[test]
    fn rows_say_what_was_put_in_and_what_joins_leave() {
        let number = |n| RegisterFact::number(Range64::of(n));
        let mut facts = [RegisterFact::default(); Reg::COUNT];
        let mut pool = PoolBuilder::default();
        assert_eq!(pool.row(&facts), RegisterRow::default());
        facts[3] = number(7);
        let seven = pool.row(&facts);
        facts[3] = number(9);
        facts[4] = number(7);
        let nine = pool.row(&facts);
        let joined = pool.join(seven, nine);
        assert_eq!(pool.facts(joined)[3], number(7).join(number(9)));
        assert_eq!(pool.facts(joined)[4], RegisterFact::default());

        let mut other = PoolBuilder::default();
        other.row(&[number(1); Reg::COUNT]);
        let adopted = other.adopt(&pool);
        assert_eq!(other.facts(adopted.row(nine)), facts);
        assert_eq!(
            other.finish().facts(RegisterRow::default()),
            [RegisterFact::default(); Reg::COUNT]
        );
    }
}
