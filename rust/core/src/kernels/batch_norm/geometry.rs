//! Where the rows of a layer lie, and how it is padded.

use crate::Error;
use crate::element::Value;
use crate::error::check_positive;

/// What lies beyond the border of a padded layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Border {
    /// The layer mirrored at its last row or column, which is not repeated.
    Reflect,
    /// Its last row or column.
    Edge,
}

/// The sizes of a layer and of its padded form.
#[derive(Debug, Clone, Copy)]
pub struct Geometry {
    /// The number of images.
    pub images: usize,
    /// The number of rows that count.
    pub rows: usize,
    /// The number of columns that count.
    pub columns: usize,
    /// The number of channels of a pixel.
    pub channels: usize,
    /// The rows and columns at each side of the input that do not count.
    pub crop: usize,
    /// The rows and columns that are added at each side of the output.
    pub pad: usize,
    /// What is added there.
    pub border: Border,
}

/// The elements that a task works on, about.
const ELEMENTS_OF_TASK: usize = 1 << 15;

/// The elements of a block of columns, about: so few that it stays in the nearest cache while
/// chunk after chunk of its channels is computed.
const ELEMENTS_OF_BLOCK: usize = 1 << 11;

/// An image and a row of it.
pub(super) struct Row {
    pub(super) image: usize,
    pub(super) row: usize,
}

impl Geometry {
    pub(super) fn cropped_rows(&self) -> usize {
        self.rows + 2 * self.crop
    }

    pub(super) fn cropped_columns(&self) -> usize {
        self.columns + 2 * self.crop
    }

    pub(super) fn padded_rows(&self) -> usize {
        self.rows + 2 * self.pad
    }

    pub(super) fn padded_columns(&self) -> usize {
        self.columns + 2 * self.pad
    }

    /// Returns the number of elements of the input.
    pub(super) fn cropped_len(&self) -> Result<usize, Error> {
        self.len(self.crop)
    }

    /// Returns the number of elements of the output.
    pub(super) fn padded_len(&self) -> Result<usize, Error> {
        let least = self.rows.min(self.columns);
        // A reflection reaches no further than the other side.
        if self.border == Border::Reflect && self.pad >= least && self.pad > 0 {
            return Err(Error::SmallerThanWindow {
                rows: self.rows,
                columns: self.columns,
                window: self.pad.saturating_add(1),
            });
        }
        self.len(self.pad)
    }

    fn len(&self, margin: usize) -> Result<usize, Error> {
        for size in [self.images, self.rows, self.columns] {
            check_positive("the number of pixels", size)?;
        }
        check_positive("the number of channels", self.channels)?;
        let sides = [self.rows, self.columns].map(|n| n.checked_add(margin.checked_mul(2)?));
        let [rows, columns] = sides;
        rows.and_then(|n| n.checked_mul(columns?))
            .and_then(|n| n.checked_mul(self.images))
            .and_then(|n| n.checked_mul(self.channels))
            .ok_or(Error::SizeOverflow)
    }

    /// Returns the number of pixels that count.
    pub(super) fn pixels(&self) -> usize {
        self.images * self.rows * self.columns
    }

    /// Returns the number of rows of a task, which depends on the shape alone.
    pub(super) fn rows_per_task(&self) -> usize {
        (ELEMENTS_OF_TASK / (self.columns * self.channels)).max(1)
    }

    /// Returns the number of columns of a block.
    pub(super) fn columns_per_block(&self) -> usize {
        (ELEMENTS_OF_BLOCK / self.channels).max(8)
    }

    /// Returns the index of the first element that counts.
    pub(super) fn first(&self) -> usize {
        (self.crop * self.cropped_columns() + self.crop) * self.channels
    }

    /// Returns the elements of a row that count.
    #[inline(always)]
    pub(super) fn row<'a, T>(&self, x: &'a [T], image: usize, row: usize) -> &'a [T] {
        let line = image * self.cropped_rows() + row + self.crop;
        let begin = (line * self.cropped_columns() + self.crop) * self.channels;
        &x[begin..begin + self.columns * self.channels]
    }

    /// Returns the channels of a pixel that counts, by its index over all images.
    pub(super) fn pixel<'a, T>(&self, x: &'a [T], index: usize) -> &'a [T] {
        let (line, column) = (index / self.columns, index % self.columns);
        let row = self.row(x, line / self.rows, line % self.rows);
        &row[column * self.channels..(column + 1) * self.channels]
    }

    /// Returns the row of the input that a padded row shows, by its index over all images.
    #[inline(always)]
    pub(super) fn source_row<'a, T>(&self, x: &'a [T], padded: usize) -> &'a [T] {
        let (image, line) = (padded / self.padded_rows(), padded % self.padded_rows());
        self.row(x, image, self.source(line, self.rows))
    }

    /// Returns the row (or column) that a padded one shows.
    #[inline(always)]
    fn source(&self, padded: usize, size: usize) -> usize {
        let last = size - 1;
        match (self.border, padded.checked_sub(self.pad)) {
            (_, Some(at)) if at <= last => at,
            (Border::Edge, None) => 0,
            (Border::Edge, _) => last,
            (Border::Reflect, None) => self.pad - padded,
            (Border::Reflect, Some(at)) => 2 * last - at,
        }
    }

    /// Returns the row of an index over the rows of the input; None for one of the margin.
    #[inline(always)]
    pub(super) fn inner_row(&self, cropped: usize) -> Option<Row> {
        let rows = self.cropped_rows();
        let row = (cropped % rows).checked_sub(self.crop)?;
        (row < self.rows).then_some(Row {
            image: cropped / rows,
            row,
        })
    }

    /// Fills both ends of a padded row whose other elements are there.
    #[inline(always)]
    pub(super) fn pad_row<T: Copy>(&self, row: &mut [T]) {
        let channels = self.channels;
        for k in (0..self.pad).chain(self.pad + self.columns..self.padded_columns()) {
            let from = (self.pad + self.source(k, self.columns)) * channels;
            row.copy_within(from..from + channels, k * channels);
        }
    }
}

/// Adds up what a padded gradient has of each row.
pub(super) struct Fold {
    geometry: Geometry,
    sum: Vec<f32>,
    /// For each row (column) near a border, the padded rows (columns) that show it, too.
    shown: [Vec<(usize, usize)>; 2],
}

impl Fold {
    pub(super) fn new(geometry: Geometry) -> Self {
        let shown = [geometry.rows, geometry.columns].map(|size| {
            (0..geometry.pad)
                .chain(geometry.pad + size..geometry.pad + size + geometry.pad)
                .map(|padded| (geometry.source(padded, size), padded))
                .collect()
        });
        Self {
            geometry,
            sum: vec![0.0; geometry.columns * geometry.channels],
            shown,
        }
    }

    /// Returns the gradient in a row.
    #[inline(always)]
    pub(super) fn row<T: Value>(&mut self, of_v: &[T], image: usize, row: usize) -> &[f32] {
        let pad = self.geometry.pad;
        let lines = image * self.geometry.padded_rows();
        self.add::<T, true>(of_v, lines + row + pad);
        for k in 0..2 * pad {
            let (source, padded) = self.shown[0][k];
            if source == row {
                self.add::<T, false>(of_v, lines + padded);
            }
        }
        &self.sum
    }

    /// Adds the elements of a padded row, or begins with them.
    #[inline(always)]
    fn add<T: Value, const FIRST: bool>(&mut self, of_v: &[T], line: usize) {
        let Geometry {
            pad,
            channels,
            columns,
            ..
        } = self.geometry;
        let length = self.geometry.padded_columns() * channels;
        let line = &of_v[line * length..(line + 1) * length];
        let inner = &line[pad * channels..(pad + columns) * channels];
        for (sum, value) in self.sum.iter_mut().zip(inner) {
            *sum = if FIRST {
                value.load()
            } else {
                *sum + value.load()
            };
        }
        for &(source, padded) in &self.shown[1] {
            let sum = &mut self.sum[source * channels..(source + 1) * channels];
            for (sum, value) in sum.iter_mut().zip(&line[padded * channels..]) {
                *sum += value.load();
            }
        }
    }
}
