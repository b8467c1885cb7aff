//! Resizing, down-sampling and their adjoints: a banded linear map along each of two axes.
//!
//! Y = R X C', where the rows of the matrices R and C are those of a [`Table`].  The adjoint
//! is the same with both tables transposed, so that one thread adds up every result, also of the
//! adjoint, from its inputs in a fixed order.

mod columns;
mod passes;
mod pieces;
mod table;

use crate::element::Float;
use crate::error::{Error, check_length};
use crate::exec::Executor;
use crate::exec::parallel::Parts;
use crate::exec::simd::dispatch;
use crate::mem::Layout;

use columns::Columns;
use passes::{ColumnsFirst, RowsFirst};

pub use table::{Filter, Phase, Table};

/// The number of elements of a block, of the image or of the result, whichever has more.
const BLOCK: usize = 1 << 16;

/// The number of bytes from which on an image is fetched ahead, because it is not in the near
/// caches.
const FETCH: usize = 1 << 23;

/// The number of bytes from which on a result is written with streaming stores, because no cache
/// would hold it until it is read.
const STREAMING_BYTES: usize = 1 << 25;

/// A map of images whose results are weighted sums of rows and columns.
#[derive(Debug, Clone)]
pub struct Resampler<T> {
    /// The rows of the result as sums of rows of the image.
    rows: Table<T>,
    /// The columns of the result as sums of columns of the image.
    columns: Columns<T>,
}

impl<T: Float> Resampler<T> {
    /// Returns the map with these tables for the two axes.
    #[must_use]
    pub fn new(rows: &Table, columns: &Table) -> Self {
        Self {
            rows: rows.cast(),
            columns: Columns::new(columns),
        }
    }

    /// Returns the layout of the result for images of this layout.
    ///
    /// # Errors
    /// [`Error::WrongLength`] if the images do not have the rows and columns of the tables,
    /// [`Error::SizeOverflow`] if the result does not fit into memory.
    pub fn result(&self, layout: Layout) -> Result<Layout, Error> {
        let columns = layout.row_len / layout.step.max(1);
        check_length("a column of x", layout.rows, self.rows.inputs())?;
        check_length("a row of x", columns, self.columns.inputs())?;
        let planes = layout.planes * layout.slices;
        Layout::interleaved(
            planes,
            self.rows.results(),
            self.columns.results(),
            layout.step,
        )
    }

    /// Fills `y`, of the layout [`Resampler::result`], with the resampled images `x`.
    ///
    /// # Errors
    /// [`Error::WrongLength`] if a buffer does not fit the layouts.
    pub fn apply(
        &self,
        x: &[T],
        layout: Layout,
        y: &mut [T],
        exec: &dyn Executor,
    ) -> Result<(), Error> {
        check_length("x", x.len(), layout.len())?;
        let result = self.result(layout)?;
        check_length("y", y.len(), result.len())?;
        if result.is_empty() {
            return Ok(());
        }
        // The rows of all planes have consecutive numbers, and a block may span planes.
        let all_rows = y.len() / result.row_len;
        let rows_first = self.rows_first();
        let block_rows = self.block_rows(layout, result, rows_first);
        let fetch = size_of_val(x) >= FETCH;
        let streaming = size_of_val(y) >= STREAMING_BYTES;
        let parts = Parts::new(y, block_rows * result.row_len);
        exec.run(all_rows.div_ceil(block_rows), &|block| {
            let y = parts.take(block).unwrap_or_default();
            let start = block * block_rows;
            let rows = start..start + y.len() / result.row_len;
            let (tables, step) = (self, layout.step);
            if rows_first {
                dispatch(RowsFirst {
                    tables,
                    x,
                    step,
                    rows,
                    y,
                    fetch,
                });
            } else if streaming {
                dispatch(ColumnsFirst::<T, true> {
                    tables,
                    x,
                    step,
                    rows,
                    y,
                });
            } else {
                dispatch(ColumnsFirst::<T, false> {
                    tables,
                    x,
                    step,
                    rows,
                    y,
                });
            }
        });
        Ok(())
    }

    /// Returns whether fewer multiplications are needed if rows are summed up before columns.
    fn rows_first(&self) -> bool {
        let (rows, columns) = (&self.rows, &self.columns);
        let rows_first = rows.len() * columns.inputs() + rows.results() * columns.cost();
        let columns_first = rows.inputs() * columns.cost() + rows.len() * columns.results();
        rows_first <= columns_first
    }

    /// Returns the number of rows of the result in a block.
    fn block_rows(&self, layout: Layout, result: Layout, rows_first: bool) -> usize {
        let (inputs, results) = (self.rows.inputs(), self.rows.results());
        let elements = if rows_first {
            layout.row_len * (inputs / results).max(1)
        } else {
            result.row_len.max(layout.row_len * inputs / results)
        };
        // If columns come first, neighbouring blocks compute the rows of the image that both need,
        // so that blocks should have many rows that they alone need.
        let least = if rows_first { 1 } else { 32 * results / inputs };
        (BLOCK / elements)
            .max(least)
            .next_multiple_of(passes::GROUP)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exec::simd::InstructionSet;

    #[test]
    fn same_bits_on_every_instruction_set() {
        let rows = Table::resize(Filter::Lanczos3, 37, 23).unwrap();
        let columns = Table::lanczos2(150, 3, Phase::Half).unwrap();
        let (planes, step) = (2, 3);
        let x: Vec<f32> = (0..planes * 37 * 150 * step)
            .map(|k| (k as f32 * 0.7).sin())
            .collect();
        let tables = &Resampler::<f32>::new(&rows, &columns);
        let run = |set: InstructionSet, rows_first: bool| {
            let results = planes * rows.results();
            let mut y = vec![0.0; results * columns.results() * step];
            let (x, rows) = (&x[..], 0..results);
            if rows_first {
                set.run(RowsFirst {
                    tables,
                    x,
                    step,
                    rows,
                    y: &mut y,
                    fetch: true,
                });
            } else {
                set.run(ColumnsFirst::<f32, true> {
                    tables,
                    x,
                    step,
                    rows,
                    y: &mut y,
                });
            }
            y.iter().map(|y| y.to_bits()).collect::<Vec<u32>>()
        };
        for rows_first in [true, false] {
            let expected = run(InstructionSet::Baseline, rows_first);
            for &set in InstructionSet::ALL.iter().filter(|set| set.is_available()) {
                assert!(run(set, rows_first) == expected, "{set:?}");
            }
        }
    }
}
