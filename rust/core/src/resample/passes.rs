//! The passes along the two axes.
//!
//! Both are sums of contiguous pieces of memory with one weight for each.  For the pass over
//! rows that is how images lie; for the pass over columns a group of rows is turned round
//! first, so that the elements of a column are neighbours, and its result is turned back.

use std::ops::Range;

use super::Resampler;
use crate::Float;
use crate::simd::Kernel;

/// Rows that are turned round together.
pub(super) const GROUP: usize = 8;

/// Elements of a row that are summed up together: their sums stay in registers.
const WIDE: usize = 32;

/// Rows of the result: rows of the image are summed up, then columns of what that gives.
pub(super) struct RowsFirst<'a, T> {
    pub(super) tables: &'a Resampler<T>,
    pub(super) x: &'a [T],
    pub(super) step: usize,
    pub(super) rows: Range<usize>,
    pub(super) y: &'a mut [T],
}

impl<T: Float> Kernel for RowsFirst<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        let Resampler { rows, columns } = self.tables;
        let x_len = columns.inputs() * self.step;
        let y_len = columns.results() * self.step;
        let mut turned = vec![[T::ZERO; GROUP]; x_len];
        let groups = self.y.chunks_mut(GROUP * y_len);
        for (start, y) in self.rows.step_by(GROUP).zip(groups) {
            let count = y.len() / y_len;
            // The first input row of each result and the weights; lanes without a row have none.
            let sums: [(&[T], &[T]); GROUP] = std::array::from_fn(|k| {
                if k >= count {
                    return (&[][..], &[][..]);
                }
                let (plane, row) = ((start + k) / rows.results(), (start + k) % rows.results());
                let (first, weights) = rows.row(row);
                let from = (plane * rows.inputs() + first) * x_len;
                (&self.x[from..from + weights.len() * x_len], weights)
            });
            pieces(x_len, |piece| match piece {
                Piece::Wide(at) => turn_sums::<T, WIDE>(&sums, x_len, at, &mut turned),
                Piece::Narrow(at) => turn_sums::<T, GROUP>(&sums, x_len, at, &mut turned),
                Piece::Single(at) => turn_sums::<T, 1>(&sums, x_len, at, &mut turned),
            });
            self.tables.sum_columns(&turned, self.step, y);
        }
    }
}

/// Sums of rows at some places, turned round.
#[inline(always)]
fn turn_sums<T: Float, const N: usize>(
    sums: &[(&[T], &[T]); GROUP],
    stride: usize,
    at: usize,
    turned: &mut [[T; GROUP]],
) {
    let mut lines = [[T::ZERO; N]; GROUP];
    for k in 0..GROUP {
        let (rows, weights) = sums[k];
        lines[k] = sum_rows(rows, stride, at, weights);
    }
    let turned = &mut turned[at..at + N];
    for i in 0..N {
        for k in 0..GROUP {
            turned[i][k] = lines[k][i];
        }
    }
}

/// Rows of the result: columns of the rows that it needs are summed up, then rows of those.
pub(super) struct ColumnsFirst<'a, T> {
    pub(super) tables: &'a Resampler<T>,
    pub(super) x: &'a [T],
    pub(super) step: usize,
    pub(super) rows: Range<usize>,
    pub(super) y: &'a mut [T],
}

impl<T: Float> Kernel for ColumnsFirst<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        let Resampler { rows, columns } = self.tables;
        let x_len = columns.inputs() * self.step;
        let y_len = columns.results() * self.step;
        let mut turned = vec![[T::ZERO; GROUP]; x_len];
        let mut narrow = Vec::new();
        let mut start = self.rows.start;
        let mut rest = self.y;
        while start < self.rows.end {
            // As much as lies in one plane.
            let (plane, row) = (start / rows.results(), start % rows.results());
            let count = (self.rows.end - start).min(rows.results() - row);
            let (y, after) = rest.split_at_mut(count * y_len);
            let needed = (row..row + count)
                .map(|row| rows.row(row))
                .filter(|(_, weights)| !weights.is_empty())
                .map(|(first, weights)| first..first + weights.len())
                .reduce(|a, b| a.start.min(b.start)..a.end.max(b.end))
                .unwrap_or(0..0);
            let from = plane * rows.inputs() + needed.start;
            let x = &self.x[from * x_len..(from + needed.len()) * x_len];
            narrow.resize(needed.len() * y_len, T::ZERO);
            for (x, narrow) in x
                .chunks(GROUP * x_len)
                .zip(narrow.chunks_mut(GROUP * y_len))
            {
                turn(x, x_len, &mut turned);
                self.tables.sum_columns(&turned, self.step, narrow);
            }
            for (k, y) in y.chunks_exact_mut(y_len).enumerate() {
                let (first, weights) = rows.row(row + k);
                let from = first.saturating_sub(needed.start) * y_len;
                let rows = &narrow[from..from + weights.len() * y_len];
                pieces(y_len, |piece| match piece {
                    Piece::Wide(at) => put::<T, WIDE>(rows, y_len, at, weights, y),
                    Piece::Narrow(at) => put::<T, GROUP>(rows, y_len, at, weights, y),
                    Piece::Single(at) => put::<T, 1>(rows, y_len, at, weights, y),
                });
            }
            start += count;
            rest = after;
        }
    }
}

#[inline(always)]
fn put<T: Float, const N: usize>(rows: &[T], stride: usize, at: usize, weights: &[T], y: &mut [T]) {
    let sum: [T; N] = sum_rows(rows, stride, at, weights);
    y[at..at + N].copy_from_slice(&sum);
}

/// Turns up to [`GROUP`] rows round; lanes without a row keep what they have.
#[inline(always)]
fn turn<T: Float>(x: &[T], row_len: usize, turned: &mut [[T; GROUP]]) {
    if x.len() < GROUP * row_len {
        for (k, row) in x.chunks_exact(row_len).enumerate() {
            for (turned, &value) in turned.iter_mut().zip(row) {
                turned[k] = value;
            }
        }
        return;
    }
    pieces(row_len, |piece| match piece {
        Piece::Wide(at) => turn_piece::<T, WIDE>(x, row_len, at, turned),
        Piece::Narrow(at) => turn_piece::<T, GROUP>(x, row_len, at, turned),
        Piece::Single(at) => turn_piece::<T, 1>(x, row_len, at, turned),
    });
}

#[inline(always)]
fn turn_piece<T: Float, const N: usize>(
    x: &[T],
    row_len: usize,
    at: usize,
    turned: &mut [[T; GROUP]],
) {
    let mut lines = [[T::ZERO; N]; GROUP];
    for k in 0..GROUP {
        lines[k].copy_from_slice(&x[k * row_len + at..][..N]);
    }
    let turned = &mut turned[at..at + N];
    for i in 0..N {
        for k in 0..GROUP {
            turned[i][k] = lines[k][i];
        }
    }
}

impl<T: Float> Resampler<T> {
    /// Sums of columns of a group of rows that is turned round; `y` is not.
    #[inline(always)]
    fn sum_columns(&self, turned: &[[T; GROUP]], step: usize, y: &mut [T]) {
        let y_len = self.columns.results() * step;
        let count = y.len() / y_len;
        let (mut column, mut channel) = (0, 0);
        let mut at = 0;
        while at < y_len {
            let mut sums = [[T::ZERO; GROUP]; GROUP];
            let length = (y_len - at).min(GROUP);
            for sum in &mut sums[..length] {
                let (first, weights) = self.columns.row(column);
                *sum = if step == 1 {
                    weighted(&turned[first..first + weights.len()], weights)
                } else {
                    let from = first * step + channel;
                    let mut sum = [T::ZERO; GROUP];
                    for (&weight, column) in weights.iter().zip(turned[from..].iter().step_by(step))
                    {
                        add(&mut sum, weight, column);
                    }
                    sum
                };
                channel += 1;
                if channel == step {
                    (column, channel) = (column + 1, 0);
                }
            }
            if count == GROUP && length == GROUP {
                for k in 0..GROUP {
                    let mut line = [T::ZERO; GROUP];
                    for i in 0..GROUP {
                        line[i] = sums[i][k];
                    }
                    y[k * y_len + at..][..GROUP].copy_from_slice(&line);
                }
            } else {
                for (k, y) in y.chunks_exact_mut(y_len).enumerate() {
                    for (y, sum) in y[at..].iter_mut().zip(&sums[..length]) {
                        *y = sum[k];
                    }
                }
            }
            at += length;
        }
    }
}

#[inline(always)]
fn weighted<T: Float>(columns: &[[T; GROUP]], weights: &[T]) -> [T; GROUP] {
    let mut sum = [T::ZERO; GROUP];
    for (&weight, column) in weights.iter().zip(columns) {
        add(&mut sum, weight, column);
    }
    sum
}

#[inline(always)]
fn add<T: Float, const N: usize>(sum: &mut [T; N], weight: T, values: &[T; N]) {
    for lane in 0..N {
        sum[lane] += weight * values[lane];
    }
}

/// The weighted sum of rows at some places.
#[inline(always)]
fn sum_rows<T: Float, const N: usize>(
    rows: &[T],
    stride: usize,
    at: usize,
    weights: &[T],
) -> [T; N] {
    let mut sum = [T::ZERO; N];
    for (&weight, row) in weights.iter().zip(rows.chunks_exact(stride)) {
        if let Some(values) = row[at..].first_chunk::<N>() {
            add(&mut sum, weight, values);
        }
    }
    sum
}

/// Where a piece of a row begins, by its length.
enum Piece {
    /// [`WIDE`] elements.
    Wide(usize),
    /// [`GROUP`] elements.
    Narrow(usize),
    /// One element.
    Single(usize),
}

/// Cuts a row into pieces; the last may overlap the one before, and what both compute is the
/// same.
#[inline(always)]
fn pieces(length: usize, mut visit: impl FnMut(Piece)) {
    let mut at = 0;
    while at + WIDE <= length {
        visit(Piece::Wide(at));
        at += WIDE;
    }
    if at == length {
        return;
    }
    if length < GROUP {
        (0..length).for_each(|at| visit(Piece::Single(at)));
        return;
    }
    while at < length {
        at = at.min(length - GROUP);
        visit(Piece::Narrow(at));
        at += GROUP;
    }
}
