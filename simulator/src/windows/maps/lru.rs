//! Which entries of an LRU map are dropped when it is full, as the runtime decides it: not by exact order of use.
//!
//! A key that is used becomes hot. A hot key stays where it is however often it is used again, until more keys are hot than
//! a limit; then all of them become cold at once. The cold key that has been hot longest ago is dropped. The runtime does
//! this per processor, up to eight of them; here all uses are on one.

/// What the runtime divides the share of a processor by to get the limit.
const GENERATIONS: u32 = 10;
/// Most processors that share the entries.
const MAX_PARTITIONS: u32 = 8;

/// When an entry became hot.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// It is hot as long as this is the current generation.
    generation: u64,
    /// Order of becoming hot.
    order: u64,
}

/// The state of a map's history.
#[derive(Clone, Debug)]
pub struct History {
    generation: u64,
    order: u64,
    hot: u32,
    limit: u32,
}

impl History {
    /// Of a map with so many entries.
    pub fn new(max_entries: u32, cpus: u32) -> History {
        let share = max_entries / cpus.clamp(1, MAX_PARTITIONS);
        History {
            generation: 0,
            order: 0,
            hot: 0,
            limit: (share / GENERATIONS).max(1),
        }
    }

    /// The place of a new entry, which is hot.
    pub fn inserted(&mut self) -> Place {
        self.order += 1;
        let place = Place {
            generation: self.generation,
            order: self.order,
        };
        self.hot += 1;
        if self.hot > self.limit {
            self.generation += 1;
            self.hot = 0;
        }
        place
    }

    /// The place of an entry that is used.
    pub fn used(&mut self, place: Place) -> Place {
        if place.generation == self.generation {
            place
        } else {
            self.inserted()
        }
    }

    /// An entry is no more.
    pub fn removed(&mut self, place: Place) {
        self.hot -= u32::from(place.generation == self.generation);
    }

    /// Which of some entries is dropped. A map of one entry can have no cold one: then the only one goes, where the runtime
    /// would look for another for ever.
    pub fn dropped<T>(&self, entries: impl Iterator<Item = (T, Place)>) -> Option<T> {
        let dropped = entries.min_by_key(|&(_, place)| (place.generation == self.generation, place.order));
        dropped.map(|(entry, _)| entry)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The keys that are left after keys were used, one after the other, in a map of a size.
    fn left(max_entries: u32, cpus: u32, keys: &[u32]) -> Vec<u32> {
        let mut history = History::new(max_entries, cpus);
        let mut entries: Vec<(u32, Place)> = Vec::new();
        for &key in keys {
            if let Some(entry) = entries.iter_mut().find(|e| e.0 == key) {
                entry.1 = history.used(entry.1);
                continue;
            }
            if entries.len() == max_entries as usize {
                let dropped = history.dropped(entries.iter().copied()).unwrap();
                let index = entries.iter().position(|e| e.0 == dropped).unwrap();
                history.removed(entries.remove(index).1);
            }
            entries.push((key, history.inserted()));
        }
        entries.iter().map(|e| e.0).collect()
    }

    #[test]
    fn small_maps_drop_what_was_used_longest_ago() {
        assert_eq!(left(2, 1, &[1, 2, 1, 3]), [1, 3]);
        assert_eq!(left(3, 2, &[1, 2, 3, 1, 2, 4, 5]), [2, 4, 5]);
        assert_eq!(left(1, 1, &[1, 2, 3]), [3]);
    }

    #[test]
    fn a_hot_key_does_not_become_younger() {
        // 40 entries: the limit is 4. 1 to 4 are hot when 1 is used again, so 1 stays the first to go.
        let mut keys: Vec<u32> = (1..=4).collect();
        keys.push(1);
        keys.extend(5..=41);
        assert_eq!(left(40, 1, &keys), (2..=41).collect::<Vec<_>>());
        // With 5 hot keys all became cold, and the use counts.
        let mut keys: Vec<u32> = (1..=5).collect();
        keys.push(1);
        keys.extend(6..=41);
        let kept: Vec<u32> = [1].into_iter().chain(3..=41).collect();
        assert_eq!(left(40, 1, &keys), kept);
    }

    #[test]
    fn processors_share_the_limit() {
        let keys: Vec<u32> = [1, 2, 3, 1].into_iter().chain(4..=41).collect();
        // On one processor, 1 is hot when it is used again; on two, 3 keys are more than the limit.
        assert!(!left(40, 1, &keys).contains(&1));
        assert!(left(40, 2, &keys).contains(&1));
        assert_eq!(History::new(u32::MAX, 64).limit, u32::MAX / 80);
    }
}
