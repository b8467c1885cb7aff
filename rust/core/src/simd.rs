//! One source for every instruction set: a kernel is compiled once for each of them, and
//! the widest that the processor has is chosen at run time.
//!
//! Kernels keep their sums in [`LANES`] lanes, whatever the width of a register, and the
//! compiler never fuses a multiplication with an addition, so the instruction set cannot be
//! seen in the result.

/// Number of partial sums that a kernel keeps: one AVX-512 register of `f32`.
pub(crate) const LANES: usize = 16;

/// A piece of work to be compiled for every instruction set.
pub(crate) trait Kernel {
    type Output;
    /// The work; implementations must be `#[inline(always)]`.
    fn run(self) -> Self::Output;
}

/// Runs a kernel with the widest instruction set at hand.
#[inline]
pub(crate) fn dispatch<K: Kernel>(kernel: K) -> K::Output {
    #[cfg(target_arch = "x86_64")]
    {
        if is_x86_feature_detected!("avx512f")
            && is_x86_feature_detected!("avx512bw")
            && is_x86_feature_detected!("avx512dq")
            && is_x86_feature_detected!("avx512vl")
        {
            // SAFETY: the processor was just found to have these features.
            return unsafe { avx512(kernel) };
        }
        if is_x86_feature_detected!("avx2") {
            // SAFETY: the processor was just found to have this feature.
            return unsafe { avx2(kernel) };
        }
    }
    kernel.run()
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
fn avx512<K: Kernel>(kernel: K) -> K::Output {
    kernel.run()
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
fn avx2<K: Kernel>(kernel: K) -> K::Output {
    kernel.run()
}
