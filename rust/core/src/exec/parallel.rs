//! Blocks of work, and the threads that run them.
//!
//! A kernel cuts its work into blocks whose size depends on the shape alone, every block
//! writes its own sums and its own part of the gradient, and the sums are added up in the
//! order of the blocks.  The result therefore has the same bits whichever thread computes a
//! block.

use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

/// The number of elements of a block: so many that handing it to a thread costs little, and so
/// few that there are blocks for all threads.
pub(crate) const BLOCK: usize = 1 << 15;

/// Something that runs independent tasks, in any order, on any thread.
pub trait Executor {
    /// Calls `task` once with each of `0..count` and returns when all are done.
    fn run(&self, count: usize, task: &(dyn Fn(usize) + Sync));
}

/// Runs one task after the other on the calling thread.
#[derive(Debug, Clone, Copy, Default)]
pub struct Serial;

impl Executor for Serial {
    fn run(&self, count: usize, task: &(dyn Fn(usize) + Sync)) {
        (0..count).for_each(task);
    }
}

/// Runs the tasks on this many threads, which are started for the call.
#[derive(Debug, Clone, Copy)]
pub struct Threads(pub NonZeroUsize);

impl Threads {
    /// Returns as many threads as affinity and cgroup quota allow the process.
    #[must_use]
    pub fn available() -> Self {
        Self(thread::available_parallelism().unwrap_or(NonZeroUsize::MIN))
    }
}

impl Executor for Threads {
    fn run(&self, count: usize, task: &(dyn Fn(usize) + Sync)) {
        let helpers = self.0.get().min(count).saturating_sub(1);
        if helpers == 0 {
            return Serial.run(count, task);
        }
        let next = AtomicUsize::new(0);
        let work = || {
            loop {
                let index = next.fetch_add(1, Ordering::Relaxed);
                if index >= count {
                    break;
                }
                task(index);
            }
        };
        thread::scope(|scope| {
            for _ in 0..helpers {
                // If a thread cannot be started, the others run its tasks.
                let _ = thread::Builder::new().spawn_scoped(scope, work);
            }
            work();
        });
    }
}

/// Runs `count` tasks that each return sums, and adds these up in the order of the tasks.
pub(crate) fn sum_blocks<const K: usize>(
    exec: &dyn Executor,
    count: usize,
    task: impl Fn(usize) -> [f64; K] + Sync,
) -> [f64; K] {
    let mut total = [0.0; K];
    for block in run_blocks(exec, count, |index| Sums(task(index))) {
        for (sum, part) in total.iter_mut().zip(block.0) {
            *sum += part;
        }
    }
    total
}

/// Runs `count` tasks and returns what each of them returned, in the order of the tasks.
pub(crate) fn run_blocks<R: Clone + Default + Send>(
    exec: &dyn Executor,
    count: usize,
    task: impl Fn(usize) -> R + Sync,
) -> Vec<R> {
    let mut results = vec![R::default(); count];
    let slots = Parts::new(&mut results, 1);
    exec.run(count, &|index| {
        if let Some([slot]) = slots.take(index) {
            *slot = task(index);
        }
    });
    drop(slots);
    results
}

/// Sums whose default is 0, which arrays of any length do not have.
#[derive(Clone)]
struct Sums<const K: usize>([f64; K]);

impl<const K: usize> Default for Sums<K> {
    fn default() -> Self {
        Self([0.0; K])
    }
}

/// A mutable slice that is handed out in parts, each at most once.
pub(crate) struct Parts<'a, T> {
    parts: Vec<std::sync::Mutex<Option<&'a mut [T]>>>,
}

impl<'a, T> Parts<'a, T> {
    /// Cuts a slice into parts of this size; the last one may be smaller.
    pub(crate) fn new(whole: &'a mut [T], size: usize) -> Self {
        Self::of(whole.chunks_mut(size.max(1)))
    }

    /// Takes parts of any size.
    pub(crate) fn of(parts: impl Iterator<Item = &'a mut [T]>) -> Self {
        Self {
            parts: parts
                .map(|part| std::sync::Mutex::new(Some(part)))
                .collect(),
        }
    }

    /// Returns a part; None if it was taken before, or there is none.
    pub(crate) fn take(&self, index: usize) -> Option<&'a mut [T]> {
        let mut part = self.parts.get(index)?.lock().ok()?;
        part.take()
    }
}
