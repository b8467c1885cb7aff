//! What the C library does with large blocks of memory that are freed.
//!
//! The allocator of glibc gives blocks from 32 MiB on back to the system at once, and the end of
//! its heap when it is free.  The system zeroes every page of a block that it hands out, which
//! takes longer than to fill it; a fit asks for the same blocks in every iteration.

use pyo3::pyfunction;

/// Keep freed blocks of memory for the process, or give them back as before; return whether the
/// C library can do so.
#[pyfunction]
pub(crate) fn keep_blocks(keep: bool) -> bool {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    return glibc::keep(keep);
    #[cfg(not(all(target_os = "linux", target_env = "gnu")))]
    {
        let _ = keep;
        false
    }
}

#[cfg(all(target_os = "linux", target_env = "gnu"))]
mod glibc {
    use libc::c_int;

    /// No block is larger.
    const ALL: c_int = c_int::MAX;
    /// The largest values that the allocator would come to by itself.
    const LARGE: c_int = 32 << 20;

    pub(super) fn keep(keep: bool) -> bool {
        let [map_from, trim_from] = if keep { [ALL, ALL] } else { [LARGE, 2 * LARGE] };
        // SAFETY: mallopt takes any numbers, and may be called at any time from any thread.
        let done = unsafe {
            libc::mallopt(libc::M_MMAP_THRESHOLD, map_from) == 1
                && libc::mallopt(libc::M_TRIM_THRESHOLD, trim_from) == 1
        };
        if !keep {
            // SAFETY: malloc_trim only gives free memory back; it may be called at any time.
            unsafe { libc::malloc_trim(0) };
        }
        done
    }
}
