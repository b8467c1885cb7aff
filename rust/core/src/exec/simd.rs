//! Instruction sets: a kernel is compiled once for each of them, and the widest one that the
//! processor has is chosen at run time.
//!
//! Kernels keep their sums in [`LANES`] lanes, whatever the width of a register, and the
//! compiler never fuses a multiplication with an addition, so the result has the
//! same bits with every instruction set.  Kernels that arithmetic bounds fuse them themselves where
//! the processor can ([`FusedKernel`]): these have the same bits on all processors that can.

use crate::element::Float;

/// The number of partial sums that a kernel keeps: one AVX-512 register of `f32`.
pub(crate) const LANES: usize = 16;

/// The number of chunks of [`LANES`] elements after which the lanes are added to a sum in `f64`.
pub(crate) const CHUNKS_PER_SUM: usize = 64;

/// A sum in [`LANES`] lanes that are added to a sum in `f64` before they lose digits.
pub(crate) struct Lanes<T> {
    lanes: [T; LANES],
    chunks: usize,
    total: f64,
}

impl<T: Float> Lanes<T> {
    #[inline(always)]
    pub(crate) fn new() -> Self {
        Self {
            lanes: [T::ZERO; LANES],
            chunks: 0,
            total: 0.0,
        }
    }

    /// Returns the lanes, to which this many chunks, at most [`CHUNKS_PER_SUM`], may be added.
    ///
    /// [`Lanes::end`] takes them back.
    #[inline(always)]
    pub(crate) fn begin(&mut self, chunks: usize) -> [T; LANES] {
        self.chunks += chunks;
        if self.chunks > CHUNKS_PER_SUM {
            self.empty();
            self.chunks = chunks;
        }
        self.lanes
    }

    /// Takes back the lanes of [`Lanes::begin`].
    #[inline(always)]
    pub(crate) fn end(&mut self, lanes: [T; LANES]) {
        self.lanes = lanes;
    }

    #[inline(always)]
    fn empty(&mut self) {
        self.total += self.lanes.iter().map(|lane| lane.to_f64()).sum::<f64>();
        self.lanes = [T::ZERO; LANES];
    }

    /// Returns the sum.
    #[inline(always)]
    pub(crate) fn sum(mut self) -> f64 {
        self.empty();
        self.total
    }
}

/// A piece of work to be compiled for every instruction set.
pub(crate) trait Kernel {
    type Output;
    /// Does the work; implementations must be `#[inline(always)]`.
    fn run(self) -> Self::Output;
}

/// Whether every processor of the architecture multiplies and adds in one step; where not, the
/// compiler would call a function instead, which takes a hundred times as long.
const BASELINE_FUSES: bool = cfg!(target_arch = "aarch64");

/// A piece of work that multiplies and adds in one step, with one rounding, if `FUSED`.
pub(crate) trait FusedKernel {
    type Output;
    /// Does the work; implementations must be `#[inline(always)]`.
    fn run<const FUSED: bool>(self) -> Self::Output;
}

/// Returns `sum + a * b`.
#[inline(always)]
pub(crate) fn multiply_add<const FUSED: bool>(sum: f32, a: f32, b: f32) -> f32 {
    if FUSED {
        a.mul_add(b, sum)
    } else {
        sum + a * b
    }
}

/// A fused kernel as a kernel.
struct Fused<K, const FUSED: bool>(K);

impl<K: FusedKernel, const FUSED: bool> Kernel for Fused<K, FUSED> {
    type Output = K::Output;

    #[inline(always)]
    fn run(self) -> K::Output {
        self.0.run::<FUSED>()
    }
}

/// An instruction set that kernels are compiled for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum InstructionSet {
    /// The instructions that every processor of the architecture has.
    Baseline,
    #[cfg(target_arch = "x86_64")]
    Avx2,
    #[cfg(target_arch = "x86_64")]
    Avx512,
}

impl InstructionSet {
    /// All instruction sets of the architecture, the widest last.
    pub(crate) const ALL: &[Self] = &[
        Self::Baseline,
        #[cfg(target_arch = "x86_64")]
        Self::Avx2,
        #[cfg(target_arch = "x86_64")]
        Self::Avx512,
    ];

    /// Returns whether this processor has the instruction set.
    pub(crate) fn is_available(self) -> bool {
        match self {
            Self::Baseline => true,
            #[cfg(target_arch = "x86_64")]
            Self::Avx2 => is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma"),
            #[cfg(target_arch = "x86_64")]
            Self::Avx512 => {
                is_x86_feature_detected!("avx512f")
                    && is_x86_feature_detected!("avx512bw")
                    && is_x86_feature_detected!("avx512dq")
                    && is_x86_feature_detected!("avx512vl")
            }
        }
    }

    /// Runs a kernel compiled for this instruction set, or for the baseline where it is not
    /// available.
    #[inline]
    pub(crate) fn run<K: Kernel>(self, kernel: K) -> K::Output {
        match self {
            // SAFETY: the processor has these features.
            #[cfg(target_arch = "x86_64")]
            Self::Avx512 if self.is_available() => unsafe { avx512(kernel) },
            // SAFETY: the processor has these features.
            #[cfg(target_arch = "x86_64")]
            Self::Avx2 if self.is_available() => unsafe { avx2(kernel) },
            _ => kernel.run(),
        }
    }

    /// Runs a fused kernel compiled for this instruction set, or for the baseline where it is not
    /// available.
    #[inline]
    pub(crate) fn run_fused<K: FusedKernel>(self, kernel: K) -> K::Output {
        if BASELINE_FUSES || (self != Self::Baseline && self.is_available()) {
            self.run(Fused::<K, true>(kernel))
        } else {
            self.run(Fused::<K, false>(kernel))
        }
    }

    /// Returns the widest instruction set that the processor has.
    #[inline]
    fn widest() -> Self {
        let widest = Self::ALL.iter().rfind(|set| set.is_available());
        widest.copied().unwrap_or(Self::Baseline)
    }
}

/// Runs a kernel with the widest instruction set that the processor has.
#[inline]
pub(crate) fn dispatch<K: Kernel>(kernel: K) -> K::Output {
    InstructionSet::widest().run(kernel)
}

/// Runs a fused kernel with the widest instruction set that the processor has.
#[inline]
pub(crate) fn dispatch_fused<K: FusedKernel>(kernel: K) -> K::Output {
    InstructionSet::widest().run_fused(kernel)
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
fn avx512<K: Kernel>(kernel: K) -> K::Output {
    kernel.run()
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
fn avx2<K: Kernel>(kernel: K) -> K::Output {
    kernel.run()
}
