//! The threads that kernels run on.
//!
//! Where torch is loaded its own pool is borrowed: it follows `torch.set_num_threads`, and
//! its workers would otherwise spin beside ours.  The pool is reached through the C function
//! `torch_parallel_for`, which libtorch exports from 2.10 up.  With an older torch as many
//! threads as it would use are started for the call, and for NumPy callers without torch as
//! many as the process may use.  It is never more than that: affinity and cgroup quota count.
//!
//! A process that was forked has none of the workers of its parent, and a pool that waits for
//! them would wait for ever: there, too, threads are started for the call.

use std::num::NonZeroUsize;
use std::sync::OnceLock;

use dipfast_core::{Executor, Threads};

/// To be called once, when the module is imported.
pub(crate) fn prepare() {
    #[cfg(target_os = "linux")]
    torch::watch_for_forks();
}

/// What to run the next kernel on.
pub(crate) fn executor() -> Box<dyn Executor> {
    let available = available();
    #[cfg(target_os = "linux")]
    if let Some(torch) = torch::Torch::loaded() {
        let threads = torch.threads().min(available);
        return match torch.pool(threads) {
            Some(pool) => Box::new(pool),
            None => Box::new(Threads(threads)),
        };
    }
    Box::new(Threads(available))
}

/// Processors that the process may use; asked once, since that means reading files.
fn available() -> NonZeroUsize {
    static AVAILABLE: OnceLock<NonZeroUsize> = OnceLock::new();
    *AVAILABLE.get_or_init(|| Threads::available().0)
}

#[cfg(target_os = "linux")]
mod torch {
    use std::any::Any;
    use std::ffi::{CStr, c_int, c_void};
    use std::num::NonZeroUsize;
    use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::sync::{Mutex, OnceLock};

    use dipfast_core::Executor;

    type NumThreads = unsafe extern "C" fn() -> c_int;
    type Body = unsafe extern "C" fn(i64, i64, *mut c_void);
    type ParallelFor = unsafe extern "C" fn(i64, i64, i64, Body, *mut c_void) -> i32;

    static FORKED: AtomicBool = AtomicBool::new(false);

    /// Remembers in every process forked from this one that it is one.
    pub(super) fn watch_for_forks() {
        unsafe extern "C" fn forked() {
            FORKED.store(true, Ordering::Relaxed);
        }
        // SAFETY: all that the handler does is to set an atomic.
        unsafe { libc::pthread_atfork(None, None, Some(forked)) };
    }

    /// What this process has loaded of torch.
    #[derive(Clone, Copy)]
    pub(super) struct Torch {
        num_threads: NumThreads,
        parallel_for: Option<ParallelFor>,
    }

    impl Torch {
        /// None if there is no torch in this process.
        pub(super) fn loaded() -> Option<Self> {
            static FOUND: OnceLock<Torch> = OnceLock::new();
            // Not found is not remembered: torch may be imported later.
            FOUND.get().copied().or_else(|| {
                let torch = Self::look_up()?;
                Some(*FOUND.get_or_init(|| torch))
            })
        }

        fn look_up() -> Option<Self> {
            // SAFETY: RTLD_NOLOAD runs no initialiser; it only finds what is loaded already.
            // The handle is kept, so that the functions stay valid.
            let library = unsafe {
                let flags = libc::RTLD_NOLOAD | libc::RTLD_LAZY;
                libc::dlopen(c"libtorch_cpu.so".as_ptr(), flags)
            };
            if library.is_null() {
                return None;
            }
            let symbol = |name: &CStr| {
                // SAFETY: `library` is a handle that dlopen returned.
                let symbol = unsafe { libc::dlsym(library, name.as_ptr()) };
                (!symbol.is_null()).then_some(symbol)
            };
            // SAFETY: `int at::get_num_threads()`, the same in every version of torch.
            let num_threads = symbol(c"_ZN2at15get_num_threadsEv")
                .map(|symbol| unsafe { std::mem::transmute::<*mut c_void, NumThreads>(symbol) })?;
            // SAFETY: the signature is that of torch/csrc/stable/c/shim.h, part of torch's
            // stable interface.
            let parallel_for = symbol(c"torch_parallel_for")
                .map(|symbol| unsafe { std::mem::transmute::<*mut c_void, ParallelFor>(symbol) });
            Some(Self {
                num_threads,
                parallel_for,
            })
        }

        /// What `torch.get_num_threads()` returns.
        pub(super) fn threads(self) -> NonZeroUsize {
            // SAFETY: see `look_up`.
            let threads = unsafe { (self.num_threads)() };
            let threads = usize::try_from(threads).unwrap_or(1);
            NonZeroUsize::new(threads).unwrap_or(NonZeroUsize::MIN)
        }

        /// torch's pool, of which so many threads are used; None where it cannot be had.
        pub(super) fn pool(self, threads: NonZeroUsize) -> Option<Pool> {
            let parallel_for = self.parallel_for?;
            (!FORKED.load(Ordering::Relaxed)).then_some(Pool {
                parallel_for,
                threads,
            })
        }
    }

    /// torch's thread pool.
    pub(super) struct Pool {
        parallel_for: ParallelFor,
        threads: NonZeroUsize,
    }

    /// What the C callback needs: the tasks, and room for a panic on its way back.
    struct Context<'a> {
        task: &'a (dyn Fn(usize) + Sync),
        panic: Mutex<Option<Box<dyn Any + Send>>>,
    }

    impl Executor for Pool {
        fn run(&self, count: usize, task: &(dyn Fn(usize) + Sync)) {
            let mut context = Context {
                task,
                panic: Mutex::new(None),
            };
            let pointer = (&raw mut context).cast::<c_void>();
            // So many tasks for one thread at least that no more threads are busy.
            let grain = count.div_ceil(self.threads.get()).max(1);
            // SAFETY: `body` matches `Body`, and the context outlives the call, which
            // returns only when all tasks are done.
            let status =
                unsafe { (self.parallel_for)(0, count as i64, grain as i64, body, pointer) };
            if let Ok(Some(panic)) = context.panic.into_inner() {
                resume_unwind(panic);
            }
            assert!(status == 0, "torch_parallel_for failed");
        }
    }

    /// Runs the tasks `begin..end`; nothing may unwind into C.
    unsafe extern "C" fn body(begin: i64, end: i64, context: *mut c_void) {
        // SAFETY: `run` passes a pointer to a `Context` that lives until all tasks are done,
        // and threads only share it.
        let context = unsafe { &*context.cast::<Context<'_>>() };
        let tasks = || (begin..end).for_each(|index| (context.task)(index as usize));
        if let Err(panic) = catch_unwind(AssertUnwindSafe(tasks))
            && let Ok(mut slot) = context.panic.lock()
        {
            slot.get_or_insert(panic);
        }
    }
}
