//! What the C library does with large blocks of memory that are freed.
//!
//! The allocator of glibc gives blocks of more than 32 MiB back to the system at once, and the end of
//! its heap when it is free.  The system zeroes every page of a block that it hands out, which
//! takes longer than to fill it; a fit asks for the same blocks in every iteration.

use pyo3::{Python, pyfunction};

/// Keep freed blocks of memory for the process, or give them back as before; return whether the
/// C library can do so.
#[pyfunction]
pub(crate) fn keep_blocks(py: Python<'_>, keep: bool) -> bool {
    py.detach(|| set(keep))
}

#[cfg(all(target_os = "linux", target_env = "gnu"))]
fn set(keep: bool) -> bool {
    glibc::keep(keep)
}

#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
fn set(_: bool) -> bool {
    false
}

#[cfg(all(target_os = "linux", target_env = "gnu"))]
mod glibc {
    use libc::c_int;

    /// How many blocks may be mapped by the system at a time, by default.
    const MAPPED: c_int = 65536;
    /// The largest size of blocks of the heap that the allocator would come to by itself.
    const LARGE: c_int = 32 << 20;

    pub(super) fn keep(keep: bool) -> bool {
        let settings = if keep {
            [(libc::M_MMAP_MAX, 0), (libc::M_TRIM_THRESHOLD, c_int::MAX)]
        } else {
            [
                (libc::M_MMAP_MAX, MAPPED),
                (libc::M_TRIM_THRESHOLD, 2 * LARGE),
            ]
        };
        let mut done = true;
        for (parameter, value) in settings {
            // SAFETY: mallopt takes any numbers, and may be called at any time from any thread.
            done &= unsafe { libc::mallopt(parameter, value) } == 1;
        }
        if !keep {
            // To set one limit ends the adaptation of both, so the other is set, too.
            // SAFETY: as above; malloc_trim only gives free memory back.
            unsafe {
                libc::mallopt(libc::M_MMAP_THRESHOLD, LARGE);
                libc::malloc_trim(0);
            }
        }
        done
    }
}
