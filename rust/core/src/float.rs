//! The two element types of the kernels.

use std::ops::{Add, AddAssign, Mul, Sub};

/// An element type: `f32` or `f64`.
pub trait Float:
    Copy
    + Send
    + Sync
    + PartialOrd
    + Add<Output = Self>
    + Sub<Output = Self>
    + Mul<Output = Self>
    + AddAssign
    + private::Sealed
    + 'static
{
    /// 0.
    const ZERO: Self;
    /// Absolute value.
    fn abs(self) -> Self;
    /// -1, 0 or 1, with 0 for 0, -0 and NaN.
    fn sign(self) -> Self;
    /// Nearest value of this type.
    fn from_f64(value: f64) -> Self;
    /// The same value in double precision.
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
            fn sign(self) -> Self {
                // Two selects, which vectorise; `signum` would give 1 for 0.
                let positive = if self > 0.0 { 1.0 } else { 0.0 };
                let negative = if self < 0.0 { 1.0 } else { 0.0 };
                positive - negative
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
