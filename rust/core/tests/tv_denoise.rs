//! Total-variation denoising against plain loops in double precision.
#![allow(clippy::unwrap_used, reason = "a test may fail")]

use std::num::NonZeroUsize;

use dipfast_core::Error;
use dipfast_core::exec::{Executor, Serial, Threads};
use dipfast_core::kernels::tv_denoise::{Norm, TvDenoiser};
use dipfast_core::mem::Layout;
use proptest::collection::vec;
use proptest::prelude::*;

#[derive(Debug, Clone)]
struct Case {
    planes: usize,
    sizes: [usize; 3],
    norm: Norm,
    weight: f64,
    f: Vec<f64>,
}

impl Case {
    fn layout(&self) -> Layout {
        let [slices, rows, columns] = self.sizes;
        Layout::volumes(self.planes, slices, rows, columns, 1).unwrap()
    }

    fn plane(&self) -> usize {
        self.sizes.iter().product()
    }

    fn channels(&self) -> usize {
        match self.norm {
            Norm::Joint { channels } => channels,
            _ => 1,
        }
    }

    /// Distance to the next element along an axis, None at the far border.
    fn next(&self, at: usize, axis: usize) -> Option<usize> {
        let [_, rows, columns] = self.sizes;
        let strides = [rows * columns, columns, 1];
        let position = at / strides[axis] % self.sizes[axis];
        (position + 1 < self.sizes[axis]).then(|| at + strides[axis])
    }

    fn differences(&self, u: &[f64], at: usize) -> [f64; 3] {
        [0, 1, 2].map(|axis| self.next(at, axis).map_or(0.0, |next| u[next] - u[at]))
    }

    /// The objective at u minus the dual objective at p (slices, rows, columns).
    fn gap(&self, u: &[f64], p: &[Vec<f64>; 3]) -> f64 {
        let mut q = vec![0.0; u.len()];
        for at in 0..u.len() {
            for (axis, p) in p.iter().enumerate() {
                if let Some(next) = self.next(at, axis) {
                    q[at] -= p[at];
                    q[next] += p[at];
                }
            }
        }
        let (plane, channels) = (self.plane(), self.channels());
        let mut gap = 0.0;
        for at in 0..u.len() {
            gap += 0.5 * (u[at] - self.f[at]).powi(2) - self.f[at] * q[at] + 0.5 * q[at] * q[at];
        }
        for group in 0..self.planes / channels {
            for pixel in 0..plane {
                let d = (0..channels)
                    .flat_map(|c| self.differences(u, (group * channels + c) * plane + pixel));
                gap += self.weight
                    * match self.norm {
                        Norm::Anisotropic => d.map(f64::abs).sum::<f64>(),
                        _ => d.map(|d| d * d).sum::<f64>().sqrt(),
                    };
            }
        }
        gap
    }

    fn solve(
        &self,
        iterations: usize,
        exec: &dyn Executor,
    ) -> (TvDenoiser<f64>, Vec<f64>, Vec<f64>) {
        let mut solver =
            TvDenoiser::new(&self.f, self.layout(), self.norm, self.weight, None, exec).unwrap();
        solver.advance(iterations, exec);
        let mut u = vec![0.0; self.f.len()];
        let mut p = vec![0.0; self.axes() * self.f.len()];
        solver.image(&mut u, exec).unwrap();
        solver.dual(&mut p, exec).unwrap();
        (solver, u, p)
    }

    fn axes(&self) -> usize {
        if self.sizes[0] > 1 { 3 } else { 2 }
    }

    fn axes_of(&self, p: &[f64]) -> [Vec<f64>; 3] {
        let mut parts = p.chunks(self.f.len()).map(<[f64]>::to_vec);
        if self.axes() == 2 {
            let none = vec![0.0; self.f.len()];
            return [none, parts.next().unwrap(), parts.next().unwrap()];
        }
        [0; 3].map(|_| parts.next().unwrap())
    }
}

fn case() -> impl Strategy<Value = Case> {
    let shape = (1..3_usize, 1..4_usize, 1..5_usize, 1..12_usize, 1..40_usize);
    (shape, 0..3_u8, 0..4_i32).prop_flat_map(
        |((groups, channels, slices, rows, columns), norm, weight)| {
            let norm = match norm {
                0 => Norm::Anisotropic,
                1 => Norm::Isotropic,
                _ => Norm::Joint { channels },
            };
            let planes = groups * channels;
            let value = (-8..9_i32).prop_map(|v| f64::from(v) / 4.0);
            vec(value, planes * slices * rows * columns).prop_map(move |f| Case {
                planes,
                sizes: [slices, rows, columns],
                norm,
                weight: 0.1 * 3_f64.powi(weight),
                f,
            })
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn gap_is_that_of_image_and_dual(case in case(), iterations in 0..40_usize) {
        let (solver, u, p) = case.solve(iterations, &Serial);
        let gap = case.gap(&u, &case.axes_of(&p));
        let trivial = case.gap(&case.f, &case.axes_of(&vec![0.0; p.len()]));
        let relative = solver.gap(&Serial);
        prop_assert!(gap >= -1e-9);
        // What gaps are relative to is not above the objective at f.
        prop_assert!(gap <= relative * trivial + 1e-9);
        prop_assert!(iterations < 20 || relative < 1.0);
    }

    #[test]
    fn comes_to_the_optimum(case in case()) {
        let (solver, _, _) = case.solve(400, &Serial);
        prop_assert!(solver.gap(&Serial) < 1e-2, "{}", solver.gap(&Serial));
    }

    #[test]
    fn threads_cannot_be_seen(case in case(), threads in 2..5_usize) {
        let threads = Threads(NonZeroUsize::new(threads).unwrap());
        let (one, u, p) = case.solve(35, &Serial);
        let (other, v, q) = case.solve(35, &threads);
        prop_assert!(u == v && p == q && one.gap(&Serial) == other.gap(&threads));
    }
}

#[test]
fn passes_and_bands_cannot_be_seen() {
    // 37 iterations at once, in passes of several, or one at a time; images of several bands.
    let image = Layout::planar(1, 1100, 33).unwrap();
    let colours = Layout::planar(3, 360, 33).unwrap();
    for (layout, norm) in [
        (image, Norm::Anisotropic),
        (image, Norm::Isotropic),
        (colours, Norm::Joint { channels: 3 }),
    ] {
        let f: Vec<f32> = (0..layout.len()).map(|k| (k as f32 * 0.7).sin()).collect();
        let mut results = Vec::new();
        for portion in [37, 5, 1] {
            let mut solver = TvDenoiser::new(&f, layout, norm, 0.4, None, &Serial).unwrap();
            for done in (0..37).step_by(portion) {
                solver.advance(portion.min(37 - done), &Threads::available());
            }
            let mut u = vec![0.0; f.len()];
            solver.image(&mut u, &Serial).unwrap();
            results.push((u, solver.gap(&Serial)));
        }
        assert!(
            results.iter().all(|result| *result == results[0]),
            "{norm:?}"
        );
    }
}

#[test]
fn starts_from_a_dual() {
    let f: Vec<f64> = (0..7 * 90).map(|k| f64::from(k).sin()).collect();
    let layout = Layout::planar(1, 7, 90).unwrap();
    let mut solver = TvDenoiser::new(&f, layout, Norm::Isotropic, 0.5, None, &Serial).unwrap();
    solver.advance(500, &Serial);
    let mut p = vec![0.0; 2 * f.len()];
    solver.dual(&mut p, &Serial).unwrap();
    let warm = TvDenoiser::new(&f, layout, Norm::Isotropic, 0.5, Some(&p), &Serial).unwrap();
    assert!(warm.gap(&Serial) < 1e-3);
}

#[test]
fn what_is_not_finite_is_seen() {
    for bad in [f32::NAN, f32::INFINITY] {
        let layout = Layout::planar(1, 3, 3).unwrap();
        let mut f = [0.0; 9];
        f[4] = bad;
        let mut solver = TvDenoiser::new(&f, layout, Norm::Isotropic, 0.5, None, &Serial).unwrap();
        assert!(solver.gap(&Serial).is_nan());
        solver.advance(3, &Serial);
    }
}

#[test]
fn lengths_are_checked() {
    let layout = Layout::planar(2, 3, 3).unwrap();
    let new = |f: &[f32], norm, dual: Option<&[f32]>| {
        TvDenoiser::new(f, layout, norm, 1.0, dual, &Serial).map(|_| ())
    };
    let wrong = |result| matches!(result, Err(Error::WrongLength { .. }));
    assert!(wrong(new(&[0.0; 17], Norm::Isotropic, None)));
    assert!(wrong(new(&[0.0; 18], Norm::Isotropic, Some(&[0.0; 18]))));
    let indivisible = Error::Indivisible {
        name: "planes",
        count: 2,
        parts: 3,
    };
    let three = new(&[0.0; 18], Norm::Joint { channels: 3 }, None);
    assert_eq!(three, Err(indivisible));
    let interleaved = Layout::interleaved(1, 3, 3, 2).unwrap();
    let interleaved = TvDenoiser::new(&[0.0; 18], interleaved, Norm::Isotropic, 1.0, None, &Serial);
    assert_eq!(interleaved.map(|_| ()), Err(Error::Interleaved));
    assert!(new(&[0.0; 18], Norm::Joint { channels: 2 }, None).is_ok());
    let empty = Layout::planar(0, 3, 3).unwrap();
    let mut solver =
        TvDenoiser::<f32>::new(&[], empty, Norm::Isotropic, 1.0, None, &Serial).unwrap();
    solver.advance(5, &Serial);
    assert_eq!(solver.gap(&Serial), 0.0);
}
