//! The element types of images that the metrics read as they are.

use std::ops::AddAssign;

use super::float::Float;

/// An element type of images: `f32`, `f64`, `u8` or `u16`.
pub trait Sample: Copy + Send + Sync + private::Sealed + 'static {
    /// What is computed in where integers do not suffice.
    type Float: Float + Sum;
    /// What squares of differences are added up in: exact for integers, of which it has room
    /// for at least 65536.
    type Square: Sum;
    /// self - other.
    fn difference(self, other: Self) -> Self::Float;
    /// (self - other)^2.
    fn square(self, other: Self) -> Self::Square;
    /// The same value in double precision.
    fn to_f64(self) -> f64;
}

/// What sums are kept in until they are emptied into double precision.
pub trait Sum: Copy + Default + AddAssign {
    /// The same value in double precision.
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
