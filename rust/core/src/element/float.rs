//! The two element types of the kernels.

use std::ops::{Add, AddAssign, Div, Mul, Sub};

/// An element type: `f32` or `f64`.
pub trait Float:
    Copy
    + Default
    + Send
    + Sync
    + PartialOrd
    + Add<Output = Self>
    + Sub<Output = Self>
    + Mul<Output = Self>
    + Div<Output = Self>
    + AddAssign
    + private::Sealed
    + 'static
{
    /// The number 0.
    const ZERO: Self;
    /// Returns the absolute value.
    fn abs(self) -> Self;
    /// Returns -1, 0 or 1, with 0 for 0, -0 and NaN.
    fn sign(self) -> Self;
    /// Returns the square root.
    fn sqrt(self) -> Self;
    /// Returns 1 / self, and 0 for 0.
    fn inverse(self) -> Self;
    /// Returns the larger number; `other` where one is NaN.
    fn max(self, other: Self) -> Self;
    /// Returns the nearest number of this type.
    fn from_f64(value: f64) -> Self;
    /// Returns the same number as `f64`.
    fn to_f64(self) -> f64;
}

mod private {
    pub trait Sealed {}
    impl Sealed for f32 {}
    impl Sealed for f64 {}
}

macro_rules! float {
    ($t:ty) => {
        impl Float for $t {
            const ZERO: Self = 0.0;
            #[inline(always)]
            fn abs(self) -> Self {
                self.abs()
            }
            #[inline(always)]
            #[allow(clippy::double_comparisons, reason = "NaN is neither, and its sign 0")]
            fn sign(self) -> Self {
                // One comparison and one bit operation where the processor has them; `signum`
                // would give 1 for 0.
                let one = <$t>::copysign(1.0, self);
                if self < 0.0 || self > 0.0 { one } else { 0.0 }
            }
            #[inline(always)]
            fn sqrt(self) -> Self {
                self.sqrt()
            }
            #[inline(always)]
            fn inverse(self) -> Self {
                if self == 0.0 { 0.0 } else { 1.0 / self }
            }
            #[inline(always)]
            fn max(self, other: Self) -> Self {
                if self > other { self } else { other }
            }
            #[inline(always)]
            fn from_f64(value: f64) -> Self {
                value as $t
            }
            #[inline(always)]
            fn to_f64(self) -> f64 {
                self.into()
            }
        }
    };
}

float!(f32);
float!(f64);

/// Returns a finite value itself and NaN for others: an infinite sum says no more than NaN, and
/// one test for NaN is easier on the caller.
pub(crate) fn finite_or_nan(value: f64) -> f64 {
    if value.is_finite() { value } else { f64::NAN }
}
