//! Masks: which elements of an image count, and with which weight.

/// A mask of a whole number of planes, with a value for each element.
#[derive(Debug, Clone, Copy)]
pub enum Mask<'a, T> {
    /// The weights of the elements.
    Weights(&'a [T]),
    /// Bytes that are not zero where elements count.
    Known(&'a [u8]),
}

impl<T> Mask<'_, T> {
    /// Returns the number of elements.
    pub(crate) fn len(&self) -> usize {
        match self {
            Self::Weights(values) => values.len(),
            Self::Known(values) => values.len(),
        }
    }
}
