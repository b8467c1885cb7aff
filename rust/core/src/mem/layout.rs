//! The layout of images in memory.

use crate::error::Error;

/// The layout of `planes` stacks of `slices` images of `rows` rows, in which horizontal
/// neighbours are `step` elements apart.
///
/// One description serves both memory formats: a planar image (N, C, H, W) is N*C planes
/// with rows of W elements and step 1; an interleaved one (N, H, W, C, "channels last") is
/// N planes with rows of W*C elements and step C.  Images have one slice, volumes several.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Layout {
    pub(crate) planes: usize,
    pub(crate) slices: usize,
    pub(crate) rows: usize,
    pub(crate) row_len: usize,
    pub(crate) step: usize,
}

impl Layout {
    /// Returns the layout of `planes` contiguous images of `rows` x `columns`.
    ///
    /// # Errors
    /// [`Error::SizeOverflow`] if the number of elements is larger than the largest `usize`.
    pub fn planar(planes: usize, rows: usize, columns: usize) -> Result<Self, Error> {
        Self::interleaved(planes, rows, columns, 1)
    }

    /// Returns the layout of `planes` images of `rows` x `columns`, in which the `channels` of a
    /// pixel lie side by side.
    ///
    /// # Errors
    /// [`Error::SizeOverflow`] if the number of elements is larger than the largest `usize`.
    pub fn interleaved(
        planes: usize,
        rows: usize,
        columns: usize,
        channels: usize,
    ) -> Result<Self, Error> {
        Self::volumes(planes, 1, rows, columns, channels)
    }

    /// Returns the layout of `planes` stacks of `slices` images of `rows` x `columns`, in which the
    /// `channels` of a pixel lie side by side.
    ///
    /// # Errors
    /// [`Error::SizeOverflow`] if the number of elements is larger than the largest `usize`.
    pub fn volumes(
        planes: usize,
        slices: usize,
        rows: usize,
        columns: usize,
        channels: usize,
    ) -> Result<Self, Error> {
        let sizes = [planes, slices, rows, columns, channels];
        // If one size is 0, the product of the others must not overflow either.
        let product = |sizes: &[usize]| {
            sizes
                .iter()
                .try_fold(1_usize, |product, &size| product.checked_mul(size.max(1)))
        };
        product(&sizes).ok_or(Error::SizeOverflow)?;
        Ok(Self {
            planes,
            slices,
            rows,
            row_len: columns * channels,
            step: channels,
        })
    }

    /// Returns the number of elements.
    #[must_use]
    pub fn len(&self) -> usize {
        self.planes * self.slices * self.rows * self.row_len
    }

    /// Returns whether there are no elements.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}
