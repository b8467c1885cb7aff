//! The kernels against plain loops in double precision, on random shapes and layouts.
#![allow(clippy::unwrap_used, reason = "a test may fail")]

use std::num::NonZeroUsize;

use dipfast_core::{Error, Executor, Layout, Serial, Threads, metrics, tv};
use proptest::collection::vec;
use proptest::prelude::*;

/// An image of any shape and its planar or interleaved layout.
#[derive(Debug, Clone)]
struct Case {
    planes: usize,
    rows: usize,
    columns: usize,
    channels: usize,
    u: Vec<f64>,
    y: Vec<f64>,
    mask: Vec<f64>,
}

impl Case {
    fn layout(&self) -> Layout {
        Layout::interleaved(self.planes, self.rows, self.columns, self.channels).unwrap()
    }
}

fn case() -> impl Strategy<Value = Case> {
    (1..4_usize, 1..20_usize, 1..60_usize, 1..9_usize).prop_flat_map(
        |(planes, rows, columns, channels)| {
            let n = planes * rows * columns * channels;
            // A coarse grid of values, so that equal neighbours occur.
            let value = (-4..5_i32).prop_map(|v| f64::from(v) / 4.0);
            (
                vec(value.clone(), n),
                vec(value, n),
                vec((0..3_i32).prop_map(f64::from), n),
            )
                .prop_map(move |(u, y, mask)| Case {
                    planes,
                    rows,
                    columns,
                    channels,
                    u,
                    y,
                    mask,
                })
        },
    )
}

/// The definition, one difference after the other.
fn reference_tv(case: &Case) -> (f64, Vec<f64>) {
    let mut value = 0.0;
    let mut gradient = vec![0.0; case.u.len()];
    let at = |plane, row, column, channel| {
        ((plane * case.rows + row) * case.columns + column) * case.channels + channel
    };
    let sign = |x: f64| if x == 0.0 { 0.0 } else { x.signum() };
    let mut pair = |from: usize, to: usize| {
        let difference = case.u[to] - case.u[from];
        value += difference.abs();
        gradient[to] += sign(difference);
        gradient[from] -= sign(difference);
    };
    for plane in 0..case.planes {
        for row in 0..case.rows {
            for column in 0..case.columns {
                for channel in 0..case.channels {
                    let here = at(plane, row, column, channel);
                    if row + 1 < case.rows {
                        pair(here, at(plane, row + 1, column, channel));
                    }
                    if column + 1 < case.columns {
                        pair(here, at(plane, row, column + 1, channel));
                    }
                }
            }
        }
    }
    (value, gradient)
}

fn close(a: f64, b: f64) -> bool {
    (a - b).abs() <= 1e-12 * (1.0 + a.abs().max(b.abs()))
}

proptest! {
    #[test]
    fn anisotropic_is_the_definition(case in case()) {
        let (value, gradient) = reference_tv(&case);
        let mut got = vec![f64::NAN; case.u.len()];
        let with = tv::anisotropic(&case.u, case.layout(), Some(&mut got), &Serial).unwrap();
        let without = tv::anisotropic(&case.u, case.layout(), None, &Serial).unwrap();
        prop_assert!(close(with, value));
        prop_assert_eq!(with.to_bits(), without.to_bits());
        prop_assert_eq!(got, gradient);
    }

    #[test]
    fn objective_is_the_definition(case in case(), weight in 0.0..2.0_f64, masked: bool) {
        let (value, slope) = reference_tv(&case);
        let m = |k: usize| if masked { case.mask[k] } else { 1.0 };
        let data: f64 = (0..case.u.len())
            .map(|k| 0.5 * (m(k) * (case.u[k] - case.y[k])).powi(2))
            .sum();
        let mut got = vec![f64::NAN; case.u.len()];
        let mask = masked.then_some(&case.mask[..]);
        let layout = case.layout();
        let terms =
            tv::objective(&case.u, &case.y, mask, weight, layout, Some(&mut got), &Serial).unwrap();
        prop_assert!(close(terms.data, data));
        prop_assert!(close(terms.tv, value));
        for (k, &g) in got.iter().enumerate() {
            let expected = m(k) * m(k) * (case.u[k] - case.y[k]) + weight * slope[k];
            prop_assert!(close(g, expected), "{} is not {}", g, expected);
        }
    }

    #[test]
    fn single_precision_agrees(case in case()) {
        // Values on the grid are exact in f32, and so are their differences.
        let u: Vec<f32> = case.u.iter().map(|&v| v as f32).collect();
        let (value, gradient) = reference_tv(&case);
        let mut got = vec![f32::NAN; u.len()];
        let single = tv::anisotropic(&u, case.layout(), Some(&mut got), &Serial).unwrap();
        prop_assert!(close(single, value));
        prop_assert!(got.iter().zip(&gradient).all(|(&a, &b)| f64::from(a) == b));
    }

    #[test]
    fn mse_is_the_definition(case in case()) {
        let n = case.u.len() as f64;
        let expected = case.u.iter().zip(&case.y).map(|(a, b)| (a - b).powi(2)).sum::<f64>() / n;
        let mut got = vec![f64::NAN; case.u.len()];
        let value = metrics::mse(&case.u, &case.y, Some(&mut got), &Serial).unwrap();
        prop_assert!(close(value, expected));
        for (k, &g) in got.iter().enumerate() {
            prop_assert!(close(g, 2.0 * (case.u[k] - case.y[k]) / n));
        }
    }
}

/// Noise without a crate for it: the low bits of a multiplicative generator.
fn noise(n: usize) -> Vec<f32> {
    let mut state = 1_u64;
    std::iter::repeat_with(|| {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        (state >> 40) as f32 / (1_u32 << 24) as f32
    })
    .take(n)
    .collect()
}

#[test]
fn same_bits_for_every_number_of_threads() {
    let (planes, rows, columns) = (3, 257, 511);
    let u = noise(planes * rows * columns);
    let y: Vec<f32> = u.iter().rev().copied().collect();
    let layout = Layout::planar(planes, rows, columns).unwrap();
    let run = |exec: &dyn Executor| {
        let mut gradient = vec![0.0; u.len()];
        let terms = tv::objective(&u, &y, None, 0.1, layout, Some(&mut gradient), exec).unwrap();
        let mse = metrics::mse(&u, &y, None, exec).unwrap();
        let bits: Vec<u32> = gradient.iter().map(|g| g.to_bits()).collect();
        (
            terms.data.to_bits(),
            terms.tv.to_bits(),
            mse.to_bits(),
            bits,
        )
    };
    let expected = run(&Serial);
    for threads in [1, 2, 3, 8] {
        assert!(run(&Threads(NonZeroUsize::new(threads).unwrap())) == expected);
    }
}

#[test]
fn single_precision_sums_stay_accurate() {
    let u = noise(1 << 22);
    let layout = Layout::planar(1, 1 << 11, 1 << 11).unwrap();
    let wide: Vec<f64> = u.iter().map(|&v| v.into()).collect();
    let single = tv::anisotropic(&u, layout, None, &Serial).unwrap();
    let double = tv::anisotropic(&wide, layout, None, &Serial).unwrap();
    assert!((single / double - 1.0).abs() < 1e-7);
}

#[test]
fn what_is_not_finite_gives_nan() {
    for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        for (rows, columns, at) in [(1, 1, 0), (1, 3, 2), (3, 1, 0), (40, 40, 777)] {
            let mut u = vec![0.5; rows * columns];
            u[at] = bad;
            let layout = Layout::planar(1, rows, columns).unwrap();
            let mut gradient = vec![0.0; u.len()];
            let value = tv::anisotropic(&u, layout, Some(&mut gradient), &Serial).unwrap();
            assert!(
                value.is_nan(),
                "{bad} at {at} of {rows} x {columns} gave {value}"
            );
            let zeros = vec![0.0; u.len()];
            assert!(metrics::mse(&u, &zeros, None, &Serial).unwrap().is_nan());
        }
    }
}

#[test]
fn wrong_lengths_are_refused() {
    let layout = Layout::planar(1, 2, 3).unwrap();
    let (six, five) = ([0.0_f32; 6], [0.0_f32; 5]);
    let expected = Error::Length {
        name: "y",
        got: 5,
        expected: 6,
    };
    let terms = tv::objective(&six, &five, None, 1.0, layout, None, &Serial);
    assert_eq!(terms, Err(expected));
    assert_eq!(expected.to_string(), "y has 5 elements, expected 6");
    assert!(tv::anisotropic(&five, layout, None, &Serial).is_err());
    assert!(tv::anisotropic(&six, layout, Some(&mut [0.0; 5]), &Serial).is_err());
    assert!(tv::objective(&six, &six, Some(&five), 1.0, layout, None, &Serial).is_err());
    assert!(metrics::mse(&six, &five, None, &Serial).is_err());
    assert_eq!(Layout::planar(usize::MAX, 2, 2), Err(Error::Overflow));
}

#[test]
fn nothing_is_nothing() {
    let layout = Layout::planar(0, 4, 4).unwrap();
    assert!(layout.is_empty());
    assert_eq!(tv::anisotropic::<f32>(&[], layout, None, &Serial), Ok(0.0));
    assert!(
        metrics::mse::<f32>(&[], &[], None, &Serial)
            .unwrap()
            .is_nan()
    );
}

#[test]
fn psnr_of_a_known_error() {
    assert_eq!(metrics::psnr(0.01, 1.0), 20.0);
    assert_eq!(metrics::psnr(0.0, 1.0), f64::INFINITY);
}
