//! Which elements of an image count, and for how much.

/// A value for each element of a whole number of planes.
#[derive(Debug, Clone, Copy)]
pub enum Mask<'a, T> {
    /// Weights.
    Weights(&'a [T]),
    /// 1 where not zero, else 0.
    Known(&'a [u8]),
}

impl<T> Mask<'_, T> {
    pub(crate) fn len(&self) -> usize {
        match self {
            Self::Weights(values) => values.len(),
            Self::Known(values) => values.len(),
        }
    }
}
