//! Large buffers of zeros.

use std::ops::{Deref, DerefMut, Range};

use crate::element::Float;

/// The number of bytes from which on huge pages are asked for, as NumPy does: with small pages
/// the first write to each of them can take longer than the computation.
const HUGE: usize = 1 << 22;

/// Returns `count` zeros.
pub(crate) fn zeros<T: Float>(count: usize) -> Vec<T> {
    // The system provides zeros, so that nothing is written here.
    let values = vec![T::ZERO; count];
    if count * size_of::<T>() >= HUGE {
        ask_for_huge_pages(&values);
    }
    values
}

/// Advises the system to use huge pages for a buffer.
#[cfg(target_os = "linux")]
fn ask_for_huge_pages<T: Float>(values: &[T]) {
    const PAGE: usize = 1 << 12;
    let range = values.as_ptr_range();
    let start = (range.start as usize).next_multiple_of(PAGE);
    let Some(length) = (range.end as usize).checked_sub(start) else {
        return;
    };
    let start = values
        .as_ptr()
        .wrapping_byte_add(start - range.start as usize);
    // SAFETY: the range lies within a live allocation, and the advice changes no content of
    // memory, whether it is followed or not.
    unsafe {
        libc::madvise(start.cast_mut().cast(), length, libc::MADV_HUGEPAGE);
    }
}

#[cfg(not(target_os = "linux"))]
fn ask_for_huge_pages<T: Float>(_: &[T]) {}

/// A buffer of zeros that begins at a cache line.
#[derive(Debug)]
pub(crate) struct Aligned<T> {
    values: Vec<T>,
    range: Range<usize>,
}

impl<T: Float> Aligned<T> {
    /// Returns `count` zeros.
    pub(crate) fn new(count: usize) -> Self {
        const LINE: usize = 64;
        let values = zeros::<T>(count + LINE);
        let start = values.as_ptr().align_offset(LINE).min(LINE);
        Self {
            values,
            range: start..start + count,
        }
    }
}

impl<T> Deref for Aligned<T> {
    type Target = [T];
    #[inline(always)]
    fn deref(&self) -> &[T] {
        &self.values[self.range.clone()]
    }
}

impl<T> DerefMut for Aligned<T> {
    #[inline(always)]
    fn deref_mut(&mut self) -> &mut [T] {
        &mut self.values[self.range.clone()]
    }
}
