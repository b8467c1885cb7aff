//! The element types of images that `mse` and `ssim` read without a conversion.

use std::ops::AddAssign;

use super::float::Float;

/// An element type of images: `f32`, `f64`, `u8` or `u16`.
pub trait Sample: Copy + Send + Sync + private::Sealed + 'static {
    /// The type of results that are not integers.
    type Float: Float + Sum;
    /// The type of sums of squared differences: for integers such sums are exact with up to 65536
    /// terms.
    type Square: Sum;
    /// Returns self - other.
    fn difference(self, other: Self) -> Self::Float;
    /// Returns (self - other)^2.
    fn square(self, other: Self) -> Self::Square;
    /// Returns the same number as `f64`.
    fn to_f64(self) -> f64;
}

/// A type of sums that are added to a sum in `f64` before they lose digits.
pub trait Sum: Copy + Default + AddAssign {
    /// Returns the same number as `f64`.
    fn to_f64(self) -> f64;
}

mod private {
    pub trait Sealed {}
    impl Sealed for f32 {}
    impl Sealed for f64 {}
    impl Sealed for u8 {}
    impl Sealed for u16 {}
}

macro_rules! float {
    ($t:ty) => {
        impl Sum for $t {
            #[inline(always)]
            fn to_f64(self) -> f64 {
                self.into()
            }
        }

        impl Sample for $t {
            type Float = $t;
            type Square = $t;
            #[inline(always)]
            fn difference(self, other: Self) -> $t {
                self - other
            }
            #[inline(always)]
            fn square(self, other: Self) -> $t {
                let difference = self - other;
                difference * difference
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

impl Sum for u32 {
    #[inline(always)]
    fn to_f64(self) -> f64 {
        self.into()
    }
}

impl Sum for u64 {
    #[inline(always)]
    fn to_f64(self) -> f64 {
        self as f64
    }
}

macro_rules! integer {
    ($t:ty, $square:ty, $sum:ty) => {
        impl Sample for $t {
            type Float = f64;
            type Square = $sum;
            #[inline(always)]
            fn difference(self, other: Self) -> f64 {
                f64::from(self) - f64::from(other)
            }
            #[inline(always)]
            fn square(self, other: Self) -> $sum {
                let difference = <$square>::from(self.abs_diff(other));
                (difference * difference).into()
            }
            #[inline(always)]
            fn to_f64(self) -> f64 {
                self.into()
            }
        }
    };
}

integer!(u8, u16, u32);
integer!(u16, u32, u64);
