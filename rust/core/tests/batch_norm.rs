//! Batch normalisation, activation and padding against plain loops in double precision, on random
//! shapes and element types, and the rounding to 16 bits.
#![allow(clippy::unwrap_used, reason = "a test may fail")]

use std::num::NonZeroUsize;

use dipfast_core::Error;
use dipfast_core::element::{Bf16, Value};
use dipfast_core::exec::{Executor, Serial, Threads};
use dipfast_core::kernels::batch_norm::{Border, Form, Geometry, Weights, backward, forward};
use proptest::prelude::*;

/// Numbers in [-1, 1) that repeat late.
fn wave(count: usize, seed: usize) -> Vec<f32> {
    (0..count)
        .map(|k| ((k * k * 31 + k * 17 + seed * 7919) % 2027) as f32 / 1013.5 - 1.0)
        .collect()
}

fn stored<T: Value>(values: &[f32]) -> Vec<T> {
    values.iter().map(|&x| T::store(x)).collect()
}

fn doubles<T: Value>(values: &[T]) -> Vec<f64> {
    values.iter().map(|x| f64::from(x.load())).collect()
}

/// A layer and its weights, one or two pairs of vectors.
#[derive(Debug, Clone)]
struct Case {
    geometry: Geometry,
    form: Form,
    weights: Vec<Vec<f32>>,
    seed: usize,
}

impl Case {
    fn weights(&self) -> Weights<'_> {
        let pair = |k: usize| [&self.weights[k][..], &self.weights[k + 1][..]];
        Weights {
            first: pair(0),
            second: (self.weights.len() == 4).then(|| pair(2)),
        }
    }

    fn lengths(&self) -> [usize; 2] {
        let g = self.geometry;
        [g.crop, g.pad]
            .map(|margin| g.images * (g.rows + 2 * margin) * (g.columns + 2 * margin) * g.channels)
    }

    fn x<T: Value>(&self) -> Vec<T> {
        stored(&wave(self.lengths()[0], self.seed))
    }

    fn of_v<T: Value>(&self) -> Vec<T> {
        stored(&wave(self.lengths()[1], self.seed + 1))
    }
}

/// What the kernels fill: v, statistics, of_x, of_weights.
type Results<T> = (Vec<T>, Vec<f32>, Vec<T>, Vec<f32>);

fn run<T: Value>(case: &Case, exec: &dyn Executor) -> Results<T> {
    let nan = T::store(f32::NAN);
    let (x, of_v) = (case.x::<T>(), case.of_v::<T>());
    let (mut v, mut of_x) = (vec![nan; of_v.len()], vec![nan; x.len()]);
    let numbers = case.weights.len() * case.geometry.channels;
    let (mut statistics, mut of_weights) = (vec![f32::NAN; numbers], vec![f32::NAN; numbers]);
    let (geometry, weights, form) = (case.geometry, case.weights(), case.form);
    forward(&x, geometry, weights, form, &mut statistics, &mut v, exec).unwrap();
    backward(
        &of_v,
        &x,
        geometry,
        weights,
        form,
        &statistics,
        &mut of_x,
        &mut of_weights,
        exec,
    )
    .unwrap();
    (v, statistics, of_x, of_weights)
}

/// Which row (column) a padded one shows.
fn source(padded: usize, pad: usize, size: usize, border: Border) -> usize {
    let last = size as isize - 1;
    let at = padded as isize - pad as isize;
    let at = match border {
        Border::Edge => at.clamp(0, last),
        Border::Reflect if at < 0 => -at,
        Border::Reflect if at > last => 2 * last - at,
        Border::Reflect => at,
    };
    at as usize
}

/// Mean and inverse standard deviation.
fn moments(values: &[f64], epsilon: f64) -> (f64, f64) {
    let count = values.len() as f64;
    let mean = values.iter().sum::<f64>() / count;
    let variance = values.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / count;
    (mean, 1.0 / (variance + epsilon).sqrt())
}

/// The gradient of a normalisation in what it is given; and those in its weight and bias.
fn of_normalised(g: &[f64], normal: &[f64], factor: f64) -> (Vec<f64>, f64, f64) {
    let count = g.len() as f64;
    let bias: f64 = g.iter().sum();
    let weight: f64 = g.iter().zip(normal).map(|(g, n)| g * n).sum();
    let of_input = g
        .iter()
        .zip(normal)
        .map(|(g, n)| factor * (g - bias / count - n * weight / count));
    (of_input.collect(), weight, bias)
}

/// Numbers, and the size of the terms that each is the sum of.
#[derive(Default)]
struct Sized {
    values: Vec<f64>,
    sizes: Vec<f64>,
}

impl Sized {
    fn zeros(count: usize) -> Self {
        Self {
            values: vec![0.0; count],
            sizes: vec![0.0; count],
        }
    }

    fn set(&mut self, at: usize, value: f64, size: f64) {
        self.values[at] = value;
        self.sizes[at] = size;
    }

    /// Whether all numbers are as near as `tolerance`, besides the rounding of what is stored.
    fn near<T: Value>(&self, got: &[T], tolerance: f64, rounding: f64) -> Result<(), String> {
        assert_eq!(got.len(), self.values.len());
        for (at, ((got, value), size)) in doubles(got)
            .iter()
            .zip(&self.values)
            .zip(&self.sizes)
            .enumerate()
        {
            let allowed = tolerance * size + rounding * value.abs();
            if (got - value).abs() > allowed || got.is_nan() {
                return Err(format!(
                    "element {at}: {got} is not {value}, within {allowed}"
                ));
            }
        }
        Ok(())
    }
}

/// The definition, channel by channel: v, statistics, of_x, of_weights.
fn plain<T: Value>(case: &Case) -> [Sized; 4] {
    let Geometry {
        images,
        rows,
        columns,
        channels,
        crop,
        pad,
        border,
    } = case.geometry;
    let (x, of_v) = (doubles(&case.x::<T>()), doubles(&case.of_v::<T>()));
    let (slope, epsilon) = (f64::from(case.form.slope), f64::from(case.form.epsilon));
    let lengths = case.lengths();
    let numbers = case.weights.len() * channels;
    let [mut v, mut of_x] = [Sized::zeros(lengths[1]), Sized::zeros(lengths[0])];
    let [mut statistics, mut of_weights] = [Sized::zeros(numbers), Sized::zeros(numbers)];
    let index = |image: usize, row: usize, column: usize, margin: usize, c: usize| {
        let line = image * (rows + 2 * margin) + row;
        (line * (columns + 2 * margin) + column) * channels + c
    };
    let pixel = |image: usize, row: usize, column: usize| (image * rows + row) * columns + column;
    for c in 0..channels {
        let weight = |k: usize| f64::from(case.weights[k][c]);
        let (mut inner, mut places) = (vec![], vec![]);
        for image in 0..images {
            for row in 0..rows {
                for column in 0..columns {
                    places.push(index(image, row + crop, column + crop, crop, c));
                    inner.push(x[places[places.len() - 1]]);
                }
            }
        }
        let (mean, scale) = moments(&inner, epsilon);
        let normal: Vec<f64> = inner.iter().map(|x| (x - mean) * scale).collect();
        let u: Vec<f64> = normal.iter().map(|n| n * weight(0) + weight(1)).collect();
        let l: Vec<f64> = u
            .iter()
            .map(|&u| if u > 0.0 { 1.0 } else { slope })
            .collect();
        let a: Vec<f64> = u.iter().zip(&l).map(|(u, l)| u * l).collect();
        let mut inside = a.clone();
        let mut second = None;
        statistics.set(c, mean, 1.0);
        statistics.set(channels + c, scale, scale);
        let mut gain = 1.0;
        if case.weights.len() == 4 {
            let (mean, scale) = moments(&a, epsilon);
            statistics.set(
                2 * channels + c,
                mean,
                1.0 + weight(0).abs() + weight(1).abs(),
            );
            statistics.set(3 * channels + c, scale, scale * (1.0 + scale));
            let normal: Vec<f64> = a.iter().map(|a| (a - mean) * scale).collect();
            inside = normal.iter().map(|n| n * weight(2) + weight(3)).collect();
            gain = 1.0 + (weight(2) * scale).abs();
            second = Some((normal, weight(2) * scale));
        }
        // How much larger an error of x may become.
        let gain = gain * (1.0 + (weight(0) * scale).abs() + weight(1).abs());
        let mut g = vec![0.0; inside.len()];
        for image in 0..images {
            for row in 0..rows + 2 * pad {
                for column in 0..columns + 2 * pad {
                    let to = index(image, row, column, pad, c);
                    let from = pixel(
                        image,
                        source(row, pad, rows, border),
                        source(column, pad, columns, border),
                    );
                    v.set(to, inside[from], gain + inside[from].abs());
                    g[from] += of_v[to];
                }
            }
        }
        let largest = g.iter().fold(0.0_f64, |m, g| m.max(g.abs()));
        let (count, gain) = (inside.len() as f64, gain * (1.0 + largest));
        let gradients = |of_a: &[f64]| {
            let of_u: Vec<f64> = of_a.iter().zip(&l).map(|(g, l)| g * l).collect();
            of_normalised(&of_u, &normal, weight(0) * scale)
        };
        let of_inner = if let Some((normal2, factor)) = second {
            let (of_a, of_weight2, of_bias2) = of_normalised(&g, &normal2, factor);
            of_weights.set(2 * channels + c, of_weight2, count * gain);
            of_weights.set(3 * channels + c, of_bias2, count * gain);
            gradients(&of_a)
        } else {
            gradients(&g)
        };
        let (values, of_weight, of_bias) = of_inner;
        of_weights.set(c, of_weight, count * gain);
        of_weights.set(channels + c, of_bias, count * gain);
        for (place, value) in places.into_iter().zip(values) {
            of_x.set(place, value, gain * (1.0 + scale) * (1.0 + weight(0).abs()));
        }
    }
    [v, statistics, of_x, of_weights]
}

fn cases() -> impl Strategy<Value = Case> {
    let shape = (1..4_usize, 1..9_usize, 1..9_usize, 1..41_usize);
    let form = prop_oneof![Just(0.2_f32), Just(1.0), Just(0.0)];
    let margins = (0..3_usize, 0..4_usize, any::<bool>());
    (shape, form, margins, any::<bool>(), 0..1000_usize).prop_map(
        |((images, rows, columns, channels), slope, (crop, pad, reflect), both, seed)| {
            let border = if reflect {
                Border::Reflect
            } else {
                Border::Edge
            };
            let pad = if reflect {
                pad.min(rows.min(columns) - 1)
            } else {
                pad
            };
            let vector = |k: usize| wave(channels, seed + 11 * k);
            Case {
                geometry: Geometry {
                    images,
                    rows,
                    columns,
                    channels,
                    crop,
                    pad,
                    border,
                },
                // Where a few pixels are nearly the same, a large epsilon keeps errors small.
                form: Form {
                    slope,
                    epsilon: 0.01,
                },
                weights: (0..if both { 4 } else { 2 }).map(vector).collect(),
                seed,
            }
        },
    )
}

fn is_plain<T: Value>(case: &Case, rounding: f64) -> Result<(), String> {
    let (v, statistics, of_x, of_weights) = run::<T>(case, &Serial);
    let expected = plain::<T>(case);
    expected[0].near(&v, 1e-6, rounding)?;
    expected[1].near(&statistics, 1e-6, 0.0)?;
    expected[2].near(&of_x, 1e-6, rounding)?;
    expected[3].near(&of_weights, 1e-6, 0.0)
}

proptest! {
    #[test]
    fn both_passes_are_the_definition(case in cases()) {
        prop_assert_eq!(is_plain::<f32>(&case, 0.0), Ok(()));
    }

    #[test]
    fn layers_of_16_bits_are_rounded_once(case in cases()) {
        prop_assert_eq!(is_plain::<Bf16>(&case, 1.0 / 256.0), Ok(()));
    }

    #[test]
    fn sixteen_bits_hold_the_nearest_number(bits in any::<u32>()) {
        let x = f32::from_bits(bits);
        let got = Bf16::store(x);
        if x.is_nan() {
            prop_assert!(got.load().is_nan());
            prop_assert_eq!(got.load().is_sign_negative(), x.is_sign_negative());
        } else {
            prop_assert_eq!(got, nearest(x));
        }
        // What is one of them already stays as it is.
        if !got.load().is_nan() {
            prop_assert_eq!(Bf16::store(got.load()), got);
        }
    }
}

/// The nearest of the two neighbours, in double precision; of two as near the even one.
fn nearest(x: f32) -> Bf16 {
    let below = Bf16((x.to_bits() >> 16) as u16);
    let above = Bf16(below.0.wrapping_add(1));
    if x.is_infinite() {
        return below;
    }
    // The neighbour of the largest number would be 2^128.
    let number = |y: Bf16| {
        let y = y.load();
        if y.is_infinite() {
            f64::from(y.signum()) * 2.0_f64.powi(128)
        } else {
            f64::from(y)
        }
    };
    let (down, up) = (
        (f64::from(x) - number(below)).abs(),
        (f64::from(x) - number(above)).abs(),
    );
    if down < up || (down == up && below.0.is_multiple_of(2)) {
        below
    } else {
        above
    }
}

#[test]
fn sixteen_bits_at_their_ends() {
    for (x, bits) in [
        (0.0, 0x0000),
        (-0.0, 0x8000),
        (1.0, 0x3f80),
        (1.0 + 1.0 / 256.0, 0x3f80), // half, and the even one is below
        (1.0 + 3.0 / 256.0, 0x3f82), // half, and the even one is above
        (1.0 + 1.1 / 256.0, 0x3f81),
        (-1.0 - 3.0 / 256.0, 0xbf82),
        (f32::MAX, 0x7f80),
        (f32::MIN, 0xff80),
        (f32::from_bits(0x7f7f_7fff), 0x7f7f),
        (f32::INFINITY, 0x7f80),
        (f32::NEG_INFINITY, 0xff80),
        (f32::from_bits(1), 0x0000),
        (f32::from_bits(0x0000_8000), 0x0000),
        (f32::from_bits(0x0000_8001), 0x0001),
        (f32::from_bits(0x0001_8000), 0x0002),
        (f32::from_bits(0x007f_ffff), 0x0080),
    ] {
        assert_eq!(Bf16::store(x), Bf16(bits), "{x:e}");
    }
    for bits in [
        0x7f80_0001,
        0x7fff_ffff,
        0xff80_0001,
        0xffff_ffff,
        0x7fc0_0000,
    ] {
        let stored = Bf16::store(f32::from_bits(bits));
        assert!(stored.load().is_nan(), "{bits:x} became {stored:?}");
        assert_eq!(stored.0 >> 15, (bits >> 31) as u16);
    }
    assert_eq!(Bf16::default().load().to_bits(), 0);
}

fn large(channels: usize, both: bool) -> Case {
    Case {
        geometry: Geometry {
            images: 2,
            rows: 130,
            columns: 121,
            channels,
            crop: 1,
            pad: 1,
            border: Border::Reflect,
        },
        form: Form {
            slope: 0.2,
            epsilon: 1e-5,
        },
        weights: (0..if both { 4 } else { 2 })
            .map(|k| wave(channels, k))
            .collect(),
        seed: 5,
    }
}

#[test]
fn same_bits_for_every_number_of_threads() {
    for (channels, both) in [(1, false), (21, true), (32, false)] {
        let case = large(channels, both);
        let bits = |exec: &dyn Executor| {
            let (v, statistics, of_x, of_weights) = run::<f32>(&case, exec);
            [v, statistics, of_x, of_weights]
                .map(|values| values.into_iter().map(f32::to_bits).collect::<Vec<_>>())
        };
        let expected = bits(&Serial);
        for threads in [1, 2, 3, 8] {
            assert!(bits(&Threads(NonZeroUsize::new(threads).unwrap())) == expected);
        }
    }
}

#[test]
fn large_layers_are_the_definition() {
    for (channels, both) in [(1, false), (3, true), (20, true)] {
        is_plain::<f32>(&large(channels, both), 0.0).unwrap();
    }
}

#[test]
fn large_means_lose_no_digits() {
    let mut case = large(3, true);
    case.geometry.crop = 0;
    let numbers = wave(case.lengths()[0], 3);
    let shifted: Vec<f32> = numbers.iter().map(|x| x + 1000.0).collect();
    // Nothing is lost by taking 1000 away again.
    let back: Vec<f32> = shifted.iter().map(|x| x - 1000.0).collect();
    let of = |x: &[f32]| {
        let (mut v, mut statistics) = (vec![0.0; case.lengths()[1]], vec![0.0; 12]);
        let (geometry, weights, form) = (case.geometry, case.weights(), case.form);
        forward(x, geometry, weights, form, &mut statistics, &mut v, &Serial).unwrap();
        (v, statistics)
    };
    let ((v, statistics), (expected, known)) = (of(&shifted), of(&back));
    for c in 0..3 {
        // The mean is a number of single precision, whose last digit is worth 6e-5.
        assert!((statistics[c] - 1000.0 - known[c]).abs() < 4e-5);
        assert!((statistics[3 + c] / known[3 + c] - 1.0).abs() < 1e-6);
    }
    assert!(v.iter().zip(&expected).all(|(a, b)| (a - b).abs() < 2e-4));
}

#[test]
fn an_extreme_pixel_loses_no_digits() {
    let mut case = large(2, false);
    case.geometry.crop = 0;
    let (geometry, weights, form) = (case.geometry, case.weights(), case.form);
    let count = geometry.images * geometry.rows * geometry.columns;
    // A pixel of the first row or within, or all of the first row or column.
    let extremes: [&dyn Fn(usize) -> bool; 4] = [
        &|pixel| pixel == 0,
        &|pixel| pixel == 7777,
        &|pixel| pixel < geometry.columns,
        &|pixel| pixel % geometry.columns == 0,
    ];
    for is_extreme in extremes {
        let mut x = wave(2 * count, 3);
        for (k, x) in x.iter_mut().enumerate().filter(|(k, _)| is_extreme(k / 2)) {
            *x = if k % 2 == 0 { 300.0 } else { -300.0 };
        }
        let (mut v, mut statistics) = (vec![0.0; case.lengths()[1]], vec![0.0; 4]);
        forward(
            &x,
            geometry,
            weights,
            form,
            &mut statistics,
            &mut v,
            &Serial,
        )
        .unwrap();
        for c in 0..2 {
            let values: Vec<f64> = x.iter().skip(c).step_by(2).map(|&x| x.into()).collect();
            let (mean, scale) = moments(&values, 1e-5);
            assert!((f64::from(statistics[c]) - mean).abs() * scale < 1e-6);
            assert!((f64::from(statistics[2 + c]) / scale - 1.0).abs() < 3e-6);
        }
    }
}

#[test]
fn a_flat_channel_is_its_bias() {
    let mut case = large(5, false);
    case.geometry.images = 1;
    let x = vec![0.3; case.lengths()[0]];
    let (mut v, mut statistics) = (vec![0.0; case.lengths()[1]], vec![0.0; 10]);
    let (geometry, weights, form) = (case.geometry, case.weights(), case.form);
    forward(
        &x,
        geometry,
        weights,
        form,
        &mut statistics,
        &mut v,
        &Serial,
    )
    .unwrap();
    for (k, v) in v.iter().enumerate() {
        let bias = case.weights[1][k % 5];
        assert_eq!(*v, if bias > 0.0 { bias } else { 0.2 * bias });
    }
}

#[test]
fn what_is_not_finite_makes_its_channel_nan() {
    for both in [false, true] {
        let case = large(5, both);
        for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            for at in [0, 777] {
                let mut x = case.x::<f32>();
                // The first element that counts, or a later one.
                let first = (123 + 1) * 5;
                x[first + 5 * at + 2] = bad;
                let numbers = case.weights.len() * 5;
                let mut v = vec![0.0; case.lengths()[1]];
                let mut statistics = vec![0.0; numbers];
                let (geometry, weights, form) = (case.geometry, case.weights(), case.form);
                forward(
                    &x,
                    geometry,
                    weights,
                    form,
                    &mut statistics,
                    &mut v,
                    &Serial,
                )
                .unwrap();
                assert!(
                    v.iter()
                        .enumerate()
                        .all(|(k, v)| v.is_nan() == (k % 5 == 2))
                );
            }
        }
    }
}

#[test]
fn what_does_not_fit_is_refused() {
    let geometry = Geometry {
        images: 1,
        rows: 3,
        columns: 4,
        channels: 2,
        crop: 0,
        pad: 1,
        border: Border::Reflect,
    };
    let form = Form {
        slope: 0.2,
        epsilon: 1e-5,
    };
    let ones = [1.0_f32; 2];
    let run = |geometry: Geometry, sizes: [usize; 4]| {
        let x = vec![0.0_f32; sizes[0]];
        let mut v = vec![0.0; sizes[1]];
        let mut statistics = vec![0.0; sizes[2]];
        let weights = Weights {
            first: [&ones, &ones[..sizes[3]]],
            second: None,
        };
        let there = forward(
            &x,
            geometry,
            weights,
            form,
            &mut statistics,
            &mut v,
            &Serial,
        );
        let (mut of_x, mut of_weights) = (x.clone(), statistics.clone());
        let back = backward(
            &v,
            &x,
            geometry,
            weights,
            form,
            &statistics,
            &mut of_x,
            &mut of_weights,
            &Serial,
        );
        assert_eq!(there, back);
        there
    };
    let wrong = |name, got, expected| {
        Err(Error::WrongLength {
            name,
            got,
            expected,
        })
    };
    assert_eq!(run(geometry, [24, 60, 4, 2]), Ok(()));
    assert_eq!(run(geometry, [23, 60, 4, 2]), wrong("x", 23, 24));
    assert_eq!(run(geometry, [24, 61, 4, 2]), wrong("v", 61, 60));
    assert_eq!(run(geometry, [24, 60, 8, 2]), wrong("statistics", 8, 4));
    assert_eq!(run(geometry, [24, 60, 4, 1]), wrong("weights", 1, 2));
    for pad in [3, 4, usize::MAX] {
        let pad = Geometry { pad, ..geometry };
        let got = run(pad, [24, 60, 4, 2]);
        assert!(matches!(got, Err(Error::SmallerThanWindow { .. })));
    }
    let sizes = [0, 0, 4, 2];
    for geometry in [
        Geometry {
            images: 0,
            ..geometry
        },
        Geometry {
            rows: 0,
            ..geometry
        },
        Geometry {
            columns: 0,
            ..geometry
        },
        Geometry {
            channels: 0,
            ..geometry
        },
    ] {
        assert!(matches!(run(geometry, sizes), Err(Error::NotPositive(_))));
    }
    let huge = usize::MAX / 2;
    for geometry in [
        Geometry {
            images: huge,
            ..geometry
        },
        Geometry {
            rows: huge,
            ..geometry
        },
        Geometry {
            columns: huge,
            ..geometry
        },
        Geometry {
            channels: huge,
            ..geometry
        },
        Geometry {
            crop: huge,
            ..geometry
        },
        Geometry {
            crop: usize::MAX,
            ..geometry
        },
    ] {
        assert_eq!(run(geometry, sizes), Err(Error::SizeOverflow));
    }
    let edge = Geometry {
        pad: usize::MAX,
        border: Border::Edge,
        ..geometry
    };
    assert_eq!(run(edge, [24, 60, 4, 2]), Err(Error::SizeOverflow));
    let mut of_x = [0.0; 23];
    let (x, statistics, mut of_weights) = ([0.0; 24], [0.0; 4], [0.0; 4]);
    let weights = Weights {
        first: [&ones, &ones],
        second: None,
    };
    let got = backward(
        &[0.0; 60],
        &x,
        geometry,
        weights,
        form,
        &statistics,
        &mut of_x,
        &mut of_weights,
        &Serial,
    );
    assert_eq!(got, wrong("of_x", 23, 24));
}
