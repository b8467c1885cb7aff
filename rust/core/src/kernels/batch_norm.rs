//! Batch normalisation, LeakyReLU and padding between two convolutions: one write forward, one
//! write backward.
//!
//! A layer is an image (images, rows, columns, channels) whose channels lie side by side.  The
//! forward pass computes
//!
//! ```text
//! v = pad(w2 n(a) + b2),   a = l(w n(x) + b),   n(x) = (x - mean x) / sqrt(var x + epsilon)
//! ```
//!
//! with l(u) = u for u > 0 and slope u elsewhere, and with mean and variance of each channel over
//! images, rows and columns.  Without the second normalisation v = pad(a).  Sums are made in the
//! order of the rows, whatever the number of threads.

mod geometry;
mod sums;

use crate::Error;
use crate::element::Value;
use crate::error::check_length;
use crate::exec::parallel::{Executor, Parts};
use crate::exec::simd::{Kernel, dispatch};

pub use geometry::{Border, Geometry};
use geometry::{Fold, Row};
use sums::{Terms, reduce};

/// What the two normalisations multiply by and add, channel by channel.
#[derive(Debug, Clone, Copy)]
pub struct Weights<'a> {
    /// The factor and the summand of the first normalisation.
    pub first: [&'a [f32]; 2],
    /// Those of the second, if there is one.
    pub second: Option<[&'a [f32]; 2]>,
}

/// The activation, and the number that is added to variances.
#[derive(Debug, Clone, Copy)]
pub struct Form {
    /// The factor of negative values.
    pub slope: f32,
    /// What is added to each variance.
    pub epsilon: f32,
}

/// Normalises, activates and pads a layer.
///
/// `statistics` is filled with mean and inverse standard deviation of x, channel by channel, and,
/// with a second normalisation, with those of a.
///
/// # Errors
///
/// Returns an error if a buffer does not have the number of elements of the geometry.
pub fn forward<T: Value>(
    x: &[T],
    geometry: Geometry,
    weights: Weights<'_>,
    form: Form,
    statistics: &mut [f32],
    v: &mut [T],
    exec: &dyn Executor,
) -> Result<(), Error> {
    check(x, v, geometry, weights, statistics)?;
    let channels = geometry.channels;
    let count = geometry.pixels() as f64;
    // The variance is that of the distance from about the mean: that of x would lose digits where
    // the mean is large.
    let mut origin = about_mean(x, geometry);
    let sums = reduce::<T, Moments, 1, 2>(x, None, geometry, [&origin], form.slope, exec);
    let (first, second) = statistics.split_at_mut(2 * channels);
    moments(&sums, &origin, count, form.epsilon, first);
    let (mean, scale) = first.split_at(channels);
    let factor = product(weights.first[0], scale);
    let affine = [mean, &factor, weights.first[1]];
    let ones = vec![1.0; channels];
    let zeros = vec![0.0; channels];
    let mut outer = [zeros.clone(), ones, zeros];
    if let Some([weight, bias]) = weights.second {
        for (c, value) in origin.iter_mut().enumerate() {
            let u = (*value - mean[c]) * factor[c] + weights.first[1][c];
            *value = activated(u, form.slope);
        }
        let parameters = [affine[0], affine[1], affine[2], &origin];
        let sums = reduce::<T, Activated, 4, 2>(x, None, geometry, parameters, form.slope, exec);
        moments(&sums, &origin, count, form.epsilon, second);
        let (mean, scale) = second.split_at(channels);
        outer = [mean.to_vec(), product(weight, scale), bias.to_vec()];
    }
    let rows = geometry.padded_rows();
    let per_task = geometry.rows_per_task();
    let row = geometry.padded_columns() * channels;
    let parts = Parts::new(v, per_task * row);
    exec.run((geometry.images * rows).div_ceil(per_task), &|task| {
        if let Some(v) = parts.take(task) {
            dispatch(Write {
                x,
                v,
                first: task * per_task,
                geometry,
                affine,
                outer: [&outer[0], &outer[1], &outer[2]],
                slope: form.slope,
            });
        }
    });
    Ok(())
}

/// Computes the gradients of a loss whose gradient in v is `of_v`.
///
/// `of_x` is filled with that in x, 0 in its margin, and `of_weights` with those in weight and bias
/// of the first normalisation, then of the second, if there is one.
///
/// # Errors
///
/// Returns an error if a buffer does not have the number of elements of the geometry.
#[allow(
    clippy::too_many_arguments,
    reason = "what forward takes and fills, and their gradients"
)]
pub fn backward<T: Value>(
    of_v: &[T],
    x: &[T],
    geometry: Geometry,
    weights: Weights<'_>,
    form: Form,
    statistics: &[f32],
    of_x: &mut [T],
    of_weights: &mut [f32],
    exec: &dyn Executor,
) -> Result<(), Error> {
    check(x, of_v, geometry, weights, statistics)?;
    check_length("of_x", of_x.len(), x.len())?;
    check_length("of_weights", of_weights.len(), statistics.len())?;
    let channels = geometry.channels;
    let count = geometry.pixels() as f64;
    let part = |k: usize| &statistics[k * channels..(k + 1) * channels];
    let (mean, scale) = (part(0), part(1));
    let [weight, bias] = weights.first;
    let slope = form.slope;
    // The gradient in x is k (l'(u) (g p + q + r a') + s + t x') with numbers of the channel, x'
    // and a' the normalised x and a.
    let mut linear = [(); 5].map(|()| vec![0.0_f32; channels]);
    let [p, q, r, s, t] = &mut linear;
    let mut inner = [&[][..]; 2];
    if let Some([weight2, _]) = weights.second {
        let (mean2, scale2) = (part(2), part(3));
        inner = [mean2, scale2];
        let parameters = [mean, scale, weight, bias, mean2, scale2];
        let sums = reduce::<T, Both, 6, 8>(x, Some(of_v), geometry, parameters, slope, exec);
        for c in 0..channels {
            let sum = |k: usize| sums[k * channels + c];
            let (of_bias2, of_weight2) = (sum(0), sum(1));
            let factor = f64::from(weight2[c]) * f64::from(scale2[c]);
            let (constant, slant) = (of_bias2 / count, of_weight2 / count);
            let of_bias = factor * (sum(2) - constant * sum(4) - slant * sum(5));
            let of_weight = factor * (sum(3) - constant * sum(6) - slant * sum(7));
            p[c] = factor as f32;
            q[c] = (-factor * constant) as f32;
            r[c] = (-factor * slant) as f32;
            s[c] = (-of_bias / count) as f32;
            t[c] = (-of_weight / count) as f32;
            for (k, value) in [of_weight, of_bias, of_weight2, of_bias2]
                .iter()
                .enumerate()
            {
                of_weights[k * channels + c] = *value as f32;
            }
        }
    } else {
        let parameters = [mean, scale, weight, bias];
        let sums = reduce::<T, Single, 4, 2>(x, Some(of_v), geometry, parameters, slope, exec);
        for c in 0..channels {
            let (of_bias, of_weight) = (sums[c], sums[channels + c]);
            p[c] = 1.0;
            s[c] = (-of_bias / count) as f32;
            t[c] = (-of_weight / count) as f32;
            of_weights[c] = of_weight as f32;
            of_weights[channels + c] = of_bias as f32;
        }
    }
    let factor = product(weight, scale);
    let per_task = geometry.rows_per_task();
    let row = geometry.cropped_columns() * channels;
    let rows = geometry.cropped_rows();
    let parts = Parts::new(of_x, per_task * row);
    exec.run((geometry.images * rows).div_ceil(per_task), &|task| {
        if let Some(of_x) = parts.take(task) {
            let slopes = Slopes {
                of_v,
                x,
                of_x,
                first: task * per_task,
                geometry,
                normal: [mean, scale, weight, bias, &factor],
                linear: [0, 1, 2, 3, 4].map(|k: usize| linear[k].as_slice()),
                slope,
            };
            if weights.second.is_some() {
                dispatch(SlopesOfBoth { slopes, inner });
            } else {
                dispatch(slopes);
            }
        }
    });
    Ok(())
}

fn check<T>(
    x: &[T],
    v: &[T],
    geometry: Geometry,
    weights: Weights<'_>,
    statistics: &[f32],
) -> Result<(), Error> {
    let channels = geometry.channels;
    check_length("x", x.len(), geometry.cropped_len()?)?;
    check_length("v", v.len(), geometry.padded_len()?)?;
    for vector in weights.first.iter().chain(weights.second.iter().flatten()) {
        check_length("weights", vector.len(), channels)?;
    }
    let normalisations = 1 + usize::from(weights.second.is_some());
    check_length(
        "statistics",
        statistics.len(),
        2 * normalisations * channels,
    )
}

/// Returns about the mean of each channel, and just the value of a flat one.
///
/// It is the mean of as many pixels as the root of their number, so that an extreme pixel among them
/// moves it by a standard deviation at most.
fn about_mean<T: Value>(x: &[T], geometry: Geometry) -> Vec<f32> {
    let channels = geometry.channels;
    let count = geometry.pixels();
    let samples = count.isqrt().min(256);
    let step = count / samples;
    let first = &x[geometry.first()..][..channels];
    let mut distance = vec![0.0_f32; channels];
    for k in 0..samples {
        // Scattered, because all of one column may be special.
        let pixel = geometry.pixel(x, k * step + k * 40_503 % step);
        for ((sum, x), first) in distance.iter_mut().zip(pixel).zip(first) {
            *sum += x.load() - first.load();
        }
    }
    let of_distance = distance.iter().map(|sum| sum / samples as f32);
    first
        .iter()
        .zip(of_distance)
        .map(|(x, d)| x.load() + d)
        .collect()
}

fn product(a: &[f32], b: &[f32]) -> Vec<f32> {
    a.iter().zip(b).map(|(a, b)| a * b).collect()
}

/// Fills `statistics` with mean and inverse standard deviation, of sums over distances from the
/// origin and over their squares.
fn moments(sums: &[f64], origin: &[f32], count: f64, epsilon: f32, statistics: &mut [f32]) {
    let channels = origin.len();
    let (means, scales) = statistics.split_at_mut(channels);
    for c in 0..channels {
        let mean = sums[c] / count;
        let variance = (sums[channels + c] / count - mean * mean).max(0.0);
        means[c] = (f64::from(origin[c]) + mean) as f32;
        // A variance that is not a number must not become one: `max` returns the other then.
        let variance = if mean.is_finite() { variance } else { f64::NAN };
        scales[c] = (1.0 / (variance + f64::from(epsilon)).sqrt()) as f32;
    }
}

/// x - origin and its square.
struct Moments;
impl Terms<1, 2> for Moments {
    #[inline(always)]
    fn of<const W: usize>(
        [origin]: &[[f32; W]; 1],
        x: &[f32; W],
        _: &[f32; W],
        _: f32,
        sums: &mut [[f32; W]; 2],
    ) {
        for k in 0..W {
            let d = x[k] - origin[k];
            sums[0][k] += d;
            sums[1][k] += d * d;
        }
    }
}

/// a - origin and its square.
struct Activated;
impl Terms<4, 2> for Activated {
    #[inline(always)]
    fn of<const W: usize>(
        [mean, factor, bias, origin]: &[[f32; W]; 4],
        x: &[f32; W],
        _: &[f32; W],
        slope: f32,
        sums: &mut [[f32; W]; 2],
    ) {
        for k in 0..W {
            let d = activated((x[k] - mean[k]) * factor[k] + bias[k], slope) - origin[k];
            sums[0][k] += d;
            sums[1][k] += d * d;
        }
    }
}

/// h and h x', with h = l'(u) g.
struct Single;
impl Terms<4, 2> for Single {
    #[inline(always)]
    fn of<const W: usize>(
        [mean, scale, weight, bias]: &[[f32; W]; 4],
        x: &[f32; W],
        g: &[f32; W],
        slope: f32,
        sums: &mut [[f32; W]; 2],
    ) {
        for k in 0..W {
            let normal = (x[k] - mean[k]) * scale[k];
            let h = g[k] * derivative(normal * weight[k] + bias[k], slope);
            sums[0][k] += h;
            sums[1][k] += h * normal;
        }
    }
}

/// g, g a', l' g, l' g x', l', l' a', l' x' and l' a' x'.
struct Both;
impl Terms<6, 8> for Both {
    #[inline(always)]
    fn of<const W: usize>(
        [mean, scale, weight, bias, mean2, scale2]: &[[f32; W]; 6],
        x: &[f32; W],
        g: &[f32; W],
        slope: f32,
        sums: &mut [[f32; W]; 8],
    ) {
        for k in 0..W {
            let normal = (x[k] - mean[k]) * scale[k];
            let u = normal * weight[k] + bias[k];
            let l = derivative(u, slope);
            let normal2 = (u * l - mean2[k]) * scale2[k];
            let h = g[k] * l;
            sums[0][k] += g[k];
            sums[1][k] += g[k] * normal2;
            sums[2][k] += h;
            sums[3][k] += h * normal;
            sums[4][k] += l;
            sums[5][k] += l * normal2;
            sums[6][k] += l * normal;
            sums[7][k] += l * normal2 * normal;
        }
    }
}

#[inline(always)]
fn derivative(u: f32, slope: f32) -> f32 {
    if u > 0.0 { 1.0 } else { slope }
}

#[inline(always)]
fn activated(u: f32, slope: f32) -> f32 {
    u * derivative(u, slope)
}

/// Runs the body for every chunk of channels: `$c` is its first, `W` its width.
macro_rules! over_channels {
    ($channels:expr, |$c:ident, $w:ident| $body:block) => {{
        let channels = $channels;
        let mut $c = 0;
        while $c + 16 <= channels {
            const $w: usize = 16;
            $body
            $c += 16;
        }
        while $c + 4 <= channels {
            const $w: usize = 4;
            $body
            $c += 4;
        }
        while $c < channels {
            const $w: usize = 1;
            $body
            $c += 1;
        }
    }};
}
pub(crate) use over_channels;

/// Returns the values of some channels.
#[inline(always)]
fn chunk<const W: usize, T: Value>(values: &[T], at: usize) -> [f32; W] {
    let mut chunk = [0.0; W];
    for (value, x) in chunk.iter_mut().zip(&values[at..at + W]) {
        *value = x.load();
    }
    chunk
}

/// Writes some padded rows of the forward pass.
struct Write<'a, T> {
    x: &'a [T],
    v: &'a mut [T],
    first: usize,
    geometry: Geometry,
    affine: [&'a [f32]; 3],
    outer: [&'a [f32]; 3],
    slope: f32,
}

impl<T: Value> Kernel for Write<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        let geometry = self.geometry;
        let channels = geometry.channels;
        let (pad, columns) = (geometry.pad, geometry.columns);
        let length = geometry.padded_columns() * channels;
        for (k, v) in self.v.chunks_exact_mut(length).enumerate() {
            let x = geometry.source_row(self.x, self.first + k);
            let inner = &mut v[pad * channels..(pad + columns) * channels];
            let block = geometry.columns_per_block();
            for begin in (0..columns).step_by(block) {
                let end = (begin + block).min(columns);
                over_channels!(channels, |c, W| {
                    let [mean, factor, bias] =
                        [0, 1, 2].map(|k: usize| chunk::<W, f32>(self.affine[k], c));
                    let [mean2, factor2, bias2] =
                        [0, 1, 2].map(|k: usize| chunk::<W, f32>(self.outer[k], c));
                    for column in begin..end {
                        let at = column * channels + c;
                        let x = chunk::<W, T>(x, at);
                        let v = &mut inner[at..at + W];
                        for k in 0..W {
                            let u = (x[k] - mean[k]) * factor[k] + bias[k];
                            let a = activated(u, self.slope);
                            v[k] = T::store((a - mean2[k]) * factor2[k] + bias2[k]);
                        }
                    }
                });
            }
            geometry.pad_row(v);
        }
    }
}

/// Writes some rows of the gradient in x, with one normalisation.
struct Slopes<'a, T> {
    of_v: &'a [T],
    x: &'a [T],
    of_x: &'a mut [T],
    first: usize,
    geometry: Geometry,
    normal: [&'a [f32]; 5],
    linear: [&'a [f32]; 5],
    slope: f32,
}

impl<T: Value> Slopes<'_, T> {
    #[inline(always)]
    fn write<const BOTH: bool>(self, inner: [&[f32]; 2]) {
        let geometry = self.geometry;
        let channels = geometry.channels;
        let columns = geometry.columns;
        let margin = geometry.crop * channels;
        let length = geometry.cropped_columns() * channels;
        let mut fold = Fold::new(geometry);
        for (k, of_x) in self.of_x.chunks_exact_mut(length).enumerate() {
            let Some(Row { image, row }) = geometry.inner_row(self.first + k) else {
                of_x.fill(T::default());
                continue;
            };
            of_x[..margin].fill(T::default());
            of_x[length - margin..].fill(T::default());
            let x = geometry.row(self.x, image, row);
            let g = fold.row(self.of_v, image, row);
            let of_x = &mut of_x[margin..length - margin];
            let block = geometry.columns_per_block();
            for begin in (0..columns).step_by(block) {
                let end = (begin + block).min(columns);
                over_channels!(channels, |c, W| {
                    let [mean, scale, weight, bias, factor] =
                        [0, 1, 2, 3, 4].map(|k: usize| chunk::<W, f32>(self.normal[k], c));
                    let [p, q, r, s, t] =
                        [0, 1, 2, 3, 4].map(|k: usize| chunk::<W, f32>(self.linear[k], c));
                    let (mean2, scale2) = if BOTH {
                        (chunk::<W, f32>(inner[0], c), chunk::<W, f32>(inner[1], c))
                    } else {
                        ([0.0; W], [0.0; W])
                    };
                    for column in begin..end {
                        let at = column * channels + c;
                        let x = chunk::<W, T>(x, at);
                        let g = chunk::<W, f32>(g, at);
                        let of_x = &mut of_x[at..at + W];
                        for k in 0..W {
                            let normal = (x[k] - mean[k]) * scale[k];
                            let u = normal * weight[k] + bias[k];
                            let l = derivative(u, self.slope);
                            let of_a = if BOTH {
                                let normal2 = (u * l - mean2[k]) * scale2[k];
                                g[k] * p[k] + q[k] + normal2 * r[k]
                            } else {
                                g[k]
                            };
                            of_x[k] = T::store(factor[k] * (l * of_a + s[k] + normal * t[k]));
                        }
                    }
                });
            }
        }
    }
}

impl<T: Value> Kernel for Slopes<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        self.write::<false>([&[]; 2]);
    }
}

/// Writes some rows of the gradient in x, with two normalisations.
struct SlopesOfBoth<'a, T> {
    slopes: Slopes<'a, T>,
    inner: [&'a [f32]; 2],
}

impl<T: Value> Kernel for SlopesOfBoth<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        self.slopes.write::<true>(self.inner);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::element::Bf16;
    use crate::exec::simd::InstructionSet;

    const GEOMETRY: Geometry = Geometry {
        images: 2,
        rows: 5,
        columns: 37,
        channels: 23,
        crop: 1,
        pad: 2,
        border: Border::Reflect,
    };

    fn wave<T: Value>(count: usize, seed: usize) -> Vec<T> {
        (0..count)
            .map(|k| T::store(((k + 100 * seed) as f32 * 0.7).sin()))
            .collect()
    }

    /// Returns the bits of all that is written.
    fn bits<T: Value>(set: InstructionSet) -> Result<Vec<u32>, Error> {
        let geometry = GEOMETRY;
        let x: &[T] = &wave(geometry.cropped_len()?, 0);
        let of_v: &[T] = &wave(geometry.padded_len()?, 1);
        let vectors: [Vec<f32>; 10] = std::array::from_fn(|k| wave(geometry.channels, k));
        let vector = |k: usize| &vectors[k][..];
        let mut v = vec![T::default(); of_v.len()];
        set.run(Write {
            x,
            v: &mut v,
            first: 0,
            geometry,
            affine: [0, 1, 2].map(vector),
            outer: [3, 4, 5].map(vector),
            slope: 0.2,
        });
        let mut all = v;
        for both in [false, true] {
            let mut of_x = vec![T::default(); x.len()];
            let slopes = Slopes {
                of_v,
                x,
                of_x: &mut of_x,
                first: 0,
                geometry,
                normal: [0, 1, 2, 3, 4].map(vector),
                linear: [5, 6, 7, 8, 9].map(vector),
                slope: 0.2,
            };
            if both {
                let inner = [vector(2), vector(3)];
                set.run(SlopesOfBoth { slopes, inner });
            } else {
                set.run(slopes);
            }
            all.extend(of_x);
        }
        Ok(all.into_iter().map(|x| x.load().to_bits()).collect())
    }

    #[test]
    fn same_bits_on_every_instruction_set() -> Result<(), Error> {
        let run = |set| Ok((bits::<f32>(set)?, bits::<Bf16>(set)?));
        let expected = run(InstructionSet::Baseline)?;
        for &set in InstructionSet::ALL.iter().filter(|set| set.is_available()) {
            assert!(run(set)? == expected, "{set:?}");
        }
        Ok(())
    }
}
