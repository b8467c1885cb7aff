//! The results of a coarse layer, and the weights that make them, against plain loops.
#![allow(clippy::unwrap_used, reason = "a test may fail")]

use std::num::NonZeroUsize;

use dipfast_core::Error;
use dipfast_core::element::{Bf16, Value};
use dipfast_core::exec::{Executor, Serial, Threads};
use dipfast_core::kernels::interleave::{
    Shape, WeightShape, backward, forward, join_weights, split_weights,
};
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

fn loaded<T: Value>(values: &[T]) -> Vec<f32> {
    values.iter().map(|x| x.load()).collect()
}

fn inner(a: &[f32], b: &[f32]) -> f64 {
    let product = |(a, b): (&f32, &f32)| f64::from(*a) * f64::from(*b);
    a.iter().zip(b).map(product).sum()
}

fn coarse_len([images, rows, columns, channels]: Shape) -> usize {
    images * (rows / 2 + 1) * (columns / 2 + 1) * 4 * channels
}

/// Where the coarse layer has what is added to an element of the fine one.
fn place([_, rows, columns, channels]: Shape, at: [usize; 4]) -> usize {
    let [image, row, column, channel] = at;
    let (a, b) = (row % 2, column % 2);
    let line = image * (rows / 2 + 1) + row / 2 + a;
    let pixel = line * (columns / 2 + 1) + column / 2 + b;
    pixel * 4 * channels + (2 * a + b) * channels + channel
}

/// The indices of all elements of a layer, in the order of its memory.
fn indices([images, rows, columns, channels]: Shape) -> impl Iterator<Item = [usize; 4]> {
    (0..images * rows * columns * channels).map(move |k| {
        let (pixel, line) = (k / channels, k / channels / columns);
        [line / rows, line % rows, pixel % columns, k % channels]
    })
}

fn shapes() -> impl Strategy<Value = Shape> {
    (1..4_usize, 1..6_usize, 1..6_usize, 1..40_usize)
        .prop_map(|(images, rows, columns, channels)| [images, 2 * rows, 2 * columns, channels])
}

fn is_plain<T: Value>(shape: Shape, seed: usize) {
    let count = shape.iter().product();
    let fine = stored::<T>(&wave(count, seed));
    let coarse = stored::<T>(&wave(coarse_len(shape), seed + 1));
    let nan = T::store(f32::NAN);
    let mut out = vec![nan; count];
    forward(&fine, &coarse, shape, &mut out, &Serial).unwrap();
    let mut of_coarse = vec![nan; coarse.len()];
    backward(&fine, shape, &mut of_coarse, &Serial).unwrap();
    let mut expected = vec![0.0; coarse.len()];
    for (k, at) in indices(shape).enumerate() {
        let from = place(shape, at);
        let sum = T::store(fine[k].load() + coarse[from].load());
        assert_eq!(out[k].load().to_bits(), sum.load().to_bits());
        expected[from] = fine[k].load();
    }
    assert_eq!(loaded(&of_coarse), expected);
}

/// Which rows (columns) of 3x3 weights meet row p of 2x2 pixels in phase a: those that see it.
fn meet(a: usize, p: usize, row: usize) -> bool {
    // Result 2 r + a sees rows 2 r + a - 1 .. 2 r + a + 1 of what is repeated twice, and the first
    // pixel is the one of r - 1 + a.
    let seen = (a as isize + row as isize - 1).div_euclid(2);
    seen == a as isize - 1 + p as isize
}

fn weights_are_plain<T: Value>(shape: WeightShape, seed: usize) {
    let [results, fine, coarse] = shape;
    let channels = fine + coarse;
    let weights = wave(9 * results * channels, seed);
    let nan = T::store(f32::NAN);
    let mut of_fine = vec![nan; 9 * results * fine];
    let mut of_coarse = vec![nan; 16 * results * coarse];
    split_weights(&weights, shape, &mut of_fine, &mut of_coarse, &Serial).unwrap();
    let mut gradient = vec![f32::NAN; weights.len()];
    join_weights(&of_fine, &of_coarse, shape, &mut gradient, &Serial).unwrap();
    let at = |k: usize, place: usize, c: usize| (9 * k + place) * channels + c;
    for k in 0..results {
        for place in 0..9 {
            for c in 0..fine {
                let got = of_fine[(9 * k + place) * fine + c];
                assert_eq!(got.load(), T::store(weights[at(k, place, c)]).load());
                assert_eq!(gradient[at(k, place, c)], got.load());
            }
        }
        for c in 0..coarse {
            let mut joined = [0.0_f64; 9];
            for phase in 0..4 {
                for pixel in 0..4 {
                    let got = of_coarse[(4 * (phase * results + k) + pixel) * coarse + c].load();
                    let mut sum = 0.0_f32;
                    for (place, joined) in joined.iter_mut().enumerate() {
                        if meet(phase / 2, pixel / 2, place / 3)
                            && meet(phase % 2, pixel % 2, place % 3)
                        {
                            sum += weights[at(k, place, fine + c)];
                            *joined += f64::from(got);
                        }
                    }
                    assert_eq!(got, T::store(sum).load());
                }
            }
            for (place, joined) in joined.iter().enumerate() {
                let got = f64::from(gradient[at(k, place, fine + c)]);
                assert!((got - joined).abs() < 1e-5, "{got} is not {joined}");
            }
        }
    }
}

proptest! {
    #[test]
    fn both_passes_are_the_definition(shape in shapes(), seed in 0..1000_usize) {
        is_plain::<f32>(shape, seed);
        is_plain::<Bf16>(shape, seed);
    }

    #[test]
    fn weights_are_those_that_meet(
        shape in (1..6_usize, 0..20_usize, 1..40_usize), seed in 0..1000_usize,
    ) {
        weights_are_plain::<f32>(shape.into(), seed);
        weights_are_plain::<Bf16>(shape.into(), seed);
    }

    #[test]
    fn adjoint(shape in shapes(), seed in 0..1000_usize) {
        let count: usize = shape.iter().product();
        let (zeros, y) = (vec![0.0; count], wave(count, seed));
        let coarse = wave(coarse_len(shape), seed + 1);
        let (mut out, mut back) = (zeros.clone(), coarse.clone());
        forward(&zeros, &coarse, shape, &mut out, &Serial).unwrap();
        backward(&y, shape, &mut back, &Serial).unwrap();
        prop_assert!((inner(&out, &y) - inner(&coarse, &back)).abs() < 1e-9);
    }

    #[test]
    fn adjoint_of_weights(
        shape in (1..6_usize, 0..20_usize, 1..40_usize), seed in 0..1000_usize,
    ) {
        let (results, fine, coarse) = shape;
        let weights = wave(9 * results * (fine + coarse), seed);
        let y = [wave(9 * results * fine, seed + 1), wave(16 * results * coarse, seed + 2)];
        let [mut of_fine, mut of_coarse] = y.clone();
        let mut back = weights.clone();
        let shape = shape.into();
        split_weights(&weights, shape, &mut of_fine, &mut of_coarse, &Serial).unwrap();
        join_weights(&y[0], &y[1], shape, &mut back, &Serial).unwrap();
        let there = inner(&of_fine, &y[0]) + inner(&of_coarse, &y[1]);
        let size = (back.len() as f64).sqrt();
        prop_assert!((there - inner(&weights, &back)).abs() < 1e-5 * size);
    }
}

#[test]
fn same_bits_for_every_number_of_threads() {
    let shape = [2, 90, 70, 21];
    let weights = [40, 4, 132];
    let run = |exec: &dyn Executor| {
        let fine = wave(shape.iter().product(), 0);
        let coarse = wave(coarse_len(shape), 1);
        let (mut out, mut back) = (fine.clone(), coarse.clone());
        forward(&fine, &coarse, shape, &mut out, exec).unwrap();
        backward(&fine, shape, &mut back, exec).unwrap();
        let whole = wave(9 * 40 * 136, 2);
        let (mut a, mut b) = (vec![0.0_f32; 9 * 40 * 4], vec![0.0; 16 * 40 * 132]);
        let mut joined = whole.clone();
        split_weights(&whole, weights, &mut a, &mut b, exec).unwrap();
        join_weights(&a, &b, weights, &mut joined, exec).unwrap();
        [out, back, a, b, joined]
    };
    let expected = run(&Serial);
    for threads in [1, 2, 3, 8] {
        assert!(run(&Threads(NonZeroUsize::new(threads).unwrap())) == expected);
    }
}

#[test]
fn what_does_not_fit_is_refused() {
    let shape = [1, 4, 6, 2];
    let (fine, mut out) = (vec![0.0_f32; 48], vec![0.0_f32; 48]);
    let mut coarse = vec![0.0_f32; 96];
    assert_eq!(forward(&fine, &coarse, shape, &mut out, &Serial), Ok(()));
    assert_eq!(backward(&fine, shape, &mut coarse, &Serial), Ok(()));
    let wrong = |name, got, expected| {
        Err(Error::WrongLength {
            name,
            got,
            expected,
        })
    };
    let got = forward(&fine[1..], &coarse, shape, &mut out, &Serial);
    assert_eq!(got, wrong("fine", 47, 48));
    let got = forward(&fine, &coarse[1..], shape, &mut out, &Serial);
    assert_eq!(got, wrong("coarse", 95, 96));
    let got = forward(&fine, &coarse, shape, &mut out[1..], &Serial);
    assert_eq!(got, wrong("out", 47, 48));
    let got = backward(&fine, shape, &mut coarse[1..], &Serial);
    assert_eq!(got, wrong("coarse", 95, 96));
    for shape in [[1, 3, 6, 2], [1, 4, 5, 2]] {
        let got = forward(&fine, &coarse, shape, &mut out, &Serial);
        assert!(matches!(got, Err(Error::Indivisible { parts: 2, .. })));
    }
    let got = forward(&fine, &coarse, [1, 4, 6, 0], &mut out, &Serial);
    assert!(matches!(got, Err(Error::NotPositive(_))));
    let huge = usize::MAX / 2 - 1;
    for shape in [[huge, 4, 6, 2], [1, huge - huge % 2, 6, 2], [0, 4, 6, huge]] {
        let got = forward(&[], &coarse, shape, &mut out, &Serial);
        assert_eq!(got, Err(Error::SizeOverflow));
    }
    // No image is no work.
    assert_eq!(
        forward::<f32>(&[], &[], [0, 4, 6, 2], &mut [], &Serial),
        Ok(())
    );
}

#[test]
fn weights_that_do_not_fit_are_refused() {
    let shape = [2, 1, 3];
    let (weights, mut joined) = (vec![0.0_f32; 72], vec![0.0_f32; 72]);
    let (mut fine, mut coarse) = (vec![0.0_f32; 18], vec![0.0_f32; 96]);
    let refused = [
        split_weights(&weights[1..], shape, &mut fine, &mut coarse, &Serial),
        split_weights(&weights, shape, &mut fine[1..], &mut coarse, &Serial),
        split_weights(&weights, shape, &mut fine, &mut coarse[1..], &Serial),
        join_weights(&fine[1..], &coarse, shape, &mut joined, &Serial),
        join_weights(&fine, &coarse[1..], shape, &mut joined, &Serial),
        join_weights(&fine, &coarse, shape, &mut joined[1..], &Serial),
    ];
    for got in refused {
        assert!(matches!(got, Err(Error::WrongLength { .. })));
    }
    for shape in [[0, 1, 3], [2, 4, 0]] {
        let got = split_weights(&weights, shape, &mut fine, &mut coarse, &Serial);
        assert!(matches!(got, Err(Error::NotPositive(_))));
    }
    for shape in [
        [usize::MAX, 1, 3],
        [2, usize::MAX, 3],
        [2, 1, usize::MAX / 4],
    ] {
        let got = split_weights(&weights, shape, &mut fine, &mut coarse, &Serial);
        assert_eq!(got, Err(Error::SizeOverflow));
    }
}
