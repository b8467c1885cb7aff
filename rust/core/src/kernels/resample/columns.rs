//! The pass along rows, which sums up columns.
//!
//! Neighbouring results need inputs that overlap, and there is no vector instruction for loading
//! them.  So there are two methods.  If there are many results for each input, as in enlarging,
//! each input is multiplied with its weights in a chunk of results, most of which are not 0.
//! Otherwise some rows are transposed, so that the elements of a column are neighbours, and their
//! results are transposed back.

use super::pieces::{Visit, pieces};
use super::table::Table;
use crate::element::Float;
use crate::exec::simd::LANES;

/// The number of rows that are transposed together.
const GROUP: usize = 8;

/// The number of rows for which weights are loaded once.
const SHARED: usize = 4;

/// The cost of transposing an element, in multiplications.
const TURN: usize = 4;

/// The columns of the result as sums of columns of the image.
#[derive(Debug, Clone)]
pub(super) struct Columns<T> {
    table: Table<T>,
    chunks: Option<Chunks<T>>,
}

/// All weights between a chunk of results and the inputs that they need, including zeros.
#[derive(Debug, Clone)]
struct Chunks<T> {
    spans: Vec<Span>,
    weights: Vec<[T; LANES]>,
}

/// The first result of a chunk, its first input, and the part of the weights that is its own.
#[derive(Debug, Clone, Copy)]
struct Span {
    at: usize,
    first: usize,
    from: usize,
    to: usize,
}

/// Memory for rows that are transposed.
pub(super) struct Scratch<T> {
    turned: Vec<[T; GROUP]>,
}

impl<T: Float> Scratch<T> {
    #[inline(always)]
    pub(super) fn new(columns: &Columns<T>, step: usize) -> Self {
        Self {
            turned: vec![[T::ZERO; GROUP]; columns.inputs() * step],
        }
    }
}

impl<T: Float> Columns<T> {
    pub(super) fn new(table: &Table) -> Self {
        let chunks = Chunks::new(table);
        let chunks = chunks.filter(|c| LANES * c.weights.len() < table.len() + turns(table));
        Self {
            table: table.cast(),
            chunks,
        }
    }

    #[inline(always)]
    pub(super) fn inputs(&self) -> usize {
        self.table.inputs()
    }

    #[inline(always)]
    pub(super) fn results(&self) -> usize {
        self.table.results()
    }

    /// Returns the cost of a row, in multiplications.
    pub(super) fn cost(&self) -> usize {
        match &self.chunks {
            Some(chunks) => LANES * chunks.weights.len(),
            None => self.table.len() + turns(&self.table),
        }
    }

    /// Computes rows `y` from rows `x`.
    #[inline(always)]
    pub(super) fn apply(&self, x: &[T], step: usize, scratch: &mut Scratch<T>, y: &mut [T]) {
        let (x_len, y_len) = (self.inputs() * step, self.results() * step);
        if step == 1
            && let Some(chunks) = &self.chunks
            // This method multiplies by zeros outside the weights, which NaN and infinity do not
            // allow.
            && all_finite(x)
        {
            let (mut x_groups, mut y_groups) = (
                x.chunks_exact(SHARED * x_len),
                y.chunks_exact_mut(SHARED * y_len),
            );
            for (x, y) in (&mut x_groups).zip(&mut y_groups) {
                chunks.sum::<SHARED>(x, x_len, y, y_len);
            }
            let x = x_groups.remainder().chunks_exact(x_len);
            for (x, y) in x.zip(y_groups.into_remainder().chunks_exact_mut(y_len)) {
                chunks.sum::<1>(x, x_len, y, y_len);
            }
            return;
        }
        for (x, y) in x.chunks(GROUP * x_len).zip(y.chunks_mut(GROUP * y_len)) {
            turn(x, x_len, &mut scratch.turned);
            self.sum_turned(&scratch.turned, step, y);
        }
    }

    /// Sums up columns of a group of rows that are transposed; `y` is not.
    #[inline(always)]
    fn sum_turned(&self, turned: &[[T; GROUP]], step: usize, y: &mut [T]) {
        let y_len = self.results() * step;
        let whole = y.len() == GROUP * y_len;
        let (mut column, mut channel) = (0, 0);
        let mut at = 0;
        while at < y_len {
            let mut sums = [[T::ZERO; GROUP]; GROUP];
            let length = (y_len - at).min(GROUP);
            for total in &mut sums[..length] {
                let (first, weights) = self.table.row(column);
                let columns = turned[(first * step + channel).min(turned.len())..].iter();
                let mut sum = [T::ZERO; GROUP];
                for (&weight, values) in weights.iter().zip(columns.step_by(step)) {
                    for lane in 0..GROUP {
                        sum[lane] += weight * values[lane];
                    }
                }
                *total = sum;
                channel += 1;
                if channel == step {
                    (column, channel) = (column + 1, 0);
                }
            }
            if whole && length == GROUP {
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

/// Returns the cost of transposing a row, and its result back.
fn turns<T>(table: &Table<T>) -> usize {
    TURN * (table.inputs() + table.results())
}

impl<T: Float> Chunks<T> {
    /// Returns None if there are fewer results than a chunk has.
    fn new(table: &Table) -> Option<Self> {
        let last = table.results().checked_sub(LANES)?;
        let mut spans = Vec::new();
        let mut weights = Vec::new();
        for at in (0..table.results()).step_by(LANES) {
            // The last chunk may overlap the one before.
            let at = at.min(last);
            let needed = table.needed(at..at + LANES);
            let from = weights.len();
            weights.resize(from + needed.len(), [T::ZERO; LANES]);
            for result in at..at + LANES {
                let (first, row) = table.row(result);
                for (input, &weight) in (first..).zip(row) {
                    weights[from + input - needed.start][result - at] = T::from_f64(weight);
                }
            }
            spans.push(Span {
                at,
                first: needed.start,
                from,
                to: weights.len(),
            });
        }
        Some(Self { spans, weights })
    }

    #[inline(always)]
    fn sum<const ROWS: usize>(&self, x: &[T], x_len: usize, y: &mut [T], y_len: usize) {
        for span in &self.spans {
            let weights = &self.weights[span.from..span.to];
            let mut values = [&x[..0]; ROWS];
            for k in 0..ROWS {
                values[k] = &x[k * x_len + span.first..][..weights.len()];
            }
            let mut sums = [[T::ZERO; LANES]; ROWS];
            for (i, weights) in weights.iter().enumerate() {
                for k in 0..ROWS {
                    let value = values[k][i];
                    for lane in 0..LANES {
                        sums[k][lane] += weights[lane] * value;
                    }
                }
            }
            for k in 0..ROWS {
                y[k * y_len + span.at..][..LANES].copy_from_slice(&sums[k]);
            }
        }
    }
}

/// Returns whether all elements are finite.
#[inline(always)]
fn all_finite<T: Float>(x: &[T]) -> bool {
    // 0 times a number that is not finite is NaN, and so is the sum then.
    let mut sums = [T::ZERO; LANES];
    let (chunks, rest) = x.as_chunks::<LANES>();
    for chunk in chunks {
        for lane in 0..LANES {
            sums[lane] += T::ZERO * chunk[lane];
        }
    }
    let zero = |value: &T| T::ZERO * *value == T::ZERO;
    sums.iter().all(zero) && rest.iter().all(zero)
}

/// Transposes up to [`GROUP`] rows; lanes without a row are not changed.
#[inline(always)]
fn turn<T: Float>(x: &[T], row_len: usize, turned: &mut [[T; GROUP]]) {
    if x.len() == GROUP * row_len {
        pieces(row_len, &mut Turn { x, row_len, turned });
        return;
    }
    for (k, row) in x.chunks_exact(row_len).enumerate() {
        for (turned, &value) in turned.iter_mut().zip(row) {
            turned[k] = value;
        }
    }
}

/// A group of rows to be transposed.
struct Turn<'a, T> {
    x: &'a [T],
    row_len: usize,
    turned: &'a mut [[T; GROUP]],
}

impl<T: Float> Visit for Turn<'_, T> {
    #[inline(always)]
    fn piece<const N: usize>(&mut self, at: usize) {
        let mut lines = [[T::ZERO; N]; GROUP];
        for (line, row) in lines.iter_mut().zip(self.x.chunks_exact(self.row_len)) {
            line.copy_from_slice(&row[at..at + N]);
        }
        let turned = &mut self.turned[at..at + N];
        for i in 0..N {
            for k in 0..GROUP {
                turned[i][k] = lines[k][i];
            }
        }
    }
}
