//! The element types of the layers of a network: they are computed with in `f32`.

/// An element type of layers: `f32` or [`Bf16`].
pub trait Value: Copy + Default + Send + Sync + private::Sealed + 'static {
    /// Returns the number.
    fn load(self) -> f32;
    /// Returns the nearest number of this type; of two that are as near, the even one.
    fn store(value: f32) -> Self;
}

/// A number of 16 bits, which are the first of those of `f32`: sign, exponent and 7 bits.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[repr(transparent)]
pub struct Bf16(pub u16);

mod private {
    pub trait Sealed {}
    impl Sealed for f32 {}
    impl Sealed for super::Bf16 {}
}

impl Value for f32 {
    #[inline(always)]
    fn load(self) -> f32 {
        self
    }
    #[inline(always)]
    fn store(value: f32) -> Self {
        value
    }
}

impl Value for Bf16 {
    #[inline(always)]
    fn load(self) -> f32 {
        f32::from_bits(u32::from(self.0) << 16)
    }
    #[inline(always)]
    fn store(value: f32) -> Self {
        let bits = value.to_bits();
        // To add a half and cut rounds; the last bit that stays decides between two that are as
        // near.  The bits of NaN must not run over into those of an infinity.
        let rounded = bits.wrapping_add(0x7fff + ((bits >> 16) & 1));
        Self(if value.is_nan() {
            (bits >> 16) as u16 | 0x40
        } else {
            (rounded >> 16) as u16
        })
    }
}
