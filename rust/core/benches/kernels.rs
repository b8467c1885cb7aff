//! The kernels alone, without Python: `cargo bench -p dipfast-core`.
//!
//! Every group begins with a copy of the same image, which is what memory allows.
#![allow(missing_docs, reason = "what criterion's macros expand to")]
#![allow(clippy::expect_used, reason = "a bench may fail")]

use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use dipfast_core::tv::{Data, Kind, Mask};
use dipfast_core::{Executor, Layout, Serial, Threads, metrics, rof, ssim, tv};

const KINDS: [(&str, Kind); 3] = [
    ("anisotropic", Kind::Anisotropic),
    ("isotropic", Kind::Isotropic { epsilon: 0.01 }),
    ("huber", Kind::Huber { epsilon: 0.01 }),
];

const NOTHING_ELSE: ssim::Outputs<'static, f32> = ssim::Outputs {
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

fn total_variation(criterion: &mut Criterion) {
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
                group.bench_function(BenchmarkId::new(name, count), |b| {
                    b.iter(|| {
                        tv::total_variation(&u, layout, kind, Some(&mut gradient), exec)
                            .expect("fits")
                    });
                });
            }
            for (name, mask) in [("objective", None), ("masked objective", Some(&known[..]))] {
                let data = Data {
                    y: &y,
                    mask: mask.map(Mask::Known),
                    mask_repeat: 1,
                    weight: 0.1,
                };
                group.bench_function(BenchmarkId::new(name, count), |b| {
                    b.iter(|| {
                        let gradient = Some(&mut gradient[..]);
                        tv::objective(&u, data, layout, Kind::Anisotropic, gradient, exec)
                            .expect("fits")
                    });
                });
            }
            group.bench_function(BenchmarkId::new("mean squared error", count), |b| {
                b.iter(|| metrics::mse(&u, &y, None, 1, None, exec).expect("fits"));
            });
            group.bench_function(BenchmarkId::new("structural similarity", count), |b| {
                b.iter(|| ssim::ssim(&u, &y, layout, 1, 1.0, NOTHING_ELSE, exec).expect("fits"));
            });
            group.bench_function(BenchmarkId::new("denoising, 16 iterations", count), |b| {
                let solver = rof::Solver::new(&u, layout, rof::Norm::Isotropic, 0.1, None, exec);
                let mut solver = solver.expect("fits");
                b.iter(|| solver.advance(16, exec));
            });
        }
    }
}

criterion_group!(kernels, total_variation);
criterion_main!(kernels);
