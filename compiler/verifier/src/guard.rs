//! Runs the engine where it cannot hurt: on threads of its own, against a deadline, with panics turned into errors.
//!
//! Given: jobs that are independent of each other. Computed: their results in the order of the jobs, whichever thread
//! finished first.
//! Safe because: a panic of a job ends that job only; and a job that runs past the deadline is told to stop, and is no
//! longer waited for. A job notices at its next look at the [`Deadline`], so a thread can outlive the call until then.
//!
//! The first use installs a process-wide panic hook, once. It keeps quiet about panics on the threads made here, whose
//! message becomes an error, and hands every other panic to the hook that was there before.

use std::any::Any;
use std::cell::Cell;
use std::panic::{self, AssertUnwindSafe};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Once, mpsc};
use std::thread;
use std::time::{Duration, Instant};

/// The engine recurses over the nesting of loops. Only the part that is used is ever backed by memory.
const STACK_BYTES: usize = 256 << 20;

/// When to stop.
pub(crate) struct Deadline {
    at: Option<Instant>,
    passed: AtomicBool,
}

/// What a job unwinds with when it stops because of the deadline.
struct Stopped;

impl Deadline {
    /// A deadline `limit` from now; none if that is beyond what the clock can tell.
    pub fn new(limit: Duration) -> Deadline {
        Deadline {
            at: Instant::now().checked_add(limit),
            passed: AtomicBool::new(false),
        }
    }

    fn remaining(&self) -> Option<Duration> {
        self.at.map(|at| at.saturating_duration_since(Instant::now()))
    }

    /// Unwinds out of the job if the deadline has passed.
    pub fn check(&self) {
        if self.passed.load(Ordering::Relaxed) || self.remaining().is_some_and(|r| r.is_zero()) {
            // Not a panic: no hook is called.
            panic::resume_unwind(Box::new(Stopped));
        }
    }
}

/// How a job ended without a result.
#[derive(Debug)]
pub(crate) enum Failure {
    /// It ran into the deadline.
    TimeLimit,
    /// It panicked, with this message.
    Panic(String),
    /// No thread could be started.
    NoThread(String),
}

thread_local! {
    static QUIET: Cell<bool> = const { Cell::new(false) };
}

fn install_hook() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let before = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            if !QUIET.get() {
                before(info);
            }
        }));
    });
}

/// Runs jobs 0 to `count` - 1 on as many threads as there are processors. The error tells the first job, in order, that
/// gave no result.
pub(crate) fn run<T: Send + 'static>(
    count: usize,
    deadline: &Arc<Deadline>,
    job: impl Fn(usize) -> T + Send + Sync + 'static,
) -> Result<Vec<T>, (usize, Failure)> {
    install_hook();
    let job = Arc::new(job);
    let next = Arc::new(AtomicUsize::new(0));
    let (results, received) = mpsc::channel();
    // Asking for the number of processors reads several files: not worth it for one job.
    let threads = match count {
        0 | 1 => count,
        _ => thread::available_parallelism().map_or(1, usize::from).min(count),
    };
    let mut handles = Vec::new();
    for _ in 0..threads {
        let (job, next, results, deadline) = (job.clone(), next.clone(), results.clone(), Arc::clone(deadline));
        let spawned = thread::Builder::new()
            .name("verifier".to_owned())
            .stack_size(STACK_BYTES)
            .spawn(move || {
                QUIET.set(true);
                loop {
                    let index = next.fetch_add(1, Ordering::Relaxed);
                    if index >= count {
                        break;
                    }
                    let result = panic::catch_unwind(AssertUnwindSafe(|| {
                        deadline.check();
                        job(index)
                    }));
                    if results
                        .send((index, result.map_err(|payload| failure(payload.as_ref()))))
                        .is_err()
                    {
                        break; // nobody waits any more
                    }
                }
            });
        match spawned {
            Ok(handle) => handles.push(handle),
            Err(_) if !handles.is_empty() => break, // fewer threads do the same work
            Err(error) => return Err((0, Failure::NoThread(error.to_string()))),
        }
    }
    drop(results);
    let mut done: Vec<Option<Result<T, Failure>>> = (0..count).map(|_| None).collect();
    for _ in 0..count {
        let message = match deadline.remaining() {
            Some(left) => received.recv_timeout(left).ok(),
            None => received.recv().ok(),
        };
        let Some((index, result)) = message else { break };
        done[index] = Some(result);
    }
    if done.iter().all(Option::is_some) {
        // The threads are about to end; then nothing they share is in use any more.
        for handle in handles {
            let _ = handle.join(); // panics were caught inside
        }
    } else {
        deadline.passed.store(true, Ordering::Relaxed);
    }
    let mut all = Vec::with_capacity(count);
    for (index, result) in done.into_iter().enumerate() {
        all.push(result.unwrap_or(Err(Failure::TimeLimit)).map_err(|f| (index, f))?);
    }
    Ok(all)
}

fn failure(payload: &(dyn Any + Send)) -> Failure {
    if payload.is::<Stopped>() {
        return Failure::TimeLimit;
    }
    let message = payload
        .downcast_ref::<&str>()
        .map(|s| (*s).to_owned())
        .or_else(|| payload.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "no message".to_owned());
    Failure::Panic(message)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn deadline(limit: Duration) -> Arc<Deadline> {
        Arc::new(Deadline::new(limit))
    }

    #[test]
    fn results_come_in_the_order_of_the_jobs() {
        let squares = run(50, &deadline(Duration::from_mins(1)), |i| {
            thread::sleep(Duration::from_millis(if i % 7 == 0 { 3 } else { 0 }));
            i * i
        });
        assert_eq!(squares.unwrap(), (0..50).map(|i| i * i).collect::<Vec<_>>());
    }

    #[test]
    fn no_jobs_are_no_results() {
        assert!(run(0, &deadline(Duration::ZERO), |_| ()).unwrap().is_empty());
    }

    #[test]
    fn a_panic_is_a_failure_of_its_job_with_its_message() {
        for (payload, expected) in [("plain", "plain"), ("formatted", "formatted 1")] {
            let result = run(2, &deadline(Duration::from_mins(1)), move |i| {
                assert!(i != 1 || payload != "plain", "plain");
                assert!(i != 1, "{payload} {i}");
            });
            let Err((1, Failure::Panic(message))) = result else {
                panic!("{result:?}");
            };
            assert_eq!(message, expected);
        }
    }

    #[test]
    fn a_job_stops_at_the_deadline() {
        let limit = deadline(Duration::from_millis(20));
        let [began, stopped] = [(); 2].map(|()| Arc::new(AtomicBool::new(false)));
        let (inner, begins, outer) = (limit.clone(), began.clone(), stopped.clone());
        let started = Instant::now();
        let result = run(1, &limit, move |_| {
            struct Note(Arc<AtomicBool>);
            impl Drop for Note {
                fn drop(&mut self) {
                    self.0.store(true, Ordering::SeqCst);
                }
            }
            begins.store(true, Ordering::SeqCst);
            let _note = Note(outer.clone());
            loop {
                inner.check();
                thread::yield_now();
            }
        });
        assert!(matches!(result, Err((0, Failure::TimeLimit))), "{result:?}");
        // On a busy machine the deadline can pass before the job begins.
        while began.load(Ordering::SeqCst) && !stopped.load(Ordering::SeqCst) {
            assert!(started.elapsed() < Duration::from_secs(30), "the job still runs");
            thread::yield_now();
        }
    }

    #[test]
    fn a_job_that_never_looks_is_not_waited_for() {
        let (release, wait) = mpsc::channel::<()>();
        let wait = std::sync::Mutex::new(wait);
        let result = run(1, &deadline(Duration::from_millis(20)), move |_| {
            let _ = wait.lock().unwrap().recv();
        });
        assert!(matches!(result, Err((0, Failure::TimeLimit))), "{result:?}");
        drop(release);
    }
}
