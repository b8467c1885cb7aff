//! Reading and writing images that are larger than the caches.
//!
//! Processors fetch memory ahead of time by themselves, but stop to do so where a page ends and
//! where results are written in between: [`prefetch`] asks for it.
//!
//! An ordinary store first reads the cache line that it changes, and replaces another line of the
//! cache.  A streaming store does neither, which saves a third of the traffic for results that do
//! not fit into the cache anyway: [`store_streaming`] uses it.

use crate::element::Float;

/// Fetches up to `count` elements into the cache that will be read soon.
#[inline(always)]
pub(crate) fn prefetch<T: Float>(values: &[T], from: usize, count: usize) {
    let end = (from + count).min(values.len());
    let lines = values.get(from..end).unwrap_or_default();
    #[cfg(target_arch = "x86_64")]
    for line in lines.chunks(64 / size_of::<T>()) {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        // SAFETY: SSE is part of x86-64, and the address is that of an element.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(line.as_ptr().cast()) };
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = lines;
}

/// Copies `from` to `to`, which must have the same length, without filling the cache.
///
/// [`fence`] must follow the last such copy.
#[inline(always)]
pub(crate) fn store_streaming<T: Float>(from: &[T], to: &mut [T]) {
    #[cfg(target_arch = "x86_64")]
    stream(from, to);
    #[cfg(not(target_arch = "x86_64"))]
    to.copy_from_slice(from);
}

#[cfg(target_arch = "x86_64")]
#[inline(always)]
fn stream<T: Float>(from: &[T], to: &mut [T]) {
    use std::arch::x86_64::{__m128i, _mm_loadu_si128, _mm_stream_si128};
    let from = &from[..to.len()];
    // SAFETY: both types are plain numbers, and any bits make a valid `__m128i`.
    let (head, body, tail) = unsafe { to.align_to_mut::<__m128i>() };
    let per_register = size_of::<__m128i>() / size_of::<T>();
    let (first, rest) = from.split_at(head.len());
    let (middle, last) = rest.split_at(body.len() * per_register);
    head.copy_from_slice(first);
    for (register, values) in body.iter_mut().zip(middle.chunks_exact(per_register)) {
        // SAFETY: SSE2 is part of x86-64; `values` has the size of a register and `register`
        // its alignment.
        unsafe { _mm_stream_si128(register, _mm_loadu_si128(values.as_ptr().cast())) };
    }
    tail.copy_from_slice(last);
}

/// Orders streaming stores before all later stores.
///
/// It must be called before another thread is told that the result is ready, because nothing else
/// keeps streaming stores in order with what follows.
#[inline(always)]
pub(crate) fn fence() {
    // SAFETY: SSE is part of x86-64.
    #[cfg(target_arch = "x86_64")]
    unsafe {
        std::arch::x86_64::_mm_sfence();
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn copies_whatever_the_alignment() {
        let from: Vec<f32> = (0..100_u8).map(f32::from).collect();
        for start in 0..9 {
            for length in 0..60 {
                let mut to = [-1.0; 100];
                store_streaming(&from[..length], &mut to[start..start + length]);
                fence();
                assert!(to[..start].iter().all(|&x| x == -1.0));
                assert_eq!(to[start..start + length], from[..length]);
                assert!(to[start + length..].iter().all(|&x| x == -1.0));
            }
        }
    }
}
