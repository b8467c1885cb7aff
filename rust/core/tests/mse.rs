//! Mean squared errors against plain loops in double precision, on random shapes, masks and types.
#![allow(clippy::unwrap_used, reason = "a test may fail")]

use std::num::NonZeroUsize;

use dipfast_core::Error;
use dipfast_core::exec::{Executor, Serial, Threads};
use dipfast_core::kernels::mse::{Weights, mse};
use dipfast_core::mem::Mask;
use proptest::collection::vec;
use proptest::prelude::*;

fn close(a: f64, b: f64, tolerance: f64) -> bool {
    a.is_nan() && b.is_nan() || (a - b).abs() <= tolerance * (1.0 + a.abs().max(b.abs()))
}

/// Images, planes of each, elements of a plane; and planes of the mask and their repetition.
type Shape = (usize, usize, usize, usize, usize);

fn batch() -> impl Strategy<Value = (Shape, Vec<u16>, Vec<u16>, Vec<u8>)> {
    let shape = (1..4_usize, 1..4_usize, 1..90_usize, 1..4_usize, 1..4_usize);
    shape.prop_flat_map(|shape| {
        let (images, planes, plane, ..) = shape;
        let n = images * planes * plane;
        let value = || vec(prop_oneof![Just(0), Just(u16::MAX), any::<u16>()], n);
        (Just(shape), value(), value(), vec(0..3_u8, 4 * plane))
    })
}

proptest! {
    #[test]
    fn mse_is_the_definition(
        ((images, planes, plane, masked, repeat), a, b, marks) in batch(), kind in 0..3_usize,
    ) {
        let marks = &marks[..masked * plane];
        let weights: Vec<f64> = marks.iter().map(|&m| f64::from(m) / 2.0).collect();
        let m = |k: usize| {
            let at = k / plane / repeat % masked * plane + k % plane;
            match kind {
                0 => 1.0,
                1 => f64::from(u8::from(marks[at] > 0)),
                _ => weights[at],
            }
        };
        let mask = match kind {
            0 => None,
            1 => Some(Mask::Known(marks)),
            _ => Some(Mask::Weights(&weights[..])),
        };
        let weights = mask.map(|mask| Weights { mask, plane, repeat });
        let difference = |k: usize| f64::from(a[k]) - f64::from(b[k]);
        let mut gradient = vec![f64::NAN; a.len()];
        let got = mse(&a, &b, weights, images, Some(&mut gradient), &Serial).unwrap();
        let again = mse(&a, &b, weights, images, None, &Serial).unwrap();
        let wide = |x: &[u16]| x.iter().copied().map(f64::from).collect::<Vec<_>>();
        let float = mse(&wide(&a), &wide(&b), weights, images, None, &Serial).unwrap();
        for image in 0..images {
            let range = image * planes * plane..(image + 1) * planes * plane;
            let total: f64 = range.clone().map(m).sum();
            let expected = range.clone().map(|k| m(k) * difference(k).powi(2)).sum::<f64>() / total;
            prop_assert!(close(got[image], expected, 1e-14), "{} is not {expected}", got[image]);
            prop_assert!(close(float[image], expected, 1e-14));
            prop_assert!(got[image].to_bits() == again[image].to_bits());
            for k in range.filter(|_| total > 0.0) {
                prop_assert!(close(gradient[k], 2.0 * m(k) * difference(k) / total, 1e-14));
            }
        }
    }

    #[test]
    fn bytes_are_exact(pairs in vec((any::<u8>(), any::<u8>()), 1..3000)) {
        let (a, b): (Vec<u8>, Vec<u8>) = pairs.iter().copied().unzip();
        let sum: u64 = pairs.iter().map(|&(a, b)| u64::from(a.abs_diff(b)).pow(2)).sum();
        let got = mse(&a, &b, None, 1, None, &Serial).unwrap();
        prop_assert_eq!(got, vec![sum as f64 / a.len() as f64]);
    }
}

/// Numbers in [0, 1) that repeat late.
fn wave(n: usize) -> Vec<f32> {
    (0..n).map(|k| (k * k % 1013) as f32 / 1013.0).collect()
}

#[test]
fn same_bits_for_every_number_of_threads() {
    let plane = 150 * 601;
    let a = wave(3 * plane);
    let b: Vec<f32> = a.iter().rev().copied().collect();
    let weights = Weights {
        mask: Mask::Weights(&a[..plane]),
        plane,
        repeat: 1,
    };
    let run = |exec: &dyn Executor| {
        let whole = mse(&a, &b, None, 1, None, exec).unwrap();
        let each = mse(&a, &b, Some(weights), 3, None, exec).unwrap();
        (whole[0].to_bits(), each)
    };
    let expected = run(&Serial);
    for threads in [1, 2, 3, 8] {
        assert!(run(&Threads(NonZeroUsize::new(threads).unwrap())) == expected);
    }
}

#[test]
fn what_is_not_finite_gives_nan() {
    for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        for (count, at) in [(1, 0), (3, 2), (1600, 777)] {
            let mut a = vec![0.5; count];
            a[at] = bad;
            let zeros = vec![0.0; count];
            assert!(mse(&a, &zeros, None, 1, None, &Serial).unwrap()[0].is_nan());
        }
    }
    assert!(mse::<f32>(&[], &[], None, 1, None, &Serial).unwrap()[0].is_nan());
}

#[test]
fn what_does_not_fit_is_refused() {
    let a = [0.0_f32; 240];
    assert!(mse(&a, &a[1..], None, 1, None, &Serial).is_err());
    let weights = |mask, plane| {
        Some(Weights {
            mask,
            plane,
            repeat: 1,
        })
    };
    for wrong in [
        weights(Mask::Known(&[1; 7]), 20),
        weights(Mask::Known(&[]), 20),
        weights(Mask::Weights(&a[..21]), 7),
    ] {
        assert!(mse(&a, &a, wrong, 1, None, &Serial).is_err());
    }
    let seven = Error::Indivisible {
        name: "elements of a",
        count: 240,
        parts: 7,
    };
    assert_eq!(mse(&a, &a, None, 7, None, &Serial), Err(seven));
    assert_eq!(
        seven.to_string(),
        "240 elements of a do not divide into 7 equal parts"
    );
}
