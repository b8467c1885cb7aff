//! Sums over all pixels, channel by channel.

use super::geometry::{Fold, Geometry};
use super::{chunk, over_channels};
use crate::element::Value;
use crate::exec::parallel::{Executor, run_blocks};
use crate::exec::simd::{Kernel, dispatch};

/// What is added up: `K` sums, made of `P` numbers of the channel.
pub(super) trait Terms<const P: usize, const K: usize> {
    /// Adds the terms of `W` channels of a pixel; must be `#[inline(always)]`.
    fn of<const W: usize>(
        parameters: &[[f32; W]; P],
        x: &[f32; W],
        g: &[f32; W],
        slope: f32,
        sums: &mut [[f32; W]; K],
    );
}

/// Returns the sums, each with an entry for every channel.
pub(super) fn reduce<T: Value, F: Terms<P, K>, const P: usize, const K: usize>(
    x: &[T],
    of_v: Option<&[T]>,
    geometry: Geometry,
    parameters: [&[f32]; P],
    slope: f32,
    exec: &dyn Executor,
) -> Vec<f64> {
    let rows = geometry.images * geometry.rows;
    let per_task = geometry.rows_per_task();
    let parts = run_blocks(exec, rows.div_ceil(per_task), |task| {
        let first = task * per_task;
        dispatch(Part::<T, F, P, K> {
            x,
            of_v,
            rows: first..(first + per_task).min(rows),
            geometry,
            parameters,
            slope,
            terms: std::marker::PhantomData,
        })
    });
    let mut total = vec![0.0; K * geometry.channels];
    for part in parts {
        for (sum, part) in total.iter_mut().zip(part) {
            *sum += part;
        }
    }
    total
}

/// The sums of some rows.
struct Part<'a, T, F, const P: usize, const K: usize> {
    x: &'a [T],
    of_v: Option<&'a [T]>,
    rows: std::ops::Range<usize>,
    geometry: Geometry,
    parameters: [&'a [f32]; P],
    slope: f32,
    terms: std::marker::PhantomData<F>,
}

impl<T: Value, F: Terms<P, K>, const P: usize, const K: usize> Kernel for Part<'_, T, F, P, K> {
    type Output = Vec<f64>;

    #[inline(always)]
    fn run(self) -> Vec<f64> {
        let geometry = self.geometry;
        let (columns, channels) = (geometry.columns, geometry.channels);
        let mut total = vec![0.0; K * channels];
        let mut fold = Fold::new(geometry);
        for row in self.rows {
            let (image, row) = (row / geometry.rows, row % geometry.rows);
            let x = geometry.row(self.x, image, row);
            let g = self.of_v.map(|of_v| fold.row(of_v, image, row));
            let block = geometry.columns_per_block();
            for begin in (0..columns).step_by(block) {
                let end = (begin + block).min(columns);
                over_channels!(channels, |c, W| {
                    let parameters = self.parameters.map(|values| chunk::<W, f32>(values, c));
                    let mut sums = [[0.0; W]; K];
                    for column in begin..end {
                        let at = column * channels + c;
                        let x = chunk::<W, T>(x, at);
                        let g = g.map_or([0.0; W], |g| chunk::<W, f32>(g, at));
                        F::of::<W>(&parameters, &x, &g, self.slope, &mut sums);
                    }
                    for (k, sums) in sums.iter().enumerate() {
                        let total = &mut total[k * channels + c..k * channels + c + W];
                        for (total, sum) in total.iter_mut().zip(sums) {
                            *total += f64::from(*sum);
                        }
                    }
                });
            }
        }
        total
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::element::Bf16;
    use crate::exec::simd::InstructionSet;
    use crate::kernels::batch_norm::{Activated, Border, Both, Moments, Single};

    const GEOMETRY: Geometry = Geometry {
        images: 2,
        rows: 5,
        columns: 137,
        channels: 23,
        crop: 1,
        pad: 2,
        border: Border::Edge,
    };

    fn wave<T: Value>(count: usize, seed: usize) -> Vec<T> {
        (0..count)
            .map(|k| T::store(((k + 100 * seed) as f32 * 0.7).sin()))
            .collect()
    }

    fn bits<T: Value, F: Terms<P, K>, const P: usize, const K: usize>(
        set: InstructionSet,
    ) -> Vec<u64> {
        let geometry = GEOMETRY;
        let pixels = |margin: usize| 2 * (5 + 2 * margin) * (137 + 2 * margin);
        let x: Vec<T> = wave(pixels(1) * 23, 0);
        let of_v: Vec<T> = wave(pixels(2) * 23, 1);
        let vectors: [Vec<f32>; P] = std::array::from_fn(|k| wave(23, k));
        let sums = set.run(Part::<T, F, P, K> {
            x: &x,
            of_v: Some(&of_v),
            rows: 0..10,
            geometry,
            parameters: std::array::from_fn(|k| &vectors[k][..]),
            slope: 0.2,
            terms: std::marker::PhantomData,
        });
        sums.into_iter().map(f64::to_bits).collect()
    }

    #[test]
    fn same_bits_on_every_instruction_set() {
        let run = |set| {
            [
                bits::<f32, Moments, 1, 2>(set),
                bits::<f32, Activated, 4, 2>(set),
                bits::<f32, Single, 4, 2>(set),
                bits::<f32, Both, 6, 8>(set),
                bits::<Bf16, Both, 6, 8>(set),
            ]
        };
        let expected = run(InstructionSet::Baseline);
        for &set in InstructionSet::ALL.iter().filter(|set| set.is_available()) {
            assert!(run(set) == expected, "{set:?}");
        }
    }
}
