//! Runs an engine where it cannot hurt: within limits, with panics turned into errors, and on threads of its own unless what there
//! is to do takes less than starting a thread.
//!
//! Given: jobs that are independent of each other. Computed: their results in the order of the jobs, whichever thread
//! finished first.
//! Safe because: a panic of a job ends that job only; and when a limit is passed, the jobs are told to stop and are no
//! longer waited for. A job notices at its next look at the [`Deadline`], so a thread can outlive the call until then.
//!
//! The first use installs a process-wide panic hook, once. It keeps quiet about panics on the threads made here, whose
//! message becomes an error, and hands every other panic to the hook that was there before.

use std::any::Any;
use std::cell::Cell;
use std::panic::{self, AssertUnwindSafe};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Arc, Once};
use std::thread;
use std::time::{Duration, Instant};

use crate::permits::PROCESS;

/// The engine recurses over the nesting of loops. Only the part that is used is ever backed by memory.
const STACK_BYTES: usize = 256 << 20;

/// How often the memory of the process is looked at: often enough that no more than some ten megabytes come together
/// in between, and so rarely that the look does not matter.
const MEMORY_LOOK: Duration = Duration::from_millis(10);

/// What all jobs together may take.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// From the start of the first job on.
    pub time: Duration,
    /// Bytes of the process that are in memory.
    pub memory: Option<u64>,
}

/// When to stop.
pub(crate) struct Deadline {
    at: Option<Instant>,
    passed: AtomicBool,
    memory: Option<MemoryLook>,
}

/// A limit of memory that the job itself has to look at, as no other thread does.
struct MemoryLook {
    limit: u64,
    since: Instant,
    /// When it was last looked at, in milliseconds.
    last: AtomicU64,
}

impl MemoryLook {
    fn is_passed(&self) -> bool {
        let now = self.since.elapsed().as_millis() as u64;
        let last = self.last.load(Ordering::Relaxed);
        if now < last + MEMORY_LOOK.as_millis() as u64 {
            return false;
        }
        self.last.store(now, Ordering::Relaxed);
        memory_in_use() > self.limit
    }
}

/// What a job unwinds with when it stops because the time has passed, or another thread says so.
struct Stopped;
/// What a job unwinds with when it finds that the process needs too much memory.
struct NoMemory;

impl Deadline {
    /// A deadline `limit` from now; none if that is beyond what the clock can tell.
    fn new(limit: Duration) -> Deadline {
        Deadline {
            at: Instant::now().checked_add(limit),
            passed: AtomicBool::new(false),
            memory: None,
        }
    }

    fn remaining(&self) -> Option<Duration> {
        self.at.map(|at| at.saturating_duration_since(Instant::now()))
    }

    /// When half of what is left has passed.
    pub fn half_way(&self) -> Option<Instant> {
        Instant::now().checked_add(self.remaining()? / 2)
    }

    /// Unwinds out of the job if the deadline has passed, or another limit.
    pub fn check(&self) {
        if self.passed.load(Ordering::Relaxed) || self.remaining().is_some_and(|r| r.is_zero()) {
            // Not a panic: no hook is called.
            panic::resume_unwind(Box::new(Stopped));
        }
        if self.memory.as_ref().is_some_and(MemoryLook::is_passed) {
            panic::resume_unwind(Box::new(NoMemory));
        }
    }
}

/// How a job ended without a result.
#[derive(Debug)]
pub(crate) enum Failure {
    /// It ran into the deadline.
    TimeLimit,
    /// The process needed too much memory.
    MemoryLimit,
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

/// Runs jobs 0 to `count` - 1 one after the other, on the thread of the caller: for jobs that look at the deadline often and need
/// little stack. The error tells the first job that gave no result.
pub(crate) fn run_here<T>(
    count: usize,
    limits: Limits,
    job: impl Fn(usize, &Deadline) -> T,
) -> Result<Vec<T>, (usize, Failure)> {
    install_hook();
    let deadline = Deadline {
        memory: limits.memory.map(|limit| MemoryLook {
            limit,
            since: Instant::now(),
            last: AtomicU64::new(0),
        }),
        ..Deadline::new(limits.time)
    };
    let quiet = QUIET.replace(true);
    let results = (0..count).map(|index| attempt(&job, index, &deadline).map_err(|failure| (index, failure)));
    let results = results.collect();
    QUIET.set(quiet);
    results
}

/// One job, with what it unwinds with as a failure.
fn attempt<T>(job: &impl Fn(usize, &Deadline) -> T, index: usize, deadline: &Deadline) -> Result<T, Failure> {
    let result = panic::catch_unwind(AssertUnwindSafe(|| {
        deadline.check();
        job(index, deadline)
    }));
    result.map_err(|payload| failure(payload.as_ref()))
}

/// Runs jobs 0 to `count` - 1 on as many threads as there are processors, shared with all other calls in the process.
/// The error tells the first job, in order, that gave no result.
pub(crate) fn run<T: Send + 'static>(
    count: usize,
    limits: Limits,
    job: impl Fn(usize, &Deadline) -> T + Send + Sync + 'static,
) -> Result<Vec<T>, (usize, Failure)> {
    if count == 0 {
        return Ok(Vec::new());
    }
    install_hook();
    let mut permit = Some(PROCESS.wait());
    let (results, received) = mpsc::channel();
    let work = Arc::new(Work {
        job,
        next: AtomicUsize::new(0),
        count,
        deadline: Deadline::new(limits.time),
    });
    let mut threads = Vec::new();
    let mut done: Vec<Option<Result<T, Failure>>> = (0..count).map(|_| None).collect();
    let mut finished = 0;
    let mut passed = Failure::TimeLimit;
    while finished < count {
        // A job that nobody has begun may be that of a thread which is about to begin.
        while let Some(permit) = permit.take().or_else(|| {
            let more = threads.len() < count && work.is_left();
            more.then(|| PROCESS.now()).flatten()
        }) {
            let (work, results, own) = (Arc::clone(&work), results.clone(), permit.clone());
            let spawned = thread::Builder::new()
                .name("verifier".to_owned())
                .stack_size(STACK_BYTES)
                .spawn(move || {
                    QUIET.set(true);
                    work.work(&results);
                    drop(work); // who waits for the thread may want what the job shares
                    own.give_back();
                });
            match spawned {
                Ok(handle) => threads.push((permit, handle)),
                Err(error) => {
                    permit.give_back();
                    if threads.is_empty() {
                        return Err((0, Failure::NoThread(error.to_string())));
                    }
                    break; // fewer threads do the same work
                }
            }
        }
        let left = work.deadline.remaining();
        let look = limits.memory.map(|_| MEMORY_LOOK);
        let message = match left.into_iter().chain(look).min() {
            Some(wait) => received.recv_timeout(wait),
            None => received.recv().map_err(RecvTimeoutError::from),
        };
        match message {
            Ok((index, result)) => {
                done[index] = Some(result);
                finished += 1;
            }
            Err(RecvTimeoutError::Timeout) if work.deadline.remaining().is_none_or(|left| !left.is_zero()) => {
                if limits.memory.is_some_and(|limit| memory_in_use() > limit) {
                    passed = Failure::MemoryLimit;
                    break;
                }
            }
            Err(_) => break,
        }
    }
    if finished < count {
        work.deadline.passed.store(true, Ordering::Relaxed);
        for (permit, _) in &threads {
            permit.give_back();
        }
    } else {
        // The threads are about to end; then nothing they share is in use any more.
        for (_, thread) in threads {
            let _ = thread.join(); // panics were caught inside
        }
    }
    let mut all = Vec::with_capacity(count);
    for (index, result) in done.into_iter().enumerate() {
        match result {
            Some(Ok(result)) => all.push(result),
            Some(Err(failure)) => return Err((index, failure)),
            None => return Err((index, passed)),
        }
    }
    Ok(all)
}

/// What the threads of one call share.
struct Work<F> {
    job: F,
    next: AtomicUsize,
    count: usize,
    deadline: Deadline,
}

impl<F> Work<F> {
    /// Whether there is a job that nobody has begun.
    fn is_left(&self) -> bool {
        self.next.load(Ordering::Relaxed) < self.count
    }

    /// Does jobs until there are none.
    fn work<T>(&self, results: &mpsc::Sender<(usize, Result<T, Failure>)>)
    where
        F: Fn(usize, &Deadline) -> T,
    {
        loop {
            let index = self.next.fetch_add(1, Ordering::Relaxed);
            if index >= self.count {
                break;
            }
            let result = attempt(&self.job, index, &self.deadline);
            if results.send((index, result)).is_err() {
                break; // nobody waits any more
            }
        }
    }
}

/// Bytes of this process that are in memory; 0 where the system does not say.
fn memory_in_use() -> u64 {
    memory_stats::memory_stats().map_or(0, |stats| stats.physical_mem as u64)
}

fn failure(payload: &(dyn Any + Send)) -> Failure {
    if payload.is::<Stopped>() {
        return Failure::TimeLimit;
    }
    if payload.is::<NoMemory>() {
        return Failure::MemoryLimit;
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

    fn time(limit: Duration) -> Limits {
        Limits {
            time: limit,
            memory: None,
        }
    }

    const LONG: Duration = Duration::from_mins(1);
    const SHORT: Duration = Duration::from_millis(20);

    #[test]
    fn results_come_in_the_order_of_the_jobs() {
        let squares = run(50, time(LONG), |i, _| {
            thread::sleep(Duration::from_millis(if i % 7 == 0 { 3 } else { 0 }));
            i * i
        });
        assert_eq!(squares.unwrap(), (0..50).map(|i| i * i).collect::<Vec<_>>());
    }

    #[test]
    fn no_jobs_are_no_results() {
        assert!(run(0, time(Duration::ZERO), |_, _| ()).unwrap().is_empty());
    }

    #[test]
    fn a_panic_is_a_failure_of_its_job_with_its_message() {
        for (payload, expected) in [("plain", "plain"), ("formatted", "formatted 1")] {
            let result = run(2, time(LONG), move |i, _| {
                assert!(i != 1 || payload != "plain", "plain");
                assert!(i != 1, "{payload} {i}");
            });
            let Err((1, Failure::Panic(message))) = result else {
                panic!("{result:?}");
            };
            assert_eq!(message, expected);
        }
    }

    /// A job that looks at the deadline and never ends by itself, and whether it began and has stopped.
    struct Endless {
        began: AtomicBool,
        stopped: AtomicBool,
    }

    impl Endless {
        fn new() -> Arc<Endless> {
            Arc::new(Endless {
                began: AtomicBool::new(false),
                stopped: AtomicBool::new(false),
            })
        }

        fn work(&self, deadline: &Deadline) {
            struct Note<'a>(&'a AtomicBool);
            impl Drop for Note<'_> {
                fn drop(&mut self) {
                    self.0.store(true, Ordering::SeqCst);
                }
            }
            self.began.store(true, Ordering::SeqCst);
            let _note = Note(&self.stopped);
            loop {
                deadline.check();
                thread::yield_now();
            }
        }

        /// On a busy machine a limit can pass before the job begins.
        fn wait(&self) {
            let started = Instant::now();
            while self.began.load(Ordering::SeqCst) && !self.stopped.load(Ordering::SeqCst) {
                assert!(started.elapsed() < LONG, "the job still runs");
                thread::yield_now();
            }
        }
    }

    #[test]
    fn a_job_stops_at_the_deadline() {
        let endless = Endless::new();
        let job = Arc::clone(&endless);
        let result = run(1, time(SHORT), move |_, deadline| job.work(deadline));
        assert!(matches!(result, Err((0, Failure::TimeLimit))), "{result:?}");
        endless.wait();
    }

    #[test]
    fn a_job_stops_when_the_process_needs_too_much_memory() {
        let limits = Limits {
            time: LONG,
            memory: Some(1),
        };
        let endless = Endless::new();
        let job = Arc::clone(&endless);
        let result = run(1, limits, move |_, deadline| job.work(deadline));
        assert!(matches!(result, Err((0, Failure::MemoryLimit))), "{result:?}");
        endless.wait();
        let enough = Limits {
            time: SHORT,
            memory: Some(u64::MAX),
        };
        let result = run(1, enough, move |_, deadline| Endless::new().work(deadline));
        assert!(matches!(result, Err((0, Failure::TimeLimit))), "{result:?}");
    }

    #[test]
    fn what_runs_on_the_callers_thread_has_the_same_limits() {
        assert_eq!(run_here(4, time(LONG), |i, _| i * i).unwrap(), [0, 1, 4, 9]);
        let result = run_here(2, time(LONG), |i, _| assert!(i != 1, "no {i}"));
        assert!(
            matches!(&result, Err((1, Failure::Panic(m))) if m == "no 1"),
            "{result:?}"
        );
        let result = run_here(1, time(SHORT), |_, deadline| Endless::new().work(deadline));
        assert!(matches!(result, Err((0, Failure::TimeLimit))), "{result:?}");
        let result = run_here(1, time(Duration::ZERO), |_, _| ());
        assert!(matches!(result, Err((0, Failure::TimeLimit))), "{result:?}");
        for (memory, expected) in [(1, true), (u64::MAX, false)] {
            let limits = Limits {
                time: if expected { LONG } else { SHORT },
                memory: Some(memory),
            };
            let result = run_here(1, limits, |_, deadline| Endless::new().work(deadline));
            assert_eq!(matches!(result, Err((0, Failure::MemoryLimit))), expected, "{result:?}");
        }
        // Panics of others on this thread are told again.
        assert!(!QUIET.get());
    }

    #[test]
    fn a_job_that_never_looks_is_not_waited_for() {
        let (release, wait) = mpsc::channel::<()>();
        let wait = std::sync::Mutex::new(wait);
        let result = run(1, time(SHORT), move |_, _| {
            let _ = wait.lock().unwrap().recv();
        });
        assert!(matches!(result, Err((0, Failure::TimeLimit))), "{result:?}");
        drop(release);
    }

    #[test]
    fn many_calls_at_once_have_as_many_threads_as_there_are_processors() {
        static NOW: AtomicUsize = AtomicUsize::new(0);
        static MOST: AtomicUsize = AtomicUsize::new(0);
        let call = || {
            run(20, time(LONG), |_, _| {
                MOST.fetch_max(NOW.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                thread::sleep(Duration::from_millis(1));
                NOW.fetch_sub(1, Ordering::SeqCst);
            })
            .map(|done| assert_eq!(done.len(), 20))
        };
        let calls: Vec<_> = (0..30).map(|_| thread::spawn(call)).collect();
        for call in calls {
            call.join().unwrap().unwrap();
        }
        let most = MOST.load(Ordering::SeqCst);
        assert!(most <= thread::available_parallelism().unwrap().get(), "{most} at once");
    }
}
