//! The passes along the two axes, block by block.

use std::ops::Range;

use super::Resampler;
use super::columns::{Columns, Scratch};
use super::pieces::{Visit, pieces};
use crate::element::Float;
use crate::exec::simd::Kernel;
use crate::mem::streaming_store::{fence, prefetch, store_streaming};

/// The number of rows of the result that share scratch memory.
pub(super) const GROUP: usize = 8;

/// The computation of rows of the result by summing up rows of the image, and then columns of the
/// sums.
pub(super) struct RowsFirst<'a, T> {
    pub(super) tables: &'a Resampler<T>,
    pub(super) x: &'a [T],
    pub(super) step: usize,
    pub(super) rows: Range<usize>,
    pub(super) y: &'a mut [T],
    /// Whether the image is fetched from memory ahead of time.
    pub(super) fetch: bool,
}

impl<T: Float> Kernel for RowsFirst<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        let Resampler { rows, columns } = self.tables;
        let (x_len, y_len) = lengths(columns, self.step);
        let mut scratch = Scratch::new(columns, self.step);
        let mut memory = Vec::new();
        let short = aligned(&mut memory, GROUP * x_len);
        let mut fetched = (self.rows.start + GROUP) * rows.inputs() / rows.results();
        let groups = self.y.chunks_mut(GROUP * y_len);
        for (start, y) in self.rows.step_by(GROUP).zip(groups) {
            let short = &mut short[..y.len() / y_len * x_len];
            let mut sums = [Sum::default(); GROUP];
            for (k, sum) in sums[..y.len() / y_len].iter_mut().enumerate() {
                let (plane, row) = ((start + k) / rows.results(), (start + k) % rows.results());
                let (first, weights) = rows.row(row);
                let from = (plane * rows.inputs() + first) * x_len;
                sum.rows = &self.x[from..from + weights.len() * x_len];
                sum.weights = weights;
            }
            let sums = &sums[..y.len() / y_len];
            // While this group is computed, the further rows of the next one are fetched.  Rows are
            // read piece by piece, so that no processor would predict these reads.
            let mut ahead = &[][..];
            if self.fetch {
                let end = ((start + 2 * GROUP) * rows.inputs() / rows.results()).max(fetched);
                ahead = self.x.get(fetched * x_len..end * x_len).unwrap_or_default();
                fetched = end;
            }
            pieces(
                x_len,
                &mut SumRows::<T, false> {
                    sums,
                    length: x_len,
                    to: short,
                    ahead,
                },
            );
            columns.apply(short, self.step, &mut scratch, y);
        }
    }
}

/// The computation of rows of the result by summing up columns of the rows of the image that are
/// needed, and then rows of the sums.
///
/// With `STREAMING` they are written with streaming stores.
pub(super) struct ColumnsFirst<'a, T, const STREAMING: bool> {
    pub(super) tables: &'a Resampler<T>,
    pub(super) x: &'a [T],
    pub(super) step: usize,
    pub(super) rows: Range<usize>,
    pub(super) y: &'a mut [T],
}

impl<T: Float, const STREAMING: bool> Kernel for ColumnsFirst<'_, T, STREAMING> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        let Resampler { rows, columns } = self.tables;
        let (x_len, y_len) = lengths(columns, self.step);
        let mut scratch = Scratch::new(columns, self.step);
        let mut memory = Vec::new();
        let mut start = self.rows.start;
        let mut rest = self.y;
        while start < self.rows.end {
            // The rows up to the end of the plane.
            let (plane, row) = (start / rows.results(), start % rows.results());
            let count = (self.rows.end - start).min(rows.results() - row);
            let (y, after) = rest.split_at_mut(count * y_len);
            let needed = rows.needed(row..row + count);
            let from = plane * rows.inputs() + needed.start;
            let x = &self.x[from * x_len..(from + needed.len()) * x_len];
            let narrow = aligned(&mut memory, needed.len() * y_len);
            columns.apply(x, self.step, &mut scratch, narrow);
            for (k, y) in y.chunks_exact_mut(y_len).enumerate() {
                let (first, weights) = rows.row(row + k);
                let from = first.saturating_sub(needed.start) * y_len;
                let rows = &narrow[from..from + weights.len() * y_len];
                let sums = &[Sum { rows, weights }];
                pieces(
                    y_len,
                    &mut SumRows::<T, STREAMING> {
                        sums,
                        length: y_len,
                        to: y,
                        ahead: &[],
                    },
                );
            }
            start += count;
            rest = after;
        }
        if STREAMING {
            fence();
        }
    }
}

/// Returns memory for `count` elements that begins at a cache line, which is as wide as the widest
/// registers.
#[inline(always)]
fn aligned<T: Float>(memory: &mut Vec<T>, count: usize) -> &mut [T] {
    const LINE: usize = 64;
    let spare = LINE / size_of::<T>();
    memory.resize(count + spare, T::ZERO);
    let skip = memory.as_ptr().align_offset(LINE).min(spare);
    &mut memory[skip..skip + count]
}

/// Returns the number of elements of a row before and after the pass over columns.
#[inline(always)]
fn lengths<T: Float>(columns: &Columns<T>, step: usize) -> (usize, usize) {
    (columns.inputs() * step, columns.results() * step)
}

/// A weighted sum of consecutive rows.
#[derive(Clone, Copy, Default)]
struct Sum<'a, T> {
    rows: &'a [T],
    weights: &'a [T],
}

/// The computation of sums of rows of this length, one after the other.
struct SumRows<'a, T, const STREAMING: bool> {
    sums: &'a [Sum<'a, T>],
    length: usize,
    to: &'a mut [T],
    /// Whole rows that will be read soon.
    ahead: &'a [T],
}

impl<T: Float, const STREAMING: bool> Visit for SumRows<'_, T, STREAMING> {
    #[inline(always)]
    fn piece<const N: usize>(&mut self, at: usize) {
        let ahead = self.ahead.len() / self.length;
        prefetch(self.ahead, at * ahead, N * ahead);
        for (sum, to) in self.sums.iter().zip(self.to.chunks_exact_mut(self.length)) {
            let mut total = [T::ZERO; N];
            for (&weight, row) in sum.weights.iter().zip(sum.rows.chunks_exact(self.length)) {
                let Some(values) = row[at..].first_chunk::<N>() else {
                    break; // does not happen: all rows have this length
                };
                for lane in 0..N {
                    total[lane] += weight * values[lane];
                }
            }
            if STREAMING {
                store_streaming(&total, &mut to[at..at + N]);
            } else {
                to[at..at + N].copy_from_slice(&total);
            }
        }
    }
}
