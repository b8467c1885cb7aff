//! The threads that kernels run on.
//!
//! Where torch is loaded its own pool is borrowed: it follows `torch.set_num_threads`, and
//! its workers would otherwise spin beside ours.  The pool is reached through the C function
//! `torch_parallel_for`, which libtorch exports from 2.10 up.  Elsewhere, and for NumPy
//! callers without torch, threads are started for the call.

use dipfast_core::{Executor, Threads};

/// What to run the next kernel on.
pub(crate) fn executor() -> Box<dyn Executor> {
    #[cfg(target_os = "linux")]
    if let Some(pool) = torch::Pool::loaded() {
        return Box::new(pool);
    }
    Box::new(Threads::available())
}

#[cfg(target_os = "linux")]
mod torch {
    use std::any::Any;
    use std::ffi::c_void;
    use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
    use std::sync::{Mutex, OnceLock};

    use dipfast_core::Executor;

    type Body = unsafe extern "C" fn(i64, i64, *mut c_void);
    type ParallelFor = unsafe extern "C" fn(i64, i64, i64, Body, *mut c_void) -> i32;

    /// torch's thread pool.
    #[derive(Clone, Copy)]
    pub(super) struct Pool(ParallelFor);

    impl Pool {
        /// The pool, if this process has loaded a torch that exports it.
        pub(super) fn loaded() -> Option<Self> {
            static FOUND: OnceLock<Pool> = OnceLock::new();
            // Not found is not remembered: torch may be imported later.
            FOUND.get().copied().or_else(|| {
                let pool = Self::look_up()?;
                Some(*FOUND.get_or_init(|| pool))
            })
        }

        fn look_up() -> Option<Self> {
            // SAFETY: RTLD_NOLOAD runs no initialiser; it only finds what is loaded already.
            // The handle is kept, so that the function stays valid.
            let symbol = unsafe {
                let flags = libc::RTLD_NOLOAD | libc::RTLD_LAZY;
                let library = libc::dlopen(c"libtorch_cpu.so".as_ptr(), flags);
                if library.is_null() {
                    return None;
                }
                libc::dlsym(library, c"torch_parallel_for".as_ptr())
            };
            if symbol.is_null() {
                return None;
            }
            // SAFETY: the signature is that of torch/csrc/stable/c/shim.h, part of torch's
            // stable interface.
            Some(Self(unsafe {
                std::mem::transmute::<*mut c_void, ParallelFor>(symbol)
            }))
        }
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
            // SAFETY: `body` matches `Body`, and the context outlives the call, which
            // returns only when all tasks are done.
            let status = unsafe { (self.0)(0, count as i64, 1, body, pointer) };
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
