//! The kernels alone, without Python: `cargo bench -p dipfast-core`.
//!
//! Groups of kernels that memory bounds begin with a copy of the same image, which is what it allows.
#![allow(missing_docs, reason = "what criterion's macros expand to")]
#![allow(clippy::expect_used, reason = "a bench may fail")]

use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use dipfast_core::exec::{Executor, Serial, Threads};
use dipfast_core::kernels::mse::mse;
use dipfast_core::kernels::nl_ridge::{Filters, Parameters, Pictures, Size, nl_ridge, tiles};
use dipfast_core::kernels::ssim::{Outputs, ssim};
use dipfast_core::kernels::total_variation::{Data, Kind, total_variation, tv_objective};
use dipfast_core::kernels::tv_denoise::{Norm, TvDenoiser};
use dipfast_core::mem::{Layout, Mask};

const KINDS: [(&str, Kind); 3] = [
    ("anisotropic", Kind::Anisotropic),
    ("isotropic", Kind::Isotropic { epsilon: 0.01 }),
    ("huber", Kind::Huber { epsilon: 0.01 }),
];

const NOTHING_ELSE: Outputs<'static, f32> = Outputs {
    map: None,
    to_a: None,
    to_b: None,
};

fn image(length: usize, seed: u32) -> Vec<f32> {
    let mut state = seed;
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 8) as f32 / (1 << 24) as f32
    };
    (0..length).map(|_| next()).collect()
}

fn kernels(criterion: &mut Criterion) {
    let threads = Threads::available();
    for size in [512, 2048] {
        let layout = Layout::planar(3, size, size).expect("small");
        let (u, y) = (image(layout.len(), 1), image(layout.len(), 2));
        let known: Vec<u8> = u.iter().map(|&u| u8::from(u > 0.5)).collect();
        let mut gradient = vec![0.0; layout.len()];
        let mut group = criterion.benchmark_group(format!("3x{size}x{size}"));
        group.throughput(Throughput::Bytes(8 * layout.len() as u64));
        group.bench_function("copy", |b| {
            b.iter(|| gradient.copy_from_slice(black_box(&u)))
        });
        for (exec, count) in [
            (&Serial as &dyn Executor, "1 thread"),
            (&threads, "all threads"),
        ] {
            for (name, kind) in KINDS {
                group.bench_function(
                    BenchmarkId::new(format!("total_variation, {name}"), count),
                    |b| {
                        b.iter(|| {
                            total_variation(&u, layout, kind, Some(&mut gradient), exec)
                                .expect("fits")
                        });
                    },
                );
            }
            for (name, mask) in [
                ("tv_objective", None),
                ("tv_objective, masked", Some(&known[..])),
            ] {
                let data = Data {
                    y: &y,
                    mask: mask.map(Mask::Known),
                    mask_repeat: 1,
                    weight: 0.1,
                };
                group.bench_function(BenchmarkId::new(name, count), |b| {
                    b.iter(|| {
                        let gradient = Some(&mut gradient[..]);
                        tv_objective(&u, data, layout, Kind::Anisotropic, gradient, exec)
                            .expect("fits")
                    });
                });
            }
            group.bench_function(BenchmarkId::new("mse", count), |b| {
                b.iter(|| mse(&u, &y, None, 1, None, exec).expect("fits"));
            });
            group.bench_function(BenchmarkId::new("ssim", count), |b| {
                b.iter(|| ssim(&u, &y, layout, 1, 1.0, NOTHING_ELSE, exec).expect("fits"));
            });
            group.bench_function(BenchmarkId::new("tv_denoise, 16 iterations", count), |b| {
                let denoiser = TvDenoiser::new(&u, layout, Norm::Isotropic, 0.1, None, exec);
                let mut denoiser = denoiser.expect("fits");
                b.iter(|| denoiser.advance(16, exec));
            });
        }
    }
}

/// Passes over numbers without meaning, which take as long as those over pictures.
fn non_local(criterion: &mut Criterion) {
    let threads = Threads::available();
    let side = 256;
    let plane = side * side;
    for (channels, patch, later) in [(1, 7, Filters::Both), (3, 5, Filters::Values)] {
        let (noisy, pilot) = (image(channels * plane, 1), image(channels * plane, 2));
        let (guide, gain) = (image(plane, 3), image(channels * plane, 4));
        // White noise, and noise that neighbours share.
        let white = vec![0.01; channels];
        let correlated: Vec<f32> =
            [0.001, 0.002, 0.001, 0.002, 0.01, 0.002, 0.001, 0.002, 0.001].repeat(channels);
        let size = Size {
            channels,
            slices: 1,
            rows: side,
            columns: side,
        };
        let parameters = Parameters {
            patch,
            group: 24,
            reach: 18,
            slices_reach: 0,
            step: 5,
            share: 1.0,
            centred: false,
            filters: Filters::Patches,
        };
        let last = Parameters {
            group: 60,
            filters: later,
            ..parameters
        };
        let (mut sums, mut weights) = (vec![0.0; noisy.len()], vec![0.0; plane]);
        let mut group = criterion.benchmark_group(format!("nl_ridge, {channels}x{side}x{side}"));
        group.sample_size(10);
        for (exec, count) in [
            (&Serial as &dyn Executor, "1 thread"),
            (&threads, "all threads"),
        ] {
            for (name, parameters, pilot, gain, covariance) in [
                ("first pass", parameters, None, None, &white),
                (
                    "first pass, correlated",
                    parameters,
                    None,
                    None,
                    &correlated,
                ),
                ("second pass", last, Some(&pilot[..]), None, &white),
                (
                    "second pass, gain",
                    last,
                    Some(&pilot[..]),
                    Some(&gain[..]),
                    &white,
                ),
                (
                    "second pass, correlated",
                    last,
                    Some(&pilot[..]),
                    None,
                    &correlated,
                ),
            ] {
                let pictures = Pictures {
                    noisy: &noisy,
                    pilot,
                    guide: &guide,
                    gain,
                    covariance,
                    guide_covariance: (pilot.is_none() && covariance.len() > channels)
                        .then_some(&correlated[..9]),
                };
                let all = 0..tiles(size, parameters);
                group.bench_function(BenchmarkId::new(name, count), |b| {
                    b.iter(|| {
                        let (sums, weights) = (&mut sums[..], &mut weights[..]);
                        nl_ridge(pictures, size, parameters, all.clone(), sums, weights, exec)
                            .expect("fits");
                    });
                });
            }
        }
    }
}

criterion_group!(all, kernels, non_local);
criterion_main!(all);
