//! Non-local ridge regression against plain loops in double precision, on random shapes.
#![allow(clippy::unwrap_used, reason = "a test may fail")]

use std::num::NonZeroUsize;

use dipfast_core::Error;
use dipfast_core::exec::{Executor, Serial, Threads};
use dipfast_core::kernels::nl_ridge::{Filters, Parameters, Pictures, Size, nl_ridge, tiles};
use proptest::prelude::*;

type Matrix = Vec<Vec<f64>>;
type Place = [usize; 3];

#[derive(Debug, Clone)]
struct Case {
    size: Size,
    parameters: Parameters,
    noisy: Vec<f32>,
    pilot: Option<Vec<f32>>,
    gain: Option<Vec<f32>>,
    guide: Vec<f32>,
    covariance: Vec<f32>,
    guide_covariance: Option<Vec<f32>>,
}

impl Case {
    fn pictures(&self) -> Pictures<'_> {
        Pictures {
            noisy: &self.noisy,
            pilot: self.pilot.as_deref(),
            guide: &self.guide,
            gain: self.gain.as_deref(),
            covariance: &self.covariance,
            guide_covariance: self.guide_covariance.as_deref(),
        }
    }

    fn plane(&self) -> usize {
        self.size.slices * self.size.rows * self.size.columns
    }

    /// Adds the tiles in portions of this many.
    fn run(&self, portion: usize, exec: &dyn Executor) -> (Vec<f32>, Vec<f32>) {
        let mut sums = vec![0.0; self.noisy.len()];
        let mut weights = vec![0.0; self.plane()];
        for first in (0..tiles(self.size, self.parameters)).step_by(portion) {
            let which = first..first.saturating_add(portion);
            let (to, weights) = (&mut sums[..], &mut weights[..]);
            nl_ridge(
                self.pictures(),
                self.size,
                self.parameters,
                which,
                to,
                weights,
                exec,
            )
            .unwrap();
        }
        (sums, weights)
    }

    fn patch(&self) -> (usize, usize) {
        let Size { rows, columns, .. } = self.size;
        (
            self.parameters.patch.min(rows),
            self.parameters.patch.min(columns),
        )
    }

    /// The values of a patch, channel by channel.
    fn values(&self, picture: &[f32], [z, y, x]: Place) -> Vec<f64> {
        let (rows, columns) = self.patch();
        let mut values = Vec::new();
        for plane in picture.chunks(self.plane()) {
            for k in 0..rows {
                let start = ((z * self.size.rows) + y + k) * self.size.columns + x;
                values.extend(plane[start..][..columns].iter().copied().map(f64::from));
            }
        }
        values
    }

    fn noise(&self, channel: usize, offset: [isize; 3]) -> f64 {
        let square = self.covariance.len() / self.size.channels;
        at(&self.covariance[channel * square..][..square], offset)
    }

    /// The patches most like that at `reference`; of equal ones, the first.
    fn group(&self, reference: Place) -> Vec<Place> {
        let (rows, columns) = self.patch();
        let Parameters {
            group,
            reach,
            slices_reach,
            ..
        } = self.parameters;
        let around = |at: usize, reach: usize, last: usize| {
            at.saturating_sub(reach)..(at + reach).min(last) + 1
        };
        let own = self.values(&self.guide, reference);
        let mut found = Vec::new();
        for z in around(reference[0], slices_reach, self.size.slices - 1) {
            for y in around(reference[1], reach, self.size.rows - rows) {
                for x in around(reference[2], reach, self.size.columns - columns) {
                    let other = self.values(&self.guide, [z, y, x]);
                    let mut distance: f64 =
                        own.iter().zip(other).map(|(a, b)| (a - b).powi(2)).sum();
                    if let Some(table) = &self.guide_covariance {
                        let offset = difference([z, y, x], reference);
                        distance += 2.0 * (rows * columns) as f64 * at(table, offset);
                    }
                    let own = [z, y, x] == reference;
                    found.push((if own { -1.0 } else { distance.max(0.0) }, [z, y, x]));
                }
            }
        }
        found.sort_by(|(a, _), (b, _)| a.total_cmp(b));
        found
            .into_iter()
            .take(group)
            .map(|(_, place)| place)
            .collect()
    }

    /// The picture that the definition gives.
    fn definition(&self) -> Vec<f64> {
        let Size {
            channels,
            slices,
            rows,
            columns,
        } = self.size;
        let (patch_rows, patch_columns) = self.patch();
        let mut sums = vec![0.0; self.noisy.len()];
        let mut weights = vec![0.0; self.plane()];
        for z in 0..slices {
            for y in every(self.parameters.step, rows - patch_rows) {
                for x in every(self.parameters.step, columns - patch_columns) {
                    let places = self.group([z, y, x]);
                    let (denoised, of_patches) = self.denoise(&places);
                    for ((&[z, y, x], values), w) in places.iter().zip(denoised).zip(of_patches) {
                        let mut values = values.into_iter();
                        for channel in 0..channels {
                            for k in 0..patch_rows {
                                for m in 0..patch_columns {
                                    let at = (z * rows + y + k) * columns + x + m;
                                    sums[channel * self.plane() + at] += w * values.next().unwrap();
                                    if channel == 0 {
                                        weights[at] += w;
                                    }
                                }
                            }
                        }
                    }
                }
            }
        }
        let weights = weights.iter().cycle();
        sums.iter()
            .zip(weights)
            .map(|(sum, weight)| sum / weight)
            .collect()
    }

    /// The denoised patches of a group, the first of which is the reference, and their weights.
    fn denoise(&self, places: &[Place]) -> (Matrix, Vec<f64>) {
        let source = self.pilot.as_deref().unwrap_or(&self.noisy);
        let levels = self.levels(&self.values(source, places[0]));
        let of = |picture: &[f32]| -> Matrix {
            let values = |&place: &Place| self.values(picture, place);
            places.iter().map(values).collect()
        };
        let (y, x) = (
            shifted(of(&self.noisy), &levels, -1.0),
            shifted(of(source), &levels, -1.0),
        );
        let gain = self.gain.as_deref().map(of);
        let gain = gain.unwrap_or_else(|| vec![vec![1.0; y[0].len()]; y.len()]);
        let ones = vec![1.0; y.len()];
        let (denoised, weights) = if self.pilot.is_none() {
            let share = f64::from(self.parameters.share);
            self.combine(&y, &y, places, &gain, (share, 1.0 + share))
        } else {
            let (combined, weights) = self.combine(&y, &x, places, &gain, (1.0, 1.0));
            match self.parameters.filters {
                Filters::Patches => (combined, weights),
                Filters::Values => (self.filter(&y, &x, &gain), ones),
                Filters::Both => (mean(&combined, &self.filter(&y, &x, &gain)), weights),
            }
        };
        (shifted(denoised, &levels, 1.0), weights)
    }

    /// What is taken from the values of a patch first: the means of the channels of the reference.
    fn levels(&self, reference: &[f64]) -> Vec<f64> {
        let pixels = reference.len() / self.size.channels;
        let level = |channel: &[f64]| channel.iter().sum::<f64>() / pixels as f64;
        let levels = reference.chunks(pixels).map(level);
        let share = f64::from(u8::from(self.parameters.centred));
        levels
            .flat_map(|level| vec![share * level; pixels])
            .collect()
    }

    /// T Y with T = I - factor D (X X' + share D)^-1, and the weights of the patches.
    fn combine(
        &self,
        y: &Matrix,
        x: &Matrix,
        places: &[Place],
        gain: &Matrix,
        (share, factor): (f64, f64),
    ) -> (Matrix, Vec<f64>) {
        let k = y.len();
        let pixels = x[0].len() / self.size.channels;
        let channels = 0..self.size.channels;
        let total: f64 = channels.clone().map(|c| self.noise(c, [0; 3])).sum();
        let level = |i: usize| -> f64 {
            let of_channel = |c: usize| gain[i][c * pixels..][..pixels].iter().sum::<f64>();
            channels
                .clone()
                .map(|c| self.noise(c, [0; 3]) * of_channel(c))
                .sum()
        };
        let d = square(k, |i, j| {
            let offset = difference(places[i], places[j]);
            let shared: f64 = channels.clone().map(|c| self.noise(c, offset)).sum();
            (level(i) * level(j)).sqrt() * shared / total
        });
        let added = self.added(x.iter().map(|x| dot(x, x)));
        let q = square(k, |i, j| {
            dot(&x[i], &x[j]) + share * d[i][j] + if i == j { added } else { 0.0 }
        });
        let m = product(&d, &inverse(q));
        let t = square(k, |i, j| f64::from(u8::from(i == j)) - factor * m[i][j]);
        let weight = |row: &Vec<f64>| 1.0 / dot(row, row).clamp(1.0 / k as f64, 1.0);
        (product(&t, y), t.iter().map(weight).collect())
    }

    /// What is added to a diagonal with these elements where noise is correlated.
    fn added(&self, diagonal: impl Iterator<Item = f64>) -> f64 {
        let correlated = self.covariance.len() > self.size.channels;
        f64::from(u8::from(correlated)) * 1e-5 * diagonal.fold(0.0, f64::max)
    }

    /// y - (y - m) (C + N)^-1 N for each patch.
    fn filter(&self, y: &Matrix, x: &Matrix, gain: &Matrix) -> Matrix {
        let (k, n) = (x.len() as f64, x[0].len());
        let (rows, columns) = self.patch();
        let pixels = rows * columns;
        let mean_of = |matrix: &Matrix, v: usize| matrix.iter().map(|row| row[v]).sum::<f64>() / k;
        let mean: Vec<f64> = (0..n).map(|v| mean_of(x, v)).collect();
        let noise = square(n, |a, b| {
            if a / pixels != b / pixels {
                return 0.0;
            }
            let place = |v: usize| [0, v % pixels / columns, v % columns];
            let level = (mean_of(gain, a) * mean_of(gain, b)).sqrt();
            level * self.noise(a / pixels, difference(place(a), place(b)))
        });
        let covariance = square(n, |a, b| {
            let product = |row: &Vec<f64>| (row[a] - mean[a]) * (row[b] - mean[b]);
            x.iter().map(product).sum::<f64>() / k
        });
        let added = self.added((0..n).map(|v| covariance[v][v]));
        let q = square(n, |a, b| {
            covariance[a][b] + noise[a][b] + if a == b { added } else { 0.0 }
        });
        let filter = product(&inverse(q), &noise);
        let centred = |row: &Vec<f64>| row.iter().zip(&mean).map(|(y, m)| y - m).collect();
        let away = product(&y.iter().map(centred).collect(), &filter);
        let less = |(y, away): (&Vec<f64>, Vec<f64>)| {
            y.iter().zip(away).map(|(y, away)| y - away).collect()
        };
        y.iter().zip(away).map(less).collect()
    }
}

fn every(step: usize, last: usize) -> impl Iterator<Item = usize> {
    (0..last).step_by(step).chain([last])
}

fn difference(a: Place, b: Place) -> [isize; 3] {
    [0, 1, 2].map(|d| a[d] as isize - b[d] as isize)
}

fn shifted(mut rows: Matrix, levels: &[f64], sign: f64) -> Matrix {
    for row in &mut rows {
        for (x, level) in row.iter_mut().zip(levels) {
            *x += sign * level;
        }
    }
    rows
}

fn mean(a: &Matrix, b: &Matrix) -> Matrix {
    let row =
        |(a, b): (&Vec<f64>, &Vec<f64>)| a.iter().zip(b).map(|(a, b)| 0.5 * (a + b)).collect();
    a.iter().zip(b).map(row).collect()
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

fn square(n: usize, element: impl Fn(usize, usize) -> f64) -> Matrix {
    (0..n)
        .map(|i| (0..n).map(|j| element(i, j)).collect())
        .collect()
}

fn product(a: &Matrix, b: &Matrix) -> Matrix {
    let row = |row: &Vec<f64>| {
        let element = |j: usize| row.iter().zip(b).map(|(a, b)| a * b[j]).sum();
        (0..b[0].len()).map(element).collect()
    };
    a.iter().map(row).collect()
}

/// The inverse of a positive definite matrix, by elimination without a search for pivots.
fn inverse(mut a: Matrix) -> Matrix {
    let n = a.len();
    let mut b = square(n, |i, j| f64::from(u8::from(i == j)));
    for k in 0..n {
        let pivot = a[k][k];
        for j in 0..n {
            a[k][j] /= pivot;
            b[k][j] /= pivot;
        }
        for i in (0..n).filter(|&i| i != k) {
            let factor = a[i][k];
            for j in 0..n {
                a[i][j] -= factor * a[k][j];
                b[i][j] -= factor * b[k][j];
            }
        }
    }
    b
}

/// Numbers in [0, 1) without a crate for it: the high bits of a multiplicative generator.
fn numbers(seed: u64, n: usize) -> Vec<f32> {
    let mut state = seed | 1;
    std::iter::repeat_with(|| {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        (state >> 40) as f32 / (1_u32 << 24) as f32
    })
    .take(n)
    .collect()
}

/// In 256ths squared distances are exact in float32, and some are equal.
fn in_256ths(x: &[f32]) -> Vec<f32> {
    x.iter().map(|x| (256.0 * x).round() / 256.0).collect()
}

/// A covariance at a distance, of a square of them.
fn at(square: &[f32], [z, y, x]: [isize; 3]) -> f64 {
    let side = square.len().isqrt();
    let radius = (side / 2) as isize;
    if z != 0 || y.abs() > radius || x.abs() > radius {
        return 0.0;
    }
    let (y, x) = ((y + radius) as usize, (x + radius) as usize);
    f64::from(square[y * side + x])
}

/// The covariance of noise that a small blur left, in 2^-17 so that sums with distances are exact.
fn covariance(channels: usize, radius: usize) -> Vec<f32> {
    let side = 2 * radius + 1;
    let from_middle = |k: usize| k as f64 - radius as f64;
    let mut table = Vec::new();
    for channel in 0..channels {
        for at in 0..side * side {
            let (y, x) = (from_middle(at / side), from_middle(at % side));
            let value = 0.02 * (1.0 + channel as f64) * (-(y * y + x * x)).exp();
            table.push(((value * f64::from(1 << 17)).round() / f64::from(1 << 17)) as f32);
        }
    }
    table
}

fn case() -> impl Strategy<Value = Case> {
    let size = (1..4_usize, 1..4_usize, 1..15_usize, 1..25_usize);
    let patches = (1..6_usize, 1..40_usize, 0..8_usize, 0..3_usize, 0..6_usize);
    let filters = prop_oneof![
        Just(Filters::Patches),
        Just(Filters::Values),
        Just(Filters::Both)
    ];
    let radii = (0..3_usize, proptest::option::of(0..3_usize));
    let rest = (any::<[bool; 4]>(), filters, radii, any::<u64>());
    (size, patches, rest).prop_map(|(size, patches, rest)| {
        let (channels, slices, rows, columns) = size;
        let (patch, group, reach, slices_reach, step) = patches;
        let ([has_pilot, has_gain, small_share, centred], filters, radii, seed) = rest;
        let (radius, of_guide) = radii;
        let plane = slices * rows * columns;
        let n = channels * plane;
        let gain = numbers(seed ^ 3, n).iter().map(|x| 0.2 + 3.0 * x).collect();
        Case {
            size: Size {
                channels,
                slices,
                rows,
                columns,
            },
            parameters: Parameters {
                patch,
                group,
                reach,
                slices_reach,
                // Between patches that are further apart there would be pixels in none.
                step: step.clamp(1, patch),
                share: if small_share { 0.05 } else { 1.0 },
                centred,
                filters,
            },
            noisy: numbers(seed, n),
            pilot: has_pilot.then(|| numbers(seed ^ 1, n)),
            gain: has_gain.then_some(gain),
            guide: in_256ths(&numbers(seed ^ 2, plane)),
            covariance: covariance(channels, radius),
            guide_covariance: of_guide.map(|radius| covariance(1, radius)),
        }
    })
}

fn threads(count: usize) -> Threads {
    Threads(NonZeroUsize::new(count).unwrap())
}

proptest! {
    // The definition is slow.
    #![proptest_config(ProptestConfig { cases: 48, max_shrink_iters: 50, ..ProptestConfig::default() })]

    #[test]
    fn pass_is_the_definition(case in case()) {
        let (sums, weights) = case.run(usize::MAX, &Serial);
        let got = sums.iter().zip(weights.iter().cycle()).map(|(sum, weight)| sum / weight);
        for (got, expected) in got.zip(case.definition()) {
            prop_assert!((f64::from(got) - expected).abs() < 1e-4, "{got} is not {expected}");
        }
    }

    #[test]
    fn threads_and_portions_cannot_be_seen(
        case in case(), count in 2..4_usize, portion in 1..4_usize,
    ) {
        let expected = case.run(usize::MAX, &Serial);
        prop_assert!(case.run(usize::MAX, &threads(count)) == expected);
        prop_assert!(case.run(portion, &threads(count)) == expected);
    }
}

/// A picture of many tiles.
fn large(filters: Filters, has_pilot: bool, radius: usize) -> Case {
    let size = Size {
        channels: 3,
        slices: 2,
        rows: 50,
        columns: 70,
    };
    let (plane, n) = (2 * 50 * 70, 3 * 2 * 50 * 70);
    Case {
        size,
        parameters: Parameters {
            patch: 4,
            group: 20,
            reach: 5,
            slices_reach: 1,
            step: 2,
            share: 1.0,
            centred: false,
            filters,
        },
        noisy: numbers(1, n),
        pilot: has_pilot.then(|| numbers(2, n)),
        gain: Some(numbers(3, n)),
        guide: numbers(4, plane),
        covariance: covariance(3, radius),
        guide_covariance: (radius > 0 && !has_pilot).then(|| covariance(1, radius)),
    }
}

#[test]
fn same_bits_for_every_number_of_threads() {
    for (filters, has_pilot, radius) in [
        (Filters::Patches, false, 0),
        (Filters::Patches, false, 1),
        (Filters::Both, true, 0),
        (Filters::Values, true, 1),
    ] {
        let case = large(filters, has_pilot, radius);
        assert!(tiles(case.size, case.parameters) > 10);
        let expected = case.run(usize::MAX, &Serial);
        for count in [2, 3] {
            assert!(case.run(usize::MAX, &threads(count)) == expected);
        }
        assert!(case.run(7, &threads(2)) == expected);
    }
}

#[test]
fn flat_pictures_stay_as_they_are() {
    // All distances are equal, and the patches of a group.
    for value in [0.0, 1e-5, 0.3, 1.0] {
        for variance in [0.0, 1e-12, 1e-4, 10.0] {
            for has_pilot in [false, true] {
                let mut case = large(Filters::Both, has_pilot, 0);
                case.noisy.fill(value);
                case.pilot.iter_mut().for_each(|pilot| pilot.fill(value));
                case.guide.fill(value);
                case.gain = None;
                case.covariance = vec![variance; 3];
                let (sums, weights) = case.run(usize::MAX, &threads(2));
                for (sum, weight) in sums.iter().zip(weights.iter().cycle()) {
                    let got = sum / weight;
                    // Ridge regression draws towards 0, and in the first pass beyond.
                    let bound = value * (1.0 + 1e-5) + 1e-30;
                    assert!(got.abs() <= bound, "{got} is not {value}");
                    assert!(
                        variance > 1e-4 * value || (got - value).abs() <= 0.01 * value,
                        "{got} is not {value}"
                    );
                }
            }
        }
    }
}

/// Pictures whose patches are combinations of a few: rounding may leave pivots that are not positive.
#[test]
fn what_has_hardly_any_noise_stays_as_it_is() {
    let (rows, columns) = (30, 44);
    let pictures: [fn(usize, usize) -> f32; 6] = [
        |_, x| x as f32 / 43.0,
        |y, x| 0.5 + (x + y) as f32 / 200.0,
        |_, x| 0.5 + 0.5 * (x as f32 / 2.0).sin(),
        |y, x| ((x + y) % 2) as f32,
        |_, x| (x / 4 % 2) as f32,
        |_, x| 0.9 + 0.001 * (x as f32).sin(),
    ];
    for (index, picture) in pictures.iter().enumerate() {
        let pixels = (0..rows * columns).map(|at| picture(at / columns, at % columns));
        let pixels: Vec<f32> = pixels.collect();
        for (filters, has_pilot) in [(Filters::Patches, false), (Filters::Both, true)] {
            for (variance, group, centred) in [
                (0.0, 60, false),
                (0.0, 24, true),
                (1e-12, 60, true),
                (1e-8, 60, false),
                (1e-6, 24, false),
            ] {
                let case = Case {
                    size: Size {
                        channels: 1,
                        slices: 1,
                        rows,
                        columns,
                    },
                    parameters: Parameters {
                        patch: 7,
                        group,
                        reach: 18,
                        slices_reach: 0,
                        step: 5,
                        share: 1.0,
                        centred,
                        filters,
                    },
                    noisy: pixels.clone(),
                    pilot: has_pilot.then(|| pixels.clone()),
                    gain: None,
                    guide: pixels.clone(),
                    covariance: vec![variance],
                    guide_covariance: None,
                };
                let (sums, weights) = case.run(usize::MAX, &threads(2));
                for ((sum, weight), pixel) in sums.iter().zip(weights).zip(&pixels) {
                    let away = (sum / weight - pixel).abs();
                    assert!(
                        away < 0.01,
                        "{index}, {group}, {variance}, {filters:?}: {away}"
                    );
                }
            }
        }
    }
}

#[test]
fn one_pixel() {
    let size = Size {
        channels: 1,
        slices: 1,
        rows: 1,
        columns: 1,
    };
    let parameters = Parameters {
        patch: 7,
        ..large(Filters::Patches, false, 0).parameters
    };
    assert_eq!(tiles(size, parameters), 1);
    let pictures = Pictures {
        noisy: &[0.5],
        pilot: None,
        guide: &[0.5],
        gain: None,
        covariance: &[0.25],
        guide_covariance: None,
    };
    let run = |pictures| {
        let (mut sums, mut weights) = ([0.0], [0.0]);
        let (to, over) = (&mut sums, &mut weights);
        nl_ridge(pictures, size, parameters, 0..1, to, over, &Serial).unwrap();
        sums[0] / weights[0]
    };
    // T = 1 - 2 d / (y^2 + d) with d = y^2.
    assert!(run(pictures).abs() < 1e-6);
    let later = Pictures {
        pilot: Some(&[0.5]),
        ..pictures
    };
    assert!((run(later) - 0.25).abs() < 1e-6);
}

#[test]
fn what_does_not_fit_is_refused() {
    let case = large(Filters::Both, true, 1);
    let n = case.noisy.len();
    let run = |pictures, size, parameters, sums: usize, weights: usize| {
        let (mut sums, mut weights) = (vec![0.0; sums], vec![0.0; weights]);
        nl_ridge(
            pictures,
            size,
            parameters,
            0..1,
            &mut sums,
            &mut weights,
            &Serial,
        )
    };
    let given = |pictures| run(pictures, case.size, case.parameters, n, n / 3);
    let length = |name, result| matches!(result, Err(Error::WrongLength { name: other, .. }) if name == other);
    assert_eq!(given(case.pictures()), Ok(()));
    let (short, pictures) = (&case.noisy[1..], case.pictures());
    assert!(length(
        "noisy",
        given(Pictures {
            noisy: short,
            ..pictures
        })
    ));
    assert!(length(
        "pilot",
        given(Pictures {
            pilot: Some(short),
            ..pictures
        })
    ));
    assert!(length(
        "gain",
        given(Pictures {
            gain: Some(short),
            ..pictures
        })
    ));
    assert!(length(
        "guide",
        given(Pictures {
            guide: short,
            ..pictures
        })
    ));
    // No square for each channel, and squares without a middle.
    for covariance in [&[1.0; 5][..], &[1.0; 12]] {
        assert!(length(
            "covariance",
            given(Pictures {
                covariance,
                ..pictures
            })
        ));
    }
    for guide_covariance in [&[1.0; 5][..], &[1.0; 4]] {
        assert!(length(
            "guide_covariance",
            given(Pictures {
                guide_covariance: Some(guide_covariance),
                ..pictures
            })
        ));
    }
    for none in [
        Pictures {
            covariance: &[],
            ..pictures
        },
        Pictures {
            guide_covariance: Some(&[]),
            ..pictures
        },
    ] {
        assert!(given(none).is_err());
    }
    assert!(length(
        "sums",
        run(pictures, case.size, case.parameters, n - 1, n / 3)
    ));
    assert!(length(
        "weights",
        run(pictures, case.size, case.parameters, n, n)
    ));
    let zero = |size, parameters| run(pictures, size, parameters, n, n / 3);
    let positive = |name| Err(Error::NotPositive(name));
    let parameters = case.parameters;
    for (name, parameters) in [
        (
            "patch",
            Parameters {
                patch: 0,
                ..parameters
            },
        ),
        (
            "group",
            Parameters {
                group: 0,
                ..parameters
            },
        ),
        (
            "step",
            Parameters {
                step: 0,
                ..parameters
            },
        ),
    ] {
        assert_eq!(zero(case.size, parameters), positive(name));
    }
    let nothing = Size {
        slices: 0,
        ..case.size
    };
    assert_eq!(
        zero(nothing, parameters),
        positive("the size of the picture")
    );
    let endless = Size {
        rows: usize::MAX,
        ..case.size
    };
    assert_eq!(zero(endless, parameters), Err(Error::SizeOverflow));
}

#[test]
fn tiles_beyond_the_last_add_nothing() {
    let case = large(Filters::Both, true, 0);
    let count = tiles(case.size, case.parameters);
    let mut sums = vec![0.0; case.noisy.len()];
    let mut weights = vec![0.0; case.plane()];
    for which in [count..count + 5, usize::MAX..usize::MAX] {
        let (sums, weights) = (&mut sums[..], &mut weights[..]);
        nl_ridge(
            case.pictures(),
            case.size,
            case.parameters,
            which,
            sums,
            weights,
            &Serial,
        )
        .unwrap();
    }
    assert!(sums.iter().chain(&weights).all(|&x| x == 0.0));
}

#[test]
fn reach_and_group_may_be_as_large_as_can_be() {
    let mut case = large(Filters::Both, true, 0);
    case.size = Size {
        slices: 1,
        rows: 9,
        columns: 12,
        ..case.size
    };
    let plane = case.plane();
    case.noisy.truncate(3 * plane);
    case.pilot
        .iter_mut()
        .for_each(|pilot| pilot.truncate(3 * plane));
    case.gain = None;
    case.guide.truncate(plane);
    (case.parameters.reach, case.parameters.slices_reach) = (12, 1);
    case.parameters.group = plane;
    let expected = case.run(usize::MAX, &Serial);
    (case.parameters.reach, case.parameters.slices_reach) = (usize::MAX, usize::MAX);
    case.parameters.group = usize::MAX;
    assert!(case.run(usize::MAX, &Serial) == expected);
}

#[test]
fn tiles_of_what_is_refused_can_be_asked_for() {
    let Case {
        size, parameters, ..
    } = large(Filters::Both, true, 0);
    let none = [
        (Size { rows: 0, ..size }, parameters),
        (
            size,
            Parameters {
                patch: 0,
                ..parameters
            },
        ),
        (
            size,
            Parameters {
                step: 0,
                ..parameters
            },
        ),
    ];
    for (size, parameters) in none {
        assert_eq!(tiles(size, parameters), 0);
    }
}
