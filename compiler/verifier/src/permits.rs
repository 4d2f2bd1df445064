//! How many threads verify at once, in the whole process.
//!
//! Several modules may be verified at once, each on threads of its own. Without a common bound a machine with 64 processors
//! would run 64 times 64 of them. A verification waits for its first thread, so it always gets on; it has more as long
//! as there are fewer in the process than processors.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread;

/// Threads that may exist, out of a number.
pub(crate) struct Permits {
    taken: Mutex<usize>,
    returned: Condvar,
    /// How many there are; asked when it matters, because the answer takes reading several files.
    total: OnceLock<usize>,
}

/// The permission for one thread. It is returned once, by whoever does it first: the thread at its end, or who gives it
/// up.
#[derive(Clone)]
pub(crate) struct Permit {
    of: &'static Permits,
    returned: Arc<AtomicBool>,
}

/// Those of this process.
pub(crate) static PROCESS: Permits = Permits {
    taken: Mutex::new(0),
    returned: Condvar::new(),
    total: OnceLock::new(),
};

impl Permits {
    /// One, as soon as there is one.
    pub fn wait(&'static self) -> Permit {
        let mut taken = self.taken();
        while *taken > 0 && *taken >= self.total() {
            taken = self.returned.wait(taken).unwrap_or_else(PoisonError::into_inner);
        }
        self.grant(taken)
    }

    /// One, if there is one.
    pub fn now(&'static self) -> Option<Permit> {
        let taken = self.taken();
        (*taken < self.total()).then(|| self.grant(taken))
    }

    fn grant(&'static self, mut taken: MutexGuard<'_, usize>) -> Permit {
        *taken += 1;
        Permit {
            of: self,
            returned: Arc::default(),
        }
    }

    fn taken(&self) -> MutexGuard<'_, usize> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn total(&self) -> usize {
        *self
            .total
            .get_or_init(|| thread::available_parallelism().map_or(1, usize::from))
    }
}

impl Permit {
    /// Returns it; the second time nothing happens.
    pub fn give_back(&self) {
        if !self.returned.swap(true, Ordering::Relaxed) {
            *self.of.taken() -= 1;
            self.of.returned.notify_one();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn permits(total: usize) -> &'static Permits {
        Box::leak(Box::new(Permits {
            taken: Mutex::new(0),
            returned: Condvar::new(),
            total: OnceLock::from(total),
        }))
    }

    #[test]
    fn there_are_as_many_as_processors() {
        let two = permits(2);
        let (first, _second) = (two.wait(), two.now().expect("there are two"));
        assert!(two.now().is_none());
        first.give_back();
        first.clone().give_back();
        let _third = two.now().expect("one was given back");
        assert!(two.now().is_none(), "it was given back once");
    }

    #[test]
    fn who_waits_gets_the_next_that_is_given_back() {
        let one = permits(1);
        let first = one.wait();
        let waiter = thread::spawn(|| one.wait().give_back());
        assert!(!waiter.is_finished());
        first.give_back();
        waiter.join().unwrap();
        assert!(one.now().is_some());
    }
}
