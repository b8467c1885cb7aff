//! How an image lies in memory.

use crate::error::Error;

/// `planes` stacks of `slices` images of `rows` rows; horizontal neighbours are `step`
/// elements apart.
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
    /// `planes` contiguous images of `rows` x `columns`.
    ///
    /// # Errors
    /// [`Error::SizeOverflow`] if the number of elements does not fit.
    pub fn planar(planes: usize, rows: usize, columns: usize) -> Result<Self, Error> {
        Self::interleaved(planes, rows, columns, 1)
    }

    /// `planes` images of `rows` x `columns`, the `channels` of a pixel side by side.
    ///
    /// # Errors
    /// [`Error::SizeOverflow`] if the number of elements does not fit.
    pub fn interleaved(
        planes: usize,
        rows: usize,
        columns: usize,
        channels: usize,
    ) -> Result<Self, Error> {
        Self::volumes(planes, 1, rows, columns, channels)
    }

    /// `planes` stacks of `slices` images of `rows` x `columns`, the `channels` of a pixel
    /// side by side.
    ///
    /// # Errors
    /// [`Error::SizeOverflow`] if the number of elements does not fit.
    pub fn volumes(
        planes: usize,
        slices: usize,
        rows: usize,
        columns: usize,
        channels: usize,
    ) -> Result<Self, Error> {
        let sizes = [planes, slices, rows, columns, channels];
        // Also with a size of 0 the product of the others has to fit.
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

    /// Number of elements.
    #[must_use]
    pub fn len(&self) -> usize {
        self.planes * self.slices * self.rows * self.row_len
    }

    /// Whether there is no element at all.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}
