//! Products and inverses of small matrices, row by row in memory, in lanes.
//!
//! Every row has a multiple of [`LANES`] elements.  One product, [`multiply_add`], is what all
//! others are made of; its order of sums depends on the sizes alone.

use std::ops::Range;

use crate::exec::simd::{FusedKernel, Kernel, LANES, dispatch, dispatch_fused, multiply_add};

/// The number of rows of a result that are computed together.
pub(super) const ROWS: usize = 4;

/// The smallest pivot of a Cholesky factor that is counted on, as a share of its diagonal element:
/// below it, rounding has taken all digits.
const LEAST_PIVOT: f32 = 4e-6;

/// Returns the number of elements of a row that holds `n` of them.
#[inline(always)]
pub(super) fn padded(n: usize) -> usize {
    n.div_ceil(LANES) * LANES
}

/// A factor A of a product, of which the columns of the result are read: element (r, i) is
/// `data[r * row + i * column]`.
#[derive(Clone, Copy)]
pub(super) struct Factor<'a> {
    pub(super) data: &'a [f32],
    pub(super) row: usize,
    pub(super) column: usize,
}

/// The lanes of a register.
#[derive(Clone, Copy)]
struct Chunk([f32; LANES]);

impl Chunk {
    const ZERO: Self = Self([0.0; LANES]);

    /// Returns self + factor * other.
    #[inline(always)]
    fn plus<const FUSED: bool>(self, factor: f32, other: Self) -> Self {
        let mut sum = self.0;
        let mut lane = 0;
        while lane < LANES {
            sum[lane] = multiply_add::<FUSED>(sum[lane], factor, other.0[lane]);
            lane += 1;
        }
        Self(sum)
    }

    #[inline(always)]
    fn load(from: &[f32]) -> Self {
        let mut chunk = Self::ZERO;
        chunk.0.copy_from_slice(&from[..LANES]);
        chunk
    }

    #[inline(always)]
    fn store(self, to: &mut [f32]) {
        to[..LANES].copy_from_slice(&self.0);
    }
}

/// A few chunks that lie side by side.
///
/// They are written out, without closures, because the compiler keeps them in registers only if it
/// inlines everything.
trait Line: Copy {
    /// The number of elements.
    const LEN: usize;
    const ZERO: Self;
    /// Returns self + factor * other.
    fn plus<const FUSED: bool>(self, factor: f32, other: Self) -> Self;
    fn load(from: &[f32]) -> Self;
    fn store(self, to: &mut [f32]);
}

macro_rules! line {
    ($($chunk:literal)*) => {
        impl Line for [Chunk; [$($chunk),*].len()] {
            const LEN: usize = [$($chunk),*].len() * LANES;
            const ZERO: Self = [Chunk::ZERO; [$($chunk),*].len()];

            #[inline(always)]
            fn plus<const FUSED: bool>(self, factor: f32, other: Self) -> Self {
                [$(self[$chunk].plus::<FUSED>(factor, other[$chunk])),*]
            }

            #[inline(always)]
            fn load(from: &[f32]) -> Self {
                [$(Chunk::load(&from[$chunk * LANES..])),*]
            }

            #[inline(always)]
            fn store(self, to: &mut [f32]) {
                $(self[$chunk].store(&mut to[$chunk * LANES..]);)*
            }
        }
    };
}

line!(0);
line!(0 1);

/// A tile of a result: four rows.
#[derive(Clone, Copy)]
struct Tile<T>(T, T, T, T);

impl<T: Line> Tile<T> {
    const ZERO: Self = Self(T::ZERO, T::ZERO, T::ZERO, T::ZERO);

    /// Returns the tile plus `sign` times that of A' B at row `i` and column `c`, summed over rows
    /// `r`.
    #[inline(always)]
    fn plus_product<const FUSED: bool>(
        self,
        a: Factor<'_>,
        b: &[f32],
        width: usize,
        sign: f32,
        (r, i, c): (Range<usize>, usize, usize),
    ) -> Self {
        let Self(mut first, mut second, mut third, mut fourth) = self;
        let column = a.column;
        let mut r_now = r.start;
        while r_now < r.end {
            let factors = &a.data[r_now * a.row + i * column..][..(ROWS - 1) * column + 1];
            let row = T::load(&b[r_now * width + c..][..T::LEN]);
            first = first.plus::<FUSED>(sign * factors[0], row);
            second = second.plus::<FUSED>(sign * factors[column], row);
            third = third.plus::<FUSED>(sign * factors[2 * column], row);
            fourth = fourth.plus::<FUSED>(sign * factors[3 * column], row);
            r_now += 1;
        }
        Self(first, second, third, fourth)
    }

    #[inline(always)]
    fn load(from: &[f32], width: usize, c: usize) -> Self {
        Self(
            T::load(&from[c..]),
            T::load(&from[width + c..]),
            T::load(&from[2 * width + c..]),
            T::load(&from[3 * width + c..]),
        )
    }

    #[inline(always)]
    fn store(self, to: &mut [f32], width: usize, c: usize) {
        self.0.store(&mut to[c..]);
        self.1.store(&mut to[width + c..]);
        self.2.store(&mut to[2 * width + c..]);
        self.3.store(&mut to[3 * width + c..]);
    }
}

/// Calls `$body` for tiles of two chunks, or one, that cover the columns from `$first` on.
macro_rules! for_tiles {
    ($first:expr, $width:expr, $c:ident, $Line:ident => $body:expr) => {{
        let mut $c = $first;
        while $c < $width {
            if $width - $c >= 2 * LANES {
                type $Line = [Chunk; 2];
                $body;
                $c += 2 * LANES;
            } else {
                type $Line = [Chunk; 1];
                $body;
                $c += LANES;
            }
        }
    }};
}

/// Fills `out`, of `rows` rows (a multiple of four), with A' B, summed over `terms` rows.
///
/// With `upper`, only the columns from the chunk of the diagonal on are computed.
pub(super) fn product(
    out: &mut [f32],
    a: Factor<'_>,
    b: &[f32],
    width: usize,
    (rows, terms): (usize, usize),
    upper: bool,
) {
    dispatch_fused(Product {
        out,
        a,
        b,
        width,
        rows,
        terms,
        upper,
    });
}

struct Product<'a> {
    out: &'a mut [f32],
    a: Factor<'a>,
    b: &'a [f32],
    width: usize,
    rows: usize,
    terms: usize,
    upper: bool,
}

impl FusedKernel for Product<'_> {
    type Output = ();

    #[inline(always)]
    fn run<const FUSED: bool>(self) {
        let Self {
            out,
            a,
            b,
            width,
            rows,
            terms,
            upper,
        } = self;
        for i in (0..rows).step_by(ROWS) {
            let first = if upper { i / LANES * LANES } else { 0 };
            for_tiles!(first, width, c, T => {
                let tile = Tile::<T>::ZERO.plus_product::<FUSED>(a, b, width, 1.0, (0..terms, i, c));
                tile.store(&mut out[i * width..], width, c);
            });
        }
    }
}

/// Replaces a symmetric positive matrix, whose upper triangle is read, by its inverse, whole.
///
/// Rows and columns that are combinations of earlier ones, but for rounding, are left out: they are
/// 0 in the result.
///
/// `size` is a multiple of four, `width` the number of elements of a row, and `factor` room for
/// another matrix.
pub(super) fn invert(matrix: &mut [f32], factor: &mut [f32], size: usize, width: usize) {
    dispatch_fused(Cholesky {
        matrix,
        size,
        width,
    });
    dispatch_fused(InvertFactor {
        factor: matrix,
        inverse: factor,
        size,
        width,
    });
    dispatch_fused(Square {
        factor,
        matrix,
        size,
        width,
    });
    dispatch(Mirror {
        matrix,
        size,
        width,
    });
}

/// Copies the upper triangle of a matrix to the lower one.
struct Mirror<'a> {
    matrix: &'a mut [f32],
    size: usize,
    width: usize,
}

impl Kernel for Mirror<'_> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        let Self {
            matrix,
            size,
            width,
        } = self;
        // In squares, because lines of a whole matrix do not stay in the first cache.
        for j in (0..size).step_by(LANES) {
            let rows = LANES.min(size - j);
            for i in (j..size).step_by(LANES) {
                let mut square = [[0.0_f32; LANES]; LANES];
                for (row, to) in square.iter_mut().enumerate().take(rows) {
                    to.copy_from_slice(&matrix[(j + row) * width + i..][..LANES]);
                }
                for k in 0..LANES.min(size - i) {
                    let below = if i == j { k } else { rows };
                    let to = &mut matrix[(i + k) * width + j..][..LANES];
                    for (x, row) in to.iter_mut().zip(&square).take(below) {
                        *x = row[k];
                    }
                }
            }
        }
    }
}

/// Fills the upper triangle of `matrix` with W' W, with W lower triangular.
struct Square<'a> {
    factor: &'a [f32],
    matrix: &'a mut [f32],
    size: usize,
    width: usize,
}

impl FusedKernel for Square<'_> {
    type Output = ();

    #[inline(always)]
    fn run<const FUSED: bool>(self) {
        let Self {
            factor,
            matrix,
            size,
            width,
        } = self;
        for i in (0..size).step_by(ROWS) {
            for_tiles!(i / LANES * LANES, width, c, T => {
                let a = Factor { data: factor, row: width, column: 1 };
                let rows = i.max(c.min(size))..size;
                let tile = Tile::<T>::ZERO.plus_product::<FUSED>(a, factor, width, 1.0, (rows, i, c));
                tile.store(&mut matrix[i * width..], width, c);
            });
        }
    }
}

/// Replaces the upper triangle of a symmetric positive matrix by U with A = U' U.
///
/// The diagonal holds the inverses of that of U; rows without digits are 0, and these inverses too.
struct Cholesky<'a> {
    matrix: &'a mut [f32],
    size: usize,
    width: usize,
}

impl FusedKernel for Cholesky<'_> {
    type Output = ();

    #[inline(always)]
    fn run<const FUSED: bool>(self) {
        let Self {
            matrix,
            size,
            width,
        } = self;
        for i in (0..size).step_by(ROWS) {
            let (done, rest) = matrix.split_at_mut(i * width);
            let diagonal = |k: usize| rest[k * width + i + k] * LEAST_PIVOT;
            let least = [diagonal(0), diagonal(1), diagonal(2), diagonal(3)];
            let first = i / LANES * LANES;
            for_tiles!(first, width, c, T => {
                let a = Factor { data: done, row: width, column: 1 };
                let tile = Tile::<T>::load(rest, width, c);
                let tile = tile.plus_product::<FUSED>(a, done, width, -1.0, (0..i, i, c));
                tile.store(rest, width, c);
            });
            let mut inverses = [0.0; ROWS];
            for (k, least) in least.into_iter().enumerate() {
                let (above, below) = rest.split_at_mut(k * width);
                let row = &mut below[..width];
                for above in above.chunks_exact(width) {
                    let factor = above[i + k];
                    for (x, y) in row[first..].iter_mut().zip(&above[first..]) {
                        *x = multiply_add::<FUSED>(*x, -factor, *y);
                    }
                }
                let pivot = row[i + k];
                let has_digits = pivot > least.max(f32::MIN_POSITIVE);
                inverses[k] = if has_digits { 1.0 / pivot.sqrt() } else { 0.0 };
                for x in &mut row[first..] {
                    *x *= inverses[k];
                }
            }
            // The factors of later rows are above the diagonal; the diagonal itself is needed as its
            // inverse alone.
            for (k, inverse) in inverses.into_iter().enumerate() {
                rest[k * width + i + k] = inverse;
            }
        }
    }
}

/// Fills `inverse` with W = (U')^-1, lower triangular, from what [`cholesky`] left.
struct InvertFactor<'a> {
    factor: &'a [f32],
    inverse: &'a mut [f32],
    size: usize,
    width: usize,
}

impl FusedKernel for InvertFactor<'_> {
    type Output = ();

    #[inline(always)]
    fn run<const FUSED: bool>(self) {
        let Self {
            factor,
            inverse,
            size,
            width,
        } = self;
        for i in (0..size).step_by(ROWS) {
            let (done, rest) = inverse.split_at_mut(i * width);
            for k in 0..ROWS {
                rest[k * width..][..width].fill(0.0);
                rest[k * width + i + k] = 1.0;
            }
            let last = (i + ROWS).div_ceil(LANES) * LANES;
            for_tiles!(0, last, c, T => {
                let a = Factor { data: factor, row: width, column: 1 };
                let tile = Tile::<T>::load(rest, width, c);
                let tile = tile.plus_product::<FUSED>(a, done, width, -1.0, (c.min(i)..i, i, c));
                tile.store(rest, width, c);
            });
            for k in 0..ROWS {
                let (above, below) = rest.split_at_mut(k * width);
                let row = &mut below[..last];
                for (t, above) in above.chunks_exact(width).enumerate() {
                    let factor = factor[(i + t) * width + i + k];
                    for (x, y) in row.iter_mut().zip(&above[..last]) {
                        *x = multiply_add::<FUSED>(*x, -factor, *y);
                    }
                }
                let scale = factor[(i + k) * width + i + k];
                for x in row {
                    *x *= scale;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exec::simd::InstructionSet;

    /// Returns numbers between -1 and 1 that look random.
    fn numbers(count: usize) -> Vec<f32> {
        let mut state = 1_u32;
        let mut next = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 8) as f32 / (1 << 23) as f32 - 1.0
        };
        (0..count).map(|_| next()).collect()
    }

    /// Returns X' X + I for `terms` rows X, of `size` values each.
    fn positive(size: usize, terms: usize) -> Vec<f32> {
        let width = padded(size);
        let mut rows = numbers(terms * width);
        for row in rows.chunks_exact_mut(width) {
            row[size..].fill(0.0);
        }
        let mut matrix = vec![0.0; size * width];
        let a = Factor {
            data: &rows,
            row: width,
            column: 1,
        };
        product(&mut matrix, a, &rows, width, (size, terms), true);
        for i in 0..size {
            matrix[i * width + i] += 1.0;
        }
        matrix
    }

    #[test]
    fn products_are_those_of_plain_loops() {
        for (rows, width, terms) in [(4, 16, 1), (8, 32, 5), (12, 48, 3), (20, 80, 7)] {
            let (a, b) = (numbers(terms * rows), numbers(terms * width));
            let mut out = vec![f32::NAN; rows * width];
            let factor = Factor {
                data: &a,
                row: rows,
                column: 1,
            };
            product(&mut out, factor, &b, width, (rows, terms), false);
            for i in 0..rows {
                for c in 0..width {
                    let sum: f32 = (0..terms).map(|r| a[r * rows + i] * b[r * width + c]).sum();
                    assert!((out[i * width + c] - sum).abs() < 1e-4);
                }
            }
        }
    }

    #[test]
    fn instruction_sets_differ_by_rounding_and_those_that_fuse_do_not() {
        let (rows, width, terms) = (8, 48, 37);
        let (a, b) = (numbers(terms * rows), numbers(terms * width));
        let run = |set: InstructionSet| {
            let mut out = vec![f32::NAN; rows * width];
            let a = Factor {
                data: &a,
                row: rows,
                column: 1,
            };
            set.run_fused(Product {
                out: &mut out,
                a,
                b: &b,
                width,
                rows,
                terms,
                upper: false,
            });
            out
        };
        let baseline = run(InstructionSet::Baseline);
        let wider = InstructionSet::ALL.iter().skip(1);
        let results: Vec<_> = wider
            .filter(|set| set.is_available())
            .map(|&set| run(set))
            .collect();
        for result in &results {
            assert_eq!(result, &results[0]);
            for (x, y) in result.iter().zip(&baseline) {
                assert!((x - y).abs() < 1e-5);
            }
        }
    }

    #[test]
    fn the_inverse_times_the_matrix_is_one() {
        for (size, terms) in [(4, 2), (8, 20), (20, 30), (60, 40), (108, 60)] {
            let width = padded(size);
            let mut matrix = positive(size, terms);
            let whole = |i: usize, j: usize| (i.min(j), i.max(j));
            let given = matrix.clone();
            let mut room = vec![0.0; size * width];
            invert(&mut matrix, &mut room, size, width);
            for i in 0..size {
                for j in 0..size {
                    let sum: f32 = (0..size)
                        .map(|r| {
                            let (row, column) = whole(r, j);
                            matrix[i * width + r] * given[row * width + column]
                        })
                        .sum();
                    let one = f32::from(u8::from(i == j));
                    assert!((sum - one).abs() < 2e-3, "{size}: {i} {j} {sum}");
                }
            }
        }
    }

    #[test]
    fn a_matrix_without_digits_has_a_finite_inverse() {
        let (size, width) = (8, 16);
        let mut matrix = vec![0.0; size * width];
        for row in matrix.chunks_exact_mut(width) {
            row[..size].fill(1e6);
        }
        let mut room = vec![0.0; size * width];
        invert(&mut matrix, &mut room, size, width);
        assert!(matrix.iter().all(|x| x.is_finite()));
    }
}
