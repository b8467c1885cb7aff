//! Denoising a group of similar patches by ridge regressions with weights in closed form.

use super::matrix::{Factor, ROWS, invert, padded, product};
use super::{Filters, Noise};
use crate::exec::simd::{FusedKernel, Kernel, LANES, dispatch, dispatch_fused, multiply_add};

/// The least noise that is counted on, as a share of the largest diagonal element of what it is
/// added to: below it, float32 has no digits for it.
const LEAST_NOISE: f32 = 2e-6;

/// What is added to the diagonal of what correlated noise is added to, as a share of its largest
/// element: that of the noise may have no inverse, and its product with one that has few digits
/// would have none.
const SHARED: f32 = 1e-5;

/// The least variance that is counted on: the squares of its inverse are still finite.
const LEAST_VARIANCE: f32 = 1e-14;

/// The patches of a group: a row for each, with the values of all channels.
#[derive(Default)]
pub(super) struct Group {
    /// The number of patches, and of values of each.
    pub(super) patches: usize,
    pub(super) values: usize,
    /// The noisy patches, and those that the weights are made of.
    pub(super) noisy: Vec<f32>,
    pub(super) pilot: Vec<f32>,
    /// The variance of the noise of a value, relative to the covariance of the channel; empty for 1.
    pub(super) gain: Vec<f32>,
    /// What was subtracted from each channel.
    pub(super) levels: Vec<f32>,
    /// The result, and the weight of each patch.
    pub(super) denoised: Vec<f32>,
    pub(super) weights: Vec<f32>,
    scratch: Scratch,
}

#[derive(Default)]
struct Scratch {
    transposed: Vec<f32>,
    gram: Vec<f32>,
    factor: Vec<f32>,
    noise: Vec<f32>,
    mean: Vec<f32>,
    centred: Vec<f32>,
    product: Vec<f32>,
}

/// Makes a buffer have this size; it is filled with zeros unless it has it already.
fn resize(buffer: &mut Vec<f32>, size: usize) {
    if buffer.len() != size {
        clear(buffer, size);
    }
}

/// Fills a buffer of this size with zeros.
fn clear(buffer: &mut Vec<f32>, size: usize) {
    buffer.clear();
    buffer.resize(size, 0.0);
}

/// Returns a multiple of the rows that a product computes together.
#[inline(always)]
fn whole_rows(n: usize) -> usize {
    n.div_ceil(ROWS) * ROWS
}

impl Group {
    /// Makes room for this many patches of this many values; all are 0.
    #[inline(always)]
    pub(super) fn resize(&mut self, patches: usize, values: usize, gain: bool) {
        if (self.patches, self.values) == (patches, values) {
            return;
        }
        *self = Self::default();
        self.patches = patches;
        self.values = values;
        let size = whole_rows(patches) * padded(values);
        resize(&mut self.noisy, size);
        resize(&mut self.pilot, size);
        resize(&mut self.denoised, size);
        resize(&mut self.gain, if gain { size } else { 0 });
        resize(&mut self.weights, patches);
    }

    /// Returns the number of elements of a row.
    #[inline(always)]
    pub(super) fn width(&self) -> usize {
        padded(self.values)
    }

    /// Fills `denoised` and `weights`.  `places` are the first pixels of the patches.
    ///
    /// `first` is the a of the first step, whose weights are made of the noisy patches; None for
    /// the second, where they are made of the pilot.
    pub(super) fn denoise(
        &mut self,
        noise: &Noise<'_>,
        places: &[[usize; 3]],
        (patch_rows, patch_columns): (usize, usize),
        first: Option<f32>,
        filters: Filters,
    ) {
        let channels = noise.channels;
        let pixels = patch_rows * patch_columns;
        if filters != Filters::Values {
            self.combine_patches(noise, places, channels, pixels, first);
        } else {
            self.weights.fill(1.0);
        }
        if filters != Filters::Patches {
            self.combine_values(noise, (patch_rows, patch_columns), filters == Filters::Both);
        }
    }

    /// Returns the mean gain of a patch in a channel.
    #[inline(always)]
    fn mean_gain(&self, patch: usize, channel: usize, pixels: usize) -> f32 {
        if self.gain.is_empty() {
            return 1.0;
        }
        let from = patch * self.width() + channel * pixels;
        self.gain[from..from + pixels].iter().sum::<f32>() / pixels as f32
    }

    fn combine_patches(
        &mut self,
        noise: &Noise<'_>,
        places: &[[usize; 3]],
        channels: usize,
        pixels: usize,
        first: Option<f32>,
    ) {
        let (k, n) = (self.patches, self.values);
        let (rows, width, wide) = (whole_rows(k), self.width(), padded(k));
        let share = first.unwrap_or(1.0);
        let factor = if first.is_some() { 1.0 + share } else { 1.0 };
        let mut scratch = std::mem::take(&mut self.scratch);
        let source = if first.is_some() {
            &self.noisy
        } else {
            &self.pilot
        };
        // Q = X X' + D
        resize(&mut scratch.transposed, n * wide);
        transpose(source, width, &mut scratch.transposed, wide, (k, n));
        resize(&mut scratch.gram, rows * wide);
        let a = Factor {
            data: &scratch.transposed,
            row: wide,
            column: 1,
        };
        product(
            &mut scratch.gram,
            a,
            &scratch.transposed,
            wide,
            (rows, n),
            true,
        );
        let largest = (0..k)
            .map(|i| scratch.gram[i * wide + i])
            .fold(0.0, f32::max);
        let least = largest * LEAST_NOISE;
        let diagonal_only = noise.radius == 0;
        let mean: Vec<f32> = (0..k)
            .map(|i| {
                let total = (0..channels)
                    .map(|c| noise.variance(c) * self.mean_gain(i, c, pixels))
                    .sum::<f32>();
                (total * pixels as f32).max(least).max(LEAST_VARIANCE)
            })
            .collect();
        if diagonal_only {
            for (i, level) in mean.iter().enumerate() {
                scratch.gram[i * wide + i] += share * level;
            }
        } else {
            let total: f32 = (0..channels).map(|c| noise.variance(c)).sum();
            clear(&mut scratch.noise, rows * wide);
            for i in 0..k {
                for j in i..k {
                    let relative = if i == j {
                        1.0
                    } else {
                        let covariance: f32 = (0..channels)
                            .map(|c| noise.covariance(c, difference(places[i], places[j])))
                            .sum();
                        covariance / total.max(f32::MIN_POSITIVE)
                    };
                    let value = (mean[i] * mean[j]).sqrt() * relative;
                    scratch.noise[i * wide + j] = value;
                    scratch.noise[j * wide + i] = value;
                    scratch.gram[i * wide + j] += share * value;
                }
                scratch.gram[i * wide + i] += SHARED * largest;
            }
        }
        for i in k..rows {
            scratch.gram[i * wide + i] = 1.0;
        }
        resize(&mut scratch.factor, rows * wide);
        invert(&mut scratch.gram, &mut scratch.factor, rows, wide);
        if diagonal_only {
            // T = I - (1 + a) D Q^-1
            let a = Factor {
                data: &scratch.gram,
                row: wide,
                column: 1,
            };
            product(&mut self.denoised, a, &self.noisy, width, (rows, k), false);
            for i in 0..k {
                let d = factor * mean[i];
                let row = &scratch.gram[i * wide..][..k];
                let squares: f32 = row.iter().map(|q| q * q).sum();
                self.weights[i] = weight(1.0 - 2.0 * d * row[i] + d * d * squares, k);
                let lines = self.denoised[i * width..][..width].iter_mut();
                for (x, y) in lines.zip(&self.noisy[i * width..][..width]) {
                    *x = y - d * *x;
                }
            }
        } else {
            // M = (1 + a) D Q^-1, T = I - M
            let a = Factor {
                data: &scratch.noise,
                row: wide,
                column: 1,
            };
            resize(&mut scratch.factor, rows * wide);
            product(
                &mut scratch.factor,
                a,
                &scratch.gram,
                wide,
                (rows, k),
                false,
            );
            let a = Factor {
                data: &scratch.factor,
                row: 1,
                column: wide,
            };
            product(&mut self.denoised, a, &self.noisy, width, (rows, k), false);
            for i in 0..k {
                let row = &scratch.factor[i * wide..][..k];
                let squares: f32 = row.iter().map(|q| q * q).sum();
                self.weights[i] =
                    weight(1.0 - 2.0 * factor * row[i] + factor * factor * squares, k);
                let lines = self.denoised[i * width..][..width].iter_mut();
                for (x, y) in lines.zip(&self.noisy[i * width..][..width]) {
                    *x = y - factor * *x;
                }
            }
        }
        self.scratch = scratch;
    }

    /// Filters each patch by the covariance of the values of the pilot's patches.
    fn combine_values(
        &mut self,
        noise: &Noise<'_>,
        (patch_rows, patch_columns): (usize, usize),
        average: bool,
    ) {
        let (k, n) = (self.patches, self.values);
        let (rows, width) = (whole_rows(k), self.width());
        let square = whole_rows(n);
        let pixels = patch_rows * patch_columns;
        let mut scratch = std::mem::take(&mut self.scratch);
        let mean = &mut scratch.mean;
        resize(mean, width);
        dispatch(Mean {
            rows: &self.pilot[..k * width],
            mean,
        });
        let centred = &mut scratch.centred;
        resize(centred, rows * width);
        dispatch(Without {
            rows: &self.pilot[..k * width],
            row: mean,
            out: centred,
        });
        // Everything from here on is k times the covariance, which changes nothing.
        let covariance = &mut scratch.gram;
        resize(covariance, square * width);
        let a = Factor {
            data: centred,
            row: width,
            column: 1,
        };
        product(covariance, a, centred, width, (square, k), true);
        let largest = (0..n)
            .map(|i| covariance[i * width + i])
            .fold(0.0, f32::max);
        let least = (largest * LEAST_NOISE).max(k as f32 * LEAST_VARIANCE);
        // The noise of a value, with the sum of the gains of all patches.
        let gains: Vec<f32> = if self.gain.is_empty() {
            vec![k as f32; n]
        } else {
            (0..n)
                .map(|v| (0..k).map(|i| self.gain[i * width + v]).sum::<f32>())
                .collect()
        };
        let level: Vec<f32> = (0..n)
            .map(|v| (noise.variance(v / pixels) * gains[v]).max(least))
            .collect();
        let correlated = noise.radius > 0;
        if correlated {
            clear(&mut scratch.noise, square * width);
            for a in 0..n {
                for b in a..n {
                    let value = if a == b {
                        level[a]
                    } else if a / pixels == b / pixels {
                        let (p, q) = (a % pixels, b % pixels);
                        let offset = [
                            0,
                            (p / patch_columns) as isize - (q / patch_columns) as isize,
                            (p % patch_columns) as isize - (q % patch_columns) as isize,
                        ];
                        noise.covariance(a / pixels, offset) * (gains[a] * gains[b]).sqrt()
                    } else {
                        continue;
                    };
                    scratch.noise[a * width + b] = value;
                    scratch.noise[b * width + a] = value;
                    covariance[a * width + b] += value;
                }
                covariance[a * width + a] += SHARED * largest;
            }
        } else {
            for (v, level) in level.iter().enumerate() {
                covariance[v * width + v] += level;
            }
        }
        for i in n..square {
            covariance[i * width + i] = 1.0;
        }
        resize(&mut scratch.factor, square * width);
        invert(covariance, &mut scratch.factor, square, width);
        dispatch(Without {
            rows: &self.noisy[..k * width],
            row: mean,
            out: centred,
        });
        let filter: &[f32] = if correlated {
            let a = Factor {
                data: covariance,
                row: width,
                column: 1,
            };
            product(
                &mut scratch.factor,
                a,
                &scratch.noise,
                width,
                (square, n),
                false,
            );
            &scratch.factor
        } else {
            covariance
        };
        resize(&mut scratch.product, rows * width);
        let a = Factor {
            data: centred,
            row: 1,
            column: width,
        };
        product(&mut scratch.product, a, filter, width, (rows, n), false);
        let mut factors = if correlated { vec![1.0; n] } else { level };
        factors.resize(width, 0.0);
        dispatch_fused(Subtract {
            from: &self.noisy[..k * width],
            rows: &scratch.product,
            factors: &factors,
            out: &mut self.denoised,
            kept: if average { 0.5 } else { 0.0 },
        });
        self.scratch = scratch;
    }
}

/// Fills `mean` with the mean of rows.
struct Mean<'a> {
    rows: &'a [f32],
    mean: &'a mut [f32],
}

impl Kernel for Mean<'_> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        let Self { rows, mean } = self;
        mean.fill(0.0);
        for row in rows.chunks_exact(mean.len()) {
            for (m, x) in mean.iter_mut().zip(row) {
                *m += x;
            }
        }
        let share = mean.len() as f32 / rows.len() as f32;
        mean.iter_mut().for_each(|m| *m *= share);
    }
}

/// Fills `out` with each row less `row`.
struct Without<'a> {
    rows: &'a [f32],
    row: &'a [f32],
    out: &'a mut [f32],
}

impl Kernel for Without<'_> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        let Self { rows, row, out } = self;
        let lines = out.chunks_exact_mut(row.len());
        for (out, values) in lines.zip(rows.chunks_exact(row.len())) {
            for ((x, value), other) in out.iter_mut().zip(values).zip(row) {
                *x = value - other;
            }
        }
    }
}

/// Fills `out` with `from` less `rows` times the factors of its columns, of which the share `kept`
/// remains what it was.
struct Subtract<'a> {
    from: &'a [f32],
    rows: &'a [f32],
    factors: &'a [f32],
    out: &'a mut [f32],
    kept: f32,
}

impl FusedKernel for Subtract<'_> {
    type Output = ();

    #[inline(always)]
    fn run<const FUSED: bool>(self) {
        let width = self.factors.len();
        let inputs = self
            .from
            .chunks_exact(width)
            .zip(self.rows.chunks_exact(width));
        for (out, (from, row)) in self.out.chunks_exact_mut(width).zip(inputs) {
            let values = from.iter().zip(row).zip(self.factors);
            for (x, ((from, value), factor)) in out.iter_mut().zip(values) {
                let new = multiply_add::<FUSED>(*from, -factor, *value);
                *x = if self.kept == 0.0 {
                    new
                } else {
                    self.kept * *x + (1.0 - self.kept) * new
                };
            }
        }
    }
}

/// Returns the weight of a patch whose weights' squares have this sum, in a group of `k`.
#[inline(always)]
fn weight(squares: f32, k: usize) -> f32 {
    1.0 / squares.clamp(1.0 / k as f32, 1.0)
}

#[inline(always)]
fn difference(a: [usize; 3], b: [usize; 3]) -> [isize; 3] {
    std::array::from_fn(|d| a[d] as isize - b[d] as isize)
}

/// Writes `rows` x `columns` elements transposed.
#[inline(always)]
fn transpose(
    from: &[f32],
    width: usize,
    to: &mut [f32],
    wide: usize,
    (rows, columns): (usize, usize),
) {
    for begin in (0..rows).step_by(LANES) {
        let end = (begin + LANES).min(rows);
        for c in 0..columns {
            let line = &mut to[c * wide + begin..][..end - begin];
            for (k, x) in line.iter_mut().enumerate() {
                *x = from[(begin + k) * width + c];
            }
        }
    }
}
