//! Normal random numbers against plain loops, one counter after the other, in double precision.
#![allow(clippy::unwrap_used, reason = "a test may fail")]

use std::num::NonZeroUsize;

use dipfast_core::Error;
use dipfast_core::exec::{Executor, Serial, Threads};
use dipfast_core::kernels::normal::add_normal;
use proptest::prelude::*;

fn draw(count: usize, seed: u64, iteration: u64) -> Vec<f32> {
    let mut out = vec![f32::NAN; count];
    add_normal(&vec![0.0; count], 1.0, seed, iteration, &mut out, &Serial).unwrap();
    out
}

/// The generator, as its authors define it, with seven rounds.
fn philox(mut x: [u32; 4], mut key: [u32; 2]) -> [u32; 4] {
    let product = |a: u32, b: u32| {
        let product = u64::from(a) * u64::from(b);
        ((product >> 32) as u32, product as u32)
    };
    for _ in 0..7 {
        let (high0, low0) = product(0xD251_1F53, x[0]);
        let (high1, low1) = product(0xCD9E_8D57, x[2]);
        x = [high1 ^ x[1] ^ key[0], low1, high0 ^ x[3] ^ key[1], low0];
        key = [
            key[0].wrapping_add(0x9E37_79B9),
            key[1].wrapping_add(0xBB67_AE85),
        ];
    }
    x
}

/// The number of an element.
fn number(seed: u64, iteration: u64, at: u64) -> f64 {
    let (j, block) = (at % 128 / 32, at / 128 * 32 + at % 32);
    let counter = [block, block >> 32, iteration, iteration >> 32].map(|word| word as u32);
    let words = philox(counter, [seed as u32, (seed >> 32) as u32]);
    let [u, w] = if j < 2 {
        [words[0], words[1]]
    } else {
        [words[2], words[3]]
    };
    let uniform = ((u >> 8) as f32 + 0.5) / 16_777_216.0;
    let radius = (-2.0 * f64::from(uniform).ln()).sqrt();
    let angle = f64::from(w) / 4_294_967_296.0 * std::f64::consts::TAU;
    radius * if j % 2 == 0 { angle.cos() } else { angle.sin() }
}

proptest! {
    #[test]
    fn numbers_are_the_definition(
        count in prop_oneof![0..600_usize, Just(32_768), Just(33_000)],
        seed in any::<u64>(), iteration in any::<u64>(), level in -3.0..3.0_f32,
    ) {
        let z: Vec<f32> = (0..count).map(|k| (k % 97) as f32 / 97.0).collect();
        let mut out = vec![f32::NAN; count];
        add_normal(&z, level, seed, iteration, &mut out, &Serial).unwrap();
        for (k, (out, z)) in out.iter().zip(&z).enumerate() {
            let expected = f64::from(*z) + f64::from(level) * number(seed, iteration, k as u64);
            prop_assert!((f64::from(*out) - expected).abs() < 1e-5, "{out} is not {expected}");
        }
    }

    #[test]
    fn longer_buffers_begin_with_shorter_ones(
        short in 0..500_usize, more in 0..500_usize, seed in any::<u64>(),
    ) {
        prop_assert_eq!(&draw(short + more, seed, 3)[..short], &draw(short, seed, 3)[..]);
    }
}

#[test]
fn same_bits_for_every_number_of_threads() {
    let z: Vec<f32> = (0..200_001).map(|k| (k % 1013) as f32).collect();
    let run = |exec: &dyn Executor| {
        let mut out = vec![0.0; z.len()];
        add_normal(&z, 0.3, u64::MAX, 1, &mut out, exec).unwrap();
        out.into_iter().map(f32::to_bits).collect::<Vec<_>>()
    };
    let expected = run(&Serial);
    for threads in [1, 2, 3, 8] {
        assert!(run(&Threads(NonZeroUsize::new(threads).unwrap())) == expected);
    }
}

#[test]
fn moments_are_those_of_the_normal_distribution() {
    let numbers = draw(1 << 20, 7, 0);
    let count = numbers.len() as f64;
    let moment = |k: i32| numbers.iter().map(|&n| f64::from(n).powi(k)).sum::<f64>() / count;
    // Five standard deviations of the moments of so many numbers.
    for (k, expected, deviation) in [(1, 0.0, 1.0), (2, 1.0, 2.0), (3, 0.0, 15.0), (4, 3.0, 96.0)] {
        let (got, allowed) = (moment(k), 5.0 * f64::sqrt(deviation / count));
        assert!((got - expected).abs() < allowed, "moment {k} is {got}");
    }
}

#[test]
fn every_seed_and_iteration_has_numbers_of_its_own() {
    let expected = draw(4096, 1, 2);
    for (seed, iteration) in [
        (2, 2),
        (1, 3),
        (2, 1),
        (1 << 32, 2),
        (1, 2 << 32),
        (u64::MAX, 2),
    ] {
        let other = draw(4096, seed, iteration);
        let product = expected.iter().zip(&other).map(|(a, b)| a * b).sum::<f32>();
        assert!((product / 4096.0).abs() < 5.0 / 64.0);
    }
}

#[test]
fn no_level_adds_nothing() {
    let z = [1.5_f32, -3.25, 1e-40, f32::MAX, f32::INFINITY];
    let mut out = [0.0; 5];
    add_normal(&z, 0.0, 1, 2, &mut out, &Serial).unwrap();
    assert_eq!(out.map(f32::to_bits), z.map(f32::to_bits));
}

#[test]
fn buffers_of_another_length_are_refused() {
    let mut out = [0.0; 5];
    let expected = Error::WrongLength {
        name: "out",
        got: 5,
        expected: 4,
    };
    let got = add_normal(&[0.0; 4], 1.0, 0, 0, &mut out, &Serial);
    assert_eq!(got, Err(expected));
    assert_eq!(add_normal(&[], 1.0, 0, 0, &mut [], &Serial), Ok(()));
}
