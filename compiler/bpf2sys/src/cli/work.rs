//! Work side by side whose results are taken in order.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;
use std::thread;

use crate::Error;

/// Does `work` for every number below `count`, on so many threads or as many as there are processors, and gives what comes of each to `take`,
/// in order, as soon as all before it are done.
pub(super) fn in_order<T: Send>(
    count: usize,
    jobs: Option<usize>,
    work: impl Fn(usize) -> T + Sync,
    mut take: impl FnMut(usize, T) -> Result<(), Error>,
) -> Result<(), Error> {
    // Asking for the number of processors reads several files: not worth it for one piece of work.
    let workers = match count {
        0 | 1 => 1,
        _ => jobs.unwrap_or_else(|| thread::available_parallelism().map_or(1, usize::from)),
    };
    if workers <= 1 {
        return (0..count).try_for_each(|index| take(index, work(index)));
    }
    let next = AtomicUsize::new(0);
    thread::scope(|scope| {
        let (sender, receiver) = mpsc::channel();
        for _ in 0..workers.min(count) {
            let (sender, next, work) = (sender.clone(), &next, &work);
            scope.spawn(move || {
                while let index = next.fetch_add(1, Ordering::Relaxed)
                    && index < count
                {
                    // Nobody listens any more if the results can't be told; then nothing more is to be done.
                    if sender.send((index, work(index))).is_err() {
                        break;
                    }
                }
            });
        }
        drop(sender);
        let mut waiting: Vec<Option<T>> = (0..count).map(|_| None).collect();
        let mut taken = 0;
        for (index, came) in receiver {
            waiting[index] = Some(came);
            while let Some(came) = waiting.get_mut(taken).and_then(Option::take) {
                take(taken, came)?;
                taken += 1;
            }
        }
        Ok(())
    })
}
