//! Structural similarity against plain loops in double precision, on random shapes.
#![allow(clippy::unwrap_used, reason = "a test may fail")]

use std::num::NonZeroUsize;

use dipfast_core::Error;
use dipfast_core::exec::{Executor, Serial, Threads};
use dipfast_core::kernels::ssim::{Outputs, WINDOW, ssim};
use dipfast_core::mem::Layout;
use proptest::prelude::*;

fn close(a: f64, b: f64, tolerance: f64) -> bool {
    (a - b).abs() <= tolerance * (1.0 + a.abs().max(b.abs()))
}

proptest! {
    // The definition is slow.
    #![proptest_config(ProptestConfig { cases: 16, max_shrink_iters: 50, ..ProptestConfig::default() })]

    #[test]
    fn ssim_is_the_definition(case in case()) {
        let Case { planes, rows, columns, channels, ref a, ref b } = case;
        let layout = Layout::interleaved(planes, rows, columns, channels).unwrap();
        let expected = case.definition();
        let mut map = vec![f64::NAN; expected.len()];
        let mut slopes = [vec![f64::NAN; a.len()], vec![f64::NAN; a.len()]];
        let [to_a, to_b] = slopes.each_mut().map(|slope| Some(&mut slope[..]));
        let outputs = Outputs { map: Some(&mut map), to_a, to_b };
        let got = ssim(a, b, layout, planes, 1.0, outputs, &Serial).unwrap();
        let alone = ssim(a, b, layout, planes, 1.0, nothing(), &Serial).unwrap();
        for (&got, &expected) in map.iter().zip(&expected) {
            prop_assert!(close(got, expected, 1e-11), "{got} is not {expected}");
        }
        let windows = expected.len() / planes;
        for (plane, expected) in expected.chunks(windows).enumerate() {
            let mean = expected.iter().sum::<f64>() / windows as f64;
            prop_assert!(close(got[plane], mean, 1e-11));
            prop_assert!(close(alone[plane], mean, 1e-11));
        }
        // The gradient in a few pixels, by differences.
        for k in (0..a.len()).step_by(a.len() / 5 + 1) {
            for (slope, which) in slopes.iter().zip([true, false]) {
                let value = |step: f64| {
                    let mut images = [a.clone(), b.clone()];
                    images[usize::from(!which)][k] += step;
                    let [a, b] = &images;
                    let plane = k / (a.len() / planes);
                    ssim(a, b, layout, planes, 1.0, nothing(), &Serial).unwrap()[plane]
                };
                let expected = (value(1e-5) - value(-1e-5)) / 2e-5;
                prop_assert!((slope[k] - expected).abs() < 1e-7, "{} is not {expected}", slope[k]);
            }
        }
    }
}

fn nothing<'a, T>() -> Outputs<'a, T> {
    Outputs {
        map: None,
        to_a: None,
        to_b: None,
    }
}

#[derive(Debug, Clone)]
struct Case {
    planes: usize,
    rows: usize,
    columns: usize,
    channels: usize,
    a: Vec<f64>,
    b: Vec<f64>,
}

fn case() -> impl Strategy<Value = Case> {
    let columns = prop_oneof![4 => 11..40_usize, 1 => 505..530_usize];
    let rows = prop_oneof![11..30_usize, 64..80_usize];
    (1..3_usize, rows, columns, 1..4_usize, any::<u64>()).prop_map(
        |(planes, rows, columns, channels, seed)| {
            let n = planes * rows * columns * channels;
            let mut values = noise(seed, 2 * n);
            let b = values.split_off(n);
            let b = values.iter().zip(b).map(|(a, b)| 0.7 * a + 0.3 * b);
            Case {
                planes,
                rows,
                columns,
                channels,
                b: b.collect(),
                a: values,
            }
        },
    )
}

impl Case {
    /// SSIM of every window, each by itself.
    fn definition(&self) -> Vec<f64> {
        let taps: Vec<f64> = (-5..=5)
            .map(|k| f64::from(k * k) / -4.5)
            .map(f64::exp)
            .collect();
        let sum: f64 = taps.iter().sum();
        let at = |plane: usize, row: usize, column: usize, channel: usize| {
            ((plane * self.rows + row) * self.columns + column) * self.channels + channel
        };
        let mut map = Vec::new();
        for plane in 0..self.planes {
            for row in 0..=self.rows - WINDOW {
                for column in 0..=self.columns - WINDOW {
                    for channel in 0..self.channels {
                        let mean = |of: &dyn Fn(f64, f64) -> f64| -> f64 {
                            let mut total = 0.0;
                            for (i, x) in taps.iter().enumerate() {
                                for (j, y) in taps.iter().enumerate() {
                                    let k = at(plane, row + i, column + j, channel);
                                    total += x * y / (sum * sum) * of(self.a[k], self.b[k]);
                                }
                            }
                            total
                        };
                        let (ma, mb) = (mean(&|a, _| a), mean(&|_, b| b));
                        let va = mean(&|a, _| (a - ma) * (a - ma));
                        let vb = mean(&|_, b| (b - mb) * (b - mb));
                        let vab = mean(&|a, b| (a - ma) * (b - mb));
                        let top = (2.0 * ma * mb + 1e-4) * (2.0 * vab + 9e-4);
                        map.push(top / ((ma * ma + mb * mb + 1e-4) * (va + vb + 9e-4)));
                    }
                }
            }
        }
        map
    }
}

/// Noise without a crate for it: the high bits of a multiplicative generator.
fn noise(seed: u64, n: usize) -> Vec<f64> {
    let mut state = seed | 1;
    std::iter::repeat_with(|| {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        (state >> 40) as f64 / f64::from(1_u32 << 24)
    })
    .take(n)
    .collect()
}

#[test]
fn same_bits_for_every_number_of_threads() {
    let (rows, columns) = (150, 601);
    let a: Vec<f32> = noise(1, 3 * rows * columns)
        .iter()
        .map(|&x| x as f32)
        .collect();
    let b: Vec<f32> = a.iter().rev().copied().collect();
    let layout = Layout::planar(3, rows, columns).unwrap();
    let run = |exec: &dyn Executor| {
        let mut map = vec![0.0; 3 * (rows - 10) * (columns - 10)];
        let (mut to_a, mut to_b) = (vec![0.0; a.len()], vec![0.0; a.len()]);
        let outputs = Outputs {
            map: Some(&mut map[..]),
            to_a: Some(&mut to_a[..]),
            to_b: Some(&mut to_b[..]),
        };
        let value = ssim(&a, &b, layout, 3, 1.0, outputs, exec).unwrap();
        let bits = [map, to_a, to_b].map(|x| x.iter().map(|x| x.to_bits()).collect::<Vec<_>>());
        (value, bits)
    };
    let expected = run(&Serial);
    for threads in [1, 2, 3, 8] {
        assert!(run(&Threads(NonZeroUsize::new(threads).unwrap())) == expected);
    }
}

#[test]
fn what_does_not_fit_is_refused() {
    let a = [0.0_f32; 240];
    let layout = Layout::planar(1, 12, 20).unwrap();
    let run = |layout, images, outputs: Outputs<'_, f32>| {
        ssim(&a, &a, layout, images, 1.0, outputs, &Serial)
    };
    assert_eq!(run(layout, 1, nothing()), Ok(vec![1.0]));
    assert!(run(layout, 2, nothing()).is_err());
    let small = Error::SmallerThanWindow {
        rows: 24,
        columns: 10,
        window: WINDOW,
    };
    assert_eq!(
        run(Layout::planar(1, 24, 10).unwrap(), 1, nothing()),
        Err(small)
    );
    assert_eq!(
        small.to_string(),
        "the image must have at least 11 rows and columns, got 24 x 10"
    );
    assert!(run(Layout::planar(1, 12, 21).unwrap(), 1, nothing()).is_err());
    for name in ["map", "to_a", "to_b"] {
        let mut five = [0.0; 5];
        let mut outputs = nothing();
        match name {
            "map" => outputs.map = Some(&mut five),
            "to_a" => outputs.to_a = Some(&mut five),
            _ => outputs.to_b = Some(&mut five),
        }
        assert!(run(layout, 1, outputs).is_err(), "{name}");
    }
}
