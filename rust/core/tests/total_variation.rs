//! Total variation, and the objective made of it, against plain loops in double precision, on
//! random shapes and layouts.
#![allow(clippy::unwrap_used, reason = "a test may fail")]

use std::num::NonZeroUsize;

use dipfast_core::Error;
use dipfast_core::exec::{Executor, Serial, Threads};
use dipfast_core::kernels::total_variation::{Data, Kind, total_variation, tv_objective};
use dipfast_core::mem::{Layout, Mask};
use proptest::collection::vec;
use proptest::prelude::*;

/// An image of any shape and its planar or interleaved layout.
#[derive(Debug, Clone)]
struct Case {
    planes: usize,
    slices: usize,
    rows: usize,
    columns: usize,
    channels: usize,
    u: Vec<f64>,
    y: Vec<f64>,
    mask: Vec<f64>,
}

impl Case {
    fn layout(&self) -> Layout {
        let Self {
            planes,
            slices,
            rows,
            columns,
            channels,
            ..
        } = *self;
        Layout::volumes(planes, slices, rows, columns, channels).unwrap()
    }
}

fn kind() -> impl Strategy<Value = Kind> {
    prop_oneof![
        Just(Kind::Anisotropic),
        (0..3_i32).prop_map(|e| Kind::Isotropic {
            epsilon: f64::from(e) / 4.0
        }),
        (0..3_i32).prop_map(|e| Kind::Huber {
            epsilon: f64::from(e) / 4.0
        }),
    ]
}

fn case() -> impl Strategy<Value = Case> {
    (
        1..4_usize,
        1..4_usize,
        1..20_usize,
        1..60_usize,
        1..20_usize,
    )
        .prop_flat_map(|(planes, slices, rows, columns, channels)| {
            let columns = columns.div_ceil(channels); // not too large
            let n = planes * slices * rows * columns * channels;
            // A coarse grid of values, so that equal neighbours occur.
            let value = (-4..5_i32).prop_map(|v| f64::from(v) / 4.0);
            (
                vec(value.clone(), n),
                vec(value, n),
                vec((0..3_i32).prop_map(f64::from), n),
            )
                .prop_map(move |(u, y, mask)| Case {
                    planes,
                    slices,
                    rows,
                    columns,
                    channels,
                    u,
                    y,
                    mask,
                })
        })
}

/// The definition, one pixel after the other.
fn reference_tv(case: &Case, kind: Kind) -> (f64, Vec<f64>) {
    let mut value = 0.0;
    let mut gradient = vec![0.0; case.u.len()];
    let strides = [
        case.channels,
        case.columns * case.channels,
        case.rows * case.columns * case.channels,
    ];
    let sizes = [case.columns, case.rows, case.slices];
    for from in 0..case.u.len() {
        let to: Vec<Option<usize>> = strides
            .iter()
            .zip(sizes)
            .map(|(&stride, size)| (from / stride % size + 1 < size).then_some(from + stride))
            .collect();
        let d: Vec<f64> = to
            .iter()
            .map(|to| to.map_or(0.0, |to| case.u[to] - case.u[from]))
            .collect();
        let norm = d.iter().map(|d| d * d).sum::<f64>().sqrt();
        let over = |length: f64| move |d: f64| if length == 0.0 { 0.0 } else { d / length };
        let slopes: Vec<f64> = match kind {
            Kind::Anisotropic => {
                value += d.iter().map(|d| d.abs()).sum::<f64>();
                let sign = |&d: &f64| if d == 0.0 { 0.0 } else { d.signum() };
                d.iter().map(sign).collect()
            }
            Kind::Isotropic { epsilon } => {
                let root = norm.hypot(epsilon);
                value += root - epsilon;
                d.iter().copied().map(over(root)).collect()
            }
            Kind::Huber { epsilon } => {
                value += if norm <= epsilon {
                    over(2.0 * epsilon)(norm * norm)
                } else {
                    norm - epsilon / 2.0
                };
                d.iter().copied().map(over(norm.max(epsilon))).collect()
            }
        };
        for (to, slope) in to.iter().zip(slopes) {
            if let Some(to) = *to {
                gradient[to] += slope;
                gradient[from] -= slope;
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
    fn total_variation_is_the_definition(case in case(), kind in kind()) {
        let (value, gradient) = reference_tv(&case, kind);
        let mut got = vec![f64::NAN; case.u.len()];
        let layout = case.layout();
        let with = total_variation(&case.u, layout, kind, Some(&mut got), &Serial).unwrap();
        let without = total_variation(&case.u, layout, kind, None, &Serial).unwrap();
        prop_assert!(close(with, value));
        prop_assert_eq!(with.to_bits(), without.to_bits());
        for (&got, &expected) in got.iter().zip(&gradient) {
            prop_assert!(close(got, expected), "{} is not {}", got, expected);
        }
    }

    #[test]
    fn objective_is_the_definition(
        case in case(), kind in kind(), weight in 0.0..2.0_f64, masked in 0..3_usize,
        planes in 1..3_usize, repeat in 1..3_usize,
    ) {
        let (value, slope) = reference_tv(&case, kind);
        let layout = case.layout();
        let plane = layout.len() / case.planes;
        let planes = planes.min(case.planes);
        let bytes: Vec<u8> = case.mask.iter().map(|&m| 2 * u8::from(m > 0.0)).collect();
        let mask = match masked {
            0 => None,
            1 => Some(Mask::Weights(&case.mask[..planes * plane])),
            _ => Some(Mask::Known(&bytes[..planes * plane])),
        };
        let m = |k: usize| {
            let at = k / plane / repeat % planes * plane + k % plane;
            match masked {
                0 => 1.0,
                1 => case.mask[at],
                _ => f64::from(u8::from(case.mask[at] > 0.0)),
            }
        };
        let data: f64 = (0..case.u.len())
            .map(|k| 0.5 * (m(k) * (case.u[k] - case.y[k])).powi(2))
            .sum();
        let mut got = vec![f64::NAN; case.u.len()];
        let term = Data { y: &case.y, mask, mask_repeat: repeat, weight };
        let terms = tv_objective(&case.u, term, layout, kind, Some(&mut got), &Serial).unwrap();
        prop_assert!(close(terms.data, data));
        prop_assert!(close(terms.tv, value));
        let without = tv_objective(&case.u, term, layout, kind, None, &Serial).unwrap();
        prop_assert_eq!(terms, without);
        for (k, &g) in got.iter().enumerate() {
            let expected = m(k) * m(k) * (case.u[k] - case.y[k]) + weight * slope[k];
            prop_assert!(close(g, expected), "{} is not {}", g, expected);
        }
    }

    #[test]
    fn single_precision_agrees(case in case(), kind in kind()) {
        // Values on the grid are exact in f32, and so are their differences.
        let u: Vec<f32> = case.u.iter().map(|&v| v as f32).collect();
        let (value, gradient) = reference_tv(&case, kind);
        let mut got = vec![f32::NAN; u.len()];
        let single =
            total_variation(&u, case.layout(), kind, Some(&mut got), &Serial).unwrap();
        prop_assert!((single - value).abs() <= 1e-6 * (1.0 + value));
        for (&got, &expected) in got.iter().zip(&gradient) {
            prop_assert!((f64::from(got) - expected).abs() <= 1e-5);
        }
    }
}

#[test]
fn gradient_of_a_volume_in_several_blocks() {
    // Large enough that a block begins within a slice, below a row of another block.
    let (slices, rows, columns) = (40, 50, 70);
    let u: Vec<f64> = noise(slices * rows * columns)
        .into_iter()
        .map(f64::from)
        .collect();
    let case = Case {
        planes: 1,
        slices,
        rows,
        columns,
        channels: 1,
        y: u.clone(),
        mask: Vec::new(),
        u,
    };
    for kind in [
        Kind::Isotropic { epsilon: 0.0 },
        Kind::Huber { epsilon: 0.25 },
    ] {
        let (value, gradient) = reference_tv(&case, kind);
        let mut got = vec![f64::NAN; case.u.len()];
        let sum = total_variation(&case.u, case.layout(), kind, Some(&mut got), &Serial).unwrap();
        assert!((sum - value).abs() <= 1e-9 * value);
        for (got, expected) in got.into_iter().zip(gradient) {
            assert!(close(got, expected), "{got} is not {expected}");
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
    let data = Data {
        y: &y,
        mask: None,
        mask_repeat: 1,
        weight: 0.1,
    };
    let run = |exec: &dyn Executor, kind| {
        let mut gradient = vec![0.0; u.len()];
        let terms = tv_objective(&u, data, layout, kind, Some(&mut gradient), exec).unwrap();
        let bits: Vec<u32> = gradient.iter().map(|g| g.to_bits()).collect();
        (terms.data.to_bits(), terms.tv.to_bits(), bits)
    };
    for kind in [Kind::Anisotropic, Kind::Isotropic { epsilon: 0.01 }] {
        let expected = run(&Serial, kind);
        for threads in [1, 2, 3, 8] {
            assert!(run(&Threads(NonZeroUsize::new(threads).unwrap()), kind) == expected);
        }
    }
}

#[test]
fn single_precision_sums_stay_accurate() {
    let u = noise(1 << 22);
    let layout = Layout::planar(1, 1 << 11, 1 << 11).unwrap();
    let wide: Vec<f64> = u.iter().map(|&v| v.into()).collect();
    let single = total_variation(&u, layout, Kind::Anisotropic, None, &Serial).unwrap();
    let double = total_variation(&wide, layout, Kind::Anisotropic, None, &Serial).unwrap();
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
            for kind in [
                Kind::Anisotropic,
                Kind::Isotropic { epsilon: 0.1 },
                Kind::Huber { epsilon: 0.1 },
            ] {
                let value =
                    total_variation(&u, layout, kind, Some(&mut gradient), &Serial).unwrap();
                assert!(
                    value.is_nan(),
                    "{bad} at {at} of {rows} x {columns} gave {value}"
                );
            }
        }
    }
}

#[test]
fn wrong_lengths_are_refused() {
    let layout = Layout::planar(1, 2, 3).unwrap();
    let (six, five) = ([0.0_f32; 6], [0.0_f32; 5]);
    let expected = Error::WrongLength {
        name: "y",
        got: 5,
        expected: 6,
    };
    let data = |y, mask| Data {
        y,
        mask,
        mask_repeat: 1,
        weight: 1.0,
    };
    let kind = Kind::Anisotropic;
    let terms = tv_objective(&six, data(&five, None), layout, kind, None, &Serial);
    assert_eq!(terms, Err(expected));
    assert_eq!(expected.to_string(), "y has 5 elements, expected 6");
    assert!(total_variation(&five, layout, kind, None, &Serial).is_err());
    assert!(total_variation(&six, layout, kind, Some(&mut [0.0; 5]), &Serial).is_err());
    for mask in [
        Mask::Weights(&five[..]),
        Mask::Weights(&[]),
        Mask::Known(&[1; 7]),
    ] {
        let data = data(&six, Some(mask));
        assert!(tv_objective(&six, data, layout, kind, None, &Serial).is_err());
    }
    assert_eq!(Layout::planar(usize::MAX, 2, 2), Err(Error::SizeOverflow));
}

#[test]
fn nothing_is_nothing() {
    let layout = Layout::planar(0, 4, 4).unwrap();
    assert!(layout.is_empty());
    assert_eq!(
        total_variation::<f32>(&[], layout, Kind::Anisotropic, None, &Serial),
        Ok(0.0)
    );
}
