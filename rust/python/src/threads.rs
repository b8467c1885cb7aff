//! The threads that kernels run on.
//!
//! Where torch is loaded its own pool is borrowed: it follows `torch.set_num_threads`, and
//! its workers would otherwise spin beside ours.  The pool is reached through the C function
//! `torch_parallel_for`, which libtorch exports from 2.10 up.  With an older torch as many
//! threads as it would use are started for the call, and for NumPy callers without torch as
//! many as the process may use.  It is never more than that: affinity and cgroup quota count.
//!
//! A process that was forked has none of the threads of its parent, and OpenMP, which torch's
//! pool is made of, would wait for them for ever.  So the pool of the thread that forks is let
//! go before, in the parent, and both processes make a new one when they need it.  Where that
//! cannot be, the process is left without a pool ([`threads_are_lost`]): kernels start threads
//! for the call, and Python tells torch to use one.

use std::num::NonZeroUsize;
use std::sync::OnceLock;

use dipfast_core::exec::{Executor, Threads};
use pyo3::pyfunction;

/// Prepares for forks; to be called once, when the module is imported.
pub(crate) fn prepare() {
    #[cfg(target_os = "linux")]
    forks::prepare();
}

/// Return whether this process was forked from one whose threads torch would wait for ever for.
///
/// Torch may then use one thread only.
#[pyfunction]
pub(crate) fn threads_are_lost() -> bool {
    #[cfg(target_os = "linux")]
    return forks::threads_are_lost();
    #[cfg(not(target_os = "linux"))]
    return false;
}

/// Returns the threads that the next kernel is to run on.
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

/// Returns the number of processors that the process may use.
///
/// It is asked for once, because that means reading files.
fn available() -> NonZeroUsize {
    static AVAILABLE: OnceLock<NonZeroUsize> = OnceLock::new();
    *AVAILABLE.get_or_init(|| Threads::available().0)
}

#[cfg(target_os = "linux")]
mod torch {
    use std::any::Any;
    use std::ffi::{CStr, c_int, c_uint, c_void};
    use std::num::NonZeroUsize;
    use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
    use std::sync::{Mutex, OnceLock};

    use dipfast_core::exec::Executor;

    use super::forks::threads_are_lost;

    type NumThreads = unsafe extern "C" fn() -> c_int;
    type Body = unsafe extern "C" fn(i64, i64, *mut c_void);
    type ParallelFor = unsafe extern "C" fn(i64, i64, i64, Body, *mut c_void) -> i32;
    type Pause = unsafe extern "C" fn(c_int) -> c_int;
    type Region = unsafe extern "C" fn(Work, *mut c_void, c_uint, c_uint);
    type Work = unsafe extern "C" fn(*mut c_void);

    /// The functions of torch and OpenMP that this process has loaded.
    #[derive(Clone, Copy)]
    pub(super) struct Torch {
        num_threads: NumThreads,
        parallel_for: Option<ParallelFor>,
        gomp: Option<Gomp>,
        /// Another runtime of OpenMP, that of LLVM or Intel, which sees to forks itself.
        other_openmp: bool,
    }

    /// The OpenMP of GCC.
    #[derive(Clone, Copy)]
    struct Gomp {
        pause: Pause,
        region: Region,
    }

    impl Torch {
        /// Returns what is loaded of torch; None if there is no torch in this process.
        pub(super) fn loaded() -> Option<Self> {
            static FOUND: OnceLock<Torch> = OnceLock::new();
            // That there is no torch is not remembered, because it may be imported later.
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
            // SAFETY: `omp_pause_resource_all` of OpenMP 5.0, and what GCC makes of a parallel
            // region, part of its binary interface; found through what libtorch depends on.
            let gomp = symbol(c"omp_pause_resource_all")
                .zip(symbol(c"GOMP_parallel"))
                .map(|(pause, region)| unsafe {
                    Gomp {
                        pause: std::mem::transmute::<*mut c_void, Pause>(pause),
                        region: std::mem::transmute::<*mut c_void, Region>(region),
                    }
                });
            Some(Self {
                num_threads,
                parallel_for,
                gomp,
                other_openmp: symbol(c"kmp_set_blocktime").is_some(),
            })
        }

        /// Returns what `torch.get_num_threads()` does.
        pub(super) fn threads(self) -> NonZeroUsize {
            // SAFETY: see `look_up`.
            let threads = unsafe { (self.num_threads)() };
            let threads = usize::try_from(threads).unwrap_or(1);
            NonZeroUsize::new(threads).unwrap_or(NonZeroUsize::MIN)
        }

        /// Returns torch's pool, limited to this many threads; None where it cannot be used.
        pub(super) fn pool(self, threads: NonZeroUsize) -> Option<Pool> {
            let parallel_for = self.parallel_for?;
            (!threads_are_lost()).then_some(Pool {
                parallel_for,
                threads,
            })
        }

        /// Ends the threads of the pool that this thread uses, which OpenMP replaces by new ones.
        ///
        /// Returns false where that is needed and could not be done.
        pub(super) fn let_go(self) -> bool {
            const HARD: c_int = 2;
            self.other_openmp
                || self.gomp.is_some_and(|gomp| {
                    // SAFETY: see `look_up`.  Within a parallel region it refuses.
                    unsafe { (gomp.pause)(HARD) == 0 }
                })
        }

        /// Lets all threads of the pool do nothing; does not return if they are lost.
        pub(super) fn meet(self) {
            unsafe extern "C" fn nothing(_: *mut c_void) {}
            if let Some(gomp) = self.gomp
                && !self.other_openmp
            {
                // SAFETY: see `look_up`; `nothing` matches `Work`, and looks at no data.
                unsafe { (gomp.region)(nothing, std::ptr::null_mut(), 0, 0) };
            }
        }
    }

    /// torch's thread pool.
    pub(super) struct Pool {
        parallel_for: ParallelFor,
        threads: NonZeroUsize,
    }

    /// What the C callback needs: the tasks, and room for the panic of a task.
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
            // With at least this many tasks for a thread, no more threads than wanted are busy.
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

/// Keeps torch's threads usable when a process is forked.
#[cfg(target_os = "linux")]
mod forks {
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::torch::Torch;

    static LET_GO: AtomicBool = AtomicBool::new(false);
    static LOST: AtomicBool = AtomicBool::new(false);

    /// Returns whether this process has none of the threads that torch would wait for.
    pub(super) fn threads_are_lost() -> bool {
        LOST.load(Ordering::Relaxed)
    }

    /// Registers what is done at a fork, and finds out whether this process was forked before.
    pub(super) fn prepare() {
        unsafe extern "C" fn before() {
            // To let go of a pool that is lost would take for ever.
            let sound = !threads_are_lost() && Torch::loaded().is_none_or(Torch::let_go);
            LET_GO.store(sound, Ordering::Relaxed);
        }
        unsafe extern "C" fn in_child() {
            LOST.store(!LET_GO.load(Ordering::Relaxed), Ordering::Relaxed);
        }
        if let Some(torch) = Torch::loaded()
            && is_forked()
        {
            // The fork was before this module was loaded, so that the pool was not let go.
            LOST.store(!meets_in_a_child(torch), Ordering::Relaxed);
        }
        // SAFETY: the handlers touch nothing but atomics, the loader and OpenMP, which are in
        // order before a fork.
        unsafe { libc::pthread_atfork(Some(before), None, Some(in_child)) };
    }

    /// Returns whether this process was forked and is still the same program.
    fn is_forked() -> bool {
        const PF_FORKNOEXEC: u32 = 0x40;
        let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
        // The name, in brackets, may hold anything; the flags are the seventh field after it.
        let after_name = stat.rsplit(')').next().unwrap_or_default();
        let flags = after_name.split_whitespace().nth(6);
        flags.is_some_and(|f| f.parse().is_ok_and(|f: u32| f & PF_FORKNOEXEC != 0))
    }

    /// Returns whether the pool works, by trying it in a child process that a timer ends.
    fn meets_in_a_child(torch: Torch) -> bool {
        const SECONDS: u32 = 2;
        // SAFETY: the child calls nothing but the system and OpenMP, whose state is that of this
        // thread, and ends.
        unsafe {
            let child = libc::fork();
            if child == 0 {
                libc::signal(libc::SIGALRM, libc::SIG_DFL);
                let mut alarm: libc::sigset_t = std::mem::zeroed();
                libc::sigemptyset(&raw mut alarm);
                libc::sigaddset(&raw mut alarm, libc::SIGALRM);
                libc::sigprocmask(libc::SIG_UNBLOCK, &raw const alarm, std::ptr::null_mut());
                libc::alarm(SECONDS);
                torch.meet();
                libc::_exit(0);
            }
            let mut status = 0;
            while libc::waitpid(child, &raw mut status, 0) == -1 {
                if std::io::Error::last_os_error().kind() != std::io::ErrorKind::Interrupted {
                    return false;
                }
            }
            status == 0
        }
    }
}
